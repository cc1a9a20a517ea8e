"""A machine made into a Kata node over SSH, and proven: four connections, for all that a first run does there."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NotRequired, Optional, TypedDict

import pulumi

from components.arguments import checked
from components.nodes.node_children import NodeChildren
from components.nodes.node_connection import ROOT, reached
from components.nodes.node_states import CONVERGE_SECONDS, settings_of
from components.nodes.rollout import Member
from components.nodes.settings import Connection, DockerSettings, KataSettings, Verification
from components.plain import derived, set_or, unsecret
from components.refusals import reporting_refusals
from delivery import bundle, login
from delivery.scripts import sent

PROGRAM_FOLDER = "/usr/local/lib/kata-nodes"
PROGRAM_SECONDS = 900
"""Bound on the installation of the program (converge.sh)."""


class KataNodeArgs(TypedDict):
    """A machine that answers SSH, and what it becomes."""

    node: NotRequired[pulumi.Input[str]]
    """Name of the node in messages and evidence; by default the component's own."""
    connection: Connection
    """How to log in to it."""
    docker: NotRequired[DockerSettings]
    """Docker on it; by default 27.5.1, held."""
    kata: NotRequired[KataSettings]
    """Kata on it; by default the official release 3.32.0 with QEMU, for a nested sandbox."""
    verification: NotRequired[Verification]
    """How it is proven."""
    gone: NotRequired[bool]
    """Whether the machine no longer exists: nothing is done on it, and nothing is undone over SSH when it leaves the stack.
    Plain, because it decides which resources there are to change."""


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def name_on_machine(name: str) -> str:
    """The component's name as the machine records it and a shell takes it: another one for every other name. Of two that were the
    same, the removal of one would undo what the other has made, as when `my node` becomes `my-node`."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


class KataNode(pulumi.ComponentResource):
    """Makes one machine a Kata node and proves it.

    Children, each after the one before: `-system` (refuses an unknown operating system; its removal undoes the node), `-upload`
    (the node program), `-converge` (installs it, boots a tiny guest, then brings Docker with version, hold and runtime, and Kata
    with files and `kernel_params`), `-proof` (fails the stack unless the guest passes the ladder). Depend on the component, or
    use `evidence`, to come after the proof.
    """

    evidence: pulumi.Output[dict[str, Any]]
    """The proof's result: rungs, reading, guest kernel, parameters, file read."""
    docker_version: pulumi.Output[str]
    """Version that dockerd answered."""
    config_file: pulumi.Output[str]
    """The configuration file that Kata really reads."""
    kernel_params: pulumi.Output[str]
    """The effective `kernel_params` of that file."""
    user_namespaces: pulumi.Output[int]
    """What /proc/sys/user/max_user_namespaces reads in the guest."""
    guest_kernel: pulumi.Output[str]
    """Kernel release of the guest."""
    machine_id: pulumi.Output[str]
    """The machine's own id (machine-id(5)), which its kubelet reports to a cluster."""

    summary: pulumi.Output[dict[str, Any]]
    """Name, address and the values above in one object, as stack output."""

    def __init__(
        self,
        name: str,
        args: KataNodeArgs,
        opts: Optional[pulumi.ResourceOptions] = None,
        member: Optional[Member] = None,
    ) -> None:
        """`member` is given by a pool that changes its machines in waves."""
        args = checked(self, KataNodeArgs, name, args)
        settings = settings_of(args)
        node, gone = set_or(args.get("node"), name), args.get("gone", False)
        plan = {"node": node, **reached(args["connection"]), **settings.plan, **({"gone": True} if gone else {})}
        super().__init__("kata-nodes:index:KataNode", name, {"plan": plan}, opts)
        pyz, digest, (offset, length, script_digest) = reporting_refusals(bundle.cached)()
        program = f"{PROGRAM_FOLDER}/nodekit-{digest[:12]}.pyz"
        uploaded = f".kata-nodes-{digest[:12]}.pyz"
        identity = args["connection"].get("identity")
        if not isinstance(identity, str) or not identity:
            pinned = reporting_refusals(lambda known, key: known or login.pinned(key, "node"))
            identity = derived(pinned, identity, args["connection"].get("host_key"))
        owner = f"{pulumi.get_project()}/{pulumi.get_stack()} {name_on_machine(name)}"
        # Another machine behind the same address and key must get the program too.
        # A command line is no place for a secret, and these hold none: a sum, and below whether the login user is root.
        machine = unsecret(derived(_sum, identity))
        children = NodeChildren(self, name, node if isinstance(node, str) else name, args["connection"], gone, opts, member)
        run = children.run
        # Whether the login user can become root is seen before anything is sent, and before the state has this login for the end.
        look = f"{run}--as-user timeout 60 sh -s -- --with-password" if run else "timeout 60 sh -s"
        # No triggers here: another machine behind the address is an update, since nothing can be removed any more from the one
        # before. To replace this one undoes the node first.
        system = children.command(
            "system",
            {
                "create": derived(lambda text: f"{look} # machine {text}", machine),
                # bootstrap.sh has a bound of its own within these, where it becomes root.
                "delete": f"{run}timeout 1800 sh -s -- --remove {owner}",
                "stdin": children.stdin_of(sent("system.sh")),
            },
            None,
            delete_before_replace=True,
        )
        source = pulumi.FileAsset(str(pyz))
        # It lies in the home of the login user, and an update alone sends nothing.
        user = set_or(args["connection"].get("user"), ROOT)
        copy = {"source": source, "remotePath": uploaded, "triggers": [identity, user, system.id, digest]}
        upload = children.child("upload", "CopyToRemote", copy, system)
        desired, to_prove = settings.states(node, {"program": digest, "machine": identity})

        def text_of(state: pulumi.Input[Mapping[str, Any]]) -> pulumi.Input[str]:
            return derived(lambda known: json.dumps(known, indent=1, sort_keys=True), state)

        async def seen_id() -> str:
            """The id of the machine that is about to be changed, as it was looked at."""
            return str(children.result(await system.recorded("stdout").future() or "", "system")["machineId"])

        script = sent("converge.sh", "delivery")
        install = f"{offset} {length} {script_digest} {CONVERGE_SECONDS} {uploaded} {program} {digest} {owner}"
        start = f"{run}timeout {PROGRAM_SECONDS + CONVERGE_SECONDS + 60} {login.handed(script, 'converge')}{install}"
        converge = children.command(
            "converge",
            {
                "create": derived(lambda text: f"{start} # machine {text}", machine),
                # A copy that is sent again (`pulumi up --replace`) must be put in place again.
                "update": derived(lambda text, sent: f"{start} again # machine {text}, upload {sent}", machine, upload.id),
                "stdin": children.stdin_of(derived(lambda text: script + text, text_of(desired))),
                # Where Docker was changed and Kata then fails, the state must not keep the Docker that was there before: with its
                # settings back, the next `up` would see no change. Kata alone is one transaction on the node.
                "triggers": [identity, derived(lambda state: _sum(json.dumps(state, sort_keys=True)), desired["docker"])],
            },
            upload,
            delete_before_replace=True,
            **({"hooks": children.hooks(seen_id)} if member and not gone else {}),
        )

        def prove(known: str | None, bound: float, changed: str) -> str:
            root = run or ("" if (known or ROOT) == ROOT else "sudo -n ")
            verb = f". {PROGRAM_FOLDER}/run.sh; nodekit {digest[:12]} prove"
            return f"{root}timeout --kill-after=30 {int(bound)} sh -c '{verb}' # run {changed}"

        # As it is now: where the machine was installed again and has its former key, -system is the same.
        self.machine_id = children.read(converge, "converge", lambda brought: str(brought["machineId"]))
        # Another proof for each run that took a step, and not only for other settings: where one failed, and the former settings
        # come back, `-converge` changes the node once more, and the state still holds the proof from before.
        changed = children.read(converge, "converge", lambda brought: str(brought["run"]))
        self.proof = children.command(
            "proof",
            {
                "create": unsecret(derived(prove, args["connection"].get("user"), settings.seconds["prove"], changed)),
                "stdin": children.stdin_of(text_of(to_prove)),
                "triggers": [identity],
            },
            converge,
            # One that was asked for and fails must not leave the one before: the next `up` would see no change, and pass.
            delete_before_replace=True,
        )

        # Under the stack's name for it: in the checklist, a node could otherwise speak for another one.
        if isinstance(node, str):
            self.evidence = children.read(self.proof, "prove", lambda proof: {**proof, "node": node})
        else:
            proven = pulumi.Output.all(children.read(self.proof, "prove", lambda proof: proof), node)
            self.evidence = proven.apply(lambda both: {**both[0], "node": both[1]})
        if member:
            self.evidence = member.released(self.evidence, self.machine_id)
        self.docker_version = children.read(converge, "converge", lambda brought: str(brought["dockerVersion"]))
        self.config_file = self.evidence.apply(lambda proof: str(proof["configFile"]))
        self.kernel_params = self.evidence.apply(lambda proof: str(proof["kernelParams"]))
        self.user_namespaces = self.evidence.apply(lambda proof: int(proof["userNamespaces"]))
        self.guest_kernel = self.evidence.apply(lambda proof: str(proof["guestKernel"]))

        def summary(proof: dict[str, Any]) -> pulumi.Output[dict[str, Any]]:
            return pulumi.Output.all(
                name=node,
                address=args["connection"]["address"],
                dockerVersion=self.docker_version,
                kernelParams=str(proof["kernelParams"]),
                configFile=str(proof["configFile"]),
                userNamespaces=int(proof["userNamespaces"]),
                guestKernel=str(proof["guestKernel"]),
                machineId=self.machine_id,
            )

        self.summary = self.evidence.apply(summary)
        # The rest is in here, or in the outputs of the proof: a state would keep it again for each node.
        self.register_outputs({"summary": self.summary})
