"""What several files of tests share: a control plane, one for each file."""

from collections.abc import Iterator

import pytest

from tests.clusterkit.control_plane import ControlPlane


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """With the request rate that controller managers have by default."""
    control_plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    yield control_plane
    control_plane.close()
