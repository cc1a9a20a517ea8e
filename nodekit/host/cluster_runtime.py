"""The container runtime that serves a cluster on this node: which one it is, where its files lie, what is in them."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host import kata_launching, units
from nodekit.host.files import names_in, read_bytes, resolve, text_of
from nodekit.host.process import run
from nodekit.rules import systemd_units
from nodekit.rules.kata import (
    containerd_config,
    crio_config,
    handler_registration,
    kata_config,
    kubelet_config,
    rancher_config,
)
from nodekit.rules.kata.containerd_config import File
from nodekit.rules.kata.handler_registration import K0S_FOLDER, PLACES, Place
from nodekit.rules.text import printable

CALL_TIMEOUT = 60.0
"""Seconds for one answer."""


class Runtime(NamedTuple):
    """The container runtime that serves the cluster on this node, and its configuration without what is ours."""

    place: Place
    program: str
    """containerd or crio itself; empty where a distribution starts it."""
    main: str
    release: tuple[int, int]
    files: tuple[File, ...]


def find(root: Path, node: str, requested: str | None) -> Runtime:
    """The runtime of the cluster; refuses before anything is changed.

    Raises NodeError `container-runtime-missing`, `container-runtime-ambiguous`, `cgroup-drivers-differ`, or as reading does.
    """
    configuration, flags = _kubelet(root)
    places = {place.name: _placed(root, place) for place in PLACES}
    reasons = {name: why for name, place in places.items() if (why := _evidence_of(root, place))}
    named = None if requested else kubelet_config.endpoint(configuration, flags)
    # What is no path, such as a variable of the unit, says nothing.
    endpoint = resolve(root, named) if named and named.startswith("/") else None
    laid_out = tuple(place._replace(socket=resolve(root, place.socket)) for place in places.values()) if endpoint else PLACES
    place = places[handler_registration.choose(node, requested, reasons, endpoint, laid_out).name]
    runtime = _runtime(root, place)
    if place.name in ("containerd", "cri-o", "microk8s"):  # the others set both drivers by themselves
        systemd = (
            crio_config.systemd_cgroups(runtime.files)
            if place.name == "cri-o"
            else containerd_config.systemd_cgroups(runtime.files, runtime.release)
        )
        if not handler_registration.follows_runtime(_kubelet_release(root), place.name, runtime.release):
            driver = kubelet_config.cgroup_driver(configuration, flags)
            handler_registration.refuse_other_cgroups(node, place.name, systemd, driver)
    return runtime


def _kubelet(root: Path) -> tuple[list[str], list[str]]:
    """The kubelet's configuration with its drop-ins, and the texts that may hold flags of its command line."""
    unit = units.files(root, "kubelet.service")
    _, environment = systemd_units.environment(unit, "")
    paths = dict.fromkeys((*kubelet_config.FLAG_FILES, *(path for path in environment if path.startswith("/"))))
    texts = [*(text for _, text in unit), *(text_of(root, path) for path in paths)]
    named = kubelet_config.flag(texts, "config")
    files = [path for path in (named, *kubelet_config.DEFAULT_FILES) if path and path.startswith("/")]
    main = next((text for path in files if (text := text_of(root, path))), "")
    folder = kubelet_config.flag(texts, "config-dir") or ""
    names = kubelet_config.drop_in_names(names_in(root, folder)) if folder.startswith("/") else []
    return [main, *(text_of(root, f"{folder.rstrip('/')}/{name}") for name in names)], texts


def _kubelet_release(root: Path) -> tuple[int, int] | None:
    """The release of the kubelet that a unit runs; None where none does, or it prints none."""
    words = units.command(root, "kubelet.service")
    if not words:
        return None
    with suppress(NodeError):
        return containerd_config.release(run([words[0], "--version"], timeout=CALL_TIMEOUT, check=False).stdout)
    return None


def _placed(root: Path, place: Place) -> Place:
    """A place as this node lays it out: the owner of a k3s or an RKE2 may have moved all that it keeps, and the unit of another
    runtime may name other files and another socket."""
    if place.name in ("cri-o", "containerd"):
        words = units.command(root, place.units[0])
        if not words:
            return place
        folder = _option(root, place, words, "config-dir", "d") if place.name == "cri-o" else None
        place = place._replace(main=_main(root, place)[1], drop_ins=folder.rstrip("/") if folder else place.drop_ins)
        names = ("listen",) if place.name == "cri-o" else ("address", "a")
        address = systemd_units.option(words, *names)
        if not address:
            rules = crio_config if place.name == "cri-o" else containerd_config
            with suppress(NodeError):  # a file that cannot be read is reported where the runtime is the chosen one
                address = rules.address(_tables(_texts(root, place, place.main)))
        return place._replace(socket=address.removeprefix("unix://")) if address else place
    if place.name not in ("k3s", "rke2"):
        return place
    for unit in (*place.units, *(named_by_an_installer(root, place.units) if place.name == "k3s" else [])):
        if files := units.files(root, unit):
            main = rancher_config.containerd(_data_folder(root, place.name, unit, files))
            return place._replace(files=(main,), main=main)
    return place


def _data_folder(root: Path, program: str, unit: str, files: Sequence[tuple[str, str]]) -> str:
    """Where a k3s or an RKE2 that this unit starts keeps its data."""
    texts = [(path, text.replace("%N", unit.removesuffix(".service"))) for path, text in files]
    words = [word.strip("\"'") for word in systemd_units.started(texts)]  # its installer writes each one in quotes
    names = (rancher_config.variable(program, "CONFIG_FILE"), rancher_config.variable(program, "DATA_DIR"))
    environment = {name: setting.value for name in names if (setting := units.variable(root, texts, name))}
    main = rancher_config.file_of(program, words, environment)
    drop_ins = [f"{main}.d/{name}" for name in names_in(root, f"{main}.d") if name.endswith((".yaml", ".yml"))]
    return rancher_config.folder(program, words, environment, [text_of(root, path) for path in (main, *drop_ins)])


def _evidence_of(root: Path, place: Place) -> str | None:
    """What shows that a runtime is on the node and would serve a cluster; None when nothing does."""
    for file in place.files:
        if os.path.lexists(root / resolve(root, file).lstrip("/")):
            return file
    if place.files:
        return None
    unit = place.units[0]
    files = units.files(root, unit)
    if not files or files[0][0].rpartition("/")[2] != unit:  # drop-ins that somebody left behind are no unit
        return None
    if place.name == "containerd" and containerd_config.cri_disabled(_tables(_texts(root, place, _main(root, place)[1]))):
        return None
    return unit


def _main(root: Path, place: Place) -> tuple[str, str]:
    """The program of a runtime that has a unit of its own, and its main configuration file."""
    words = units.command(root, place.units[0])
    named = _option(root, place, words, "config", "c")
    return (words[0] if words else ""), (named or place.main)


def _option(root: Path, place: Place, words: Sequence[str], *names: str) -> str | None:
    """The absolute path that an option of a runtime's unit names, on its command line or, for CRI-O, in its environment."""
    named = systemd_units.option(words, *names)
    if named is None and place.name == "cri-o" and names[0] in crio_config.VARIABLES:
        setting = units.variable(root, units.files(root, place.units[0]), crio_config.VARIABLES[names[0]])
        named = setting.value if setting else None
    return named if named and named.startswith("/") else None


def _texts(root: Path, place: Place, main: str) -> list[tuple[str, str]]:
    """The configuration files of a runtime in the order in which it reads them."""
    if place.name == "cri-o":
        return kata_launching.crio_texts(root, main, place.drop_ins)
    if place.name == "k0s" and handler_registration.is_k0s_own(text_of(root, main)):
        drop_ins = [f"{K0S_FOLDER}/{name}" for name in names_in(root, K0S_FOLDER) if name.endswith(".toml")]
        paths = [main, *drop_ins]
    else:
        return kata_launching.containerd_texts(root, main)
    read = [(path, read_bytes(root, path)) for path in paths]
    return [(path, kata_config.decode(content, path)) for path, content in read if content is not None]


def _tables(texts: Sequence[tuple[str, str]]) -> tuple[File, ...]:
    """The tables of files without what is ours in them."""
    others = [
        (path, containerd_config.without_block(text))
        for path, text in texts
        if path.rpartition("/")[2] not in (containerd_config.DROP_IN, crio_config.DROP_IN)
    ]
    return tuple((path, kata_config.table(text, path)) for path, text in others)


def _runtime(root: Path, place: Place) -> Runtime:
    program, main = _main(root, place) if not place.files else ("", place.main)
    texts = _texts(root, place, main)
    files = _tables(texts)
    release = (2, 0) if containerd_config.version(files) >= 3 else (1, 7)
    if place.name == "containerd":
        output = run([program or "containerd", "--version"], timeout=CALL_TIMEOUT).stdout
        known = containerd_config.release(output)
        if known is None:
            raise NodeError(
                "container-runtime-missing",
                f"{program} --version prints no release: {printable(output.strip(), 120)}",
                "release",
            )
        release = known
    return Runtime(place, program, main, release, files)


def named_by_an_installer(root: Path, known: Sequence[str]) -> list[str]:
    """Units that run k3s under a name of the node's owner (k3s, install.sh, `INSTALL_K3S_NAME`: `k3s-` and that name)."""
    names = {name for folder in systemd_units.FOLDERS for name in names_in(root, folder)}
    others = sorted(name for name in names if name.startswith("k3s-") and name.endswith(".service") and name not in known)
    commands = {unit: systemd_units.started(units.files(root, unit)) for unit in others}
    return [
        unit for unit, words in commands.items() if words and words[0].endswith("/k3s") and words[1:2] in (["server"], ["agent"])
    ]
