"""What a node's resources do that are replaced, or that a run left half done.

By the real engine on a real Debian, whose guests are emulated. Lost if these fail: a node that its stack calls proven while it
is as another run left it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.fault_story import STACK, Story, stories
from tests.nightly import LONG_FORMS

pytestmark = [LONG_FORMS, pytest.mark.engine, pytest.mark.debian, pytest.mark.guest, pytest.mark.timeout(900)]
PROVEN = "the ladder in a booted guest: done"


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A host on which nothing has been done yet."""
    with stories(tmp_path) as story:
        yield story


def kept(printed: str) -> set[str]:
    """Steps that a run did not take again."""
    return {*re.findall(r"step (\w+): taken before, and nothing of it has changed since", printed)}


def replaced(story: Story, which: str) -> str:
    """What an `up` prints that replaces one resource of the node."""
    resources = story.checkout.state(STACK)["deployment"]["resources"]
    (urn,) = (resource["urn"] for resource in resources if resource["urn"].endswith(f"-{which}"))
    return story.checkout.pulumi("up", "--yes", "--skip-preview", "--replace", urn, "--stack", STACK)


def test_each_resource_that_is_replaced_leaves_a_proven_node(story: Story) -> None:
    clean = story.look()
    node = story.well()
    printed = replaced(story, "converge")
    assert not kept(printed) and all(f"step {step}: done" in printed for step in ("preflight", "docker", "kata"))
    assert PROVEN in printed and "Bringing packages back" not in printed
    assert story.look().neither(node, node) == []
    printed = replaced(story, "upload")
    assert kept(printed) == {"preflight", "docker", "kata"} and PROVEN not in printed, "the same program, on a node that is whole"
    printed = replaced(story, "system")
    assert "Bringing packages back" in printed and PROVEN in printed
    assert story.look().neither(node, node) == []
    story.parameters("sysctl.user.max_user_namespaces=9000")
    changed = story.run("up", 300)
    assert changed.status == 0 and kept(changed.printed) == {"preflight", "docker"} and "step kata: done" in changed.printed
    assert PROVEN in changed.printed
    story.end()
    assert story.look() == clean


def set_docker(story: Story, version: str | None) -> None:
    """Pin another Docker in the stack's file, or the former one again."""
    file = story.checkout.folder / "stacks" / f"Pulumi.{STACK}.yaml"
    document = yaml.safe_load(file.read_text())
    document["config"]["kata-nodes:docker"].pop("version", None)
    if version is not None:
        document["config"]["kata-nodes:docker"]["version"] = version
    file.write_text(yaml.safe_dump(document))


def test_a_docker_that_was_changed_before_a_later_step_failed_goes_back_with_its_setting(story: Story) -> None:
    """Lost if this fails: the engine still has the former settings, so that the next `up` sees nothing to do."""
    clean = story.look()
    node = story.well()
    set_docker(story, "28.5.2")
    ended = story.run("up", 300, "step kata", story.cut)
    assert ended.status != 0
    story.cure()
    assert story.look().packages != node.packages
    set_docker(story, None)
    again = story.run("up", 300)
    assert again.status == 0 and PROVEN in again.printed
    assert story.look().neither(node, node) == []
    story.end()
    assert story.look() == clean
