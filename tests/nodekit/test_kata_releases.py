"""A release is installed from its own archive with the sum that was read for it, and one without a sum is refused."""

import re

import pytest

from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.docker.docker_matrix import NEWEST_PROVEN, SAFE_DOCKER, verdict
from nodekit.rules.kata import kata_releases

A = "https://github.com/kata-containers/kata-containers/releases/download"


@pytest.mark.parametrize(
    ("version", "runtime", "machine", "address", "start"),
    [
        ("3.7.0", "go", "x86_64", f"{A}/3.7.0/kata-static-3.7.0-amd64.tar.xz", "bebf218c"),
        ("3.32.0", "go", "x86_64", f"{A}/3.32.0/kata-static-3.32.0-amd64.tar.zst", "1449ecea"),
        ("3.32.0", "rust", "aarch64", f"{A}/3.32.0/kata-static-3.32.0-arm64.tar.zst", "8736c054"),
        ("4.0.0", "go", "aarch64", f"{A}/4.0.0/kata-static-4.0.0-arm64.tar.zst", "730c789e"),
        ("4.2.0", "rust", "aarch64", f"{A}/4.2.0/kata-static-4.2.0-arm64.tar.zst", "5dd4e9f2"),
        ("4.2.0", "go", "x86_64", f"{A}/4.2.0/kata-go-static-4.2.0-amd64.tar.zst", "7dda31ca"),
    ],
)
def test_archive_is_the_releases_own(version: str, runtime: str, machine: str, address: str, start: str) -> None:
    archive = kata_releases.archives(version, runtime, "qemu")[machine]
    assert archive.address == address and archive.sha256.startswith(start)


def test_every_sum_is_one_and_no_two_archives_share_it() -> None:
    sums = [value for row in kata_releases.SUMS.values() for value in row.values()]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in sums) and len(set(sums)) == len(sums)
    assert all(set(row) <= set(kata_releases.MACHINES.values()) for row in kata_releases.SUMS.values())


@pytest.mark.parametrize(
    ("version", "runtime", "hypervisor", "words"),
    [
        ("3.27.0", "go", "qemu", "kata-static-3.27.0"),
        ("4.1.0", "go", "qemu", "kata-go-static-4.1.0"),
        ("4.2.0", "rust", "firecracker", "holds no Firecracker"),
    ],
)
def test_what_the_table_lacks_is_refused_with_the_way_to_name_it(version: str, runtime: str, hypervisor: str, words: str) -> None:
    with pytest.raises(NodeError) as caught:
        kata_releases.archives(version, runtime, hypervisor)
    assert caught.value.code == "kata-release-unlisted" and words in caught.value.message
    assert "sha256" in caught.value.remedy and "address" in caught.value.remedy


def test_remedy_names_only_releases_of_the_same_runtime() -> None:
    with pytest.raises(NodeError) as caught:
        kata_releases.archives("4.1.0", "go", "qemu")
    assert "4.0.0, 4.2.0" in caught.value.remedy
    with pytest.raises(NodeError) as caught:
        kata_releases.archives("3.1.0", "rust", "qemu")
    assert "4.0.0, 4.1.0, 4.2.0" in caught.value.remedy


def test_node_takes_the_archive_of_its_own_machine() -> None:
    install = kata_releases.archives("3.32.0", "go", "qemu")
    for machine, name in (("x86_64", "amd64"), ("aarch64", "arm64")):
        chosen = kata_releases.to_install(install, machine)
        assert chosen and chosen.address.endswith(f"-{name}.tar.zst")
    only_amd64 = kata_releases.archives("4.2.0", "go", "qemu")
    with pytest.raises(NodeError, match="aarch64"):
        kata_releases.to_install(only_amd64, "aarch64")


def test_one_archive_is_for_every_machine() -> None:
    archive = kata_releases.Archive("https://mirror.example/kata.tar.zst", "a" * 64)
    assert kata_releases.to_install({kata_releases.EVERY: archive}, "aarch64") == archive
    assert kata_releases.to_install(None, "aarch64") is None


@pytest.mark.parametrize(
    "install",
    [
        {"any": {"address": "ftp://x", "sha256": "a" * 64}},
        {"any": {"address": "https://x", "sha256": "A" * 64}},
        {"x86_64": {"address": "https://x", "sha256": "a" * 63}},
        {"x86_64": "https://x"},
    ],
)
def test_an_archive_without_a_valid_address_and_sum_is_refused(install: dict[str, object]) -> None:
    with pytest.raises(NodeError) as caught:
        node_state.KataSettings.read({"hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "install": install})
    assert caught.value.code == "bad-input"


def test_pairs_that_are_proposed_work_and_can_be_installed_on_both_architectures() -> None:
    docker, kata = NEWEST_PROVEN
    for version in (docker, SAFE_DOCKER):
        assert verdict(version, kata, "go").ok
    assert set(kata_releases.archives(kata, "go", "qemu")) == set(kata_releases.MACHINES)


@pytest.mark.parametrize("address", ["https://u:HIDDEN@mirror.example/kata.tar.zst", "ftp://u:HIDDEN@mirror.example/x?s=HIDDEN"])
def test_an_address_with_a_login_is_refused_without_showing_it(address: str) -> None:
    """Lost if this fails: the node's own download ends with the password in its message."""
    with pytest.raises(NodeError) as caught:
        kata_releases.Archive(address, "a" * 64)
    assert caught.value.code == "bad-input" and "HIDDEN" not in caught.value.sentence()
    assert "mirror.example" in caught.value.message
