"""What Kata refuses before it boots a guest, read off its configuration; each rule names the code that refuses.

Read in kata-containers 3.2.0, 3.27.0, 3.32.0 and 4.1.0. Paths below are those of that repository; `config.go` is
`src/runtime/pkg/katautils/config.go`, `types` is `src/libs/kata-types/src/config`. The lists `valid_hypervisor_paths`,
`valid_virtio_fs_daemon_paths` and so on are not among the rules: both runtimes hold only a pod's annotations against them
(`src/runtime/pkg/oci/utils.go`, `addHypervisorPathOverrides`; `validate_hypervisor_path` and others).
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nodekit.rules.kata import guest_memory, kata_keys
from nodekit.rules.kata.kata_layout import version_numbers
from nodekit.rules.text import printable

GO_QEMU = "/usr/bin/qemu-system-x86_64"
GO_KERNEL = "/usr/share/kata-containers/vmlinuz.container"
"""What the Go runtime takes where `path` and `kernel` are unset (`config-settings.go.in`, the same in release builds)."""
RUST_QEMU = GO_QEMU
"""`types/default.rs`, `DEFAULT_QEMU_BINARY_PATH`."""
GO_MOST_CPUS = 240
"""Processors of a guest with the Go runtime on x86_64 (`src/runtime/pkg/govmm/vmm_amd64.go`, `MaxVCPUs`)."""
FIRST_READ, FIRST_UNREAD = (3, 2, 0), (4, 2, 0)
"""Releases whose lists of permitted values are known here; another release may know more of them."""
TIMEOUTS = {"dial_timeout_ms": 10, "reconnect_timeout_ms": 3000}
"""What an agent of the Rust runtime waits between two tries and in all, where it is unset (`types/agent.rs`)."""
RUST_DENIES = (3, 29, 0)
"""First release whose Rust runtime refuses an unknown key of an agent or a factory (`#[serde(deny_unknown_fields)]`)."""
RUST_PLUGINS = {
    "cloud-hypervisor": ((3, 2, 0), (3, 30, 0)),
    "clh": ((3, 30, 0), FIRST_UNREAD),
    "dragonball": ((3, 2, 0), FIRST_UNREAD),
    "firecracker": ((3, 7, 0), FIRST_UNREAD),
    "openvmm": ((4, 1, 0), FIRST_UNREAD),
    "qemu": ((3, 2, 0), FIRST_UNREAD),
    "remote": ((3, 11, 0), FIRST_UNREAD),
}
"""Hypervisor -> the first release whose Rust runtime may know it, and the first that does not (`virt_container/src/lib.rs`,
`init`; `openvmm` only where it was built in)."""


class File(NamedTuple):
    """What lies at a path, links followed."""

    kind: str
    """`file`, `folder`, `missing`, `loop` (links that lead to each other), or `other`."""
    executable: bool = False
    size: int = 0
    path: str = ""
    """Where it lies, links followed; empty for what is not there."""


class Machine(NamedTuple):
    """What of the node the rules need to know."""

    files: Mapping[str, File]
    """Every path of `paths`."""
    architecture: str = "x86_64"
    cpus: int = 1
    memory_mib: int = 0
    """All of its memory; 0 when that is not known."""


class Configuration(NamedTuple):
    """The merged configuration, and who reads it."""

    document: Mapping[str, Any]
    origins: Mapping[tuple[str, ...], str]
    """Where a key has its value from: `("hypervisor", "qemu", "kernel")` -> file."""
    file: str
    """The base file, links followed."""
    runtime: str
    hypervisor: str
    version: str | None

    def table(self, *names: str) -> Mapping[str, Any]:
        """A table by its name; empty where there is none."""
        table: Any = self.document
        for name in names:
            table = table.get(name) if isinstance(table, Mapping) else None
        return table if isinstance(table, Mapping) else {}

    @property
    def own(self) -> Mapping[str, Any]:
        """The table `[hypervisor.NAME]`."""
        return self.table("hypervisor", self.hypervisor)

    def text(self, key: str) -> str:
        """A key of the hypervisor's table; empty where it is unset, which Kata does not tell from an empty text."""
        value = self.own.get(key)
        return value if isinstance(value, str) else ""

    def origin(self, *names: str) -> str:
        """The file that gives a key its value, or the first key of a table; the base file for one that is not set."""
        within = (file for key, file in self.origins.items() if key[: len(names)] == names)
        return self.origins.get(names) or next(within, self.file)

    @property
    def numbers(self) -> tuple[int, int, int] | None:
        """The release; None when it is not known."""
        return version_numbers(self.version) if self.version else None

    def since(self, *numbers: int) -> bool:
        """Whether this is surely that release or a later one."""
        return self.numbers is not None and self.numbers >= numbers

    def perhaps_since(self, *numbers: int) -> bool:
        """Whether this is that release or a later one, or not known."""
        return self.numbers is None or self.numbers >= numbers

    @property
    def release(self) -> tuple[int, int, int] | None:
        """This release, where its source was read; None otherwise, and when it is not known."""
        return self.numbers if self.numbers is not None and FIRST_READ <= self.numbers < FIRST_UNREAD else None

    @property
    def read(self) -> bool:
        """Whether the lists of permitted values are known for this release; true when the release is not known."""
        return self.numbers is None or self.release is not None

    def kind(self, section: str, key: str) -> str | None:
        """The type of a key in this release; None where it does not read it, or is not known to (`kata_keys.kind`)."""
        return kata_keys.kind(self.runtime, section, key, self.release)


class Refusal(NamedTuple):
    """One reason for which Kata would start no guest."""

    cause: str
    """Key, value and file, and what is wrong with them."""
    remedy: str


class _Program(NamedTuple):
    """A file that a key names."""

    key: str
    path: str
    runs: bool = False
    """Whether Kata starts it as a program."""
    boots: bool = False
    """Whether the Go runtime refuses it when it is empty."""
    folder: bool = False
    """Whether it may be a folder."""


def paths(configuration: Configuration) -> list[str]:
    """Every absolute path that the rules ask about."""
    named = [program.path for program in _programs(configuration)] + _mounts(configuration)
    return [path for path in dict.fromkeys(named) if path.startswith("/")]


def refusals(configuration: Configuration, machine: Machine) -> list[Refusal]:
    """What Kata would refuse, in the order in which Kata would meet it; empty when it would start a guest."""
    rules = _rust(configuration, machine) if configuration.runtime == "rust" else _go(configuration, machine)
    return list(dict.fromkeys(rules))


def _go(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`config.go`, `LoadConfiguration`: decode, [runtime], each hypervisor, `checkConfig`; then the sandbox and QEMU."""
    yield from _types(configuration)
    yield from _unknown_keys_of_drop_ins(configuration)
    yield from _value(configuration, ("runtime", "internetworking_model"), ("default", "macvtap", "tcfilter", "none"))
    yield from _value(configuration, ("runtime", "vfio_mode"), ("vfio", "guest-kernel"))
    yield from _several_hypervisors(configuration)
    yield from _files(configuration, machine)
    yield from _go_devices(configuration)
    if configuration.since(3, 28, 0):
        yield from _empty_volumes(configuration)
    yield from _experimental(configuration)
    yield from _bind_mounts(configuration, machine)
    yield from _network_namespace(configuration)
    yield from _sizes(configuration, machine)
    yield from _factory(configuration)
    yield from _ports(configuration)
    yield from _nameless_parameters(configuration)
    yield from _boot_assets(configuration)
    yield from _go_guest(configuration, machine)
    yield from _go_most(configuration, machine)


def _rust(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`src/runtime-rs/crates/runtimes/src/manager.rs`, `load_config`: decode, `adjust_config`, `validate`; then the sandbox."""
    yield from _types(configuration)
    yield from _rust_unknown_keys(configuration)
    yield from _rust_other_hypervisors(configuration)
    if configuration.since(3, 20, 0) and not configuration.own.get("disable_block_device_use"):
        yield from _value(configuration, _hypervisor(configuration, "block_device_aio"), ("io_uring", "native", "threads"))
    yield from _files(configuration, machine)
    yield from _bind_mounts(configuration, machine)
    yield from _rust_hypervisor(configuration, machine)
    models = ("macvtap", "none", "tcfilter", "l3forwarding")  # the last one from 4.1.0 on
    yield from _value(configuration, ("runtime", "internetworking_model"), models)
    yield from _value(configuration, ("runtime", "vfio_mode"), ("vfio", "guest-kernel"))
    if configuration.since(3, 31, 0):
        yield from _empty_volumes(configuration)
    yield from _rust_runtime(configuration)
    yield from _nameless_parameters(configuration)


def _hypervisor(configuration: Configuration, key: str) -> tuple[str, str, str]:
    return ("hypervisor", configuration.hypervisor, key)


def _setting(configuration: Configuration, names: Sequence[str], value: object) -> str:
    """A key with its value, its table and its file."""
    literal = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    table, file = ".".join(names[:-1]), configuration.origin(*names)
    return printable(f"{names[-1]} = {printable(literal, 150)} of [{table}] in {file}", 300)


def _tables(configuration: Configuration) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each table whose keys have types: the section of `kata_keys` that lists them, and the table's name."""
    rust = configuration.runtime == "rust"
    for name in configuration.table("hypervisor"):
        yield "hypervisor", ("hypervisor", name)
        if rust:
            yield "factory", ("hypervisor", name, "factory")
            yield "rootless_user", ("hypervisor", name, "rootless_user")
    for name in configuration.table("agent"):
        yield "agent", ("agent", name)
        if rust:
            yield "mem_agent", ("agent", name, "mem_agent")
    if not rust:
        yield "factory", ("factory",)
    yield "runtime", ("runtime",)


def _types(configuration: Configuration) -> Iterator[Refusal]:
    """A value of another type than the runtime's; `kata_keys` has the types by release.

    Go: BurntSushi's `incompatible types`, and a negative or too large number for an unsigned one; Rust: serde.
    """
    for section, names in _tables(configuration):
        for key, value in configuration.table(*names).items():
            kind = configuration.kind(section, key)
            if kind is not None and not kata_keys.fits(value, kind):
                words = kata_keys.words(kind)
                yield Refusal(f"{_setting(configuration, (*names, key), value)} is not {words}", f"Write {words} as {key} there")


def _unknown_keys_of_drop_ins(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `applyKey`, `getValue`: `key … not found`. The main file's unknown keys are passed over in silence."""
    if configuration.release is None:
        return
    for names, file in configuration.origins.items():
        if names[0] not in ("hypervisor", "agent") or len(names) < 3 or file == configuration.file:
            continue
        if configuration.kind(names[0], names[2]) is None:
            yield _unknown(configuration, names[0], names[:3], "takes from no drop-in")


def _rust_unknown_keys(configuration: Configuration) -> Iterator[Refusal]:
    """`types/agent.rs`, `Agent` and `MemAgent`; `types/hypervisor/mod.rs`, `Factory` and `RootlessUser`: `unknown field`."""
    if configuration.release is None or configuration.release < RUST_DENIES:
        return
    for section, names in _tables(configuration):
        if section in ("agent", "mem_agent", "factory", "rootless_user"):
            for key in configuration.table(*names):
                if configuration.kind(section, key) is None:
                    yield _unknown(configuration, section, (*names, key), "refuses")


def _unknown(configuration: Configuration, section: str, names: tuple[str, ...], verb: str) -> Refusal:
    """A key that this release does not read, and which releases read it."""
    runtime = "Rust" if configuration.runtime == "rust" else "Go"
    history = kata_keys.history(configuration.runtime, section, names[-1])
    return Refusal(
        printable(
            f"{configuration.origin(*names)} sets {names[-1]} in [{'.'.join(names[:-1])}], a key that Kata's {runtime} runtime "
            f"{configuration.version} {verb}" + (f"; it is a key of the releases {history}" if history else ""),
            400,
        ),
        f"Correct or remove {printable(names[-1], 60)} in that file",
    )


def _value(configuration: Configuration, names: tuple[str, ...], permitted: Sequence[str]) -> Iterator[Refusal]:
    """A text that must be one of a list; empty counts as unset.

    Go: `SetModel` (`src/runtime/virtcontainers/network.go`), `VFIOSetMode` (`src/runtime/pkg/device/config/config.go`),
    `config.go`: `blockDeviceDriver`, `blockDeviceAIO`, `sharedFS`, `extraMonitorSocket`, `emptyDirMode`. Rust: the functions
    `validate` of `types/runtime.rs` and `types/hypervisor/mod.rs`.
    """
    value = configuration.table(*names[:-1]).get(names[-1])
    if not configuration.read or not isinstance(value, str) or not value or value in permitted:
        return
    yield Refusal(
        f"{_setting(configuration, names, value)} is not a value that Kata knows",
        f"Set {names[-1]} to one of {', '.join(permitted)}",
    )


def _several_hypervisors(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `updateRuntimeConfigHypervisor`: every table must be whole, and the last of a Go map's random order counts."""
    others = [name for name in configuration.table("hypervisor") if name != configuration.hypervisor]
    if not others:
        return
    where = {
        file
        for names, file in configuration.origins.items()
        if names[0] == "hypervisor" and len(names) > 1 and names[1] in others
    }
    yield Refusal(
        printable(
            f"besides [hypervisor.{configuration.hypervisor}] there is [hypervisor.{others[0]}] in "
            f"{', '.join(sorted(where)) or configuration.file}, and Kata's Go runtime takes one of them at random",
            400,
        ),
        f"Remove [hypervisor.{printable(others[0], 60)}] there",
    )


def _rust_other_hypervisors(configuration: Configuration) -> Iterator[Refusal]:
    """`types/hypervisor/mod.rs`, `Hypervisor::adjust_config` and `validate`, which go over every table.

    `Can not find plugin for hypervisor`; an unset kernel becomes the bare name `vmlinuz` or `vmlinux` (`types/default.rs`), which
    lies in no container's folder (`BootInfo::adjust_config`); `validate` of `qemu.rs`, `ch.rs`, `dragonball.rs` and
    `firecracker.rs` wants an image, or an initrd for all but the last, which wants a path too. `remote` needs neither, and
    `openvmm` was not read.
    """
    if not configuration.read:
        return
    release = configuration.release
    for name in configuration.table("hypervisor"):
        if name == configuration.hypervisor:
            continue
        table, where = configuration.table("hypervisor", name), configuration.origin("hypervisor", name)
        remedy = f"Remove [hypervisor.{printable(name, 60)}] there"
        first, end = RUST_PLUGINS.get(name, (FIRST_UNREAD, FIRST_UNREAD))
        if name not in RUST_PLUGINS or (release is not None and not first <= release < end):
            yield Refusal(
                printable(f"{where} sets [hypervisor.{name}], a hypervisor that Kata's Rust runtime does not know", 400),
                remedy,
            )
        elif name not in ("remote", "openvmm"):
            boots, programs = (("image",), ["path"]) if name == "firecracker" else (("image", "initrd"), [])
            secure = table.get("confidential_guest") is True and str(table.get("vm_rootfs_driver", "")).endswith("ccw")
            unset = [key for key in ("kernel", *programs) if not table.get(key)]
            if not secure and not any(table.get(key) for key in boots):
                unset += boots
            if unset:
                yield Refusal(
                    printable(
                        f"{where} sets no {' and no '.join(unset)} in [hypervisor.{name}], and Kata's Rust runtime refuses every "
                        "table of a hypervisor that is not whole",
                        400,
                    ),
                    remedy,
                )


def _programs(configuration: Configuration) -> list[_Program]:
    """The files that the configuration names, in the order in which the runtime asks for them.

    Go: `config.go`, `newQemuHypervisorConfig`, `newFirecrackerHypervisorConfig`, each by `ResolvePath`; virtiofsd is not asked
    for but started (`virtiofsd.go`). Rust: `adjust_config` of `types/hypervisor/qemu.rs` and `mod.rs` (`MemoryInfo`: the
    backend file, up to 3.31), `validate` of `firecracker.rs`.
    """
    text = configuration.text
    rust, qemu = configuration.runtime == "rust", configuration.hypervisor == "qemu"
    path = text("path") or ("" if rust and not qemu else RUST_QEMU if rust else GO_QEMU)
    named = [_Program("path", path, runs=True)]
    if not qemu:
        named.append(_Program("jailer_path", text("jailer_path"), runs=True))
    named.append(_Program("kernel", text("kernel") or ("" if rust else GO_KERNEL)))
    assets = [_Program("initrd", text("initrd"), boots=True), _Program("image", text("image"), boots=True)]
    named += reversed(assets) if rust else assets
    flashes = configuration.own.get("pflashes")
    pflashes = [_Program("pflashes", path) for path in flashes if isinstance(path, str)] if isinstance(flashes, list) else []
    firmware = [_Program("firmware", text("firmware"))]
    if qemu and not rust:
        firmware.append(_Program("firmware_volume", text("firmware_volume")))
    named += [*firmware, *pflashes] if rust else [*pflashes, *firmware] if qemu else firmware
    if configuration.kind("hypervisor", "file_mem_backend") and rust:
        named.append(_Program("file_mem_backend", text("file_mem_backend"), folder=True))
    if rust:
        named += [_Program("ctlpath", text("ctlpath")), _Program("entropy_source", text("entropy_source"))]
    if _needs_virtiofsd(configuration):
        named.append(_Program("virtio_fs_daemon", text("virtio_fs_daemon"), runs=True))
    return [program for program in named if program.path]


def _needs_virtiofsd(configuration: Configuration) -> bool:
    """Unset is virtio-fs for Go; for Rust unset shares nothing. Firecracker shares nothing with Go."""
    shared = configuration.text("shared_fs")
    if configuration.runtime == "rust":
        return shared in ("virtio-fs", "virtio-fs-nydus") or ("shared_fs" in configuration.own and shared == "")
    return configuration.hypervisor == "qemu" and shared in ("", "virtio-fs", "virtio-fs-nydus")


def _files(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """A named file that is not there, or not what it must be.

    Go: `ResolvePath` (`src/runtime/pkg/katautils/utils.go`): `file … does not exist`; Rust: `resolve_path!`, `validate_path!`.
    A program that cannot be executed, and a folder in a file's place, fail as soon as the program or QEMU is started.
    """
    for program in _programs(configuration):
        setting = _setting(configuration, _hypervisor(configuration, program.key), program.path)
        if not configuration.own.get(program.key):
            setting = (
                f"{configuration.file} sets no {program.key} in [hypervisor.{configuration.hypervisor}], "
                f"and Kata's own, {program.path},"
            )
        remedy = f"Put that file in its place (the verb kata installs a release of ours again), or correct {program.key}"
        if not program.path.startswith("/"):
            if configuration.runtime == "go" and program.key == "virtio_fs_daemon" and "/" not in program.path:
                continue  # looked up in the shim's PATH, which is not known here (`virtiofsd.go`, `exec.Command`)
            yield Refusal(
                f"{setting} is not an absolute path, and Kata looks for it in each container's own folder",
                f"Write the whole path as {program.key} there",
            )
            continue
        file = machine.files[program.path]
        if file.kind == "missing":
            yield Refusal(f"{setting} does not exist", remedy)
        elif file.kind == "loop":
            yield Refusal(f"{setting} is a symbolic link that leads back to itself", remedy)
        elif file.kind == "folder" and not program.folder:
            yield Refusal(f"{setting} is a folder", remedy)
        elif program.runs and file.kind == "file" and not file.executable:
            yield Refusal(f"{setting} is not executable", f"Make it executable: chmod 0755 {program.path}")
    if configuration.runtime == "rust":
        # `types/default.rs`: the default is a bare name, looked up in the shim's own folder; `firecracker.rs`: `validate`
        for key in ("kernel", "path") if configuration.hypervisor == "firecracker" else ("kernel",):
            if not configuration.text(key):
                yield _unset(configuration, key, f"Name the file in {key}")


def _unset(configuration: Configuration, key: str, remedy: str) -> Refusal:
    return Refusal(f"{configuration.file} sets no {key} in [hypervisor.{configuration.hypervisor}]", remedy)


def _go_devices(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `newQemuHypervisorConfig` and `newFirecrackerHypervisorConfig`, after the files."""
    drivers = ("virtio-scsi", "virtio-blk", "virtio-mmio", "nvdimm", "virtio-blk-ccw")
    yield from _value(configuration, _hypervisor(configuration, "block_device_driver"), drivers)
    if configuration.hypervisor != "qemu":
        return
    yield from _value(configuration, _hypervisor(configuration, "block_device_aio"), ("io_uring", "native", "threads"))
    shared = ("virtio-fs", "virtio-9p", "virtio-fs-nydus", "none")
    yield from _value(configuration, _hypervisor(configuration, "shared_fs"), shared)
    if _needs_virtiofsd(configuration) and not configuration.text("virtio_fs_daemon"):
        yield _unset(
            configuration,
            "virtio_fs_daemon",
            "Name virtiofsd in virtio_fs_daemon",
        )
    if configuration.text("shared_fs") in ("", "virtio-fs"):
        # `src/runtime/virtcontainers/virtiofsd.go`, `valid`
        modes = ("auto", "always", "never", *(["metadata"] if configuration.perhaps_since(3, 20, 0) else []))
        yield from _value(configuration, _hypervisor(configuration, "virtio_fs_cache"), modes)
    yield from _value(configuration, _hypervisor(configuration, "extra_monitor_socket"), ("hmp", "qmp", "qmp-pretty"))
    if configuration.since(3, 29, 0):
        yield from _sectors(configuration)


def _sectors(configuration: Configuration) -> Iterator[Refusal]:
    """Go: `config.go`, `validateBlockDeviceSectorSize(s)`; Rust: `types/hypervisor/mod.rs`, the same names; from 3.29.0 on."""
    sizes = []
    for key in ("block_device_logical_sector_size", "block_device_physical_sector_size"):
        size = configuration.own.get(key, 0)
        if not isinstance(size, int):
            return
        if size != 0 and (not 512 <= size <= 65536 or size & (size - 1)):
            setting = _setting(configuration, _hypervisor(configuration, key), size)
            yield Refusal(f"{setting} is not a size of a sector", f"Set {key} to 0 or a power of two from 512 to 65536")
        sizes.append(size)
    if 0 not in sizes and sizes[0] > sizes[1]:
        setting = _setting(configuration, _hypervisor(configuration, "block_device_logical_sector_size"), sizes[0])
        yield Refusal(f"{setting} is larger than the physical one, {sizes[1]}", "Set both to 0, Kata's own")


def _empty_volumes(configuration: Configuration) -> Iterator[Refusal]:
    """Go: `config.go`, `emptyDirMode`; Rust: `types/runtime.rs`, `validate`."""
    modes = ("shared-fs", "block-encrypted", *(("block-plain",) if configuration.since(4, 0, 0) else ()))
    yield from _value(configuration, ("runtime", "emptydir_mode"), modes)


def _experimental(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `LoadConfiguration`: `Unsupported experimental feature`; no release of 3.2 to 4.1 registers any."""
    features = configuration.table("runtime").get("experimental")
    if configuration.read and isinstance(features, list) and features:
        setting = _setting(configuration, ("runtime", "experimental"), features)
        yield Refusal(f"{setting} names a feature that Kata does not know", "Set experimental to []")


def _mounts(configuration: Configuration) -> list[str]:
    """The paths of `sandbox_bind_mounts`; the Rust runtime takes `:ro` and `:rw` behind them."""
    mounts = configuration.table("runtime").get("sandbox_bind_mounts")
    texts = [item for item in mounts if isinstance(item, str)] if isinstance(mounts, list) else []
    if configuration.runtime == "rust":
        texts = [path.removesuffix(":ro").removesuffix(":rw") for path in texts]
    return texts


def _bind_mounts(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """Go: `config.go`, `validateBindMounts`, which follows links first; Rust: `types/runtime.rs`, `adjust_config`."""
    names = ("runtime", "sandbox_bind_mounts")
    bases: set[str] = set()
    for path in _mounts(configuration):
        setting = _setting(configuration, names, path)
        if not path.startswith("/") or machine.files[path].kind in ("missing", "loop"):
            yield Refusal(f"{setting} does not exist", "Correct sandbox_bind_mounts there, or remove that path")
            continue
        base = (machine.files[path].path or path).rstrip("/").rpartition("/")[2]
        if configuration.runtime == "go" and base in bases:
            yield Refusal(f"{setting} leads to the same last part, {base}, as another of its paths", "Remove one of them")
        bases.add(base)


def _network_namespace(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `checkNetNsConfig`; an unset model is tcfilter."""
    runtime = configuration.table("runtime")
    if runtime.get("disable_new_netns") is True and runtime.get("internetworking_model") != "none":
        setting = _setting(configuration, ("runtime", "disable_new_netns"), True)
        yield Refusal(f'{setting} needs internetworking_model = "none"', "Set disable_new_netns to false")


def _sizes(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`config.go`, `checkHypervisorConfig`: an empty image or initrd, and an initrd as large as the guest's memory."""
    mib = guest_memory.of_guest(configuration.own.get("default_memory"), "go")
    for program in reversed([program for program in _programs(configuration) if program.boots and program.path.startswith("/")]):
        file = machine.files[program.path]
        setting = _setting(configuration, _hypervisor(configuration, program.key), program.path)
        if file.kind != "file":
            continue
        if file.size == 0:
            yield Refusal(f"{setting} is empty", f"Put the file of Kata's release in its place, or correct {program.key}")
        elif program.key == "initrd" and file.size >> 20 >= mib:
            yield Refusal(
                f"{setting} has {file.size >> 20} MiB, and the guest has {mib} MiB of memory", "Raise default_memory there"
            )


def _factory(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `checkFactoryConfig`; templates need an initrd up to 3.31."""
    factory = configuration.table("factory")
    old = configuration.version is not None and not configuration.since(3, 32, 0)
    if old and factory.get("enable_template") is True and not configuration.text("initrd"):
        setting = _setting(configuration, ("factory", "enable_template"), True)
        yield Refusal(f"{setting} needs an initrd, and none is named", "Set enable_template to false")
    number = factory.get("vm_cache_number")
    if configuration.hypervisor != "qemu" and isinstance(number, int) and number > 0:
        setting = _setting(configuration, ("factory", "vm_cache_number"), number)
        yield Refusal(f"{setting} works with QEMU only", "Set vm_cache_number to 0")


def _ports(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `checkPCIeConfig`; only QEMU's machine types q35 and virt have their values checked."""
    if configuration.hypervisor != "qemu" or not configuration.read:
        return
    hot, cold = (configuration.text(f"{plug}_plug_vfio") or "no-port" for plug in ("hot", "cold"))
    if hot != "no-port" and cold != "no-port":
        setting = _setting(configuration, _hypervisor(configuration, "hot_plug_vfio"), hot)
        yield Refusal(f'{setting} stands beside cold_plug_vfio = "{printable(cold, 60)}"', 'Set one of them to "no-port"')
        return
    if (configuration.text("machine_type") or "q35") in ("q35", "virt"):
        ports = ("no-port", "bridge-port", "root-port", "switch-port")
        for key in ("hot_plug_vfio", "cold_plug_vfio"):
            yield from _value(configuration, _hypervisor(configuration, key), ports)


def _boot_assets(configuration: Configuration) -> Iterator[Refusal]:
    """Exactly one of `image` and `initrd`; an empty text counts as unset.

    Go: `src/runtime/virtcontainers/hypervisor_config_linux.go`, `validateHypervisorConfig`: `Image and initrd path cannot be
    both set`, `Missing image and initrd path`, with IBM's secure execution as the exception; `fc.go`, `fcInitConfiguration`,
    makes a disk of either, and no guest boots from an initrd as a disk. Rust: `types/hypervisor/mod.rs`, `BootInfo::validate`,
    and `qemu.rs`, `firecracker.rs`: the latter boots from an image only.
    """
    image, initrd = configuration.text("image"), configuration.text("initrd")
    secure = configuration.own.get("confidential_guest") is True
    if image and initrd:
        files = sorted({configuration.origin(*_hypervisor(configuration, key)) for key in ("image", "initrd")})
        yield Refusal(
            printable(
                f'image = "{image}" and initrd = "{initrd}" are both set for [hypervisor.{configuration.hypervisor}] in '
                f"{', '.join(files)}",
                500,
            ),
            'Keep one of image and initrd, and set the other to ""',
        )
    elif configuration.hypervisor == "firecracker" and not image:
        yield _unset(configuration, "image", "Name the guest's image in image: Kata starts Firecracker with no initrd")
    elif not image and not initrd and not (secure and _is_ccw(configuration)):
        yield _unset(configuration, "image and no initrd", "Name the guest's image in image, or its RAM disk in initrd")


def _is_ccw(configuration: Configuration) -> bool:
    if configuration.runtime == "rust":
        return configuration.text("vm_rootfs_driver").endswith("ccw")
    return configuration.text("machine_type") == "s390-ccw-virtio"


def _go_guest(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`qemu_amd64.go`, `newQemuArch`: `unrecognised machinetype`; `hypervisor.go`, `GetKernelRootParams`: the image's type.

    `hypervisor_config_linux.go`, from 3.28.0 on: no virtio-mmio for a confidential guest. `qemu.go`, `CreateVM`:
    `Vhost-user-blk/scsi is enabled without HugePages`.
    """
    mmio = configuration.text("block_device_driver") == "virtio-mmio"
    if mmio and configuration.own.get("confidential_guest") is True and configuration.since(3, 28, 0):
        setting = _setting(configuration, _hypervisor(configuration, "block_device_driver"), "virtio-mmio")
        yield Refusal(f"{setting} is not for a confidential guest", 'Set block_device_driver to "virtio-scsi"')
    qemu = configuration.hypervisor == "qemu"
    if qemu and machine.architecture == "x86_64":
        types = ("q35", "microvm") if configuration.since(3, 27, 0) else ("q35", "microvm", "virt")
        yield from _value(configuration, _hypervisor(configuration, "machine_type"), types)
    if configuration.text("image"):
        yield from _value(configuration, _hypervisor(configuration, "rootfs_type"), ("ext4", "xfs", "erofs"))
    store, pages = (configuration.own.get(key) is True for key in ("enable_vhost_user_store", "enable_hugepages"))
    if qemu and store and not pages and configuration.read:
        setting = _setting(configuration, _hypervisor(configuration, "enable_vhost_user_store"), True)
        yield Refusal(f"{setting} needs enable_hugepages = true", "Set enable_vhost_user_store to false")


def _go_most(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """A guest of QEMU that starts with more processors or memory than it may have.

    `config.go`, `defaultVCPUs`, `defaultMaxVCPUs`, `defaultMemSz`; `src/runtime/pkg/govmm/qemu/qemu.go`, `appendCPUs`: `MaxCPUs …
    must be equal to or greater than CPUs`. With static resources the maximum follows from the start
    (`src/runtime/pkg/oci/utils.go`, `SandboxConfig`), and a confidential guest has none (`qemu.go`, `memoryTopology`;
    `qemu_arch_base.go`, `cpuTopology`).
    """
    own = configuration.own
    static = configuration.table("runtime").get("static_sandbox_resource_mgmt") is True
    if configuration.hypervisor != "qemu" or not configuration.read or own.get("confidential_guest") is True:
        return
    cpus, most = own.get("default_vcpus", 0), own.get("default_maxvcpus", 0)
    if machine.architecture == "x86_64" and not static and kata_keys.fits(cpus, "real") and kata_keys.fits(most, "u32"):
        processors = min(machine.cpus, GO_MOST_CPUS)
        start = processors if cpus < 0 or cpus > processors else math.ceil(cpus or 1)
        if start > min(most or processors, processors):
            setting = _setting(configuration, _hypervisor(configuration, "default_maxvcpus"), most)
            yield Refusal(
                f"{setting} is less than the {start} processors that a guest starts with on this node (default_vcpus)",
                "Raise default_maxvcpus, or lower default_vcpus",
            )
    maximum, offset = own.get("default_maxmemory", 0), own.get("memory_offset", 0)
    if machine.memory_mib and all(kata_keys.fits(number, "u64") for number in (maximum, offset)):
        memory = guest_memory.of_guest(own.get("default_memory"), "go")
        limit = guest_memory.most_of_guest(machine.memory_mib, maximum, offset)
        if limit < memory and machine.architecture in ("x86_64", "aarch64"):
            setting = _setting(configuration, _hypervisor(configuration, "default_memory"), memory)
            yield Refusal(
                f"{setting} is more than the {limit} MiB that QEMU lets the guest grow to, on a node of {machine.memory_mib} MiB "
                f"and with default_maxmemory = {maximum}",
                "Lower default_memory, or raise default_maxmemory",
            )


def _nameless_parameters(configuration: Configuration) -> Iterator[Refusal]:
    """A kernel parameter that begins with `=`, as blanks around it make one.

    Go: `src/runtime/pkg/katautils/config.go`, `SetKernelParams`: `Empty kernel parameter`. Rust: `kernel_param.rs`,
    `Param::to_string`: `Empty key`; `firecracker/fc_api.rs` drops that error, and with it the guest's whole command line. Both
    split at blanks outside quotes (`KernelParamFields`, `split_kernel_params`), Rust before 3.27.0 at those within them too.
    """
    quoted = configuration.runtime == "go" or configuration.perhaps_since(3, 27, 0)
    parameters = re.findall(r'(?:"[^"]*(?:"|\Z)|[^" ])+' if quoted else "[^ ]+", configuration.text("kernel_params"))
    for parameter in parameters:
        if configuration.read and parameter.strip().startswith("="):
            names = _hypervisor(configuration, "kernel_params")
            yield Refusal(
                printable(
                    f"kernel_params of [hypervisor.{configuration.hypervisor}] in {configuration.origin(*names)} holds "
                    f'"{parameter}", a parameter without a name',
                    400,
                ),
                "Write that parameter without blanks around its =",
            )
            return


def _rust_hypervisor(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`types/hypervisor/qemu.rs` or `firecracker.rs`, `validate`, and then the parts of `mod.rs`.

    The driver and the type of the image's disk: `src/runtime-rs/crates/hypervisor/src/kernel_param.rs`,
    `new_rootfs_kernel_params`, for Firecracker by way of `firecracker/fc_api.rs`, which knows `block_device_driver` alone and no
    default for `rootfs_type`; `qemu/inner.rs`, `start_vm`, attaches no virtio-blk-mmio.
    """
    own, qemu = configuration.own, configuration.hypervisor == "qemu"
    blocks = ("virtio-blk-pci", "virtio-blk-ccw", "virtio-blk-mmio", "virtio-pmem", "virtio-scsi")
    roots = tuple(driver for driver in blocks if driver != "virtio-scsi")
    if qemu:
        for key in ("jailer_path", "valid_jailer_paths"):
            if own.get(key):
                setting = _setting(configuration, _hypervisor(configuration, key), own[key])
                yield Refusal(f"{setting} is set, and QEMU has no jailer", f"Remove {key} there")
    uses_blocks = own.get("disable_block_device_use") is not True
    if uses_blocks:
        permitted = [driver for driver in blocks if driver != "virtio-blk-mmio"] if qemu else roots
        yield from _value(configuration, _hypervisor(configuration, "block_device_driver"), permitted)
        if configuration.since(3, 29, 0):
            yield from _sectors(configuration)
    elif not qemu and configuration.read:
        setting = _setting(configuration, _hypervisor(configuration, "disable_block_device_use"), True)
        yield Refusal(f"{setting} leaves Firecracker no driver for the guest's image", "Set disable_block_device_use to false")
    yield from _boot_assets(configuration)
    yield from _rust_numbers(configuration, machine)
    if qemu and own.get("enable_guest_swap") is True and configuration.since(3, 15, 0) and configuration.read:
        setting = _setting(configuration, _hypervisor(configuration, "enable_guest_swap"), True)
        yield Refusal(f"{setting} is not possible with QEMU", "Set enable_guest_swap to false")
    disk = qemu and configuration.text("image") and not configuration.text("initrd")
    drivers = [driver for driver in roots if driver != "virtio-blk-mmio"] if disk else blocks
    yield from _value(configuration, _hypervisor(configuration, "vm_rootfs_driver"), drivers)
    ports = [own.get(f"pcie_{kind}_port", 0) for kind in ("root", "switch")]
    if configuration.since(3, 17, 0) and all(isinstance(number, int) and number > 0 for number in ports):
        setting = _setting(configuration, _hypervisor(configuration, "pcie_root_port"), ports[0])
        yield Refusal(f"{setting} stands beside pcie_switch_port = {ports[1]}", "Set one of them to 0")
    yield from _rust_shared(configuration)
    if configuration.text("image"):
        if not qemu and not configuration.text("rootfs_type") and configuration.read:
            yield _unset(configuration, "rootfs_type", 'Name the type of the image\'s file system: rootfs_type = "ext4"')
        yield from _value(configuration, _hypervisor(configuration, "rootfs_type"), ("ext4", "xfs", "erofs"))


def _rust_numbers(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`validate` of `qemu.rs`, `firecracker.rs`, `MemoryInfo`; `types/default.rs` has the limits.

    `CpuInfo::adjust_config` fills `default_maxvcpus` with the node's processors when it is unset, or larger than they are.
    """
    own, qemu = configuration.own, configuration.hypervisor == "qemu"
    limit, minimum = (256, 64) if qemu else (32, 128)
    maximum = own.get("default_maxvcpus", 0)
    if isinstance(maximum, int) and min(maximum or machine.cpus, machine.cpus) > limit and configuration.read:
        setting = _setting(configuration, _hypervisor(configuration, "default_maxvcpus"), maximum)
        yield Refusal(
            f"{setting} lets a guest have the node's {machine.cpus} processors, and {configuration.hypervisor} takes {limit}",
            f"Set default_maxvcpus to {limit} or less",
        )
    memory = own.get("default_memory", 0)
    if isinstance(memory, int) and 0 < memory < minimum:
        setting = _setting(configuration, _hypervisor(configuration, "default_memory"), memory)
        yield Refusal(f"{setting} is less than {minimum} MiB", "Raise default_memory there")
    if not qemu and own.get("memory_slots", 0) == 0:
        yield _unset(configuration, "memory_slots", "Set memory_slots, such as Kata's own 10")


def _rust_shared(configuration: Configuration) -> Iterator[Refusal]:
    """`types/hypervisor/mod.rs`, `SharedFsInfo`: `Invalid shared_fs type`, and the modes of virtio-fs' cache.

    With QEMU, which shares files, `src/runtime-rs/crates/resource/src/share_fs/mod.rs`, `new`, knows no virtio-9p, and
    `qemu/inner.rs`, `start_vm`, gives the guest no device for inline-virtio-fs.
    """
    qemu = configuration.hypervisor == "qemu"
    shared = ["virtio-fs"] if qemu else ["virtio-fs", "inline-virtio-fs"]
    if configuration.perhaps_since(3, 18, 0):
        shared.append("none")
    if configuration.perhaps_since(3, 32, 0):
        shared.append("virtio-fs-nydus")
    if not qemu and not configuration.since(3, 29, 0):
        shared.append("virtio-9p")
    yield from _value(configuration, _hypervisor(configuration, "shared_fs"), shared)
    if "shared_fs" in configuration.own and configuration.text("shared_fs") not in ("none", "virtio-9p"):
        modes = ("never", "auto", "always", "none")  # the last one is taken for `never`
        yield from _value(configuration, _hypervisor(configuration, "virtio_fs_cache"), modes)


def _rust_runtime(configuration: Configuration) -> Iterator[Refusal]:
    """`types/agent.rs`, `validate`; `runtimes/virt_container/src/lib.rs`, `new_hypervisor` and `new_agent`.

    `runtimes/src/manager.rs`, `init_runtime_handler`: `Unsupported runtime`; an empty name is virt_container. From 4.1.0 on an
    agent must wait at least as long in all as between two tries, and what is unset has a default (`default_reconnect_timeout`):
    4.1.0 refuses its own file for Firecracker, which sets `dial_timeout_ms = 45000` alone.
    """
    runtime = configuration.table("runtime")
    agents = configuration.table("agent")
    for name in agents:
        agent = configuration.table("agent", name)
        dial, whole = (agent.get(key, default) for key, default in TIMEOUTS.items())
        if dial == 0:
            setting = _setting(configuration, ("agent", name, "dial_timeout_ms"), 0)
            yield Refusal(f"{setting} is not a time to wait", "Set dial_timeout_ms to 10, Kata's own")
        elif configuration.since(4, 1, 0) and isinstance(dial, int) and isinstance(whole, int) and whole < dial:
            if "reconnect_timeout_ms" in agent:
                setting = _setting(configuration, ("agent", name, "reconnect_timeout_ms"), whole)
                yield Refusal(f"{setting} is less than dial_timeout_ms, {dial}", "Raise reconnect_timeout_ms")
            else:
                setting = _setting(configuration, ("agent", name, "dial_timeout_ms"), dial)
                yield Refusal(
                    f"{setting} is more than reconnect_timeout_ms, which is {whole} where it is unset",
                    f"Set reconnect_timeout_ms = {dial} in a drop-in",
                )
    yield from _value(configuration, ("runtime", "name"), ("virt_container",))
    started = runtime.get("hypervisor_name", "")
    if isinstance(started, str) and started != configuration.hypervisor:
        setting = _setting(configuration, ("runtime", "hypervisor_name"), started)
        yield Refusal(
            f"{setting} names another hypervisor than {configuration.hypervisor}",
            f'Set hypervisor_name to "{configuration.hypervisor}", or choose the hypervisor that is named there',
        )
    agent_name = runtime.get("agent_name", "")
    if isinstance(agent_name, str) and agent_name not in agents:
        setting = _setting(configuration, ("runtime", "agent_name"), agent_name)
        yield Refusal(
            f"{setting} names no table [agent.*] of the configuration", 'Set agent_name to "kata" and keep [agent.kata]'
        )
