"""A program that prints without end, a path that is not a file. Lost if these fail: root's memory, or the end of a run."""

import os
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from unittest.mock import Mock

import pytest

from nodekit.__main__ import MAX_INPUT, desired_state
from nodekit.commands import prove
from nodekit.errors import NodeError
from nodekit.host import apt, guest, kata_download
from nodekit.host.capture import _Reading, capture
from nodekit.host.files import MAX_FILE, read_bytes
from nodekit.host.guest import Boot, Plan
from nodekit.host.journal import MAX_JOURNAL, Transaction
from nodekit.host.kata import Effective
from nodekit.host.process import MAX_OUTPUT, run
from nodekit.host.reading import MAX_SYSTEM, Unfit, opened, read, read_text, start

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
MIB = 1 << 20


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """So that a broken limit fails the test, and not the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4096 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(code: str, call: Callable[[], object]) -> NodeError:
    """The error of a call."""
    with pytest.raises(NodeError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value


def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """A program of that name, first on the path."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


# Programs

PEAK = """
import json, resource, sys
from nodekit.errors import NodeError
{imports}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {call}
    code = "none"
except NodeError as error:
    code = error.code
print(json.dumps([code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def peak(imports: str, call: str) -> tuple[str, int]:
    """The code with which a call fails in a process of its own, and the KiB by which its memory grew."""
    program = PEAK.format(imports=imports, call=call)
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1024 * MIB, 1024 * MIB)),
    )  # fmt: skip
    code, grown = result.stdout.strip("[]\n").split(", ")
    return code.strip('"'), int(grown)


@pytest.mark.parametrize("argv", ['["head", "-c", "2G", "/dev/zero"]', '["sh", "-c", "yes >&2"]', '["sh", "-c", "yes & yes"]'])
def test_a_program_that_prints_without_end_takes_no_memory(argv: str) -> None:
    begin = time.monotonic()
    code, grown = peak("from nodekit.host.process import run", f"run({argv}, timeout=30, check=False)")
    assert code == "command-output-too-long"
    assert grown < 24 * 1024, f"{grown} KiB"
    assert time.monotonic() - begin < 15


def test_apt_that_prints_without_end_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path / "bin", monkeypatch, "apt-get", "exec yes Setting up nothing")
    code, grown = peak(
        "from nodekit.host import apt",
        "apt.MAX_SAID = 1 << 20; apt.say = lambda _: None; apt._follow(['apt-get', 'update'], 30.0)",
    )
    assert code == "command-output-too-long"
    assert grown < 24 * 1024, f"{grown} KiB"


def test_apt_ends_what_it_began_when_this_program_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"head -c 600000 /dev/zero | tr '\\0' x; echo more >/dev/stderr && echo done >{tmp_path}/done"
    on_path(tmp_path / "bin", monkeypatch, "apt-get", f"touch {tmp_path}/begun; sleep 1; {text}")
    program = "from nodekit.host import apt\napt._follow(['apt-get', 'update'], 30.0)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY) as runner:
        for _ in range(100):
            if (tmp_path / "begun").exists():
                break
            time.sleep(0.05)
        runner.kill()
    for _ in range(100):
        if (tmp_path / "done").exists():
            return
        time.sleep(0.05)
    pytest.fail("apt died, or hangs, on the pipe that nobody reads any more")


def test_what_apt_printed_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path / "bin", monkeypatch, "apt-get", "seq 100000; echo err >/dev/stderr; exit 7")
    result = apt._follow(["apt-get"], 30.0)
    assert (result.code, result.stdout) == (7, "".join(f"{number}\n" for number in range(1, 100001)) + "err\n")


def test_keys_that_apt_leaves_among_its_temporary_files_go_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path / "bin", monkeypatch, "apt-get", f'stat -c %a "$TMPDIR" >>{tmp_path}/modes; touch "$TMPDIR/apt-key.1.asc"')
    monkeypatch.setattr(apt, "TEMPORARY", str(tmp_path))
    before = set(tmp_path.rglob("*"))
    apt.refresh(tmp_path, "/etc/apt/sources.list.d/kata-nodes-docker.sources", 1.0)
    assert {path.name for path in set(tmp_path.rglob("*")) - before} == {"modes"}
    assert (tmp_path / "modes").read_text() == "1777\n"  # its methods are another user
    monkeypatch.setattr(apt, "TEMPORARY", str(tmp_path / "absent"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    apt.refresh(tmp_path, "/etc/apt/sources.list.d/kata-nodes-docker.sources", 1.0)  # apt itself says what is wrong there


def test_the_refusal_says_what_was_printed_and_what_to_do() -> None:
    error = refused("command-output-too-long", lambda: run(["yes", "no\tend"], timeout=10))
    assert "yes no\tend printed more than 4 MiB" in error.message and "no end no end" in error.message
    assert error.details["printed"] and "by hand" in error.remedy


def test_what_fits_the_limit_is_kept_to_the_last_byte() -> None:
    result = run(["head", "-c", str(MAX_OUTPUT), "/dev/zero"], timeout=30)
    assert (result.code, len(result.stdout)) == (0, MAX_OUTPUT)
    refused("command-output-too-long", lambda: run(["head", "-c", str(MAX_OUTPUT + 1), "/dev/zero"], timeout=30))


def test_a_child_that_holds_the_pipe_does_not_hold_this_program() -> None:
    begin = time.monotonic()
    refused("command-timeout", lambda: run(["sh", "-c", "sleep 20 & exit 0"], timeout=0.5))
    refused("command-timeout", lambda: run(["sh", "-c", "trap '' TERM; sleep 20"], timeout=0.5))
    refused("command-timeout", lambda: run(["sh", "-c", "exec >&- 2>&-; sleep 20"], timeout=0.5))
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("content", ["#!/bin/sh\n", "no program"])
def test_a_program_that_the_system_does_not_start_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    for name in ("kata-runtime", "zstd", "apt-get"):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o644 if content.startswith("#!") else 0o755)
    reason = "Permission denied" if content.startswith("#!") else "Exec format error"
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "archive").write_bytes(kata_download.ZSTD)
    calls: dict[str, Callable[[], object]] = {
        "kata-runtime": lambda: run(["kata-runtime", "--version"], timeout=5, check=False),
        "zstd": lambda: kata_download.unpack(tmp_path / "archive", tmp_path),
        "apt-get": lambda: apt._follow(["apt-get", "update"], 5.0),
    }
    for name, call in calls.items():
        error = refused("command-failed", call)
        assert f"{name} cannot be started: {reason}" in error.message and "by hand" in error.remedy


def test_input_is_given_while_output_is_read() -> None:
    text = "0123456789abcdef" * (1 << 17)  # 2 MiB: far more than a pipe holds, both ways
    assert run(["cat"], timeout=30, stdin=text).stdout == text
    assert run(["true"], timeout=30, stdin=text).code == 0, "a program need not read its input"
    assert run(["cat"], timeout=30).stdout == ""


def test_a_console_is_read_on_beyond_its_limit_and_its_end_is_kept() -> None:
    script = "head -c 3000000 /dev/zero; echo words >&2; exit 3"
    result = capture(["sh", "-c", script], timeout=30, limit=MIB, discard=True)
    assert (result.code, len(result.stdout), result.stderr) == (3, MIB, b"words\n")
    assert (result.timed_out, result.too_long) == (False, False)
    lines = "echo first; head -c 3000000 /dev/zero; echo; echo 'the last line'; echo 'the end'; sleep 20"
    whole = capture(["sh", "-c", lines], timeout=30, limit=MIB, until=b"the end", discard=True).stdout
    assert whole.startswith(b"first\n") and whole.endswith(b"\nthe last line\nthe end\n") and len(whole) <= MIB
    # Wherever the cut falls, no line is made of the halves of two.
    for length in range(MIB // 2 - 40, MIB // 2 + 40):
        cut = _Reading(Mock(), MIB, b"", None, True)
        for data in (b"-" * length, b"the first line ", b"x" * MIB, b" the last line"):
            cut._kept(cut.out, data)
        assert len(cut.out) == MIB and cut.out[MIB // 2 - 1 : MIB // 2] == b"\n" and cut.out.endswith(b"x the last line")
    begin = time.monotonic()
    seen = capture(["sh", "-c", "printf 'abc the'; sleep 0.3; printf ' end'; sleep 20"], timeout=30, limit=MIB, until=b"the end")
    assert seen.stdout == b"abc the end" and not seen.timed_out and time.monotonic() - begin < 10


EFFECTIVE = Effective("/c", "/c", "", None, (), {}, "", {}, {}, {}, None, None)
PROOF = prove.Proof("n1", "qemu", "go", [], "sandbox-runtime", EFFECTIVE, Path("/"))


def test_a_container_that_prints_without_end_is_a_failed_proof_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'echo "$@" >>{tmp_path}/asked\ncase "$*" in *\' run \'*) exec yes I am endless ;; esac'
    on_path(tmp_path / "bin", monkeypatch, "docker", script)
    begin = time.monotonic()
    error = refused("proof-container-failed", lambda: prove.container_proof(PROOF, "debian", 60, False))
    assert "Node n1: the container of runtime kata printed without end" in error.message and "I am endless" in error.message
    assert "docker run --rm --runtime kata" in error.remedy
    assert " rm --force --volumes kata-nodes-proof-" in (tmp_path / "asked").read_text(), "the container is removed all the same"
    assert time.monotonic() - begin < 15
    imports = "from pathlib import Path\nfrom tests.nodekit.test_bounded import PROOF\nfrom nodekit.commands import prove"
    code, grown = peak(imports, 'prove.container_proof(PROOF, "debian", 60, False)')
    assert code == "proof-container-failed" and grown < 24 * 1024, f"{grown} KiB"


def begun(nonce: str) -> str:
    """The first lines of a ladder that works, and no more."""
    return f"{nonce} rung=boot-id status=ok value=99999999-8888-7777-6666-555555555555 detail=\n"


def test_a_ladder_that_is_cut_short_is_explained_by_what_cut_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boots = {
        "raise verification.timeoutseconds": ("", True),
        "raise default_memory": ("[ 9.1] Out of memory: Killed process 9\n", False),
    }
    monkeypatch.setattr(prove, "plan_of", lambda proof, nonce: Plan("q", "k", (), None, "", 256, 1, f"{nonce} end"))
    monkeypatch.setattr(prove, "new_nonce", lambda: "n0")
    for remedy, (console, timed_out) in boots.items():
        result = Boot(begun("n0") + console, False, 60.0, "", timed_out)
        monkeypatch.setattr(guest, "boot", Mock(return_value=result))
        error = refused("proof-transcript-incomplete", lambda: prove.guest_proof(PROOF, 60))
        assert remedy in error.remedy.lower(), error.remedy
        assert ("within 60 s" if timed_out else "ran out of memory") in error.message
    on_path(tmp_path / "bin", monkeypatch, "docker", f'case "$*" in *\' run \'*) printf "{begun("n0")}"; exit 137 ;; esac')
    error = refused("proof-transcript-incomplete", lambda: prove.container_proof(PROOF, "debian", 60, False))
    assert "the container ended with exit code 137" in error.message


# Files


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Path]:
    """A root folder with things that are not files."""
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/pipe")
    (tmp_path / "etc/to-pipe").symlink_to("pipe")
    with suppress(PermissionError):  # made by root alone
        os.mknod(tmp_path / "etc/zero", 0o20666, os.makedev(1, 5))
    (tmp_path / "etc/to-zero").symlink_to("/dev/zero")
    yield tmp_path


@pytest.mark.timeout(20)
def test_a_pipe_or_device_in_a_files_place_is_refused_at_once(odd: Path) -> None:
    for name in ("pipe", "to-pipe", *(["zero"] if (odd / "etc/zero").exists() else [])):
        assert "is not a regular file" in refused("file-invalid", lambda name=name: read_bytes(odd, f"/etc/{name}")).message
    for name in ("pipe", "to-pipe", "to-zero"):
        for call in (lambda place: read(place, 10), lambda place: start(place, 10), lambda place: opened(place).__enter__()):
            with pytest.raises(Unfit, match="not a regular file"):
                call(odd / "etc" / name)
    with pytest.raises(IsADirectoryError):
        read(odd, 10)
    plan = guest.Plan("qemu", "k", (odd / "etc/pipe",), None, "", 1, 1, "end")
    refused("file-unreadable", lambda: guest._add(BytesIO(), plan.initrd[0]))


def test_a_file_that_is_too_long_is_named_with_its_size_and_limit(tmp_path: Path) -> None:
    with open(tmp_path / "long", "wb") as file:
        file.truncate(1 << 40)
    error = refused("file-invalid", lambda: read_bytes(tmp_path, "/long"))
    assert "/long holds 1099511627776 bytes, more than 4194304" in error.message and error.remedy
    with open(tmp_path / "long", "wb") as file:
        file.truncate(MAX_FILE)
    assert len(read_bytes(tmp_path, "/long") or b"") == MAX_FILE
    with open(tmp_path / "long", "wb") as file:
        file.truncate(guest.MAX_INITRD + 1)
    assert "RAM disk" in refused("file-invalid", lambda: guest._add(BytesIO(), tmp_path / "long")).message


def test_what_the_kernel_writes_is_read_though_it_reports_no_size() -> None:
    assert len(read_text("/proc/sys/kernel/random/boot_id", MAX_SYSTEM).strip()) == 36
    assert "MemAvailable:" in read_text("/proc/meminfo", MAX_SYSTEM)
    with pytest.raises(Unfit, match="more than 10"):
        read("/proc/meminfo", 10)
    assert len(start("/proc/meminfo", 10)) == 10


def test_a_journal_holds_every_file_that_may_be_changed_and_grows_no_further(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    names = [f"/etc/{number}" for number in range(MAX_JOURNAL * 3 // 4 // MAX_FILE + 1)]
    for name in names:
        with open(tmp_path / name.lstrip("/"), "wb") as file:
            file.truncate(MAX_FILE)
    with pytest.raises(NodeError) as caught, Transaction(tmp_path, "t") as change:
        change.write(names[0], b"ours")
        with Transaction(tmp_path, "t") as again:
            again.write(names[0], b"ours again")
        for name in names[1:]:
            change.write(name, b"ours")
    assert caught.value.code == "file-invalid" and "nothing was changed" in caught.value.message
    assert all((tmp_path / name.lstrip("/")).stat().st_size == MAX_FILE for name in names), "all is as it was"


def test_an_archive_cannot_hold_a_header_that_fills_the_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 3 << 30
    with pytest.raises(NodeError, match="a header of 3221225472 bytes"):
        kata_download._members(BytesIO(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)), "r|", tmp_path)


def test_a_desired_state_that_is_too_long_is_refused_by_its_length() -> None:
    assert "longer than" in refused("bad-input", lambda: desired_state(" " * (MAX_INPUT + 1))).message
