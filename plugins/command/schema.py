"""Says which inputs each resource takes, and checks, completes and marks them as the official plugin does."""

from dataclasses import dataclass
from typing import Any

from plugins.command.wire import ARCHIVE, ASSET, SIGNATURE, Properties, Secret, Value, is_unknown, plain

LOCAL_COMMAND = "command:local:Command"
REMOTE_COMMAND = "command:remote:Command"
COPY_TO_REMOTE = "command:remote:CopyToRemote"

LOGGING = ("stdout", "stderr", "stdoutAndStderr", "none")

REPLACING = frozenset({"triggers"})
"""Inputs whose change makes a new resource."""

_GLOBS = ("assetPaths", "archivePaths")
_NO_FILES = (
    "this stand-in for the official command plugin returns no files; read the file in the program, or print it on "
    "standard output, or install the official plugin"
)


@dataclass(frozen=True)
class Field:
    """One input: its type (see `_mismatch` and `OBJECTS`), and whether it must be there or is a secret."""

    kind: str
    required: bool = False
    secret: bool = False


_COMMAND = {
    "create": Field("string"),
    "update": Field("string"),
    "delete": Field("string"),
    "triggers": Field("list"),
    "stdin": Field("string"),
    "logging": Field("logging"),
    "environment": Field("string map"),
    "addPreviousOutputInEnv": Field("boolean"),
}

_PROXY = {
    "host": Field("string", required=True),
    "port": Field("number"),
    "user": Field("string"),
    "password": Field("string", secret=True),
    "privateKey": Field("string", secret=True),
    "privateKeyPassword": Field("string", secret=True),
    "agentSocketPath": Field("string"),
    "dialErrorLimit": Field("number"),
    "perDialTimeout": Field("number"),
    "hostKey": Field("string"),
}

# Only these appear in the state when the program leaves them out: defaults of the official schema, 1.2.1.
_CONNECTION_DEFAULTS: Properties = {
    "user": "root",
    "port": 22.0,
    "dialErrorLimit": 10.0,
    "perDialTimeout": 15.0,
}

OBJECTS: dict[str, dict[str, Field]] = {
    "connection": {**_PROXY, "proxy": Field("proxy")},
    "proxy": _PROXY,
}

RESOURCES: dict[str, dict[str, Field]] = {
    LOCAL_COMMAND: {
        **_COMMAND,
        "interpreter": Field("string list"),
        "dir": Field("string"),
        "assetPaths": Field("string list"),
        "archivePaths": Field("string list"),
    },
    REMOTE_COMMAND: {**_COMMAND, "connection": Field("connection", required=True, secret=True)},
    COPY_TO_REMOTE: {
        "connection": Field("connection", required=True, secret=True),
        "triggers": Field("list"),
        "source": Field("source", required=True),
        "remotePath": Field("string", required=True),
    },
}


@dataclass(frozen=True)
class Failure:
    """An input that is refused: its path, and why."""

    path: str
    reason: str


def check(resource_type: str, inputs: Properties) -> tuple[Properties, list[Failure]]:
    """The inputs with defaults and secret marks, and what is wrong with them."""
    failures: list[Failure] = []
    properties = {key: value for key, value in inputs.items() if not key.startswith("__") and key != "version"}
    checked = _object(RESOURCES[resource_type], properties, "", failures)
    failures += [Failure(name, _NO_FILES) for name in _GLOBS if plain(checked.get(name))]
    return checked, failures


def _object(fields: dict[str, Field], properties: Properties, path: str, failures: list[Failure]) -> Properties:
    prefix = f"{path}." if path else ""
    result: Properties = {}
    for key, value in properties.items():
        field = fields.get(key)
        if field is None:
            failures.append(Failure(prefix + key, f"unrecognized field; known are {', '.join(sorted(fields))}"))
            continue
        if plain(value) is None:
            continue
        result[key] = _field(field, value, prefix + key, failures)
    for key, field in fields.items():
        if field.required and key not in result:
            failures.append(Failure(prefix + key, f"missing required field '{key}'"))
    return result


def _field(field: Field, value: Value, path: str, failures: list[Failure]) -> Value:
    if isinstance(value, Secret):
        inner = _field(Field(field.kind), value.value, path, failures)
        return inner if isinstance(inner, Secret) else Secret(inner)
    if field.kind in OBJECTS and isinstance(value, dict) and SIGNATURE not in value:
        value = _object(OBJECTS[field.kind], value, path, failures)
        value = {**_CONNECTION_DEFAULTS, **value}
    elif not is_unknown(value):
        reason = _mismatch(field.kind, value)
        if reason:
            failures.append(Failure(path, reason))
    return Secret(value) if field.secret else value


def _mismatch(kind: str, value: Any) -> str | None:
    """Why the value does not fit the type, or None. Unknown elements of lists and maps fit any."""
    if kind == "logging":
        return None if value in LOGGING else f"is {value!r}; must be one of {', '.join(LOGGING)}"
    if kind == "source":
        return _source_mismatch(value)
    if kind == "number":
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif kind == "string list":
        fits = isinstance(value, list) and all(isinstance(plain(item), str) for item in value)
    elif kind == "string map":
        fits = isinstance(value, dict) and all(isinstance(plain(item), str) for item in value.values())
    else:
        fits = isinstance(value, {"string": str, "boolean": bool, "list": list}.get(kind, ()))
    return None if fits else f"must be a {'map of fields' if kind in OBJECTS else kind}"


def _source_mismatch(value: Any) -> str | None:
    signature = value.get(SIGNATURE) if isinstance(value, dict) else None
    if signature == ASSET:
        if value.get("path") or not value.get("uri"):
            return None
        return "asset must be a path-based file asset or a text asset"
    if signature == ARCHIVE:
        return None if value.get("path") else "archive must be a path to a file or directory"
    return "either asset or archive must be set"
