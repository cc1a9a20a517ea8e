"""The verb `kata`: install or find Kata, and have kernel parameters in the configuration that is really read."""

import re
from pathlib import Path
from typing import Any

from nodekit.errors import NodeError
from nodekit.host import files, kata, kata_archive
from nodekit.host.files import Transaction
from nodekit.host.lock import node_lock
from nodekit.progress import say, step
from nodekit.rules import kata_config, kata_layout, kernel_params
from nodekit.rules.desired import REQUIRED, take

JOURNAL = "kata"
RECORD = "parameters:"
"""Prefix of the journal's records: file written -> the parameters before ours, and ours."""
LOCK_TIMEOUT = 300.0
SHIM_LINK = f"/usr/local/bin/{kata_layout.SHIM}"
SPEC = {
    "node": (str, REQUIRED),
    "hypervisor": (str, REQUIRED),
    "runtime": (str, REQUIRED),
    "version": (str, REQUIRED),
    "install": (dict | None, None),
    "kernelParams": (list[str], REQUIRED),
    "configPath": (str | None, None),
}


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Bring Kata to the desired state and tell what is read and in effect; see `node_state.kata` for the state.

    Raises NodeError; then the configuration is as it was.
    """
    wanted = take(desired, SPEC)
    kernel_params.check(wanted["kernelParams"])
    archive = _archive(wanted["install"])
    changed = False
    with node_lock(root, LOCK_TIMEOUT):
        if archive:
            changed = _install(root, *archive)
        with Transaction(root, JOURNAL) as transaction:
            changed |= _link_shim(root, transaction, wanted["runtime"])
            found = _effective(root, wanted)
            _same_version(wanted, found)
            written, base, edited = _merge(root, transaction, wanted, found)
            now = _effective(root, wanted)
            merged = kernel_params.merge(base, wanted["kernelParams"])
            if now.kernel_params != merged:
                raise NodeError(
                    "kata-parameters-lost",
                    f"{wanted['node']}: {written} was written, but the guest would get {now.kernel_params!r}, not {merged!r}",
                    "Look at the drop-ins beside that file: one of them counts more",
                )
    inert = [{"parameter": one, "reason": why} for one in wanted["kernelParams"] if (why := kernel_params.inert(one))]
    notes = [text for one in wanted["kernelParams"] if (text := kernel_params.note(one))]
    for line in notes:
        say(f"note: {line}")
    return {
        "node": wanted["node"],
        "changed": changed or edited,
        "configFile": now.config_file,
        "written": written,
        "kernelParams": now.kernel_params,
        "base": base,
        "inert": inert,
        "version": now.version,
        "shim": now.shim,
        "notes": notes,
    }


def _archive(given: dict[str, Any] | None) -> tuple[str, str] | None:
    """Address and sha256 of the archive to install; raises NodeError `bad-input`."""
    if given is None:
        return None
    values = take(given, {"address": (str, REQUIRED), "sha256": (str, REQUIRED)}, "install")
    if not re.fullmatch(r"https?://\S+", values["address"]):
        raise NodeError("bad-input", f"install.address is {values['address']!r}", "Give an http or https address")
    if not re.fullmatch(r"[0-9a-f]{64}", values["sha256"]):
        raise NodeError("bad-input", f"install.sha256 is {values['sha256']!r}", "Give 64 hexadecimal digits in lower case")
    return values["address"], values["sha256"]


def _install(root: Path, address: str, sha256: str) -> bool:
    if kata_archive.installed(root) not in (None, sha256):
        # What we changed in the release before goes with it, and so must its journal.
        files.restore(root, JOURNAL)
    return kata_archive.install(root, address, sha256)


def _link_shim(root: Path, transaction: Transaction, runtime: str) -> bool:
    """Have containerd find the shim of the release that this program installed, in its PATH."""
    release = kata_layout.release_shim(runtime)
    if kata_archive.installed(root) is None or not (root / release.lstrip("/")).is_file():
        return False
    return transaction.symlink(SHIM_LINK, release)


def _effective(root: Path, wanted: dict[str, Any]) -> kata.Effective:
    return kata.effective(root, runtime=wanted["runtime"], hypervisor=wanted["hypervisor"], config_path=wanted["configPath"])


def _same_version(wanted: dict[str, Any], found: kata.Effective) -> None:
    """The compatibility with Docker was judged by the version that was given, so it must be the real one."""
    if found.version is not None and found.version != wanted["version"]:
        raise NodeError(
            "kata-version-differs",
            f"{wanted['node']}: Kata {found.version} is installed, and kata.version says {wanted['version']}",
            f"Set kata.version to {found.version}, or install {wanted['version']} with kata.install",
        )


def _merge(root: Path, transaction: Transaction, wanted: dict[str, Any], found: kata.Effective) -> tuple[str, str, bool]:
    """Write the merged parameters: the file written, the parameters without ours, and whether anything changed."""
    text = kata_config.decode(files.read_bytes(root, found.resolved_file) or b"", found.resolved_file)
    name, given = wanted["hypervisor"], wanted["kernelParams"]
    setting = tuple(
        path for path, content in kata.drop_ins(root, found.resolved_file, runtime=wanted["runtime"])
        if kata_config.sets_parameters(content, name, path)
    )  # fmt: skip
    target = kata_layout.written_file(found.resolved_file, text, found.version, setting)
    key = f"{RECORD}{target}"
    record = files.recorded(root, JOURNAL).get(key)
    first, ours = found.kernel_params, []
    if isinstance(record, dict):
        first, ours = str(record["base"]), [str(one) for one in record["ours"]]
    base = kernel_params.unmerge(found.kernel_params, first, ours)
    kernel_params.check(given, base)
    value = kernel_params.merge(base, given)
    if value == found.kernel_params and ours == given:
        return target, base, False
    # Old and new ones until the file is written, so that a kill in between forgets neither.
    _remember(transaction, key, base, [*ours, *(one for one in given if one not in ours)])
    with step(f"Writing kernel_params of [hypervisor.{name}] to {target}"):
        content = kata_config.drop_in(name, value) if target != found.resolved_file else kata_config.with_parameters(
            text, name, value, target
        )  # fmt: skip
        edited = transaction.write(target, content.encode())
    _remember(transaction, key, base, list(given))
    return target, base, edited


def _remember(transaction: Transaction, key: str, base: str, ours: list[str]) -> None:
    transaction.forget(key)
    transaction.record(key, {"base": base, "ours": ours})
