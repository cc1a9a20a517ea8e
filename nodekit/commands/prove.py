"""The verb `prove`: boot the guest that Kata would boot, climb the ladder in it, then climb it in a container of the runtime."""

import math
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError, remedy_for
from nodekit.host import docker, initramfs, kata_archive, kata_shims, proofs
from nodekit.host.container import climb, kata_log, own_image
from nodekit.host.guest import TRIES, Plan, boot, boot_patiently, find_qemu, memory_for_guest, new_nonce
from nodekit.host.kata import Effective, effective
from nodekit.host.kata_start import refuse_what_kata_refuses
from nodekit.host.node import boot_id, emulated
from nodekit.host.process import Finished
from nodekit.progress import say, step
from nodekit.rules.kata import guest_memory
from nodekit.rules.kata.kata_config import KEY
from nodekit.rules.kata.kata_layout import INSTALL_FOLDER, SHIM, release_shim
from nodekit.rules.node_state import RUNTIME_NAME, ProveState
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.rules.proof.console import SHOWN, Explanation, agent_silent, errors_logged, explain_docker, known_fault
from nodekit.rules.proof.guest_command_line import boot_cpus, compose
from nodekit.rules.proof.ladder import SLOW, Verdict, judge, ran_before
from nodekit.rules.text import printable

ACCELERATOR = "kvm"
"""Kata runs QEMU with KVM only."""
CONTAINER_SECONDS = 60
"""Least time that the container proof is given, however long the guest took."""
INCOMPLETE = "proof-transcript-incomplete"
"""The code of a ladder that was begun and cut short: what cut it is known here and not to its judge."""
OWN_BOOT_SECONDS = 30
"""Time that Kata's own first process is watched when the runtime failed without a reason."""


class Proof(NamedTuple):
    """What a proof is of."""

    node: str
    hypervisor: str
    runtime: str
    expect: list[str]
    sandbox: str | None
    """Which of SANDBOXES is promised to work in the guest, if any."""
    effective: Effective
    root: Path
    climbed: Callable[[str, Verdict], None] = lambda place, verdict: None
    """Gets each verdict with its place, before a failed one is raised."""

    def host_path(self, path: object) -> str | None:
        """A file that the configuration names, under the root folder; None when it names none."""
        return str(self.root / str(path).lstrip("/")) if path else None


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Prove the node as `desired`, a ProveState, says; changes nothing but the node's record of its proofs.

    Raises NodeError with a code of the ladder, `kata-would-refuse`, `proof-guest-not-up`, `proof-container-failed`, or one of
    reading Kata's configuration.
    """
    state = ProveState.read(desired)
    with proofs.recorded(root, state) as attempt:
        attempt.result = _proven(state, root, attempt)
        return attempt.result


def _proven(state: ProveState, root: Path, attempt: proofs.Attempt) -> dict[str, object]:
    """The result of a proof that is passed."""
    begin = time.monotonic()
    proof = Proof(
        node=state.node,
        hypervisor=state.hypervisor,
        runtime=state.runtime,
        expect=state.expect,
        sandbox=state.sandbox,
        effective=effective(root, runtime=state.runtime, hypervisor=state.hypervisor, config_path=state.config_path),
        root=root,
        climbed=attempt.climbed,
    )
    refuse_what_kata_refuses(root, proof.effective, proof.hypervisor, proof.runtime, proof.node)
    with step("proof: the ladder in a booted guest"):
        verdict, notes, attempts = guest_proof(proof, state.timeout_seconds)
    proven = "guest"
    answer = docker.ask(root)
    reason = no_container(proof, answer, state.image)
    if reason:
        notes.append(f"{reason}: the guest boot alone was proven")
    else:
        left = max(CONTAINER_SECONDS, state.timeout_seconds - (time.monotonic() - begin))
        with step(f"proof: the ladder in a container of the runtime {RUNTIME_NAME}"):
            verdict = container_proof(proof, state.image, left)
        proven = "container"
    return {
        "node": proof.node,
        "changed": False,
        "passed": True,
        "hypervisor": proof.hypervisor,
        "sandbox": proof.sandbox,
        "proven": proven,
        "bootId": boot_id(root),
        "image": state.image if proven == "container" else None,
        "rungs": [rung.as_dict() for rung in verdict.rungs],
        "userNamespaces": verdict.user_namespaces,
        "guestKernel": verdict.guest_kernel,
        "commandLine": verdict.command_line,
        "configFile": proof.effective.config_file,
        "kernelParams": proof.effective.kernel_params,
        "dockerVersion": answer.version,
        "note": "; ".join(notes),
        "attempts": attempts,
        # Without a record, as on a full disk, it shows which of this and a recorded proof is the newer one.
        "began": attempt.began,
    }


def require_passed(proof: Proof, where: str, verdict: Verdict) -> None:
    """Keep the verdict, and raise its failure, naming node and place; nothing more when it passed.

    The rungs are printed as progress: the engine repeats a failed command's whole output, in which one sentence must stand out.
    """
    proof.climbed(where, verdict)
    if verdict.code is None:
        return
    for rung in verdict.rungs:
        if rung.passed is False:
            say(f"  rung {rung.name}: failed ({rung.detail or rung.value})")
    raise NodeError(
        verdict.code,
        f"Node {proof.node}, {where}: {verdict.message}",
        remedy=verdict.remedy,
        details={"userNamespaces": verdict.user_namespaces, "guestKernel": verdict.guest_kernel},
    )


def plan_of(proof: Proof, nonce: str) -> Plan:
    """The guest that Kata would boot, with our first process in it."""
    table = proof.effective.hypervisor
    qemu = proof.host_path(table.get("path")) if proof.hypervisor == "qemu" else None
    qemu = qemu or find_qemu()
    if qemu is None:
        raise NodeError("tool-missing", f"Node {proof.node} has no QEMU to boot the proof's guest with", package="QEMU")
    kernel, initrd, image = (proof.host_path(table.get(key)) for key in ("kernel", "initrd", "image"))
    if kernel is None or (initrd is None and image is None):
        raise NodeError(
            "file-invalid",
            f"{proof.effective.config_file} names no {'kernel' if kernel is None else 'initrd or image'} for {proof.hypervisor}",
            "hypervisor",
        )
    cpus = os.cpu_count() or 1
    own = initramfs.build(nonce, None if initrd else str(table.get("rootfs_type") or "ext4"), proof.sandbox)
    return Plan(
        qemu=qemu,
        kernel=kernel,
        initrd=(Path(initrd), own) if initrd else (own,),
        image=None if initrd else image,
        append=compose(
            table,
            proof.effective.kernel_params,
            runtime=proof.runtime,
            hypervisor=proof.hypervisor,
            cpus=cpus,
            first_process=initramfs.FIRST_PROCESS,
        ),
        memory_mib=memory_for_guest(guest_memory.of_guest(table.get("default_memory"), proof.runtime)),
        vcpus=boot_cpus(table, cpus),
        end=f"{nonce} end",
    )


def guest_proof(proof: Proof, seconds: float) -> tuple[Verdict, list[str], int]:
    """The verdict on a booted guest, notes, and how many boots it took. Raises NodeError when it is not passed."""
    nonce = new_nonce()
    plan = plan_of(proof, nonce)
    slow = emulated()
    result, attempts, why = boot_patiently(plan, accel=ACCELERATOR, timeout=seconds / 3 if slow else seconds, emulated=slow)
    if why is not None and nonce not in result.console:
        raise NodeError(
            "proof-guest-not-up",
            f"Node {proof.node}: the guest that Kata would boot did not reach user space within {result.seconds:g} s "
            f"(boot {attempts}, kernel {plan.kernel}): {why.cause}",
            remedy=why.remedy,
            details={"commandLine": plan.append, "console": printable(result.console[-2000:])},
        )
    verdict = judge(result.console, nonce, boot_id(proof.root), proof.expect, sandbox=proof.sandbox)
    if why is not None and verdict.code == INCOMPLETE:
        if why.retry and result.timed_out:
            why = Explanation(
                f"it did not end within {result.seconds:g} s", f"Raise verification.timeoutSeconds, or run again. {SLOW}"
            )
        verdict = verdict._replace(message=f"{verdict.message}: {why.cause}", remedy=why.remedy)
    if verdict.code == "proof-parameters-missing":
        verdict = verdict._replace(message=f"{verdict.message}; {_parameters_of(proof)}")
    require_passed(proof, "booted guest", verdict)
    notes = []
    if attempts > 1:
        notes.append(f"the guest hung or stopped {attempts - 1} time(s) before it came up: this node is emulated")
    configured = guest_memory.of_guest(proof.effective.hypervisor.get("default_memory"), proof.runtime)
    if configured > plan.memory_mib:
        notes.append(f"the guest had {plan.memory_mib} MiB, not default_memory = {configured}: the node has no more memory free")
    return verdict, notes, attempts


def _parameters_of(proof: Proof) -> str:
    """The parameters that Kata reads, and the file that has them; its configuration may set none."""
    effective = proof.effective
    return f"{KEY} is {printable(effective.kernel_params, 200)!r}, set by {effective.sources.get(KEY, effective.config_file)}"


def no_container(proof: Proof, answer: docker.Answer, image: str | None) -> str | None:
    """Why no container is started, or None when one is. A container that was asked for by its image is never left out.

    Raises NodeError `proof-container-failed` where a container was asked for, or Kata has a shim, and Docker does not answer;
    `kata-not-found` where Docker's runtime has lost its shim.
    """
    if image is None:
        if proof.effective.shim is None:
            _refuse_lost_shim(proof, answer)
            return "no Kata shim on this node"
        if proof.hypervisor == "firecracker":
            # It takes block devices alone, as containerd's devmapper snapshotter makes them; Docker's driver went with 25.0
            # (kata-containers docs/how-to/how-to-use-kata-containers-with-firecracker.md; Docker's release notes).
            return "Docker has no storage driver for Firecracker"
        if answer.version is None and shutil.which("docker") is None:
            return "this node has no Docker"
    if answer.version is None:
        installed = shutil.which("docker") is not None
        raise NodeError(
            "proof-container-failed",
            f"Node {proof.node}: dockerd does not answer: {answer.reason}"
            if installed
            else f"Node {proof.node} has no Docker, and a container of the image {printable(str(image), 200)} was asked for",
            "docker-stopped" if installed else "no-docker",
        )
    return None


def _refuse_lost_shim(proof: Proof, answer: docker.Answer) -> None:
    """Refuse a node on which Docker has our runtime and nothing that could start it, unless our release came without a shim."""
    shim = release_shim(proof.runtime)
    lost = shim in [f"{INSTALL_FOLDER}/{name}" for name in kata_archive.missing(proof.root)]
    if not lost and (RUNTIME_NAME not in answer.runtimes or kata_archive.installed(proof.root) is not None):
        return
    lacking = f"{shim} is missing" if lost else f"no {SHIM} is in {', '.join(kata_shims.folders(proof.root))} or in a release"
    raise NodeError(
        "kata-not-found",
        f"Node {proof.node}: a container of the runtime {RUNTIME_NAME} would not start: {lacking}",
        "shim-lost" if lost else "shim",
    )


def container_proof(proof: Proof, image: str | None, seconds: float, network: bool = True) -> Verdict:
    """The verdict on a container, of `image` or of one that is made from this node's files; both are gone on return.

    Raises NodeError when it is not passed: with a code of the ladder, `proof-base-parameters-lost` or `proof-container-failed`.
    """
    nonce, began = new_nonce(), time.monotonic()
    with nullcontext(image) if image else own_image(nonce, proof.sandbox) as name:
        container = patiently(proof, nonce, str(name), network, seconds)
    if nonce not in container.stdout:
        why = explain_docker(container.stderr)
        if agent_silent(container.stderr):
            why = own_console(proof) or why
        message = (
            f"Node {proof.node}: the container of runtime {RUNTIME_NAME} did not start (exit code {container.code}): {why.cause}"
        )
        if why.base_parameters:
            raise NodeError(
                "proof-base-parameters-lost",
                f"{message}; {_parameters_of(proof)}",
            )
        raise NodeError("proof-container-failed", message, remedy=why.remedy)
    place = "image" if image else "guest"
    verdict = judge(
        container.stdout, nonce, boot_id(proof.root), proof.expect, sandbox=proof.sandbox, network=network, place=place
    )
    age = time.monotonic() - began
    if verdict.code is None and ran_before(verdict.guest_kernel, (rung.at for rung in verdict.rungs), os.uname().release, age):
        why_not = "the kernel is of the node's release and ran before the container was started, so this ran in no guest"
        verdict = verdict._replace(code="proof-not-a-guest", message=why_not, remedy=remedy_for("proof-not-a-guest"))
    if container.code != 0 and verdict.code == INCOMPLETE:
        output = printable(" ".join(container.stderr.split()), SHOWN) or "nothing"
        ending = f"the container ended with exit code {container.code} (Docker: {output})"
        verdict = verdict._replace(message=f"{verdict.message}: {ending}")
    require_passed(proof, f"container of runtime {RUNTIME_NAME}", verdict)
    return verdict


def patiently(proof: Proof, nonce: str, image: str, network: bool, seconds: float) -> Finished:
    """The last container, of `TRIES` at most, all within `seconds`.

    As with guests: one whose guest never answers is tried again, and only on an emulated node, where that is known to happen.
    """
    deadline = time.monotonic() + seconds
    tries = TRIES if emulated() else 1
    for attempt in range(1, tries + 1):
        container = started(proof, nonce, image, network, max(1.0, deadline - time.monotonic()))
        if nonce in container.stdout or not agent_silent(container.stderr) or time.monotonic() > deadline:
            break
        say(f"the guest of the container did not answer on this emulated node (container {attempt} of {tries})")
    return container


def started(proof: Proof, nonce: str, image: str, network: bool, seconds: float) -> Finished:
    """How the ladder's container ended; raises NodeError `proof-container-failed` for one without an end."""
    capabilities, began = CAPABILITIES if proof.sandbox else (), time.time()
    try:
        return climb(nonce, RUNTIME_NAME, image, network=network, capabilities=capabilities, seconds=seconds)
    except NodeError as error:
        if error.code == "command-output-too-long":
            raise NodeError(
                "proof-container-failed",
                f"Node {proof.node}: the container of runtime {RUNTIME_NAME} printed without end and was removed; it began with: "
                f"{error.details['printed']}",
                "noisy",
                runtime=RUNTIME_NAME,
            ) from None
        if error.code != "command-timeout":
            raise
        late = f"Node {proof.node}: the container of runtime {RUNTIME_NAME} did not end within {math.ceil(seconds)} s"
        # The Go shim of 3.32.0 waits without end where QEMU has ended before the guest ran, as without its virtiofsd.
        if logged := errors_logged(kata_log(began)):
            raise NodeError("proof-container-failed", f"{late}; Kata's log: {logged}", "logged") from None
        raise NodeError("proof-container-failed", late, "time") from None


def own_console(proof: Proof) -> Explanation | None:
    """What the console shows when the guest starts Kata's own first process: the fault that a runtime reports as a mere timeout.

    None when the console names none.
    """
    table = proof.effective.hypervisor
    whole = plan_of(proof, new_nonce())
    append = compose(
        table,
        proof.effective.kernel_params,
        runtime=proof.runtime,
        hypervisor=proof.hypervisor,
        cpus=os.cpu_count() or 1,
        first_process=None,
    )
    if whole.image is not None:
        append += " root=/dev/vda1 rootflags=ro"  # the disk is attached as virtio-blk here, whatever Kata takes
    result = boot(
        whole._replace(initrd=whole.initrd[:-1], append=append),
        accel=ACCELERATOR,
        timeout=OWN_BOOT_SECONDS * (2 if emulated() else 1),
    )
    fault = known_fault(result.console)
    if fault is None and "Power down" in result.console and "ttRPC server started" not in result.console:
        return Explanation(
            "the guest's first process ended by itself before Kata's agent listened, as in a guest without vsock",
            "Use an initrd or image that belongs to this kernel and holds its modules for vsock",
        )
    return fault
