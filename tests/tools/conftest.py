"""A machine without Go, without an engine and with an empty cache, whose only site is a mirror on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.vendors import Sites, served


@pytest.fixture
def vendors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    """The vendors' sites, empty yet; set-up in this process and below it asks only them."""
    with served(tmp_path / "sites") as sites:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("KATA_NODES_MIRROR", sites.url)
        monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        yield sites
