"""Name the places between two effects, and end there on request: a test kills the program at each of them in turn."""

import os
import signal

VARIABLE = "KATA_NODES_KILL_AT"
"""Environment variable `NAME` or `NAME:N`: the process kills itself (SIGKILL) when it comes to that point for the N-th time."""
POINTS = {
    "lock-taken": "the node's lock is ours, nothing else was done",
    "folder-made": "a folder on the way to a file was made, the file not yet",
    "content-written": "new content is on the disk without a name, the old is in place",
    "content-named": "new content has a name in this program's own folder, the old is in place",
    "content-placed": "new content is in place of the old, the folder is not synced yet",
    "file-removed": "a file was removed, the folder is not synced yet",
    "change-done": "a file was changed and its journal entry written; the next step has not begun",
    "folder-removed": "a folder that this program had made was removed again",
    "files-restored": "files of a journal are as they were first; the journal is still there",
    "module-loaded": "a kernel module was loaded, the next not yet",
    "module-unloaded": "a kernel module that this program had loaded was unloaded",
    "packages-settled": "packages that an interrupted dpkg had left half done are done",
    "index-read": "the repository's index was read",
    "packages-changing": "apt has begun, and goes on without this program",
    "packages-changed": "apt has installed or removed packages, and let go of their holds",
    "packages-purged": "what removed packages had left was purged",
    "packages-marked": "packages were held, let go, or marked as installed automatically",
    "service-told": "dockerd was asked to reload or restart",
    "runtime-restarted": "the cluster's container runtime was restarted, and has not answered yet",
    "archive-downloaded": "the Kata archive lies in this program's own folder",
    "archive-member-unpacked": "one more member of the Kata archive was unpacked there",
    "archive-unpacked": "the Kata archive was unpacked there as a whole",
    "archive-prepared": "the new release holds our parameters and is on the disk; what the old one held is in place",
    "archive-placed": "the new release is in place; what was there before lies in this program's own folder",
    "archive-file-returned": "one more file that the release had lost is back in its place",
    "archive-displaced": "the release that this program had installed was moved out of its place",
    "leftovers-removed": "what an earlier run or the old release left was removed",
}
"""Name -> what is done and what is not when the process comes there."""

_seen: dict[str, int] = {}


def reach(name: str) -> None:
    """Come to a point; the process ends here, without any clean-up, when `KATA_NODES_KILL_AT` says so."""
    if name not in POINTS:
        raise KeyError(f"{name} is not in the list of failure points")
    target, _, number = os.environ.get(VARIABLE, "").partition(":")
    if target == name:
        _seen[name] = _seen.get(name, 0) + 1
        if _seen[name] == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
