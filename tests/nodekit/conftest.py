"""What several files of tests share: a signed package repository, and a Debian that boots; made once."""

from collections.abc import Iterator

import pytest

from tests.nodekit.debian_node import DebianNode, Image, booted, image, program
from tests.nodekit.docker_node import Repository, build_repository, served


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """Packages of two Docker releases, served on loopback."""
    folder = tmp_path_factory.mktemp("repository")
    with served(folder) as address:
        yield Repository(address, folder, build_repository(folder, tmp_path_factory.mktemp("g")))


@pytest.fixture(scope="session")
def built() -> Image:
    """The local node image."""
    return image()


@pytest.fixture(scope="session")
def zipapp() -> bytes:
    """The node program."""
    return program()


@pytest.fixture
def node(built: Image, zipapp: bytes) -> Iterator[DebianNode]:
    """A fresh Debian node; files whose node is something else have a fixture of their own."""
    with booted(built, zipapp) as running:
        yield running
