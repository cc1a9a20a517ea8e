"""Merge the Kata runtime into dockerd's daemon.json and keep all else that stands there."""

import json
import re
from typing import Any

from nodekit.errors import NodeError
from nodekit.rules.text import printable

PATH = "/etc/docker/daemon.json"
RUNTIME_TYPE = "io.containerd.kata.v2"
"""The containerd shim that Docker is to start for the runtime."""


def _invalid(why: str) -> NodeError:
    return NodeError("file-invalid", f"{PATH} is not what dockerd reads: {why}", f"Correct {PATH} by hand, then run again")


def _constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON number")


def runtimes(text: str) -> dict[str, object]:
    """The runtimes of any daemon.json; raises NodeError `file-invalid`."""
    found = _tree(text).get("runtimes", {})
    if not isinstance(found, dict):
        raise _invalid("'runtimes' is no object")
    return found


def _tree(text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text.removeprefix("\ufeff"), parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise _invalid(printable(str(error), 200)) from None
    if not isinstance(tree, dict):
        raise _invalid("its top level is no object")
    return tree


def merge(text: str | None, runtime: str, config_path: str | None, ours: str | None = None) -> str:
    """The text with `runtimes.<runtime>` naming Kata's shim, and its `ConfigPath` when `config_path` is given.

    `text` is None where there is no file. An entry that already names the shim keeps its other options, and without
    `config_path` stays as it is, but for a ConfigPath `ours` that an earlier run had set. The very same text comes back when
    nothing has to change. Raises NodeError `file-invalid`.
    """
    given = text if text is not None and text.strip() else "{}"
    tree = _tree(given)
    known = tree.setdefault("runtimes", {})
    if not isinstance(known, dict):
        raise _invalid("'runtimes' is no object")
    entry = known.get(runtime)
    if not (isinstance(entry, dict) and entry.get("runtimeType") == RUNTIME_TYPE):
        known[runtime] = entry = {"runtimeType": RUNTIME_TYPE}
        changed = True
    else:
        changed = False
    if config_path is not None:
        options = entry.setdefault("options", {})
        if not isinstance(options, dict):
            raise _invalid(f"'runtimes.{runtime}.options' is no object")
        changed = changed or options.get("ConfigPath") != config_path
        options["ConfigPath"] = config_path
    elif ours is not None and isinstance(options := entry.get("options"), dict) and options.get("ConfigPath") == ours:
        del options["ConfigPath"]
        if not options:
            del entry["options"]
        changed = True
    if not changed:
        assert text is not None  # an entry was found in it
        return text
    found = re.search(r'^([ \t]+)"', given, re.MULTILINE)
    merged = json.dumps(tree, indent=found[1] if found else 2, ensure_ascii=False) + "\n"
    try:
        merged.encode()
    except UnicodeEncodeError:
        raise _invalid("it holds half of a surrogate pair, which is no text") from None
    return merged
