"""Names of container images: the defaults with their registry, and a mirror instead of Docker Hub.

CRI-O asks no registry for a name without one where its node lists several (crio.conf(5), short_name_mode).
"""

import re

from nodekit.errors import NodeError
from nodekit.rules.text import printable

PROOF = "docker.io/library/debian:13-slim@sha256:d7e12182ce18b85b93007c1dedf31f2d29e01ccf3182cc4017c709b6259bc132"
"""Debian 13 of 2026-08-24, as several unrelated public projects pin it. For proofs where no sandbox nests: it holds /bin/sh and
unshare of util-linux, and neither bwrap nor ip. By digest, because anyone who could move a tag could make every node pass."""
SANDBOX = "docker.io/library/debian:13-slim"
"""What a sandbox pod starts from where nothing else is named: by tag, so that it gets security fixes."""

HUB = ("docker.io", "index.docker.io")
"""Docker Hub, where a name spells it out."""


_REGISTRY = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?/"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG, _DIGEST = r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})", r"(?P<digest>@[A-Za-z][A-Za-z0-9+._-]*:[0-9A-Fa-f]+)"
_NAME = re.compile(rf"(?:{_REGISTRY})?{_PART}(?:/{_PART})*{_TAG}?{_DIGEST}?")
"""Names of images (distribution/reference)."""


def check(key: str, image: str) -> str:
    """The name of an image. Raises NodeError `bad-input` for one that no runtime could pull, as with the line end of a file, an
    address in its place, or a variable or digest that nobody filled in."""
    if not _NAME.fullmatch(image):
        message = f"Key {key} is {printable(repr(image), 120)}, which is not the name of an image"
        expected = "the name alone, such as registry.example/team/image:1, without https://, spaces or line ends"
        raise NodeError("bad-input", message, expected=expected)
    return image


def without_tag(key: str, image: str, *, digest: bool = True) -> str:
    """As `check`, for a name to which a tag is added: one that has a tag is refused too, and without `digest` one by digest."""
    match = _NAME.fullmatch(check(key, image))
    ending = match and (match["tag"] if not match["digest"] else match["digest"] if not digest else None)
    if ending:
        message = f"Key {key} is {printable(repr(image), 160)}, and another tag would follow it"
        raise NodeError("bad-input", message, expected=f"the name without {printable(ending, 80)}")
    return image


def mirrored(image: str, mirror: str | None) -> str:
    """`image` as it is named on `mirror`, a registry with or without a path that stands for Docker Hub.

    A name whose first part has a dot, a colon or is localhost names its registry itself and stays as it is, unless that is Docker
    Hub (distribution/reference, `splitDockerDomain`); one of a single part is an official image, in `library/`.
    """
    first, slash, rest = image.partition("/")
    if mirror and rest and first in HUB:
        return mirrored(rest, mirror)
    if mirror is None or (slash and ("." in first or ":" in first or first == "localhost")):
        return image
    return f"{mirror}/{image}" if slash else f"{mirror}/library/{image}"
