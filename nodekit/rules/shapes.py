"""Read what others wrote as the shape that it should have: a document of another shape has nothing to say."""

from collections.abc import Mapping
from typing import Any


def mapping(value: object) -> Mapping[str, Any]:
    """A table or object; empty where the value is something else."""
    return value if isinstance(value, Mapping) else {}


def entries(value: object) -> list[Any]:
    """The entries of a list; none where the value is something else."""
    return value if isinstance(value, list) else []
