"""The stack's configuration: every key, its default, its bounds, and the pairs of them that cannot work."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic.alias_generators import to_camel

from clusterkit import kata_deploy, rollout, runtime_class
from delivery import login
from local import limits
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.docker import apt_source, docker_matrix
from nodekit.rules.kata import kata_layout, kata_releases, kernel_params
from nodekit.rules.proof.sandboxes import SANDBOXES
from stacks.aws_model import Aws
from stacks.kubernetes_model import Kubernetes
from stacks.rollout_model import Rollout
from stacks.sections import ImageName, Model, Name, NodeErrorValue, OneOf, ProofSeconds, Sha256, form

Version = Annotated[str, form(r"^\d{1,3}\.\d{1,3}\.\d{1,3}$", "three numbers with dots, such as 3.32.0")]
HttpAddress = Annotated[str, form(r"^https?://[^\s]+$", "an address that begins with https:// or http:// and has no spaces")]


class LocalNodes(Model):
    """Virtual machines that the stack makes and destroys on the machine it runs on."""

    count: Annotated[int, Field(ge=1, le=8)] = 1
    """How many machines."""
    memory_mi_b: Annotated[int, Field(alias="memoryMiB", ge=limits.MEMORY_MIB.minimum, le=limits.MEMORY_MIB.maximum)] = (
        limits.MEMORY_MIB.default
    )
    """Memory of each machine in MiB. Kata's guests start with 2048 MiB, and QEMU needs the machine to have that much beside its
    kernel."""
    cores: Annotated[int, Field(ge=limits.CORES.minimum, le=limits.CORES.maximum)] = limits.CORES.default
    """Cores of each machine under KVM. An emulated machine has one: with two its kernel crashes now and then under QEMU before
    8.1."""


def host_key_can_be_pinned(key: str) -> str:
    """Refuse what is not a host key; the rule is the component's own."""
    try:
        return login.host_key(key)
    except NodeError as error:
        raise NodeErrorValue(error) from None


def host_can_be_reached(address: str) -> str:
    """Refuse what is more, or another thing, than a host's name or address; the rule is the component's own."""
    try:
        return login.host_address(address, "host")
    except NodeError as error:
        raise NodeErrorValue(error) from None


Host = Annotated[
    str,
    form(r"^[^\s@/]+$", "a host name or an IP address alone, without a user, a path or spaces", 1),
    AfterValidator(host_can_be_reached),
]
Port = Annotated[int, Field(ge=1, le=65535)]
User = Annotated[str, form(r"^[^\s]+$", "the name of a login user, without spaces", 1)]
HostKey = Annotated[str, AfterValidator(host_key_can_be_pinned)]


class ExistingNode(Model):
    """One machine that is there already and is reached over SSH."""

    name: Name
    """Name of the node in resources, outputs and messages."""
    address: Host
    """Host name or IP address, as the bastion sees it where there is one."""
    port: Port = login.SSH_PORT
    """Port of the SSH server."""
    user: User = "root"
    """Login user: root, or one that may become root by sudo; the secret `sudoPassword` is what sudo asks for."""
    host_key: HostKey
    """The host's public key as in /etc/ssh/ssh_host_ed25519_key.pub, or in ssh_host_ecdsa_key.pub where it is in FIPS mode: the
    connection is refused when the host shows another one."""
    gone: bool = False
    """Whether the machine no longer exists. After an `up` with it, the node can leave the stack, or the stack can be destroyed,
    and nothing is undone on the machine over SSH."""


class Bastion(Model):
    """The machine through which existing nodes are reached."""

    address: Host
    """Host name or IP address."""
    port: Port = login.SSH_PORT
    """Port of its SSH server."""
    user: User
    """Login user."""
    host_key: HostKey
    """Its public key, pinned like the nodes'."""


class Nodes(Model):
    """Where the nodes come from: exactly one of `local`, `existing` and `aws`."""

    local: LocalNodes | None = None
    existing: list[ExistingNode] | None = None
    bastion: Bastion | None = None
    """The way to existing nodes; without it they are reached directly."""
    rollout: Rollout | None = None
    """Waves in which existing nodes of a cluster change; without it all change at once, and none is drained."""
    aws: Aws | None = None

    @model_validator(mode="after")
    def one_source(self) -> "Nodes":
        """Refuse no source or several, an empty list, doubled nodes, and a bastion to nowhere."""
        if [self.local, self.existing, self.aws].count(None) != 2:
            raise ValueError("give exactly one of 'local', 'existing' and 'aws'")
        if self.existing is not None and not self.existing:
            raise ValueError("'existing' needs at least one node")
        if self.bastion and not self.existing:
            raise ValueError("'bastion' is the way to 'existing' nodes, and there are none")
        if self.rollout and not self.existing:
            raise ValueError("'rollout' changes 'existing' nodes in waves, and there are none")
        try:
            if self.rollout:
                present = [node.name for node in self.existing or [] if not node.gone]
                rollout.waves(present, self.rollout.canary, self.rollout.batch)
            places = ((node.name, None if node.gone else (node.address, node.port)) for node in self.existing or [])
            login.refuse_doubled(places)
        except NodeError as error:
            raise NodeErrorValue(error) from None
        return self


def repository_can_be_reached(address: str) -> str:
    """Refuse an address that every node would refuse; the rule is the node program's own."""
    try:
        apt_source.repository_address(address, "debian")
    except NodeError as error:
        raise NodeErrorValue(error) from None
    return address


def suite_can_be_named(suite: str) -> str:
    """Refuse a suite that every node would refuse; the rule is the node program's own."""
    try:
        return suite and apt_source.repository_word(suite, "suite")
    except NodeError as error:
        raise NodeErrorValue(error) from None


class DockerRepository(Model):
    """The apt repository that Docker comes from."""

    address: Annotated[HttpAddress, AfterValidator(repository_can_be_reached)] = apt_source.DOCKER_ADDRESS
    """Its address; `{id}` stands for the node's distribution (debian, ubuntu)."""
    fingerprint: Annotated[
        str, form(r"^[0-9A-F]{40}$", "the 40 hexadecimal digits of a fingerprint, in capitals and without spaces")
    ] = apt_source.DOCKER_FINGERPRINT
    """Fingerprint of the key that signs it; a repository signed by another key is refused."""
    suite: Annotated[str, AfterValidator(suite_can_be_named)] | None = None
    """Suite; without it the node's own release (trixie, noble)."""


class Docker(Model):
    """Docker on the nodes."""

    version: Version = node_state.DOCKER_VERSION
    """Version that every node gets, and is held at."""
    repository: DockerRepository | Literal["local"] = DockerRepository()
    """Where its packages come from; `local` is the signed repository that the stack itself serves to its local nodes."""


class KataArchive(Model):
    """A Kata release archive."""

    address: HttpAddress
    """Where it is downloaded from (kata-static-<version>-<arch>.tar.xz or .tar.zst)."""
    sha256: Sha256
    """Its sha256, in hexadecimal."""


def parameters_can_be_written(parameters: list[str]) -> list[str]:
    """Refuse parameters that no guest could be given; the rule is the node program's own."""
    try:
        kernel_params.check(parameters)
    except NodeError as error:
        raise NodeErrorValue(error) from None
    return parameters


class Kata(Model):
    """Kata Containers on the nodes."""

    hypervisor: Annotated[str, OneOf(kata_layout.HYPERVISORS)] = node_state.HYPERVISOR
    """QEMU is recommended; Firecracker is for sandboxes that nest nothing."""
    nested_sandbox: bool = True
    """Whether a second sandbox must work inside the guest."""
    sandbox: Annotated[str, OneOf(SANDBOXES)] = SANDBOXES[0]
    """Which sandbox that is, and so what the proof tries and counts: Anthropic's sandbox-runtime in its default mode, bubblewrap,
    or a container of runc without privilege, as rootless engines start theirs."""
    runtime: Annotated[str, OneOf(kata_layout.RUNTIMES)] = node_state.KATA_RUNTIME
    """Which of Kata's two runtimes the nodes use. Without it go, and with `kubernetes.kataDeploy` the chart's own default, which
    is rust from Kata 4.0.0 on."""
    version: Version = node_state.KATA_VERSION
    """Kata's release: what the archive holds, or what is installed already."""
    install: Literal["release", "local"] | KataArchive | None = None
    """How Kata comes to the nodes: `release` is the official archive of `version` for each node's architecture, by this
    project's table of sha256 sums; an address and a sha256 name another archive; `local` is the one that the stack serves to its
    local nodes. Without it Kata is on the nodes already."""
    config_path: Annotated[str, form(r"^/[^\s]*$", "the whole path of a file, from / on and without spaces")] | None = None
    """Configuration file that Docker names to Kata, for installations in unusual places."""
    kernel_params: Annotated[list[str], AfterValidator(parameters_can_be_written)] = []
    """Guest kernel parameters to merge, one in each list entry; where a sandbox nests, `user_namespace.enable=1` is too."""

    @model_validator(mode="after")
    def firecracker_nests_nothing(self) -> "Kata":
        """As `kata_layout.refuse_nesting`."""
        try:
            kata_layout.refuse_nesting(self.hypervisor, self.nested_sandbox)
        except NodeError as error:
            raise NodeErrorValue(error) from None
        return self


class Verification(Model):
    """How the proof is made."""

    image: ImageName | None = None
    """Image in which the ladder is also climbed by `docker run`, on nodes with a Kata shim: one with the tools of `kata.sandbox`,
    and `ip`. Without it one made of the node's own files."""
    timeout_seconds: ProofSeconds = node_state.TIMEOUT_SECONDS
    """Bound on one node's proof, in seconds."""


class StackConfig(Model):
    """All of it."""

    nodes: Nodes | None = None
    """Machines to make into nodes; without it the nodes are the cluster's own, and `kubernetes.proof` proves them."""
    docker: Docker = Docker()
    kata: Kata = Kata()
    kubernetes: Kubernetes | None = None
    verification: Verification = Verification()

    @model_validator(mode="before")
    @classmethod
    def chart_has_its_own_default(cls, settings: Any) -> Any:
        """Where kata-deploy installs Kata and no runtime is named, use the chart's own."""
        if not isinstance(settings, dict):
            return settings
        cluster, kata = settings.get("kubernetes"), settings.get("kata") or {}
        if not (isinstance(cluster, dict) and cluster.get("kataDeploy") is not None and isinstance(kata, dict)):
            return settings
        version = kata.get("version", node_state.KATA_VERSION)
        try:
            default = kata_deploy.default_runtime(version)
        except (NodeError, TypeError, AttributeError):
            return settings  # refused below, in the words of the version's own key
        return {**settings, "kata": {"runtime": default, **kata}}

    @model_validator(mode="after")
    def sections_agree(self) -> "StackConfig":
        """Refuse a pair of Docker and Kata that is known to break, and `local` parts without local nodes."""
        try:
            kernel_params.check(self.parameters)
            docker_matrix.refuse_if_incompatible(self.docker.version, self.kata.version, self.kata.runtime)
            if self.kubernetes and self.kubernetes.kata_deploy:
                chart = self.kubernetes.kata_deploy
                kata_deploy.values(
                    self.kata.version,
                    self.kata.runtime,
                    self.kata.kernel_params,
                    self.kata.nested_sandbox,
                    chart.image,
                    chart_values=chart.values,
                )
            if self.kata.install == "release":
                kata_releases.archives(self.kata.version, self.kata.runtime, self.kata.hypervisor)
            if self.kata.install:
                kata_layout.release_config_path(self.kata.runtime, self.kata.version, self.kata.hypervisor)
        except NodeError as error:
            raise NodeErrorValue(error) from None
        if self.kubernetes and not self.handler and not self.kubernetes.adopt_runtime_class:
            raise ValueError(
                f"kata-deploy has no handler for {self.kata.hypervisor} with the {self.kata.runtime} runtime; "
                "name the one of your nodes: kubernetes.handler"
            )
        proof = self.kubernetes.proof if self.kubernetes else None
        self._sandbox_can_be_tried()
        if self.nodes and self.nodes.aws and self.nodes.aws.group and not (proof and proof.selector):
            raise ValueError(
                "nodes.aws.group makes machines that nobody logs in to, so kubernetes.proof.selector must select the nodes of "
                "the cluster to prove"
            )
        if self.kubernetes and self.kubernetes.container_runtime and self.served_handler is None:
            self._runtime_is_none()
        if self.nodes and self.nodes.rollout:
            try:
                rollout.refuse_without_cluster(self.served_handler)
            except NodeError as error:
                raise NodeErrorValue(error) from None
        if self.nodes is None:
            self._cluster_alone()
        elif self.kubernetes and self.kubernetes.kata_deploy:
            raise ValueError("kubernetes.kataDeploy and nodes would both configure Kata; remove one of them")
        elif self.nodes.local is None:
            for key, value in (("docker.repository", self.docker.repository), ("kata.install", self.kata.install)):
                if value == "local":
                    raise ValueError(f"{key} 'local' serves local nodes only, and nodes.local is not set")
        return self

    def _runtime_is_none(self) -> None:
        """Refuse a runtime in which nothing would be registered, other than `none`."""
        assert self.kubernetes
        if self.nodes is None or self.kubernetes.cluster == "local":
            raise ValueError("kubernetes.containerRuntime: the stack has no nodes that serve this cluster; remove it")
        if self.kubernetes.container_runtime != "none":
            raise ValueError("kubernetes.containerRuntime: the adopted class may have any handler; name it: kubernetes.handler")

    def _sandbox_can_be_tried(self) -> None:
        """Refuse a proof of a sandbox in an image that has none, and a user that no entry becomes."""
        kubernetes = self.kubernetes
        if kubernetes is None:
            return
        if kubernetes.pod.user_id is not None and not self.kata.nested_sandbox:
            raise ValueError("kubernetes.pod.userId: without a nested sandbox no entry becomes that user; remove it")
        proofs = {
            "proof.image": kubernetes.proof and not kubernetes.proof.image,
            "joiningNodes.proofImage": kubernetes.joining_nodes and not kubernetes.proof_image,
        }
        if self.kata.nested_sandbox and (lacking := [key for key, lacks in proofs.items() if lacks]):
            raise ValueError(
                f"kubernetes.{lacking[0]} is needed, since a nested sandbox is promised and its proof needs the sandbox's tools; "
                "build the image and name it by its digest: docker build --file images/proof/Containerfile --tag "
                "REGISTRY/kata-nodes-proof images/proof, then docker push, which prints the digest"
            )

    def _cluster_alone(self) -> None:
        """Refuse what has no effect, or cannot work, where no machine is configured over SSH."""
        kubernetes = self.kubernetes
        if kubernetes is None or kubernetes.proof is None:
            raise ValueError("nothing would be proven: add nodes, machines to configure, or kubernetes.proof, nodes of a cluster")
        useless = {"docker", "verification"} & self.model_fields_set
        useless |= {f"kata.{to_camel(key)}" for key in {"install", "config_path"} & self.kata.model_fields_set}
        if useless:
            raise ValueError(
                f"{', '.join(sorted(useless))}: settings of nodes, and the stack has none; remove them, or add nodes"
            )
        if kubernetes.kata_deploy and self.kata.hypervisor != "qemu":
            raise ValueError(
                f"kubernetes.kataDeploy installs QEMU, and kata.hypervisor is {self.kata.hypervisor!r}; set it to 'qemu'"
            )
        if self.kata.kernel_params and not kubernetes.kata_deploy:
            raise ValueError("kata.kernelParams: nobody would write them; add nodes or kubernetes.kataDeploy")

    @property
    def not_proven(self) -> list[str]:
        """What a stack that succeeds has not shown, because some of its parts are stand-ins."""
        sentences = []
        if self.kata.install == "local":
            sentences.append(
                "Kata: the archive holds a stand-in for its shim and agent, with Debian's kernel and QEMU. Configuration, kernel "
                "parameters, masks, capabilities and the sandbox in a guest are real; nothing is proven about a Kata release. "
                "Stack genuine installs one."
            )
        if self.kubernetes and self.kubernetes.cluster == "local":
            sentences.append("Kubernetes: the local API server runs no pods, so no pod of the template was started.")
        return sentences

    @property
    def handler(self) -> str | None:
        """Handler that the RuntimeClass must use; None where an adopted one is taken as it is."""
        kubernetes = self.kubernetes
        if kubernetes and kubernetes.kata_deploy:
            return kata_deploy.handler(self.kata.version, self.kata.runtime)
        if kubernetes and (kubernetes.handler or kubernetes.adopt_runtime_class):
            return kubernetes.handler
        return runtime_class.HANDLERS.get((self.kata.hypervisor, self.kata.runtime))

    @property
    def served_handler(self) -> str | None:
        """Handler to register on the stack's own nodes; None where they serve no cluster, or nothing names it."""
        kubernetes = self.kubernetes
        if kubernetes is None or self.nodes is None or kubernetes.cluster == "local" or kubernetes.container_runtime == "none":
            return None
        return self.handler

    @property
    def parameters(self) -> list[str]:
        """All guest kernel parameters to merge; none where Kata is there already and nobody here configures it."""
        if self.nodes is None and not (self.kubernetes and self.kubernetes.kata_deploy):
            return []
        return node_state.merged_parameters(self.kata.kernel_params, self.kata.nested_sandbox)
