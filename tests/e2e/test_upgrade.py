"""A stack that an earlier version of the program made goes on with this one, and both can take away what the other left.

By the real engine on a real Debian, whose guests are emulated. Lost if these fail: a host that nobody can change or leave any
more after `git pull`, since what is in the state and on the host was written by another version.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checkout import REPOSITORY, copy
from tests.e2e.fault_story import Story, stories
from tests.nightly import LONG_FORMS

pytestmark = [LONG_FORMS, pytest.mark.engine, pytest.mark.debian, pytest.mark.guest, pytest.mark.timeout(900)]
BEFORE = "5597331"
"""The version before. Until there is a release: the last whose states have a resource for each step of a node."""
STACK_FILES = "Pulumi.*.yaml"
STAYS = ".state"
"""What a person keeps in their checkout when they take another version: this, and their stacks' files."""


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A host on which nothing has been done yet."""
    with stories(tmp_path) as story:
        yield story


def clear(folder: Path) -> None:
    """Remove the program from a checkout."""
    entries = [*(entry for entry in folder.iterdir() if entry.name not in (STAYS, "stacks")), *(folder / "stacks").iterdir()]
    for entry in entries:
        if not (entry.parent.name == "stacks" and entry.match(STACK_FILES)):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def take_before(folder: Path) -> None:
    """Make a checkout one of the version before."""
    clear(folder)
    packed = subprocess.run(
        ["git", "archive", BEFORE, "--", ".", f":!stacks/{STACK_FILES}"], cwd=REPOSITORY, capture_output=True, check=True
    )
    subprocess.run(["tar", "--extract", f"--directory={folder}"], input=packed.stdout, check=True)


def take_present(folder: Path) -> None:
    """Make a checkout one of this version."""
    clear(folder)
    copy(folder)


def test_stack_of_the_version_before_goes_on_and_is_removed(story: Story) -> None:
    clean = story.look()
    take_before(story.checkout.folder)
    before = story.well()
    take_present(story.checkout.folder)
    after = story.well()
    assert after.packages == before.packages
    assert after.neither(before, before) == [], "what the program set up is the same"
    again = story.run("up", 300)
    assert again.status == 0 and "unchanged" in again.printed
    for word in ("created", "updated", "replaced", "deleted"):
        assert word not in again.printed, again.printed
    story.end()
    assert story.look() == clean


def test_upgrade_that_ended_after_its_upload_is_removed_by_what_the_state_holds_of_the_version_before(story: Story) -> None:
    clean = story.look()
    take_before(story.checkout.folder)
    story.well()
    take_present(story.checkout.folder)
    cut = story.run("up", 300, r"nodes-n1-upload (created|updated|replac)", story.kill_engine)
    assert cut.status != 0
    story.end()
    assert story.look() == clean


def test_version_before_takes_over_again(story: Story) -> None:
    clean = story.look()
    after = story.well()
    take_before(story.checkout.folder)
    before = story.well()
    assert before.neither(after, after) == []
    story.end()
    assert story.look() == clean
