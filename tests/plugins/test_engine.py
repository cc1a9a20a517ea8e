"""Real runs of the engine: what is created, kept secret, shown, refused and ended."""

import signal
import time
from pathlib import Path

import pytest
from conftest import Sshd, Stack, free_port, new_key
from test_local import is_gone

pytestmark = pytest.mark.engine


def wait_for(path: Path, text: str = "") -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{path} never had {text!r}"
        time.sleep(0.05)


def test_life_of_a_command(stack: Stack, sshd: Sshd, tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    def program(**arguments: str) -> None:
        properties = "".join(f"    {name}={value},\n" for name, value in arguments.items())
        stack.program(
            f"node = remote.Command('node',\n    connection={sshd.connection!r},\n"
            f"    delete='echo delete after $PULUMI_COMMAND_STDOUT >> {journal}; cat >> {journal}',\n{properties})\n"
            "pulumi.export('printed', node.stdout)\n"
        )

    create = f"'echo create >> {journal}; cat >> {journal}; echo one'"
    secret = "pulumi.Output.secret('hidden-word\\n')"
    program(create=create, stdin=secret)
    preview = stack.run("preview")
    assert "node create" in preview and "printed: [unknown]" in preview
    assert sshd.contacts() == 0

    output = stack.up()
    assert journal.read_text() == "create\nhidden-word\n"
    assert output.count("stands in for the official pulumi-command 1.2.1") >= 1
    assert sshd.logins() == 1

    exported = stack.run("stack", "export")
    assert "hidden-word" not in exported
    assert sshd.private_key.splitlines()[1] not in exported and "OPENSSH PRIVATE KEY" not in exported
    outputs = stack.state()["node"]["outputs"]
    assert outputs["stdout"] == "one" and outputs["stderr"] == ""
    assert "ciphertext" in outputs["connection"] and "ciphertext" in outputs["stdin"]

    stack.up("--expect-no-changes")
    assert sshd.logins() == 1

    # No `update`: `create` runs again. With one: that runs, and knows what was printed before.
    journal.write_text("")
    program(create=create, stdin="'second\\n'")
    assert "1 updated" in stack.up()
    assert journal.read_text() == "create\nsecond\n"
    journal.write_text("")
    program(create=create, update=f"'echo update after $PULUMI_COMMAND_STDOUT >> {journal}; echo two'")
    assert "1 updated" in stack.up()
    assert journal.read_text() == "update after one\n"

    journal.write_text("")
    program(create=create, update="'false'", triggers="['changed']", stdin="'third\\n'")
    assert "1 replaced" in stack.up()
    assert journal.read_text() == "create\nthird\ndelete after two\n"

    journal.write_text("")
    program(create=create, update="'false'", triggers="['again']", stdin="'fourth\\n'")
    assert "1 replaced" in stack.up()
    assert journal.read_text() == "create\nfourth\ndelete after one\nthird\n"

    journal.write_text("")
    stack.run("destroy", "--yes", "--skip-preview")
    assert journal.read_text() == "delete after one\nfourth\n"


def test_twenty_commands_share_a_connection_and_show_progress(stack: Stack, sshd: Sshd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    stack.program(
        f"for n in range(20):\n    remote.Command(f'node{{n}}', connection={sshd.connection!r},\n"
        f"        create=f'echo ready {{n}}; until [ -e {gate} ]; do sleep 0.1; done; exit $(({{n}} == 7 ? 3 : 0))')\n"
    )
    process = stack.start("up", "--yes", "--skip-preview", "--parallel", "32")
    assert process.stdout is not None
    waiting = {f"ready {n}" for n in range(20)}
    seen = ""
    for line in process.stdout:
        seen += line
        waiting -= {text for text in waiting if line.rstrip().endswith(text)}
        if not waiting:
            gate.touch()  # all twenty run at once, and each has shown its line before it ends
            break
    seen += process.stdout.read()
    assert not waiting, seen
    assert process.wait() != 0
    assert "19 created" in seen and "Process exited with status 3: running" in seen
    assert sshd.logins() == 1
    assert "node7" not in stack.state() and "node8" in stack.state()


def test_refusals_are_sentences(stack: Stack, sshd: Sshd) -> None:
    _, wrong_host_key = new_key()
    wrong_key, _ = new_key()
    port = free_port()
    node = sshd.connection
    stack.program(
        f"remote.Command('host-key', create='true', connection={{**{node!r}, 'hostKey': {wrong_host_key!r}}})\n"
        f"remote.Command('login', create='true', connection={{**{node!r}, 'privateKey': {wrong_key!r}}})\n"
        f"remote.Command('port', create='true', connection={{**{node!r}, 'port': {port}}})\n"
        "local.Command('local', create='echo why; exit 4')\n"
        "local.Command('slow', create='sleep 30', opts=pulumi.ResourceOptions(\n"
        "    custom_timeouts=pulumi.CustomTimeouts(create='1s')))\n"
    )
    start = time.monotonic()
    output = stack.up("--continue-on-error", fails=True)
    assert time.monotonic() - start < 20
    assert f"host key mismatch: 127.0.0.1:{sshd.port} presents ssh-ed25519 SHA256:" in output
    assert "but connection.hostKey is ssh-ed25519 SHA256:" in output
    assert f"127.0.0.1:{sshd.port} refused to let {sshd.user} log in with private key SHA256:" in output
    assert f"cannot reach 127.0.0.1:{port}: " in output
    assert 'exit status 4: running "echo why; exit 4":\n' in output
    assert "ended because it took longer than the 1 s" in output
    assert sshd.logins() == 0


def test_what_the_official_plugin_has_more_is_refused(stack: Stack) -> None:
    stack.program("local.run(command='true')\n")
    assert "command:local:run is not part of this stand-in" in stack.run("preview", fails=True)


def test_copies_follow_their_source(stack: Stack, sshd: Sshd, tmp_path: Path) -> None:
    source, target, words = tmp_path / "source", tmp_path / "target", tmp_path / "words"
    source.write_text("first")
    stack.program(
        f"copy = remote.CopyToRemote('copy', connection={sshd.connection!r},\n"
        f"    source=pulumi.FileAsset({str(source)!r}), remote_path={str(target)!r})\n"
        f"remote.CopyToRemote('words', connection={sshd.connection!r},\n"
        f"    source=pulumi.StringAsset('in words'), remote_path={str(words)!r})\n"
    )
    stack.up()
    assert (target.read_text(), words.read_text()) == ("first", "in words")
    assert sshd.logins() == 1
    stack.up("--expect-no-changes")
    source.write_text("second")
    assert "1 updated" in stack.up()
    assert target.read_text() == "second"
    stack.run("destroy", "--yes", "--skip-preview")
    assert target.exists()


def test_interrupted_leaves_no_local_process(stack: Stack, sshd: Sshd, tmp_path: Path) -> None:
    child, started = tmp_path / "child", tmp_path / "started"
    stack.program(
        f"local.Command('local', create='sleep 300 & echo $! > {child}; wait')\n"
        f"remote.Command('remote', connection={sshd.connection!r}, create='touch {started}; exec sleep 20')\n"
    )
    process = stack.start("up", "--yes", "--skip-preview")
    wait_for(child, "\n")
    wait_for(started)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "ended because the update was cancelled" in output, output
    assert is_gone(int(child.read_text()))


def test_the_plugin_and_its_commands_end_with_an_engine_that_was_killed(stack: Stack, tmp_path: Path) -> None:
    child = tmp_path / "child"
    stack.program(f"local.Command('local', create='sleep 300 & echo $PPID $! > {child}; wait')\n")
    process = stack.start("up", "--yes", "--skip-preview")
    wait_for(child, "\n")
    process.kill()
    process.wait()
    for pid in child.read_text().split():
        assert is_gone(int(pid))
