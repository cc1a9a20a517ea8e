"""Every test has a tier, and every tier is run by `make test` or `make test-nightly`.

What would be lost if these failed: a file that no command runs, or a fast test that needs half an hour of set-up.
"""

import re
import subprocess
import sys
from itertools import chain, combinations
from pathlib import Path

import pytest
import tomllib

from tests import tiers

TARGETS = ("test-fast", "test-slow", "test-engine", "test-cluster", "test-node", "test-machine")
"""The tiers that CI runs beside each other."""
TESTS = sorted((tiers.REPOSITORY / "tests").rglob("*.py"))
MAKEFILE = (tiers.REPOSITORY / "Makefile").read_text()


def expression(target: str) -> str:
    """What a target of the Makefile chooses the tests by."""
    (recipe,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    (chosen,) = re.findall(r"-m \"([^\"]+)\"", recipe)
    while variable := re.search(r"\$\((\w+)\)", chosen):
        (value,) = re.findall(rf"^{variable[1]} := (.*)$", MAKEFILE, re.MULTILINE)
        chosen = chosen.replace(variable[0], value)
    return str(chosen)


def runs(target: str, marks: set[str], in_clusterkit: bool) -> bool:
    """Whether a target of the Makefile runs a test with these marks."""
    (recipe,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    if (" tests/clusterkit " in recipe and not in_clusterkit) or ("--ignore=tests/clusterkit" in recipe and in_clusterkit):
        return False
    return bool(eval(expression(target), {name: name in marks for name in (*tiers.TIERS, "nightly")}))


def uncollected(files: dict[str, str]) -> list[str]:
    """Files with tests that pytest passes by, by their names."""
    return [
        name
        for name, text in files.items()
        if re.search(r"^(async )?def test_|^class Test", text, re.MULTILINE) and not name.rpartition("/")[2].startswith("test_")
    ]


def test_every_file_with_tests_is_collected() -> None:
    assert uncollected({str(file): file.read_text() for file in TESTS}) == []
    assert uncollected({"tests/check_x.py": "def test_x() -> None: ...", "tests/test_y.py": "def test_y() -> None: ..."}) == [
        "tests/check_x.py"
    ]


def test_every_mark_is_a_tier_that_the_commands_know() -> None:
    settings = tomllib.loads((tiers.REPOSITORY / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    marks = {mark.partition(":")[0] for mark in settings["markers"]}
    assert marks == {*tiers.TIERS, "nightly", "alone"}
    assert expression("test") == "not nightly" and expression("test-nightly") == "nightly"
    assert set(expression("test-fast").split(" and ")) == {f"not {mark}" for mark in marks - {"alone"}}


@pytest.mark.parametrize("in_clusterkit", [True, False])
def test_every_test_of_make_test_is_of_one_tier(in_clusterkit: bool) -> None:
    for marks in chain.from_iterable(combinations((*tiers.TIERS, "nightly"), size) for size in range(len(tiers.TIERS) + 2)):
        chosen = [target for target in TARGETS if runs(target, set(marks), in_clusterkit)]
        assert len(chosen) == runs("test", set(marks), in_clusterkit), (marks, chosen)


def test_files_that_fill_the_processors_share_a_lane_and_others_have_their_own() -> None:
    assert (tiers.REPOSITORY / tiers.SEVERAL_GUESTS).is_file() and tiers.lane(tiers.SEVERAL_GUESTS) == "machine"
    assert tiers.lane("tests/e2e/test_local_stack.py") == tiers.lane("tests/local/test_node.py") == "machine"
    assert tiers.lane("tests/docs/test_links.py") == "tests/docs/test_links.py"


def test_of_three_lanes_two_fill_a_processor_as_long_as_there_are_others() -> None:
    heavy, second, light = "tests/nodekit/test_debian_node.py", "tests/nodekit/test_guest_boot.py", "tests/docs/test_links.py"
    assert tiers.next_lane([light, heavy], []) == tiers.next_lane([light, heavy], ["machine"]) == heavy
    assert tiers.next_lane([heavy, light], ["machine", second]) == light
    assert tiers.next_lane([heavy, second], ["machine", light]) == heavy
    assert tiers.next_lane([heavy], ["machine", second]) == heavy, "no worker waits"
    assert tiers.next_lane([light], ["machine", light]) == light


@pytest.mark.slow
@pytest.mark.parametrize(("mark", "status"), [("", 4), ("@pytest.mark.engine", 0)], ids=["unmarked", "marked"])
def test_test_that_lacks_the_mark_of_what_it_needs_is_refused(tmp_path: Path, mark: str, status: int) -> None:
    file = tmp_path / "test_planted.py"
    file.write_text(f"import pytest\nfrom tests.clusterkit.conftest import plane\n\n{mark}\ndef test_it(plane): ...\n")
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", str(tmp_path), "--collect-only", "-q", str(file)]
    argv[-1:-1] = ["-c", str(tiers.REPOSITORY / "pyproject.toml"), "-p", "no:cacheprovider"]
    result = subprocess.run(argv, cwd=tiers.REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stdout + result.stderr
    assert ("has no mark engine" in result.stdout + result.stderr) == (not mark)
