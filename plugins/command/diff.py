"""Compares the inputs of a resource before and after, with the paths and the rules of the official plugin."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from plugins.command.schema import REPLACING
from plugins.command.wire import SIGNATURE, Properties, Secret, is_unknown

Kind = Literal["add", "delete", "update"]


@dataclass(frozen=True)
class Change:
    """What happened to the property at a path, and whether it makes a new resource."""

    kind: Kind
    replaces: bool


def diff(old: Properties, new: Properties) -> dict[str, Change]:
    """Changes by property path (`connection`, `triggers[0]`, `environment.NAME`); empty when nothing changed."""
    changes: dict[str, Kind] = {}
    _objects(old, new, "", changes)
    return {path: Change(kind, re.split(r"[.\[]", path)[0] in REPLACING) for path, kind in changes.items()}


def equal(old: Any, new: Any) -> bool:
    """Whether two properties are the same: assets by hash, absent and null alike, a secret only like a secret."""
    if isinstance(old, dict) and isinstance(new, dict) and SIGNATURE in old and SIGNATURE in new:
        if old.get("hash") and new.get("hash"):
            return bool(old[SIGNATURE] == new[SIGNATURE] and old["hash"] == new["hash"])
        return bool(old == new)
    if isinstance(old, dict) and isinstance(new, dict):
        return all(equal(old.get(key), new.get(key)) for key in old.keys() | new.keys())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(equal(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(old, Secret) and isinstance(new, Secret):
        return equal(old.value, new.value)
    if is_unknown(old) and is_unknown(new):
        return True
    return type(old) is type(new) and bool(old == new)


def _objects(old: Properties, new: Properties, path: str, changes: dict[str, Kind]) -> None:
    for key in sorted(old.keys() | new.keys()):
        if not path and (key.startswith("__") or key == "version"):
            continue
        _values(old.get(key), new.get(key), _join(path, key), changes)


def _values(old: Any, new: Any, path: str, changes: dict[str, Kind]) -> None:
    if equal(old, new):
        return
    if old is None:
        changes[path] = "add"
    elif new is None:
        changes[path] = "delete"
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            at = f"{path}[{index}]"
            if index >= len(old):
                changes[at] = "add"
            elif index >= len(new):
                changes[at] = "delete"
            else:
                _values(old[index], new[index], at, changes)
    elif isinstance(old, dict) and isinstance(new, dict) and SIGNATURE not in old and SIGNATURE not in new:
        _objects(old, new, path, changes)
    else:
        changes[path] = "update"


def _join(path: str, key: str) -> str:
    if not re.fullmatch(r"[A-Za-z_$][\w$]*", key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key
