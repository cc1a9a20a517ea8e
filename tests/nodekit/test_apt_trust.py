"""The verb `docker` with a real apt that is set to trust too much: refused with file and line, and nothing is installed.

Lost if these fail: unsigned packages run as root on a node.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodekit.commands import docker as docker_verb
from nodekit.errors import NodeError
from nodekit.host import docker as host_docker
from tests.nodekit.docker_node import Daemon, Node, Repository, desired, gpg_key, make_root, served
from tests.serving import running

pytestmark = pytest.mark.apt
FOLDER = "etc/apt/sources.list.d"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    root = tmp_path / "root"
    for name, value in make_root(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(host_docker, "HEALTH_TIMEOUT", 2.0)
    with running(Daemon(root)):
        yield Node(root)


def refused(node: Node, repository: Repository, code: str) -> NodeError:
    """The verb is refused with that code, and packages and files are as they were."""
    before = node.packages(), node.etc()
    with pytest.raises(NodeError) as caught:
        docker_verb.run(desired(repository), node.root)
    assert caught.value.code == code, caught.value.sentence()
    assert (node.packages(), node.etc()) == before
    return caught.value


def put(node: Node, name: str, text: str) -> None:
    path = node.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("flag", ["trusted=yes", "allow-insecure=yes", "allow-weak=yes", "allow-downgrade-to-insecure=yes"])
@pytest.mark.parametrize("form", ["list", "sources"])
def test_an_entry_of_the_repository_that_needs_no_signature_is_refused(
    node: Node, repository: Repository, flag: str, form: str
) -> None:
    name, _, value = flag.partition("=")
    text = f"deb [{flag}] {repository.address} trixie stable\n"
    if form == "sources":
        text = f"Types: deb\nURIs: {repository.address}\nSuites: trixie\nComponents: stable\n{name.title()}: {value}\n"
    put(node, f"{FOLDER}/docker.{form}", text)
    error = refused(node, repository, "repository-unsigned")
    assert f"/{FOLDER}/docker.{form}:1 sets {flag}" in error.message and name in error.remedy


@pytest.mark.parametrize("name", ["mirror.list", "mirror:8080.list"])  # apt reads both
def test_another_repository_that_needs_no_signature_is_refused_when_it_holds_what_is_installed(
    node: Node, repository: Repository, tmp_path: Path, name: str
) -> None:
    # The same packages, with no signature at all, as a site's own mirror has them.
    other = tmp_path / "mirror"
    subprocess.run(["cp", "-r", str(repository.folder), str(other)], check=True)
    for signature in ("InRelease", "Release.gpg"):
        for path in other.rglob(signature):
            path.unlink()
    with served(other) as address:
        put(node, f"{FOLDER}/{name}", f"# ours\ndeb [trusted=yes] {address} trixie stable\n")
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
        error = refused(node, repository, "repository-unsigned")
    assert f"/{FOLDER}/{name}:2 sets trusted=yes, so that apt would install " in error.message


def test_another_repository_that_needs_no_signature_may_hold_other_packages(
    node: Node, repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/Packages").write_text("")
    put(node, f"{FOLDER}/local.list", f"deb [trusted=yes] file:{tmp_path}/flat ./\n")
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    assert docker_verb.run(desired(repository), node.root)["version"] == "27.5.1"


@pytest.mark.parametrize(
    "setting",
    [
        "APT::Get::AllowUnauthenticated",
        "Acquire::AllowInsecureRepositories",
        "Acquire::AllowDowngradeToInsecureRepositories",
        "Binary::apt-get::APT::Get::AllowUnauthenticated",
    ],
)
def test_a_setting_of_apt_that_lets_unsigned_packages_in_is_refused(node: Node, repository: Repository, setting: str) -> None:
    put(node, "etc/apt/apt.conf.d/99ours", f'// words\n{setting} "true";\n')
    error = refused(node, repository, "repository-unsigned")
    assert setting in error.message and "Remove" in error.remedy


def test_two_entries_with_different_signers_are_refused_before_the_index_is_read(
    node: Node, repository: Repository, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    _, key = gpg_key(tmp_path, "ed25519")
    for name in "ab":
        put(node, f"etc/apt/keyrings/{name}.asc", key.decode())
        put(node, f"{FOLDER}/{name}.list", f"deb [signed-by=/etc/apt/keyrings/{name}.asc] {repository.address} trixie stable\n")
    error = refused(node, repository, "apt-sources-invalid")
    assert f"/{FOLDER}/a.list:1 and /{FOLDER}/b.list:1" in error.message
    assert "/etc/apt/keyrings/a.asc and /etc/apt/keyrings/b.asc" in error.message


def test_a_list_that_apt_cannot_read_is_named_in_apts_own_words(node: Node, repository: Repository) -> None:
    put(node, f"{FOLDER}/broken.list", "deb [arch=amd64 https://h/x y z\n")
    error = refused(node, repository, "apt-sources-invalid")
    assert "broken.list" in error.message and "holds none" not in error.message
