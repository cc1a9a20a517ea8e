"""What a machine on EC2 must be so that guests run on it, who may reach it, and how it is tagged: decided from text alone."""

import ipaddress
import re
import unicodedata
from collections.abc import Mapping, Sequence

from nodekit.errors import NodeError
from nodekit.rules.text import printable

INSTANCE_TYPE = r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$"
_FAMILY = re.compile(r"^(?P<series>[a-z]+(?:-(?=[0-9]))?)(?P<generation>[0-9]+)(?P<options>[a-z]*)(?P<variant>(?:-[a-z0-9]+)*)$")
"""EC2's own naming: series, generation, options, variant (user guide, "Instance type naming conventions")."""
QUOTAS = {
    "standard": ("L-1216C47A", ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z")),
    "F": ("L-74FC7D96", ("f",)),
    "G and VT": ("L-DB2E81BA", ("g", "gr", "vt")),
    "P": ("L-417A185B", ("p",)),
    "X": ("L-7295265B", ("x",)),
    "high memory": ("L-43DA4232", ("u-",)),
    "HPC": ("L-F7808C92", ("hpc",)),
}
"""Kind of on-demand instances -> code of its quota, counted in vCPUs with bare metal among them, and its series (user guide,
"Amazon EC2 instance type quotas"). Series with accelerators for learning have quotas of their own and no use here."""
NESTED_FEATURE = "nested-virtualization"
"""Feature that describe-instance-types lists for a type that can run a hypervisor without being bare metal."""

ROOT_VOLUME_GIB, ROOT_DEVICE, USER = 100, "/dev/sda1", "ubuntu"
"""Defaults of a machine: size and device name of its root volume, and its login user, as images of Ubuntu have them."""
CANONICAL = "099720109477"
"""Account of Canonical, who publishes Ubuntu (documentation.ubuntu.com/aws, "Find Ubuntu images")."""
MOST_TAGS = 50
"""Tags of one resource at most (user guide, "Tag restrictions")."""
MOST_BEFORE_END, MOST_BEFORE_ROLE = 100, 51
"""Characters of a pool's name: a launch template takes 128, a role 64, of which 13 are its end and the plugin's."""
OWNER_TAG = "kata-nodes"
"""Tag whose value is the stack that made a resource, as PROJECT/STACK: the quota's own machines are known by it."""


def is_x86(instance_type: str) -> bool:
    """Whether the type's name stands for none of Graviton, Grace and Mac: on the rest Kata's x86 guests can run."""
    family = instance_type.partition(".")[0]
    match = _FAMILY.match(family)
    arm = family == "a1" or bool(match and ("g" in match["options"] or "-gb" in match["variant"]))
    return not arm and not family.startswith("mac")


def is_metal(instance_type: str) -> bool:
    """Whether the type is bare metal, by its name."""
    return instance_type.partition(".")[2].startswith("metal")


def quota_of(instance_type: str) -> tuple[str, str] | None:
    """Kind and code of the quota that the type is counted against; None for a series whose quota is not known here."""
    family = instance_type.partition(".")[0]
    match = _FAMILY.match(family)
    # u-6tb1, u-12tb1 and so on: a size stands where others have a generation.
    series = "u-" if family.startswith("u-") else match["series"] if match else ""
    return next(((kind, code) for kind, (code, families) in QUOTAS.items() if series in families), None)


def nested_virtualization(instance_type: str, enabled: bool) -> bool:
    """Whether the machine must be made with nested virtualization turned on: not for bare metal, and for every other type.

    Raises NodeError `aws-instance-type` for a type on which no guest could run, whatever the account offers.
    """
    if not re.fullmatch(INSTANCE_TYPE, instance_type):
        raise NodeError("aws-instance-type", f"{printable(repr(instance_type), 60)} is not a type with its size")
    if not is_x86(instance_type):
        raise NodeError("aws-instance-type", f"{instance_type} has an Arm processor or is a Mac; neither runs Kata's x86 guests")
    if is_metal(instance_type):
        if enabled:
            raise NodeError(
                "aws-instance-type",
                f"{instance_type} is bare metal, and EC2 refuses nested virtualization as an option of it",
                "metal",
            )
        return False
    if not enabled:
        raise NodeError(
            "aws-instance-type",
            f"{instance_type} is not bare metal, and without nested virtualization it has no /dev/kvm",
            "not-metal",
        )
    return True


def ssh_networks(networks: Sequence[str], everywhere: bool) -> tuple[list[str], list[str]]:
    """The IPv4 and the IPv6 networks that may reach SSH, each once: EC2 refuses a rule that names one twice.

    Raises NodeError `aws-ssh-networks` if there is none, one is not a network, or they include everybody and `everywhere` is
    not set.
    """
    if not networks:
        raise NodeError("aws-ssh-networks", "SSH would be open to nobody, and the stack logs in by it")
    four: list[ipaddress.IPv4Network] = []
    six: list[ipaddress.IPv6Network] = []
    for text in networks:
        try:
            network = ipaddress.ip_network(text)
            if "%" in text:
                raise ValueError("it has a zone, which means something on one machine alone")
        except ValueError as error:
            raise NodeError("aws-ssh-networks", f"{text!r} is not a network: {error}", "form") from None
        if isinstance(network, ipaddress.IPv4Network):
            four.append(network)
        else:
            six.append(network)
    merged: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = [
        *ipaddress.collapse_addresses(four),
        *ipaddress.collapse_addresses(six),
    ]
    if not everywhere and (open_to_all := [network for network in merged if network.prefixlen == 0]):
        raise NodeError(
            "aws-ssh-networks", f"SSH would be open to everybody ({', '.join(map(str, open_to_all))}, from {', '.join(networks)})"
        )
    return list(dict.fromkeys(map(str, four))), list(dict.fromkeys(map(str, six)))


def some(subnets: Sequence[str]) -> Sequence[str]:
    """The subnets; raises NodeError `bad-input` where there is none."""
    if not subnets:
        raise NodeError("bad-input", "The machines have no subnet", expected="one subnet at least")
    return subnets


def in_turn(subnets: Sequence[str], number: int) -> str:
    """The subnet of the machine with that number, counted from 0; raises NodeError as `some`."""
    return str(some(subnets)[number % len(subnets)])


def refuse_name(name: str, *, role: bool = False) -> None:
    """Raise NodeError `bad-input` for the name of a pool that cannot begin the names of what it makes.

    The plugin adds an end of its own, and changes no letter. What launch templates, security groups and, with a `role`, IAM take
    (API references, LaunchTemplateName, GroupName, RoleName); names of security groups do not begin as their ids do.
    """
    most = MOST_BEFORE_ROLE if role else MOST_BEFORE_END
    if not re.fullmatch("[A-Za-z0-9._-]+", name) or len(name) > most or name.startswith("sg-"):
        raise NodeError(
            "bad-input",
            f"The pool {printable(repr(name), 100)} cannot name what it makes on AWS",
            expected=f"a name of letters, digits, hyphens, dots and underscores, at most {most}, that does not begin with sg-",
        )


def tag_pairs(values: Mapping[str, str]) -> list[str]:
    """Tags as KEY=VALUE. Raises NodeError `aws-tags` for a key that this form cannot hold."""
    if strange := [key for key in values if "=" in key]:
        raise NodeError("aws-tags", f"the tag {printable(repr(strange[0]), 160)} cannot be set: its key holds an equals sign")
    return [f"{key}={value}" for key, value in values.items()]


def tags(pairs: Sequence[str], stack: str, name: str, *, role: bool = False) -> dict[str, str]:
    """Tags of one resource: those set as KEY=VALUE, its `Name`, and `kata-nodes` with the stack that made it.

    Raises NodeError `aws-tags` for text that is not a pair, for a key that is ours or Amazon's, for one with two values, for too
    many, and where a `role` gets them, for those that IAM would refuse once everything else is made.
    """
    result: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if (
            not equals
            or not key
            or len(key) > 128
            or len(value) > 256
            or key in (OWNER_TAG, "Name")
            or key.lower().startswith("aws:")
        ):
            raise NodeError(
                "aws-tags",
                f"the tag {pair[:160]!r} cannot be set: a key has 1 to 128 characters, a value at most 256, and {OWNER_TAG}, "
                "Name and aws:… are reserved",
            )
        if result.setdefault(key, value) != value:
            raise NodeError(
                "aws-tags", f"the tag {pair[:160]!r} cannot be set: its key is set to {result[key][:160]!r} before it"
            )
    whole = {**result, "Name": name, OWNER_TAG: stack}
    if len(whole) > MOST_TAGS:
        own = len(whole) - len(result)
        raise NodeError(
            "aws-tags", f"{len(result)} tags cannot be set: a resource has {MOST_TAGS} at most, and {own} are the stack's"
        )
    if role:
        refuse_for_roles(whole)
    return whole


def refuse_for_roles(values: Mapping[str, str]) -> None:
    """Raise NodeError `aws-tags` for what IAM takes in no tag, as EC2 does (API reference, IAM, "Tag")."""
    beside = "Systems Manager needs a role, whose tags have letters, digits, spaces and _.:/=+-@ only"
    for key, value in values.items():
        if any(not _is_of_roles(character) for character in key + value):
            raise NodeError("aws-tags", f"the tag {printable(repr(f'{key}={value}'), 160)} cannot be set: {beside}")
    folded: dict[str, str] = {}
    for key in values:
        if other := folded.get(key.lower()):
            pair = printable(f"{other} and {key}", 160)
            raise NodeError(
                "aws-tags", f"the tags {pair} cannot both be set: Systems Manager needs a role, for which they are one"
            )
        folded[key.lower()] = key


def _is_of_roles(character: str) -> bool:
    return character in "_.:/=+-@" or unicodedata.category(character)[0] in "LZN"
