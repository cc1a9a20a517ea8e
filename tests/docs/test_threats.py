"""The threat table: lost if this fails is a row whose test was renamed or taken away, so that nothing shows what it says."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_every_row_is_shown_by_a_test_that_is_there_or_says_that_nothing_stops_it() -> None:
    defined = {
        name
        for file in (CHECKOUT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    lines = (CHECKOUT / "docs" / "threats.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert len(rows) > 20
    for who, _, stops, shown in rows:
        if who in ("who", "---"):
            continue
        named, files = re.findall(r"`(test_\w+)`", shown), re.findall(r"`(tests/\S+\.py)`", shown)
        assert set(named) <= defined, set(named) - defined
        assert all((CHECKOUT / file).is_file() for file in files), files
        assert named or files or stops.startswith("nothing"), who
