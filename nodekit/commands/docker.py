"""The verb `docker`: bring Docker to the pinned version, hold its packages, register the Kata runtime."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host import apt, docker, units
from nodekit.host.files import read_bytes, refuse_unwritable, resolve, text_of
from nodekit.host.inventory import Inventory
from nodekit.host.journal import Transaction, recorded
from nodekit.host.lock import node_lock
from nodekit.host.node import OsRelease, os_release
from nodekit.host.signals import undisturbed
from nodekit.progress import say, step
from nodekit.rules import systemd_units
from nodekit.rules.difference import Difference, of_file
from nodekit.rules.docker import daemon_json, openpgp
from nodekit.rules.docker.apt_source import SOURCE, is_another, repository_address, repository_word
from nodekit.rules.docker.docker_matrix import CONTAINERD_STORE_SINCE, refuse_if_incompatible, reported
from nodekit.rules.docker.docker_matrix import version as parse_version
from nodekit.rules.docker.docker_packages import (
    CONTAINERD,
    DAEMONS,
    FIRST_VERSION,
    HELD,
    PACKAGES,
    PackageState,
    Plan,
    Simulated,
    codename,
    package_of,
    package_version,
    plan,
    upstream_version,
)
from nodekit.rules.node_state import RUNTIME_NAME, DockerState
from nodekit.rules.text import printable

JOURNAL = "docker"
COMPONENT = "stable"
"""Component of the repository: releases, no tests of the next one."""
LOCK_SECONDS = 300
"""Longest wait for another run on this node, and for another program's hold on dpkg."""
PACKAGE_RECORD = "package:"
"""Begins the journal's record of one package as it was before us."""
BROUGHT_RECORD = "brought"
"""The journal's record of the versions of each package that we installed, or were about to when a run ended. Somebody else
installed any other version."""
CONFIG_PATH_RECORD = "configPath"
"""The journal's record of the ConfigPaths that we set for the runtime, or were about to (`ours`), and of the one from before
them (`before`), which is put back when the setting is removed."""
UNITS_RECORD = "units"
"""The journal's record of how the units of Docker and containerd were: whether active, whether enabled."""
RUNTIME_RECORD = "runtime"
"""The journal's record of the runtime's name, once we wrote daemon.json."""
TELLING_RECORD = "telling"
"""The journal's record that daemon.json is new and dockerd has not read it yet: dockerd does not report which one it has read."""


class Target(NamedTuple):
    """The checked desired state, as this system spells it."""

    node: str
    version: str
    package: str
    address: str
    suite: str
    fingerprint: str
    config_path: str | None


def _target(desired: dict[str, object], root: Path) -> Target:
    """Check everything that can be checked before the node is touched; raises NodeError."""
    state = DockerState.read(desired)
    daemon_json.check(RUNTIME_NAME, state.config_path)
    refuse_if_incompatible(state.version, state.kata_version, state.kata_runtime)
    system: OsRelease = os_release(root)
    return Target(
        node=state.node,
        version=state.version,
        package=package_version(state.version, system.id, system.version_id),
        address=repository_address(state.repository.address, system.id),
        suite=repository_word(state.repository.suite or codename(system.id, system.version_id), "suite"),
        fingerprint=openpgp.fingerprint(state.repository.fingerprint),
        config_path=state.config_path,
    )


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Bring the node's Docker to the desired state; on a node with nothing to change it returns after one look.

    Whatever fails, packages, holds and files are put back. Raises NodeError.
    """
    target = _target(desired, root)
    with node_lock(root, LOCK_SECONDS):
        records = recorded(root, JOURNAL)
        states, needed, text, merged = _look(target, Inventory(root), records)
        if merged != text:
            refuse_unwritable(root, daemon_json.PATH)  # before the packages, whose change stops containers
        stopped: list[str] = []
        changed = True
        if needed.install or needed.hold or merged != text or TELLING_RECORD in records or _has_another_source(target, root):
            verb = "reload-or-restart" if merged != text or TELLING_RECORD in records else None
            answer, stopped = _change(target, root, states, needed, text, merged, verb)
        elif (wrong := docker.problem(answer := docker.ask(root), target.version, RUNTIME_NAME)) is not None:
            # A daemon of another version still runs from before; in all other cases running containers can live on.
            verb = "restart" if answer.version is not None and answer.version != target.version else "reload-or-restart"
            say(f"{wrong}; its packages and {daemon_json.PATH} are right, so: {verb}")
            answer, stopped = _change(target, root, states, needed, text, merged, verb)
        else:
            changed = False
        return _result(target, root, answer, changed, stopped)


def _look(
    target: Target, inventory: Inventory, records: dict[str, object]
) -> tuple[dict[str, PackageState], Plan, str | None, str]:
    """The packages, what must change in them, daemon.json as it is, and as it should be. Raises NodeError `file-invalid`,
    `docker-foreign`, `docker-unreachable` or `docker-containers-hidden`."""
    root, states = inventory.root, inventory.packages
    command = units.command(root, docker.SERVICE_UNIT, keeps_unknown=True)
    _refuse_another_file(root, command)
    if "docker-ce" not in states:
        _refuse_another_docker(target, inventory)
    content = read_bytes(root, daemon_json.PATH)
    text = None if content is None else daemon_json.decode(content)
    _refuse_another_socket(inventory, command, text)
    paths = config_paths(records)
    merged = daemon_json.merge(text, RUNTIME_NAME, target.config_path, paths.ours, paths.before)
    needed = plan(states, target.package)
    if "docker-ce" in needed.install:
        daemon_json.refuse_unknown(text, target.version, command)
    if "docker-ce" in states and "docker-ce" in needed.install:
        _refuse_hidden_containers(target, inventory, text)
    return states, needed, text, merged


def _refuse_hidden_containers(target: Target, inventory: Inventory, text: str | None) -> None:
    """Raise NodeError `docker-containers-hidden` where the dockerd that runs has containers that the pinned one would not show.

    From 29 on a fresh Docker keeps them in containerd's image store (docs.docker.com/engine/storage/containerd); an older one
    looks there only where daemon.json says so. `text` is that file.
    """
    if parse_version(target.version, "Docker") >= CONTAINERD_STORE_SINCE or daemon_json.names_image_store(text):
        return
    answer = inventory.dockerd
    if not answer.in_containerd:
        return
    if answer.containers:
        raise NodeError(
            "docker-containers-hidden",
            f"Node {target.node}: Docker {answer.version} has {answer.containers} containers in containerd's image store, "
            f"where Docker {target.version} does not look",
        )
    if answer.images:
        say(f"note: Docker {target.version} does not show its {answer.images} images, which lie in containerd's image store")


def _refuse_another_file(root: Path, command: Sequence[str]) -> None:
    """Raise NodeError `file-invalid` where docker.service names another file for dockerd than the one that is written here.

    `command` is what the unit starts.
    """
    named = systemd_units.option(command, "config-file")
    if named and named.startswith("/") and resolve(root, named) != resolve(root, daemon_json.PATH):
        raise NodeError(
            "file-invalid",
            f"docker.service starts dockerd with --config-file {printable(named, 200)}, so it does not read {daemon_json.PATH}, "
            f"where the runtime {RUNTIME_NAME} is registered",
            "dockerd",
            path=daemon_json.PATH,
        )


def _refuse_another_socket(inventory: Inventory, command: Sequence[str], text: str | None) -> None:
    """Raise NodeError `docker-unreachable` where dockerd is set to listen elsewhere alone, and does not answer where it is asked.

    `command` is what docker.service starts, and `text` is daemon.json.
    """
    root, place = inventory.root, f"/{docker.SOCKET}"
    addresses, where = daemon_json.listening(command, text)
    paths = [daemon_json.socket_path(address, place) for address in addresses]
    if not addresses or any(path is not None and resolve(root, path) == resolve(root, place) for path in paths):
        return
    if inventory.dockerd.version is None:
        raise NodeError(
            "docker-unreachable",
            f"dockerd listens at {printable(', '.join(addresses), 200)} alone ({where}), and this program asks it at {place}",
            "socket",
            place=where,
        )


def _refuse_another_docker(target: Target, inventory: Inventory) -> None:
    """Raise NodeError `docker-foreign` where a dockerd runs that no package of apt brought, such as that of a snap.

    The unit docker.socket would take its socket, and nobody would reach its containers any more. One of a package is for apt to
    judge, which knows what excludes what.
    """
    answer = inventory.dockerd
    if answer.version is not None and not {*DAEMONS} & {*inventory.packages}:
        raise NodeError(
            "docker-foreign",
            f"Node {target.node}: the Docker {answer.version} that answers at /{docker.SOCKET} is not one of apt's packages "
            "(a snap, or somebody's own), and docker-ce would take that socket from it",
        )


def differences(state: DockerState, inventory: Inventory) -> Iterator[Difference]:
    """What `run` would change; changes nothing. Raises NodeError as `run` does before it changes anything."""
    root = inventory.root
    target = _target(state.document(), root)
    states, needed, text, merged = _look(target, inventory, recorded(root, JOURNAL))
    for name in needed.install:
        has = f"is {states[name].version} ({states[name].status})" if name in states else "is not installed"
        asks = f"the stack wants {target.package}" if name in PACKAGES else "the stack wants it installed"
        yield Difference("package", f"{name} {has}; {asks}", "docker", packages=(name,))
    for name in (package for package in needed.hold if package in states):
        message = f"{name} is not held: the next upgrade of the system moves it (dpkg logs no change of a hold)"
        yield Difference("hold", message, "docker")
    if not needed.install and _has_another_source(target, root):
        yield Difference("file", f"{SOURCE} is not of {target.address} {target.suite} as the stack wants it", "docker", SOURCE)
    if merged != text:
        message = f"{daemon_json.PATH} does not register the runtime {RUNTIME_NAME} as the stack wants it"
        yield of_file("file", message, "docker", daemon_json.PATH, merged.encode(), None if text is None else text.encode())
        if not needed.install:  # the dockerd that is there is the one that reads it
            docker.refuse_invalid(merged, _options(root))
    elif (wrong := docker.problem(inventory.dockerd, target.version, RUNTIME_NAME)) is not None:
        yield Difference("service", wrong, "docker")


class Paths(NamedTuple):
    """The journal's record `CONFIG_PATH_RECORD`."""

    before: str | None
    ours: tuple[str, ...]

    def giving(self, path: str, now: str | None) -> "Paths":
        """The record while `path` is being set for a runtime that has `now`."""
        before = self.before if now in self.ours else now
        return Paths(before, tuple(dict.fromkeys([*self.ours, path])))


def _has_another_source(target: Target, root: Path) -> bool:
    """Whether our own entry is there, and of a repository or a key that the settings no longer name."""
    try:
        text = text_of(root, SOURCE)
    except NodeError:  # something of somebody's lies there, which only an installation needs to go
        return False
    return is_another(text, target.address, target.suite, target.fingerprint)


def config_paths(records: dict[str, object]) -> Paths:
    """The journal's record `CONFIG_PATH_RECORD`, empty where there is none."""
    record = records.get(CONFIG_PATH_RECORD)
    if not isinstance(record, dict):
        return Paths(None, ())
    before = record.get("before")
    return Paths(None if before is None else str(before), tuple(str(path) for path in record.get("ours", ())))


def taken_back(root: Path) -> dict[str, str | None]:
    """The ConfigPaths that `run` takes out of daemon.json where the settings name none, each with the one that it puts there."""
    paths = config_paths(recorded(root, JOURNAL))
    return dict.fromkeys(paths.ours, paths.before)


def brought(records: dict[str, object]) -> dict[str, list[str]]:
    """The journal's record `BROUGHT_RECORD`."""
    record = records.get(BROUGHT_RECORD)
    return {str(name): [str(version) for version in some] for name, some in record.items()} if isinstance(record, dict) else {}


def _change(
    target: Target,
    root: Path,
    states: dict[str, PackageState],
    needed: Plan,
    text: str | None,
    merged: str,
    verb: str | None,
) -> tuple[docker.Answer, list[str]]:
    """Make the changes, and undo them when any part fails. Returns what dockerd answers then, and the containers that stopped.

    `text` is daemon.json as it is, `merged` as it should be, and `verb` the service's action after the packages and that file.
    """
    units = docker.units()
    docker.refuse_masked(units)
    if "docker-ce" in needed.install and "docker-ce" in states:
        _refuse_latent_fault(root, states["docker-ce"], merged)
    answer = docker.ask(root)
    restarts = "docker-ce" in states and (needed.install or answer.version != target.version)
    running = docker.running_containers(root, answer) if restarts else []
    if running:
        say(f"dockerd restarts: these running containers stop: {', '.join(running)}")
    touched: dict[str, apt.Before] = {}
    with Transaction(root, JOURNAL) as change:
        earlier = recorded(root, JOURNAL)
        change.record(UNITS_RECORD, {name: unit._asdict() for name, unit in units.items()})
        try:
            if needed.install:
                _install(target, root, change, states, needed.install, touched)
            elif _has_another_source(target, root):
                _read_source(target, root, change)
            if needed.hold:
                change.note(first=_first(needed.hold, touched))
                with step(f"Holding {', '.join(needed.hold)}"):
                    apt.mark(root, "hold", needed.hold, LOCK_SECONDS)
            paths = config_paths(earlier)
            if merged != text:
                docker.refuse_invalid(merged, _options(root))
                records: dict[str, object] = {}
                if target.config_path is not None:
                    paths = paths.giving(target.config_path, daemon_json.config_path(text, RUNTIME_NAME))
                    records = {CONFIG_PATH_RECORD: paths._asdict()}
                change.note(now={TELLING_RECORD: True, RUNTIME_RECORD: RUNTIME_NAME, **records})
                change.write(daemon_json.PATH, merged.encode())
            if (unread := _unread(target, root)) == "restart" or verb is None:
                verb = unread  # the scripts of packages restart no dockerd where policy-rc.d forbids it, and no reload moves it
            if verb is not None:
                with step(f"dockerd: {verb}"):
                    docker.service(verb)
            with step(f"Waiting until dockerd {target.version} is healthy"):
                answer = docker.wait_until_well(root, target.version, RUNTIME_NAME)
            _settle(target, change, paths)
        except BaseException as error:
            with undisturbed():
                _undo(root, change, touched, units, earlier, error)
            raise
    return answer, running


def _options(root: Path) -> list[str]:
    return daemon_json.options(units.command(root, docker.SERVICE_UNIT, keeps_unknown=True))


def _refuse_latent_fault(root: Path, package: PackageState, merged: str) -> None:
    """Raise NodeError `file-invalid` where the Docker that is there would not start again either.

    Its daemon.json or unit was changed since it was started, so after a failure no way back would bring its containers up.
    """
    try:
        known, _ = reported(upstream_version(package.version), "Docker")
    except NodeError:  # one that somebody built
        return
    if package.status == "installed" and known >= FIRST_VERSION:  # an older one has no --validate
        docker.refuse_invalid(daemon_json.undated(merged), _options(root))


def _unread(target: Target, root: Path) -> str | None:
    """The action for a dockerd that does not run, or does not match its packages and file; None when it needs none."""
    answer = docker.ask(root)
    if answer.version is None:
        return "start"
    if docker.problem(answer, target.version, RUNTIME_NAME) is None:
        return None
    return "restart" if answer.version != target.version else "reload-or-restart"


def is_outdated(root: Path, answer: docker.Answer) -> bool:
    """Whether the dockerd that gives this answer is not of the version of its package, so only a restart brings that."""
    package = apt.package_states((PACKAGES[0],), root).get(PACKAGES[0])
    return package is not None and answer.version not in (None, upstream_version(package.version))


def _settle(target: Target, change: Transaction, paths: Paths) -> None:
    """The packages are installed: versions that earlier runs only meant to install are not ours."""
    versions = brought({BROUGHT_RECORD: change.recorded(BROUGHT_RECORD)})
    if any(len(some) > 1 for some in versions.values()):
        # Not always the last: a run that went back to the one before may have been killed before it could record that.
        states = apt.package_states(tuple(versions))
        for name, some in versions.items():
            now_installed = states[name].version if name in states else None
            versions[name] = [now_installed] if now_installed in some else some[-1:]
    now: dict[str, object] = {BROUGHT_RECORD: versions} if versions else {}
    gone = [TELLING_RECORD]
    if target.config_path is None:
        gone.append(CONFIG_PATH_RECORD)
    elif target.config_path in paths.ours:
        now[CONFIG_PATH_RECORD] = Paths(paths.before, (target.config_path,))._asdict()
    change.note(now=now, gone=gone)


def _first(names: tuple[str, ...], touched: dict[str, apt.Before]) -> dict[str, object]:
    """How packages are before they are touched, for the journal and so for `restore`; `touched` is for this run's roll-back."""
    new = [name for name in names if name not in touched]
    touched |= apt.before(new) if new else {}
    return {PACKAGE_RECORD + name: touched[name]._asdict() for name in names}


def _install(
    target: Target,
    root: Path,
    change: Transaction,
    states: dict[str, PackageState],
    names: tuple[str, ...],
    touched: dict[str, apt.Before],
) -> None:
    """Bring the packages; everything that can be refused is refused before dpkg runs."""
    apt.settle(root, LOCK_SECONDS)
    _read_source(target, root, change)
    apt.require_versions({name: target.package for name in names if name in PACKAGES})
    requested = []
    for name in names:
        if name in PACKAGES:
            requested.append(f"{name}={target.package}")
        else:
            requested.append(f"{name}={states[name].version}" if name in states else name)
    try:
        _bring(target, root, change, names, requested, touched)
    except NodeError as error:
        if (error.code, error.case) != ("package-install-failed", apt.LISTS):
            raise
        say(f"{error.message}; the node's own lists of packages may be empty or out of date")
        with step("Reading the indices of all sources of the node"):
            apt.refresh_all(root, LOCK_SECONDS)
        _bring(target, root, change, names, requested, touched)


def _read_source(target: Target, root: Path, change: Transaction) -> None:
    """Have an entry of the repository, and read its index."""
    from nodekit.host import apt_source  # takes a while to load; a run that installs nothing does without

    source = apt_source.ensure(
        root, change, address=target.address, suite=target.suite, component=COMPONENT, fingerprint=target.fingerprint
    )
    with step(f"Reading the index of {target.address}"):
        apt.refresh(root, source.file, LOCK_SECONDS, source.entry)


def _bring(
    target: Target,
    root: Path,
    change: Transaction,
    names: tuple[str, ...],
    requested: Sequence[str],
    touched: dict[str, apt.Before],
) -> None:
    """Have apt install what is asked for, as its lists are now."""
    from nodekit.host import apt_source

    would, requested = _simulated(target, change, requested)
    if would.removed:
        raise NodeError(
            "packages-conflict",
            f"Installing {', '.join(requested)} would remove {', '.join(would.removed)} from node {target.node}",
        )
    apt_source.refuse_unsigned_packages(root, would.versions)
    first = _first(tuple(dict.fromkeys([*names, *would.touched])), touched)
    versions = brought({BROUGHT_RECORD: change.recorded(BROUGHT_RECORD)})
    for name, version in would.versions.items():
        versions[name] = [*(other for other in versions.get(name, ()) if other != version), version]
    change.note(first=first, now={BROUGHT_RECORD: versions})
    docker.allow_starts()
    with step(f"Installing {', '.join(requested)}"):
        apt.install(root, requested, LOCK_SECONDS)


def _simulated(target: Target, change: Transaction, requested: Sequence[str]) -> tuple[Simulated, Sequence[str]]:
    """What apt would do, and what it is to be asked for: also for a newer containerd.io, where Docker needs one and the hold that
    keeps it back is ours. Docker 28.4 needs 1.7.27, Docker 29 needs 2.1.5 (their `Depends`). Raises as `apt.simulate`."""
    try:
        return apt.simulate(requested), requested
    except NodeError:
        was = change.recorded(PACKAGE_RECORD + CONTAINERD)
        if not isinstance(was, dict) or was.get("held") or CONTAINERD in map(package_of, requested):
            raise
        wider = [*requested, CONTAINERD]
        try:
            would = apt.simulate(wider)
        except NodeError:
            would = None
        if would is None:
            raise
    say(f"note: Docker {target.version} needs a newer {CONTAINERD}: {would.versions.get(CONTAINERD, 'the one there is')}")
    return would, wider


def _undo(
    root: Path,
    change: Transaction,
    touched: dict[str, apt.Before],
    units: dict[str, docker.Unit],
    earlier: dict[str, object],
    error: BaseException,
) -> None:
    """Go back after a failure: packages first, because their source is among the files, then files, then dockerd."""
    say("Rolling back")
    try:
        docker.allow_starts()
        moved = apt.go_back(root, touched, LOCK_SECONDS)
        before = {key: earlier[key] for key in (BROUGHT_RECORD, CONFIG_PATH_RECORD, RUNTIME_RECORD) if key in earlier}
        ours = [BROUGHT_RECORD, CONFIG_PATH_RECORD, RUNTIME_RECORD, UNITS_RECORD]
        ours += [PACKAGE_RECORD + name for name in touched]
        change.note(now=before, gone=[key for key in ours if key not in earlier])
    except Exception as second:
        if isinstance(error, NodeError):
            error.message = f"{error.message.rstrip('.')}; and the packages could not be put back: {second}"
        # The source stays, so that the next run or `restore` can still go back.
        change.roll_back(keep=(SOURCE,))
        return
    if change.roll_back() or moved:
        with suppress(NodeError):  # the first failure is the one to report
            docker.service("restart" if is_outdated(root, docker.ask(root)) else "reload-or-restart")
    with suppress(NodeError):
        docker.stop_orphans()
        docker.bring_units_back(root, units)
    if TELLING_RECORD not in earlier:  # otherwise the file of an earlier run is still to be read
        change.forget(TELLING_RECORD)


def _result(target: Target, root: Path, answer: docker.Answer, changed: bool, stopped: list[str]) -> dict[str, object]:
    """What the node answers now; `previous` is how it was before this program first touched it."""
    states = apt.package_states(HELD)
    first = recorded(root, JOURNAL).get(PACKAGE_RECORD + "docker-ce")
    return {
        "node": target.node,
        "changed": changed,
        "version": answer.version,
        "package": states["docker-ce"].version,
        "held": [name for name in HELD if name in states and states[name].held],
        "runtimes": sorted(answer.runtimes),
        "previous": {"version": first.get("version") if isinstance(first, dict) else states["docker-ce"].version},
        "containersStopped": stopped,
    }
