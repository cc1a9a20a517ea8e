"""References agree with the code: nothing in them can go stale, and no failure lacks a cause or a remedy."""

import ast

import pytest

from review.catalogue import KNOWN
from stacks import configuration
from tools.generate import errors
from tools.generate.__main__ import CHECKOUT, stale
from tools.generate.settings import rows


@pytest.mark.slow
def test_derived_files_are_what_the_code_says() -> None:
    assert list(stale()) == [], "run make generate"


@pytest.mark.slow
def test_reference_shows_every_failure_with_a_remedy() -> None:
    lacking = [code for code, failure in KNOWN.items() if not errors.remedies(code, failure)]
    assert lacking == []
    page = errors.text()
    assert all(f"### {code}\n\n{failure.cause}\n\n- " in page for code, failure in KNOWN.items())


def test_table_rows_are_whole_whatever_stands_in_a_pattern() -> None:
    (row,) = rows("a", {"type": "string", "pattern": "^(x|y)$", "description": "One | two."}, False, {})
    assert row.replace("\\|", "").count("|") == 6


def test_every_secret_that_the_program_reads_is_in_the_reference() -> None:
    tree = ast.parse((CHECKOUT / "__main__.py").read_text())
    # Read by their names, or by a list of them.
    lists = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id.endswith("SECRETS")}
    read = {key for name in lists for key in getattr(configuration, name)} | {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).endswith(("get_secret", "require_secret"))
        and isinstance(call.args[0], ast.Constant)
    }
    assert read == set(configuration.SECRET_KEYS)
