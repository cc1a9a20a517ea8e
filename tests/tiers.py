"""Tiers of tests, by what they need beside Python, and the lanes of `make test` that follow from them."""

from functools import cache
from itertools import chain, zip_longest
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
    text = REPOSITORY / file
    # A file that a test of the tests has planted lies below another root.
    with_machine = file == SEVERAL_GUESTS or (text.is_file() and "pytest.mark.machine" in text.read_text())
    return "machine" if with_machine else file


def in_turns(items: list[pytest.Item]) -> list[pytest.Item]:
    """The same tests: longest tiers first, and after two lanes that fill a processor one that does not, in turns.

    Within a tier the order of files and tests stays, and so a lane's.
    """
    lanes: dict[str, list[pytest.Item]] = {}
    for item in sorted(items, key=lambda item: (*TIERS, FAST).index(tier(item))):
        lanes.setdefault(lane(item.nodeid.partition("::")[0]), []).append(item)
    heavy, light = ([each for each in lanes.values() if (tier(each[0]) in HEAVY) is kind] for kind in (True, False))
    pairs = zip_longest(light, heavy[2:], fillvalue=[])
    return list(chain.from_iterable((*heavy[:2], *chain.from_iterable(pairs))))


def fault(item: pytest.Item) -> str:
    """What is wrong with a test's marks: it would run where what it needs is missing. Empty where nothing is."""
    for fixtures in item._fixtureinfo.name2fixturedefs.values():
        name = f"{fixtures[-1].func.__module__}.{fixtures[-1].func.__name__}"
        if name in NEEDS and not any(item.get_closest_marker(mark) for mark in NEEDS[name]):
            return f"{item.nodeid} uses {name} and has no mark {' or '.join(NEEDS[name])}: see tests/tiers.py"
    return ""
