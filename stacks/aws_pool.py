"""From the stack configuration to machines on AWS."""

from collections.abc import Mapping

import pulumi

from aws import preflight
from aws.preflight_rules import Asked, insist, table
from components.aws.node_group import AwsNodeGroup, AwsNodeGroupArgs
from components.aws.nodes import AwsNodes, AwsNodesArgs
from components.aws.resources import account
from nodekit.errors import NodeError
from nodekit.rules.text import harmless
from stacks.aws_model import Aws


def aws_nodes(
    wanted: Aws, secrets: Mapping[str, pulumi.Output[str]], desired: Mapping[str, pulumi.Input[object]]
) -> AwsNodes | AwsNodeGroup:
    """The pool, after the account was asked; `desired` is what a node becomes, as `stacks.pool.desired` has it."""
    credentials = preflight.has_credentials()
    if credentials:
        ask(wanted)
    else:
        pulumi.log.warn(
            "AWS preflight skipped: there are no AWS credentials here (as in the preview of a pull request), so type, zone, "
            "image and quota were not looked at. A run with credentials looks at them before anything is made."
        )
    # The provider refuses to plan without credentials although a plan of this stack needs none: these stand for them.
    if pulumi.runtime.is_dry_run() and not credentials:
        checks = ["skipCredentialsValidation", "skipRequestingAccountId", "skipMetadataApiCheck"]
        provider = account("aws-account", wanted.region, checks, {"accessKey": "none", "secretKey": "none"})
    else:
        provider = account("aws-account", wanted.region)
    options = pulumi.ResourceOptions(providers={"aws": provider})
    shared = {
        "instance_type": wanted.instance_type,
        "nested_virtualization": wanted.nested_virtualization,
        "image": wanted.image,
        "vpc": wanted.vpc,
        "subnets": wanted.subnets,
        "security_groups": wanted.security_groups,
        "root_volume_gib": wanted.root_volume_gi_b,
        "session_manager": wanted.session_manager,
        "tags": wanted.tag_pairs,
    }
    if wanted.group:
        joins = {"join_script": secrets["joinScript"]} if "joinScript" in secrets else {}
        sizes = {
            "min_size": wanted.group.min_size,
            "max_size": wanted.group.max_size,
            "root_device": wanted.group.root_device,
            "program_address": wanted.group.program.address,
            "program_sha256": wanted.group.program.sha256,
        }
        return AwsNodeGroup("aws", AwsNodeGroupArgs(**shared, **sizes, **joins, **desired), options)  # type: ignore[typeddict-item]
    assert wanted.instances
    login: dict[str, object] = {
        "count": wanted.instances.count,
        "user": wanted.instances.user,
        "ssh_from": wanted.instances.ssh_from,
        "ssh_from_everywhere": wanted.instances.ssh_from_everywhere,
        "public_address": wanted.instances.public_address,
    }
    if wanted.instances.public_key:
        login["public_key"] = wanted.instances.public_key
        if "sshPrivateKey" in secrets:
            login["private_key"] = secrets["sshPrivateKey"]
    return AwsNodes("aws", AwsNodesArgs(**shared, **login), options)  # type: ignore[typeddict-item]


def ask(wanted: Aws) -> None:
    """Log the preflight's table; raises pulumi.RunError when a line of it failed."""
    rows = preflight.preflight(
        Asked(
            region=wanted.region,
            instance_type=wanted.instance_type,
            count=wanted.most,
            image=wanted.image,
            image_owner=wanted.image_owner,
            root_device=wanted.group.root_device if wanted.group else None,
            vpc=wanted.vpc,
            subnets=wanted.subnets,
            stack=f"{pulumi.get_project()}/{pulumi.get_stack()}",
        )
    )
    try:
        insist(rows)
    except NodeError as error:
        raise pulumi.RunError(error.sentence()) from None
    pulumi.log.info(harmless(f"AWS preflight:\n{table(rows)}"))
