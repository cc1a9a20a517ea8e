"""Every failure that this repository can report, by the room that it belongs to."""

from collections.abc import Mapping

import aws.failures
import clusterkit.failures
import delivery.failures
import local.failures
import nodekit.failures
import policy.failures
import stacks.failures
from nodekit.errors import CATALOGUE
from nodekit.failures import Failure

ROOMS: dict[str, Mapping[str, Failure]] = {
    "On a node": nodekit.failures.CATALOGUE,
    "On the way to a node": delivery.failures.CATALOGUE,
    "Machines on AWS": aws.failures.CATALOGUE,
    "A cluster and its pods": clusterkit.failures.CATALOGUE,
    "The local stack": local.failures.CATALOGUE,
    "A stack's file": stacks.failures.CATALOGUE,
    "The policy pack": policy.failures.CATALOGUE,
}
"""Heading -> a room's own failures."""
KNOWN: Mapping[str, Failure] = CATALOGUE
"""Code -> its failure, with the remedies of every room; which of these come first depends on what was imported first."""
