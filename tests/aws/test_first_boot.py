"""First boot of a machine of a group: its script run as user data, with a stand-in for the node program and with the real one.

What would be lost if these failed: a machine that joins although it was not proven, a program that ran unverified.
"""

import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aws import user_data
from components.nodes.node_states import settings_of
from delivery import bundle
from delivery.scripts import sent
from nodekit.commands import converge
from nodekit.scripts import script
from tests.serving import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root"),
]
SHELLS = ("dash", "bash")
"""What /bin/sh is where cloud-init runs."""
VERBS = ("converge", "prove")
STEPS = (*converge.STEPS, "prove")
"""Those of the first verb, and the second."""
STATES: dict[str, Any] = {verb: {"node": user_data.NODE, "verb": verb, "text": 'it\'s $HOME `id` \\ "é"'} for verb in VERBS}
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
verb, told = sys.argv[1], json.loads(sys.stdin.read())
with open("WHERE/calls", "a") as file:
    file.write(json.dumps({"verb": verb, "told": told, "join": "JOIN" in os.environ, "umask": os.umask(0)}) + "\\n")
print("a line of progress", file=sys.stderr)
for step in ("preflight", "docker", "kata") if verb == "converge" else (verb,):
    announced = f"step {step}" if verb == "converge" else "proof: the ladder"
    print(f"{announced} ...", file=sys.stderr, flush=True)
    with open("WHERE/steps", "a") as file:
        file.write(step + "\\n")
    if step == "STEP":
        ACT
    print(f"{announced}: done in 0.1 s", file=sys.stderr)
print(json.dumps({"verb": verb}))
"""
FAIL = (
    'print(f"{announced}: failed after 0.1 s", file=sys.stderr); '
    'print("error: Node n: it \\x1b[2Jis so. Do that. [proof-user-namespaces-zero]", file=sys.stderr); sys.exit(1)'
)
HANG = "time.sleep(60)"
PLAYED = """
import os, time
def run(desired, root):
    with open("WHERE/steps", "a") as file:
        file.write("STEP\\n")
    if "STEP" == "HANGING":
        time.sleep(60)
    return {"changed": True, "version": "1", **desired}
"""
"""A verb of the real program, played: what it takes for this machine's is not."""
BOOTSTRAP = (
    '#!/bin/sh\nset -eu\nmkdir -p "$(dirname "$2")"\ncp "$1" "$2"\n'
    "python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' "
    '"$1" nodekit/run.sh >"$(dirname "$2")/run.sh"\necho "{}"\n'
)


def descendants(process: int) -> list[int]:
    """The process and all that it started."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [process, *(each for child in children for each in descendants(int(child)))]


@dataclass
class Store:
    """An object store: path -> answers, of which the last one stays: a file, a status, or where to look instead."""

    files: dict[str, list[bytes | int | str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    reason: str | None = None
    """Beside a status; without it that of the status."""
    port: int = 0


@pytest.fixture
def store() -> Iterator[Store]:
    """One on loopback."""
    object_store = Store()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            object_store.requests.append(self.path)
            answers = object_store.files.get(self.path.partition("?")[0], [404])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, str):
                self.send_response(302)
                self.send_header("Location", answer)
            else:
                self.send_response(answer if isinstance(answer, int) else 200, object_store.reason)
            self.end_headers()
            if isinstance(answer, bytes):
                self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        object_store.port = server.server_port
        yield object_store


@dataclass
class Machine:
    """A machine with folders of its own where the script writes, and the result of its first boot."""

    folder: Path
    store: Store
    shell: str = "dash"

    def boot(
        self,
        program: bytes,
        *,
        sha256: str | None = None,
        join: str | None = None,
        runtime: str | None = None,
        bound: int = 60,
        query: str = "",
        shut_down_at: Callable[[], bool] | None = None,
        terminate: bool = True,
        everything: bool = False,
        by: signal.Signals = signal.SIGTERM,
        unheard: bool = False,
        states: dict[str, Any] = STATES,
        edit: tuple[str, str] = ("", ""),
    ) -> int:
        """Run user data, its script edited, as cloud-init would, and end it, or everything that it started, as a shutdown at that
        time would; the exit code."""
        self.store.files.setdefault("/nodekit.pyz", [program])
        text = user_data.first_boot(
            sent("first_boot.sh", "aws").replace(*edit),
            program_address=f"http://127.0.0.1:{self.store.port}/nodekit.pyz{query}",
            program_sha256=sha256 or hashlib.sha256(program).hexdigest(),
            states=states,
            seconds=dict.fromkeys(VERBS, bound),
            join_script=join,
            runtime_script=runtime,
        )
        user_data_file = self.folder / f"user-data-{id(self)}"
        user_data_file.write_text(text)
        stand_ins = self.folder / "bin"
        for name in ("log", "lib", "state", "bin"):
            (self.folder / name).mkdir(exist_ok=True)
        (self.folder / "console").touch()
        (stand_ins / "sleep").write_text("#!/bin/sh\n")
        (stand_ins / "sleep").chmod(0o755)
        mounts = {"log": "/var/log", "lib": "/usr/local/lib", "state": "/var/lib/kata-nodes", "console": "/dev/console"}
        Path("/var/lib/kata-nodes").mkdir(exist_ok=True)
        binds = " && ".join(f"mount --bind {self.folder / name} {place}" for name, place in mounts.items())
        path = f"{stand_ins}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        argv = ["unshare", "--mount", "sh", "-c", f"{binds} && exec {self.shell} {user_data_file}"]
        with subprocess.Popen(argv, env={"PATH": path, "HOME": "/root"}, stderr=subprocess.PIPE, text=True) as running:
            while shut_down_at and not shut_down_at():
                assert running.poll() is None
                time.sleep(0.05)
            if shut_down_at and terminate:
                for process in descendants(running.pid) if everything else [running.pid]:
                    with suppress(ProcessLookupError):
                        os.kill(process, by)
            if unheard:
                assert running.stderr
                running.stderr.close()
            self.output = "" if unheard else running.communicate(timeout=240)[1]
            running.wait(timeout=240)
        return running.returncode

    @property
    def verdict(self) -> str:
        """The file that records how it ended."""
        return (self.folder / "log/kata-nodes/first-boot").read_text()

    @property
    def console(self) -> str:
        """What the console shows."""
        return (self.folder / "console").read_text()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What the stand-in was called with."""
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def steps(self) -> list[str]:
        """Steps and the proof that the stand-in began."""
        file = self.folder / "steps"
        return file.read_text().splitlines() if file.exists() else []

    def log(self, name: str = "log") -> str:
        """One of the files beside the verdict."""
        return (self.folder / "log/kata-nodes" / name).read_text()

    @property
    def joined(self) -> bool:
        """Whether the join script ran."""
        return (self.folder / "joined").exists()

    def leftovers(self) -> list[Path]:
        """What the script leaves beside the program and its logs."""
        return [*(self.folder / "lib/kata-nodes").glob("first-boot.*"), *Path("/run").glob("kata-nodes-said.*")]

    def join(self, code: int = 0) -> str:
        """A join script that leaves a trace and ends with a code."""
        return f"#!/bin/sh\n# it's TOKEN\necho TOKEN\ntouch {self.folder}/joined\nexit {code}\n"

    def stand_in(self, step: str = "none", act: str = FAIL, system: str = "echo '{}'\n") -> bytes:
        """A node program that notes its calls, and acts so at a step."""
        file = self.folder / "stand-in.pyz"
        with zipfile.ZipFile(file, "w") as archive:
            code = STAND_IN.replace("WHERE", str(self.folder)).replace("STEP", step).replace("ACT", act)
            archive.writestr("__main__.py", code)
            archive.writestr("nodekit/system.sh", system)
            archive.writestr("nodekit/bootstrap.sh", BOOTSTRAP)
            archive.writestr("nodekit/run.sh", script("run.sh"))
        return file.read_bytes()


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Machine:
    """A new one for each shell."""
    return Machine(tmp_path, store, request.param)


@pytest.fixture
def dash_machine(tmp_path: Path, store: Store) -> Machine:
    """A new one."""
    return Machine(tmp_path, store)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """A file system of its own over the folder, without any room."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        with suppress(OSError), (folder / "fill").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_proven_machine_joins_and_reports_it(machine: Machine) -> None:
    assert machine.boot(machine.stand_in(), join=machine.join()) == 0, machine.output
    host = os.uname().nodename
    assert [call["verb"] for call in machine.calls] == list(VERBS)
    for call in machine.calls:
        assert call["told"] == {**STATES[call["verb"]], "node": host}
        assert not call["join"] and call["umask"] == 0o022
    assert machine.joined
    assert machine.verdict == f"proven and joined: {host}\n"
    assert f"kata-nodes: proven and joined: {host}" in machine.console
    assert machine.leftovers() == []
    assert (machine.folder / "log/kata-nodes").stat().st_mode & 0o777 == 0o700
    documented = {"first-boot", "log", "system.json", "bootstrap.json", "converge.json", "prove.json", "join"}
    assert {path.name for path in (machine.folder / "log/kata-nodes").iterdir()} == documented
    assert json.loads(machine.log("converge.json")) == {"verb": "converge"}
    for step in converge.STEPS:
        assert f"kata-nodes: step {step} ...\nkata-nodes: step {step}: done in" in machine.output
        assert f"step {step} ...\nstep {step}: done in 0.1 s\n" in machine.log()


def test_machine_joins_although_nobody_reads_what_its_script_prints(machine: Machine) -> None:
    """cloud-init hands its output to a program of its own, which can end before the script does."""
    pipes = f"#!/bin/sh\nyes 2>{machine.folder}/complaint | head -n 1 >/dev/null\n"
    assert machine.boot(machine.stand_in(), join=machine.join(), runtime=pipes, unheard=True) == 0
    assert machine.joined and machine.verdict.startswith("proven and joined") and machine.leftovers() == []
    assert "step kata: done" in machine.log()
    assert (machine.folder / "complaint").read_text() == ""


@pytest.mark.parametrize("step", STEPS)
def test_machine_whose_proof_or_anything_before_failed_does_not_join(dash_machine: Machine, step: str) -> None:
    assert dash_machine.boot(dash_machine.stand_in(step), join=dash_machine.join()) == 1
    assert not dash_machine.joined
    assert dash_machine.steps == list(STEPS[: STEPS.index(step) + 1])
    where = step if step == "prove" else f"converge, step {step}"
    for output in (dash_machine.verdict, dash_machine.console):
        assert f"failed: {os.uname().nodename}, {where}: Node n: it ?[2Jis so. Do that. [proof-user-namespaces-zero]" in output
        assert "does not join" in output and "\x1b" not in output
    assert "a line of progress" in dash_machine.log()


def test_every_shell_keeps_a_failed_machine_out(machine: Machine) -> None:
    assert machine.boot(machine.stand_in("prove"), join=machine.join()) == 1
    assert not machine.joined and "does not join" in machine.verdict


def test_verb_that_hangs_is_ended_and_the_machine_does_not_join(machine: Machine) -> None:
    assert machine.boot(machine.stand_in("docker", HANG), join=machine.join(), bound=1) == 1
    assert not machine.joined and machine.steps == ["preflight", "docker"]
    assert "converge, step docker: it did not end in 1 s" in machine.verdict and "[command-timeout]" in machine.verdict


def test_step_is_named_only_while_it_runs(dash_machine: Machine) -> None:
    """Docker is not what to look at where the step after it could not begin."""
    failing = 'print("step docker: done in 0.1 s\\nerror: Node n: it ends. Do that. [run-ended]", file=sys.stderr); sys.exit(1)'
    assert dash_machine.boot(dash_machine.stand_in("docker", failing)) == 1
    assert f"failed: {os.uname().nodename}, converge: Node n: it ends. Do that. [run-ended]" in dash_machine.verdict


def test_verb_that_was_killed_is_not_said_to_have_taken_too_long(machine: Machine) -> None:
    assert machine.boot(machine.stand_in("kata", "os.kill(os.getpid(), signal.SIGKILL)"), join=machine.join()) == 1
    assert not machine.joined and "converge, step kata: " in machine.verdict
    assert "converge was killed" in machine.verdict and "[run-killed]" in machine.verdict


def test_verb_that_holds_out_against_its_bound_is_killed(dash_machine: Machine) -> None:
    ignoring = "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    assert dash_machine.boot(dash_machine.stand_in("docker", ignoring), bound=1, edit=("=30", "=1")) == 1
    assert "converge, step docker: it did not end in 1 s" in dash_machine.verdict


def test_shutdown_in_the_middle_leaves_a_verdict_and_nothing_else(machine: Machine) -> None:
    """dash runs no trap of EXIT on a signal, and cloud-init does not run the script again."""
    program = machine.stand_in("docker", HANG)
    assert machine.boot(program, join=machine.join(), bound=2, shut_down_at=lambda: "docker" in machine.steps) != 0
    assert not machine.joined and "does not join" in machine.verdict
    assert machine.leftovers() == []
    assert "step docker ...\n" in machine.log(), "the verdict sends its reader there"


def test_shutdown_waits_for_what_the_verb_undoes_and_keeps_what_it_says(machine: Machine) -> None:
    """A shutdown signals every process there is."""
    undo = 'time.sleep(0.5); print("step docker: failed after 1.0 s\\nerror: undone", file=sys.stderr); sys.exit(143)'
    act = f"signal.signal(signal.SIGTERM, lambda *_: exec({undo!r})); time.sleep(60)"
    program = machine.stand_in("docker", act)
    shut_down = {"shut_down_at": lambda: "docker" in machine.steps, "everything": True}
    assert machine.boot(program, join=machine.join(), **shut_down) != 0  # type: ignore[arg-type]
    assert machine.log().rstrip().endswith("error: undone") and "does not join" in machine.verdict
    assert machine.leftovers() == [] and not machine.joined


def test_what_a_verb_says_is_in_the_log_while_it_runs(machine: Machine) -> None:
    """A first boot can take an hour, in which the machine would show nothing of it."""
    program = machine.stand_in("docker", HANG)

    def visible() -> bool:
        return (machine.folder / "log/kata-nodes/log").exists() and "step docker ...\n" in machine.log()

    assert machine.boot(program, bound=3, shut_down_at=visible) != 0


def test_shutdown_while_the_machine_joins_does_not_say_that_it_stays_out(dash_machine: Machine) -> None:
    join = dash_machine.join().replace("exit 0", "/bin/sleep 2")
    assert dash_machine.boot(dash_machine.stand_in(), join=join, shut_down_at=lambda: dash_machine.joined) != 0
    assert "ended early" in dash_machine.verdict and "does not join" not in dash_machine.verdict
    assert "Its join script had begun." in dash_machine.verdict


def test_program_that_prints_no_result_of_its_own_proves_nothing(dash_machine: Machine) -> None:
    program = dash_machine.stand_in()
    assert dash_machine.boot(program.replace(b'print(json.dumps({"verb": verb}))', b'print(json.dumps({"verb": 1234}))')) == 1
    assert "[result-missing]" in dash_machine.verdict


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("sys.exit(0)", "[result-missing]"),
        ('print("\\x00\\x1b[2J{"); sys.exit(0)', "[result-missing]"),
        ('os.write(2, b"\\xff\\x00\\x1b[2J\\n" * 9); sys.exit(7)', "exit code 7 and gave no reason; its last line is: [2J. See"),
        ('print("error: " + "x" * 99999, file=sys.stderr); sys.exit(1)', "step kata: xxx"),
    ],
)
def test_verb_that_prints_nothing_or_anything_proves_nothing(dash_machine: Machine, act: str, reason: str) -> None:
    assert dash_machine.boot(dash_machine.stand_in("kata", act), join=dash_machine.join()) == 1
    assert not dash_machine.joined and reason in dash_machine.verdict and "does not join" in dash_machine.verdict
    assert "\x1b" not in dash_machine.verdict + dash_machine.output and len(dash_machine.verdict) < 4000


@pytest.mark.parametrize("folder", ["log", "lib"])
def test_full_disk_is_reported_on_the_console_with_its_reason(machine: Machine, folder: str) -> None:
    """Lost if this fails: a machine that says nothing at all, not even that it is not a node."""
    program = machine.stand_in("docker")
    with filled(machine.folder / folder):
        assert machine.boot(program, join=machine.join()) == 1
    reason = "system: it ended" if folder == "log" else "[file-unwritable]"
    assert folder == "lib" or "I/O error" in machine.console
    assert not machine.joined and reason in machine.console and "does not join" in machine.console, machine.output


def test_file_system_that_cannot_be_written_is_reported_on_the_console(dash_machine: Machine) -> None:
    program = dash_machine.stand_in()
    (dash_machine.folder / "lib/kata-nodes").mkdir(parents=True)
    (dash_machine.folder / "lib/kata-nodes/first-boot.old").touch()
    subprocess.run(["mount", "--bind", "-o", "ro", dash_machine.folder / "lib", dash_machine.folder / "lib"], check=True)
    try:
        assert dash_machine.boot(program, join=dash_machine.join()) == 1
    finally:
        subprocess.run(["umount", "--lazy", dash_machine.folder / "lib"], check=True)
    assert "cannot be written" in dash_machine.console and "[file-unwritable]" in dash_machine.console


def test_second_run_beside_the_first_leaves_it_alone(machine: Machine) -> None:
    """Lost if this fails: a machine that joins twice, whose second join fails and takes the place of the verdict."""
    program = machine.stand_in("docker", "time.sleep(2)")
    second = Machine(machine.folder, machine.store, machine.shell)
    codes = []

    def start_second() -> bool:
        if "docker" not in machine.steps:
            return False
        codes.append(second.boot(program, join=machine.join(7)))
        return True

    assert machine.boot(program, join=machine.join(), shut_down_at=start_second, terminate=False) == 0, machine.output
    assert codes == [1] and "[node-busy]" in second.output
    assert machine.verdict.startswith("proven and joined") and machine.steps == list(STEPS)


def test_run_after_one_that_was_cut_off_shows_nothing_of_it(dash_machine: Machine) -> None:
    """Nor of the machine from whose image this one was made: a proof that is not this machine's."""
    logs, lib = dash_machine.folder / "log/kata-nodes", dash_machine.folder / "lib/kata-nodes"
    for file in (logs / "prove.json", logs / "join", logs / "log", logs / "first-boot", lib / "first-boot.abcdef" / "join"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("of another\n")
    assert dash_machine.boot(dash_machine.stand_in("preflight"), join=dash_machine.join()) == 1
    assert {path.name for path in logs.iterdir()} == {
        "first-boot", "log", "log.before", "system.json", "bootstrap.json", "converge.json"
    }  # fmt: skip
    assert "of another" not in dash_machine.log() and dash_machine.log("log.before") == "of another\n"
    assert dash_machine.leftovers() == []


def test_program_of_another_sum_never_runs(dash_machine: Machine) -> None:
    assert dash_machine.boot(dash_machine.stand_in(), sha256="0" * 64, join=dash_machine.join()) == 1
    assert dash_machine.calls == [] and not dash_machine.joined
    assert "[program-differs]" in dash_machine.verdict and "0" * 64 in dash_machine.verdict


def test_program_that_cannot_be_downloaded_is_reported_without_the_secrets_of_its_address(dash_machine: Machine) -> None:
    dash_machine.store.files["/nodekit.pyz"] = [403]
    assert dash_machine.boot(dash_machine.stand_in(), join=dash_machine.join(), query="?signature=SECRET-SIGNATURE") == 1
    assert len(dash_machine.store.requests) == 8
    assert "403" in dash_machine.verdict and "/nodekit.pyz)" in dash_machine.verdict
    assert "SECRET-SIGNATURE" not in dash_machine.verdict + dash_machine.console + dash_machine.output


def test_download_that_never_ends_is_reported_with_its_bound(dash_machine: Machine) -> None:
    assert dash_machine.boot(dash_machine.stand_in(), edit=("DOWNLOAD_SECONDS=300", "DOWNLOAD_SECONDS=0.01")) == 1
    assert "the node program is not downloaded in 0.01 s (http://" in dash_machine.verdict


@pytest.mark.parametrize(
    ("answer", "reason"), [("/nodekit.pyz", "would lead to an infinite loop"), ("file:///etc/shadow", "is not allowed")]
)
def test_store_that_sends_machines_elsewhere_is_reported_in_one_line(dash_machine: Machine, answer: str, reason: str) -> None:
    dash_machine.store.files["/nodekit.pyz"] = [answer]
    assert dash_machine.boot(dash_machine.stand_in()) == 1
    assert "the node program cannot be downloaded: HTTP Error 302" in dash_machine.verdict and reason in dash_machine.verdict


def test_store_that_says_a_lot_does_not_fill_the_console(dash_machine: Machine) -> None:
    dash_machine.store.files["/nodekit.pyz"] = [403]
    dash_machine.store.reason = "x" * 60000
    assert dash_machine.boot(dash_machine.stand_in()) == 1
    assert "HTTP Error 403: xxx" in dash_machine.verdict and len(dash_machine.verdict) < 1000


def test_store_that_stumbles_is_asked_again(dash_machine: Machine) -> None:
    program = dash_machine.stand_in()
    dash_machine.store.files["/nodekit.pyz"] = [503, program[:100], program]
    assert dash_machine.boot(program) == 0, dash_machine.output
    assert dash_machine.verdict.startswith("proven: ") and "no join script" in dash_machine.verdict


def test_failed_join_is_reported_and_its_output_stays_in_a_file(dash_machine: Machine) -> None:
    assert dash_machine.boot(dash_machine.stand_in(), join=dash_machine.join(7)) == 1
    assert (
        "is proven, and its join script ended with exit code 7" in dash_machine.verdict
        and "[join-failed]" in dash_machine.verdict
    )
    assert "TOKEN" not in dash_machine.verdict + dash_machine.console + dash_machine.output
    assert (dash_machine.folder / "log/kata-nodes/join").read_text() == "TOKEN\n"


def test_the_container_runtime_comes_before_the_machine_is_looked_at(machine: Machine) -> None:
    runtime = f"#!/bin/sh\nset -e\ntest ! -e {machine.folder}/calls\ntouch {machine.folder}/runtime\n"
    assert machine.boot(machine.stand_in(), join=machine.join(), runtime=runtime) == 0, machine.output
    assert (machine.folder / "runtime").exists() and machine.joined and [call["verb"] for call in machine.calls] == list(VERBS)


def test_a_machine_without_its_container_runtime_is_not_made_a_node(dash_machine: Machine) -> None:
    assert dash_machine.boot(dash_machine.stand_in(), join=dash_machine.join(), runtime="#!/bin/sh\necho TOKEN\nexit 3\n") == 1
    assert not dash_machine.joined and dash_machine.calls == []
    assert (
        "the runtime script ended with exit code 3" in dash_machine.verdict and "[runtime-script-failed]" in dash_machine.verdict
    )
    assert (
        "TOKEN" not in dash_machine.verdict + dash_machine.console
        and (dash_machine.folder / "log/kata-nodes/runtime").read_text() == "TOKEN\n"
    )


@pytest.mark.parametrize("name", ["join", "runtime"])
def test_script_that_takes_too_long_says_so(dash_machine: Machine, name: str) -> None:
    scripts = {name: "#!/bin/sh\nexec /bin/sleep 60\n"}
    assert dash_machine.boot(dash_machine.stand_in(), **scripts, edit=("SCRIPT_SECONDS=1800", "SCRIPT_SECONDS=1")) == 1  # type: ignore[arg-type]
    assert f"{name} script ended with exit code 124, as where it takes longer than 1 s. See" in dash_machine.verdict


def test_second_run_ends_alike(dash_machine: Machine) -> None:
    assert dash_machine.boot(dash_machine.stand_in("prove"), join=dash_machine.join()) == 1
    dash_machine.store.files.clear()
    assert dash_machine.boot(dash_machine.stand_in(), join=dash_machine.join()) == 0
    assert dash_machine.joined and dash_machine.verdict.startswith("proven and joined")


def real_program(folder: Path, hanging: str = "none") -> bytes:
    """The real one, whose steps and proof are played."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle.content())) as whole, zipfile.ZipFile(content, "w") as played:
        for name in whole.namelist():
            step = Path(name).stem if name.startswith("nodekit/commands/") else ""
            code = PLAYED.replace("WHERE", str(folder)).replace("STEP", step).replace("HANGING", hanging)
            played.writestr(name, code if step in STEPS else whole.read(name))
    return content.getvalue()


def real_states(**seconds: int) -> dict[str, Any]:
    """Of the component's own making."""
    converge, prove = settings_of({}).states(user_data.NODE, {"program": "p"})
    assert isinstance(prove, dict)
    return {"converge": {**converge, **seconds}, "prove": prove}


def test_real_program_takes_every_step_at_each_first_boot(dash_machine: Machine) -> None:
    """Lost if this fails: a machine from an image of a node, with its machine id, of which the record there counts."""
    program = real_program(dash_machine.folder)
    for _ in range(2):
        (dash_machine.folder / "steps").unlink(missing_ok=True)
        assert dash_machine.boot(program, join=dash_machine.join(), states=real_states()) == 0, dash_machine.output
        assert dash_machine.steps == list(STEPS) and dash_machine.verdict.startswith("proven and joined")
        assert json.loads(dash_machine.log("converge.json"))["taken"] == list(converge.STEPS)
        assert json.loads(dash_machine.log("prove.json"))["node"] == os.uname().nodename
        record = json.loads((dash_machine.folder / "lib/kata-nodes/converged.json").read_text())
        assert list(record["steps"]) == list(converge.STEPS)


def test_run_after_a_power_cut_takes_every_step_and_clears_what_was_left(dash_machine: Machine) -> None:
    """No process lives to say or to remove anything."""
    cut: dict[str, Any] = {"shut_down_at": lambda: "docker" in dash_machine.steps, "everything": True, "by": signal.SIGKILL}
    program = real_program(dash_machine.folder, "docker")
    assert dash_machine.boot(program, join=dash_machine.join(), runtime="#!/bin/sh\n", states=real_states(), **cut) != 0
    logs = dash_machine.folder / "log/kata-nodes"
    assert not (logs / "first-boot").exists() and "step docker ...\n" in dash_machine.log() and dash_machine.leftovers()
    for path in Path("/run").glob("kata-nodes-said.*"):  # a memory file system, so it does not outlive the power
        path.unlink()
    (dash_machine.folder / "steps").unlink()
    dash_machine.store.files.clear()
    program = real_program(dash_machine.folder)
    assert dash_machine.boot(program, join=dash_machine.join(), states=real_states()) == 0, dash_machine.output
    assert dash_machine.steps == list(STEPS) and dash_machine.joined and dash_machine.leftovers() == []
    assert not (logs / "runtime").exists() and "step docker ...\n" in dash_machine.log("log.before")


@pytest.mark.parametrize("step", converge.STEPS)
def test_step_of_the_real_program_that_takes_too_long_is_named(dash_machine: Machine, step: str) -> None:
    program = real_program(dash_machine.folder, step)
    assert dash_machine.boot(program, join=dash_machine.join(), states=real_states(**{f"{step}Seconds": 1})) == 1
    assert f"converge, step {step}: " in dash_machine.verdict and "this step takes too long" in dash_machine.verdict
    assert "[run-ended]" in dash_machine.verdict and not dash_machine.joined
    assert f"step {step}: failed after 1." in dash_machine.log()


def test_real_program_refuses_an_invalid_state_and_the_machine_does_not_join(dash_machine: Machine) -> None:
    """The real zipapp with its real bootstrap, on this machine, which refuses the states above."""
    program = bundle.content()
    assert dash_machine.boot(program, join=dash_machine.join(), bound=120) == 1
    assert not dash_machine.joined
    assert "converge: Key text is not known" in dash_machine.verdict and "[bad-input]" in dash_machine.verdict, (
        dash_machine.output
    )
    assert (
        dash_machine.folder / f"lib/kata-nodes/nodekit-{hashlib.sha256(program).hexdigest()[:12]}.pyz"
    ).read_bytes() == program
    assert json.loads(dash_machine.log("converge.json"))["error"]["code"] == "bad-input"
