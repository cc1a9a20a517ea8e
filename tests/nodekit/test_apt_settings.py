"""Packages change, or the run says why not, whatever a person's apt.conf tells the real apt to do.

Lost if these fail: a run that takes packages for changed which are not, and a hook's failure that looks like apt's own."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodekit.commands import docker as docker_verb
from nodekit.commands import restore as restore_verb
from nodekit.errors import NodeError
from nodekit.host import apt as host_apt
from nodekit.host import docker as host_docker
from nodekit.host.journal import journals
from nodekit.rules.docker.docker_packages import HELD, PACKAGES
from tests.nodekit.docker_node import NEW, OLD, Daemon, Node, Repository, desired, make_root
from tests.serving import running

pytestmark = pytest.mark.apt
BOOTSTRAP = Path(__file__).resolve().parents[2] / "nodekit" / "bootstrap.sh"
SETTINGS = [
    'APT::Get::Download-Only "true";',
    'Binary::apt-get::APT::Get::Download-Only "true";',
    'APT::Get::Simulate "true";',
    'APT::Get::Print-URIs "true";',
    'APT::Get::Trivial-Only "true";',
    'APT::Get::Download "false";',
    'APT::Get::Upgrade "false";',
    'DPkg::ConfigurePending "false";',
    'Debug::pkgDPkgPM "true";',
]
"""Each kept apt from installing; all but two of them without an error."""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """A node without Docker."""
    root = tmp_path / "bare"
    for name, value in make_root(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(host_docker, "HEALTH_TIMEOUT", 2.0)
    with running(Daemon(root)):
        yield Node(root)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Repository) -> Iterator[Node]:
    """A node that someone gave Docker 28.5.2, with the source's file gone since."""
    root = tmp_path / "root"
    for name, value in make_root(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(host_docker, "HEALTH_TIMEOUT", 2.0)
    source = root / "etc/apt/sources.list.d/first.list"
    source.write_text(f"deb [trusted=yes] {repository.address} trixie stable\n")
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    with running(Daemon(root)):
        node = Node(root)
        node.install(*(f"{name}={NEW}" for name in PACKAGES))
        source.unlink()
        yield node


def configure(node: Node, text: str) -> None:
    (node.root / "etc/apt/apt.conf.d/99own").write_text(f"{text}\n")


def refused(node: Node, repository: Repository) -> NodeError:
    """The error of a run that must leave the node as it was."""
    before = node.etc(), node.packages(), node.holds()
    with pytest.raises(NodeError) as caught:
        docker_verb.run(desired(repository), node.root)
    assert (node.etc(), node.packages(), node.holds(), journals(node.root)) == (*before, [])
    return caught.value


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_keeps_apt_from_acting_does_not_count(node: Node, repository: Repository, setting: str) -> None:
    configure(node, setting)
    assert docker_verb.run(desired(repository), node.root)["version"] == "27.5.1"
    assert {node.packages()[name] for name in PACKAGES} == {f"hi {OLD}"}
    assert restore_verb.run({"node": "n1"}, node.root)["kept"] == []
    assert {node.packages()[name] for name in PACKAGES} == {f"ii {NEW}"}


def test_a_setting_that_keeps_holds_from_being_set_does_not_count(node: Node, repository: Repository) -> None:
    configure(node, 'APT::Mark::Simulate "true";')
    assert docker_verb.run(desired(repository), node.root)["held"] == list(HELD)
    assert node.holds() == sorted(HELD)


def test_a_dpkg_that_only_pretends_is_told_as_that(node: Node, repository: Repository) -> None:
    """No later option takes `no-act` back, which can stand in dpkg.cfg too."""
    configure(node, 'DPkg::Options { "--no-act"; };')
    error = refused(node, repository)
    assert (error.code, error.case) == ("package-install-failed", "settings")
    assert f"docker-ce={OLD} (installed {NEW})" in error.message and "no-act" in error.remedy


def test_a_command_of_somebody_s_that_fails_after_dpkg_is_a_note(
    node: Node, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `mount -o remount,ro /usr` does while a program runs from there: all packages have changed by then."""
    configure(node, 'DPkg::Post-Invoke { "exit 3"; };')
    assert docker_verb.run(desired(repository), node.root)["version"] == "27.5.1"
    assert "note: E: Problem executing scripts DPkg::Post-Invoke 'exit 3'" in capsys.readouterr().err
    assert restore_verb.run({"node": "n1"}, node.root)["kept"] == []
    assert ({node.packages()[name] for name in PACKAGES}, journals(node.root)) == ({f"ii {NEW}"}, [])


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ('DPkg::Pre-Invoke { "exit 3"; };', "DPkg::Pre-Invoke 'exit 3'"),
        ('DPkg::Pre-Install-Pkgs { "cat >/dev/null; exit 3"; };', "Failure running script cat >/dev/null; exit 3"),
    ],
)
def test_a_command_of_somebody_s_that_fails_before_dpkg_is_told_as_that(
    node: Node, repository: Repository, hook: str, words: str
) -> None:
    configure(node, hook)
    error = refused(node, repository)
    assert (error.code, error.case) == ("package-install-failed", "hook")
    assert words in error.message and "Repair that command" in error.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming apt's user needs root")
def test_a_key_that_apt_s_own_user_may_not_read_is_told_as_that() -> None:
    """As a umask of 027 leaves it. apt 2.6 says "Unknown error executing apt-key", and that the repository is not signed."""
    with tempfile.TemporaryDirectory() as folder:  # that user may not enter pytest's
        Path(folder).chmod(0o755)
        key = Path(folder, "docker.asc")
        key.touch()
        for mode, user in ((0o640, "_apt"), (0o644, None)):
            key.chmod(mode)
            assert host_apt.unreadable_by('APT::Sandbox "";\nAPT::Sandbox::User "_apt";\n', key) == user
        key.chmod(0o600)
        assert host_apt.unreadable_by('APT::Sandbox::User "root";\n', key) is None
        assert host_apt.unreadable_by('APT::Sandbox::User "nobody-of-that-name";\n', key) is None


def bootstrap(node: Node, repository: Repository) -> "subprocess.CompletedProcess[str]":
    """Install a package as the script that brings the program does it, with the script's own functions."""
    (node.root / "etc/apt/sources.list.d/first.list").write_text(f"deb [trusted=yes] {repository.address} trixie stable\n")
    text = BOOTSTRAP.read_text().partition("\n# Nothing runs before all of it")[0].replace("/usr/local/lib", str(node.root))
    call = "install_packages docker-ce-rootless-extras iptables 8>&1"
    return subprocess.run(["sh", "-c", f"{text}\n{call}"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("setting", [*SETTINGS, 'DPkg::Post-Invoke { "exit 3"; };'])
def test_the_packages_of_the_program_come_too(node: Node, repository: Repository, setting: str) -> None:
    node.install(*(f"{name}-" for name in (*PACKAGES, "iptables")))
    configure(node, setting)
    result = bootstrap(node, repository)
    assert result.returncode == 0, result.stderr
    assert {"docker-ce-rootless-extras", "iptables"} <= set(node.packages())


def test_packages_of_the_program_that_did_not_come_are_told(node: Node, repository: Repository) -> None:
    """Lost if this fails: an installation that is done, and a proof that fails much later for want of a tool."""
    node.install(*(f"{name}-" for name in (*PACKAGES, "iptables")))
    configure(node, 'DPkg::Options { "--no-act"; };')
    result = bootstrap(node, repository)
    assert result.returncode == 1 and "could not be installed" in result.stderr


def test_the_script_gives_apt_the_settings_that_the_program_gives_it() -> None:
    text = BOOTSTRAP.read_text()
    assert [setting for setting in host_apt._ACT[1::2] if f"-o {setting}" not in text] == []
    assert "-o APT::Get::Simulate=false" in text


@pytest.mark.parametrize(
    ("pin", "words"),
    [
        ("Package: containerd.io\nPin: release *\nPin-Priority: -1\n", "'containerd.io' has no installation candidate"),
        ("Package: *\nPin: origin 127.0.0.1\nPin-Priority: -10\n", "no installation candidate"),
        ("Package: iptables\nPin: version *\nPin-Priority: -1\n", "but it is not installable"),
        ("Package: docker-ce\nPin: version 5:27*\n", "No priority (or zero) specified for pin"),
        ("docker-ce\n", "Unable to parse package file"),
    ],
)
def test_a_pin_that_keeps_a_package_away_is_told_as_that(bare: Node, repository: Repository, pin: str, words: str) -> None:
    """Lost if this fails: somebody who looks for a fault in apt's lists, where there is none."""
    (bare.root / "etc/apt/preferences.d/own.pref").write_text(pin)
    error = refused(bare, repository)
    assert (error.code, error.case) == ("package-install-failed", host_apt.PINS) and words in error.message
    assert "/etc/apt/preferences" in error.remedy and not bare.packages()


@pytest.mark.parametrize(
    "pin",
    [
        "Package: docker-ce\nPin: version *\nPin-Priority: -1\n",
        "Package: docker-ce docker-ce-cli\nPin: version 5:28*\nPin-Priority: 1001\n",
        "Package: *\nPin: origin 127.0.0.1\nPin-Priority: 1\n",
    ],
)
def test_a_pin_of_another_version_does_not_count(bare: Node, repository: Repository, pin: str) -> None:
    (bare.root / "etc/apt/preferences.d/own.pref").write_text(pin)
    assert docker_verb.run(desired(repository), bare.root)["version"] == "27.5.1"
    assert not docker_verb.run(desired(repository), bare.root)["changed"]
