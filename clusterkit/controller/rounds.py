"""Rounds over the nodes: each reads the cluster as it is, decides by `clusterkit.joining`, and acts."""

import asyncio
import contextlib
import json
import logging
import time
from datetime import datetime, timezone
from typing import Any

from clusterkit import joining, pod_proof, pod_verdict
from clusterkit.controller.api import Api, Changed
from nodekit.errors import NodeError
from nodekit.scripts import script

log = logging.getLogger("controller")
SHORTEST = 1.0
"""Seconds between two rounds at least: a pod that starts makes several changes."""
LONGEST = 300.0
"""Seconds between two rounds at most, should no change be told."""
FAILED = (5.0, 60.0)
"""Seconds after a round that failed, which double from the one to the other."""


class Rounds:
    """Proves the nodes of one cluster. What it needs to know over a restart lies in the cluster: on nodes and Jobs."""

    def __init__(self, api: Api) -> None:
        self.api, self.given = api, api.given
        self.ladder = script("ladder.sh")
        self.seen: dict[str, dict[str, Any]] = {}
        self.told: set[str] = set()
        self.held: dict[str, float] = {}
        """Until when (monotonic clock) nothing is tried with a node, since the cluster refused it."""
        self.woken = asyncio.Event()

    async def run(self) -> None:
        """Go on for ever: a round when something changed, and when a wait is over."""
        failed = 0.0
        while True:
            self.woken.clear()
            try:
                wait, failed = await asyncio.to_thread(self.once), 0.0
            except NodeError as error:
                log.error("%s", error.sentence())
                failed = min(failed * 2 or FAILED[0], FAILED[1])
                await asyncio.sleep(failed)
                continue
            await asyncio.sleep(SHORTEST)
            # Not wait_for, which waits in a task of its own: kopf, when it ends, cancels what began after it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait - SHORTEST):
                    await self.woken.wait()

    def once(self) -> float:
        """One round; seconds until the next one at the latest."""
        nodes = self.api.nodes()
        # After the nodes: a Job is made before a node claims it, so that one that is not there now is gone.
        jobs, pods = self.api.jobs(), self.api.pods()
        # The last that was seen of a pod, because a Job that runs into its deadline removes it.
        self.seen = {uid: pod for uid, pod in {**self.seen, **pods}.items() if uid in jobs}
        tainted = [node for node in nodes if joining.tainted(node)]
        claimed = {joining.claim(node) for node in tainted}
        for uid in [uid for uid in jobs if uid not in claimed]:
            self.api.remove(jobs.pop(uid))
        now, wait = datetime.now(timezone.utc), LONGEST
        known = [pod_proof.node_of(node) for node in nodes]
        names = {node.name for node in known}
        events = self.api.events() if claimed & set(jobs) else {}
        for node in tainted:
            step = self.step(node, jobs, now, known, events)
            name = node["metadata"]["name"]
            if (held := self.held.pop(name, 0.0)) > time.monotonic():
                self.held[name] = held
                continue
            try:
                self.act(node, step, names, now)
                if isinstance(step, joining.Refused):
                    wait = min(wait, step.seconds)
                elif isinstance(step, joining.Proven):
                    # No node claims its Job any more, and nobody else tells.
                    wait = SHORTEST
            except Changed:
                log.info("%s: it changed while it was looked at, and is looked at again", name)
                wait = SHORTEST
            except NodeError as error:
                # What is wrong with one node must not keep the others from their proof.
                log.error("%s: %s", name, error.sentence())
                self.held[name], wait = time.monotonic() + FAILED[1], min(wait, FAILED[1])
        self.told &= claimed
        return max(wait, SHORTEST)

    def step(
        self,
        node: dict[str, Any],
        jobs: dict[str, dict[str, Any]],
        now: datetime,
        nodes: list[pod_proof.Node],
        events: pod_verdict.Events,
    ) -> joining.Step:
        """What to do for a tainted node."""
        uid = joining.claim(node)
        job = jobs.get(uid)
        attempt = pod_proof.attempt_of(job["spec"]["template"]) if job else 1
        asked = joining.ask(self.given, pod_proof.node_of(node), attempt, self.ladder)
        return joining.step(node, asked, job, self.seen.get(uid), now, nodes, events)

    def act(self, node: dict[str, Any], step: joining.Step, known: set[str], now: datetime) -> None:
        """Do it. `known` are the nodes whose evidence is kept."""
        name, uid = node["metadata"]["name"], joining.claim(node)
        if isinstance(step, joining.Prove):
            asked = joining.ask(self.given, pod_proof.node_of(node), step.attempt, self.ladder)
            made = self.api.make(joining.job(self.given, asked))
            # Should this fail, no node claims the Job, and the next round removes it.
            self.api.patch_node(name, joining.claiming(node, made["metadata"]["uid"]))
            log.info("%s: try %d, job %s", name, step.attempt, made["metadata"]["name"])
        elif isinstance(step, joining.Refused) and uid not in self.told:
            log.warning("%s Next try in %.0f s.", step.refusal.sentence, step.seconds)
            self.api.tell(joining.event(node, uid, step.refusal, now))
            self.told.add(uid)
        elif isinstance(step, joining.Proven):
            kept = pod_proof.evidence_name(self.given.proof)
            others = {key: value for key, value in (self.api.kept(kept) or {}).items() if key in known}
            self.api.keep(kept, {**others, name: json.dumps(step.evidence, sort_keys=True)})
            self.api.patch_node(name, joining.untainting(node, uid))
            log.info("%s: proven, and no longer tainted %s", name, pod_proof.TAINT)
