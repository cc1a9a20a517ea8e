"""What `kata-nodes overhead` asks of a node and shows of its answer; the node itself is in tests/fleet/test_fleet.py.

Lost if these fail: a number that somebody sets without its reason, or one that holds for no guest of theirs.
"""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from fleet import hosts, shown
from fleet.errors import FleetError
from fleet.overhead import CLASS, classes, question, view
from nodekit.rules.kata.overhead import SandboxUse, propose
from nodekit.rules.node_state import OverheadState
from tests.fleet.samples import with_values
from tests.fleet.test_rules import deployment
from tests.nodekit.test_overhead_rules import BUSY, DEFAULT, IDLE, LOAD


def document(busy: SandboxUse = BUSY, *, whole_in_pod: bool = False) -> dict[str, Any]:
    """What a node answers."""
    known = DEFAULT._replace(whole_in_pod=whole_in_pod)
    proposal = propose(IDLE, busy, known, LOAD)
    return {"guestMiB": 2048, "idle": IDLE.as_dict(), "busy": busy.as_dict(), "proposal": proposal.as_dict()}


def printed(capsys: pytest.CaptureFixture[str], answer: dict[str, Any], known: dict[str, dict[str, str]] | None = None) -> str:
    """What a person reads."""
    shown.write(view(answer, known or {}))
    return capsys.readouterr().out


def test_every_number_stands_with_its_reason_and_where_it_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    output = printed(capsys, document(), {"kata-qemu": {"memory": "160Mi", "cpu": "250m"}})
    rows = [line.split() for line in output.splitlines()]
    assert rows[0] == ["PROCESS", "IDLE", "MiB", "IDLE", "CPU", "BUSY", "MiB", "BUSY", "CPU"]
    assert ["qemu-system-x86", "70.0", "20m", "86.0", "130m"] in rows and ["virtiofsd", "10.0", "0m", "10.0", "0m"] in rows
    assert ["guest,", "of", "2048", "MiB", "200.0", "10m", "1300.0", "900m"] in rows
    for reason in document()["proposal"]["reasons"]:
        assert reason in output
    assert "Proposal: memory 350Mi, cpu 150m." in output
    assert "The stack's class kata-qemu has cpu 250m, memory 160Mi." in output
    assert "    kata-nodes:kubernetes:\n      overhead: {memory: 350Mi, cpu: 150m}\n" in output
    assert "    overhead:\n      podFixed: {memory: 350Mi, cpu: 150m}\n" in output


def test_the_bound_that_kills_no_pod_is_shown_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "With memory 2380Mi no pod is killed" in printed(capsys, document(whole_in_pod=True))
    assert "no pod is killed" not in printed(capsys, document())


def test_emulated_guests_leave_nothing_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    emulated = BUSY._replace(processes=tuple(process._replace(guest_milli=0) for process in BUSY.processes))
    output = printed(capsys, document(emulated))
    assert "No proposal: the guests did not run on KVM." in output and "podFixed" not in output


@pytest.mark.parametrize("broken", ["proposal", "idle", "busy", "guestMiB", "reasons", "processes"])
@pytest.mark.parametrize("value", [None, 7, "x", [7], {}])
def test_a_node_that_answers_anything_else_has_no_proposal(
    capsys: pytest.CaptureFixture[str], broken: str, value: object
) -> None:
    answer = document()
    holder = answer["proposal"] if broken == "reasons" else answer["idle"] if broken == "processes" else answer
    holder[broken] = value
    with suppress(FleetError):  # the rest of an answer may be whole
        printed(capsys, answer)
    for other in ({"proposal": value}, {**document(), "idle": {**document()["idle"], "kernelMiB": 10**400}}):
        with pytest.raises(FleetError, match="no measurement"):
            printed(capsys, other)


def test_an_answer_without_end_is_not_laid_out_and_nothing_but_a_quantity_is_proposed() -> None:
    """Each of 30,000 processes was looked for among all of them: that took minutes."""
    answer = document()
    process = answer["busy"]["processes"][0]
    answer["busy"]["processes"] = [{**process, "name": f"p{number}"} for number in range(30_000)]
    with pytest.raises(FleetError, match="no measurement"):
        view(answer, {})
    for key in ("memory", "cpu", "memoryAtMost"):
        answer = document()
        answer["proposal"][key] = "1Mi}\nkata-nodes:docker: {version: 20.10.0"
        with pytest.raises(FleetError, match="no measurement"):
            view(answer, {})


def test_the_node_is_asked_about_its_own_kata_and_ends_before_its_time_is_over() -> None:
    (host,) = hosts.of(deployment())
    assert question(10, 300).state(host) == OverheadState(host.state.node, "qemu", "go", 10, 240, None)
    with pytest.raises(FleetError, match=r"Use --timeout 210 or more"):
        question(60, 200)
    bare = replace(host, state=with_values(host.state, kata=None))
    with pytest.raises(FleetError, match="run `pulumi up`"):
        question(10, 300).state(bare)


def test_only_classes_that_the_stack_has_made_are_its_own() -> None:
    inputs = {"metadata": {"name": "kata"}, "overhead": {"podFixed": {"memory": "160Mi", "cpu": "250m"}}}
    resources = [
        {"urn": "a", "type": CLASS, "inputs": inputs},
        {"urn": "b", "type": CLASS, "inputs": {"metadata": {"name": "adopted"}}, "external": True},
        {"urn": "c", "type": CLASS, "inputs": {"metadata": {"name": "bare"}}},
    ]
    assert classes({"resources": resources}) == {"kata": {"memory": "160Mi", "cpu": "250m"}, "bare": {}}
    assert classes({"resources": None}) == {}
