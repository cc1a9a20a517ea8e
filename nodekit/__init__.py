"""The node program: everything about Kata nodes that is true without Pulumi."""

__version__ = "0.1.0"
