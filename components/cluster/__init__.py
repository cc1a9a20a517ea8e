"""Components of what lies on a cluster."""
