"""Tiers of tests, by what they need beside Python, and the lanes of `make test` that follow from them."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TIERS = ("machine", "debian", "guest", "engine", "browser", "apt", "slow")
"""Marks, in the order in which `make test` starts their tests: what takes longest begins first."""
FAST = "fast"
"""The tier of tests without such a mark."""
HEAVY = ("machine", "debian", "guest")
"""Tiers whose tests fill a processor; the others wait for half of their time."""


NEEDS = {
    "tests.clusterkit.conftest.plane": ("engine",),
    "tests.nodekit.conftest.built": ("debian",),
    "tests.nodekit.conftest.repository": ("apt", "debian"),
    "tests.plugins.conftest.stack": ("engine",),
}
"""Fixtures that are not there for the fast tier, and the marks of which their tests have one."""


def tier(item: pytest.Item) -> str:
    """The first tier whose mark a test has."""
    return next((name for name in TIERS if item.get_closest_marker(name)), FAST)


SEVERAL_GUESTS = "tests/clusterkit/test_kubelet.py"
"""A file whose tests boot as many guests at once as fill the processors."""


@cache
def lane(file: str) -> str:
    """Tests of one lane run in order: what fills the processors, such as an emulated machine, shares one.

    Beside each other, two of them take longer than a machine waits for its node, or sandbox-runtime for a look-up of its own.
    """
    return "machine" if file == SEVERAL_GUESTS or "pytest.mark.machine" in (REPOSITORY / file).read_text() else file


@cache
def is_heavy(lane: str) -> bool:
    """Whether tests of a lane fill a processor."""
    return lane == "machine" or any(f"pytest.mark.{mark}" in (REPOSITORY / lane).read_text() for mark in HEAVY)


def next_lane(queue: Iterable[str], others: Iterable[str]) -> str:
    """Which lane of the queue a worker is to have, beside the `others` that have begun.

    The first that fills a processor while fewer than two do; then the first that does not, while there is one.
    """
    lanes = list(queue)
    heavy = sum(map(is_heavy, others)) < 2
    return next((each for each in lanes if is_heavy(each) is heavy), lanes[0])


def fault(item: pytest.Item) -> str:
    """What is wrong with a test's marks: it would run where what it needs is missing. Empty where nothing is."""
    for fixtures in item._fixtureinfo.name2fixturedefs.values():
        name = f"{fixtures[-1].func.__module__}.{fixtures[-1].func.__name__}"
        if name in NEEDS and not any(item.get_closest_marker(mark) for mark in NEEDS[name]):
            return f"{item.nodeid} uses {name} and has no mark {' or '.join(NEEDS[name])}: see tests/tiers.py"
    return ""
