"""Judge from the answers of its APIs whether an AWS account can provide the machines that are asked for.

An answer is the API's document, or `{"error": {"code": …, "message": …}}`; nothing here calls anything.
"""

from collections import Counter
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
"""Code for a call that was never made."""
NEWEST_IMAGE = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"
"""Names of Canonical's images of Ubuntu 24.04 (documentation.ubuntu.com/aws, "Find Ubuntu images")."""
_FORBIDDEN = ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException")
_THROTTLED = ("RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown")
_LOGIN = ("AuthFailure", "OptInRequired", "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredToken", "RequestExpired",
          "SignatureDoesNotMatch", "ExpiredTokenException")  # fmt: skip


@dataclass(frozen=True)
class Request:
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
    root_volume_gib: int | None = None
    """Size of the root volume that machines get, in GiB; none: the image's own."""
    vpc: str | None = None
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()
    """Groups that machines get beside the stack's own, which there must be before."""
    stack: str | None = None
    """Value of the tag `kata-nodes` of machines that are part of `count`, where they run already."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    item: str
    verdict: str
    finding: str
    remedy: str = ""


def refused(item: str, action: str, answer: Answer, request: Request) -> Row | None:
    """The row for a call whose failure does not answer the question; None for another answer."""
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
            f"{request.region} does not accept these credentials ({code})",
            f"Renew them, and check this machine's clock; if they work in other regions, enable {request.region} for the account",
        )
    if code == NO_CREDENTIALS:
        return Row(
            item,
            FAILED,
            f"no AWS credentials can be used here: {message}",
            "Log in (aws sso login, or aws login), or set AWS_PROFILE",
        )
    if code == NO_ENDPOINT:
        return Row(
            item,
            FAILED,
            f"{request.region} cannot be reached: {message}",
            "Correct the region, or make it reachable from this machine",
        )
    return Row(item, FAILED, f"{action}: {code}: {message}", "Follow that message")


def is_final(answer: Answer) -> bool:
    """Whether every further call would fail the same way: no such region, or no login to it."""
    return answer.get("error", {}).get("code") in (*_LOGIN, NO_ENDPOINT, NO_CREDENTIALS)


def judge_type(request: Request, answer: Answer) -> Iterator[Row]:
    """From DescribeInstanceTypes: that the type is there, and that guests run on it."""
    name = request.instance_type
    described = next(iter(answer.get("InstanceTypes", [])), None)
    if answer.get("error", {}).get("code") in ("InvalidInstanceType", "InvalidParameterValue") or (
        described is None and "error" not in answer
    ):
        yield Row("type", FAILED, f"{request.region} has no {name}", "Choose a type that the region has, or another region")
        return
    if row := refused("type", "ec2:DescribeInstanceTypes", answer, request):
        yield row
        return
    assert described
    yield Row("type", OK, f"{request.region} has {name}, {described['VCpuInfo']['DefaultVCpus']} vCPUs")
    processor = described["ProcessorInfo"]
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
    if described.get("BareMetal"):
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


def judge_subnets(request: Request, answer: Answer) -> tuple[list[str], Row]:
    """From DescribeSubnets: the zones in which machines will be, and that the subnets are in the network that was named."""
    if answer.get("error", {}).get("code") == "InvalidSubnetID.NotFound":
        message = printable(str(answer["error"]["message"]), 200)
        return [], Row("subnets", FAILED, message, f"Name subnets of {request.region}")
    if row := refused("subnets", "ec2:DescribeSubnets", answer, request):
        return [], row
    subnets = answer["Subnets"]
    elsewhere = [subnet["SubnetId"] for subnet in subnets if subnet["VpcId"] != request.vpc]
    if elsewhere:
        return [], Row(
            "subnets", FAILED, f"{', '.join(elsewhere)} not in {request.vpc}", "Name subnets of this network, or their network"
        )
    zones = sorted({subnet["AvailabilityZone"] for subnet in subnets})
    return zones, Row("subnets", OK, f"{len(subnets)} in {request.vpc}, zones {', '.join(zones)}")


def judge_security_groups(request: Request, answer: Answer) -> Row:
    """From DescribeSecurityGroups: the further groups of machines are there. EC2 refuses an instance with another one, after the
    stack has made its keys and its own group."""
    error = answer.get("error", {})
    if str(error.get("code", "")).startswith(("InvalidGroup", "InvalidSecurityGroup")):
        remedy = f"Name security groups of {request.region} and {request.vpc}"
        return Row("security groups", FAILED, printable(str(error["message"]), 200), remedy)
    if row := refused("security groups", "ec2:DescribeSecurityGroups", answer, request):
        return row
    elsewhere = [group["GroupId"] for group in answer["SecurityGroups"] if group.get("VpcId") != request.vpc]
    if elsewhere:
        finding = f"{', '.join(elsewhere)} not of {request.vpc}; EC2 takes those alone that are associated with it"
        return Row("security groups", SKIPPED, finding, f"Name security groups of {request.vpc}, or associate these with it")
    return Row("security groups", OK, f"{len(answer['SecurityGroups'])} in {request.vpc}")


def judge_zones(request: Request, answer: Answer) -> Row:
    """From DescribeInstanceTypeOfferings by zone."""
    if row := refused("zones", "ec2:DescribeInstanceTypeOfferings", answer, request):
        return row
    offered = sorted(
        {
            offering["Location"]
            for offering in answer["InstanceTypeOfferings"]
            if offering["InstanceType"] == request.instance_type
        }
    )
    lacking = [zone for zone in request.zones if zone not in offered]
    if lacking or not offered:
        return Row(
            "zones",
            FAILED,
            f"{request.instance_type} is not offered in {', '.join(lacking) or request.region}, "
            f"but in {', '.join(offered) or 'no zone'}",
            "Use subnets in zones that offer it, or another type",
        )
    return Row("zones", OK, f"offered in {', '.join(request.zones or offered)}")


def _instances(running: Answer) -> Iterator[Mapping[str, Any]]:
    """All that DescribeInstances lists."""
    return (instance for reservation in running.get("Reservations", []) for instance in reservation["Instances"])


def _is_own(request: Request, instance: Mapping[str, Any]) -> bool:
    """Whether the stack made it."""
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    return request.stack is not None and tags.get(ec2.OWNER_TAG) == request.stack


def _no_machine_is_made(request: Request, running: Answer) -> bool:
    """Whether all instances run already, of the type, from the image and in the subnets that they are to have. Of a group, whose
    machines come and go, nobody knows."""
    if request.root_device is not None or not request.subnets:
        return False
    places = Counter(
        str(instance.get("SubnetId"))
        for instance in _instances(running)
        if _is_own(request, instance)
        and (instance.get("ImageId"), instance["InstanceType"]) == (request.image, request.instance_type)
    )
    return not Counter(ec2.in_turn(request.subnets, number) for number in range(request.count)) - places


def judge_image(request: Request, answer: Answer, running: Answer | None = None) -> Row:
    """From DescribeImages: there, ready, for x86_64, of the account that it should be of, and with room for what it holds.

    `running` is DescribeInstances: publishers delete old images, which the machines that were made from them outlive.
    """
    newest = f"The newest Ubuntu 24.04: python -m aws.preflight --newest-image --region {request.region}"
    image = next(iter(answer.get("Images", [])), None)
    code = str(answer.get("error", {}).get("code", ""))
    if code.startswith("InvalidAMIID") or (image is None and not code):
        if _no_machine_is_made(request, running or {}):
            gone = f"{request.region} no longer has {request.image}; the machines that run from it stay, and no other can be made"
            return Row("image", SKIPPED, gone, f"Before another type, subnet or key, choose another image. {newest}")
        return Row("image", FAILED, f"{request.region} has no {request.image}, or these credentials may not see it", newest)
    if row := refused("image", "ec2:DescribeImages", answer, request):
        return row
    assert image
    name = printable(str(image.get("Name", "")), 120)
    if image["OwnerId"] != request.image_owner:
        return Row(
            "image",
            FAILED,
            f"{request.image} ({name}) is of account {image['OwnerId']}, not {request.image_owner}",
            f"If you trust that account, set imageOwner to it. {newest}",
        )
    for key, expected in (("State", "available"), ("Architecture", "x86_64"), ("RootDeviceName", request.root_device)):
        if expected is not None and image.get(key) != expected:
            remedy = "Set rootDevice to the image's own" if key == "RootDeviceName" else newest
            return Row("image", FAILED, f"{key} of {request.image} ({name}) is {image.get(key)}, not {expected}", remedy)
    size = next(
        (
            int((disk.get("Ebs") or {}).get("VolumeSize") or 0)
            for disk in image.get("BlockDeviceMappings") or []
            if disk.get("DeviceName") == image.get("RootDeviceName")
        ),
        0,
    )
    if request.root_volume_gib is not None and request.root_volume_gib < size:
        # EC2 starts no machine then; of a group, the run would wait until its time is over.
        needed = f"the root volume of {request.image} ({name}) has {size} GiB, and machines would get {request.root_volume_gib}"
        return Row("image", FAILED, needed, f"Set rootVolumeGiB to {size} or more")
    return Row("image", OK, f"{request.image} ({name}), of {image['OwnerId']}")


def newest_image(answer: Answer) -> Mapping[str, Any] | None:
    """The newest image of DescribeImages that is really Canonical's, or None."""
    images = [
        image for image in answer.get("Images", []) if image["OwnerId"] == ec2.CANONICAL and image.get("Architecture") == "x86_64"
    ]
    return max(images, key=lambda image: str(image["CreationDate"]), default=None)


def judge_quota(request: Request, types: Answer, quota: Answer, default: Answer, running: Answer) -> Row:
    """Whether the vCPUs that are asked for fit beside those that run.

    `types` is DescribeInstanceTypes of the type asked for and of all that run, `quota` GetServiceQuota and `default`
    GetAWSDefaultServiceQuota, which counts where the account has no value of its own; `running` is DescribeInstances.
    """
    counted = ec2.quota_of(request.instance_type)
    if counted is None:
        return Row(
            "quota",
            SKIPPED,
            f"the quota of {request.instance_type} is not known here",
            "Look it up in the Service Quotas console",
        )
    kind, code = counted
    own, action = quota, "servicequotas:GetServiceQuota"
    if quota.get("error", {}).get("code") == "NoSuchResourceException":
        own, action = default, "servicequotas:GetAWSDefaultServiceQuota"
    calls = ((types, "ec2:DescribeInstanceTypes"), (running, "ec2:DescribeInstances"), (own, action))
    for answer, action in calls:
        if row := refused("quota", action, answer, request):
            return row
    vcpus = {described["InstanceType"]: int(described["VCpuInfo"]["DefaultVCpus"]) for described in types["InstanceTypes"]}
    if request.instance_type not in vcpus:
        return Row("quota", SKIPPED, f"{request.instance_type} does not exist, so it cannot be counted")
    used = 0
    for instance in _instances(running):
        # Spot instances have quotas of their own.
        counts = instance.get("InstanceLifecycle") != "spot" and not _is_own(request, instance)
        if counts and ec2.quota_of(instance["InstanceType"]) == counted:
            used += vcpus.get(instance["InstanceType"], 0)
    needed, limit = request.count * vcpus[request.instance_type], int(own["Quota"]["Value"])
    sums = f"{needed} vCPUs asked for, {used} run, quota {limit} ({code}, on-demand {kind})"
    if needed + used > limit:
        return Row(
            "quota",
            FAILED,
            sums,
            f"aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {code} "
            f"--desired-value {needed + used} --region {request.region}",
        )
    return Row("quota", OK, sums)


def table(rows: Sequence[Row]) -> str:
    """The rows as a person reads them: item, verdict, what was found, and below it the remedy."""
    width = max(len(row.item) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.item:<{width}}  {row.verdict:<7}  {row.finding}")
        if row.remedy:
            lines.append(f"{'':<{width}}  {'':<7}  {row.remedy.rstrip('.')}.")
    return "\n".join(lines)


def require_passed(rows: Sequence[Row]) -> None:
    """Raise NodeError `aws-preflight-failed` when a row failed; the whole table is in it."""
    failed = [row.item for row in rows if row.verdict == FAILED]
    if failed:
        raise NodeError("aws-preflight-failed", f"AWS cannot provide what is asked for ({', '.join(failed)}):\n{table(rows)}\n")
