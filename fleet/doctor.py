"""Checks whether this machine can work with the stack: each thing is as it should be, or comes with its cure."""

import importlib.util
import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import yaml

from fleet import engine
from fleet.errors import FleetError
from fleet.stack import of, without_proof
from nodekit.errors import NodeError
from nodekit.host.reading import MAX_OWN, read_text
from nodekit.rules.docker.apt_source import DOCKER_ADDRESS
from nodekit.rules.kata import kata_releases
from nodekit.rules.node_state import HYPERVISOR, KATA_RUNTIME, KATA_VERSION
from nodekit.rules.text import printable, public
from stacks.stack_file import handed_over, loaded, misplaced, namespaced

PYTHON = (3, 11)
SITE_SECONDS = 5.0
ENVIRONMENT = "environment"
"""Key that stands in a configuration for what is in an environment of Pulumi ESC; the engine's own keys have a colon."""
KEYS_REQUEST, KEYS_ANSWER = b"\0\0\0\1\x0b", b"\x0c"
"""Source: PROTOCOL.agent of OpenSSH, SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENT_IDENTITIES_ANSWER."""
PROJECT_SUFFIXES = (".yaml", ".yml", ".json")
"""Ends of the name of a project's file (pulumi, sdk/go/common/encoding)."""
REACHED_BY_NODES = "Harmless if your nodes reach it; otherwise see docs/guides/air-gapped.md"


@dataclass(frozen=True)
class Finding:
    """One line of the report; without a cure it is as it should be."""

    subject: str
    message: str
    cure: str = ""
    is_fault: bool = True
    """Whether what has a cure keeps this machine from working with the stack."""

    @property
    def level(self) -> str:
        """In a word."""
        return "ok" if not self.cure else "FAULT" if self.is_fault else "note"


def findings(stack: str | None) -> Iterator[Finding]:
    """All of them, one after the other."""
    yield _python()
    login = _engine()
    yield from login
    name: str | None = None
    config: dict[str, Any] = {}
    if not any(finding.cure for finding in login):
        try:
            name = engine.selected(stack)
        except FleetError as error:
            yield Finding("stack", str(error), "Select one: pulumi stack select NAME")
        else:
            try:
                config, finding = _file(name)
            except OSError as error:  # a name of more than 255 bytes, or a folder that is gone
                config, finding = (
                    {},
                    Finding("stack's file", f"cannot be looked for: {error.strerror}", "Change to the project's folder"),
                )
            yield finding
    yield from _ssh(config)
    if name is not None:
        yield from _state(name)
        yield from _sites(config)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < PYTHON:
        return Finding("python", version, "Put Python 3.11 or newer first on PATH")
    missing = [name for name in ("pulumi", "pulumi_command", "tomlkit", "pydantic") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(
            "python", f"{version} lacks {', '.join(missing)}", "Start this by tools/kata-nodes, or run: pulumi install"
        )
    return Finding("python", f"{version} with the program's packages")


def _is_of_this_program(config: Mapping[str, Any]) -> bool:
    return any(str(key).startswith("kata-nodes:") for key in config)


def _logs_in_by_keys_of_this_machine(config: Mapping[str, Any]) -> bool:
    """Whether a log-in of the stack could ask for them; without a file that says so, any could."""
    if ENVIRONMENT in config:
        return False
    if not _is_of_this_program(config):
        return True
    nodes = config.get("kata-nodes:nodes")
    nodes = nodes if isinstance(nodes, dict) else {}
    aws = nodes.get("aws")
    instances = aws.get("instances") if isinstance(aws, dict) else None
    logins = {
        "sshPrivateKey": "existing" in nodes or (isinstance(instances, dict) and "publicKey" in instances),
        "bastionPrivateKey": "bastion" in nodes,
    }
    return any(needed and f"kata-nodes:{secret}" not in config for secret, needed in logins.items())


def _ssh(config: Mapping[str, Any]) -> Iterator[Finding]:
    agent = os.environ.get("SSH_AUTH_SOCK")
    offered = 0
    if agent:
        try:
            offered = _keys_of_agent(agent)
            yield Finding("ssh agent", f"{agent}, {'without keys' if offered == 0 else f'keys: {offered}'}")
        except OSError as error:
            yield Finding("ssh agent", f"{agent}: {error.strerror or error}", 'Start it: eval "$(ssh-agent)"; ssh-add')
    folder = Path.home() / ".ssh"
    try:
        named = folder.glob("id_*") if folder.is_dir() else ()
        keys = sorted(path.name for path in named if not path.name.endswith(".pub") and path.is_file())
        exposed = [name for name in keys if (folder / name).stat().st_mode & 0o077]
    except OSError as error:  # as of another user, whose HOME `sudo -u` has kept
        cure = "Set HOME to this user's own folder, or give it that one"
        yield Finding("ssh keys", f"{folder}: {error.strerror}", cure, _logs_in_by_keys_of_this_machine(config))
        return
    if exposed:
        places = shlex.join(str(folder / name) for name in exposed)
        yield Finding("ssh keys", f"others may read {', '.join(exposed)}", f"chmod 600 {places}")
    elif offered or (keys and not (_is_of_this_program(config) and _logs_in_by_keys_of_this_machine(config))):
        yield Finding("ssh keys", ", ".join(keys) or "those of the agent")
    elif keys:
        yield Finding(
            "ssh keys",
            f"{', '.join(keys)}, which no `pulumi up` reads: the stack has no key of its own, and the agent none",
            "Add one to an agent (ssh-add), or set the secret kata-nodes:sshPrivateKey (bastionPrivateKey for a bastion)",
        )
    elif not _logs_in_by_keys_of_this_machine(config):
        known = "its ESC environment may have one" if ENVIRONMENT in config else "the stack needs none"
        yield Finding("ssh keys", f"none here, and {known}")
    else:
        yield Finding(
            "ssh keys",
            f"none in {folder}, and {'none of the agent' if agent else 'no agent'} (SSH_AUTH_SOCK)",
            "Make one (ssh-keygen -t ed25519), start an agent with one (ssh-add), or set the secret kata-nodes:sshPrivateKey",
        )


def _keys_of_agent(address: str) -> int:
    """How many keys an SSH agent offers; a socket that something else answers has none. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SITE_SECONDS)
        connection.connect(address)
        connection.sendall(KEYS_REQUEST)
        with connection.makefile("rb") as answer:
            head = answer.read(9)  # a length, the kind of answer, and how many keys follow
    return int.from_bytes(head[5:], "big") if head[4:5] == KEYS_ANSWER else 0


def _engine() -> list[Finding]:
    if shutil.which("pulumi") is None:
        return [Finding("pulumi", "not on PATH", "Install it, or start this by tools/kata-nodes, which brings its own")]
    try:
        findings = [Finding("pulumi", f"{engine.answer('version').strip()} at {shutil.which('pulumi')}")]
        user = engine.ask("whoami", "--json")
        plugins = engine.answer("plugin", "ls", "--json")
    except FleetError as error:
        return [Finding("pulumi", str(error), "Repair or reinstall it")]
    if user.code != 0:
        message = printable(" ".join(user.stderr.decode(errors="replace").split()), 300)
        return [
            *findings,
            Finding("login", message, "Log in: pulumi login, or pulumi login file://FOLDER; or set PULUMI_ACCESS_TOKEN"),
        ]
    try:
        login = json.loads(user.stdout)
    except (ValueError, RecursionError):
        login = None
    if not isinstance(login, dict):
        return [*findings, Finding("login", "pulumi whoami --json printed no login", "Put another pulumi first on PATH")]
    url = str(login.get("url", ""))
    # The address of a PostgreSQL backend has its password in it.
    findings.append(Finding("login", printable(f"{login.get('user')} at {public(url)}", 200)))
    findings += _damaged_states(url)
    command = '"command"' in plugins or any(part.name.startswith("pulumi-resource-command") for part in _path())
    cure = "" if command else "pulumi install, or start this by tools/kata-nodes, which brings a stand-in"
    return [*findings, Finding("plugins", f"the command plugin is {'' if command else 'not '}installed", cure)]


def _damaged_states(url: str) -> list[Finding]:
    """States in a backend of files that the engine can no longer read, because it was killed as it wrote what lies beside them.

    It empties that file first (gocloud.dev, fileblob, setAttrs), and then reports only `failed to load checkpoint: EOF`.
    """
    if not url.startswith("file://"):
        return []
    stacks = Path(unquote(url.removeprefix("file://").partition("?")[0])).expanduser() / ".pulumi" / "stacks"
    empty = [file for file in sorted(stacks.rglob("*.json.attrs")) if _is_empty(file)]
    return [
        Finding("state", f"{file} is empty, since the engine was killed as it wrote it: the stack cannot be read", f"rm {file}")
        for file in empty
    ]


def _is_empty(file: Path) -> bool:
    """Whether a file is there, which an engine that runs beside can have removed, and has nothing in it."""
    with suppress(OSError):
        return file.stat().st_size == 0
    return False


def _path() -> Iterator[Path]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        place = Path(folder) / "pulumi-resource-command"
        if place.exists():
            yield place


def _file(stack: str) -> tuple[dict[str, Any], Finding]:
    """The configuration in the stack's file, and whether the program accepts it."""
    subject = "stack's file"
    project = _project_file()
    # The engine takes the ending of the project's file for those of its stacks too.
    name = f"Pulumi.{stack.rpartition('/')[2]}{project.suffix}"
    places = [project.parent / folder / name for folder in _folders()]
    place = next((path for path in places if path.is_file()), None)
    if place is None:
        where = " or ".join(map(str, places))
        return {}, Finding(subject, f"there is no {where}", "Write one: make new-stack; or change to the project's folder")
    try:
        document = loaded(read_text(place, MAX_OWN)) or {}
        config = namespaced(dict(document.get("config") or {}), str(_project().get("name")))
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        return {}, Finding(subject, f"{place}: {printable(str(error), 300)}", "Correct it")
    if document.get("environment"):
        message = f"{place} takes values from a Pulumi ESC environment, which a preview reads, so it was not checked"
        return {**config, ENVIRONMENT: True}, Finding(subject, message)
    if not _is_of_this_program(config):
        return {}, Finding(subject, f"{place} is of another program, so it was not checked")
    if keys := misplaced(document):
        message = f"{place}: {printable(', '.join(keys), 300)}: beside the key config, where nothing reads it"
        return config, Finding(subject, message, "Indent it below config")
    # pydantic takes a while to load
    from stacks.configuration import OBJECTS, ConfigError, load, refuse_settings_of_plugins, refuse_unknown

    sections = {f"kata-nodes:{key}" for key in OBJECTS}
    config = {key: handed_over(value) if key in sections else value for key, value in config.items()}

    def section(key: str) -> Any:
        value = config.get(f"kata-nodes:{key}")
        return "" if value is None and f"kata-nodes:{key}" in config else value  # as the engine hands it over

    try:
        refuse_unknown(config, str(_project().get("name")))
        refuse_settings_of_plugins(load(section), config)
    except ConfigError as error:
        return config, Finding(subject, f"{place}: {error}", "Correct that key")
    return config, Finding(subject, f"{place} is valid")


def _project_file() -> Path:
    """The project's file, which the engine looks for in this folder and those above; without one, that of this folder."""
    current = Path.cwd()
    places = [folder / f"Pulumi{suffix}" for folder in (current, *current.parents) for suffix in PROJECT_SUFFIXES]
    place = next((place for place in places if place.is_file()), current / "Pulumi.yaml")
    return Path(os.path.relpath(place, current))


def _project() -> dict[str, Any]:
    """What is in the project's file; nothing where it cannot be read."""
    with suppress(OSError, ValueError, yaml.YAMLError):
        project = loaded(read_text(_project_file(), MAX_OWN))
        return project if isinstance(project, dict) else {}
    return {}


def _folders() -> list[str]:
    """Where the files of stacks can be, below the project: where it says, or else this checkout's folder or the project's own."""
    named = _project().get("stackConfigDir")
    return [named] if isinstance(named, str) and named else ["stacks", "."]


def _state(stack: str) -> Iterator[Finding]:
    try:
        deployment = engine.deployment(stack)
    except FleetError as error:
        yield Finding("state", str(error), "pulumi stack ls; pulumi stack select NAME; and check the passphrase")
        return
    try:
        known = of(deployment)
    except FleetError as error:
        yield Finding("state", str(error), "Do that first: until then, kata-nodes reads no node of the stack")
        return
    nodes = [node for node in known.nodes if not node.gone]
    unproven = [node.name for node in nodes if node.evidence is None]
    outdated = [node.name for node in nodes if node.evidence is not None and node.differences]
    again = "pulumi up, whose last error says why"
    if unproven:
        yield Finding("state", f"{', '.join(unproven)} without a proof", again)
    if outdated:
        yield Finding("state", f"{', '.join(outdated)} with a proof of other settings than those on the node", again)
    yield from (Finding("state", without_proof(name), again) for name in known.unfinished)
    if not (unproven or outdated or known.unfinished):
        yield Finding("state", f"{len(nodes)} nodes, each proven" if nodes else "no nodes over SSH yet")


def _sites(config: dict[str, Any]) -> Iterator[Finding]:
    """Where nodes get Docker and Kata from, as far as this machine can tell: nodes may reach other places, so none is a fault."""
    if "kata-nodes:kubernetes" in config and "kata-nodes:nodes" not in config:
        return  # the cluster's own nodes
    docker, kata = config.get("kata-nodes:docker"), config.get("kata-nodes:kata")
    repository = docker.get("repository") if isinstance(docker, dict) else None
    address = repository.get("address") if isinstance(repository, dict) else None
    addresses = [] if repository == "local" else [str(address or DOCKER_ADDRESS)]
    install = kata.get("install") if isinstance(kata, dict) else None
    if isinstance(install, dict):
        addresses.append(str(install.get("address")))
    elif install == "release" and isinstance(kata, dict):
        defaults = {"version": KATA_VERSION, "runtime": KATA_RUNTIME, "hypervisor": HYPERVISOR}
        try:
            release = kata_releases.archives(*(str(kata.get(key) or default) for key, default in defaults.items()))
            addresses.append(release["x86_64"].address)
        except NodeError as error:
            yield Finding("kata release", error.message, error.remedy)
    for place in dict.fromkeys(addresses):
        name = printable(place, 200)
        try:
            host = urlsplit(place)
            name = host.hostname or name
            if host.scheme in getproxies() and not proxy_bypass(name):
                why = f"{name} was not tried, since this machine has a proxy for it ({host.scheme}_proxy)"
                yield Finding("site", why, REACHED_BY_NODES, is_fault=False)
                continue
            _reach(host.hostname or "", host.port or (443 if host.scheme == "https" else 80))
            yield Finding("site", f"{name} answers")
        except (OSError, ValueError) as error:  # ValueError: an address that has no such port, or no such host
            why = f"{name} does not answer here: {getattr(error, 'strerror', None) or error}"
            yield Finding("site", why, REACHED_BY_NODES, is_fault=False)


def _reach(host: str, port: int) -> None:
    """Connect, and hang up; raises OSError or ValueError where that cannot be done in SITE_SECONDS.

    In a thread that nobody waits for longer: a look-up of a name has no bound of its own, and Ctrl-C does not end it.
    """
    failures: list[OSError | ValueError] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), SITE_SECONDS).close()
        except (OSError, ValueError) as error:
            failures.append(error)

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SITE_SECONDS)
    if failures:
        raise failures[0]
    if thread.is_alive():
        raise TimeoutError(f"no answer within {SITE_SECONDS:g} s")
