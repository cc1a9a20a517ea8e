"""A machine made into a Kata node over SSH, and proven: four connections, for all that a first run does there."""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NotRequired, Optional, TypedDict

import pulumi
from pulumi.output import UNKNOWN

from components.arguments import checked
from components.children import LEFT_ALONE, child_options
from components.nodes.connection_errors import explaining
from components.nodes.node_states import CONVERGE_SECONDS, settings_of
from components.nodes.rollout import Member
from components.nodes.settings import Connection, DockerSettings, KataSettings, Verification
from components.plain import derived, set_or, unsecret
from components.plugin_resource import PluginResource
from components.refusals import reporting_refusals
from components.whole_numbers import MOST_PORT, whole
from delivery import bundle, login, results
from delivery.scripts import sent
from nodekit.errors import NodeError
from nodekit.rules.text import printable

PROGRAM_FOLDER = "/usr/local/lib/kata-nodes"
PROGRAM_SECONDS = 900
"""Bound on the installation of the program (converge.sh)."""
DIALS, DIAL_SECONDS = 60, 15
"""Patience with a machine that is still starting: dials, at most 5 s apart, and the bound on each."""
ROOT = "root"
"""The login user where none is named."""
HOP = ("address", "port", "user", "host_key", "private_key")
"""What of a connection, and of its bastion, decides how a host is dialed."""

RECORDS = {"node": "connection", "bastion": "bastion"}
"""Host -> the argument that says how it is reached."""

UNPROVEN: dict[str, Any] = {
    "machineId": "", "dockerVersion": "", "run": "", "configFile": "", "kernelParams": "", "userNamespaces": 0, "guestKernel": "",
}  # fmt: skip
"""Stands for the results that a machine which is gone never had."""


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


def result_of(text: str, verb: str, resource: str) -> dict[str, Any]:
    """The result document of a verb; raises NodeError `result-missing` for anything else that a resource has printed."""
    try:
        return results.result(text, verb)
    except ValueError as error:
        raise NodeError(
            "result-missing",
            f"Resource {resource} has recorded no result of the verb {verb}, but {text[:80]!r}: {printable(str(error), 200)}",
            "look" if verb == "system" else "",
            resource=resource,
        ) from None


def connection_of(connection: Connection, gone: bool = False) -> pulumi.Output[dict[str, Any]]:
    """How to reach the node: directly or through its bastion, every host key pinned. In the plugin's own terms, and secret.

    In a preview, and where the machine is gone, it may have an empty address, with which the plugin would dial its own machine.
    It has None where `--target` leaves the machine out (Pulumi 3.255 and older).
    """
    hops: list[Mapping[str, Any]] = [connection, *([bastion] if (bastion := connection.get("bastion")) is not None else [])]
    values = [hop.get(key) for hop in hops for key in HOP]
    # As text: made of a record, it would be an output for each of its keys.
    reached = not gone and not pulumi.runtime.is_dry_run()
    text: pulumi.Output[str] = pulumi.Output.secret(derived(reporting_refusals(partial(_connection, reached)), *values))
    return text.apply(json.loads)


def _connection(reached: bool, *values: Any) -> str:
    hops = {"node": values[: len(HOP)], "bastion": values[len(HOP) :]}
    for host, hop in hops.items():
        if reached and hop and hop[0] == "":
            raise NodeError("host-address-invalid", f"The connection to the {host} has no address", "none")
    node = _hop("node", *hops["node"])
    if hops["bastion"]:
        node["proxy"] = _hop("bastion", *hops["bastion"])
    return json.dumps(node)


def _hop(host: str, address: str, port: object, user: str | None, host_key: str | None, private_key: str | None) -> Any:
    if private_key is not None:
        login.refuse_unusable(private_key, host)
    return {
        "host": address and login.host_address(address, host),
        "port": login.SSH_PORT if port is None else whole(f"{RECORDS[host]}.port", port, 1, MOST_PORT),
        "user": user or ROOT,
        "hostKey": login.pinned(host_key, host),
        **({} if private_key is None else {"privateKey": private_key}),
        "dialErrorLimit": DIALS,
        "perDialTimeout": DIAL_SECONDS,
    }


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def reached(connection: Connection) -> dict[str, pulumi.Input[Any]]:
    """How the node is dialed, for people who read a preview: every command has it too, as a part of a secret that two previews
    show alike. A private key in the place of a host key is refused before it is shown."""
    bastion = connection.get("bastion")

    def public_half(host_key: pulumi.Input[str]) -> pulumi.Input[str]:
        return derived(reporting_refusals(lambda key: key and login.public_half(key)), host_key)

    return {
        "address": connection["address"],
        "port": set_or(connection.get("port"), login.SSH_PORT),
        "user": set_or(connection.get("user"), ROOT),
        "hostKey": public_half(connection["host_key"]),
        "bastionAddress": bastion["address"] if bastion else None,
        "bastionPort": set_or(bastion.get("port"), login.SSH_PORT) if bastion else None,
        "bastionUser": bastion["user"] if bastion else None,
        "bastionHostKey": public_half(bastion["host_key"]) if bastion else None,
    }


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
        connection = connection_of(args["connection"], gone)
        if gone:
            # Only a copy that was never made would still be tried: once, and not for as long as for a machine that is starting.
            connection = connection.apply(lambda known: {**known, "dialErrorLimit": 0})
        password = args["connection"].get("sudo_password")
        if password is not None:
            password = pulumi.Output.secret(password)
        identity = args["connection"].get("identity")
        if not isinstance(identity, str) or not identity:
            pinned = reporting_refusals(lambda known, key: known or login.pinned(key, "node"))
            identity = derived(pinned, identity, args["connection"].get("host_key"))
        owner = f"{pulumi.get_project()}/{pulumi.get_stack()} {name_on_machine(name)}"
        # Another machine behind the same address and key must get the program too.
        # A command line is no place for a secret, and these hold none: a sum, and below whether the login user is root.
        machine = unsecret(derived(_sum, identity))
        explained = [] if gone else explaining(name, node if isinstance(node, str) else name)

        def hooks(machine_id: Callable[[], Awaitable[str]] | None = None) -> pulumi.ResourceHookBinding:
            binding = member.hooks(machine_id) if member else pulumi.ResourceHookBinding()
            binding.on_error = [*explained, *(binding.on_error or [])]
            return binding

        def child(
            which: str, kind: str, inputs: Mapping[str, Any], after: pulumi.Resource | None, **others: Any
        ) -> PluginResource:
            options: dict[str, Any] = {"additional_secret_outputs": ["connection"], "replace_on_changes": ["triggers[*]"]}
            if gone:
                options |= LEFT_ALONE
            elif explained or member:
                options["hooks"] = hooks()
            if which != "system":
                # Where a program protects its node, these can be replaced all the same, as by another node program:
                # the engine replaces nothing that is protected. What undoes the node is the first.
                options["protect"] = False
            options |= others
            # Only the first waits for what the node depends on: each of the others waits for the one before.
            waiting = {"depends_on": after} if after else {}
            handed = pulumi.ResourceOptions(deleted_with=opts.deleted_with) if opts and after else opts
            return PluginResource(
                f"command:remote:{kind}",
                f"{name}-{which}",
                {"connection": connection, **inputs},
                child_options(self, handed, **waiting, **options),
                outputs=["stdout"] if kind == "Command" else [],
            )

        def command(which: str, inputs: Mapping[str, Any], after: pulumi.Resource | None, **others: Any) -> PluginResource:
            common = {"logging": "stderr", "addPreviousOutputInEnv": False}
            # What the machine did not live to see is made without running anything; the rest keeps the inputs that it had.
            left = {key: value for key, value in inputs.items() if not gone or key not in ("create", "update")}
            return child(which, "Command", {**left, **common}, after, **others)

        def result(text: str, verb: str) -> dict[str, Any]:
            """The verb's result; of a machine that is gone and never had it, or one of another version, one that says nothing."""
            try:
                return result_of(text, verb, f"{name}-{'proof' if verb == 'prove' else verb}")
            except NodeError:
                if gone:  # nothing can be run again there
                    return dict(UNPROVEN)
                raise

        def read(step: PluginResource, verb: str, value: Callable[[dict[str, Any]], Any]) -> pulumi.Output[Any]:
            """A value of the verb's result. Pulumi 3.255 and older has no text of a node that `--target` leaves out."""
            return step.recorded("stdout").apply(
                reporting_refusals(lambda text: UNKNOWN if text is None and not gone else value(result(text, verb)))
            )

        as_root = sent("as_root.sh", "delivery")
        run = login.as_root(as_root) if password else ""

        def stdin_of(text: pulumi.Input[str]) -> pulumi.Input[str]:
            """What a command reads: with a password what hands that to sudo comes first, and all of it is secret."""
            if not password:
                return text
            return derived(reporting_refusals(lambda *both: login.before(as_root, *both)), password, text)

        # Whether the login user can become root is seen before anything is sent, and before the state has this login for the end.
        look = f"{run}--as-user timeout 60 sh -s -- --with-password" if password else "timeout 60 sh -s"
        # No triggers here: another machine behind the address is an update, since nothing can be removed any more from the one
        # before. To replace this one undoes the node first.
        system = command(
            "system",
            {
                "create": derived(lambda text: f"{look} # machine {text}", machine),
                # bootstrap.sh has a bound of its own within these, where it becomes root.
                "delete": f"{run}timeout 1800 sh -s -- --remove {owner}",
                "stdin": stdin_of(sent("system.sh")),
            },
            None,
            delete_before_replace=True,
        )
        source = pulumi.FileAsset(str(pyz))
        # It lies in the home of the login user, and an update alone sends nothing.
        user = set_or(args["connection"].get("user"), ROOT)
        copy = {"source": source, "remotePath": uploaded, "triggers": [identity, user, system.id, digest]}
        upload = child("upload", "CopyToRemote", copy, system)
        desired, to_prove = settings.states(node, {"program": digest, "machine": identity})

        def text_of(state: pulumi.Input[Mapping[str, Any]]) -> pulumi.Input[str]:
            return derived(lambda known: json.dumps(known, indent=1, sort_keys=True), state)

        async def seen_id() -> str:
            """The id of the machine that is about to be changed, as it was looked at."""
            return str(result(await system.recorded("stdout").future() or "", "system")["machineId"])

        script = sent("converge.sh", "delivery")
        install = f"{offset} {length} {script_digest} {CONVERGE_SECONDS} {uploaded} {program} {digest} {owner}"
        start = f"{run}timeout {PROGRAM_SECONDS + CONVERGE_SECONDS + 60} {login.handed(script, 'converge')}{install}"
        converge = command(
            "converge",
            {
                "create": derived(lambda text: f"{start} # machine {text}", machine),
                # A copy that is sent again (`pulumi up --replace`) must be put in place again.
                "update": derived(lambda text, sent: f"{start} again # machine {text}, upload {sent}", machine, upload.id),
                "stdin": stdin_of(derived(lambda text: script + text, text_of(desired))),
                # Where Docker was changed and Kata then fails, the state must not keep the Docker that was there before: with its
                # settings back, the next `up` would see no change. Kata alone is one transaction on the node.
                "triggers": [identity, derived(lambda state: _sum(json.dumps(state, sort_keys=True)), desired["docker"])],
            },
            upload,
            delete_before_replace=True,
            **({"hooks": hooks(seen_id)} if member and not gone else {}),
        )

        def prove(known: str | None, bound: float, changed: str) -> str:
            root = run or ("" if (known or ROOT) == ROOT else "sudo -n ")
            verb = f". {PROGRAM_FOLDER}/run.sh; nodekit {digest[:12]} prove"
            return f"{root}timeout --kill-after=30 {int(bound)} sh -c '{verb}' # run {changed}"

        # As it is now: where the machine was installed again and has its former key, -system is the same.
        self.machine_id = read(converge, "converge", lambda brought: str(brought["machineId"]))
        # Another proof for each run that took a step, and not only for other settings: where one failed, and the former settings
        # come back, `-converge` changes the node once more, and the state still holds the proof from before.
        changed = read(converge, "converge", lambda brought: str(brought["run"]))
        self.proof = command(
            "proof",
            {
                "create": unsecret(derived(prove, args["connection"].get("user"), settings.seconds["prove"], changed)),
                "stdin": stdin_of(text_of(to_prove)),
                "triggers": [identity],
            },
            converge,
            # One that was asked for and fails must not leave the one before: the next `up` would see no change, and pass.
            delete_before_replace=True,
        )

        # Under the stack's name for it: in the checklist, a node could otherwise speak for another one.
        if isinstance(node, str):
            self.evidence = read(self.proof, "prove", lambda proof: {**proof, "node": node})
        else:
            proven = pulumi.Output.all(read(self.proof, "prove", lambda proof: proof), node)
            self.evidence = proven.apply(lambda both: {**both[0], "node": both[1]})
        if member:
            self.evidence = member.released(self.evidence, self.machine_id)
        self.docker_version = read(converge, "converge", lambda brought: str(brought["dockerVersion"]))
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
