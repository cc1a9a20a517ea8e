"""The question `kernel-params`: merge kernel parameters into one configuration file, and print it or write it."""

import argparse
from pathlib import Path
from typing import Any

from nodekit.errors import NodeError
from nodekit.host import files
from nodekit.rules.kata import kata_config, kata_layout, kernel_params
from nodekit.rules.text import printable


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this question."""
    parser.add_argument("file", metavar="FILE", help="a Kata configuration file or drop-in")
    parser.add_argument(
        "--set", dest="sets", metavar="PARAM", action="append", required=True, help="a parameter to merge by its key; repeatable"
    )
    parser.add_argument("--hypervisor", metavar="NAME", help="the table [hypervisor.NAME] (default: the file's only one)")
    parser.add_argument("--write", action="store_true", help="write the file instead of printing it")


def run(root: Path, *, file: str, sets: list[str], hypervisor: str | None, write: bool) -> dict[str, object]:
    """Merge the parameters into the file's own `kernel_params`, every other byte as it was; written only with `write`.

    In the answer, `content` is the whole new text and `written` says that the file holds it. A relative path is taken from
    the current folder. Raises NodeError `bad-input`, `bad-kernel-parameter`, `kernel-parameters-too-long`,
    `file-unreadable`, `file-invalid` or `file-unwritable`; then the file is as it was.
    """
    path = str(Path(file).absolute()) if root == Path("/") else file
    resolved = files.resolve(root, path)
    original = files.read_bytes(root, resolved)
    if original is None:
        subject = f"{path} is a symbolic link to {resolved}, which" if resolved != path else path
        raise NodeError("file-unreadable", f"{subject} does not exist", expected="a Kata configuration file that exists")
    text = kata_config.decode(original, path)
    name = hypervisor or _only_hypervisor(text, path)
    before = kata_config.parameters([(path, text)], name)
    kernel_params.check(sets, before)
    after = kernel_params.merge(before, sets)
    content = text if after == before else kata_config.with_parameters(text, name, after, path)
    if write and kata_layout.is_managed(resolved, text):
        folder = resolved.rpartition("/")[0]
        own = f"{folder}/{kata_layout.DROP_IN}" if folder.endswith("/config.d") else f"{folder}/config.d/{kata_layout.DROP_IN}"
        raise NodeError(
            "file-invalid",
            f"{resolved} is kata-deploy's own file, which it writes again; nothing was written",
            "chart",
            drop_in=own,
        )
    if write and content != text:
        files.replace(root, resolved, content.encode())
    return {
        "file": path,
        "hypervisor": name,
        "before": before,
        "after": after,
        "changed": content != text,
        "written": write,
        "content": content,
    }


def _only_hypervisor(text: str, path: str) -> str:
    names = kata_config.hypervisors(text, path)
    if len(names) == 1:
        return names[0]
    problem = f"has {len(names)} hypervisor tables: {', '.join(names)}" if names else "has no hypervisor table"
    raise NodeError(
        "bad-input", f"{path} {printable(problem, 300)}", expected="the name of one of the file's tables as --hypervisor"
    )


def text(document: dict[str, Any]) -> str:
    """What to print: without `--write` the new file itself, byte for byte, else one line."""
    if not document["written"]:
        return str(document["content"])
    since = "is now" if document["changed"] else "was already"
    line = f"{document['file']}: kernel_params of [hypervisor.{document['hypervisor']}] {since} {document['after']!r}"
    return f"{printable(line)}\n"
