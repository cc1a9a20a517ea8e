"""What kata-nodes decides without a node.

Lost if these fail: a node of the stack, a password that is taken for settings, or who changed a package."""

import asyncio
import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from delivery import login, scripts
from fleet import cure, doctor, explain, hosts, measure, shown, stack
from fleet.errors import FleetError
from fleet.hosts import Host
from fleet.measure import Measured
from fleet.report import command
from fleet.stack import Answers
from nodekit.commands import compare
from nodekit.host import modules
from nodekit.rules import node_state
from nodekit.rules.difference import MAX_DIFF_LINES, Difference, of_file, package_history, unified
from plugins.command import connections, remote
from plugins.command.connections import DialError
from plugins.command.errors import CommandError
from plugins.command.output import Output
from review.documents import SIGNATURE, SIGNED_SECRET

CHECKOUT = Path(__file__).resolve().parents[2]
KEY = "ssh-ed25519 AAAA"
PASSWORD = "{ \" '\\ }"
KATA = {"node": "n1", "hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "kernelParams": ["quiet"]}
DOCKER = {
    "node": "n1", "version": "27.5.1", "repository": {"address": "https://x", "fingerprint": "A"}, "kataVersion": "3.32.0",
    "kataRuntime": "go",
}  # fmt: skip
PROMISE = node_state.digest([DOCKER, KATA, {"program": "d" * 64, "machine": KEY}])
"""Digest of the proof in the state."""
RUN = "0123456789abcdef"
PROVE = {"verb": "prove", "bootId": "b", "userNamespaces": 7}


def secret(value: object) -> dict[str, str]:
    """As `pulumi stack export --show-secrets` writes it."""
    return {SIGNATURE: SIGNED_SECRET, "plaintext": json.dumps(value)}


def steps(**others: Any) -> str:
    """What `-converge` reads, without a password; `others` are keys of it."""
    state = {"node": "n1", "docker": DOCKER, "kata": KATA, **others}
    return scripts.sent("converge.sh", "delivery") + json.dumps(state, indent=1)


def deployment(converge: str | None = None, **fields: Any) -> dict[str, Any]:
    """The state of a stack with one node."""
    urn = "urn:pulumi:s::kata-nodes::kata-nodes:index:ExistingNodes$kata-nodes:index:KataNode::nodes-n1"
    as_root = scripts.sent("as_root.sh", "delivery")
    stdin = {
        "system": secret(login.before(as_root, PASSWORD, scripts.sent("system.sh"))),
        "converge": secret(login.before(as_root, PASSWORD, steps())) if converge is None else converge,
        "proof": secret(login.before(as_root, PASSWORD, json.dumps({"digest": PROMISE}, indent=1))),
    }
    connection = secret({"host": "10.0.0.5", "port": 22, "user": "admin", "hostKey": KEY})
    resources: list[dict[str, Any]] = [{"urn": urn, "type": hosts.NODE, "inputs": {}}]
    upload = {"connection": connection, "triggers": [KEY, "admin", "id-of-system", "d" * 64]}
    resources.append({"urn": f"{urn}-upload", "type": "command:remote:CopyToRemote", "parent": urn, "inputs": upload})
    for which, text in stdin.items():
        inputs = {"connection": connection, "create": f"{which} # run {RUN}", "stdin": text, "triggers": [KEY]}
        printed = {"converge": {"verb": "converge", "run": RUN}, "proof": PROVE}
        outputs = {"stdout": json.dumps(printed[which])} if which in printed else {}
        resource = {
            "urn": f"{urn}-{which}",
            "type": "command:remote:Command",
            "parent": urn,
            "inputs": inputs,
            "outputs": outputs,
            **fields,
        }
        resources.append(resource)
    return {"resources": resources}


def test_a_node_is_read_from_a_state_with_its_password_and_its_proof() -> None:
    (host,) = hosts.of(deployment())
    assert (host.name, host.address, host.sudo_password, host.gone) == ("n1", "10.0.0.5", PASSWORD, False)
    assert host.state.kata is not None and host.state.kata.kernel_params == ["quiet"]
    assert (host.state.program, host.state.boot_id, host.differences) == ("d" * 64, "b", ())
    assert host.evidence == PROVE and host.urns["proof"].endswith("::nodes-n1-proof")
    assert repr(PASSWORD) not in repr(host) and "10.0.0.5" not in repr(host), "no traceback shows how to log in"


@pytest.mark.parametrize(
    ("key", "value"), [("hostKey", True), ("privateKey", 7), ("user", ["x"]), ("proxy", "x"), ("perDialTimeout", "x")]
)
def test_connection_that_somebody_edited_costs_the_other_nodes_no_answer(key: str, value: Any) -> None:
    (host,) = hosts.of(deployment())
    edited = replace(host, name="n2", connection={**host.connection, key: value})
    unreachable = replace(host, connection={"host": "", "port": 22})
    answers = {each.host.name: each.cause for each in measure.measure([edited, unreachable], 1)}
    assert str(answers["n2"]).startswith(f"connection.{key} has a value of another kind")
    assert str(answers["n1"]).startswith("connection.host is missing")


def test_bastion_that_is_silent_is_waited_for_once_whatever_is_behind_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """3,000 nodes come to their turn in 47 rounds, each of which waited for it."""
    (host,) = hosts.of(deployment())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(measure, "AT_ONCE", 2)
    monkeypatch.setattr(measure, "DIAL_SECONDS", 0.4)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(0.1)
        proxy = {"host": "127.0.0.1", "port": silent.getsockname()[1], "user": "jump"}
        behind = [replace(host, name=f"n{each}", connection={"host": f"192.0.2.{each}", "proxy": proxy}) for each in range(8)]
        answers = measure.measure(behind, 20)
        dials = 0
        with contextlib.suppress(TimeoutError):
            while True:
                silent.accept()[0].close()
                dials += 1
    assert len(answers) == 8 and all("no answer in time" in str(each.cause) for each in answers)
    assert dials <= 2 * 2, "two for each of the first two"


def test_port_without_end_in_a_state_is_a_sentence() -> None:
    state = json.loads(json.dumps(deployment()).replace(': 22, \\"user', ': 1e999, \\"user'))
    with pytest.raises(FleetError, match="not of a form that an engine writes"):
        stack.of(state)


def test_a_node_without_a_password_is_given_no_line_of_a_script_for_one() -> None:
    state = deployment(steps())
    by_name = {resource["urn"].rpartition("-")[2]: resource["inputs"] for resource in state["resources"]}
    by_name["system"]["stdin"], by_name["proof"]["stdin"] = scripts.sent("system.sh"), json.dumps({"digest": PROMISE}, indent=1)
    (host,) = hosts.of(state)
    assert (host.sudo_password, host.differences) == (None, ()) and host.state.docker is not None


def test_steps_that_were_taken_out_for_others_which_failed_are_not_what_the_node_has() -> None:
    """Docker was to change: the engine keeps the former command by name, and what is on the node is not known."""
    state = deployment()
    (converge,) = (resource for resource in state["resources"] if resource["urn"].endswith("-converge"))
    converge["pendingReplacement"] = True
    (host,) = hosts.of(state)
    assert (host.state.docker, host.state.kata, host.state.program) == (None, None, None)
    assert [difference.kind for difference in host.differences] == ["setting"]


@pytest.mark.parametrize("of", ["converge", "proof"])
def test_a_proof_from_before_a_run_that_took_a_step_is_none(of: str) -> None:
    """The proof after it failed, and the engine keeps the one before; or the run was killed."""
    state = deployment()
    (resource,) = (resource for resource in state["resources"] if resource["urn"].endswith(f"-{of}"))
    if of == "converge":
        resource["outputs"]["stdout"] = json.dumps({"verb": "converge", "run": "f" * 16})
    else:
        resource["inputs"]["create"] = "proof # run " + "f" * 16
    (host,) = hosts.of(state)
    assert host.evidence is None and [each.message for each in host.differences] == [
        "the stack holds no proof of it: the last run ended before"
    ]
    assert host.state.docker is not None, "and what it took is known"


@pytest.mark.parametrize("taken_out", ["system", "upload", "converge"])
def test_a_node_whose_resource_was_taken_out_for_another_which_failed_is_cured_by_a_whole_up(taken_out: str) -> None:
    """Lost if this fails: `cure` and `prove` prove a node on which a step failed, and `destroy` does not undo one whose -system
    was never made again."""
    state = deployment()
    (resource,) = (resource for resource in state["resources"] if resource["urn"].endswith(f"-{taken_out}"))
    resource["pendingReplacement"] = True
    (host,) = hosts.of(state)
    differences = [{**Difference("setting", "x", "program").as_dict(), "traces": []}]
    measured = Measured(host, {"verb": "compare", "differences": differences}, None, 1.0)
    flags = cure.flags(Answers([measured], []))
    assert flags is not None and not {"--target", "--target-replace"} & {*flags} and resource["urn"] not in flags
    with pytest.raises(FleetError, match=r"The last run on node n1 ended early: run `pulumi up`"):
        cure.proofs(["n1"], {"n1": dict(host.urns)})


@pytest.mark.parametrize("former", ["program", "preflight", "docker", "kata"])
def test_a_state_of_the_version_with_a_command_for_each_step_is_refused_with_what_to_do(former: str) -> None:
    state = deployment()
    urn = state["resources"][0]["urn"]
    state["resources"].append({"urn": f"{urn}-{former}", "type": "command:remote:Command", "parent": urn, "inputs": {}})
    assert hosts.of(state)[0].differences == (), "an upgrade whose end is left"
    state["resources"] = [resource for resource in state["resources"] if not resource["urn"].endswith("-converge")]
    with pytest.raises(FleetError, match=r"earlier version of this program\. Run `pulumi up`"):
        hosts.of(state)


def test_a_machine_that_is_gone_and_what_is_left_of_a_replaced_resource_are_told_apart() -> None:
    (host,) = hosts.of(deployment(retainOnDelete=True))
    assert host.gone
    assert hosts.of({"resources": None}) == []
    old = deployment()
    for resource in old["resources"][2:]:
        resource["delete"] = True
    (host,) = hosts.of(old)
    assert [difference.kind for difference in host.differences] == ["setting"] and host.state.docker is None


def test_a_node_whose_first_step_failed_is_not_left_out() -> None:
    """A machine that cannot be reached at all leaves its component in the state, and no step: the stack was called proven."""
    state = deployment()
    urn = state["resources"][0]["urn"].replace("nodes-n1", "nodes-n2")
    never: dict[str, Any] = {"urn": urn, "type": hosts.NODE, "inputs": {"plan": {"node": "n2"}}}
    taken_out = {**never, "urn": f"{urn}0", "delete": True}
    first, second = hosts.of({"resources": [*state["resources"], never, taken_out]})
    assert (first.name, second.name, second.address, second.evidence, second.gone) == ("n1", "n2", "", None, False)
    assert [difference.message for difference in second.differences] == [
        "the stack holds no proof of it: the last run ended before"
    ]
    (measured,) = measure.measure([second], 1)
    assert measured.cause == measure.NEVER_REACHED
    assert cure.flags(Answers([measured], [])) == [], "all of the `up`"
    assert hosts.of({"resources": [{**never, "inputs": {}}]})[0].name == "nodes-n2", "of a version without a plan"


def test_a_node_that_its_program_keeps_in_place_is_not_gone() -> None:
    state = deployment(retainOnDelete=True)
    state["resources"][0]["retainOnDelete"] = True
    (host,) = hosts.of(state)
    assert not host.gone


def test_nodes_of_one_name_in_two_pools_are_told_apart_by_their_resources() -> None:
    first = json.dumps(deployment())
    second, standalone = first.replace("nodes-n1", "rack-n1"), first.replace("ExistingNodes$", "AwsNodes$")
    both = [*json.loads(first)["resources"], *json.loads(second)["resources"]]
    assert [host.name for host in hosts.of({"resources": both})] == ["nodes-n1", "rack-n1"]
    assert {host.state.node for host in hosts.of({"resources": both})} == {"n1"}
    names = [host.name for host in hosts.of({"resources": [*both, *json.loads(standalone)["resources"]]})]
    assert len({*names}) == 3 and names[0] == "rack-n1" and "AwsNodes$" in names[1]


def test_a_state_of_another_version_is_refused_with_what_to_do() -> None:
    state = deployment(steps(docker={**DOCKER, "colour": "red"}))
    with pytest.raises(FleetError, match=r"Key colour is not known.*Run `pulumi up`"):
        hosts.of(state)
    # What was done on a machine that is gone stays as it was written: no `up` changes it any more.
    for resource in state["resources"][1:]:
        resource["retainOnDelete"] = True
    (host,) = hosts.of(state)
    assert (host.name, host.gone, host.evidence, host.state.docker) == ("n1", True, PROVE, None)


@pytest.mark.parametrize("left", ["settings", "steps"])
def test_a_node_that_an_upgrade_did_not_come_to_hides_none_of_the_others(left: str) -> None:
    """One of fifty could not be reached: of the others, of which each was proven, nothing could be seen any more."""
    state, other = deployment(), json.loads(json.dumps(deployment(steps(docker={**DOCKER, "colour": "red"}))).replace("n1", "n2"))
    if left == "steps":
        (converge,) = (resource for resource in other["resources"] if resource["urn"].endswith("-converge"))
        converge["urn"] = converge["urn"].replace("-converge", "-docker")
    first, second = hosts.of({"resources": [*state["resources"], *other["resources"]]})
    assert (first.differences, first.evidence) == ((), PROVE) and second.address == first.address
    assert [each.message for each in second.differences] == [hosts.NOT_UPGRADED] and second.evidence is None
    measured = Measured(second, {"verb": "compare", "differences": []}, None, 1.0)
    flags = cure.flags(Answers([measured], []))
    assert flags is not None and flags[::2] == ["--replace"], "with all of the `up`"
    with pytest.raises(FleetError, match="Run `pulumi up`"):
        hosts.of(other)


@pytest.mark.parametrize("value", [7, "x", [], ["x"], True])
@pytest.mark.parametrize("key", ["inputs", "outputs", "stdin", "triggers", "connection"])
def test_a_state_that_somebody_edited_is_a_sentence_and_costs_other_stacks_nothing(
    monkeypatch: pytest.MonkeyPatch, key: str, value: Any
) -> None:
    state = deployment()
    for resource in state["resources"][1:]:
        (resource["inputs"] if key in ("stdin", "triggers", "connection") else resource)[key] = value
    state["resources"].append({"urn": "urn:s", "type": hosts.STACK, "outputs": value})
    assert hosts.outputs(state) == {}
    monkeypatch.setattr(command.engine, "deployment", lambda name: state if name == "edited" else {"resources": []})
    document, _ = command.of_many(["edited", "whole"], lambda known: Answers([], []))
    assert [line.stack for line in document.stacks] == ["edited", "whole"] and document.stacks[1].readable
    assert document.stacks[0].readable or "pulumi " in document.stacks[0].problem
    (finding,) = doctor._state("edited")
    assert bool(finding.cure) or document.stacks[0].readable, "and no traceback"


async def connected(*_: object) -> None:
    """In the place of a connection, for a test that has its own answers."""


def measured(*kinds: tuple[str, str]) -> Measured:
    (host,) = hosts.of(deployment())
    differences = [{**Difference(kind, "x", verb).as_dict(), "traces": []} for kind, verb in kinds]
    return Measured(host, {"verb": "compare", "differences": differences}, None, 1.0)


def unproven() -> Host:
    """A node whose last run ended before its proof."""
    state = deployment()
    state["resources"] = [each for each in state["resources"] if not each["urn"].endswith("-proof")]
    (host,) = hosts.of(state)
    return host


def test_cure_goes_on_with_a_run_that_ended_before_the_proof() -> None:
    answers = Answers([Measured(unproven(), {"verb": "compare", "differences": []}, None, 1.0)], [])
    assert answers.differing_nodes == ["n1"]
    assert cure.flags(answers) == [], "the whole `up`: a proof that was never made can be no target"
    assert cure.flags(Answers([Measured(unproven(), None, "not reached", 1.0)], [])) == []


def test_cure_makes_again_just_what_repairs_and_always_the_proof() -> None:
    def names(flags: list[str] | None) -> list[str]:
        assert flags and set(flags[::2]) <= {"--target-replace"}
        return [urn.rpartition("-")[2] for urn in flags[1::2]]

    assert cure.flags(Answers([measured()], [])) is None
    assert names(cure.flags(Answers([measured(("hold", "docker"))], []))) == ["converge", "proof"]
    assert names(cure.flags(Answers([measured(("boot", "prove"))], []))) == ["proof"]
    program = cure.flags(Answers([measured(("program", "program"))], [])) or []
    assert names(program[:4]) == ["upload", "proof"]
    assert program[4] == "--target" and program[5].endswith("-converge"), "the steps that are taken stay"
    several = measured(("hold", "docker"), ("module", "preflight"), ("package", "docker"))
    assert names(cure.flags(Answers([several], []))) == ["converge", "proof"]
    assert names(cure.flags(Answers([measured(("program", "program"), ("hold", "docker"))], []))) == [
        "upload",
        "converge",
        "proof",
    ]
    flags = cure.flags(Answers([replace(several, host=unproven())], []))
    assert flags and flags[::2] == ["--replace"]
    with pytest.raises(FleetError, match="no node 'n9'"):
        cure.proofs(["n9"], {"n1": {}})


def recorded(passed: bool, digest: str = PROMISE) -> dict[str, Any]:
    """A proof in a node's record."""
    error = None if passed else {"code": "x-y"}
    return {"passed": passed, "began": "2026-11-27T01:00:00Z", "error": error, "digest": digest}


def answers(*proofs: Any) -> Answers:
    """Of a node that is as deployed and has recorded these."""
    return Answers([replace(measured(), document={"verb": "compare", "differences": [], "proofs": list(proofs)})], [])


def test_somebody_s_proof_with_other_settings_hides_no_failure_and_is_a_difference() -> None:
    for foreign in (recorded(True, "other"), recorded(False, "other"), {"passed": True}, {"passed": True, "digest": [PROMISE]}):
        (node,) = answers(recorded(True), foreign).nodes
        (difference,) = node.changes
        assert difference["what"].endswith("is not the one that the stack wants: it ran with other settings")
        assert node.differences == node.changes and node.record == recorded(True)
        assert [urn.rpartition("-")[2] for urn in (cure.flags(answers(foreign)) or [])[1::2]] == ["proof"]
        both = answers(recorded(False), foreign).nodes[0].differences
        assert ["failed [x-y]" in each["what"] for each in both] == [False, True]


def test_a_recorded_pass_is_no_proof_where_the_state_has_none_and_a_recorded_failure_is() -> None:
    """The run was killed, or the disk is a copy of another node's."""
    for proofs, record in (
        ([recorded(True)], None),
        ([recorded(False), recorded(True)], None),
        ([recorded(False, "other")], None),
        ([recorded(True), recorded(False)], recorded(False)),
    ):
        (node,) = answers(*proofs).nodes
        node = replace(node, host=unproven())
        assert node.record == record
        assert [each["what"] for each in node.changes] == ["the stack holds no proof of it: the last run ended before"]


def test_a_node_that_answers_without_end_is_shown_in_time_and_what_was_cut_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    item = {**Difference("hold", "x", "docker").as_dict(), "diff": "+a\n" * 500_000, "traces": ["t"] * 50_000}
    configuration = {"configFile": "/x", "kernelParams": "a " * 100_000, "dropIns": ["/d"] * 50_000}
    status = {"kata": {"version": "x" * 1_000_000, "configurations": {"go": {"qemu": configuration}}}}
    noisy = {"verb": "compare", "differences": [item, *[{**item, "diff": None, "traces": []}] * 50_000], "status": status}
    node = replace(measured(), document={**noisy, "notes": ["n"] * 50_000})
    begin = time.process_time()
    rows = list(explain.lines(node))
    shown.write(shown.table(["n1", ""], rows), shown.fleet("s", Answers([node], []), []), shown.drift(Answers([node], [])))
    assert time.process_time() - begin < 5
    assert len(rows) < 500 and ("Parameter", f"(cut: {explain.MAX_PARAMETERS // 2 - measure.MOST} more)") in rows
    assert ("Note", "kernel_params have 200000 characters, of which the first 65536 are looked at") in rows
    output = capsys.readouterr().out
    assert "n1: 49901 more differences are not shown" in output and "49900 more notes are not shown" in output
    assert "(cut)" in output and len(output) < 200_000


def test_a_proof_whose_result_cannot_be_read_is_told() -> None:
    state = deployment()
    state["resources"][-1]["outputs"] = {"stdout": "Killed"}
    (host,) = hosts.of(state)
    assert host.evidence is None and [each.kind for each in host.differences] == ["setting"]


def test_what_the_stack_has_put_on_a_node_is_promised_before_it_is_proven() -> None:
    state = deployment()
    state["resources"][-1]["inputs"]["stdin"] = json.dumps({"digest": "before"}, indent=1)
    (host,) = hosts.of(state)
    assert host.promises == ("before", PROMISE) and unproven().promises == (PROMISE,)
    state["resources"][-1]["pendingReplacement"] = True
    (host,) = hosts.of(state)
    assert host.promises == (PROMISE,), "it was taken out for another one"


def test_a_node_whose_last_proof_failed_is_not_as_deployed() -> None:
    """The engine keeps the proof before one that fails as it is made again, as by `prove` or `cure`, and no `up` sees that."""
    passed, failed = recorded(True), recorded(False)

    assert answers(failed, passed).differing_nodes == answers().differing_nodes == answers([7]).differing_nodes == []
    (difference,) = answers(passed, failed).nodes[0].differences
    assert difference["what"] == "its last proof, which began 2026-11-27T01:00:00Z, failed [x-y]"
    assert [urn.rpartition("-")[2] for urn in (cure.flags(answers(passed, failed)) or [])[1::2]] == ["proof"]
    assert answers({**failed, "error": 7}).differing_nodes == ["n1"]


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 100_000,
        '{"verb": "compare", "differences": 7}',
        '{"verb": "compare", "differences": [{"kind": "hold"}]}',
        '{"verb": "compare", "differences": [{"kind": "hold", "what": "x", "verb": "docker", "traces": 7}]}',
        '{"verb": "compare", "notes": 7}',
        '{"verb": "compare", "status": [7]}',
        '{"verb": "prove"}',
        '{"verb": "compare", "status": {"memory": NaN}}',
        '{"verb": "compare", "status": {"memory": 1e999}}',
    ],
)
def test_a_node_that_answers_with_anything_else_is_one_that_was_not_measured(answer: str) -> None:
    with pytest.raises(CommandError, match="no result of the program"):
        measure._document(answer, "compare")


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        ("sudo: a password is required", "sudo: a password is required"),
        ("sudo: unable to resolve host n1: Name or service not known", "Process exited with status 127"),
        ("sudo: setrlimit(RLIMIT_CORE): Operation not permitted", "Process exited with status 127"),
        ("sudo: unable to resolve host n1: Temporary failure\nerror: no room. [disk-full]", "no room. [disk-full]"),
    ],
)
def test_what_sudo_only_warns_of_is_no_cause(printed: str, cause: str) -> None:
    """Machines whose own name is not in /etc/hosts are common, and sudo works there."""
    output = Output("none", measure._ignore)
    asyncio.run(output.feed("stderr", f"{printed}\n".encode()))
    assert str(measure._explained(output, CommandError("Process exited with status 127"))) == cause


def test_cause_is_what_the_node_said_and_not_the_command_that_nobody_typed() -> None:
    """On one line: below it, the rest would stand as the row of another node."""
    output = Output("none", measure._ignore)
    for text in (
        "sh: 1: setlocale\n",
        "\n\ttimeout: not found  \n",
        "sudo: unable to resolve host n1: Name or service not known\n",
    ):
        asyncio.run(output.feed("stderr", text.encode()))
    error = output.error("Process exited with status 127", measure.START.format(program="d", verb='"compare":\n'))
    assert str(measure._explained(output, error)) == "Process exited with status 127: \ttimeout: not found  "
    silent = Output("none", measure._ignore).error("Process exited with status 1", "x")
    assert str(measure._explained(output, silent)) == "Process exited with status 1"


def test_nothing_that_a_node_says_looks_like_the_row_of_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = "x\nn2  as deployed\nStack s: 2 nodes"

    async def refused(*_: object) -> None:
        raise CommandError(forged)

    monkeypatch.setattr(measure.remote, "run", refused)
    monkeypatch.setattr(measure.Pool, "open", connected)
    (host,) = hosts.of(deployment())
    (silent,) = measure.measure([host], 60)
    difference = {"kind": forged, "what": forged, "verb": "docker", "traces": [forged]}
    status = {"docker": {"daemon": {"version": forged}}, "kata": {"version": forged}}
    document = {"verb": "compare", "differences": [difference], "notes": [forged], "status": status}
    answers = Answers([silent, Measured(host, document, None, 1.0)], [])
    shown.write(shown.fleet("s", answers, []), shown.drift(answers))
    beginnings = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert beginnings == ["NODE", "n1", "n1", "Stack", "n1:", "n1:", "x", "n1:"]


def test_a_connection_that_is_cut_while_a_node_is_measured_asks_for_no_up() -> None:
    """An `up` changes nodes; who only measures them does that again."""
    error = CommandError(f"the connection to root@n1:22 ended while the command ran: Connection lost{remote.AGAIN}")
    text = str(measure._explained(Output("none", measure._ignore), error))
    assert text.endswith("Connection lost; measure again when it answers") and "pulumi up" not in text


def test_a_program_that_is_sent_along_starts_from_a_line_that_every_login_shell_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """csh refuses quotes around several lines; the commands of a stack have none either."""
    lines = []

    async def run(_: object, __: object, line: str, stdin: str, ___: object, ____: object, output: Any, *rest: object) -> None:
        lines.append(line)
        if len(lines) == 1:
            await output.feed("stdout", b"absent\n")
            return
        ended = subprocess.run(["sh", "-c", line.removeprefix("sudo -n ")], input=stdin.encode(), capture_output=True, check=True)
        await output.feed("stdout", ended.stdout)

    program = b"import json, sys\nprint(json.dumps({'verb': sys.argv[1], 'read': json.load(sys.stdin)}))\n"
    monkeypatch.setattr("fleet.measure.remote.run", run)
    monkeypatch.setattr(measure.Pool, "open", connected)
    monkeypatch.setattr("fleet.measure.bundle.content", lambda: program)
    hosts_known = hosts.of(deployment())
    (measured,) = measure.measure([replace(host, sudo_password=None) for host in hosts_known], 60)
    assert measured.document and measured.document["read"] == hosts_known[0].state.document() and measured.sent
    assert len(lines) == 2 and not any("\n" in line for line in lines)


@pytest.mark.slow
def test_machines_that_do_not_answer_cost_the_others_none_of_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections through other machines are opened a few at a time, and each that hangs keeps its place for a while."""

    async def dial(connection: Any, *_: object, **__: object) -> Any:
        await asyncio.sleep(0.4)
        raise DialError("no answer in time", f"cannot reach {connection.login.host}")

    monkeypatch.setattr(connections, "dial", dial)
    monkeypatch.setattr(measure, "DIALS_BEHIND_JUMPS", 1)
    monkeypatch.setattr(measure, "_jumps", lambda _: True)
    (host,) = hosts.of(deployment())
    several = [replace(host, connection={"host": f"10.0.0.{number}"}) for number in range(4)]
    assert {str(each.cause)[:12] for each in measure.measure(several, 1)} == {"cannot reach"}


def test_dial_that_nobody_waits_for_any_longer_fails_without_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio prints the traceback of a task whose error nobody looks at: with a short --timeout, one for each silent node."""

    async def dial(connection: Any, *_: object, **__: object) -> Any:
        await asyncio.sleep(0.3 if connection.login.host == "10.0.0.1" else 0.05)
        raise DialError("no answer in time", f"cannot reach {connection.login.host}")

    monkeypatch.setattr(connections, "dial", dial)
    (host,) = hosts.of(deployment())
    monkeypatch.setattr(measure, "AT_ONCE", 1)
    several = [replace(host, connection={"host": f"10.0.0.{number}"}) for number in range(1, 6)]
    assert "no answer within 0.1 s" in str(measure.measure(several, 0.1)[0].cause)
    gc.collect()
    assert caplog.records == []


@pytest.mark.slow
def test_names_that_nobody_looks_up_cost_the_others_none_of_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many are looked up at once as there are processors and four, unless the loop is told otherwise."""

    def silent(name: str, *_: object, **__: object) -> Any:
        time.sleep(0 if name == "there.example" else 2)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    (host,) = hosts.of(deployment())
    names = [*(f"lost-{number}.example" for number in range(40)), "there.example"]
    connection = {key: value for key, value in host.connection.items() if key != "hostKey"}
    *_, known = measure.measure([replace(host, connection={**connection, "host": name}) for name in names], 60)
    assert "name resolution" in str(known.cause) and known.seconds < 1.5


def test_a_name_that_is_looked_up_in_vain_keeps_no_command_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost otherwise: Ctrl-C, and the bound of --timeout, which ended half a minute later where a name server was silent."""
    going_on = threading.Event()

    def silent(*_: object, **__: object) -> Any:
        going_on.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    (host,) = hosts.of(deployment())
    connection = {key: value for key, value in host.connection.items() if key != "hostKey"}
    begin = time.monotonic()
    (measured,) = measure.measure([replace(host, connection={**connection, "host": "lost.example"})], 0.2)
    assert "no answer within 0.2 s" in str(measured.cause) and time.monotonic() - begin < 10
    waiting = [thread for thread in threading.enumerate() if thread.name == "lookup"]
    assert waiting and all(thread.daemon for thread in waiting), "Python would wait for it at its own end"
    going_on.set()
    for thread in waiting:
        thread.join(10)
    assert not any(thread.is_alive() for thread in waiting), "a watch would have more of them each time"


def test_a_node_that_answers_without_end_is_not_listened_to_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = 0

    async def endless(*words: Any) -> None:
        nonlocal fed
        (output,) = (word for word in words if isinstance(word, Output))
        while True:
            await output.feed("stdout", b"x" * 65536)
            fed += 65536

    monkeypatch.setattr(measure.remote, "run", endless)
    monkeypatch.setattr(measure.Pool, "open", connected)
    (measured,) = measure.measure(hosts.of(deployment()), 60)
    assert "printed more than 4194304 bytes" in str(measured.cause) and fed <= 4 << 20


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, {"daemon": 7}, {"daemon": {"version": []}, "packages": [7]}])
def test_a_node_that_measures_anything_else_costs_the_others_no_row(value: Any) -> None:
    (host,) = hosts.of(deployment())
    difference = {**Difference("hold", "x", "unheard-of").as_dict(), "traces": []}
    document = {"verb": "compare", "differences": [difference], "status": {"docker": value, "kata": value}}
    answers = Answers([Measured(host, document, None, 1.0), measured()], [])
    shown.write(shown.fleet("s", answers, []), shown.drift(answers))
    assert [urn.rpartition("-")[2] for urn in (cure.flags(answers) or [])[1::2]] == ["proof"]


WRONG = {"configFile": [], "dead": [7], "dropIns": 7, "notes": {}, "kernelParams": {}}


@pytest.mark.parametrize("value", [None, 7, "x", [], [7], {}, {"configFile": 7}, WRONG])
def test_a_node_that_answers_anything_else_is_explained_as_far_as_it_goes(value: Any) -> None:
    (host,) = hosts.of(deployment())
    read = {"configFile": "/c", "chosenBy": "x", "dropIns": [], "kernelParams": "quiet", "dead": [], "notes": []}
    forms: list[dict[str, Any]] = [{"docker": value, "kata": value, "changes": value}, {"changes": {"kata": value}}]
    forms += [{"kata": {"configurations": each}} for each in (value, {"go": value}, {"go": {"qemu": value}})]
    forms += [{"changes": {"kata": {"restores": value, "keeps": value}}}, {"docker": {"daemon": value}}]
    for status in forms:
        whole = {"kata": {"version": "3.32.0", "configurations": {"go": {"qemu": read}}}, **status}
        rows = list(explain.lines(Measured(host, {"verb": "compare", "status": whole}, None, 1.0)))
        assert rows[0][0] == "Address" and rows[1][0] == "Configuration"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["errors"], ["compat", "--docker", "27.5.1"]])
def test_output_that_nobody_takes_ends_a_command_without_a_traceback(words: list[str]) -> None:
    def run(output: int) -> tuple[int, str]:
        argv = [sys.executable, "-m", "fleet", *words]
        ended = subprocess.run(argv, stdout=output, stderr=subprocess.PIPE, text=True, check=False, cwd=CHECKOUT)
        return ended.returncode, ended.stderr

    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run(writer) == (1, "")
    finally:
        os.close(writer)
    with open("/dev/full", "wb") as full:
        assert run(full.fileno()) == (1, "error: The output could not be written: No space left on device.\n")


def test_explain_lists_what_restore_puts_back_and_keeps() -> None:
    (host,) = hosts.of(deployment())
    read = {"configFile": "/c", "chosenBy": "it", "dropIns": ["/d"], "kernelParams": "quiet", "dead": [], "notes": ["n"]}
    changes = {"kata": {"restores": ["/a", "/b"], "keeps": {"/e": "edited"}}, "docker": {"restores": [], "keeps": {}}}
    status = {"kata": {"configurations": {"go": {"qemu": read}}}, "changes": changes}
    assert list(explain.lines(Measured(host, {"verb": "compare", "status": status}, None, 1.0)))[1:] == [
        ("Configuration", "/c: it"),
        ("Drop-in", "/d"),
        ("Parameter", "quiet: the stack's"),
        ("Note", "n"),
        ("Restore restores", "kata: /a, /b"),
        ("Restore keeps", "kata: /e"),
    ]


@pytest.mark.parametrize("words", ["Welcome!\n", "Logo\n\x1b[?25h\x1b[?7h", "\x1b]0;admin@n1\x07"])
def test_what_a_login_shell_prints_first_hides_no_result(words: str) -> None:
    """With an end of line, and without one, as the title of a window has none."""
    state = deployment()
    (proof,) = (each for each in state["resources"] if each["urn"].endswith("-proof"))
    proof["outputs"]["stdout"] = words + proof["outputs"]["stdout"]
    assert hosts.of(state)[0].evidence == PROVE
    assert measure._document(f'{words}{{"verb": "compare", "status": {{"x": 1}}}}\n', "compare")["status"] == {"x": 1}
    start = measure.START.format(program="d" * 12, verb="compare").replace("folder=/", "folder=/nowhere/")
    ended = subprocess.run(["sh", "-c", start], capture_output=True, text=True, check=True)
    assert login.last_line(words + ended.stdout) == measure.ABSENT


def test_a_result_that_is_no_json_leaves_a_node_without_a_proof() -> None:
    state = deployment()
    (proof,) = (each for each in state["resources"] if each["urn"].endswith("-proof"))
    proof["outputs"] = {"stdout": "[" * 100_000}
    (host,) = hosts.of(state)
    assert host.evidence is None


APT = """
Start-Date: 2026-11-26  10:00:00
Commandline: apt-get install docker-ce=5:27
Requested-By: admin (1000)
Downgrade: docker-ce:amd64 (5:28, 5:27), docker-ce-cli:amd64 (5:28, 5:27)
End-Date: 2026-11-26  10:00:05

Start-Date: 2026-11-26  11:00:00
Commandline: /usr/bin/unattended-upgrade
Upgrade: docker-ce:amd64 (5:27, 5:28), vim:amd64 (1, 2)
End-Date: 2026-11-26  11:00:05
"""
DPKG = """2026-11-26 10:00:01 upgrade docker-ce:amd64 5:28 5:27
2026-11-26 11:00:01 status installed docker-ce:amd64 5:28
2026-11-26 12:30:00 upgrade docker-ce:amd64 5:28 5:29
2026-11-26 12:31:00 remove vim:amd64 2 <none>
"""


def test_who_changed_a_package_is_told_by_apts_log_and_by_dpkgs_where_apt_was_not_used() -> None:
    changes = [
        "2026-11-26 10:00:00: downgrade docker-ce (5:28, 5:27): apt-get install docker-ce=5:27, run by admin (1000)",
        "2026-11-26 11:00:00: upgrade docker-ce (5:27, 5:28): /usr/bin/unattended-upgrade, run by root",
        "2026-11-26 12:30:00: upgrade docker-ce (5:28, 5:29) by dpkg, without apt",
    ]
    assert package_history(APT, DPKG, ["docker-ce"]) == changes[1:]
    assert package_history(APT, DPKG.partition("\n")[0], ["docker-ce"]) == changes[:2]
    assert package_history(APT, "", ["docker-ce-cli"])[0].endswith("run by admin (1000)")
    assert package_history("", "", ["docker-ce"]) == []


def test_what_an_apt_did_that_was_killed_or_whose_log_is_gone_is_not_called_done_without_apt() -> None:
    killed = APT.replace("End-Date: 2026-11-26  11:00:05\n", "")
    assert package_history(killed, "2026-11-26 11:00:01 upgrade docker-ce:amd64 5:27 5:28\n", ["docker-ce"])[1:] == [
        "2026-11-26 11:00:00: upgrade docker-ce (5:27, 5:28): /usr/bin/unattended-upgrade, run by root"
    ]
    for rotated in ("", APT.split("\n\n")[0]):
        (change,) = package_history(rotated, "2026-11-25 09:00:01 upgrade docker-ce:amd64 5:27 5:28\n", ["docker-ce"])[:1]
        assert change.endswith("upgrade docker-ce (5:27, 5:28) by dpkg, of a time for which apt's log is not there")


def test_a_diff_is_cut_and_cannot_act_on_a_terminal() -> None:
    text = unified("/x", b"".join(b"%d\n" % number for number in range(MAX_DIFF_LINES * 2)), None)
    assert text.startswith("--- /x (stack)\n+++ /dev/null") and text.endswith("\n(cut)")
    assert "\x1b" not in unified("/x", b"a\n", b"\x1b[2J\n::error::x\n")


@pytest.mark.parametrize(
    "line",
    [
        '  "proxies": {"https-proxy": "http://me:%s@proxy:3128"},',
        '  "https-proxy": "http://me:%s@more@proxy:3128"' + " " * 600,
        " " * 480 + '"https-proxy": "http://me:%s@proxy:3128"',
        '  "log-opts": {"splunk-token": "%s", "splunk-url": "https://x"}',
        '      password = "%s\\"tail"',
        "      identitytoken = '%s'",
        '    auth = "%s"',
        "    Secret: %s",
    ],
)
def test_a_diff_of_a_file_of_others_shows_none_of_its_secrets(line: str) -> None:
    text = line % "hunter2"
    diff = str(of_file("file", "m", "docker", "/x", f"{text}\nours\n".encode(), f"{text}\n".encode()).diff)
    assert "-ours" in diff and "hunter" not in diff and "tail" not in diff and "more" not in diff
    assert "hunter" not in str(of_file("file", "m", "docker", "/x", f"{text}\nours\n".encode(), None).diff)


def test_a_diff_shows_all_that_is_no_secret() -> None:
    text = '"authorization-plugins": ["a"], "registry-mirrors": ["https://mirror/x"], "hosts": ["fd://"]\n[x.auth]\n'
    diff = str(of_file("file", "m", "docker", "/x", f"{text}ours\n".encode(), text.encode()).diff)
    assert text.replace("\n", "\n ").rstrip(" ") in diff


def test_a_file_of_an_impossible_time_hides_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tmpfs and btrfs keep any number: the check ended with a traceback, and the node was not measured."""
    (tmp_path / "x").touch()
    info = (tmp_path / "x").stat()
    for moment in (10**12, -(10**11), 10**19):
        result = os.stat_result([*info[:8], moment, info[9]])
        monkeypatch.setattr(compare.os, "lstat", lambda _, result=result: result)
        (trace,) = compare._traces(Difference("file", "m", "docker", "/x"), tmp_path)
        assert f"was last written {moment} s after 1970" in trace
    monkeypatch.undo()
    os.utime(tmp_path / "x", (0, 0))
    assert "last written 1970-01-01 00:00:00 UTC" in compare._traces(Difference("file", "m", "docker", "/x"), tmp_path)[0]


def test_a_module_beside_the_kernel_that_is_not_loaded_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: type("Names", (), {"release": "6.1"}))
    (tmp_path / "lib/modules/6.1").mkdir(parents=True)
    (tmp_path / "lib/modules/6.1/modules.dep").write_text(
        "kernel/drivers/vhost/vhost-vsock.ko.xz: kernel/x.ko\nkernel/net/tun.ko:\n"
    )
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text("tun 1 0 - Live 0x0\n")
    assert modules.unloaded(tmp_path, ["vhost_vsock", "vhost_net", "tun"]) == {"vhost_vsock"}
