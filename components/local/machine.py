"""A virtual machine on the machine that runs Pulumi, as a node for stacks that need no other."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any, Optional, TypedDict

import pulumi
from pulumi.output import UNKNOWN

from components.arguments import checked
from components.children import child_options
from components.local.command import local_command
from local.boot import BOOT_VARIABLE, SILENT_SECONDS, boot, hung, kernel_trouble


class LocalMachineArgs(TypedDict):
    """What the machine is."""

    node: pulumi.Input[str]
    """Name of the node."""
    directory: pulumi.Input[str]
    """Folder of its disk, keys and logs; made by `up`, removed when the machine is destroyed."""
    memory_mib: pulumi.Input[int]
    """Memory in MiB."""
    cores: pulumi.Input[int]
    """Number of cores under KVM; an emulated machine has one."""


async def start_of(directory: str, node: str) -> Any:
    """The name of the machine's start: the recorded one while it runs and answers, else a new one, which starts it again.

    Unknown in a preview where there is no machine: another name each time would make two previews of one program differ. A
    machine that was made and no longer runs is named in a warning, and so is one that hangs. A preview contacts no machine, so
    only `up` notices one that hangs.
    """
    folder = Path(directory)
    start = boot(folder)
    if not start.exists and pulumi.runtime.is_dry_run():
        return UNKNOWN
    # In a thread, since it waits: several machines are asked at the same time.
    if not pulumi.runtime.is_dry_run() and await asyncio.to_thread(hung, folder):
        trouble = kernel_trouble(folder)
        pulumi.log.warn(
            f"The machine of node {node} runs but has not answered on its SSH port for {SILENT_SECONDS} s ({directory}). It is "
            f"started again, and that node is proven again" + (f"; its console says:\n{trouble}" if trouble else ".")
        )
        return secrets.token_hex(6)
    if start.exists and not start.running:
        pulumi.log.warn(
            f"The machine of node {node} no longer runs ({directory}). `pulumi up` starts it again and proves that node again; "
            f"qemu.log and console.log in that folder show what it did last."
        )
    return start.name


class LocalMachine(pulumi.ComponentResource):
    """A Debian machine under QEMU, reached over SSH on a loopback port; its keys are its own and pinned.

    A machine that has died, or hangs, is started again by the next `up`, with the disk, the keys and the port that it had.
    """

    address: pulumi.Output[str]
    """Address of its SSH server."""
    port: pulumi.Output[int]
    """Port of its SSH server."""
    user: pulumi.Output[str]
    """Login user, with password-less sudo."""
    host_key: pulumi.Output[str]
    """Public host key."""
    private_key: pulumi.Output[str]
    """Private login key (secret)."""
    identity: pulumi.Output[str]
    """Changes when the machine is another one, and when it was started again."""
    accelerator: pulumi.Output[str]
    """kvm where a guest really booted with it, else tcg."""

    def __init__(self, name: str, args: LocalMachineArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, LocalMachineArgs, name, args)
        super().__init__("kata-nodes:index:LocalMachine", name, None, opts)
        spec = {
            "name": args["node"],
            "directory": args["directory"],
            "memoryMiB": pulumi.Output.from_input(args["memory_mib"]).apply(int),
            "cores": pulumi.Output.from_input(args["cores"]).apply(int),
        }
        start: pulumi.Output[str] = pulumi.Output.all(args["directory"], args["node"]).apply(lambda pair: start_of(*pair))
        self.machine = local_command(f"{name}-machine", "local.machine", spec, child_options(self, opts), {BOOT_VARIABLE: start})
        document = self.machine.stdout.apply(json.loads)
        # Secret because the private key is in the same document; the rest is not secret.
        public = pulumi.Output.unsecret(document)
        self.address = public.apply(lambda machine: str(machine["address"]))
        self.port = public.apply(lambda machine: int(machine["port"]))
        self.user = public.apply(lambda machine: str(machine["user"]))
        self.host_key = public.apply(lambda machine: str(machine["hostKey"]))
        self.identity = public.apply(lambda machine: f"{machine['hostKey']} {machine['boot']}")
        self.accelerator = public.apply(lambda machine: str(machine["accelerator"]))
        self.private_key = pulumi.Output.secret(document.apply(lambda machine: str(machine["privateKey"])))
        self.register_outputs(
            {
                "address": self.address,
                "port": self.port,
                "user": self.user,
                "hostKey": self.host_key,
                "privateKey": self.private_key,
                "identity": self.identity,
                "accelerator": self.accelerator,
            }
        )
