"""What tests on other systems share with those of the node program: the program."""

from tests.nodekit.conftest import zipapp

__all__ = ["zipapp"]
