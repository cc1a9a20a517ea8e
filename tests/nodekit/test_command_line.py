"""The command line as a person or a script meets it: help that lists all, JSON or text, exit codes, another root."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodekit.__main__ import QUESTIONS, VERBS, main
from nodekit.commands import effective
from nodekit.host.failpoints import POINTS
from nodekit.rules.kata.kata_layout import DROP_IN
from tests.nodekit.kata_release import BASE, CONFIG, FOLDER

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


def nodekit(*argv: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run it as `python -m nodekit`."""
    command = [sys.executable, "-m", "nodekit", *argv]
    return subprocess.run(command, cwd=REPOSITORY, input=stdin, capture_output=True, text=True, check=False)


def answer(*argv: str) -> dict[str, object]:
    """The JSON answer of a question."""
    result = nodekit(*argv, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    document: dict[str, object] = json.loads(result.stdout)
    return document


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a release, and the file that the document has people write, which nothing reads here."""
    folder = tmp_path / FOLDER
    (folder / "config.d").mkdir(parents=True)
    (folder / "configuration-qemu.toml").write_text(CONFIG)
    (folder / "config.d/40-theirs.toml").write_text('[hypervisor.qemu]\nkernel_params = "user_namespace.enable=1"\n')
    (tmp_path / "opt/kata/VERSION").write_text("3.32.0\n")
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text(
        json.dumps(
            {
                "runtimes": {
                    "kata": {
                        "runtimeType": "io.containerd.kata.v2",
                        "options": {"ConfigPath": f"/{FOLDER}/configuration-qemu.toml"},
                    }
                }
            }
        )
    )
    (tmp_path / "etc/kata-containers").mkdir()
    (tmp_path / "etc/kata-containers/configuration.toml").write_text(
        '[hypervisor.qemu]\nkernel_params = "user_namespace.enable=1"\n'
    )
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
    return tmp_path


def test_help_lists_every_verb_and_question() -> None:
    output = nodekit("--help").stdout
    for name in (*VERBS, *QUESTIONS):
        assert f"\n    {name}" in output
    assert "standard input" in output and "Exit: 0 done" in output


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_teaches_its_arguments(name: str) -> None:
    output = nodekit(name, "--help").stdout
    assert "--json" in output and "--root" in output


def test_bad_usage_is_2_and_a_refusal_is_1() -> None:
    assert nodekit("nonsense").returncode == 2
    assert nodekit("compat", "--runtime", "java").returncode == 2
    result = nodekit("docker", stdin="[]")
    assert (result.returncode, json.loads(result.stdout)["error"]["code"]) == (1, "bad-input")


def test_failpoints_are_listed_with_what_is_done_there() -> None:
    assert answer("failpoints") == POINTS
    assert nodekit("failpoints").stdout.splitlines()[0].startswith("lock-taken ")


@pytest.mark.parametrize(
    ("docker", "kata", "runtime", "cure"),
    [
        ("28.5.2", "3.27.0", "go", "Kata 3.29.0 or newer, or Docker 27.5.1"),
        ("29.5.0", "3.30.0", "rust", "Kata 3.32.0 or newer"),
        ("26.0.0", "3.2.0", "go", "Kata 3.29.0 or newer, or Docker 27.5.1"),
    ],
)
def test_a_pair_that_breaks_is_exit_1_with_reason_and_cure(docker: str, kata: str, runtime: str, cure: str) -> None:
    result = nodekit("compat", "--docker", docker, "--kata", kata, "--runtime", runtime, "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.returncode, error["code"]) == (1, "docker-kata-incompatible")
    assert cure in error["remedy"] and "#" in error["message"]


def test_a_pair_that_works_is_one_line() -> None:
    result = nodekit("compat", "--docker", "27.5.1", "--kata", "3.2.0")
    assert (result.returncode, result.stdout) == (0, "Docker 27.5.1 works with the Go shim of Kata 3.2.0\n")


def test_compat_takes_what_is_not_given_from_the_root(root: Path) -> None:
    database = root / "var/lib/dpkg"
    database.mkdir(parents=True)
    (database / "status").write_text(
        "Package: docker-ce\nStatus: install ok installed\nMaintainer: t\nArchitecture: all\n"
        "Version: 5:28.5.2-1~debian.13~trixie\nDescription: d\n"
    )
    assert answer("compat", "--root", str(root))["docker"] == "28.5.2"
    (root / "opt/kata/VERSION").write_text("3.27.0\n")
    result = nodekit("compat", "--root", str(root))
    assert result.returncode == 1 and "Docker 28.5.2 does not work with the Go shim of Kata 3.27.0" in result.stderr
    (root / "opt/kata/VERSION").unlink()
    result = nodekit("compat", "--root", str(root))
    assert result.returncode == 1 and "--kata" in result.stderr


@pytest.mark.parametrize(("package", "version"), [("docker.io", "28.5.2-0ubuntu1"), ("docker-ce", "5:28.5.2-1~debian.13~trixie")])
def test_status_judges_the_docker_that_compat_judges(root: Path, package: str, version: str) -> None:
    database = root / "var/lib/dpkg"
    database.mkdir(parents=True)
    (database / "status").write_text(
        f"Package: {package}\nStatus: install ok installed\nMaintainer: t\nArchitecture: all\nVersion: {version}\n"
        "Description: d\n"
    )
    (root / "opt/kata/VERSION").write_text("3.27.0\n")
    assert nodekit("compat", "--root", str(root)).returncode == 1
    compatible = answer("status", "--root", str(root))["compatible"]
    assert isinstance(compatible, dict) and compatible["go"]["ok"] is False


def test_effective_lists_what_counts_and_what_is_ignored(root: Path) -> None:
    argv = ("effective", "--root", str(root), "--runtime", "go", "--hypervisor", "qemu")
    document = answer(*argv)
    assert document["kernelParams"] == "user_namespace.enable=1"
    assert document["kernelParamsFrom"] == f"/{FOLDER}/config.d/40-theirs.toml"
    assert document["write"]["file"] == f"/{FOLDER}/config.d/{DROP_IN}"  # type: ignore[index]
    dead = {entry["path"]: entry["reason"] for entry in document["dead"]}  # type: ignore[attr-defined, union-attr]
    assert "ConfigPath" in dead["/etc/kata-containers/configuration.toml"]
    assert "replaced" in dead[f"/{FOLDER}/configuration-qemu.toml"]
    output = nodekit(*argv).stdout
    assert "/etc/kata-containers/configuration.toml: " in output and "only the kernel of RHEL" in output


def test_kernel_params_prints_the_new_file_or_writes_it(root: Path) -> None:
    file = root / FOLDER / "configuration-qemu.toml"
    argv = ("kernel-params", str(file), "--set", "user_namespace.enable=1", "--set", "quiet")
    new = CONFIG.replace(f'= "{BASE}"', f'= "{BASE} user_namespace.enable=1 quiet"')
    result = nodekit(*argv)
    assert (result.returncode, result.stdout) == (0, new)
    assert file.read_text() == CONFIG
    assert nodekit(*argv, "--write").returncode == 0
    assert file.read_text() == new
    inside = nodekit("kernel-params", f"/{FOLDER}/configuration-qemu.toml", "--root", str(root), "--set", "quiet=0", "--json")
    assert json.loads(inside.stdout)["after"].endswith("user_namespace.enable=1 quiet=0")


def test_status_of_another_root_tells_what_lies_in_files(root: Path) -> None:
    document = answer("status", "--root", str(root))
    assert document["os"]["id"] == "debian" and document["machine"] is None  # type: ignore[index]
    assert document["kata"]["configurations"]["go"]["qemu"]["kernelParams"] == "user_namespace.enable=1"  # type: ignore[index]
    assert document["kata"]["configurations"]["go"]["firecracker"]["code"] == "file-invalid"  # type: ignore[index]
    assert document["changes"] == {}
    assert "kernelParams: user_namespace.enable=1" in nodekit("status", "--root", str(root)).stdout


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_a_file_is_printed_as_it_is_in_every_locale(root: Path, encoding: str) -> None:
    file = root / FOLDER / "configuration-qemu.toml"
    file.write_text(f"# café, \u2026\n{CONFIG}")
    argv = [sys.executable, "-m", "nodekit", "kernel-params", str(file), "--set", "quiet"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run(argv, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert result.returncode == 0 and result.stdout.startswith("# café, \u2026\n".encode()), result


def test_folders_that_it_makes_are_readable_for_every_user_whatever_the_login_s_umask_is(root: Path) -> None:
    (root / FOLDER / "config.d/40-theirs.toml").unlink()
    (root / FOLDER / "config.d").rmdir()
    state = {"node": "n", "hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "kernelParams": ["quiet"]}
    result = subprocess.run(
        [sys.executable, "-m", "nodekit", "kata", "--root", str(root)],
        cwd=REPOSITORY, input=json.dumps(state), capture_output=True, text=True, check=False, umask=0o077,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (root / FOLDER / "config.d").stat().st_mode & 0o777 == 0o755
    assert (root / "var/lib/kata-nodes").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("as_json", [True, False])
def test_what_the_system_refuses_unforeseen_has_a_code_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """Lost if this fails: the cause, between the lines of a traceback."""

    def run(root: Path, **options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/proc/self/fd")

    monkeypatch.setattr(effective, "run", run)
    assert main(["effective", "--root", str(tmp_path), *(["--json"] if as_json else [])]) == 1
    output = capsys.readouterr()
    assert "error: The system refuses: /proc/self/fd: Too many open files. Check the disks" in output.err
    assert not as_json or json.loads(output.out)["error"]["code"] == "system-refused"
