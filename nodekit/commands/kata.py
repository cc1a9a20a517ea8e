"""The verb `kata`: install or find Kata, and have kernel parameters in the configuration that is really read."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host import cluster_runtime, files, journal, kata, kata_archive, kata_handler, kata_shims
from nodekit.host.journal import Transaction
from nodekit.host.kata_archive import Installed
from nodekit.host.lock import node_lock
from nodekit.progress import say, step
from nodekit.rules.difference import Difference, of_file
from nodekit.rules.kata import containerd_config, kata_config, kata_layout, kata_releases, kernel_params
from nodekit.rules.kata.containerd_config import Handler
from nodekit.rules.kata.kata_releases import Archive
from nodekit.rules.node_state import HandlerState, KataState

JOURNAL = "kata"
RECORD = "parameters:"
"""Prefix of the journal's records: file written -> the parameters before ours, and ours."""
LOCK_TIMEOUT = 300.0
SHOWN = 5
"""Missing files of a release that are named."""
SHIM_LINK = f"/usr/local/bin/{kata_layout.SHIM}"


class Merged(NamedTuple):
    """What the configuration in use should hold."""

    target: kata_layout.Written
    base: str
    """The parameters without ours."""
    known: list[str]
    """Ours of earlier runs, where the file that is read was edited."""
    value: str
    content: bytes | None
    """The whole new text of the target; None when nothing is to change."""
    needless: bool
    """Whether our drop-in is there and adds nothing to what is in effect without it."""


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Bring Kata to the desired state and report what is read and in effect; `desired` is a KataState.

    Raises NodeError; then the configuration is as it was.
    """
    state = KataState.read(desired)
    kernel_params.check(state.kernel_params)
    archive = kata_releases.to_install(state.install, os.uname().machine)
    if state.handler is not None:
        containerd_config.check(state.handler.name, state.handler.pod_annotations)
    with node_lock(root, LOCK_TIMEOUT):
        runtime = cluster_runtime.find(root, state.node, state.handler.runtime) if state.handler is not None else None
        with _installed(root, state, archive) as release, Transaction(root, JOURNAL) as transaction:
            changed = release.changed
            changed |= _link_shim(root, transaction, state.runtime)
            now = _effective(root, state)
            kata_releases.refuse_another_version(state.node, now.version, state.version)
            merged = _merge(root, state, now)
            if merged.needless:
                changed |= transaction.remove(merged.target.file)
                now = _effective(root, state)
            elif merged.content is not None:
                changed |= _write(transaction, state, merged)
                now = _effective(root, state)
            if now.kernel_params != merged.value:
                raise NodeError(
                    "kata-parameters-lost",
                    f"{state.node}: {merged.target.file} was written, but the guest would get {now.kernel_params!r}, "
                    f"not {merged.value!r}",
                )
            if merged.target.strategy == "edit":
                _remember(transaction, merged, state.kernel_params)
            registered = None
            if state.handler is not None and runtime is not None:
                registered = kata_handler.register(root, state.node, runtime, _handler(root, state, state.handler, now))
                changed |= registered.changed
            else:
                changed |= bool(kata_handler.withdraw(root))
        keep = (files.resolve(root, merged.target.file), files.resolve(root, SHIM_LINK, last=False))
        changed |= bool(journal.give_back(root, JOURNAL, keep, RECORD))
    inert = [
        {"parameter": parameter, "reason": why} for parameter in state.kernel_params if (why := kernel_params.inert(parameter))
    ]
    notes = [text for parameter in state.kernel_params if (text := kernel_params.note(parameter))]
    if merged.target.file in now.drop_ins:
        notes += [
            f"{merged.target.file} is read for {launcher.name} too: its guests get these parameters in place of those of {file}"
            for launcher, file, _ in kata.sharing(root, now.resolved_file)
        ]
    for path, place in release.kept.items():
        where = "it is in the new release too" if place == path else f"the new release has its own, and this one is now {place}"
        notes.append(f"{path} was edited or added by somebody: {where}")
    for line in notes:
        say(f"note: {line}")
    return {
        "node": state.node,
        "changed": changed,
        "configFile": now.config_file,
        "written": merged.target.file,
        "strategy": merged.target.strategy,
        "kernelParams": now.kernel_params,
        "base": merged.base,
        "inert": inert,
        "version": now.version,
        "shim": now.shim,
        "notes": notes,
        "handler": None if registered is None else registered._asdict(),
    }


def differences(state: KataState, root: Path) -> Iterator[Difference]:
    """What `run` would change; changes nothing. Raises NodeError as `run` does before it changes anything."""
    archive = kata_releases.to_install(state.install, os.uname().machine)
    is_other = archive is not None and (installed := kata_archive.installed(root)) != archive.sha256
    lacking = kata_archive.missing(root) if archive and not is_other else []
    if archive and is_other:
        kata_archive.refuse_foreign(root)
        kata_archive.refuse_immovable(root)
        has = f"the archive with sha256 {installed}" if installed else "no Kata of this program"
        yield Difference("release", f"{kata_layout.INSTALL_FOLDER} holds {has}; the stack wants {archive.sha256}", "kata")
    elif lacking:
        rest = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        message = f"{kata_layout.INSTALL_FOLDER} lacks {', '.join(lacking[:SHOWN])}{rest}"
        yield Difference("release", message, "kata")
    is_coming = is_other or bool(lacking)
    if is_coming and _is_read_of_release(root, state, is_other=is_other):
        return  # what is read, and all that follows from it, comes with the release
    if (shim := _release_shim(root, state.runtime)) is not None:
        link = files.look(root, files.resolve(root, SHIM_LINK, last=False))
        if (link.kind, link.target) != ("symlink", shim):
            yield Difference("file", f"{SHIM_LINK} does not lead to {shim}", "kata", SHIM_LINK)
    now = _effective(root, state)
    if not is_other:
        kata_releases.refuse_another_version(state.node, now.version, state.version)
    merged = _merge(root, state, now)
    if merged.content is not None:
        message = f"Kata gives guests kernel_params {now.kernel_params!r}; the stack wants {merged.value!r}"
        content = files.read_bytes(root, merged.target.file)
        yield of_file("file", message, "kata", merged.target.file, merged.content, content)
    if state.handler is not None and not (is_coming and now.shim is None):
        runtime = cluster_runtime.find(root, state.node, state.handler.runtime)
        lost = kata_handler.unregistered(root, state.node, runtime, _handler(root, state, state.handler, now))
        if lost is not None:
            message = f"{runtime.place.name} does not know the handler {state.handler.name} as the stack wants it"
            yield of_file("handler", message, "kata", *lost)


def _is_read_of_release(root: Path, state: KataState, *, is_other: bool) -> bool:
    """Whether the file that is read will be one of the release to come: of one that `is_other`, or a missing one of ours."""
    if not kata.is_of_release(
        root, runtime=state.runtime, hypervisor=state.hypervisor, config_path=state.config_path, version=state.version
    ):
        return False
    return is_other or _chosen(root, state) is None


def _handler(root: Path, state: KataState, handler: HandlerState, now: kata.Effective) -> Handler:
    """The handler to register in the container runtime: it starts the Kata that is in effect here."""
    if now.shim is None:
        raise NodeError(
            "kata-not-found",
            f"Node {state.node} has no {kata_layout.SHIM}, neither in {', '.join(kata_shims.folders(root))} nor in a release",
            "shim",
        )
    return Handler(
        handler.name,
        now.shim,
        now.config_file,
        tuple(handler.pod_annotations),
        containerd_config.SNAPSHOTTERS.get(state.hypervisor),
    )


@contextmanager
def _installed(root: Path, state: KataState, archive: Archive | None) -> Iterator[Installed]:
    """Have the release of the archive. The one before comes back when the with-block fails."""

    def before_the_swap(unpacked: Path) -> Callable[[], None]:
        """`unpacked` is a root folder that holds the new /opt/kata only."""
        kata_releases.refuse_another_version(state.node, kata.version(unpacked), state.version)
        coming = {}
        if _is_release_read(root, state):
            merged = _merge(unpacked, state, _effective(unpacked, state, settings=root))
            if merged.target.strategy == "drop-in" and merged.content is not None:
                # The new release takes its place with our parameters in it, whatever fails after that; they go with it.
                inside = files.resolve(unpacked, merged.target.file)
                place = files.physical(unpacked, inside)
                place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                place.write_bytes(merged.content)
                coming[kata_archive.place(root, last=False) + inside.removeprefix(kata_layout.INSTALL_FOLDER)] = merged.content
        # Our changes to the old release are removed with it, and so must be the journal's record of them.
        old = kata_archive.place(root)
        gone = [key for key in journal.recorded(root, JOURNAL) if key.startswith(f"{RECORD}{old}/")]
        return journal.disown(root, JOURNAL, old, gone, coming)

    if archive is None:
        yield Installed(False, {})
        return
    link = files.physical(root, files.resolve(root, SHIM_LINK, last=False))
    if not (link.is_symlink() and str(link.readlink()) == kata_layout.release_shim(state.runtime)):
        files.refuse_unwritable(root, SHIM_LINK, last=False)  # before the download
    outlook = journal.outlook(root, JOURNAL)
    with kata_archive.installed_for(
        root, archive.address, archive.sha256, before_the_swap, ours=outlook.restored, edits=[*outlook.kept]
    ) as release:
        yield release


def _is_release_read(root: Path, state: KataState) -> bool:
    """Whether the new release's own file will be read: nothing outside the install folder comes before it."""
    choice = _chosen(root, state)
    return choice is None or choice.resolved.startswith(f"{kata_archive.place(root)}/")


def _chosen(root: Path, state: KataState) -> kata.Choice | None:
    """The base file that a release's shim reads now; None where there is none. Raises as `kata.chosen` else."""
    try:
        return kata.chosen(
            root,
            runtime=state.runtime,
            hypervisor=state.hypervisor,
            config_path=state.config_path,
            version=state.version,
            with_release=True,
        )
    except NodeError as error:
        if error.code != "kata-not-found":
            raise
        return None


def _link_shim(root: Path, transaction: Transaction, runtime: str) -> bool:
    """Have containerd find the shim of the release that this program installed, in its PATH."""
    shim = _release_shim(root, runtime)
    return shim is not None and transaction.symlink(SHIM_LINK, shim)


def _release_shim(root: Path, runtime: str) -> str | None:
    """The shim of the release that this program installed; None where there is none."""
    shim = kata_layout.release_shim(runtime)
    return shim if kata_archive.installed(root) is not None and (root / shim.lstrip("/")).is_file() else None


def _effective(root: Path, state: KataState, settings: Path | None = None) -> kata.Effective:
    return kata.effective(
        root,
        runtime=state.runtime,
        hypervisor=state.hypervisor,
        config_path=state.config_path,
        wanted_version=state.version,
        settings=settings,
    )


def _merge(root: Path, state: KataState, effective: kata.Effective) -> Merged:
    """What to write so that the parameters are in effect; decides only."""
    name, additions, read = state.hypervisor, state.kernel_params, effective.resolved_file
    release = effective.version or state.version
    text = kata_config.decode(files.read_bytes(root, read) or b"", read)
    entries = kata.drop_ins(root, read, runtime=state.runtime, version=release)
    setting = tuple(path for path, content in entries if kata_config.sets_parameters(content, name, path))
    target = kata_layout.written_file(read, text, release, setting)
    base = kata_config.parameters([(read, text), *(entry for entry in entries if entry[0] != target.file)], name)
    known: list[str] = []
    if not any(path != target.file for path in setting):
        base, known = _base_of_edited(root, read, base)
    kernel_params.check(additions, base)
    value = kernel_params.merge(base, additions)
    content: str | None = None
    if value != effective.kernel_params:
        content = kata_config.drop_in(name, value)
        if target.strategy == "edit":
            content = kata_config.with_parameters(text, name, value, target.file)
    ours = any(path == target.file for path, _ in entries)
    needless = target.strategy == "drop-in" and value == base and ours
    if target.strategy == "drop-in" and not needless and (ours or content is not None):
        kata.refuse_other_hypervisors(root, read, name)
    return Merged(target, base, known, value, None if content is None else content.encode(), needless)


def _write(transaction: Transaction, state: KataState, merged: Merged) -> bool:
    """Write what `_merge` decided; true when the file did not hold it."""
    assert merged.content is not None
    if merged.target.strategy == "edit":
        # Old and new ones until the result is verified, so that neither a kill nor a roll-back forgets any.
        additions = state.kernel_params
        _remember(transaction, merged, [*merged.known, *(parameter for parameter in additions if parameter not in merged.known)])
    with step(f"Writing kernel_params of [hypervisor.{state.hypervisor}] to {merged.target.file}"):
        return transaction.write(merged.target.file, merged.content, is_own=merged.target.strategy == "drop-in")


def _base_of_edited(root: Path, path: str, now: str) -> tuple[str, list[str]]:
    """The parameters of a file that we edited without ours, and ours: from the journal's record of the last time."""
    record = journal.recorded(root, JOURNAL).get(f"{RECORD}{path}")
    if not isinstance(record, dict):
        return now, []
    base, ours = str(record["base"]), [str(parameter) for parameter in record["ours"]]
    if now == kernel_params.merge(base, ours):
        return base, ours
    return kernel_params.unmerge(now, base, ours), ours


def _remember(transaction: Transaction, merged: Merged, ours: list[str]) -> None:
    transaction.remember(f"{RECORD}{merged.target.file}", {"base": merged.base, "ours": ours})
