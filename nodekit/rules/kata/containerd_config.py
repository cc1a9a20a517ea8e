"""Read containerd's configuration as containerd does, and decide where and how a Kata handler is registered in it."""

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.docker.daemon_json import RUNTIME_TYPE, configured
from nodekit.rules.kata import kata_config
from nodekit.rules.kata.kata_launchers import CRI_PLUGINS, imports
from nodekit.rules.shapes import mapping
from nodekit.rules.text import printable

DROP_IN = "60-kata-nodes.toml"
"""Our file where containerd imports a folder: after those of packages, before what an administrator numbers from 70 on."""
IMPORTS = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
"""What containerd's own default configuration imports from 2.2 on, for a main file that we are the first to write."""
BEGIN, END = "# BEGIN kata-nodes", "# END kata-nodes"
"""Lines around our tables in a file that is not ours."""
IMAGES_PLUGIN = "io.containerd.cri.v1.images"
DEVMAPPER, DEVMAPPER_1 = "io.containerd.snapshotter.v1.devmapper", "devmapper"
"""The plugin of the device mapper snapshotter, and its name in a file of version 1."""
SNAPSHOTTERS = {"firecracker": "devmapper"}
"""Hypervisors whose guests cannot share the node's file systems, and the snapshotter that gives them block devices."""
RUNC_TYPE = "io.containerd.runc.v2"
"""Type of the handler that containerd has by itself (1.6 and 1.7, `pkg/cri/config/config_unix.go`)."""
MIGRATES_EACH = (2, 3)
"""First release that migrates each file by itself. Those before, from 2.0 on, merge files as they are written, then migrate from
the version of the last one that names it (`cmd/containerd/server/config/config.go`, LoadConfig)."""
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Names of handlers: DNS labels (Kubernetes, RuntimeClass.handler)."""

File = tuple[str, Mapping[str, Any]]
"""Path and table of one file of a configuration."""


class Handler(NamedTuple):
    """A Kata handler to register in a node's container runtime."""

    name: str
    shim: str
    """Absolute path of the shim: a runtime that a distribution starts has a PATH of its own."""
    config_path: str
    """The configuration that is proven; without a name in the handler the environment of the runtime would decide."""
    pod_annotations: tuple[str, ...] = ()
    """Annotations of pods that reach Kata, by name or pattern (containerd, `pod_annotations`); others are dropped on the node."""
    snapshotter: str | None = None
    """Where it is not the runtime's own: Firecracker has no shared file system and needs a block device (Kata's guide "Kata
    Containers with AWS Firecracker")."""


class Registered(NamedTuple):
    """A handler that a configuration holds."""

    file: str
    """The last file that says something of it."""
    runtime_type: object
    runtime_path: object
    config_path: object
    keeps_devices: bool
    """Whether a privileged pod gets none of the node's devices (`privileged_without_host_devices`)."""
    pod_annotations: tuple[str, ...] = ("*",)
    """Patterns of the annotations of pods that reach Kata; with CRI-O all do."""

    def without(self, annotations: Sequence[str]) -> list[str]:
        """Those of the annotations, names or patterns, that do not reach Kata."""
        return [name for name in annotations if not any(fnmatchcase(name, pattern) for pattern in self.pod_annotations)]


class Target(NamedTuple):
    """Where the tables of a handler belong."""

    file: str
    strategy: str
    """`drop-in`: a file of ours that containerd imports; `edit`: tables at the end of a file that is there."""
    version: int
    """Version of the configuration format that the file has, or will have."""
    reason: str


def check(name: str, pod_annotations: Sequence[str]) -> None:
    """Raise NodeError `bad-input` for a name of a handler, or of an annotation, that cannot stand in a configuration."""
    if not NAME.fullmatch(name):
        raise NodeError(
            "bad-input",
            f"Key handler.name is {printable(repr(name), 80)}, not the name of a handler",
            expected="a DNS label, such as kata-qemu",
        )
    for annotation in pod_annotations:
        if not re.fullmatch(r"[A-Za-z0-9._/*-]+", annotation):
            raise NodeError(
                "bad-input",
                f"Key handler.podAnnotations holds {printable(repr(annotation), 80)}, not the name of an annotation",
                expected="names such as io.katacontainers.config.hypervisor.default_vcpus",
            )


def release(text: str) -> tuple[int, int] | None:
    """The release that `containerd --version` or `kubelet --version` prints, as (2, 2); None when it prints none.

    A unit may start a shell that starts the program; what that shell prints is not it.
    """
    if not text.startswith(("containerd", "Kubernetes ")):
        return None
    match = re.search(r"\bv?(\d{1,3})\.(\d{1,3})\.\d", text.partition(" ")[2])
    return (int(match[1]), int(match[2])) if match else None


def version(files: Sequence[File]) -> int:
    """Version of the format of the main file: 1 where it names none, as containerd takes it."""
    named = files[0][1].get("version") if files else None
    return named if isinstance(named, int) and not isinstance(named, bool) and named > 0 else 1


def plugin(version_of_file: int) -> str:
    """The plugin whose table holds the handlers in a file of this version."""
    return ("cri", *CRI_PLUGINS)[min(version_of_file, 3) - 1]


def plugin_table(file: Mapping[str, Any], unversioned: int | None = None) -> Mapping[str, Any]:
    """The table of the CRI plugin in one file; empty when there is none.

    Its name depends on the file's version: from 3 on the older name holds other settings. `unversioned` is the version that
    containerd takes a file for that names none; with None such a file counts in whichever way it is written.
    """
    plugins = mapping(file.get("plugins"))
    names: tuple[str, ...] = ("cri", *CRI_PLUGINS)
    if "version" in file:
        names = (plugin(version([("", file)])),)
    elif unversioned is not None:
        names = (plugin(unversioned),)
    return next((mapping(plugins[name]) for name in names if name in plugins), {})


def cri_disabled(files: Sequence[File]) -> str | None:
    """The file that turns the CRI plugin off, as the one in Docker's package containerd.io does; None when it is on."""
    names = {"cri", "io.containerd.grpc.v1.cri", *CRI_PLUGINS}
    for path, table in files:
        disabled = table.get("disabled_plugins")
        if isinstance(disabled, list) and names & {plugin for plugin in disabled if isinstance(plugin, str)}:
            return path
    return None


def _merges_as_written(of_release: tuple[int, int]) -> bool:
    return (2, 0) <= of_release < MIGRATES_EACH


def last_version(files: Sequence[File]) -> int:
    """Version of the last file that names one; 0 where none does."""
    return next((named for file in reversed(files) if "version" in file[1] and (named := version([file]))), 0)


def unversioned_as(files: Sequence[File], of_release: tuple[int, int]) -> int | None:
    """The version that containerd takes a file for that names none; None where it migrates every name in it.

    Before 2.0 it reads version 1, so it ignores tables with the plugin's name of version 2 [measured with 1.6.20]
    (`services/server/config/config.go`, Decode). From 2.0 on it migrates nothing without a version (LoadConfig). In both, a
    version in another file counts for all files.
    """
    if of_release >= MIGRATES_EACH:
        return None
    return last_version(files) or (1 if of_release < (2, 0) else 3)


def counting(files: Sequence[File], of_release: tuple[int, int]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each file whose table of the CRI plugin containerd reads, with that table.

    Where it merges them as they are written, one of version 3 at the end, as NVIDIA's toolkit writes it, puts the tables of every
    file of version 2 out of use [measured with 2.2.0].
    """
    unversioned = unversioned_as(files, of_release)
    is_newest = _merges_as_written(of_release) and last_version(files) >= 3
    read = [file for file in files if not is_newest or "version" not in file[1] or version([file]) >= 3]
    return [(path, plugin_table(file, unversioned)) for path, file in read]


def form_of(files: Sequence[File], of_release: tuple[int, int]) -> int:
    """Version of the tables that we add to these files: that of the main file, or of what puts its tables out of use."""
    runtimes = [mapping(plugin_table(file).get("containerd")).get("runtimes") for _, file in files if file.get("version") == 3]
    # Where tables of version 3 hold handlers, a migration of those of version 2 adds none to them.
    if _merges_as_written(of_release) and (last_version(files) >= 3 or any(runtimes)):
        return 3
    # With a last file of version 2 all is migrated from there: tables of version 3 would put that file's handlers out of use.
    if of_release < (2, 0) or (_merges_as_written(of_release) and last_version(files) == 2):
        return last_version(files) or 1
    if version(files) == 1:
        if of_release >= MIGRATES_EACH and CRI_PLUGINS[0] in mapping(files[0][1].get("plugins")):
            # A migration adds no handler of version 2 to a table of version 3 in the same file (`plugins/cri/runtime/plugin.go`).
            return 2
        # It takes a file without a version for one of version 3, but for names without a dot [measured with 2.2.0].
        return last_version(files) if last_version(files) > 1 else 3
    return version(files)


def merged_plugin(files: Sequence[File], of_release: tuple[int, int]) -> dict[str, Any]:
    """The CRI plugin's table that counts: from 2.0 files are merged; before, the last that has the table replaces it as a whole
    [measured with 1.6.20, 1.7.24 and 2.2.0]."""
    whole: dict[str, Any] = {}
    for _, table in counting(files, of_release):
        if table:
            whole = kata_config.merged(whole, table) if of_release >= (2, 0) else dict(table)
    return whole


def registered(files: Sequence[File], of_release: tuple[int, int], name: str) -> Registered | None:
    """The handler of that name; None when the configuration has none."""
    entry = mapping(mapping(mapping(merged_plugin(files, of_release).get("containerd")).get("runtimes")).get(name))
    if not entry:
        return None
    read = counting(files, of_release)
    holders = [path for path, table in read if name in mapping(mapping(table.get("containerd")).get("runtimes"))]
    annotations = entry.get("pod_annotations")
    return Registered(
        holders[-1],
        entry.get("runtime_type"),
        entry.get("runtime_path"),
        configured(entry.get("options")),
        entry.get("privileged_without_host_devices") is True,
        tuple(each for each in annotations if isinstance(each, str)) if isinstance(annotations, list) else (),
    )


def changed_handlers(before: Mapping[str, Any], after: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """Which of the handlers `names` start something else in the second of two configurations that containerd printed whole.

    Options that are empty or off are not told from those that are absent, as they are once a file names a handler.
    """
    tables = [mapping(mapping(plugin_table(each).get("containerd")).get("runtimes")) for each in (before, after)]

    def start(table: Mapping[str, Any], name: str) -> tuple[object, ...] | None:
        entry = table.get(name)
        if not isinstance(entry, Mapping):
            return None
        options = {key: value for key, value in mapping(entry.get("options")).items() if value}
        return (
            options,
            *(entry.get(key) or None for key in ("runtime_type", "runtime_path", "snapshotter", "base_runtime_spec")),
        )

    return sorted(name for name in names if start(tables[0], name) != start(tables[1], name))


def handlers(files: Sequence[File], of_release: tuple[int, int]) -> set[str]:
    """The names of all handlers, with the one that containerd has by itself."""
    return {"runc", *mapping(mapping(merged_plugin(files, of_release).get("containerd")).get("runtimes"))}


def systemd_cgroups(files: Sequence[File], of_release: tuple[int, int]) -> bool:
    """Whether the default handler puts containers into cgroups by systemd, which containerd reports as its driver to a kubelet
    that asks (containerd, `internal/cri/server/runtime_config_linux.go`)."""
    cri = mapping(merged_plugin(files, of_release).get("containerd"))
    default = cri.get("default_runtime_name", "runc")
    entry = mapping(mapping(cri.get("runtimes")).get(default if isinstance(default, str) else "runc"))
    old = merged_plugin(files, of_release).get("systemd_cgroup")
    return mapping(entry.get("options")).get("SystemdCgroup") is True or old is True


def hides_runc(files: Sequence[File], of_release: tuple[int, int]) -> bool:
    """Whether a first handler in these files takes the place of the one that containerd has by itself, runc.

    Before 2.0 the handlers of a file are all that there are; without the default one the CRI plugin does not load, and the node
    starts no pod ("no corresponding runtime configured" [measured with 1.6.20]; kata-containers issue 3229).
    """
    return of_release < (2, 0) and not mapping(merged_plugin(files, of_release).get("containerd")).get("runtimes")


def address(files: Sequence[File]) -> str | None:
    """The socket that the files name; None where none does. Files of version 4 name it in a plugin's table
    (`cmd/containerd/server/config/config.go`, v3Migrate)."""
    tables = [
        table
        for _, file in files
        for table in (file.get("grpc"), mapping(file.get("plugins")).get("io.containerd.server.v1.grpc"))
    ]
    named = [path for table in tables if isinstance(path := mapping(table).get("address"), str) and path.startswith("/")]
    return named[-1] if named else None


def has_snapshotter_of_handler(files: Sequence[File], of_release: tuple[int, int], snapshotter: str) -> bool:
    """Whether the handler's pods get that snapshotter. Before 1.7 a handler names none (1.6, `pkg/cri/config/config.go`, type
    Runtime), so all pods have the same."""
    if of_release >= (1, 7):
        return True
    return bool(mapping(merged_plugin(files, of_release).get("containerd")).get("snapshotter") == snapshotter)


def has_devmapper(files: Sequence[File]) -> bool:
    """Whether the device mapper snapshotter has a pool, without which containerd does not load it."""
    plugins = [mapping(file.get("plugins")) for _, file in files]
    return any(mapping(table.get(name)).get("pool_name") for table in plugins for name in (DEVMAPPER, DEVMAPPER_1))


def target(files: Sequence[File], of_release: tuple[int, int], main: str) -> Target:
    """Where a handler belongs: in our own file where a folder is imported and files are merged, else in the file that counts.

    `main` is the main file, which may be absent or empty; then containerd 2.2.0 reads no drop-in either [measured]. Before 2.0 a
    drop-in would replace every other setting of the CRI plugin, runc's handler and the pause image among them [measured].
    Raises NodeError `file-invalid` for a table `cri` of version 1 under containerd 2, which reads no setting in it [measured].
    """
    written = bool(files and files[0][1])
    form = version(files) if written else (3 if of_release >= (2, 0) else 2)
    if of_release >= (2, 0) and form == 1 and any("cri" in mapping(file.get("plugins")) for _, file in files):
        raise NodeError(
            "file-invalid",
            f"{main} is of version 1, and containerd {of_release[0]}.{of_release[1]} takes no setting of CRI from such a file",
            "migrate",
        )
    form = form_of(files, of_release) if written else form
    patterns = imports(files[0][1], main) if written else []
    folders = [each.removesuffix("/*.toml") for each in patterns if each.endswith("/*.toml") and each.count("*") == 1]
    if of_release >= (2, 0) and folders:
        return Target(
            f"{folders[0]}/{DROP_IN}", "drop-in", form, f"containerd merges what it imports, and imports {folders[0]}/*.toml"
        )
    holders = [path for path, table in counting(files, of_release) if table]
    if of_release < (2, 0) and holders:
        why = f"before containerd 2.0 one file alone counts for the CRI plugin, and it is {holders[-1]}"
        return Target(holders[-1], "edit", form, why)
    return Target(main, "edit", form, f"{main} imports no folder")


def tables(handler: Handler, form: int) -> str:
    """The tables of a handler, for a file of that version of the format.

    `privileged_without_host_devices`: without it a privileged pod's guest gets the node's block devices (Kata's guide
    "Privileged Kata Containers"). Sources of the keys: containerd, `internal/cri/config/config.go`.
    """
    place = f'plugins."{plugin(form)}".containerd.runtimes.{handler.name}'
    annotations = ", ".join(_quoted(annotation) for annotation in handler.pod_annotations)
    lines = [
        f"[{place}]",
        f"runtime_type = {_quoted(RUNTIME_TYPE)}",
        f"runtime_path = {_quoted(handler.shim)}",
        "privileged_without_host_devices = true",
        f"pod_annotations = [{annotations}]",
        *([f"snapshotter = {_quoted(handler.snapshotter)}"] if handler.snapshotter else []),
        f"[{place}.options]",
        f"ConfigPath = {_quoted(handler.config_path)}",
    ]
    if handler.snapshotter and form >= 3:
        # The image is unpacked by another plugin, which does not look at the handler (containerd pull request 12836).
        lines += [
            f'[plugins."{IMAGES_PLUGIN}".runtime_platforms.{handler.name}]',
            f"snapshotter = {_quoted(handler.snapshotter)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def drop_in(handler: Handler, form: int) -> str:
    """The whole text of a file of ours."""
    return f"# Written by kata-nodes.\nversion = {form}\n{tables(handler, form)}"


def names_handler(template: str, name: str) -> bool:
    """Whether a template of k3s or RKE2, which is no TOML before it is filled in, has a table of that handler."""
    header = rf"""^[ \t]*\[[^]#\n]*\.runtimes\.["']?{re.escape(name)}["']?[ \t]*\]"""
    return re.search(header, without_block(template), re.MULTILINE) is not None


def without_block(text: str) -> str:
    """A text without our tables, which an editor may have given the line ends of Windows."""
    return re.sub(rf"(?:\r?\n)?^{BEGIN}\r?$.*?^{END}\r?$\n?", "", text, flags=re.MULTILINE | re.DOTALL)


def with_block(text: str, block: str) -> str:
    """A text that ends with our tables, between marks, in place of those of an earlier run."""
    kept = without_block(text)
    return f"{kept}{'' if kept.endswith(chr(10)) or not kept else chr(10)}\n{BEGIN}\n{block}{END}\n"


def edited(text: str, path: str, handler: Handler, form: int, *, with_runc: bool = False) -> str:
    """A file of containerd with the tables of a handler at its end, and before them runc's where that would be lost.

    Raises NodeError `file-invalid` where TOML does not let tables be added, such as behind `plugins = { … }`.
    """
    kept = without_block(text)
    # A file of comments alone sets no version, and without one containerd before 2.0 looks for tables of version 1 alone.
    head = "" if kata_config.table(kept, path) else f"version = {form}\n"
    if form >= 3 and not kept.strip():
        head += IMPORTS
    if with_runc:
        head += f'[plugins."{plugin(form)}".containerd.runtimes.runc]\nruntime_type = {_quoted(RUNC_TYPE)}\n'
    result = with_block(text, head + tables(handler, form))
    try:
        kata_config.table(result, path)
    except NodeError as error:
        raise NodeError(
            "file-invalid",
            f"The handler {printable(handler.name, 80)} cannot be added to {path} as a table: {error.message}",
            "headers",
        ) from None
    return result
