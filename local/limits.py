"""Bounds and defaults of local machines, for the program that makes them and for the model of stack files."""

from typing import NamedTuple


class Bounds(NamedTuple):
    """What a whole number may be, and what it is where nothing is said."""

    minimum: int
    maximum: int
    default: int


MEMORY_MIB = Bounds(2304, 262144, 4096)
"""Memory of a machine. Kata's guests start with 2048 MiB, and QEMU wants the machine to have as much beside its kernel."""
CORES = Bounds(1, 64, 2)
