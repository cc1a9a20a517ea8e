"""A guide names the release from which something changes as the code does: one sent readers to an archive that never was."""

import pytest

from clusterkit import kata_deploy
from nodekit.rules.kata import guest_memory, kata_layout, kata_releases
from tests.docs.blocks import REPOSITORY

Version = tuple[int, int, int]
GUIDES = REPOSITORY / "docs" / "guides"


def dotted(version: Version) -> str:
    """As people write it."""
    return ".".join(map(str, version))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (
            "upgrading.md",
            f"From {dotted(kata_releases.SPLIT_SINCE)} on, the release archive `kata-static-…` holds the Rust runtime",
        ),
        (
            "upgrading.md",
            f"From {dotted(kata_layout.ENVIRONMENT_GUARDED_SINCE)} on, the class's overhead is 320Mi instead of 160Mi; KATA",
        ),
        ("upgrading.md", f"`{kata_deploy.CUSTOM_HANDLER}` to `kata-qemu` with {dotted(kata_deploy.SHIM_DROP_IN_SINCE)}"),
        (
            "upgrading.md",
            f"with {dotted(kata_deploy.RUST_SINCE)} to `{kata_deploy.handler(dotted(kata_deploy.RUST_SINCE), 'rust')}`",
        ),
        ("kubernetes.md", f"**Kata before {dotted(kata_deploy.SHIM_DROP_IN_SINCE)}** has no drop-in for its own shims"),
        ("kubernetes.md", f"before {dotted(kata_deploy.CUSTOM_SINCE)} the chart can do neither"),
        ("kubernetes.md", f"`agent/etc/containerd/` (from Kata {dotted(kata_deploy.CONFIG_DIR_SINCE)})"),
    ],
)
def test_release_that_a_guide_names_is_the_one_of_the_code(page: str, words: str) -> None:
    assert words in " ".join((GUIDES / page).read_text().split())


def test_overhead_that_the_guide_of_upgrades_names_is_that_of_the_releases() -> None:
    before, since = (guest_memory.pod_overhead(version)["memory"] for version in ("3.32.0", "4.0.0"))
    assert f"overhead is {since} instead of {before}" in (GUIDES / "upgrading.md").read_text()
