"""A machine made into a Kata node over SSH: program, preflight, Docker pin, Kata configuration, proof."""

import hashlib
import json
from typing import Any, NotRequired, Optional, TypedDict

import pulumi
from pulumi_command import remote

from components.children import child_options
from components.nodes.node_states import PROOF_GRACE_SECONDS, VERB_SECONDS, node_states
from components.told import told
from delivery import bundle, login
from nodekit.errors import NodeError
from nodekit.scripts import script

PROGRAM_FOLDER = "/usr/local/lib/kata-nodes"
DIALS, DIAL_SECONDS = 60, 15
"""Patience with a machine that is still starting: dials, at most 5 s apart, and the bound on each."""


class KataNodeArgs(TypedDict):
    """What one node is and what it should become.

    The keys of `Node` are repeated, because the analyser of component packages finds no descriptions of inherited ones.
    """

    node: pulumi.Input[str]
    """Name of the node in messages and evidence."""
    address: pulumi.Input[str]
    """Host name or IP address of its SSH server, as the bastion sees it where there is one."""
    port: pulumi.Input[int]
    """Port of its SSH server."""
    user: pulumi.Input[str]
    """Login user: root, or one that may become root by sudo."""
    host_key: pulumi.Input[str]
    """The host's public key (`ssh-ed25519 AAAA…`); a host that shows another one is refused."""
    identity: pulumi.Input[str]
    """Changes when the machine behind the address is another one; then everything is done and proven anew."""
    private_key: NotRequired[pulumi.Input[str]]
    """Private login key (secret). Without it the SSH agent is asked."""
    sudo_password: NotRequired[pulumi.Input[str]]
    """Password that sudo asks the login user for (secret). Without it sudo must ask for none."""
    bastion_address: NotRequired[pulumi.Input[str]]
    """Host name or IP address of the machine through which the node is reached; without it, it is reached directly."""
    bastion_port: NotRequired[pulumi.Input[int]]
    """Port of the bastion's SSH server; without it 22."""
    bastion_user: NotRequired[pulumi.Input[str]]
    """Login user on the bastion; needed with `bastion_address`."""
    bastion_host_key: NotRequired[pulumi.Input[str]]
    """The bastion's public key, pinned like the node's; needed with `bastion_address`."""
    bastion_private_key: NotRequired[pulumi.Input[str]]
    """Private login key for the bastion (secret). Without it the SSH agent is asked."""
    docker_version: pulumi.Input[str]
    """Docker version to bring and hold, such as 27.5.1."""
    repository_address: pulumi.Input[str]
    """Address of the apt repository that Docker comes from; `{id}` stands for the distribution."""
    repository_fingerprint: pulumi.Input[str]
    """Fingerprint of the key that signs it: 40 hexadecimal digits."""
    repository_suite: NotRequired[pulumi.Input[str]]
    """Suite of the repository; without it the node's own release."""
    kata_version: pulumi.Input[str]
    """Kata release, such as 3.32.0."""
    kata_runtime: pulumi.Input[str]
    """Kata's runtime: go or rust."""
    hypervisor: pulumi.Input[str]
    """Hypervisor: qemu or firecracker."""
    nested_sandbox: pulumi.Input[bool]
    """Whether a sandbox inside the guest must work; then the proof fails when the guest has no user namespaces."""
    sandbox: NotRequired[pulumi.Input[str]]
    """Which sandbox that is, and so what the proof tries: sandbox-runtime (the default), bubblewrap or rootless."""
    kernel_params: pulumi.Input[list[str]]
    """Guest kernel parameters, merged by key into those of the file that Kata really reads."""
    install_release: NotRequired[pulumi.Input[bool]]
    """Whether to install the official archive of `kata_version` for the machine's architecture, by this package's own table of
    sha256 sums. Without it, and without `archive_address`, Kata is expected on the node."""
    archive_address: NotRequired[pulumi.Input[str]]
    """Address of another Kata release archive to install."""
    archive_sha256: NotRequired[pulumi.Input[str]]
    """Its sha256, in hexadecimal."""
    config_path: NotRequired[pulumi.Input[str]]
    """Configuration file that Docker names to Kata; without it the one that the runtime finds by itself."""
    handler: NotRequired[pulumi.Input[str]]
    """Name under which the node's container runtime is to know Kata, for a node that serves a cluster. Without it the node serves
    none, and a handler that was registered before goes."""
    container_runtime: NotRequired[pulumi.Input[str]]
    """That runtime: containerd, cri-o, k3s, rke2, k0s or microk8s. Without it the one that is found on the node."""
    allowed_annotations: NotRequired[pulumi.Input[list[str]]]
    """Annotations of pods that the runtime passes on to Kata; without them none."""
    proof_image: NotRequired[pulumi.Input[str]]
    """Image in which the ladder is also climbed by `docker run`, where the node has a Kata shim."""
    proof_seconds: pulumi.Input[int]
    """Bound on the proof, in seconds."""


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


def connection_of(args: KataNodeArgs) -> remote.ConnectionArgs:
    """How to reach the node: directly or through its bastion, every host key pinned."""
    proxy = None
    if (bastion := args.get("bastion_address")) is not None:
        proxy = remote.ProxyConnectionArgs(
            host=bastion,
            port=pulumi.Output.from_input(args.get("bastion_port", 22)).apply(float),
            user=args["bastion_user"],
            host_key=_pinned(args.get("bastion_host_key"), "bastion"),
            private_key=_secret(args.get("bastion_private_key")),
            dial_error_limit=DIALS,
            per_dial_timeout=DIAL_SECONDS,
        )
    return remote.ConnectionArgs(
        host=args["address"],
        port=pulumi.Output.from_input(args["port"]).apply(float),
        user=args["user"],
        host_key=_pinned(args.get("host_key"), "node"),
        private_key=_secret(args.get("private_key")),
        proxy=proxy,
        dial_error_limit=DIALS,
        per_dial_timeout=DIAL_SECONDS,
    )


def _secret(value: pulumi.Input[str] | None) -> pulumi.Output[str] | None:
    return None if value is None else pulumi.Output.secret(value)


def _pinned(key: pulumi.Input[str] | None, host: str) -> pulumi.Output[str]:
    return pulumi.Output.from_input(key).apply(told(lambda given: login.pinned(given, host)))


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

    summary: pulumi.Output[dict[str, Any]]
    """Name, address and the values above in one object, as stack output."""

    def __init__(self, name: str, args: KataNodeArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        # For whoever reads a preview: the states below hold more, but may be secret or not known yet.
        plan = {
            "dockerVersion": args["docker_version"],
            "repositoryAddress": args["repository_address"],
            "kataVersion": args["kata_version"],
            "kataRuntime": args["kata_runtime"],
            "installRelease": args.get("install_release"),
            "archiveAddress": args.get("archive_address"),
            "configPath": args.get("config_path"),
            "hypervisor": args["hypervisor"],
            "nestedSandbox": args["nested_sandbox"],
            "sandbox": args.get("sandbox"),
            "kernelParams": args["kernel_params"],
            "handler": args.get("handler"),
            "containerRuntime": args.get("container_runtime"),
            "proofImage": args.get("proof_image"),
        }
        super().__init__("kata-nodes:index:KataNode", name, {"plan": plan}, opts)
        pyz, digest = bundle.cached()
        program = f"{PROGRAM_FOLDER}/nodekit-{digest[:12]}.pyz"
        uploaded = f".kata-nodes-{digest[:12]}.pyz"
        connection = connection_of(args)
        password = _secret(args.get("sudo_password"))
        # Another machine behind the same address and key must get the program too.
        machine = pulumi.Output.from_input(args["identity"]).apply(lambda text: hashlib.sha256(text.encode()).hexdigest()[:12])

        def options(*after: pulumi.Resource, **more: Any) -> pulumi.ResourceOptions:
            return child_options(self, opts, depends_on=list(after), **more)

        system = remote.Command(
            f"{name}-system",
            connection=connection,
            create="timeout 60 sh -s",
            stdin=script("system.sh"),
            logging=remote.Logging.STDERR,
            add_previous_output_in_env=False,
            triggers=[args["identity"]],
            opts=options(),
        )
        upload = remote.CopyToRemote(
            f"{name}-upload",
            connection=connection,
            source=pulumi.FileAsset(str(pyz)),
            remote_path=uploaded,
            triggers=[args["identity"], digest],
            opts=options(system),
        )
        as_root = script("as_root.sh", "delivery")
        run = login.as_root(as_root) if password else ""

        def stdin_of(text: pulumi.Input[str]) -> pulumi.Output[str]:
            """What a command reads: with a password what hands that to sudo comes first, and all of it is secret."""
            if not password:
                return pulumi.Output.from_input(text)
            return pulumi.Output.all(password, text).apply(told(lambda both: login.before(as_root, *both)))

        start = remote.Command(
            f"{name}-program",
            connection=connection,
            create=pulumi.Output.concat(f"{run}timeout 900 sh -s -- {uploaded} {program} {digest} # machine ", machine),
            delete=f"{run}timeout 1800 sh -s -- --remove",
            stdin=stdin_of(script("bootstrap.sh")),
            logging=remote.Logging.STDERR,
            add_previous_output_in_env=False,
            # No triggers: another machine behind the address is an update, since the one before can no longer be undone.
            opts=options(upload),
        )

        def verb(
            which: str, seconds: pulumi.Input[int], stdin: pulumi.Output[dict[str, Any]], after: pulumi.Resource
        ) -> remote.Command:
            return remote.Command(
                f"{name}-{which}",
                connection=connection,
                create=pulumi.Output.all(args["user"], seconds).apply(
                    lambda given: (
                        f"{run or ('' if given[0] == 'root' else 'sudo -n ')}timeout --kill-after=30 {int(given[1])} "
                        f"sh -c '. {PROGRAM_FOLDER}/run.sh; nodekit {digest[:12]} {'prove' if which == 'proof' else which}'"
                    )
                ),
                stdin=stdin_of(stdin.apply(lambda value: json.dumps(value, indent=1, sort_keys=True))),
                logging=remote.Logging.STDERR,
                add_previous_output_in_env=False,
                triggers=[args["identity"]],
                opts=options(after),
            )

        states = node_states(args, {"program": digest, "machine": args["identity"]})
        preflight = verb("preflight", VERB_SECONDS["preflight"], states["preflight"], start)
        docker = verb("docker", VERB_SECONDS["docker"], states["docker"], preflight)
        kata = verb("kata", VERB_SECONDS["kata"], states["kata"], docker)
        bound = pulumi.Output.from_input(args["proof_seconds"]).apply(lambda seconds: int(seconds) + PROOF_GRACE_SECONDS)
        self.proof = verb("proof", bound, states["prove"], kata)

        self.evidence = self.proof.stdout.apply(told(lambda text: result_of(text, "prove", f"{name}-proof")))
        self.docker_version = docker.stdout.apply(told(lambda text: str(result_of(text, "docker", f"{name}-docker")["version"])))
        self.config_file = self.evidence.apply(lambda one: str(one["configFile"]))
        self.kernel_params = self.evidence.apply(lambda one: str(one["kernelParams"]))
        self.user_namespaces = self.evidence.apply(lambda one: int(one["userNamespaces"]))
        self.guest_kernel = self.evidence.apply(lambda one: str(one["guestKernel"]))
        self.summary = pulumi.Output.all(
            name=args["node"],
            address=args["address"],
            dockerVersion=self.docker_version,
            kernelParams=self.kernel_params,
            configFile=self.config_file,
            userNamespaces=self.user_namespaces,
            guestKernel=self.guest_kernel,
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
            }
        )
