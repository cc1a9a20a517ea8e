"""The controller's image, made of the same packages without a registry: it proves a node of a real control plane.

What would be lost if this failed: a file or a package that the image lacks is met when a cluster starts it, and no node that
joins is ever untainted.
"""

import os
import shutil
from pathlib import Path

import pytest

from clusterkit import joining_workload
from tests.clusterkit import controller_image
from tests.clusterkit.control_plane import ControlPlane
from tests.clusterkit.joining import UNPROVEN, Joining
from tests.clusterkit.proving import PROVEN


@pytest.mark.apt
@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="a root folder is made and entered")
def test_image_proves_a_node_as_its_ordinary_user(plane: ControlPlane, tmp_path: Path) -> None:
    root = tmp_path / "image"
    controller_image.build(root)
    tmp_path.chmod(0o755)
    story = Joining(tmp_path, plane)
    plane.behave({"joins-0": PROVEN}, taints=[UNPROVEN])
    story.start(image=root)
    try:
        plane.until("the proof", lambda: UNPROVEN not in story.taints("joins-0"))
        assert story.running
        ids = Path(f"/proc/{story.running.pid}/status").read_text()
        assert f"Uid:\t{joining_workload.USER_ID}\t" in ids and controller_image.USER == joining_workload.USER_ID
        assert Path(f"/proc/{story.running.pid}/root").resolve() == root
    finally:
        code = story.stop()
        shutil.rmtree(root)
    assert code == 0 and "joins-0" in story.evidence()
