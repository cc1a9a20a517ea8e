"""The question `daemon-json`: the daemon.json that the verb `docker` would write in a file's place, or why it refuses to."""

import argparse
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host import docker, files, units
from nodekit.rules.docker import daemon_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and the settings that go into it."""
    parser.add_argument("file", metavar="FILE", help="a daemon.json; one that does not exist counts as empty")
    parser.add_argument("--runtime", metavar="NAME", default="kata", help="the runtime's name (default: kata)")
    parser.add_argument("--config-path", metavar="PATH", help="the ConfigPath that the runtime gets (default: left as it is)")


def run(root: Path, *, file: str, runtime: str, config_path: str | None) -> dict[str, object]:
    """The merged text as `content`, and whether it differs as `changed`. Nothing is written.

    Where a dockerd is installed, it is asked whether it would start with the new text, as on a node; for the node's own file,
    with the options of its unit. A relative path is taken from the current folder. Raises NodeError `bad-input`,
    `file-unreadable` or `file-invalid`.
    """
    daemon_json.check(runtime, config_path)
    path = str(Path(file).absolute()) if root == Path("/") else file
    original = files.read_bytes(root, files.resolve(root, path))
    text = None if original is None else daemon_json.decode(original, path)
    try:
        content = daemon_json.merge(text, runtime, config_path)
        if content != text:
            _refuse_invalid(content, _options(root, path))
    except NodeError as error:
        message, remedy = (words.replace(daemon_json.PATH, path) for words in (error.message, error.remedy))
        raise NodeError(error.code, message, remedy=remedy) from None
    return {"file": path, "runtime": runtime, "changed": content != text, "content": content}


def _options(root: Path, path: str) -> list[str]:
    """What docker.service starts dockerd with beside the file; nothing for a file that this dockerd does not read."""
    if files.resolve(root, path) != files.resolve(root, daemon_json.PATH):
        return []
    return daemon_json.options(units.command(root, docker.SERVICE_UNIT, keeps_unknown=True))


def _refuse_invalid(content: str, options: list[str]) -> None:
    try:
        docker.refuse_invalid(content, options)
    except NodeError as error:
        if error.code != "tool-missing":
            raise


def text(document: dict[str, object]) -> str:
    """The whole new file, byte for byte."""
    return str(document["content"])
