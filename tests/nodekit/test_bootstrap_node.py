"""A node is made and undone by the scripts of a stack, from end to end, on a machine that a mount namespace plays."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from delivery.bundle import BOOTSTRAP
from nodekit.host.proofs import RECORD
from nodekit.scripts import script
from tests.docs.blocks import all_blocks
from tests.nodekit.namespace_node import CHECKOUT, FOLDER, NAMESPACE, STATE, Node, answer, needs_namespace, program

pytestmark = [pytest.mark.slow, needs_namespace]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_bare_node_gets_python_and_the_program_and_a_second_run_changes_nothing(node: Node) -> None:
    result = node.install()
    assert result.returncode == 0, result.stderr
    assert node.log("converged") == f"-I -S {node.target}.compiled converge\n{STATE}"
    python = subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert answer(result) == {"changed": True, "path": node.target, "python": python}
    assert "--no-install-recommends install python3 busybox-static bubblewrap zstd" in node.log("apt")
    assert "DPkg::Lock::Timeout=300" in node.log("apt")
    program = node.root / "lib" / "kata-nodes" / Path(node.target).name
    assert program.read_bytes() == node.data
    # Readable for every user whatever the login's umask is.
    assert (program.stat().st_mode & 0o7777, program.parent.stat().st_mode & 0o7777) == (0o644, 0o755)
    assert list((node.root / "home").iterdir()) == []
    (node.root / "apt").unlink()
    again = node.install()
    assert answer(again) == {"changed": False, "path": node.target, "python": python}
    assert node.log("apt") == ""


def test_lists_that_the_system_reads_after_a_boot_are_waited_for(node: Node) -> None:
    (node.root / "locked").touch()
    result = node.install()
    assert result.returncode == 0 and "another program reads the package lists" in result.stderr
    assert [line.split()[-1] for line in node.log("apt").splitlines()] == ["update", "update", "zstd"]


def test_lists_that_cannot_be_read_at_all_are_not_waited_for(node: Node) -> None:
    (node.root / "offline").touch()
    result = node.install()
    assert result.returncode == 0 and "could not all be brought up to date" in result.stderr
    assert [line.split()[-1] for line in node.log("apt").splitlines()] == ["update", "zstd"]


def test_a_newer_program_takes_the_place_of_the_older(node: Node) -> None:
    node.install()
    older = node.programs()
    node.upload(program("newer"))
    assert answer(node.install())["changed"] is True
    # The older one stays: another checkout's stack, which put it there, would not do so again.
    assert node.programs() == {**older, Path(node.target).name: program("newer")}
    assert (node.root / "lib/kata-nodes/nodekit.pyz").resolve().name == Path(node.target).name


def test_at_most_eight_other_programs_stay_and_a_running_one_is_never_removed(node: Node) -> None:
    first = node.target
    node.install()
    (node.root / "slow").touch()
    command = ["unshare", "-rm", "sh", "-c", NAMESPACE, "sh", "sh", "-c"]
    environment = {"NODE": str(node.root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    start = f". /{FOLDER}/run.sh; nodekit {node.digest[:12]} docker"
    with subprocess.Popen([*command, start], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        try:
            while not node.log("ran"):
                assert running.poll() is None
                time.sleep(0.05)
            for number in range(10):
                node.upload(program(f"newer = {number}"))
                assert node.install().returncode == 0
            assert len(node.programs()) == 10 and Path(first).name in node.programs()
        finally:
            node.result('{"verb": "docker"}')
            (node.root / "slow").unlink()
        assert running.wait(20) == 0
    for number in range(2):
        node.upload(program(f"newest = {number}"))
        assert node.install().returncode == 0
    assert len(node.programs()) == len(list((node.root / "lib/kata-nodes").glob("*.compiled"))) == 9


def test_a_damaged_upload_is_refused_and_the_older_program_stays(node: Node) -> None:
    node.install()
    before = node.programs()
    node.upload(program("newer"))
    (node.root / "home" / ".kata-nodes.pyz").write_bytes(b"newe")
    result = node.install()
    assert result.returncode == 1 and "[file-invalid]" in result.stderr
    assert node.programs() == before


def test_a_program_that_is_swapped_under_the_check_is_refused(node: Node) -> None:
    # The login user's file is the genuine one while it is looked at, and another one when root copies it.
    real = "/usr/bin/install"
    swap = f'case "$*" in *.pyz.new) printf evil >"$NODE/home/.kata-nodes.pyz" ;; esac; exec {real} "$@"\n'
    (node.root / "bin" / "install").write_text(f"#!/bin/sh\n{swap}")
    (node.root / "bin" / "install").chmod(0o755)
    result = node.install()
    assert result.returncode == 1 and "[file-invalid]" in result.stderr
    assert node.programs() == {} and not list((node.root / "lib" / "kata-nodes").glob("*.new"))


def test_a_script_that_is_swapped_after_the_check_is_not_run(node: Node) -> None:
    """Lost if this fails: root runs the script of anyone who can write to the login user's home."""
    swap = f'printf "touch {node.root}/evil" >"$NODE/home/.kata-nodes.pyz"'
    evil = f'#!/bin/sh\n/usr/bin/sha256sum "$@"; code=$?; {swap}; exit $code\n'
    (node.root / "bin" / "sha256sum").write_text(evil)
    (node.root / "bin" / "sha256sum").chmod(0o755)
    assert "[file-invalid]" in node.install().stderr
    assert not (node.root / "evil").exists() and "evil" in node.log("home/.kata-nodes.pyz")


@pytest.mark.parametrize("start", ["script", "nothing"])
def test_a_link_in_place_of_the_upload_shows_nobody_what_root_alone_may_read(node: Node, start: str) -> None:
    (node.root / "shadow").write_bytes((node.data if start == "script" else b"") + b"root:secret")
    (node.root / "home" / ".kata-nodes.pyz").unlink()
    (node.root / "home" / ".kata-nodes.pyz").symlink_to(node.root / "shadow")
    look = 'for file in /usr/local/lib/kata-nodes/nodekit-*.new; do stat -c %a "$file" >>"$NODE/seen"; done 2>/dev/null\n'
    for name in ("sha256sum", "sync", "mv", "rm"):
        (node.root / "bin" / name).write_text(f'#!/bin/sh\n{look}exec /usr/bin/{name} "$@"\n')
        (node.root / "bin" / name).chmod(0o755)
    result = node.install()
    assert result.returncode == 1 and "[file-invalid]" in result.stderr
    assert set(node.log("seen").split()) == ({"600"} if start == "script" else set()) and node.programs() == {}
    assert "secret" not in result.stdout + result.stderr


def test_the_program_is_one_that_every_user_can_start(node: Node) -> None:
    node.install()
    assert (node.root / "lib/kata-nodes" / Path(node.target).name).stat().st_mode & 0o777 == 0o644


def test_a_program_that_was_changed_in_place_is_put_right(node: Node) -> None:
    node.install()
    (node.root / "lib" / "kata-nodes" / Path(node.target).name).write_bytes(b"other")
    lost = node.install()
    assert lost.returncode == 1 and "so is the upload" in lost.stderr
    node.upload(node.data)
    assert answer(node.install())["changed"] is True
    assert node.programs() == {Path(node.target).name: node.data}


def test_packages_that_cannot_be_installed_are_named(node: Node) -> None:
    (node.root / "broken").touch()
    result = node.install()
    assert result.returncode == 1 and result.stdout == ""
    assert "python3 busybox-static bubblewrap zstd could not be installed" in result.stderr and "[tool-missing]" in result.stderr
    assert node.programs() == {}


def test_what_an_interrupted_dpkg_left_is_finished_first(node: Node) -> None:
    """Lost if this fails: after a power cut while packages come, apt refuses every one of them until a person has helped."""
    updates = node.root / "state" / "dpkg" / "updates"
    updates.mkdir(parents=True)
    (updates / "0003").touch()
    result = node.install()
    assert result.returncode == 0, result.stderr
    assert node.log("dpkg") == "--force-confdef --force-confold --configure -a\n"
    assert [line.split()[-1] for line in node.log("apt").splitlines()] == ["update", "zstd", "zstd"]


@pytest.mark.parametrize(
    ("options", "words"),
    [("ro", "install: cannot "), ("size=8k", "No space left on device"), ("nr_inodes=4", "No space left on device")],
    ids=["read-only", "full", "out-of-inodes"],
)
def test_a_disk_that_takes_no_program_is_one_sentence_with_a_remedy(node: Node, options: str, words: str) -> None:
    """Lost if this fails: a tool's own words, or a traceback, without what to do."""
    (node.root / "whole").touch()
    (node.root / "disk").write_text(options)
    node.upload(program("x" * 5000))
    result = node.install()
    assert (result.returncode, result.stdout) == (1, "")
    assert words in result.stderr and "Traceback" not in result.stderr
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert f"/{FOLDER} cannot be written. Free space, or make the file system writable, then run again. [file-unwritable]" in line


def test_removal_undoes_the_node_first_and_takes_the_folder_away(node: Node) -> None:
    node.install()
    result = node.run("--remove")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"verb": "restore"}
    assert node.log("ran").startswith(f"-I -S {node.target}.compiled restore\n" + '{"node": ')
    assert not (node.root / "lib" / "kata-nodes").exists()
    assert json.loads(node.run("--remove").stdout) == {"changed": False}


def test_what_the_guide_has_a_person_type_undoes_as_much_as_the_removal(node: Node) -> None:
    """Lost if this fails: a node that its stack no longer reaches keeps the packages, or loses the record of its changes."""
    node.install()
    (command,) = (block.text for block in all_blocks() if "bootstrap-" in block.text)
    result = node.inside("sh", "-c", command.removeprefix("sudo "), stdin="")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"verb": "restore"} and node.log("ran").splitlines()[0].endswith("restore")
    assert [line.split()[-1] for line in node.log("dpkg").splitlines()] == ["bubblewrap", "busybox-static", "zstd"]
    assert not (node.root / "lib" / "kata-nodes").exists()


@pytest.mark.parametrize("last", ["find", "rm"])
def test_a_removal_that_a_power_cut_ended_is_finished_by_the_next(node: Node, last: str) -> None:
    """Lost if this fails: the machine stays a node of a stack that has been destroyed, and no other stack may take it."""
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1").returncode == 0
    program = node.root / "bin" / last  # which the removal starts last
    when = {"find": "*mindepth*", "rm": f"*/{FOLDER}"}[last]
    program.write_text(f'#!/bin/sh\ncase "$*" in {when}) kill -9 "$PPID"; exit 1 ;; esac\nexec /usr/bin/{last} "$@"\n')
    program.chmod(0o755)
    assert node.run("--remove", "project/first", "n1").returncode == 137
    program.unlink()
    assert (node.root / "lib" / "kata-nodes").exists()
    result = node.run("--remove", "project/first", "n1")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"verb": "restore"}), result.stderr
    assert not (node.root / "lib" / "kata-nodes").exists()
    assert {"--purge bubblewrap", "--purge busybox-static", "--purge zstd"} == set(node.log("dpkg").splitlines())


def test_a_removal_that_left_nothing_but_a_copy_is_finished_by_the_next(node: Node) -> None:
    """Lost if this fails: the machine can neither be undone nor be a node of another stack."""
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1").returncode == 0
    folder = node.root / "lib" / "kata-nodes"
    for file in folder.iterdir():
        if file.suffix != ".copy":
            file.unlink()
    result = node.run("--remove", "project/first", "n1")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"verb": "restore"}), result.stderr
    assert not folder.exists()


def test_a_missing_program_is_no_program_of_any_sum(node: Node) -> None:
    assert node.install().returncode == 0
    file = node.root / "lib/kata-nodes/run.sh"
    for digits in ("", "e3b0"):  # those of nothing
        line = f'. {file}; is_program {node.root}/missing "{digits}" || is_program /dev/null "{digits}"'
        assert subprocess.run(["sh", "-c", line], check=False).returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_no_other_user_can_keep_verbs_and_removals_waiting(node: Node) -> None:
    """Lost if this fails: any user of the machine stops every `up` and `destroy` by a lock on a file that each may read."""
    assert node.install().returncode == 0
    node.result('{"verb": "docker"}')
    assert node.start("docker").returncode == 0
    for folder in (node.root, *node.root.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    files = [str(file) for file in (node.root / "lib/kata-nodes").iterdir()]
    line = 'for file; do flock -x -n "$file" sleep 30 & done; wait'
    with subprocess.Popen(
        ["sh", "-c", line, "sh", *files], user=65534, group=65534, extra_groups=[], start_new_session=True
    ) as holding:
        time.sleep(0.5)
        try:
            start = time.monotonic()
            assert node.start("docker").returncode == 0
            node.result('{"verb": "restore"}')
            assert node.run("--remove").returncode == 0
            assert time.monotonic() - start < 15
        finally:
            os.killpg(holding.pid, signal.SIGKILL)


def test_a_node_of_another_stack_is_neither_taken_nor_undone(node: Node) -> None:
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first").returncode == 0
    # The login user reads it, who is not root; whatever root's umask is.
    assert (node.root / "lib" / "kata-nodes" / "stack").stat().st_mode & 0o777 == 0o644
    refused = node.run(".kata-nodes.pyz", node.target, node.digest, "project/second")
    assert (
        refused.returncode == 1
        and "[node-taken]" in refused.stderr
        and "stack project/first, not of project/second" in refused.stderr
    )
    left = node.run("--remove", "project/second")
    assert (left.returncode, left.stdout) == (0, '{"changed": false}\n') and "project/first" in left.stderr
    assert node.programs() == {Path(node.target).name: node.data} and node.log("ran") == ""
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first").returncode == 0
    assert json.loads(node.run("--remove", "project/first").stdout) == {"verb": "restore"}
    assert not (node.root / "lib" / "kata-nodes").exists()


def test_a_node_that_another_stack_takes_over_by_hand_leaves_with_that_stack(node: Node) -> None:
    """Lost if this fails: the names of a stack that no longer exists keep the machine from ever being undone."""
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "old").returncode == 0
    (node.root / "lib" / "kata-nodes" / "stack").unlink()  # what the error of a node that is taken says
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/second", "new").returncode == 0
    assert (node.root / "lib" / "kata-nodes" / "names").read_text().split() == ["new"]
    assert json.loads(node.run("--remove", "project/second", "new").stdout) == {"verb": "restore"}
    assert not (node.root / "lib" / "kata-nodes").exists()


def test_of_two_stacks_that_come_at_once_one_is_refused(node: Node) -> None:
    """Lost if this fails: both go on, and each proves what the other changes."""
    folder = f"/{FOLDER}"
    fake = node.root / "bin" / "apt-get"
    other = f'case "$*" in *install*) mkdir -p {folder}; echo project/first >{folder}/stack ;; esac\n'
    fake.write_text(fake.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{other}"))
    refused = node.run(".kata-nodes.pyz", node.target, node.digest, "project/second", "n1")
    assert refused.returncode == 1 and "[node-taken]" in refused.stderr
    assert (node.root / "lib" / "kata-nodes" / "stack").read_text() == "project/first\n"


def test_a_node_that_its_stack_renames_is_not_undone(node: Node) -> None:
    def installed(*owner: str) -> list[str]:
        result = node.run(".kata-nodes.pyz", node.target, node.digest, *owner)
        assert result.returncode == 0, result.stderr
        return (node.root / "lib" / "kata-nodes" / "names").read_text().split()

    assert installed("project/stack", "old") == ["old"]
    assert installed("project/stack", "new") == ["old", "new"]  # the engine makes before it deletes
    left = node.run("--remove", "project/stack", "old")
    assert (left.returncode, left.stdout) == (0, '{"changed": false}\n') and "under another name too: new" in left.stderr
    assert installed("project/stack", "old") == ["new", "old"]  # and back, after the run that made `old` failed
    assert node.run("--remove", "project/stack", "old").stdout == '{"changed": false}\n'
    assert installed("project/stack", "alias", "again") == ["alias"]
    assert installed("project/stack", "third") == ["alias", "third"]
    assert installed("project/stack", "alias", "again") == ["alias", "third"]  # nothing to install
    node.run("--remove", "project/stack", "third")
    assert node.log("ran") == "" and node.programs() == {Path(node.target).name: node.data}
    assert json.loads(node.run("--remove", "project/stack", "alias").stdout) == {"verb": "restore"}
    assert not (node.root / "lib" / "kata-nodes").exists()


@pytest.mark.skipif(not Path("/etc/machine-id").exists(), reason="needs a machine id to lay another over")
def test_a_machine_from_an_image_of_a_node_is_not_that_node(node: Node) -> None:
    """Lost if this fails: such a machine is never undone, is refused for a stack that it has never been a node of, or has another
    machine's proofs in its report."""

    def install(owner: str, name: str) -> list[str]:
        result = node.run(".kata-nodes.pyz", node.target, node.digest, owner, name)
        assert result.returncode == 0, result.stderr
        return (node.root / "lib" / "kata-nodes" / "names").read_text().split()

    machine = node.root / "machine-id"
    machine.write_text(f"{'a' * 32}\n")
    assert install("project/golden", "n1") == install("project/golden", "n1") == ["n1"]
    proofs = node.root / "lib" / RECORD.removeprefix("/usr/local/lib/")
    proofs.touch()
    assert install("project/golden", "n1") == ["n1"] and proofs.exists()
    machine.write_text(f"{'b' * 32}\n")  # a copy, at its first boot
    assert install("project/rack", "n2") == ["n2"] and not proofs.exists()
    assert install("project/rack", "n3") == ["n2", "n3"]
    machine.write_text(f"{'c' * 32}\n")  # the same machine with a new id: what it has been stays
    assert node.run("--remove", "project/golden", "n1").stdout == '{"changed": false}\n'
    assert node.run("--remove", "project/rack", "n3").stdout == '{"changed": false}\n'
    assert json.loads(node.run("--remove", "project/rack", "n2").stdout) == {"verb": "restore"}
    assert not (node.root / "lib" / "kata-nodes").exists()


@pytest.mark.skipif(not Path("/etc/machine-id").exists(), reason="needs a machine id to lay another over")
def test_a_machine_of_a_group_from_an_image_of_a_node_has_proofs_of_its_own_alone(node: Node) -> None:
    """Its first boot names no stack."""
    folder, machine = node.root / "lib" / "kata-nodes", node.root / "machine-id"
    install = (".kata-nodes.pyz", node.target, node.digest)
    machine.write_text(f"{'a' * 32}\n")
    assert node.run(*install, "project/golden", "n1").returncode == 0
    proofs = node.root / "lib" / RECORD.removeprefix("/usr/local/lib/")
    proofs.touch()
    machine.write_text(f"{'b' * 32}\n")
    assert node.run(*install).returncode == 0
    assert not [name for name in ("proofs.json", "names", "stack") if (folder / name).exists()]
    proofs.touch()
    assert node.run(*install).returncode == 0 and proofs.exists()
    assert node.run(*install, "project/rack", "n2").returncode == 0
    assert proofs.exists(), "a stack that takes the machine later has its proofs in the report"


@pytest.mark.parametrize("text", ["", "uninitialized\n"], ids=["empty", "before-the-first-boot"])
@pytest.mark.skipif(not Path("/etc/machine-id").exists(), reason="needs a machine id to lay another over")
def test_a_machine_without_an_id_stays_the_node_that_it_was(node: Node, text: str) -> None:
    machine = node.root / "machine-id"
    machine.write_text(f"{'a' * 32}\n")
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1").returncode == 0
    machine.write_text(text)
    assert "[node-taken]" in node.run(".kata-nodes.pyz", node.target, node.digest, "project/second", "n1").stderr
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n2").returncode == 0
    assert (node.root / "lib" / "kata-nodes" / "names").read_text().split() == ["n1", "n2"]


@pytest.mark.parametrize("left", [b"", b"\0" * 4096, b"half"], ids=["empty", "zeros", "half"])
def test_a_program_that_a_crash_left_damaged_is_replaced_by_its_copy_at_its_next_start(node: Node, left: bytes) -> None:
    node.install()
    file = node.root / "lib/kata-nodes" / Path(node.target).name
    file.write_bytes(left)
    node.result('{"verb": "docker", "changed": false}')
    result = node.start("docker")
    assert (result.returncode, json.loads(result.stdout)["verb"]) == (0, "docker"), result.stderr
    assert file.read_bytes() == node.data and "its copy replaces it" in result.stderr


def test_a_program_whose_copy_is_damaged_too_never_succeeds_and_is_named(node: Node) -> None:
    node.install()
    for file in (node.root / "lib/kata-nodes").glob("nodekit-*"):
        file.write_bytes(b"")
    result = node.start("docker")
    assert (result.returncode, result.stdout) == (1, "") and "[program-damaged]" in result.stderr
    removal = node.run("--remove", "project/first")
    assert (removal.returncode, removal.stdout) == (1, "") and "[program-damaged]" in removal.stderr
    assert node.log("ran") == "" and (node.root / "lib/kata-nodes").exists()
    (node.root / "lib/kata-nodes/stack").write_text("project/second\n")
    left = node.run("--remove", "project/first")
    assert (left.returncode, left.stdout) == (0, '{"changed": false}\n') and "stack project/second" in left.stderr


def test_a_removal_takes_the_copy_of_a_damaged_program(node: Node) -> None:
    node.install()
    (node.root / "lib/kata-nodes" / Path(node.target).name).write_bytes(b"")
    result = node.run("--remove")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"verb": "restore"}), result.stderr
    assert not (node.root / "lib" / "kata-nodes").exists()


def test_a_removal_without_python_is_named(node: Node) -> None:
    node.install()
    (node.root / "bin/python3").write_text("#!/bin/sh\nexit 127\n")
    removal = node.run("--remove")
    assert (removal.returncode, removal.stdout) == (1, "") and "Install the package python3" in removal.stderr
    assert node.programs()


def test_a_removal_never_succeeds_where_the_program_is_gone_and_its_changes_are_not(node: Node) -> None:
    journals = node.root / "state" / "kata-nodes"
    journals.mkdir(parents=True)
    (journals / "docker.json").write_text("{}")
    assert node.install().returncode == 0
    shutil.rmtree(node.root / "lib" / "kata-nodes")
    removal = node.run("--remove")
    assert (removal.returncode, removal.stdout) == (1, "") and "[program-damaged]" in removal.stderr
    assert "remove /usr/local/lib/kata-nodes and /var/lib/kata-nodes" in removal.stderr
    shutil.rmtree(journals)
    assert json.loads(node.run("--remove").stdout) == {"changed": False}


def test_what_an_installation_left_that_ended_before_the_program_was_in_place_goes(node: Node) -> None:
    """Lost if this fails: `destroy` refuses a machine on which nothing but packages was changed."""
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1").returncode == 0
    folder = node.root / "lib" / "kata-nodes"
    for file in (*folder.glob("nodekit*"), *folder.glob("bootstrap-*")):
        file.unlink()
    (folder / f"{Path(node.target).name}.new").touch()
    result = node.run("--remove", "project/first", "n1")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"changed": False}), result.stderr
    assert not folder.exists() and "these packages stay: bubblewrap busybox-static zstd" in result.stderr


def test_a_removal_needs_no_start_up_script(node: Node) -> None:
    assert node.install().returncode == 0
    (node.root / "lib" / "kata-nodes" / "run.sh").unlink()
    result = node.run("--remove")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"verb": "restore"}), result.stderr


def started(node: Node) -> str:
    """The file that a verb's Python is started with."""
    (node.root / "ran").unlink(missing_ok=True)
    node.result('{"verb": "docker"}')
    assert node.start("docker").returncode == 0
    return node.log("ran").split()[2]


def test_a_node_compiles_the_program_once_and_starts_that(node: Node) -> None:
    """Lost if this fails: a check takes twice as much of a processor."""
    node.upload(program("import sys\nprint(sys._getframe().f_code.co_filename, __loader__.archive)"))
    version = [int(part) for part in str(answer(node.install())["python"]).split(".")]
    compiled = node.root / "lib/kata-nodes" / f"{Path(node.target).name}.compiled"
    assert started(node) == f"{node.target}.compiled" and compiled.stat().st_mode & 0o777 == 0o644
    python = ["/usr/bin/python3", "-I", str(compiled)]  # the node's, which has compiled it; this one may be another
    printed = subprocess.run(python, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [f"{node.target}/__main__.py", str(compiled)]
    with zipfile.ZipFile(compiled) as archive:
        # Few runs load tomlkit, but all where Python has no tomllib.
        of_tomlkit = {"tomlkit/items.py", *(["tomlkit/items.pyc"] if version < [3, 11] else [])}
        assert {"__main__.py", "__main__.pyc", "nodekit/run.sh", BOOTSTRAP, *of_tomlkit} == set(archive.namelist())
        of_this_python = archive.read("__main__.pyc")[:4]
    before = compiled.stat().st_mtime_ns
    node.install()
    assert compiled.stat().st_mtime_ns == before
    # After an upgrade of Python its modules are compiled at each start again.
    compiled.write_bytes(compiled.read_bytes().replace(of_this_python, b"\0\0\r\n"))
    other = subprocess.run(python, capture_output=True, text=True, check=True).stdout.split()
    assert other == [f"{compiled}/__main__.py", str(compiled)]


@pytest.mark.parametrize("left", [b"", b"\0" * 4096, None], ids=["empty", "zeros", "gone"])
@pytest.mark.parametrize("which", [".compiled", ".compiled.sum"])
def test_a_compiled_program_that_is_damaged_is_never_started(node: Node, which: str, left: bytes | None) -> None:
    node.install()
    file = node.root / "lib/kata-nodes" / f"{Path(node.target).name}{which}"
    file.unlink() if left is None else file.write_bytes(left)
    assert started(node) == node.target
    node.install()
    assert started(node) == f"{node.target}.compiled"


@pytest.mark.parametrize("lost", ["", "_ssl", "_lzma", "_ctypes", "tarfile", "urllib", "json"])
def test_a_python_that_lacks_a_part_is_told_from_a_whole_one(lost: str) -> None:
    """As Debian's python3-minimal, or one that was built where a library was missing."""
    without = f"""
import sys
class Without:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, *others): return None if name == "{lost}" else self.finder.find_spec(name, *others)
sys.meta_path = [Without(finder) for finder in sys.meta_path]
"""
    (parts,) = re.findall(r"^PARTS='\n(.*?)'$", script("bootstrap.sh"), re.DOTALL | re.MULTILINE)
    result = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", without + parts], capture_output=True, check=False)
    assert (result.returncode == 0) == (lost == "")


def test_a_program_that_cannot_be_compiled_is_started_as_it_is(node: Node) -> None:
    node.upload(program("this is no Python"))
    result = node.install()
    assert result.returncode == 0 and re.search(r"could not be compiled, .*: SyntaxError: ", result.stderr)
    assert started(node) == node.target


def test_a_start_up_script_that_a_crash_left_empty_does_not_succeed(node: Node) -> None:
    node.install()
    (node.root / "lib/kata-nodes/run.sh").write_bytes(b"")
    assert node.start("docker").returncode == 127


def test_a_verb_that_is_killed_is_reported_with_what_to_do(node: Node) -> None:
    node.install()
    file = node.root / "bin" / "python3"
    file.write_text(file.read_text().replace("*pyz*) echo", "*pyz*) kill -9 $$; echo"))
    result = node.start("docker")
    assert (result.returncode, result.stdout) == (137, "")
    assert "docker was killed" in result.stderr and "free memory" in result.stderr and "[run-killed]" in result.stderr


def test_a_start_up_script_that_is_ended_reports_it_with_what_to_do(node: Node) -> None:
    (node.root / "bin" / "apt-get").write_text("#!/bin/sh\nkill -TERM $PPID\n")
    result = node.install()
    assert result.returncode == 1 and "took so long" in result.stderr and "[run-ended]" in result.stderr


@pytest.mark.parametrize("printed", ["", "done", '{"verb": "kata"}', '{"verb": "docker"'])
def test_only_the_verb_s_own_result_is_a_success(node: Node, printed: str) -> None:
    node.install()
    node.result(printed)
    result = node.start("docker")
    assert result.returncode == 1 and "[result-missing]" in result.stderr


def test_packages_that_came_by_us_go_again_and_others_stay(node: Node) -> None:
    node.install()
    (node.root / "needed").write_text("bubblewrap")
    result = node.run("--remove")
    assert result.returncode == 0, result.stderr
    assert node.log("dpkg") == "--purge bubblewrap\n--purge busybox-static\n--purge zstd\n"
    assert "bubblewrap stays" in result.stderr


def test_packages_go_though_the_system_installs_something_at_that_moment(node: Node) -> None:
    """Lost if this fails: a removal during unattended upgrades leaves packages behind, and forgets that they were ours."""
    node.install()
    locked = "dpkg: error: dpkg frontend lock was locked by another process with pid 812"
    (node.root / "bin/dpkg").write_text(
        f'#!/bin/sh\n[ -e "$NODE/tried" ] || {{ touch "$NODE/tried"; echo "{locked}" >&2; exit 2; }}\necho "$*" >>"$NODE/dpkg"\n'
    )
    result = node.run("--remove")
    assert result.returncode == 0, result.stderr
    assert node.log("dpkg") == "--purge bubblewrap\n--purge busybox-static\n--purge zstd\n" and "stays" not in result.stderr


SWAPPING = {
    "dpkg-query": 'for name; do :; done; if grep -qx "$name" "$NODE/installed"; then printf installed; else exit 1; fi\n',
    "dpkg": 'echo "$*" >>"$NODE/dpkg"; sed -i "/^$2\\$/d" "$NODE/installed"\n',
    "apt-mark": 'case $1 in showauto) cat "$NODE/automatic" 2>/dev/null ;; *) echo "$*" >>"$NODE/marks" ;; esac\n',
    "apt-get": 'echo "$*" >>"$NODE/apt"; cat >/dev/null; case "$*" in *update*) exit 0 ;; esac\n'
    '[ ! -e "$NODE/broken" ] || exit 100\n'
    "for name; do case $name in busybox) other=busybox-static ;; busybox-static) other=busybox ;; bubblewrap | zstd) other=- ;; "
    '*) continue ;; esac; sed -i "/^$other\\$/d" "$NODE/installed"; echo "$name" >>"$NODE/installed"; done\n',
}
"""Programs to which busybox and busybox-static exclude each other, as they do on Debian."""


@pytest.mark.parametrize("mark", ["auto", "manual"])
def test_a_busybox_that_the_static_one_replaced_comes_back(node: Node, mark: str) -> None:
    swapping(node, "busybox")
    if mark == "auto":
        (node.root / "automatic").write_text("busybox\n")
    for _ in range(2):
        result = node.install()
        assert result.returncode == 0, result.stderr
        assert (node.root / "installed").read_text().split() == ["busybox-static", "bubblewrap", "zstd"]
    result = node.run("--remove")
    assert result.returncode == 0, result.stderr
    assert (node.root / "installed").read_text().split() == ["busybox"]
    assert node.log("marks") == ("auto busybox\n" if mark == "auto" else "")


def test_a_static_busybox_stays_where_the_one_before_cannot_come_back(node: Node) -> None:
    swapping(node, "busybox")
    assert node.install().returncode == 0
    (node.root / "broken").touch()
    result = node.run("--remove")
    assert result.returncode == 0, result.stderr
    assert (node.root / "installed").read_text().split() == ["busybox-static"]
    assert "busybox-static stays" in result.stderr and not (node.root / "lib" / "kata-nodes").exists()


def test_a_busybox_that_somebody_chose_since_stays(node: Node) -> None:
    swapping(node, "busybox")
    assert node.install().returncode == 0
    swapping(node, "busybox", "bubblewrap")
    (node.root / "apt").unlink()
    assert node.run("--remove").returncode == 0
    assert (node.root / "installed").read_text() == "busybox\n" and node.log("apt") == ""


ENDED = {
    "disk-full": ("for name; do case", "for name; do case $name in zstd) exit 100 ;; esac; case"),
    "cut-off-after-it": ("; done\n", "; done; kill -9 $PPID\n"),
    "cut-off-in-between": ('echo "$name" >>"$NODE/installed"', "kill -9 $PPID; exit 1"),
}
"""How an installation of packages ends: what of the fake apt is replaced by what."""


@pytest.mark.parametrize("again", [True, False], ids=["run-again", "destroyed"])
@pytest.mark.parametrize("how", ENDED)
def test_packages_of_an_installation_that_ended_half_way_go_again(node: Node, how: str, again: bool) -> None:
    """Lost if this fails: busybox-static stays on a machine whose own busybox it has replaced, and nothing says so."""
    swapping(node, "busybox")
    fake = node.root / "bin" / "apt-get"
    whole = fake.read_text()
    broken = whole.replace(*ENDED[how])
    assert broken != whole
    fake.write_text(broken)
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1").returncode != 0
    fake.write_text(whole)
    if again:
        assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1").returncode == 0
        assert set((node.root / "installed").read_text().split()) == {"busybox-static", "bubblewrap", "zstd"}
    result = node.run("--remove", "project/first", "n1")
    assert result.returncode == 0, result.stderr
    assert (node.root / "installed").read_text().split() == ["busybox"]
    assert not (node.root / "lib" / "kata-nodes").exists()


@pytest.mark.parametrize(("before", "by_hand"), [([], ["zstd"]), (["busybox"], ["bubblewrap", "busybox-static", "zstd"])])
def test_a_package_that_somebody_installs_by_hand_as_an_error_says_stays(
    node: Node, before: list[str], by_hand: list[str]
) -> None:
    swapping(node, *before)
    (node.root / "broken").touch()
    assert "[tool-missing]" in node.install().stderr
    (node.root / "broken").unlink()
    swapping(node, *by_hand)
    assert node.install().returncode == 0
    assert node.run("--remove").returncode == 0
    assert (node.root / "installed").read_text().split() == by_hand


def test_an_upload_that_root_may_not_remove_is_no_failure(node: Node) -> None:
    """As in a home on NFS, which gives root no rights."""
    rm = node.root / "bin" / "rm"
    rm.write_text('#!/bin/sh\ncase "$*" in *.kata-nodes.pyz) echo "Permission denied" >&2; exit 1 ;; esac\nexec /bin/rm "$@"\n')
    rm.chmod(0o755)
    result = node.install()
    assert answer(result)["changed"] is True


def test_packages_go_again_where_the_program_was_never_in_place(node: Node) -> None:
    """Lost if this fails: after a first run that ended at a damaged upload, `destroy` leaves the packages that it brought."""
    swapping(node, "busybox")
    (node.root / "home" / ".kata-nodes.pyz").write_bytes(node.data + b"damaged behind the script")
    failed = node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1")
    assert failed.returncode == 1 and "[file-invalid]" in failed.stderr
    (kept,) = (node.root / "lib/kata-nodes").glob("bootstrap-*.sh")
    assert kept.read_text() == (CHECKOUT / BOOTSTRAP).read_text() and kept.stat().st_mode & 0o777 == 0o644
    result = node.run("--remove", "project/first", "n1")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"changed": True}), result.stderr
    assert (node.root / "installed").read_text().split() == ["busybox"]
    assert not (node.root / "lib" / "kata-nodes").exists()


@pytest.mark.parametrize("how", ["damaged", "writable"])
def test_a_script_on_the_node_that_is_not_what_root_put_there_is_not_run(node: Node, how: str) -> None:
    (node.root / "home" / ".kata-nodes.pyz").write_bytes(node.data + b"damaged behind the script")
    assert node.install().returncode == 1
    (kept,) = (node.root / "lib/kata-nodes").glob("bootstrap-*.sh")
    if how == "damaged":
        kept.write_text("touch $NODE/evil\n")
    else:
        kept.chmod(0o666)
    result = node.run("--remove")
    assert result.returncode == 0 and "these packages stay: bubblewrap busybox-static zstd" in result.stderr
    assert not (node.root / "evil").exists() and not kept.parent.exists()


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
@pytest.mark.parametrize("pattern", ["*.json", "nodekit-*.pyz.copy"])
def test_a_folder_that_cannot_be_searched_is_not_taken_for_an_empty_one(node: Node, script: bool, pattern: str) -> None:
    """Lost if this fails: an error of the disk makes a removal throw away what the node could be put back by."""
    (node.root / "home" / ".kata-nodes.pyz").write_bytes(node.data + b"damaged behind the script")
    assert node.install().returncode == 1
    folder, state = node.root / "lib/kata-nodes", node.root / "state/kata-nodes"
    state.mkdir(exist_ok=True)
    if not script:
        for file in folder.glob("bootstrap-*.sh"):
            file.unlink()
    find = node.root / "bin" / "find"
    find.write_text(
        f'#!/bin/sh\nfor word; do [ "$word" != "{pattern}" ] || {{ echo "Input/output error" >&2; exit 1; }}; done\n'
        'exec /usr/bin/find "$@"\n'
    )
    find.chmod(0o755)
    result = node.run("--remove")
    assert result.returncode == 1 and "[program-damaged]" in result.stderr, result.stderr
    assert folder.is_dir() and state.is_dir()


def test_one_script_stays_beside_the_program(node: Node) -> None:
    folder = node.root / "lib/kata-nodes"
    folder.mkdir()
    (folder / "bootstrap-0123456789ab.sh").write_text("of an earlier version\n")
    assert node.install().returncode == 0
    assert [file.read_text() for file in folder.glob("bootstrap-*")] == [(CHECKOUT / BOOTSTRAP).read_text()]


@pytest.mark.parametrize("how", ["answer-lost", "upload-damaged"])
def test_an_installation_that_the_stack_does_not_know_is_undone_with_the_node(node: Node, how: str) -> None:
    """Lost if this fails: after a first run that failed or was cut off, `destroy` leaves packages, and the machine taken."""
    swapping(node, "busybox")
    if how == "upload-damaged":
        (node.root / "home" / ".kata-nodes.pyz").write_bytes(node.data + b"damaged behind the script")
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1").returncode == (how != "answer-lost")
    if how == "answer-lost":
        assert "left as it is" in node.run("--remove", "project/second", "n1").stderr and node.programs()
    result = node.run("--remove", "project/first", "n1")
    document = {"changed": True} if how == "upload-damaged" else {"verb": "restore"}
    assert (result.returncode, json.loads(result.stdout)) == (0, document), result.stderr
    assert (node.root / "installed").read_text().split() == ["busybox"]
    assert not (node.root / "lib" / "kata-nodes").exists()


def test_a_removal_by_a_user_who_may_not_become_root_takes_nothing_and_says_why(node: Node) -> None:
    """Lost if this fails: the stack forgets a machine that stays as it made it."""
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "project/first", "n1").returncode == 0
    (node.root / "home/.kata-nodes-0123456789ab.pyz").touch()
    for name, text in {"id": "case $1 in -u) echo 1000 ;; *) echo admin ;; esac", "sudo": "exit 1"}.items():
        node.fake(name, text)
    result = node.run("--remove", "project/first", "n1")
    assert (result.returncode, result.stdout) == (1, "") and "[no-sudo]" in result.stderr
    assert node.programs() and (node.root / "home/.kata-nodes-0123456789ab.pyz").exists()


def test_two_installations_at_once_come_one_after_the_other(node: Node) -> None:
    """Lost if this fails: each writes the files of the other, and names or stacks get lost between a look and a write."""
    (node.root / "whole").touch()

    def install(number: int) -> subprocess.CompletedProcess[str]:
        upload = node.root / "home" / f".kata-nodes-{number}.pyz"
        upload.write_bytes(node.data)
        return node.run(upload.name, node.target, node.digest, "project/first", f"n{number}")

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(install, range(4)))
    assert [result.stderr for result in results if result.returncode] == []
    assert set((node.root / "lib/kata-nodes/names").read_text().split()) == {"n0", "n1", "n2", "n3"}
    assert (node.root / "run" / "kata-nodes-program.lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("program", ["apt-get", "dpkg"])
def test_a_service_that_a_package_starts_does_not_hold_the_lock(node: Node, program: str) -> None:
    fake = node.root / "bin" / program
    fake.write_text(fake.read_text() + '\n[ ! -e "/proc/$$/fd/8" ] || touch "$NODE/holds"\n')
    assert node.install().returncode == 0 and node.run("--remove").returncode == 0
    assert not (node.root / "holds").exists()


def test_a_program_that_only_root_could_read_is_one_that_every_user_can_start_again(node: Node) -> None:
    assert node.install().returncode == 0
    files = [node.root / "lib/kata-nodes" / f"{Path(node.target).name}{which}" for which in ("", ".copy")]
    for file in files:
        file.chmod(0o600)
    assert answer(node.install())["changed"] is False
    assert [file.stat().st_mode & 0o777 for file in files] == [0o644, 0o644]


def test_a_user_with_sudo_becomes_root_once(node: Node) -> None:
    node.log_in()
    (node.root / "home" / ".kata-nodes.pyz").write_bytes(node.data + b"damaged behind the script")
    assert "[file-invalid]" in node.install().stderr
    assert len(node.log("sudo").splitlines()) == 2 and len(max(node.log("sudo").splitlines(), key=len)) < 300
    assert json.loads(node.run("--remove").stdout) == {"changed": True}
    node.upload(node.data)
    assert node.install().returncode == 0
    assert json.loads(node.run("--remove").stdout) == {"verb": "restore"}
    (node.root / "bin" / "apt-get").write_text("#!/bin/sh\nkill -TERM $PPID\n")
    (node.root / "whole").unlink()
    node.upload(node.data)
    ended = node.install()
    assert ended.returncode == 1 and ended.stderr.count("[run-ended]") == 1


def test_what_a_release_left_among_the_journals_keeps_no_machine(node: Node) -> None:
    """Lost if this fails: where a folder of a release could not be removed, no `destroy` ever succeeds again."""
    (node.root / "state/kata-nodes/kata/old").mkdir(parents=True)
    result = node.run("--remove", "project/first", "n1")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"changed": False}), result.stderr


def swapping(node: Node, *installed: str) -> None:
    """Give the node `SWAPPING`, and these packages."""
    (node.root / "whole").touch()
    (node.root / "installed").write_text("".join(f"{name}\n" for name in installed))
    for name, text in SWAPPING.items():
        file = node.root / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}")
        file.chmod(0o755)


def test_a_login_user_can_read_whatever_it_reads_later_though_root_s_umask_is_strict(node: Node) -> None:
    assert "umask 077" in NAMESPACE
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "organization/rack", "n1").returncode == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in (node.root / "lib/kata-nodes").iterdir() if path.is_file()}
    assert modes.pop(f"{Path(node.target).name}.lock") == 0o600  # for root alone
    assert {"packages", "stack", "names", "run.sh", f"{Path(node.target).name}.copy"} <= modes.keys()
    assert set(modes.values()) == {0o644}, modes


def test_whatever_the_script_writes_is_on_the_disk_before_it_has_its_name(node: Node) -> None:
    file = node.root / "bin" / "sync"
    file.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >>"$NODE/synced"\n')
    file.chmod(0o755)
    assert node.run(".kata-nodes.pyz", node.target, node.digest, "organization/rack", "n1").returncode == 0
    written = {path.name for path in (node.root / "lib/kata-nodes").iterdir() if path.is_file() and not path.is_symlink()}
    synced = {Path(line).name.removesuffix(".new") for line in node.log("synced").splitlines() if line.endswith(".new")}
    assert written - synced == {f"{Path(node.target).name}.lock"}  # which the start of a verb makes


def test_a_program_that_cannot_be_compiled_is_installed_as_it_is_and_nothing_half_done_stays(node: Node) -> None:
    node.upload(program("no Python"))
    result = node.install()
    assert result.returncode == 0 and "could not be compiled" in result.stderr and "SyntaxError" in result.stderr
    assert not [path.name for path in (node.root / "lib/kata-nodes").iterdir() if path.name.endswith((".new", ".compiled"))]


def test_packages_that_were_there_before_stay(node: Node) -> None:
    (node.root / "whole").touch()
    node.install()
    assert node.run("--remove").returncode == 0
    assert node.log("dpkg") == ""
