"""Fields that are read of the API server's JSON, as types: what else is in it, most of it, never becomes an object.

Managed fields, images of nodes and volumes would take more of the controller's time than all its decisions.
"""

import json
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypedDict, TypeVar

import msgspec

Fields: TypeAlias = dict[str, Any]


class About(TypedDict, total=False):
    """Metadata."""

    name: str
    uid: str
    resourceVersion: str
    deletionTimestamp: str | None
    annotations: dict[str, str] | None
    ownerReferences: list[Fields] | None


class Condition(TypedDict, total=False):
    """Of any object."""

    type: str
    status: str
    reason: str
    message: str


class PodCondition(Condition, total=False):
    lastTransitionTime: str | None


class NodeSpec(TypedDict, total=False):
    taints: list[Fields] | None


class NodeInfo(TypedDict, total=False):
    bootID: str
    kernelVersion: str


class NodeStatus(TypedDict, total=False):
    conditions: list[Condition] | None
    nodeInfo: NodeInfo


class Node(TypedDict, total=False):
    """core/v1."""

    metadata: About
    spec: NodeSpec
    status: NodeStatus


class Container(TypedDict, total=False):
    name: str
    image: str
    command: list[str] | None
    args: list[str] | None
    env: list[Fields] | None
    envFrom: list[Fields] | None
    securityContext: Fields | None
    volumeMounts: list[Fields] | None


class PodSpec(TypedDict, total=False):
    serviceAccountName: str
    runtimeClassName: str
    nodeName: str
    hostNetwork: bool
    hostPID: bool
    hostIPC: bool
    hostUsers: bool | None
    securityContext: Fields | None
    volumes: list[Fields] | None
    containers: list[Container] | None


class TemplateAbout(TypedDict, total=False):
    annotations: dict[str, str] | None


class PodTemplate(TypedDict, total=False):
    metadata: TemplateAbout
    spec: PodSpec


class JobSpec(TypedDict, total=False):
    activeDeadlineSeconds: int
    suspend: bool | None
    template: PodTemplate


class JobStatus(TypedDict, total=False):
    startTime: str | None
    completionTime: str | None
    conditions: list[Condition] | None


class Job(TypedDict, total=False):
    """batch/v1."""

    metadata: About
    spec: JobSpec
    status: JobStatus


class ContainerStatus(TypedDict, total=False):
    name: str
    imageID: str
    state: Fields


class PodStatus(TypedDict, total=False):
    phase: str
    startTime: str | None
    reason: str
    message: str
    conditions: list[PodCondition] | None
    containerStatuses: list[ContainerStatus] | None
    initContainerStatuses: list[ContainerStatus] | None


class Pod(TypedDict, total=False):
    """core/v1."""

    metadata: About
    spec: PodSpec
    status: PodStatus


class Involved(TypedDict, total=False):
    uid: str


class Event(TypedDict, total=False):
    """core/v1."""

    metadata: About
    involvedObject: Involved
    reason: str
    message: str
    count: int | None
    series: Fields | None
    lastTimestamp: str | None
    eventTime: str | None


Kind = TypeVar("Kind")


class Change(TypedDict, Generic[Kind], total=False):
    """What a watch reports."""

    type: str
    object: Kind


class Page(TypedDict, Generic[Kind], total=False):
    """Of a list."""

    metadata: dict[str, Any]
    items: list[Kind] | None


def reader(decoder: "msgspec.json.Decoder[Any]") -> Callable[[bytes], Any]:
    """Reads JSON as this type, and whole where it is of another one; raises ValueError and RecursionError for what is no JSON."""

    def read(text: bytes) -> Any:
        try:
            return decoder.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            return json.loads(text)

    return read


CHANGES = {
    "nodes": reader(msgspec.json.Decoder(Change[Node])),
    "jobs": reader(msgspec.json.Decoder(Change[Job])),
    "pods": reader(msgspec.json.Decoder(Change[Pod])),
    "events": reader(msgspec.json.Decoder(Change[Event])),
}
"""By the kinds of `api.KINDS`, as a watch reports them."""
PAGES = {
    "nodes": reader(msgspec.json.Decoder(Page[Node])),
    "jobs": reader(msgspec.json.Decoder(Page[Job])),
    "pods": reader(msgspec.json.Decoder(Page[Pod])),
    "events": reader(msgspec.json.Decoder(Page[Event])),
}
"""As a list has them."""
NODE, JOB = (reader(msgspec.json.Decoder(kind)) for kind in (Node, Job))
"""As the answer to a request that writes one."""
sent = msgspec.json.encode
"""JSON of what is written: the ladder in a Job makes it long."""
