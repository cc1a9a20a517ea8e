"""Merge the Kata runtime into dockerd's daemon.json and keep everything else in it."""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nodekit.errors import NodeError
from nodekit.rules.docker.docker_matrix import version as parse_version
from nodekit.rules.text import printable

PATH = "/etc/docker/daemon.json"
RUNTIME_TYPE = "io.containerd.kata.v2"
"""The containerd shim that Docker should start for the runtime."""
_KEYS = {key.lower(): key for key in ("path", "runtimeArgs", "runtimeType", "options")}
CONFIG_PATH = ("ConfigPath", "configpath", "CONFIGPATH", "configPath")
"""Names of the option that Kata's shim is given, of which the first counts that is there: moby and containerd fill it in by way
of TOML, which takes each (moby, `libcontainerd/shimopts/convert.go`; go-toml 1, `marshal.go`, `valueFromTree`)."""
_OCI = ("path", "runtimeArgs")
"""Keys of an entry that names a program in runc's place (moby, daemon/runtime_unix.go)."""

SINCE = {
    "default-network-opts": (24, 0, 0),
    "cdi-spec-dirs": (25, 0, 0),
    "log-format": (25, 0, 0),
    "bip6": (28, 0, 0),
    "host-gateway-ips": (28, 0, 0),
    "ip-forward-no-drop": (28, 0, 0),
    "allow-direct-routing": (28, 2, 0),
    "bridge-accept-fwmark": (29, 0, 0),
    "firewall-backend": (29, 0, 0),
    "min-api-version": (29, 0, 0),
    "nri-opts": (29, 2, 0),
    "default-stop-timeout": (29, 7, 0),
}
"""Key of the file -> the first Docker that knows it; an older one does not start (moby, `findConfigurationConflicts`, and the
flags of each release from 23.0.0 to 29.7.2)."""
KEYS_ALONE = frozenset({"host-gateway-ips", "min-api-version", "cdi-spec-dirs", "default-network-opts", "nri-opts"})
"""Those that are no options of its command line, or stand there under another name."""
UNTIL = {"oom-score-adjust": (26, 0, 0), "api-cors-header": (29, 0, 0)}
"""Key -> the first Docker that does not know it any more."""


def _invalid(why: str) -> NodeError:
    return NodeError("file-invalid", f"{PATH} is not what dockerd reads: {why}", file=PATH)


def _constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{printable(text, 40)} is too large a number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a doubled key is refused, because dockerd joins what Python would drop (Go, encoding/json, into maps)."""
    known = dict(pairs)
    if len(known) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return known


def is_kata(runtime_type: object) -> bool:
    """Whether a runtime type, or a path given in its place, starts one of Kata's shims (kata-deploy's handlers included)."""
    return (shim_name(runtime_type) or "").startswith("containerd-shim-kata")


def shim_name(runtime_type: object) -> str | None:
    """The program that containerd starts for a runtime type, a path given in its place, or None when it is neither.

    The last two words count, so that `io.containerd.run.kata.v2` is `io.containerd.kata.v2` (containerd,
    `pkg/shim/util.go`, `BinaryName`).
    """
    if not isinstance(runtime_type, str):
        return None
    if runtime_type.startswith("/"):
        return runtime_type.rpartition("/")[2]
    words = runtime_type.split(".")
    return f"containerd-shim-{words[-2]}-{words[-1]}" if len(words) >= 2 and all(words) else None


def configured(options: object) -> str | None:
    """The configuration file that options of a runtime name; None where they name none."""
    named = next((options[key] for key in CONFIG_PATH if key in options), None) if isinstance(options, Mapping) else None
    return named if isinstance(named, str) and named else None


def check(runtime: str, config_path: str | None) -> None:
    """Raise NodeError `bad-input` for a name of a runtime, or a ConfigPath, that cannot stand in the file."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", runtime):
        raise NodeError("bad-input", f"Key runtimeName is {runtime!r}, not the name of a runtime", expected="a name such as kata")
    if config_path is not None and not re.fullmatch(r"/[^\x00-\x1f\x7f]*", config_path):
        raise NodeError("bad-input", f"Key configPath is {config_path!r}, not an absolute path", expected="an absolute path")


def decode(content: bytes, path: str = PATH) -> str:
    """The text of a daemon.json; raises NodeError `file-invalid`."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise NodeError("file-invalid", f"{path} is not UTF-8 ({error})", file=path) from None


def runtimes(text: str) -> dict[str, object]:
    """The runtimes of any daemon.json; raises NodeError `file-invalid`."""
    runtimes_table = _tree(text).get("runtimes")
    if runtimes_table is None:
        return {}
    if not isinstance(runtimes_table, dict):
        raise _invalid("'runtimes' is not an object")
    return {name: spelled(entry) for name, entry in runtimes_table.items()}


def spelled(entry: object) -> object:
    """The entry of a runtime with its keys as moby documents them: Go takes them in any case, the last one of two."""
    return {_KEYS.get(key.lower(), key): value for key, value in entry.items()} if isinstance(entry, dict) else entry


def names_image_store(text: str | None) -> bool:
    """Whether the file says which store images and containers lie in; raises NodeError `file-invalid`."""
    features = _tree(text or "").get("features")
    return isinstance(features, dict) and isinstance(features.get("containerd-snapshotter"), bool)


def refuse_unknown(text: str | None, version: str, command: Sequence[str] = ()) -> None:
    """Raise NodeError `file-invalid` for a key of the file that this Docker does not know, or an option in `command` of its unit.

    It would not start. dockerd says so too, but only the one that is installed then, when the one before has gone.
    """
    pinned = parse_version(version, "Docker")
    named = {word.partition("=")[0].removeprefix("--") for word in options(command) if word.startswith("--")} - KEYS_ALONE
    if unknown := [f"--{key}" for key in sorted(named) if pinned < SINCE.get(key, pinned) or pinned >= UNTIL.get(key, (1000,))]:
        message = f"docker.service starts dockerd with {', '.join(unknown)}, which Docker {version} does not know"
        raise NodeError("file-invalid", message, "docker-version", keys=", ".join(unknown), file="docker.service")
    keys = _tree(text or "").keys()
    wrong = [
        *(f"{key} (known from {_dotted(first)} on)" for key, first in SINCE.items() if key in keys and pinned < first),
        *(f"{key} (unknown from {_dotted(end)} on)" for key, end in UNTIL.items() if key in keys and pinned >= end),
    ]
    if wrong:
        names = ", ".join(each.partition(" ")[0] for each in wrong)
        message = f"{PATH} sets {', '.join(wrong)}, with which Docker {version} does not start"
        raise NodeError("file-invalid", message, "docker-version", keys=names, file=PATH)


def undated(text: str) -> str:
    """The file without the keys that some Docker does not know; raises NodeError `file-invalid`."""
    return json.dumps({key: value for key, value in _tree(text).items() if key not in SINCE and key not in UNTIL})


def options(command: Sequence[str]) -> list[str]:
    """The options of dockerd in the command line of its unit; none where only systemd knows how it becomes words."""
    is_plain = re.fullmatch(r"[^\"'\\$%]*", " ".join(command)) is not None
    return list(command[1:]) if is_plain and command and command[0].rpartition("/")[2] == "dockerd" else []


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def listening(command: Sequence[str], text: str | None) -> tuple[list[str], str]:
    """The addresses at which dockerd is told to listen, and where that stands; none where nothing or only a variable says so.

    `command` is the command line of docker.service, `text` daemon.json. Raises NodeError `file-invalid`.
    """
    addresses = []
    for word, following in zip(command, [*command, ""][1:], strict=True):
        match = re.fullmatch(r"--?host(?:=(.*))?|-H=?(.*)", word)
        if match:
            addresses.append((match[1] or match[2] or following).strip("\"'"))
    if any("$" in word for word in command):
        return [], ""
    if addresses:
        return addresses, "ExecStart of docker.service"
    hosts = _tree(text or "").get("hosts")
    return [host for host in hosts if isinstance(host, str)] if isinstance(hosts, list) else [], f"hosts of {PATH}"


def socket_path(address: str, default: str) -> str | None:
    """The path of the Unix socket that an address of dockerd means, `default` being its own; None for an address of the network.

    Of a socket that systemd hands over (`fd://`), docker.socket says the path, which is that one.
    """
    scheme, mark, path = address.partition("://")
    if not address or scheme == "fd":
        return default
    return (path if path.startswith("/") else default) if mark and scheme == "unix" else None


def _tree(text: str) -> dict[str, Any]:
    """The settings of a file; none in one without a word, as dockerd takes it (moby, `getConflictFreeConfiguration`).

    `null` is an unset value to Go, here and for any key: some tools write it where they have nothing to set.
    """
    body = text.removeprefix("\ufeff")
    if not body.strip():
        return {}
    try:
        tree = json.loads(body, parse_constant=_constant, parse_float=_number, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise _invalid(printable(str(error), 200)) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise _invalid("its top level is not an object")
    return tree


def config_path(text: str | None, runtime: str) -> str | None:
    """The ConfigPath of a runtime; raises NodeError `file-invalid`."""
    entry = runtimes(text).get(runtime) if text is not None else None
    return configured(entry.get("options")) if isinstance(entry, dict) else None


def merge(text: str | None, runtime: str, config_path: str | None, ours: Collection[str] = (), before: str | None = None) -> str:
    """The text with `runtimes.<runtime>` naming Kata's shim, and its `ConfigPath` when `config_path` is given.

    `text` is None where there is no file. An entry that already names one of Kata's shims, by type or by path (moby accepts
    both), keeps it. Without `config_path` it stays as it is, except for a ConfigPath in `ours`, which earlier runs set or were
    about to set: `before`, the value from before them, replaces it. An entry that starts something else gets the shim and keeps
    its options. Either loses `path` and `runtimeArgs`, beside which dockerd from 23.0 on takes no type, where 20.10 passed over
    the type. If nothing has to change, the same text is returned. Raises NodeError `file-invalid`.
    """
    original = text or ""
    tree = _tree(original)
    known = tree["runtimes"] = {} if tree.get("runtimes") is None else tree["runtimes"]
    if not isinstance(known, dict):
        raise _invalid("'runtimes' is not an object")
    if runtime in known:
        known[runtime] = spelled(known[runtime])
    entry = known.get(runtime)
    if not (isinstance(entry, dict) and is_kata(entry.get("runtimeType"))):
        kept = {key: value for key, value in entry.items() if key not in _OCI} if isinstance(entry, dict) else {}
        by_path = entry.get("path") if isinstance(entry, dict) else None
        known[runtime] = entry = {**kept, "runtimeType": by_path if is_kata(by_path) else RUNTIME_TYPE}
        changed = True
    else:
        beside = [key for key in _OCI if entry.get(key)]
        for key in beside:
            del entry[key]
        changed = bool(beside)
    if config_path is not None:
        options = entry["options"] = {} if entry.get("options") is None else entry["options"]
        if not isinstance(options, dict):
            raise _invalid(f"'runtimes.{runtime}.options' is not an object")
        others = [key for key in CONFIG_PATH[1:] if key in options]
        changed = changed or bool(others) or options.get("ConfigPath") != config_path
        for key in others:
            del options[key]
        options["ConfigPath"] = config_path
    elif isinstance(options := entry.get("options"), dict) and (named := configured(options)) in ours:
        changed = changed or named != before
        if before is not None:
            options["ConfigPath"] = before
        for key in CONFIG_PATH[before is not None :]:
            options.pop(key, None)
        if not options:
            del entry["options"]
    if not changed:
        assert text is not None  # an entry was found in it
        return text
    indent = re.search(r'^([ \t]+)"', original, re.MULTILINE)
    merged = json.dumps(tree, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"
    try:
        merged.encode()
    except UnicodeEncodeError:
        raise _invalid("it holds half of a surrogate pair, which is not text") from None
    return merged
