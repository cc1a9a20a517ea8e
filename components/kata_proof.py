"""The proof on a cluster: a pod of the template climbs the ladder on every node, and one that fails fails the stack."""

import asyncio
import json
from typing import Any, NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pulumi.output import UNKNOWN

from components.children import child_options
from components.cluster_reader import Reader
from components.kata_node import resource_text
from components.told import told
from nodekit.errors import NodeError
from nodekit.rules import pod_proof


class KataProofArgs(TypedDict):
    """What is proven, and where."""

    kubeconfig: pulumi.Input[str]
    """Kubeconfig (secret) of the cluster that the component's Kubernetes provider works on: nodes, Jobs and pods are read
    with it, which the provider cannot do."""
    context: NotRequired[pulumi.Input[str]]
    """Context of that kubeconfig; without it the current one."""
    namespace: pulumi.Input[str]
    """Namespace of the Jobs: one that admits the template's pods."""
    pod_template: pulumi.Input[str]
    """The pod template to prove, as JSON (core/v1 PodTemplateSpec); its class, capabilities and resources are the proof's."""
    handler: pulumi.Input[str]
    """Handler of the template's RuntimeClass."""
    kata_version: pulumi.Input[str]
    """Kata release on the nodes."""
    kernel_params: pulumi.Input[list[str]]
    """Guest kernel parameters that every guest's command line must have."""
    nested_sandbox: pulumi.Input[bool]
    """Whether a sandbox inside the guest must work; without it a reading of 0 is reported and does not fail the stack."""
    nodes: NotRequired[pulumi.Input[list[str]]]
    """Names of the nodes to prove. Exactly one of this and `node_selector` is given."""
    node_selector: NotRequired[pulumi.Input[str]]
    """Label selector of the nodes to prove, such as katacontainers.io/kata-runtime=true; resolved at each `up`."""
    image: NotRequired[pulumi.Input[str]]
    """Image to climb the ladder in, best by digest: it needs /bin/sh and unshare (util-linux or busybox), and bwrap and ip for
    the rungs that use them. Without it the template's own."""
    timeout_seconds: pulumi.Input[int]
    """Bound on one node's proof in seconds, kept by the cluster (activeDeadlineSeconds)."""


class KataProof(pulumi.ComponentResource):
    """Proves every node by a Job with a pod of the template, all at once.

    Children: `-files` (scripts, and the boot id of each node's own kernel, by which a pod knows that it is in a guest), one
    Job a node (`-NODE`), and `-evidence`, a ConfigMap that is made only when every Job has passed. Depend on the component, or
    use `evidence`, to come after the proof. A node is proven again when the template, class handler, Kata version, kernel
    parameters, image or scripts change, or when another machine registered under its name; a reboot proves nothing again.
    """

    evidence: pulumi.Output[dict[str, Any]]
    """By node: reading, guest kernel, rungs. Known once every node is proven."""

    def __init__(self, name: str, args: KataProofArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:KataProof", name, None, opts)
        if ("nodes" in args) == ("node_selector" in args):
            raise pulumi.RunError(f"{name}: give exactly one of nodes and node_selector, the nodes that are to be proven.")
        given = pulumi.Output.all(**{key: value for key, value in args.items() if key != "kubeconfig"})
        scripts = {file: resource_text(file) for file in ("ladder.sh", "pod_proof.sh")}
        # Errors below hold no part of the kubeconfig, and without this everything that comes of it would be secret.
        kubeconfig = pulumi.Output.unsecret(pulumi.Output.from_input(args["kubeconfig"]))
        found: pulumi.Output[Any] = pulumi.Output.all(given, kubeconfig).apply(lambda both: read_nodes(both[0], both[1]))
        files = k8s.core.v1.ConfigMap(
            f"{name}-files",
            metadata={"name": pod_proof.files_name(name), "namespace": args["namespace"]},
            data=found.apply(lambda nodes: pod_proof.config_map(scripts, nodes)),
            opts=child_options(self, opts, delete_before_replace=True),
        )
        sums = pod_proof.scripts_digest(scripts)

        def prove(node: str) -> pulumi.Output[str]:
            """Uid of the Job that proves `node`."""
            body = pulumi.Output.all(given, found).apply(told(lambda both: job(name, node, both[0], both[1], sums)))
            made = k8s.batch.v1.Job(
                pod_proof.job_name(name, node),
                metadata=pulumi.Output.all(body["metadata"], args["namespace"]).apply(
                    lambda both: {**both[0], "namespace": both[1]}
                ),
                spec=body["spec"],
                opts=child_options(self, opts, depends_on=[files], delete_before_replace=True),
            )
            return made.metadata.apply(lambda metadata: str(metadata.uid))

        # Named nodes are in every preview; those of a selector are, once the cluster can be asked.
        names: pulumi.Output[Any] = (
            pulumi.Output.from_input(args["nodes"]) if "nodes" in args else found.apply(lambda nodes: [one.name for one in nodes])
        )
        made: pulumi.Output[Any] = names.apply(
            lambda all_of: pulumi.Output.all(**{node: prove(node) for node in sorted(set(all_of))})
        )
        self.evidence = pulumi.Output.all(given, kubeconfig, made).apply(lambda all_of: outcome(name, *all_of))
        kept = k8s.core.v1.ConfigMap(
            f"{name}-evidence",
            metadata={"name": pod_proof.evidence_name(name), "namespace": args["namespace"]},
            data=self.evidence.apply(lambda by_node: {node: json.dumps(one, sort_keys=True) for node, one in by_node.items()}),
            opts=child_options(self, opts, delete_before_replace=True),
        )
        # What uses the evidence comes after all of it is there.
        self.evidence = pulumi.Output.all(self.evidence, kept.id).apply(lambda both: both[0])
        self.register_outputs({"evidence": self.evidence})


def job(name: str, node: str, given: dict[str, Any], found: list[pod_proof.Node], sums: str) -> dict[str, Any]:
    """The Job of one node from the component's arguments; `sums` stands for the scripts."""
    (machine,) = (one for one in found if one.name == node)
    return pod_proof.node_job(name, machine, given, sums)


def reader(given: dict[str, Any], kubeconfig: str) -> Reader:
    """For the cluster of the arguments."""
    return Reader(kubeconfig, given.get("context"))


async def read_nodes(given: dict[str, Any], kubeconfig: str) -> list[pod_proof.Node]:
    """The nodes to prove; raises pulumi.RunError with the reason and its remedy."""
    try:
        return await asyncio.to_thread(
            lambda: reader(given, kubeconfig).nodes(given.get("nodes") or (), given.get("node_selector"))
        )
    except NodeError as error:
        raise pulumi.RunError(error.sentence()) from None


async def outcome(name: str, given: dict[str, Any], kubeconfig: str, jobs: dict[str, str]) -> Any:
    """Evidence by node, once all Jobs have ended; raises pulumi.RunError with one line for each node that is not proven.

    Unknown in a preview that would make a Job: the plugin then answers with what a dry run of the API server made up.
    """
    preview = pulumi.runtime.is_dry_run()

    def read() -> Any:
        cluster = reader(given, kubeconfig)
        if preview:
            there = cluster.jobs(given["namespace"], name)
            if not all(uid in there and pod_proof.ended(there[uid]) for uid in jobs.values()):
                return UNKNOWN
        return cluster.outcome(given["namespace"], name, jobs, int(given["timeout_seconds"]))

    try:
        ended = await asyncio.to_thread(read)
    except NodeError as error:
        raise pulumi.RunError(error.sentence()) from None
    if ended is UNKNOWN:
        return ended
    refused = [one.sentence for one in ended.values() if isinstance(one, pod_proof.Refusal)]
    if refused:
        nodes = "node is" if len(ended) == 1 else "nodes are"
        raise pulumi.RunError("\n  ".join([f"{len(refused)} of {len(ended)} {nodes} not proven:", *refused]))
    return ended
