"""Ask dockerd how it is, check its configuration, and make it read a new one; every call bounded in time."""

import json
import os
import tempfile
import time
from dataclasses import dataclass

from nodekit.errors import NodeError
from nodekit.host.process import Finished, run
from nodekit.rules.daemon_json import PATH
from nodekit.rules.text import printable

CALL_TIMEOUT = 60.0
HEALTH_TIMEOUT = 120.0
"""Seconds: for one answer of dockerd, and for dockerd to be well after a change (an emulated node is slow)."""


def _docker(*arguments: str) -> Finished:
    # The node's own daemon is meant, whatever a root user's environment or context says.
    env = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    return run(["docker", "--context", "default", *arguments], timeout=CALL_TIMEOUT, env=env, check=False)


@dataclass(frozen=True)
class Answer:
    """What dockerd answers: its version and the runtimes that it knows, or None, none and the reason why it is silent."""

    version: str | None
    runtimes: dict[str, object]
    reason: str


def ask() -> Answer:
    """Ask dockerd once; a daemon that is not there is an answer, not an error."""
    try:
        done = _docker("version", "--format", "{{.Server.Version}}")
        if done.code != 0:
            said = printable(" ".join((done.stderr or done.stdout).split()), 300)
            return Answer(None, {}, said or f"exit code {done.code}")
        known = json.loads(_docker("info", "--format", "{{json .Runtimes}}").stdout)
    except NodeError as error:
        return Answer(None, {}, error.message)
    except ValueError:
        known = None
    return Answer(printable(done.stdout.strip(), 80), known if isinstance(known, dict) else {}, "")


def running_containers() -> list[str]:
    """Names of running containers that a restart of dockerd stops; empty where live-restore lets them live."""
    try:
        if _docker("info", "--format", "{{.LiveRestoreEnabled}}").stdout.strip() == "true":
            return []
        answer = _docker("ps", "--format", "{{.Names}}").stdout
    except NodeError:
        return []
    return [printable(name, 80) for name in answer.split()]


def problem(answer: Answer, version: str, runtime: str) -> str | None:
    """What is wrong with this answer, or None: it must be of `version` and know `runtime`."""
    if answer.version is None:
        return f"dockerd does not answer ({answer.reason})"
    if answer.version != version:
        return f"dockerd answers version {answer.version}, expected {version}"
    if runtime not in answer.runtimes:
        return f"dockerd does not know the runtime {runtime}, only {', '.join(sorted(answer.runtimes)) or 'none'}"
    return None


def wait_until_well(version: str, runtime: str) -> Answer:
    """Wait for an answer without `problem`; raises NodeError `docker-unhealthy` with the last lines of dockerd's log."""
    end = time.monotonic() + HEALTH_TIMEOUT
    while (found := problem(answer := ask(), version, runtime)) is not None:
        if time.monotonic() >= end:
            raise NodeError(
                "docker-unhealthy",
                f"{found}, {HEALTH_TIMEOUT:g} s after the change; its log ends: {_log()}",
                "See 'journalctl -u docker' on the node, mend what it names, then run again",
            )
        time.sleep(1)
    return answer


def _log() -> str:
    try:
        text = run(["journalctl", "-u", "docker", "-n", "5", "-o", "cat", "--no-pager"], timeout=20, check=False).stdout
    except NodeError as error:
        return error.message
    return printable("; ".join(text.split("\n")).strip("; "), 600) or "empty"


def refuse_invalid(text: str) -> None:
    """Raise NodeError `file-invalid` with dockerd's own words when it would not start with this daemon.json."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        done = run(["dockerd", "--validate", "--config-file", file.name], timeout=CALL_TIMEOUT, check=False)
        if done.code != 0:
            said = printable((done.stderr.strip() or done.stdout.strip()).replace(file.name, PATH), 300)
            raise NodeError("file-invalid", f"dockerd refuses {PATH}: {said}", f"Correct {PATH} by hand, then run again")


def service(verb: str) -> None:
    """`reload`, `restart` or `reload-or-restart` dockerd; raises NodeError `command-failed` or `command-timeout`."""
    run(["systemctl", verb, "docker.service"], timeout=HEALTH_TIMEOUT, remedy="See 'systemctl status docker' on the node")
