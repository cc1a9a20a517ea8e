"""Nodes that the stack makes itself: instances on EC2, each with a host key that was pinned before it started."""

from typing import NotRequired, Optional, TypedDict

import pulumi

from aws import user_data
from components.aws.parts import METADATA, Parts
from components.aws.resources import PluginResource
from components.nodes.node import Node

PRIVATE = ["privateKeyOpenssh", "privateKeyPem", "privateKeyPemPkcs8"]


class AwsNodesArgs(TypedDict):
    """How many instances, of what kind, and who may reach them."""

    count: int
    """How many. Plain, because it decides which resources there are."""
    instance_type: pulumi.Input[str]
    """Bare metal, such as m7i.metal-24xl, or a type that lists nested-virtualization, such as m8i.xlarge."""
    nested_virtualization: NotRequired[pulumi.Input[bool]]
    """Whether nested virtualisation is turned on; needed for a type that is not bare metal, and refused for one that is."""
    image: pulumi.Input[str]
    """Image (ami-…) with cloud-init, of Debian or Ubuntu for x86_64."""
    user: NotRequired[pulumi.Input[str]]
    """Login user of the image; without it ubuntu."""
    vpc: pulumi.Input[str]
    """The network (vpc-…) that the subnets are in."""
    subnets: pulumi.Input[list[str]]
    """Subnets (subnet-…), over which the instances are spread in turn."""
    ssh_from: pulumi.Input[list[str]]
    """Networks that may reach SSH, as 203.0.113.0/24."""
    ssh_from_everywhere: NotRequired[pulumi.Input[bool]]
    """Whether these networks may be everybody, which is refused without it."""
    security_groups: NotRequired[pulumi.Input[list[str]]]
    """Further security groups (sg-…), such as that of a cluster's nodes."""
    public_address: NotRequired[pulumi.Input[bool]]
    """Whether each instance gets a public IPv4 address and is reached by it; without it, by its private one."""
    public_key: NotRequired[pulumi.Input[str]]
    """Public login key. Without it the pool makes a pair, whose private half is in the stack's state as a secret."""
    private_key: NotRequired[pulumi.Input[str]]
    """Private half of `public_key` (secret); without it the SSH agent is asked."""
    root_volume_gib: pulumi.Input[int]
    """Size of the encrypted root volume in GiB; images of containers and Kata itself lie on it."""
    session_manager: NotRequired[bool]
    """Whether Systems Manager may open sessions on the instances. Plain, because it decides which resources there are."""
    tags: NotRequired[pulumi.Input[list[str]]]
    """Tags of everything, as KEY=VALUE."""


class AwsNodes(pulumi.ComponentResource):
    """A pool of instances, named `{name}-0`, `{name}-1` and so on. For Amazon's commercial partition.

    What replaces what: another image, type, subnet, login key or host key replaces the instance, and with it everything that was
    done and proven on that node, and on that node alone. cloud-init sets keys at a machine's first boot only, and a proof on one
    type says nothing of another. Other security groups, tags or a larger disk are changed in place.
    """

    nodes: list[Node]
    """One record an instance."""

    def __init__(self, name: str, args: AwsNodesArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:AwsNodes", name, None, opts)
        parts = Parts(self, name, args, opts)
        public_key, private_key = args.get("public_key"), args.get("private_key")
        if public_key is None:
            public_key, private_key = self._pair(f"{name}-login-key", parts)
        login = PluginResource(
            "aws:ec2/keyPair:KeyPair",
            f"{name}-login",
            {"publicKey": public_key, "tags": parts.tags(f"{name}-login")},
            parts.options(),
            outputs=["keyName"],
        )
        self.nodes = []
        self.options: list[pulumi.ResourceOptions] = []
        """What is to be given to a `KataNode` on each of them, in the same order."""
        for number in range(int(args["count"])):
            node = f"{name}-{number}"
            host_public, host_private = self._pair(f"{node}-host-key", parts)
            instance = PluginResource(
                "aws:ec2/instance:Instance",
                f"{node}-instance",
                {
                    "ami": args["image"],
                    "instanceType": args["instance_type"],
                    "cpuOptions": parts.cpu_options,
                    "subnetId": self._in_turn(args["subnets"], number),
                    "vpcSecurityGroupIds": parts.security_groups,
                    "associatePublicIpAddress": args.get("public_address", False),
                    "keyName": login.output("keyName"),
                    "iamInstanceProfile": parts.profile.output("name") if parts.profile else None,
                    "metadataOptions": METADATA,
                    "rootBlockDevice": {**parts.disk, "tags": parts.tags(node)},
                    "userData": pulumi.Output.all(host_private, host_public).apply(lambda pair: user_data.host_key(*pair)),
                    "userDataReplaceOnChange": True,
                    "tags": parts.tags(node),
                },
                parts.options(
                    # EC2 would rather stop the machine and start it as another type, on other hardware.
                    replace_on_changes=["instanceType", "cpuOptions"],
                    delete_before_replace=True,  # a quota often has no room for one more
                    additional_secret_outputs=["userData"],
                ),
                outputs=["publicIp", "privateIp"],
            )
            addresses = (args.get("public_address", False), instance.output("publicIp"), instance.output("privateIp"))
            where: Node = {
                "node": node,
                "address": pulumi.Output.all(*addresses).apply(lambda one: str(one[1] if one[0] else one[2])),
                "port": 22,
                "user": args.get("user", "ubuntu"),
                "host_key": host_public,
                "identity": instance.id,
            }
            if private_key is not None:
                where["private_key"] = pulumi.Output.secret(private_key)
            self.nodes.append(where)
            # What is on the machine goes with it, so its removal needs no undoing first.
            self.options.append(pulumi.ResourceOptions(deleted_with=instance))
        self.register_outputs({"nodes": self.nodes})

    def _in_turn(self, subnets: pulumi.Input[list[str]], number: int) -> pulumi.Output[str]:
        return pulumi.Output.from_input(subnets).apply(lambda all_of: str(all_of[number % len(all_of)]))

    def _pair(self, name: str, parts: Parts) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        """A new ed25519 key pair: public half without a comment, private half (secret) in OpenSSH's form."""
        options = parts.options(additional_secret_outputs=PRIVATE)
        halves = ["publicKeyOpenssh", "privateKeyOpenssh"]
        pair = PluginResource("tls:index/privateKey:PrivateKey", name, {"algorithm": "ED25519"}, options, outputs=halves)
        public = pair.output("publicKeyOpenssh").apply(lambda text: " ".join(str(text).split()[:2]))
        return public, pulumi.Output.secret(pair.output("privateKeyOpenssh"))
