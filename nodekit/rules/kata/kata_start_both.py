"""What both of Kata's runtimes refuse; `kata_start` says which sources were read."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nodekit.rules.kata import kata_keys
from nodekit.rules.kata.kata_start_model import Configuration, Machine, Refusal
from nodekit.rules.text import printable

GO_QEMU = "/usr/bin/qemu-system-x86_64"
GO_KERNEL = "/usr/share/kata-containers/vmlinuz.container"
"""What the Go runtime takes where `path` and `kernel` are unset (`config-settings.go.in`, the same in release builds)."""
RUST_QEMU = GO_QEMU
"""`types/default.rs`, `DEFAULT_QEMU_BINARY_PATH`."""


class Program(NamedTuple):
    """A file that a key names."""

    key: str
    path: str
    runs: bool = False
    """Whether Kata starts it as a program."""
    boots: bool = False
    """Whether the Go runtime refuses it when it is empty."""
    folder: bool = False
    """Whether it may be a folder."""


def hypervisor_key(configuration: Configuration, key: str) -> tuple[str, str, str]:
    """The name of a key of the hypervisor's table."""
    return ("hypervisor", configuration.hypervisor, key)


def setting_text(configuration: Configuration, names: Sequence[str], value: object) -> str:
    """A key with its value, its table and its file."""
    literal = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    table, file = ".".join(names[:-1]), configuration.origin(*names)
    return printable(f"{names[-1]} = {printable(literal, 150)} of [{table}] in {file}", 300)


def unset_key(configuration: Configuration, key: str, remedy: str) -> Refusal:
    """A key of the hypervisor's table that must be set."""
    return Refusal(f"{configuration.file} sets no {key} in [hypervisor.{configuration.hypervisor}]", remedy)


def unknown_value(configuration: Configuration, names: tuple[str, ...], permitted: Sequence[str]) -> Iterator[Refusal]:
    """A text that must be one of a list; empty counts as unset.

    Go: `SetModel` (`src/runtime/virtcontainers/network.go`), `VFIOSetMode` (`src/runtime/pkg/device/config/config.go`),
    `config.go`: `blockDeviceDriver`, `blockDeviceAIO`, `sharedFS`, `extraMonitorSocket`, `emptyDirMode`. Rust: the functions
    `validate` of `types/runtime.rs` and `types/hypervisor/mod.rs`.
    """
    value = configuration.table(*names[:-1]).get(names[-1])
    if not configuration.read or not isinstance(value, str) or not value or value in permitted:
        return
    yield Refusal(
        f"{setting_text(configuration, names, value)} is not a value that Kata knows",
        f"Set {names[-1]} to one of {', '.join(permitted)}",
    )


def typed_tables(configuration: Configuration) -> Iterator[tuple[str, tuple[str, ...]]]:
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


def wrong_types(configuration: Configuration) -> Iterator[Refusal]:
    """A value of another type than the runtime's; `kata_keys` has the types by release.

    Go: BurntSushi's `incompatible types`, and a negative or too large number for an unsigned one; Rust: serde.
    """
    for section, names in typed_tables(configuration):
        for key, value in configuration.table(*names).items():
            kind = configuration.kind(section, key)
            if kind is not None and not kata_keys.fits(value, kind):
                words = kata_keys.words(kind)
                yield Refusal(
                    f"{setting_text(configuration, (*names, key), value)} is not {words}", f"Write {words} as {key} there"
                )


def unknown_key(configuration: Configuration, section: str, names: tuple[str, ...], verb: str) -> Refusal:
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


def named_programs(configuration: Configuration) -> list[Program]:
    """The files that the configuration names, in the order in which the runtime asks for them.

    Go: `config.go`, `newQemuHypervisorConfig`, `newFirecrackerHypervisorConfig`, each by `ResolvePath`; virtiofsd is not asked
    for but started (`virtiofsd.go`). Rust: `adjust_config` of `types/hypervisor/qemu.rs` and `mod.rs` (`MemoryInfo`: the
    backend file, up to 3.31), `validate` of `firecracker.rs`.
    """
    text = configuration.text
    rust, qemu = configuration.runtime == "rust", configuration.hypervisor == "qemu"
    path = text("path") or ("" if rust and not qemu else RUST_QEMU if rust else GO_QEMU)
    named = [Program("path", path, runs=True)]
    if not qemu:
        named.append(Program("jailer_path", text("jailer_path"), runs=True))
    named.append(Program("kernel", text("kernel") or ("" if rust else GO_KERNEL)))
    assets = [Program("initrd", text("initrd"), boots=True), Program("image", text("image"), boots=True)]
    named += reversed(assets) if rust else assets
    flashes = configuration.own.get("pflashes")
    pflashes = [Program("pflashes", path) for path in flashes if isinstance(path, str)] if isinstance(flashes, list) else []
    firmware = [Program("firmware", text("firmware"))]
    if qemu and not rust:
        firmware.append(Program("firmware_volume", text("firmware_volume")))
    named += [*firmware, *pflashes] if rust else [*pflashes, *firmware] if qemu else firmware
    if configuration.kind("hypervisor", "file_mem_backend") and rust:
        named.append(Program("file_mem_backend", text("file_mem_backend"), folder=True))
    if rust:
        named += [Program("ctlpath", text("ctlpath")), Program("entropy_source", text("entropy_source"))]
    if needs_virtiofsd(configuration):
        named.append(Program("virtio_fs_daemon", text("virtio_fs_daemon"), runs=True))
    return [program for program in named if program.path]


def needs_virtiofsd(configuration: Configuration) -> bool:
    """Unset is virtio-fs for Go; for Rust unset shares nothing. Firecracker shares nothing with Go."""
    shared = configuration.text("shared_fs")
    if configuration.runtime == "rust":
        return shared in ("virtio-fs", "virtio-fs-nydus") or ("shared_fs" in configuration.own and shared == "")
    return configuration.hypervisor == "qemu" and shared in ("", "virtio-fs", "virtio-fs-nydus")


def unusable_files(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """A named file that is not there, or not what it must be.

    Go: `ResolvePath` (`src/runtime/pkg/katautils/utils.go`): `file … does not exist`; Rust: `resolve_path!`, `validate_path!`.
    A program that cannot be executed, and a folder in a file's place, fail as soon as the program or QEMU is started.
    """
    for program in named_programs(configuration):
        setting = setting_text(configuration, hypervisor_key(configuration, program.key), program.path)
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
                yield unset_key(configuration, key, f"Name the file in {key}")


def sector_sizes(configuration: Configuration) -> Iterator[Refusal]:
    """Go: `config.go`, `validateBlockDeviceSectorSize(s)`; Rust: `types/hypervisor/mod.rs`, the same names; from 3.29.0 on."""
    sizes = []
    for key in ("block_device_logical_sector_size", "block_device_physical_sector_size"):
        size = configuration.own.get(key, 0)
        if not isinstance(size, int):
            return
        if size != 0 and (not 512 <= size <= 65536 or size & (size - 1)):
            setting = setting_text(configuration, hypervisor_key(configuration, key), size)
            yield Refusal(f"{setting} is not a size of a sector", f"Set {key} to 0 or a power of two from 512 to 65536")
        sizes.append(size)
    if 0 not in sizes and sizes[0] > sizes[1]:
        setting = setting_text(configuration, hypervisor_key(configuration, "block_device_logical_sector_size"), sizes[0])
        yield Refusal(f"{setting} is larger than the physical one, {sizes[1]}", "Set both to 0, Kata's own")


def empty_volume_mode(configuration: Configuration) -> Iterator[Refusal]:
    """Go: `config.go`, `emptyDirMode`; Rust: `types/runtime.rs`, `validate`."""
    modes = ("shared-fs", "block-encrypted", *(("block-plain",) if configuration.since(4, 0, 0) else ()))
    yield from unknown_value(configuration, ("runtime", "emptydir_mode"), modes)


def bind_mount_paths(configuration: Configuration) -> list[str]:
    """The paths of `sandbox_bind_mounts`; the Rust runtime takes `:ro` and `:rw` behind them."""
    mounts = configuration.table("runtime").get("sandbox_bind_mounts")
    texts = [item for item in mounts if isinstance(item, str)] if isinstance(mounts, list) else []
    if configuration.runtime == "rust":
        texts = [path.removesuffix(":ro").removesuffix(":rw") for path in texts]
    return texts


def unusable_bind_mounts(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """Go: `config.go`, `validateBindMounts`, which follows links first; Rust: `types/runtime.rs`, `adjust_config`."""
    names = ("runtime", "sandbox_bind_mounts")
    bases: set[str] = set()
    for path in bind_mount_paths(configuration):
        setting = setting_text(configuration, names, path)
        if not path.startswith("/") or machine.files[path].kind in ("missing", "loop"):
            yield Refusal(f"{setting} does not exist", "Correct sandbox_bind_mounts there, or remove that path")
            continue
        base = (machine.files[path].path or path).rstrip("/").rpartition("/")[2]
        if configuration.runtime == "go" and base in bases:
            yield Refusal(f"{setting} leads to the same last part, {base}, as another of its paths", "Remove one of them")
        bases.add(base)


def boot_assets(configuration: Configuration) -> Iterator[Refusal]:
    """Exactly one of `image` and `initrd`; an empty text counts as unset.

    Go: `src/runtime/virtcontainers/hypervisor_config_linux.go`, `validateHypervisorConfig`: `Image and initrd path cannot be
    both set`, `Missing image and initrd path`, with IBM's secure execution as the exception; `fc.go`, `fcInitConfiguration`,
    makes a disk of either, and no guest boots from an initrd as a disk. Rust: `types/hypervisor/mod.rs`, `BootInfo::validate`,
    and `qemu.rs`, `firecracker.rs`: the latter boots from an image only.
    """
    image, initrd = configuration.text("image"), configuration.text("initrd")
    secure = configuration.own.get("confidential_guest") is True
    if image and initrd:
        files = sorted({configuration.origin(*hypervisor_key(configuration, key)) for key in ("image", "initrd")})
        yield Refusal(
            printable(
                f'image = "{image}" and initrd = "{initrd}" are both set for [hypervisor.{configuration.hypervisor}] in '
                f"{', '.join(files)}",
                500,
            ),
            'Keep one of image and initrd, and set the other to ""',
        )
    elif configuration.hypervisor == "firecracker" and not image:
        yield unset_key(configuration, "image", "Name the guest's image in image: Kata starts Firecracker with no initrd")
    elif not image and not initrd and not (secure and _is_ccw(configuration)):
        yield unset_key(configuration, "image and no initrd", "Name the guest's image in image, or its RAM disk in initrd")


def _is_ccw(configuration: Configuration) -> bool:
    if configuration.runtime == "rust":
        return configuration.text("vm_rootfs_driver").endswith("ccw")
    return configuration.text("machine_type") == "s390-ccw-virtio"


def nameless_parameters(configuration: Configuration) -> Iterator[Refusal]:
    """A kernel parameter that begins with `=`, as blanks around it make one.

    Go: `src/runtime/pkg/katautils/config.go`, `SetKernelParams`: `Empty kernel parameter`. Rust: `kernel_param.rs`,
    `Param::to_string`: `Empty key`; `firecracker/fc_api.rs` drops that error, and with it the guest's whole command line. Both
    split at blanks outside quotes (`KernelParamFields`, `split_kernel_params`), Rust before 3.27.0 at those within them too.
    """
    quoted = configuration.runtime == "go" or configuration.perhaps_since(3, 27, 0)
    parameters = re.findall(r'(?:"[^"]*(?:"|\Z)|[^" ])+' if quoted else "[^ ]+", configuration.text("kernel_params"))
    for parameter in parameters:
        if configuration.read and parameter.strip().startswith("="):
            names = hypervisor_key(configuration, "kernel_params")
            yield Refusal(
                printable(
                    f"kernel_params of [hypervisor.{configuration.hypervisor}] in {configuration.origin(*names)} holds "
                    f'"{parameter}", a parameter without a name',
                    400,
                ),
                "Write that parameter without blanks around its =",
            )
            return
