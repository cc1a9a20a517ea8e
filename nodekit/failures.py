"""The catalogue of failures: each stable code, its cause and its remedies, written once and used where the code is raised.

A remedy may show values of the place that raises it, as `{file}`. Where one failure has several ways out, the further ones are
its cases. A code of which the table names no remedy is a diagnosis: the rung of the ladder or the fault on a guest's console
that was found brings the remedy. A code never changes its meaning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Failure:
    """What one code means, and what to do about it."""

    cause: str
    remedy: str = ""
    cases: Mapping[str, str] = field(default_factory=dict)
    """Other remedies of the same failure, by the name that the place of the error uses."""


_SET = "kubectl config view --raw --minify --flatten | pulumi config set --secret kata-nodes:kubeconfig"
"""Sets a kubeconfig that holds one cluster, and what its files hold."""
CATALOGUE: dict[str, Failure] = {
    # input
    "bad-input": Failure(
        "A value that the program was given is not valid.",
        "Use {expected}",
        {
            "stdin": "Write one JSON object to the standard input",
            "settings": "Leave their ConfigMap to the stack: pulumi up --refresh writes it again",
            "sudo-password": "Set it as one line: pulumi config set --secret kata-nodes:sudoPassword",
            "two-sources": "Leave out installRelease, or the archive's address and sha256",
            "script": "See the first lines of this script",
            "password": "Write it on the first line of the standard input",
            "kata-deploy-value": "Leave it out of values, and use that setting",
        },
    ),
    "bad-kernel-parameter": Failure(
        "A kernel parameter cannot be written into a guest's command line.",
        'Write one parameter in each list entry, as name, name=value or name="a b", in printable ASCII',
        {
            "quotes": "Balance the quotes in Kata's configuration file",
            "doubled": "List it once; the kernel honors only the last",
        },
    ),
    "kernel-parameters-too-long": Failure(
        "The guest's command line would be longer than an x86 kernel can read (2047 bytes).",
        "Shorten kata.kernelParams, or kernel_params of the configuration file",
        {
            "by-bytes": "Shorten kata.kernelParams by {excess} bytes",
        },
    ),
    "host-key-invalid": Failure(
        "The text set as a host key is not an ed25519 public key.",
        "Use the content of /etc/ssh/ssh_host_ed25519_key.pub on the host, read there and not over the network",
    ),
    "host-key-missing": Failure(
        "A connection over SSH pins no host key, so it would trust any host that answers.",
        "Set hostKey of the connection, and of its proxy, to the content of the host's /etc/ssh/ssh_host_ed25519_key.pub",
    ),
    "node-doubled": Failure(
        "Two nodes have the same name, or the same address and port.",
        "Choose a name for each node that no other node has",
        {
            "address": "Remove one of them, or set a different port for each",
        },
    ),
    "login-useless": Failure(
        "A secret or a bastion is set that no node's login would use.",
        "Remove it: pulumi config rm {key}",
    ),
    "hypervisor-cannot-nest": Failure(
        "The chosen hypervisor cannot run a nested sandbox, and one is asked for.",
        "Set kata.hypervisor to 'qemu', or kata.nestedSandbox to false",
    ),
    "docker-kata-incompatible": Failure(
        "The pair of Docker and Kata is known to break.",
        "Use {works}",
    ),
    "pod-capabilities": Failure(
        "A container adds capabilities that its pod's RuntimeClass does not keep inside a guest.",
        "Set runtimeClassName to {classes}, or add no capability",
        {
            "set": "Add {capabilities}, spelled exactly so, or neither",
        },
    ),
    "pod-reaches-node": Failure(
        "A pod would reach the node itself: a privileged container, a host namespace or a hostPath volume.",
        "Remove {fields}",
        {
            "privileged": "Remove privileged; {capabilities} under a RuntimeClass of Kata are enough for a nested sandbox",
            "volume": "Use emptyDir or a persistent volume claim",
        },
    ),
    "proof-missing": Failure(
        "Nodes or a pod template are made, and nothing in the stack proves them.",
        "Make the nodes with a whole KataNode, or prove the cluster's nodes with KataProof",
    ),
    "secret-in-plain": Failure(
        "A secret is set as plain text, so everybody can read it in the state and in previews.",
        "Set it with pulumi config set --secret, read it with require_secret, or wrap it in pulumi.Output.secret",
    ),
    "secret-on-command-line": Failure(
        "A secret is part of a command line or its environment, which errors and other processes show.",
        "Pass it on the standard input, or in a file of its own; pulumi.Output.unsecret marks a value as not secret",
    ),
    # machines on AWS
    "aws-instance-type": Failure(
        "The type of instance cannot run guests.",
        "Choose bare metal of Intel or AMD, such as m7i.metal-24xl, or a type that lists nested-virtualization, such as m8i",
        {
            "not-metal": "Set nestedVirtualization to true with a type that lists it (m8i, c8i, r8i), or choose a .metal type",
            "metal": "Remove nestedVirtualization: bare metal does not need it",
        },
    ),
    "aws-ssh-networks": Failure(
        "No network, or every network, may reach SSH.",
        "Name the networks from which the stack is run, or set sshFromEverywhere: true if you mean that",
        {
            "form": "Write it as 203.0.113.0/24, or one address as 203.0.113.7/32",
        },
    ),
    "aws-tags": Failure(
        "A tag cannot be set.",
        "Choose another key or value",
    ),
    "aws-managed-node-group": Failure(
        "A managed node group would lose nested virtualization without a message.",
        "Use nodes.aws.group, an auto-scaling group of the stack's own",
    ),
    "aws-program-differs": Failure(
        "The node program that a group would download is not the one of this checkout.",
        "Build it (python -m delivery.bundle --output nodekit.pyz), upload that file, and set the sha256 that the command prints",
    ),
    "aws-preflight-failed": Failure(
        "The AWS account cannot provide what the stack asks for.",
        "Follow the remedy under each line that failed",
        {
            "region": "Choose another region",
        },
    ),
    "user-data-too-long": Failure(
        "The user data is longer than EC2 accepts.",
        "Shorten the join script: let it download the rest from where the program is",
    ),
    "program-differs": Failure(
        "The node program that a machine downloaded does not have the expected sha256.",
        "Upload the file that this stack's checkout builds",
    ),
    "join-failed": Failure(
        "The join script of a proven machine ended with an error.",
        "See {log}",
    ),
    # node
    "no-sudo": Failure(
        "The login user is not root and cannot become root without a password.",
        "Log in as root, or install sudo",
        {
            "password": "Allow it (NOPASSWD) for this user, set the secret sudoPassword, or log in as root",
        },
    ),
    "sudo-password-wrong": Failure(
        "sudo on the node does not accept the login user's password.",
        "Set the right one: pulumi config set --secret kata-nodes:sudoPassword",
    ),
    "sudo-needs-terminal": Failure(
        "sudo on the node refuses to work without a terminal.",
        "Put 'Defaults:{user} !requiretty' into /etc/sudoers.d, or log in as root",
    ),
    "sudo-not-allowed": Failure(
        "sudo on the node does not let the login user become root.",
        "Allow it in /etc/sudoers.d, or log in as root",
        {
            "broken": "Repair sudo on the node, or log in as root",
        },
    ),
    "unsupported-os": Failure(
        "The node runs an operating system that this program does not support.",
        "Use Debian 12 or 13, or Ubuntu 22.04 or 24.04",
        {
            "listed": "Use one of: {systems}",
        },
    ),
    "node-busy": Failure(
        "Another run of the node program holds the node's lock.",
        "Wait until that run has ended, then run again",
    ),
    "command-failed": Failure(
        "A program on the node ended with an error.",
        "Run it by hand on the node to see why",
        {
            "status": "See '{status}' on the node",
            "download": "Check that this machine can reach it",
            "log": "See {log}",
        },
    ),
    "command-timeout": Failure(
        "A program on the node did not end in time.",
        "Run it by hand on the node to see why",
        {
            "status": "See '{status}' on the node",
            "log": "See {log}",
        },
    ),
    "command-output-too-long": Failure(
        "A program on the node printed far more than it should, and was ended.",
        "Run it by hand on the node to see what it prints, then run again",
    ),
    "tool-missing": Failure(
        "A program that is needed on the node is not installed.",
        "Install {package} on the node",
        {
            "configured": "Install it, or correct path in Kata's configuration",
            "packages": "Install them by hand, then run again",
        },
    ),
    "program-damaged": Failure(
        "Neither the node program on the node nor its copy is the one that was put there.",
        "Put it there again: pulumi up --replace with the URN of the node's -upload and -program",
    ),
    "result-missing": Failure(
        "A verb ended without a result document, so nothing shows what it did.",
        "Run it again: pulumi up --replace with the URN of {resource}",
        {
            "python": "Run again; if it happens again, check that python3 on the node is complete",
        },
    ),
    "file-unreadable": Failure(
        "A file cannot be read.",
        "Name {expected}",
        {
            "settings": "Mount the settings' ConfigMap there",
            "disk": "Check the file and its disk",
            "loop": "Remove the loop",
            "configured": "Correct {key} in Kata's configuration",
            "root": "Run the program as root",
            "proc": "Mount /proc on the node",
            "upload": "Remove the stack's upload from its state with 'pulumi up --replace', then run again",
        },
    ),
    "file-unwritable": Failure(
        "A file cannot be written; it is unchanged.",
        "Free space, or make the file system writable, then run again",
        {
            "file-system": "Use ext4, xfs, btrfs or tmpfs there",
            "release": "Free space for {folder} (a release needs about 2 GiB), or make the file system writable",
            "root": "Run the program as root",
        },
    ),
    "file-invalid": Failure(
        "A file does not hold what it should; nothing was changed.",
        "Correct {file} by hand, then run again",
        {
            "chart": "Put the whole string in a drop-in of your own, {drop_in}",
            "hypervisor": "Complete [hypervisor.*] in Kata's configuration",
            "move": "Move it away, then run again",
            "imports": "Correct {file}, or a file that it imports, by hand, then run again",
            "migrate": "Write that file as `containerd config migrate` prints it, then run again",
            "headers": "Write the tables of that file as [headers], then run again",
            "initrd": "Correct initrd in Kata's configuration",
            "long": "Find which of the files it names are so long, and what wrote them",
            "remove": "Remove {path}, then run again",
            "drop-ins": "Remove everything that is not a drop-in from it",
            "link": "Replace it with a copy of the file",
            "order": "Rename that file so that it sorts before {drop_in}",
            "old-kata": "Upgrade Kata to 2.5.0 or later",
            "key": "Check the address of the repository's key",
            "configuration": "Correct that file, or put the release's own file back, then run again",
            "hypervisor-table": "Write the table with a header line [hypervisor.{hypervisor}] and the key {key} below it",
            "other-hypervisor": "Choose the hypervisor of that file, or name the file of this one with configPath",
            "hypervisor-file": "Name {path} with configPath, or choose the hypervisor of that file",
            "upload": "Run again; if it happens again, check the disk",
        },
    ),
    "journal-invalid": Failure(
        "The record of what this program changed cannot be read.",
        "Look at the files it names, then move {path} away; what it recorded can then no longer be restored",
    ),
    # packages and Docker
    "repository-unreachable": Failure(
        "The package repository does not answer as expected.",
        "Check the repository's address, suite and key, and that the node reaches it",
        {
            "key": "Check the key's address, and that the node reaches it",
        },
    ),
    "repository-key-mismatch": Failure(
        "The package repository is signed by another key than the expected one.",
        "Compare the fingerprint with the one that the repository's owner publishes; if they agree, correct the setting",
        {
            "no-file": "Remove {entry}",
            "entry": "Add 'Signed-By' with the repository's key file to that entry, or remove it from {entry}",
        },
    ),
    "repository-unsigned": Failure(
        "apt is set to install packages without a valid signature.",
        "Remove {options} from {file}",
    ),
    "apt-sources-invalid": Failure(
        "apt cannot read its lists of sources, or two entries contradict each other.",
        "Correct the entry that apt names, then run again",
        {
            "conflict": "Remove one of the two entries, or set the same Signed-By in both: {files}",
        },
    ),
    "version-not-in-repository": Failure(
        "The package repository does not hold that version.",
        "Choose a version that the repository has, or another repository",
    ),
    "apt-lock-held": Failure(
        "Another program holds apt's or dpkg's lock.",
        "Wait until that program has ended, or end it, then run again",
    ),
    "packages-conflict": Failure(
        "Installing the packages would remove others.",
        "Remove those packages by hand if nothing needs them, then run again",
    ),
    "package-install-failed": Failure(
        "apt or dpkg failed to install, remove or hold packages.",
        "Run {command} by hand on the node to see why",
        {
            "interrupted": "Repair the named package with 'dpkg --configure -a', then run again",
            "apt": "Repair what apt names on the node, then run again",
        },
    ),
    "docker-unhealthy": Failure(
        "dockerd does not answer as expected after a change.",
        "Read 'journalctl -u docker' on the node, repair what it names, then run again",
    ),
    # kata
    "genuine-impossible": Failure(
        "A local node is to run the real Kata, and this machine lacks KVM or internet.",
        "Use a machine that has both, or stack local, which emulates where it must and runs a stand-in for Kata",
    ),
    "kata-not-found": Failure(
        "There is no Kata configuration file where the runtime looks for one.",
        "Install Kata (kata.install: release), or name its file with configPath{seen}",
        {"shim": "Install Kata (kata.install: release), or put its shim where containerd finds it"},
    ),
    # the cluster's container runtime on the node
    "container-runtime-missing": Failure(
        "A node is to serve a cluster and has no container runtime, or not the one that is named.",
        "Install the cluster's container runtime first, or set kubernetes.containerRuntime: none if it serves no cluster",
        {"release": "Install containerd 1.6 or later"},
    ),
    "container-runtime-ambiguous": Failure(
        "A node has several container runtimes, and nothing says which of them serves the cluster.",
        "Name it in the stack: kubernetes.containerRuntime",
    ),
    "container-runtime-unhealthy": Failure(
        "The node's container runtime does not run as it should after its configuration was changed.",
        "Read 'journalctl -u {unit}' on the node, correct what it names, then run again",
    ),
    "cgroup-drivers-differ": Failure(
        "Kubelet and container runtime manage cgroups differently, so Kata pods would be killed.",
        "Set both to the same driver, systemd on a system with systemd, and restart both",
    ),
    "handler-foreign": Failure(
        "A handler of that name is already registered on the node and does not do what ours would.",
        "Choose another name with kubernetes.handler, name that configuration with kata.configPath, or remove the handler there",
    ),
    "snapshotter-missing": Failure(
        "The container runtime has no snapshotter of the kind that the hypervisor needs.",
        "Set up containerd's device mapper snapshotter, or choose the hypervisor qemu",
    ),
    "kata-environment-refused": Failure(
        "KATA_CONF_FILE names a configuration file that this Kata refuses, so every guest would fail.",
        "Remove that setting, and name the file with configPath; shipped are {files}",
    ),
    "kata-version-differs": Failure(
        "The Kata on the node is not the release that was asked for.",
        "Set kata.version to {installed}, or have kata.install bring {asked}",
    ),
    "kata-foreign-install": Failure(
        "/opt/kata holds a Kata that this program did not put there.",
        "Remove kata.install to use what is there, or remove {folder} first",
    ),
    "kata-release-unlisted": Failure(
        "The table of Kata's releases has no archive for this version, runtime or architecture.",
        "Set kata.install to an address and a sha256 (see the release page {page}), or set kata.version to one of {versions}",
        {
            "hypervisor": (
                "Use qemu, or kata.runtime go, or set kata.install to the address and sha256 of an archive that holds it"
            ),
            "architecture": (
                "Set kata.install to the address and sha256 of an archive for this architecture, or set another kata.version"
            ),
        },
    ),
    "node-memory-too-small": Failure(
        "The node has less memory than a Kata guest starts with, so QEMU would refuse every guest.",
        "Add memory to the node, or lower default_memory in Kata's configuration",
    ),
    "kata-disk-full": Failure(
        "The file system has too little free space for the Kata release archive.",
        "Free space on the file system of {folder}, or make it larger",
    ),
    "kata-download-failed": Failure(
        "The Kata release archive could not be downloaded.",
        "Check the address of kata.install, and that the node reaches it",
    ),
    "kata-archive-differs": Failure(
        "The downloaded Kata release archive does not have the sha256 that was asked for.",
        "Compare kata.install.sha256 with the release's own; if they agree, do not trust the address",
    ),
    "kata-archive-invalid": Failure(
        "The Kata release archive holds something that no release holds; nothing of it was installed.",
        "Use the address of a kata-static archive (.tar.xz or .tar.zst)",
    ),
    "kata-would-refuse": Failure(
        "Kata would refuse the configuration when it starts a guest, or use another part of it than the proven one.",
        "Correct the configuration, or what it names: {remedies}",
    ),
    "kata-parameters-lost": Failure(
        "The configuration that Kata reads does not hold the parameters after they were written.",
        "Look at the drop-ins beside that file: one of them takes precedence",
    ),
    # guests
    "preflight-no-kvm": Failure(
        "The node has no usable /dev/kvm, so it can run no guest.",
        "Turn on virtualization in the firmware, or use bare metal or a machine type with nested virtualization",
    ),
    "preflight-module-missing": Failure(
        "A kernel module that Kata needs cannot be loaded on the node.",
        "Use a kernel with the module {module}; after a kernel update, restart the node first",
    ),
    "preflight-guest-not-up": Failure(
        "No guest of the node's own kernel reached user space on the node.",
    ),
    "proof-guest-not-up": Failure(
        "The guest that Kata would boot did not reach user space.",
    ),
    "proof-container-failed": Failure(
        "The runtime did not start the container of the proof, or it ended before the ladder.",
        cases={
            "time": "Raise verification.timeoutSeconds, or run the same image by hand on the node",
            "noisy": (
                "Use an image whose sh prints nothing of its own; see what it does: docker run --rm --runtime {runtime} IMAGE"
            ),
            "runtime": (
                "Correct what it names in Kata's installation or configuration on the node; the runtime's log there says more"
            ),
            "pull": (
                "Set kubernetes.proof.image to one that the node can pull; check its name, its registry and the registry's "
                "credentials"
            ),
            "volume": "Create what the template's volumes name, in the proof's own namespace",
            "handler": (
                "Register the handler of the RuntimeClass in the node's containerd or CRI-O, as kata-deploy does, and "
                "restart it; or leave the node out of the proof"
            ),
            "host-users": (
                "Remove hostUsers: false from the pod template: in Kata's guest a sandbox makes its user namespaces itself"
            ),
            "image": "Name a proof image that has /bin/sh and mount, and look at the runtime's log on the node",
            "container": "Correct what it names; the runtime's log on the node says more",
            "docker-stopped": "Start Docker: systemctl start docker",
            "no-docker": "Install Docker, or remove verification.image",
            "memory": "Raise the pod's memory limit (kubernetes.pod.memoryLimit)",
            "killed": (
                "Check the pod's events and the kubelet's log on the node: a full node, an eviction, or a cgroup driver "
                "other than the runtime's ends containers this way"
            ),
        },
    ),
    "proof-base-parameters-lost": Failure(
        "kernel_params lost what Kata's own configuration has in it, and the container's guest did not start.",
        "Put Kata's own kernel_params back (cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1): add to them with "
        "kata.kernelParams",
    ),
    "proof-not-a-guest": Failure(
        "The ladder ran on the node's own kernel, not in a guest.",
        "Register the runtime as io.containerd.kata.v2 and start it by that name; a runtime that leads to runc is not Kata",
        {
            "proc": "Mount /proc where the ladder runs",
            "handler": (
                "Point the RuntimeClass's handler to Kata (io.containerd.kata.v2) on the node; one that leads to runc is not Kata"
            ),
        },
    ),
    "proof-parameters-missing": Failure(
        "An expected kernel parameter is not on the guest's command line.",
        "Set kata.configPath to the file that the runtime really reads; no later drop-in may drop kata.kernelParams",
    ),
    "proof-user-namespaces-zero": Failure(
        "The guest allows no user namespace: the limit reads 0.",
        "Remove user.max_user_namespaces=0 from kata.kernelParams and from Kata's configuration file, or set "
        "user.max_user_namespaces=N, N above 0, in kata.kernelParams",
    ),
    "proof-user-namespaces-absent": Failure(
        "The guest's kernel has no user namespaces.",
        "Use a guest kernel built with CONFIG_USER_NS=y, as Kata's own are; no entry of kata.kernelParams repairs it",
    ),
    "proof-user-namespaces-unreadable": Failure(
        "The guest's limit of user namespaces cannot be read.",
        "Run the ladder as a user who may read /proc/sys/user, and unmask /proc/sys; kata.kernelParams need not change",
    ),
    "proof-user-namespaces-not-a-number": Failure(
        "The guest's limit of user namespaces is not a number.",
        "Look for what is mounted over /proc/sys/user in the guest; user.max_user_namespaces in kata.kernelParams takes a "
        "whole number",
    ),
    "proof-user-namespaces-child-namespace": Failure(
        "The limit was read inside a child user namespace, which says nothing about the guest's limit.",
        "Run the ladder in the guest's first user namespace: not under unshare, a rootless engine or hostUsers: false; "
        "kata.kernelParams need not change",
    ),
    "proof-unshare-failed": Failure(
        "A user namespace cannot be made in the guest.",
    ),
    "proof-nested-failed": Failure(
        "A user namespace cannot be made within another in the guest.",
    ),
    "proof-bwrap-failed": Failure(
        "Bubblewrap does not start its sandbox in the guest.",
    ),
    "proof-srt-failed": Failure(
        "The command with which sandbox-runtime starts its sandbox fails in the guest.",
    ),
    "proof-rootless-failed": Failure(
        "A rootless engine cannot mount or start a container in the guest.",
    ),
    "proof-tool-missing": Failure(
        "A sandbox was promised and not tried, because a tool for it is missing where the ladder ran.",
        cases={
            "guest": (
                "Install bubblewrap, busybox-static and util-linux on the node, and runc where kata.sandbox is rootless: "
                "guest and image of the proof are made from them"
            ),
            "image": (
                "Name an image in verification.image that has it, or remove the setting: the program then makes one from the "
                "node's own bubblewrap"
            ),
            "pod": (
                "Name an image in kubernetes.proof.image that has bubblewrap, util-linux, iproute2 and, where kata.sandbox "
                "is rootless, runc and busybox-static, as images/proof/Containerfile makes it"
            ),
        },
    ),
    "proof-entry-failed": Failure(
        "The entry through which sandbox containers start could not mount a proc of its own.",
        "Set {image} to an image that has mount and runs as root; no security module of the guest may forbid it",
    ),
    "proof-loopback-failed": Failure(
        "The loopback of a new network namespace cannot be brought up in the guest.",
    ),
    "proof-network-missing": Failure(
        "The container has no network, or resolves no name.",
        cases={
            "address": (
                "Pin Docker 27.5.1, or use the Kata release that repairs it: 3.29.0 for the Go shim, 3.30.0 for the Rust runtime"
            ),
            "names": "Use Docker's default bridge, or set a name server for the daemon or the container that the guest can reach",
            "pod-address": (
                "Check the node's network plugin, and that Kata's internetworking_model suits it: tcfilter does for most"
            ),
            "pod-names": (
                "Let the pod reach the cluster's name service: check its dnsPolicy and dnsConfig, and the network policies"
            ),
            "route": (
                "Use a Docker network that is not internal, and a Kata release that copies routes, as every release from 2.0 "
                "on does"
            ),
            "pod-route": "Have the node's network plugin set a default route in the pod",
        },
    ),
    "proof-transcript-incomplete": Failure(
        "The ladder started in the guest, and its report did not arrive completely.",
        "Run again; if it happens again, check the guest's console and memory",
    ),
    "proof-timeout": Failure(
        "The pod of a proof did not end in time.",
        "Read the runtime's log on the node, and raise the proof's timeoutSeconds only if the node is just slow",
        {
            "unscheduled": (
                "Set the labels that the RuntimeClass asks for, make room for the pod with its overhead, or leave the node "
                "out of the proof"
            ),
        },
    ),
    "proof-pod-lost": Failure(
        "The pod of a proof disappeared before it reported.",
        "Run pulumi up again, which proves the node again",
        {
            "replaced": "Run pulumi up again, which proves the machine that is there",
            "refresh": "Run pulumi refresh, then pulumi up",
            "node": "Check that the node still exists and is Ready, then run again",
        },
    ),
    "proof-pod-refused": Failure(
        "The cluster refuses the pod of a proof, so no guest was started.",
        "Correct what it names, then run again",
        {
            "PodSecurity": (
                "Label the namespace pod-security.kubernetes.io/enforce=privileged (SandboxNamespace does), or use the "
                "template for an ordinary user, which needs no capability"
            ),
            "ValidatingAdmissionPolicy": (
                "Follow the rule that it names; the sandbox guard admits the capabilities under its own RuntimeClasses"
            ),
            "RuntimeClass": "Create the RuntimeClass, or name one that exists",
            "quota": (
                "Raise the namespace's quota: each node's proof is a pod with the template's requests and the class's overhead"
            ),
        },
    ),
    "proof-forged": Failure(
        "A Job or pod of a proof is not the one that was asked for, so its report is not trusted.",
        "Check who may write in the proof's namespace, and which webhooks change Jobs and pods there; then run pulumi up again",
    ),
    "kata-deploy-distribution": Failure(
        "Nodes run another Kubernetes distribution than kata-deploy is told, so it would configure Kata where their containerd "
        "never looks.",
        "Set it to what the nodes run; if they run several, choose the nodes of one with kubernetes.kataDeploy.nodeSelector",
    ),
    "kata-deploy-no-kvm": Failure(
        "kata-deploy would bring Kata to nodes that cannot run it, and label them as if they could.",
        "Choose the nodes that have KVM with kubernetes.kataDeploy.nodeSelector",
    ),
    "cluster-node-unknown": Failure(
        "The cluster has no such node, or none with such labels.",
        "Use the names that kubectl get nodes lists",
        {
            "labels": "Correct the selector, or label the nodes: kubectl label node",
            "boot-id": "Start the kubelet there; without the boot id a guest cannot be told from the node's own kernel",
        },
    ),
    "cluster-object-exists": Failure(
        "An object of that name already exists on the cluster and is not this stack's.",
        "Choose another name, or remove that object",
        {
            "namespace": (
                "Choose another namespace, or adopt this one, which only labels it (the component's adopt; for the namespace "
                "of this program's sandboxes kubernetes.adoptNamespace)"
            ),
            "pod-template": "Choose another name for the template",
            "runtime-class": (
                "Choose another name for the class, or use this one as it is (adopt; here kubernetes.adoptRuntimeClass), as "
                "for a class that kata-deploy made"
            ),
        },
    ),
    "cluster-object-missing": Failure(
        "An object to adopt is not on the cluster.",
        "Correct its name, or have it made: {setting}: false",
    ),
    "cluster-provider-takes-over": Failure(
        "The Kubernetes provider creates objects in a way that would take over existing ones.",
        "Make it with a provider that has enableServerSideApply: false, or adopt the one that is there",
    ),
    "cluster-field-owned": Failure(
        "A field to be set on the cluster belongs to another manager.",
        "Release the field from that owner (for a label: kubectl label KIND NAME KEY-), or choose another name",
    ),
    "cluster-forbidden": Failure(
        "The kubeconfig's user lacks a right that this program needs.",
        "Grant that user {verbs} on {resource}, or use the kubeconfig of a user who has them",
        {
            "controller": "Have the stack make the controller's roles and its admission policy again: pulumi up --refresh",
        },
    ),
    "cluster-login-refused": Failure(
        "The cluster's API server does not accept the kubeconfig's credentials.",
        "Get a new kubeconfig, then: " + _SET,
        {
            "token": "Delete the controller's pod, so that the next one gets a new token",
            "controller": "Run the controller in a pod with its service account, or set KUBECONFIG",
        },
    ),
    "kubeconfig-invalid": Failure(
        "The kubeconfig cannot be used: it is incomplete, or asks for something that this program cannot do.",
        "Write it completely and set it again: " + _SET,
        {
            "auth-provider": "Write the kubeconfig again with {plugin} (its exec section), then: " + _SET,
            "no-context": "Name the context in the stack's file: kubernetes.context",
            "context": "Name one of them in the stack's file (kubernetes.context), or set the kubeconfig of the right cluster",
            "proxy": "Set proxy-url of the kubeconfig's cluster to such a proxy, or remove it and reach the server another way",
            "impersonation": "Use a context whose user has the rights itself, or acts with at most one entry in as-groups",
        },
    ),
    "kubeconfig-plugin-failed": Failure(
        "The program with which a kubeconfig's user logs in is missing, or failed.",
        "Install {program} where pulumi runs and put it on PATH, or set a kubeconfig with a token",
        {
            "asks": "Log in by hand first, or use one that asks nothing",
            "version": "Write the kubeconfig again with the tool of the cluster's vendor",
            "by-hand": "Run it by hand ({program}, with the args of the kubeconfig); it must print an ExecCredential",
        },
    ),
    "cluster-unreachable": Failure(
        "The cluster's API server does not answer.",
        "Start it, or make it reachable from this machine; to set the kubeconfig of another cluster: " + _SET,
        {
            "log": "Read the API server's log",
            "controller": "Start the controller again, as its Deployment does; it then reports what it lacks",
            "long": "Find what makes its lists so long, and check that this is the right API server",
            "pod": "Check that it runs, and that no network policy keeps the controller's pod from it",
        },
    ),
    "cluster-object-refused": Failure(
        "The cluster's API server refuses a needed object, and says why.",
        "Correct what it names",
    ),
    "cluster-too-old": Failure(
        "The cluster does not know a needed kind.",
        "Update the cluster: ValidatingAdmissionPolicy is part of Kubernetes from 1.30 on",
    ),
    "runtime-class-handler": Failure(
        "An existing RuntimeClass uses another handler than the stack asks for.",
        "Choose another name, so that the class is made, or remove kubernetes.handler, so that the class is proven as it is",
    ),
}
"""Code -> its failure."""
