"""Which release of Kata reads which key, and of which type. Lost if these fail: good guests are refused."""

import pytest

from nodekit.rules.kata import kata_keys


@pytest.mark.parametrize("runtime", ["go", "rust"])
def test_every_key_has_a_type_that_can_be_checked_and_releases_in_order(runtime: str) -> None:
    spans = kata_keys.spans(runtime)
    assert len(spans) > 100
    for releases in spans.values():
        for span in releases:
            assert kata_keys.words(span.kind) and span.first <= (span.last or kata_keys.LAST)
            assert not kata_keys.fits(b"", span.kind)
        ends = [span.last or kata_keys.LAST for span in releases]
        assert all(end < span.first for end, span in zip(ends, releases[1:], strict=False))


@pytest.mark.parametrize(
    ("runtime", "section", "key", "release", "kind"),
    [
        ("go", "hypervisor", "default_vcpus", (3, 2, 0), "i32"),
        ("go", "hypervisor", "default_vcpus", (3, 3, 0), "real"),
        ("go", "hypervisor", "default_vcpus", None, None),
        ("go", "hypervisor", "kernel", None, "text"),
        ("go", "hypervisor", "file_mem_backend", (3, 31, 2), "text"),
        ("go", "hypervisor", "file_mem_backend", (3, 32, 0), None),
        ("go", "hypervisor", "pcie_root_port", (3, 2, 0), None),
        ("go", "hypervisor", "kernel_verity_params", None, None),
        ("rust", "hypervisor", "default_vcpus", (3, 19, 1), "i32"),
        ("rust", "hypervisor", "default_vcpus", (3, 20, 0), "real"),
        ("rust", "mem_agent", "mem_agent_enable", (4, 1, 0), "switch"),
        ("rust", "agent", "dial_timeout", (4, 1, 0), None),
        ("rust", "factory", "enable_template", (3, 22, 0), None),
    ],
)
def test_a_key_has_the_type_of_its_release(
    runtime: str, section: str, key: str, release: tuple[int, ...] | None, kind: str | None
) -> None:
    assert kata_keys.kind(runtime, section, key, release) == kind


@pytest.mark.parametrize(
    ("kind", "fitting", "other"),
    [
        ("text", ["", "x"], [1, True, []]),
        ("switch", [True], [1, "true"]),
        ("u8", [0, 255], [-1, 256, 1.0, True]),
        ("u32", [0, (1 << 32) - 1], [-1, 1 << 32, 1.5, "1", False]),
        ("u64", [1 << 32], [-1, 1 << 63]),
        ("i32", [-1], [1 << 31]),
        ("i64", [-(1 << 63)], [1 << 63]),
        ("real", [1, -1, 0.5], [True, "1"]),
        ("list", [[], ["a"]], ["a", [1]]),
        ("numbers", [[1]], [["a"]]),
        ("table", [{}], [[]]),
        ("tables", [[], [{}]], [{}, ["a"]]),
    ],
)
def test_a_value_fits_where_both_runtimes_decode_it(kind: str, fitting: list[object], other: list[object]) -> None:
    assert all(kata_keys.fits(value, kind) for value in fitting)
    assert not any(kata_keys.fits(value, kind) for value in other)


def test_the_releases_of_a_key_are_named() -> None:
    assert kata_keys.history("go", "hypervisor", "kernel_verity_params") == "from 3.27 on"
    assert kata_keys.history("go", "hypervisor", "pcie_root_port") == "up to 3.1 and from 3.6 on"
    assert kata_keys.history("go", "hypervisor", "snp_certs_path") == "from 3.7 to 3.13"
    assert kata_keys.history("go", "hypervisor", "kernel_parms") is None
