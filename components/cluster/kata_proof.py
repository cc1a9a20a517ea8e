"""The proof on a cluster: a pod of the template climbs the ladder on every node, and one that fails fails the stack."""

import asyncio
import time
from typing import Any, NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pulumi.output import UNKNOWN

from clusterkit import label_selector, object_names, pod_proof, pod_verdict, proof_guard
from clusterkit.api.cluster_reader import Reader, Situation
from components.arguments import checked
from components.children import child_options
from components.cluster.cluster_object import cluster_options, namespace_name
from components.cluster.proof_settings import PodProof, completed
from components.cluster.reading import read_in_thread
from components.plain import set_or
from components.refusals import reporting_refusals
from components.whole_numbers import DAY, MOST_NODES, whole
from nodekit.errors import NodeError
from nodekit.rules.node_state import TIMEOUT_SECONDS
from nodekit.rules.text import harmless
from nodekit.scripts import ladder_script

JOIN_POLL_SECONDS = 5.0


class KataProofArgs(TypedDict):
    """What is proven, and where."""

    kubeconfig: pulumi.Input[str]
    """Kubeconfig (secret) of the cluster that the component's Kubernetes provider works on: nodes, Jobs and pods are read
    with it, which the provider cannot do. They are read once it is known, also in a preview, whatever the component depends on.
    Where nodes or their labels come from the same program, make it an output that is known after them, such as of it and of
    `nodes` of a KataNodeLabels."""
    context: NotRequired[pulumi.Input[str]]
    """Context of that kubeconfig; without it the current one."""
    namespace: pulumi.Input[str]
    """Namespace of the proof: one that admits the template's pods, and that is used for nothing else. The component's guard
    refuses there every pod but the Jobs' and every way into a pod, and lets tenants write neither Jobs nor ConfigMaps."""
    proof: PodProof
    """What is proven there."""
    nodes: NotRequired[pulumi.Input[list[str]]]
    """Names of the nodes to prove. Exactly one of this and a node selector is given."""
    node_selector: NotRequired[pulumi.Input[str]]
    """Label selector of the nodes to prove, such as katacontainers.io/kata-runtime=true; resolved at each `up`."""
    least_nodes: NotRequired[pulumi.Input[int]]
    """How many nodes there must be before any is proven, for machines that join by themselves; by default 1. With 0, a selector
    may select none, such as of a group that is scaled to nothing: nothing is proven then, and the evidence is empty."""
    join_seconds: NotRequired[pulumi.Input[int]]
    """How long an `up` waits for them; by default 0, not at all. A preview never waits."""


def _plan(args: KataProofArgs) -> dict[str, pulumi.Input[Any]]:
    """For people who read a preview: the Jobs are in none that cannot ask the cluster, as that of a pull request."""
    proof = args["proof"]
    return {
        "nodes": args.get("nodes"),
        "nodeSelector": args.get("node_selector"),
        "kataVersion": proof.get("kata_version"),
        "kernelParams": set_or(proof.get("kernel_params"), []),
        "nestedSandbox": set_or(proof.get("nested_sandbox"), True),
        "sandbox": proof.get("sandbox"),
        "proofImage": proof.get("image"),
        "proofSeconds": set_or(proof.get("timeout_seconds"), TIMEOUT_SECONDS),
    }


class KataProof(pulumi.ComponentResource):
    """Proves every node by a Job with a pod of the template, all at once.

    Its name begins those of its objects, so it has small letters, digits, hyphens and dots alone, at most 63.

    Children: `-account`, the pods' service account without a right; `-guard-policy` with `-guard-binding`, by which the API
    server (1.30 or newer) keeps everybody else out of the namespace; a Job for each node (`-NODE`), whose pod reports and decides
    nothing; and `-evidence`, a ConfigMap that is made only when every Job's report was judged and passed; of more than 150 nodes,
    the others' evidence is in `-evidence-01` and so on. Depend on the
    component, or use `evidence`, to come after the proof. A node is proven again when the template, class handler, Kata version,
    kernel parameters, sandbox, image or ladder change, when another machine registered under its name, and when the last try
    left no evidence that is accepted; a reboot proves nothing again.
    """

    evidence: pulumi.Output[dict[str, Any]]
    """By node: reading, guest kernel, rungs. Known once every node is proven."""

    def __init__(self, name: str, args: KataProofArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        reporting_refusals(object_names.check_component)("KataProof", str(name), object_names.MOST_OF_LABEL)
        args = checked(self, KataProofArgs, name, args)
        nodes, selector = args.get("nodes"), args.get("node_selector")
        super().__init__("kata-nodes:index:KataProof", name, {"plan": _plan(args)}, opts)
        if (nodes is None) == (selector is None) or nodes == [] or selector == "":
            raise pulumi.RunError(f"{name}: set exactly one of nodes and node_selector, the nodes to prove.")
        resolved = pulumi.Output.all(
            proof=completed(args["proof"]),
            **{key: value for key, value in args.items() if key not in ("kubeconfig", "proof")},
        ).apply(lambda values: {**values, **values.pop("proof")})
        namespace = pulumi.Output.from_input(namespace_name(args["namespace"]))
        # Errors below hold no part of the kubeconfig; without this, everything derived from it would be secret.
        kubeconfig = pulumi.Output.unsecret(pulumi.Output.from_input(args["kubeconfig"]))
        state: pulumi.Output[Any] = pulumi.Output.all(resolved, kubeconfig).apply(lambda both: situation(name, both[0], both[1]))
        account = k8s.core.v1.ServiceAccount(
            f"{name}-account",
            metadata={"namespace": namespace},
            automount_service_account_token=False,
            opts=cluster_options(self, opts, f"{name}-account", "ServiceAccount"),
        )
        called: pulumi.Output[str] = account.metadata.apply(lambda metadata: str(metadata.name))
        policy = k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{name}-guard-policy",
            metadata={},
            spec=proof_guard.policy(),
            opts=cluster_options(self, opts, f"{name}-guard-policy", "ValidatingAdmissionPolicy"),
        )
        guard = k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{name}-guard-binding",
            metadata={},
            spec=pulumi.Output.all(policy.metadata.name, namespace).apply(lambda both: proof_guard.binding(*both)),
            opts=cluster_options(self, opts, f"{name}-guard-binding", "ValidatingAdmissionPolicyBinding"),
        )
        ladder = ladder_script()

        def prove(node: str) -> pulumi.Output[Any]:
            """Uid of the Job that proves `node`, and what is asked of it."""
            proof: pulumi.Output[Any] = pulumi.Output.all(resolved, state, called).apply(
                reporting_refusals(lambda all_of: proof_request(name, node, (all_of[0], all_of[1], all_of[2]), ladder))
            )
            job = k8s.batch.v1.Job(
                pod_proof.job_name(name, node),
                metadata=pulumi.Output.all(proof, namespace).apply(lambda both: metadata_of(both[0].body, both[1])),
                spec=proof.apply(lambda request: request.body["spec"]),
                opts=child_options(self, opts, depends_on=[guard], delete_before_replace=True),
            )
            return pulumi.Output.all(job.metadata.apply(lambda metadata: str(metadata.uid)), proof).apply(tuple)

        # Named nodes are in every preview; those of a selector are, once the cluster can be asked.
        names: pulumi.Output[Any] = (
            pulumi.Output.from_input(set_or(args["nodes"], []))
            if args.get("nodes") is not None
            else state.apply(lambda all_of: [node.name for node in all_of.chosen])
        )
        jobs: pulumi.Output[Any] = names.apply(
            # Of nothing, it would be a list.
            lambda all_of: pulumi.Output.all(**{node: prove(node) for node in sorted(set(all_of))}) if all_of else {}
        )
        judged: pulumi.Output[dict[str, Any]] = pulumi.Output.all(resolved, kubeconfig, jobs).apply(
            lambda all_of: outcome(name, *all_of)
        )

        def keep(number: int) -> pulumi.Output[str]:
            """Make one of the ConfigMaps; its id."""
            called = pod_proof.evidence_name(name, number)
            return k8s.core.v1.ConfigMap(
                called,
                metadata={"name": called, "namespace": namespace},
                data=judged.apply(lambda by_node: pod_proof.evidence_data(by_node, number)),
                opts=cluster_options(self, opts, called, "ConfigMap", depends_on=[guard], delete_before_replace=True),
            ).id

        first = keep(0)  # in every preview, also where the cluster cannot be asked for the nodes
        others: pulumi.Output[Any] = names.apply(
            lambda all_of: pulumi.Output.all(*[keep(number) for number in pod_proof.evidence_numbers(len(set(all_of)))[1:]])
        )
        # What uses the evidence comes after all of it is there.
        self.evidence = pulumi.Output.all(judged, first, others).apply(lambda all_of: all_of[0])
        self.register_outputs({"evidence": self.evidence})


def proof_request(name: str, node: str, about: tuple[dict[str, Any], Situation, str], ladder: str) -> pod_proof.ProofRequest:
    """The try of one node's proof that should be on the cluster, by the arguments, the cluster and the account."""
    settings, state, account = about
    machine, jobs = state.machines[node], state.jobs_of_nodes.get(node, {})

    def ask(attempt: int, boot_id: str) -> pod_proof.ProofRequest:
        return pod_proof.ask(name, machine, settings, ladder, account, attempt, boot_id)

    return pod_verdict.try_of(ask, state.nodes, jobs, state.pods, state.kept.get(node), state.events)


def metadata_of(body: Any, namespace: str) -> dict[str, Any]:
    """Metadata of a Job that the plugin makes: the proof waits for all Jobs itself."""
    about = body["metadata"]
    return {**about, "namespace": namespace, "annotations": {**about["annotations"], "pulumi.com/skipAwait": "true"}}


def reader(settings: dict[str, Any], kubeconfig: str) -> Reader:
    """For the cluster of the arguments."""
    return Reader(kubeconfig, settings.get("context"))


def bounds(settings: dict[str, Any]) -> tuple[int, int]:
    """How many nodes there must be, and how many seconds they are waited for.

    Raises NodeError `bad-input`, also for what is not a label selector, and where an output names no node.
    """
    if settings.get("node_selector") is not None:
        label_selector.check(settings["node_selector"])
    minimum = settings.get("least_nodes")
    least_nodes = whole("leastNodes", 1 if minimum is None else minimum, 0, MOST_NODES)
    seconds = whole("joinSeconds", settings.get("join_seconds") or 0, 0, DAY)
    if not settings.get("nodes") and not settings.get("node_selector"):
        raise NodeError("bad-input", "The nodes to prove are none", expected="the name of at least one node, or a label selector")
    return least_nodes, seconds


async def situation(name: str, settings: dict[str, Any], kubeconfig: str) -> Any:
    """The nodes to prove, and what the proof before left; raises pulumi.RunError with the reason and its remedy.

    Nodes that are still to join are waited for; in a preview what depends on them is unknown.
    """
    minimum, seconds = reporting_refusals(bounds)(settings)
    names, selector = settings.get("nodes") or (), settings.get("node_selector")
    end, waiting = time.monotonic() + seconds, False

    def read() -> Situation:
        state = reader(settings, kubeconfig).situation(settings["namespace"], name, names, selector)
        if minimum and selector and not state.chosen:
            case = "labels" if settings.get("join_seconds") is None else "joining"
            raise NodeError("cluster-node-unknown", f"no node has the labels {selector}", case)
        if len(state.chosen) < minimum:
            text = f"{len(state.chosen)} of the {minimum} expected nodes have the labels {selector or 'of their names'}"
            raise NodeError("cluster-node-unknown", text, "joining")
        return state

    while True:
        try:
            return await read_in_thread(read)
        except NodeError as error:
            if error.code == "cluster-node-unknown" and seconds and pulumi.runtime.is_dry_run():
                return UNKNOWN
            if error.code != "cluster-node-unknown" or time.monotonic() >= end:
                raise pulumi.RunError(error.sentence()) from None
            if not waiting:
                pulumi.log.info(harmless(f"waiting for nodes to join, up to {seconds} s: {error.message}"))
            waiting = True
        await asyncio.sleep(JOIN_POLL_SECONDS)


async def outcome(name: str, settings: dict[str, Any], kubeconfig: str, proofs: dict[str, Any]) -> Any:
    """Evidence by node, once all Jobs have ended; raises pulumi.RunError with one line for each node that is not proven.

    Unknown in a preview that would make a Job: the plugin then answers with what a dry run of the API server made up.
    """
    preview = pulumi.runtime.is_dry_run()

    def read() -> Any:
        cluster = reader(settings, kubeconfig)
        if preview:
            jobs = cluster.jobs(settings["namespace"], name)
            if not all(uid in jobs and pod_verdict.ended(jobs[uid]) for uid, _ in proofs.values()):
                return UNKNOWN
        return cluster.outcome(settings["namespace"], name, proofs, int(settings["timeout_seconds"]))

    try:
        ended = await asyncio.to_thread(read)
    except NodeError as error:
        raise pulumi.RunError(error.sentence()) from None
    if ended is UNKNOWN:
        return ended
    refused = [result.sentence for result in ended.values() if isinstance(result, pod_verdict.Refusal)]
    if refused:
        nodes = "node is" if len(ended) == 1 else "nodes are"
        raise pulumi.RunError(harmless("\n  ".join([f"{len(refused)} of {len(ended)} {nodes} not proven:", *refused])))
    return ended
