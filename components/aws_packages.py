"""The Python packages of AWS: 300 MB, so only those who make AWS nodes install them, from requirements-aws.txt."""

import importlib
import shlex
import sys
from pathlib import Path
from typing import Any

import pulumi

LOCK = Path(__file__).resolve().parent.parent / "requirements-aws.txt"


def missing(package: str) -> str:
    """The sentence that says what is missing, and the command that installs it for this very Python."""
    command = shlex.join([sys.executable, "-m", "pip", "install", "--requirement", str(LOCK)])
    return f"AWS nodes need the Python package {package}, which is not installed here. Run: {command}"


class Package:
    """A package that is imported when it is first used; raises pulumi.RunError with the command that installs it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """What the package has under that name."""
        try:
            return getattr(importlib.import_module(self._name), attribute)
        except ModuleNotFoundError as error:
            raise pulumi.RunError(missing(error.name or self._name)) from None


aws: Any = Package("pulumi_aws")
tls: Any = Package("pulumi_tls")
