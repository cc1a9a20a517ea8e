"""What Kata refuses at start is found before a guest is booted. Lost if these fail: a proof that passes where no pod starts."""

import re
from pathlib import Path
from typing import Any

import pytest

from nodekit.commands import effective as effective_command
from nodekit.commands import prove
from nodekit.errors import NodeError
from nodekit.host.kata_start import look
from nodekit.rules.kata import kata_config, kata_start, kata_start_both
from nodekit.rules.kata.kata_start_model import Configuration, File, Machine
from nodekit.rules.node_state import ProveState
from tests.nodekit.kata_files import RENDERED, put

FILE = "/opt/kata/share/defaults/kata-containers/configuration.toml"
DROP_IN = "/opt/kata/share/defaults/kata-containers/config.d/50-mine.toml"
GO_QEMU = """
[hypervisor.qemu]
path = "/opt/kata/bin/qemu-system-x86_64"
kernel = "/opt/kata/share/kata-containers/vmlinux.container"
image = "/opt/kata/share/kata-containers/kata-containers.img"
machine_type = "q35"
rootfs_type = "ext4"
firmware = ""
firmware_volume = ""
default_vcpus = 1
default_maxvcpus = 0
default_memory = 2048
memory_slots = 10
shared_fs = "virtio-fs"
virtio_fs_daemon = "/opt/kata/libexec/virtiofsd"
virtio_fs_extra_args = ["--thread-pool-size=1"]
virtio_fs_cache = "auto"
block_device_driver = "virtio-scsi"
block_device_aio = "io_uring"
hot_plug_vfio = "no-port"
cold_plug_vfio = "no-port"
extra_monitor_socket = ""
pflashes = []
entropy_source = "/dev/urandom"
valid_hypervisor_paths = ["/nowhere"]
[factory]
enable_template = false
[agent.kata]
kernel_modules = []
dial_timeout = 45
[runtime]
internetworking_model = "tcfilter"
vfio_mode = "guest-kernel"
sandbox_bind_mounts = []
experimental = []
"""
GO_FC = """
[hypervisor.firecracker]
path = "/opt/kata/bin/firecracker"
jailer_path = "/opt/kata/bin/jailer"
kernel = "/opt/kata/share/kata-containers/vmlinux.container"
image = "/opt/kata/share/kata-containers/kata-containers.img"
rootfs_type = "ext4"
default_memory = 2048
memory_slots = 10
block_device_driver = "virtio-mmio"
[factory]
vm_cache_number = 0
[agent.kata]
dial_timeout = 45
[runtime]
internetworking_model = "tcfilter"
"""
RUST_QEMU = """
[hypervisor.qemu]
path = "/opt/kata/bin/qemu-system-x86_64"
kernel = "/opt/kata/share/kata-containers/vmlinux.container"
image = "/opt/kata/share/kata-containers/kata-containers.img"
machine_type = "q35"
rootfs_type = "ext4"
vm_rootfs_driver = "virtio-pmem"
default_vcpus = 1
default_maxvcpus = 0
default_memory = 2048
memory_slots = 10
shared_fs = "virtio-fs"
virtio_fs_daemon = "/opt/kata/libexec/virtiofsd"
virtio_fs_cache = "auto"
block_device_driver = "virtio-scsi"
block_device_aio = "io_uring"
entropy_source = "/dev/urandom"
[agent.kata]
dial_timeout_ms = 10
reconnect_timeout_ms = 3000
[runtime]
name = "virt_container"
hypervisor_name = "qemu"
agent_name = "kata"
internetworking_model = "tcfilter"
vfio_mode = "guest-kernel"
"""
RUST_FC = """
[hypervisor.firecracker]
path = "/opt/kata/bin/firecracker"
jailer_path = "/opt/kata/bin/jailer"
kernel = "/opt/kata/share/kata-containers/vmlinux.container"
image = "/opt/kata/share/kata-containers/kata-containers.img"
rootfs_type = "ext4"
default_memory = 2048
memory_slots = 10
block_device_driver = "virtio-blk-mmio"
[agent.kata]
[runtime]
hypervisor_name = "firecracker"
agent_name = "kata"
"""
BASES = {
    ("go", "qemu"): GO_QEMU,
    ("go", "firecracker"): GO_FC,
    ("rust", "qemu"): RUST_QEMU,
    ("rust", "firecracker"): RUST_FC,
}
PRESENT = File("file", executable=True, size=64 << 20)


def reader(
    text: str, runtime: str = "go", hypervisor: str = "qemu", version: str | None = "3.27.0", drop_in: str = ""
) -> Configuration:
    """A configuration of one file, and of one drop-in where its text is given."""
    document: dict[str, Any] = dict(kata_config.table(text, FILE))
    origins = dict.fromkeys(leaves(document), FILE)
    if drop_in:
        part = dict(kata_config.table(drop_in, DROP_IN))
        document = kata_config.merged(document, part)
        origins |= dict.fromkeys(leaves(part), DROP_IN)
    return Configuration(document, origins, FILE, runtime, hypervisor, version)


def leaves(table: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    return [
        names
        for key, value in table.items()
        for names in (leaves(value, (*above, key)) if isinstance(value, dict) and value else [(*above, key)])
    ]


def causes(configuration: Configuration, files: dict[str, File] | None = None, **machine: Any) -> list[str]:
    """Each refusal's cause, every file being there but those that `files` describe; each has a remedy."""
    facts = {path: (files or {}).get(path, PRESENT) for path in kata_start.paths(configuration)}
    refused = kata_start.refusals(configuration, Machine(facts, **machine))
    assert all(refusal.cause and refusal.remedy for refusal in refused)
    return [refusal.cause for refusal in refused]


def changed(text: str, key: str, value: str | None, table: str = "") -> str:
    """The text with a key of another value; below the header `table` where it has no such key, gone where the value is None."""
    line = "" if value is None else f"{key} = {value}\n"
    if re.search(rf"^{key} = ", text, re.MULTILINE):
        return re.sub(rf"^{key} = .*\n", lambda _: line, text, flags=re.MULTILINE)
    header = table or re.findall(r"\[hypervisor\.\w+\]", text)[0]
    return text.replace(f"{header}\n", f"{header}\n{line}")


@pytest.mark.parametrize(("runtime", "hypervisor"), BASES)
@pytest.mark.parametrize("version", ["3.2.0", "3.20.0", "3.27.0", "3.32.0", "4.1.0", "9.0.0", None])
def test_what_releases_come_with_is_not_refused(runtime: str, hypervisor: str, version: str | None) -> None:
    assert causes(reader(BASES[runtime, hypervisor], runtime, hypervisor, version)) == []


REAL = {
    "qemu": {"block_device_driver": "virtio-scsi", "machine_type": "q35", "hypervisor_name": "qemu"},
    "firecracker": {"block_device_driver": "virtio-mmio", "hypervisor_name": "firecracker"},
}
"""What the renderer of the files beside the checkout left as a made-up path (`/opt/kata/<name of a make variable>`)."""
EVERYWHERE = {
    **{"internetworking_model": "tcfilter", "vfio_mode": "guest-kernel", "shared_fs": "virtio-fs", "virtio_fs_cache": "auto"},
    **{"block_device_aio": "io_uring", "vm_rootfs_driver": "virtio-pmem", "emptydir_mode": "shared-fs"},
    **{"default_memory": 2048, "indep_iothreads": 0, "agent_name": "kata", "name": "virt_container"},
    "valid_file_mem_backends": [""],
}
REFUSED = {("4.1.0", "rust", "firecracker"): "dial_timeout_ms = 45000"}
"""What a release refuses of its own file: 4.1.0 began to want a reconnect_timeout_ms of at least that, and sets none."""


@pytest.mark.skipif(not RENDERED.is_dir(), reason="the rendered files of releases lie beside the checkout only")
def test_no_release_s_own_file_is_refused() -> None:
    paths = sorted(RENDERED.glob("*/*/configuration-*.toml"))
    for path in paths:
        runtime, hypervisor = path.parent.name, "firecracker" if "fc" in path.name else "qemu"
        text = path.read_text()
        real = {**EVERYWHERE, **REAL[hypervisor]}
        if runtime == "rust" and hypervisor == "firecracker":
            real["block_device_driver"] = "virtio-blk-mmio"
        for key, value in real.items():
            literal = f'"{value}"' if isinstance(value, str) else str(value)
            text = re.sub(rf"^{key} *= *.*$", f"{key} = {literal}", text, flags=re.MULTILINE)
        version = path.parent.parent.name
        refused = causes(reader(text, runtime, hypervisor, version))
        if expected := REFUSED.get((version, runtime, hypervisor)):
            assert len(refused) == 1 and refused[0].startswith(expected), path
        else:
            assert refused == [], path
    assert paths


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("initrd", '"/opt/kata/initrd"', "are both set"),
        ("image", '""', "no image and no initrd"),
        ("image", None, "no image and no initrd"),
        ("virtio_fs_daemon", '""', "no virtio_fs_daemon"),
        ("shared_fs", '"virtiofs"', 'shared_fs = "virtiofs" of [hypervisor.qemu]'),
        ("machine_type", '"pc"', 'machine_type = "pc"'),
        ("rootfs_type", '"btrfs"', 'rootfs_type = "btrfs"'),
        ("block_device_driver", '"virtio-blk-pci"', 'block_device_driver = "virtio-blk-pci"'),
        ("block_device_aio", '"uring"', 'block_device_aio = "uring"'),
        ("extra_monitor_socket", '"on"', 'extra_monitor_socket = "on"'),
        ("cold_plug_vfio", '"root"', 'cold_plug_vfio = "root"'),
        ("internetworking_model", '"bridged"', 'internetworking_model = "bridged" of [runtime]'),
        ("vfio_mode", '"mdev"', 'vfio_mode = "mdev"'),
        ("experimental", '["newstore"]', "experimental = ['newstore']"),
        ("sandbox_bind_mounts", '["/a/x", "/b/x"]', "same last part"),
        ("enable_template", "true", "enable_template = true of [factory]"),
        ("kernel", "7", "kernel = 7 of [hypervisor.qemu]"),
        ("pflashes", '"/flash"', "not a list"),
        ("default_memory", "-1", "default_memory = -1"),
        ("default_maxvcpus", '"4"', 'default_maxvcpus = "4"'),
        ("enable_debug", '"yes"', "not true or false"),
        ("kernel", '"vmlinux"', "not an absolute path"),
        ("default_vcpus", '"4"', 'default_vcpus = "4" of [hypervisor.qemu]'),
        ("default_maxmemory", "1.5", "default_maxmemory = 1.5"),
        ("dial_timeout", '"45"', 'dial_timeout = "45" of [agent.kata]'),
        ("kernel_modules", '"e1000e"', "a list of texts"),
        ("enable_template", '"no"', 'enable_template = "no" of [factory]'),
        ("virtio_fs_cache", '"none"', 'virtio_fs_cache = "none"'),
        ("enable_vhost_user_store", "true", "needs enable_hugepages"),
    ],
)
def test_each_refusal_of_the_go_runtime_is_reported_with_key_value_and_file(key: str, value: str | None, message: str) -> None:
    refused = causes(reader(changed(GO_QEMU, key, value)))
    assert len(refused) == 1 and message in refused[0] and FILE in refused[0], refused


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("initrd", '"/opt/kata/initrd"', "are both set"),
        ("image", '""', "no image and no initrd"),
        ("kernel", '""', "no kernel"),
        ("shared_fs", '"virtiofs"', 'shared_fs = "virtiofs"'),
        ("virtio_fs_cache", '"sometimes"', 'virtio_fs_cache = "sometimes"'),
        ("vm_rootfs_driver", '"nvdimm"', 'vm_rootfs_driver = "nvdimm"'),
        ("block_device_driver", '"virtio-blk-mmio"', 'block_device_driver = "virtio-blk-mmio"'),
        ("block_device_aio", '"uring"', 'block_device_aio = "uring"'),
        ("rootfs_type", '"btrfs"', 'rootfs_type = "btrfs"'),
        ("jailer_path", '"/opt/kata/bin/jailer"', "QEMU has no jailer"),
        ("enable_guest_swap", "true", "enable_guest_swap = true"),
        ("default_memory", "32", "less than 64 MiB"),
        ("dial_timeout_ms", "0", "dial_timeout_ms = 0 of [agent.kata]"),
        ("hypervisor_name", '"dragonball"', 'hypervisor_name = "dragonball"'),
        ("hypervisor_name", None, 'hypervisor_name = ""'),
        ("agent_name", '"own"', 'agent_name = "own"'),
        ("agent_name", "[]", "agent_name = []"),
        ("agent_name", "{}", "agent_name = {}"),
        ("internetworking_model", '"default"', 'internetworking_model = "default"'),
        ("default_memory", '"2048"', "not a whole number"),
        ("default_vcpus", '"4"', 'default_vcpus = "4" of [hypervisor.qemu]'),
        ("dial_timeout_ms", '"10"', 'dial_timeout_ms = "10" of [agent.kata]'),
        ("name", '"virt-container"', 'name = "virt-container" of [runtime]'),
        ("shared_fs", '"virtio-9p"', 'shared_fs = "virtio-9p"'),
        ("shared_fs", '"inline-virtio-fs"', 'shared_fs = "inline-virtio-fs"'),
        ("vm_rootfs_driver", '"virtio-scsi"', 'vm_rootfs_driver = "virtio-scsi"'),
        ("vm_rootfs_driver", '"virtio-blk-mmio"', 'vm_rootfs_driver = "virtio-blk-mmio"'),
    ],
)
def test_each_refusal_of_the_rust_runtime_is_reported_with_key_value_and_file(key: str, value: str | None, message: str) -> None:
    refused = causes(reader(changed(RUST_QEMU, key, value), "rust"))
    assert len(refused) == 1 and message in refused[0] and FILE in refused[0], refused


def test_what_only_some_releases_refuse_is_refused_by_those_only() -> None:
    template = changed(GO_QEMU, "enable_template", "true")
    assert causes(reader(template, version="3.31.0")) and not causes(reader(template, version="3.32.0"))
    nydus = changed(RUST_QEMU, "shared_fs", '"virtio-fs-nydus"')
    assert causes(reader(nydus, "rust", version="3.31.0")) and not causes(reader(nydus, "rust", version="4.1.0"))
    old = changed(RUST_FC, "shared_fs", '"virtio-9p"')
    rust_fc = ("rust", "firecracker")
    assert causes(reader(old, *rust_fc, version="3.29.0")) and not causes(reader(old, *rust_fc, version="3.28.0"))
    patience = changed(RUST_QEMU, "dial_timeout_ms", "5000")
    assert causes(reader(patience, "rust", version="4.1.0")) and not causes(reader(patience, "rust", version="4.0.0"))
    empty = changed(GO_QEMU, "emptydir_mode", '"ram"', "[runtime]")
    assert causes(reader(empty, version="3.28.0")) and not causes(reader(empty, version="3.27.0"))
    plain = changed(GO_QEMU, "emptydir_mode", '"block-plain"', "[runtime]")
    assert causes(reader(plain, version="3.32.0")) and not causes(reader(plain, version="4.0.0"))
    cache = changed(GO_QEMU, "virtio_fs_cache", '"metadata"')
    assert causes(reader(cache, version="3.19.1")) and not causes(reader(cache, version="3.20.0"))
    half = changed(GO_QEMU, "default_vcpus", "0.5")
    assert causes(reader(half, version="3.2.0")) and not causes(reader(half, version="3.3.0"))
    backend = changed(RUST_QEMU, "file_mem_backend", '"/gone"')
    gone = {"/gone": File("missing")}
    assert causes(reader(backend, "rust", version="3.31.0"), gone) and not causes(reader(backend, "rust", version="3.32.0"), gone)
    assert causes(reader(backend, "rust", version="3.31.0"), {"/gone": File("folder")}) == []
    sector = changed(GO_QEMU, "block_device_logical_sector_size", "1000")
    assert causes(reader(sector, version="3.29.0")) and not causes(reader(sector, version="3.27.0"))


def test_a_value_that_a_later_release_may_know_is_not_refused() -> None:
    text = changed(changed(GO_QEMU, "shared_fs", '"virtio-new"'), "machine_type", '"q36"')
    assert causes(reader(text, version="4.9.0")) == []
    assert causes(reader(changed(text, "image", '""'), version="4.9.0")) != []


@pytest.mark.parametrize(
    ("runtime", "hypervisor", "keys"),
    [
        ("go", "qemu", ["path", "kernel", "image", "virtio_fs_daemon"]),
        ("go", "firecracker", ["path", "jailer_path", "kernel", "image"]),
        ("rust", "qemu", ["path", "kernel", "image", "virtio_fs_daemon"]),
        ("rust", "firecracker", ["path", "jailer_path", "kernel", "image"]),
    ],
)
def test_every_file_that_is_missing_is_named(runtime: str, hypervisor: str, keys: list[str]) -> None:
    configuration = reader(BASES[runtime, hypervisor], runtime, hypervisor)
    for key in keys:
        path = configuration.text(key)
        for kind, words in (("missing", "does not exist"), ("loop", "leads back to itself"), ("folder", "is a folder")):
            refused = causes(configuration, {path: File(kind)})
            assert len(refused) == 1 and f'{key} = "{path}"' in refused[0] and refused[0].endswith(words), refused
    everything = causes(configuration, dict.fromkeys(kata_start.paths(configuration), File("missing")))
    assert [cause.split(" ")[0] for cause in everything if "entropy" not in cause] == keys, "in the order in which Kata asks"


@pytest.mark.parametrize("key", ["firmware", "firmware_volume", "initrd"])
def test_a_file_that_is_named_and_missing_counts_though_others_leave_it_empty(key: str) -> None:
    text = changed(changed(GO_QEMU, "image", '""'), "initrd", '"/opt/kata/initrd"')
    refused = causes(reader(changed(text, key, '"/opt/x"')), {"/opt/x": File("missing")})
    assert refused and refused[0].startswith(f'{key} = "/opt/x"')


def test_flash_images_and_bind_mounts_are_looked_up() -> None:
    gone = {"/gone": File("missing")}
    assert len(causes(reader(changed(GO_QEMU, "pflashes", '["/there", "/gone"]')), gone)) == 1
    assert len(causes(reader(changed(GO_QEMU, "sandbox_bind_mounts", '["/there", "/gone"]')), gone)) == 1
    rust = changed(RUST_QEMU, "sandbox_bind_mounts", '["/there:ro", "/gone:rw"]', "[runtime]")
    assert len(causes(reader(rust, "rust"), gone)) == 1


def test_a_program_that_cannot_be_executed_is_named_and_a_kernel_need_not_be() -> None:
    plain = File("file", executable=False, size=1 << 20)
    configuration = reader(GO_QEMU)
    refused = causes(configuration, dict.fromkeys(kata_start.paths(configuration), plain))
    assert [cause.split(" ")[0] for cause in refused] == ["path", "virtio_fs_daemon"]


def test_virtiofsd_counts_only_where_a_file_system_is_shared() -> None:
    gone = {"/opt/kata/libexec/virtiofsd": File("missing")}
    assert causes(reader(changed(GO_QEMU, "shared_fs", '"none"')), gone) == []
    assert causes(reader(changed(GO_QEMU, "shared_fs", '"virtio-9p"')), gone) == []
    assert len(causes(reader(changed(GO_QEMU, "shared_fs", '""')), gone)) == 1
    assert causes(reader(changed(RUST_QEMU, "shared_fs", None), "rust"), gone) == []
    assert len(causes(reader(changed(RUST_QEMU, "shared_fs", '"inline-virtio-fs"'), "rust"), gone)) == 1


def test_the_go_runtime_s_own_paths_count_where_none_are_named() -> None:
    text = changed(changed(GO_QEMU, "kernel", None), "path", '""')
    assert causes(reader(text)) == []
    gone = {kata_start_both.GO_QEMU: File("missing"), kata_start_both.GO_KERNEL: File("missing")}
    refused = causes(reader(text), gone)
    assert len(refused) == 2 and kata_start_both.GO_QEMU in refused[0] and kata_start_both.GO_KERNEL in refused[1]


def test_an_empty_image_and_an_initrd_that_fills_the_guest_are_refused() -> None:
    image = "/opt/kata/share/kata-containers/kata-containers.img"
    assert "is empty" in causes(reader(GO_QEMU), {image: File("file", size=0)})[0]
    assert causes(reader(GO_QEMU), {image: File("other", size=0)}) == []  # a block device
    text = changed(changed(GO_QEMU, "image", '""'), "initrd", '"/initrd"')
    large = {"/initrd": File("file", size=300 << 20)}
    assert causes(reader(text), large) == []
    assert "256 MiB of memory" in causes(reader(changed(text, "default_memory", "256")), large)[0]
    assert causes(reader(changed(text, "default_memory", "1")), large) == [], "below 256 Kata takes 2048"


def test_two_hypervisors_are_a_guess_for_go() -> None:
    refused = causes(reader(GO_QEMU, drop_in='[hypervisor.clh]\nkernel_params = "quiet"\n'))
    assert len(refused) == 1 and "[hypervisor.clh]" in refused[0] and DROP_IN in refused[0]


@pytest.mark.parametrize(
    ("version", "name", "table", "message"),
    [
        ("3.27.0", "clh", 'kernel = "/k"\nimage = "/i"', "does not know"),
        ("3.27.0", "cloud-hypervisor", 'kernel = "/k"\nimage = "/i"', None),
        ("3.30.0", "cloud-hypervisor", 'kernel = "/k"\nimage = "/i"', "does not know"),
        ("3.30.0", "clh", 'kernel = "/k"\ninitrd = "/i"', None),
        ("3.6.0", "firecracker", 'kernel = "/k"\nimage = "/i"', "does not know"),
        ("4.1.0", "firecracker", 'kernel = "/k"\nimage = "/i"', "no path"),
        ("4.1.0", "firecracker", 'path = "/p"\nkernel = "/k"\nimage = "/i"', None),
        ("4.1.0", "firecracker", 'path = "/p"\nkernel = "/k"\ninitrd = "/i"', "no image"),
        ("4.1.0", "dragonball", 'kernel_params = "quiet"', "no kernel"),
        ("4.1.0", "dragonball", 'kernel = "/k"', "no image and no initrd"),
        ("4.1.0", "remote", "default_vcpus = 1", None),
        ("4.1.0", "openvmm", "default_vcpus = 1", None),
        ("4.0.0", "openvmm", "default_vcpus = 1", "does not know"),
        ("4.2.0", "newvmm", "default_vcpus = 1", None),
        (None, "clh", 'kernel = "/k"\nimage = "/i"', None),
        (None, "acrn", "default_vcpus = 1", "does not know"),
    ],
)
def test_every_hypervisor_s_table_must_be_whole_for_rust(version: str | None, name: str, table: str, message: str | None) -> None:
    refused = causes(reader(RUST_QEMU, "rust", version=version, drop_in=f"[hypervisor.{name}]\n{table}\n"))
    assert not refused if message is None else len(refused) == 1 and message in refused[0] and DROP_IN in refused[0], refused


def test_a_misspelt_key_fails_every_guest_from_a_drop_in_and_none_from_the_file_itself() -> None:
    wrong = '[hypervisor.qemu]\nkernel_parms = "quiet"\n'
    refused = causes(reader(GO_QEMU, drop_in=wrong))
    assert len(refused) == 1 and "kernel_parms" in refused[0] and DROP_IN in refused[0]
    assert causes(reader(GO_QEMU.replace("[hypervisor.qemu]\n", wrong))) == []
    assert causes(reader(RUST_QEMU, "rust", drop_in=wrong)) == []
    assert causes(reader(GO_QEMU, drop_in=wrong, version="4.2.0")) == [], "a later release may know it"
    assert causes(reader(GO_QEMU, drop_in="[runtime]\nx = 1\n[agent.kata]\ndial_timeout = 60\n")) == []


def test_a_key_of_another_release_fails_every_guest_from_a_drop_in() -> None:
    old = '[hypervisor.qemu]\nfile_mem_backend = "/dev/shm"\n'
    assert causes(reader(GO_QEMU, drop_in=old, version="3.31.0")) == []
    refused = causes(reader(GO_QEMU, drop_in=old, version="3.32.0"))
    assert len(refused) == 1 and "file_mem_backend" in refused[0] and "up to 3.31" in refused[0] and DROP_IN in refused[0]
    new = '[hypervisor.qemu]\nkernel_verity_params = ""\n'
    refused = causes(reader(GO_QEMU, drop_in=new, version="3.26.0"))
    assert len(refused) == 1 and "from 3.27 on" in refused[0]
    assert causes(reader(GO_QEMU, drop_in=new, version="3.27.0")) == []


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("[agent.kata]", "dial_timeout = 60"),
        ("[agent.kata.mem_agent]", "memcg_foo = 1"),
        ("[hypervisor.qemu.factory]", "vm_cache_number = 0"),
        ("[hypervisor.qemu.rootless_user]", "name = 'kata'"),
    ],
)
def test_the_rust_runtime_refuses_an_unknown_key_of_an_agent_or_a_factory(table: str, key: str) -> None:
    text = f"{table}\n{key}\n"
    refused = causes(reader(RUST_QEMU, "rust", version="3.29.0", drop_in=text))
    assert len(refused) == 1 and f"sets {key.split(' ')[0]} in {table}" in refused[0] and DROP_IN in refused[0]
    assert causes(reader(RUST_QEMU, "rust", version="3.28.0", drop_in=text)) == []
    assert causes(reader(RUST_QEMU, "rust", version="4.2.0", drop_in=text)) == [], "a later release may know it"


def test_an_unknown_key_of_an_agent_counts_in_the_file_itself_too() -> None:
    refused = causes(reader(changed(RUST_QEMU, "request_timeout_ms", "1", "[agent.kata]"), "rust", version="4.1.0"))
    assert len(refused) == 1 and FILE in refused[0] and "up to 3.18" in refused[0]


@pytest.mark.parametrize("base", BASES)
def test_a_parameter_without_a_name_is_refused(base: tuple[str, str]) -> None:
    for line in ("agent.log = debug", "quiet =debug"):
        refused = causes(reader(changed(BASES[base], "kernel_params", f'"{line}"'), *base))
        assert len(refused) == 1 and "kernel_params of [hypervisor." in refused[0] and FILE in refused[0]
    for line in ("agent.log=debug", "a= b", "dyndbg='x =p'".replace("'", '\\"')):
        assert causes(reader(changed(BASES[base], "kernel_params", f'"{line}"'), *base)) == []


def test_a_quoted_value_is_whole_for_the_releases_that_read_quotes() -> None:
    text = changed(RUST_QEMU, "kernel_params", r'"dyndbg=\"x =p\""')
    assert causes(reader(text, "rust", version="3.27.0")) == []
    assert len(causes(reader(text, "rust", version="3.26.0"))) == 1


def test_a_guest_of_qemu_starts_with_no_more_than_it_may_have() -> None:
    def refused(sizes: str, **machine: Any) -> list[str]:
        text = GO_QEMU.replace("default_vcpus = 1\ndefault_maxvcpus = 0\ndefault_memory = 2048\n", sizes)
        return causes(reader(text), **{"cpus": 4, **machine})

    assert "default_maxvcpus = 1" in refused("default_vcpus = 2\ndefault_maxvcpus = 1\n")[0]
    assert "the 2 processors" in refused("default_vcpus = 1.5\ndefault_maxvcpus = 1\n")[0]
    assert "the 4 processors" in refused("default_vcpus = -1\ndefault_maxvcpus = 2\n")[0]
    for fine in ("default_vcpus = 8\n", "default_vcpus = 2\ndefault_maxvcpus = 2\n", "default_maxvcpus = 1\n"):
        assert refused(fine) == [], fine
    assert refused("default_vcpus = 250\ndefault_maxvcpus = 245\n", cpus=300) == [], "both are 240, the most of the runtime"
    assert refused("default_vcpus = 2\ndefault_maxvcpus = 1\nconfidential_guest = true\n") == []
    static = changed(changed(GO_QEMU, "default_maxvcpus", "1"), "default_vcpus", "2")
    assert causes(reader(changed(static, "static_sandbox_resource_mgmt", "true", "[runtime]")), cpus=4) == []
    memory = "default_memory = 4096\ndefault_maxmemory = 2048\n"
    assert "3072 MiB" in refused(memory, memory_mib=16384)[0]
    assert refused(memory) == [], "memory of the node that is not known"
    assert refused(memory + "memory_offset = 1024\n", memory_mib=16384) == []
    assert refused("default_memory = 4096\n", memory_mib=3072) == []
    assert len(refused("default_memory = 4096\n", memory_mib=3071)) == 1


def test_firecracker_boots_from_an_image_of_a_known_type() -> None:
    def refused(text: str, runtime: str, version: str = "3.27.0") -> list[str]:
        return causes(reader(text, runtime, "firecracker", version))

    assert 'rootfs_type = "btrfs"' in refused(changed(GO_FC, "rootfs_type", '"btrfs"'), "go")[0]
    assert "no image" in refused(changed(changed(GO_FC, "image", '""'), "initrd", '"/i"'), "go")[0]
    assert "no rootfs_type" in refused(changed(RUST_FC, "rootfs_type", None), "rust")[0]
    assert refused(changed(GO_FC, "rootfs_type", None), "go") == []
    assert 'block_device_driver = "virtio-scsi"' in refused(changed(RUST_FC, "block_device_driver", '"virtio-scsi"'), "rust")[0]
    assert "disable_block_device_use = true" in refused(changed(RUST_FC, "disable_block_device_use", "true"), "rust")[0]
    patience = changed(RUST_FC, "dial_timeout_ms", "45000", "[agent.kata]")
    assert refused(patience, "rust", "4.0.0") == []
    assert len(refused(patience, "rust", "4.1.0")) == 1
    assert refused(changed(patience, "reconnect_timeout_ms", "45000", "[agent.kata]"), "rust", "4.1.0") == []


def test_virtiofsd_without_a_folder_is_looked_up_as_kata_does() -> None:
    assert causes(reader(changed(GO_QEMU, "virtio_fs_daemon", '"virtiofsd"'))) == []
    assert len(causes(reader(changed(GO_QEMU, "virtio_fs_daemon", '"bin/virtiofsd"')))) == 1


def test_bind_mounts_are_compared_where_their_links_lead() -> None:
    mounts = reader(changed(GO_QEMU, "sandbox_bind_mounts", '["/mnt/a/x", "/mnt/b/y"]'))
    same = {"/mnt/a/x": File("folder", path="/data/a/same"), "/mnt/b/y": File("folder", path="/data/b/same")}
    assert len(causes(mounts, same)) == 1
    mounts = reader(changed(GO_QEMU, "sandbox_bind_mounts", '["/mnt/a/x", "/mnt/b/x"]'))
    assert causes(mounts, {"/mnt/a/x": File("folder", path="/data/a"), "/mnt/b/x": File("folder", path="/data/b")}) == []


def test_a_drop_in_is_named_where_it_gives_the_value() -> None:
    refused = causes(reader(GO_QEMU, drop_in='[hypervisor.qemu]\ninitrd = "/opt/kata/initrd"\n'))
    assert len(refused) == 1 and FILE in refused[0] and DROP_IN in refused[0]
    refused = causes(reader(GO_QEMU, drop_in='[hypervisor.qemu]\nshared_fs = "nfs"\n'))
    assert len(refused) == 1 and DROP_IN in refused[0] and FILE not in refused[0]


def test_ports_network_and_cache_that_exclude_each_other_are_refused() -> None:
    both = changed(changed(GO_QEMU, "hot_plug_vfio", '"root-port"'), "cold_plug_vfio", '"root-port"')
    assert len(causes(reader(both))) == 1
    network = changed(GO_QEMU, "disable_new_netns", "true", "[runtime]")
    assert len(causes(reader(network))) == 1
    assert causes(reader(changed(network, "internetworking_model", '"none"'))) == []
    cache = reader(changed(GO_FC, "vm_cache_number", "2"), hypervisor="firecracker")
    assert len(causes(cache)) == 1
    assert "pcie_switch_port" in causes(reader(changed(RUST_QEMU, "pcie_root_port", "1\npcie_switch_port = 1"), "rust"))[0]


def test_firecracker_with_the_rust_runtime_has_limits_of_its_own() -> None:
    def refused(key: str, value: str | None, **machine: Any) -> list[str]:
        return causes(reader(changed(RUST_FC, key, value), "rust", "firecracker"), **machine)

    assert "takes 32" in refused("default_maxvcpus", "0", cpus=64)[0]
    assert refused("default_maxvcpus", "16", cpus=64) == [] == refused("default_maxvcpus", "64", cpus=8)
    assert "128 MiB" in refused("default_memory", "100")[0]
    assert "memory_slots" in refused("memory_slots", None)[0]
    assert (
        "no initrd"
        in kata_start.refusals(
            reader(changed(changed(RUST_FC, "image", None), "initrd", '"/i"'), "rust", "firecracker"),
            Machine(dict.fromkeys(["/opt/kata/bin/firecracker", "/opt/kata/bin/jailer", "/i"], PRESENT) | {KERNEL: PRESENT}),
        )[0].remedy
    )


KERNEL = "/opt/kata/share/kata-containers/vmlinux.container"


def test_machine_types_are_those_of_the_processor() -> None:
    virt = changed(GO_QEMU, "machine_type", '"virt"')
    assert causes(reader(virt), architecture="x86_64") != [] == causes(reader(virt), architecture="aarch64")


def test_a_look_at_a_path_tells_what_lies_there(tmp_path: Path) -> None:
    put(tmp_path, "/opt/program", "x").chmod(0o755)
    put(tmp_path, "/opt/plain", "xyz")
    (tmp_path / "opt/link").symlink_to("/opt/plain")
    (tmp_path / "opt/round").symlink_to("/opt/round")
    (tmp_path / "opt/dangling").symlink_to("/opt/gone")
    assert look(tmp_path, "/opt/program") == File("file", True, 1, "/opt/program")
    assert look(tmp_path, "/opt/link") == look(tmp_path, "/opt/plain") == File("file", False, 3, "/opt/plain")
    kinds = {name: look(tmp_path, f"/opt/{name}").kind for name in ("round", "dangling", "gone", "plain/x", "")}
    assert kinds == {"round": "loop", "dangling": "missing", "gone": "missing", "plain/x": "missing", "": "folder"}
    assert look(Path("/"), "/dev/null").kind == "other"


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A node whose configuration names image and initrd, every file being there."""
    put(tmp_path, FILE, changed(GO_QEMU, "initrd", '"/opt/kata/share/kata-containers/kata-containers-initrd.img"'))
    put(tmp_path, "/opt/kata/VERSION", "3.20.0\n")
    for path in kata_start.paths(reader((tmp_path / FILE.lstrip("/")).read_text())):
        put(tmp_path, path, "x").chmod(0o755)
    return tmp_path


DESIRED = ProveState("n1", "qemu", "go", expect=[], sandbox=None, timeout_seconds=300, digest="").document()


def test_prove_refuses_before_it_boots_a_guest(both: Path) -> None:
    with pytest.raises(NodeError) as caught:
        prove.run(DESIRED, both)
    assert caught.value.code == "kata-would-refuse"
    assert "Node n1" in caught.value.message and FILE in caught.value.message and "are both set" in caught.value.message
    assert "Keep one of image and initrd" in caught.value.remedy


def test_several_refusals_are_reported_together_in_their_order(both: Path) -> None:
    (both / "opt/kata/libexec/virtiofsd").unlink()
    with pytest.raises(NodeError) as caught:
        prove.run(DESIRED, both)
    assert caught.value.message.index("virtiofsd") < caught.value.message.index("are both set")


def test_effective_lists_what_kata_would_refuse(both: Path) -> None:
    document = effective_command.run(both, runtime="go", hypervisor="qemu", config_path=None)
    assert len(document["refusals"]) == 1  # type: ignore[arg-type]
    assert "are both set" in effective_command.text(document)
