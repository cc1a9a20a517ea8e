"""References say what the code says: nothing in them can grow old, and no failure is without a cause and a cure."""

import ast
from pathlib import Path

from nodekit.errors import CODES
from stacks import model
from tools.generate import errors
from tools.generate.__main__ import CHECKOUT, stale
from tools.generate.settings import rows


def test_derived_files_are_what_the_code_says() -> None:
    assert list(stale()) == [], "run make generate"


def test_every_code_is_raised_somewhere_with_a_cure() -> None:
    cures = errors.Product().cures()
    assert sorted(set(CODES) - set(cures)) == [], "nothing raises these"
    assert sorted(code for code, found in cures.items() if not found) == [], "no cure of these can be read"


SOURCE = """
from nodekit.errors import NodeError

WAYS = {"word": "Take the way of the table"}
REMEDY = "Do as the constant says"


def why(text):
    return "cause", f"Mend {text} and {len(text)}"


def refuse(path, remedy=REMEDY):
    raise NodeError("file-invalid", f"{path} is bad", remedy)


def act(path):
    refuse(path, remedy="Do as the caller says" if path else "Or so")
    raise NodeError("bad-input", "message", next((way for way in WAYS.values()), "Or the default"))
"""


def test_cures_are_read_through_variables_parameters_tables_and_scripts(tmp_path: Path) -> None:
    (tmp_path / "nodekit").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "nodekit" / "module.py").write_text(SOURCE)
    (tmp_path / "tests" / "test_module.py").write_text('NodeError("no-sudo", "message", "not a product\'s")')
    (tmp_path / "nodekit" / "script.sh").write_text('fail "$host: no." "Log in as $user. [no-sudo]"\n')
    cures = errors.Product(tmp_path).cures()
    assert cures["file-invalid"] == ["Do as the constant says", "Do as the caller says", "Or so"]
    assert cures["bad-input"] == ["Take the way of the table", "Or the default"]
    assert cures["no-sudo"] == ["Log in as …"]


def test_code_that_only_a_test_or_the_catalogue_names_is_found(tmp_path: Path) -> None:
    (tmp_path / "nodekit").mkdir()
    (tmp_path / "nodekit" / "errors.py").write_text('CODES = {"node-busy": "It is busy."}')
    assert "node-busy" not in errors.Product(tmp_path).cures()


def test_table_rows_are_whole_whatever_stands_in_a_pattern() -> None:
    (row,) = rows("a", {"type": "string", "pattern": "^(x|y)$", "description": "One | two."}, False, {})
    assert row.replace("\\|", "").count("|") == 6


def test_every_secret_that_the_program_reads_is_in_the_reference() -> None:
    tree = ast.parse((CHECKOUT / "__main__.py").read_text())
    # Read by their names, or by a list of them in the model.
    lists = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id.endswith("SECRETS")}
    read = {key for name in lists for key in getattr(model, name)} | {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).endswith(("get_secret", "require_secret"))
        and isinstance(call.args[0], ast.Constant)
    }
    assert read == set(model.SECRET_KEYS)
