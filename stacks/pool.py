"""From the stack configuration to nodes: where they come from, and what each of them should become."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pulumi

from components import ExistingNodes, ExistingNodesArgs, LocalNodes, LocalSite
from components.aws.node_group import AwsNodeGroup
from components.aws.nodes import AwsNodes
from components.nodes.node_states import NodeSettings
from components.nodes.rollout import Rollout
from components.nodes.settings import DockerSettings, KataSettings, Verification
from nodekit.errors import NodeError
from nodekit.rules.docker import apt_source
from nodekit.rules.kata import kata_releases
from stacks import model
from stacks.model import DockerRepository, KataArchive, StackConfig


def state_folder() -> Path:
    """The checkout's own folder for what stacks run on this machine."""
    return Path(__file__).resolve().parent.parent / ".state" / "local" / pulumi.get_stack()


def settings(config: StackConfig, site: LocalSite | None) -> NodeSettings:
    """What every node becomes."""
    kata: KataSettings = {
        "version": config.kata.version,
        "runtime": config.kata.runtime,
        "hypervisor": config.kata.hypervisor,
        "nested_sandbox": config.kata.nested_sandbox,
        "sandbox": config.kata.sandbox,
        "kernel_params": list(config.kata.kernel_params),
        "install_release": config.kata.install == "release",
    }
    docker: DockerSettings = {"version": config.docker.version}
    verification: Verification = {"timeout_seconds": config.verification.timeout_seconds}
    repository, archive = config.docker.repository, config.kata.install
    if isinstance(repository, DockerRepository):
        docker["repository"] = {"address": repository.address, "fingerprint": repository.fingerprint}
        if repository.suite:
            docker["repository"]["suite"] = repository.suite
    elif site:
        docker["repository"] = {"address": site.repository_address, "fingerprint": site.repository_fingerprint}
    if isinstance(archive, KataArchive):
        kata["archive"] = {"address": archive.address, "sha256": archive.sha256}
    elif archive == "local" and site:
        kata["archive"] = {"address": site.archive_address, "sha256": site.archive_sha256}
    if config.kata.config_path:
        kata["config_path"] = config.kata.config_path
    kubernetes = config.kubernetes
    if config.served_handler is not None and kubernetes is not None:
        kata["handler"] = {"name": config.served_handler, "allowed_annotations": list(kubernetes.allowed_annotations)}
        if kubernetes.container_runtime:
            kata["handler"]["container_runtime"] = kubernetes.container_runtime
    if config.verification.image:
        verification["image"] = config.verification.image
    return NodeSettings(docker, kata, verification)


def sources(config: StackConfig) -> list[str]:
    """Addresses that local nodes get Docker and Kata from; none where the stack serves its own Kata."""
    repository, archive = config.docker.repository, config.kata.install
    if archive in (None, "local"):
        return []
    if archive == "release":
        listed = kata_releases.archives(config.kata.version, config.kata.runtime, config.kata.hypervisor)
        address = listed["x86_64"].address  # of the node image
    else:
        assert isinstance(archive, KataArchive)
        address = archive.address
    if not isinstance(repository, DockerRepository):
        return [address]
    return [f"{apt_source.repository_address(repository.address, 'debian')}/gpg", address]


def _look_for(addresses: list[str]) -> None:
    """Refuse what this machine cannot run before anything is made. A preview only warns: it may run on another machine."""
    from local import genuine  # it is of no use to other stacks

    preview = pulumi.runtime.is_dry_run()
    try:
        genuine.refuse_where_impossible(pulumi.get_stack(), addresses, build=not preview)
    except NodeError as error:
        if not preview:
            raise pulumi.RunError(error.sentence()) from None
        pulumi.log.warn(f"`pulumi up` would be refused on this machine: {error.sentence()}")


@dataclass(frozen=True)
class Nodes:
    """The stack's own nodes, each proven; those that are gone are not among them."""

    pool: pulumi.Resource | None
    """Where they come from; what depends on it comes after every proof. None where the nodes are a cluster's own, or join one."""
    summaries: pulumi.Output[list[dict[str, Any]]]
    """Of each node: name, address and what the proof read."""
    evidence: pulumi.Output[dict[str, Any]]
    """By node."""
    joining: pulumi.Output[str] | None = None
    """Name of the group whose machines join the cluster by themselves; None where there is none."""


def nodes(config: StackConfig, secrets: Mapping[str, pulumi.Output[str]], kubeconfig: pulumi.Output[str] | None) -> Nodes:
    """The machines of the stack made into nodes; `kubeconfig` is of the cluster that they serve, if they do."""
    if config.nodes is None:
        return no_nodes()
    served = "local" in (config.docker.repository, config.kata.install)
    site = LocalSite("site", {"directory": str(state_folder() / "site")}) if served else None
    becomes = settings(config, site)
    pool: AwsNodes | ExistingNodes | LocalNodes
    if config.nodes.aws:
        from stacks.aws_pool import aws_nodes  # boto3 takes a second to load, and other stacks do not need it

        machines = aws_nodes(config.nodes.aws, secrets, becomes)
        if isinstance(machines, AwsNodeGroup):
            return replace(no_nodes(), joining=machines.group)
        pool = machines
    elif config.nodes.local:
        pool = local_nodes(config, config.nodes.local, becomes)
    else:
        pool = existing_nodes(config.nodes, secrets, becomes, rollout(config, kubeconfig))
    return Nodes(pool, pool.nodes, pool.evidence)


def no_nodes() -> Nodes:
    """For a stack without nodes of its own."""
    empty: list[dict[str, Any]] = []
    return Nodes(None, pulumi.Output.from_input(empty), pulumi.Output.from_input({}))


def local_nodes(config: StackConfig, machines: model.LocalNodes, becomes: NodeSettings) -> LocalNodes:
    """Virtual machines on this machine, named local-0, local-1 and so on."""
    if importlib.util.find_spec("cryptography") is None:
        raise pulumi.RunError(
            "Local nodes need Python packages that `pulumi install` leaves out, since only they use them. Run: make up "
            f"STACK={pulumi.get_stack()}"
        )
    if real_parts := sources(config):
        _look_for(real_parts)
    return LocalNodes(
        "local",
        {
            "count": machines.count,
            "directory": str(state_folder()),
            "memory_mib": machines.memory_mi_b,
            "cores": machines.cores,
            "docker": becomes.docker,
            "kata": becomes.kata,
            "verification": becomes.verification,
        },
    )


def rollout(config: StackConfig, kubeconfig: pulumi.Output[str] | None) -> Rollout | None:
    """The waves in which existing nodes of a cluster change; None where all change at once."""
    waves = config.nodes.rollout if config.nodes else None
    if waves is None or kubeconfig is None:
        return None
    args: Rollout = {
        "kubeconfig": kubeconfig,
        "canary": waves.canary,
        "batch": waves.batch,
        "drain_seconds": waves.drain_seconds,
        "evict_bare_pods": waves.evict_bare_pods,
    }
    if config.kubernetes and config.kubernetes.context is not None:
        args["context"] = config.kubernetes.context
    return args


def existing_nodes(
    hosts: model.Nodes, secrets: Mapping[str, pulumi.Output[str]], becomes: NodeSettings, waves: Rollout | None
) -> ExistingNodes:
    """Machines that are there already, named as in the settings."""
    args: ExistingNodesArgs = {
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "port": host.port,
                "user": host.user,
                "host_key": host.host_key,
                "gone": host.gone,
            }
            for host in hosts.existing or []
        ],
        "docker": becomes.docker,
        "kata": becomes.kata,
        "verification": becomes.verification,
    }
    if waves is not None:
        args["rollout"] = waves
    if "sshPrivateKey" in secrets:
        args["private_key"] = secrets["sshPrivateKey"]
    if "sudoPassword" in secrets:
        args["sudo_password"] = secrets["sudoPassword"]
    if bastion := hosts.bastion:
        args["bastion"] = {
            "address": bastion.address,
            "port": bastion.port,
            "user": bastion.user,
            "host_key": bastion.host_key,
        }
        if "bastionPrivateKey" in secrets:
            args["bastion"]["private_key"] = secrets["bastionPrivateKey"]
    return ExistingNodes("nodes", args)
