"""What the Helm chart of kata-deploy is told: QEMU alone, and the guests' kernel parameters as a drop-in, by release."""

import hashlib
from collections.abc import Sequence

from clusterkit import runtime_class
from clusterkit.pod_proof import TAINT
from nodekit.errors import NodeError
from nodekit.rules.kata import kata_config, kernel_params
from nodekit.rules.kata.guest_memory import pod_overhead
from nodekit.rules.kata.kata_layout import version_numbers
from nodekit.rules.node_state import merged_parameters

CHART = "oci://ghcr.io/kata-containers/kata-deploy-charts/kata-deploy"
"""The chart as Kata's installation guide names it."""
SHIMS = {"go": "qemu", "rust": "qemu-runtime-rs"}
"""Kata runtime -> the chart's shim for QEMU."""
CUSTOM_SINCE = (3, 26, 0)
"""First chart with `customRuntimes`, whose drop-in is written beside a copy of the base file."""
SHIM_DROP_IN_SINCE = (3, 32, 0)
"""First chart with `shims.<shim>.dropIn`, written as 50-user-overrides.toml beside the shim's own base file."""
ANNOTATIONS_SINCE = (4, 0, 0)
"""First chart with `podAnnotations`."""
BASE_SINCE = (3, 15, 0)
BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
"""`kernel_params` of the QEMU base files, both runtimes, from 3.15.0; empty before (`arch/amd64-options.mk`). A drop-in
replaces the whole string, so it stands in ours too: guests without it have stayed down."""
CUSTOM_HANDLER = "kata-nodes-qemu"
ROLL = "kata-nodes/drop-in"


def _numbers(version: str) -> tuple[int, int, int]:
    numbers = version_numbers(version)
    if numbers is None or numbers < CUSTOM_SINCE:
        raise NodeError(
            "bad-input",
            f"The chart of Kata {version} takes no drop-in for kernel parameters",
            f"Use {'.'.join(map(str, CUSTOM_SINCE))} or newer, or configure the nodes over SSH",
        )
    return numbers


def handler(version: str, runtime: str) -> str:
    """The handler whose guests get the parameters: the shim's own from 3.32.0, a custom runtime's before."""
    return f"kata-{SHIMS[runtime]}" if _numbers(version) >= SHIM_DROP_IN_SINCE else CUSTOM_HANDLER


def parameters(version: str, given: Sequence[str], nested_sandbox: bool) -> str:
    """The whole `kernel_params` of a guest: the release's own, then the document's and the given ones, merged by key."""
    wanted = merged_parameters(given, nested_sandbox)
    base = BASE if _numbers(version) >= BASE_SINCE else ""
    kernel_params.check(wanted, base)
    return kernel_params.merge(base, wanted)


def values(version: str, runtime: str, given: Sequence[str], nested_sandbox: bool, image: str | None = None) -> dict[str, object]:
    """The chart's values; `image` is the DaemonSet's without its tag, the chart's own when None.

    Raises NodeError `bad-input` for a release without drop-ins, or those of `kernel_params.check`.

    A changed drop-in changes the DaemonSet's pods, so that they roll and kata-deploy configures every node anew: by an
    annotation where the chart has one, before by a toleration of a taint that nobody sets.
    """
    numbers, shim = _numbers(version), SHIMS[runtime]
    drop_in = kata_config.drop_in("qemu", parameters(version, given, nested_sandbox))
    digest = hashlib.sha256(drop_in.encode()).hexdigest()[:16]
    chosen: dict[str, object] = {
        "shims": {"disableAll": True, shim: {"enabled": True}},
        "defaultShim": {"amd64": shim},
        # The classes of the stack are made after the proof of the nodes, by the stack.
        "runtimeClasses": {"enabled": False, "createDefault": False},
        "snapshotter": {"setup": []},
        # A node that waits for its proof gets Kata first.
        "tolerations": [{"key": TAINT, "operator": "Exists"}],
    }
    if image:
        chosen["image"] = {"reference": image}
    if numbers >= SHIM_DROP_IN_SINCE:
        chosen["shims"] = {"disableAll": True, shim: {"enabled": True, "dropIn": drop_in}}
    else:
        chosen["customRuntimes"] = {
            "enabled": True,
            "runtimes": {
                CUSTOM_HANDLER: {
                    "baseConfig": shim,
                    "dropIn": drop_in,
                    "runtimeClass": _class_text(version),
                    "containerd": {"snapshotter": ""},
                    "crio": {"pullType": ""},
                }
            },
        }
    if numbers >= ANNOTATIONS_SINCE:
        chosen["podAnnotations"] = {ROLL: digest}
    else:
        rolling = {"key": ROLL, "operator": "Equal", "value": digest, "effect": "NoSchedule"}
        chosen["tolerations"] = [{"key": TAINT, "operator": "Exists"}, rolling]
    return chosen


def _class_text(version: str) -> str:
    """The RuntimeClass that the chart insists on for a custom runtime: it reads the handler out of this text, line by line."""
    overhead = pod_overhead(version)
    return (
        "kind: RuntimeClass\napiVersion: node.k8s.io/v1\n"
        f"metadata:\n  name: {CUSTOM_HANDLER}\n  labels:\n    app.kubernetes.io/managed-by: kata-deploy\n"
        f"handler: {CUSTOM_HANDLER}\n"
        f"overhead:\n  podFixed:\n    memory: {overhead['memory']}\n    cpu: {overhead['cpu']}\n"
        f'scheduling:\n  nodeSelector:\n    {runtime_class.NODE_LABEL}: "true"\n'
    )
