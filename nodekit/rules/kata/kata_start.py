"""What Kata refuses before it boots a guest, read off its configuration; each rule names the code that refuses.

Read in kata-containers 3.2.0, 3.27.0, 3.32.0 and 4.1.0. Paths below are those of that repository; `config.go` is
`src/runtime/pkg/katautils/config.go`, `types` is `src/libs/kata-types/src/config`. The lists `valid_hypervisor_paths`,
`valid_virtio_fs_daemon_paths` and so on are not among the rules: both runtimes hold only a pod's annotations against them
(`src/runtime/pkg/oci/utils.go`, `addHypervisorPathOverrides`; `validate_hypervisor_path` and others).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nodekit.rules.kata import guest_memory
from nodekit.rules.kata.kata_layout import version_numbers
from nodekit.rules.text import printable

GO_QEMU = "/usr/bin/qemu-system-x86_64"
GO_KERNEL = "/usr/share/kata-containers/vmlinuz.container"
"""What the Go runtime takes where `path` and `kernel` are unset (`config-settings.go.in`, the same in release builds)."""
RUST_QEMU = GO_QEMU
"""`types/default.rs`, `DEFAULT_QEMU_BINARY_PATH`."""
FIRST_READ, FIRST_UNREAD = (3, 2, 0), (4, 2, 0)
"""Releases whose lists of permitted values are known here; another release may know more of them."""

_GO_STRINGS = (
    "path kernel initrd image rootfs_type firmware firmware_volume machine_accelerators cpu_features kernel_params machine_type "
    "block_device_driver block_device_aio entropy_source shared_fs virtio_fs_daemon virtio_fs_cache vhost_user_store_path "
    "guest_hook_path guest_memory_dump_path seccompsandbox jailer_path hot_plug_vfio cold_plug_vfio extra_monitor_socket"
)
_GO_LISTS = (
    "valid_hypervisor_paths valid_jailer_paths valid_virtio_fs_daemon_paths virtio_fs_extra_args pflashes "
    "valid_vhost_user_store_paths valid_entropy_sources enable_annotations"
)
_GO_NUMBERS = (
    "default_maxvcpus default_memory memory_slots default_bridges msize_9p virtio_fs_cache_size virtio_fs_queue_size "
    "vhost_user_reconnect_timeout_sec pcie_root_port pcie_switch_port"
)
_GO_SWITCHES = (
    "block_device_cache_set block_device_cache_direct block_device_cache_noflush enable_vhost_user_store confidential_guest "
    "disable_block_device_use enable_mem_prealloc enable_hugepages enable_virtio_mem enable_iommu enable_iommu_platform "
    "enable_debug disable_nesting_checks enable_iothreads disable_image_nvdimm disable_vhost_net guest_memory_dump_paging "
    "enable_guest_swap rootless disable_seccomp disable_selinux disable_guest_selinux use_legacy_serial"
)
_GO_OTHERS = (
    "block_device_logical_sector_size block_device_physical_sector_size ctlpath default_maxmemory default_vcpus "
    "disk_rate_limiter_bw_max_rate disk_rate_limiter_bw_one_time_burst disk_rate_limiter_ops_max_rate "
    "disk_rate_limiter_ops_one_time_burst enable_numa file_mem_backend guest_extension_images hotplug_vfio_on_root_bus "
    "hypervisor_loglevel indep_iothreads kernel_verity_params measurement_algo memory_offset net_rate_limiter_bw_max_rate "
    "net_rate_limiter_bw_one_time_burst net_rate_limiter_ops_max_rate net_rate_limiter_ops_one_time_burst numa_mapping "
    "reclaim_guest_freed_memory remote_hypervisor_socket remote_hypervisor_timeout rx_rate_limiter_max_rate sev_snp_guest "
    "snp_certs_path snp_guest_policy snp_id_auth snp_id_block tdx_quote_generation_service_socket_port "
    "tx_rate_limiter_max_rate valid_ctlpaths valid_file_mem_backends"
)
_GO_AGENT = (
    "cdh_api_timeout debug_console_enabled dial_timeout enable_debug enable_tracing kernel_modules launch_process_timeout "
    "visible_cdi_devices"
)
GO_KEYS = {
    "hypervisor": frozenset(" ".join((_GO_STRINGS, _GO_LISTS, _GO_NUMBERS, _GO_SWITCHES, _GO_OTHERS)).split()),
    "agent": frozenset(_GO_AGENT.split()),
}
"""Every key of `[hypervisor.*]` and `[agent.*]` that any Go runtime of 3.0 to 4.1 knows (`config.go`, `hypervisor`, `agent`)."""
_GO_ALONE = (
    "firmware_volume seccompsandbox block_device_aio hot_plug_vfio cold_plug_vfio extra_monitor_socket msize_9p "
    "vhost_user_reconnect_timeout_sec pcie_switch_port disable_selinux disable_guest_selinux use_legacy_serial"
)
"""Keys of the Go runtime that not every Rust runtime of 3.2 to 4.1 has with the same type."""
RUNTIME_TYPES = {
    "text": ("internetworking_model", "vfio_mode", "jaeger_endpoint", "jaeger_user", "jaeger_password"),
    "list": ("experimental", "sandbox_bind_mounts"),
    "switch": ("disable_guest_seccomp", "disable_new_netns", "enable_tracing", "sandbox_cgroup_only", "enable_pprof"),
}
"""Keys of `[runtime]` that have one type in both runtimes."""
WORDS = {
    "list": "a list of texts",
    "number": "a whole number from 0 to 4294967295",
    "switch": "true or false",
    "text": "a text",
}


class File(NamedTuple):
    """What lies at a path, links followed."""

    kind: str
    """`file`, `folder`, `missing`, `loop` (links that lead to each other), or `other`."""
    executable: bool = False
    size: int = 0


class Machine(NamedTuple):
    """What of the node the rules need to know."""

    files: Mapping[str, File]
    """Every path of `paths`."""
    architecture: str = "x86_64"
    cpus: int = 1


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
        """The file that gives a key its value; the base file for one that is not set."""
        return self.origins.get(names, self.file)

    def since(self, *numbers: int) -> bool:
        """Whether this is surely that release or a later one."""
        own = version_numbers(self.version) if self.version else None
        return own is not None and own >= numbers

    @property
    def read(self) -> bool:
        """Whether the lists of permitted values are known for this release; true when the release is not known."""
        own = version_numbers(self.version) if self.version else None
        return own is None or FIRST_READ <= own < FIRST_UNREAD


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
        modes = ("shared-fs", "block-encrypted", "block-plain")
        yield from _value(configuration, ("runtime", "emptydir_mode"), modes)
    yield from _experimental(configuration)
    yield from _bind_mounts(configuration, machine)
    yield from _network_namespace(configuration)
    yield from _sizes(configuration, machine)
    yield from _factory(configuration)
    yield from _ports(configuration)
    yield from _boot_assets(configuration)
    yield from _go_qemu(configuration, machine)


def _rust(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`src/runtime-rs/crates/runtimes/src/manager.rs`, `load_config`: decode, `adjust_config`, `validate`; then the sandbox."""
    yield from _types(configuration)
    if configuration.since(3, 20, 0) and not configuration.own.get("disable_block_device_use"):
        yield from _value(configuration, _hypervisor(configuration, "block_device_aio"), ("io_uring", "native", "threads"))
    yield from _files(configuration, machine)
    yield from _bind_mounts(configuration, machine)
    yield from _rust_hypervisor(configuration, machine)
    models = ("macvtap", "none", "tcfilter", "l3forwarding")  # the last one from 4.1.0 on
    yield from _value(configuration, ("runtime", "internetworking_model"), models)
    yield from _value(configuration, ("runtime", "vfio_mode"), ("vfio", "guest-kernel"))
    if configuration.since(3, 31, 0):
        modes = ("shared-fs", "block-encrypted", "block-plain")
        yield from _value(configuration, ("runtime", "emptydir_mode"), modes)
    yield from _rust_runtime(configuration)


def _hypervisor(configuration: Configuration, key: str) -> tuple[str, str, str]:
    return ("hypervisor", configuration.hypervisor, key)


def _setting(configuration: Configuration, names: Sequence[str], value: object) -> str:
    """A key with its value, its table and its file."""
    literal = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    return printable(f"{names[-1]} = {literal} of [{'.'.join(names[:-1])}] in {configuration.origin(*names)}", 300)


def _types(configuration: Configuration) -> Iterator[Refusal]:
    """A value of another type than the runtime's.

    Go: BurntSushi's `incompatible types`, and a negative or too large number for an unsigned one; Rust: serde.
    """
    hypervisor = {"text": _GO_STRINGS, "list": _GO_LISTS, "number": _GO_NUMBERS, "switch": _GO_SWITCHES}
    tables: list[tuple[tuple[str, ...], dict[str, tuple[str, ...]]]]
    tables = [(("hypervisor", configuration.hypervisor), {kind: tuple(keys.split()) for kind, keys in hypervisor.items()})]
    tables.append((("runtime",), RUNTIME_TYPES))
    for names, kinds in tables:
        table = configuration.table(*names)
        for kind, keys in kinds.items():
            for key in keys:
                if key not in table or (configuration.runtime == "rust" and key in _GO_ALONE.split()):
                    continue
                if not _fits(table[key], kind):
                    setting = _setting(configuration, (*names, key), table[key])
                    yield Refusal(f"{setting} is not {WORDS[kind]}", f"Write {WORDS[kind]} as {key} there")


def _fits(value: object, kind: str) -> bool:
    if kind == "list":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == "number":
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32
    return isinstance(value, bool if kind == "switch" else str)


def _unknown_keys_of_drop_ins(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `applyKey`, `getValue`: `key … not found`. The main file's unknown keys are passed over in silence."""
    if not configuration.read or configuration.version is None:
        return
    for names, file in configuration.origins.items():
        known = GO_KEYS.get(names[0])
        if known is None or len(names) < 3 or names[2] in known or file == configuration.file:
            continue
        yield Refusal(
            printable(
                f"{file} sets {names[2]} in [{names[0]}.{names[1]}], a key that Kata's Go runtime takes from no drop-in", 300
            ),
            f"Correct or remove {printable(names[2], 60)} in that file",
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


def _programs(configuration: Configuration) -> list[_Program]:
    """The files that the configuration names, in the order in which the runtime asks for them.

    Go: `config.go`, `newQemuHypervisorConfig`, `newFirecrackerHypervisorConfig`, each by `ResolvePath`; virtiofsd is not asked
    for but started (`virtiofsd.go`). Rust: `adjust_config` of `types/hypervisor/qemu.rs` and `mod.rs`, `validate` of
    `firecracker.rs`.
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
        elif file.kind == "folder":
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
            'Name virtiofsd in virtio_fs_daemon, or share nothing: shared_fs = "none"',
        )
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
    """Go: `config.go`, `validateBindMounts`; Rust: `types/runtime.rs`, `adjust_config`."""
    names = ("runtime", "sandbox_bind_mounts")
    bases: set[str] = set()
    for path in _mounts(configuration):
        setting = _setting(configuration, names, path)
        if not path.startswith("/") or machine.files[path].kind in ("missing", "loop"):
            yield Refusal(f"{setting} does not exist", "Correct sandbox_bind_mounts there, or remove that path")
        elif configuration.runtime == "go" and path.rstrip("/").rpartition("/")[2] in bases:
            yield Refusal(f"{setting} has the same last part as another of its paths", "Remove one of them")
        bases.add(path.rstrip("/").rpartition("/")[2])


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
    both set`, `Missing image and initrd path`, with IBM's secure execution as the exception. Rust: `types/hypervisor/mod.rs`,
    `BootInfo::validate`, and `qemu.rs`, `firecracker.rs`: the latter boots from an image only.
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
    elif configuration.runtime == "rust" and configuration.hypervisor == "firecracker" and not image:
        yield _unset(configuration, "image", "Name the guest's image in image: Firecracker takes no initrd with this runtime")
    elif not image and not initrd and not (secure and _is_ccw(configuration)):
        yield _unset(configuration, "image and no initrd", "Name the guest's image in image, or its RAM disk in initrd")


def _is_ccw(configuration: Configuration) -> bool:
    if configuration.runtime == "rust":
        return configuration.text("vm_rootfs_driver").endswith("ccw")
    return configuration.text("machine_type") == "s390-ccw-virtio"


def _go_qemu(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`qemu_amd64.go`, `newQemuArch`: `unrecognised machinetype`; `hypervisor.go`, `GetKernelRootParams`: the image's type.

    `hypervisor_config_linux.go`, from 3.28.0 on: no virtio-mmio for a confidential guest.
    """
    mmio = configuration.text("block_device_driver") == "virtio-mmio"
    if mmio and configuration.own.get("confidential_guest") is True and configuration.since(3, 28, 0):
        setting = _setting(configuration, _hypervisor(configuration, "block_device_driver"), "virtio-mmio")
        yield Refusal(f"{setting} is not for a confidential guest", 'Set block_device_driver to "virtio-scsi"')
    if configuration.hypervisor != "qemu":
        return
    if machine.architecture == "x86_64":
        types = ("q35", "microvm") if configuration.since(3, 27, 0) else ("q35", "microvm", "virt")
        yield from _value(configuration, _hypervisor(configuration, "machine_type"), types)
    if configuration.text("image"):
        yield from _value(configuration, _hypervisor(configuration, "rootfs_type"), ("ext4", "xfs", "erofs"))


def _rust_hypervisor(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`types/hypervisor/qemu.rs` or `firecracker.rs`, `validate`, and then the parts of `mod.rs`."""
    own, qemu = configuration.own, configuration.hypervisor == "qemu"
    blocks = ("virtio-blk-pci", "virtio-blk-ccw", "virtio-blk-mmio", "virtio-pmem", "virtio-scsi")
    if qemu:
        for key in ("jailer_path", "valid_jailer_paths"):
            if own.get(key):
                setting = _setting(configuration, _hypervisor(configuration, key), own[key])
                yield Refusal(f"{setting} is set, and QEMU has no jailer", f"Remove {key} there")
    uses_blocks = own.get("disable_block_device_use") is not True
    if uses_blocks:
        permitted = [driver for driver in blocks if not qemu or driver != "virtio-blk-mmio"]
        yield from _value(configuration, _hypervisor(configuration, "block_device_driver"), permitted)
        if configuration.since(3, 29, 0):
            yield from _sectors(configuration)
    yield from _boot_assets(configuration)
    yield from _rust_numbers(configuration, machine)
    if qemu and own.get("enable_guest_swap") is True and configuration.since(3, 15, 0) and configuration.read:
        setting = _setting(configuration, _hypervisor(configuration, "enable_guest_swap"), True)
        yield Refusal(f"{setting} is not possible with QEMU", "Set enable_guest_swap to false")
    yield from _value(configuration, _hypervisor(configuration, "vm_rootfs_driver"), blocks)
    ports = [own.get(f"pcie_{kind}_port", 0) for kind in ("root", "switch")]
    if configuration.since(3, 17, 0) and all(isinstance(number, int) and number > 0 for number in ports):
        setting = _setting(configuration, _hypervisor(configuration, "pcie_root_port"), ports[0])
        yield Refusal(f"{setting} stands beside pcie_switch_port = {ports[1]}", "Set one of them to 0")
    yield from _rust_shared(configuration)
    if configuration.text("image") and configuration.text("rootfs_type"):
        # `src/runtime-rs/crates/hypervisor/src/kernel_param.rs`, `new_rootfs_kernel_params`
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
    """`types/hypervisor/mod.rs`, `SharedFsInfo`: `Invalid shared_fs type`, and the modes of virtio-fs' cache."""
    shared = ["virtio-fs", "inline-virtio-fs"]
    unknown = configuration.version is None
    if unknown or configuration.since(3, 18, 0):
        shared.append("none")
    if unknown or configuration.since(3, 32, 0):
        shared.append("virtio-fs-nydus")
    if not configuration.since(3, 29, 0):
        shared.append("virtio-9p")
    yield from _value(configuration, _hypervisor(configuration, "shared_fs"), shared)
    if "shared_fs" in configuration.own and configuration.text("shared_fs") not in ("none", "virtio-9p"):
        modes = ("never", "auto", "always", "none")  # the last one is taken for `never`
        yield from _value(configuration, _hypervisor(configuration, "virtio_fs_cache"), modes)


def _rust_runtime(configuration: Configuration) -> Iterator[Refusal]:
    """`types/agent.rs`, `validate`; `runtimes/virt_container/src/lib.rs`, `new_hypervisor` and `new_agent`.

    By that code 4.1.0 refuses its own file for Firecracker too, which sets `dial_timeout_ms` alone to more than the default of
    `reconnect_timeout_ms`. That was not seen on a machine, so both must be set here.
    """
    runtime = configuration.table("runtime")
    agents = configuration.table("agent")
    for name in agents:
        agent = configuration.table("agent", name)
        dial, whole = agent.get("dial_timeout_ms"), agent.get("reconnect_timeout_ms")
        if dial == 0:
            setting = _setting(configuration, ("agent", name, "dial_timeout_ms"), 0)
            yield Refusal(f"{setting} is not a time to wait", "Set dial_timeout_ms to 10, Kata's own")
        elif configuration.since(4, 1, 0) and isinstance(dial, int) and isinstance(whole, int) and whole < dial:
            setting = _setting(configuration, ("agent", name, "reconnect_timeout_ms"), whole)
            yield Refusal(f"{setting} is less than dial_timeout_ms, {dial}", "Raise reconnect_timeout_ms")
    started = runtime.get("hypervisor_name", "")
    if started != configuration.hypervisor:
        setting = _setting(configuration, ("runtime", "hypervisor_name"), started)
        yield Refusal(
            f"{setting} names another hypervisor than {configuration.hypervisor}",
            f'Set hypervisor_name to "{configuration.hypervisor}", or choose the hypervisor that is named there',
        )
    agent_name = runtime.get("agent_name", "")
    if not isinstance(agent_name, str) or agent_name not in agents:
        setting = _setting(configuration, ("runtime", "agent_name"), agent_name)
        yield Refusal(
            f"{setting} names no table [agent.*] of the configuration", 'Set agent_name to "kata" and keep [agent.kata]'
        )
