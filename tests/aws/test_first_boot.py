"""First boot of a machine of a group: its script run as user data, with a stand-in for the node program and with the real one.

What would be lost if these failed: a machine that joins although it was not proven, a program that ran unverified.
"""

import hashlib
import http.server
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aws import user_data
from delivery import bundle
from nodekit.scripts import script
from tests.serving import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root"),
]
SHELLS = ("dash", "bash")
"""What /bin/sh is where cloud-init runs."""
VERBS = ("preflight", "docker", "kata", "prove")
STATES = {verb: {"node": user_data.NODE, "verb": verb, "text": 'it\'s $HOME `id` \\ "é"'} for verb in VERBS}
STAND_IN = """
import json, os, sys, time
from pathlib import Path
verb, told = sys.argv[1], json.loads(sys.stdin.read())
with open("WHERE/calls", "a") as file:
    file.write(json.dumps({"verb": verb, "told": told, "join": "JOIN" in os.environ, "umask": os.umask(0)}) + "\\n")
print("a line of progress", file=sys.stderr)
if verb == "SLOW":
    time.sleep(60)
if verb == "FAILS":
    print("error: Node n: it \\x1b[2Jis so. Do that. [proof-user-namespaces-zero]", file=sys.stderr)
    sys.exit(1)
print(json.dumps({"verb": verb}))
"""
BOOTSTRAP = (
    '#!/bin/sh\nset -eu\nmkdir -p "$(dirname "$2")"\ncp "$1" "$2"\n'
    "python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' "
    '"$1" nodekit/run.sh >"$(dirname "$2")/run.sh"\necho "{}"\n'
)


@dataclass
class Store:
    """An object store: path -> answers, of which the last one stays."""

    files: dict[str, list[bytes | int]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
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
            self.send_response(answer if isinstance(answer, int) else 200)
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
        shut_down_in: str | None = None,
    ) -> int:
        """Run user data as cloud-init would, and end it as a shutdown in the middle of a verb would; the exit code."""
        self.store.files.setdefault("/nodekit.pyz", [program])
        text = user_data.first_boot(
            script("first_boot.sh", "aws"),
            program_address=f"http://127.0.0.1:{self.store.port}/nodekit.pyz{query}",
            program_sha256=sha256 or hashlib.sha256(program).hexdigest(),
            states=STATES,
            seconds=dict.fromkeys(VERBS, bound),
            join_script=join,
            runtime_script=runtime,
        )
        (self.folder / "user-data").write_text(text)
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
        argv = ["unshare", "--mount", "sh", "-c", f"{binds} && exec {self.shell} {self.folder / 'user-data'}"]
        with subprocess.Popen(argv, env={"PATH": path, "HOME": "/root"}, stderr=subprocess.PIPE, text=True) as running:
            while shut_down_in and not any(call["verb"] == shut_down_in for call in self.calls):
                assert running.poll() is None
                time.sleep(0.05)
            if shut_down_in:
                running.terminate()
            self.output = running.communicate(timeout=240)[1]
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
    def joined(self) -> bool:
        """Whether the join script ran."""
        return (self.folder / "joined").exists()

    def join(self, code: int = 0) -> str:
        """A join script that leaves a trace and ends with a code."""
        return f"#!/bin/sh\n# it's TOKEN\necho TOKEN\ntouch {self.folder}/joined\nexit {code}\n"

    def stand_in(self, fails: str = "none", slow: str = "none") -> bytes:
        """A node program that notes its calls."""
        file = self.folder / "stand-in.pyz"
        with zipfile.ZipFile(file, "w") as archive:
            code = STAND_IN.replace("WHERE", str(self.folder)).replace("FAILS", fails).replace("SLOW", slow)
            archive.writestr("__main__.py", code)
            archive.writestr("nodekit/system.sh", "echo '{}'\n")
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
    assert not list((machine.folder / "lib/kata-nodes").glob("first-boot.*"))
    assert (machine.folder / "log/kata-nodes").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("verb", VERBS)
def test_machine_whose_proof_or_anything_before_failed_does_not_join(dash_machine: Machine, verb: str) -> None:
    assert dash_machine.boot(dash_machine.stand_in(fails=verb), join=dash_machine.join()) == 1
    assert not dash_machine.joined
    assert [call["verb"] for call in dash_machine.calls] == list(VERBS[: VERBS.index(verb) + 1])
    for output in (dash_machine.verdict, dash_machine.console):
        assert f"failed: {os.uname().nodename}, {verb}: Node n: it ?[2Jis so. Do that. [proof-user-namespaces-zero]" in output
        assert "does not join" in output and "\x1b" not in output
    assert "a line of progress" in (dash_machine.folder / "log/kata-nodes/log").read_text()


def test_every_shell_keeps_a_failed_machine_out(machine: Machine) -> None:
    assert machine.boot(machine.stand_in(fails="prove"), join=machine.join()) == 1
    assert not machine.joined and "does not join" in machine.verdict


def test_verb_that_hangs_is_ended_and_the_machine_does_not_join(dash_machine: Machine) -> None:
    assert dash_machine.boot(dash_machine.stand_in(slow="docker"), join=dash_machine.join(), bound=1) == 1
    assert (
        not dash_machine.joined
        and "docker: it did not end in 1 s" in dash_machine.verdict
        and "[command-timeout]" in dash_machine.verdict
    )


def test_shutdown_in_the_middle_leaves_a_verdict_and_nothing_else(machine: Machine) -> None:
    """dash runs no trap of EXIT on a signal, and cloud-init does not run the script again."""
    assert machine.boot(machine.stand_in(slow="docker"), join=machine.join(), bound=2, shut_down_in="docker") != 0
    assert not machine.joined and "does not join" in machine.verdict
    assert not list((machine.folder / "lib/kata-nodes").glob("first-boot.*"))


def test_program_that_prints_no_result_of_its_own_proves_nothing(dash_machine: Machine) -> None:
    program = dash_machine.stand_in()
    assert dash_machine.boot(program.replace(b'print(json.dumps({"verb": verb}))', b'print(json.dumps({"verb": 1234}))')) == 1
    assert "[result-missing]" in dash_machine.verdict


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


def test_second_run_ends_alike(dash_machine: Machine) -> None:
    assert dash_machine.boot(dash_machine.stand_in(fails="prove"), join=dash_machine.join()) == 1
    dash_machine.store.files.clear()
    assert dash_machine.boot(dash_machine.stand_in(), join=dash_machine.join()) == 0
    assert dash_machine.joined and dash_machine.verdict.startswith("proven and joined")


def test_real_program_refuses_an_invalid_state_and_the_machine_does_not_join(dash_machine: Machine) -> None:
    """The real zipapp with its real bootstrap, on this machine, which refuses the states above."""
    program = bundle.content()
    assert dash_machine.boot(program, join=dash_machine.join(), bound=120) == 1
    assert not dash_machine.joined
    assert "preflight: Key text is not known" in dash_machine.verdict and "[bad-input]" in dash_machine.verdict, (
        dash_machine.output
    )
    assert (
        dash_machine.folder / f"lib/kata-nodes/nodekit-{hashlib.sha256(program).hexdigest()[:12]}.pyz"
    ).read_bytes() == program
    assert json.loads((dash_machine.folder / "log/kata-nodes/preflight.json").read_text())["error"]["code"] == "bad-input"
