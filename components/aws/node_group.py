"""Nodes that join a cluster by themselves: an auto-scaling group whose machines become nodes at their first boot."""

from typing import Any, NotRequired, Optional, TypedDict

import pulumi

from aws import ec2, user_data
from components.arguments import checked
from components.aws.parts import METADATA, AwsMachine, MachineResources
from components.nodes.node_states import settings_of
from components.nodes.settings import DockerSettings, KataSettings, Verification
from components.plain import derived, set_or
from components.plugin_resource import PluginResource
from components.refusals import reporting_refusals
from components.whole_numbers import MOST_NODES, whole
from delivery import bundle
from delivery.scripts import sent
from nodekit.errors import NodeError
from nodekit.rules.text import public


class NodeProgram(TypedDict):
    """The node program where machines find it."""

    address: pulumi.Input[str]
    """Where machines download it (https://…), as `python -m delivery.bundle --output FILE` writes it."""
    sha256: pulumi.Input[str]
    """Its sha256, which must be this checkout's own."""


class AwsNodeGroupArgs(TypedDict):
    """How many machines, of what kind, and what each of them becomes at its first boot."""

    machine: AwsMachine
    """What each of them is. The group's own security group admits nobody."""
    min_size: pulumi.Input[int]
    """Least number of machines, and how many there are at first."""
    max_size: pulumi.Input[int]
    """Largest number of machines; between the two an autoscaler decides."""
    root_device: NotRequired[pulumi.Input[str]]
    """Device name of the image's root volume; without it /dev/sda1, as Ubuntu has it (Debian: /dev/xvda)."""
    program: NodeProgram
    """The node program, as machines download it."""
    runtime_script: NotRequired[pulumi.Input[str]]
    """Script with a first line #!/…, run as root before the preflight: it installs the container runtime in which `kata.handler`
    is registered, where the image has none (secret)."""
    join_script: NotRequired[pulumi.Input[str]]
    """Script with a first line #!/…, run as root once the proof has passed and never otherwise (secret)."""
    docker: NotRequired[DockerSettings]
    """Docker on every machine; by default 27.5.1, held."""
    kata: NotRequired[KataSettings]
    """Kata on every machine; by default the official release 3.32.0 with QEMU, for a nested sandbox."""
    verification: NotRequired[Verification]
    """How every machine is proven."""


class AwsNodeGroup(pulumi.ComponentResource):
    """A launch template and an auto-scaling group. For Amazon's commercial partition.

    Nobody logs in: user data holds aws/first_boot.sh and its settings, and a machine whose proof fails does not join. It
    stays, so that the reason can be read (/var/log/kata-nodes, the console), and counts as one of the group's.

    A changed image, type or user data makes another version of the template, from which new machines are made. Running machines
    stay as they are: EC2 calls a machine healthy even if it failed its proof, so a rolling replacement would put broken machines
    in the place of working ones. Start it yourself once a new machine has joined: `aws autoscaling start-instance-refresh`.
    """

    group: pulumi.Output[str]
    """Name of the auto-scaling group."""
    template_version: pulumi.Output[int]
    """Version of the launch template that machines are made from now."""

    def __init__(self, name: str, args: AwsNodeGroupArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, AwsNodeGroupArgs, name, args)
        settings = settings_of(args)
        # Where machines get what they run as root; their user data, in which it is, is secret.
        source = derived(lambda address: public(str(address)), args["program"]["address"])
        super().__init__("kata-nodes:index:AwsNodeGroup", name, {"plan": {**settings.plan, "programAddress": source}}, opts)
        machine = args["machine"]
        resources = MachineResources(self, name, machine, opts)
        own = reporting_refusals(bundle.cached)().digest
        converge, prove = settings.states(user_data.NODE, {"program": own})
        first_boot = pulumi.Output.all(
            own=own,
            script=sent("first_boot.sh", "aws"),
            program=args["program"],
            states={"converge": converge, "prove": prove},
            seconds=settings.seconds,
            join_script=args.get("join_script"),
            runtime_script=args.get("runtime_script"),
        )
        text = pulumi.Output.secret(first_boot.apply(reporting_refusals(_user_data)))
        kinds = ("instance", "volume", "network-interface")
        template = PluginResource(
            "aws:ec2/launchTemplate:LaunchTemplate",
            f"{name}-template",
            {
                "imageId": machine["image"],
                "instanceType": machine["instance_type"],
                "cpuOptions": resources.cpu_options,
                "metadataOptions": METADATA,
                "blockDeviceMappings": [
                    {"deviceName": set_or(args.get("root_device"), ec2.ROOT_DEVICE), "ebs": _launched(resources.disk)}
                ],
                "vpcSecurityGroupIds": resources.security_groups,
                "iamInstanceProfile": {"arn": resources.profile.output("arn")} if resources.profile else None,
                "userData": text.apply(lambda plain: user_data.encoded(str(plain))),
                "updateDefaultVersion": True,
                "tagSpecifications": [{"resourceType": kind, "tags": resources.tags(name)} for kind in kinds],
                "tags": resources.tags(f"{name}-template"),
            },
            resources.options(additional_secret_outputs=["userData"]),
            outputs=["latestVersion"],
        )
        latest = template.output("latestVersion").apply(int)
        sizes: pulumi.Output[tuple[int, int]] = pulumi.Output.all(args["min_size"], args["max_size"]).apply(
            reporting_refusals(lambda both: _sizes(*both))
        )
        group = PluginResource(
            "aws:autoscaling/group:Group",
            f"{name}-group",
            {
                "minSize": sizes.apply(lambda both: both[0]),
                "maxSize": sizes.apply(lambda both: both[1]),
                "vpcZoneIdentifiers": pulumi.Output.from_input(machine["subnets"]).apply(reporting_refusals(ec2.some)),
                "launchTemplate": {"id": template.id, "version": latest.apply(str)},
                "tags": resources.tags(name).apply(
                    lambda tags: [{"key": key, "value": value, "propagateAtLaunch": False} for key, value in sorted(tags.items())]
                ),
            },
            resources.options(),
            outputs=["name"],
        )
        self.group = group.output("name")
        self.template_version = pulumi.Output.all(group.id, latest).apply(lambda values: int(values[1]))
        self.register_outputs({"group": self.group, "templateVersion": self.template_version})


def _sizes(min_size: object, max_size: object) -> tuple[int, int]:
    """Of the group, in whole numbers; raises NodeError `bad-input` for what EC2 would refuse, once all else is made."""
    sizes = whole("minSize", min_size, 0, MOST_NODES), whole("maxSize", max_size, 0, MOST_NODES)
    if sizes[0] > sizes[1]:
        raise NodeError("bad-input", f"Key minSize is {sizes[0]}, and maxSize {sizes[1]}", expected="a minSize up to maxSize")
    return sizes


def _launched(disk: dict[str, pulumi.Input[object]]) -> dict[str, pulumi.Input[object]]:
    """A disk in the form of launch templates, which have no booleans there."""
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in disk.items()}


def _user_data(values: dict[str, Any]) -> str:
    """First boot's script with its settings, once this checkout's program is known to be what machines will download."""
    program = values["program"]
    user_data.refuse_another_program(str(program["sha256"]), str(values["own"]))
    return user_data.first_boot(
        str(values["script"]),
        program_address=str(program["address"]),
        program_sha256=str(program["sha256"]),
        states=values["states"],
        seconds=values["seconds"],
        join_script=values["join_script"],
        runtime_script=values["runtime_script"],
    )
