"""A machine is found again, replaced, and gone without a trace, however its start ends. QEMU is a stand-in here."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from local import accelerator, limits, machine, process
from local.boot import BOOT_VARIABLE, Boot, boot, hung, kernel_trouble
from nodekit.errors import NodeError

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(fake_qemu: Path, tmp_path: Path) -> dict[str, Any]:
    paths = {"disk": "disk.raw", "kernel": "kernel", "initrd": "initrd.img"}
    settings = {"name": "node-1", "directory": str(tmp_path / "machine")}
    return {**settings, **{key: str(fake_qemu / name) for key, name in paths.items()}}


def running(text: str) -> list[int]:
    """Pids of processes with `text` in their command line."""
    result = subprocess.run(["pgrep", "-f", "--", text], capture_output=True, text=True, check=False)
    return [int(line) for line in result.stdout.split()]


def test_up_twice_gives_the_same_machine_and_down_leaves_nothing(settings: dict[str, Any]) -> None:
    directory = Path(settings["directory"])
    first = machine.up(settings)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "login_key").stat().st_mode & 0o777 == 0o600
    assert machine.up(settings) == first
    assert machine.status(settings) == {"exists": True, "pid": first["pid"], "answers": True}
    assert machine.down(settings) == {"removed": True}
    assert not directory.exists()
    assert running(str(directory)) == []
    assert machine.down(settings) == {"removed": False}
    assert machine.status(settings) == {"exists": False, "pid": None, "answers": False}


def test_a_machine_that_stopped_comes_back_as_itself(settings: dict[str, Any]) -> None:
    first = machine.up(settings)
    process.stop(Path(settings["directory"]) / "process.json")
    second = machine.up(settings)
    machine.down(settings)
    assert {**second, "pid": 0, "boot": ""} == {**first, "pid": 0, "boot": ""}
    assert second["pid"] != first["pid"] and second["boot"] != first["boot"]


def test_machine_that_hangs_is_started_again_as_itself(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = Path(settings["directory"])
    monkeypatch.setattr(machine, "SILENT_SECONDS", 1)
    monkeypatch.setattr(process, "stop", functools.partial(process.stop, grace=0.5))
    first = machine.up(settings)
    (directory / "console.log").write_text("watchdog: BUG: soft lockup - CPU#0 stuck for 26s!\n")
    begin = time.monotonic()
    assert not hung(directory)
    assert time.monotonic() - begin < 5  # an answer ends the wait
    os.kill(first["pid"], signal.SIGSTOP)
    assert hung(directory, 1)
    second = machine.up(settings)
    output = capsys.readouterr().err
    assert "node-1 has not answered on its SSH port for 1 s" in output and "soft lockup - CPU#0" in output
    assert {**second, "pid": 0, "boot": ""} == {**first, "pid": 0, "boot": ""}
    assert second["boot"] != first["boot"] and running(str(directory)) == [second["pid"]]
    machine.down(settings)


def test_machine_that_never_answered_or_no_longer_runs_does_not_count_as_hung(settings: dict[str, Any]) -> None:
    directory = Path(settings["directory"])
    assert not hung(directory, 1)
    first = machine.up(settings)
    os.kill(first["pid"], signal.SIGSTOP)
    known = json.loads((directory / "place.json").read_text())
    (directory / "place.json").write_text(json.dumps({key: known[key] for key in ("port", "accelerator")}))
    assert not hung(directory, 1)  # its start is under way, or was interrupted
    (directory / "place.json").write_text(json.dumps(known))
    process.stop(directory / "process.json", grace=0.1)
    assert not hung(directory, 1)
    machine.down(settings)


def test_console_without_a_kernels_trouble_is_not_quoted(tmp_path: Path) -> None:
    assert kernel_trouble(tmp_path) == ""
    (tmp_path / "console.log").write_text("Debian GNU/Linux 13 node-1 ttyS0\n\nnode-1 login:\n")
    assert kernel_trouble(tmp_path) == ""
    stall = "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"
    (tmp_path / "console.log").write_text(f"node-1 login:\n{stall}\nrcu: \t1-...!: (0 ticks this GP)\n")
    assert kernel_trouble(tmp_path) == stall


def test_start_that_was_asked_for_is_recorded_and_one_that_died_gets_another(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(settings["directory"])
    assert (boot(directory).exists, boot(directory).running) == (False, False)
    monkeypatch.setenv(BOOT_VARIABLE, "asked")
    assert machine.up(settings)["boot"] == "asked"
    assert boot(directory) == Boot(True, True, "asked")
    process.stop(directory / "process.json")
    dead = boot(directory)
    assert (dead.exists, dead.running) == (True, False) and dead.name != "asked"
    monkeypatch.setenv(BOOT_VARIABLE, dead.name)
    assert machine.up(settings)["boot"] == dead.name
    assert boot(directory) == Boot(True, True, dead.name)
    machine.down(settings)
    # A machine whose folder was lost is another machine, and must not pass for the earlier one.
    assert boot(directory).name not in ("asked", dead.name)


def test_name_of_a_running_machines_start_is_put_right_without_a_restart(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine.up(settings)
    monkeypatch.setenv(BOOT_VARIABLE, "asked")
    assert machine.up(settings) == {**first, "boot": "asked"}
    machine.down(settings)


@pytest.mark.parametrize(("chosen", "waits"), [("tcg", True), ("kvm", False)])
def test_emulated_machines_boot_one_after_the_other(tmp_path: Path, chosen: str, waits: bool) -> None:
    booted = threading.Event()

    def boot_another() -> None:
        with machine.turn(tmp_path / "another", chosen):
            booted.set()

    with machine.turn(tmp_path / "one", "tcg"):
        another = threading.Thread(target=boot_another)
        another.start()
        assert booted.wait(0.5) is not waits
    another.join(10)
    assert booted.is_set()


def test_other_settings_make_another_machine(settings: dict[str, Any]) -> None:
    first = machine.up(settings)
    second = machine.up({**settings, "memoryMiB": limits.MEMORY_MIB.minimum})
    assert running(settings["directory"]) == [second["pid"]]
    machine.down(settings)
    assert second["hostKey"] != first["hostKey"]


def test_disk_over_an_image_that_was_built_again_is_not_booted(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A cache that was emptied gets another image at the same place, and what lies over the first would be a damaged disk."""
    directory, image = Path(settings["directory"]), Path(settings["disk"])
    first = machine.up(settings)
    process.stop(directory / "process.json")
    os.utime(image, (1, 1))
    second = machine.up(settings)
    assert second["hostKey"] != first["hostKey"] and "node-1 is replaced" in capsys.readouterr().err
    # One that was made before its image was written down is believed.
    document = json.loads((directory / "machine.json").read_text())
    (directory / "machine.json").write_text(json.dumps({key: document[key] for key in machine.Machine.__dataclass_fields__}))
    assert machine.up(settings)["hostKey"] == second["hostKey"]
    machine.down(settings)


def test_a_machine_that_dies_is_reported_in_its_own_words_and_leaves_nothing(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU", "dies")
    with pytest.raises(NodeError, match="cannot set up guest memory"):
        machine.up(settings)
    assert not Path(settings["directory"]).exists()


def test_a_mute_machine_is_ended_and_its_console_shown(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_QEMU", "mute")
    monkeypatch.setattr(machine, "SSH_SECONDS", 2)
    with pytest.raises(NodeError, match="reached nothing"):
        machine.up(settings)
    assert not Path(settings["directory"]).exists()
    assert running(settings["directory"]) == []


def test_a_failed_restart_keeps_the_disk(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    machine.up(settings)
    process.stop(Path(settings["directory"]) / "process.json")
    monkeypatch.setenv("FAKE_QEMU", "dies")
    with pytest.raises(NodeError):
        machine.up(settings)
    assert (Path(settings["directory"]) / "disk.qcow2").exists()
    machine.down(settings)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_cleans_up(settings: dict[str, Any], number: signal.Signals) -> None:
    begun = subprocess.Popen(
        [sys.executable, "-m", "local.machine", "up"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FAKE_QEMU": "mute"},
    )
    assert begun.stdin is not None and begun.stderr is not None
    begun.stdin.write(json.dumps(settings))
    begun.stdin.close()
    while not (Path(settings["directory"]) / "console.log").exists():
        time.sleep(0.05)
    begun.send_signal(number)
    assert begun.wait(20) == 130
    begun.stderr.close()
    assert not Path(settings["directory"]).exists()
    assert running(settings["directory"]) == []


def test_a_killed_start_is_cleaned_up_by_down(settings: dict[str, Any]) -> None:
    begun = subprocess.Popen(
        [sys.executable, "-m", "local.machine", "up"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "FAKE_QEMU": "mute"},
    )
    assert begun.stdin is not None
    begun.stdin.write(json.dumps(settings))
    begun.stdin.close()
    while not (Path(settings["directory"]) / "process.json").exists():
        time.sleep(0.02)
    begun.kill()
    begun.wait(10)
    machine.down(settings)
    assert not Path(settings["directory"]).exists()
    assert running(settings["directory"]) == []


def test_a_folder_that_is_not_a_machines_is_not_emptied(settings: dict[str, Any]) -> None:
    Path(settings["directory"]).mkdir()
    (Path(settings["directory"]) / "thesis.txt").write_text("years of work")
    for verb in (machine.up, machine.down):
        with pytest.raises(NodeError, match=r"thesis\.txt"):
            verb(settings)
    assert (Path(settings["directory"]) / "thesis.txt").read_text() == "years of work"


def test_a_missing_image_is_named_before_anything_is_made(settings: dict[str, Any]) -> None:
    with pytest.raises(NodeError, match="/none does not exist"):
        machine.up({**settings, "disk": "/none"})
    assert not Path(settings["directory"]).exists()


@pytest.mark.parametrize(("how", "verdict"), [("kvm-works", True), ("aborts", False), ("kvm-hangs", False)])
def test_kvm_counts_only_when_a_guest_reached_user_space(
    fake_qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, verdict: bool
) -> None:
    monkeypatch.setenv("FAKE_QEMU", how)
    if how == "kvm-hangs":  # the others end by themselves, however busy this machine is
        monkeypatch.setattr(accelerator, "SECONDS", 1)
    monkeypatch.setattr(accelerator, "DEVICE", tmp_path)
    assert accelerator.boots_with_kvm(fake_qemu / "kernel", fake_qemu / "initrd.img") is verdict


def test_user_who_may_not_open_kvm_emulates_even_if_another_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "accelerator.json"
    monkeypatch.setattr(accelerator, "DEVICE", tmp_path)
    monkeypatch.setattr(accelerator, "boots_with_kvm", lambda kernel, initrd: True)
    assert accelerator.choose(Path("k"), Path("i"), memory) == "kvm"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert accelerator.choose(Path("k"), Path("i"), memory) == "tcg"


def test_the_verdict_on_kvm_is_asked_once_a_boot(fake_qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([True, False])
    monkeypatch.setattr(accelerator, "boots_with_kvm", lambda kernel, initrd: next(verdicts))
    memory = tmp_path / "accelerator.json"
    kernel, initrd = fake_qemu / "kernel", fake_qemu / "initrd.img"
    assert [accelerator.choose(kernel, initrd, memory) for _ in range(2)] == ["kvm", "kvm"]
    memory.write_text(json.dumps({"boot": "an earlier one", "accelerator": "kvm"}))
    assert accelerator.choose(kernel, initrd, memory) == "tcg"
