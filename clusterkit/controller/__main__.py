"""Proves the nodes that join a cluster, for as long as it runs: python -m clusterkit.controller SETTINGS HEALTH_ADDRESS"""

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path

from clusterkit import joining
from clusterkit.controller.api import Api
from clusterkit.controller.health import serve as serve_health
from clusterkit.controller.rounds import Reconciler
from clusterkit.controller.view import View
from nodekit.errors import NodeError
from nodekit.rules.text import harmless

log = logging.getLogger("controller")
MAX_SETTINGS = 1 << 20
"""Characters of the settings: Kubernetes keeps at most 1 MiB in a ConfigMap."""
STUCK = 600.0
"""Seconds without a round after which the process counts as stuck: a round in which no request is answered takes minutes."""


class OneLine(logging.Formatter):
    """Each record on one line, without tracebacks: our errors say what to do."""

    def format(self, record: logging.LogRecord) -> str:
        """Level and message."""
        return harmless(f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}")


def serve(settings: joining.Settings, health: str) -> None:
    """Rounds and watches, until a signal ends the process, or a watch cannot go on."""
    api = Api(settings)
    view = View(api)
    # Before anything else, so that a cluster that cannot be read, or a missing right, is reported in our words.
    view.start()
    rounds = Reconciler(api, view)
    serve_health(health, lambda: time.monotonic() - rounds.beat < STUCK)
    log.info("proving nodes with the labels %s on %s", settings.selector, api.server)
    try:
        rounds.run()
    except (LookupError, TypeError, ValueError) as error:
        raise NodeError(
            "cluster-unreachable",
            f"the cluster can no longer be watched: {type(error).__name__}: {str(error)[:300]}",
            "controller",
        ) from None


def ended(*_: object) -> None:
    """A signal: all that matters is in the cluster.

    At once, and not by an exception: Python drops one that a destructor raises, and waits for writers that wait for a server.
    """
    os._exit(0)


def main(argv: list[str]) -> int:
    """Exit code 0 after a signal, 1 with one line on standard error after a failure."""
    parser = argparse.ArgumentParser(prog="python -m clusterkit.controller", description=__doc__)
    parser.add_argument("settings", type=Path, help="JSON file that components/cluster/joining_nodes.py writes")
    parser.add_argument("health", help="address to answer liveness probes on, such as http://[::]:8080/healthz")
    options = parser.parse_args(argv)
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    # It logs each try of a request, and we report the last one. The client resets its level, so a filter is needed.
    handler.addFilter(lambda record: not record.name.startswith("urllib3."))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)
    try:
        with open(options.settings, encoding="utf-8") as file:
            text = file.read(MAX_SETTINGS)
        signal.signal(signal.SIGTERM, ended)
        signal.signal(signal.SIGINT, ended)
        serve(joining.settings(text), options.health)
    except NodeError as error:
        log.error("%s", error.sentence())
        return 1
    except OSError as error:
        log.error("%s", NodeError("file-unreadable", str(error), "settings").sentence())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
