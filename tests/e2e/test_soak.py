"""A stack that is made and destroyed again and again leaves nothing behind: processes, files, ports, state, memory.

Lost if this fails: a host or a machine of the engine that fills up. `python bench/soak.py` runs 50 rounds, each of five runs.
"""

import pytest

from bench import soak
from bench.soak import Figures, grown
from tests.nightly import LONG_FORMS


@LONG_FORMS
@pytest.mark.engine
@pytest.mark.debian
@pytest.mark.guest
@pytest.mark.timeout(3600)
def test_rounds_of_up_change_fail_cure_and_destroy_leave_nothing() -> None:
    assert soak.soak(6) == []


def test_what_grows_is_named_and_what_settles_is_not() -> None:
    fixed = dict.fromkeys((name for name in Figures.__dataclass_fields__), 100)
    rounds = [Figures(**fixed | {"open_files": 90 + number, "memory_kib": 100 + number}) for number in range(10)]
    assert grown(rounds) == ["open_files: 92 -> 99"]
    assert grown([Figures(**fixed | {"ports": 50}), *[Figures(**fixed)] * 5]) == []
    assert grown([Figures(**fixed)] * 5 + [Figures(**fixed | {"memory_kib": 200})]) == ["memory_kib: 100 -> 200"]
