"""Rounds over joining nodes when the cluster refuses, and what is known of the cluster when it forgets, without a cluster.

What would be lost if these failed: one bad node would keep all others from their proof, a refusal would be met with a Job a
second, a node would be looked at on what was true before this program's own write, or memory would grow with what real nodes
carry.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from clusterkit import joining, pod_proof, pod_room
from clusterkit.api.client import Changed
from clusterkit.controller import documents, trimmed
from clusterkit.controller import rounds as rounds_module
from clusterkit.controller import view as view_module
from clusterkit.controller.__main__ import STUCK
from clusterkit.controller.api import KINDS, Api
from clusterkit.controller.rounds import Reconciler
from clusterkit.controller.view import View
from clusterkit.pod_proof import Nodes
from nodekit.errors import NodeError
from tests.clusterkit.reports import GUEST_ID
from tests.clusterkit.test_joining_rules import SETTINGS, node, pod_of

AHEAD = timedelta(hours=10)


class Cluster(Api):
    """Two tainted nodes, and whatever is made for them. No watch reports anything: a test reads again."""

    def __init__(self, *names: str) -> None:
        self.settings, self.server = SETTINGS, "https://192.0.2.10"
        self.version = 1
        self.nodes: dict[str, dict[str, Any]] = {}
        for name in names or ("a", "b"):
            self.nodes[name] = node()
            self.nodes[name]["metadata"] |= {"name": name, "uid": f"uid-{name}", "annotations": {}, "resourceVersion": "1"}
        self.created_jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.requests: Counter[str] = Counter()
        self.refusing: dict[str, Exception] = {}
        self.data: dict[str, dict[str, str]] = {}
        self.logs: dict[tuple[str, str], str] = {}
        self.unselected: set[str] = set()
        """Nodes that the selector does not select."""

    def next_version(self) -> str:
        self.version += 1
        return str(self.version)

    def pages(self, kind: str) -> Iterator[tuple[list[dict[str, Any]], str]]:
        kinds = {"nodes": self.nodes, "jobs": self.created_jobs, "pods": self.pods}
        yield deepcopy(list(kinds.get(kind, {}).values())), str(self.version)

    def has_node(self, name: str) -> bool:
        self.requests["looks"] += 1
        if refused := self.refusing.get(f"look for {name}"):
            raise refused
        return name in self.nodes or name in self.unselected

    def make(self, body: Any) -> dict[str, Any]:
        uid = f"job-{self.requests.total()}"
        self.requests[body["metadata"]["annotations"][pod_proof.NODE_ANNOTATION]] += 1
        about = {**body["metadata"], "uid": uid, "resourceVersion": self.next_version()}
        self.created_jobs[uid] = {**body, "metadata": about}
        return self.created_jobs[uid]

    def remove(self, name: str) -> None:
        self.created_jobs = {uid: job for uid, job in self.created_jobs.items() if job["metadata"]["name"] != name}

    def patch_node(self, name: str, patch: Any) -> dict[str, Any]:
        if name in self.refusing:
            raise self.refusing[name]
        node = self.nodes[name]
        node["metadata"]["resourceVersion"] = self.next_version()
        if isinstance(patch, dict):
            node["metadata"]["annotations"] |= patch["metadata"]["annotations"]
        else:
            node["spec"] = {"taints": []}
        return deepcopy(node)

    def kept(self, name: str) -> dict[str, str]:
        return self.data.get(name, {})

    def keep(self, name: str, entries: Mapping[str, str | None]) -> None:
        if name in self.refusing:
            raise self.refusing[name]
        self.requests["maps"] += 1
        merged = {**self.data.get(name, {}), **entries}
        self.data[name] = {key: value for key, value in merged.items() if value is not None}

    def tell(self, event: Any) -> None:
        self.requests["events"] += 1

    def log(self, pod: str, container: str) -> str:
        self.requests["logs"] += 1
        if refused := self.refusing.get("logs"):
            raise refused
        return self.logs[pod, container]

    def evidence(self) -> dict[str, str]:
        return {key: value for data in self.data.values() for key, value in data.items()}

    def ends(self, name: str, kind: str, when: datetime | None = None, pod: bool = False) -> str:
        """The Job that a node claims ends, and its pod with a passing report; the Job's uid."""
        uid = joining.claim(self.nodes[name])
        at = (when or datetime.now(timezone.utc)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.created_jobs[uid]["metadata"]["resourceVersion"] = self.next_version()
        self.created_jobs[uid]["status"] = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": at}]}
        if pod:
            self.pods[uid] = pod_of(self.created_jobs[uid])
            self.pods[uid]["metadata"] |= {"uid": f"pod-of-{uid}", "resourceVersion": self.next_version()}
        return uid


class Clock:
    """Stands for `time`: it only goes forward, and only when a test moves it or somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(rounds_module, "time", fake)
    return fake


def begun(cluster: Cluster) -> Reconciler:
    """Rounds over what is there."""
    view = View(cluster)
    view.list_all()
    rounds = Reconciler(cluster, view)
    rounds.pool = ThreadPoolExecutor(1)  # the cluster here is not made for several at once
    return rounds


def again(rounds: Reconciler) -> float:
    """The cluster is read, and a round is made; seconds until the next one."""
    rounds.view.list_all()
    return rounds.once() - rounds_module.time.monotonic()


def test_node_that_the_cluster_refuses_keeps_no_other_from_its_proof_and_is_left_alone_for_a_while(clock: Clock) -> None:
    cluster = Cluster()
    cluster.refusing["a"] = NodeError("cluster-forbidden", "no", "controller")
    rounds = begun(cluster)
    for _ in range(5):
        clock.now += 10
        assert again(rounds) <= 60
    assert cluster.requests == {"a": 1, "b": 1}
    assert list(cluster.created_jobs) == [joining.claim(cluster.nodes["b"])], "the Job that could not be claimed is gone at once"
    clock.now += 60
    again(rounds)
    assert cluster.requests["a"] == 2


def test_long_round_under_slow_webhooks_does_not_look_stuck(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost otherwise: the liveness probe ends the controller in the middle of its work, again and again."""
    cluster = Cluster(*(f"n{number}" for number in range(12)))
    rounds, make, silent = begun(cluster), cluster.make, []

    def slowly(body: Any) -> dict[str, Any]:
        clock.now += joining.LONGEST_CONFLICT_WAIT
        silent.append(clock.now - rounds.beat)
        return make(body)

    monkeypatch.setattr(cluster, "make", slowly)
    again(rounds)
    assert len(silent) == 12 and max(silent) <= joining.LONGEST_CONFLICT_WAIT < STUCK < sum(silent)


def test_webhook_that_refuses_with_the_status_of_a_conflict_is_named(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Lost otherwise: a log that for ever reports a node that changes, and no word of who refuses."""
    cluster = Cluster("a")
    words = (
        'the API server answered 422 when asked to patch node a: admission webhook "w.example" denied the request: no annotations'
    )
    cluster.refusing["a"] = Changed("patch node a", 422, {}, NodeError("cluster-object-refused", words))
    assert again(begun(cluster)) > 10
    assert "w.example" in caplog.text and "it changed" not in caplog.text


def test_node_that_changed_while_it_was_looked_at_is_soon_looked_at_again(clock: Clock) -> None:
    cluster = Cluster()
    cluster.refusing["a"] = Changed("patch node a")
    rounds = begun(cluster)
    assert again(rounds) == 1
    cluster.refusing.clear()
    clock.now += 1
    again(rounds)
    assert {joining.claim(document) for document in cluster.nodes.values()} == set(cluster.created_jobs) and len(
        cluster.created_jobs
    ) == 2


def test_claim_that_always_conflicts_costs_a_job_a_minute_and_not_one_a_second(clock: Clock) -> None:
    cluster = Cluster("a")
    cluster.refusing["a"] = Changed("patch node a")
    rounds = begun(cluster)
    for _ in range(600):
        again(rounds)
        clock.now += 1
    assert cluster.requests["a"] <= 6 + 10 and not cluster.created_jobs
    cluster.refusing.clear()
    clock.now += 60
    again(rounds)
    assert len(cluster.created_jobs) == 1 and not rounds.conflicts


def test_node_that_claims_the_job_of_another_takes_no_proof_from_it(clock: Clock) -> None:
    """A kubelet can write any annotation of its own node; the other node lost its Job and was never looked at again."""
    cluster = Cluster("a", "b")
    rounds = begun(cluster)
    again(rounds)
    of_a = joining.claim(cluster.nodes["a"])
    for _ in range(3):
        cluster.nodes["b"]["metadata"]["annotations"][joining.CLAIM_ANNOTATION] = of_a
        cluster.nodes["b"]["metadata"]["resourceVersion"] = cluster.next_version()
        clock.now += 100
        again(rounds)
    assert of_a in cluster.created_jobs and joining.claim(cluster.nodes["a"]) == of_a
    assert set(cluster.created_jobs) == {of_a, joining.claim(cluster.nodes["b"])} and cluster.requests["a"] == 1
    cluster.ends("a", "Complete", pod=True)
    again(rounds)
    assert not joining.tainted(cluster.nodes["a"]) and joining.tainted(cluster.nodes["b"])


@pytest.mark.parametrize("when", ["in our write", "after it"])
def test_claim_that_another_takes_away_costs_a_job_a_minute_and_is_written_again(clock: Clock, when: str) -> None:
    """A webhook or a controller that knows which annotations a node should have, or the node's own kubelet."""
    cluster = Cluster("a")
    patch_node = cluster.patch_node

    def patch(name: str, patch: Any) -> dict[str, Any]:
        patch_node(name, patch)
        cluster.nodes[name]["metadata"]["annotations"] = {}
        return deepcopy(cluster.nodes[name])

    if when == "in our write":
        cluster.patch_node = patch  # type: ignore[method-assign]
    rounds = begun(cluster)
    for _ in range(600):
        again(rounds)
        clock.now += 1
        cluster.nodes["a"]["metadata"]["annotations"] = {}
        cluster.nodes["a"]["metadata"]["resourceVersion"] = cluster.next_version()
    assert 8 < cluster.requests["a"] <= 6 + 10
    cluster.patch_node = patch_node  # type: ignore[method-assign]
    clock.now += 60
    again(rounds)
    assert [joining.claim(cluster.nodes["a"])] == list(cluster.created_jobs)


def test_events_that_a_kubelet_makes_without_end_are_kept_within_bounds(clock: Clock) -> None:
    """It may make them in every namespace. A hundred thousand filled the controller's memory, and a round took seven seconds."""
    cluster = Cluster("a")
    rounds = begun(cluster)
    again(rounds)
    view, job = rounds.view, joining.claim(cluster.nodes["a"])

    def event(uid: str, about: str) -> dict[str, Any]:
        message = {"reason": uid + "r" * 5000, "message": uid + "m" * 100_000, "lastTimestamp": f"2026-01-01T00:00:00Z{uid}"}
        return {"metadata": {"name": uid, "uid": uid, "resourceVersion": "9"}, "involvedObject": {"uid": about}, **message}

    for number in range(2000):
        view.put("events", event(f"of-job-{number:04}", job))
        view.put("events", event(f"strange-{number:04}", f"pod-{number:04}"))
    view.put("events", event("of-job-1984", job))
    view.put("events", event("of-job-2000", job))
    kept = [each for events in view.events.values() for each in events.values()]
    assert len(kept) <= view_module.EVENTS + view_module.STRANGE and len(json.dumps(kept)) < 2_000_000
    newest = [each["metadata"]["uid"] for each in view.events_about(job)]
    assert newest == [*(f"of-job-{number}" for number in range(1986, 2000)), "of-job-1984", "of-job-2000"]
    assert view.events_about("pod-1999") and not view.events_about("pod-0000")
    assert set(view.strange_events) == set(view.events) - {job}


def test_node_that_went_away_under_our_own_write_is_forgotten_and_costs_no_further_job(clock: Clock) -> None:
    """The watch reports that it is gone before the answer to the write is taken in, which brings it back."""
    cluster = Cluster("a")
    rounds = begun(cluster)
    gone = deepcopy(cluster.nodes["a"])
    cluster.refusing["a"] = Changed("patch node a", 404)
    rounds.view.drop("nodes", gone)
    rounds.view.put("nodes", gone)
    for _ in range(200):
        rounds.once()
        clock.now += 1
    assert cluster.requests["a"] == 1 and not cluster.created_jobs and not rounds.view.nodes


@pytest.mark.parametrize(
    "when", [datetime.now(timezone.utc) + AHEAD, datetime.now(timezone.utc) - AHEAD], ids=["ahead", "behind"]
)
def test_clock_of_the_cluster_that_is_off_neither_stops_nor_hastens_the_next_try(clock: Clock, when: datetime) -> None:
    cluster = Cluster("a")
    rounds = begun(cluster)
    again(rounds)
    cluster.ends("a", "Failed", when)
    assert again(rounds) == 10 and cluster.requests["a"] == 1
    clock.now += 9
    assert again(rounds) == 1 and cluster.requests["a"] == 1
    clock.now += 1
    again(rounds)
    assert cluster.requests["a"] == 2 and len(cluster.created_jobs) == 1


def test_pod_that_a_deadline_took_away_is_remembered(clock: Clock) -> None:
    cluster = Cluster()
    rounds = begun(cluster)
    again(rounds)
    uid = cluster.ends("a", "Complete", pod=True)
    del cluster.created_jobs[uid]["status"]
    again(rounds)
    (gone,) = cluster.pods.values()
    cluster.pods.clear()
    rounds.view.drop("pods", gone)
    cluster.ends("a", "Complete")
    again(rounds)
    assert not cluster.nodes["a"]["spec"]["taints"]
    assert uid not in cluster.created_jobs and uid not in rounds.view.pods and uid not in rounds.view.jobs


def test_refusal_is_reported_once_and_evidence_of_removed_nodes_is_removed(clock: Clock) -> None:
    cluster = Cluster()
    for name in ("gone", "b"):
        cluster.data.setdefault(pod_proof.evidence_map("joining-nodes", name), {})[name] = "{}"
    rounds = begun(cluster)
    rounds.forget_evidence()
    assert set(cluster.evidence()) == {"b"}
    rounds.once()
    cluster.ends("b", "Failed")
    assert again(rounds) <= 10 and again(rounds) <= 10
    assert cluster.requests["events"] == 1
    cluster.ends("a", "Complete", pod=True)
    again(rounds)
    assert json.loads(cluster.evidence()["a"])["guestBootId"] == GUEST_ID
    rounds.view.drop("nodes", cluster.nodes.pop("b"))
    again(rounds)
    assert set(cluster.evidence()) == {"a"} and not cluster.created_jobs, "its Job goes too"


def test_report_that_comes_back_in_the_log_alone_is_read_there(clock: Clock) -> None:
    """As under Firecracker, which shares no files: no node would ever be proven."""
    cluster = Cluster("a")
    rounds = begun(cluster)
    again(rounds)
    uid = cluster.ends("a", "Complete", pod=True)
    ended = cluster.pods[uid]["status"]["containerStatuses"][0]["state"]["terminated"]
    cluster.logs["p", "sandbox"], ended["message"] = f"a line of a sidecar\n{ended['message']}", ""
    cluster.refusing["logs"] = NodeError("cluster-forbidden", "no", "controller")
    again(rounds)
    assert cluster.requests["events"] == 1 and joining.tainted(cluster.nodes["a"]) and not cluster.evidence()
    cluster.refusing.clear()
    clock.now += joining.FIRST_WAIT
    again(rounds)
    assert not joining.tainted(cluster.nodes["a"]) and json.loads(cluster.evidence()["a"])["guestBootId"] == GUEST_ID
    assert cluster.requests["a"] == 1, "the Job of which the log could not be read at first"


def test_job_that_never_ends_is_reported_for_as_long_as_it_lasts(clock: Clock) -> None:
    cluster = Cluster("a")
    rounds = begun(cluster)
    again(rounds)
    due = again(rounds)
    for _ in range(1000):
        clock.now += max(due, 1)
        due = again(rounds)
    assert cluster.requests["a"] == 1 and len(cluster.created_jobs) == 1, "no further guest beside one that hangs"
    assert clock.now > 4600 and cluster.requests["events"] >= (clock.now - 1000) // 3600, "an Event is kept for an hour"
    assert cluster.requests["events"] <= clock.now // 600
    cluster.ends("a", "Failed")
    again(rounds)
    clock.now += 10
    again(rounds)
    assert cluster.requests["a"] == 2


def test_node_that_is_down_when_its_job_is_overdue_does_not_keep_the_rounds_busy(clock: Clock) -> None:
    cluster = Cluster("a")
    rounds = begun(cluster)
    again(rounds)
    cluster.nodes["a"]["metadata"]["resourceVersion"] = cluster.next_version()
    cluster.nodes["a"]["status"]["conditions"] = []
    again(rounds)
    for _ in range(20):
        clock.now += 20
        assert again(rounds) > 0
    assert not cluster.requests["events"]


def test_evidence_of_many_is_written_once_a_map_and_what_is_refused_keeps_its_taint(clock: Clock) -> None:
    cluster = Cluster(*(f"n{number}" for number in range(150)))
    rounds = begun(cluster)
    again(rounds)
    assert len(cluster.created_jobs) == 150
    for name in cluster.nodes:
        cluster.ends(name, "Complete", pod=True)
    full = pod_proof.evidence_map("joining-nodes", "n0")
    cluster.refusing[full] = NodeError("cluster-object-refused", "too long")
    again(rounds)
    kept = {name for name in cluster.nodes if pod_proof.evidence_map("joining-nodes", name) == full}
    assert {name for name, document in cluster.nodes.items() if document["spec"]["taints"]} == kept
    assert cluster.requests["maps"] <= 64 and len(cluster.evidence()) == 150 - len(kept)
    cluster.refusing.clear()
    clock.now += 60
    again(rounds)
    assert len(cluster.evidence()) == 150 and not cluster.created_jobs


def two_proven() -> tuple[Cluster, Reconciler]:
    """A cluster whose nodes `a` and `b` have joined and are proven."""
    cluster = Cluster("a", "b")
    rounds = begun(cluster)
    again(rounds)
    for name in cluster.nodes:
        cluster.ends(name, "Complete", pod=True)
    again(rounds)
    return cluster, rounds


def test_evidence_of_a_node_that_is_gone_is_removed_once_the_cluster_lets_it(clock: Clock) -> None:
    cluster, rounds = two_proven()
    assert set(cluster.evidence()) == {"a", "b"}
    place = pod_proof.evidence_map("joining-nodes", "b")
    cluster.refusing[place] = NodeError("cluster-unreachable", "it starts")
    rounds.view.drop("nodes", cluster.nodes.pop("b"))
    assert again(rounds) > 1 and set(cluster.evidence()) == {"a", "b"}
    cluster.refusing.clear()
    clock.now += 60
    again(rounds)
    assert set(cluster.evidence()) == {"a"}


@pytest.mark.parametrize("restarted", [False, True])
def test_another_machine_under_the_name_has_no_evidence_of_the_one_before(clock: Clock, restarted: bool) -> None:
    """As a machine that was installed again within a second, or while no controller ran: its own proof may fail."""
    cluster, rounds = two_proven()
    before = cluster.nodes["b"]
    cluster.nodes["b"] = node()
    about = {"name": "b", "uid": "uid-of-another", "annotations": {}, "resourceVersion": cluster.next_version()}
    cluster.nodes["b"]["metadata"] |= about
    if restarted:
        rounds = begun(cluster)
        rounds.forget_evidence()
    else:
        rounds.view.drop("nodes", before)
    maps = cluster.requests["maps"]
    again(rounds)
    assert set(cluster.evidence()) == {"a"} and cluster.requests["maps"] == maps + 1
    for _ in range(3):
        cluster.ends("b", "Failed")
        again(rounds)
        clock.now += 600
        again(rounds)
    assert cluster.requests["b"] == 5 and cluster.requests["maps"] == maps + 1, "a node without evidence costs no write"
    cluster.ends("b", "Complete", pod=True)
    again(rounds)
    assert set(cluster.evidence()) == {"a", "b"}


def test_node_that_only_loses_its_labels_keeps_its_evidence_until_it_is_gone(clock: Clock) -> None:
    """As while kata-deploy changes there: the node is not tainted, so nothing would prove it again once the label is back."""
    cluster, rounds = two_proven()
    without = cluster.nodes.pop("b")
    cluster.unselected.add("b")
    rounds.view.drop("nodes", without)
    again(rounds)
    rounds.forget_evidence()  # as where the controller starts meanwhile
    assert set(cluster.evidence()) == {"a", "b"}
    looks = cluster.requests["looks"]
    for _ in range(20):
        clock.now += 20
        again(rounds)
    assert set(cluster.evidence()) == {"a", "b"} and cluster.requests["looks"] == looks
    cluster.unselected.clear()  # gone, which no watch reports
    cluster.refusing["look for b"] = NodeError("cluster-unreachable", "it starts")
    for _ in range(20):
        clock.now += 20
        again(rounds)
    assert set(cluster.evidence()) == {"a", "b"}
    cluster.refusing.clear()
    clock.now += 60
    again(rounds)
    assert set(cluster.evidence()) == {"a"} and "b" not in rounds.due


def test_state_from_before_its_own_write_is_ignored(clock: Clock) -> None:
    """A watch lags behind: it reports the node without a claim after the claim was written."""
    cluster = Cluster("a")
    late = deepcopy(cluster.nodes["a"])
    rounds = begun(cluster)
    rounds.once()
    rounds.view.put("nodes", late)
    rounds.once()
    assert cluster.requests["a"] == 1 and len(cluster.created_jobs) == 1


def test_job_that_no_node_claims_is_removed_but_not_while_it_is_made(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("a")
    rounds = begun(cluster)
    make = cluster.make

    def make_and_watch(body: Any) -> dict[str, Any]:
        """The watch reports the Job before its maker is answered, and a round looks for Jobs to remove meanwhile."""
        job = make(body)
        rounds.view.put("jobs", job)
        assert not rounds.view.take_strangers()
        return job

    monkeypatch.setattr(cluster, "make", make_and_watch)
    rounds.once()
    (claimed,) = cluster.created_jobs
    left = deepcopy(cluster.created_jobs[claimed])
    left["metadata"] |= {"uid": "left", "name": "left", "resourceVersion": cluster.next_version()}
    cluster.created_jobs["left"] = left
    again(rounds)
    assert list(cluster.created_jobs) == [claimed] == [joining.claim(cluster.nodes["a"])]


def test_job_that_could_be_neither_claimed_nor_removed_is_removed_later(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("a")
    rounds = begun(cluster)
    remove = cluster.remove
    cluster.refusing["a"] = refused = NodeError("cluster-unreachable", "the API server is away", "log")

    def refuse(_: str) -> None:
        raise refused

    monkeypatch.setattr(cluster, "remove", refuse)
    rounds.once()
    assert len(cluster.created_jobs) == 1
    monkeypatch.setattr(cluster, "remove", remove)
    clock.now += rounds_module.HELD + 1
    rounds.once()
    assert not cluster.created_jobs


def test_changes_that_a_watch_missed_are_seen_when_the_cluster_is_listed_again(clock: Clock) -> None:
    cluster = Cluster()
    rounds = begun(cluster)
    rounds.once()
    del cluster.nodes["a"]
    uid = joining.claim(cluster.nodes["b"])
    del cluster.created_jobs[uid]
    cluster.next_version()
    again(rounds)
    assert set(rounds.view.nodes) == {"b"} == set(rounds.view.machines.by_name)
    assert (cluster.requests["a"], cluster.requests["b"]) == (1, 2) and len(cluster.created_jobs) == 1


def test_a_server_that_ends_every_list_early_is_reported_and_not_asked_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    whole = cluster.pages

    def pages(kind: str) -> Iterator[tuple[list[dict[str, Any]], str]]:
        cluster.requests["lists"] += 1
        yield from whole(kind)
        if cluster.requests["lists"] < 100:
            raise Changed(f"list {kind}")

    monkeypatch.setattr(cluster, "pages", pages)
    with pytest.raises(NodeError, match=r"ended a list of nodes before it was complete, 3 times") as caught:
        View(cluster).list_all()
    assert caught.value.code == "cluster-unreachable" and cluster.requests["lists"] == 3


def test_a_watch_rests_after_a_change_that_it_waited_for_and_reads_at_once_what_has_gathered(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Woken for each change by itself, the controller took half as long again for a node."""
    monkeypatch.setattr(view_module, "time", clock)
    slept: list[int] = []

    def changes() -> Iterator[tuple[str, dict[str, Any]]]:
        for seconds in (60.0, 0.0, 0.0, 0.01):
            clock.now += seconds
            slept.append(len(clock.slept))
            yield "MODIFIED", {}

    assert len(list(view_module.gathered(changes()))) == 4
    assert slept == [0, 1, 1, 1] and clock.slept == [view_module.REST] * 2


def test_nothing_is_made_for_a_node_before_it_is_ready(clock: Clock) -> None:
    cluster = Cluster("a")
    conditions = cluster.nodes["a"]["status"]["conditions"]
    cluster.nodes["a"]["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    rounds = begun(cluster)
    rounds.once()
    assert rounds.ask.cache_info().misses == 0 and not cluster.created_jobs
    cluster.nodes["a"]["status"]["conditions"] = conditions
    cluster.nodes["a"]["metadata"]["resourceVersion"] = cluster.next_version()
    again(rounds)
    assert len(cluster.created_jobs) == 1


def test_kubelets_reports_of_a_node_wake_nobody(clock: Clock) -> None:
    cluster = Cluster("a")
    rounds = begun(cluster)
    rounds.once()
    rounds.view.take_queued(10)
    cluster.nodes["a"]["metadata"]["resourceVersion"] = cluster.next_version()
    cluster.nodes["a"]["status"]["images"] = [{"names": ["x"]}]
    rounds.view.list_all()
    assert not rounds.view.take_queued(10)


def test_reports_of_a_job_and_its_pod_that_decide_nothing_wake_nobody(clock: Clock) -> None:
    cluster = Cluster("a")
    rounds = begun(cluster)
    rounds.once()
    uid = cluster.ends("a", "Complete", pod=True)
    rounds.view.list_all()
    assert rounds.view.take_queued(10) == ["a"]
    for known, report in ((cluster.created_jobs[uid], {"active": 1}), (cluster.pods[uid], {"hostIP": "192.0.2.1"})):
        known["metadata"]["resourceVersion"] = cluster.next_version()
        known["status"] |= report
        rounds.view.list_all()
        assert not rounds.view.take_queued(10)
    cluster.pods[uid]["metadata"]["resourceVersion"] = cluster.next_version()
    cluster.pods[uid]["status"]["phase"] = "Failed"
    rounds.view.list_all()
    assert rounds.view.take_queued(10) == ["a"]


def test_verdicts_know_every_node_that_came_changed_or_left(clock: Clock) -> None:
    cluster = Cluster()
    view = begun(cluster).view
    assert set(view.machines.by_name) == {"a", "b"}
    cluster.nodes["a"]["metadata"]["resourceVersion"] = cluster.next_version()
    cluster.nodes["a"]["status"]["nodeInfo"]["bootID"] = "another"
    view.list_all()
    assert view.machines.by_boot_id["another"] == "a"
    del cluster.nodes["b"]
    cluster.next_version()
    view.list_all()
    assert set(view.machines.by_name) == {"a"} == set(view.machines.by_boot_id.values())


def test_a_boot_id_that_two_nodes_report_stays_known_when_one_of_them_leaves() -> None:
    """A guest's own kernel is told from a node's by it."""
    first, second = pod_proof.Node("a", "uid-a", "same"), pod_proof.Node("b", "uid-b", "same")
    nodes = Nodes([first, second])
    nodes.remove("b")
    assert nodes.by_boot_id == {"same": "a"}
    nodes.put(second)
    nodes.put(pod_proof.Node("b", "uid-b", "own"))
    assert nodes.by_boot_id == {"same": "a", "own": "b"}
    nodes.remove("a")
    assert nodes.by_boot_id == {"own": "b"} and set(nodes.by_name) == {"b"}


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_kept_of_an_object_is_read_of_its_json(kind: str, clock: Clock) -> None:
    cluster = Cluster("a")
    begun(cluster).once()
    uid = cluster.ends("a", "Complete", pod=True)
    spoken = {"metadata": {"name": "e", "uid": "e"}, "involvedObject": {"uid": uid}, "reason": "r", "message": "m", "count": 2}
    whole = {"nodes": cluster.nodes["a"], "jobs": cluster.created_jobs[uid], "pods": cluster.pods[uid], "events": spoken}[kind]
    whole["metadata"]["managedFields"] = [{"fieldsV1": {"f": {}}}]
    cut = {"nodes": trimmed.node, "jobs": trimmed.job, "pods": trimmed.pod, "events": trimmed.event}[kind]
    change = documents.CHANGES[kind](json.dumps({"type": "ADDED", "object": whole}).encode())
    page = documents.PAGES[kind](json.dumps({"metadata": {"continue": "c"}, "items": [whole]}).encode())
    for read in (change["object"], *page["items"]):
        assert cut(read) == cut(whole) and "managedFields" not in read["metadata"]
    assert change["type"] == "ADDED" and page["metadata"]["continue"] == "c"
    odd = {"type": "ADDED", "object": {**whole, "metadata": {**whole["metadata"], "name": 1}}}
    assert documents.CHANGES[kind](json.dumps(odd).encode()) == odd, "what is of another form is read as it is"
    for text, error in ((b"{", ValueError), (b"[" * 100_000, RecursionError)):
        with pytest.raises(error):
            documents.CHANGES[kind](text)


def test_what_is_kept_of_an_object_is_all_that_decides_and_little_else(clock: Clock) -> None:
    cluster = Cluster("a")
    rounds = begun(cluster)
    rounds.once()
    uid = cluster.ends("a", "Complete", pod=True)
    whole = joining.step(
        cluster.nodes["a"], rounds.ask(pod_proof.node_of(cluster.nodes["a"]), 1),
        cluster.created_jobs[uid], cluster.pods[uid], 0.0, Nodes([pod_proof.node_of(cluster.nodes["a"])]),
    )  # fmt: skip
    rounds.view.list_all()
    assert isinstance(whole, joining.Proven)
    assert whole == rounds.step(rounds.view.nodes["a"], 0.0)
    pressed = {"type": "DiskPressure", "status": "True", "message": "kubelet has disk pressure"}
    short = {**cluster.nodes["a"], "status": {**cluster.nodes["a"]["status"], "conditions": [pressed]}}
    assert pod_proof.node_of(trimmed.node(short)) == pod_proof.node_of(short) != pod_proof.node_of(cluster.nodes["a"])
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    held = {**cluster.pods[uid], "status": {"conditions": [gated]}}
    assert pod_room.unscheduled(trimmed.pod(held)) == pod_room.unscheduled(held) == "SchedulingGated"
    big = {"images": [{"names": ["n" * 200], "sizeBytes": 1}] * 50}
    real = {**cluster.nodes["a"], "status": {**cluster.nodes["a"]["status"], **big}}
    real["metadata"] = {**real["metadata"], "managedFields": [{"fieldsV1": {"f" * 5000: {}}}]}
    assert len(json.dumps(trimmed.node(real))) < 600
    first, other = (trimmed.job(json.loads(json.dumps(cluster.created_jobs[uid]))) for _ in range(2))
    texts = [job["spec"]["template"]["spec"]["containers"][0]["args"][-1] for job in (first, other)]
    assert texts[0] is texts[1] and len(texts[0]) > 1000, "thousands of Jobs share one ladder"
