"""The checklist's last row and the settings for consumers. Lost if these fail: a green row for a sandbox that nobody tried."""

import json
from typing import Any

import pytest

from nodekit.rules.proof.ladder import COMMANDS
from nodekit.scripts import script
from stacks import consumers
from stacks.checklist import checklist


def rungs(sandbox: str | None = "sandbox-runtime", **changes: bool | None) -> list[dict[str, Any]]:
    """Evidence of a root ladder where everything passed but for the changes."""
    passed = {command.name: not command.optional and command.sandboxes != () for command in COMMANDS}
    passed |= {"sandbox-runtime": None, "sandbox-runtime-proxy": None, "fuse": None, "subordinate-ids": None}
    passed |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [
        {"name": command.name, "passed": passed[command.name], "counts": sandbox in command.sandboxes and command.mode != "weak"}
        for command in COMMANDS
    ]


def last_row(rungs: list[dict[str, Any]]) -> dict[str, Any]:
    node = {
        "node": "n1",
        "proven": "container",
        "rungs": rungs,
        "hypervisor": "qemu",
        "kernelParams": "",
        "configFile": "",
        "userNamespaces": 9,
    }
    return checklist([node], hypervisor="qemu", capabilities=[], granted_by="x")[4]


def test_a_sandbox_that_was_tried_and_works_is_a_passed_row_that_says_where() -> None:
    row = last_row(rungs())
    assert row["passed"] is True
    assert "srt-call passed" in row["measured"] and "in a container of the runtime" in row["measured"]
    assert "sandbox-runtime not tried" in row["measured"], "the image had no such package, and the row says so"


@pytest.mark.parametrize(
    "name",
    [
        command.name
        for command in COMMANDS
        if "sandbox-runtime" in command.sandboxes and not command.optional and command.mode != "weak"
    ],
)
@pytest.mark.parametrize("value", [None, False])
def test_a_rung_that_failed_or_was_not_tried_is_no_passed_row(name: str, value: bool | None) -> None:
    assert last_row(rungs(**{name.replace("-", "_"): value}))["passed"] is False


def test_the_row_of_the_two_capabilities_needs_both_and_shows_what_is_granted_beside() -> None:
    for granted, passed in ((["NET_ADMIN", "SYS_ADMIN", "SETFCAP"], True), (["SYS_ADMIN", "SETFCAP"], False), ([], False)):
        row = checklist([], hypervisor="qemu", capabilities=granted, granted_by="PodTemplate")[1]
        assert row["passed"] is passed and row["measured"] == f"PodTemplate: {', '.join(granted) or 'none'}"


def test_where_no_sandbox_is_promised_the_row_says_so() -> None:
    row = last_row(rungs(None, bwrap_proc=False))
    assert row["passed"] is True and "no sandbox is promised" in row["measured"] and "bwrap-proc failed" in row["measured"]
    assert last_row(rungs(None, unshare=None))["passed"] is False


def test_settings_say_what_docker_needs_for_a_sandbox_in_its_default_mode() -> None:
    assert consumers.daycare(True) == {"docker": {"runtime": "kata", "capAdd": ["NET_ADMIN", "SYS_ADMIN"]}}
    assert "systempaths=unconfined" in consumers.docker_run(True)
    assert consumers.docker_run(False) == ["--runtime", "kata"]
    entry = script("entry.sh")
    text = consumers.dockerfile(entry)
    head, body = text.split("\n", 1)
    place = json.loads(body.split("\nENTRYPOINT ")[1].split("\n")[0])
    assert place == [head.split()[-1]] and body.startswith(entry) and "\nENTRY\n" in body
    assert "settings.dockerfile" in consumers.open_sandbox("kata-qemu", True)
    assert consumers.open_sandbox("kata-qemu", False).startswith("[secure_runtime]")
