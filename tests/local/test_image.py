"""The packages, the signed repository and the Kata archive have the shape of the real ones, and the image a true name."""

import lzma
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import tomllib

from nodekit.rules.kata import kata_start
from nodekit.rules.kata.kata_start_model import Configuration, File, Machine
from tools import cache
from tools.cache import SetupError
from tools.image import archive, boot, build, packages, rootfs
from tools.image.packages import DockerBinaries, Package

PARTS = archive.ArchiveSources(b"busybox", b"shim", b"agent", (b"first", b"second"), (b"network",))


@pytest.fixture
def stand_in(tmp_path: Path) -> build.StandIn:
    programs = build.StandIn(tmp_path / "shim", tmp_path / "agent")
    programs.shim.write_text("shim")
    programs.agent.write_text("agent")
    return programs


@pytest.fixture
def releases(tmp_path: Path) -> list[DockerBinaries]:
    binaries = []
    for release in ("28.5.2", "27.5.1"):
        parts = [tmp_path / f"{part}-{release}" for part in ("dockerd", "proxy", "docker")]
        for part in parts:
            part.write_text(f"#!/bin/sh\necho {part.name}\n")
        binaries.append(DockerBinaries(release, *parts))
    return binaries


def test_versions_are_written_as_docker_writes_them() -> None:
    nothing = Path("/dev/null")
    assert DockerBinaries("27.5.1", nothing, nothing, nothing).version == "5:27.5.1-1~debian.13~trixie"


def test_a_control_file_keeps_the_paragraphs_of_its_description() -> None:
    package = Package("a", "5:1-1", "One line\nmore\n\nlast", depends=("b", "c (>= 1)"))
    assert package.file_name == "a_1-1_amd64.deb"
    text = packages.control(package, 3)
    assert "Depends: b, c (>= 1)\nDescription: One line\n more\n .\n last\n" in text
    assert "Recommends" not in text


@pytest.mark.apt
def test_apt_takes_both_releases_from_the_signed_repository(releases: list[DockerBinaries], tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    site.mkdir()
    work.mkdir()
    fingerprint = packages.build_repository(site, releases, work)
    assert len(fingerprint) == 40

    key = tmp_path / "key.asc"
    key.write_bytes((site / "debian/gpg").read_bytes())
    (tmp_path / "lists/partial").mkdir(parents=True)
    (tmp_path / "sources.list").write_text(f"deb [arch=amd64 signed-by={key}] copy://{site}/debian trixie stable\n")
    (tmp_path / "status").touch()
    settings = {
        "Dir::Etc::SourceList": str(tmp_path / "sources.list"),
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": str(tmp_path),
        "Dir::State::Lists": str(tmp_path / "lists"),
        "Dir::State::Status": str(tmp_path / "status"),
        "Dir::Cache": str(tmp_path),
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    updated = packages.run(["apt-get", *options, "--error-on=any", "update"])
    assert "InRelease" in updated
    offered = packages.run(["apt-cache", *options, "madison", "docker-ce"])
    assert [line.split("|")[1].strip() for line in offered.splitlines()] == [
        "5:28.5.2-1~debian.13~trixie",
        "5:27.5.1-1~debian.13~trixie",
    ]
    names = packages.run(["apt-cache", *options, "pkgnames"]).split()
    assert {"docker-ce", "docker-ce-cli", "docker-ce-rootless-extras", "containerd.io"} <= set(names)

    release = site / "debian/dists/trixie/InRelease"
    release.write_text(release.read_text().replace("Origin: Docker", "Origin: Another"))
    with pytest.raises(SetupError):
        packages.run(["apt-get", *options, "--error-on=any", "update"])


@pytest.mark.apt
def test_the_daemon_package_has_units_and_scripts(releases: list[DockerBinaries], tmp_path: Path) -> None:
    package = packages.build_package(packages.docker_packages(releases[0])[0], tmp_path / "pool", tmp_path / "work")
    listing = packages.run(["dpkg-deb", "--contents", str(package)])
    for name in ("usr/bin/dockerd", "usr/bin/docker-proxy", "docker.service", "docker.socket"):
        assert f"{name}\n" in listing
    assert " root/root " in listing and listing.count("root/root") == len(listing.splitlines())
    packages.run(["dpkg-deb", "--control", str(package), str(tmp_path / "control")])
    for script in ("postinst", "prerm", "postrm"):
        assert os.access(tmp_path / "control" / script, os.X_OK)


def test_the_archive_is_the_same_bytes_each_time_and_shaped_like_a_release(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first = archive.build_archive(tmp_path, PARTS)
    assert archive.build_archive(tmp_path / "again", PARTS) == first
    assert first["file"] == "kata-static-3.32.0-amd64.tar.xz"
    with tarfile.open(tmp_path / first["file"]) as tar:
        names = tar.getnames()
        links = {entry.name: entry.linkname for entry in tar if entry.issym()}
        programs = [entry.name for entry in tar if entry.isfile() and entry.mode == 0o755]
        initrd = tar.extractfile("./opt/kata/share/kata-containers/kata-containers-initrd.img")
        assert initrd is not None
        assert initrd.read().startswith(b"070701")
    assert names[:3] == [".", "./opt", "./opt/kata"]
    assert links == {
        "./opt/kata/bin/qemu-system-x86_64": "/usr/bin/qemu-system-x86_64",
        "./opt/kata/libexec/virtiofsd": "/usr/libexec/virtiofsd",
        "./opt/kata/share/defaults/kata-containers/configuration.toml": "configuration-qemu.toml",
        "./opt/kata/share/kata-containers/vmlinux.container": "/vmlinux",
    }
    assert lzma.decompress((tmp_path / first["file"]).read_bytes())[257:262] == b"ustar"
    assert programs == ["./opt/kata/bin/containerd-shim-kata-v2"]
    assert archive.STAND_IN.startswith(b"This is not Kata Containers.")
    assert "./opt/kata/STAND-IN" in names


def test_archive_made_without_go_has_no_shim_and_whatever_a_guest_needs() -> None:
    """A node without a shim is proven by its guests; one with a shim that does nothing would fail."""
    bare = archive.ArchiveSources(b"busybox", None, archive.IDLE, (), ())
    assert set(archive.members(PARTS)) - set(archive.members(bare)) == {"bin/containerd-shim-kata-v2"}
    assert archive.IDLE in archive.initrd(bare)


def test_the_configuration_keeps_what_a_release_sets() -> None:
    table = tomllib.loads((archive.CONFIGURATIONS / "configuration-qemu.toml").read_text())
    qemu = table["hypervisor"]["qemu"]
    assert qemu["kernel_params"] == "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
    assert {"agent", "runtime", "factory"} <= set(table)
    inside = {f"/opt/kata/{name}" for name in archive.members(PARTS)}
    assert {qemu["path"], qemu["kernel"], qemu["initrd"], qemu["virtio_fs_daemon"]} <= inside
    reader = Configuration(table, {}, "/c", "go", "qemu", archive.VERSION)
    assert set(kata_start.paths(reader)) <= inside, "a proof on a local node would say that Kata refuses to start"
    files = dict.fromkeys(kata_start.paths(reader), File("file", executable=True, size=1))
    assert kata_start.refusals(reader, Machine(files)) == []


def test_the_initial_ram_disk_is_read_by_cpio() -> None:
    packed = archive.initrd(PARTS)
    result = subprocess.run(["busybox", "cpio", "-itv"], input=packed, capture_output=True, check=True)
    seen = {line.split()[-1].decode(): line.split()[0].decode() for line in result.stdout.splitlines()}
    assert seen["init"] == seen["bin/busybox"] == "-rwxr-xr-x"
    assert seen["proc"] == "drwxr-xr-x"
    assert seen["dev/null"] == "crw-rw-rw-"
    assert [name for name in seen if name.endswith(".ko")] == [
        f"lib/stand-in/{name}.ko" for name in ("boot/00", "boot/01", "network/00")
    ]


def test_the_machines_ram_disk_has_what_its_first_process_and_the_look_for_kvm_start() -> None:
    result = subprocess.run(
        ["busybox", "cpio", "-itv"], input=boot.initrd(b"busybox", (b"a", b"b")), capture_output=True, check=True
    )
    seen = {line.split()[-1].decode(): line.split()[0].decode() for line in result.stdout.splitlines()}
    assert seen["init"] == seen["bin/busybox"] == seen["bin/true"] == "-rwxr-xr-x" and seen["dev/console"][0] == "c"
    assert [name for name in seen if name.endswith(".ko")] == ["modules/00.ko", "modules/01.ko"]
    used = {word for line in boot.FIRST_PROCESS.decode().splitlines() for word in line.split() if word.startswith("/bin/")}
    assert used == {"/bin/busybox"}


def test_the_packed_part_of_a_kernel_ends_before_its_length() -> None:
    kernel = bytearray(1024 + 10) + b"packed" + b"size"
    kernel[0x1F1] = 1
    kernel[0x248:0x250] = (10).to_bytes(4, "little") + len(b"packedsize").to_bytes(4, "little")
    assert boot.payload(bytes(kernel)) == b"packed"


def test_kernel_modules_come_after_those_that_they_need(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/modules/6.1"
    folder.mkdir(parents=True)
    for name in ("a", "b-x", "c"):
        (folder / f"{name}.ko.xz").write_bytes(lzma.compress(name.encode()))
    # As depmod writes it: what a module needs, from the nearest on.
    (folder / "modules.dep").write_text("c.ko.xz:\nb-x.ko.xz: c.ko.xz\na.ko.xz: b-x.ko.xz c.ko.xz\n")
    assert archive.kernel_modules(tmp_path, ("a", "b_x", "built_in")) == (b"c", b"b-x", b"a")


@pytest.mark.parametrize(
    ("listing", "address"),
    [
        ("http://a/debian-security/ main|Debian-Security\nhttp://a/debian/ main|Debian\n", "http://a/debian/"),
        ("http://a/debian/ contrib|Debian\nhttp://b/debian/ main|Debian\n", "http://b/debian/"),
    ],
)
def test_the_mirror_is_this_machines_own(listing: str, address: str) -> None:
    assert rootfs.debian_mirror(listing) == address


def test_without_a_debian_mirror_the_remedy_is_named() -> None:
    with pytest.raises(SetupError, match="apt-get update"):
        rootfs.debian_mirror("http://c/ubuntu/ main|Ubuntu\n")


def test_the_way_to_the_mirror_is_this_machines_own() -> None:
    dump = 'Acquire "";\nAcquire::http::Proxy "http://p:1";\nAcquire::Check-Date "false";\nAcquire::https::Proxy "";\nDir "/";\n'
    assert rootfs.transfer_options(dump) == ['Acquire::http::Proxy "http://p:1"', 'Acquire::Check-Date "false"']


def test_the_image_is_named_after_what_it_is_built_from(releases: list[DockerBinaries], stand_in: build.StandIn) -> None:
    names = [build.digest(releases, stand_in)]
    assert build.digest(releases, stand_in) == names[0]
    for program in (releases[1].client, stand_in.shim, stand_in.agent):
        program.write_text("another")
        names.append(build.digest(releases, stand_in))
    assert len({*names, build.digest(releases, None)}) == 5


def test_missing_tools_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "TOOL_PATH", "/nowhere")
    assert {"mmdebstrap", "e2fsprogs", "apt-utils", "gpg"} <= set(build.missing_tools())


def test_a_failed_build_leaves_nothing(
    releases: list[DockerBinaries], stand_in: build.StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(build, "missing_tools", list)

    def fail(folder: Path, *programs: object) -> None:
        (folder / "half").touch()
        raise SetupError("no mirror")

    monkeypatch.setattr(build, "build", fail)
    with pytest.raises(SetupError, match="no mirror"):
        build.ensure(releases, stand_in)
    assert list((cache.root() / "image").iterdir()) == []


def test_ordinary_user_is_told_the_command_that_builds_the_same_image(
    releases: list[DockerBinaries], stand_in: build.StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sudo's own PATH there is no Go, so no stand-in: root built another image, and `make up` asked for this one again."""
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path / "my cache"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError) as caught:
        build.ensure(releases, stand_in)
    command = f"sudo env PATH=\"$PATH\" KATA_NODES_CACHE='{tmp_path / 'my cache'}' python3 -m tools.local"
    assert str(caught.value).endswith(command)


@pytest.mark.slow
def test_two_builds_at_once_make_one_image(releases: list[DockerBinaries], stand_in: build.StandIn, tmp_path: Path) -> None:
    """The second waits for the first and takes what it made; a killed build's remains go."""
    script = """
import json, os, sys, time
from pathlib import Path
from tools.image import build
from tools.image.packages import DockerBinaries
def make(folder, *programs):
    time.sleep(1)
    (folder / "image.json").write_text("{}")
    print("built")
build.build, build.missing_tools, os.geteuid = make, list, lambda: 0
parts = [Path(part) for part in sys.argv[1:]]
releases = [DockerBinaries("28.5.2", *parts[:3]), DockerBinaries("27.5.1", *parts[3:6])]
build.ensure(releases, build.StandIn(*parts[6:]))
"""
    parts = [str(part) for release in releases for part in (release.daemon, release.proxy, release.client)]
    parts += [str(stand_in.shim), str(stand_in.agent)]
    stale = tmp_path / "image" / f".{build.digest(releases, stand_in)}-killed"
    stale.mkdir(parents=True)
    environment = {**os.environ, "KATA_NODES_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", script, *parts]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(outputs) == ["", "built\n"]
    assert not stale.exists()
