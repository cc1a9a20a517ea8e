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
            changed = _install(root, wanted, *archive)
        with Transaction(root, JOURNAL) as transaction:
            changed |= _link_shim(root, transaction, wanted["runtime"])
            found = _effective(root, wanted)
            _same_version(wanted, found.version)
            target, base, edited = _merge(root, transaction, wanted, found)
            now = _effective(root, wanted)
            merged = kernel_params.merge(base, wanted["kernelParams"])
            if now.kernel_params != merged:
                raise NodeError(
                    "kata-parameters-lost",
                    f"{wanted['node']}: {target} was written, but the guest would get {now.kernel_params!r}, not {merged!r}",
                    "Look at the drop-ins beside that file: one of them counts more",
                )
            if target == now.resolved_file:
                _remember(transaction, target, base, wanted["kernelParams"])
    inert = [{"parameter": one, "reason": why} for one in wanted["kernelParams"] if (why := kernel_params.inert(one))]
    notes = [text for one in wanted["kernelParams"] if (text := kernel_params.note(one))]
    for line in notes:
        say(f"note: {line}")
    return {
        "node": wanted["node"],
        "changed": changed or edited,
        "configFile": now.config_file,
        "written": target,
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


def _install(root: Path, wanted: dict[str, Any], address: str, sha256: str) -> bool:
    def before_the_swap(unpacked: Path) -> None:
        """`unpacked` is a root folder that holds the new /opt/kata only."""
        _same_version(wanted, kata.version(unpacked))
        if wanted["configPath"] is None or wanted["configPath"].startswith(f"{kata_layout.INSTALL_FOLDER}/"):
            _effective(unpacked, wanted)
        if kata_archive.installed(root) is not None:
            # What we changed in the release before goes with it, and so must its journal.
            files.restore(root, JOURNAL)

    return kata_archive.install(root, address, sha256, before_the_swap)


def _link_shim(root: Path, transaction: Transaction, runtime: str) -> bool:
    """Have containerd find the shim of the release that this program installed, in its PATH."""
    release = kata_layout.release_shim(runtime)
    if kata_archive.installed(root) is None or not (root / release.lstrip("/")).is_file():
        return False
    return transaction.symlink(SHIM_LINK, release)


def _effective(root: Path, wanted: dict[str, Any]) -> kata.Effective:
    return kata.effective(root, runtime=wanted["runtime"], hypervisor=wanted["hypervisor"], config_path=wanted["configPath"])


def _same_version(wanted: dict[str, Any], found: str | None) -> None:
    """The compatibility with Docker was judged by the version that was given, so it must be the real one."""
    if found is not None and found != wanted["version"]:
        raise NodeError(
            "kata-version-differs",
            f"{wanted['node']}: this is Kata {found}, and kata.version says {wanted['version']}",
            f"Set kata.version to {found}, or have kata.install name an archive of {wanted['version']}",
        )


def _merge(root: Path, transaction: Transaction, wanted: dict[str, Any], found: kata.Effective) -> tuple[str, str, bool]:
    """Write the merged parameters: the file they belong in, the parameters without ours, and whether anything changed."""
    name, given, base_path = wanted["hypervisor"], wanted["kernelParams"], found.resolved_file
    text = kata_config.decode(files.read_bytes(root, base_path) or b"", base_path)
    entries = kata.drop_ins(root, base_path, runtime=wanted["runtime"])
    setting = tuple(path for path, content in entries if kata_config.sets_parameters(content, name, path))
    target = kata_layout.written_file(base_path, text, found.version, setting)
    if target == base_path:
        base, known = _base_of_edited(root, target, found.kernel_params)
    else:  # our drop-in is wholly ours, so the base is what is in effect without it
        base, known = kata_config.parameters([(base_path, text), *(one for one in entries if one[0] != target)], name), []
    kernel_params.check(given, base)
    value = kernel_params.merge(base, given)
    if value == found.kernel_params and (target != base_path or known == given):
        return target, base, False
    if target == base_path:
        # Old and new ones until the result is verified, so that neither a kill nor a roll-back forgets any.
        _remember(transaction, target, base, [*known, *(one for one in given if one not in known)])
        content = kata_config.with_parameters(text, name, value, target)
    else:
        content = kata_config.drop_in(name, value)
    with step(f"Writing kernel_params of [hypervisor.{name}] to {target}"):
        return target, base, transaction.write(target, content.encode())


def _base_of_edited(root: Path, target: str, now: str) -> tuple[str, list[str]]:
    """The parameters of a file that we edit without ours, and ours: from the journal's record of the last time."""
    record = files.recorded(root, JOURNAL).get(f"{RECORD}{target}")
    if not isinstance(record, dict):
        return now, []
    base, ours = str(record["base"]), [str(one) for one in record["ours"]]
    if now == kernel_params.merge(base, ours):
        return base, ours
    return kernel_params.unmerge(now, base, ours), ours


def _remember(transaction: Transaction, target: str, base: str, ours: list[str]) -> None:
    key = f"{RECORD}{target}"
    transaction.forget(key)
    transaction.record(key, {"base": base, "ours": ours})
