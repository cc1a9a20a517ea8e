"""Parts by official release: a machine that reaches the vendors' sites builds nothing, and nothing damaged is run."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path

import pytest

from tests.tools.vendors import PULUMI, Sites, tar, truncate
from tools import get, official, sites
from tools.cache import SetupError


def output(program: Path, *argv: str) -> str:
    """What a program prints."""
    return subprocess.run([program, *argv], capture_output=True, text=True, check=True).stdout


def refused(part: str) -> str:
    """The sentence by which set-up refuses a part; it leaves nothing behind."""
    with pytest.raises(SetupError) as caught:
        get.path(part)
    parts = Path(os.environ["KATA_NODES_CACHE"]) / "parts"
    assert not parts.exists() or list(parts.iterdir()) == []
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_engine_and_its_language_host_come_from_the_release(vendors: Sites) -> None:
    vendors.pulumi()
    engine, language = get.path("pulumi"), get.path("pulumi-language-python")
    assert output(engine, "version") == f"v{get.parts()['pulumi'].version}\n"
    assert engine.parent == language.parent and output(language) == "host\n"
    assert sorted(entry.name for entry in engine.parent.iterdir()) == ["pulumi", "pulumi-language-python"]


def test_servers_of_the_local_stack_come_from_their_releases(vendors: Sites) -> None:
    vendors.etcd()
    vendors.kubernetes("kube-apiserver")
    assert "Version: 3." in output(get.path("etcd"))
    assert output(get.path("kube-apiserver")).startswith("Kubernetes v1.")


def test_second_run_asks_no_site(vendors: Sites) -> None:
    vendors.pulumi()
    first = get.path("pulumi")
    vendors.requests.clear()
    assert get.path("pulumi") == first and vendors.requests == []


def test_damaged_archive_is_refused(vendors: Sites) -> None:
    archive = vendors.pulumi()
    archive.write_bytes(archive.read_bytes()[:-9] + b"!!!!!!!!!")
    assert "-checksums.txt says" in refused("pulumi")


def test_truncated_archive_is_refused(vendors: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = vendors.pulumi()
    whole = truncate(archive, monkeypatch)
    assert f"ended after {whole // 2} of {whole} bytes. Run the command again." in refused("pulumi")


def test_archive_that_cannot_be_unpacked_is_refused(vendors: Sites) -> None:
    archive = vendors.pulumi()
    listing = next(archive.parent.glob("*checksums.txt"))
    archive.write_bytes(b"no archive")
    listing.write_text(f"{hashlib.sha256(b'no archive').hexdigest()}  {archive.name}\n")
    assert "cannot be unpacked" in refused("pulumi")


def test_archive_of_another_layout_is_refused(vendors: Sites) -> None:
    archive = vendors.pulumi()
    data = tar({"elsewhere/pulumi": b""})
    archive.write_bytes(data)
    next(archive.parent.glob("*checksums.txt")).write_text(f"{hashlib.sha256(data).hexdigest()}  {archive.name}\n")
    assert "has no pulumi/pulumi" in refused("pulumi")


def test_nothing_of_an_archive_lands_outside_its_folder(vendors: Sites, tmp_path: Path) -> None:
    archive = vendors.pulumi()
    data = tar({"../../outside": b"", "pulumi/pulumi": b""})
    archive.write_bytes(data)
    next(archive.parent.glob("*checksums.txt")).write_text(f"{hashlib.sha256(data).hexdigest()}  {archive.name}\n")
    assert sorted(entry.name for entry in get.path("pulumi").parent.iterdir()) == ["pulumi"]
    assert list(tmp_path.rglob("outside")) == []


def test_page_in_place_of_the_checksums_is_refused(vendors: Sites) -> None:
    archive = vendors.pulumi()
    next(archive.parent.glob("*checksums.txt")).write_text("<html>Please log in</html>\n")
    assert "has no sha256 of pulumi-v" in refused("pulumi")


def test_missing_archive_is_named_with_what_to_do(vendors: Sites) -> None:
    sentence = refused("pulumi")
    assert "404" in sentence and vendors.url in sentence
    assert "set KATA_NODES_MIRROR to a mirror, or install Go" in sentence


def test_go_that_is_too_old_does_not_keep_from_downloading(
    vendors: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendors.pulumi()
    (tmp_path / "go").write_text("#!/bin/sh\necho go1.19.8\n")
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert output(get.path("pulumi"), "version").startswith("v3.")


@pytest.mark.parametrize(
    ("system", "machine", "file"),
    [
        ("Linux", "x86_64", "linux-x64"),
        ("Linux", "aarch64", "linux-arm64"),
        ("Darwin", "x86_64", "darwin-x64"),
        ("Darwin", "arm64", "darwin-arm64"),
    ],
)
def test_each_machine_gets_its_own_archive(
    vendors: Sites, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, file: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    vendors.names = sites.this_platform()
    assert file in vendors.pulumi().name
    get.path("pulumi")
    assert [path for path in vendors.requests if path.endswith(f"-{file}.tar.gz")]


def test_machine_without_archives_is_told(vendors: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "no official archives for Linux on riscv64" in refused("pulumi")


@pytest.mark.parametrize("form", ["{sum}  {name}", "{sum} *{name}", "{upper}  {name}", "{sum}"])
def test_sums_are_read_in_every_form_that_vendors_publish(form: str) -> None:
    sum256 = hashlib.sha256(b"").hexdigest()
    listing = form.format(sum=sum256, upper=sum256.upper(), name="a.tar.gz")
    assert official.published_sum(f"{'0' * 64}  b.tar.gz\n{listing}\n", "a.tar.gz") == sum256
    assert official.published_sum(f"{'0' * 64}  b.tar.gz\n", "a.tar.gz") is None


def test_every_official_address_is_that_of_a_named_site() -> None:
    """A typing error in parts.toml would show only on a machine that downloads."""
    names = {"version": "1.2.3", "os": "linux", "amd64": "amd64", "x64": "x64"}
    for part in get.parts().values():
        assert bool(part.official) == bool(part.official_checksums)
        if part.official:
            address = part.official.format(**names)
            assert address.startswith(("https://github.com/", "https://dl.k8s.io/")) and "1.2.3" in address
    assert PULUMI.format(version="1.2.3") in get.parts()["pulumi"].official.format(**names)
