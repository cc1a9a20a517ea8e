"""The objects of a stack on clusters, as its state has them: what it wants of each, and how the API server is reached."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from clusterkit.pod_proof import NODE_ANNOTATION
from clusterkit.pod_verdict import evidence_of
from fleet.hosts import plain
from nodekit.rules.text import printable
from review.documents import SIGNATURE, SIGNED_SECRET

PROVIDER = "pulumi:providers:kubernetes"
OBJECT = "kubernetes:"
RELEASES = "kubernetes:helm.sh/"
"""Releases of charts: no objects of the API server."""
PROOF = "kata-nodes:index:KataProof"
EVIDENCE = re.compile(r"-evidence(-[0-9]{2})?$")
"""Ends of the names of its ConfigMaps."""
REPLACEABLE = ("kata-nodes:index:KataRuntimeClass$", "kata-nodes:index:SandboxPodTemplate$")
"""Components whose objects have a name of their own and are deleted before they are made again. The engine makes any other
object of a fixed name over the old one, and then deletes what has that name."""
AUTONAMED = "pulumi.com/autonamed"
"""Annotation of an object whose name the engine chose: it can be replaced by another (pulumi-kubernetes, metadata/naming.go)."""


@dataclass(frozen=True)
class ClusterObject:
    """One object of a cluster."""

    urn: str
    api_version: str
    kind: str
    namespace: str | None
    """None where the kind has none, or where the state does not know it."""
    name: str
    desired: Mapping[str, Any] = field(repr=False)
    """The fields that the stack sets; secrets are marked as in the state."""
    recorded: Mapping[str, Any] = field(repr=False)
    """The whole object as the API server answered when the stack last wrote it, with the server's defaults."""
    partial: bool
    """Whether it is someone else's: the stack only reads it, or sets some of its fields."""
    replaceable: bool
    """Whether the engine can replace it without a moment in which its deletion takes the new object away."""
    dependents: tuple[str, ...]
    """URNs of what takes a value from it, and what takes a value from those, in the order of the state."""
    proof_of: str | None = None
    """Name of the node that it proves, where it is the Job of a proof."""
    evidence: Mapping[str, Any] | None = field(default=None, repr=False)
    """What the proof of that node has found, by the state."""
    unproven: str | None = None
    """Why that evidence is not of this Job, where it is not."""
    keeps_evidence: bool = False
    """Whether it holds the evidence of a proof."""

    @property
    def label(self) -> str:
        """As messages call it."""
        return printable(f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}", 300)


@dataclass(frozen=True)
class Cluster:
    """One API server, as a provider of the stack reaches it, and the stack's objects there."""

    name: str
    kubeconfig: str | None = field(repr=False)
    """Its text, or the path of its file; None where the provider takes the environment's."""
    context: str | None
    objects: tuple[ClusterObject, ...]


def of(deployment: Mapping[str, Any]) -> list[Cluster]:
    """Every cluster on which the stack has objects. Providers with the same kubeconfig and context are the same cluster, with
    the shortest of their names."""
    resources = [resource for resource in deployment.get("resources") or [] if isinstance(resource, dict)]
    providers = {str(resource["urn"]): resource for resource in resources if resource.get("type") == PROVIDER}
    users = _users(resources)
    proofs = dict(_proofs(resources))
    objects: dict[tuple[str | None, str | None], list[ClusterObject]] = {}
    names: dict[tuple[str | None, str | None], set[str]] = {}
    for resource in resources:
        if not _is_object(resource):
            continue
        urn = str(resource.get("provider") or "").rpartition("::")[0]
        settings = plain((providers.get(urn) or {}).get("inputs") or {})
        access = _kubeconfig(settings.get("kubeconfig")), settings.get("context") or None
        names.setdefault(access, set()).add(urn.rpartition("::")[2] or "cluster")
        if described := _described(resource, users):
            evidence, unproven = proofs.get(described.urn, (None, None))
            objects.setdefault(access, []).append(replace(described, evidence=evidence, unproven=unproven))
    for items in objects.values():
        items.sort(key=lambda item: (item.kind, item.namespace or "", item.name))
    return [Cluster(min(names[access], key=len), *access, tuple(items)) for access, items in objects.items()]


def unfinished(deployment: Mapping[str, Any]) -> list[str]:
    """Names of the proofs in pods of which the state has neither a Job nor evidence, which one of no nodes has too."""
    resources = [resource for resource in deployment.get("resources") or [] if isinstance(resource, dict)]
    begun = {
        str(each.get("parent")) for each in resources if _keeps_evidence(each) or (_is_proof(each) and not each.get("delete"))
    }
    proofs = [str(each["urn"]) for each in resources if each.get("type") == PROOF and not each.get("delete")]
    return [urn.rpartition("::")[2] for urn in proofs if urn not in begun]


def _kubeconfig(value: Any) -> str | None:
    """As text; the plugin takes an object too, such as the output of pulumi-eks."""
    return (value if isinstance(value, str) else json.dumps(value)) if value else None


def _is_object(resource: Mapping[str, Any]) -> bool:
    kind = str(resource.get("type") or "")
    of_kind = kind.startswith(OBJECT) and not kind.startswith(RELEASES)
    return of_kind and resource.get("custom") is True and not resource.get("delete")


def _described(resource: Mapping[str, Any], users: Mapping[str, list[str]]) -> ClusterObject | None:
    urn, desired = str(resource["urn"]), dict(resource.get("inputs") or {})
    recorded = {key: value for key, value in plain(resource.get("outputs") or {}).items() if key != "__inputs"}
    about = {**plain(desired.get("metadata") or {}), **(recorded.get("metadata") or {})}
    version, kind = (str(recorded.get(key) or plain(desired.get(key)) or "") for key in ("apiVersion", "kind"))
    if not (version and kind and about.get("name")):
        return None  # a list, or what an interrupted run has left half known
    if resource.get("external"):
        if kind != "RuntimeClass":
            return None  # an adopted namespace: what the stack wants of it is in another resource
        desired = {"handler": recorded.get("handler")}
    elif kind == "Secret":
        desired = _hidden(desired, recorded)
    notes = about.get("annotations") or {}
    partial = resource.get("external") is True or str(resource["type"]).endswith("Patch")
    return ClusterObject(
        urn=urn,
        api_version=version,
        kind=kind,
        namespace=about.get("namespace"),
        name=str(about["name"]),
        desired=desired,
        recorded=recorded,
        partial=partial,
        replaceable=not partial and (notes.get(AUTONAMED) == "true" or any(part in urn for part in REPLACEABLE)),
        dependents=tuple(_dependents(urn, users)),
        proof_of=str(notes[NODE_ANNOTATION]) if _is_proof(resource) and NODE_ANNOTATION in notes else None,
        keeps_evidence=_keeps_evidence(resource),
    )


def _hidden(desired: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What is wanted of a Secret, with its data marked as secret; `stringData` is never read back, and stands in `data`."""
    kept = {key: value for key, value in desired.items() if key not in ("data", "stringData")}
    return {**kept, "data": {SIGNATURE: SIGNED_SECRET, "plaintext": json.dumps(recorded.get("data"))}}


def _users(resources: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Resource -> those of which an input takes a value from it."""
    users: dict[str, list[str]] = {}
    for resource in resources:
        for urn in {urn for urns in (resource.get("propertyDependencies") or {}).values() for urn in urns or []}:
            if resource.get("custom") is True and not resource.get("delete"):
                users.setdefault(str(urn), []).append(str(resource["urn"]))
    return users


def _dependents(urn: str, users: Mapping[str, list[str]]) -> list[str]:
    following, known = [urn], {urn: None}
    while following:
        for user in users.get(following.pop(0), []):
            if user not in known:
                known[user] = None
                following.append(user)
    return list(known)[1:]


def _is_proof(resource: Mapping[str, Any]) -> bool:
    """Whether it is a Job of a proof."""
    return resource.get("type") == "kubernetes:batch/v1:Job" and _is_part_of_proof(resource)


def _is_part_of_proof(resource: Mapping[str, Any]) -> bool:
    """Whether it was made by a proof; the third part of an URN is the types of its parents and its own, after `$`."""
    return f"{resource.get('parent')}::::".split("::")[2].rpartition("$")[2] == PROOF


def _keeps_evidence(resource: Mapping[str, Any]) -> bool:
    """Whether it is a ConfigMap with the evidence of a proof; one that was taken out of the cluster is none."""
    is_map = resource.get("type") == "kubernetes:core/v1:ConfigMap" and EVIDENCE.search(str(resource.get("urn"))) is not None
    return is_map and _is_part_of_proof(resource) and not (resource.get("delete") or resource.get("pendingReplacement"))


def _proofs(resources: list[dict[str, Any]]) -> Iterator[tuple[str, tuple[dict[str, Any] | None, str | None]]]:
    """Jobs of proofs -> the evidence of their node, and why that is not of this Job: a run ended between the two."""
    evidence: dict[str, dict[str, Any]] = {}
    for resource in resources:
        if _keeps_evidence(resource):
            data = plain(resource.get("outputs") or {}).get("data") or {}
            evidence.setdefault(str(resource.get("parent")), {}).update(data)
    for job in resources:
        if not _is_proof(job) or job.get("delete"):
            continue
        about = plain(job.get("outputs") or {}).get("metadata") or {}
        node = str((about.get("annotations") or {}).get(NODE_ANNOTATION))
        kept = evidence.get(str(job.get("parent")))
        of_node = evidence_of((kept or {}).get(node)) or None
        unproven = None
        if kept is None or job.get("pendingReplacement"):  # taken out for another one, which was never made
            unproven = "the stack holds no proof of it: the last run ended before"
        elif (of_node or {}).get("job") != about.get("uid"):
            unproven = "the last proof is of other settings than those on the cluster"
        yield str(job["urn"]), (of_node, unproven)
