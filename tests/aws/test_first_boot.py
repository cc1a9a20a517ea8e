"""First boot of a machine of a group: its script run as user data, with a stand-in for the node program and with the real one.

What would be lost if these failed: a machine that joins although it was not proven, a program that ran unverified.
"""

import hashlib
import http.server
import json
import os
import subprocess
import threading
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

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
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
    asked: list[str] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def store() -> Iterator[Store]:
    """One on loopback."""
    made = Store()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            answers = made.files.get(self.path.partition("?")[0], [404])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            if isinstance(answer, bytes):
                self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.port = server.server_port
    yield made
    server.shutdown()


@dataclass
class Machine:
    """A machine with folders of its own where the script writes, and what came of its first boot."""

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
            self.said = running.communicate(timeout=240)[1]
        return running.returncode

    @property
    def verdict(self) -> str:
        """The file that tells how it ended."""
        return (self.folder / "log/kata-nodes/first-boot").read_text()

    @property
    def console(self) -> str:
        """What stood on the console."""
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
def one(tmp_path: Path, store: Store) -> Machine:
    """A new one."""
    return Machine(tmp_path, store)


def test_proven_machine_joins_and_says_so(machine: Machine) -> None:
    assert machine.boot(machine.stand_in(), join=machine.join()) == 0, machine.said
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
def test_machine_whose_proof_or_anything_before_failed_does_not_join(one: Machine, verb: str) -> None:
    assert one.boot(one.stand_in(fails=verb), join=one.join()) == 1
    assert not one.joined
    assert [call["verb"] for call in one.calls] == list(VERBS[: VERBS.index(verb) + 1])
    for said in (one.verdict, one.console):
        assert f"failed: {os.uname().nodename}, {verb}: Node n: it ?[2Jis so. Do that. [proof-user-namespaces-zero]" in said
        assert "does not join" in said and "\x1b" not in said
    assert "a line of progress" in (one.folder / "log/kata-nodes/log").read_text()


def test_every_shell_keeps_a_failed_machine_out(machine: Machine) -> None:
    assert machine.boot(machine.stand_in(fails="prove"), join=machine.join()) == 1
    assert not machine.joined and "does not join" in machine.verdict


def test_verb_that_hangs_is_ended_and_the_machine_does_not_join(one: Machine) -> None:
    assert one.boot(one.stand_in(slow="docker"), join=one.join(), bound=1) == 1
    assert not one.joined and "docker: it did not end in 1 s" in one.verdict and "[command-timeout]" in one.verdict


def test_shutdown_in_the_middle_leaves_a_verdict_and_nothing_else(machine: Machine) -> None:
    """dash runs no trap of EXIT on a signal, and cloud-init does not run the script again."""
    assert machine.boot(machine.stand_in(slow="docker"), join=machine.join(), bound=2, shut_down_in="docker") != 0
    assert not machine.joined and "does not join" in machine.verdict
    assert not list((machine.folder / "lib/kata-nodes").glob("first-boot.*"))


def test_program_that_prints_no_result_of_its_own_is_no_proof(one: Machine) -> None:
    program = one.stand_in()
    assert one.boot(program.replace(b'print(json.dumps({"verb": verb}))', b'print(json.dumps({"verb": 1234}))')) == 1
    assert "[result-missing]" in one.verdict


def test_program_of_another_sum_never_runs(one: Machine) -> None:
    assert one.boot(one.stand_in(), sha256="0" * 64, join=one.join()) == 1
    assert one.calls == [] and not one.joined
    assert "[program-differs]" in one.verdict and "0" * 64 in one.verdict


def test_program_that_cannot_be_had_is_told_without_what_the_address_keeps_secret(one: Machine) -> None:
    one.store.files["/nodekit.pyz"] = [403]
    assert one.boot(one.stand_in(), join=one.join(), query="?signature=SECRET-SIGNATURE") == 1
    assert len(one.store.asked) == 8
    assert "403" in one.verdict and "/nodekit.pyz)" in one.verdict
    assert "SECRET-SIGNATURE" not in one.verdict + one.console + one.said


def test_store_that_stumbles_is_asked_again(one: Machine) -> None:
    program = one.stand_in()
    one.store.files["/nodekit.pyz"] = [503, program[:100], program]
    assert one.boot(program) == 0, one.said
    assert one.verdict.startswith("proven: ") and "no join script" in one.verdict


def test_failed_join_is_told_and_its_words_stay_in_a_file(one: Machine) -> None:
    assert one.boot(one.stand_in(), join=one.join(7)) == 1
    assert "is proven, and its join script ended with exit code 7" in one.verdict and "[join-failed]" in one.verdict
    assert "TOKEN" not in one.verdict + one.console + one.said
    assert (one.folder / "log/kata-nodes/join").read_text() == "TOKEN\n"


def test_the_container_runtime_comes_before_the_machine_is_looked_at(machine: Machine) -> None:
    runtime = f"#!/bin/sh\nset -e\ntest ! -e {machine.folder}/calls\ntouch {machine.folder}/runtime\n"
    assert machine.boot(machine.stand_in(), join=machine.join(), runtime=runtime) == 0, machine.said
    assert (machine.folder / "runtime").exists() and machine.joined and [one["verb"] for one in machine.calls] == list(VERBS)


def test_a_machine_without_its_container_runtime_is_not_made_a_node(one: Machine) -> None:
    assert one.boot(one.stand_in(), join=one.join(), runtime="#!/bin/sh\necho TOKEN\nexit 3\n") == 1
    assert not one.joined and one.calls == []
    assert "the runtime script ended with exit code 3" in one.verdict and "[runtime-script-failed]" in one.verdict
    assert "TOKEN" not in one.verdict + one.console and (one.folder / "log/kata-nodes/runtime").read_text() == "TOKEN\n"


def test_second_run_ends_alike(one: Machine) -> None:
    assert one.boot(one.stand_in(fails="prove"), join=one.join()) == 1
    one.store.files.clear()
    assert one.boot(one.stand_in(), join=one.join()) == 0
    assert one.joined and one.verdict.startswith("proven and joined")


def test_real_program_refuses_a_state_that_is_none_and_the_machine_does_not_join(one: Machine) -> None:
    """The real zipapp with its real bootstrap, on this machine: the states above are none of its own."""
    program = bundle.content()
    assert one.boot(program, join=one.join(), bound=120) == 1
    assert not one.joined
    assert "preflight: Key text is not known" in one.verdict and "[bad-input]" in one.verdict, one.said
    assert (one.folder / f"lib/kata-nodes/nodekit-{hashlib.sha256(program).hexdigest()[:12]}.pyz").read_bytes() == program
    assert json.loads((one.folder / "log/kata-nodes/preflight.json").read_text())["error"]["code"] == "bad-input"
