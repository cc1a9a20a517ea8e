"""The controller as its image runs it, which counts what it asks of the API server: FILE SETTINGS HEALTH_ADDRESS."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clusterkit.controller.__main__ import main


def counted(requests: Counter[str]) -> None:
    """Have every request counted, by its method and the kind of object."""
    ask = urllib3.HTTPConnectionPool.urlopen

    def urlopen(pool: urllib3.HTTPConnectionPool, method: str, url: str, *argv: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        parts = urlsplit(url)
        kind = next(kind for kind in ("configmaps", "events", "jobs", "pods", "nodes") if f"/{kind}" in parts.path)
        verb = {"GET": "WATCH" if "watch=" in parts.query else "GET"}.get(method, method)
        requests[f"{verb} {kind}"] += 1
        return ask(pool, method, url, *argv, **options)

    urllib3.HTTPConnectionPool.urlopen = urlopen  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    file, *arguments = sys.argv[1:]
    requests: Counter[str] = Counter()
    counted(requests)
    try:
        sys.exit(main(arguments))
    finally:
        Path(file).write_text(json.dumps(requests))
