"""Climb the ladder in one container of a Docker runtime, and leave no container and no image behind."""

import io
import os
import signal
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from nodekit.errors import NodeError
from nodekit.host.files import TEMPORARY, writing
from nodekit.host.initramfs import FOLDER, PASSWD, tool_files
from nodekit.host.node import emulated
from nodekit.host.process import Finished, clean_up, run
from nodekit.host.reading import MAX_SYSTEM, read
from nodekit.progress import say
from nodekit.rules.kata.sandbox_processes import is_shim_of
from nodekit.rules.proof.ladder import VARIABLES
from nodekit.scripts import ladder_script, script

NAMES = ("deb.debian.org", "archive.ubuntu.com", "registry-1.docker.io")
"""Names for the container to resolve: the first that the node itself resolves."""
DOCKER = ("docker", "--context", "default")
IMAGE = "kata-nodes-proof"
"""Repository of the images that the program makes; a run's nonce is the tag."""
LABEL = "kata-nodes.proof"
"""Label of those images, by which a later run finds those that a killed run left behind."""
SLOW_SECONDS = 60
"""Bound on each command of the ladder where the node is emulated; a genuine Kata there needed more than 20 for some."""
REMOVAL_SECONDS = 60
"""Bound on the removal of a container; a genuine Kata takes seconds."""
PROCESSES = Path("/proc")
IMAGE_SECONDS = 120
"""Bound on making an image of some MB from a file of this node."""


def environment() -> Mapping[str, str]:
    """Ours without Docker's own: the node's daemon is meant, whatever a root user's environment or context says."""
    return {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}


def name_to_resolve() -> str | None:
    """A name that this node resolves by DNS, so that a container ought to."""
    try:
        for name in NAMES:
            if run(["getent", "-s", "dns", "hosts", name], timeout=5, check=False).code == 0:
                return name
    except NodeError:
        pass  # a resolver that does not answer in time answers for no other name either
    return None


def root_file_system(sandbox: str | None) -> bytes:
    """A tar archive of what a proof's container needs: the node's static busybox, and the tools for a promise of `sandbox`.

    Raises NodeError `tool-missing` without a static busybox.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        folders = {"dev", "etc", "proc", "sys", "tmp", "root"}
        files = tool_files(sandbox)
        folders |= {parent for path in files for parent in _parents(path)}
        for folder in sorted(folders):
            _add(tar, folder, tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755)
        for path, content in sorted(files.items()):
            if isinstance(content, str):
                _add(tar, path, tarfile.SYMTYPE, 0o777, target=content)
            else:
                _add(tar, path, tarfile.REGTYPE, 0o755, content)
        _add(tar, "etc/passwd", tarfile.REGTYPE, 0o644, PASSWD.encode())
        _add(tar, "etc/group", tarfile.REGTYPE, 0o644, b"root:x:0:\nuser:x:1000:\n")
    return archive.getvalue()


def _parents(path: str) -> list[str]:
    """The folders above a path, `usr/bin/bwrap` -> `usr`, `usr/bin`."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _add(tar: tarfile.TarFile, path: str, kind: bytes, mode: int, content: bytes = b"", target: str = "") -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), target
    tar.addfile(entry, io.BytesIO(content))


def _archive(content: bytes) -> IO[bytes]:
    """A file that holds `content` and goes when it is closed."""
    with writing(TEMPORARY), ExitStack() as opened_here:
        file = opened_here.enter_context(tempfile.NamedTemporaryFile(dir=TEMPORARY, prefix=f"{FOLDER}-", suffix=".tar"))
        file.write(content)
        file.flush()
        opened_here.pop_all()
    return file


def kata_log(since: float) -> str:
    """The errors that Kata's shim has logged since that time, in seconds of the epoch; empty where the node keeps no journal.

    Both shims write to the journal as `kata` (Go, `containerd-shim-v2/service.go`; Rust, `crates/shim/src/logger.rs`).
    """
    errors = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--identifier=kata", "--priority=err", "--lines=50"]
    try:
        return run([*errors, f"--since=@{int(since)}"], timeout=20, check=False).stdout
    except NodeError:
        return ""


@contextmanager
def own_image(nonce: str, sandbox: str | None) -> Iterator[str]:
    """The name of an image that Docker makes from this node's own files, without a registry; it is gone afterwards.

    Raises NodeError `tool-missing`, `command-failed`, `command-timeout` or `file-unwritable`.
    """
    env, name = environment(), f"{IMAGE}:{nonce[:12]}"
    # What a run that was killed left behind; of the last hour may be another run's.
    prune = [*DOCKER, "image", "prune", "--all", "--force", "--filter", f"label={LABEL}", "--filter", "until=1h"]
    clean_up(prune, timeout=IMAGE_SECONDS, env=env)
    with _archive(root_file_system(sandbox)) as file:
        change = ["--change", f"LABEL {LABEL}=1"]
        run([*DOCKER, "import", *change, file.name, name], timeout=IMAGE_SECONDS, env=env, status="docker info")
    try:
        yield name
    finally:
        clean_up([*DOCKER, "image", "rm", "--force", name], timeout=60, env=env)


def climb(nonce: str, runtime: str, image: str, *, network: bool, capabilities: Sequence[str], seconds: float) -> Finished:
    """How `docker run` of the ladder ended; its lines start with `nonce`.

    With capabilities the container starts through entry.sh, as everything that the settings for consumers start. Standard input
    is not used: a genuine Kata (Go shim) ends a container's output with it (kata-containers 13640).
    Raises NodeError `command-timeout` after `seconds`, and `tool-missing` without Docker.
    """
    name, env = f"kata-nodes-proof-{nonce[:12]}", environment()
    command = [*DOCKER, "run", "--rm", "--name", name, "--runtime", runtime]
    command += ["--network", "bridge" if network else "none", "--entrypoint", "/bin/sh"]
    variables = {**dict.fromkeys(VARIABLES, ""), "KATA_NODES_NONCE": nonce}
    if network:
        variables |= {"KATA_NODES_NETWORK": "1", "KATA_NODES_NAME": name_to_resolve() or ""}
    if emulated():
        variables["KATA_NODES_SECONDS"] = str(SLOW_SECONDS)
    for variable, value in variables.items():
        command += ["-e", f"{variable}={value}"]
    for capability in capabilities:
        command += ["--cap-add", capability]
    entry = [script("entry.sh"), "kata-nodes-entry", "/bin/sh", "-c"] if capabilities else []
    try:
        return run([*command, image, "-c", *entry, ladder_script()], timeout=seconds, env=env, check=False)
    finally:
        remove(name)


def remove(name: str) -> None:
    """Remove a container with its sandbox. Where that fails it is said, and hides no error that was there first.

    Kata's Go shim of 3.32.0 waits without end where QEMU has ended before the guest ran, and `docker rm` with it; containerd
    takes the container away once that shim is gone (measured).
    """
    env = environment()
    argv = [*DOCKER, "rm", "--force", "--volumes", name]
    try:
        run(argv, timeout=REMOVAL_SECONDS, env=env, check=False)
    except NodeError as error:
        if error.code == "command-timeout" and _end_shim(name, env):
            clean_up(argv, timeout=REMOVAL_SECONDS, env=env)
        else:
            say(f"something may be left behind: {error.message}")


def _end_shim(name: str, env: Mapping[str, str]) -> bool:
    """Kill the shim of a container that Docker cannot remove; whether there was one."""
    listing = [*DOCKER, "ps", "--all", "--no-trunc", "--quiet", "--filter", f"name=^/{name}$"]
    try:
        container = run(listing, timeout=20, env=env, check=False).stdout.strip()
    except NodeError:
        return False
    ended = False
    for place in PROCESSES.iterdir() if container else ():
        with suppress(OSError):  # it has ended since
            if place.name.isdigit() and is_shim_of(read(place / "cmdline", MAX_SYSTEM), container):
                os.kill(int(place.name), signal.SIGKILL)
                ended = True
    return ended
