"""What is known of the cluster: listed once in pages, then watched, and cut down to what decisions need.

The controller's own writes are added as the server answers them, so that each decision knows what this program has done.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from clusterkit import joining, pod_proof
from clusterkit.api.client import LISTINGS, Changed, cut_short
from clusterkit.controller import trimmed
from clusterkit.controller.api import KINDS, Api
from nodekit.errors import NodeError

log = logging.getLogger("controller")
Change: TypeAlias = tuple[str, dict[str, Any]]
"""As `Client.watch` reports it."""
FAILED = (5.0, 60.0)
"""Seconds to wait after a watch that failed: the first and the longest; they double in between."""
SHORTEST = 1.0
"""Seconds between the starts of two watches at least, in case the server ends each at once."""
EVENT_SECONDS = 60.0
"""How long events about unknown Jobs and pods are kept: an event can arrive before its object."""
EVENTS, STRANGE = 16, 512
"""Events that are kept about one object, the newest, and unknown objects about which any are: every kubelet may make events in
every namespace, as many as it likes."""


WAITED, REST = 0.002, 0.2
"""A watch that had to wait so long for a change, and how long it then rests, in seconds: to wake for each change costs twice what
it takes to read several at once, and the rounds gather for longer."""


def newer(version: str, than: str) -> bool:
    """Whether a version of an object is a later one: versions are numbers that grow (Kubernetes, API concepts)."""
    return not (version.isdecimal() and than.isdecimal()) or int(version) > int(than)


class View:
    """Nodes by name, Jobs by uid, pods by the uid of their Job, and events by the uid of what they are about."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.lock = threading.Condition()
        self.nodes: dict[str, dict[str, Any]] = {}
        self.machines = pod_proof.Nodes([])
        """What a verdict needs of all nodes, as they are now. Changed with the lock; single ones are looked up without it."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        """The last state of each: a Job that runs into its deadline removes its pod."""
        self.events: dict[str, dict[str, dict[str, Any]]] = {}
        self.strange_events: dict[str, float] = {}
        """Since when (monotonic clock) there are events about an unknown object, by its uid."""
        self.jobs_of_pods: dict[str, str] = {}
        self.claims: dict[str, dict[str, None]] = {}
        """Names of the tainted nodes that claim a Job, by the Job's uid. More than one: a kubelet can write any annotation of its
        own node, and so the claim of another's Job, which is still the other's."""
        self.queue: dict[str, None] = {}
        """Names of nodes to look at, those that wait longest first."""
        self.left: set[str] = set()
        """Names of nodes that are gone, whose evidence goes too."""
        self.strangers: set[str] = set()
        """Uids of Jobs that no tainted node claims."""
        self.making: dict[str, set[str]] = {}
        """Names of Jobs that are being made, which a node will claim, and the uids of what was seen under each."""
        self.failure: BaseException | None = None
        self.complaint = ""
        """The last failure that was logged: four watches meet the same one, again and again."""

    # Reading

    def list_all(self) -> dict[str, str]:
        """All kinds, in their order; the version of each, for its watch."""
        return {kind: self.list_kind(kind) for kind in KINDS}

    def list_kind(self, kind: str) -> str:
        """All objects of a kind, in place of what was known; their version. Raises NodeError."""
        for _ in range(LISTINGS):
            seen: set[str] = set()
            version = ""
            try:
                for items, listed_version in self.api.pages(kind):
                    version = listed_version
                    for item in items:
                        seen.add(item["metadata"]["uid"])
                        self.put(kind, item)
            except Changed:
                continue
            with self.lock:
                known = {"nodes": self.nodes, "jobs": self.jobs, "pods": self.pods}.get(kind, {})
                for item in list(known.values()):
                    about = item["metadata"]
                    # What this program has made since stays.
                    if about["uid"] not in seen and not newer(about["resourceVersion"], version):
                        self.drop(kind, item)
            return version
        raise cut_short(kind, self.api.server)

    def start(self) -> None:
        """Read all there is, and watch from there on. Raises NodeError where that cannot be read."""
        for kind, version in self.list_all().items():
            threading.Thread(target=self.follow, args=(kind, version), name=kind, daemon=True).start()

    def follow(self, kind: str, version: str) -> None:
        """Watch a kind for as long as the process lives. What goes wrong with the cluster is logged and waited out."""
        failed = 0.0
        try:
            while True:
                began = time.monotonic()
                try:
                    version = self.watch(kind, version)
                    failed = 0.0
                except NodeError as error:
                    self.complain(error)
                    failed = min(failed * 2 or FAILED[0], FAILED[1])
                    time.sleep(failed)
                time.sleep(max(0.0, SHORTEST - (time.monotonic() - began)))
        except BaseException as error:
            with self.lock:
                self.failure = error
                self.lock.notify_all()

    def watch(self, kind: str, version: str) -> str:
        """One watch; the version up to which everything is known at its end."""
        try:
            for change, document in gathered(self.api.changes(kind, version)):
                version = document["metadata"]["resourceVersion"]
                if change == "DELETED":
                    self.drop(kind, document)
                elif change != "BOOKMARK":
                    self.put(kind, document)
        except Changed:
            log.info("the %s are listed again: the server no longer knows what changed since they were", kind)
            return self.list_kind(kind)
        with self.lock:
            self.complaint = ""
        return version

    def complain(self, error: NodeError) -> None:
        """Log what is wrong, once for all watches that meet it."""
        with self.lock:
            if error.sentence() != self.complaint:
                log.error("%s", error.sentence())
            self.complaint = error.sentence()

    # What is known

    def put(self, kind: str, document: Mapping[str, Any]) -> None:
        """Take in an object from the server; a state older than the known one is ignored."""
        kept = {"nodes": trimmed.node, "jobs": trimmed.job, "pods": trimmed.pod, "events": trimmed.event}[kind](document)
        about = kept["metadata"]
        with self.lock:
            if kind == "nodes":
                self.put_node(kept)
            elif kind == "jobs":
                before = self.jobs.get(about["uid"])
                if before is None or newer(about["resourceVersion"], before["metadata"]["resourceVersion"]):
                    self.jobs[about["uid"]] = kept
                    if before is None or differs(before, kept):
                        self.touch(about["uid"])
            elif kind == "pods" and (job := trimmed.owner(kept)):
                known = self.pods.get(job)
                self.pods[job] = kept
                self.jobs_of_pods[about["uid"]] = job
                if known is None or differs(known, kept):
                    self.touch(job)
            elif kind == "events":
                self.put_event(kept)

    def put_node(self, node: dict[str, Any]) -> None:
        """With the lock."""
        about = node["metadata"]
        name, before = about["name"], self.nodes.get(about["name"])
        if before and not newer(about["resourceVersion"], before["metadata"]["resourceVersion"]):
            return
        self.left.discard(name)
        self.nodes[name] = node
        self.machines.put(pod_proof.node_of(node))
        self.claimed(before, node)
        if joining.tainted(node) and (before is None or differs(before, node)):
            self.look_at(name)

    def claimed(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        """Keep up with which Job a tainted node claims; with the lock."""
        old, new = (joining.claim(node) if node and joining.tainted(node) else "" for node in (before, after))
        if old == new:
            return
        if before and (claimants := self.claims.get(old)):
            claimants.pop(before["metadata"]["name"], None)
            if not claimants:
                del self.claims[old]
                self.unclaimed(old)
        if new and after:
            self.claims.setdefault(new, {})[after["metadata"]["name"]] = None
            self.strangers.discard(new)

    def put_event(self, event: dict[str, Any]) -> None:
        """With the lock."""
        uid = str(event["involvedObject"].get("uid", ""))
        job = self.jobs_of_pods.get(uid, uid)
        if job not in self.jobs:
            self.strange_events.setdefault(uid, time.monotonic())
            if len(self.strange_events) > STRANGE:
                self.forget_event(next(iter(self.strange_events)))
        about = self.events.setdefault(uid, {})
        about.pop(event["metadata"]["uid"], None)
        about[event["metadata"]["uid"]] = event
        if len(about) > EVENTS:
            del about[next(iter(about))]
        self.look_at(*self.claims.get(job, ()))

    def drop(self, kind: str, document: Mapping[str, Any]) -> None:
        """An object that is gone."""
        about = document["metadata"]
        with self.lock:
            if kind == "nodes" and about["name"] in self.nodes and self.nodes[about["name"]]["metadata"]["uid"] == about["uid"]:
                self.machines.remove(about["name"])
                self.claimed(self.nodes.pop(about["name"]), None)
                self.left.add(about["name"])
                self.lock.notify_all()
            elif kind == "jobs" and about["uid"] in self.jobs:
                del self.jobs[about["uid"]]
                self.strangers.discard(about["uid"])
                pod = self.pods.pop(about["uid"], None)
                for uid in (about["uid"], pod["metadata"]["uid"] if pod else ""):
                    self.events.pop(uid, {})
                    self.jobs_of_pods.pop(uid, "")
                self.look_at(*self.claims.get(about["uid"], ()))
            elif kind == "pods" and (job := self.jobs_of_pods.get(about["uid"], "")) in self.pods:
                if job not in self.jobs:
                    del self.pods[job], self.jobs_of_pods[about["uid"]]
                elif self.pods[job]["metadata"]["uid"] == about["uid"]:
                    # Its last state says what it reported.
                    self.put(kind, document)
            elif kind == "events":
                uid = str(trimmed.event(document)["involvedObject"].get("uid", ""))
                self.events.get(uid, {}).pop(about["uid"], None)

    def touch(self, job: str) -> None:
        """Something of a Job changed; with the lock."""
        if job in self.claims:
            self.look_at(*self.claims[job])
        else:
            self.unclaimed(job)

    def unclaimed(self, job: str) -> None:
        """Have a Job removed, unless it is being made; with the lock."""
        if job not in self.jobs:
            return
        if (uids := self.making.get(self.jobs[job]["metadata"]["name"])) is not None:
            uids.add(job)
            return
        self.strangers.add(job)
        self.lock.notify_all()

    def look_at(self, *names: str) -> None:
        """Have nodes looked at; with the lock."""
        if names:
            self.queue |= dict.fromkeys(names)
            self.lock.notify_all()

    @contextmanager
    def making_job(self, name: str) -> Iterator[None]:
        """While a Job is made and claimed, under a name that is known before: the watch can report it before its maker does."""
        with self.lock:
            self.making[name] = set()
        try:
            yield
        finally:
            with self.lock:
                for uid in self.making.pop(name):
                    if uid not in self.claims:
                        self.unclaimed(uid)

    # What the rounds take

    def wait(self, seconds: float) -> None:
        """Until something changed, or so long."""
        with self.lock:
            self.lock.wait_for(lambda: self.queue or self.left or self.strangers or self.failure, max(seconds, 0.0))
            if self.failure:
                raise self.failure

    def take_queued(self, most: int) -> list[str]:
        """Nodes to look at, taken out of the queue."""
        with self.lock:
            names = list(self.queue)[:most]
            for name in names:
                del self.queue[name]
            return names

    def take_left(self) -> set[str]:
        """Names of nodes that are gone."""
        with self.lock:
            left, self.left = self.left, set()
            return left

    def leave(self, names: Iterable[str]) -> None:
        """Nodes whose evidence is still to be removed."""
        with self.lock:
            self.left |= set(names)

    def take_strangers(self) -> list[dict[str, Any]]:
        """Jobs that no tainted node claims."""
        with self.lock:
            strangers, self.strangers = self.strangers, set()
            return [self.jobs[uid] for uid in strangers if uid in self.jobs]

    def give_back(self, job: str) -> None:
        """A Job that could not be removed."""
        with self.lock:
            if job not in self.claims:
                self.unclaimed(job)

    def events_about(self, *uids: str) -> list[dict[str, Any]]:
        """Events about these objects."""
        with self.lock:
            return [event for uid in uids for event in self.events.get(uid, {}).values()]

    def forget(self) -> None:
        """Events about what has not become known."""
        with self.lock:
            for uid, since in list(self.strange_events.items()):
                if self.jobs_of_pods.get(uid, uid) in self.jobs:
                    del self.strange_events[uid]
                elif time.monotonic() - since > EVENT_SECONDS:
                    self.forget_event(uid)

    def forget_event(self, uid: str) -> None:
        """Those about an object that is not known, or only since they came; with the lock."""
        del self.strange_events[uid]
        if self.jobs_of_pods.get(uid, uid) not in self.jobs:
            self.events.pop(uid, None)


def gathered(changes: Iterator[Change]) -> Iterator[Change]:
    """The changes of a watch as they come; after one that was waited for, a rest in which the next ones gather."""
    while True:
        began = time.monotonic()
        if (change := next(changes, None)) is None:
            return
        waited = time.monotonic() - began > WAITED
        yield change
        if waited:
            time.sleep(REST)


def differs(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether anything changed that decisions depend on: not a kubelet's reports of each minute, nor a pod's volumes."""
    first, other = ({**known, "metadata": {**known["metadata"], "resourceVersion": ""}} for known in (before, after))
    return first != other
