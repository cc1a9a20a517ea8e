"""Long forms of tests: `make test` runs the short form of each, `make test-nightly` the long forms."""

import pytest
from _pytest.mark import ParameterSet

LONG_FORMS = pytest.mark.nightly
"""Marks a test, or one set of parameters, that only `make test-nightly` runs."""


def nightly(*values: object, id: str | None = None) -> ParameterSet:
    """A set of parameters that only `make test-nightly` runs: `parametrize("rounds", [3, nightly(10)])`."""
    return pytest.param(*values, marks=LONG_FORMS, id=id)
