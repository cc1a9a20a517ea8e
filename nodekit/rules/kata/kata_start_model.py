"""What the rules of `kata_start` read, and what they say."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from nodekit.rules.kata import kata_keys
from nodekit.rules.kata.kata_layout import version_numbers
from nodekit.rules.shapes import mapping

FIRST_READ, FIRST_UNREAD = (3, 2, 0), (4, 2, 0)
"""Releases whose lists of permitted values are known here; another release may know more of them."""


class File(NamedTuple):
    """What lies at a path, links followed."""

    kind: str
    """`file`, `folder`, `missing`, `loop` (links that lead to each other), or `other`."""
    executable: bool = False
    size: int = 0
    path: str = ""
    """Where it lies, links followed; empty for what is not there."""


class Machine(NamedTuple):
    """What of the node the rules need to know."""

    files: Mapping[str, File]
    """Every path of `paths`."""
    architecture: str = "x86_64"
    cpus: int = 1
    memory_mib: int = 0
    """All of its memory; 0 when that is not known."""


class Configuration(NamedTuple):
    """The merged configuration, and who reads it."""

    document: Mapping[str, Any]
    origins: Mapping[tuple[str, ...], str]
    """Where a key has its value from: `("hypervisor", "qemu", "kernel")` -> file."""
    file: str
    """The base file, links followed."""
    runtime: str
    hypervisor: str
    version: str | None

    def table(self, *names: str) -> Mapping[str, Any]:
        """A table by its name; empty where there is none."""
        table: Mapping[str, Any] = self.document
        for name in names:
            table = mapping(table.get(name))
        return table

    @property
    def own(self) -> Mapping[str, Any]:
        """The table `[hypervisor.NAME]`."""
        return self.table("hypervisor", self.hypervisor)

    def text(self, key: str) -> str:
        """A key of the hypervisor's table; empty where it is unset, which Kata does not tell from an empty text."""
        value = self.own.get(key)
        return value if isinstance(value, str) else ""

    def origin(self, *names: str) -> str:
        """The file that gives a key its value, or the first key of a table; the base file for one that is not set."""
        within = (file for key, file in self.origins.items() if key[: len(names)] == names)
        return self.origins.get(names) or next(within, self.file)

    @property
    def numbers(self) -> tuple[int, int, int] | None:
        """The release; None when it is not known."""
        return version_numbers(self.version) if self.version else None

    def since(self, *numbers: int) -> bool:
        """Whether this is surely that release or a later one."""
        return self.numbers is not None and self.numbers >= numbers

    def perhaps_since(self, *numbers: int) -> bool:
        """Whether this is that release or a later one, or not known."""
        return self.numbers is None or self.numbers >= numbers

    @property
    def release(self) -> tuple[int, int, int] | None:
        """This release, where its source was read; None otherwise, and when it is not known."""
        return self.numbers if self.numbers is not None and FIRST_READ <= self.numbers < FIRST_UNREAD else None

    @property
    def read(self) -> bool:
        """Whether the lists of permitted values are known for this release; true when the release is not known."""
        return self.numbers is None or self.release is not None

    def kind(self, section: str, key: str) -> str | None:
        """The type of a key in this release; None where it does not read it, or is not known to (`kata_keys.kind`)."""
        return kata_keys.kind(self.runtime, section, key, self.release)


class Refusal(NamedTuple):
    """One reason for which Kata would start no guest."""

    cause: str
    """Key, value and file, and what is wrong with them."""
    remedy: str
