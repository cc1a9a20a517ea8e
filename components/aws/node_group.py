"""Nodes that join a cluster by themselves: an auto-scaling group whose machines become nodes at their first boot."""

from typing import Any, NotRequired, Optional, TypedDict

import pulumi

from aws import user_data
from components.aws.parts import METADATA, Parts
from components.aws.resources import PluginResource
from components.nodes.node import Node
from components.nodes.node_states import PROOF_GRACE_SECONDS, VERB_SECONDS, node_states
from components.told import told
from delivery import bundle
from nodekit.scripts import script


class AwsNodeGroupArgs(TypedDict):
    """How many machines, of what kind, and what each of them becomes at its first boot."""

    min_size: pulumi.Input[int]
    """Least number of machines, and how many there are at first."""
    max_size: pulumi.Input[int]
    """Largest number of machines; between the two an autoscaler decides."""
    instance_type: pulumi.Input[str]
    """Bare metal, such as m7i.metal-24xl, or a type that lists nested-virtualization, such as m8i.xlarge."""
    nested_virtualization: NotRequired[pulumi.Input[bool]]
    """Whether nested virtualisation is turned on; needed for a type that is not bare metal, and refused for one that is."""
    image: pulumi.Input[str]
    """Image (ami-…) with cloud-init, of Debian or Ubuntu for x86_64."""
    root_device: NotRequired[pulumi.Input[str]]
    """Device name of the image's root volume; without it /dev/sda1, as Ubuntu has it (Debian: /dev/xvda)."""
    root_volume_gib: pulumi.Input[int]
    """Size of the encrypted root volume in GiB; images of containers and Kata itself lie on it."""
    vpc: pulumi.Input[str]
    """The network (vpc-…) that the subnets are in."""
    subnets: pulumi.Input[list[str]]
    """Subnets (subnet-…) that machines are made in."""
    security_groups: NotRequired[pulumi.Input[list[str]]]
    """Further security groups (sg-…), such as that of a cluster's nodes. The group's own admits nobody."""
    session_manager: NotRequired[bool]
    """Whether Systems Manager may open sessions on the machines. Plain, because it decides which resources there are."""
    tags: NotRequired[pulumi.Input[list[str]]]
    """Tags of everything, as KEY=VALUE."""
    program_address: pulumi.Input[str]
    """Where machines download the node program (https://…), as `python -m delivery.bundle --output FILE` writes it."""
    program_sha256: pulumi.Input[str]
    """Its sha256, which must be this checkout's own."""
    join_script: NotRequired[pulumi.Input[str]]
    """Script with a first line #!/…, run as root once the proof has passed and never otherwise (secret)."""
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
    sha256 sums. Without it, and without `archive_address`, Kata is expected in the image."""
    archive_address: NotRequired[pulumi.Input[str]]
    """Address of another Kata release archive to install."""
    archive_sha256: NotRequired[pulumi.Input[str]]
    """Its sha256, in hexadecimal."""
    config_path: NotRequired[pulumi.Input[str]]
    """Configuration file that Docker names to Kata; without it the one that the runtime finds by itself."""
    proof_image: NotRequired[pulumi.Input[str]]
    """Image in which the ladder is also climbed by `docker run`, where the machine has a Kata shim."""
    proof_seconds: pulumi.Input[int]
    """Bound on the proof, in seconds."""


class AwsNodeGroup(pulumi.ComponentResource):
    """A launch template and an auto-scaling group. For Amazon's commercial partition.

    Nobody logs in: user data holds aws/first_boot.sh and its settings, and a machine whose proof fails does not join. It
    stays for whoever looks for the reason (/var/log/kata-nodes, the console), and counts as one of the group's.

    What replaces what: a changed image, type or user data makes another version of the template, from which machines are made
    from then on. Running machines are left alone: EC2 calls a machine healthy that failed its proof, so a rolling replacement
    would put broken machines in the place of working ones. Begin it yourself, when new ones are seen to join:
    `aws autoscaling start-instance-refresh`.
    """

    nodes: list[Node]
    """Machines that are reached over SSH: none."""
    group: pulumi.Output[str]
    """Name of the auto-scaling group."""
    template_version: pulumi.Output[int]
    """Version of the launch template that machines are made from now."""

    def __init__(self, name: str, args: AwsNodeGroupArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:AwsNodeGroup", name, None, opts)
        self.nodes = []
        self.options: list[pulumi.ResourceOptions] = []
        """What is to be given to a `KataNode` on each of `nodes`."""
        parts = Parts(self, name, args, opts)
        own = bundle.cached()[1]
        states = node_states({**args, "node": user_data.NODE}, {"program": own})
        given = {key: args.get(key) for key in ("program_address", "program_sha256", "join_script", "proof_seconds")}
        first_boot = script("first_boot.sh", "aws")
        text = pulumi.Output.secret(
            pulumi.Output.all(own=own, script=first_boot, states=pulumi.Output.all(**states), **given).apply(told(_user_data))
        )
        kinds = ("instance", "volume", "network-interface")
        template = PluginResource(
            "aws:ec2/launchTemplate:LaunchTemplate",
            f"{name}-template",
            {
                "imageId": args["image"],
                "instanceType": args["instance_type"],
                "cpuOptions": parts.cpu_options,
                "metadataOptions": METADATA,
                "blockDeviceMappings": [{"deviceName": args.get("root_device", "/dev/sda1"), "ebs": _launched(parts.disk)}],
                "vpcSecurityGroupIds": parts.security_groups,
                "iamInstanceProfile": {"arn": parts.profile.output("arn")} if parts.profile else None,
                "userData": text.apply(lambda plain: user_data.encoded(str(plain))),
                "updateDefaultVersion": True,
                "tagSpecifications": [{"resourceType": kind, "tags": parts.tags(name)} for kind in kinds],
                "tags": parts.tags(f"{name}-template"),
            },
            parts.options(additional_secret_outputs=["userData"]),
            outputs=["latestVersion"],
        )
        latest = template.output("latestVersion").apply(int)
        group = PluginResource(
            "aws:autoscaling/group:Group",
            f"{name}-group",
            {
                "minSize": pulumi.Output.from_input(args["min_size"]).apply(int),
                "maxSize": pulumi.Output.from_input(args["max_size"]).apply(int),
                "vpcZoneIdentifiers": args["subnets"],
                "launchTemplate": {"id": template.id, "version": latest.apply(str)},
                "tags": parts.tags(name).apply(
                    lambda tags: [{"key": key, "value": value, "propagateAtLaunch": False} for key, value in sorted(tags.items())]
                ),
            },
            parts.options(),
            outputs=["name"],
        )
        self.group = group.output("name")
        self.template_version = pulumi.Output.all(group.id, latest).apply(lambda one: int(one[1]))
        self.register_outputs({"group": self.group, "templateVersion": self.template_version})


def _launched(disk: dict[str, pulumi.Input[object]]) -> dict[str, pulumi.Input[object]]:
    """A disk as launch templates have it, which know no booleans there."""
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in disk.items()}


def _user_data(given: dict[str, Any]) -> str:
    """First boot's script with its settings, after this checkout's program was found to be what machines will download."""
    user_data.refuse_another_program(str(given["program_sha256"]), str(given["own"]))
    seconds = {**VERB_SECONDS, "prove": int(given["proof_seconds"]) + PROOF_GRACE_SECONDS}
    return user_data.first_boot(
        str(given["script"]),
        program_address=str(given["program_address"]),
        program_sha256=str(given["program_sha256"]),
        states=given["states"],
        seconds=seconds,
        join_script=given["join_script"],
    )
