"""Rounds over the nodes that changed: each decides by `clusterkit.joining` on what is known, and acts."""

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from clusterkit import joining, pod_proof, pod_verdict, runtime_class
from clusterkit.api.client import ADMISSION, Changed
from clusterkit.controller.api import Api
from clusterkit.controller.view import View
from nodekit.errors import NodeError
from nodekit.scripts import ladder_script

log = logging.getLogger("controller")
GATHER = 0.5
"""Seconds from a change to the round that looks at it: a pod that starts makes several, and each look takes time."""
LONGEST = 20.0
"""Seconds between two rounds at most."""
MOST = 200
"""Nodes of one round at most, so that a proven node need not wait behind thousands that have just joined."""
WRITERS = 8
"""Nodes that are written for at once: a request takes some milliseconds, nearly all of them in the API server."""
ASKED = 2048
"""Proofs whose request is kept, some 5 KiB each: where thousands of nodes join at once, a thousand Jobs run."""
UNSELECTED = 600.0
"""Seconds after which it is looked again whether a node that lost the selector's labels is still there. No watch shows that."""
HELD = 60.0
"""Seconds for which a node is left alone after the cluster refused something for it."""


class Reconciler:
    """Proves the nodes of one cluster. What it needs to know after a restart lies in the cluster: on nodes and Jobs."""

    def __init__(self, api: Api, view: View) -> None:
        self.api, self.settings, self.view = api, api.settings, view
        ladder = ladder_script()
        # Each node is looked at several times, from its Job's start to its verdict.
        self.ask = lru_cache(ASKED)(lambda node, attempt: joining.ask(self.settings, node, attempt, ladder))
        self.ended: dict[str, float] = {}
        """When (monotonic clock) a Job was first seen to have ended, by its uid."""
        self.begun: dict[str, float] = {}
        """When (monotonic clock) a Job was first seen, by its uid."""
        self.reported: dict[str, float] = {}
        """When (monotonic clock) it was last reported why a Job proved nothing."""
        self.held: dict[str, float] = {}
        """Until when a node is left alone, because the cluster refused a write, or the node changed meanwhile."""
        self.conflicts: dict[str, int] = {}
        """How often in a row a node had changed since it was read."""
        self.first_tries: dict[str, tuple[int, float]] = {}
        """How many first tries of a machine came one after the other, by the node's uid, and when (monotonic clock) the last was
        made. A try that fails is followed by a second one: another first one means that the claim or the Job was taken away."""
        self.due: dict[str, float] = {}
        """When to look at a node again although nothing changes."""
        self.evidence: set[str] = set()
        """Names of nodes, and of nodes that are gone, whose evidence is in the cluster."""
        self.jobs_due: dict[str, float] = {}
        """The same for Jobs that could not be removed."""
        self.pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self.beat = time.monotonic()
        """When the last round began, or the last thing in one: where webhooks take their time, a round is long."""

    def run(self) -> None:
        """Go on for ever; raises what ended a watch."""
        self.forget_evidence()
        while True:
            self.view.wait(min(self.once() - time.monotonic(), LONGEST))
            time.sleep(GATHER)

    def once(self) -> float:
        """One round. Returns when (monotonic clock) the next one is due if nothing changes."""
        now = self.beat = time.monotonic()
        due = [name for name, at in self.due.items() if at <= now]
        # Of one that is gone meanwhile, or was gone when its evidence could not be removed, the evidence goes now; one that lost
        # its labels is looked for again.
        self.view.leave(name for name in due if name not in self.view.nodes)
        names = dict.fromkeys([*due, *self.view.take_queued(MOST)])
        steps: list[tuple[dict[str, Any], joining.Step]] = []
        for name in names:
            self.due.pop(name, None)
            if self.held.get(name, 0.0) > now:
                self.due[name] = self.held[name]
            elif (node := self.view.nodes.get(name)) and joining.tainted(node):
                step = self.step(node, now)
                steps += [] if isinstance(step, joining.Wait) else [(node, step)]
        refusing = self.keep(steps)
        self.all_of(lambda each: self.act(*each), [each for each in steps if each[0]["metadata"]["name"] not in refusing])
        self.remove_strangers(now)
        self.tidy()
        # What is queued by now is looked at next, by `View.wait`.
        return min([now + LONGEST, *self.due.values(), *self.jobs_due.values()])

    def all_of(self, act: Callable[[Any], None], items: Iterable[Any]) -> None:
        """Do something for each item, some at once; a single one needs no other thread."""

        def begin(item: Any) -> None:
            self.beat = time.monotonic()
            act(item)

        each = list(items)
        if len(each) == 1:
            begin(each[0])
            return
        for future in [self.pool.submit(begin, item) for item in each]:
            future.result()

    def step(self, node: dict[str, Any], now: float) -> joining.Step:
        """What to do for a tainted node."""
        if not joining.ready(node):
            return joining.Wait()  # as joining.step decides, before anything is made for it
        uid = joining.claim(node)
        job, pod = self.view.jobs.get(uid), self.view.pods.get(uid)
        attempt = pod_proof.attempt_of(job["spec"]["template"]) if job else 1
        request = self.ask(pod_proof.node_of(node), attempt)
        since = now - self.ended.setdefault(uid, now) if job and pod_verdict.ended(job) else 0.0
        age = now - self.begun.setdefault(uid, now) if job else 0.0
        if job and pod and pod_verdict.ended(job) and pod_verdict.unreported(pod, request.climbing):
            pod = self.with_report(request, pod)
        events = self.view.events_about(uid, pod["metadata"]["uid"] if pod else "")
        step = joining.step(node, request, job, pod, since, self.view.machines, pod_verdict.words_of(events), age)
        if job and isinstance(step, joining.Wait) and (left := joining.overdue(job) - age) > 0:
            self.due[node["metadata"]["name"]] = now + left  # also where nothing changes
        return step

    def with_report(self, request: pod_proof.ProofRequest, pod: dict[str, Any]) -> dict[str, Any]:
        """The pod with its report out of its log; as it is where that cannot be read now."""
        self.beat = time.monotonic()
        try:
            return pod_verdict.reported(request, pod, self.api.log(pod["metadata"]["name"], request.climbing))
        except NodeError as error:
            log.error("%s: %s", request.node.name, error.sentence())
            return pod

    def act(self, node: dict[str, Any], step: joining.Step) -> None:
        """Do it, and note when to look again where it cannot be done."""
        name, now = node["metadata"]["name"], time.monotonic()
        try:
            if isinstance(step, joining.Prove):
                if step.attempt == 1 and (wait := self.pause(node, now)) > 0:
                    self.held[name] = self.due[name] = now + wait
                    return
                self.prove(node, step.attempt)
            elif isinstance(step, joining.Refused):
                self.due[name] = now + step.seconds
                self.tell(node, step)
            elif isinstance(step, joining.Proven):
                self.untaint(node)
            self.conflicts.pop(name, None)
        except Changed as changed:
            if changed.status == 404:
                # It can be known here and yet be gone: our own write was answered before it went, and taken in after.
                self.view.drop("nodes", node)
                return
            if changed.refusal and ADMISSION.search(changed.refusal.message):
                self.hold(name, changed.refusal, now)  # a webhook may refuse with the status of a conflict
                return
            self.conflicts[name] = self.conflicts.get(name, 0) + 1
            self.held[name] = self.due[name] = now + joining.conflict_pause(self.conflicts[name])
            log.info("%s: it changed while it was looked at, and is looked at again", name)
        except NodeError as error:
            self.hold(name, error, now)

    def hold(self, name: str, error: NodeError, now: float) -> None:
        """Leave a node alone for a while: a fault of one must not keep the others from their proof."""
        log.error("%s: %s", name, error.sentence())
        self.held[name] = self.due[name] = now + HELD

    def prove(self, node: dict[str, Any], attempt: int) -> None:
        """Make the Job of a try and have the node claim it, in place of the one before."""
        before = self.view.jobs.get(joining.claim(node))
        if before and not joining.made_for(before, node):
            before = None  # a kubelet can have its node claim another's Job, which is not its own to remove
        request = self.ask(pod_proof.node_of(node), attempt)
        body = joining.job(self.settings, request, secrets.token_hex(4))
        name = body["metadata"]["name"]
        with self.view.making_job(name):
            job = self.api.make(body)
            self.view.put("jobs", job)
            try:
                after = self.api.patch_node(request.node.name, joining.claiming(node, job["metadata"]["uid"]))
                self.view.put("nodes", after)
                if joining.claim(after) != job["metadata"]["uid"]:
                    raise Changed(f"the claim of node {request.node.name}")  # a webhook left it out
            except (Changed, NodeError):
                with suppress(NodeError):  # it is tried again as a Job that nobody claims
                    self.remove(job)
                raise
        log.info("%s: try %d, job %s", request.node.name, attempt, name)
        if before:
            self.remove(before)

    def pause(self, node: dict[str, Any], now: float) -> float:
        """Seconds until a machine may have another first try: each costs the cluster a Job. Counts it where that is now."""
        uid = node["metadata"]["uid"]
        times, last = self.first_tries.get(uid, (0, now))
        # The second one comes at once, as where somebody removes a Job to see another.
        if times > 1 and (left := last + joining.conflict_pause(times - 1) - now) > 0:
            return left
        self.first_tries[uid] = (times + 1 if now - last < joining.LONGEST_WAIT else 1, now)
        return 0.0

    def tell(self, node: dict[str, Any], step: joining.Refused) -> None:
        """Why a node is not proven, once for each Job, and again while that lasts: a cluster forgets Events after a while."""
        uid, now = joining.claim(node), time.monotonic()
        if now - self.reported.get(uid, -joining.LONGEST_WAIT) >= joining.LONGEST_WAIT:
            log.warning("%s Next look in %.0f s.", step.refusal.sentence, step.seconds)
            self.api.tell(joining.event(node, uid, step.refusal, datetime.now(timezone.utc)))
            self.reported[uid] = now

    def untaint(self, node: dict[str, Any]) -> None:
        """Remove the taint, and the Job that has done its work."""
        name, uid = node["metadata"]["name"], joining.claim(node)
        job = self.view.jobs.get(uid)
        self.view.put("nodes", self.api.patch_node(name, joining.untainting(node, uid)))
        log.info("%s: proven, and no longer tainted %s", name, runtime_class.TAINT)
        if job:
            self.remove(job)

    def remove(self, job: dict[str, Any]) -> None:
        """A Job, on the cluster and from what is known."""
        self.api.remove(job["metadata"]["name"])
        self.view.drop("jobs", job)

    def remove_strangers(self, now: float) -> None:
        """Remove Jobs with the proof's label that no tainted node claims: leftovers, and those that others made."""
        for uid in [uid for uid, at in self.jobs_due.items() if at <= now]:
            del self.jobs_due[uid]
            self.view.give_back(uid)

        def remove(job: dict[str, Any]) -> None:
            try:
                self.remove(job)
            except NodeError as error:
                log.error("job %s: %s", job["metadata"]["name"], error.sentence())
                self.jobs_due[job["metadata"]["uid"]] = now + HELD

        self.all_of(remove, self.view.take_strangers())

    # Evidence

    def keep(self, steps: list[tuple[dict[str, Any], joining.Step]]) -> set[str]:
        """Write what was proven, and remove the evidence of nodes that are gone, and that under the name of a node whose proof
        begins, which may be another machine; names of nodes whose evidence is refused."""
        entries: dict[str, str | None] = dict.fromkeys(self.gone(self.view.take_left() - set(self.view.nodes)))
        for node, step in steps:
            name = node["metadata"]["name"]
            if isinstance(step, joining.Proven):
                entries[name] = json.dumps(step.evidence, sort_keys=True)
            elif isinstance(step, joining.Prove) and name in self.evidence:
                entries[name] = None
        return self.write(entries)

    def gone(self, names: set[str]) -> list[str]:
        """Those of the nodes, of which no watch reports anything, that left the cluster. One that lost the selector's labels, as
        while kata-deploy changes there, has still been proven."""
        gone: list[str] = []

        def look(name: str) -> None:
            try:
                if self.api.has_node(name):
                    self.due[name] = time.monotonic() + UNSELECTED
                else:
                    gone.append(name)
            except NodeError as error:
                log.error("evidence of %s is left as it is: %s", name, error.sentence())
                self.due[name] = time.monotonic() + HELD

        self.all_of(look, names)
        return gone

    def write(self, entries: dict[str, str | None]) -> set[str]:
        """Write evidence by node, None to remove it; names of nodes for which that is refused."""
        by_map: dict[str, dict[str, str | None]] = {}
        for name, text in entries.items():
            by_map.setdefault(pod_proof.evidence_map(self.settings.proof, name), {})[name] = text
        refused: set[str] = set()

        def keep(item: tuple[str, dict[str, str | None]]) -> None:
            try:
                self.api.keep(*item)
                # In place, since several maps are written at once; each name is in one of them.
                self.evidence.difference_update(item[1])
                self.evidence.update(name for name, text in item[1].items() if text is not None)
            except NodeError as error:
                log.error("%s: %s", ", ".join(item[1]), error.sentence())
                refused.update(item[1])
                self.due |= dict.fromkeys(item[1], time.monotonic() + HELD)

        self.all_of(keep, by_map.items())
        return refused

    def forget_evidence(self) -> None:
        """Remove the evidence of nodes that left while no controller ran."""
        for name in pod_proof.evidence_maps(self.settings.proof):
            try:
                kept = set(self.api.kept(name))
            except NodeError as error:
                log.error("evidence of nodes that are gone is left as it is: %s", error.sentence())
                return
            self.evidence |= kept
            self.write(dict.fromkeys(self.gone(kept - set(self.view.nodes))))

    def tidy(self) -> None:
        """Forget Jobs and nodes that no longer exist."""
        self.view.forget()
        if len(self.begun) + len(self.reported) > 2 * len(self.view.jobs) + MOST:
            self.begun, self.ended, self.reported = (
                {uid: at for uid, at in times.items() if uid in self.view.jobs}
                for times in (self.begun, self.ended, self.reported)
            )
        now = time.monotonic()
        if len(self.first_tries) > 2 * len(self.view.claims) + MOST:
            self.first_tries = {uid: try_ for uid, try_ in self.first_tries.items() if now - try_[1] < joining.LONGEST_WAIT}
        if len(self.held) + len(self.conflicts) > MOST:
            self.held = {name: until for name, until in self.held.items() if until > now}
            self.conflicts = {name: times for name, times in self.conflicts.items() if name in self.view.nodes}
