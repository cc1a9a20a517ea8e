"""The one error type of this project, and the catalogue of its stable codes."""

from nodekit.rules.text import harmless

CODES: dict[str, str] = {
    # input
    "bad-input": "The desired state that the program was given is not valid.",
    "bad-kernel-parameter": "A kernel parameter cannot be written into a guest's command line.",
    "kernel-parameters-too-long": "The guest's command line would be longer than an x86 kernel can read (2047 bytes).",
    "host-key-invalid": "The text given as a host key is not that of an ed25519 public key.",
    "host-key-missing": "A connection over SSH pins no host key, so that it would believe whatever host answers.",
    "node-doubled": "Two nodes have the same name, or the same address and port.",
    "login-useless": "A secret or a bastion is given that no node's login would use.",
    "hypervisor-cannot-nest": "The chosen hypervisor is refused because a nested sandbox is wanted.",
    "docker-kata-incompatible": "The pair of Docker and Kata is known to break.",
    "pod-capabilities": "A container adds capabilities that its pod's RuntimeClass does not keep inside a guest.",
    "pod-reaches-node": "A pod would reach the node itself: a privileged container, a host namespace or a hostPath volume.",
    "proof-missing": "Nodes or a pod template are made, and nothing in the stack proves them.",
    "secret-in-plain": "A secret is given as plain text, so that it lies in state and previews for everybody to read.",
    "secret-on-command-line": "A secret is part of a command line or its environment, which errors and other processes show.",
    # machines on AWS
    "aws-instance-type": "The type of instance cannot run guests.",
    "aws-ssh-networks": "The networks that may reach SSH are none, or are everybody.",
    "aws-tags": "A tag cannot be set.",
    "aws-managed-node-group": "A managed node group would lose nested virtualisation without a word.",
    "aws-program-differs": "The node program that a group would download is not this checkout's own.",
    "aws-preflight-failed": "The AWS account cannot give what the stack asks for.",
    "user-data-too-long": "The user data is longer than EC2 takes.",
    "program-differs": "The node program that a machine downloaded does not have the sha256 that it was told.",
    "join-failed": "The join script of a proven machine ended with an error.",
    # node
    "no-sudo": "The login user is not root and may not become root without a password.",
    "sudo-password-wrong": "sudo on the node does not accept the login user's password.",
    "sudo-needs-terminal": "sudo on the node refuses to work without a terminal.",
    "sudo-not-allowed": "sudo on the node does not let the login user become root.",
    "unsupported-os": "The node runs an operating system that this program does not know.",
    "node-busy": "Another run of the node program holds the node's lock.",
    "command-failed": "A program on the node ended with an error.",
    "command-timeout": "A program on the node did not end in the time it was given.",
    "command-output-too-long": "A program on the node printed far more than it ever should, and was ended.",
    "tool-missing": "A program that is needed on the node is not installed.",
    "program-damaged": "Neither the node program on the node nor its copy is what was put there.",
    "result-missing": "A verb ended without its own result document, so nothing shows what it did.",
    "file-unreadable": "A file cannot be read.",
    "file-unwritable": "A file cannot be written; the file is as it was.",
    "file-invalid": "A file does not hold what it should; nothing was changed.",
    "journal-invalid": "The record of what this program changed cannot be read.",
    # packages and Docker
    "repository-unreachable": "The package repository does not answer as it should.",
    "repository-key-mismatch": "The package repository is signed by another key than the expected one.",
    "repository-unsigned": "apt is set to install packages that no valid signature vouches for.",
    "apt-sources-invalid": "apt cannot read its lists of sources, or two entries contradict each other.",
    "version-not-in-repository": "The package repository does not hold the wanted version.",
    "apt-lock-held": "Another program holds apt's or dpkg's lock.",
    "packages-conflict": "Installing the wanted packages would remove others.",
    "package-install-failed": "apt or dpkg failed to install, remove or hold packages.",
    "docker-unhealthy": "dockerd does not answer as it should after a change.",
    # kata
    "genuine-impossible": "A local node is to run the real Kata, and this machine lacks KVM or internet.",
    "kata-not-found": "No Kata configuration file lies where the runtime looks for one.",
    "kata-environment-refused": "KATA_CONF_FILE names a configuration file that this Kata refuses, so every guest would fail.",
    "kata-version-differs": "The Kata on the node is not the release that was asked for.",
    "kata-foreign-install": "Kata lies in /opt/kata and this program did not put it there.",
    "kata-release-unlisted": "The table of Kata's releases has no archive for this version, runtime or architecture.",
    "node-memory-too-small": "The node has less memory than a guest of Kata starts with, so QEMU would refuse every guest.",
    "kata-disk-full": "The file system has too little free space for the Kata release archive.",
    "kata-download-failed": "The Kata release archive could not be downloaded.",
    "kata-archive-differs": "The downloaded Kata release archive does not have the sha256 that was asked for.",
    "kata-archive-invalid": "The Kata release archive holds something that no release holds; nothing of it was installed.",
    "kata-would-refuse": "Kata would refuse the configuration when it starts a guest, or take another part of it than is proven.",
    "kata-parameters-lost": "The configuration that Kata reads does not hold the parameters after they were written.",
    # the cluster's container runtime on the node
    "container-runtime-missing": "A node is to serve a cluster and has no container runtime, or not the one that is named.",
    "container-runtime-ambiguous": "A node has several container runtimes, and nothing says which of them serves the cluster.",
    "container-runtime-unhealthy": "The node's container runtime does not run as it should after its configuration was changed.",
    "cgroup-drivers-differ": "Kubelet and container runtime manage cgroups differently, so that Kata pods would be killed.",
    "handler-foreign": "A handler of that name is registered on the node already and does not do what ours would.",
    "snapshotter-missing": "The container runtime has no snapshotter of the kind that the hypervisor needs.",
    # guests
    "preflight-no-kvm": "The node has no usable /dev/kvm, so it can run no guest.",
    "preflight-module-missing": "A kernel module that Kata needs cannot be loaded on the node.",
    "preflight-guest-not-up": "No guest of the node's own kernel reached user space on the node.",
    "proof-guest-not-up": "The guest that Kata would boot did not reach user space.",
    "proof-container-failed": "The runtime did not start the container of the proof, or it ended before the ladder.",
    "proof-base-parameters-lost": "kernel_params lost what Kata's configuration had, and the container's guest did not start.",
    "proof-not-a-guest": "The ladder ran on the node's own kernel, not in a guest.",
    "proof-parameters-missing": "An expected kernel parameter is not on the guest's command line.",
    "proof-user-namespaces-zero": "The guest allows no user namespace: the limit reads 0.",
    "proof-user-namespaces-absent": "The guest's kernel has no user namespaces.",
    "proof-user-namespaces-unreadable": "The guest's limit of user namespaces cannot be read.",
    "proof-user-namespaces-not-a-number": "The guest's limit of user namespaces is not a number.",
    "proof-user-namespaces-child-namespace": "The limit was read inside a child user namespace, which says nothing of the guest.",
    "proof-unshare-failed": "A user namespace cannot be made in the guest.",
    "proof-nested-failed": "A user namespace cannot be made within another in the guest.",
    "proof-bwrap-failed": "Bubblewrap does not start its sandbox in the guest.",
    "proof-srt-failed": "The way that sandbox-runtime starts its sandbox fails in the guest.",
    "proof-rootless-failed": "A rootless engine cannot mount or start a container in the guest.",
    "proof-tool-missing": "A sandbox was promised and not tried, since a tool for it is missing where the ladder ran.",
    "proof-entry-failed": "The entry through which sandbox containers start could not mount a proc of its own.",
    "proof-loopback-failed": "The loopback of a new network namespace cannot be brought up in the guest.",
    "proof-network-missing": "The container has no network, or resolves no name.",
    "proof-transcript-incomplete": "The ladder was started in the guest and its report did not arrive whole.",
    "proof-timeout": "The pod of a proof did not end in the time that it was given.",
    "proof-pod-lost": "The pod of a proof was gone before it had said what it found.",
    "proof-pod-refused": "The cluster refuses the pod of a proof, so that no guest was ever started.",
    "proof-forged": "A Job or pod of a proof is not what was asked for, so that what it reported is not believed.",
    "cluster-node-unknown": "The cluster has no such node, or none with such labels.",
    "cluster-object-exists": "An object of that name is on the cluster already and is not this stack's.",
    "cluster-object-missing": "An object that is to be adopted is not on the cluster.",
    "cluster-provider-takes-over": "The Kubernetes provider creates in a way that would take over what exists.",
    "cluster-field-owned": "A field that would be set on the cluster belongs to somebody else.",
    "cluster-forbidden": "The kubeconfig's user may not do what this program needs.",
    "cluster-login-refused": "The cluster's API server does not accept the kubeconfig's credentials.",
    "kubeconfig-invalid": "The kubeconfig cannot be used: it is not whole, or asks for what this program cannot do.",
    "kubeconfig-plugin-failed": "The program by which a kubeconfig's user logs in is missing, or failed.",
    "cluster-unreachable": "The cluster's API server does not answer.",
    "cluster-object-refused": "The cluster's API server refuses an object that is needed, and says why.",
    "cluster-too-old": "The cluster does not know a kind that is needed.",
    "runtime-class-handler": "An existing RuntimeClass leads to another handler than the wanted one.",
}
"""Code -> its cause in one sentence. A code never changes its meaning."""


class NodeError(Exception):
    """A refusal or failure that a person can act on.

    `code` is a key of `CODES`; `message` is one sentence (what happened, where, the value seen); `remedy` is one sentence
    saying what to do. `details` holds further measured values for the JSON result and never holds a secret. Both sentences may
    quote a node, a guest or a site, and are shown as they are: what could act on a terminal or on CI is made harmless here.
    """

    def __init__(self, code: str, message: str, remedy: str, **details: object) -> None:
        if code not in CODES:
            raise KeyError(f"{code} is not in the catalogue of error codes")
        self.code = code
        self.message = harmless(message)
        self.remedy = harmless(remedy)
        super().__init__(self.message)
        self.details = details

    def as_dict(self) -> dict[str, object]:
        """The `error` object of a result document."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy, **self.details}

    def sentence(self) -> str:
        """What a person reads: the message, then the remedy."""
        return harmless(f"{self.message.rstrip('.')}. {self.remedy.rstrip('.')}. [{self.code}]")
