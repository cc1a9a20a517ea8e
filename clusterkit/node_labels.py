"""Which node of a cluster a machine is, for the labels that a Kata RuntimeClass selects by."""

from collections.abc import Mapping, Sequence
from typing import Any

from clusterkit import pod_room
from nodekit.errors import NodeError

LABELLED = "kata-nodes/labelled"
"""Annotation of a node with the labels: its own uid. The engine compares with what it wrote last, so that without it a node that
joins again under its name, as a reinstalled machine does, would stay without the labels."""


def nodes_of(machines: Mapping[str, str], nodes: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Machine -> its node's name, and the machines that are not nodes of the cluster; `machines` holds each one's id by its name.

    A machine is known by its id (machine-id(5)), which its kubelet reports: names of machines in a stack and of nodes in a
    cluster are chosen independently. Raises NodeError `cluster-machine-id-shared` where an id is not unique.
    """
    by_id = nodes_by_id(nodes)
    sharing: dict[str, list[str]] = {}
    for machine, identifier in sorted(machines.items()):
        sharing.setdefault(plain(identifier), []).append(machine)
    by_machine: dict[str, str] = {}
    for machine, identifier in sorted(machines.items()):
        others = sharing[plain(identifier)]
        names = sorted(node["metadata"]["name"] for node in by_id.get(plain(identifier), [])) if plain(identifier) else []
        if len(names) > 1 or (names and len(others) > 1):
            away = {node["metadata"]["name"]: f" ({pod_room.NOT_READY})" for node in nodes if pod_room.unready(node)}
            listed = ", ".join(f"{name}{away.get(name, '')}" for name in names)
            several = f"nodes {listed}" if len(names) > 1 else f"machines {', '.join(others)}"
            raise NodeError(
                "cluster-machine-id-shared",
                f"{machine} has the machine id {identifier}, and so have {several}",
                "nodes" if len(names) > 1 and len(others) == 1 else "",
            )
        if names:
            by_machine[machine] = names[0]
    return by_machine, sorted(set(machines) - set(by_machine))


def nodes_by_id(nodes: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The nodes that report a machine id, by that id as `plain` writes it."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for node in nodes:
        by_id.setdefault(plain(node.get("status", {}).get("nodeInfo", {}).get("machineID")), []).append(node)
    return by_id


def plain(identifier: object) -> str:
    """A machine id in one spelling."""
    return str(identifier or "").strip().replace("-", "").lower()
