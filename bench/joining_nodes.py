"""What thousands of nodes that join cost the controller: its memory, its own time, and its requests. Run by `make bench`; NODES.

API server, controllers and scheduler are real, kwok plays the nodes, and the controller runs as its own service account. Each
node reports fifty images, as a kubelet does at most.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clusterkit import joining
from tests.clusterkit.control_plane import ControlPlane
from tests.clusterkit.joining import UNPROVEN, Joining
from tests.clusterkit.proving import PROVEN

MEMORY = 160
"""Most MiB of the controller: its Deployment's limit is 256."""
PER_NODE = 0.010
"""Most seconds of the controller's own time for a node: a hundred nodes a second."""
IMAGES = [
    {"names": [f"registry.example.org/team/image-{number}@sha256:{number:064x}"], "sizeBytes": 1 << 28} for number in range(50)
]
PAUSE = 15
"""Seconds between two looks at all nodes: reading thousands of them costs the API server more than proving some."""
COUNTED = str(Path(__file__).with_name("counted_controller.py"))


def used(pid: int) -> tuple[float, float, float]:
    """Seconds of a process's own time, its memory and the most that it had, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, peak = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), now, peak


def unproven(plane: ControlPlane) -> int:
    """How many nodes still have the taint; read in pages of some MiB."""
    number, following = 0, ""
    while True:
        page = plane.request("GET", f"/api/v1/nodes?limit=100&continue={following}")
        number += sum(map(joining.tainted, page["items"]))
        following = page["metadata"].get("continue", "")
        if not following:
            return number


def database(plane: ControlPlane) -> int:
    """MiB of etcd's file, which by default may have 2048: the history of all objects since it was last compacted."""
    return (plane.folder / "cluster" / "etcd" / "member" / "snap" / "db").stat().st_size >> 20


def main(nodes: Annotated[int, typer.Argument(min=1, help="Nodes that join.")] = 5000) -> None:
    """What nodes that join cost the controller. Exit 1 when a figure is above its limit."""
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(Path(folder) / "plane", request_rate=1000)
        with ExitStack() as ending:
            ending.callback(plane.close)
            story = Joining(Path(folder), plane)
            ending.callback(lambda: story.running and story.stop())
            story.settings = replace(story.settings, timeout_seconds=1200)
            plane.behaviour = {f"many-{number}": PROVEN for number in range(nodes)}
            plane.start_kwok()
            requests = Path(folder) / "requests.json"
            story.start(program=(COUNTED, str(requests)))
            plane.until("its first look", lambda: "proving nodes" in story.log())
            assert story.running
            began, before = time.monotonic(), used(story.running.pid)
            print(f"before any node: {before[1]:.0f} MiB")
            joined = 0
            for wave in (nodes // 5, nodes):
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(lambda n: plane.add_node(f"many-{n}", [UNPROVEN], IMAGES), range(joined, wave)))
                joined = wave
                plane.until("their proof", lambda: time.sleep(PAUSE) or not unproven(plane), 3600)
                time.sleep(3)
                own, now, peak = used(story.running.pid)
                print(f"{wave} nodes proven after {time.monotonic() - began:.0f} s: {now:.0f} MiB, {peak:.0f} MiB at the most, "
                      f"{1000 * (own - before[0]) / wave:.1f} ms of its own time a node; etcd has {database(plane)} MiB",
                      flush=True)  # fmt: skip
            assert len(story.evidence()) == nodes
            assert story.stop() == 0
            counts = Counter(json.loads(requests.read_text()))
            # What a controller needs that starts on a cluster of this size.
            story.start()
            plane.until("its first look", lambda: "proving nodes" in story.log())
            again = used(story.running.pid)
            print(f"started again: {again[0]:.1f} s of its own time, {again[2]:.0f} MiB at the most")
            story.stop()
    each = ", ".join(f"{number} {verb}" for verb, number in counts.most_common())
    print(f"{counts.total()} requests, {counts.total() / nodes:.1f} a node: {each}")
    cost = (own - before[0]) / nodes
    most = max(peak, again[2])
    print(f"{nodes} nodes: {most:.0f} MiB (limit {MEMORY}), {1000 * cost:.1f} ms a node (limit {1000 * PER_NODE:.0f})")
    raise typer.Exit(int(most > MEMORY or cost > PER_NODE))


if __name__ == "__main__":
    typer.run(main)
