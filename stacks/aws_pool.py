"""From the stack configuration to machines on AWS."""

from collections.abc import Mapping

import pulumi

from aws import preflight
from aws.preflight_rules import Request, require_passed, table
from components.aws.node_group import AwsNodeGroup, AwsNodeGroupArgs
from components.aws.nodes import AwsNodes, AwsNodesArgs
from components.aws.parts import AwsMachine
from components.aws.resources import account
from components.nodes.node_states import NodeSettings
from components.refusals import reporting_refusals
from nodekit.rules.text import harmless
from stacks.aws_model import Aws


def aws_nodes(machines: Aws, secrets: Mapping[str, pulumi.Output[str]], becomes: NodeSettings) -> AwsNodes | AwsNodeGroup:
    """Instances that are proven over SSH, or a group whose machines prove themselves, once the account was asked."""
    credentials = reporting_refusals(preflight.has_credentials)()
    if credentials:
        ask(machines)
    else:
        pulumi.log.warn(
            "AWS preflight skipped: there are no AWS credentials here (as in the preview of a pull request), so type, zone, "
            "image and quota were not checked. A run with credentials checks them before anything is made."
        )
    # The provider refuses to plan without credentials although a plan of this stack needs none: these stand for them.
    if pulumi.runtime.is_dry_run() and not credentials:
        checks = ["skipCredentialsValidation", "skipRequestingAccountId", "skipMetadataApiCheck"]
        provider = account(machines.region, checks, {"accessKey": "none", "secretKey": "none"})
    else:
        provider = account(machines.region)
    options = pulumi.ResourceOptions(providers={"aws": provider})
    machine: AwsMachine = {
        "instance_type": machines.instance_type,
        "nested_virtualization": machines.nested_virtualization,
        "image": machines.image,
        "vpc": machines.vpc,
        "subnets": list(machines.subnets),
        "security_groups": list(machines.security_groups),
        "root_volume_gib": machines.root_volume_gi_b,
        "session_manager": machines.session_manager,
        "tags": machines.tag_pairs,
    }
    if machines.group:
        group: AwsNodeGroupArgs = {
            "machine": machine,
            "min_size": machines.group.min_size,
            "max_size": machines.group.max_size,
            "root_device": machines.group.root_device,
            "program": {"address": machines.group.program.address, "sha256": machines.group.program.sha256},
            "docker": becomes.docker,
            "kata": becomes.kata,
            "verification": becomes.verification,
        }
        if "runtimeScript" in secrets:
            group["runtime_script"] = secrets["runtimeScript"]
        if "joinScript" in secrets:
            group["join_script"] = secrets["joinScript"]
        return AwsNodeGroup("aws", group, options)
    assert machines.instances
    instances: AwsNodesArgs = {
        "machine": machine,
        "count": machines.instances.count,
        "user": machines.instances.user,
        "ssh_from": list(machines.instances.ssh_from),
        "ssh_from_everywhere": machines.instances.ssh_from_everywhere,
        "public_address": machines.instances.public_address,
        "docker": becomes.docker,
        "kata": becomes.kata,
        "verification": becomes.verification,
    }
    if machines.instances.public_key:
        instances["public_key"] = machines.instances.public_key.rstrip("\n")
        if "sshPrivateKey" in secrets:
            instances["private_key"] = secrets["sshPrivateKey"]
    return AwsNodes("aws", instances, options)


def ask(settings: Aws) -> None:
    """Log the preflight's table; raises pulumi.RunError when a line of it failed."""
    rows = reporting_refusals(preflight.preflight)(
        Request(
            region=settings.region,
            instance_type=settings.instance_type,
            count=settings.most,
            image=settings.image,
            image_owner=settings.image_owner,
            root_device=settings.group.root_device if settings.group else None,
            root_volume_gib=settings.root_volume_gi_b,
            vpc=settings.vpc,
            # Instances are in the first ones, in turn; no zone counts in which there will be none.
            subnets=settings.subnets[: settings.instances.count] if settings.instances else settings.subnets,
            security_groups=settings.security_groups,
            stack=f"{pulumi.get_project()}/{pulumi.get_stack()}",
        )
    )
    reporting_refusals(require_passed)(rows)
    pulumi.log.info(harmless(f"AWS preflight:\n{table(rows)}"))
