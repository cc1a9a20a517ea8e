"""The verb that takes the steps before the proof. Lost if these fail: an update that takes again what nothing has changed, which
restarts Docker for nothing; or one that takes a step for done that no longer is."""

import copy
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nodekit.commands import converge, docker, kata, preflight, restore
from nodekit.errors import NodeError
from nodekit.host import converged, signals
from nodekit.host.converged import MAX_RECORD, RECORD, Converged
from nodekit.host.lock import LOCK
from nodekit.host.proofs import FOLDER
from tests.nodekit import forked
from tests.nodekit.docker_node import NEW, OLD
from tests.nodekit.fast_node import lay_out, perform, tree
from tests.nodekit.test_walks import Settings

STEPS: dict[str, ModuleType] = {"preflight": preflight, "docker": docker, "kata": kata}
REPOSITORY = {"address": "http://r", "suite": None, "fingerprint": "A" * 40}
STATE: dict[str, Any] = {
    "node": "n",
    "program": "p1",
    "preflightSeconds": 60,
    "docker": {"node": "n", "version": "27.5.1", "repository": REPOSITORY, "kataVersion": "3.32.0", "kataRuntime": "go"},
    "dockerSeconds": 60,
    "kata": {"node": "n", "hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "kernelParams": ["quiet"]},
    "kataSeconds": 60,
}
Step = Callable[[dict[str, object], Path], dict[str, object]]


def changed(**keys: object) -> dict[str, Any]:
    """The state with other values; `docker__version` is a key of the step `docker`."""
    state = copy.deepcopy(STATE)
    for name, value in keys.items():
        *outer, key = name.split("__")
        (state[outer[0]] if outer else state)[key] = value
    return state


class Stage:
    """A node whose steps are played; `steps` are those that were begun."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.steps: list[str] = []
        self.last = ""
        self.acts: dict[str, Step] = {}
        self.record = root / RECORD.lstrip("/")
        self.record.parent.mkdir(parents=True)
        (root / "etc").mkdir()
        self.machine_id("a" * 32)
        for step, module in STEPS.items():
            monkeypatch.setattr(module, "run", lambda desired, root, step=step: self._play(step, desired, root))

    def _play(self, step: str, desired: dict[str, object], root: Path) -> dict[str, object]:
        self.steps.append(step)
        if step in self.acts:
            return self.acts[step](desired, root)
        versions = {} if step == "preflight" else {"version": desired["version"]}
        return {"node": "n", "changed": step == "docker", **versions}

    def machine_id(self, text: str) -> None:
        (self.root / "etc/machine-id").write_text(f"{text}\n")

    def run(self, state: dict[str, Any] = STATE) -> list[str]:
        """Converge; the steps that were taken, as the result has them, too."""
        self.steps = []
        result = converge.run(copy.deepcopy(state), self.root)
        assert result["taken"] == self.steps and result["node"] == "n"
        assert result["dockerVersion"] == state["docker"]["version"] and result["changed"] is ("docker" in self.steps)
        assert (result["run"] != self.last) == bool(self.steps), "a proof follows each run that took a step, and no other"
        self.last = str(result["run"])
        return self.steps


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_a_first_run_takes_every_step_in_its_order_and_the_next_none(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.run() == ["preflight", "docker", "kata"]
    assert stage.record.stat().st_mode & 0o777 == 0o600 and Converged(stage.root).taken() == ["preflight", "docker", "kata"]
    capsys.readouterr()
    assert stage.run() == []
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["step preflight", "step docker", "step kata"]


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"docker__version": "28.0.0"}, ["docker"]),
        ({"kata__kernelParams": ["quiet", "panic=1"]}, ["kata"]),
        ({"kata__handler": {"name": "kata", "podAnnotations": []}}, ["preflight", "kata"]),
        ({"docker__kataVersion": "3.31.0", "kata__version": "3.31.0"}, ["preflight", "docker", "kata"]),
        ({"node": "n", "dockerSeconds": 61}, []),
        ({"kata__configPath": None, "docker__repository": dict(reversed(REPOSITORY.items()))}, []),
        ({"program": "p2"}, ["preflight", "docker", "kata"]),
    ],
)
def test_a_later_run_takes_what_has_changed_and_nothing_else(stage: Stage, keys: dict[str, object], steps: list[str]) -> None:
    stage.run()
    assert stage.run(changed(**keys)) == steps
    assert stage.run(changed(**keys)) == []
    assert stage.run() == steps  # and back: what was taken last is what counts


def test_a_machine_that_came_from_an_image_of_a_node_takes_every_step(stage: Stage) -> None:
    stage.run()
    stage.machine_id("b" * 32)
    assert stage.run() == ["preflight", "docker", "kata"] and stage.run() == []
    (stage.root / "etc/machine-id").unlink()
    assert stage.run() == ["preflight", "docker", "kata"] and stage.run() == []


@pytest.mark.parametrize(("text", "known"), [("a1" * 16, "a1" * 16), ("", ""), ("uninitialized", ""), ('"}', ""), (None, "")])
def test_machine_id_is_that_by_which_a_cluster_knows_the_machine_now(stage: Stage, text: str | None, known: str) -> None:
    """Lost if this fails: the node of a host that was installed again with its former key gets no label, and stays cordoned."""
    stage.run()
    (stage.root / "etc/machine-id").unlink() if text is None else stage.machine_id(text)
    for _ in range(2):
        assert converge.run(copy.deepcopy(STATE), stage.root)["machineId"] == known


def refuse(desired: dict[str, object], root: Path) -> dict[str, object]:
    raise NodeError("command-failed", "it failed")


def end(desired: dict[str, object], root: Path) -> dict[str, object]:
    raise SystemExit(143)


def kill(desired: dict[str, object], root: Path) -> dict[str, object]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@pytest.mark.parametrize("act", [refuse, end, kill])
def test_a_step_that_did_not_end_well_is_taken_again_for_the_state_that_it_had_before(stage: Stage, act: Step) -> None:
    """Lost if this fails: after a Docker that could be only half brought, the settings of before pass without a look at it."""
    stage.run()
    stage.acts["docker"] = act
    newer = changed(docker__version="28.0.0", kata__version="3.31.0")
    assert forked.run(lambda: len(converge.run(newer, stage.root)) * 0)[0] != 0
    assert Converged(stage.root).taken() == ["kata", "preflight"]  # of before, and the one that was taken until then
    del stage.acts["docker"]
    assert stage.run() == ["preflight", "docker"] and stage.run() == []


def test_a_node_without_the_folder_of_the_program_takes_every_step_and_gets_no_record(stage: Stage) -> None:
    """As where a person starts the verb from a checkout."""
    stage.record.parent.rmdir()
    assert stage.run() == stage.run() == ["preflight", "docker", "kata"]
    assert not stage.record.parent.exists()


def spoil_values(record: Path, value: object) -> None:
    document = json.loads(record.read_text())
    document["steps"] = {step: {**kept, "version": value} for step, kept in document["steps"].items()}
    record.write_text(json.dumps(document))


def spoil_run(record: Path, run: object) -> None:
    record.write_text(json.dumps({**json.loads(record.read_text()), "run": run}))


def spoil_steps(record: Path, steps: str) -> None:
    record.write_text(f'{{"run": "{"0" * 16}", "steps": {steps}}}')


def link(record: Path) -> None:
    record.rename(record.with_name("whole"))
    record.symlink_to("whole")


def pipe(record: Path) -> None:
    record.unlink()
    os.mkfifo(record)


SPOILED: dict[str, Callable[[Path], object]] = {
    "gone": lambda record: record.unlink(),
    "empty": lambda record: record.write_bytes(b""),
    "zeros": lambda record: record.write_bytes(bytes(512)),
    "cut-off": lambda record: record.write_bytes(record.read_bytes()[:-9]),
    "no-text": lambda record: record.write_bytes(b'{"kata": "\xff\xfe"}'),
    "list": lambda record: record.write_text("[]"),
    "null": lambda record: record.write_text("null"),
    "number": lambda record: record.write_text("7" * 9000),
    "steps-that-are-none": lambda record: spoil_steps(record, '{"preflight": [], "docker": "x", "kata": null}'),
    "sums-that-are-none": lambda record: spoil_steps(
        record, '{"docker": {"digest": ["x"], "version": {}}, "kata": {"digest": 7}}'
    ),
    "run-that-is-none": lambda record: spoil_run(record, "x; reboot"),
    "run-that-is-a-number": lambda record: spoil_run(record, 7),
    "value-that-is-a-number": lambda record: spoil_values(record, 7),
    "value-that-is-null": lambda record: spoil_values(record, None),
    "value-that-is-a-list": lambda record: spoil_values(record, ["27.5.1"]),
    "nested": lambda record: record.write_text("[" * 30_000 + "]" * 30_000),
    "nested-in-a-step": lambda record: spoil_steps(record, '{"x": {"digest": ' + "[" * 900 + "]" * 900 + "}}"),
    "nested-too-deep-in-a-step": lambda record: spoil_steps(record, '{"x": {"y": ' + '{"a":' * 9000 + "1" + "}" * 9002),
    "huge": lambda record: record.write_bytes(record.read_bytes() + b" " * MAX_RECORD),
    "link": link,
    "pipe": pipe,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_record_that_cannot_be_relied_on_takes_every_step(stage: Stage, how: str) -> None:
    """Lost if this fails: a damaged disk or a copied file ends every `up` with a traceback, or passes for a ready node."""
    stage.run()
    SPOILED[how](stage.record)
    code, output = forked.verb("converge", stage.root, STATE)
    assert code == 0 and "Traceback" not in output and "taken before" not in output, output
    assert stage.record.is_file() and not stage.record.is_symlink()
    stage.last = Converged(stage.root).run
    assert stage.run() == []


def test_a_record_that_cannot_be_written_ends_the_run_in_words(stage: Stage) -> None:
    stage.record.mkdir()
    code, output = forked.verb("converge", stage.root, STATE)
    assert code == 1 and "Traceback" not in output and "[file-unwritable]" in output, output


def test_a_record_is_written_while_no_other_run_writes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost if this fails: two runs take each other's new content, since both write by way of one name."""
    stage.run()
    before = stage.record.read_bytes()
    monkeypatch.setattr(converged, "LOCK_SECONDS", 0.2)
    with (stage.root / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(NodeError) as refused:
            stage.run(changed(docker__version="28.0.0"))
    assert refused.value.code == "node-busy" and stage.record.read_bytes() == before and stage.steps == []


def test_no_further_step_begins_once_nobody_reads(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost if this fails: a connection is cut while Docker changes, and Kata changes too while a person looks for the cause."""
    heard = [True]
    monkeypatch.setattr(converge.progress, "is_heard", lambda: heard[0])

    def cut(desired: dict[str, object], root: Path) -> dict[str, object]:
        heard[0] = False
        return {"changed": True, "version": desired["version"]}

    stage.acts["docker"] = cut
    with pytest.raises(NodeError) as ended:
        converge.run(copy.deepcopy(STATE), stage.root)
    assert ended.value.code == "run-ended" and stage.steps == ["preflight", "docker"]
    heard[0] = True
    assert stage.run() == ["kata"]


def test_what_was_put_back_by_hand_is_taken_again(stage: Stage) -> None:
    stage.run()
    restore.run({"node": "n"}, stage.root)
    assert stage.run() == ["preflight", "docker", "kata"]


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_bound_that_bounds_nothing_is_refused(stage: Stage, seconds: int) -> None:
    with pytest.raises(NodeError, match=f"Key dockerSeconds is {seconds}"):
        stage.run(changed(dockerSeconds=seconds))
    assert stage.steps == []


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_takes_too_long_is_rolled_back_and_named_and_taken_by_the_next_run(stage: Stage, step: str) -> None:
    """Lost if this fails: a site that never answers keeps a whole stack waiting until the connection is cut off."""
    file = stage.root / "etc/half"

    def hang(desired: dict[str, object], root: Path) -> dict[str, object]:
        file.touch()
        try:
            time.sleep(60)
        except BaseException:
            file.unlink()
            raise
        return {}

    stage.acts[step] = hang
    begin = time.monotonic()
    code, output = forked.verb("converge", stage.root, changed(**{f"{step}Seconds": 1}))
    assert time.monotonic() - begin < 20
    assert code == 128 + signal.SIGALRM and "this step takes too long and rolls back" in output and "[run-ended]" in output, (
        output
    )
    assert "Traceback" not in output and not file.exists()
    earlier, later = list(STEPS)[: [*STEPS].index(step)], list(STEPS)[[*STEPS].index(step) :]
    assert Converged(stage.root).taken() == earlier
    del stage.acts[step]
    assert stage.run() == later


def bounds(part: Callable[[], object]) -> tuple[int, str]:
    """Run it in a process of its own that obeys signals, and see whether something ends it within a second afterwards."""

    def whole() -> None:
        signals.obey()
        part()
        time.sleep(1)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

    return forked.run(whole)


def test_a_bound_ends_nothing_after_its_block() -> None:
    def short() -> None:
        with signals.bounded(0.3):
            time.sleep(0.1)

    def failing() -> None:
        with pytest.raises(NodeError), signals.bounded(0.3):
            raise NodeError("command-failed", "it failed")

    def one_after_the_other() -> None:
        for _ in range(3):
            with signals.bounded(0.5):
                time.sleep(0.3)

    for part in (short, failing, one_after_the_other):
        assert bounds(part) == (0, ""), part.__name__


def test_a_bound_that_is_over_during_a_way_back_waits_for_its_end_and_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost if this fails: what undoes something is cut off in the middle, or what hangs after it is never ended."""
    monkeypatch.setattr(signals, "AGAIN_SECONDS", 0.4)

    def part() -> None:
        with signals.bounded(0.1):
            with signals.undisturbed():
                time.sleep(0.3)
                os.write(2, b"undone\n")
            time.sleep(60)

    code, output = bounds(part)
    assert code == 128 + signal.SIGALRM and output.startswith("undone\n") and output.count("[run-ended]") == 1, output


def test_a_bound_reaches_no_program_that_a_step_starts() -> None:
    def part() -> None:
        with signals.bounded(0.3):
            child = os.fork()
            if child == 0:
                time.sleep(0.6)
                os._exit(0)
            with signals.undisturbed():
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                os.write(2, b"the child went on\n")

    assert bounds(part) == (0, "the child went on\n")


def desired(docker_version: str, *parameters: str, **keys: object) -> dict[str, object]:
    """For the steps themselves, on a node that answers from a file."""
    settings = Settings(docker_version, release=True, path=None, params=("user_namespace.enable=1", *parameters))
    seconds = {f"{step}Seconds": 60 for step in STEPS}
    states = {step: settings.state(step) for step in ("docker", "kata")}
    return {"node": "n", "program": "p", **states, **seconds, **keys}


@pytest.mark.slow
def test_the_steps_themselves_are_taken_once_each(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lay_out(root, OLD, [])
    (root / FOLDER.lstrip("/")).mkdir(parents=True)
    first = perform(root, "converge", desired(NEW))
    assert first.code == 0, first
    assert (first.document["taken"], first.document["changed"]) == ([*STEPS], True)
    after = tree(root)
    again = perform(root, "converge", desired(NEW))
    assert (again.code, again.document["taken"], again.document["changed"]) == (0, [], False)
    assert again.document["dockerVersion"] == first.document["dockerVersion"] and tree(root) == after
    assert perform(root, "converge", desired(NEW, "panic=1")).document["taken"] == ["kata"]


@pytest.mark.slow
def test_a_step_itself_that_takes_too_long_leaves_the_node_as_it_found_it(tmp_path: Path) -> None:
    """Here apt, which goes on and on once it has brought another Docker."""
    root = tmp_path / "root"
    programs = lay_out(root, OLD, [])
    (root / FOLDER.lstrip("/")).mkdir(parents=True)
    assert perform(root, "converge", desired(OLD)).code == 0
    files, packages = tree(root), programs.load().packages
    programs.change(lambda machine: machine.broken.append("slow"))
    ended = perform(root, "converge", desired(NEW, dockerSeconds=2))
    assert ended.code == 128 + signal.SIGALRM and "[run-ended]" in ended.output, ended
    assert programs.load().packages == packages
    assert {**tree(root), RECORD: ""} == {**files, RECORD: ""}
    assert perform(root, "converge", desired(OLD)).document["taken"] == ["docker"]
