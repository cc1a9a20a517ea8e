"""The command `kata-nodes` as a process, against an engine that answers at once.

What would be lost if these failed: one sentence, not a traceback, where a node is named that is not there; an engine that ends by
itself where a person ends the command; the stack that is selected, where another organization has one of its name; and a watch
that sees what an `up` beside it makes.
"""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fleet.__main__
from fleet import engine
from fleet.__main__ import app
from fleet.errors import FleetError
from fleet.measure import Measured
from fleet.stack import Answers
from local.process import free_port
from tests.fleet import samples
from tests.fleet.test_rules import KEY, deployment

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = '{"version": 3, "deployment": {"manifest": {}, "resources": []}}'


@pytest.mark.parametrize("argv", [["prove", "n9"], ["explain", "n9"], ["overhead", "n9"]])
def test_node_that_is_not_there_is_a_sentence_alone(tmp_path: Path, argv: list[str]) -> None:
    engine = tmp_path / "pulumi"
    engine.write_text(f"#!/bin/sh\necho '{STATE}'\n")
    engine.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "fleet", *argv, "--stack", "rack"]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith("has no node 'n9'. Its nodes: none.\n") and len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("argv", [["prove", "n1"], ["explain", "n1"], ["overhead", "n1"]])
def test_node_whose_machine_is_gone_is_not_called_unknown(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """`status` lists it."""
    monkeypatch.setattr(engine, "deployment", lambda _: deployment(retainOnDelete=True))
    ended = CliRunner().invoke(app, [*argv, "--stack", "rack"])
    assert (ended.exit_code, ended.stdout) == (1, "") and "error: Node n1 is gone" in ended.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ["drift", "a", "b"], ["drift", "--timeout", "0"], ["drift", "--timeout", "inf"], ["status", "--watch", "inf"],
        ["overhead", "n1", "--timeout", "inf"], ["cure", "--no"], ["--no"], ["drifts"],
    ],
)  # fmt: skip
def test_wrong_command_line_is_no_drift(argv: list[str]) -> None:
    """2 says that something differs, and scripts act on it."""
    ended = CliRunner().invoke(app, argv)
    assert (ended.exit_code, ended.stdout) == (1, "") and "Usage: " in ended.stderr


@pytest.mark.parametrize(
    "argv", [["cure", "", "--yes"], ["status", " "], ["prove", "n1", "--stack", ""], ["report", ""], ["report", "--fleet", ""]]
)
def test_empty_name_is_not_the_stack_that_is_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """A script's variable that is not set: `cure --yes` would have repaired any stack, without a question."""
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\necho '{STATE}'\n")
    (tmp_path / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ended = CliRunner().invoke(app, argv)
    assert ended.exit_code == 1 and "stack's name is empty" in ended.output and not (tmp_path / "asked").exists()


def test_empty_version_is_not_the_default_one() -> None:
    for option in ("--docker", "--kata"):
        ended = CliRunner().invoke(app, ["compat", option, ""])
        assert (ended.exit_code, ended.stdout) == (1, "") and "version '' is not one" in ended.stderr


SLOW_END = """\
import pathlib, signal, sys, time

def end(*_):
    time.sleep(1.5)
    pathlib.Path("ended").write_text("by itself")
    sys.exit(7)

signal.signal(signal.SIGINT, end)
pathlib.Path("begun").touch()
time.sleep(60)
"""
"""An engine that takes a while to end, as the real one does: it waits for its resources, and writes the state."""


def test_engine_that_is_interrupted_ends_by_itself(tmp_path: Path) -> None:
    (tmp_path / "pulumi").write_text(f"#!{sys.executable}\n{SLOW_END}")
    (tmp_path / "pulumi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    code = "import sys; from fleet import engine; sys.exit(engine.up('rack', [], yes=True))"
    # As a shell on a terminal does it: a group of its own, all of which gets the signal.
    with subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=tmp_path, start_new_session=True) as command:
        while not (tmp_path / "begun").exists():
            assert command.poll() is None
            time.sleep(0.05)
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(30) == 7
    assert (tmp_path / "ended").read_text() == "by itself"


def test_interrupt_while_modules_load_shows_none_of_their_inside(tmp_path: Path) -> None:
    """Loading takes a tenth of a second and more, in which a person who typed the wrong stack has often pressed Ctrl-C."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nos.sched_yield()\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{CHECKOUT}"}
    command = [sys.executable, "-m", "fleet", "status"]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("home", [{}, {"HOME": "/"}])
def test_user_without_a_name_gets_answers_and_no_traceback(tmp_path: Path, home: dict[str, str]) -> None:
    """As in a container that runs with any user id, where HOME can be missing too."""
    state = json.dumps({"version": 3, "deployment": deployment()}).replace(f'\\"hostKey\\": \\"{KEY}', '\\"x\\": \\"')
    state = state.replace("10.0.0.5", "127.0.0.1").replace('\\"port\\": 22', f'\\"port\\": {free_port()}')
    (tmp_path / "state").write_text(state)
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\ncat {tmp_path}/state\n")
    (tmp_path / "pulumi").chmod(0o755)
    without_names = "import pwd\ndef unknown(number): raise KeyError(number)\npwd.getpwuid = unknown\n"
    (tmp_path / "sitecustomize.py").write_text(without_names)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": f"{tmp_path}:{CHECKOUT}", **home}
    for verb, expected in (("status", "cannot reach 127.0.0.1:"), ("doctor", "ssh keys: none in /.ssh")):
        command = [sys.executable, "-m", "fleet", verb, "rack"]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (1, "") and expected in ended.stdout


@pytest.mark.parametrize(
    ("qualified", "name"),
    [("acme/kata-nodes/rack", "acme/rack"), ("organization/kata-nodes/rack", "rack"), ("rack", "rack")],
)
def test_selected_stack_keeps_its_organization(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qualified: str, name: str
) -> None:
    """Of two organizations that have a stack of one name, the engine takes a name alone for that of the default one."""
    (tmp_path / "pulumi").write_text(
        '#!/bin/sh\ncase " $* " in *" --fully-qualify-stack-names "*) echo "$QUALIFIED" ;; *) echo "${QUALIFIED##*/}" ;; esac\n'
    )
    (tmp_path / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("QUALIFIED", qualified)
    assert engine.selected(None) == name
    assert engine.selected("other") == "other"


def test_selected_stack_is_that_of_the_engine_that_a_person_types(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`tools/kata-nodes` runs an engine with a folder of its own, in which nobody has selected any."""
    (tmp_path / "pulumi").write_text('#!/bin/sh\ncat "$PULUMI_HOME/workspaces/selected"\n')
    (tmp_path / "pulumi").chmod(0o755)
    for home in ("theirs", "ours"):
        (tmp_path / home / "workspaces").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "ours"))
    monkeypatch.setenv("KATA_NODES_SELECTED_IN", str(tmp_path / "theirs"))
    (tmp_path / "ours/workspaces/selected").write_text("pile\n")
    assert engine.selected(None) == "pile", "nothing is selected in theirs"
    (tmp_path / "theirs/workspaces/selected").write_text("acme/kata-nodes/rack\n")
    assert engine.selected(None) == "acme/rack" and engine.selected("x") == "x"
    monkeypatch.setenv("KATA_NODES_SELECTED_IN", str(tmp_path / "absent"))
    assert engine.selected(None) == "pile"
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(("encoding", "name"), [("utf-8", "r\u00e4ck\u2026"), ("latin-1", "r\u00e4ck?"), ("ascii", "r?ck?")])
def test_text_that_the_locale_cannot_show_costs_no_answer(tmp_path: Path, encoding: str, name: str) -> None:
    """Causes that are cut end with an ellipsis, which few encodings have."""
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\necho '{STATE}'\n")
    (tmp_path / "pulumi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "fleet", "drift", "r\u00e4ck\u2026"]
    environment["PYTHONIOENCODING"] = encoding
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode(encoding) == f"Stack {name}: Nothing that was measured differs.\n"


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_log_of_ci_has_plain_lines_whatever_the_environment_says_of_colors(tmp_path: Path, variable: str) -> None:
    """Else a table is folded at 80 columns there, and each turn of the progress line is kept."""
    (tmp_path / "state.json").write_text(json.dumps({"deployment": deployment()}))
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\ncat {tmp_path}/state.json\n")
    (tmp_path / "pulumi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT), variable: "1"}
    for argv in (["status", "rack", "--timeout", "1"], ["compat"], ["explain", "n1", "--stack", "rack", "--timeout", "1"]):
        command = [sys.executable, "-m", "fleet", *argv]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "\x1b" not in ended.stdout + ended.stderr and "\u2500" not in ended.stdout
        assert argv[0] != "status" or (len(ended.stdout.splitlines()), ended.stderr) == (3, "")


def test_progress_line_is_as_long_as_it_counts_on_a_terminal_of_another_encoding(tmp_path: Path) -> None:
    """A letter that it cannot show was escaped, which is longer, so that the lines before stayed on the screen."""
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\ncat {tmp_path}/state.json\n")
    (tmp_path / "pulumi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    environment |= {"PYTHONIOENCODING": "latin-1", "TERM": "xterm"}
    command = [sys.executable, "-m", "fleet", "status", "rack", "--timeout", "1"]
    terminal, other_end = pty.openpty()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        node = json.dumps(deployment()).replace("n1", "kn\u00f6tchen\u2026").replace("10.0.0.5", "127.0.0.1")
        node = node.replace(': 22, \\"user', f': {silent.getsockname()[1]}, \\"user').replace(
            f'\\"hostKey\\": \\"{KEY}', '\\"x\\": \\"'
        )
        (tmp_path / "state.json").write_text(f'{{"deployment": {node}}}')
        subprocess.run(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=other_end, check=False)
    screen = os.read(terminal, 1 << 16)
    os.close(other_end)
    os.close(terminal)
    assert b"waiting for kn\xf6tchen?" in screen and b"\\u" not in screen


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_output_that_a_caller_has_closed_changes_no_exit_status(tmp_path: Path, closed: str) -> None:
    """A script that only acts on the status closes what it does not read."""
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\necho '{STATE}'\n")
    (tmp_path / "pulumi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    for words, code, error in (("drift rack", 0, ""), ("errors no-such-code", 1, "There is no code")):
        line = f"{sys.executable} -m fleet {words} {closed}"
        ended = subprocess.run(["sh", "-c", line], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ended.returncode, "Traceback" in ended.stderr) == (code, False)
        assert ended.stderr == "" if "2" in closed or not error else error in ended.stderr
        assert "error: " not in ended.stdout


def test_cause_of_the_engine_is_told_after_any_number_of_its_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warning = f"warning: A new version of Pulumi is available. {'x' * 200}"
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\nyes '{warning}' | head -9 >&2\necho \"$CAUSE\" >&2\nexit 255\n")
    (tmp_path / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for cause in ("error: passphrase must be set", "the login plugin was killed"):
        monkeypatch.setenv("CAUSE", cause)
        with pytest.raises(FleetError, match=cause):
            engine.deployment("rack")


def test_cause_is_the_engines_error_where_a_person_has_its_words_colored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Pulumi 3.208 on, a variable can set every flag, as images that run in CI do: PULUMI_OPTION_COLOR=always."""
    (tmp_path / "pulumi").write_text(
        '#!/bin/sh\ncase " $* " in *" --color=never "*) PULUMI_OPTION_COLOR=never ;; esac\n'
        'paint() { [ "$PULUMI_OPTION_COLOR" != always ] || printf "\\033[1m"; }\n'
        "{ paint; echo 'warning: A new version'; paint; echo 'error: no stack named rack found'; } >&2\nexit 255\n"
    )
    (tmp_path / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PULUMI_OPTION_COLOR", "always")
    with pytest.raises(FleetError, match=r"ended with 255: error: no stack named rack found$"):
        engine.deployment("rack")


def test_remedy_that_shows_a_value_of_the_run_has_its_name_as_the_reference_has_it() -> None:
    ended = CliRunner().invoke(app, ["errors", "bad-input"])
    assert "- Use <expected>.\n" in ended.stdout and "{" not in ended.stdout


def test_json_in_a_log_of_ci_commands_nothing_and_has_each_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure Pipelines and others read a command anywhere in a line, so a node could have set the PATH of the next step."""
    notes = ["##vso[task.setvariable variable=PATH]/evil", "a ###[add-path]/evil"]
    monkeypatch.setattr(engine, "deployment", lambda _: deployment())
    answers = Answers([samples.measured(samples.host("n1"), [], notes=notes)], [])
    monkeypatch.setattr(fleet.__main__, "_answers", lambda *_: answers)
    for verb in ("status", "drift"):
        printed = CliRunner().invoke(app, [verb, "rack", "--json"]).stdout
        assert "##" not in printed and json.loads(printed)["nodes"][0]["notes"] == notes


def test_watch_sees_what_an_up_beside_it_has_made(tmp_path: Path) -> None:
    node = {"urn": "urn:pulumi:rack::p::kata-nodes:index:KataNode::n1", "type": "kata-nodes:index:KataNode"}
    system = {
        "urn": "urn:pulumi:rack::p::kata-nodes:index:KataNode$command:remote:Command::n1-system",
        "type": "command:remote:Command", "custom": True, "parent": node["urn"], "retainOnDelete": True,
    }  # fmt: skip
    for number, resources in enumerate(([], [node, system])):
        (tmp_path / f"state-{number}").write_text(json.dumps({"version": 3, "deployment": {"resources": resources}}))
    (tmp_path / "pulumi").write_text('#!/bin/sh\nset -e\nfor file in state-*; do break; done\ncat "$file"\nrm "$file"\n')
    (tmp_path / "pulumi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "fleet", "status", "rack", "--watch", "1"]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20)
    rounds = ended.stdout.split("Stack rack: ")
    assert "n1" not in rounds[0] and "n1    gone" in rounds[1]
    assert (ended.returncode, ended.stderr.startswith("error: pulumi stack export")) == (1, True)


@pytest.mark.parametrize(
    "cause", ["Node n1: the container was not ready in time", "Node n1 has no Docker", "no answer within 9 s"]
)
def test_a_node_is_named_once_where_its_own_error_names_it(cause: str) -> None:
    of = samples.host("n1")
    error = fleet.__main__._unmeasured(Measured(of, None, cause, 1.0))
    assert str(error) == (cause if cause.startswith("Node") else f"Node n1: {cause}")
