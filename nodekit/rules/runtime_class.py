"""What a Kata RuntimeClass says: handler, overhead by release, where its pods may run."""

HANDLERS = {("qemu", "go"): "kata-qemu", ("qemu", "rust"): "kata-qemu-runtime-rs", ("firecracker", "go"): "kata-fc"}
"""Handler names of kata-deploy by hypervisor and runtime (kata-containers tools/packaging/kata-deploy)."""
NODE_LABEL = "katacontainers.io/kata-runtime"
"""Label of nodes that can run Kata, set by kata-deploy and by hand installations alike."""


def overhead(kata_version: str) -> dict[str, str]:
    """Pod overhead of the QEMU classes: 320Mi/250m from release 4.0.0, 160Mi/250m before (kata-deploy's own values)."""
    major = int(kata_version.split(".")[0])
    return {"memory": "320Mi" if major >= 4 else "160Mi", "cpu": "250m"}


def node_selector(kata_version: str) -> dict[str, str]:
    """Labels a node must carry: from release 4.1 kata-deploy sets a second one."""
    major, minor = (int(n) for n in kata_version.split(".")[:2])
    labels = {NODE_LABEL: "true"}
    if (major, minor) >= (4, 1):
        labels["kata-deploy.katacontainers.io/default"] = "true"
    return labels
