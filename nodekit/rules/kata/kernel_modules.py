"""The kernel modules that Kata needs on a node, and the devices that show that they work."""

KVM_MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}
"""Flag of /proc/cpuinfo -> module that serves it."""
DEVICES = {"vhost_vsock": "/dev/vhost-vsock", "vhost_net": "/dev/vhost-net", "tun": "/dev/net/tun"}
"""Module -> the device that shows that it works; Kata needs all three."""


def needed(flag: str | None) -> list[str]:
    """Those for a processor with this flag, in the order in which they are loaded."""
    return [*([KVM_MODULES[flag]] if flag else []), *DEVICES]
