"""What a program loads before it begins. Lost if this fails: a fifth of a second of every preview, or more."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
LATE = ("kubernetes", "boto3", "botocore", "pulumi_aws", "requests", "typer", "rich", "asyncssh")
"""Libraries that only some stacks, some resources or other commands use."""
PROGRAM = "components, stacks.configuration, stacks.pool, stacks.cluster, stacks.checklist, stacks.consumers"


def test_libraries_that_only_some_programs_use_are_loaded_where_they_are_used() -> None:
    code = f"import sys, {PROGRAM}; print([name for name in {LATE!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
