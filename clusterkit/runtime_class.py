"""What a Kata RuntimeClass says: handler, and where its pods may run."""

import re

from clusterkit import label_selector
from nodekit.errors import NodeError
from nodekit.rules.kata import kata_layout
from nodekit.rules.text import printable

HANDLERS = {("qemu", "go"): "kata-qemu", ("qemu", "rust"): "kata-qemu-runtime-rs", ("firecracker", "go"): "kata-fc"}
"""Handler names of kata-deploy by hypervisor and runtime (kata-containers tools/packaging/kata-deploy)."""
NODE_LABEL = "katacontainers.io/kata-runtime"
"""Label of nodes that can run Kata, set by kata-deploy and by hand installations alike."""
TAINT = "kata-nodes/unproven"
"""Key of the taint of a node that joined and is not proven yet. The proof's pods tolerate it, and others of the class may not."""
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def is_qemu(handler: str) -> bool:
    """Whether a handler's name says QEMU, as those of kata-deploy do; clouds and distributions choose names that say nothing."""
    return "qemu" in handler


def node_selector(kata_version: str) -> dict[str, str]:
    """Labels a node must carry: from release 4.1 kata-deploy sets a second one. Raises NodeError `bad-input`."""
    major, minor, _ = kata_layout.release(kata_version)
    labels = {NODE_LABEL: "true"}
    if (major, minor) >= (4, 1):
        labels["kata-deploy.katacontainers.io/default"] = "true"
    return labels


def toleration(taint: str) -> dict[str, str]:
    """The toleration of a taint in the words of `kubectl taint`: KEY[=VALUE][:EFFECT]; no value tolerates every one.

    Raises NodeError `bad-input` for any other text.
    """
    shape = re.fullmatch(rf"({label_selector.KEY})(?:=({label_selector.VALUE}))?(?::([A-Za-z]+))?", taint)
    if not shape or shape[3] not in (None, *EFFECTS):
        raise NodeError(
            "bad-input",
            f"toleration {printable(repr(taint), 160)} is not KEY[=VALUE][:EFFECT]",
            expected=f"the form of kubectl taint, with one of {EFFECTS}",
        )
    key, value, effect = shape.groups()
    tolerated = {"key": key, "operator": "Exists"} if value is None else {"key": key, "operator": "Equal", "value": value}
    return tolerated | ({"effect": effect} if effect else {})


def adopted(name: str, handler: str, expected: str | None) -> str:
    """Name of a class that was there already; raises NodeError `runtime-class-handler` where it has another handler than the
    expected one. Without one, only the proof shows whether it leads to Kata: clouds and distributions choose their own names.
    """
    if expected and handler != expected:
        raise NodeError("runtime-class-handler", f"RuntimeClass {name} uses the handler {handler!r}, not {expected!r}")
    return name
