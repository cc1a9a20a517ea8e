"""The benchmark of many hosts says what was measured, and its budget fails when this program becomes slower.

Lost if these fail: a table that nobody can trust, and a check of speed that lets everything pass.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import cast
from xml.etree import ElementTree

import pytest

from bench.fleet import budget, page, plot, records, table, targets
from bench.fleet.contenders import Command
from bench.fleet.contenders.program import Program
from bench.fleet.contenders.ssh import Ssh
from bench.fleet.measure import bench, turns
from bench.fleet.records import Figure, Machine, Sample, figures, ratio
from tests.nightly import LONG_FORMS

MACHINE = Machine("2026-11-26", 2, 24, "6.18.44", "a processor")


def sample(job: str, contender: str, hosts: int, seconds: float) -> Sample:
    """A run that took some seconds."""
    return Sample(job, contender, hosts, seconds, seconds / 2, hosts * 0.5, 0.25, 1.0)


def own(check: float = 1.5, converge: float = 2.0, change: float = 3.0) -> list[Figure]:
    """Figures of the pairs of the budget, with these ratios."""
    values = {"check": check, "converge": converge, "change": change}
    samples = []
    for job, contender, other in budget.PAIRS:
        for hosts in budget.SIZES:
            samples += [sample(job, contender, hosts, values[job] * 2), sample(job, other, hosts, 2.0)]
    return figures(samples)


def test_a_figure_is_the_median_of_all_runs_whatever_their_order() -> None:
    seconds = [9.0, 1.0, 2.0]
    (figure, other) = figures([*(sample("check", "ansible", 10, each) for each in seconds), sample("check", "ansible", 1, 5.0)])
    assert (figure.seconds, figure.shortest, figure.longest, figure.runs, figure.processor_seconds) == (2.0, 1.0, 9.0, 3, 1.0)
    assert (other.hosts, other.seconds) == (1, 5.0)


def test_records_are_read_as_they_were_written() -> None:
    samples = [sample("check", "pyinfra", 1, 1.25)]
    text = "".join(f"{records.line(record)}\n" for record in cast(list[Machine | Sample], [MACHINE, *samples]))
    assert records.read(text) == (MACHINE, samples)


def test_a_ratio_is_of_the_same_job_and_number_of_hosts() -> None:
    known = figures([sample("check", "a", 1, 3.0), sample("check", "b", 1, 2.0), sample("change", "b", 1, 30.0)])
    assert ratio(known, "check", 1, "a", "b") == 1.5
    assert ratio(known, "check", 10, "a", "b") is None and ratio(known, "change", 1, "a", "b") is None


def test_every_contender_begins_a_round() -> None:
    assert [turns(number, ["a", "b", "c"])[0] for number in range(3)] == ["a", "b", "c"]
    assert turns(1, ["a", "b", "c"]) == ["b", "c", "a"]


def test_a_ratio_that_worsens_by_a_fifth_breaks_the_budget_and_a_better_one_does_not() -> None:
    entries = budget.entries(budget.text(own()))
    assert list(budget.broken(entries, own(check=1.79, converge=1.0))) == []
    sentences = list(budget.broken(entries, own(check=1.81)))
    assert len(sentences) == 4 and all("is 1.81, more than 1.2 x 1.50" in sentence for sentence in sentences)
    assert sentences[0].startswith("check of 1 host: kata-nodes status / ssh, the floor")


def test_a_ratio_that_was_not_measured_breaks_the_budget() -> None:
    entries = budget.entries(budget.text(own()))
    known = [figure for figure in own() if figure.job != "change"]
    assert list(budget.broken(entries, known)) == [
        f"change of {size} host{plural}: pulumi up / node program alone was not measured" for size, plural in ((1, ""), (4, "s"))
    ]
    with pytest.raises(ValueError, match="pulumi up and node program alone were not both measured at change of 1 hosts"):
        budget.text(known)


def test_the_budget_in_the_checkout_has_every_pair_and_size() -> None:
    entries = budget.entries(budget.FILE.read_text())
    assert [(entry.job, entry.contender, entry.other, entry.hosts) for entry in entries] == [
        (*pair, size) for pair in budget.PAIRS for size in budget.SIZES
    ]


def measured() -> list[Figure]:
    """All contenders at two jobs; one target is missed."""
    seconds = {"kata-nodes status": 1.0, "kata-nodes drift": 1.0, "ssh, the floor": 1.0, "pyinfra": 3.0, "ansible": 9.0}
    checks = [sample("check", name, hosts, value * hosts) for name, value in seconds.items() for hosts in (1, 10)]
    changes = [sample("change", name, 10, value) for name, value in (("pulumi up", 2.0), ("pyinfra", 3.0), ("ansible", 20.0))]
    return figures([*checks, *changes])


def test_targets_are_beside_what_was_measured_and_a_missed_one_has_its_reason() -> None:
    reached = list(targets.reached(measured()))
    missed = {(each.target.contender, each.target.other, each.hosts) for each in reached if not each.met}
    assert missed == {(f"kata-nodes {verb}", "ansible", hosts) for verb in ("status", "drift") for hosts in (1, 10)}
    text = table.page(MACHINE, measured(), reached, {"check": "The check is slow for a reason."}, "# Speed")
    assert "| check | kata-nodes status / ansible | 0.11 (missed) | 0.11 (missed) | ≤ 0.1 |" in text
    assert "| change | pulumi up / pyinfra | – | 0.67 | ≤ 1 |" in text
    assert text.endswith("The check is slow for a reason.\n")
    with pytest.raises(KeyError):
        table.page(MACHINE, measured(), reached, {}, "# Speed")


def test_the_table_has_each_contender_with_its_runs_and_connections() -> None:
    text = table.page(MACHINE, measured(), [], {}, "# Speed")
    assert "Measured on 2026-11-26: 2 processors (a processor), 24 GiB, Linux 6.18.44." in text
    assert "Other programs had 25 % of the processors" in text
    assert "| ansible | 9.00 s (9.00–9.00) | 90.0 s (90.0–90.0) | 45.0 s + 0.50 s | 1 | 1/1 |" in text
    assert "| pulumi up | 2.00 s (2.00–2.00) | 1.00 s + 0.50 s | 1 | 1 |" in text


def test_the_picture_is_well_formed_and_shows_every_contender_in_its_place() -> None:
    root = ElementTree.fromstring(plot.svg(measured()))
    names = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    for contender in ("kata-nodes status, 10 s", "ansible, 90 s", "pulumi up, 2 s"):
        assert contender in names
    lines = [line.get("points", "") for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    heights = {line: [float(point.partition(",")[2]) for point in line.split()] for line in lines}
    assert all(0 < height < plot.PANEL * 2 for line in heights.values() for height in line)
    labels = [float(text.get("y", "0")) for text in root.iter("{http://www.w3.org/2000/svg}text") if ", " in (text.text or "")]
    assert all(after - before >= plot.LABELS for before, after in pairwise(labels))


def test_axis_encloses_all_values() -> None:
    assert plot.ticks(0.3, 70.0) == [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    assert plot.place(10.0, 1.0, 100.0, 200.0) == 100.0


def test_the_page_in_the_checkout_is_what_the_records_say() -> None:
    for file, text in page.derived(page.RECORDS.read_text()).items():
        assert file.read_text() == text, f"{file.name}: run python -m bench.fleet page"


def slowed(commands: Callable[[Program, str], dict[str, Command]]) -> Callable[[Program, str], dict[str, Command]]:
    """The same commands, each started two seconds late."""

    def late(program: Program, job: str) -> dict[str, Command]:
        start = ["sh", "-c", 'sleep 2; exec "$@"', "sh"]
        return {name: replace(command, argv=[*start, *command.argv]) for name, command in commands(program, job).items()}

    return late


@LONG_FORMS
@pytest.mark.engine
@pytest.mark.debian
@pytest.mark.timeout(300)
def test_a_slower_command_breaks_the_budget_on_a_real_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is what the same machine has just measured, so that only the planted seconds differ."""
    samples: list[Sample] = []
    with bench(samples.append) as running, running.converged(1, [Program, Ssh], 1) as contenders:

        def checked() -> list[Figure]:
            samples.clear()
            for _ in range(3):
                for contender in contenders:
                    running.do("check", contender)
            return figures(samples)

        before = checked()
        entries = [
            budget.Entry(job, 1, contender, other, ratio(before, job, 1, contender, other) or 0.0)
            for job, contender, other in budget.PAIRS
            if job == "check"
        ]
        assert list(budget.broken(entries, before)) == []
        monkeypatch.setattr(Program, "commands", slowed(Program.commands))
        sentences = list(budget.broken(entries, checked()))
    assert [sentence.partition(" / ")[0] for sentence in sentences] == [
        "check of 1 host: kata-nodes status", "check of 1 host: kata-nodes drift",
    ]  # fmt: skip
