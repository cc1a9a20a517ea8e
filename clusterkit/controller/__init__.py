"""The controller that runs in a cluster and proves the nodes that join it later; `python -m clusterkit.controller`."""
