"""Reads the stack's objects on every cluster; an API server that cannot be reached is an answer with its cause."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote

import yaml

from clusterkit.api.client import PERSON, Changed, Client
from clusterkit.api.kubeconfig import FILE_LIMIT, connected
from fleet.cluster_objects import Cluster, ClusterObject
from fleet.errors import one_line
from fleet.object_difference import (
    ObjectDifference,
    another_job,
    another_machine,
    differences,
    selector,
    unproven,
    without_handler,
)
from nodekit.errors import NodeError
from nodekit.host.reading import read_text
from nodekit.rules.text import printable

AT_ONCE = 8
"""Requests to one API server at the same time."""
UNREADABLE = (RecursionError, ValueError, TypeError, KeyError, AttributeError)
"""What comes of JSON that is not of the form of the API."""
MALFORMED = "the API server's answer is not of the form of its API"
GONE = "is not in the cluster any more"
"""What is true of a node that a machine of a group left behind."""
DEFAULT_KUBECONFIG = "~/.kube/config"
PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
"""Keys of a kubeconfig that name files."""


@dataclass(frozen=True)
class MeasuredObject:
    """What the API server answered of one object."""

    item: ClusterObject
    cause: str | None
    """Why it, or a node that it is about, could not be measured."""
    differences: tuple[ObjectDifference, ...] = ()
    notes: tuple[str, ...] = ()
    gone: bool = False
    """Whether it is the proof of a node that is not in the cluster any more."""


@dataclass(frozen=True)
class MeasuredCluster:
    """What one API server answered."""

    cluster: Cluster
    cause: str | None
    """Why it answered nothing."""
    objects: tuple[MeasuredObject, ...]
    """All of the stack; where nothing was answered, with what the state by itself shows."""
    seconds: float

    @property
    def unmeasured(self) -> int:
        """How many objects could not be measured."""
        return len(self.objects) if self.cause is not None else sum(measured.cause is not None for measured in self.objects)

    @property
    def differing(self) -> list[MeasuredObject]:
        """The objects that are not as the stack wants them."""
        return [measured for measured in self.objects if measured.differences]


class Reading:
    """Reads one cluster beside everything else, in threads that do not outlive the process: a server may never answer."""

    def __init__(self, cluster: Cluster, seconds: float, report: Callable[[str], None] = lambda _: None) -> None:
        """Begin. `report` gets the name of the cluster once it has answered or failed."""
        self.cluster, self.seconds, self.report = cluster, seconds, report
        self.begin = time.monotonic()
        self.cause: str | None = None
        self.answers: dict[str, MeasuredObject] = {}
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def result(self) -> MeasuredCluster:
        """Wait for it, within its time."""
        self.thread.join(max(0.0, self.begin + self.seconds - time.monotonic()))
        late = f"no answer within {self.seconds:g} s; look whether the API server is busy or hangs"
        answers = dict(self.answers)
        cause = self.cause or (None if answers else late)
        objects = tuple(
            answers.get(item.urn) or MeasuredObject(item, None if cause else late, tuple(unproven(item)))
            for item in self.cluster.objects
        )
        return MeasuredCluster(self.cluster, cause, objects, time.monotonic() - self.begin)

    def _read(self) -> None:
        try:
            server = Server(self.cluster)
        except NodeError as error:
            self.cause = one_line(error.sentence())
        except UNREADABLE as error:
            self.cause = f"{MALFORMED} ({type(error).__name__})"
        else:
            waiting: SimpleQueue[ClusterObject] = SimpleQueue()
            for item in self.cluster.objects:
                waiting.put(item)
            count = min(AT_ONCE, len(self.cluster.objects))
            helpers = [threading.Thread(target=self._work, args=(server, waiting), daemon=True) for _ in range(count)]
            for helper in helpers:
                helper.start()
            for helper in helpers:
                helper.join()
        self.report(self.cluster.name)

    def _work(self, server: "Server", waiting: "SimpleQueue[ClusterObject]") -> None:
        while time.monotonic() < self.begin + self.seconds:
            try:
                item = waiting.get_nowait()
            except Empty:
                return
            self.answers[item.urn] = measured(server, item)


class Server:
    """One API server, and where it serves each kind. Raises NodeError where it cannot be reached."""

    def __init__(self, cluster: Cluster) -> None:
        connection = connected(kubeconfig(cluster), cluster.context)
        self.client = Client(connection.api, PERSON, connection)
        self.kinds: dict[str, dict[str, tuple[str, bool]]] = {}
        self.lock = threading.Lock()
        self._kinds_of("v1")

    def get(self, item: ClusterObject) -> dict[str, Any] | None:
        """The object as it is now; None where there is none, or where its kind is not served any more."""
        served = self._kinds_of(item.api_version).get(item.kind)
        if served is None:
            return None
        plural, namespaced = served
        place = f"/namespaces/{quote(item.namespace or 'default', safe='')}" if namespaced else ""
        return self.client.get(
            item.label, f"{_folder(item.api_version)}{place}/{quote(plural, safe='')}/{quote(item.name, safe='')}"
        )

    def node(self, name: str) -> dict[str, Any] | None:
        """A node as it is now."""
        return self.client.get(f"node {name}", f"/api/v1/nodes/{quote(name, safe='')}")

    def nodes(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        """The nodes with these labels."""
        selected = ",".join(f"{key}={value}" for key, value in labels.items())
        return self.client.listed("nodes", "/api/v1/nodes", {"labelSelector": selected})

    def _kinds_of(self, version: str) -> dict[str, tuple[str, bool]]:
        """Kind -> its plural, and whether it is in namespaces, of one version of the API."""
        with self.lock:
            if version not in self.kinds:
                # Every API server serves v1: without it, this is none, and objects that it does not have are not missing.
                expected = () if version == "v1" else (404,)
                document: dict[str, Any] = {}
                with suppress(Changed):
                    document = self.client.call("get", f"the kinds of {version}", "GET", _folder(version), expected=expected)
                self.kinds[version] = {
                    str(kind["kind"]): (str(kind["name"]), kind.get("namespaced") is True)
                    for kind in document.get("resources") or []
                    if "/" not in str(kind["name"])
                }
            return self.kinds[version]


def _folder(version: str) -> str:
    """Where a version of the API is: that of the oldest kinds has no group."""
    return f"/{'apis' if '/' in version else 'api'}/{quote(version)}"


def measured(server: Server, item: ClusterObject) -> MeasuredObject:
    """One object as it is now, compared, and what the nodes that it is about say of it."""
    different = unproven(item)
    notes: list[str] = []
    cause: str | None = None
    gone = False
    try:
        present = server.get(item)
        different, notes = differences(item, present)
        if present is not None and (labels := selector(item)):
            different += without_handler(item, server.nodes(labels))
        if item.proof_of is not None:
            node = server.node(item.proof_of)
            different += [] if item.unproven else [*another_job(item, present or {}), *another_machine(item, node)]
            if gone := node is None:
                notes = [*notes, f"{item.label}: node {printable(item.proof_of, 253)} {GONE}, so this proves none"]
    except NodeError as error:
        cause = one_line(error.sentence())
    except UNREADABLE as error:
        cause = f"{MALFORMED} ({type(error).__name__})"
    return MeasuredObject(item, cause, tuple(different), tuple(notes), gone)


def kubeconfig(cluster: Cluster) -> str:
    """Its text: the provider's, which may be a path, otherwise that of the environment, as the plugin reads it.

    Raises NodeError `kubeconfig-invalid`.
    """
    text = cluster.kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    if "\n" in text or text.lstrip().startswith("{"):
        return text
    if cluster.kubeconfig is None:
        paths = list(dict.fromkeys(filter(None, text.split(os.pathsep)))) or [DEFAULT_KUBECONFIG]
        if len(paths) > 1:
            raise NodeError(
                "kubeconfig-invalid",
                f"the stack's provider {cluster.name} has no kubeconfig, and KUBECONFIG names several files",
                "several",
            )
        text = paths[0]
    try:
        content = read_text(Path(text).expanduser(), FILE_LIMIT)
    except (OSError, ValueError, RuntimeError) as error:
        unknown = "the user whose home it begins with is not known here" if isinstance(error, RuntimeError) else "it is no text"
        why = getattr(error, "strerror", None) or unknown
        message = f"the kubeconfig {printable(text, 200)} of provider {cluster.name} cannot be read: {why}"
        raise NodeError("kubeconfig-invalid", message, "file") from None
    # In a file of the environment, paths begin in its folder; the plugin reads a provider's own setting as a text without one.
    return content if cluster.kubeconfig else _with_whole_paths(content, Path(text).expanduser().absolute().parent)


def _with_whole_paths(text: str, folder: Path) -> str:
    """A kubeconfig whose relative paths begin in a folder; one that is of no such form stays as it is, for those who say why."""
    try:
        document = yaml.safe_load(text)
        changed = False
        for section, key in (("clusters", "cluster"), ("users", "user")):
            for entry in [each for each in document.get(section) or [] if isinstance(each, dict)]:
                about: dict[str, Any] = entry.get(key) or {}
                named = [(about, name) for name in PATHS if about.get(name)]
                # A command without a folder is on PATH.
                plugin: dict[str, Any] = about.get("exec") or {}
                named += [(plugin, "command")] if "/" in str(plugin.get("command")) else []
                for fields, name in named:
                    whole = str(folder / str(fields[name]))
                    changed = changed or whole != fields[name]
                    fields[name] = whole
    except (yaml.YAMLError, *UNREADABLE):
        return text
    return yaml.safe_dump(document) if changed else text
