"""Every fault of the table ends in bounded time, names its cause and remedy, loses nothing, and is over when it is cured.

By the real engine on a real Debian in namespaces, whose guests are emulated. Lost if these fail: a stack that hangs, or a host
that stays half changed after what happens to every host sooner or later. `docs/reference/faults.md` is written from what is seen
here.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fault_story import CONTROL_GROUPS, Ended, Story, stories
from tests.e2e.fault_table import CONVERGING, FAULTS, MIDDLE, PAGE, SLOWED, VARIABLE, Fault, Measured, sentence, written
from tests.nightly import LONG_FORMS

pytestmark = [pytest.mark.engine, pytest.mark.debian, pytest.mark.guest, pytest.mark.timeout(900)]
SECONDS = 300.0
"""Bound on every run of the engine; the slowest fault, a network that falls silent, takes half of it."""


def possible(fault: Fault) -> bool:
    """Whether this machine can make it."""
    return not fault.controller or (CONTROL_GROUPS / fault.controller / "cgroup.procs").exists()


STAGES = list(MIDDLE)
POSSIBLE = [fault for stage in [*STAGES, "destroy"] for fault in FAULTS if fault.stage == stage and possible(fault)]
"""In the order of the stages of `up`, so that no run has to succeed in between."""
FIRST = {stage: [fault for fault in POSSIBLE if fault.stage == stage and fault.strikes_first] for stage in STAGES}
"""What is there before a run that then fails: one after the other on one host, since no such run gets further than that stage."""
CHAINS = [
    pytest.param([fault for fault in POSSIBLE if fault.each_change], id="each-change"),
    *(pytest.param(faults, id=stage, marks=LONG_FORMS) for stage, faults in FIRST.items() if faults),
]
SINGLE = [
    pytest.param(fault, id=fault.name, marks=pytest.mark.skipif(not possible(fault), reason="no control groups of one's own"))
    for fault in FAULTS
    if not (fault.strikes_first and possible(fault))
]


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, Measured]]:
    """What was seen, by fault; written into the page that the environment names."""
    seen: dict[str, Measured] = {}
    yield seen
    if VARIABLE in os.environ and seen:
        page = Path(os.environ[VARIABLE])
        page.write_text(written(page.read_text() if page.exists() else PAGE.read_text(), seen))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A host on which nothing has been done yet."""
    with stories(tmp_path_factory.mktemp("faults")) as story:
        yield story


def strike(story: Story, fault: Fault) -> tuple[Ended, Measured]:
    """Make the fault and the run that meets it, which must report it as the row says."""
    story.forget_downloads()
    if fault.at and fault.stage in SLOWED:
        story.site.faults({SLOWED[fault.stage]: "late"})
    if fault.at:
        ended = story.run(fault.command, SECONDS, fault.at, lambda: fault.strike(story))
    else:
        fault.strike(story)
        ended = story.run(fault.command, SECONDS)
    assert ended.status == fault.ends or (fault.ends == 1 and ended.status not in (0, -9)), ended.printed[-3000:]
    printed, seconds = ended.printed, ended.seconds
    if fault.reported_by == "the next run":
        story.repair_state()  # where the kill fell into a write of the state: that is a fault of its own in the table
        again = story.run(fault.command, SECONDS)
        assert again.status != 0
        printed, seconds = again.printed, again.seconds
    elif fault.reported_by == "the second run":
        printed = story.second
    line = sentence(printed, fault.code, fault.says)
    if fault.says:
        assert line, printed[-3000:]
    for words in fault.says:
        assert words.lower() in printed.lower(), (words, printed[-3000:])  # a dial and a command start their words differently
    assert not fault.code or f"[{fault.code}]" in printed, printed[-3000:]
    assert "Traceback" not in ended.printed, ended.printed[-3000:]
    if fault.stage in MIDDLE and fault.ends == 1:
        resource = "converge" if fault.stage in CONVERGING else fault.stage
        assert f"nodes-n1-{resource} " in ended.printed, ended.printed[-3000:]
    return ended, Measured(fault.code, seconds, line if fault.says else "nothing: that disk is not needed")


@pytest.mark.parametrize("faults", CHAINS)
def test_faults_one_after_the_other_lose_nothing_and_the_next_run_is_well(
    story: Story, measured: dict[str, Measured], faults: list[Fault]
) -> None:
    before = story.look()
    between = {}
    try:
        for fault in faults:
            _, measured[fault.name] = strike(story, fault)
            between[fault.name] = story.look()
            fault.act(story)
        after = story.well()
    finally:
        story.end()
    for fault in faults:
        assert between[fault.name].neither(before, after, packages=not fault.half) == [], fault.name
    assert story.look() == before


@LONG_FORMS
@pytest.mark.parametrize("fault", SINGLE)
def test_fault_loses_nothing_and_is_over_when_it_is_cured(story: Story, measured: dict[str, Measured], fault: Fault) -> None:
    before = story.look()
    prior = story.well() if fault.settled else before
    try:
        _, measured[fault.name] = strike(story, fault)
        between = story.look()
        fault.act(story)
        after = before if fault.command == "destroy" else story.well()
    finally:
        story.end()
    assert between.neither(prior, after, packages=not fault.half) == []
    assert story.look() == before
