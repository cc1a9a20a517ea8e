"""What keeps a Job from its end beside the container that climbs: a failed init container, and the pod's other containers."""

from collections.abc import Mapping
from typing import Any

from nodekit.rules.text import printable

SHOWN = 300
"""Characters of a container's last words that stand in a sentence."""


def init_failure(pod: Mapping[str, Any], late: bool) -> str:
    """The init container that failed, or did not end in time, so that no other container was started; empty where none did.

    They start in order, so that of several it is the last one: a sidecar before it may run for as long as the pod.
    """
    statuses = pod.get("status", {}).get("initContainerStatuses") or []
    if late:
        hung = [each for each in statuses if "running" in (each.get("state") or {}) or _terminated(each, failed=True)]
        return f"the init container {_name(hung[-1])} did not end in time, so that the ladder never began" if hung else ""
    for status in statuses:
        if terminated := _terminated(status, failed=True):
            return f"the init container {_name(status)} {_end(terminated)} before the ladder began{_words(terminated)}"
    return ""


def unfinished(pod: Mapping[str, Any], climbing: str, late: bool) -> str:
    """Which other container than the `climbing` one failed the Job: by its own failure, or `late`, by not ending in time.

    Empty where none did. In a Job that is late, the end of a container is not its own: the deadline ended it.
    """
    others = [each for each in pod.get("status", {}).get("containerStatuses") or [] if each.get("name") != climbing]
    for status in others:
        terminated = _terminated(status, failed=True)
        if late and (terminated or not _terminated(status, failed=False)):
            return f"the container {_name(status)} beside it did not end in time"
        if terminated:
            return f"the container {_name(status)} beside it {_end(terminated)}{_words(terminated)}"
    return ""


def _terminated(status: Mapping[str, Any], *, failed: bool) -> Mapping[str, Any]:
    """The end of a container, of one that failed alone; empty where there is none."""
    terminated: Mapping[str, Any] = (status.get("state") or {}).get("terminated") or {}
    return terminated if terminated and (terminated.get("exitCode") or not failed) else {}


def _name(status: Mapping[str, Any]) -> str:
    return printable(str(status.get("name")), 63)


def _end(terminated: Mapping[str, Any]) -> str:
    return f"ended with {printable(str(terminated.get('exitCode')), 20)}"


def _words(terminated: Mapping[str, Any]) -> str:
    message = printable(" ".join(str(terminated.get("message") or "").split()), SHOWN)
    return f", with the message {message!r}" if message else ""
