"""Stand-ins for QEMU, so that a machine's life can be tested without its minutes."""

import os
import sys
from pathlib import Path

import pytest

# Greets as an SSH server on the forwarded port, or does what FAKE_QEMU asks for instead.
QEMU = """#!{python}
import os, socket, sys, time
how = os.environ.get("FAKE_QEMU", "")
if "kvm" in sys.argv:
    if how == "kvm-works":
        print("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000")
    elif how == "kvm-hangs":
        time.sleep(300)
    sys.exit(134)
if how == "dies":
    sys.exit("cannot set up guest memory")
forward = next(part for part in sys.argv if "hostfwd" in part)
console = next(part for part in sys.argv if part.startswith("file:"))[5:]
with open(console, "w") as file:
    file.write("reached nothing")
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(forward.split(":")[2].split("-")[0])))
listener.listen()
while True:
    connection, _ = listener.accept()
    if how == "mute":
        time.sleep(0.2)
    else:
        connection.sendall(b"SSH-2.0-stand-in\\r\\n")
    connection.close()
"""
IMAGE_TOOL = """#!/bin/sh
for last; do :; done
: >"$last"
"""


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts stand-ins for QEMU and qemu-img first on PATH; returns the folder with a kernel, initrd and disk."""
    folder = tmp_path / "image"
    folder.mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("qemu-system-x86_64", QEMU.format(python=sys.executable)), ("qemu-img", IMAGE_TOOL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for name in ("disk.raw", "kernel", "initrd.img"):
        (folder / name).touch()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder
