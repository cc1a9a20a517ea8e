"""Docker for the local node comes from Docker's own apt repository, and nothing of it is believed before it is checked."""

import os
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nightly import LONG_FORMS
from tests.tools.vendors import DOCKER, Sites, truncate
from tools import cache, docker_site, local
from tools.cache import SetupError
from tools.image import build as image
from tools.image import packages
from tools.image.packages import DockerArchives, DockerBinaries, DockerRelease, Package
from tools.official import Unavailable

pytestmark = [pytest.mark.apt]


@pytest.fixture
def repository(vendors: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sites:
    """Docker's repository: the packages that are asked for, and newer ones beside them."""
    suites: dict[str, list[Path]] = {}
    versions = [
        (name, f"5:{origin.release}-{origin.suffix}", origin.suite)
        for origin in docker_site.ORIGINS
        for name in docker_site.PACKAGES
    ]
    newer = ("docker-ce", "5:99.0.0-1~debian.13~trixie", packages.SUITE)
    for name, version, suite in (*versions, newer, (*docker_site.CONTAINERD, packages.SUITE)):
        content = {f"usr/share/doc/{name}/README": f"{name} {version} by Docker\n"}
        package = packages.build_package(
            Package(name, version, name, texts=content), tmp_path / "made" / suite, tmp_path / "work"
        )
        suites.setdefault(suite, []).append(package)
    monkeypatch.setattr(docker_site, "DOCKER_FINGERPRINT", vendors.docker(suites))
    return vendors


def pool(sites: Sites, name: str) -> Path:
    """A package's file on the site."""
    (file,) = (sites.folder / DOCKER).glob(f"dists/*/pool/stable/amd64/{name}_{docker_site.ORIGINS[0].release}*.deb")
    return file


def index(sites: Sites) -> Path:
    return sites.folder / DOCKER / "dists/trixie/stable/binary-amd64/Packages"


def refused() -> str:
    """The sentence with which set-up refuses; nothing stays in the cache."""
    with pytest.raises(SetupError) as error:
        docker_site.releases()
    assert list((cache.root() / "parts").iterdir()) == []
    return str(error.value)


def test_both_releases_are_docker_s_own_packages(repository: Sites, tmp_path: Path) -> None:
    """What nodes of stack local are served is what Docker published: the bytes, for Debian 12's release all but the version."""
    releases = docker_site.releases()
    assert [release.release for release in releases] == ["28.5.2", "27.5.1"]
    for name in docker_site.PACKAGES:
        assert f"/dists/trixie/pool/stable/amd64/{name}_28.5.2-" in " ".join(repository.requests)
        assert f"/dists/bookworm/pool/stable/amd64/{name}_27.5.1-" in " ".join(repository.requests)
    (tmp_path / "site").mkdir()
    packages.build_repository(tmp_path / "site", releases, tmp_path / "again")
    served = tmp_path / "site/debian/dists/trixie/pool/stable/amd64"
    assert len(list(served.iterdir())) == 7
    for published in (pool(repository, "docker-ce"), next((repository.folder / DOCKER).glob("**/containerd.io_*.deb"))):
        assert (served / published.name).read_bytes() == published.read_bytes()
    older = served / "docker-ce_27.5.1-1~debian.13~trixie_amd64.deb"
    assert packages.run(["dpkg-deb", "--field", str(older), "Version"]) == "5:27.5.1-1~debian.13~trixie\n"
    packages.run(["dpkg-deb", "--extract", str(older), str(tmp_path / "older")])
    readme = (tmp_path / "older/usr/share/doc/docker-ce/README").read_text()
    assert readme == "docker-ce 5:27.5.1-1~debian.12~bookworm by Docker\n"


def test_second_run_downloads_nothing(repository: Sites) -> None:
    docker_site.releases()
    repository.requests.clear()
    docker_site.releases()
    assert repository.requests == []


def test_package_that_is_changed_is_refused(repository: Sites) -> None:
    package = pool(repository, "docker-ce-cli")
    package.write_bytes(package.read_bytes() + b"x")
    sentence = refused()
    assert "docker-ce-cli_28.5.2" in sentence and "the index of trixie says" in sentence and "damaged copy" in sentence


def test_index_that_is_changed_is_refused(repository: Sites) -> None:
    index(repository).write_text(index(repository).read_text().replace("99.0.0", "99.0.1"))
    sentence = refused()
    assert "stable/binary-amd64/Packages has sha256" in sentence and "InRelease says" in sentence


def test_list_that_docker_did_not_sign_is_refused(repository: Sites) -> None:
    release = repository.folder / DOCKER / "dists/trixie/InRelease"
    release.write_text(release.read_text().replace("SHA256:", "SHA224:", 1))
    assert f"has no valid signature of Docker's key {docker_site.DOCKER_FINGERPRINT}" in refused()


def test_list_without_a_signature_is_refused(repository: Sites) -> None:
    suite = repository.folder / DOCKER / "dists/trixie"
    (suite / "InRelease").write_text((suite / "Release").read_text())
    assert "has no valid signature" in refused()


def test_repository_signed_by_another_key_is_refused(repository: Sites) -> None:
    other = repository.sign_docker()
    sentence = refused()
    assert f"is {other}, and Docker's is {docker_site.DOCKER_FINGERPRINT}" in sentence


def test_page_in_place_of_the_key_is_refused(repository: Sites) -> None:
    (repository.folder / DOCKER / "gpg").write_text("<html>Please log in</html>")
    assert "is no OpenPGP key, and Docker's is" in refused()


def test_package_that_ends_early_is_refused(repository: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = truncate(pool(repository, "docker-ce"), monkeypatch)
    sentence = refused()
    assert "docker-ce_28.5.2" in sentence and f"ended after {whole // 2} of {whole} bytes" in sentence


def test_package_that_is_not_there_any_more_is_named(repository: Sites) -> None:
    pool(repository, "docker-ce-cli").unlink()
    with pytest.raises(Unavailable, match=r"docker-ce-cli_28\.5\.2.*404"):
        docker_site.releases()


def test_version_that_docker_does_not_offer_is_named_with_what_there_is(
    repository: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_site, "CONTAINERD", ("docker-ce", "5:28.0.0-1~debian.13~trixie"))
    assert "has no docker-ce 5:28.0.0-1~debian.13~trixie in trixie (there are 5:28.5.2-1~debian.13~trixie, 5:99.0.0" in refused()


def test_machine_without_go_and_without_the_repository_gets_a_remedy(vendors: Sites) -> None:
    with pytest.raises(SetupError) as error:
        local.docker()
    sentence = str(error.value)
    assert "404" in sentence and vendors.url in sentence and "set KATA_NODES_MIRROR to a mirror, or install Go" in sentence


def test_image_without_go_is_made_of_docker_s_packages_and_has_no_shim(
    repository: Sites, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The road of a machine with internet and without Go, but for Debian's own packages."""
    builds: list[tuple[list[object], object]] = []
    monkeypatch.setattr(local, "system_packages", lambda: None)

    def ensure(releases: list[object], stand_in: object) -> dict[str, object]:
        builds.append((releases, stand_in))
        return {}

    monkeypatch.setattr(image, "ensure", ensure)
    repository.etcd()
    repository.kubernetes("kube-apiserver")
    assert {"etcd", "kube-apiserver"} <= local.parts().keys()
    ((releases, stand_in),) = builds
    assert stand_in is None and all(isinstance(release, DockerArchives) for release in releases)
    assert "Without Go there is no stand-in for Kata's shim" in capsys.readouterr().err


@pytest.mark.parametrize(("system", "machine"), [("Linux", "aarch64"), ("Darwin", "arm64")])
def test_machine_that_cannot_make_a_local_node_is_refused_before_anything_is_downloaded(
    vendors: Sites, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(
        SetupError, match=f"makes its node on Linux on x86_64, and this machine is {system} on {machine}. Use another"
    ):
        local.parts()
    assert vendors.requests == []


@pytest.fixture(scope="module")
def built() -> list[DockerRelease]:
    """Real daemons and clients, to be published by the played repository; before the machine loses its Go and its cache."""
    return local.built_docker()


# Set-up itself builds the image, where it is not in the cache, with the Docker that it built.
@LONG_FORMS
@pytest.mark.debian
@pytest.mark.skipif(os.geteuid() != 0, reason="installs packages into a new root folder")
def test_node_image_holds_the_docker_that_the_repository_published(
    built: list[DockerRelease], vendors: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an empty cache, without Go: servers, packages, Debian and the disk, by everything that set-up really runs."""
    suites: dict[str, list[Path]] = {packages.SUITE: []}
    for origin, release in zip(docker_site.ORIGINS, built, strict=True):
        assert isinstance(release, DockerBinaries)
        for package in packages.docker_packages(release):
            texts = {**package.texts, f"usr/share/doc/{package.name}/PUBLISHED": f"{origin.suite}\n"}
            published = replace(package, version=f"5:{origin.release}-{origin.suffix}", texts=texts)
            archive = packages.build_package(published, tmp_path / "made" / origin.suite, tmp_path / "work")
            suites.setdefault(origin.suite, []).append(archive)
    containerd = replace(packages.containerd_package(), version=docker_site.CONTAINERD[1])
    suites[packages.SUITE].append(packages.build_package(containerd, tmp_path / "made" / packages.SUITE, tmp_path / "work"))
    monkeypatch.setattr(docker_site, "DOCKER_FINGERPRINT", vendors.docker(suites))
    vendors.etcd()
    vendors.kubernetes("kube-apiserver")
    parts = local.parts()
    assert parts["containers"] is False
    inside = packages.run(["debugfs", "-R", "cat /usr/share/doc/docker-ce/PUBLISHED", str(parts["disk"])])
    assert inside == f"{packages.SUITE}\n"
    served = sorted(file.name for file in Path(str(parts["site"])).glob("debian/dists/trixie/pool/stable/amd64/docker-ce_*"))
    assert served == [f"docker-ce_{release}-1~debian.13~trixie_amd64.deb" for release in ("27.5.1", "28.5.2")]
