"""The threat model. Lost if this fails: a row whose test was renamed or removed, so that nothing shows that it is true."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "threats.md"


def tables() -> dict[str, list[list[str]]]:
    """The rows of each table, by the heading above it and without their own."""
    rows_by_heading: dict[str, list[list[str]]] = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| who |", "| actor |", "| --- ")):
            rows_by_heading.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return rows_by_heading


def test_every_row_is_shown_by_a_test_that_is_there_or_says_that_nothing_stops_it() -> None:
    defined = {
        name
        for file in (CHECKOUT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    attacks = [row for heading, rows in tables().items() if heading != "Who" for row in rows]
    assert len(attacks) > 50
    for who, _, stops, evidence in attacks:
        named, files = re.findall(r"`(test_\w+)`", evidence), re.findall(r"`(tests/\S+\.py)`", evidence)
        assert set(named) <= defined, set(named) - defined
        assert all((CHECKOUT / file).is_file() for file in files), files
        assert named or files or stops.startswith("nothing"), who


def test_every_actor_has_a_row_of_its_own() -> None:
    actors = [row[0] for row in tables()["Who"]]
    assert actors == ["tenant", "login user", "node", "site", "fork", "operator"]
    attackers = " ".join(row[0] for heading, rows in tables().items() if heading != "Who" for row in rows)
    words = {"site": "repository", "operator": "administrator"}
    assert [actor for actor in actors if words.get(actor, actor) not in attackers] == []


def test_security_policy_leads_to_it_and_its_links_back() -> None:
    assert "(docs/threats.md)" in (CHECKOUT / "SECURITY.md").read_text()
    assert "(../SECURITY.md)" in PAGE.read_text()
