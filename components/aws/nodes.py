"""Nodes that the stack makes itself: instances on EC2, each with a host key that was pinned before it started."""

from typing import Any, NotRequired, Optional, TypedDict

import pulumi

from aws import ec2, user_data
from components.arguments import checked
from components.aws.parts import METADATA, AwsMachine, MachineResources
from components.children import child_options
from components.nodes.host_key import key_pair
from components.nodes.node_states import settings_of
from components.nodes.proven_machines import Machine, evidence, kata_nodes, summaries
from components.nodes.settings import Connection, DockerSettings, KataSettings, Verification
from components.plain import derived, set_or
from components.plugin_resource import PluginResource, known
from components.refusals import reporting_refusals
from components.whole_numbers import MOST_NODES, whole
from delivery import login


class AwsNodesArgs(TypedDict):
    """How many instances, of what kind, and who may reach them."""

    count: int
    """How many. Plain, because it decides which resources there are."""
    machine: AwsMachine
    """What each of them is; they are spread over its subnets in turn, so another list of these replaces those that it moves."""
    user: NotRequired[pulumi.Input[str]]
    """Login user of the image; without it ubuntu."""
    ssh_from: pulumi.Input[list[str]]
    """Networks that may reach SSH, as 203.0.113.0/24."""
    ssh_from_everywhere: NotRequired[pulumi.Input[bool]]
    """Whether these networks may include everybody; without it that is refused."""
    public_address: NotRequired[pulumi.Input[bool]]
    """Whether each instance gets a public IPv4 address and is reached by it; without it, by its private one."""
    public_key: NotRequired[pulumi.Input[str]]
    """Public login key. Without it the pool makes a pair, whose private half is in the stack's state as a secret."""
    private_key: NotRequired[pulumi.Input[str]]
    """Private half of the public login key (secret), and set only with that; without it the SSH agent is asked."""
    docker: NotRequired[DockerSettings]
    """Docker on every instance; by default 27.5.1, held."""
    kata: NotRequired[KataSettings]
    """Kata on every instance; by default the official release 3.32.0 with QEMU, for a nested sandbox."""
    verification: NotRequired[Verification]
    """How every instance is proven."""


class AwsNodes(pulumi.ComponentResource):
    """Instances, named `{name}-0`, `{name}-1` and so on, each made a Kata node and proven by a KataNode of its name.

    For Amazon's commercial partition.

    Another image, type, subnet, login key or host key replaces the instance, and that node alone is set up and proven again:
    cloud-init sets keys only at a machine's first boot, and a proof on one type says nothing about another. Security groups,
    tags and a larger disk are changed in place.
    """

    nodes: pulumi.Output[list[dict[str, Any]]]
    """By instance: name, address and what the proof read, as `summary` of a KataNode. Known once every node is proven."""
    evidence: pulumi.Output[dict[str, Any]]
    """By node: the proof's result. Known once every node is proven."""

    def __init__(self, name: str, args: AwsNodesArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, AwsNodesArgs, name, args)
        count = reporting_refusals(whole)("count", args["count"], 0, MOST_NODES)
        public_key, private_key = args.get("public_key"), args.get("private_key")
        if public_key is None:
            derived(reporting_refusals(login.refuse_without_public_key), private_key)
        else:
            public_key = derived(reporting_refusals(login.public_key), public_key)
        super().__init__("kata-nodes:index:AwsNodes", name, None, opts)
        machine = args["machine"]
        resources = MachineResources(self, name, machine, opts, args["ssh_from"], args.get("ssh_from_everywhere", False))
        public_address = set_or(args.get("public_address"), False)
        if public_key is None:
            public_key, private_key = key_pair(f"{name}-login-key", resources.options())
        login_key = PluginResource(
            "aws:ec2/keyPair:KeyPair",
            f"{name}-login",
            {"publicKey": public_key, "tags": resources.tags(f"{name}-login")},
            resources.options(replace_on_changes=["publicKey"]),
            outputs=["keyName"],
        )
        machines: list[Machine] = []
        for number in range(count):
            node = f"{name}-{number}"
            host_public, host_private = key_pair(f"{node}-host-key", resources.options())
            instance = PluginResource(
                "aws:ec2/instance:Instance",
                f"{node}-instance",
                {
                    "ami": machine["image"],
                    "instanceType": machine["instance_type"],
                    "cpuOptions": resources.cpu_options,
                    "subnetId": self._in_turn(machine["subnets"], number),
                    "vpcSecurityGroupIds": resources.security_groups,
                    "associatePublicIpAddress": public_address,
                    "keyName": login_key.output("keyName"),
                    "iamInstanceProfile": resources.profile.output("name") if resources.profile else None,
                    "metadataOptions": METADATA,
                    "rootBlockDevice": {**resources.disk, "tags": resources.tags(node)},
                    "userData": pulumi.Output.all(host_private, host_public).apply(lambda halves: user_data.host_key(*halves)),
                    "userDataReplaceOnChange": True,
                    "tags": resources.tags(node),
                },
                resources.options(
                    # EC2 would otherwise stop the machine and start it as another type, on other hardware. The others replace it
                    # anyway, which a preview without a state, as of a pull request, knows from here alone.
                    replace_on_changes=["instanceType", "cpuOptions", "ami", "subnetId", "keyName"],
                    delete_before_replace=True,  # a quota often has no room for one more
                    additional_secret_outputs=["userData"],
                ),
                outputs=["publicIp", "privateIp"],
            )
            # Without a public address, there need not be a value of it.
            addresses = (public_address, instance.recorded("publicIp"), instance.recorded("privateIp"))
            connection: Connection = {
                "address": pulumi.Output.all(*addresses).apply(lambda values: known(values[1] if values[0] else values[2])),
                "user": set_or(args.get("user"), ec2.USER),
                "host_key": host_public,
                "identity": instance.id,
            }
            if private_key is not None:
                connection["private_key"] = private_key
            machines.append(Machine(node, node, connection, child_options(self, opts, deleted_with=instance)))
        proven = kata_nodes(settings_of(args), machines)
        self.nodes, self.evidence = summaries(proven), evidence(proven)
        self.register_outputs({"nodes": self.nodes})

    def _in_turn(self, subnets: pulumi.Input[list[str]], number: int) -> pulumi.Output[str]:
        return pulumi.Output.from_input(subnets).apply(reporting_refusals(lambda all_of: ec2.in_turn(all_of, number)))
