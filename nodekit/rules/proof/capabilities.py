"""The capabilities that a nested sandbox needs when it runs as root."""

CAPABILITIES = ("NET_ADMIN", "SYS_ADMIN")
"""What bubblewrap needs when it runs as uid 0 (bubblewrap.c, network.c). Under Kata they act inside the guest; on runc
the same grant would reach the node, so the two are never set without a RuntimeClass."""
