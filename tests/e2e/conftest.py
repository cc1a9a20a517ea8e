"""What tests of the whole program share with those of the cluster: a control plane."""

from tests.clusterkit.conftest import plane

__all__ = ["plane"]
