"""The proof on a real Ubuntu, with its QEMU and Python, in a booted guest and in a container. The tests are Debian 13's."""

# ruff: noqa: F401 - what is imported are tests and fixtures of this file too

import pytest

from tests.nightly import LONG_FORMS
from tests.nodekit.debian_node import Image
from tests.nodekit.test_container_proof import (
    climb,
    node,
    test_a_container_of_rootless_runc_starts_within_the_container,
    test_a_limit_of_zero_fails,
    test_a_whole_node_passes_in_a_container_too,
)
from tests.systems.images import NOBLE, image

pytestmark = [pytest.mark.debian, pytest.mark.guest, LONG_FORMS, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Ubuntu 24.04. The virtiofsd of the others is an older program, whose options the stand-in for Kata's shim does not know."""
    return image(NOBLE, tmp_path_factory.mktemp("site"))
