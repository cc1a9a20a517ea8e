"""Judge whether an AWS account can give the machines that are asked for, from what its APIs answered.

An answer is the API's document, or `{"error": {"code": …, "message": …}}`; nothing here calls anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws import ec2
from nodekit.errors import NodeError
from nodekit.rules.text import printable

Answer = Mapping[str, Any]
OK, FAILED, SKIPPED = "ok", "failed", "skipped"
NO_ENDPOINT = "no-endpoint"
"""Code for a service that could not be reached at all."""
NO_CREDENTIALS = "no-credentials"
"""Code for a call that was not even begun."""
NEWEST_IMAGE = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"
"""Names of Canonical's images of Ubuntu 24.04 (documentation.ubuntu.com/aws, "Find Ubuntu images")."""
_FORBIDDEN = ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException")
_THROTTLED = ("RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown")
_LOGIN = ("AuthFailure", "OptInRequired", "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredToken", "RequestExpired",
          "SignatureDoesNotMatch", "ExpiredTokenException")  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What is asked of the account."""

    region: str
    instance_type: str
    count: int = 1
    zones: Sequence[str] = ()
    """Availability zones in which the type is needed; none: any."""
    image: str | None = None
    image_owner: str = ec2.CANONICAL
    root_device: str | None = None
    """Device name that the image's root volume must have; none: any."""
    vpc: str | None = None
    subnets: Sequence[str] = ()
    stack: str | None = None
    """Value of the tag `kata-nodes` of machines that are part of `count`, where they run already."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    item: str
    verdict: str
    found: str
    remedy: str = ""


def refused(item: str, action: str, answer: Answer, asked: Asked) -> Row | None:
    """The row for a call that failed in a way that says nothing of what was asked; None for another answer."""
    error = answer.get("error")
    if error is None:
        return None
    code, message = str(error["code"]), printable(" ".join(str(error["message"]).split()), 200)
    if code in _FORBIDDEN:
        return Row(item, FAILED, f"these credentials may not call {action}", f"Allow the IAM action {action}")
    if code in _THROTTLED:
        return Row(item, FAILED, f"AWS still throttled {action} after all tries ({code})", "Run again in some minutes")
    if code in _LOGIN:
        return Row(
            item,
            FAILED,
            f"{asked.region} does not accept these credentials ({code})",
            f"Renew them; if they work in other regions, enable {asked.region} for the account",
        )
    if code == NO_CREDENTIALS:
        return Row(item, FAILED, f"no AWS credentials can be used here: {message}", "Log in (aws sso login), or set AWS_PROFILE")
    if code == NO_ENDPOINT:
        return Row(
            item,
            FAILED,
            f"{asked.region} cannot be reached: {message}",
            "Correct the region, or make it reachable from this machine",
        )
    return Row(item, FAILED, f"{action}: {code}: {message}", "Follow that message")


def is_final(answer: Answer) -> bool:
    """Whether every further call would fail alike: no such region, or no login to it."""
    return answer.get("error", {}).get("code") in (*_LOGIN, NO_ENDPOINT, NO_CREDENTIALS)


def judge_type(asked: Asked, answer: Answer) -> Iterator[Row]:
    """From DescribeInstanceTypes: that the type is there, and that guests run on it."""
    name = asked.instance_type
    found = next(iter(answer.get("InstanceTypes", [])), None)
    if answer.get("error", {}).get("code") in ("InvalidInstanceType", "InvalidParameterValue") or (
        found is None and "error" not in answer
    ):
        yield Row("type", FAILED, f"{asked.region} has no {name}", "Choose a type that the region has, or another region")
        return
    if row := refused("type", "ec2:DescribeInstanceTypes", answer, asked):
        yield row
        return
    assert found
    yield Row("type", OK, f"{asked.region} has {name}, {found['VCpuInfo']['DefaultVCpus']} vCPUs")
    processor = found["ProcessorInfo"]
    architectures = processor.get("SupportedArchitectures", [])
    if "x86_64" in architectures:
        yield Row("architecture", OK, "x86_64")
    else:
        yield Row(
            "architecture",
            FAILED,
            ", ".join(architectures) or "none",
            "Choose a type with an Intel or AMD processor: Graviton cannot run these guests",
        )
    if found.get("BareMetal"):
        yield Row("virtualization", OK, "bare metal")
    elif ec2.NESTED_FEATURE in processor.get("SupportedFeatures", []):
        yield Row("virtualization", OK, f"lists {ec2.NESTED_FEATURE}; nestedVirtualization must be set")
    else:
        yield Row(
            "virtualization",
            FAILED,
            f"{name} is not bare metal and does not list {ec2.NESTED_FEATURE}; it lists "
            f"{', '.join(processor.get('SupportedFeatures', [])) or 'nothing'}",
            "Choose a .metal type, or one of m8i, c8i or r8i",
        )


def judge_subnets(asked: Asked, answer: Answer) -> tuple[list[str], Row]:
    """From DescribeSubnets: the zones in which machines will be, and that the subnets are in the network that was named."""
    if answer.get("error", {}).get("code") == "InvalidSubnetID.NotFound":
        said = printable(str(answer["error"]["message"]), 200)
        return [], Row("subnets", FAILED, said, f"Name subnets of {asked.region}")
    if row := refused("subnets", "ec2:DescribeSubnets", answer, asked):
        return [], row
    found = answer["Subnets"]
    elsewhere = [one["SubnetId"] for one in found if one["VpcId"] != asked.vpc]
    if elsewhere:
        return [], Row(
            "subnets", FAILED, f"{', '.join(elsewhere)} not in {asked.vpc}", "Name subnets of this network, or their network"
        )
    zones = sorted({one["AvailabilityZone"] for one in found})
    return zones, Row("subnets", OK, f"{len(found)} in {asked.vpc}, zones {', '.join(zones)}")


def judge_zones(asked: Asked, answer: Answer) -> Row:
    """From DescribeInstanceTypeOfferings by zone."""
    if row := refused("zones", "ec2:DescribeInstanceTypeOfferings", answer, asked):
        return row
    offered = sorted({one["Location"] for one in answer["InstanceTypeOfferings"] if one["InstanceType"] == asked.instance_type})
    lacking = [zone for zone in asked.zones if zone not in offered]
    if lacking or not offered:
        return Row(
            "zones",
            FAILED,
            f"{asked.instance_type} is not offered in {', '.join(lacking) or asked.region}, "
            f"but in {', '.join(offered) or 'no zone'}",
            "Use subnets in zones that offer it, or another type",
        )
    return Row("zones", OK, f"offered in {', '.join(asked.zones or offered)}")


def judge_image(asked: Asked, answer: Answer) -> Row:
    """From DescribeImages: there, ready, for x86_64, and of the account that it should be of."""
    newest = f"The newest Ubuntu 24.04: python -m aws.preflight --newest-image --region {asked.region}"
    found = next(iter(answer.get("Images", [])), None)
    code = str(answer.get("error", {}).get("code", ""))
    if code.startswith("InvalidAMIID") or (found is None and not code):
        return Row("image", FAILED, f"{asked.region} has no {asked.image}, or these credentials may not see it", newest)
    if row := refused("image", "ec2:DescribeImages", answer, asked):
        return row
    assert found
    name = printable(str(found.get("Name", "")), 120)
    if found["OwnerId"] != asked.image_owner:
        return Row(
            "image",
            FAILED,
            f"{asked.image} ({name}) is of account {found['OwnerId']}, not {asked.image_owner}",
            f"If you trust that account, set imageOwner to it. {newest}",
        )
    for key, wanted in (("State", "available"), ("Architecture", "x86_64"), ("RootDeviceName", asked.root_device)):
        if wanted is not None and found.get(key) != wanted:
            remedy = "Set rootDevice to the image's own" if key == "RootDeviceName" else newest
            return Row("image", FAILED, f"{key} of {asked.image} ({name}) is {found.get(key)}, not {wanted}", remedy)
    return Row("image", OK, f"{asked.image} ({name}), of {found['OwnerId']}")


def newest_image(answer: Answer) -> Mapping[str, Any] | None:
    """The newest image of DescribeImages that is really Canonical's, or None."""
    found = [one for one in answer.get("Images", []) if one["OwnerId"] == ec2.CANONICAL and one.get("Architecture") == "x86_64"]
    return max(found, key=lambda one: str(one["CreationDate"]), default=None)


def judge_quota(asked: Asked, types: Answer, quota: Answer, default: Answer, running: Answer) -> Row:
    """Whether the vCPUs that are asked for fit beside those that run.

    `types` is DescribeInstanceTypes of the type asked for and of all that run, `quota` GetServiceQuota and `default`
    GetAWSDefaultServiceQuota, which stands where the account has no value of its own; `running` is DescribeInstances.
    """
    counted = ec2.quota_of(asked.instance_type)
    if counted is None:
        return Row(
            "quota", SKIPPED, f"the quota of {asked.instance_type} is not known here", "Look it up in the Service Quotas console"
        )
    kind, code = counted
    own, action = quota, "servicequotas:GetServiceQuota"
    if quota.get("error", {}).get("code") == "NoSuchResourceException":
        own, action = default, "servicequotas:GetAWSDefaultServiceQuota"
    calls = ((types, "ec2:DescribeInstanceTypes"), (running, "ec2:DescribeInstances"), (own, action))
    for answer, action in calls:
        if row := refused("quota", action, answer, asked):
            return row
    vcpus = {one["InstanceType"]: int(one["VCpuInfo"]["DefaultVCpus"]) for one in types["InstanceTypes"]}
    if asked.instance_type not in vcpus:
        return Row("quota", SKIPPED, f"{asked.instance_type} does not exist, so it cannot be counted")
    used = 0
    for instance in (one for reservation in running["Reservations"] for one in reservation["Instances"]):
        tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
        ours = asked.stack is not None and tags.get(ec2.OWNER_TAG) == asked.stack
        # Spot instances have quotas of their own.
        if instance.get("InstanceLifecycle") != "spot" and not ours and ec2.quota_of(instance["InstanceType"]) == counted:
            used += vcpus.get(instance["InstanceType"], 0)
    wanted, limit = asked.count * vcpus[asked.instance_type], int(own["Quota"]["Value"])
    sums = f"{wanted} vCPUs asked for, {used} run, quota {limit} ({code}, on-demand {kind})"
    if wanted + used > limit:
        return Row(
            "quota",
            FAILED,
            sums,
            f"aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {code} "
            f"--desired-value {wanted + used} --region {asked.region}",
        )
    return Row("quota", OK, sums)


def table(rows: Sequence[Row]) -> str:
    """The rows as a person reads them: item, verdict, what was found, and below it the remedy."""
    width = max(len(row.item) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.item:<{width}}  {row.verdict:<7}  {row.found}")
        if row.remedy:
            lines.append(f"{'':<{width}}  {'':<7}  {row.remedy.rstrip('.')}.")
    return "\n".join(lines)


def insist(rows: Sequence[Row]) -> None:
    """Raise NodeError `aws-preflight-failed` when a row failed; the whole table is in it."""
    failed = [row.item for row in rows if row.verdict == FAILED]
    if failed:
        raise NodeError("aws-preflight-failed", f"AWS cannot provide what is asked for ({', '.join(failed)}):\n{table(rows)}\n")
