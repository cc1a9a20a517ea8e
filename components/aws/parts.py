"""What machines of every pool on AWS have in common: type, security group, instance profile, metadata service, disk, tags."""

from functools import partial
from typing import Any, NotRequired, Optional, TypedDict

import pulumi

from aws import ec2
from components.children import child_options
from components.plain import set_or
from components.plugin_resource import PluginResource
from components.refusals import reporting_refusals
from components.whole_numbers import whole
from delivery import login

METADATA = {
    "httpEndpoint": "enabled",
    "httpTokens": "required",
    "httpPutResponseHopLimit": 1,
    "instanceMetadataTags": "disabled",
}
"""IMDSv2, and only from the machine itself (hop limit 1): guests and containers get no answer, but in the host's network."""
SESSION_MANAGER = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"


class AwsMachine(TypedDict):
    """What every machine of a pool on AWS is."""

    instance_type: pulumi.Input[str]
    """Bare metal, such as m7i.metal-24xl, or a type that lists nested-virtualization, such as m8i.xlarge."""
    nested_virtualization: NotRequired[pulumi.Input[bool]]
    """Whether nested virtualization is turned on; needed for a type that is not bare metal, and refused for one that is."""
    image: pulumi.Input[str]
    """Image (ami-…) with cloud-init, of Debian or Ubuntu for x86_64."""
    root_volume_gib: NotRequired[pulumi.Input[int]]
    """Size of the encrypted root volume in GiB, by default 100; images of containers and Kata itself lie on it."""
    vpc: pulumi.Input[str]
    """The network (vpc-…) that the subnets are in."""
    subnets: pulumi.Input[list[str]]
    """Subnets (subnet-…) that machines are made in."""
    security_groups: NotRequired[pulumi.Input[list[str]]]
    """Further security groups (sg-…), such as that of a cluster's nodes."""
    session_manager: NotRequired[bool]
    """Whether Systems Manager may open sessions on the machines. Plain, because it decides which resources there are."""
    tags: NotRequired[pulumi.Input[list[str]]]
    """Tags of everything, as KEY=VALUE."""


MOST_GIB = 65536
"""Of a volume of type gp3 (Amazon EBS volume types)."""


class MachineResources:
    """Children of the pool `parent`, which was given `opts`, and inputs of its machines; `ssh_from` may reach them, if given."""

    def __init__(
        self,
        parent: pulumi.ComponentResource,
        name: str,
        machine: AwsMachine,
        opts: Optional[pulumi.ResourceOptions],
        ssh_from: pulumi.Input[list[str]] | None = None,
        ssh_from_everywhere: pulumi.Input[bool] = False,
    ) -> None:
        self.parent, self.name, self.given_tags, self.opts = parent, name, set_or(machine.get("tags"), []), opts
        self.has_role = bool(machine.get("session_manager", False))
        reporting_refusals(partial(ec2.refuse_name, role=self.has_role))(name)
        nested = pulumi.Output.all(machine["instance_type"], machine.get("nested_virtualization", False)).apply(
            reporting_refusals(lambda values: ec2.nested_virtualization(values[0], bool(values[1])))
        )
        self.cpu_options = nested.apply(lambda on: {"nestedVirtualization": "enabled"} if on else None)
        self.disk = {
            "volumeSize": pulumi.Output.from_input(set_or(machine.get("root_volume_gib"), ec2.ROOT_VOLUME_GIB)).apply(
                reporting_refusals(lambda size: whole("rootVolumeGib", size, 1, MOST_GIB))
            ),
            "volumeType": "gp3",
            "encrypted": True,
            "deleteOnTermination": True,
        }
        networks: pulumi.Output[Any] = pulumi.Output.from_input(([], []))
        if ssh_from is not None:
            networks = pulumi.Output.all(ssh_from, ssh_from_everywhere).apply(
                reporting_refusals(lambda values: ec2.ssh_networks(values[0], bool(values[1])))
            )
        everywhere = {"cidrBlocks": ["0.0.0.0/0"], "ipv6CidrBlocks": ["::/0"]}
        group = PluginResource(
            "aws:ec2/securityGroup:SecurityGroup",
            f"{name}-security-group",
            {
                "description": "Nodes of kata-nodes: SSH from named networks alone",
                "vpcId": machine["vpc"],
                "ingress": networks.apply(_ingress),
                "egress": [{"protocol": "-1", "fromPort": 0, "toPort": 0, **everywhere}],
                "tags": self.tags(f"{name}-security-group"),
            },
            self.options(),
        )
        self.security_groups = pulumi.Output.all(group.id, set_or(machine.get("security_groups"), [])).apply(
            lambda groups: [groups[0], *groups[1]]
        )
        self.profile = self._session_manager() if self.has_role else None

    def options(self, *after: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:
        """Of a child."""
        return child_options(self.parent, self.opts, depends_on=list(after), **options)

    def tags(self, name: str) -> pulumi.Output[dict[str, str]]:
        """Of the resource with that name."""
        owner = f"{pulumi.get_project()}/{pulumi.get_stack()}"
        return pulumi.Output.from_input(self.given_tags).apply(
            reporting_refusals(lambda pairs: ec2.tags(pairs, owner, name, role=self.has_role))
        )

    def _session_manager(self) -> PluginResource:
        """An instance profile by which Systems Manager opens sessions, with no port and no key."""
        statement = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        role = PluginResource(
            "aws:iam/role:Role",
            f"{self.name}-role",
            {
                "assumeRolePolicy": pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": [statement]}),
                "tags": self.tags(f"{self.name}-role"),
            },
            self.options(),
            outputs=["name"],
        )
        allowed = PluginResource(
            "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
            f"{self.name}-session-manager",
            {"role": role.output("name"), "policyArn": SESSION_MANAGER},
            self.options(),
        )
        return PluginResource(
            "aws:iam/instanceProfile:InstanceProfile",
            f"{self.name}-profile",
            {"role": role.output("name"), "tags": self.tags(f"{self.name}-profile")},
            self.options(allowed),
            outputs=["name", "arn"],
        )


def _ingress(networks: tuple[list[str], list[str]] | list[list[str]]) -> list[dict[str, Any]]:
    """SSH from these IPv4 and IPv6 networks; none when there are none."""
    four, six = networks
    rule = {"protocol": "tcp", "fromPort": login.SSH_PORT, "toPort": login.SSH_PORT, "description": "SSH"}
    return [{**rule, "cidrBlocks": four, "ipv6CidrBlocks": six}] if four or six else []
