"""The stack's configuration: every key, its default, its bounds, and a clear refusal of everything else."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from clusterkit import guard, images, kata_deploy, label_selector, pod, rollout, runtime_class
from delivery import login
from local import limits
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.docker import apt_source, docker_matrix
from nodekit.rules.kata import handler_registration, kata_layout, kata_releases, kernel_params
from nodekit.rules.proof.sandboxes import SANDBOXES
from stacks.aws_model import Aws
from stacks.rollout_model import Rollout
from stacks.sections import FORMS, Model, NodeErrorValue, OneOf, Sha256, form

NAMESPACE = "kata-nodes"
OBJECTS = ("nodes", "docker", "kata", "kubernetes", "verification")
LOGIN_SECRETS = {
    "sshPrivateKey": "Private key of the login to existing nodes, or to instances on AWS that got its public half; without it "
    "the SSH agent is asked.",
    "sudoPassword": "What sudo asks the login user of existing nodes for; without it sudo must ask for nothing.",
    "bastionPrivateKey": "Private key of the login to the bastion; without it the SSH agent is asked.",
}
"""Secrets of the login to existing nodes -> their meaning. Each is a key of its own, which Pulumi encrypts whole."""
SECRETS = {
    **LOGIN_SECRETS,
    "runtimeScript": "What a machine of an auto-scaling group runs as root first of all, to install the container runtime in "
    "which the handler is registered, where its image has none; begins with #!/.",
    "joinScript": "What a machine of an auto-scaling group runs as root once it is proven, to join a cluster; begins with #!/.",
}
"""All that pools take, the scripts of a group's machines among them."""
SECRET_KEYS = {**SECRETS, "kubeconfig": "Kubeconfig of the cluster, where `kubernetes.cluster` is `kubeconfig`."}
"""All that the program takes."""


class ConfigError(Exception):
    """The stack configuration is refused; the text names each key, its value, the reason and the remedy."""


Name = Annotated[
    str,
    form(r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$", "small letters, digits and hyphens, at most 42, and no hyphen at either end"),
]
LabelName = Annotated[
    str,
    form(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "small letters, digits and hyphens, at most 63, and no hyphen at either end"),
]
"""What Kubernetes takes as the name of a namespace or handler: an existing one may have any of its lengths."""
NodeName = Annotated[
    str,
    form(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", "the name of a node as kubectl get nodes prints it, which has no capitals"),
]
Version = Annotated[str, form(r"^\d{1,3}\.\d{1,3}\.\d{1,3}$", "three numbers with dots, such as 3.32.0")]
ProofSeconds = Annotated[int, Field(ge=node_state.LEAST_TIMEOUT_SECONDS, le=node_state.MOST_TIMEOUT_SECONDS)]
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


def selector_can_be_parsed(selector: str) -> str:
    """Refuse what is not a label selector; the rule is the components' own."""
    try:
        return label_selector.check(selector)
    except NodeError as error:
        raise NodeErrorValue(error) from None


def image_can_be_pulled(image: str) -> str:
    """Refuse what no node could pull; the rule is the components' own."""
    try:
        return images.check("image", image)
    except NodeError as error:
        raise NodeErrorValue(error) from None


def image_can_get_a_tag(image: str) -> str:
    """As `image_can_be_pulled`, for a name to which a chart adds its tag."""
    try:
        return images.without_tag("image", image)
    except NodeError as error:
        raise NodeErrorValue(error) from None


Selector = Annotated[str, Field(json_schema_extra={"minLength": 1}), AfterValidator(selector_can_be_parsed)]
Quantity = Annotated[
    str, form(r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", "a Kubernetes quantity, such as 250m, 512Mi or 2Gi")
]
IMAGE_FOR_EDITORS = {"minLength": 1, "pattern": r"^[^\s-][^\s]*$"}
ImageName = Annotated[str, Field(json_schema_extra=IMAGE_FOR_EDITORS), AfterValidator(image_can_be_pulled)]
ImageWithoutTag = Annotated[str, Field(json_schema_extra=IMAGE_FOR_EDITORS), AfterValidator(image_can_get_a_tag)]
Annotation = Annotated[
    str,
    form(
        r"^io\.(katacontainers|kubernetes\.cri|kubernetes\.cri-o)\.[A-Za-z0-9._/-]+$",
        "an annotation that begins with io.katacontainers., io.kubernetes.cri. or io.kubernetes.cri-o., and no value",
    ),
]


LabelKey = Annotated[
    str,
    form(
        r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
        "the key of a label, such as katacontainers.io/kata-runtime",
    ),
]
LabelValue = Annotated[
    str,
    form(
        r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$",
        "the value of a label: letters, digits, dots, hyphens and underscores, at most 63, in quotes",
    ),
]


def taints_can_be_tolerated(taints: list[str]) -> list[str]:
    """Refuse what is not a toleration; the rule is the component's own."""
    try:
        for taint in taints:
            runtime_class.toleration(taint)
    except NodeError as error:
        raise NodeErrorValue(error) from None
    return taints


class Overhead(Model):
    """What a pod costs the node beyond its containers."""

    memory: Quantity
    """Memory, as a Kubernetes quantity."""
    cpu: Quantity
    """CPU, in the same form."""


class Pod(Model):
    """The PodTemplate's container."""

    command: Annotated[list[str], Field(min_length=1)] = list(pod.COMMAND)
    """Program of the container with its arguments. As root with a nested sandbox it starts through an entry that mounts a proc of
    the container's own, without which sandbox-runtime does not start in its default mode; the image needs /bin/sh and mount."""
    user: Literal["root", "ordinary"] = "root"
    """`root`: as the image says, with NET_ADMIN, SYS_ADMIN and SETFCAP where a sandbox nests; `ordinary`: uid 1000 with none and
    without the entry: bubblewrap works there unless it mounts proc, and sandbox-runtime only in its mode
    `enableWeakerNestedSandbox`."""
    user_id: Annotated[int, Field(ge=1, le=4294967294)] | None = None
    """User and group that the entry becomes, without any capability, before it starts the command; the image then needs setpriv.
    Without it the command runs as root of the container."""
    read_only_root: bool = True
    """Whether it may write to /tmp only."""
    service_account_token: bool = False
    """Whether it gets a token for the API server."""
    seccomp: Annotated[str, OneOf(pod.SECCOMP)] = pod.SECCOMP[0]
    """Its seccomp profile on the node; Kata applies none in the guest by default."""
    cpu: Quantity = pod.CPU
    """CPU requested."""
    memory: Quantity = pod.MEMORY
    """Memory requested."""
    memory_limit: Quantity = pod.MEMORY_LIMIT
    """Limit on its memory."""

    @model_validator(mode="after")
    def memory_fits_its_limit(self) -> "Pod":
        """The rule is the component's own."""
        try:
            pod.check_resources(self.cpu, self.memory, self.memory_limit)
        except NodeError as error:
            raise NodeErrorValue(error) from None
        return self


class KataDeploy(Model):
    """Kata on the nodes of the cluster by kata-deploy's Helm chart, without SSH."""

    chart: Annotated[str, form(r"^[^\s-][^\s]*$", "a name without spaces that does not begin with a hyphen", 1)] = (
        kata_deploy.CHART
    )
    """Where the chart is: the OCI address of Kata's installation guide, that of a mirror, or a path to a folder or archive. Its
    version is `kata.version`."""
    namespace: LabelName = kata_deploy.NAMESPACE
    """Namespace of the release."""
    image: ImageWithoutTag | None = None
    """Image of the chart's DaemonSet without its tag, for a mirror; without it the chart's own."""
    node_selector: dict[LabelKey, LabelValue] = {}
    """Labels of the nodes that get Kata, where not all have KVM: the others are neither labelled nor proven. Without it all nodes
    whose taints the chart tolerates."""
    k8s_distribution: Annotated[str, OneOf(kata_deploy.DISTRIBUTIONS), Field(alias="k8sDistribution")] = (
        kata_deploy.DISTRIBUTIONS[0]
    )
    """Kubernetes distribution of these nodes, which decides where their containerd has its configuration; nodes that report
    another are refused before anything is made."""
    values: dict[str, Any] = {}
    """Further values of the chart, by its own documentation, merged into the stack's; what a setting here decides is refused."""


class ClusterProof(Model):
    """How every node of the cluster is proven: by a Job with a pod of the template, whatever reached the node before."""

    nodes: Annotated[list[NodeName], Field(min_length=1)] | None = None
    """Names of the nodes, as kubectl get nodes has them; or `selector`."""
    selector: Selector | None = None
    """Label selector of the nodes, such as katacontainers.io/kata-runtime=true, looked up at each `up`."""
    namespace: LabelName = "kata-nodes-proof"
    """Namespace of the proof's Jobs and evidence, made for them alone: tenants have no rights there, and a guard of the API
    server refuses what they would write or enter."""
    image: ImageName | None = None
    """Image to climb the ladder in, best by digest: it has the tools of `kata.sandbox`, as images/proof/Containerfile makes it.
    Needed where a nested sandbox is promised, since this project publishes none; otherwise Debian 13, where nothing nests."""
    timeout_seconds: ProofSeconds = node_state.TIMEOUT_SECONDS
    """Bound on one node's proof."""

    @model_validator(mode="after")
    def one_way_to_say_which(self) -> "ClusterProof":
        """Refuse neither and both."""
        if (self.nodes is None) == (self.selector is None):
            raise ValueError("give exactly one of nodes and selector")
        return self


class JoiningNodes(Model):
    """The controller that proves nodes which join later, with the startup taint kata-nodes/unproven (docs/joining-nodes.md)."""

    image: ImageName
    """Image of the controller, built from clusterkit/controller/Containerfile; best by digest."""
    selector: Selector = f"{runtime_class.NODE_LABEL}=true"
    """Label selector of the nodes that it proves."""
    namespace: LabelName = "kata-nodes-joining"
    """Namespace of the controller and its Jobs, made for it alone."""
    proof_image: ImageName | None = None
    """Image to climb the ladder in, as `proof.image`; without it that one."""
    timeout_seconds: ProofSeconds = node_state.TIMEOUT_SECONDS
    """Bound on one node's proof."""


class Kubernetes(Model):
    """What is made on a Kubernetes cluster."""

    cluster: Literal["local", "kubeconfig"] = "kubeconfig"
    """`local`: an API server that the stack starts and stops; `kubeconfig`: the one of the secret key `kubeconfig`."""
    context: str | None = None
    """Context of that kubeconfig; without it the current one."""
    namespace: LabelName = "sandboxes"
    """Namespace of sandbox pods."""
    adopt_namespace: bool = False
    """Whether that namespace is there already and is labelled; otherwise it is made, and one that exists is refused."""
    allowed_annotations: list[Annotation] = []
    """Keys of the annotations and labels for Kata and its container runtime (io.katacontainers, io.kubernetes.cri and cri-o) that
    pods there may carry. `kernel_params`, for one, would let anyone who makes a pod remove its guest's user namespaces."""
    privileged_in_guest: bool = False
    """Whether pods under that RuntimeClass may be privileged, such as Docker inside a sandbox. Right only where the nodes'
    runtime has `privileged_without_host_devices = true` for Kata's handler: others pass the node's devices into the guest."""
    runtime_class: LabelName = "kata-qemu"
    """Name of the RuntimeClass."""
    adopt_runtime_class: bool = False
    """Whether that class is there already, such as one that kata-deploy or a cloud made, and is used and proven as it is;
    otherwise it is made, and one that exists is refused."""
    handler: LabelName | None = None
    """Handler that the class uses: the name under which the nodes' container runtime knows Kata. Without it a class that is made
    uses kata-deploy's handler for `kata.hypervisor` and `kata.runtime`, and an adopted one keeps its own."""
    container_runtime: Annotated[str, OneOf((*handler_registration.RUNTIMES, handler_registration.NONE))] | None = None
    """Runtime of the stack's own nodes (`nodes`) in which that handler is registered; without it the one that is found on each.
    `none`: those nodes serve no cluster."""
    overhead: Overhead | None = None
    """What a pod costs beyond its containers, by the class; without it kata-deploy's own values for the release."""
    tolerations: Annotated[list[str], AfterValidator(taints_can_be_tolerated)] = []
    """Taints of the nodes that pods of the class tolerate, as for kubectl taint: KEY[=VALUE][:EFFECT]."""
    pod_template: Name = "nested-sandbox"
    """Name of the PodTemplate."""
    image: ImageName = images.SANDBOX
    """Image of the PodTemplate's container."""
    image_mirror: (
        Annotated[
            str,
            form(
                r"^(localhost|[a-z0-9-]*\.[a-z0-9.-]*(:[0-9]+)?|[a-z0-9-]+:[0-9]+)(/[a-z0-9._/-]*[a-z0-9])?$",
                "a registry with a dot or a port, such as registry.example:5000 or registry.example/mirror, without https://",
            ),
        ]
        | None
    ) = None
    """Registry, with or without a path, that stands for Docker Hub in the image names here: `debian:13-slim` becomes
    `<mirror>/library/debian:13-slim`. Names that begin with another registry stay."""
    pod: Pod = Pod()
    """How that container runs."""
    kata_deploy: KataDeploy | None = None
    """How Kata comes to the nodes, where it is not there already and the stack configures none over SSH."""
    proof: ClusterProof | None = None
    """The proof on every node of the cluster; without it the stack vouches for the nodes that it configured itself."""
    joining_nodes: JoiningNodes | None = None
    """The proof of nodes that join later; without it nothing removes their startup taint."""

    @model_validator(mode="after")
    def local_cluster_runs_no_pods(self) -> "Kubernetes":
        """Refuse a proof that could never end."""
        if self.proof and self.cluster == "local":
            raise ValueError("the local cluster has no kubelet to prove; leave proof out, or use cluster: kubeconfig")
        if self.joining_nodes and self.cluster == "local":
            raise ValueError("no node joins the local cluster; leave joiningNodes out, or use cluster: kubeconfig")
        return self

    @model_validator(mode="after")
    def sandboxes_wait_for_the_proof(self) -> "Kubernetes":
        """Refuse a class whose pods would come to a node that joins before its proof."""
        tolerated = [runtime_class.toleration(taint)["key"] for taint in self.tolerations]
        if self.joining_nodes and runtime_class.TAINT in tolerated:
            raise ValueError(
                f"pods of the class would tolerate {runtime_class.TAINT}, the taint of nodes that wait for their proof; remove "
                "it from tolerations"
            )
        return self

    @model_validator(mode="after")
    def proofs_are_alone_in_their_namespaces(self) -> "Kubernetes":
        """Refuse a namespace in which others make pods, or in which one guard would refuse the other's pods."""
        if self.joining_nodes and self.joining_nodes.namespace == self.namespace:
            raise ValueError(
                f"anyone who makes pods in {self.namespace} could act as the controller; name another joiningNodes.namespace"
            )
        if self.proof and self.proof.namespace in (self.namespace, self.joining_nodes and self.joining_nodes.namespace):
            raise ValueError(
                f"the proof's evidence must lie where tenants have no rights, and {self.proof.namespace} is used for something "
                "else; name another proof.namespace"
            )
        if self.kata_deploy and self.kata_deploy.namespace in self.guarded:
            raise ValueError(
                f"the guard of {self.kata_deploy.namespace} would refuse kata-deploy's own pods, which are privileged and reach "
                "into their node; name another namespace for one of them"
            )
        try:
            guard.binding("guard", self.guarded)
        except NodeError as error:
            raise NodeErrorValue(error) from None
        of_sandboxes = [self.namespace] if not self.adopt_namespace else []
        if unmakeable := [name for name in (*of_sandboxes, *self.proving) if name in guard.OF_EVERY_CLUSTER]:
            raise ValueError(
                f"the namespace {unmakeable[0]} is in every cluster, and the stack would make it; name another one, or, for the "
                "sandboxes alone, adopt it: kubernetes.adoptNamespace"
            )
        return self

    @property
    def guarded(self) -> list[str]:
        """Names of the namespaces that the guard watches."""
        return list(dict.fromkeys([self.namespace, *self.proving]))

    @property
    def proving(self) -> list[str]:
        """Names of the namespaces in which proofs run."""
        return [place.namespace for place in (self.proof, self.joining_nodes) if place]

    @property
    def proof_image(self) -> str | None:
        """Image of the proof of joining nodes: their own, or the one of `proof`."""
        return (self.joining_nodes and self.joining_nodes.proof_image) or (self.proof and self.proof.image) or None

    @model_validator(mode="after")
    def entry_becomes_the_user(self) -> "Kubernetes":
        """Refuse a user that nothing would become."""
        if self.pod.user_id is not None and self.pod.user == "ordinary":
            raise ValueError("pod.userId is what the entry becomes, and pod.user 'ordinary' has no entry; remove one of them")
        return self

    @model_validator(mode="after")
    def adopted_class_is_left_as_it_is(self) -> "Kubernetes":
        """Refuse settings of the class where the class is adopted."""
        if self.adopt_runtime_class and (self.overhead or self.tolerations):
            raise ValueError("an adopted RuntimeClass keeps its own overhead and tolerations; remove these, or adoptRuntimeClass")
        if self.handler and self.kata_deploy:
            raise ValueError("kubernetes.kataDeploy decides the handler; remove kubernetes.handler")
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


REMEDIES = {
    "extra_forbidden": "Remove the key, or correct its spelling; docs/reference/settings.md has every key",
    "missing": "Add the key",
    "string_type": "Write text, in quotes where it looks like a number",
    "int_type": "Write a whole number without quotes",
    "bool_type": "Write true or false without quotes",
    "list_type": "Write a list",
    "dict_type": "Write its keys below it, indented",
    "too_short": "Write one entry at least",
    "string_too_short": "Write the text",
    "model_type": "Write its keys below it, indented, or remove it",
}
REASONS = {
    "extra_forbidden": "there is no such key",
    "missing": "the key is required",
    "model_type": "it has keys of its own, and this is not a set of keys",
    "string_pattern_mismatch": "the key takes no such text",
    "too_short": "the list is empty",
    "string_too_short": "the text is empty",
    "dict_type": "it is not a set of keys",
}


LOGIN_IN_ADDRESS = re.compile(r"://[^\s/]*@")
"""A user name, and often a password, that no message repeats."""


def _path(location: tuple[int | str, ...]) -> list[str]:
    """The keys to a problem. pydantic puts the alternatives of a union among them, which are none."""
    alternatives = (DockerRepository.__name__, KataArchive.__name__)
    parts: list[str] = []
    for part in location:
        if isinstance(part, int) and parts:
            parts[-1] += f"[{part}]"
        elif part not in alternatives and not str(part).startswith(("function-", "literal[")):
            parts.append(str(part))
    return parts


def _keys(value: object) -> bool:
    """Whether a value is a set of keys, or a list with one."""
    return isinstance(value, BaseModel | dict) or (isinstance(value, list) and any(map(_keys, value)))


def refusal(error: ValidationError) -> str:
    """One line for each mistake: the key as `pulumi config` names it, the value seen, the reason, the remedy."""
    lines = []
    problems = [(_path(problem["loc"]), problem) for problem in error.errors(include_url=False)]
    kinds = {kind: [path for path, problem in problems if problem["type"] == kind] for kind in ("literal_error", "model_type")}
    for path, problem in problems:
        # A key that takes a word or keys below it has one problem for each. Where keys are wrong, the word was not meant.
        either = path in kinds["literal_error"]
        if either and (problem["type"] == "model_type" or any(other[: len(path)] == path != other for other, _ in problems)):
            continue
        key = f"{NAMESPACE}:" + (".".join(path) if path else "(the whole configuration)")
        # The value of a key that does not exist could be a password or a login key in the wrong place, and so could one within.
        hidden = problem["type"] in ("missing", "extra_forbidden")
        hidden = hidden or (problem["type"] != "literal_error" and _keys(problem["input"]))
        hidden = hidden or bool(login.PRIVATE_KEY.search(repr(problem["input"])))
        has_value = path and not hidden
        value = LOGIN_IN_ADDRESS.sub("://", repr(problem["input"]))
        seen = f" (value: {value:.120})" if has_value else ""
        reason = REASONS.get(problem["type"], problem["msg"].removeprefix("Value error, ")).rstrip(".")
        if either and path in kinds["model_type"]:
            reason += ", or keys below it"
        # A rule's own refusal ends with its code and holds its remedy already.
        remedy = "" if reason.endswith("]") else f". {REMEDIES.get(problem['type'], 'Correct the value')}."
        if problem["type"] == "string_pattern_mismatch":
            reason, remedy = REASONS["string_pattern_mismatch"], f". Use {FORMS[problem['ctx']['pattern']]}."
        lines.append(f"{key}{seen}: {reason}{remedy}")
    return "The stack configuration is refused:\n  " + "\n  ".join(dict.fromkeys(lines))


def refuse_useless(config: StackConfig, secrets: Collection[str]) -> None:
    """Refuse secrets of `SECRET_KEYS` that are set and that nothing would use; raises ConfigError."""
    nodes = config.nodes or Nodes.model_construct()
    users = {node.user for node in nodes.existing or []}
    aws = nodes.aws
    given_key = bool(aws and aws.instances and aws.instances.public_key)
    required = {
        "sshPrivateKey": (bool(users) or given_key, "nodes.existing names no node, and nodes.aws.instances no publicKey"),
        "sudoPassword": (bool(users - {"root"}), "every node of nodes.existing is logged in to as root, or there is none"),
        "bastionPrivateKey": (nodes.bastion is not None, "nodes.bastion is not set"),
        "runtimeScript": (bool(aws and aws.group), "nodes.aws.group is not set"),
        "joinScript": (bool(aws and aws.group), "nodes.aws.group is not set"),
        "kubeconfig": (
            bool(config.kubernetes and config.kubernetes.cluster == "kubeconfig"),
            "nothing is made on its cluster: there is no section kubernetes, or kubernetes.cluster is 'local'",
        ),
    }
    errors = [
        NodeError(
            "login-useless",
            f"{NAMESPACE}:{key} is set, but {why}",
            "cluster" if key == "kubeconfig" else "",
            key=f"{NAMESPACE}:{key}",
        )
        for key, (needed, why) in required.items()
        if key in secrets and not needed
    ]
    if errors:
        raise ConfigError("The stack configuration is refused:\n  " + "\n  ".join(error.sentence() for error in errors))


def refuse_unknown(keys: Iterable[str], project: str = NAMESPACE) -> None:
    """Refuse keys of this namespace that are neither a section nor a secret, of all that Pulumi holds; raises ConfigError.

    So are those of a namespace that can only be meant for this one, since a section there would have no effect and no message:
    a misspelt one, or that of a `project` with another name, which is that of a key without a namespace. Keys of another program,
    such as data-nodes:size, are not. The values are not shown: one could be a secret whose key is misspelt.
    """
    names = (*OBJECTS, *SECRET_KEYS)
    known = {f"{NAMESPACE}:{name}" for name in names}

    def is_meant(namespace: str, name: str) -> bool:
        close = namespace == project or difflib.get_close_matches(namespace.lower(), [NAMESPACE], cutoff=0.8)
        return namespace == NAMESPACE or bool(close and difflib.get_close_matches(name, names, cutoff=0.8))

    meant = {key for key in keys if is_meant(*key.partition(":")[::2])}
    strange = sorted(meant - known)
    if strange:
        lines = [f"{key}: {REASONS['extra_forbidden']}. {_instead(key, known)}." for key in strange]
        raise ConfigError("The stack configuration is refused:\n  " + "\n  ".join(lines))


def refuse_settings_of_plugins(config: StackConfig, values: Mapping[str, str]) -> None:
    """Refuse settings of the plugins of AWS and Kubernetes, such as aws:profile, where the stack makes something there; raises
    ConfigError. `values` are all that Pulumi holds.

    The stack has its account and its cluster by plugins of its own, to which they do not come: with aws:profile or
    kubernetes:context, or without what aws:allowedAccountIds forbids, it would be made in another place than was meant.
    """
    instead = {}
    if aws := config.nodes.aws if config.nodes else None:
        instead["aws"] = (
            "nodes.aws.region names the region, and the credentials are those of the aws command where the stack is run, such as "
            "by AWS_PROFILE"
        )
    if config.kubernetes:
        instead["kubernetes"] = f"the secret {NAMESPACE}:kubeconfig and kubernetes.context name the cluster"
    lines = [
        f"{key}: it would have no effect: {instead[plugin]}. Remove it: pulumi config rm {key}."
        for key, value in sorted(values.items())
        if (plugin := key.partition(":")[0]) in instead and (key, value) != ("aws:region", aws and aws.region)
    ]
    if lines:
        raise ConfigError("The stack configuration is refused:\n  " + "\n  ".join(lines))


def _instead(key: str, known: Collection[str]) -> str:
    """What to do with a key that there is not: of another namespace, or written as a path into a section, as messages here do."""
    if (own := f"{NAMESPACE}:{key.partition(':')[2]}") in known:
        return f"Write it as {own}"
    section = re.fullmatch(rf"{NAMESPACE}:({'|'.join(OBJECTS)})[.\[][^'\s]*", key)
    if section is None:
        return REMEDIES["extra_forbidden"]
    return (
        f"It was set without --path, so it is no part of {NAMESPACE}:{section[1]}. Run: pulumi config rm '{key}', then "
        f"pulumi config set --path '{key}' VALUE"
    )


def in_plain(keys: Iterable[str], is_secret: Callable[[str], bool]) -> list[str]:
    """A sentence for each key of `SECRET_KEYS` that is set without --secret: its value lies in the stack's file for everyone who
    can read that. The state has it encrypted all the same."""
    plain = [f"{NAMESPACE}:{key}" for key in keys if not is_secret(f"{NAMESPACE}:{key}")]
    return [
        f"{key} is set in plain, so everyone who can read the stack's file knows it. Replace the secret where it is valid, and "
        f"set the new one encrypted: pulumi config set --secret {key}"
        for key in plain
    ]


def refuse_encrypted_sections(is_secret: Callable[[str], bool]) -> None:
    """Refuse sections of which a part was set as a secret (`pulumi config set --secret --path`); raises ConfigError.

    They become inputs of resources in plain: the state, previews and outputs would show what the stack's file keeps encrypted.
    """
    encrypted = [key for key in (f"{NAMESPACE}:{section}" for section in OBJECTS) if is_secret(key)]
    if encrypted:
        why = (
            "it is set as a secret, or a part of it is, and the stack's state and outputs would show it in plain. Set it without "
            f"--secret if everyone who can read these may know it. Secrets are keys of their own: {', '.join(SECRET_KEYS)}."
        )
        lines = [f"{key}: {why}" for key in encrypted]
        raise ConfigError("The stack configuration is refused:\n  " + "\n  ".join(lines))


def load(get_object: Callable[[str], object]) -> StackConfig:
    """The configuration from `pulumi.Config(NAMESPACE).get_object`; raises ConfigError."""
    sections = {key: value for key in OBJECTS if (value := get_object(key)) is not None}
    try:
        return StackConfig.model_validate(sections)
    except ValidationError as error:
        raise ConfigError(refusal(error)) from None
