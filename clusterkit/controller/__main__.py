"""Proves the nodes that join a cluster, for as long as it runs: python -m controller SETTINGS HEALTH_ADDRESS"""

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import kopf

from clusterkit import joining
from clusterkit.controller.api import Api
from clusterkit.controller.rounds import Rounds
from clusterkit.pod_proof import PROOF_LABEL
from nodekit.errors import NodeError
from nodekit.rules.text import harmless

log = logging.getLogger("controller")
MAX_SETTINGS = 1 << 20
"""Characters of the settings: Kubernetes keeps no more than 1 MiB in a ConfigMap."""


class OneLine(logging.Formatter):
    """A record a line, without tracebacks: an error of ours says what to do, and kopf's say enough beside it."""

    def format(self, record: logging.LogRecord) -> str:
        """Level and message."""
        return harmless(f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}")


class Waking(logging.Handler):
    """Wakes the rounds when kopf complains: a round that finds the cluster out of reach says what to do, and kopf does not."""

    def __init__(self, rounds: Rounds) -> None:
        super().__init__(logging.WARNING)
        self.rounds = rounds

    def emit(self, record: logging.LogRecord) -> None:
        """From kopf's tasks, which run where the rounds wait."""
        self.rounds.woken.set()


def watching(given: joining.Settings, rounds: Rounds) -> tuple[kopf.OperatorRegistry, kopf.OperatorSettings]:
    """Handlers that wake the rounds, and settings by which kopf reads what our roles allow and writes nothing at all."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    kopf.on.login(registry=registry)(kopf.login_via_client)
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.label_selectors["", "v1", "nodes"] = given.selector
    for resource in (("batch", "v1", "jobs"), ("", "v1", "pods")):
        settings.watching.label_selectors[resource] = f"{PROOF_LABEL}={given.proof}"

    async def wake(**_: Any) -> None:
        rounds.woken.set()

    kopf.on.event("", "v1", "nodes", when=lambda body, **_: joining.tainted(body), registry=registry)(wake)
    kopf.on.event("batch", "v1", "jobs", registry=registry)(wake)
    kopf.on.event("", "v1", "pods", registry=registry)(wake)
    return registry, settings


async def serve(given: joining.Settings, health: str) -> None:
    """Rounds and kopf's watches, until a signal ends them, or one of them fails."""
    rounds = Rounds(Api(given))
    # Before anything else, so that a cluster that cannot be read, or a right that is lacking, is told in our words.
    await asyncio.to_thread(rounds.once)
    log.info("proving nodes with the labels %s on %s", given.selector, rounds.api.server)
    registry, settings = watching(given, rounds)
    logging.getLogger("kopf").addHandler(Waking(rounds))
    going = asyncio.create_task(rounds.run())
    watch = asyncio.create_task(
        kopf.operator(
            registry=registry, settings=settings, standalone=True, namespaces=[given.namespace], liveness_endpoint=health
        )
    )
    ended, others = await asyncio.wait({going, watch}, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if watch in ended and (error := watch.exception()):
        raise NodeError(
            "cluster-unreachable",
            f"the cluster can no longer be watched: {type(error).__name__}: {str(error)[:300]}",
            "controller",
        ) from None
    for task in ended:
        task.result()


def main(argv: list[str]) -> int:
    """Exit code 0 after a signal, 1 with one line on standard error after a failure."""
    parser = argparse.ArgumentParser(prog="python -m clusterkit.controller", description=__doc__)
    parser.add_argument("settings", type=Path, help="JSON file that components/cluster/joining_nodes.py writes")
    parser.add_argument("health", help="address to answer liveness probes on, such as http://0.0.0.0:8080/healthz")
    asked = parser.parse_args(argv)
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    # It tells of each try of a request, and we of the last one; the client sets its level again, so that a filter is needed.
    handler.addFilter(lambda record: not record.name.startswith("urllib3."))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)
    try:
        with open(asked.settings, encoding="utf-8") as file:
            given = file.read(MAX_SETTINGS)
        asyncio.run(serve(joining.settings(given), asked.health))
    except NodeError as error:
        log.error("%s", error.sentence())
        return 1
    except OSError as error:
        log.error("%s", NodeError("file-unreadable", str(error), "settings").sentence())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
