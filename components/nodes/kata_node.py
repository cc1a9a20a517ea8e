"""A machine made into a Kata node over SSH: program, preflight, Docker pin, Kata configuration, proof."""

import hashlib
import json
import re
from typing import Any, NotRequired, Optional, TypedDict

import pulumi
from pulumi_command import remote

from components.children import LEFT_ALONE, child_options
from components.nodes.node_states import Document, settings_of
from components.nodes.rollout import Member
from components.nodes.settings import Connection, DockerSettings, KataSettings, Verification
from components.refusals import reporting_refusals
from delivery import bundle, login
from nodekit.errors import NodeError
from nodekit.scripts import script

PROGRAM_FOLDER = "/usr/local/lib/kata-nodes"
DIALS, DIAL_SECONDS = 60, 15
"""Patience with a machine that is still starting: dials, at most 5 s apart, and the bound on each."""


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
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("verb") != verb:
        raise NodeError(
            "result-missing",
            f"Resource {resource} has recorded no result of the verb {verb}, but {text[:80]!r}",
            resource=resource,
        )
    return document


def connection_of(connection: Connection) -> remote.ConnectionArgs:
    """How to reach the node: directly or through its bastion, every host key pinned."""
    proxy = None
    if (bastion := connection.get("bastion")) is not None:
        proxy = remote.ProxyConnectionArgs(
            host=bastion["address"],
            port=_port(bastion.get("port")),
            user=bastion["user"],
            host_key=_pinned(bastion.get("host_key"), "bastion"),
            private_key=_secret(bastion.get("private_key")),
            dial_error_limit=DIALS,
            per_dial_timeout=DIAL_SECONDS,
        )
    return remote.ConnectionArgs(
        host=connection["address"],
        port=_port(connection.get("port")),
        user=connection.get("user", "root"),
        host_key=_pinned(connection.get("host_key"), "node"),
        private_key=_secret(connection.get("private_key")),
        proxy=proxy,
        dial_error_limit=DIALS,
        per_dial_timeout=DIAL_SECONDS,
    )


def _port(port: pulumi.Input[int] | None) -> pulumi.Output[float]:
    return pulumi.Output.from_input(login.SSH_PORT if port is None else port).apply(float)


def _secret(value: pulumi.Input[str] | None) -> pulumi.Output[str] | None:
    return None if value is None else pulumi.Output.secret(value)


def _pinned(key: pulumi.Input[str] | None, host: str) -> pulumi.Output[str]:
    return pulumi.Output.from_input(key).apply(reporting_refusals(lambda value: login.pinned(value, host)))


class KataNode(pulumi.ComponentResource):
    """Makes one machine a Kata node and proves it.

    Children, each after the one before: `-system` (refuses an unknown operating system), `-upload` and `-program` (the node
    program and its start-up needs), `-preflight` (a tiny guest boots), `-docker` (version, hold, runtime), `-kata` (files and
    `kernel_params`), `-proof` (fails the stack unless the guest passes the ladder). Depend on the component, or on `proof`,
    to come after the proof.
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
        settings = settings_of(args)
        node = args.get("node", name)
        super().__init__("kata-nodes:index:KataNode", name, {"plan": {"node": node, **settings.plan}}, opts)
        pyz, digest = bundle.cached()
        program = f"{PROGRAM_FOLDER}/nodekit-{digest[:12]}.pyz"
        uploaded = f".kata-nodes-{digest[:12]}.pyz"
        connection = connection_of(args["connection"])
        password = _secret(args["connection"].get("sudo_password"))
        user = args["connection"].get("user", "root")
        identity = args["connection"].get("identity")
        if identity is None:
            identity = _pinned(args["connection"].get("host_key"), "node")
        # Another machine behind the same address and key must get the program too.
        owner = f"{pulumi.get_project()}/{pulumi.get_stack()} {re.sub(r'[^A-Za-z0-9._-]', '-', name)}"
        machine = pulumi.Output.from_input(identity).apply(lambda text: hashlib.sha256(text.encode()).hexdigest()[:12])

        def options(*after: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:
            if args.get("gone", False):
                options |= LEFT_ALONE
            elif member:
                options = {"hooks": member.hooks(), **options}
            return child_options(self, opts, depends_on=list(after), **options)

        system = remote.Command(
            f"{name}-system",
            connection=connection,
            create="timeout 60 sh -s",
            stdin=script("system.sh"),
            logging=remote.Logging.STDERR,
            add_previous_output_in_env=False,
            triggers=[identity],
            opts=options(),
        )
        upload = remote.CopyToRemote(
            f"{name}-upload",
            connection=connection,
            source=pulumi.FileAsset(str(pyz)),
            remote_path=uploaded,
            triggers=[identity, digest],
            opts=options(system),
        )
        as_root = script("as_root.sh", "delivery")
        run = login.as_root(as_root) if password else ""

        def stdin_of(text: pulumi.Input[str]) -> pulumi.Output[str]:
            """What a command reads: with a password what hands that to sudo comes first, and all of it is secret."""
            if not password:
                return pulumi.Output.from_input(text)
            return pulumi.Output.all(password, text).apply(reporting_refusals(lambda both: login.before(as_root, *both)))

        install = f"{run}timeout 900 sh -s -- {uploaded} {program} {digest} {owner}"
        start = remote.Command(
            f"{name}-program",
            connection=connection,
            create=pulumi.Output.concat(install, " # machine ", machine),
            update=pulumi.Output.concat(install, " again # machine ", machine),
            delete=f"{run}timeout 1800 sh -s -- --remove {owner}",
            stdin=stdin_of(script("bootstrap.sh")),
            logging=remote.Logging.STDERR,
            add_previous_output_in_env=False,
            # No triggers: another machine behind the address is an update, since the one before can no longer be undone.
            opts=options(upload),
        )

        def verb(
            which: str, seconds: pulumi.Input[int], stdin: pulumi.Output[Document], after: pulumi.Resource, **with_hooks: Any
        ) -> remote.Command:
            return remote.Command(
                f"{name}-{which}",
                connection=connection,
                create=pulumi.Output.all(user, seconds).apply(
                    lambda values: (
                        f"{run or ('' if values[0] == 'root' else 'sudo -n ')}timeout --kill-after=30 {int(values[1])} "
                        f"sh -c '. {PROGRAM_FOLDER}/run.sh; nodekit {digest[:12]} {'prove' if which == 'proof' else which}'"
                    )
                ),
                stdin=stdin_of(stdin.apply(lambda value: json.dumps(value, indent=1, sort_keys=True))),
                logging=remote.Logging.STDERR,
                add_previous_output_in_env=False,
                triggers=[identity],
                opts=options(after, **with_hooks),
            )

        states, seconds = settings.states(node, {"program": digest, "machine": identity}), settings.seconds
        preflight = verb("preflight", seconds["preflight"], states["preflight"], start)
        self.machine_id = preflight.stdout.apply(
            reporting_refusals(lambda text: str(result_of(text, "preflight", f"{name}-preflight")["machineId"]))
        )
        drained = {"hooks": member.hooks(self.machine_id)} if member else {}
        docker = verb("docker", seconds["docker"], states["docker"], preflight, **drained)
        kata = verb("kata", seconds["kata"], states["kata"], docker, **drained)
        self.proof = verb("proof", seconds["prove"], states["prove"], kata)

        self.evidence = self.proof.stdout.apply(reporting_refusals(lambda text: result_of(text, "prove", f"{name}-proof")))
        if member:
            self.evidence = member.released(self.evidence, self.machine_id)
        self.docker_version = docker.stdout.apply(
            reporting_refusals(lambda text: str(result_of(text, "docker", f"{name}-docker")["version"]))
        )
        self.config_file = self.evidence.apply(lambda proof: str(proof["configFile"]))
        self.kernel_params = self.evidence.apply(lambda proof: str(proof["kernelParams"]))
        self.user_namespaces = self.evidence.apply(lambda proof: int(proof["userNamespaces"]))
        self.guest_kernel = self.evidence.apply(lambda proof: str(proof["guestKernel"]))
        self.summary = pulumi.Output.all(
            name=node,
            address=args["connection"]["address"],
            dockerVersion=self.docker_version,
            kernelParams=self.kernel_params,
            configFile=self.config_file,
            userNamespaces=self.user_namespaces,
            guestKernel=self.guest_kernel,
            machineId=self.machine_id,
        )
        self.register_outputs(
            {
                "summary": self.summary,
                "evidence": self.evidence,
                "dockerVersion": self.docker_version,
                "configFile": self.config_file,
                "kernelParams": self.kernel_params,
                "userNamespaces": self.user_namespaces,
                "guestKernel": self.guest_kernel,
                "machineId": self.machine_id,
            }
        )
