"""What several files of tests share: a control plane, one a file."""

from collections.abc import Iterator

import pytest

from tests.clusterkit.control_plane import ControlPlane


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """With the request rate that controller managers have by default."""
    made = ControlPlane(tmp_path_factory.mktemp("plane"))
    yield made
    made.close()
