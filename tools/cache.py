"""A cache outside the checkout, keyed by content, safe for two runs at once."""

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class SetupError(Exception):
    """Something that set-up needs is missing or failed; the text holds the remedy."""


CACHE = "KATA_NODES_CACHE"


def home() -> Path:
    """The user's home; raises SetupError where nothing tells it, as in a container that runs with any user id."""
    try:
        folder = Path.home()
    except RuntimeError:
        folder = Path()
    # HOME may be set and empty, and Python then takes the root folder or the current one.
    if not os.environ.get("HOME", "unset") or not folder.is_absolute():
        raise SetupError("This user has no home folder. Set HOME to the absolute path of a folder that it may write.")
    return folder


def root() -> Path:
    """The cache folder: `KATA_NODES_CACHE`, else `kata-nodes` in the user's own cache folder. Raises SetupError."""
    named, base = os.environ.get(CACHE, ""), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if named:
            folder = Path(named).expanduser().absolute()
        else:
            # The XDG Base Directory Specification has a path that is not absolute ignored.
            folder = (Path(base) if Path(base).is_absolute() else home() / ".cache") / "kata-nodes"
    except RuntimeError:
        raise SetupError(f"{CACHE} is {named!r}, and there is no such user. Set it to a folder.") from None
    if ":" in str(folder):
        raise SetupError(
            f"The cache folder {folder} has a colon in its path, and what is in it could not be found by PATH. "
            f"Set {CACHE} to a folder without one."
        )
    return folder


def say(text: str) -> None:
    """One line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def exit_status(run: Callable[[], None]) -> int:
    """Run a program of set-up: 0, or after one sentence on standard error 1, and 130 where a person ended it."""
    try:
        run()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"error: set-up failed ({error}). Check the space and the permissions of {root()} and of this checkout; {CACHE} "
            "names another folder for the first.",
            file=sys.stderr,
        )
        return 1
    except subprocess.SubprocessError as error:
        print(f"error: set-up failed ({error}). Run that command by hand to see why.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Let a program that runs within end by itself where a person ends set-up: a terminal interrupts it too.

    Left to Python, the wait for it would be over after 0.25 s, and it would be killed.
    """
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts:
        raise KeyboardInterrupt


def key(parts: Iterable[str | bytes | Path]) -> str:
    """Sixteen hexadecimal digits over texts and file contents, in the order given."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


@contextmanager
def readable() -> Iterator[None]:
    """Make what is made within readable for everybody: root builds the node image for another user, under that user's umask."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def give_to_owner(path: Path, folder: Path) -> None:
    """Give what root has made to the owner of the folder that it is in: root builds the node image in another user's cache."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are not there, readable for everybody."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with readable():
            folder.mkdir(exist_ok=True)
        give_to_owner(folder, folder.parent)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock of one entry, so that a second run waits for the first instead of building the same thing."""
    folder = root() / "locks"
    make_folder(folder)
    with open(folder / name, "w") as handle:
        give_to_owner(folder / name, folder)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another run is making it; waiting for that run")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def entry(name: str, make: Callable[[Path], None], announce: str) -> Path:
    """The folder of entry `name`, made by `make(folder)` when it is not there yet; never seen half made."""
    target = root() / name
    if target.exists():
        return target
    with lock(name.replace("/", "-")), readable():
        if target.exists():
            return target
        make_folder(target.parent)
        # Its lock is held: what lies beside it under its name is from a run that was killed.
        for left in target.parent.glob(f".{target.name}-*"):
            if re.fullmatch(r"[a-z0-9_]+", left.name.removeprefix(f".{target.name}-")):
                shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        say(f"{announce} ...")
        begin = time.monotonic()
        try:
            make(work)
            work.chmod(0o755)
            for place in (work, *work.rglob("*")):
                give_to_owner(place, target.parent)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        say(f"{announce}: done in {time.monotonic() - begin:.0f} s")
    return target
