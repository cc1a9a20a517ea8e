"""Stands in for the official `command` plugin where that cannot be downloaded; see README.md."""
