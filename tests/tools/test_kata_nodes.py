"""The script `tools/kata-nodes` finds its checkout, however it is called: people put a link to it in a folder of PATH."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "kata-nodes"


def checkout(folder: Path, settings: str, words: str) -> Path:
    """The script in a checkout whose `tools/env` prints `settings`, with a `python` beside it that prints `words`, as sh reads
    them."""
    tools = folder / "checkout/tools"
    tools.mkdir(parents=True)
    (tools / "kata-nodes").write_bytes(SCRIPT.read_bytes())
    (tools / "env").write_text(f'#!/bin/sh\necho "{settings}"\n')
    (folder / "python").write_text(f'#!/bin/sh\necho "{words}"\n')
    for program in (tools / "kata-nodes", tools / "env", folder / "python"):
        program.chmod(0o755)
    return tools / "kata-nodes"


@pytest.mark.parametrize("target", ["../checkout/tools/kata-nodes", "{folder}/checkout/tools/kata-nodes", "second"])
def test_command_runs_through_a_link_in_the_folder_where_it_is_called(tmp_path: Path, target: str) -> None:
    tools, links, project = (tmp_path / name for name in ("checkout/tools", "links", "project"))
    for folder in (tools, links, project):
        folder.mkdir(parents=True)
    (tools / "kata-nodes").write_bytes(SCRIPT.read_bytes())
    (tools / "env").write_text('#!/bin/sh\necho ":"\n')
    (links / "python").write_text('#!/bin/sh\necho "$PYTHONPATH in $PWD: $*"\n')
    for program in (tools / "kata-nodes", tools / "env", links / "python"):
        program.chmod(0o755)
    (links / "second").symlink_to(tools / "kata-nodes")
    (links / "kata-nodes").symlink_to(target.format(folder=tmp_path))
    environment = {"PATH": f"{links}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["kata-nodes", "status"], cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout == f"{tmp_path}/checkout in {project}: -P -m fleet status\n", result.stderr


@pytest.mark.parametrize(
    ("variables", "folder"), [({}, "/home/me/.pulumi"), ({"PULUMI_HOME": "/elsewhere"}, ""), ({"HOME": ""}, "")]
)
def test_command_learns_where_a_person_selects_stacks(tmp_path: Path, variables: dict[str, str], folder: str) -> None:
    command = checkout(tmp_path, "export PULUMI_HOME=/of/set-up", "$PULUMI_HOME ${KATA_NODES_SELECTED_IN:-}")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/home/me", **variables}
    result = subprocess.run([command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == (f"/of/set-up {folder}\n", "")


def test_modules_of_the_persons_project_do_not_stand_for_those_of_the_command(tmp_path: Path) -> None:
    tools, fleet, programs, project = (tmp_path / name for name in ("checkout/tools", "checkout/fleet", "bin", "project"))
    for folder in (tools, fleet, programs, project):
        folder.mkdir(parents=True)
    (tools / "kata-nodes").write_bytes(SCRIPT.read_bytes())
    (tools / "env").write_text(f"#!/bin/sh\necho 'export PATH=\"{programs}:$PATH\"'\n")
    (programs / "python").symlink_to(sys.executable)
    for program in (tools / "kata-nodes", tools / "env"):
        program.chmod(0o755)
    (fleet / "__init__.py").touch()
    (fleet / "__main__.py").write_text("import os, secrets\nprint(secrets.token_hex, os.getcwd())\n")
    # A Pulumi program in Python has its modules beside it, under any names.
    (project / "secrets.py").write_text("raise SystemExit('the project runs in the command')\n")
    command = [tools / "kata-nodes", "status"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0 and result.stdout.rstrip().endswith(str(project)), result.stderr


@pytest.mark.parametrize("script", ["kata-nodes", "env", "policy"])
def test_checkout_is_found_whatever_folders_cd_looks_in(tmp_path: Path, script: str) -> None:
    """With CDPATH exported, `cd` goes to a folder of the same name there, and prints where it went."""
    programs, home = tmp_path / "bin", tmp_path / "home"
    for folder in (programs, home / "checkout/tools", tmp_path / "other/checkout/tools"):
        folder.mkdir(parents=True)
    for name in ("kata-nodes", "env", "policy"):
        (home / "checkout/tools" / name).write_bytes((SCRIPT.parent / name).read_bytes())
        (home / "checkout/tools" / name).chmod(0o755)
    python = (
        "#!/bin/sh\ncase $* in -c*) exit 0 ;; *tools.environment*) echo : ;; *tools.policy_env*) echo python ;; *) pwd; esac\n"
    )
    for name in ("python", "python3"):
        (programs / name).write_text(python)
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "CDPATH": f"{tmp_path / 'other'}:."}
    command = [f"checkout/tools/{script}", "status"]
    result = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=60, check=False)
    expected = {"kata-nodes": home, "env": ":", "policy": home / "checkout"}[script]
    assert (result.stdout, result.stderr) == (f"{expected}\n", "")


@pytest.mark.parametrize(
    ("words", "environment_of"),
    [
        (["status", "local"], "local"),
        (["explain", "n1", "--stack=local"], "local"),
        (["explain", "n1", "-slocal"], "local"),
        (["status", "organization/kata-nodes/local"], "local"),
        (["explain", "n1", "-s", "local"], "local"),
        (["status", "--json", "local"], "local"),
        (["prove", "local", "--stack", "rack"], ""),
        (["explain", "local"], ""),
        (["report", "rack", "--output", "local"], ""),
        (["status", "acme/local"], ""),
        (["status", "rack"], ""),
    ],
)
def test_stack_local_gets_its_own_environment_however_it_is_named(tmp_path: Path, words: list[str], environment_of: str) -> None:
    """Its state lies in the checkout, which the environment of the other stacks does not know."""
    command = checkout(tmp_path, "export ENVIRONMENT_OF=$*", "$ENVIRONMENT_OF")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    printed = subprocess.run([command, *words], env=environment, capture_output=True, text=True, check=True).stdout
    assert printed == f"{environment_of}\n"
