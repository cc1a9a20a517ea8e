"""What is true of a cluster without Pulumi: rules, the client of an API server, and the controller that runs in a cluster."""

from clusterkit import failures
from nodekit import errors

errors.add(failures.CATALOGUE, failures.CASES)
