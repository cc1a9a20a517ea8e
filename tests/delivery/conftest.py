"""What tests of the way to a node share with those of the node program: the node image and the program."""

from tests.nodekit.conftest import built, zipapp

__all__ = ["built", "zipapp"]
