"""Parts are built for this machine and by their own modules, whatever a person has set for Go elsewhere."""

import json
from pathlib import Path

import pytest

from tools import get


def test_settings_of_a_person_for_other_go_programs_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a go.work above the checkout, or GO111MODULE=off, Go said that no module provides the package."""
    (tmp_path / "go").write_text(f'#!/bin/sh\nif [ "$1" = build ]; then env >{tmp_path / "variables"}; fi\necho go1.26.8 amd64\n')
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, value in {
        "GOWORK": "/home/me/go.work",
        "GO111MODULE": "off",
        "GOOS": "js",
        "GOARCH": "wasm",
        "GOFLAGS": "-x",
    }.items():
        monkeypatch.setenv(name, value)
    get.build(get.parts()["actionlint"], tmp_path)
    seen = dict(line.split("=", 1) for line in (tmp_path / "variables").read_text().splitlines() if line.startswith("GO"))
    assert seen["GOWORK"] == "off" and seen["GO111MODULE"] == "on" and "-x" not in seen["GOFLAGS"], json.dumps(seen)
    assert not {"GOOS", "GOARCH"} & set(seen)
