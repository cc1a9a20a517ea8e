"""The part of the stack's configuration that chooses machines on AWS."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from aws import ec2
from nodekit.errors import NodeError
from stacks.sections import Model, NodeErrorValue, Sha256, form

Cidr = Annotated[
    str, form(r"^[0-9a-fA-F.:]+/[0-9]{1,3}$", "a network, such as 203.0.113.0/24, or one address, such as 203.0.113.7/32")
]


class AwsInstances(Model):
    """Instances that the stack makes and reaches over SSH."""

    count: Annotated[int, Field(ge=1, le=100)] = 1
    """How many."""
    user: Annotated[str, form(r"^[a-z_][a-z0-9_-]*$", "the name of a login user, such as ubuntu")] = ec2.USER
    """Login user of the image (Debian: admin)."""
    ssh_from: Annotated[list[Cidr], Field(min_length=1)]
    """Networks that may reach SSH, such as 203.0.113.0/24."""
    ssh_from_everywhere: bool = False
    """Whether these networks may include everybody."""
    public_address: bool = False
    """Whether each instance gets a public IPv4 address and is reached by it; otherwise by its private one."""
    public_key: (
        Annotated[
            str,
            form(
                r"^(ssh-ed25519|ssh-rsa) [A-Za-z0-9+/=]+( .*)?\n?$",
                "the content of a .pub file, which begins with ssh-ed25519 or ssh-rsa",
            ),
        ]
        | None
    ) = None
    """Public login key, whose private half is the secret `sshPrivateKey` or in the SSH agent; without it the stack makes both."""

    @model_validator(mode="after")
    def ssh_is_for_named_networks(self) -> "AwsInstances":
        """The rule is the component's own."""
        try:
            ec2.ssh_networks(self.ssh_from, self.ssh_from_everywhere)
        except NodeError as error:
            raise NodeErrorValue(error) from None
        return self


class AwsProgram(Model):
    """The node program in an object store, for machines to download."""

    address: Annotated[
        str, form(r"^https://[^\s'\"\\]+$", "an address that begins with https:// and has no spaces, quotes or backslashes")
    ]
    """Its address, which every machine of the group can read."""
    sha256: Sha256
    """What `python -m delivery.bundle --output FILE` printed."""


class AwsGroup(Model):
    """An auto-scaling group whose machines join a cluster by themselves; nobody logs in to them."""

    min_size: Annotated[int, Field(ge=0, le=1000)] = 1
    """Least number of machines, and how many there are at first."""
    max_size: Annotated[int, Field(ge=1, le=1000)]
    """Largest number of machines."""
    root_device: Annotated[str, form(r"^/dev/[a-z0-9]+$", "a device, such as /dev/sda1")] = ec2.ROOT_DEVICE
    """Device name of the image's root volume (Debian: /dev/xvda)."""
    program: AwsProgram
    """The node program. The secret `runtimeScript` runs before it, to install the cluster's container runtime where the image has
    none, and `joinScript` runs once it has proven the machine."""
    join_seconds: Annotated[int, Field(ge=0, le=7200)] = 1800
    """How long an `up` waits until `minSize` nodes have the labels of `kubernetes.proof.selector`."""

    @model_validator(mode="after")
    def sizes_are_in_order(self) -> "AwsGroup":
        """Refuse what EC2 would refuse."""
        if self.min_size > self.max_size:
            raise ValueError(f"minSize {self.min_size} is above maxSize {self.max_size}")
        return self


class Aws(Model):
    """Machines on EC2: exactly one of instances and a group."""

    region: Annotated[
        str, form(r"^([abd-z][a-z]|c[a-mo-z])-[a-z]+-[0-9]$", "a region outside of China and GovCloud, such as eu-central-1")
    ]
    """Region, of Amazon's commercial partition: not of China or GovCloud, whose policies and images have other names."""
    instance_type: Annotated[str, form(ec2.INSTANCE_TYPE, "a type with its size, such as m8i.xlarge or m7i.metal-24xl")]
    """Bare metal, or a type that lists nested-virtualization."""
    nested_virtualization: bool = False
    """Whether nested virtualization is turned on, which every type needs that is not bare metal."""
    image: Annotated[str, form(r"^ami-([0-9a-f]{8}|[0-9a-f]{17})$", "the id of an image: ami- and 17 hexadecimal digits, or 8")]
    """The image; `python -m aws.preflight --newest-image --region REGION` prints the newest Ubuntu 24.04."""
    image_owner: Annotated[str, form(r"^[0-9]{12}$", "the 12 digits of an account, in quotes")] = ec2.CANONICAL
    """Account that must own the image, which the preflight checks; by default Canonical."""
    vpc: Annotated[str, form(r"^vpc-[0-9a-f]+$", "the id of a network: vpc- and hexadecimal digits")]
    """The network of the subnets."""
    subnets: Annotated[
        list[Annotated[str, form(r"^subnet-[0-9a-f]+$", "the id of a subnet: subnet- and hexadecimal digits")]],
        Field(min_length=1),
    ]
    """Subnets in which machines are made."""
    security_groups: list[Annotated[str, form(r"^sg-[0-9a-f]+$", "the id of a security group: sg- and hexadecimal digits")]] = []
    """Further security groups for every machine, such as the one of a cluster's nodes."""
    root_volume_gi_b: Annotated[int, Field(alias="rootVolumeGiB", ge=16, le=16384)] = ec2.ROOT_VOLUME_GIB
    """Size of the encrypted root volume in GiB."""
    session_manager: bool = False
    """Whether Systems Manager may open sessions on the machines."""
    tags: dict[str, str] = {}
    """Tags of all resources, in addition to Name and kata-nodes."""
    instances: AwsInstances | None = None
    group: AwsGroup | None = None

    @model_validator(mode="before")
    @classmethod
    def no_managed_node_group(cls, value: Any) -> Any:
        """Refuse what would silently lose its setting."""
        if isinstance(value, dict) and "managedNodeGroup" in value:
            raise NodeErrorValue(
                NodeError(
                    "aws-managed-node-group",
                    "nodes.aws.managedNodeGroup is refused: a managed node group of EKS drops nested virtualization from its "
                    "launch template without a message (aws/containers-roadmap 2784), and its machines have no /dev/kvm",
                )
            )
        return value

    @model_validator(mode="after")
    def one_kind_that_can_run_guests(self) -> "Aws":
        """Refuse neither and both of them, and what the components would refuse."""
        if (self.instances is None) == (self.group is None):
            raise ValueError("give exactly one of 'instances' and 'group'")
        try:
            ec2.nested_virtualization(self.instance_type, self.nested_virtualization)
            ec2.tags(self.tag_pairs, "stack", "name", role=self.session_manager)
        except NodeError as error:
            raise NodeErrorValue(error) from None
        return self

    @property
    def tag_pairs(self) -> list[str]:
        """In the form that the components take."""
        return ec2.tag_pairs(self.tags)

    @property
    def most(self) -> int:
        """How many machines there can be at once."""
        return self.instances.count if self.instances else self.group.max_size if self.group else 0
