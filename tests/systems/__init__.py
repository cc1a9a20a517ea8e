"""The tests of a Debian 13 node on the other systems that a node may have."""
