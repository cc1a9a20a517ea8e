"""Progress lines on standard error: what is done, what runs, how long it takes."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nodekit.rules.text import harmless


def say(text: str) -> None:
    """Print one line at once, whatever a site, a package or a guest put into it made harmless."""
    print(harmless(text), file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and say how many seconds it took once it is done."""
    say(f"{text} ...")
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{text}: failed after {time.monotonic() - begin:.1f} s")
        raise
    say(f"{text}: done in {time.monotonic() - begin:.1f} s")
