"""Effects on one machine: files, packages, processes and guests; every one bounded in time."""
