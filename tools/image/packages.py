"""Makes Docker's Debian packages and the signed apt repository that holds them, shaped like Docker's own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.cache import SetupError

SUITE = "trixie"
COMPONENT = "stable"
ARCHITECTURE = "amd64"
PACKAGING = Path(__file__).resolve().parent / "packaging"
# A person's own PATH may lack the folders of an administrator's tools.
TOOL_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
SIGNER = "Local node packages (made on this machine) <local@kata-nodes.invalid>"


@dataclass(frozen=True)
class DockerBinaries:
    """One Docker release as three executables built from source."""

    release: str
    daemon: Path
    proxy: Path
    client: Path

    @property
    def version(self) -> str:
        """Debian version string in the form Docker gives its packages for Debian 13."""
        return trixie_version(self.release)

    @property
    def files(self) -> dict[str, Path]:
        """What the release's packages are made of, by name."""
        return {"daemon": self.daemon, "proxy": self.proxy, "client": self.client}


@dataclass(frozen=True)
class DockerArchives:
    """One Docker release as Docker's own packages, and the containerd.io that goes with it."""

    release: str
    packages: tuple[Path, ...]
    containerd: Path

    @property
    def version(self) -> str:
        """Debian version string that the packages have in the local repository."""
        return trixie_version(self.release)

    @property
    def files(self) -> dict[str, Path]:
        """What the release's packages are made of, by name."""
        return {path.name: path for path in (*self.packages, self.containerd)}


DockerRelease = DockerBinaries | DockerArchives


def trixie_version(release: str) -> str:
    """Debian version string in the form Docker gives its packages for Debian 13."""
    return f"5:{release}-1~debian.13~{SUITE}"


@dataclass(frozen=True)
class Package:
    """What goes into one .deb: control fields, files by installed path, and maintainer scripts by name."""

    name: str
    version: str
    description: str
    depends: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    section: str = "admin"
    files: dict[str, tuple[Path, int]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, Path] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """Name of the .deb in the pool; an epoch never stands in a file name (Debian policy 5.6.12)."""
        return f"{self.name}_{self.version.split(':', 1)[-1]}_{ARCHITECTURE}.deb"


def control(package: Package, installed_kib: int) -> str:
    """Text of DEBIAN/control."""
    lines = [
        f"Package: {package.name}",
        f"Version: {package.version}",
        f"Architecture: {ARCHITECTURE}",
        "Maintainer: kata-nodes <local@kata-nodes.invalid>",
        f"Installed-Size: {installed_kib}",
        f"Section: {package.section}",
        "Priority: optional",
    ]
    if package.depends:
        lines.append(f"Depends: {', '.join(package.depends)}")
    if package.recommends:
        lines.append(f"Recommends: {', '.join(package.recommends)}")
    summary, *rest = package.description.splitlines()
    lines.append(f"Description: {summary}")
    lines += [f" {line}" if line else " ." for line in rest]
    return "\n".join(lines) + "\n"


def docker_packages(docker: DockerBinaries) -> list[Package]:
    """The three packages that share one Docker version string."""
    scripts = PACKAGING / "docker-ce"
    version = docker.version
    return [
        Package(
            name="docker-ce",
            version=version,
            description="Docker: the open-source application container engine\n"
            f"dockerd and docker-proxy {docker.release}, built from the published Go module for a local node.",
            depends=(
                "containerd.io (>= 1.7.27)",
                "docker-ce-cli",
                "iptables",
                "libc6 (>= 2.34)",
                "init-system-helpers (>= 1.54)",
                "passwd",
            ),
            recommends=("docker-ce-rootless-extras",),
            files={
                "usr/bin/dockerd": (docker.daemon, 0o755),
                "usr/bin/docker-proxy": (docker.proxy, 0o755),
                "usr/lib/systemd/system/docker.service": (scripts / "docker.service", 0o644),
                "usr/lib/systemd/system/docker.socket": (scripts / "docker.socket", 0o644),
            },
            scripts={name: scripts / name for name in ("postinst", "prerm", "postrm")},
        ),
        Package(
            name="docker-ce-cli",
            version=version,
            description="Docker CLI: the open-source application container engine\n"
            f"docker {docker.release}, built from the published Go module for a local node.",
            depends=("libc6 (>= 2.34)",),
            files={"usr/bin/docker": (docker.client, 0o755)},
        ),
        Package(
            name="docker-ce-rootless-extras",
            version=version,
            description="Rootless support for Docker\nHolds its own documentation only: a local node runs the daemon as root.",
            depends=("docker-ce",),
            texts={
                "usr/share/doc/docker-ce-rootless-extras/README.Debian": (
                    f"docker-ce-rootless-extras {docker.release}\n\n"
                    "This package shares its version string with docker-ce and docker-ce-cli, as Docker's own does,\n"
                    "so that pinning and holding the three together can be exercised. It carries no\n"
                    "dockerd-rootless.sh and no rootlesskit: the local node runs dockerd as root.\n"
                )
            },
        ),
    ]


def containerd_package() -> Package:
    """`containerd.io` as a name for Debian's own containerd and runc, which are what the local node runs."""
    return Package(
        name="containerd.io",
        version=f"1.7.28-1~debian.13~{SUITE}",
        description="An open and reliable container runtime\n"
        "Metapackage on Debian's containerd and runc for a local node; it carries no program of its own.",
        depends=("containerd", "runc"),
        section="metapackages",
    )


def build_package(package: Package, pool: Path, work: Path) -> Path:
    """Build one .deb into `pool` and return its path.

    Raises `subprocess.CalledProcessError` with dpkg-deb's words when it refuses.
    """
    root = work / f"{package.name}-{package.version.replace(':', '_')}"
    total = 0
    for target, (source, mode) in package.files.items():
        path = root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(mode)
        total += path.stat().st_size
    for target, text in package.texts.items():
        path = root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        total += len(text)
    meta = root / "DEBIAN"
    meta.mkdir(parents=True)
    (meta / "control").write_text(control(package, -(-total // 1024)), encoding="utf-8")
    for name, source in package.scripts.items():
        shutil.copyfile(source, meta / name)
        (meta / name).chmod(0o755)
    for directory in [root, *(p for p in root.rglob("*") if p.is_dir())]:
        directory.chmod(0o755)
    pool.mkdir(parents=True, exist_ok=True)
    result = pool / package.file_name
    # zstd because an emulated node unpacks it several times faster than xz.
    run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z6", "--build", str(root), str(result)])
    shutil.rmtree(root)
    return result


def add_archive(archive: Path, version: str, pool: Path, work: Path) -> Path:
    """Put a package of Docker's into `pool` under `version`, and return its path: the same bytes where that is its own.

    A local node is Debian 13, for which Docker never packaged 27.5.1; Debian 12's package gets the version string that the
    node program asks for, and is not changed otherwise.
    """
    pool.mkdir(parents=True, exist_ok=True)
    name = run(["dpkg-deb", "--field", str(archive), "Package"]).strip()
    result = pool / f"{name}_{version.split(':', 1)[-1]}_{ARCHITECTURE}.deb"
    if run(["dpkg-deb", "--field", str(archive), "Version"]).strip() == version:
        shutil.copyfile(archive, result)
        return result
    root = work / f"{name}-{version.replace(':', '_')}"
    work.mkdir(parents=True, exist_ok=True)
    run(["dpkg-deb", "--raw-extract", str(archive), str(root)])
    fields = root / "DEBIAN/control"
    lines = [f"Version: {version}" if line.startswith("Version:") else line for line in fields.read_text().splitlines()]
    fields.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z6", "--build", str(root), str(result)])
    shutil.rmtree(root)
    return result


def add_release(release: DockerRelease, pool: Path, work: Path) -> None:
    """Put the packages of one release into `pool`, with the containerd.io that they need."""
    if isinstance(release, DockerBinaries):
        for package in (containerd_package(), *docker_packages(release)):
            build_package(package, pool, work)
        return
    for archive in release.packages:
        add_archive(archive, release.version, pool, work)
    shutil.copyfile(release.containerd, pool / release.containerd.name)


def build_repository(site: Path, releases: Sequence[DockerRelease], work: Path) -> str:
    """Write `site/debian` with packages, indices, InRelease and `gpg`; return the signing key's fingerprint.

    The private key is made here and gone when this returns: a repository that changes is built again.
    """
    repository = site / "debian"
    pool = repository / "dists" / SUITE / "pool" / COMPONENT / ARCHITECTURE
    for release in releases:
        add_release(release, pool, work)

    binary = repository / "dists" / SUITE / COMPONENT / f"binary-{ARCHITECTURE}"
    binary.mkdir(parents=True)
    index = run(["apt-ftparchive", "packages", str(pool.relative_to(repository))], cwd=repository)
    (binary / "Packages").write_text(index, encoding="utf-8")
    suite = repository / "dists" / SUITE
    fields = {
        "Origin": "Docker",
        "Label": "Docker CE",
        "Suite": SUITE,
        "Codename": SUITE,
        "Architectures": ARCHITECTURE,
        "Components": COMPONENT,
    }
    options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in fields.items()]
    listing = run(["apt-ftparchive", *options, "release", "."], cwd=suite)
    (suite / "Release").write_text(listing, encoding="utf-8")
    return sign([suite], repository / "gpg")


def sign(suites: Sequence[Path], public_key: Path) -> str:
    """Clear-sign each suite's Release as InRelease, by one key made for this alone; return its fingerprint (40 hex digits)."""
    # A short path: the agent's socket name is bounded (unix(7): 108 bytes).
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        environment = {**os.environ, "GNUPGHOME": home}
        gpg = ["gpg", "--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        try:
            run([*gpg, "--quick-generate-key", SIGNER, "rsa3072", "sign", "never"], env=environment)
            listing = run([*gpg, "--with-colons", "--list-keys"], env=environment)
            fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))
            for suite in suites:
                signed, release = str(suite / "InRelease"), str(suite / "Release")
                run([*gpg, "--digest-algo", "SHA512", "--clearsign", "--output", signed, release], env=environment)
            key = run([*gpg, "--armor", "--export", fingerprint], env=environment)
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False, capture_output=True)
    public_key.write_text(key, encoding="ascii")
    return fingerprint


def run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a tool to its end and return its standard output.

    Raises `ToolError` with the tool's last words when it fails.
    """
    environment = {**(env or os.environ), "PATH": TOOL_PATH}
    result = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise ToolError(command[0], result.returncode, result.stderr)
    return result.stdout


class ToolError(SetupError):
    """A tool of the build ended with an error."""

    def __init__(self, tool: str, status: int, output: str) -> None:
        tail = "\n".join(output.strip().splitlines()[-15:])
        super().__init__(f"{tool} ended with status {status}:\n{tail}")
