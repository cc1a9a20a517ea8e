"""Image names behind a mirror. Lost if this fails: pods that cannot be pulled on a closed site, or come from elsewhere."""

import re

import pytest

from clusterkit import images

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
