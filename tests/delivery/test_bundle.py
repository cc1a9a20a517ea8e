"""The node program travels as one file that is the same for the same sources and runs without anything else installed."""

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import grimp
import pytest

from delivery import bundle
from nodekit.__main__ import QUESTIONS, VERBS
from nodekit.errors import NodeError
from nodekit.scripts import script

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
SUFFIXES = (".py", ".sh")


def run(pyz: Path, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-S", str(pyz), *argv], input=stdin, capture_output=True, text=True, check=False)


def test_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    assert bundle.build(tmp_path / "a.pyz") == bundle.build(tmp_path / "b.pyz")
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_program_that_is_uploaded_can_be_read_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    """Copied to a web server as it was, with the mode 0600 of a temporary file, it was refused to every machine."""
    before = os.umask(umask)
    try:
        assert bundle.main(["--output", str(tmp_path / "nodekit.pyz")]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "nodekit.pyz").stat().st_mode) == mode
    assert [file.name for file in tmp_path.iterdir()] == ["nodekit.pyz"]


def test_program_takes_the_place_of_no_device_and_of_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root who wanted its sum alone, with /dev/null for the file, had a file there instead of the device."""
    os.mkfifo(tmp_path / "pipe")
    for place in ("pipe", "."):
        assert bundle.main(["--output", str(tmp_path / place)]) == 1
        assert capsys.readouterr().err.endswith("something is there that is not a file. Name another file.\n")
    assert bundle.main(["--output", "/proc/no/nodekit.pyz"]) == 1
    assert capsys.readouterr().err.startswith("error: /proc/no/nodekit.pyz cannot be written: ")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_program_of_a_user_without_a_home_is_refused_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs with any user id: the preview ended with a traceback."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    with pytest.raises(NodeError, match="this user has no home folder") as caught:
        bundle.cached.__wrapped__()
    assert "Set XDG_CACHE_HOME" in caught.value.sentence()


def test_runs_without_site_packages_and_keeps_its_exit_codes(tmp_path: Path) -> None:
    pyz = tmp_path / "nodekit.pyz"
    bundle.build(pyz)
    assert "Kata" in run(pyz, "--help").stdout
    status = run(pyz, "status", "--json")
    assert status.returncode == 0 and "kata" in json.loads(status.stdout)
    refused = run(pyz, "kata", "--root", str(tmp_path), stdin='{"node": 1}')
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "bad-input"
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert run(pyz, "no-such-verb").returncode == 2


def test_cache_that_cannot_be_written_is_a_refusal_with_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a read-only home; every preview of a node packs the program."""
    home = tmp_path / "home"
    home.touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    bundle.cached.cache_clear()
    with pytest.raises(NodeError) as refused:
        bundle.cached()
    assert refused.value.code == "file-unwritable"
    assert str(home) in refused.value.message and "XDG_CACHE_HOME" in refused.value.remedy
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = bundle.cached()
    assert packed.path.is_relative_to(tmp_path / "cache") and packed.digest[:12] in packed.path.name
    bundle.cached.cache_clear()


def test_the_script_that_is_cut_out_of_it_is_the_one_of_this_checkout() -> None:
    packed = bundle.cached()
    offset, length, digest = packed.bootstrap
    text = packed.path.read_bytes()[offset : offset + length]
    assert text.decode() == script("bootstrap.sh") and hashlib.sha256(text).hexdigest() == digest
    assert length < 128 * 1024  # the longest argument that Linux takes


def test_every_verb_is_a_module_in_it(tmp_path: Path) -> None:
    pyz = tmp_path / "nodekit.pyz"
    bundle.build(pyz)
    for verb in VERBS:
        assert run(pyz, verb, "--help").returncode == 0
        assert (CHECKOUT / "nodekit" / "commands" / f"{verb}.py").exists()


def packed() -> set[str]:
    """The modules of ours in the zipapp, and the scripts by their file's name."""
    with zipfile.ZipFile(io.BytesIO(bundle.content())) as archive:
        names = [name for name in archive.namelist() if name.startswith("nodekit/")]
    return {
        name if name.endswith(".sh") else name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names
    }


def test_program_is_what_its_entry_imports_and_nothing_else() -> None:
    """With any other file, every edit of it would make each node prove itself again."""
    graph = grimp.build_graph("nodekit", cache_dir=None)
    entries = {"nodekit.__main__", *(f"nodekit.commands.{verb.replace('-', '_')}" for verb in VERBS | QUESTIONS)}
    reached = entries.union(*(graph.find_upstream_modules(entry) for entry in entries))
    parents = {module.rpartition(".")[0] for module in reached if "." in module}
    assert {name for name in packed() if not name.endswith(".sh")} == reached | parents


def test_every_script_in_it_is_read_on_a_node() -> None:
    files = [file for room in ("nodekit", "aws") for file in (CHECKOUT / room).rglob("*.*") if file.suffix in SUFFIXES]
    texts = [file.read_text() for file in files]
    for name in packed():
        if name.endswith(".sh"):
            file = name.removeprefix("nodekit/")
            assert any(f'"{file}"' in text or f'"{name}"' in text or f"script {file}" in text for text in texts), name


def test_edit_of_another_room_leaves_the_program_as_it_is(tmp_path: Path) -> None:
    """What an edit changes: nothing in other rooms, their failures above all, and the program in `nodekit`."""
    rooms = ("clusterkit", "aws", "delivery", "local", "stacks", "policy", "components", "review")
    for room in ("nodekit", *rooms):
        shutil.copytree(CHECKOUT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))

    def digest() -> str:
        argv = [sys.executable, "-m", "delivery.bundle", "--output", str(tmp_path / "nodekit.pyz")]
        return subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    def edit(file: str) -> None:
        place = tmp_path / file
        place.write_text(place.read_text() + "\nADDED = 1\n")

    before = digest()
    for file in (
        "clusterkit/runtime_class.py",
        *(f"{room}/failures.py" for room in rooms if (tmp_path / room / "failures.py").exists()),
    ):
        edit(file)
        assert digest() == before, file
    edit("nodekit/failures.py")
    assert digest() != before
