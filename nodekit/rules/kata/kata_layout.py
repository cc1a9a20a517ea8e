"""Which configuration file a Kata runtime reads, where releases and kata-deploy put it, and how a change may be written."""

import re
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.text import printable

HYPERVISORS = ("qemu", "firecracker")
"""Names of `[hypervisor.NAME]` tables that this program edits."""
RUNTIMES = ("go", "rust")
INSTALL_FOLDER = "/opt/kata"
"""Where release archives and kata-deploy install."""
MARKER = ".kata-nodes.json"
"""File in the install folder that records that this program put it there, the archive's sha256, and its files."""
DEFAULTS = "share/defaults/kata-containers"
RELEASE_FILES = {
    ("go", "qemu"): ((2, 0, 0), "configuration-qemu.toml"),
    ("go", "firecracker"): ((2, 0, 0), "configuration-fc.toml"),
    ("rust", "qemu"): ((3, 4, 0), "runtime-rs/configuration-qemu-runtime-rs.toml"),
    ("rust", "firecracker"): ((3, 7, 0), "runtime-rs/configuration-rs-fc.toml"),
}
"""(runtime, hypervisor) -> first release that holds it, and its file below `DEFAULTS`."""
DROP_IN = "60-kata-nodes.toml"
"""Our drop-in: kata-deploy's own are below 50, and 50-89 is left to the owner of the node."""
MANAGED_MARK = "IMPORTANT: This file is managed by kata-deploy"
"""What kata-deploy writes at the head of its base files (kata-deploy, `artifacts/install.rs`)."""
DROP_INS_SINCE = (2, 5, 0)
"""First release that reads `config.d` (kata-containers pull request 4591)."""
ENVIRONMENT = "KATA_CONF_FILE"
"""Variable of the shim's environment that names the base file."""
ENVIRONMENT_GUARDED_SINCE = (4, 0, 0)
"""First release in which that variable may name a shipped default only, and fails every guest otherwise (Go `create.go`,
`isShippedKataConfigPath`; Rust `manager.rs`, `is_shipped_kata_config_path`)."""
SHIM = "containerd-shim-kata-v2"
SHIM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""systemd's PATH, in which containerd and dockerd look a shim up where their unit sets no other."""
DEPLOY_FOLDERS = tuple(
    f"{INSTALL_FOLDER}/{DEFAULTS}/{folder}"
    for folder in ("runtimes", "runtime-rs/runtimes", "custom-runtimes", "runtime-rs/custom-runtimes")
)
"""Folders in which kata-deploy keeps one folder for each shim, from 3.27.0 on."""
DEPLOY_OVERRIDES = ("50-overrides.toml", "50-user-overrides.toml")
"""Drop-ins that kata-deploy writes besides those below 50 (kata-deploy, `artifacts/install.rs`)."""


class Written(NamedTuple):
    """Where the merged `kernel_params` belong."""

    file: str
    strategy: str
    """`drop-in`: our own file beside the one that is read; `edit`: one value within that one."""
    reason: str


def version_numbers(version: str) -> tuple[int, int, int] | None:
    """`3.32.0` or `3.32.0-rc1` as numbers; None for anything else."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[^\d.].*)?$", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def refuse_nesting(hypervisor: str, nested_sandbox: bool) -> None:
    """Raises NodeError `hypervisor-cannot-nest` for Firecracker with a nested sandbox.

    The document's own rule, kept as a policy: user namespaces do not depend on the hypervisor.
    """
    if hypervisor == "firecracker" and nested_sandbox:
        raise NodeError(
            "hypervisor-cannot-nest",
            "hypervisor 'firecracker' is refused where a sandbox nests (nestedSandbox: true, the default); "
            "Firecracker is meant for the case that the virtual machine is the only boundary",
        )


def release(version: str) -> tuple[int, int, int]:
    """`version_numbers`; raises NodeError `bad-input` for what is no version."""
    numbers = version_numbers(version)
    if numbers is None:
        raise NodeError(
            "bad-input",
            f"Kata version {printable(repr(version), 60)} is not three numbers with dots",
            expected="the whole Kata version, such as 3.32.0",
        )
    return numbers


def candidates(runtime: str, version: str | None = None, shim: str | None = None) -> tuple[str, ...]:
    """The files that the runtime tries, in its order, when neither `ConfigPath` nor `KATA_CONF_FILE` names one.

    `shim` is the shim's file with links followed, when it is known: a Go shim below /opt/kata is a release build, which has
    /opt/kata where a package has /usr. Sources: Go `config-settings.go.in`, Rust `kata-types/src/config/default.rs`
    (before 3.3.0 the Rust runtime read the Go runtime's paths). Raises NodeError `bad-input` for an unknown runtime.
    """
    if runtime not in RUNTIMES:
        raise NodeError("bad-input", f"Kata has no runtime {runtime!r}", expected=f"one of {', '.join(RUNTIMES)}")
    numbers = version_numbers(version) if version else None
    folder = "runtime-rs/" if runtime == "rust" and not (numbers and numbers < (3, 3, 0)) else ""
    release = f"{INSTALL_FOLDER}/{DEFAULTS}/{folder}configuration.toml"
    package = () if runtime == "go" and is_release(shim) else (f"/usr/{DEFAULTS}/{folder}configuration.toml",)
    return (f"/etc/kata-containers/{folder}configuration.toml", *package, release)


def is_release(shim: str | None) -> bool:
    """Whether a shim, links followed, is one of a release archive."""
    return shim is not None and shim.startswith(f"{INSTALL_FOLDER}/")


def environment_guarded(version: str | None) -> bool:
    """Whether this release takes a shipped default only from `KATA_CONF_FILE`; false when the release is not known."""
    numbers = version_numbers(version) if version else None
    return numbers is not None and numbers >= ENVIRONMENT_GUARDED_SINCE


def release_config_path(runtime: str, version: str, hypervisor: str) -> str:
    """The file of one hypervisor in a release archive, as it lies after unpacking.

    Sources: `CONFIG_FILE_*` of `src/runtime/Makefile` and `src/runtime-rs/Makefile`, the same in 4.x. Raises NodeError
    `bad-input` for a pair of runtime and hypervisor that the release does not hold.
    """
    since, name = RELEASE_FILES.get((runtime, hypervisor), ((9999, 0, 0), ""))
    if (version_numbers(version) or (0, 0, 0)) >= since:
        return f"{INSTALL_FOLDER}/{DEFAULTS}/{name}"
    raise NodeError(
        "bad-input",
        f"Kata {version} has no configuration for hypervisor {hypervisor} with the {runtime} runtime",
        expected="another hypervisor, runtime or version",
    )


def release_shim(runtime: str) -> str:
    """The shim of a release archive, as it lies after unpacking (`BINDIR` of both Makefiles)."""
    return f"{INSTALL_FOLDER}/{'runtime-rs/bin' if runtime == 'rust' else 'bin'}/{SHIM}"


def drop_in_folder(resolved: str) -> str:
    """The folder whose every entry the runtime merges over the file `resolved`, links followed already."""
    return f"{resolved.rpartition('/')[0]}/config.d"


def reads_drop_ins(version: str | None) -> bool:
    """Whether this release merges `config.d`; true when the release is not known, for those that do not are from before 2022."""
    numbers = version_numbers(version) if version else None
    return numbers is None or numbers >= DROP_INS_SINCE


def is_managed(resolved: str, text: str) -> bool:
    """Whether kata-deploy owns this file and will write it again: by its mark, or by where it lies and how it is called."""
    if not any(resolved.startswith(f"{folder}/") for folder in DEPLOY_FOLDERS):
        return MANAGED_MARK in text
    folder, _, name = resolved.rpartition("/")
    return not folder.endswith("/config.d") or name < "50" or name in DEPLOY_OVERRIDES


def written_file(resolved: str, text: str, version: str | None, setting_drop_ins: tuple[str, ...]) -> Written:
    """Where the merged `kernel_params` belong: in our drop-in beside the file that is read, or in that file itself.

    The rule: a drop-in wherever Kata reads them, since what a release, a package or kata-deploy put there stays as it is and
    can be replaced by theirs at any time; an edit where it reads none (before 2.5.0), but never of a file that kata-deploy
    manages. `setting_drop_ins` are the drop-ins that set `kernel_params`, in the order read. Raises NodeError
    `file-invalid` where neither can work.
    """
    ours = f"{drop_in_folder(resolved)}/{DROP_IN}"
    if not reads_drop_ins(version):
        if is_managed(resolved, text):
            raise NodeError(
                "file-invalid", f"kernel_params belong in a drop-in beside {resolved}, and Kata {version} reads none", "old-kata"
            )
        return Written(resolved, "edit", f"Kata {version} reads no drop-ins, so the value is changed in the file that it reads")
    later = [path for path in setting_drop_ins if path > ours]
    if later:
        raise NodeError(
            "file-invalid",
            f"{later[-1]} sets kernel_params and is read after {ours}, so ours would not count",
            "order",
            drop_in=DROP_IN,
        )
    return Written(ours, "drop-in", f"a drop-in beside {resolved} takes precedence over that file, which stays as it is")
