"""The verbs on Debian 12 and Ubuntu 22.04 and 24.04: their Python, apt and systemd, and what hooks into apt there.

The tests are those of the Debian 13 of the local image. Lost if these fail: what those hold, on the systems that most nodes have.
"""

# ruff: noqa: F401, F811 - what is imported are tests and fixtures of this file too

from collections.abc import Iterator

import pytest

from tests.nightly import LONG_FORMS
from tests.nodekit.debian_node import DebianNode, Image, booted
from tests.nodekit.test_debian_node import (
    test_a_docker_that_ran_without_its_socket_runs_after_restore,
    test_a_docker_that_was_stopped_and_disabled_is_so_again,
    test_a_docker_whose_socket_a_package_lost_has_it_again,
    test_a_kill_at_any_point_of_docker_is_repaired_by_the_next_run,
    test_a_kill_at_any_point_of_restore_is_repaired_by_the_next_run,
    test_a_package_that_cannot_be_configured_is_named_and_the_node_is_as_it_was,
    test_rounds_there_and_back_leave_no_trace,
    test_status_reports_everything_to_an_ordinary_user_and_changes_nothing,
    test_what_an_interrupted_dpkg_left_is_finished_first,
)
from tests.systems.images import built

pytestmark = [pytest.mark.debian, LONG_FORMS, pytest.mark.timeout(2400)]


@pytest.fixture
def node(built: Image, zipapp: bytes) -> Iterator[DebianNode]:
    """A fresh node."""
    with booted(built, zipapp) as running:
        yield running
