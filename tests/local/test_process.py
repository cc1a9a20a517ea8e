"""Nothing is left running, and nothing foreign is ever ended or removed."""

import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from local import process
from nodekit.errors import NodeError


def sleeper(folder: Path, code: str = "import time; time.sleep(300)") -> int:
    return process.spawn([sys.executable, "-c", code], folder / "process.json", folder / "log")


def test_a_started_process_is_known_and_ended(tmp_path: Path) -> None:
    pid = sleeper(tmp_path)
    assert process.alive(tmp_path / "process.json") == pid
    process.stop(tmp_path / "process.json")
    assert process.alive(tmp_path / "process.json") is None
    assert not (tmp_path / "process.json").exists()


def test_a_started_process_outlives_its_starter_and_its_terminal(tmp_path: Path) -> None:
    pid = sleeper(tmp_path)
    try:
        assert os.getsid(pid) == pid != os.getsid(0)
        descriptors = [Path(f"/proc/{pid}/fd/{number}").resolve() for number in (0, 1, 2)]
        assert descriptors == [Path("/dev/null"), tmp_path / "log", tmp_path / "log"]
    finally:
        process.stop(tmp_path / "process.json")


def test_the_started_process_can_be_interrupted(tmp_path: Path) -> None:
    """The signals held back around the start must not stay blocked in what was started."""
    sleeper(tmp_path)
    begin = time.monotonic()
    process.stop(tmp_path / "process.json", grace=20)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("wrong", [{"start": "1"}, {"boot": "another"}])
def test_another_process_with_the_same_number_is_never_touched(tmp_path: Path, wrong: dict[str, str]) -> None:
    sleeper(tmp_path)
    record = tmp_path / "process.json"
    true = record.read_text()
    try:
        record.write_text(json.dumps({**json.loads(true), **wrong}))
        assert process.alive(record) is None
        process.stop(record)
        record.write_text(true)
        assert process.alive(record) is not None
    finally:
        record.write_text(true)
        process.stop(record)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": 99999999, "start": "1", "boot": "x"}', '{"pid": -1}'])
def test_a_broken_record_names_no_process(tmp_path: Path, content: str) -> None:
    (tmp_path / "process.json").write_text(content)
    assert process.alive(tmp_path / "process.json") is None
    process.stop(tmp_path / "process.json")


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"
    sleeper(tmp_path, ignoring)
    while not (tmp_path / "log").read_text():
        time.sleep(0.02)
    process.stop(tmp_path / "process.json", grace=0.3)
    assert process.alive(tmp_path / "process.json") is None


def test_a_missing_program_is_named_and_leaves_no_record(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="/nowhere/program cannot be run"):
        process.spawn(["/nowhere/program"], tmp_path / "process.json", tmp_path / "log")
    assert not (tmp_path / "process.json").exists()


def test_a_record_that_cannot_be_written_is_named_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "process.json").mkdir()  # as a full disk refuses it
    with pytest.raises(NodeError, match=r"process\.json cannot be written"):
        sleeper(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert not (tmp_path / "ran").exists()


def test_a_folder_with_something_foreign_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("1")
    (tmp_path / "letters").write_text("2")
    with pytest.raises(NodeError, match="'letters'"):
        process.empty(tmp_path, ("mine",))
    assert (tmp_path / "mine").exists()


def test_a_second_run_waits_for_the_first_and_survives_its_removal(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    order: list[str] = []

    def second() -> None:
        with process.owned(folder):
            order.append("second" if folder.is_dir() else "gone")

    with process.owned(folder):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        order.append("first")
        folder.rmdir()
    waiting.join(10)
    assert order == ["first", "second"]


def test_files_are_private_and_whole(tmp_path: Path) -> None:
    process.write(tmp_path / "key", "one")
    process.write(tmp_path / "key", b"two")
    assert (tmp_path / "key").read_bytes() == b"two"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_the_end_of_a_log_is_safe_to_print(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"old\n" * 100 + b"\x1b[31mred\x07\xff\r\nlast\n")
    assert process.tail(tmp_path / "log", 2) == "[31mred\ufffd\nlast"
    assert process.tail(tmp_path / "none") == "(empty)"


def test_a_wanted_port_is_kept_while_it_is_free() -> None:
    port = process.free_port()
    assert process.free_port(port) == port
    assert process.free_port(port, [port]) != port
    with socket.create_server(("127.0.0.1", port)):
        assert process.free_port(port) != port


def test_a_port_is_not_one_that_an_outgoing_connection_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(process.free_port() in process.PORTS for _ in range(20))
    monkeypatch.setattr(process, "OUTGOING_PORTS", tmp_path / "range")
    (tmp_path / "range").write_text("20010\t60999\n")
    monkeypatch.setattr(process, "PORTS", range(20_000, 20_100))
    assert all(process.free_port() < 20_010 for _ in range(5))
    (tmp_path / "range").write_text("1024\t65535\n")  # nowhere is one safe
    assert process.free_port() not in process.PORTS


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_input_that_is_not_an_object_is_refused_with_a_remedy(text: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "local.machine", "down"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Write the settings as one JSON object. [bad-input]" in result.stderr


def test_bad_usage_is_distinguished_from_failure() -> None:
    command = [sys.executable, "-m", "local.site", "sideways"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert "up|down" in result.stderr


def test_signals_are_restored_after_a_start(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    sleeper(tmp_path)
    process.stop(tmp_path / "process.json")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_what_the_system_refuses_unforeseen_has_a_code_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(settings: dict[str, object]) -> dict[str, object]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/kata-nodes/disk")

    monkeypatch.setattr(sys, "argv", ["local.machine", "up"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}"))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    before = os.umask(0o022)
    try:
        assert process.serve_verbs({"up": full}, "local.machine") == 1
    finally:
        os.umask(before)
    assert capsys.readouterr().err == (
        "local.machine: The system refuses: /srv/kata-nodes/disk: No space left on device. Check the disks, the memory and the "
        "limits of this machine (df, dmesg, ulimit -a), then run again. [system-refused]\n"
    )
