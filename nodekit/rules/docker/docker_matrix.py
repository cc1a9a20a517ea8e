"""Which Docker works with which Kata: the known pairs as data with their sources, and one function that looks them up."""

import re
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.kata.kata_layout import RUNTIMES
from nodekit.rules.text import printable

Version = tuple[int, int, int]


class Row(NamedTuple):
    """Docker releases from `first` up to, not including, `end` (None: no end), and what they need of Kata.

    `go` and `rust` are the first Kata release that works (None: every one). `rust_known` is false where an older Rust
    runtime is merely untested. `why` says what breaks, `sources` where that is known from.
    """

    first: Version
    end: Version | None
    go: Version | None
    rust: Version | None
    rust_known: bool
    why: str
    sources: tuple[str, ...]


LATE_NETWORK = "this Docker fills the network namespace after the task is created, and older Kata scans it before: no network"
_LATE_SOURCES = (
    "kata-containers/kata-containers#9340",
    "kata-containers/kata-containers#11793",
    "kata-containers/kata-containers#12754",
    "kata-containers/kata-containers#12899",
    "kata-containers/kata-containers#13080",
    "moby/moby#47062",
    "moby/moby#47406",
    "moby/moby#47626",
)
_TIME = "this Docker adds a time namespace, which older Kata does not take"
_EARLY = "this Docker fills the network namespace in time"

MATRIX: tuple[Row, ...] = (
    Row((23, 0, 0), (26, 0, 0), None, (3, 30, 0), False, _EARLY, ("moby/moby#47062",)),
    Row((26, 0, 0), (26, 0, 1), (3, 29, 0), (3, 30, 0), True, LATE_NETWORK, _LATE_SOURCES),
    Row((26, 0, 1), (28, 0, 0), None, (3, 30, 0), False, _EARLY, ("moby/moby#47626",)),
    Row((28, 0, 0), (29, 5, 0), (3, 29, 0), (3, 30, 0), True, LATE_NETWORK, _LATE_SOURCES),
    Row((29, 5, 0), None, (3, 32, 0), (3, 32, 0), True, _TIME, ("kata-containers/kata-containers#13082",)),
)
"""In order of Docker releases, without gaps from 23.0.0 on."""
SAFE_DOCKER = "27.5.1"
"""The newest Docker that works with every Kata release of the Go shim; the last 27, without fixes since January 2025."""
CONTAINERD_STORE_SINCE: Version = (29, 0, 0)
"""The first Docker that keeps images and containers in containerd's image store where daemon.json says nothing."""
NEWEST_PROVEN = ("28.5.2", "3.32.0")
"""The newest Docker that a container proof passed with, and the Kata (Go shim) it ran on. For newer pairs there is
only the matrix."""


class Verdict(NamedTuple):
    """Whether a pair may be used, why, and, where it may not, which version fixes it (else empty)."""

    ok: bool
    reason: str
    cure: str


_NUMBERS = r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}"


def version(text: str, product: str) -> Version:
    """`27.5.1` as three numbers; raises NodeError `bad-input` for anything else, naming `product`."""
    if not re.fullmatch(_NUMBERS, text):
        raise _no_version(text, product, "is not three numbers with dots")
    return _numbers(text)


def _no_version(text: str, product: str, why: str) -> NodeError:
    return NodeError(
        "bad-input",
        f"{product} version {printable(text, 60)!r} {why}",
        expected=f"the whole {product} version, such as {SAFE_DOCKER if product == 'Docker' else '3.32.0'}",
    )


def _numbers(text: str) -> Version:
    major, minor, patch = (int(part) for part in text.split("."))
    return major, minor, patch


def reported(text: str, product: str) -> tuple[Version, bool]:
    """Three numbers of a version as systems report it, and whether it is one before a release (`-rc0`, `~rc.1`, `-alpha1`).

    An epoch, a distribution's revision (`~3-0~ubuntu-jammy`, `+dfsg1-9`, `-1~debian.13~trixie`) and what a build adds
    (`+azure-1`) are taken off. Raises NodeError `bad-input`, naming `product`, for anything else.
    """
    match = re.fullmatch(rf"(?:[0-9]{{1,5}}:)?({_NUMBERS})(?:[-+~]([A-Za-z0-9][A-Za-z0-9.+~_-]{{0,80}}))?", text)
    if match is None:
        raise _no_version(text, product, "is not one: three numbers with dots, and what a system adds to them")
    return _numbers(match[1]), re.match(r"(?:rc|alpha|beta|pre|dev)(?![a-z])", match[2] or "", re.IGNORECASE) is not None


def _dotted(value: Version) -> str:
    return ".".join(str(part) for part in value)


def verdict(docker: str, kata: str, runtime: str) -> Verdict:
    """Whether Docker `docker` works with Kata `kata` and its runtime `go` (shim v2) or `rust` (runtime-rs).

    A pair that is merely untested is allowed, and its reason says so. Both versions may be as systems report them; a release
    candidate of Docker counts as its release, since that has its changes, and one of Kata as older, since a fix may have come
    later. Raises NodeError `bad-input` for ill-formed versions.
    """
    if runtime not in RUNTIMES:
        raise NodeError("bad-input", f"Kata runtime {printable(runtime, 40)!r} is not known", expected=" or ".join(RUNTIMES))
    (docker_version, _), (kata_version, is_candidate) = reported(docker, "Docker"), reported(kata, "Kata")
    row = next((row for row in MATRIX if row.first <= docker_version and (row.end is None or docker_version < row.end)), None)
    if row is None:
        return Verdict(
            True, f"Docker {docker} is untested with Kata: the known pairs begin with Docker {_dotted(MATRIX[0].first)}", ""
        )
    needed = row.go if runtime == "go" else row.rust
    name = "Go shim" if runtime == "go" else "Rust runtime"
    if needed is None or (kata_version, not is_candidate) >= (needed, True):
        return Verdict(True, f"Docker {docker} works with the {name} of Kata {kata}", "")
    if runtime == "rust" and not row.rust_known:
        return Verdict(
            True, f"the {name} of Kata {kata} is untested with Docker {docker}; {_dotted(needed)} is known to work", ""
        )
    # The safe Docker is sure to work with the Go shim. With an older Rust runtime it is untested, so it is not offered there.
    other = f", or Docker {SAFE_DOCKER}" if runtime == "go" else ""
    return Verdict(False, f"{row.why} ({', '.join(row.sources)})", f"Kata {_dotted(needed)} or newer{other}")


def refuse_if_incompatible(docker: str, kata: str, runtime: str) -> None:
    """Raise NodeError `docker-kata-incompatible`, with the version that fixes it, for a pair that is known to break."""
    result = verdict(docker, kata, runtime)
    if not result.ok:
        name = "Go shim" if runtime == "go" else "Rust runtime"
        raise NodeError(
            "docker-kata-incompatible",
            f"Docker {docker} does not work with the {name} of Kata {kata}: {result.reason}",
            works=result.cure,
        )
