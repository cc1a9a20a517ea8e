"""What a hundred nodes add to the proof of a cluster, over one node, on the real engine and control plane. Run by `make bench`.

The controller manager may ask 200 times a second: a Job costs its controller about six requests, so that at the default of 20 a
hundred Jobs take thirty seconds on any machine. The rest is the engine, which writes its whole state for every Job that it makes.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.clusterkit.control_plane import ControlPlane
from tests.clusterkit.proving import JOBS, PROVEN, Proving

LIMIT = 15.0
"""Most seconds that a hundred nodes may add, on two cores with nothing else to do."""


def main() -> int:
    """Print the figures; 1 when the difference is above the limit."""
    hundred = [f"many-{number}" for number in range(100)]
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(Path(folder) / "plane", request_rate=200)
        try:
            plane.behave(dict.fromkeys(hundred, PROVEN))
            for name, nodes in (("one", hundred[:1]), ("hundred", hundred)):
                story = Proving(Path(folder) / name, plane, nodes=nodes)
                begin = time.monotonic()
                story.up()
                seconds[name] = time.monotonic() - begin
                assert len(story.evidence()) == len(nodes)
                story.run("destroy", "--yes", "--skip-preview")
                plane.until("the end of all Jobs", lambda: not plane.items(JOBS))
        finally:
            plane.close()
    added = seconds["hundred"] - seconds["one"]
    print(f"one node {seconds['one']:.1f} s, a hundred {seconds['hundred']:.1f} s: {added:.1f} s more (limit {LIMIT:g} s)")
    return int(added > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
