"""Which keys each Kata runtime reads, of which type, and from which release to which.

Read off the source of every release from 3.0 to 4.1: for Go the structs of `src/runtime/pkg/katautils/config.go`, for Rust those
of `src/libs/kata-types/src/config` (`agent.rs`, `runtime.rs`, `hypervisor/mod.rs`), flattened parts and aliases included. A
release of three numbers has the keys of its first two.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

FIRST, LAST = (3, 2), (4, 1)
"""The releases that a key must have been in, all of them with one type, to be known without a release."""
OLDEST = (3, 0)
"""The oldest release whose keys were read; what it has may be older."""
BOUNDS = {
    "u8": (0, (1 << 8) - 1),
    "u32": (0, (1 << 32) - 1),
    "u64": (0, (1 << 63) - 1),
    "i32": (-(1 << 31), (1 << 31) - 1),
    "i64": (-(1 << 63), (1 << 63) - 1),
}
"""The whole numbers that each type of number takes; both runtimes read a number of TOML as one of 64 bits with a sign."""
WORDS = {
    "list": "a list of texts",
    "numbers": "a list of whole numbers",
    "real": "a number",
    "switch": "true or false",
    "table": "a table",
    "tables": "a list of tables",
    "text": "a text",
}
"""How a person writes a value of a type that has no bounds."""
_GO = """\
[hypervisor] text 3.0-
  block_device_aio block_device_driver cpu_features entropy_source firmware firmware_volume guest_hook_path
  guest_memory_dump_path image initrd jailer_path kernel kernel_params machine_accelerators machine_type path seccompsandbox
  shared_fs vhost_user_store_path virtio_fs_cache virtio_fs_daemon
[hypervisor] text 3.0-3.31
  file_mem_backend
[hypervisor] text 3.0-3.9
  ctlpath
[hypervisor] text 3.1-
  rootfs_type
[hypervisor] text 3.2-
  cold_plug_vfio extra_monitor_socket hot_plug_vfio
[hypervisor] text 3.3-
  remote_hypervisor_socket
[hypervisor] text 3.7-3.13
  snp_certs_path
[hypervisor] text 3.15-
  snp_id_auth snp_id_block
[hypervisor] text 3.22-
  measurement_algo
[hypervisor] text 3.27-
  kernel_verity_params
[hypervisor] list 3.0-
  enable_annotations pflashes valid_entropy_sources valid_hypervisor_paths valid_jailer_paths valid_vhost_user_store_paths
  valid_virtio_fs_daemon_paths virtio_fs_extra_args
[hypervisor] list 3.0-3.31
  valid_file_mem_backends
[hypervisor] list 3.0-3.9
  valid_ctlpaths
[hypervisor] list 3.27-
  numa_mapping
[hypervisor] switch 3.0-
  block_device_cache_direct block_device_cache_noflush block_device_cache_set confidential_guest disable_block_device_use
  disable_image_nvdimm disable_nesting_checks disable_seccomp disable_selinux disable_vhost_net enable_debug enable_guest_swap
  enable_hugepages enable_iommu enable_iommu_platform enable_iothreads enable_mem_prealloc enable_vhost_user_store
  enable_virtio_mem guest_memory_dump_paging rootless use_legacy_serial
[hypervisor] switch 3.0-3.1
  hotplug_vfio_on_root_bus
[hypervisor] switch 3.1-
  disable_guest_selinux sev_snp_guest
[hypervisor] switch 3.17-
  reclaim_guest_freed_memory
[hypervisor] switch 3.27-
  enable_numa
[hypervisor] u32 3.0-
  default_bridges default_maxvcpus default_memory memory_slots msize_9p virtio_fs_cache_size
[hypervisor] u32 3.0-3.1
  pcie_root_port
[hypervisor] u32 3.1-
  vhost_user_reconnect_timeout_sec virtio_fs_queue_size
[hypervisor] u32 3.3-
  remote_hypervisor_timeout
[hypervisor] u32 3.6-
  pcie_root_port pcie_switch_port tdx_quote_generation_service_socket_port
[hypervisor] u32 3.14-
  hypervisor_loglevel
[hypervisor] u32 3.24-
  indep_iothreads
[hypervisor] u32 3.29-
  block_device_logical_sector_size block_device_physical_sector_size
[hypervisor] u64 3.0-
  default_maxmemory memory_offset rx_rate_limiter_max_rate tx_rate_limiter_max_rate
[hypervisor] u64 3.20-
  snp_guest_policy
[hypervisor] i32 3.0-3.2
  default_vcpus
[hypervisor] i64 3.0-
  disk_rate_limiter_bw_max_rate disk_rate_limiter_bw_one_time_burst disk_rate_limiter_ops_max_rate
  disk_rate_limiter_ops_one_time_burst net_rate_limiter_bw_max_rate net_rate_limiter_bw_one_time_burst
  net_rate_limiter_ops_max_rate net_rate_limiter_ops_one_time_burst
[hypervisor] real 3.3-
  default_vcpus
[hypervisor] tables 4.0-
  guest_extension_images
[agent] list 3.0-
  kernel_modules
[agent] switch 3.0-
  debug_console_enabled enable_debug enable_tracing
[agent] switch 3.32-
  visible_cdi_devices
[agent] u32 3.0-
  dial_timeout
[agent] u32 3.9-
  cdh_api_timeout
[agent] u32 3.29-
  launch_process_timeout
[factory] text 3.0-
  template_path vm_cache_endpoint
[factory] switch 3.0-
  enable_template
[factory] u64 3.0-
  vm_cache_number
[runtime] text 3.0-
  internetworking_model jaeger_endpoint jaeger_password jaeger_user vfio_mode
[runtime] text 3.1-
  guest_selinux_label
[runtime] text 3.7-
  dan_conf
[runtime] text 3.24-
  pod_resource_api_sock
[runtime] text 3.28-
  emptydir_mode kubelet_root_dir
[runtime] list 3.0-
  experimental sandbox_bind_mounts
[runtime] switch 3.0-
  disable_guest_empty_dir disable_guest_seccomp disable_new_netns enable_debug enable_pprof enable_tracing sandbox_cgroup_only
  static_sandbox_resource_mgmt
[runtime] switch 3.1-
  enable_vcpus_pinning
[runtime] switch 3.18-
  experimental_force_guest_pull
[runtime] u64 3.4-
  create_container_timeout
"""
_RUST = """\
[hypervisor] text 3.0-
  block_device_driver cpu_features ctlpath entropy_source firmware guest_hook_path guest_memory_dump_path image initrd
  jailer_path kernel kernel_params machine_accelerators machine_type path shared_fs vhost_user_store_path virtio_fs_cache
  virtio_fs_daemon
[hypervisor] text 3.0-3.31
  file_mem_backend
[hypervisor] text 3.1-
  rootfs_type
[hypervisor] text 3.2-
  prefetch_list_path vm_rootfs_driver
[hypervisor] text 3.3-
  hugepage_type log_level
[hypervisor] text 3.6-
  dbg_monitor_socket
[hypervisor] text 3.11-
  hypervisor_socket
[hypervisor] text 3.15-
  guest_swap_path
[hypervisor] text 3.19-
  default_gpu_model initdata
[hypervisor] text 3.20-
  block_device_aio seccomp_sandbox
[hypervisor] text 3.21-
  selinux_label
[hypervisor] text 3.23-
  device_state_path memory_path
[hypervisor] text 3.27-
  kernel_verity_params
[hypervisor] text 3.28-
  snp_id_auth snp_id_block
[hypervisor] text 3.29-
  extra_monitor_socket
[hypervisor] text 3.31-
  cold_plug_vfio
[hypervisor] list 3.0-
  enable_annotations pflashes valid_ctlpaths valid_entropy_sources valid_hypervisor_paths valid_jailer_paths
  valid_vhost_user_store_paths valid_virtio_fs_daemon_paths virtio_fs_extra_args
[hypervisor] list 3.0-3.31
  valid_file_mem_backends
[hypervisor] switch 3.0-
  block_device_cache_direct block_device_cache_noflush block_device_cache_set confidential_guest disable_block_device_use
  disable_image_nvdimm disable_nesting_checks disable_seccomp disable_vhost_net enable_debug enable_guest_swap
  enable_hugepages enable_iommu enable_iommu_platform enable_iothreads enable_mem_prealloc enable_vhost_user_store
  enable_virtio_mem guest_memory_dump_paging rootless virtio_fs_is_dax
[hypervisor] switch 3.0-3.13
  enable_swap
[hypervisor] switch 3.0-3.32
  hotplug_vfio_on_root_bus
[hypervisor] switch 3.9-
  disable_guest_selinux
[hypervisor] switch 3.9-3.13
  enable_balloon_f_reporting
[hypervisor] switch 3.14-
  reclaim_guest_freed_memory
[hypervisor] switch 3.15-
  sev_snp_guest
[hypervisor] switch 3.21-
  disable_selinux
[hypervisor] switch 3.23-
  boot_from_template boot_to_be_template
[hypervisor] switch 4.1-
  disable_nested_virtualization
[hypervisor] u32 3.0-
  default_bridges default_maxvcpus default_memory memory_slots network_queues pcie_root_port virtio_fs_cache_size
[hypervisor] u32 3.0-3.28
  msize_9p
[hypervisor] u32 3.1-
  virtio_fs_queue_size
[hypervisor] u32 3.3-
  default_maxmemory
[hypervisor] u32 3.17-
  pcie_switch_port
[hypervisor] u32 3.18-
  tdx_quote_generation_service_socket_port
[hypervisor] u32 3.19-
  default_gpus
[hypervisor] u32 3.24-
  queue_size
[hypervisor] u32 3.28-
  snp_guest_policy
[hypervisor] u32 3.29-
  block_device_logical_sector_size block_device_physical_sector_size
[hypervisor] u32 3.32-
  indep_iothreads
[hypervisor] u32 4.0-
  overhead_memory
[hypervisor] u64 3.0-
  memory_offset rx_rate_limiter_max_rate tx_rate_limiter_max_rate
[hypervisor] u64 3.15-
  guest_swap_create_threshold_secs guest_swap_size_percent
[hypervisor] u64 3.21-
  disk_rate_limiter_bw_max_rate disk_rate_limiter_bw_one_time_burst disk_rate_limiter_ops_max_rate
  disk_rate_limiter_ops_one_time_burst
[hypervisor] u64 3.24-
  num_queues
[hypervisor] i32 3.0-3.19
  default_vcpus
[hypervisor] i32 3.11-
  hypervisor_timeout
[hypervisor] real 3.20-
  default_vcpus
[hypervisor] real 4.0-
  overhead_vcpus
[hypervisor] table 3.22-
  rootless_user
[hypervisor] table 3.23-
  factory
[hypervisor] tables 4.0-
  guest_extension_images
[factory] text 3.23-
  template_path
[factory] switch 3.23-
  enable_template
[rootless_user] text 3.22-
  user_name
[rootless_user] u32 3.22-
  gid uid
[rootless_user] numbers 3.22-
  groups
[agent] text 3.3-
  log_level
[agent] text 3.23-
  policy
[agent] list 3.0-
  kernel_modules
[agent] switch 3.0-
  debug_console_enabled enable_debug enable_tracing
[agent] switch 3.32-
  visible_cdi_devices
[agent] u32 3.0-
  container_pipe_size dial_timeout_ms health_check_request_timeout_ms log_port reconnect_timeout_ms server_port
[agent] u32 3.0-3.18
  request_timeout_ms
[agent] u32 3.3-
  passfd_listener_port
[agent] u32 3.19-
  create_container_timeout
[agent] u32 3.29-
  launch_process_timeout
[agent] u32 3.31-
  cdh_api_timeout_ms
[agent] table 3.13-
  mem_agent
[mem_agent] switch 3.13-
  compact_disable enable mem_agent_enable memcg_disable memcg_swap
[mem_agent] u8 3.13-
  compact_order compact_period_psi_percent_limit compact_psi_percent_limit memcg_eviction_psi_percent_limit
  memcg_period_psi_percent_limit memcg_swappiness_max
[mem_agent] u64 3.13-
  compact_force_times compact_period_secs compact_threshold memcg_eviction_run_aging_count_min memcg_period_secs
[mem_agent] i64 3.13-
  compact_sec_max
[runtime] text 3.0-
  agent_name hypervisor_name internetworking_model jaeger_endpoint jaeger_password jaeger_user name vfio_mode
[runtime] text 3.3-
  dan_conf log_level
[runtime] text 3.31-
  emptydir_mode pod_resource_api_sock
[runtime] list 3.0-
  experimental sandbox_bind_mounts
[runtime] switch 3.0-
  disable_guest_seccomp disable_new_netns enable_debug enable_pprof enable_tracing sandbox_cgroup_only
[runtime] switch 3.0-3.1
  static_resource_mgmt
[runtime] switch 3.2-
  keep_abnormal static_sandbox_resource_mgmt
[runtime] switch 3.3-
  use_passfd_io
[runtime] switch 3.23-3.32
  disable_guest_empty_dir
[runtime] switch 3.30-
  enable_vcpus_pinning
[runtime] u32 3.3-
  passfd_listener_port
[runtime] tables 3.3-
  shared_mounts
"""


class Span(NamedTuple):
    """Releases that read a key, and its type in them."""

    kind: str
    """A key of `BOUNDS` or `WORDS`."""
    first: tuple[int, int]
    last: tuple[int, int] | None
    """None where the newest release that was read still has it."""


@cache
def spans(runtime: str) -> Mapping[tuple[str, str], tuple[Span, ...]]:
    """(kind of table, key) -> the releases that read it, in their order; the tables are those of the sections above."""
    keys: dict[tuple[str, str], tuple[Span, ...]] = {}
    section, span = "", Span("", FIRST, None)
    for line in (_RUST if runtime == "rust" else _GO).splitlines():
        if line.startswith("["):
            name, kind, releases = line.split()
            first, _, last = releases.partition("-")
            section, span = name.strip("[]"), Span(kind, _numbers(first), _numbers(last) if last else None)
            continue
        for key in line.split():
            keys[section, key] = tuple(sorted((*keys.get((section, key), ()), span), key=lambda part: part.first))
    return keys


def _numbers(release: str) -> tuple[int, int]:
    major, _, minor = release.partition(".")
    return int(major), int(minor)


def kind(runtime: str, section: str, key: str, release: tuple[int, ...] | None) -> str | None:
    """The type of a key in a release; None where that release does not read it, or where it is not known to.

    Without a release: the type that it has in every release from FIRST to LAST.
    """
    first, last = (FIRST, LAST) if release is None else (release[:2], release[:2])
    for span in spans(runtime).get((section, key), ()):
        if span.first <= first and (span.last is None or last <= span.last):
            return span.kind
    return None


def fits(value: object, kind: str) -> bool:
    """Whether a value of TOML is of a type; a whole number fits where a fraction may stand (BurntSushi's toml, and serde)."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    match kind:
        case "text":
            return isinstance(value, str)
        case "switch":
            return isinstance(value, bool)
        case "real":
            return whole or isinstance(value, float)
        case "table":
            return isinstance(value, Mapping)
        case "list" | "numbers" | "tables":
            item = {"list": str, "numbers": int, "tables": Mapping}[kind]
            return isinstance(value, list) and all(isinstance(part, item) for part in value)
    low, high = BOUNDS[kind]
    return isinstance(value, int) and whole and low <= value <= high


def words(kind: str) -> str:
    """What a value of a type is, as a person writes it."""
    if kind in BOUNDS:
        low, high = BOUNDS[kind]
        return f"a whole number from {low} to {high}"
    return WORDS[kind]


def history(runtime: str, section: str, key: str) -> str | None:
    """Which releases read a key, such as `from 3.27 on` or `up to 3.31`; None where none does."""
    parts = []
    for span in spans(runtime).get((section, key), ()):
        since = "" if span.first == OLDEST else f"from {'.'.join(map(str, span.first))} "
        parts.append(since + (f"{'' if since else 'up '}to {'.'.join(map(str, span.last))}" if span.last else "on"))
    return " and ".join(parts) or None
