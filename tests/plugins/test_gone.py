"""A machine that is gone can leave a stack: the refusal names the way, and then nobody is contacted."""

from pathlib import Path

import asyncssh
import pytest
from conftest import ROOT, Sshd, Stack, new_key

pytestmark = pytest.mark.engine
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from components.children import LEFT_ALONE
from components.nodes.node_connection import connection_of
connection = connection_of(
    {{"address": "127.0.0.1", "port": {port}, "user": {user!r}, "host_key": {host_key!r}, "private_key": {private_key!r}}},
    False,
).apply(lambda known: {{**known, "dialErrorLimit": 0}})
class Component(pulumi.ComponentResource):
    def __init__(self):
        super().__init__("test:index:Component", "a")
        remote.Command(
            "a-program",
            connection=connection,
            create="echo {said} >> {journal}",
            delete="echo undone >> {journal}",
            opts=pulumi.ResourceOptions(parent=self, **(LEFT_ALONE if {gone} else {{}})),
        )
Component()
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def write(stack: Stack, sshd: Sshd, journal: Path, text: str = "made", gone: bool = False) -> None:
    """The program, for the host as it is or `gone`."""
    login = {"port": sshd.port, "user": sshd.user, "host_key": sshd.host_key, "private_key": sshd.private_key}
    stack.program(PROGRAM.format(root=str(ROOT), journal=journal, said=text, gone=gone, **login))


def test_host_that_is_gone_leaves_the_stack_without_being_contacted(stack: Stack, sshd: Sshd, journal: Path) -> None:
    write(stack, sshd, journal)
    stack.up()
    sshd.stop()
    refused = stack.run("destroy", "--yes", fails=True)
    assert "cannot reach 127.0.0.1" in refused and "`gone: true`" in refused and "retainOnDelete" in refused
    write(stack, sshd, journal, text="changed", gone=True)
    stack.up()
    stack.run("destroy", "--yes")
    assert journal.read_text() == "made\n"


def test_host_that_answers_is_undone(stack: Stack, sshd: Sshd, journal: Path) -> None:
    write(stack, sshd, journal)
    stack.up()
    stack.run("destroy", "--yes")
    assert journal.read_text() == "made\nundone\n"


def test_host_with_another_key_is_refused_with_both_fingerprints(stack: Stack, sshd: Sshd, journal: Path) -> None:
    actual = sshd.host_key
    _, other = new_key()
    sshd.host_key = other
    write(stack, sshd, journal)
    output = stack.up(fails=True)
    for key in (other, actual):
        assert asyncssh.import_public_key(key).get_fingerprint() in output
    assert not journal.exists()
