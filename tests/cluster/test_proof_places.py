"""The pod's proof where pods run: in real guests and in real containers, under every shell, by one verdict.

What would be lost if these failed: a script that passes its tests on this machine's own kernel and says something else in a
guest, or under the shell of another image.
"""

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pytest

from nodekit.host import initramfs
from nodekit.host.guest import Plan, boot, new_nonce
from nodekit.host.initramfs import cpio, folder, link, program
from nodekit.rules import pod_proof
from nodekit.rules.kernel_params import LIMIT
from nodekit.rules.ladder import judge
from tests.nodekit import debian_node
from tests.nodekit.debian_node import DebianNode
from tests.nodekit.kernel import find_kernel

NODE_ID = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
SHELLS = ("busybox", "dash", "bash")
APPLETS = ("cat", "id", "ip", "mkdir", "mount", "sh", "timeout", "true", "unshare")
CLIMB = """#!/bin/sh
# Climbs the ladder under each shell, as the pod's proof and, for the Python judge, bare. First word: the marker of its lines.
marker=$1
echo # what the console said before may lack its end of line
for shell in busybox dash bash; do
    PATH=/shells/$shell:/usr/bin:/bin
    export PATH KATA_NODES_NODE=node-7 KATA_NODES_NESTED=1 KATA_NODES_EXPECT= KATA_NODES_MESSAGE=/tmp/message
    said=$(sh /pod/pod_proof.sh)
    echo "$marker $shell $? $said"
    KATA_NODES_NONCE=bare-$shell sh /pod/ladder.sh
done
"""


def files(boot_id: str = NODE_ID) -> dict[str, bytes]:
    """What a pod of the proof finds, and shells in folders of their own, so that each can be `sh`: place -> content."""
    found = {f"pod/{name}": resources.files("nodekit").joinpath(name).read_bytes() for name in ("ladder.sh", "pod_proof.sh")}
    found |= {"pod/verdicts": pod_proof.verdicts().encode(), "pod/node-boot-id": boot_id.encode(), "climb": CLIMB.encode()}
    for name in ("dash", "bash"):
        found |= {place.lstrip("/"): file.read_bytes() for place, file in initramfs.closure(name).items()}
    return found


def shells(busybox: str) -> dict[str, str]:
    """Links: for each shell a folder in which it is `sh`."""
    return {"shells/busybox/sh": busybox, **{f"shells/{name}/sh": f"/usr/bin/{name}" for name in ("dash", "bash")}}


def agreed(said: str, marker: str, boot_id: str = NODE_ID) -> str:
    """The one verdict of all shells and of the Python judge: its code, or `passed`."""
    found = dict(re.findall(rf"^{marker} (\w+) (\d+ .*?)\r?$", said, re.MULTILINE))
    assert sorted(found) == sorted(SHELLS), said[-3000:]
    codes = set()
    for shell, told in found.items():
        status, _, sentence = told.partition(" ")
        judged = judge(said, f"bare-{shell}", boot_id, [])
        match = re.search(r"\[([a-z-]+)\]$", sentence)
        code = "passed" if status == "0" else match[1] if match else sentence
        assert code == (judged.code or "passed"), (shell, sentence, judged)
        if status != "0" and "transcript" not in code:
            assert sentence == f"node-7: {judged.message}. {judged.remedy}. [{judged.code}]"
        codes.add(code)
    assert len(codes) == 1, found
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
    root = "kata-nodes/node"
    first = f"#!/bin/sh\n{MASKS[mask]}\nsh /climb verdict\necho '{nonce} end'\n"
    made = [program("kata-nodes/ladder.sh", first.encode())]
    folders: set[str] = set()
    contents: Mapping[str, bytes | str] = {**files(), **shells("/kata-nodes/busybox")}
    for place, content in contents.items():
        for parent in reversed(Path(place).parents[:-1]):
            if (at := f"{root}/{parent}") not in folders:
                folders.add(at)
                made.append(folder(at))
        made.append(link(f"{root}/{place}", content) if isinstance(content, str) else program(f"{root}/{place}", content))
    return cpio(made)


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
def test_every_shell_says_the_same_in_a_guest(mask: str, parameters: str, verdict: str) -> None:
    nonce = new_nonce()
    append = f"{parameters} console=ttyS0 quiet panic=1 reboot=k rdinit=/kata-nodes/init".strip()
    disks = (initramfs.build(nonce), extra(mask, nonce))
    made = Plan("qemu-system-x86_64", str(find_kernel()), disks, None, append, 512, 1, f"{nonce} end")
    done = boot(made, accel="tcg", timeout=120)
    assert done.reached, done.console[-800:] + done.qemu_stderr
    assert agreed(done.console, "verdict") == verdict


# In containers of runc: no guest, which a boot id of another machine hides from the script, so that the rungs are judged.


def image() -> bytes:
    """A container image with the three shells, as `docker import` takes it."""
    links = shells("/bin/busybox") | {f"bin/{name}": "busybox" for name in APPLETS}
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


def climbed(node: DebianNode, *options: str) -> str:
    """What the shells say in a container with these options of `docker run`."""
    argv = ["docker", "run", "--rm", "--network=none", "--tmpfs=/tmp", *options, "shells", "/bin/sh", "/climb", "verdict"]
    done = node.run(*argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.debian
def test_every_shell_says_the_same_in_containers_with_and_without_capabilities() -> None:
    with debian_node.booted(debian_node.image(), debian_node.program()) as node:
        subprocess.run(node.command("docker", "import", "-", "shells"), input=image(), check=True, capture_output=True)
        assert agreed(climbed(node), "verdict") == "proof-unshare-failed"
        both = ("--cap-add=NET_ADMIN", "--cap-add=SYS_ADMIN")
        assert agreed(climbed(node, *both), "verdict") == "passed"
        own = node.ask("cat", "/proc/sys/kernel/random/boot_id").strip()
        node.run("sh", "-c", "cat > /tmp/boot-id", stdin=own)
        true_id = "--volume=/tmp/boot-id:/pod/node-boot-id:ro"
        assert agreed(climbed(node, *both, true_id), "verdict", own) == "proof-not-a-guest"
