"""From the stack configuration to nodes: where they come from, and what each of them should become."""

from pathlib import Path

import pulumi

from components import KataNode, KataNodeArgs, LocalMachine, LocalSite
from nodekit.rules import kata_layout
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


def local_nodes(config: StackConfig) -> list[KataNode]:
    """Machines that the stack makes, each made into a node."""
    assert config.nodes and config.nodes.local
    served = "local" in (config.docker.repository, config.kata.install)
    site = LocalSite("site", {"directory": str(state_folder() / "site")}) if served else None
    nodes = []
    for number in range(config.nodes.local.count):
        name = f"local-{number}"
        machine = LocalMachine(
            name,
            {
                "node": name,
                "directory": str(state_folder() / name),
                "memory_mib": config.nodes.local.memory_mi_b,
                "cores": config.nodes.local.cores,
            },
        )
        where = {
            "node": name,
            "address": machine.address,
            "port": machine.port,
            "user": machine.user,
            "host_key": machine.host_key,
            "private_key": machine.private_key,
            "identity": machine.host_key,  # made with the machine
        }
        # What is on the machine goes with it, so its removal needs no undoing first.
        options = pulumi.ResourceOptions(deleted_with=machine.machine)
        nodes.append(KataNode(name, KataNodeArgs(**where, **desired(config, site)), options))  # type: ignore[typeddict-item]
    return nodes


def existing_nodes(config: StackConfig, private_key: pulumi.Output[str] | None) -> list[KataNode]:
    """Machines that are there already, each made into a node."""
    nodes = []
    assert config.nodes
    for one in config.nodes.existing or []:
        where = {
            "node": one.name,
            "address": one.address,
            "port": one.port,
            "user": one.user,
            "host_key": one.host_key,
            "identity": one.host_key,
            **({"private_key": private_key} if private_key else {}),
        }
        nodes.append(KataNode(one.name, KataNodeArgs(**where, **desired(config, None))))  # type: ignore[typeddict-item]
    return nodes


def configured_nodes(config: StackConfig, private_key: pulumi.Output[str] | None) -> list[KataNode]:
    """Every machine that the stack configures over SSH; none where the nodes are a cluster's own."""
    if config.nodes is None:
        return []
    return local_nodes(config) if config.nodes.local else existing_nodes(config, private_key)
