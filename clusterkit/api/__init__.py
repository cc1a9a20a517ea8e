"""Reading a cluster's API server."""
