"""Image names behind a mirror. Lost if this fails: pods that cannot be pulled on a closed site, or come from elsewhere."""

import re

import pytest

from clusterkit import images
from nodekit.errors import NodeError

DIGEST = "debian:13-slim@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("debian:13-slim", "mirror.example/hub/library/debian:13-slim"),
        (DIGEST, f"mirror.example/hub/library/{DIGEST}"),
        ("grafana/grafana:1", "mirror.example/hub/grafana/grafana:1"),
        ("docker.io/library/debian:13-slim", "mirror.example/hub/library/debian:13-slim"),
        ("docker.io/debian:13-slim", "mirror.example/hub/library/debian:13-slim"),
        ("index.docker.io/grafana/grafana:1", "mirror.example/hub/grafana/grafana:1"),
        ("docker.io.example/debian", "docker.io.example/debian"),
        ("ghcr.io/owner/name:1", "ghcr.io/owner/name:1"),
        ("registry:5000/name", "registry:5000/name"),
        ("localhost/name", "localhost/name"),
    ],
)
def test_mirror_stands_for_docker_hub_alone(image: str, expected: str) -> None:
    assert images.mirrored(image, "mirror.example/hub") == expected
    assert images.mirrored(image, None) == image


def test_nobody_can_move_the_image_that_proves() -> None:
    assert re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", images.PROOF)


@pytest.mark.parametrize(
    "image",
    [
        "debian", DIGEST, "registry:5000/a/b_c/d--e__f:1.0_X", "localhost/x", "[2001:db8::1]:5000/x:1", "REGISTRY/proof",
        "ghcr.io/kata-containers/kata-deploy:3.32.0@sha256:" + "0" * 64,
    ],
)  # fmt: skip
def test_name_of_an_image_passes_as_it_is(image: str) -> None:
    assert images.check("image", image) == image


@pytest.mark.parametrize(
    "image",
    [
        "https://registry.example/proof:1", "$REGISTRY/kata-nodes-proof:1", "r.example/proof@sha256:\u2026", "Debian:13", "a//b",
        "r.example/Team/proof", "proof:", "proof@", "proof@sha256:xyz", "r.example/proof:1:2", "r.example/", "/proof", '"proof"',
        "proof:1@", "{registry}/proof", "a" * 50000 + "!",
    ],
)  # fmt: skip
def test_what_a_kubelet_would_call_an_invalid_name_is_refused_before_the_nodes_change(image: str) -> None:
    with pytest.raises(NodeError, match=r"^Key proof.image is .*, which is not the name of an image") as caught:
        images.check("proof.image", image)
    assert caught.value.code == "bad-input"
