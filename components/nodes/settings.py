"""What components for nodes have in common in their arguments: each record stands here once, with its defaults."""

from typing import NotRequired, TypedDict

import pulumi


class Bastion(TypedDict):
    """The machine through which a node is reached."""

    address: pulumi.Input[str]
    """Host name or IP address of its SSH server."""
    port: NotRequired[pulumi.Input[int]]
    """Port of its SSH server; by default 22."""
    user: pulumi.Input[str]
    """Login user."""
    host_key: pulumi.Input[str]
    """Its public key, pinned like the node's."""
    private_key: NotRequired[pulumi.Input[str]]
    """Private login key (secret). Without it the SSH agent is asked."""


class Connection(TypedDict):
    """How to log in to a machine over SSH, as root or as a user that becomes root by sudo."""

    address: pulumi.Input[str]
    """Host name or IP address of its SSH server, as the bastion sees it where there is one."""
    port: NotRequired[pulumi.Input[int]]
    """Port of its SSH server; by default 22."""
    user: NotRequired[pulumi.Input[str]]
    """Login user: root, which is the default, or one that may become root by sudo."""
    host_key: pulumi.Input[str]
    """The host's public key (`ssh-ed25519 AAAA…`), ed25519 or ECDSA; a host that shows another one is refused."""
    private_key: NotRequired[pulumi.Input[str]]
    """Private login key (secret). Without it the SSH agent is asked."""
    sudo_password: NotRequired[pulumi.Input[str]]
    """Password that sudo asks the login user for (secret). Without it sudo must ask for none."""
    bastion: NotRequired[Bastion]
    """The machine through which the node is reached; without it, it is reached directly."""
    identity: NotRequired[pulumi.Input[str]]
    """What tells this machine from another one behind the same address and host key, such as an instance id: everything is done
    and proven again when it changes. By default the host key."""


class Repository(TypedDict):
    """The apt repository that Docker comes from; by default Docker's own."""

    address: NotRequired[pulumi.Input[str]]
    """Its address; `{id}` stands for the distribution (debian, ubuntu)."""
    fingerprint: NotRequired[pulumi.Input[str]]
    """Fingerprint of the key that signs it: 40 hexadecimal digits. By default that of Docker's own key."""
    suite: NotRequired[pulumi.Input[str]]
    """Suite of the repository; by default the node's own release."""


class DockerSettings(TypedDict):
    """Docker on a node."""

    version: NotRequired[pulumi.Input[str]]
    """Version to bring and hold; by default 27.5.1."""
    repository: NotRequired[Repository]
    """Where its packages come from; by default Docker's own repository."""


class Archive(TypedDict):
    """A Kata release archive."""

    address: pulumi.Input[str]
    """Where it is downloaded from (kata-static-VERSION-ARCHITECTURE.tar.xz or .tar.zst)."""
    sha256: pulumi.Input[str]
    """Its sha256, in hexadecimal."""


class Handler(TypedDict):
    """The handler by which a cluster's container runtime starts Kata, on a node that serves a cluster."""

    name: pulumi.Input[str]
    """Name under which the container runtime is to know Kata, such as kata-qemu; RuntimeClasses name it."""
    container_runtime: NotRequired[pulumi.Input[str]]
    """That runtime: containerd, cri-o, k3s, rke2, k0s or microk8s. Without it the one that is found on the node."""
    allowed_annotations: NotRequired[pulumi.Input[list[str]]]
    """Annotations of pods that the runtime passes on to Kata; without them none."""


class KataSettings(TypedDict):
    """Kata Containers on a node."""

    version: NotRequired[pulumi.Input[str]]
    """Kata release; by default 3.32.0."""
    runtime: NotRequired[pulumi.Input[str]]
    """Kata's runtime: go (the default) or rust."""
    hypervisor: NotRequired[pulumi.Input[str]]
    """Hypervisor: qemu (the default), or firecracker, in whose guests nothing nests."""
    nested_sandbox: NotRequired[pulumi.Input[bool]]
    """Whether a sandbox inside the guest must work, by default true: the proof then fails in a guest without user namespaces."""
    sandbox: NotRequired[pulumi.Input[str]]
    """Which sandbox that is, and so what the proof tries: sandbox-runtime (the default), bubblewrap or rootless."""
    kernel_params: NotRequired[pulumi.Input[list[str]]]
    """Guest kernel parameters, merged by key into those of the file that Kata really reads, after `user_namespace.enable=1` where
    a sandbox nests. By default none."""
    install_release: NotRequired[pulumi.Input[bool]]
    """Whether to install the official archive of `version` for the machine's architecture, by this package's own table of sha256
    sums: by default true, unless `archive` is given. Set false where Kata is on the machine already."""
    archive: NotRequired[Archive]
    """Another Kata release archive to install."""
    config_path: NotRequired[pulumi.Input[str]]
    """Configuration file that Docker names to Kata. By default the file for `hypervisor` of the release that is installed, and
    where none is, the file that the runtime finds by itself."""
    handler: NotRequired[Handler]
    """Registers Kata with the node's container runtime, for a node that serves a cluster. Without it the node serves none, and a
    handler that was registered before goes."""


class Verification(TypedDict):
    """How a node is proven."""

    image: NotRequired[pulumi.Input[str]]
    """Image in which the ladder is also climbed by `docker run`, where the node has a Kata shim: one with the tools of the
    promised sandbox, and `ip`. By default one that is made of the node's own files."""
    timeout_seconds: NotRequired[pulumi.Input[int]]
    """Bound on the proof, in seconds; by default 300."""
