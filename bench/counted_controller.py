"""The controller as its image runs it, which counts what it asks of the API server: FILE SETTINGS HEALTH_ADDRESS."""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn
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


def kept(requests: Counter[str], file: Path) -> None:
    """Have the numbers written when a signal ends the controller: it leaves by `os._exit`, past every `finally`."""
    leave = os._exit

    def written(code: int) -> NoReturn:
        file.write_text(json.dumps(requests))
        leave(code)

    os._exit = written


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    counts: Counter[str] = Counter()
    counted(counts)
    kept(counts, Path(name))
    sys.exit(main(arguments))
