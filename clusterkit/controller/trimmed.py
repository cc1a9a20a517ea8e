"""Objects of the cluster cut down to what the rules read, since thousands of each are kept.

Long texts, the ladder above all, are the same in every Job and pod, so each is kept once.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from clusterkit import joining, pod_room, pod_verdict
from clusterkit.pod_safety import HOST_NAMESPACES

LONG = 100
"""Characters from which on a text is shared."""
WORDS = 1024
"""Characters of an event's text that are kept. The API server has no limit on the texts of a core/v1 Event."""


@lru_cache(64)
def known(text: str) -> str:
    """The same text, and the same object for equal ones."""
    return text


def shared(value: Any) -> Any:
    """The value with its long texts shared."""
    if isinstance(value, str):
        return known(value) if len(value) > LONG else value
    return [shared(each) for each in value] if isinstance(value, list) else value


def only(fields: Mapping[str, Any] | None, *keys: str) -> dict[str, Any]:
    """These keys of a mapping, where they are."""
    return {key: fields[key] for key in keys if key in fields} if fields else {}


def about(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Metadata by which an object is known, and more of it."""
    return only(document["metadata"], "name", "uid", "resourceVersion", *keys)


def node(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of a core/v1 Node: its claim, its taints, whether it is Ready, what it lacks, its boot id, and its kernel."""
    status = document.get("status", {})
    conditions = [only(each, "type", "status") for each in [pod_verdict.condition(document, "Ready")] if each]
    lacking = [*pod_room.unready(document), *pod_room.pressures(document)]
    conditions += [only(each, "type", "status", "message") for each in lacking]
    claim = joining.claim(document)
    return {
        "metadata": {**about(document), "annotations": {joining.CLAIM_ANNOTATION: claim} if claim else {}},
        "spec": only(document.get("spec"), "taints"),
        "status": {
            "conditions": conditions,
            "nodeInfo": only(status.get("nodeInfo"), "bootID", "kernelVersion"),
        },
    }


@lru_cache(256)
def alike(text: str) -> Any:
    """What JSON holds, and the same object for equal texts."""
    return json.loads(text)


def pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What `pod_differences.differences` compares. Rights and mounts are the same in all pods of a proof, and kept once."""
    compared = ("name", "image", "command", "args", "env", "envFrom")
    equal = ("securityContext", "volumeMounts")
    containers = [
        {key: shared(each[key]) for key in compared if key in each}
        | {key: alike(json.dumps(each[key])) for key in equal if key in each}
        for each in spec.get("containers") or []
    ]
    return {
        **only(spec, "serviceAccountName", "runtimeClassName", "nodeName", "hostUsers", *HOST_NAMESPACES),
        **{key: alike(json.dumps(spec[key])) for key in ("securityContext", "volumes") if key in spec},
        "containers": containers,
    }


def job(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of a batch/v1 Job: what it asks for, and how it ended."""
    template = document["spec"]["template"]
    conditions = document.get("status", {}).get("conditions") or []
    return {
        "metadata": about(document, "annotations"),
        "spec": {
            **only(document["spec"], "activeDeadlineSeconds", "suspend"),
            "template": {"metadata": only(template.get("metadata"), "annotations"), "spec": pod_spec(template["spec"])},
        },
        "status": {
            **only(document.get("status"), "startTime", "completionTime"),
            "conditions": [only(each, "type", "status", "reason") for each in conditions],
        },
    }


def pod(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of a core/v1 Pod: what it runs, and what became of it."""
    status = document.get("status", {})
    decisive = ("PodScheduled", "Initialized", pod_room.DISRUPTION)
    conditions = [each for each in status.get("conditions") or [] if each["type"] in decisive]
    containers, before = (
        [only(each, "name", "imageID", "state") for each in status.get(kind) or []]
        for kind in ("containerStatuses", "initContainerStatuses")
    )
    return {
        "metadata": about(document, "ownerReferences", "deletionTimestamp"),
        "spec": pod_spec(document["spec"]),
        "status": {
            **only(status, "phase", "startTime", "reason", "message"),
            "conditions": [only(each, "type", "status", "reason", "message", "lastTransitionTime") for each in conditions],
            "containerStatuses": containers,
            "initContainerStatuses": before,
        },
    }


def event(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of a core/v1 Event: what it is about, and what it says."""
    words = {key: str(text)[:WORDS] for key, text in only(document, "reason", "message").items()}
    return {
        "metadata": about(document),
        "involvedObject": only(document.get("involvedObject"), "uid"),
        **only(document, "count", "series", "lastTimestamp", "eventTime"),
        **words,
    }


def owner(document: Mapping[str, Any]) -> str:
    """Uid of the Job that a pod is of, or nothing."""
    return pod_verdict.owner(document) or ""
