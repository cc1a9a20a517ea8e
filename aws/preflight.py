"""Checks, before anything is made, that an AWS account can provide the machines of a pool."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    LoginError,
    MissingDependencyException,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from aws import ec2, failures
from aws import preflight_rules as rules
from nodekit.errors import NodeError
from nodekit.rules.text import harmless, printable

SETTINGS = Config(retries={"mode": "standard", "total_max_attempts": 6}, connect_timeout=5, read_timeout=20)
"""Throttling is waited out, twice as long each time, up to about a minute in all."""
TYPES_AT_ONCE = 100
"""Most types that DescribeInstanceTypes takes."""
LOGINS = ("AssumeRole", "AssumeRoleWithWebIdentity", "GetRoleCredentials", "CreateOAuth2Token")
"""Calls that boto3 makes by itself before the first one that it is asked for, to get credentials."""
EXPIRED = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    LoginError,
    SSOError,
    TokenRetrievalError,
)
"""What boto3 raises where credentials are lacking, or a login has ended; its other errors are of the network."""
UNUSABLE = (OSError, ValueError, EOFError)
"""What boto3 lets through of settings that name a file or program which is not there, or hold what is no number or no JSON."""


def answered(call: Callable[[], Any]) -> dict[str, Any]:
    """An API's answer; an error in the form that the rules read."""
    try:
        return dict(call())
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        if error.operation_name in LOGINS:
            return {"error": {"code": rules.NO_CREDENTIALS, "message": f"{error.operation_name}: {code}: {message}"}}
        return {"error": {"code": code, "message": message}}
    except EXPIRED as error:
        return {"error": {"code": rules.NO_CREDENTIALS, "message": str(error)}}
    except BotoCoreError as error:
        return {"error": {"code": rules.NO_ENDPOINT, "message": str(error)}}
    except ResponseParserError as error:  # most often the answer of a proxy
        return {"error": {"code": rules.NO_ENDPOINT, "message": f"what answered is not AWS: {error}"}}
    except UNUSABLE as error:
        return {"error": {"code": rules.NO_CREDENTIALS, "message": f"the AWS settings of this machine cannot be used: {error}"}}


def pages(client: Any, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
    """All pages of an operation as one answer."""
    return answered(
        lambda: {key: [item for page in client.get_paginator(operation).paginate(**parameters) for item in page[key]]}
    )


def _types(client: Any, names: list[str]) -> dict[str, Any]:
    """DescribeInstanceTypes of any number of types."""
    described: list[Any] = []
    for start in range(0, len(names), TYPES_AT_ONCE):
        some = names[start : start + TYPES_AT_ONCE]
        answer = answered(lambda some=some: client.describe_instance_types(InstanceTypes=some))  # type: ignore[misc]
        if "error" in answer:
            return answer
        described += answer["InstanceTypes"]
    return {"InstanceTypes": described}


@contextmanager
def refusing_settings() -> Iterator[None]:
    """Raise NodeError `aws-preflight-failed` where the AWS settings of this machine, or a region, cannot be used."""
    try:
        yield
    except MissingDependencyException:
        raise NodeError(
            "aws-preflight-failed", "A session of `aws login` can be used by the aws command alone", "login"
        ) from None
    except (BotoCoreError, *UNUSABLE) as error:
        reason = printable(" ".join(str(error).split()), 300).rstrip(".: ")
        raise NodeError(
            "aws-preflight-failed", f"The AWS settings of this machine cannot be used: {reason}", "settings"
        ) from None


def _no_code(prompt: str) -> NoReturn:
    raise CredentialRetrievalError(
        provider="assume-role",
        error_msg=f"its mfa_serial needs a code, and nobody can be asked here; before this, run: {failures.EXPORT}",
    )


def _session(region: str | None = None) -> boto3.Session:
    """Of this machine's settings, as the AWS command line reads them."""
    core = botocore.session.get_session()
    if not sys.stdin.isatty():
        # boto3 would ask on the terminal behind the run of the engine, which stops a program in the background that reads there.
        core.get_component("credential_provider").get_provider("assume-role")._prompter = _no_code
    return boto3.Session(region_name=region, botocore_session=core)


def has_credentials() -> bool:
    """Whether boto3 finds credentials where the AWS provider looks too: environment, files, or the machine's own role.

    Raises NodeError `aws-preflight-failed` where these name what is not there, such as a profile.
    """
    with refusing_settings():
        return _session().get_credentials() is not None


def clients(region: str, *services: str) -> list[Any]:
    """Of the services in a region; raises NodeError `aws-preflight-failed`."""
    with refusing_settings():
        session = _session(region)
        return [session.client(service, config=SETTINGS) for service in services]  # type: ignore[call-overload]


def preflight(request: rules.Request) -> list[rules.Row]:
    """The rows of the table; asks, and changes nothing.

    IAM actions: ec2:DescribeInstanceTypes, ec2:DescribeInstanceTypeOfferings, ec2:DescribeImages, ec2:DescribeInstances,
    ec2:DescribeSubnets, ec2:DescribeSecurityGroups, servicequotas:GetServiceQuota, servicequotas:GetAWSDefaultServiceQuota.
    Raises NodeError as `clients`.
    """
    client, quotas = clients(request.region, "ec2", "service-quotas")
    types = _types(client, [request.instance_type])
    rows = list(rules.judge_type(request, types))
    if rules.is_final(types):
        return rows
    if request.subnets:
        zones, row = rules.judge_subnets(request, answered(lambda: client.describe_subnets(SubnetIds=list(request.subnets))))
        rows.append(row)
        request = replace(request, zones=zones)
    if request.security_groups:
        groups = answered(lambda: client.describe_security_groups(GroupIds=list(request.security_groups)))
        rows.append(rules.judge_security_groups(request, groups))
    offerings = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": [request.instance_type]}]}
    rows.append(
        rules.judge_zones(request, pages(client, "describe_instance_type_offerings", "InstanceTypeOfferings", **offerings))
    )
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    running = {} if "error" in types else pages(client, "describe_instances", "Reservations", Filters=states)
    if request.image:
        images = answered(lambda: client.describe_images(ImageIds=[str(request.image)]))
        rows.append(rules.judge_image(request, images, running))
    if "error" in types:
        return rows
    names = {instance["InstanceType"] for reservation in running.get("Reservations", []) for instance in reservation["Instances"]}
    known = _types(client, sorted(names | {request.instance_type}))
    _, code = ec2.quota_of(request.instance_type) or ("", "")
    query = {"ServiceCode": "ec2", "QuotaCode": code}
    quota = answered(lambda: quotas.get_service_quota(**query)) if code else {}
    # An account that never asked for more may have no value of its own.
    unset = quota.get("error", {}).get("code") == "NoSuchResourceException"
    default = answered(lambda: quotas.get_aws_default_service_quota(**query)) if unset else {}
    rows.append(rules.judge_quota(request, known, quota, default, running))
    return rows


def newest_image(region: str) -> tuple[str, str]:
    """Id and name of the newest Ubuntu 24.04 for x86_64 that Canonical published in a region; raises NodeError."""
    (client,) = clients(region, "ec2")
    filters = [{"Name": "name", "Values": [rules.NEWEST_IMAGE]}, {"Name": "state", "Values": ["available"]}]
    answer = pages(client, "describe_images", "Images", Owners=[ec2.CANONICAL], Filters=filters)
    if row := rules.refused("image", "ec2:DescribeImages", answer, rules.Request(region, "")):
        raise NodeError("aws-preflight-failed", row.finding, remedy=row.remedy)
    image = rules.newest_image(answer)
    if image is None:
        raise NodeError("aws-preflight-failed", f"{region} has no image from Canonical named {rules.NEWEST_IMAGE}", "region")
    return str(image["ImageId"]), str(image["Name"])


def number_of_machines(text: str) -> int:
    """Of the command line. Raises argparse.ArgumentTypeError: fewer than one would fit into every quota."""
    if re.fullmatch("[1-9][0-9]{0,5}", text):
        return int(text)
    raise argparse.ArgumentTypeError("use a whole number from 1 to 999999")


def named(text: str) -> str:
    """A name on the command line. Raises argparse.ArgumentTypeError for an empty one, as of a variable that is not set: an image
    without a name would not be looked at, and the rest would pass."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(
        prog="python -m aws.preflight",
        description="Check that an AWS account can provide machines on which Kata guests run: the type exists in the zone, "
        "is x86_64, and is bare metal or lists nested-virtualization; the image exists and its owner is right; the "
        "vCPU quota has room beside what runs.",
        epilog="Changes nothing. Credentials are found as by the AWS command line (AWS_PROFILE, AWS_ACCESS_KEY_ID, a role). "
        "Prints one line for each check, with verdict and remedy; exit 1 if a check failed. "
        "Example: --region eu-central-1 --instance-type m8i.4xlarge --count 3",
    )
    cli.add_argument("--region", type=named, required=True, help="such as eu-central-1")
    actions = cli.add_mutually_exclusive_group(required=True)
    actions.add_argument(
        "--instance-type", type=named, metavar="TYPE", help="bare metal such as m7i.metal-24xl, or such as m8i.4xlarge"
    )
    actions.add_argument(
        "--newest-image", action="store_true", help="print the id of Canonical's newest Ubuntu 24.04 instead, to be pinned"
    )
    cli.add_argument("--count", type=number_of_machines, default=1, help="how many machines (default: 1)")
    cli.add_argument(
        "--zone",
        type=named,
        action="append",
        default=[],
        help="a zone in which the type is needed; may be repeated (default: any)",
    )
    cli.add_argument("--image", type=named, metavar="AMI", help="image that the machines would be made from")
    cli.add_argument(
        "--image-owner",
        type=named,
        metavar="ACCOUNT",
        default=ec2.CANONICAL,
        help="account that must own it (default: Canonical)",
    )
    return cli


def main(argv: list[str] | None = None) -> int:
    """Print the table, or the newest image."""
    options = parser().parse_args(argv)
    try:
        if options.newest_image:
            image, name = newest_image(options.region)
            print(image)
            print(f"{name}, of {ec2.CANONICAL} (Canonical), {options.region}", file=sys.stderr)
            return 0
        request = rules.Request(
            options.region, options.instance_type, options.count, options.zone, options.image, options.image_owner
        )
        rows = preflight(request)
    except NodeError as error:
        print(f"error: {error.sentence()}", file=sys.stderr)
        return 1
    print(harmless(rules.table(rows)))
    return 1 if any(row.verdict == rules.FAILED for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
