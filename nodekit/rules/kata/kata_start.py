"""What Kata refuses before it boots a guest, read off its configuration; each rule names the code that refuses.

Read in kata-containers 3.2.0, 3.27.0, 3.32.0 and 4.1.0. Paths below are those of that repository; `config.go` is
`src/runtime/pkg/katautils/config.go`, `types` is `src/libs/kata-types/src/config`. The lists `valid_hypervisor_paths`,
`valid_virtio_fs_daemon_paths` and so on are not among the rules: both runtimes hold only a pod's annotations against them
(`src/runtime/pkg/oci/utils.go`, `addHypervisorPathOverrides`; `validate_hypervisor_path` and others).
"""

from nodekit.rules.kata import kata_start_both, kata_start_go, kata_start_rust
from nodekit.rules.kata.kata_start_model import Configuration, Machine, Refusal


def paths(configuration: Configuration) -> list[str]:
    """Every absolute path that the rules ask about."""
    programs = kata_start_both.named_programs(configuration)
    named = [program.path for program in programs] + kata_start_both.bind_mount_paths(configuration)
    return [path for path in dict.fromkeys(named) if path.startswith("/")]


def refusals(configuration: Configuration, machine: Machine) -> list[Refusal]:
    """What Kata would refuse, in the order in which Kata would meet it; empty when it would start a guest."""
    runtime = kata_start_rust if configuration.runtime == "rust" else kata_start_go
    return list(dict.fromkeys(runtime.refusals(configuration, machine)))
