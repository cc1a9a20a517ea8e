"""Failures of a node: each stable code, its cause and its remedies, written once and used where the code is raised.

What can fail elsewhere stands in the `failures` module of its own room, in the same form; see `nodekit.errors.add`.

A remedy may show values of the place that raises it, as `{file}`. Where one failure has several ways out, the further ones are
its cases. A code without a remedy here is a diagnosis: its remedy comes from the rung of the ladder that failed, or from the
fault on a guest's console. A code never changes its meaning.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Failure(NamedTuple):
    """What one code means, and what to do about it."""

    cause: str
    remedy: str = ""
    cases: Mapping[str, str] = MappingProxyType({})
    """Other remedies of the same failure, by the name that the place of the error uses."""


_CERTIFICATES = {
    "certificate-time": "Set the node's clock (timedatectl); if it is right, the site's certificate is out of date",
    "certificate-authority": "Install ca-certificates on the node, and the network's own authority there if it has one "
    "(update-ca-certificates), then run again",
}

CATALOGUE: dict[str, Failure] = {
    # input
    "bad-input": Failure(
        "A value that the program was given is not valid.",
        "Use {expected}",
        {
            "stdin": "Write one JSON object to the standard input",
            "script": "See the first lines of this script",
            "two-sources": "Leave out installRelease, or the archive's address and sha256",
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
    "docker-kata-incompatible": Failure(
        "The pair of Docker and Kata is known to break.",
        "Use {works}",
    ),
    # node
    "unsupported-os": Failure(
        "The node runs an operating system that this program does not support.",
        "Use Debian 12 or 13, or Ubuntu 22.04 or 24.04",
        {
            "listed": "Use one of: {systems}",
        },
    ),
    "unsupported-processor": Failure(
        "The node has a processor whose guests this program cannot prove.",
        "Use a machine with an Intel or AMD processor (x86_64)",
    ),
    "node-busy": Failure(
        "Another run of the node program holds the node's lock.",
        "Wait until that run has ended, then run again",
    ),
    "node-taken": Failure(
        "The machine is a node of another stack already.",
        "Take the machine out of that stack first, or destroy the stack; where it does not have it, is gone or was renamed, "
        "remove {file} on the machine",
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
        "Neither the node program on the node nor its copy is the one that was put there. Where somebody removed its folder, the "
        "shell says so in words of its own: it cannot open /usr/local/lib/kata-nodes/run.sh.",
        "Put it there again: pulumi up --replace with the URN of the node's -upload",
        {
            "removal": "Put it there again: pulumi up --replace with the URN of the node's -upload, with the node in the stack's "
            "file; to leave the machine as it is, remove {folder} and {journals}",
        },
    ),
    "run-ended": Failure(
        "A run on the node was ended from outside before it was done: by its time bound, by a shutdown, by a person, or between "
        "two steps since the connection was cut.",
        "Find the step that took so long, remove what made it slow, such as a slow site, then run again",
    ),
    "run-killed": Failure(
        "A run on the node was killed before it was done, as Linux does where memory runs out.",
        "See 'journalctl -k' on the node, free memory or add some, then run again",
    ),
    "result-missing": Failure(
        "A verb ended without a valid result document, so nothing shows what it did.",
        "Run it again: pulumi up --replace with the URN of {resource}",
        {
            "python": "Run again; if it happens again, check that python3 on the node is complete",
            "look": "Run pulumi up without --target; where that does not help, pulumi up --replace with the URN of {resource}, "
            "which undoes the node and sets it up again",
        },
    ),
    "system-refused": Failure(
        "The operating system refuses a call, where this program foresees no refusal.",
        "Check the disks, the memory and the limits of this machine (df, dmesg, ulimit -a), then run again",
    ),
    "file-unreadable": Failure(
        "A file cannot be read.",
        "Name {expected}",
        {
            "disk": "Check the file and its disk",
            "loop": "Remove the loop",
            "named": "Correct the path where it is named",
            "configured": "Correct {key} in Kata's configuration",
            "root": "Run the program as root",
            "proc": "Mount /proc on the node",
            "upload": "Send it again: pulumi up --replace with the URN of the node's -upload",
            "home": "Log in as root, or as a user whose home root may read",
            "apt-user": "Let {user} read it: chmod a+r {path}, and chmod a+x each folder above it",
        },
    ),
    "file-unwritable": Failure(
        "A file cannot be written; it is unchanged.",
        "Free space, or make the file system writable, then run again",
        {
            "file-system": "Use ext4, xfs, btrfs or tmpfs there",
            "flag": "Take the flag away ({command}), then run again",
            "mount": "Unmount {path}, then run again",
            "release": "Free space for {folder} (a release needs about 2 GiB), or make the file system writable",
            "root": "Run the program as root",
            "upload": "Free {size} MiB, make the file system writable, or give the user a folder of its own, then run again",
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
            "versions": "Write {file} and what it imports in one version (`containerd config migrate`), then run again",
            "docker-version": "Remove {keys} from {file}, or choose another docker.version, then run again",
            "dockerd": "Move its settings to {path} and take --config-file out of docker.service, then run again",
            "k0s": "Register that handler in {file}, or remove the file and restart k0s, which writes its own again",
            "headers": "Write the tables of that file as [headers], then run again",
            "initrd": "Correct initrd in Kata's configuration",
            "long": "Find which of the files it names are so long, and what wrote them",
            "remove": "Remove {path}, then run again",
            "drop-ins": "Remove everything that is not a drop-in from it",
            "link": "Replace it with a copy of the file",
            "order": "Remove that file, or rename it so that it sorts before {drop_in}",
            "old-kata": "Upgrade Kata to 2.5.0 or later",
            "shared": "Copy {file} into a folder of its own, and name the copy with configPath, then run again",
            "key": "Check the address of the repository's key, and that no sign-in page of a network answers there",
            "key-file": "Replace {place} with the key that the repository's owner publishes, then run again",
            "configuration": "Correct that file, or put the release's own file back, then run again",
            "hypervisor-table": "Write the table with a header line [hypervisor.{hypervisor}] and the key {key} below it",
            "other-hypervisor": "Choose the hypervisor of that file, or name the file of this one with configPath",
            "hypervisor-file": "Name {path} with configPath, or choose the hypervisor of that file",
            "upload": "Send it again: pulumi up --replace with the URN of the node's -upload; if it happens again, check the "
            "disk",
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
            "clock": "Set the node's clock (timedatectl); if it is right, ask the repository's owner for a new index",
            "space": "Free space on the node, then run again",
            **_CERTIFICATES,
        },
    ),
    "repository-key-mismatch": Failure(
        "The package repository is signed by another key than the expected one.",
        "Compare the fingerprint with the one that the repository's owner publishes; if they agree, correct the setting",
        {
            "no-file": "Remove {entry}",
            "entry": "Add the repository's key file to that entry ('Signed-By:' in a .sources file, else '[signed-by=FILE]'), or "
            "remove it from {entry}",
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
            "lists": "See that 'apt-get update' and 'apt-get install' with these packages work on the node, then run again",
            "pins": "Remove or correct the pin in /etc/apt/preferences or /etc/apt/preferences.d that keeps it away ('apt-cache "
            "policy' shows them), then run again",
            "space": "Free space on the node, then run again",
            "hook": "Repair that command, or take it out of apt's settings ('apt-config dump DPkg' lists them), then run again",
            "settings": "Take out what keeps apt or dpkg from acting ('apt-config dump', and 'no-act' in /etc/dpkg/dpkg.cfg and "
            "dpkg.cfg.d), then run again",
        },
    ),
    "docker-foreign": Failure(
        "A Docker runs on the node that is not one of apt's packages, and would lose its socket to Docker's own.",
        "Remove it if nothing needs its containers ('snap remove docker' where it is a snap), then run again",
    ),
    "docker-containers-hidden": Failure(
        "The node's containers lie in containerd's image store, and the Docker that the stack wants does not look there.",
        "Remove the containers, choose a docker.version from 29.0.0 on, or have every Docker look there: set "
        "containerd-snapshotter of features to true in /etc/docker/daemon.json (false leaves them behind); then run again",
    ),
    "docker-unreachable": Failure(
        "dockerd could not be started, or not be asked, after a change; nothing was changed.",
        "Run 'systemctl unmask docker.service' on the node if Docker may run there, then run again",
        {
            "systemd": "Use a machine that systemd has booted, not a container",
            "socket": "Add unix:///run/docker.sock to {place}, then run again",
        },
    ),
    "docker-unhealthy": Failure(
        "dockerd does not answer as expected after a change.",
        "Read 'journalctl -u docker' on the node, repair what it names, then run again",
    ),
    # kata
    "kata-not-found": Failure(
        "There is no Kata configuration file where the runtime looks for one.",
        "Install Kata (kata.install: release), or name its file with configPath{seen}",
        {
            "shim": "Install Kata (kata.install: release), or put its shim where containerd finds it",
            "shim-lost": "Have the release installed again: kata-nodes cure, since an up alone does not look at the node again",
            "named": "Put that file there, or have the setting name one that is there, by its whole path{seen}",
        },
    ),
    # the cluster's container runtime on the node
    "container-runtime-missing": Failure(
        "A node that should serve a cluster has no container runtime, or not the named one.",
        "Install the cluster's container runtime first, on a group's machines in the image or by the secret runtimeScript; or "
        "set kubernetes.containerRuntime: none if the node serves no cluster",
        {
            "release": "Install containerd 1.6 or later",
            "socket": "If it is one of those all the same, name it in kubernetes.containerRuntime; if not, register Kata there "
            "by hand, and set kubernetes.containerRuntime: none",
            "docker": "Have the kubelet use containerd or CRI-O (containerRuntimeEndpoint), or set "
            "kubernetes.containerRuntime: none if no pod of the class will run on the node",
        },
    ),
    "container-runtime-ambiguous": Failure(
        "A node has several container runtimes, and nothing says which of them serves the cluster.",
        "Name it in the stack: kubernetes.containerRuntime",
    ),
    "container-runtime-unhealthy": Failure(
        "The node's container runtime does not run as it should after its configuration was changed.",
        "Read 'journalctl -u {unit}' on the node, correct what it names, then run again",
        {"other-file": "Run 'systemctl daemon-reload' on the node if {unit} was changed, then run again"},
    ),
    "cgroup-drivers-differ": Failure(
        "Kubelet and container runtime manage cgroups differently, so Kata pods would be killed.",
        "Drain the node if it has pods, since they do not survive it; then set both to the same driver, systemd on a system with "
        "systemd, and restart both",
    ),
    "handler-foreign": Failure(
        "A handler of that name is already registered on the node and does not do what ours would.",
        "Choose another name with kubernetes.handler, name that configuration with kata.configPath, or remove the handler there",
        {"template": "Restart {program}, then run again; or remove the handler there"},
    ),
    "snapshotter-missing": Failure(
        "The container runtime has no snapshotter of the kind that the hypervisor needs.",
        "Set up containerd's device mapper snapshotter, or choose the hypervisor qemu",
        {"handler": "Install containerd 1.7 or later, or choose the hypervisor qemu"},
    ),
    "kata-environment-refused": Failure(
        "KATA_CONF_FILE names a configuration file that this Kata refuses, so every guest would fail.",
        "Remove that setting, and name the file with configPath; shipped are {files}",
    ),
    "hypervisor-cannot-nest": Failure(
        "The chosen hypervisor cannot run a nested sandbox, and one is asked for.",
        "Set kata.hypervisor to 'qemu', or kata.nestedSandbox to false",
    ),
    "kata-version-differs": Failure(
        "The Kata on the node is not the release that was asked for.",
        "Set kata.version to {installed}, or have kata.install install {asked}",
    ),
    "kata-foreign-install": Failure(
        "/opt/kata holds a Kata that this program did not put there.",
        "Remove kata.install to use what is there, or have it removed first by what installed it, such as kata-deploy by its "
        "chart; remove {folder} yourself only if a person put it there and nothing runs from it",
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
        "The node has so little memory that QEMU would refuse every guest of Kata's Go runtime.",
        "Add memory to the node, or lower default_memory in Kata's configuration",
    ),
    "kata-disk-full": Failure(
        "The file system has too little free space for the Kata release archive.",
        "Free space on the file system of {folder}, or make it larger",
    ),
    "kata-download-failed": Failure(
        "The Kata release archive could not be downloaded.",
        "Check the address of kata.install, and that the node reaches it, by itself or through apt's proxy",
        _CERTIFICATES,
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
            "logged": "Correct what Kata's log names ('journalctl -t kata' on the node has all of it), then run again",
            "noisy": (
                "Use an image whose sh prints nothing of its own; see what it does: docker run --rm --runtime {runtime} IMAGE"
            ),
            "docker-stopped": "Start Docker: systemctl start docker",
            "no-docker": "Install Docker, or remove verification.image",
        },
    ),
    "overhead-not-measured": Failure(
        "The sandboxes whose overhead was to be measured could not be started, or not be seen from the node.",
        cases={
            "no-shim": "Install Kata with its shim (kata.install), or measure on a node that has it",
            "no-docker": "Measure on a node with Docker; the overhead depends on Kata, its settings and the type of machine",
            "docker-stopped": "Start Docker: systemctl start docker",
            "no-runtime": "Register the runtime: kata-nodes cure, since an up alone does not look at the node again",
            "firecracker": "Start a pod of the class, and compare what the node has available before and after",
            "time": "Allow more time (--timeout), or see whether the node is busy",
            "ended": "Run again; if it happens again, look for a guest or hypervisor that was killed: journalctl -k on the node",
            "unseen": "Run as root on the node itself, not in a container: the processes are looked up in /proc",
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
        },
    ),
    "proof-parameters-missing": Failure(
        "An expected kernel parameter is not in effect in the guest.",
        "Set kata.configPath to the file that the runtime really reads; no later drop-in may drop kata.kernelParams",
        {
            "replaced": "Remove the later one where it is added, or give kata.kernelParams the value that is to be in effect",
            "limit": (
                "Use a guest kernel of Linux 5.8 or newer, as Kata's own are, and look in the guest's image for what sets "
                "user.max_user_namespaces, such as a file of /etc/sysctl.d"
            ),
        },
    ),
    "proof-user-namespaces-zero": Failure(
        "The guest allows no user namespace: the limit reads 0.",
        "Remove sysctl.user.max_user_namespaces=0 from kata.kernelParams and from Kata's configuration file, or set "
        "sysctl.user.max_user_namespaces=N, N above 0, in kata.kernelParams",
        {
            "later": (
                "Look in the guest's image for what sets user.max_user_namespaces=0, such as a file of /etc/sysctl.d, or use the "
                "image of Kata's release; kata.kernelParams need not change"
            ),
        },
    ),
    "proof-user-namespaces-absent": Failure(
        "The guest's kernel has no user namespaces, or the file of their limit is not there.",
        "Use a guest kernel built with CONFIG_USER_NS=y, as Kata's own are; no entry of kata.kernelParams repairs it",
        {
            "old": "Use a guest kernel of Linux 4.9 or newer, built with CONFIG_USER_NS=y, as Kata's own are",
            "hidden": "Look for what is mounted over /proc/sys/user in the guest; kernel and kata.kernelParams need not change",
        },
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
                "Where Docker is 26.0.0 or 28, pin 27.5.1, or use the Kata release that repairs it: 3.29.0 for the Go shim, "
                "3.30.0 for the Rust runtime; else check internetworking_model, tcfilter by default, and docker network inspect "
                "bridge"
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
        {
            "containers": (
                "Keep what adds containers to pods, such as a service mesh, out of the proof's namespace, or give the template "
                "fewer init containers"
            ),
        },
    ),
}
"""Code -> its failure."""
