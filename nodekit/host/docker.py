"""Check dockerd's state and configuration, and make it read a new one; every call bounded in time."""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach
from nodekit.host.process import run
from nodekit.progress import say, step
from nodekit.rules.docker.daemon_json import PATH
from nodekit.rules.text import printable

CALL_TIMEOUT = 60.0
HEALTH_TIMEOUT = 120.0
"""Seconds: for one answer of dockerd, and for dockerd to be healthy after a change (an emulated node is slow)."""
POLL = 0.2
"""Seconds between two questions while dockerd comes up."""
SOCKET = "run/docker.sock"
"""Where dockerd listens on the node, whatever context or DOCKER_HOST a root user has."""
SOCKET_UNIT, SERVICE_UNIT = "docker.socket", "docker.service"
UNITS = (SOCKET_UNIT, SERVICE_UNIT, "containerd.service")
"""What a change of packages may start, stop or enable."""
CONTAINERD_STORE = ["driver-type", "io.containerd.snapshotter.v1"]
"""What `/info` has among `DriverStatus` where images and containers lie in containerd's image store."""
MAX_ANSWER = 16 << 20
"""Bytes of an answer that are read; a node with a thousand containers gives a few."""


class Answer(NamedTuple):
    """What dockerd answers: its version and the names of the runtimes that it knows, or None, no names and why it is silent.

    It reports nothing of a shim's type and options: `/info` has an empty object there (daemon/info_unix.go of 27.5.1) [measured].
    """

    version: str | None
    runtimes: frozenset[str]
    reason: str
    live_restore: bool = False
    """Whether containers live on while dockerd restarts."""
    in_containerd: bool = False
    """Whether its images and containers lie in containerd's image store."""
    containers: int = 0
    images: int = 0


def _get(root: Path, path: str) -> object:
    """What dockerd's own API answers (Docker Engine API, `GET path`); raises OSError or ValueError.

    One answer by the command line takes longer than everything else in a run without a change.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CALL_TIMEOUT)
        end = time.monotonic() + CALL_TIMEOUT
        connection.connect(str(root / SOCKET))
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        data = b""
        while part := connection.recv(1 << 16):
            data += part
            if len(data) > MAX_ANSWER or time.monotonic() > end:
                raise ValueError("dockerd's answer is too long")
    head, _, body = data.partition(b"\r\n\r\n")
    if head.split(b" ")[1:2] != [b"200"]:
        raise ValueError(f"dockerd answers {printable(head.decode(errors='replace').splitlines()[0] if head else '', 80)!r}")
    return json.loads(body)


def ask(root: Path) -> Answer:
    """Ask dockerd once; a daemon that is not there is an answer, not an error."""
    try:
        known = _get(root, "/info")
        version = known["ServerVersion"] if isinstance(known, dict) else None
        if not isinstance(known, dict) or not isinstance(version, str):
            raise ValueError("dockerd's answer names no version")
    except (OSError, ValueError, KeyError) as error:
        return Answer(None, frozenset(), f"/{SOCKET}: {printable(getattr(error, 'strerror', None) or str(error), 200)}")
    runtimes = known.get("Runtimes")
    names = frozenset(printable(name, 80) for name in runtimes) if isinstance(runtimes, dict) else frozenset()
    status, counts = known.get("DriverStatus"), [known.get(key) for key in ("Containers", "Images")]
    containers, images = (count if isinstance(count, int) else 0 for count in counts)
    in_containerd = isinstance(status, list) and CONTAINERD_STORE in status
    return Answer(printable(version, 80), names, "", known.get("LiveRestoreEnabled") is True, in_containerd, containers, images)


def running_containers(root: Path, answer: Answer) -> list[str]:
    """Names of running containers that a restart of dockerd stops; empty where, by its answer, live-restore lets them live."""
    if answer.live_restore:
        return []
    try:
        listed = _get(root, "/containers/json")
    except (OSError, ValueError):
        return []
    names = (
        [container["Names"] for container in listed if isinstance(container, dict) and container.get("Names")]
        if isinstance(listed, list)
        else []
    )
    return [printable(str(some[0]).lstrip("/"), 80) for some in names]


def problem(answer: Answer, version: str, runtime: str) -> str | None:
    """What is wrong with this answer, or None: it must be of `version` and know `runtime`."""
    if answer.version is None:
        return f"dockerd does not answer ({answer.reason})"
    if answer.version != version:
        return f"dockerd answers version {answer.version}, expected {version}"
    if runtime not in answer.runtimes:
        return f"dockerd does not know the runtime {runtime}, only {', '.join(sorted(answer.runtimes)) or 'none'}"
    return None


def wait_until_well(root: Path, version: str, runtime: str) -> Answer:
    """Wait for an answer without `problem`; raises NodeError `docker-unhealthy` with the last lines of dockerd's log."""
    end = time.monotonic() + HEALTH_TIMEOUT
    while (fault := problem(answer := ask(root), version, runtime)) is not None:
        if time.monotonic() >= end:
            raise NodeError("docker-unhealthy", f"{fault}, {HEALTH_TIMEOUT:g} s after the change; its log ends: {_log()}")
        time.sleep(POLL)
    return answer


def _log() -> str:
    try:
        text = run(["journalctl", "-u", "docker", "-n", "5", "-o", "cat", "--no-pager"], timeout=20, check=False).stdout
    except NodeError as error:
        return error.message
    return printable("; ".join(text.split("\n")).strip("; "), 600) or "empty"


def refuse_invalid(text: str, options: Sequence[str] = ()) -> None:
    """Raise NodeError `file-invalid` with dockerd's own words when it would not start with this daemon.json.

    `options` are those of its unit: what stands there and in the file as well keeps it from starting.
    """
    handle = os.memfd_create("daemon.json")  # no file that a kill could leave
    try:
        with open(handle, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        name = f"/proc/self/fd/{handle}"
        argv = ["dockerd", "--validate", *options, "--config-file", name]
        result = run(argv, timeout=CALL_TIMEOUT, pass_fds=(handle,), check=False)
    finally:
        os.close(handle)
    if result.code != 0:
        output = printable((result.stderr.strip() or result.stdout.strip()).replace(name, PATH), 300)
        raise NodeError("file-invalid", f"dockerd refuses {PATH}: {output}", file=PATH)


class Unit(NamedTuple):
    """How a unit of systemd is."""

    active: bool
    enabled: str
    """The word of `systemctl is-enabled`, such as `enabled`, `disabled` or `masked`."""


def units() -> dict[str, Unit]:
    """The units of Docker and containerd that are there. Raises NodeError `docker-unreachable` where no systemd runs."""
    return {
        fields["Id"]: Unit(_is_active(fields), fields["UnitFileState"])
        for fields in _unit_properties()
        if fields["LoadState"] in ("loaded", "masked")
    }


def _unit_properties() -> Iterator[Mapping[str, str]]:
    argv = ["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", *UNITS]
    result = run(argv, timeout=CALL_TIMEOUT, check=False)
    if result.code != 0:
        reason = printable("; ".join(result.stderr.strip().splitlines()), 300) or "systemctl show failed"
        raise NodeError("docker-unreachable", f"systemd does not run here, and dockerd is a service of it: {reason}", "systemd")
    for block in result.stdout.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "LoadState" in fields:
            yield fields


def _is_active(fields: Mapping[str, str]) -> bool:
    return fields["ActiveState"] in ("active", "activating")


def stop_orphans() -> list[str]:
    """Stop units that run on without their package, whose scripts may stop nothing where policy-rc.d forbids it.

    Returns their names. Raises NodeError `docker-unreachable` or `command-failed`.
    """
    names = [fields["Id"] for fields in _unit_properties() if fields["LoadState"] == "not-found" and _is_active(fields)]
    if names:
        with step(f"systemctl stop {' '.join(names)}"):
            run(["systemctl", "stop", *names], timeout=HEALTH_TIMEOUT, status=f"systemctl status {' '.join(names)}")
        reach("service-told")
    return names


def refuse_masked(units: Mapping[str, Unit]) -> None:
    """Raise NodeError `docker-unreachable` where somebody has masked dockerd's unit, so that nothing starts it again."""
    unit = units.get(SERVICE_UNIT)
    if unit is not None and unit.enabled.startswith("masked"):
        raise NodeError("docker-unreachable", "docker.service is masked, so that dockerd could not be started after a change")


def bring_units_back(root: Path, before: Mapping[str, Unit]) -> list[str]:
    """Put units that are still there back as they were; the names of those that changed. Raises NodeError `command-failed`."""
    now = units()
    present = [name for name in before if name in now]
    changes = {
        "enable": [name for name in present if before[name].enabled == "enabled" != now[name].enabled],
        "disable": [name for name in present if before[name].enabled == "disabled" != now[name].enabled],
        "stop": [name for name in present if now[name].active and not before[name].active],
        "start": [name for name in present if before[name].active and not now[name].active],
    }
    socket_verb = next((verb for verb in ("stop", "start") if SOCKET_UNIT in changes[verb] and _runs_on(before, now)), None)
    if socket_verb is not None:
        changes[socket_verb].remove(SOCKET_UNIT)
    for verb, names in changes.items():
        if names:
            with step(f"systemctl {verb} {' '.join(names)}"):
                run(["systemctl", verb, *names], timeout=HEALTH_TIMEOUT, status=f"systemctl status {' '.join(names)}")
            reach("service-told")
    if socket_verb == "start":
        restart(root, ask(root), f"dockerd restarts, for {SOCKET_UNIT} to run again")
        changes["start"].append(SOCKET_UNIT)
    return sorted({name for names in changes.values() for name in names})


def _runs_on(before: Mapping[str, Unit], now: Mapping[str, Unit]) -> bool:
    """Whether dockerd ran before and runs now, so that its socket can be neither stopped nor started alone.

    Stopping the socket stops dockerd, which requires it; and systemd refuses to start a socket whose service runs
    (src/core/socket.c, `socket_start`). dockerd runs on without its socket unit where the two jobs of `systemctl restart
    docker.service docker.socket`, of Docker's packages, cross [measured on Ubuntu 22.04, systemd 249].
    """
    return all(SERVICE_UNIT in units and units[SERVICE_UNIT].active for units in (before, now))


def allow_starts() -> None:
    """Have systemd forget how often dockerd was started: packages, a roll-back and we may need more than three a minute."""
    run(["systemctl", "reset-failed", SERVICE_UNIT], timeout=CALL_TIMEOUT, check=False)


def service(verb: str) -> None:
    """`start`, `reload`, `restart` or `reload-or-restart` dockerd; raises NodeError `command-failed` or `command-timeout`."""
    allow_starts()
    try:
        run(["systemctl", verb, SERVICE_UNIT], timeout=HEALTH_TIMEOUT, status="systemctl status docker")
    except NodeError as error:
        if error.code != "tool-missing":  # after a roll-back, only the log shows why
            error.message = f"{error.message.rstrip('.')}; its log ends: {_log()}"
        raise
    reach("service-told")


def restart(root: Path, answer: Answer, title: str) -> None:
    """Restart the dockerd that gave this answer, and say which containers that stops. Raises as `service`."""
    if running := running_containers(root, answer):
        say(f"dockerd restarts: these running containers stop: {', '.join(running)}")
    with step(title):
        service("restart")
