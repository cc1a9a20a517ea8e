"""The sandboxes that may be promised to work in a guest."""

SANDBOXES = ("sandbox-runtime", "bubblewrap", "rootless")
"""The first is the default, since the document names it."""
