"""Tiers of tests, by what they need beside Python, and the lanes of `make test` that follow from them."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TIERS = ("machine", "debian", "guest", "engine", "apt")
"""Marks, in the order in which `make test` starts their tests: what takes longest begins first."""
FAST = "fast"
"""The tier of tests without such a mark."""


def tier(item: pytest.Item) -> str:
    """The first tier whose mark a test has."""
    return next((name for name in TIERS if item.get_closest_marker(name)), FAST)


def lane(file: str) -> str:
    """Tests of one lane run in order: files with an emulated machine share one, since it fills the processors."""
    return "machine" if "pytest.mark.machine" in (REPOSITORY / file).read_text() else file
