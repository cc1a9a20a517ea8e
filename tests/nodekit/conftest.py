"""What several files of tests share: a signed package repository, made once."""

from collections.abc import Iterator

import pytest

from tests.nodekit.docker_node import Repository, build_repository, served


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """Packages of two Docker releases, served on loopback."""
    folder = tmp_path_factory.mktemp("repository")
    with served(folder) as address:
        yield Repository(address, folder, build_repository(folder, tmp_path_factory.mktemp("g")))
