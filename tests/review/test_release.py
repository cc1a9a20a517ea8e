"""A tag is released only when everything agrees on it, and what is published is what was built."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from components import package
from tests.review.conftest import GitHub, git

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / ".github" / "scripts"
NAME = "somebody/kata-nodes"
ADDRESS = f"https://github.com/{NAME}"
TAG = f"v{package.version()}"
FILES = (
    "components/PulumiPlugin.yaml",
    "pyproject.toml",
    "CHANGELOG.md",
    "tests/package/released/schema.json",
)


@pytest.fixture
def checkout(tmp_path: Path, github: GitHub) -> Path:
    """A repository with what a release is made of, its commit on main, and on GitHub no release."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shutil.copytree(SCRIPTS, tmp_path / ".github" / "scripts")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    return tmp_path


def check(checkout: Path, tag: str = TAG) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / ".github/scripts/release-check", tag, NAME], capture_output=True, text=True, timeout=60, check=False
    )


def test_tag_on_which_everything_agrees_is_released(checkout: Path) -> None:
    result = check(checkout)
    assert result.returncode == 0, result.stderr


def test_another_tag_is_refused(checkout: Path) -> None:
    assert "the tag is v9.9.9" in check(checkout, tag="v9.9.9").stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pyproject.toml", f'version = "{TAG[1:]}"', 'version = "9.9.9"', "pyproject.toml has another version"),
        ("CHANGELOG.md", f"## {TAG[1:]}", "## 9.9.9", "CHANGELOG.md begins with 9.9.9"),
        ("tests/package/released/schema.json", f'"version": "{TAG[1:]}"', '"version": "9.9.9"', "make release-files"),
    ],
)
def test_file_of_another_version_is_refused(checkout: Path, file: str, old: str, new: str, message: str) -> None:
    text = (checkout / file).read_text()
    assert old in text
    (checkout / file).write_text(text.replace(old, new))
    result = check(checkout)
    assert result.returncode == 1 and message in result.stderr


def test_commit_that_is_not_on_main_is_refused(checkout: Path) -> None:
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "beside main")
    result = check(checkout)
    assert result.returncode == 1 and "is not on main" in result.stderr


def test_tag_that_is_released_already_is_refused_before_its_images_get_another_content(checkout: Path, github: GitHub) -> None:
    github.answer(f"repos/{NAME}/releases/tags/{TAG}", {"tag_name": TAG})
    result = check(checkout)
    assert result.returncode == 1 and f"{TAG} is released already" in result.stderr


def test_release_that_cannot_be_asked_for_is_not_taken_for_none(checkout: Path, github: GitHub) -> None:
    (github.folder / "gh").write_text("#!/bin/sh\necho 'gh: Bad credentials (HTTP 401)' >&2\nexit 1\n")
    result = check(checkout)
    assert result.returncode == 1 and "Bad credentials" in result.stderr


def test_files_are_the_tags_own_with_their_sums_and_the_same_each_time(tmp_path: Path) -> None:
    builds = []
    # The second time with the Python that this environment is of, which has no packages: as a runner's own.
    for name, first in (("one", ""), ("two", f"{Path(sys._base_executable).parent}:")):  # type: ignore[attr-defined]
        folder = tmp_path / name
        environment = {**os.environ, "PATH": f"{first}{os.environ['PATH']}"}
        command = [SCRIPTS / "release-files", TAG, folder, ADDRESS]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
        builds.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()})
    assert builds[0] == builds[1]
    sums = dict(reversed(line.split()) for line in (tmp_path / "one/SHA256SUMS").read_text().splitlines())
    assert set(sums) == {f"kata-nodes-{TAG[1:]}.tar.gz", "nodekit.pyz", "schema.json"}
    assert all(builds[0][name] == value for name, value in sums.items())
    assert (tmp_path / "one/NOTES.md").read_text().strip()
    assert json.loads((tmp_path / "one/schema.json").read_text())["repository"] == ADDRESS
    with tarfile.open(tmp_path / "one" / f"kata-nodes-{TAG[1:]}.tar.gz") as tar:
        assert f"kata-nodes-{TAG[1:]}/components/PulumiPlugin.yaml" in tar.getnames()


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What the jobs before publishing hand over, and a stand-in for GitHub's program that writes down its arguments."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$PUBLISHED"\n')
    (tmp_path / "bin/gh").chmod(0o755)
    subprocess.run([SCRIPTS / "release-files", TAG, tmp_path / "files", ADDRESS], check=True, capture_output=True, timeout=120)
    (tmp_path / "images").mkdir()
    for name in ("proof", "joining"):
        (tmp_path / "images" / name).write_text(f"ghcr.io/{NAME}-{name}@sha256:{'0' * 64}\n")
    return tmp_path


def publish(built: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{built / 'bin'}:{os.environ['PATH']}", "PUBLISHED": str(built / "published")}
    return subprocess.run(
        [SCRIPTS / "release-publish", TAG, NAME, built / "files", built / "images"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_release_holds_the_files_and_names_the_images_by_digest(built: Path) -> None:
    result = publish(built)
    assert result.returncode == 0, result.stderr
    words = (built / "published").read_text().split()
    assert words[:3] == ["release", "create", TAG] and "--verify-tag" in words
    assert {Path(file).name for file in words[-4:]} == {
        f"kata-nodes-{TAG[1:]}.tar.gz",
        "nodekit.pyz",
        "schema.json",
        "SHA256SUMS",
    }
    notes = (built / "files/RELEASE.md").read_text()
    assert all(f"- ghcr.io/{NAME}-{name}@sha256:{'0' * 64}" in notes for name in ("proof", "joining"))


def test_file_that_changed_on_its_way_is_not_published(built: Path) -> None:
    (built / "files/nodekit.pyz").write_bytes(b"another")
    assert publish(built).returncode != 0
    assert not (built / "published").exists()


DOCKER = """#!/bin/sh
echo "$*" >>"$CALLS"
for word; do
    [ "$before" != --metadata-file ] || echo '{"containerimage.digest": "sha256:0a"}' >"$word"
    before=$word
done
case $* in *inspect*) echo sha256:0b ;; esac
"""


def test_images_of_an_owner_with_capital_letters_have_a_name_that_registries_take(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    variables = {"CALLS": "calls", "GITHUB_ACTOR": "a", "GITHUB_OUTPUT": "output"}
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        **{name: str(tmp_path / value) for name, value in variables.items()},
    }
    image, digests, file = "ghcr.io/SomeBody/Kata-nodes-proof", str(tmp_path / "digests"), tmp_path / "proof"
    for name, argv in (("release-image", ["Containerfile", ".", digests]), ("release-index", [TAG, digests, str(file)])):
        command = [str(SCRIPTS / name), image, *argv]
        subprocess.run(command, env=environment, input="token", check=True, capture_output=True, text=True, timeout=60)
    assert file.read_text() == f"ghcr.io/{NAME}-proof@sha256:0b\n"
    calls = (tmp_path / "calls").read_text()
    assert f"--tag ghcr.io/{NAME}-proof:{TAG} ghcr.io/{NAME}-proof@sha256:0a" in calls
    assert "type=image,name=ghcr.io/somebody/" in calls and "SomeBody" not in calls
