"""The table of faults. Lost if this fails: a row that nobody makes any longer, or a fault whose outcome nobody can read."""

from tests.e2e.fault_story import SHORTER
from tests.e2e.fault_table import FAULTS, HEAD, PAGE, Fault, Measured, row, rows, written

CHECKOUT = PAGE.parents[2]


def as_in_code(fault: Fault) -> list[str]:
    """The cells that the code decides."""
    cells = rows(row(fault, f"`{fault.code}`" if fault.code else "", "", ""))[fault.name]
    return [*cells[:4], cells[6]]


def test_the_page_has_the_rows_that_the_suite_makes_and_what_was_measured_of_each() -> None:
    page = PAGE.read_text()
    measured = rows(page)
    assert page.startswith(HEAD), "run the suite with KATA_NODES_FAULTS_PAGE=docs/reference/faults.md"
    assert list(measured) == [fault.name for fault in FAULTS]
    for fault in FAULTS:
        cells = measured[fault.name]
        assert [*cells[:4], cells[6]] == as_in_code(fault), fault.name
        assert cells[4] and cells[5], f"{fault.name} was never measured"


def test_a_run_writes_what_it_measured_and_keeps_the_rest() -> None:
    first, second = FAULTS[:2]
    page = written(HEAD, {first.name: Measured(first.code, 10.0, "one \\| two"), second.name: Measured("", 40.0, "second")})
    again = rows(written(page, {second.name: Measured("", 500.0, "changed")}))
    assert again[first.name][4:6] == ["15 s", "one \\| two"]
    assert again[second.name][4:6] == ["over 300 s", "changed"]


def test_bounds_that_the_suite_shortens_are_those_of_the_program() -> None:
    for name, (bound, _) in SHORTER.items():
        assert bound in (CHECKOUT / name).read_text(), f"{name} no longer has {bound}"
