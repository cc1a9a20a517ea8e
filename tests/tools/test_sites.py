"""The mirror stands for every site, the engine's downloads of plugins included; what a person has set stays."""

import re

import pytest

from tools import sites
from tools.cache import SetupError


def test_mirror_stands_for_every_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_NODES_MIRROR", "https://mirror.example/files/")
    assert sites.address("https://dl.k8s.io/release/a") == "https://mirror.example/files/dl.k8s.io/release/a"
    monkeypatch.setenv("KATA_NODES_MIRROR", "https://mirror.example/files@2")
    assert sites.address("https://dl.k8s.io/a") == "https://mirror.example/files@2/dl.k8s.io/a"
    monkeypatch.delenv("KATA_NODES_MIRROR")
    assert sites.address("https://dl.k8s.io/release/a") == "https://dl.k8s.io/release/a"


@pytest.mark.parametrize(
    "address", ["mirror.example", "ftp://mirror.example", "https://", "https://m.example/?a=b", "https://a b", "http://[::1"]
)
def test_mirror_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("KATA_NODES_MIRROR", address)
    with pytest.raises(SetupError, match="Set it to an http or https address"):
        sites.mirror()


@pytest.mark.parametrize(
    "address", ["https://me:WORD@mirror.example", "https://me:WO#RD@mirror.example", "me:WORD@mirror.example"]
)
def test_login_in_a_mirrors_address_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    # Python's downloads take what is before the @ for a host and print it.
    monkeypatch.setenv("KATA_NODES_MIRROR", address)
    with pytest.raises(SetupError, match="a user or a password") as caught:
        sites.fetch("https://dl.k8s.io/release/a")
    assert "RD" not in str(caught.value)


def test_engine_gets_the_mirror_after_what_a_person_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_NODES_MIRROR", "https://mirror.example")
    monkeypatch.setenv(sites.OVERRIDES, "^https://own=https://other.example")
    own, led = sites.plugin_overrides().split(",")
    assert own == "^https://own=https://other.example"
    pattern, _, place = led.partition("=")
    assert place == "https://mirror.example/get.pulumi.com/releases/plugins"
    # How the engine spells the sources of its own plugins: pulumi/sdk/go/common/workspace/plugins.go.
    for source in ("github://api.github.com/pulumi/pulumi-aws", "https://get.pulumi.com/releases/plugins"):
        assert re.search(pattern, source)
    assert not re.search(pattern, "github://api.github.com/somebody/pulumi-aws")
    monkeypatch.setenv(sites.OVERRIDES, sites.plugin_overrides())
    assert sites.plugin_overrides().split(",") == [own, led]  # a second run in the same shell adds nothing


def test_engine_gets_nothing_without_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KATA_NODES_MIRROR", raising=False)
    monkeypatch.delenv(sites.OVERRIDES, raising=False)
    assert sites.plugin_overrides() == ""
