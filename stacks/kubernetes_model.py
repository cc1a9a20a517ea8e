"""The part of the stack's configuration that says what is made in a cluster, and which of its nodes are proven."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from clusterkit import guard, images, kata_deploy, label_selector, pod, runtime_class
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.kata import handler_registration
from stacks.sections import IMAGE_FOR_EDITORS, ImageName, Model, Name, NodeErrorValue, OneOf, ProofSeconds, form


def selector_can_be_parsed(selector: str) -> str:
    """Refuse what is not a label selector; the rule is the components' own."""
    try:
        return label_selector.check(selector)
    except NodeError as error:
        raise NodeErrorValue(error) from None


def image_can_get_a_tag(image: str) -> str:
    """As `image_can_be_pulled`, for a name to which a chart adds its tag."""
    try:
        return images.without_tag("image", image)
    except NodeError as error:
        raise NodeErrorValue(error) from None


def taints_can_be_tolerated(taints: list[str]) -> list[str]:
    """Refuse what is not a toleration; the rule is the component's own."""
    try:
        for taint in taints:
            runtime_class.toleration(taint)
    except NodeError as error:
        raise NodeErrorValue(error) from None
    return taints


LabelName = Annotated[
    str,
    form(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "small letters, digits and hyphens, at most 63, and no hyphen at either end"),
]
"""What Kubernetes takes as the name of a namespace or handler: an existing one may have any of its lengths."""
NodeName = Annotated[
    str,
    form(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", "the name of a node as kubectl get nodes prints it, which has no capitals"),
]
Selector = Annotated[str, Field(json_schema_extra={"minLength": 1}), AfterValidator(selector_can_be_parsed)]
Quantity = Annotated[
    str, form(r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", "a Kubernetes quantity, such as 250m, 512Mi or 2Gi")
]
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
