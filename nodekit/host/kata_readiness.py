"""What a node lacks for Kata, before anything on it is changed."""

import os
from collections.abc import Mapping
from pathlib import Path

from nodekit.host import kata, kata_archive
from nodekit.host.guest import memory_mib
from nodekit.progress import say, step
from nodekit.rules.kata import guest_memory, kata_releases
from nodekit.rules.node_state import KataSettings
from nodekit.rules.text import public


def refuse_unready(root: Path, node: str, settings: KataSettings, taken_back: Mapping[str, str | None]) -> str | None:
    """Refuse what the verb `kata` would fail on after Docker was changed; the QEMU of the Kata that is there, if that is its own.

    Where no archive will be installed, Kata must be there, of the right release, and read our parameters; otherwise the archive
    must be one for this machine, reachable, and have room, and a file outside it that Kata will read must be right. A guest must
    fit into the node's memory. `taken_back` as for `kata.effective`. Raises NodeError as `kata.effective`, `kata.written`,
    `kata_releases`, `kata_archive`, `kata_download` and `guest_memory`.
    """
    archive = kata_releases.to_install(settings.install, os.uname().machine)
    if archive is None:
        return _hypervisor(root, node, settings, taken_back)
    if kata_archive.installed(root) == archive.sha256 and not kata_archive.missing(root):
        return _hypervisor(root, node, settings, taken_back)
    from nodekit.host.kata_download import size  # loads HTTP, which a run that installs nothing does not need

    kata_archive.refuse_foreign(root)
    if kata_archive.installed(root) != archive.sha256:
        kata_archive.refuse_immovable(root)
    if _is_of_release(root, settings, taken_back):
        _memory(node, settings, {"default_memory": guest_memory.RELEASE_MIB})
    else:
        _memory(node, settings, _configuration(root, settings, taken_back, is_coming=True).hypervisor)
    with step(f"preflight: asking for {public(archive.address)}"):
        archive_bytes = size(root, archive.address)
    if archive_bytes:
        kata_releases.refuse_too_little_space(node, kata_archive.free_bytes(root), archive_bytes)
    return None


def _is_of_release(root: Path, settings: KataSettings, taken_back: Mapping[str, str | None]) -> bool:
    return kata.is_of_release(
        root,
        runtime=settings.runtime,
        hypervisor=settings.hypervisor,
        config_path=settings.config_path,
        version=settings.version,
        taken_back=taken_back,
    )


def _configuration(
    root: Path, settings: KataSettings, taken_back: Mapping[str, str | None], *, is_coming: bool = False
) -> kata.Effective:
    """What is read of a configuration that is there now; refused where our parameters would count nowhere in it.

    `is_coming`: the release of the settings is still to be installed.
    """
    effective = kata.effective(
        root,
        runtime=settings.runtime,
        hypervisor=settings.hypervisor,
        config_path=settings.config_path,
        wanted_version=settings.version,
        taken_back=taken_back,
        with_release=is_coming,
    )
    release = settings.version if is_coming else effective.version or settings.version
    kata.written(root, effective, settings.hypervisor, release)
    return effective


def _hypervisor(root: Path, node: str, settings: KataSettings, taken_back: Mapping[str, str | None]) -> str | None:
    """The QEMU that the Kata on this node would start; None for another hypervisor, or when no program lies there."""
    effective = _configuration(root, settings, taken_back)
    kata_releases.refuse_another_version(node, effective.version, settings.version)
    _memory(node, settings, effective.hypervisor)
    path = str(effective.hypervisor.get("path", ""))
    program = root / path.lstrip("/")
    return str(program) if settings.hypervisor == "qemu" and path and os.access(program, os.X_OK) else None


def _memory(node: str, settings: KataSettings, table: Mapping[str, object]) -> None:
    """Refuse a node in which no guest fits, and say when one does not fit now; `table` is the hypervisor's.

    Firecracker takes a guest larger than the node.
    """
    guest_mib = guest_memory.of_guest(table.get("default_memory"), settings.runtime)
    if settings.hypervisor == "qemu" and settings.runtime == "go" and table.get("confidential_guest") is not True:
        offset = table.get("memory_offset")
        guest_memory.refuse_too_little(node, memory_mib("MemTotal"), guest_mib, offset if isinstance(offset, int) else 0)
    if shortage := guest_memory.shortage(memory_mib("MemAvailable"), guest_mib, settings.version):
        say(f"preflight: {shortage}")
