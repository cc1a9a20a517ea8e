"""The official release archives of Kata by version, runtime and machine, and which archive a node installs."""

import re
from collections.abc import Mapping

from nodekit.errors import NodeError
from nodekit.rules.desired import Record
from nodekit.rules.kata import kata_layout
from nodekit.rules.kata.kata_layout import INSTALL_FOLDER
from nodekit.rules.text import printable, public

DOWNLOADS = "https://github.com/kata-containers/kata-containers/releases/download"
PAGES = "https://github.com/kata-containers/kata-containers/releases/tag"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What `uname -m` prints -> how archives call that architecture."""
ZSTD_SINCE = (3, 21, 0)
"""First release packed with zstd, not xz (kata-containers commit ad240a39e6, after 3.20.0 and before 3.21.0)."""
SPLIT_SINCE = (4, 1, 0)
"""First release with an archive for each runtime (kata-containers commit 1550d12899): `kata-static` holds the Rust runtime,
`kata-go-static` the Go runtime and Firecracker. Earlier ones hold both in `kata-static`."""
WHOLE, GO = "kata-static", "kata-go-static"

SUMS: Mapping[tuple[str, str], Mapping[str, str]] = {
    # Kubespray, kata_containers_binary_checksums of roles/kubespray_defaults/vars/main/checksums.yml: the archives packed with xz
    # as of commit 118b2dce0^, those with zstd as of commit 46dbdd399.
    ("3.2.0", WHOLE): {
        "amd64": "21bb8484a060450d6522f29bed7d88d773c28520774eaa2c522b6f47fd12c4a1",
        "arm64": "40627b7ac677ce0f5ffc73b32c1a8bc553e75b746b6cdf8f14642ac27dac3148",
    },
    ("3.3.0", WHOLE): {
        "amd64": "72e29c7b3ee325e0049bf694bbb843ed07c3eb0a05d89c2b3a1635241e4bafe8",
        "arm64": "5437f0162e08154260c58642f433d8a9154fb6d443ca2c1ddee675154ec88c9d",
    },
    ("3.4.0", WHOLE): {
        "amd64": "13f2c2442a4bbcafddcb4739428bee95eb26600516a96e29576fa0ff31152e44",
        "arm64": "f961a283a9da3c6be8a6442842913b036cf0354b9e99d5a8d7a5cc9d923bcd8f",
    },
    ("3.5.0", WHOLE): {
        "amd64": "cd0e6a70828db3f9e27390f08c863edda36824c201c35eaa0a4c7498b7e4c9e3",
        "arm64": "fa4cf67d010244c4f8d0e6d450d04e28d1bbce5ad1a3cbc0154adff628d56c0c",
    },
    ("3.6.0", WHOLE): {
        "amd64": "d418859e123d04edd71e79c8f532213e5281ec7170b97cdfe3cf85487187d60f",
        "arm64": "38277c8d1b9f3c4ea1089338f9251238551b88a5259e8e8ed45fe392ec1ed4bd",
    },
    ("3.7.0", WHOLE): {
        "amd64": "bebf218cafdc082476c7dabbcc5439aee6a41d6dda24dd3cfffbe0a6ae94e23d",
        "arm64": "23e0d5c4e38c6944729a11c631f947abc5aab19427a44d8691bfb9ad1c38b831",
    },
    ("3.28.0", WHOLE): {
        "amd64": "99cefb46d70bc27b7bcffd7595be9010c6bed43e1cdfcf8078554c19e7c9b19d",
        "arm64": "f63d54507d1f18635d94475077e4c2330de4d8e05cedf25f7c38f063b0e66a91",
    },
    ("3.29.0", WHOLE): {
        "amd64": "19d0241405bc2b8fdc74240f381ab021880d1d8c7adf1fd7859f8f6370e735f3",
        "arm64": "f1309973134d48015a3b283d26f53d66c42bb590c53813c8ed2254212a24d1ad",
    },
    ("3.30.0", WHOLE): {
        "amd64": "e65aa5e5bd9f4d59bcd12a8c44a00966406e7329511dd3f756026b6eedc8ad26",
        "arm64": "3f9df0cc898716caa3dd29315d1d5a1e9a6ad2b355ed6a4698eca81a8fbcdc41",
    },
    ("3.31.0", WHOLE): {
        "amd64": "68c2786a0b97023f62f3eca02dc868b78a794e5469d4ddd6cc9e0bd4a7212b0b",
        "arm64": "42a7e67a2c2bf3e97a615c99a293b2bc01ea9c84111fc2bf4abeedb7adc9c2ac",
    },
    ("3.32.0", WHOLE): {
        "amd64": "1449ecea50bd91fa73a94648db195d18950fe869ba4b1f12d05f55f1fa7c1b01",
        "arm64": "8736c054d9223974735394f822000823baef509e1c33405ec798240fa9b6e4b5",
    },
    # From 4.0.0 on: the digests that GitHub shows for the assets on the release pages, as projects pin them that took them from
    # there; each sum of a `kata-static` archive was read in two or more that agree.
    ("4.0.0", WHOLE): {
        "amd64": "2c3b9dfeba355582b40aee462b12916c9740654d0230f696adf719d67b063a8c",
        "arm64": "730c789efa2a1e0a762875f5241126c8558fb238e87562ae52e1f1f2a748385c",
    },
    ("4.1.0", WHOLE): {
        "amd64": "3dc6b69c4acb787b967b04b64599a20d02a8beb1a8eaab3084110df9d0b08c96",
        "arm64": "cf036de3d184dc080fe84dfbdbf06cd6811386224ff8c6aaee3b5d732722e58f",
    },
    ("4.2.0", WHOLE): {
        "amd64": "b828904fa3f1e49ddd7dc799c72cb1503cd1e772d354c3987c8d4189b2a623a8",
        "arm64": "5dd4e9f2d5ea9e6bdfa2f476b3315335b58252366fcda2775a3094fc8fec376b",
    },
    ("4.2.0", GO): {
        "amd64": "7dda31ca54b397cbf8165f620d6041872d3c45b7a77383ce0e86f76a06e103d0",
    },
}
"""(version, first part of the archive's name) -> architecture -> sha256. It holds only sums that were read in a source."""


class Archive(Record):
    """A Kata release archive."""

    address: str
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^\s/?#@]+([/?#]\S*)?", self.address):
            raise NodeError(
                "bad-input",
                f"The archive's address is {public(self.address)!r}{' with a user name' if '@' in self.address else ''}",
                expected="an http or https address without user name",
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise NodeError(
                "bad-input", f"The archive's sha256 is {self.sha256!r}", expected="64 hexadecimal digits in lower case"
            )


EVERY = "any"
"""Stands for every machine in the archives of a desired state, where the settings name one archive."""


def archives(version: str, runtime: str, hypervisor: str) -> dict[str, Archive]:
    """The archive of that release for each machine (as `uname -m` prints it) that the table has.

    Raises NodeError `kata-release-unlisted` when the table has none, or when the release's archive for that runtime lacks the
    hypervisor.
    """
    numbers, kind = _numbers(version), _kind(version, runtime)
    if numbers >= SPLIT_SINCE and (runtime, hypervisor) == ("rust", "firecracker"):
        raise NodeError(
            "kata-release-unlisted",
            f"The archive of Kata {version} for the rust runtime holds no Firecracker: from 4.1.0 on only {GO} does",
            "hypervisor",
        )
    sums = SUMS.get((version, kind), {})
    if not sums:
        others = sorted({listed for listed, name in SUMS if name == _kind(listed, runtime)}, key=_numbers)
        raise NodeError(
            "kata-release-unlisted",
            f"No sha256 of {kind}-{printable(version, 40)} is in the table of Kata's releases",
            page=f"{PAGES}/{printable(version, 40)}",
            versions=", ".join(others),
        )
    packing = "zst" if numbers >= ZSTD_SINCE else "xz"
    return {
        machine: Archive(f"{DOWNLOADS}/{version}/{kind}-{version}-{name}.tar.{packing}", sums[name])
        for machine, name in MACHINES.items()
        if name in sums
    }


def to_install(install: Mapping[str, Archive] | None, machine: str) -> Archive | None:
    """The archive that a node of that machine (`uname -m`) installs, of those of a desired state; None when it installs none.

    Raises NodeError `kata-release-unlisted` when there is none for the machine.
    """
    if install is None:
        return None
    archive = install.get(machine, install.get(EVERY))
    if archive is None:
        raise NodeError(
            "kata-release-unlisted",
            f"This node is {printable(machine, 40)}, and this release of Kata is listed for {', '.join(sorted(install))} only",
            "architecture",
        )
    return archive


def refuse_another_version(node: str, installed: str | None, requested: str) -> None:
    """Raise NodeError `kata-version-differs` when the Kata that is there is known to be another than `kata.version` says.

    The compatibility with Docker was judged by the version in the settings, so it must be the real one.
    """
    if installed is not None and installed != requested:
        raise NodeError(
            "kata-version-differs",
            f"{node}: this is Kata {installed}, and kata.version says {requested}",
            installed=installed,
            asked=requested,
        )


def refuse_too_little_space(node: str, free: int, archive: int) -> None:
    """Raise NodeError `kata-disk-full` when an archive of `archive` bytes certainly has no room in `free` bytes.

    It lies there beside what is unpacked from it, and that is no smaller. How much larger it is shows only when it is unpacked,
    so a node that passes can still turn out to be too small.
    """
    needed = 2 * archive
    if free < needed:
        raise NodeError(
            "kata-disk-full",
            f"Node {node} has {free >> 20} MiB free for {INSTALL_FOLDER}, and the Kata archive alone is "
            f"{archive >> 20} MiB: at least {needed >> 20} MiB are needed to unpack it",
            folder=INSTALL_FOLDER,
        )


def _kind(version: str, runtime: str) -> str:
    return GO if runtime == "go" and _numbers(version) >= SPLIT_SINCE else WHOLE


def _numbers(version: str) -> tuple[int, int, int]:
    return kata_layout.version_numbers(version) or (0, 0, 0)
