"""Bounds and defaults of local machines, for the program that makes them and for the model of stack files."""

from typing import NamedTuple


class Bounds(NamedTuple):
    """The bounds of a whole number, and its default."""

    minimum: int
    maximum: int
    default: int


MEMORY_MIB = Bounds(2304, 262144, 4096)
"""Memory of a machine. Kata's guests start with 2048 MiB, and QEMU needs the machine to have that much beside its kernel."""
CORES = Bounds(1, 64, 2)
