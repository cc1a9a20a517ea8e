"""Image names behind a mirror. Lost if this fails: pods that cannot be pulled on a closed site, or come from elsewhere."""

import contextlib
import re
import time

import pytest

from clusterkit import images, kata_deploy
from nodekit.errors import NodeError
from stacks.configuration import ConfigError, load

DIGEST = "debian:13-slim@sha256:" + "0" * 64


@pytest.mark.parametrize("image", [images.PROOF, images.SANDBOX])
def test_the_images_by_default_name_their_registry(image: str) -> None:
    """CRI-O refuses a short name where its node lists several registries, and another one may have an image of it."""
    assert image.startswith("docker.io/library/")
    assert images.mirrored(image, "mirror.example/hub") == image.replace("docker.io", "mirror.example/hub")


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
        "debian",
        DIGEST,
        "ghcr.io/owner/a__b.c--d:1.0_x",
        "Registry.example:5000/name@sha256:" + "a" * 64,
        "[2001:db8::1]:5000/name:1",
        "localhost/name",
        "sha256:" + "0" * 64,
        "registry:5000/a/b_c/d--e__f:1.0_X",
        "REGISTRY/proof",
        f"ghcr.io/kata-containers/kata-deploy:3.32.0@sha256:{'0' * 64}",
    ],
)
def test_image_that_a_runtime_can_pull_is_taken(image: str) -> None:
    assert images.check("image", image) == image


@pytest.mark.parametrize(
    "image",
    [
        "https://ghcr.io/owner/name:1",
        "docker://ghcr.io/owner/name:1",
        "ghcr.io/Owner/name:1",
        "Name:1",
        "ghcr.io/owner/name:",
        "ghcr.io/owner//name",
        "owner/name/",
        "name:1:2",
        "name @sha256:0",
        "name:1\n",
        "-name",
        "nаme",
        "",
        "$REGISTRY/kata-nodes-proof:1",
        "r.example/proof@sha256:\u2026",
        "proof@",
        "proof@sha256:xyz",
        "/proof",
        '"proof"',
        "proof:1@",
        "{registry}/proof",
    ],
)
def test_image_that_no_runtime_could_pull_is_refused_before_a_node_changes(image: str) -> None:
    """Kubelets call it InvalidImageName, and Docker an invalid reference, once Docker and Kata are there."""
    with pytest.raises(NodeError, match=r"is not the name of an image"):
        images.check("image", image)
    with pytest.raises(ConfigError, match=r"kata-nodes:kubernetes\.image \(value: .*is not the name of an image"):
        load({"kubernetes": {"image": image, "proof": {"selector": "a=b", "image": "proof@sha256:0"}}}.get)


def test_image_to_which_the_chart_adds_a_tag_has_none() -> None:
    """Pods of registry/kata-deploy:3.32.0:3.32.0 never start, and Helm waits for them for 40 minutes."""
    digest = f"registry/kata-deploy@sha256:{'0' * 64}"
    for name in ("registry:5000/kata-deploy", digest, digest.replace("@", ":3.32.0@")):
        assert kata_deploy.values("3.32.0", "go", [], True, name)["image"] == {"reference": name}
    # Charts before 3.28.0 let a tag follow a digest too.
    assert kata_deploy.values("3.28.0", "go", [], True, digest)["image"] == {"reference": digest}
    with pytest.raises(NodeError, match=r"another tag would follow it"):
        kata_deploy.values("3.27.0", "go", [], True, digest)
    with pytest.raises(NodeError, match=r"another tag would follow it") as refused:
        kata_deploy.values("3.32.0", "go", [], True, "registry/kata-deploy:3.32.0")
    assert "without :3.32.0" in refused.value.remedy
    proof = {"selector": "a=b", "image": "proof@sha256:0"}
    with pytest.raises(ConfigError, match=r"kubernetes\.kataDeploy\.image .*without :latest"):
        load({"kubernetes": {"kataDeploy": {"image": "registry/kata-deploy:latest"}, "proof": proof}}.get)


def test_long_name_is_not_slow() -> None:
    begin = time.process_time()
    for unit in ("a", "a-", "a.", "a/", "A.", "a:"):
        with contextlib.suppress(NodeError):
            images.check("image", unit * 50_000 + "!")
    assert time.process_time() - begin < 2
