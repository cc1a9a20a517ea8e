"""The report of a pod where pods run: in real guests and in real containers, under every shell, by one verdict.

What would be lost if these failed: a script that passes its tests on this machine's own kernel and says something else in a
guest, or under the shell of another image.
"""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from clusterkit import pod, pod_verdict
from nodekit.host import initramfs
from nodekit.host.guest import Plan, boot, new_nonce
from nodekit.host.initramfs import cpio, folder, link, program
from nodekit.rules.kata.kernel_params import LIMIT
from nodekit.rules.proof.ladder import judge
from nodekit.scripts import ladder_script, script
from tests.nodekit import debian_node
from tests.nodekit.debian_node import DebianNode
from tests.nodekit.kernel import find_kernel

NODE_ID = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
SHELLS = ("busybox", "dash", "bash")
APPLETS = ("cat", "id", "ip", "mkdir", "mount", "sh", "timeout", "true", "unshare")
CLIMB = """#!/bin/sh
# Climbs the ladder under each shell, as an argument; prints its lines and, by another nonce, its message as the kubelet has it.
echo # what the console said before may lack its end of line
for shell in busybox dash bash; do
    PATH=/shells/$shell:/usr/bin:/bin
    export PATH KATA_NODES_NONCE=lines-$shell KATA_NODES_KEYS= KATA_NODES_MESSAGE=/tmp/message
    sh -c "$(cat /pod/ladder.sh)" </dev/null
    while read -r _ line; do echo "message-$shell $line"; done </tmp/message
done
"""


def files() -> dict[str, bytes]:
    """The ladder, what climbs it, its tools, and shells in folders of their own, so that each can be `sh`: place -> content."""
    contents = {"pod/ladder.sh": ladder_script().encode(), "climb": CLIMB.encode()}
    for name in ("dash", "bash", "bwrap", "setpriv"):
        contents |= {place.lstrip("/"): file.read_bytes() for place, file in initramfs.closure(name).items()}
    return contents


def shells() -> dict[str, str]:
    """Links: for each shell a folder in which it is `sh`."""
    return {"shells/busybox/sh": "/bin/busybox", **{f"shells/{name}/sh": f"/usr/bin/{name}" for name in ("dash", "bash")}}


def agreed(console: str, boot_id: str = NODE_ID) -> str:
    """The one verdict on the lines and on the message of all shells: its code, or `passed`."""
    judged = {
        f"{kind}-{shell}": judge(console, f"{kind}-{shell}", boot_id, [], sandbox="bubblewrap", place="pod")
        for kind in ("lines", "message")
        for shell in SHELLS
    }
    codes = {verdict.code or "passed" for verdict in judged.values()}
    assert len(codes) == 1, ({name: verdict.message for name, verdict in judged.items()}, console[-3000:])
    for shell in SHELLS:
        message = "".join(line for line in console.splitlines(keepends=True) if line.startswith(f"message-{shell} "))
        assert 0 < len(message.encode()) < pod_verdict.MAX_MESSAGE
    return codes.pop()


# In guests.

MASKS = {
    "default": "",
    "absent": "mount -t tmpfs none /proc/sys/user",
    "emptied": "mount --bind /dev/null /proc/sys/user/max_user_namespaces",
}
"""What lies over the limit's file; a runtime masks a folder by a tmpfs and a file by /dev/null (runc, maskPath)."""


def extra(mask: str, nonce: str) -> bytes:
    """A second RAM disk over the proof's own: its ladder is ours, and the root that it moves to has what pods have."""
    root = initramfs.GUEST_ROOT
    first = f"#!/bin/sh\n{MASKS[mask]}\nsh /climb\necho '{nonce} end'\n"
    members = [program(f"{root}/ladder.sh", first.encode())]
    folders: set[str] = set()
    contents: Mapping[str, bytes | str] = {**files(), **shells()}
    for place, content in contents.items():
        for parent in reversed(Path(place).parents[:-1]):
            if (at := f"{root}/{parent}") not in folders:
                folders.add(at)
                members.append(folder(at))
        members.append(link(f"{root}/{place}", content) if isinstance(content, str) else program(f"{root}/{place}", content))
    return cpio(members)


@pytest.mark.guest
@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86_64")
@pytest.mark.parametrize(
    ("mask", "parameters", "verdict"),
    [
        ("default", "", "passed"),
        ("default", f"{LIMIT}=0", "proof-user-namespaces-zero"),
        ("absent", "", "proof-user-namespaces-absent"),
        ("emptied", "", "proof-user-namespaces-not-a-number"),
    ],
)
def test_every_shell_reports_the_same_in_a_guest(mask: str, parameters: str, verdict: str) -> None:
    nonce = new_nonce()
    append = f"{parameters} console=ttyS0 quiet panic=1 reboot=k rdinit=/kata-nodes/init".strip()
    disks = (initramfs.build(nonce), extra(mask, nonce))
    plan = Plan("qemu-system-x86_64", str(find_kernel()), disks, None, append, 512, 1, f"{nonce} end")
    guest = boot(plan, accel="tcg", timeout=120)
    assert guest.reached, guest.console[-800:] + guest.qemu_stderr
    assert agreed(guest.console) == verdict


# In containers of runc: no guest, which a boot id of another machine hides from the judge, so that the rungs are judged.


def image() -> bytes:
    """A container image with the three shells, as `docker import` takes it."""
    links = shells() | {f"bin/{name}": "busybox" for name in APPLETS}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for place, content in {**files(), "bin/busybox": initramfs.static_busybox()}.items():
            entry = tarfile.TarInfo(place)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for place, target in links.items():
            entry = tarfile.TarInfo(place)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return buffer.getvalue()


def climbed(node: DebianNode, *options: str, entered: bool = False) -> str:
    """What the shells print in a container with these options of `docker run`, started through the template's entry or not."""
    entry = ["/bin/sh", "-c", script("entry.sh"), pod.ENTRY_NAME] if entered else []
    argv = ["docker", "run", "--rm", "--network=none", "--tmpfs=/tmp", *options, "shells", *entry, "/bin/sh", "/climb"]
    result = node.run(*argv)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.debian
def test_every_shell_reports_the_same_in_containers_with_and_without_capabilities_and_entry() -> None:
    with debian_node.booted(debian_node.image(), debian_node.program()) as node:
        subprocess.run(node.command("docker", "import", "-", "shells"), input=image(), check=True, capture_output=True)
        assert agreed(climbed(node)) == "proof-unshare-failed"
        # Docker's own profile refuses pivot_root; Kata's agent applies none.
        both = ("--cap-add=NET_ADMIN", "--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined")
        # In this node a user namespace may mount proc although Docker masks paths below it; test_entry.py has where it may not.
        assert agreed(climbed(node, *both)) == "passed"
        transcript = climbed(node, *both, entered=True)
        assert agreed(transcript) == "passed"
        assert agreed(transcript, node.ask("cat", "/proc/sys/kernel/random/boot_id").strip()) == "proof-not-a-guest"
