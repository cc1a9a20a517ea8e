"""Measure this program beside Ansible, pyinfra and plain ssh (`make bench-fleet`), and hold it to its budget."""

import statistics
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from bench.fleet import budget, page
from bench.fleet.contenders import CHANGE, CHECK, CONVERGE, Contender
from bench.fleet.measure import ALL, OWN, Failed, bench
from bench.fleet.records import Figure, Sample, figures, line, this_machine

BUSY = 0.2
"""Share of the processors from which on other programs spoil the times."""
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def run(hosts: Annotated[list[int], typer.Argument(min=1, help="Numbers of hosts.")]) -> None:
    """Measure all contenders at all jobs, and write the JSON lines."""
    with page.RECORDS.open("w") as lines:
        lines.write(f"{line(this_machine())}\n")

        def report(sample: Sample) -> None:
            print(line(sample), flush=True)
            lines.write(line(sample) + "\n")
            lines.flush()

        _measure(hosts, ALL, report, {CONVERGE: 2, CHECK: 5, CHANGE: 3})


@app.command(name="page")
def write_page() -> None:
    """Write the page and the picture from the JSON lines."""
    for file, text in page.derived(page.RECORDS.read_text()).items():
        file.write_text(text)
        print(file)


@app.command(name="budget")
def check_budget(
    write: Annotated[bool, typer.Option("--write", help="Write the file instead.")] = False,
) -> None:
    """Measure this program at small sizes. Exit 1 where a ratio is worse than the budget allows."""
    known = measured(budget.SIZES, {CONVERGE: 3, CHECK: 9, CHANGE: 5})
    if write:
        budget.FILE.write_text(budget.text(known))
        return
    sentences = list(budget.broken(budget.entries(budget.FILE.read_text()), known))
    print("\n".join(sentences) or "within the budget")
    if sentences and (others := statistics.median(figure.others for figure in known)) > BUSY:
        print(f"Other programs had {others:.0%} of the processors meanwhile: run it again on a machine that does nothing else.")
    raise typer.Exit(1 if sentences else 0)


def measured(sizes: Sequence[int], times: dict[str, int]) -> list[Figure]:
    """Figures of this program, of its node program alone and of plain ssh."""
    samples: list[Sample] = []

    def report(sample: Sample) -> None:
        print(line(sample), flush=True)
        samples.append(sample)

    _measure(sizes, OWN, report, times)
    return figures(samples)


def _measure(
    sizes: Sequence[int], kinds: Sequence[type[Contender]], report: Callable[[Sample], None], times: dict[str, int]
) -> None:
    try:
        with bench(report) as running:
            for size in sizes:
                running.measure(size, kinds, times)
    except Failed as error:
        print(f"error: {error}")
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
