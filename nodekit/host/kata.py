"""What the Kata on this machine would really read: file, drop-ins, merged table, shim, version."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from nodekit.errors import NodeError, remedy_for
from nodekit.host import kata_launching
from nodekit.host.files import names_in, read_bytes, refusal_case, resolve
from nodekit.host.reading import start
from nodekit.rules.docker import daemon_json
from nodekit.rules.kata import containerd_config, crio_config, kata_config, kata_launchers, kata_layout
from nodekit.rules.kata.kata_launchers import Launcher, Variable
from nodekit.rules.node_state import RUNTIME_NAME
from nodekit.rules.text import printable

MAX_DROP_INS = 200
"""Entries of a config.d that are read; a folder with more is a mistake."""
MAX_SCRIPTS = 5
"""Scripts in a shim's place that may start each other."""
MAX_SCRIPT = 64 << 10
"""Bytes of a script in the shim's place that are read."""


class Choice(NamedTuple):
    """The base file that the runtime reads."""

    name: str
    """As a setting or the runtime's own list names it."""
    resolved: str
    """With symbolic links followed; `config.d` beside it holds the drop-ins."""
    content: bytes
    because: str
    """One sentence: the setting, or the place in the list, that made it this file."""
    setting: str | None
    """The setting that names it; None for an entry of the runtime's own list."""


class Effective(NamedTuple):
    """The configuration that the runtime would use for the next guest."""

    config_file: str
    """The file as it is named: by a setting, or in the runtime's own list."""
    resolved_file: str
    """That file with symbolic links followed; `config.d` beside it holds the drop-ins."""
    chosen_by: str
    """One sentence: the setting, or the place in the list, that made it this file."""
    setting: str | None
    """The setting that names it; None for an entry of the runtime's own list."""
    drop_ins: tuple[str, ...]
    """Every entry of config.d, in the order in which they are merged; none for a release that reads none."""
    hypervisor: dict[str, object]
    """The merged table [hypervisor.NAME]."""
    kernel_params: str
    """Its `kernel_params` as a whole; empty when none are set."""
    sources: dict[str, str]
    """Key of `hypervisor` -> the file that gives its value."""
    document: Mapping[str, Any]
    """The whole merged configuration."""
    origins: dict[tuple[str, ...], str]
    """Path of a key through the document's tables, such as `("runtime", "vfio_mode")` -> the file that gives its value."""
    shim: str | None
    """The shim that containerd would find, or the release's own; None when the machine has none."""
    version: str | None
    """The release, such as 3.32.0; None when nothing on the machine shows it."""


def effective(
    root: Path,
    *,
    runtime: str,
    hypervisor: str,
    config_path: str | None,
    wanted_version: str | None = None,
    settings: Path | None = None,
    taken_back: Mapping[str, str | None] | None = None,
    with_release: bool = False,
) -> Effective:
    """Resolve and merge what the runtime reads.

    `config_path` is the ConfigPath that Docker's entry will have; without one, that of the entry on the machine counts.
    `wanted_version` is the release where the machine shows none, and `settings` the root folder whose daemon.json and units
    count, when it is not `root` (a release that is unpacked, and not yet in its place). `taken_back` are ConfigPaths that
    Docker's entry will not have any more, each with the one in its place. `with_release` is as if the shim of a release in
    /opt/kata were in the PATH, where one will be. Raises NodeError `kata-not-found`,
    `kata-environment-refused`, `file-unreadable`, `file-invalid` (no TOML, no such table, bad drop-in) or `bad-input`.
    """
    if hypervisor not in kata_layout.HYPERVISORS:
        raise NodeError(
            "bad-input", f"Hypervisor {hypervisor!r} is not known", expected=f"one of {', '.join(kata_layout.HYPERVISORS)}"
        )
    installed = version(root)
    base = chosen(
        root,
        runtime=runtime,
        hypervisor=hypervisor,
        config_path=config_path,
        version=installed or wanted_version,
        settings=settings,
        taken_back=taken_back,
        with_release=with_release,
    )
    text = kata_config.decode(base.content, base.resolved)
    whole: Mapping[str, Any] = kata_config.table(text, base.resolved)
    kata_config.hypervisor_table(whole, hypervisor, base.resolved, remedy=_other_file(root, runtime, installed, hypervisor))
    origins = _leaves(whole, base.resolved)
    entries = drop_ins(root, base.resolved, runtime=runtime, version=installed or wanted_version)
    for path, content in entries:
        part = kata_config.table(content, path)
        whole = kata_config.merged(whole, part)
        kata_config.hypervisor_table(whole, hypervisor, path)
        origins |= _leaves(part, path)
    sources = {names[2]: path for names, path in origins.items() if names[:2] == ("hypervisor", hypervisor) and len(names) > 2}
    table = kata_config.hypervisor_table(whole, hypervisor, sources.get(kata_config.KEY, base.resolved))
    return Effective(
        config_file=base.name,
        resolved_file=base.resolved,
        chosen_by=base.because,
        setting=base.setting,
        drop_ins=tuple(path for path, _ in entries),
        hypervisor=table,
        kernel_params=str(table.get(kata_config.KEY, "")),
        sources=sources,
        document=whole,
        origins=origins,
        shim=shim(root, runtime),
        version=installed,
    )


def written(root: Path, configuration: Effective, hypervisor: str, release: str | None) -> kata_layout.Written:
    """Where `kernel_params` belong that are merged into this configuration; `release` as for `kata_layout.written_file`.

    Raises NodeError `file-invalid` where they would count nowhere.
    """
    base = configuration.resolved_file
    texts = {path: kata_config.decode(read_bytes(root, path) or b"", path) for path in (base, *configuration.drop_ins)}
    setting = tuple(path for path in configuration.drop_ins if kata_config.sets_parameters(texts[path], hypervisor, path))
    return kata_layout.written_file(base, texts[base], release, setting)


def sharing(root: Path, resolved: str) -> list[tuple[Launcher, str, list[str]]]:
    """What else is started with the `config.d` beside a file: each launcher, the file that it names there, links followed, and
    the hypervisors of that file.

    What this program registers is left out: it follows the file. Handlers of a containerd that serves no cluster start nothing.
    """
    folder = resolve(root, kata_layout.drop_in_folder(resolved))
    others = []
    with suppress(NodeError):  # a daemon.json that dockerd cannot read starts nothing; who needs it reports it
        idle = _idle_files(root)
        for launcher in configured_launchers(root, []):
            named = file_of(root, launcher)
            if launcher.file in idle or _is_own(root, launcher) or not named or not named[0].startswith("/"):
                continue
            file = resolve(root, named[0])
            content = read_bytes(root, file) if file != resolved else None
            if content is not None and resolve(root, kata_layout.drop_in_folder(file)) == folder:
                with suppress(NodeError):  # one that Kata cannot read either starts nothing
                    others.append((launcher, file, kata_config.hypervisors(kata_config.decode(content, file), file)))
    return others


def _is_own(root: Path, launcher: Launcher) -> bool:
    """Whether this program registers it: Docker's runtime of our name, or a handler in our drop-in or our part of a file."""
    if launcher.file == daemon_json.PATH:
        return launcher.name == f"docker runtime {RUNTIME_NAME}"
    if launcher.file.rpartition("/")[2] in (containerd_config.DROP_IN, crio_config.DROP_IN):
        return True
    text = (read_bytes(root, launcher.file) or b"").decode(errors="replace")
    return containerd_config.BEGIN in text and not containerd_config.names_handler(text, launcher.name.rpartition(" ")[2])


def _idle_files(root: Path) -> set[str]:
    """The files of a containerd that has its CRI plugin turned off, as the one in Docker's package is set up."""
    try:
        files = kata_launching.containerd_files(root, _containerd_file(root) or kata_launchers.CONTAINERD[0])
    except NodeError:
        return set()
    return {path for path, _ in files} if containerd_config.cri_disabled(files) else set()


def refuse_other_hypervisors(root: Path, resolved: str, hypervisor: str) -> None:
    """Raise NodeError `file-invalid` where a drop-in beside a file, with a table of that hypervisor, would be read for another
    one that somebody starts: of two tables Kata's Go runtime takes one at random, and its Rust runtime refuses one that is not
    whole (`config.go`, `updateRuntimeConfigHypervisor`; `types/hypervisor/mod.rs`, `validate`)."""
    for launcher, file, tables in sharing(root, resolved):
        if tables and hypervisor not in tables:
            raise NodeError(
                "file-invalid",
                f"{kata_layout.drop_in_folder(resolved)} is read for {printable(launcher.name, 100)} too, and its file {file} is "
                f"of hypervisor {printable(', '.join(tables), 100)}: with a table of {hypervisor} there, its guests would fail "
                "or start with the wrong one",
                "shared",
                file=resolved,
            )


def _other_file(root: Path, runtime: str, installed: str | None, hypervisor: str) -> str:
    """What to do when the file that is read is one of another hypervisor."""
    try:
        path = kata_layout.release_config_path(runtime, installed or "", hypervisor)
    except NodeError as error:
        return error.remedy
    if read_bytes(root, path) is None:
        return remedy_for("file-invalid", "other-hypervisor")
    return remedy_for("file-invalid", "hypervisor-file", path=path)


def _leaves(table: Mapping[str, Any], path: str, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Each key of a file, by its path through the tables, with that file; a table is itself a key where it is empty."""
    leaves: dict[tuple[str, ...], str] = {}
    for key, value in table.items():
        below = _leaves(value, path, (*above, key)) if isinstance(value, Mapping) else {}
        leaves |= below or {(*above, key): path}
    return leaves


def chosen(
    root: Path,
    *,
    runtime: str,
    hypervisor: str,
    config_path: str | None,
    version: str | None,
    settings: Path | None = None,
    taken_back: Mapping[str, str | None] | None = None,
    with_release: bool = False,
) -> Choice:
    """The base file that the runtime reads; `settings`, `taken_back` and `with_release` as for `effective`.

    Go: ConfigPath, then KATA_CONF_FILE, then the list (`create.go`, `loadRuntimeConfig`). Rust: the environment comes first
    (`manager.rs`, `load_config`), and there it counts even when it is empty. Raises NodeError `kata-not-found`,
    `kata-environment-refused` or `file-unreadable`.
    """
    option, names = _named(root, settings or root, runtime, hypervisor, config_path, version, taken_back or {}, with_release)
    for at, name in enumerate(names):
        resolved = resolve(root, name)
        content = read_bytes(root, resolved)
        if content is not None and option:
            return Choice(name, resolved, content, f"{option} names {name}", option)
        if content is not None:
            place = f"{name} is entry {at + 1} of the {runtime} runtime's own list, and the first that exists"
            return Choice(name, resolved, content, place, None)
    dangling = [name for name in names if (root / name.lstrip("/")).is_symlink()]
    deployed = deploy_files(root)
    hint = f"; kata-deploy has put {', '.join(deployed[:4])} here: name one with configPath" if deployed else ""
    message = f"Kata's {runtime} runtime finds no configuration file on this node: none of {', '.join(names)} exists"
    if dangling:
        message += f", and {dangling[0]} is a dangling link to {resolve(root, dangling[0])}"
    if option:
        message = f"{option} names {names[0]}, which does not exist, so every guest would fail"
    raise NodeError("kata-not-found", message, "named" if option else "", seen=hint)


def is_of_release(
    root: Path,
    *,
    runtime: str,
    hypervisor: str,
    config_path: str | None,
    version: str | None,
    taken_back: Mapping[str, str | None] | None = None,
) -> bool:
    """Whether the file that a shim of the release in /opt/kata reads is one of that release; where it is not there, whether it
    would be. Arguments as of `chosen`; raises as that does, except for a file that is not there."""
    _, names = _named(root, root, runtime, hypervisor, config_path, version, taken_back or {}, with_release=True)
    paths = [resolve(root, name) for name in names]
    existing = [path for path in paths if os.path.lexists(root / path.lstrip("/"))][:1]
    release = resolve(root, kata_layout.INSTALL_FOLDER)
    return any(path.startswith(f"{release}/") for path in existing or paths)


def _named(
    root: Path,
    where: Path,
    runtime: str,
    hypervisor: str,
    config_path: str | None,
    version: str | None,
    taken_back: Mapping[str, str | None],
    with_release: bool,
) -> tuple[str | None, tuple[str, ...]]:
    """The setting below `where` that names the base file, and that file; without one None, and the runtime's own list."""
    launcher = None
    with suppress(NodeError) if config_path else nullcontext():  # then a broken daemon.json names no other file
        launcher = _docker_launcher(where, taken_back)
        if not (launcher or config_path or with_release):
            launcher = _other_launcher(where, runtime, hypervisor)
    program = (program_of(where, launcher.shim) if launcher else None) or shim(where, runtime)
    started = _started(where, program)[-1] if program else None
    behind = _spelled(where, resolve(where, started)) if started else None
    listed = kata_layout.candidates(runtime, version, kata_layout.release_shim(runtime) if with_release else behind)
    option = (config_path, "the given configPath") if config_path else _option(launcher)
    variable = environment(where, program) if runtime == "rust" or option is None else None
    if variable and (variable.value or runtime == "rust"):
        if kata_layout.environment_guarded(version) and not _shipped(root, variable.value, listed):
            raise NodeError(
                "kata-environment-refused",
                f"{variable.file} sets {kata_layout.ENVIRONMENT}={printable(variable.value, 200)}, and Kata {version} takes only "
                "one of its shipped files from there, so every guest would fail",
                files=", ".join(listed),
            )
        place = variable.file
        if launcher is not None and launcher.shim != kata_layout.SHIM and place == program:
            place += f", the shim of {launcher.name}"
        option = (variable.value, f"{kata_layout.ENVIRONMENT} in {place}") if variable.value else None
    if option and not option[0].startswith("/"):
        message = f"{option[1]} names {printable(option[0], 200)}, which is no absolute path, so what Kata reads is not known"
        raise NodeError("kata-not-found", message, "named", seen="")
    return (option[1], (option[0],)) if option else (None, listed)


def _spelled(root: Path, resolved: str) -> str:
    """A path with links followed as its release was built: /opt may be a link itself."""
    release = resolve(root, kata_layout.INSTALL_FOLDER)
    return kata_layout.INSTALL_FOLDER + resolved.removeprefix(release) if resolved.startswith(f"{release}/") else resolved


def _docker_launcher(root: Path, taken_back: Mapping[str, str | None]) -> Launcher | None:
    """Docker's runtime of our name, where it names a configuration file, or a shim that is there: perhaps a script with one."""
    launcher = _docker_runtime(root)
    if launcher and launcher.config_path:
        launcher = launcher._replace(config_path=taken_back.get(launcher.config_path, launcher.config_path))
    return launcher if launcher and (launcher.config_path or program_of(root, launcher.shim)) else None


def _other_launcher(root: Path, runtime: str, hypervisor: str) -> Launcher | None:
    """The first launcher besides Docker whose file is for this hypervisor, where the PATH holds no shim of Kata's own name.

    Then every launcher starts a shim by its path or by a name of its own.
    """
    if program_of(root, kata_layout.SHIM):
        return None
    for launcher in configured_launchers(root, []):
        named = None if launcher.file == daemon_json.PATH else file_of(root, launcher)
        content = read_bytes(root, resolve(root, named[0])) if named and named[0].startswith("/") else None
        if named and content is not None and ("/runtime-rs/" in named[0]) == (runtime == "rust"):
            table = kata_config.table(kata_config.decode(content, named[0]), named[0])
            if hypervisor in table.get("hypervisor", {}):
                return launcher
    return None


def configured_launchers(root: Path, notes: list[str]) -> list[Launcher]:
    """Everything that starts Kata on this machine, as `kata_launching.launchers`, with the file that containerd's unit names."""
    return kata_launching.launchers(root, notes, _containerd_file(root))


def _containerd_file(root: Path) -> str | None:
    """The main file that containerd's unit names; None where it names none."""
    named = kata_launchers.option(unit_command(root, kata_launchers.UNITS[0]), "config", "c")
    return named if named and named.startswith("/") else None


def _option(launcher: Launcher | None) -> tuple[str, str] | None:
    """The ConfigPath of a launcher, and what it is called; None when it has none."""
    if launcher is None or not launcher.config_path:
        return None
    name = f"Docker's runtime {RUNTIME_NAME}" if launcher.file == daemon_json.PATH else launcher.name
    return launcher.config_path, f"ConfigPath of {name} in {launcher.file}"


def _docker_runtime(root: Path) -> Launcher | None:
    """Docker's runtime of our name, as daemon.json has it."""
    content = read_bytes(root, daemon_json.PATH)
    launchers = kata_launchers.docker(content.decode(errors="replace")) if content else ()
    return next((launcher for launcher in launchers if launcher.name == f"docker runtime {RUNTIME_NAME}"), None)


def _shipped(root: Path, path: str, listed: tuple[str, ...]) -> bool:
    """Whether a path leads to one of the runtime's own files, both resolved as the shims do."""
    return path.startswith("/") and resolve(root, path) in [resolve(root, path) for path in listed]


def program_of(root: Path, named: str | None) -> str | None:
    """Where the shim lies that is named by its path, or by a name to look up in the PATH; None when it is not there."""
    paths = [named] if named and named.startswith("/") else [f"{folder}/{named}" for folder in shim_folders(root) if named]
    for path in paths:
        program = root / resolve(root, path).lstrip("/")
        if program.is_file() and os.access(program, os.X_OK):
            return path
    return None


def shim_folders(root: Path) -> Sequence[str]:
    """The folders in which a shim is looked up: of the PATH that containerd's unit sets, else of systemd's own."""
    setting = _shim_variable(root, "PATH")
    return [folder for folder in setting.value.split(":") if folder.startswith("/")] if setting else kata_layout.SHIM_FOLDERS


def file_of(root: Path, launcher: Launcher) -> tuple[str, str] | None:
    """The file that a launcher names, and what names it: its ConfigPath, or a script in the place of its shim.

    None where neither does, so that the environment and the runtime's own list decide.
    """
    if launcher.config_path:
        return launcher.config_path, f"ConfigPath of {launcher.name} in {launcher.file}"
    program = program_of(root, launcher.shim)
    variable = in_scripts(root, program, kata_layout.ENVIRONMENT)[0] if program else None
    if variable is None or not variable.value:
        return None
    return variable.value, f"{kata_layout.ENVIRONMENT} in {variable.file}, the shim of {launcher.name}"


def _started(root: Path, program: str) -> list[str]:
    """A shim, and behind it what is started in turn where it is a script, as one that sets a PATH before that of Kata's guide."""
    programs = [program]
    while len(programs) < MAX_SCRIPTS:
        shim = program_of(root, kata_launchers.shim_in_script(_script(root, programs[-1])))
        if shim is None or shim in programs:
            break
        programs.append(shim)
    return programs


def in_scripts(root: Path, program: str, name: str) -> tuple[Variable | None, list[Variable]]:
    """What a script in a shim's place sets a variable to, and what it sets for itself alone.

    Of several scripts that start each other the last counts, whose value the shim has. What a script does not export reaches the
    shim only where the variable was in its own environment already.
    """
    result, alone = None, []
    for each in _started(root, program):
        text = _script(root, each)
        value = kata_launchers.in_script(text, name)
        if value is None:
            continue
        if kata_launchers.exports(text, name) or result or _shim_variable(root, name):
            result = Variable(value, each)
        else:
            alone.append(Variable(value, each))
    return result, alone


def environment(root: Path, program: str | None) -> Variable | None:
    """The KATA_CONF_FILE that a shim would have: of a script in the shim's place, else of the unit of containerd."""
    name = kata_layout.ENVIRONMENT
    return (in_scripts(root, program, name)[0] if program else None) or _shim_variable(root, name)


def _shim_variable(root: Path, name: str) -> Variable | None:
    """What the unit whose environment the shims have sets a variable to."""
    for unit in kata_launchers.UNITS:
        files = unit_files(root, unit)
        if files:
            return unit_variable(root, files, name)
    return None


def unit_variable(root: Path, files: list[tuple[str, str]], name: str) -> Variable | None:
    """What a unit sets the variable to, its environment files included."""
    result, named = kata_launchers.unit_environment(files, name)
    for path in (path for pattern in named if pattern.startswith("/") for path in kata_launching.matching(root, pattern)):
        content = read_bytes(root, path)
        value = kata_launchers.in_environment_file(content.decode(errors="replace"), name) if content else None
        if value is not None:
            result = Variable(value, path)
    return result


def unit_command(root: Path, unit: str, *, keeps_unknown: bool = False) -> list[str]:
    """The command line that a unit starts, with its variables expanded; empty when there is no such unit.

    A variable that its files do not set is empty, or stays as it is written: systemd may have it from elsewhere.
    """
    files = unit_files(root, unit)

    def value(name: str) -> str:
        setting = unit_variable(root, files, name)
        return setting.value if setting else f"${{{name}}}" if keeps_unknown else ""

    return kata_launchers.expanded(kata_launchers.started(files), value)


def unit_files(root: Path, unit: str) -> list[tuple[str, str]]:
    """A service's own file and then its drop-ins, each path and text; empty when there is no such unit or it is masked.

    Those of all services (`service.d`) are among them, where the service has a file or drop-in of its own.
    """
    paths: dict[str, str] = {}
    for folder in kata_launchers.UNIT_FOLDERS:
        if os.path.lexists(root / f"{folder}/{unit}".lstrip("/")):
            paths.setdefault("", f"{folder}/{unit}")
        for name in names_in(root, f"{folder}/{unit}.d"):
            if name.endswith(".conf"):
                paths.setdefault(name, f"{folder}/{unit}.d/{name}")
    for folder in kata_launchers.UNIT_FOLDERS if paths else ():
        for name in names_in(root, f"{folder}/service.d"):
            if name.endswith(".conf"):
                paths.setdefault(name, f"{folder}/service.d/{name}")
    files = []
    for name in sorted(paths):
        masked = resolve(root, paths[name]) == "/dev/null"
        content = b"" if masked else read_bytes(root, paths[name])
        if content == b"" and not name:  # as a link to /dev/null does (systemd.unit(5))
            return []
        if content:
            files.append((paths[name], content.decode(errors="replace")))
    return files


def _script(root: Path, path: str) -> str:
    """The text of a shim that is a script, which Kata's guide has people write to set KATA_CONF_FILE; empty for a program."""
    try:
        text = start(root / resolve(root, path).lstrip("/"), MAX_SCRIPT)
        return text.decode(errors="replace") if text.startswith(b"#!") else ""
    except OSError as error:
        raise NodeError("file-unreadable", f"{path} cannot be read: {error.strerror}", refusal_case(error, "disk")) from None


def deploy_files(root: Path) -> list[str]:
    """The base files of kata-deploy, each shim's in its own folder."""
    paths = [
        f"/{path.relative_to(root)}"
        for folder in kata_layout.DEPLOY_FOLDERS
        for path in (root / folder.lstrip("/")).glob("*/configuration-*.toml")
    ]
    return sorted(paths)


def drop_ins(root: Path, resolved: str, *, runtime: str, version: str | None) -> list[tuple[str, str]]:
    """Every entry of the config.d beside `resolved` with its text, in name order and without a suffix filter, as Kata does.

    None for a release before 2.5.0. Raises NodeError `file-invalid` for an entry that Kata itself would refuse: a folder, a
    dangling link, for the Rust runtime any link.
    """
    if not kata_layout.reads_drop_ins(version):
        return []
    folder = kata_layout.drop_in_folder(resolved)
    names = names_in(root, folder)
    if len(names) > MAX_DROP_INS:
        raise NodeError("file-invalid", f"{folder} holds {len(names)} entries", "drop-ins")
    entries = []
    for name in names:
        path = f"{folder}/{name}"
        if runtime == "rust" and (root / path.lstrip("/")).is_symlink():
            raise NodeError("file-invalid", f"{path} is a symbolic link, which Kata's rust runtime refuses", "link")
        content = read_bytes(root, path)
        if content is None:
            raise NodeError("file-invalid", f"{path} is a dangling link, so every guest would fail", "remove", path=path)
        entries.append((path, kata_config.decode(content, path)))
    return entries


def shim(root: Path, runtime: str) -> str | None:
    """The shim that containerd finds in its PATH, the one of an unpacked release, or that of Docker's runtime of our name.

    None when there is none of them.
    """
    program = program_of(root, kata_layout.SHIM) or program_of(root, kata_layout.release_shim(runtime))
    if program is None:
        with suppress(NodeError):  # with a broken daemon.json dockerd starts nothing; who needs the file reports it
            launcher = _docker_runtime(root)
            return program_of(root, launcher.shim) if launcher else None
    return program


def version(root: Path) -> str | None:
    """The release from /opt/kata/VERSION, else from `kata-runtime --version`; None when neither names it."""
    content = read_bytes(root, f"{kata_layout.INSTALL_FOLDER}/VERSION")
    if content is None and root != Path("/"):
        return None  # a program of this machine shows nothing about another root folder
    output = content.decode(errors="replace") if content is not None else _kata_runtime()
    match = re.search(r"\d+\.\d+\.\d+[\w.-]*", printable(output, 400))
    return match[0] if match else None


def _kata_runtime() -> str:
    from nodekit.host.process import run  # loads subprocess, which a run without a program does not need

    try:
        result = run(["kata-runtime", "--version"], timeout=20, check=False)
    except NodeError:
        return ""
    return result.stdout if result.code == 0 else ""
