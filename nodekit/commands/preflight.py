"""The verb `preflight`: boot a tiny guest on this node; what is present or missing only explains a failure."""

import os
from pathlib import Path

from nodekit.commands.docker import taken_back
from nodekit.errors import NodeError
from nodekit.host import cluster_runtime, initramfs, kata_handler, modules, virtualization
from nodekit.host.guest import Plan, boot_patiently, find_qemu, memory_for_guest, new_nonce
from nodekit.host.journal import Transaction
from nodekit.host.kata_readiness import refuse_unready
from nodekit.host.lock import node_lock
from nodekit.host.node import emulated, os_release
from nodekit.host.signals import undisturbed
from nodekit.host.virtualization import Presence
from nodekit.progress import step
from nodekit.rules.kata import containerd_config
from nodekit.rules.kata.kernel_modules import DEVICES, KVM_MODULES, needed
from nodekit.rules.node_state import PreflightState
from nodekit.rules.text import printable

ACCELERATOR = "kvm"
"""The preflight asks whether guests run as Kata runs them."""
MEMORY_MIB = 256
"""Memory of the tiny guest."""
BOOT_SECONDS = 60
"""Bound on each boot of it; an emulated node, whose one core does the work of both, gets twice as long."""
LOCK_SECONDS = 60
"""Longest wait for another run on this node."""
JOURNAL = "preflight"
MODULES_RECORD = "modules"
"""The journal's record of the modules that were not loaded before, in the order in which they were loaded."""


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Check that Kata can be installed and registered, load the modules now and at each start, boot a guest.

    `desired` is a PreflightState. Raises NodeError `preflight-no-kvm`, `preflight-module-missing` or
    `preflight-guest-not-up`, and as `kata_readiness.refuse_unready` and `cluster_runtime.find`.
    """
    state = PreflightState.read(desired)
    node = state.node
    system = os_release(root)
    slow = emulated()
    with node_lock(root, LOCK_SECONDS):
        if state.handler is not None:
            containerd_config.check(state.handler.name, state.handler.pod_annotations)
            runtime = cluster_runtime.find(root, node, state.handler.runtime)
            snapshotter = containerd_config.SNAPSHOTTERS.get(state.kata.hypervisor) if state.kata else None
            kata_handler.refuse_snapshotter(node, runtime, state.handler.name, snapshotter)
        own_qemu = refuse_unready(root, node, state.kata, taken_back(root)) if state.kata else None
        flag = virtualization.cpu_flag()
        required = needed(flag)
        new = [module for module in required if module not in modules.loaded(root) | modules.built_in(root)]
        with Transaction(root, JOURNAL) as change:
            known = change.recorded(MODULES_RECORD)
            if new:
                earlier = [str(module) for module in known] if isinstance(known, list) else []
                change.remember(MODULES_RECORD, list(dict.fromkeys([*earlier, *new])))
            try:
                answers = {module: modules.load(module) for module in required}
                hardware = virtualization.presence(flag)
                refuse_missing(node, hardware, answers)
            except BaseException:
                with undisturbed():
                    modules.unload(root, new)
                    if known is None:
                        change.forget(MODULES_RECORD)
                    else:
                        change.remember(MODULES_RECORD, known)
                raise
            changed = virtualization.keep(root, change, required) or bool(new)
    guest: dict[str, object] = {"booted": None, "seconds": 0.0, "qemu": "", "kernel": "", "attempts": 0}
    kernel = f"/boot/vmlinuz-{os.uname().release}"
    qemu = own_qemu or find_qemu()
    if qemu is None:
        explanation = "the node has no QEMU until Kata is installed: the proof boots a guest with Kata's own"
    elif not os.access(kernel, os.R_OK):
        explanation = f"the node's own kernel is not at {kernel}: the proof boots a guest with Kata's own"
    else:
        with step(f"preflight: a guest of {kernel} under {qemu}"):
            guest, explanation = tiny_guest(node, qemu, kernel, slow)
    return {
        "node": node,
        "changed": changed,
        "os": {"id": system.id, "versionId": system.version_id, "codename": system.codename},
        "emulated": slow,
        "kvm": hardware.as_dict(),
        "guest": guest,
        "explanation": explanation,
    }


def refuse_missing(node: str, hardware: Presence, answers: dict[str, str]) -> None:
    """Raise the error for what is missing; `answers` is what modprobe answered, by module."""
    if not hardware.kvm:
        if hardware.flag is None:
            cause = "its processor has neither vmx nor svm"
        else:
            answer = answers[KVM_MODULES[hardware.flag]]
            fault = f"cannot be loaded: {answer}" if answer else "is loaded and provides no usable device"
            cause = f"{KVM_MODULES[hardware.flag]} {fault}"
        raise NodeError("preflight-no-kvm", f"Node {node} has no usable /dev/kvm: {cause}", details={"kvm": hardware.as_dict()})
    for module, is_present in hardware.devices.items():
        if not is_present:
            raise NodeError(
                "preflight-module-missing",
                f"Node {node} has no {DEVICES[module]}: {answers[module] or f'{module} is loaded and provides none'}",
                module=module,
                details={"kvm": hardware.as_dict()},
            )


def tiny_guest(node: str, qemu: str, kernel: str, slow: bool) -> tuple[dict[str, object], str]:
    """The `guest` object, and a note on it. Raises NodeError `preflight-guest-not-up`."""
    nonce = new_nonce()
    plan = Plan(
        qemu=qemu,
        kernel=kernel,
        initrd=(initramfs.build(nonce),),
        image=None,
        append=f"console=ttyS0 quiet panic=1 reboot=k rdinit={initramfs.FIRST_PROCESS}",
        memory_mib=memory_for_guest(MEMORY_MIB),
        vcpus=1,
        end=f"{nonce} end",
    )
    result, attempts, why = boot_patiently(plan, accel=ACCELERATOR, timeout=BOOT_SECONDS * (2 if slow else 1), emulated=slow)
    guest: dict[str, object] = {
        "booted": result.reached,
        "seconds": result.seconds,
        "qemu": qemu,
        "kernel": kernel,
        "attempts": attempts,
    }
    if why is not None:
        raise NodeError(
            "preflight-guest-not-up",
            f"Node {node}: no guest reached user space in {result.seconds:g} s (boot {attempts}, {qemu}, {kernel}): {why.cause}",
            remedy=why.remedy,
            details={"guest": guest, "console": printable(result.console[-2000:])},
        )
    again = f" after {attempts - 1} that hung, as happens on an emulated node" if attempts > 1 else ""
    return guest, f"a guest of the node's own kernel reached user space in {result.seconds:g} s{again}"
