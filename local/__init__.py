"""Real counterparts of cloud resources on your own machine, for the stack `local`: a node, a package site, an API server."""

from local import failures
from nodekit import errors

errors.add(failures.CATALOGUE, failures.CASES)
