"""From the stack configuration to nodes: where they come from, and what each of them should become."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pulumi

from components import ExistingNodes, ExistingNodesArgs, KataNode, KataNodeArgs, LocalNodes, LocalSite
from components.nodes.node import Node
from nodekit.errors import NodeError
from nodekit.rules.kata import kata_layout, kata_releases
from nodekit.rules.text import harmless
from stacks.model import DockerRepository, KataArchive, StackConfig


def state_folder() -> Path:
    """The checkout's own folder for what stacks run on this machine."""
    return Path(__file__).resolve().parent.parent / ".state" / "local" / pulumi.get_stack()


def desired(config: StackConfig, site: LocalSite | None) -> dict[str, pulumi.Input[object]]:
    """The part of a node's arguments that every node shares."""
    args: dict[str, pulumi.Input[object]] = {
        "docker_version": config.docker.version,
        "kata_version": config.kata.version,
        "kata_runtime": config.kata.runtime,
        "hypervisor": config.kata.hypervisor,
        "nested_sandbox": config.kata.nested_sandbox,
        "sandbox": config.kata.sandbox,
        "kernel_params": config.parameters,
        "proof_seconds": config.verification.timeout_seconds,
    }
    repository, archive = config.docker.repository, config.kata.install
    if isinstance(repository, DockerRepository):
        args |= {"repository_address": repository.address, "repository_fingerprint": repository.fingerprint}
        if repository.suite:
            args["repository_suite"] = repository.suite
    elif site:
        args |= {"repository_address": site.repository_address, "repository_fingerprint": site.repository_fingerprint}
    if isinstance(archive, KataArchive):
        args |= {"archive_address": archive.address, "archive_sha256": archive.sha256}
    elif archive == "release":
        args["install_release"] = True
    elif archive == "local" and site:
        args |= {"archive_address": site.archive_address, "archive_sha256": site.archive_sha256}
    if config.kata.config_path:
        args["config_path"] = config.kata.config_path
    elif archive:
        # A release holds one file a hypervisor; Docker names the chosen one, so that no other file on the node counts.
        args["config_path"] = kata_layout.release_config_path(config.kata.runtime, config.kata.version, config.kata.hypervisor)
    if config.verification.image:
        args["proof_image"] = config.verification.image
    return args


def cluster_part(config: StackConfig) -> dict[str, pulumi.Input[object]]:
    """The part of the arguments of nodes that serve the stack's cluster; empty where they serve none."""
    wanted = config.kubernetes
    if config.served_handler is None or wanted is None:
        return {}
    args: dict[str, pulumi.Input[object]] = {"handler": config.served_handler, "allowed_annotations": wanted.allowed_annotations}
    if wanted.container_runtime:
        args["container_runtime"] = wanted.container_runtime
    return args


def sources(config: StackConfig) -> list[str]:
    """Addresses that local nodes get Docker and Kata from; none where the stack serves its own Kata."""
    repository, archive = config.docker.repository, config.kata.install
    if archive in (None, "local"):
        return []
    if archive == "release":
        listed = kata_releases.archives(config.kata.version, config.kata.runtime, config.kata.hypervisor)
        address = listed["x86_64"]["address"]  # of the node image
    else:
        assert isinstance(archive, KataArchive)
        address = archive.address
    docker = [f"{repository.address.format(id='debian')}/gpg"] if isinstance(repository, DockerRepository) else []
    return [*docker, address]


def _look_for(addresses: list[str]) -> None:
    """Refuse what this machine cannot run before anything is made. A preview only warns: it may run on another machine."""
    from local import genuine  # it is of no use to other stacks
    from local.process import LocalError

    preview = pulumi.runtime.is_dry_run()
    try:
        genuine.refuse_where_impossible(pulumi.get_stack(), addresses, build=not preview)
    except NodeError as error:
        if not preview:
            raise pulumi.RunError(error.sentence()) from None
        pulumi.log.warn(f"`pulumi up` would be refused on this machine: {error.sentence()}")
    except LocalError as error:
        raise pulumi.RunError(harmless(str(error))) from None


class Pool(Protocol):
    """What every pool of machines has."""

    nodes: list[Node]
    """The machines that are reached over SSH."""
    options: list[pulumi.ResourceOptions]
    """What is to be given to a `KataNode` on each of them, in the same order."""


def pool(config: StackConfig, secrets: Mapping[str, pulumi.Output[str]]) -> Pool:
    """Where the machines come from."""
    assert config.nodes
    if config.nodes.aws:
        from stacks.aws_pool import aws_nodes  # boto3 takes a second to load, and other stacks do not need it

        return aws_nodes(config.nodes.aws, secrets, desired(config, None))
    if config.nodes.local:
        if importlib.util.find_spec("cryptography") is None:
            raise pulumi.RunError(
                "Local nodes need Python packages that `pulumi install` leaves out, since only they use them. Run: make up "
                f"STACK={pulumi.get_stack()}"
            )
        if real_parts := sources(config):
            _look_for(real_parts)
        return LocalNodes(
            "nodes",
            {
                "count": config.nodes.local.count,
                "directory": str(state_folder()),
                "memory_mib": config.nodes.local.memory_mi_b,
                "cores": config.nodes.local.cores,
            },
        )
    args: ExistingNodesArgs = {
        "hosts": [
            {
                "name": one.name,
                "address": one.address,
                "port": one.port,
                "user": one.user,
                "host_key": one.host_key,
                "gone": one.gone,
            }
            for one in config.nodes.existing or []
        ]
    }
    if "sshPrivateKey" in secrets:
        args["private_key"] = secrets["sshPrivateKey"]
    if "sudoPassword" in secrets:
        args["sudo_password"] = secrets["sudoPassword"]
    if bastion := config.nodes.bastion:
        args["bastion_address"] = bastion.address
        args["bastion_port"] = bastion.port
        args["bastion_user"] = bastion.user
        args["bastion_host_key"] = bastion.host_key
        if "bastionPrivateKey" in secrets:
            args["bastion_private_key"] = secrets["bastionPrivateKey"]
    return ExistingNodes("nodes", args)


def nodes(config: StackConfig, secrets: Mapping[str, pulumi.Output[str]]) -> list[KataNode]:
    """Every machine of the pool made into a node; none where the nodes are a cluster's own.

    Those that are gone are kept in the stack's state and not among these.
    """
    if config.nodes is None:
        return []
    served = "local" in (config.docker.repository, config.kata.install)
    site = LocalSite("site", {"directory": str(state_folder() / "site")}) if served else None
    machines = pool(config, secrets)
    gone = {one.name for one in config.nodes.existing or [] if one.gone}
    made = []
    for where, options in zip(machines.nodes, machines.options, strict=True):
        name = str(where["node"])
        node = KataNode(name, KataNodeArgs(**where, **desired(config, site), **cluster_part(config)), options)  # type: ignore[typeddict-item]
        if name not in gone:
            made.append(node)
    return made
