"""How the node program comes to a node: packed as one file, over a log-in whose host is known."""

from delivery import failures
from nodekit import errors

errors.add(failures.CATALOGUE, failures.CASES)
