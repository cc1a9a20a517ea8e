"""What can fail with machines on AWS."""

from nodekit.failures import Failure

EXPORT = 'eval "$(aws configure export-credentials --format env)"'
"""Puts credentials that the aws command alone can get where boto3 and the plugin find them."""

CATALOGUE: dict[str, Failure] = {
    "aws-instance-type": Failure(
        "The type of instance cannot run guests.",
        "Choose bare metal of Intel or AMD, such as m7i.metal-24xl, or a type that lists nested-virtualization, such as m8i",
        {
            "not-metal": "Set nestedVirtualization to true with a type that lists it (m8i, c8i, r8i), or choose a .metal type",
            "metal": "Remove nestedVirtualization: bare metal does not need it",
        },
    ),
    "aws-ssh-networks": Failure(
        "No network, or every network, may reach SSH.",
        "Name the networks from which the stack is run, or set sshFromEverywhere: true if you mean that",
        {
            "form": "Write it as 203.0.113.0/24, or one address as 203.0.113.7/32",
        },
    ),
    "aws-tags": Failure(
        "A tag cannot be set.",
        "Choose another key or value",
    ),
    "aws-managed-node-group": Failure(
        "A managed node group would lose nested virtualization without a message.",
        "Use nodes.aws.group, an auto-scaling group of the stack's own",
    ),
    "aws-program-differs": Failure(
        "The node program that a group would download is not the one of this checkout.",
        "Build it (python -m delivery.bundle --output nodekit.pyz), upload it under a new name, since machines that start before "
        "the next up still accept only the old file, and set its address and the sha256 that the command prints",
    ),
    "aws-preflight-failed": Failure(
        "The AWS account cannot provide what the stack asks for.",
        "Follow the remedy under each line that failed",
        {
            "region": "Choose another region",
            "login": f"Before this, run: {EXPORT}",
            "settings": "Log in, or correct AWS_PROFILE, the region, or the files of the aws command (~/.aws)",
        },
    ),
    "user-data-too-long": Failure(
        "The user data is longer than EC2 accepts.",
        "Shorten the runtime script or the join script: let it download the rest from where the program is",
    ),
    "program-differs": Failure(
        "The node program that a machine downloaded does not have the expected sha256.",
        "Upload the file that this stack's checkout builds",
    ),
    "runtime-script-failed": Failure(
        "The script that brings a machine's container runtime ended with an error, so the machine was not made a node.",
        "See {log}",
    ),
    "join-failed": Failure(
        "The join script of a proven machine ended with an error.",
        "See {log}",
    ),
}
