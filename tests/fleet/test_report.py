"""The documents of proofs: what is in them, and that nothing a node says becomes markup.

Lost if these fail: evidence that says other than what was read, a page that runs what a guest printed, or a form that programs
which read it no longer know.
"""

import dataclasses
import json
import os
import re
import stat
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from fleet import pairs
from fleet.__main__ import app
from fleet.measure import MOST, Measured
from fleet.report import build, command, html, markdown, summary, view
from fleet.report.document import Fleet, Report, as_json
from fleet.stack import Answers
from nodekit.commands import prove
from nodekit.errors import NodeError
from nodekit.host import proofs
from nodekit.host.kata import Effective
from nodekit.rules.node_state import CompareState, ProveState
from nodekit.rules.proof import history
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.rules.proof.history import Climb
from nodekit.rules.proof.ladder import judge
from nodekit.rules.proof.sandboxes import SANDBOXES
from nodekit.rules.text import printable
from nodekit.scripts import script
from review.documents import SIGNATURE, SIGNED_SECRET
from stacks.checklist import checklist
from tests.e2e.checkout import REPOSITORY
from tests.fleet import samples
from tests.nodekit.test_ladder import NODE, NONCE, SEED, transcript
from tools.generate import report_schema

SCHEMA = json.loads((REPOSITORY / "docs/reference/report.schema.json").read_text())
HOSTILE = (
    "<script>alert(1)</script>", "]]></style><img src=x onerror=alert(1)>", "{{ 7 * 7 }}{% raw %}", "a | b ` c `` d \\| e \\",
    "\x9b31m\x1b[2Jred\x07", "‮txt.exe⁦", "# heading", "- item", "1. item", "[a](javascript:alert(1)) ![b](https://evil.example/p)",
    "https://evil.example www.evil.example", "~~struck~~ **bold** <!-- c", "&lt;b&gt; &#x3c;", '" onmouseover="x', "::error::x",
    "123. item", "ask @evil/team, `@@evil\\|` or mailto:a@evil.example",
)  # fmt: skip
"""What a node may say."""


def valid(document: Report | Fleet) -> dict[str, Any]:
    """The JSON form, which is as the schema says."""
    plain = json.loads(command.rendered(document, "json"))
    jsonschema.Draft202012Validator(SCHEMA).validate(plain)
    return dict(plain)


def hostile(text: str) -> Report:
    """A report in which every text of a node, a state or an output is `text`."""

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            # Words of a command line are rows of a table, so that one is a word: the number of rows must not change.
            return {key: re.sub(r"[\s:]", "", text) if key == "kernelParams" else poisoned(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [poisoned(inner) for inner in value]
        return text if isinstance(value, str) else value

    node = dataclasses.replace(samples.host(text), evidence=poisoned({**samples.EVIDENCE, "kernelParams": "quiet"}), proven=text)
    record = poisoned(samples.record("failed")[:1] + samples.record("passed")[-1:] + samples.record("failed")[-1:])
    differences = [{"what": text, "kind": text, "traces": [text]}]
    answer = samples.measured(node, record, differences=differences, status=poisoned(samples.status()))
    lost = Measured(dataclasses.replace(node, name=f"lost {text}"), None, text, 1.0)
    outputs = poisoned(samples.outputs(samples.record("passed")))
    outputs["clusterProof"] = {text: poisoned({**samples.record("passed")[-1]["climbs"][-1], "note": text})}
    return build.report(text, [node, lost.host], [answer, lost], outputs, samples.MADE, samples.clusters(text, cause=text))


class Tags(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_node_says_becomes_an_element_of_the_page(text: str) -> None:
    page, plain = (html.report(hostile(each)) for each in (text, "plain"))
    hostile_page, expected = Tags(page), Tags(plain)
    assert hostile_page.tags == expected.tags and hostile_page.attributes == expected.attributes
    assert not {"script", "img", "iframe", "object", "link", "base", "form"} & set(hostile_page.tags)
    assert not any(name.startswith("on") for name in hostile_page.attributes) and "style" not in hostile_page.attributes
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    assert not re.search(r'(src|href)="(?!#)', page), "the page loads and links to nothing"
    fleet = html.fleet(summary.fleet([summary.of(hostile(text)), summary.unreadable(text, text)], samples.MADE))
    assert "script" not in Tags(fleet).tags and "img" not in Tags(fleet).tags


def shape(text: str) -> list[str]:
    """What a reader of Markdown makes of a text: its elements without their words."""
    parser = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    kinds = []
    for token in parser.parse(text):
        inner = [child.type for child in token.children or [] if child.type not in ("text", "code_inline", "text_special")]
        kinds += [token.type if token.type != "inline" else f"inline {inner}"]
    return kinds


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_node_says_becomes_markdown(text: str) -> None:
    written = markdown.report(hostile(text))
    assert shape(written) == shape(markdown.report(hostile("plain")))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", written)
    assert not re.search(r"(?<![`:])https?://|(?<!`)www\.evil", re.sub(r"`+[^`]*`+", "", written)), "GitHub links bare addresses"
    assert "@" not in re.sub(r"(`+)[^`]+\1", "", written.replace("\\`", "")), "GitHub notifies who is named, and links mail"
    fleet = markdown.fleet(summary.fleet([summary.of(hostile(text)), summary.unreadable(text, text)], samples.MADE))
    assert len({line.count("|") - line.count("\\|") for line in fleet.splitlines() if line.startswith("|")}) == 1


def cells(row: str) -> list[list[Any]]:
    """The cells of a table's row, each as its elements."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = parser.parse(f"| a | b | c |\n| --- | --- | --- |\n{row}\n")
    assert [token.type for token in tokens if token.type.startswith("t")][:2] == ["table_open", "thead_open"]
    return [token.children or [] for token in tokens if token.type == "inline"][3:]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40) | st.text(alphabet="`|\\ a<*_[]!&#-1.~@", max_size=12))
def test_no_text_at_all_leaves_its_cell_or_is_read_as_anything_else(text: str) -> None:
    line = " ".join(printable(text).split())
    for written in (markdown.code(line), markdown.escaped(line)):
        _, middle, last = cells(f"| x | {written} | y |")
        assert {part.type for part in middle} <= {"text", "code_inline", "text_special"} and last[0].content == "y"
        assert "".join(part.content for part in middle) == line
    alone = (
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(f"- {markdown.escaped(line) or 'x'}\n")
    )
    assert [token.type for token in alone if token.type.endswith("_open")] == [
        "bullet_list_open",
        "list_item_open",
        "paragraph_open",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_json_of_hostile_nodes_is_as_the_schema_says(text: str) -> None:
    plain = valid(hostile(text))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", json.dumps(plain, ensure_ascii=False))


def garbage(value: Any) -> Report:
    """A report of a node that answers `value` wherever a report looks."""
    node = dataclasses.replace(samples.host("n1"), evidence={"passed": value, "rungs": value, "proven": value})
    entry = dict.fromkeys(("began", "seconds", "passed", "error", "climbs", "guestKernel", "userNamespaces", "note"), value)
    answers = [
        samples.measured(node, value),
        samples.measured(node, [entry], status=value, notes=value),
        samples.measured(node, [{"climbs": [{"rungs": [{"name": value, "at": value, "passed": value}], "seconds": value}]}]),
        samples.measured(node, [], status={"docker": value, "kata": {"version": value, "configurations": value}}),
    ]
    outputs = {"checklist": value, "notProven": value, "clusterProof": {"a": value} if not isinstance(value, dict) else value}
    hosts = [dataclasses.replace(node, name=f"n{at}") for at in range(len(answers))]
    measured = [dataclasses.replace(answer, host=host) for answer, host in zip(answers, hosts, strict=True)]
    return build.report("s", hosts, measured, outputs, samples.MADE, samples.evidence_alone())


@pytest.mark.parametrize(
    "value",
    [None, True, -1, 1e300, float("nan"), float("inf"), 10**400, "x" * 100_000, [], [[]], {}, {"a": {}}, [None], [1, "x"]],
)
def test_a_node_that_answers_with_anything_else_leaves_a_document_that_is_valid_and_short(value: Any) -> None:
    document = garbage(value)
    valid(document)
    assert "NaN" not in command.rendered(document, "json") and "Infinity" not in command.rendered(document, "json")
    assert len(html.report(document)) < 400_000 and markdown.report(document)


def test_the_schema_is_that_of_the_classes_and_refuses_what_they_do_not_have() -> None:
    assert report_schema.of_reports() == SCHEMA, "run: make generate"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    plain = valid(samples.failed())
    valid(summary.fleet([summary.of(samples.failed())], samples.MADE))
    changes: tuple[Callable[[dict[str, Any]], Any], ...] = (
        lambda plain: plain.pop("outcome"),
        lambda plain: plain.update(more=1),
        lambda plain: plain["nodes"][0]["proof"].update(passed="yes"),
        lambda plain: plain["nodes"][0]["proof"]["climbs"][0]["rungs"][0].update(verdict="fine"),
        lambda plain: plain.update(version=2),
    )
    for change in changes:
        broken = json.loads(json.dumps(plain))
        change(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(SCHEMA).validate(broken)


def test_every_class_and_every_unclear_field_is_explained_in_the_schema() -> None:
    assert all(definition.get("description") for definition in SCHEMA["$defs"].values())
    assert SCHEMA["$defs"]["Rung"]["properties"]["at"]["description"].startswith("Seconds from the start of the guest's kernel")


def test_a_failed_proof_is_told_with_its_rung_its_remedy_and_what_came_before() -> None:
    document = samples.failed()
    node = document.nodes[0]
    assert (document.outcome, node.outcome, document.checklist) == ("failed", "failed", ())
    assert node.proof and node.proof.failure and node.proof.failure.code == "proof-user-namespaces-zero"
    (rung,) = [rung for rung in node.proof.climbs[0].rungs if rung.name == "user-namespaces"]
    assert (rung.verdict, rung.value) == ("failed", "0") and rung.at is not None
    assert [step.state for step in node.steps] == ["done", "done", "done", "failed", "not reached"]
    assert node.timeline[0].passed is False and all(past.passed for past in node.timeline[1:])
    for text in (markdown.report(document), html.report(document)):
        assert "proof-user-namespaces-zero" in text and "kata.kernelParams" in text


def test_checklist_of_an_earlier_up_is_not_shown_of_a_stack_with_a_node_that_was_never_proven() -> None:
    """A failed `up` leaves the outputs of the one before it in the state."""
    first, second = samples.host("n1"), dataclasses.replace(samples.host("n2"), evidence=None, urns={"preflight": "urn"})
    answers = [samples.measured(first, samples.record("passed")), samples.measured(second, [])]
    document = build.report("s", [first, second], answers, samples.outputs(samples.record("passed")), samples.MADE)
    assert (document.outcome, document.checklist) == ("unproven", ())
    none = checklist([], hypervisor="qemu", capabilities=CAPABILITIES, granted_by="PodTemplate")
    assert build.report("s", [], [], {"checklist": none}, samples.MADE).checklist, "nodes without a login"


def test_checklist_of_an_earlier_up_is_not_shown_beside_proofs_that_are_newer() -> None:
    """The nodes were proven again, or one more was, and then something else failed: the checklist was that of before."""
    read = {"kernelParams": "quiet", "configFile": "/c", "userNamespaces": 1815, "guestKernel": "6.12"}
    hosts = [dataclasses.replace(samples.host(name), evidence={**samples.EVIDENCE, **read}) for name in ("n1", "n2")]
    hosts = [dataclasses.replace(host, state=samples.with_values(host.state, node=host.name)) for host in hosts]
    answers = [samples.measured(host, samples.record("passed")) for host in hosts]
    rows = samples.outputs(samples.record("passed"))
    both = [{"name": host.name, "address": "x", **read} for host in hosts]
    for nodes, present in ((both, True), (both[:1], False), ([both[0], {**both[1], "kernelParams": ""}], False), ([], False)):
        document = build.report("s", hosts, answers, {**rows, "nodes": nodes}, samples.MADE)
        assert (document.outcome, bool(document.checklist)) == ("proven", present), nodes
        *_, last = view.flow(document)
        assert last.text == ("checklist" if present else "not reached")
    (cluster,) = samples.clusters()
    job, *_ = cluster.objects
    job = dataclasses.replace(job, item=dataclasses.replace(job.item, evidence={**dict(job.item.evidence or {}), "job": "u2"}))
    for pods, present in (({"w1": {"job": "u2"}}, True), ({"w1": {"job": "u1"}}, False), ({"w9": {"job": "u2"}}, False)):
        outputs = {**rows, "nodes": [], "clusterProof": pods}
        document = build.report("s", [], [], outputs, samples.MADE, [dataclasses.replace(cluster, objects=(job,))])
        assert (document.outcome, bool(document.checklist)) == ("proven", present), pods


def test_a_stack_whose_nodes_are_proven_and_whose_pods_are_not_is_not_proven() -> None:
    """The `up` ended between the two, and the outputs are those of the one before."""
    host = samples.host("n1")
    answers = [samples.measured(host, samples.record("passed"))]
    outputs = samples.outputs(samples.record("passed"))
    document = build.report("s", [host], answers, outputs, samples.MADE, (), ["proof"])
    assert (document.outcome, document.nodes[0].outcome, document.checklist) == ("unproven", "proven", ())
    assert view.sentence(document) == "The node is proven; no proof in pods: proof."
    assert [stage.text for stage in view.flow(document)][-2:] == ["not reached", "not reached"]
    assert summary.of(document).problem.startswith("proof: the stack holds no proof in pods")
    for text in (markdown.report(document), html.report(document)):
        assert "KataProof" in text and "the last run ended before" in text
    valid(document)
    failed = build.report("s", [host], [samples.measured(host, samples.record("failed"))], {}, samples.MADE, (), ["proof"])
    assert failed.outcome == "failed"


def test_nodes_that_the_stack_has_no_proof_of_are_named_in_its_document(monkeypatch: pytest.MonkeyPatch) -> None:
    components = [
        {"urn": f"urn:pulumi:s::p::kata-nodes:index:{kind}::{name}", "type": f"kata-nodes:index:{kind}"}
        for kind, name in (("AwsNodeGroup", "pool"), ("JoiningNodes", "joining"), ("SandboxGuard", "guard"))
    ]
    monkeypatch.setattr(command.engine, "deployment", lambda _: {"resources": components})
    document = command.of_one("s", lambda _: Answers([], []))
    group, joining = document.not_proven
    assert "group pool prove themselves" in group and "controller of joining proves" in joining
    assert group in html.report(document) and valid(document)["notProven"] == [group, joining]


@pytest.mark.parametrize("plaintext", ["no JSON", 5, "[" * 100_000])
def test_outputs_that_somebody_edited_cost_the_other_stacks_no_report(monkeypatch: pytest.MonkeyPatch, plaintext: Any) -> None:
    secret = {SIGNATURE: SIGNED_SECRET, "plaintext": plaintext}
    stack = {"urn": "urn:pulumi:s::p::pulumi:pulumi:Stack::p-s", "type": "pulumi:pulumi:Stack", "outputs": {"checklist": secret}}
    monkeypatch.setattr(command.engine, "deployment", lambda name: {"resources": [stack] if name == "edited" else []})
    document, is_unreadable = command.of_many(["edited", "other"], lambda _: Answers([], []))
    assert is_unreadable and [line.readable for line in document.stacks] == [False, True]
    assert "not of a form that an engine writes" in document.stacks[0].problem


def test_a_destroy_that_ended_before_leaves_no_proof_and_no_checklist() -> None:
    """The nodes and objects are gone, and the outputs are in the state until the end: the stack was called proven."""
    outputs = {**samples.outputs(samples.record("passed")), "clusterProof": {"w1": samples.record("passed")[-1]["climbs"][-1]}}
    (cluster,) = samples.evidence_alone()
    (rest,) = cluster.objects
    left = dataclasses.replace(rest, item=dataclasses.replace(rest.item, kind="Namespace", keeps_evidence=False))
    for clusters in ([], [dataclasses.replace(cluster, objects=(left,))]):
        document = build.report("s", [], [], outputs, samples.MADE, clusters)
        assert (document.outcome, document.nodes, document.checklist) == ("unproven", (), ())
        assert [stage.text for stage in view.flow(document)] == ["", "not reached"]
    assert build.report("s", [], [], outputs, samples.MADE, [cluster]).outcome == "proven"
    gone = dataclasses.replace(samples.host("n1"), gone=True)
    assert build.report("s", [gone], [], outputs, samples.MADE).checklist == (), "what it is of does not exist any more"


def test_the_rungs_of_a_proof_that_a_later_one_put_out_of_the_record_are_those_of_the_state() -> None:
    """Settings that failed and were taken back leave the proof before in the state, and its record without rungs: it was told
    as a guest that had failed."""
    passed = samples.record("passed")[-1]
    inside = passed["climbs"][-1]
    host = dataclasses.replace(samples.host("n1"), evidence={**samples.EVIDENCE, **inside, "proven": "container"})
    later = {**samples.record("failed")[-1], "digest": "of settings that were taken back"}
    (node,) = build.report("s", [host], [samples.measured(host, [{**passed, "climbs": []}, later])], {}, samples.MADE).nodes
    assert [step.state for step in node.steps] == ["done"] * 5 and node.proof and node.proof.source == "state"
    assert [len(climb.rungs) for climb in node.proof.climbs] == [len(inside["rungs"])]
    assert (node.outcome, node.proof.ended, len(node.timeline)) == ("drifted", host.proven, 2)


def test_a_pass_that_the_node_could_not_record_is_not_hidden_by_the_failure_before_it() -> None:
    """A disk that takes nothing fails no proof, and the node's newest record is then an older one."""
    failure, climb = samples.record("failed")[-1], samples.record("passed")[-1]["climbs"][-1]
    for began, outcome in (("2026-11-26T18:11:41Z", "proven"), (failure["began"], "failed"), ("2026-11-26T18:11:39Z", "failed")):
        node = dataclasses.replace(samples.host("n1"), evidence={**samples.EVIDENCE, **climb, "began": began})
        measured = samples.measured(node, [failure])
        (line,) = build.report("s", [node], [measured], {}, samples.MADE).nodes
        assert line.outcome == outcome and bool(measured.differences) is (outcome == "failed")
        assert line.proof and (line.proof.began == began or outcome == "failed")
    assert failure["began"] == "2026-11-26T18:11:40Z"
    # A clock that was years ahead, and has been set back since: both are recorded, and the failure came later.
    ahead = {**samples.record("passed")[-1], "began": "2036-01-01T00:00:00Z"}
    node = dataclasses.replace(samples.host("n1"), evidence={**samples.EVIDENCE, **climb, "began": ahead["began"]})
    (line,) = build.report("s", [node], [samples.measured(node, [ahead, failure])], {}, samples.MADE).nodes
    assert line.outcome == "failed"


def test_a_rung_that_failed_is_stronger_than_the_word_passed_beside_it() -> None:
    """A record or a state that was damaged, or edited: no document says `proven` above a rung that failed."""
    passed, failed = samples.record("passed")[-1], samples.record("failed")[-1]["climbs"][0]
    host, bad = samples.host("n1"), {**samples.EVIDENCE, **failed, "passed": True}
    answers = {
        "record": (host, samples.measured(host, [{**passed, "climbs": [{**failed, "passed": True}]}])),
        "climb": (host, samples.measured(host, [{**passed, "climbs": [{**passed["climbs"][0], "passed": False}]}])),
        "state": ((lost := dataclasses.replace(host, evidence=bad)), Measured(lost, None, "no answer", 1.0)),
    }
    for answer in answers.values():
        document = build.report("s", [answer[0]], [answer[1]], {}, samples.MADE)
        (node,) = document.nodes
        assert (document.outcome, node.outcome) == ("failed", "failed") and node.proof and node.proof.failure
        assert "[result-missing]" in summary.of(document).problem
        assert [(past.passed, past.code) for past in node.timeline] == [(False, "result-missing")]
    (cluster,) = samples.clusters()
    job, *_ = cluster.objects
    edited = dataclasses.replace(job, item=dataclasses.replace(job.item, evidence=bad))
    (pod,) = build.report("s", [], [], {}, samples.MADE, [dataclasses.replace(cluster, objects=(edited,))]).nodes
    assert pod.outcome == "failed" and [step.state for step in pod.steps] == ["failed"]


def test_what_a_node_reads_now_is_told_where_it_was_measured() -> None:
    host = dataclasses.replace(
        samples.host("n1"), evidence={**samples.EVIDENCE, "configFile": "/before", "kernelParams": "quiet"}
    )
    lost = Measured(host, None, "no answer", 1.0)
    for answer, file, first in (
        (samples.measured(host, samples.record("passed")), samples.FILE, "cgroup_no_v1=all"), (lost, "/before", "quiet"),
    ):  # fmt: skip
        (node,) = build.report("s", [host], [answer], {}, samples.MADE).nodes
        assert (node.configuration, node.parameters[0].text) == (file, first)


def test_a_dockerd_that_is_silent_now_is_not_told_with_the_version_of_its_proof() -> None:
    host = dataclasses.replace(samples.host("n1"), evidence={**samples.EVIDENCE, "dockerVersion": "27.5.1"})
    status = {**samples.status(), "docker": {"daemon": {"version": None, "reason": "no answer"}}}
    for answer, docker in (
        (samples.measured(host, [], status=status), None), (Measured(host, None, "no answer", 1.0), "27.5.1"),
    ):  # fmt: skip
        (node,) = build.report("s", [host], [answer], {}, samples.MADE).nodes
        assert (node.pair.docker if node.pair else None) == docker


def test_the_first_sentence_says_what_could_not_be_measured() -> None:
    host = samples.host("n1")
    (cluster,) = samples.clusters(cause="no answer")
    job, _, space, _ = cluster.objects
    document = build.report(
        "s",
        [host],
        [Measured(host, None, "no answer", 1.0)],
        {},
        samples.MADE,
        [dataclasses.replace(cluster, objects=(job, space))],
    )
    sentence = "All 2 nodes are proven; not measured now: n1, w1; 1 of 1 objects on clusters not measured now."
    assert view.sentence(document) == sentence
    assert sentence in html.report(document) and sentence in markdown.report(document)


@pytest.mark.parametrize(
    "time", ["0", "yesterday", "2026-11-26T23:00:00+05:00", "2026-11-26T23:00:00", "٢026-11-26T23:00:00Z", 7]
)
def test_what_is_no_time_in_utc_is_not_shown_as_one_nor_taken_for_the_oldest(time: Any) -> None:
    host, passed = samples.host("n1"), samples.record("passed")[-1]
    known = build.report("s", [host], [samples.measured(host, [passed, {**passed, "began": time}])], {}, samples.MADE)
    (node,) = known.nodes
    assert node.proof and (node.proof.began, summary.of(known).oldest) == (None, None)
    assert [past.when for past in node.timeline] == ["", passed["began"]] and "not recorded" in markdown.report(known)


def test_the_first_sentence_on_many_stacks_hides_none_that_could_not_be_read() -> None:
    lines = [summary.of(samples.failed()), summary.of(samples.proven()), summary.unreadable("prod", "no such stack")]
    document = summary.fleet(lines, samples.MADE)
    rest = "1 nodes and objects on clusters were not measured."
    assert view.of_fleet(document) == f"3 of 4 nodes are proven; the state of 1 of 3 stacks could not be read; {rest}"
    assert view.of_fleet(document) in html.fleet(document) and view.of_fleet(document) in markdown.fleet(document)
    assert view.of_fleet(summary.fleet(lines[1:2], samples.MADE)) == "1 of 1 nodes are proven."


def test_a_pair_that_nobody_tried_is_not_said_to_work() -> None:
    document = samples.proven()
    (node,) = document.nodes
    for docker, works in (("20.10.24", True), ("28.5.2", False)):
        known = pairs.known(docker, "3.27.0", "go")
        assert known and node.pair
        verdict, sources = known
        pair = dataclasses.replace(
            node.pair, docker=docker, kata="3.27.0", works=verdict.ok, reason=verdict.reason, sources=sources
        )
        assert all(view.of_pair(pair).count(source) == 1 for source in sources)
        changed = dataclasses.replace(document, nodes=(dataclasses.replace(node, pair=pair),))
        for text in (markdown.report(changed), html.report(changed)):
            assert ("is untested with Kata" in text, "is known to break" in text) == (works, not works)
            assert "go) works" not in text and "(go): works" not in text
        printed = CliRunner().invoke(app, ["compat", "--docker", docker, "--kata", "3.27.0"])
        assert printed.stdout.startswith("Docker 20.10.24 is untested" if works else "breaks: this Docker")


def test_a_recorded_pass_proves_nothing_where_the_state_has_no_proof() -> None:
    """The run was killed, or the disk is a copy of another node's. A recorded failure is why there is no proof."""
    none = dataclasses.replace(samples.host("n1"), evidence=None, urns={"preflight": "urn"})
    document = build.report("s", [none], [samples.measured(none, samples.record("passed"))], {}, samples.MADE)
    (node,) = document.nodes
    assert (document.outcome, node.proof, [past.passed for past in node.timeline]) == ("unproven", None, [True])
    assert view.sentence(document) == "0 of 1 nodes proven; not proven: n1." and summary.of(document).proven == 0
    (failed,) = build.report("s", [none], [samples.measured(none, samples.record("failed"))], {}, samples.MADE).nodes
    assert failed.outcome == "failed" and failed.proof and failed.proof.failure


def test_somebody_s_proof_with_other_settings_is_a_difference_and_hides_no_failure() -> None:
    host, passed, failed = samples.host("n1"), samples.record("passed")[-1], samples.record("failed")[-1]
    foreign, weaker = {**passed, "sandbox": None, "digest": "other"}, {**passed, "sandbox": None}
    for kept, outcome in (
        ([passed, foreign], "drifted"), ([passed, failed, foreign], "failed"), ([foreign], "drifted"),
        ([failed, weaker], "failed"), ([passed, weaker], "drifted"), ([passed, {**passed, "hypervisor": "clh"}], "drifted"),
    ):  # fmt: skip
        (node,) = build.report("s", [host], [samples.measured(host, kept)], {}, samples.MADE).nodes
        assert node.proof and (node.outcome, node.proof.sandbox) == (outcome, "sandbox-runtime")
        assert len(node.timeline) == len(kept)
        (difference,) = node.differences
        assert "its newest proof" in difference and "not the one that the stack wants" in difference


def test_what_was_not_recorded_is_said_and_not_invented() -> None:
    """A node that cannot be reached, and one whose program is older than the record."""
    document = samples.failed()
    lost = document.nodes[2]
    assert lost.outcome == "proven" and lost.proof and lost.proof.source == "state"
    assert lost.proof.began is None and lost.proof.seconds is None and "cannot reach" in lost.not_measured
    assert "not known" in lost.timeline_note
    host = samples.host("n1")
    (older,) = build.report("s", [host], [samples.measured(host, [])], {}, samples.MADE).nodes
    assert "earlier version" in older.timeline_note and older.timeline[0].seconds is None
    # Of a run that ended between two steps the state holds nothing, and the node what it took.
    none = dataclasses.replace(host, evidence=None, state=CompareState(node="n1"))
    for taken, states in ((["preflight"], ["done"]), (["preflight", "docker"], ["done"] * 2), ("x", []), ([7, {}], [])):
        (unproven,) = build.report("s", [none], [samples.measured(none, [], converged=taken)], {}, samples.MADE).nodes
        assert unproven.outcome == "unproven" and unproven.proof is None and unproven.timeline == ()
        assert [step.state for step in unproven.steps] == [*states, *["not reached"] * (5 - len(states))]


def test_differences_that_are_left_out_are_counted() -> None:
    host = samples.host("n1")
    many = [{"kind": "file", "what": f"/{number} differs"} for number in range(MOST + 7)]
    (node,) = build.report("s", [host], [samples.measured(host, [], differences=many)], {}, samples.MADE).nodes
    assert node.differences[MOST - 1 :] == (f"/{MOST - 1} differs [file]", "7 more differences are not in this document")


def test_a_machine_that_is_gone_and_a_node_that_drifted_count_as_such() -> None:
    host = samples.host("n1")
    gone = dataclasses.replace(samples.host("n2"), gone=True)
    drifted = samples.measured(host, samples.record("passed"), differences=[{"kind": "hold", "what": "docker-ce is not held"}])
    document = build.report("s", [host, gone], [drifted], {}, samples.MADE)
    assert [node.outcome for node in document.nodes] == ["drifted", "gone"] and document.outcome == "drifted"
    assert document.nodes[0].differences == ("docker-ce is not held [hold]",)
    assert view.sentence(document) == "The node is proven; changed since: n1."
    line = summary.of(document)
    assert (line.nodes, line.proven, line.drifted, line.problem) == (1, 1, 1, "n1: docker-ce is not held [hold]")
    assert build.report("s", [], [], {}, samples.MADE).outcome == "unproven"


def test_pods_that_proved_a_cluster_are_nodes_too() -> None:
    climb = samples.record("passed")[-1]["climbs"][-1]
    document = build.report("s", [], [], {"clusterProof": {"w1": climb}}, samples.MADE, samples.evidence_alone())
    (node,) = document.nodes
    assert (node.name, node.outcome, node.proof and node.proof.source) == ("w1", "proven", "cluster")
    assert [stage.name for stage in view.flow(document)] == ["stack file", "pod proof", "outputs"]


@pytest.mark.parametrize("user", ["0", "1000"])
@pytest.mark.parametrize("masks", ["", "/proc/kcore"])
@pytest.mark.parametrize("sandbox", [*SANDBOXES, None])
def test_a_pod_that_proved_a_sandbox_is_not_said_to_have_proven_none(sandbox: str | None, masks: str, user: str) -> None:
    """Its evidence does not name the sandbox: each report of a cluster said that none is promised."""
    text = transcript(uid=("ok", user, ""), proc_masks=("ok", masks, ""))
    rungs = [rung.as_dict() for rung in judge(text, NONCE, NODE, [SEED], sandbox=sandbox, place="pod").rungs]
    (cluster,) = samples.clusters()
    job, *_ = cluster.objects
    job = dataclasses.replace(job, item=dataclasses.replace(job.item, evidence={"job": "u", "rungs": rungs}))
    document = build.report("s", [], [], {}, samples.MADE, [dataclasses.replace(cluster, objects=(job,))])
    (node,) = document.nodes
    assert node.proof and node.proof.sandbox == sandbox
    assert f"| Promised sandbox | `{sandbox or 'none'}` |" in markdown.report(document)


def test_a_rung_that_was_not_climbed_by_itself_is_told_with_the_one_that_stands_for_it() -> None:
    """In the words of today's ladder and of earlier ones, which nodes keep: without, it reads as if it had been run."""
    (words,) = re.findall(r'say "\$rung" ok 0 "(.+)"', script("ladder.sh"))
    for detail in (words.replace("$2", "srt-call"), "srt-call does this and more"):
        proofs = samples.record("passed")
        for climb in proofs[-1]["climbs"]:
            climb["rungs"] = [{**rung, "detail": detail if rung["name"] == "loopback" else ""} for rung in climb["rungs"]]
        node = samples.host("n1")
        document = build.report("s", [node], [samples.measured(node, proofs)], {}, samples.MADE)
        assert markdown.report(document).count("with srt-call") == 2
        assert html.report(document).count('<span class="detail">with srt-call</span>') == 2


def test_objects_of_a_cluster_are_told_with_what_differs_and_proofs_with_their_nodes() -> None:
    document = samples.clustered()
    assert [(each.kind, each.name, each.state) for each in document.objects] == [
        ("Namespace", "proofs", "as made"), ("RuntimeClass", "kata", "differs"),
    ]  # fmt: skip
    for text in (markdown.report(document), html.report(document).replace("&#39;", "'")):
        assert "Of the guest's command line, what its proof looks for" in text, "a pod reports no more of it"
    first, second = document.nodes
    assert first.proof and (first.outcome, first.proof.climbs[0].user_namespaces, first.not_measured) == ("proven", 1815, "")
    assert (second.outcome, second.proof, [step.state for step in second.steps]) == ("unproven", None, ["not reached"])
    assert second.differences == ("Job proofs/w2: the stack holds no proof of it: the last run ended before [setting]",)
    assert document.outcome == "unproven" and summary.of(document).problem.startswith(
        "w2: Job proofs/w2: the stack holds no proof"
    )
    assert "1 of 2 objects on clusters changed since" in view.sentence(document)
    for text in (markdown.report(document), html.report(document)):
        assert "podFixed" in text and "the stack holds no proof" in text
    valid(document)


def test_a_stack_has_drifted_where_only_an_object_differs_and_is_not_where_none_could_be_read() -> None:
    (cluster,) = samples.clusters(cause="no answer")
    job, _, space, changed = cluster.objects
    drifted = build.report("s", [], [], {}, samples.MADE, [dataclasses.replace(cluster, objects=(job, space, changed))])
    assert drifted.outcome == "drifted" and summary.of(drifted).problem.startswith("RuntimeClass kata: .overhead")
    silent = dataclasses.replace(cluster, cause="the API server does not answer", objects=(job, space))
    unread = build.report("s", [], [], {}, samples.MADE, [silent])
    assert unread.outcome == "proven" and unread.nodes[0].not_measured == "no answer"
    assert (unread.objects[0].state, unread.objects[0].not_measured) == ("not measured", "no answer")
    assert summary.of(unread).not_measured == 2, "what is known of it is old"
    alone = build.report("s", [], [], {"clusterProof": {"w1": {}}}, samples.MADE, samples.evidence_alone())
    assert summary.of(alone).not_measured == 0 and len(alone.nodes) == 1
    assert build.report("s", [], [], {}, samples.MADE, [dataclasses.replace(cluster, objects=(changed,))]).outcome == "unproven"


def test_evidence_of_a_job_before_proves_no_node_and_neither_does_an_output_before() -> None:
    """A new proof that fails leaves its own Job in the state, with the evidence and the outputs of the one before."""
    (cluster,) = samples.clusters()
    job, never, *_ = cluster.objects
    item = dataclasses.replace(job.item, unproven="the last proof is of other settings than those on the cluster")
    failed = dataclasses.replace(cluster, objects=(dataclasses.replace(job, item=item, differences=never.differences),))
    outputs = {"clusterProof": {name: samples.record("passed")[-1]["climbs"][-1] for name in ("w1", "w9")}}
    document = build.report("s", [], [], outputs, samples.MADE, [failed])
    (node,) = document.nodes
    assert (node.name, node.outcome, node.proof, document.outcome) == ("w1", "unproven", None, "unproven")
    assert [step.state for step in node.steps] == ["not reached"] and summary.of(document).proven == 0
    (empty,) = build.report("s", [], [], {"clusterProof": {"w1": {}}}, samples.MADE, samples.evidence_alone()).nodes
    assert empty.outcome == "unproven", "nothing that was read in a guest"


def test_a_proof_on_a_cluster_that_is_of_other_settings_has_drifted() -> None:
    (cluster,) = samples.clusters()
    job, never, *_ = cluster.objects
    stale = dataclasses.replace(job, differences=never.differences)
    document = build.report("s", [], [], {}, samples.MADE, [dataclasses.replace(cluster, objects=(stale,))])
    assert document.nodes[0].outcome == "drifted" and document.nodes[0].proof is not None
    both = build.report("s", [], [], {}, samples.MADE, [dataclasses.replace(cluster, objects=(stale, job))])
    assert [node.outcome for node in both.nodes] == ["drifted", "proven"] and both.outcome == "drifted", "two proofs of one node"


def test_parameters_are_told_with_whose_they_are_and_a_pair_with_its_sources() -> None:
    node = samples.proven().nodes[0]
    origins = {each.text: each.origin for each in node.parameters}
    assert origins == {
        "user_namespace.enable=1": "the stack's",
        "cgroup_no_v1=all": "of the node's files: Kata's own, or an administrator's",
        "systemd.unified_cgroup_hierarchy=1": "of the node's files: Kata's own, or an administrator's",
    }
    assert any("RHEL" in note for each in node.parameters for note in each.notes)
    assert node.pair and node.pair.works and "moby/moby#47626" in node.pair.sources


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    command.write(samples.proven(), "json", file)
    assert as_json(samples.proven()) == json.loads(file.read_text()) and [file] == list(tmp_path.iterdir())
    with pytest.raises(command.FleetError, match="cannot be written"):
        command.write(samples.proven(), "json", tmp_path / "absent" / "report.json")


def test_a_place_that_takes_no_document_is_refused_before_nodes_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a report that somebody has made read-only, to keep it, is not replaced."""
    kept, absent = tmp_path / "kept.html", tmp_path / "absent/report.html"
    kept.write_text("kept")
    kept.chmod(0o444)
    rights = os.access
    monkeypatch.setattr(os, "access", lambda path, right: rights(path, right) and not (path == kept and right & os.W_OK))
    (tmp_path / "link").symlink_to(kept)
    for place in (kept, tmp_path / "link", absent, kept / "report.html"):
        with pytest.raises(command.FleetError, match=r"cannot be written: [A-Z].*\. Name another file\."):
            command.refuse_unwritable(place)
        ended = CliRunner().invoke(app, ["report", "rack", "--output", str(place)])
        assert ended.exit_code == 1 and "Name another file" in ended.stderr, "and the engine was not asked"
    for place in (None, tmp_path / "new.html", Path("/dev/stdout"), Path("new.html")):
        command.refuse_unwritable(place)
    assert kept.read_text() == "kept"


STATE = ProveState(
    node="n1", hypervisor="qemu", runtime="go", expect=[], sandbox="sandbox-runtime", timeout_seconds=60, digest="d"
)


def test_a_report_is_for_those_only_whom_its_writer_lets_read_it(tmp_path: Path) -> None:
    """It names machines, their addresses and what is wrong with them."""
    file = tmp_path / "report.json"
    before = os.umask(0o077)
    try:
        command.write(samples.proven(), "json", file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        os.umask(0o022)
        command.write(samples.proven(), "json", tmp_path / "open.json")
        assert stat.S_IMODE((tmp_path / "open.json").stat().st_mode) == 0o644
        command.write(samples.proven(), "json", file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, "as it was"
    finally:
        os.umask(before)


def test_a_report_goes_into_a_pipe_or_a_device_and_not_into_its_place(tmp_path: Path) -> None:
    """As root, `--output /dev/stdout` must not put a file where the device is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "stdout"
    link.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for place in (pipe, link):
            command.write(samples.proven(), "json", place)
            content = b"".join(iter(lambda: os.read(reader, 1 << 20), b""))
            assert json.loads(content)["stack"] == "staging"
    finally:
        os.close(reader)
    assert pipe.is_fifo() and link.is_symlink() and sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "stdout"]
    file = tmp_path / "latest"
    file.symlink_to(tmp_path / "report")
    command.write(samples.proven(), "json", file)
    assert file.is_symlink() and json.loads((tmp_path / "report").read_text())["stack"] == "staging"


def test_a_node_keeps_its_last_proofs_and_of_earlier_ones_no_rungs(tmp_path: Path) -> None:
    (tmp_path / proofs.FOLDER.lstrip("/")).mkdir(parents=True)
    verdict = judge("n rung=boot-id status=ok value=x detail= at=1.25\nn end\n", "n", "y", [])
    for number in range(history.KEPT + 3):
        with proofs.recorded(tmp_path, STATE) as attempt:
            attempt.climbed("booted guest", verdict)
            attempt.result = {"dockerVersion": f"27.5.{number}"}
    kept = proofs.kept(tmp_path)
    assert [entry["dockerVersion"] for entry in kept] == [f"27.5.{number}" for number in range(3, history.KEPT + 3)]
    assert [len(entry["climbs"]) for entry in kept] == [0] * (history.KEPT - 1) + [1]  # type: ignore[arg-type]
    with pytest.raises(NodeError), proofs.recorded(tmp_path, STATE) as attempt:
        raise NodeError("proof-transcript-incomplete", "no end")
    assert proofs.kept(tmp_path)[-1]["error"]["code"] == "proof-transcript-incomplete"  # type: ignore[index]
    with pytest.raises(SystemExit), proofs.recorded(tmp_path, STATE):
        raise SystemExit(143)
    assert len(proofs.kept(tmp_path)) == history.KEPT, "a run that is ended leaves no record"
    (tmp_path / proofs.RECORD.lstrip("/")).write_text("no record")
    assert proofs.kept(tmp_path) == []


def test_the_result_of_a_proof_and_its_record_have_one_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By it a stack's state is told from what the node has recorded."""
    (tmp_path / proofs.FOLDER.lstrip("/")).mkdir(parents=True)
    verdict = judge("", "n", "y", [])
    effective = Effective("/c", "/c", "", None, (), {}, "", {}, {}, {}, None, None)
    monkeypatch.setattr(prove, "effective", lambda *_, **__: effective)
    monkeypatch.setattr(prove, "refuse_what_kata_refuses", lambda *_: None)
    monkeypatch.setattr(prove, "guest_proof", lambda *_: (verdict, [], 1))
    monkeypatch.setattr(prove, "no_container", lambda *_: "no Kata shim on this node")
    monkeypatch.setattr(prove, "boot_id", lambda _: "b")
    monkeypatch.setattr(prove.docker, "ask", lambda _: prove.docker.Answer(None, frozenset(), ""))
    result = prove.run(STATE.document(), tmp_path)
    assert result["began"] == proofs.kept(tmp_path)[-1]["began"]


def test_a_disk_that_takes_nothing_fails_no_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / proofs.FOLDER.lstrip("/")
    (folder / "proofs.json").mkdir(parents=True)
    with proofs.recorded(tmp_path, STATE) as attempt:
        attempt.result = {}
    assert "this proof is not recorded" in capsys.readouterr().err


def test_the_longest_record_is_within_its_bound() -> None:
    long = "x" * 4096
    text = "".join(f"n rung=r-{chr(97 + at)} status=fail value={long} detail={long} at=1.00\n" for at in range(26))
    assert len(text) < history.MAX_HISTORY
    climb = Climb("container of runtime kata", judge(f"{text}n end\n", "n", "y", []), 1.0)
    failure = NodeError("proof-container-failed", long, remedy=long)
    entry = history.proof(STATE, began="x", seconds=1.0, climbs=[climb, climb], result=None, failure=failure)
    content = b""
    for _ in range(history.KEPT + 1):
        content = history.with_newest(history.parsed(content), entry)
    assert len(content) < history.MAX_HISTORY
