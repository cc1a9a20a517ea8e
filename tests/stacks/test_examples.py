"""The stacks that people copy, and the one of a real machine. Lost if this fails: an example whose proof can pass."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusterkit import images
from stacks.configuration import load

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((REPOSITORY / "stacks").glob("Pulumi.*.yaml"))
PLAIN = re.compile(r"(?:docker\.io/)?(?:library/)?(?:debian|ubuntu)[:@].*")
"""Images that have neither bubblewrap nor ip, so that no promised sandbox can be tried in them."""


def verified_in(config: dict[str, Any]) -> str | None:
    """The image of the container proof."""
    return load({key.removeprefix("kata-nodes:"): value for key, value in config.items()}.get).verification.image


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.name for file in EXAMPLES])
def test_no_example_is_proven_in_an_image_without_the_tools_of_its_sandbox(file: Path) -> None:
    assert PLAIN.fullmatch(images.SANDBOX)
    assert not PLAIN.fullmatch(verified_in(yaml.safe_load(file.read_text())["config"]) or "")


def test_the_stack_of_the_real_machine_is_proven_in_an_image_of_the_nodes_own_files() -> None:
    text = (REPOSITORY / ".github" / "scripts" / "e2e-stack").read_text()
    assert "timeoutSeconds: 600" in text and "image:" not in text
