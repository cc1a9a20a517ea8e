"""Whether this machine can run local nodes with the real Kata and Docker: it needs KVM and the sites that these come from."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterable

from local import accelerator, parts
from nodekit.errors import NodeError

REACH_SECONDS = 10


def refuse_where_impossible(stack: str, addresses: Iterable[str], build: bool) -> None:
    """Raise NodeError `genuine-impossible`, with all that is missing, before anything is made.

    With `build` the node image, with which a guest is tried, is made where there is none yet; without it only the signs of
    KVM are checked. Raises NodeError as `parts.from_set_up`.
    """
    missing = [*filter(None, [without_kvm(build)]), *filter(None, map(unreached, addresses))]
    if missing:
        raise NodeError(
            "genuine-impossible",
            f"Stack {stack} runs the real Kata on a virtual machine on this computer, which needs KVM and internet access, and "
            f"{'; '.join(missing)}",
        )


def without_kvm(build: bool) -> str | None:
    """Why no node with KVM can run here; None where one can, or where only the node image could show it."""
    if not accelerator.DEVICE.exists():
        return f"this machine has no {accelerator.DEVICE}"
    if not os.access(accelerator.DEVICE, os.R_OK | os.W_OK):
        return f"this user may not open {accelerator.DEVICE} (usermod --append --groups kvm USER allows it)"
    if build:
        parts.from_set_up()
    image = parts.newest_image()
    if image is None:
        return None
    chosen = accelerator.choose(image / "kernel", image / "initrd.img", image / "accelerator.json")
    return None if chosen == "kvm" else f"no guest boots with {accelerator.DEVICE} on this machine"


def unreached(address: str) -> str | None:
    """Why `address` does not answer; None where it does. Without a proxy, since the node uses none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        # GET, of which nothing is read: addresses that are signed for it refuse HEAD.
        with opener.open(address, timeout=REACH_SECONDS):
            return None
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        return f"{address} cannot be reached from this machine ({why})"
