"""Rules of Docker: its packages, where they come from, and its daemon.json."""
