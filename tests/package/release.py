"""Writes the files of a release, against which every later change is checked: `make release-files`."""

import json
from pathlib import Path

from components import package
from tests.package.programs import PROGRAMS, registered

FOLDER = Path(__file__).resolve().parent / "released"
SCHEMA = FOLDER / "schema.json"
RESOURCES = FOLDER / "resources.json"


def resources() -> dict[str, list[list[str]]]:
    """By component and program: URNs, without stack and project, of what it registers."""
    return {
        component: [sorted(child.urn for child in registered(component, args)) for args in programs]
        for component, programs in PROGRAMS.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    SCHEMA.write_text(package.schema())
    RESOURCES.write_text(json.dumps(resources(), indent=1) + "\n")
    print(f"{FOLDER}: {package.NAME} {package.version()}")
