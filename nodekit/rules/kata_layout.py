"""Which configuration file a Kata runtime reads, where releases and kata-deploy put it, and how a change may be written."""

import re

from nodekit.errors import NodeError

HYPERVISORS = ("qemu", "firecracker")
"""Names of `[hypervisor.NAME]` tables that this program edits."""
RUNTIMES = ("go", "rust")
INSTALL_FOLDER = "/opt/kata"
"""Where release archives and kata-deploy install."""
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
SHIM = "containerd-shim-kata-v2"
SHIM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""systemd's PATH, in which containerd and dockerd look a shim up."""
DEPLOY_FOLDERS = tuple(
    f"{INSTALL_FOLDER}/{DEFAULTS}/{folder}"
    for folder in ("runtimes", "runtime-rs/runtimes", "custom-runtimes", "runtime-rs/custom-runtimes")
)
"""Folders in which kata-deploy keeps one folder a shim, from 3.27.0 on."""


def version_numbers(version: str) -> tuple[int, int, int] | None:
    """`3.32.0` or `3.32.0-rc1` as numbers; None for anything else."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[^\d.].*)?$", version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def candidates(runtime: str, version: str | None = None) -> tuple[str, ...]:
    """The files that the runtime tries, in its order, when containerd gives it no `ConfigPath`.

    `KATA_CONF_FILE` is left out: it is the environment of containerd, and 4.0.0 and later refuse it. Sources: Go
    `config-settings.go.in` (a release build has /opt/kata where a package has /usr), Rust `kata-types/src/config/default.rs`
    (before 3.3.0 the Rust runtime read the Go runtime's paths). Raises NodeError `bad-input` for an unknown runtime.
    """
    if runtime not in RUNTIMES:
        raise NodeError("bad-input", f"Kata has no runtime {runtime!r}", f"Choose one of {', '.join(RUNTIMES)}")
    numbers = version_numbers(version) if version else None
    folder = "runtime-rs/" if runtime == "rust" and not (numbers and numbers < (3, 3, 0)) else ""
    return (
        f"/etc/kata-containers/{folder}configuration.toml",
        f"/usr/{DEFAULTS}/{folder}configuration.toml",
        f"{INSTALL_FOLDER}/{DEFAULTS}/{folder}configuration.toml",
    )


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
        "Choose another hypervisor, runtime or version",
    )


def release_shim(runtime: str) -> str:
    """The shim of a release archive, as it lies after unpacking (`BINDIR` of both Makefiles)."""
    return f"{INSTALL_FOLDER}/{'runtime-rs/bin' if runtime == 'rust' else 'bin'}/{SHIM}"


def drop_in_folder(resolved: str) -> str:
    """The folder whose every entry the runtime merges over the file `resolved`, links followed already."""
    return f"{resolved.rpartition('/')[0]}/config.d"


def is_managed(resolved: str, text: str) -> bool:
    """Whether kata-deploy owns this base file and will write it again: by its mark, or by where it lies."""
    return MANAGED_MARK in text or any(resolved.startswith(f"{folder}/") for folder in DEPLOY_FOLDERS)


def written_file(resolved: str, text: str, version: str | None, setting_drop_ins: tuple[str, ...]) -> str:
    """The file in which the merged `kernel_params` belong: our drop-in, or the resolved file itself.

    The rule: a managed base file is never edited, so there it is the drop-in; where another drop-in sets `kernel_params`
    (`setting_drop_ins`, in the order read) an edit of the base would not count, so there too. Everywhere else the
    value is changed in the file that is read: what a person sees in that file is then what the guest gets. A drop-in of
    ours stays in use once it is there.
    Raises NodeError `file-invalid` where neither can work.
    """
    ours = f"{drop_in_folder(resolved)}/{DROP_IN}"
    if not setting_drop_ins and not is_managed(resolved, text):
        return resolved
    numbers = version_numbers(version) if version else None
    if numbers and numbers < DROP_INS_SINCE:
        raise NodeError(
            "file-invalid",
            f"kernel_params belong in a drop-in beside {resolved}, and Kata {version} reads none",
            "Upgrade Kata to 2.5.0 or later",
        )
    later = [path for path in setting_drop_ins if path > ours]
    if later:
        raise NodeError(
            "file-invalid",
            f"{later[-1]} sets kernel_params and is read after {ours}, so ours would not count",
            f"Give that file a name that sorts before {DROP_IN}",
        )
    return ours
