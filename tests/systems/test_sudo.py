"""Becoming root on Debian 12 and Ubuntu 22.04 and 24.04, with their sudo. The tests are those of Debian 13."""

# ruff: noqa: F401 - what is imported are tests and fixtures of this file too

import pytest

from tests.delivery.test_as_root import (
    node,
    rules,
    test_arguments_arrive_as_they_were_given,
    test_password_is_in_no_argument_no_environment_and_no_log,
    test_password_is_not_sent_where_sudo_asks_for_none,
    test_password_opens_sudo_and_the_program_reads_only_what_is_its_own,
    test_program_is_put_in_place_and_taken_away_by_a_user_with_sudo,
    test_program_that_alone_needs_no_password_is_not_given_one,
    test_root_needs_no_sudo,
    test_status_of_the_program_is_kept,
    test_sudo_that_wants_a_terminal_is_reported_with_its_remedy,
    test_user_who_is_not_a_sudoer_is_named,
    test_user_without_a_password_in_the_stack_is_told_what_is_missing,
    test_wrong_password_is_tried_once_and_reported,
)
from tests.nightly import LONG_FORMS
from tests.systems.images import built

pytestmark = [pytest.mark.debian, LONG_FORMS, pytest.mark.timeout(900)]
