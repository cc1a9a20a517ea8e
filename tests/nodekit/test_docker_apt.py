"""The verbs `docker` and `restore` with real apt and dpkg in a throw-away root: pins, holds, roll-backs, the way back.

Lost if these fail: a pin that does not hold, a node left between two versions, a `restore` that forgets something."""

import base64
import fcntl
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodekit.commands import docker as docker_verb
from nodekit.commands import restore as restore_verb
from nodekit.errors import NodeError
from nodekit.host import apt as host_apt
from nodekit.host import docker as host_docker
from nodekit.host.failpoints import VARIABLE
from nodekit.host.journal import Transaction, journals
from nodekit.rules.docker.docker_packages import HELD, PACKAGES
from tests.nodekit.docker_node import (
    CONTAINERD,
    NEW,
    OLD,
    OLD_CONTAINERD,
    OLD_IPTABLES,
    Daemon,
    Node,
    Repository,
    build_distribution,
    build_repository,
    desired,
    gpg_key,
    make_root,
    served,
)
from tests.serving import running

pytestmark = pytest.mark.apt


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    root = tmp_path / "root"
    for name, value in make_root(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(host_docker, "HEALTH_TIMEOUT", 2.0)
    with running(Daemon(root)):
        yield Node(root)


@pytest.fixture
def node28(node: Node, repository: Repository) -> Node:
    """A node that someone gave Docker 28.5.2, with the source's file gone since."""
    source = node.root / "etc/apt/sources.list.d/first.list"
    source.write_text(f"deb [trusted=yes] {repository.address} trixie stable\n")
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    node.install(*(f"{name}={NEW}" for name in PACKAGES))
    source.unlink()
    return node


def test_a_newer_docker_is_brought_to_the_pin_held_and_given_the_runtime(
    node28: Node, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    result = docker_verb.run(desired(repository), node28.root)
    assert result == {
        "node": "n1",
        "changed": True,
        "version": "27.5.1",
        "package": OLD,
        "held": list(HELD),
        "runtimes": ["kata", "runc"],
        "previous": {"version": NEW},
        "containersStopped": ["web", "database"],
    }
    assert node28.holds() == sorted(HELD)
    assert {node28.packages()[name] for name in PACKAGES} == {f"hi {OLD}"}
    output = capsys.readouterr().err
    assert "these running containers stop: web, database" in output
    assert "Unpacking docker-ce " in output


def test_a_second_run_changes_nothing_and_asks_neither_apt_nor_the_service(node28: Node, repository: Repository) -> None:
    docker_verb.run(desired(repository), node28.root)
    before, calls = node28.etc(), len(node28.calls())
    begin = time.monotonic()
    again = docker_verb.run(desired(repository), node28.root)
    assert time.monotonic() - begin < 2
    assert (again["changed"], again["version"], again["previous"]) == (False, "27.5.1", {"version": NEW})
    assert node28.etc() == before
    assert node28.calls()[calls:] == ["/info"]


def test_restore_brings_back_versions_holds_and_every_file(node28: Node, repository: Repository) -> None:
    subprocess.run(["apt-mark", "hold", "docker-ce-cli"], check=True, capture_output=True)
    before = node28.etc(), node28.packages(), node28.holds()
    for _ in range(2):
        docker_verb.run(desired(repository), node28.root)
        result = restore_verb.run({"node": "n1"}, node28.root)
        assert (result["changed"], result["kept"]) == (True, [])
        assert (node28.etc(), node28.packages(), node28.holds()) == before
    assert journals(node28.root) == []
    assert restore_verb.run({"node": "n1"}, node28.root)["changed"] is False


def test_a_node_without_docker_gets_it_and_loses_all_of_it_again(node: Node, repository: Repository) -> None:
    before = node.etc(), node.packages()
    result = docker_verb.run(desired(repository, configPath="/opt/kata/c.toml"), node.root)
    assert (result["version"], result["previous"], result["containersStopped"]) == ("27.5.1", {"version": None}, [])
    assert "iptables" in node.packages()
    restore_verb.run({"node": "n1"}, node.root)
    assert (node.etc(), node.packages()) == before


@pytest.fixture
def distribution(node: Node, tmp_path: Path) -> Iterator[Path]:
    """The node's own distribution, which has iptables; its index was not read yet, as in an image without lists."""
    folder = tmp_path / "distribution"
    build_distribution(folder, tmp_path / "keys", "1.8.10-1")
    (node.root / "etc/apt/trusted.gpg.d/distribution.asc").write_bytes((folder / "gpg").read_bytes())
    with served(folder) as address:
        (node.root / "etc/apt/sources.list.d/distribution.list").write_text(f"deb {address} trixie stable\n")
        yield folder


@pytest.fixture(scope="module")
def docker_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """Docker's repository as it is: what Docker needs comes from the distribution."""
    base = tmp_path_factory.mktemp("docker")
    fingerprint = build_repository(base / "repository", base / "keys", iptables=False)
    with served(base / "repository") as address:
        yield Repository(address, base / "repository", fingerprint)


def test_a_node_whose_package_lists_are_empty_gets_what_docker_needs(
    node: Node, distribution: Path, docker_alone: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    before = node.etc(), node.packages()
    assert docker_verb.run(desired(docker_alone), node.root)["version"] == "27.5.1"
    assert node.packages()["iptables"] == "ii 1.8.10-1"
    assert "lists of packages may be empty or out of date" in capsys.readouterr().err
    restore_verb.run({"node": "n1"}, node.root)
    assert (node.etc(), node.packages()) == before


def test_a_node_whose_package_lists_are_old_gets_what_docker_needs(
    node: Node, distribution: Path, docker_alone: Repository, tmp_path: Path
) -> None:
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    build_distribution(distribution, tmp_path / "keys", "1.8.11-2")
    before = node.etc(), node.packages()
    assert docker_verb.run(desired(docker_alone), node.root)["version"] == "27.5.1"
    assert node.packages()["iptables"] == "ii 1.8.11-2"
    restore_verb.run({"node": "n1"}, node.root)
    assert (node.etc(), node.packages()) == before


def test_what_no_source_of_the_node_has_is_refused_and_nothing_is_changed(
    node: Node, distribution: Path, docker_alone: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.root / "etc/apt/sources.list.d/distribution.list").write_text("deb http://127.0.0.2:9 trixie stable\n")
    error = refused(node, desired(docker_alone))
    assert (error.code, error.case) == ("package-install-failed", "lists")
    assert "iptables" in error.message and "'apt-get update'" in error.remedy
    assert "Not all indices could be read" in capsys.readouterr().err


def test_restore_keeps_what_somebody_changed_since(node28: Node, repository: Repository) -> None:
    docker_verb.run(desired(repository), node28.root)
    file = node28.root / "etc/docker/daemon.json"
    file.write_text('{"debug": true}')
    node28.install("--allow-change-held-packages", f"docker-ce={NEW}")
    docker_verb.run(desired(repository), node28.root)
    file.write_text('{"debug": true, "runtimes": {}}')
    result = restore_verb.run({"node": "n1"}, node28.root)
    assert result["kept"] == ["/etc/docker/daemon.json: edited by somebody since"]
    assert json.loads(file.read_text())["debug"] is True


def test_a_lost_hold_is_put_back_without_an_install(node28: Node, repository: Repository) -> None:
    docker_verb.run(desired(repository), node28.root)
    subprocess.run(["apt-mark", "unhold", "containerd.io"], check=True, capture_output=True)
    result = docker_verb.run(desired(repository), node28.root)
    assert (result["changed"], result["held"], result["containersStopped"]) == (True, list(HELD), [])


def test_a_pin_that_moves_keeps_every_hold(node28: Node, repository: Repository) -> None:
    docker_verb.run(desired(repository), node28.root)
    moved = docker_verb.run(desired(repository, version="28.5.2"), node28.root)
    assert (moved["version"], moved["held"]) == ("28.5.2", list(HELD))
    assert restore_verb.run({"node": "n1"}, node28.root)["kept"] == []
    assert (node28.packages()["docker-ce"], node28.holds()) == (f"ii {NEW}", [])


@pytest.fixture
def node_old(node: Node, repository: Repository) -> Node:
    """A node with Docker 27.5.1 and the containerd.io of its day, with the source's file gone since."""
    source = node.root / "etc/apt/sources.list.d/first.list"
    source.write_text(f"deb [trusted=yes] {repository.address} trixie stable\n")
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    node.install(f"containerd.io={OLD_CONTAINERD}", *(f"{name}={OLD}" for name in PACKAGES))
    source.unlink()
    return node


def test_our_own_hold_of_containerd_does_not_keep_docker_from_a_newer_pin(node_old: Node, repository: Repository) -> None:
    """Lost if this fails: a stack that held containerd.io with Docker 27.5.1 can never move to 29, which needs a newer one."""
    before = node_old.packages()
    docker_verb.run(desired(repository), node_old.root)
    assert node_old.packages()["containerd.io"] == f"hi {OLD_CONTAINERD}"
    moved = docker_verb.run(desired(repository, version="28.5.2"), node_old.root)
    assert (moved["version"], moved["held"]) == ("28.5.2", list(HELD))
    assert node_old.packages()["containerd.io"] == f"hi {CONTAINERD}"
    assert docker_verb.run(desired(repository, version="28.5.2"), node_old.root)["changed"] is False
    assert restore_verb.run({"node": "n1"}, node_old.root)["kept"] == []
    assert (node_old.packages(), node_old.holds()) == (before, [])


def test_somebody_s_hold_of_containerd_keeps_docker_from_a_newer_pin(node_old: Node, repository: Repository) -> None:
    subprocess.run(["apt-mark", "hold", "containerd.io"], check=True, capture_output=True)
    docker_verb.run(desired(repository), node_old.root)
    with pytest.raises(NodeError) as caught:
        docker_verb.run(desired(repository, version="28.5.2"), node_old.root)
    assert caught.value.code == "package-install-failed" and "containerd.io (>= 1.7.27)" in caught.value.message
    assert (node_old.packages()["docker-ce"], node_old.packages()["containerd.io"]) == (f"hi {OLD}", f"hi {OLD_CONTAINERD}")


def test_an_install_that_fails_half_way_takes_versions_and_holds_back(node28: Node, repository: Repository) -> None:
    subprocess.run(["apt-mark", "hold", "docker-ce"], check=True, capture_output=True)
    # A dpkg that ends with an error once it has unpacked the new versions: they are there, and not configured.
    dpkg = node28.root.parent / "root-bin/dpkg-once"
    # Where the file is gone, it has failed already, and rm's words would stand among dpkg's.
    once = f"rm {node28.root}/fail 2>/dev/null && exit 1"
    dpkg.write_text(f'#!/bin/sh\ncase "$*" in *--configure*) {once} ;; esac\nexec dpkg "$@"\n')
    dpkg.chmod(0o755)
    (node28.root / "etc/apt/apt.conf.d/99fail").write_text(f'Dir::Bin::dpkg "{dpkg}";\n')
    (node28.root / "fail").touch()
    error = refused(node28, desired(repository))
    assert error.code == "package-install-failed"
    assert not (node28.root / "fail").exists()


def refused(node: Node, state: dict[str, object]) -> NodeError:
    """The error of a run that must leave the node as it was."""
    before = node.etc(), node.packages(), node.holds()
    with pytest.raises(NodeError) as caught:
        docker_verb.run(state, node.root)
    assert (node.etc(), node.packages(), node.holds()) == before
    assert journals(node.root) == []
    return caught.value


def test_a_version_that_is_not_there_is_refused_with_those_that_are(node28: Node, repository: Repository) -> None:
    error = refused(node28, desired(repository, version="27.5.0"))
    assert error.code == "version-not-in-repository"
    assert NEW in error.message and OLD in error.message


def test_an_unhealthy_dockerd_takes_packages_holds_and_files_back(node28: Node, repository: Repository) -> None:
    (node28.root / "silent").touch()
    error = refused(node28, desired(repository))
    assert error.code == "docker-unhealthy"
    assert "failed to start daemon: a reason" in error.message


def test_a_service_that_does_not_reload_takes_all_back(node28: Node, repository: Repository) -> None:
    (node28.root / "broken-service").touch()
    assert refused(node28, desired(repository)).code == "command-failed"


def test_a_daemon_json_that_dockerd_refuses_takes_all_back(node28: Node, repository: Repository) -> None:
    file = node28.root / "etc/docker/daemon.json"
    file.parent.mkdir()
    file.write_text('{"misspelt": 1}')
    error = refused(node28, desired(repository))
    assert error.code == "file-invalid"
    assert "/etc/docker/daemon.json" in error.message and "misspelt" in error.message


def test_another_signing_key_is_refused(node28: Node, repository: Repository, tmp_path: Path) -> None:
    wrong = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
    other = Repository(repository.address, repository.folder, wrong)
    error = refused(node28, desired(other))
    assert error.code == "repository-key-mismatch"
    assert repository.fingerprint in error.message and wrong in error.message


def test_a_repository_that_is_signed_by_a_key_it_does_not_publish_is_refused(
    node28: Node, repository: Repository, tmp_path: Path
) -> None:
    fingerprint, armoured = gpg_key(tmp_path / "k", "rsa3072")
    site = tmp_path / "site"
    site.mkdir()
    (site / "dists").symlink_to(repository.folder / "dists")
    (site / "gpg").write_bytes(armoured)
    with served(site) as address:
        error = refused(node28, desired(Repository(address, site, fingerprint)))
    assert error.code == "repository-unreachable"


def test_a_repository_that_does_not_answer_is_named(node28: Node, repository: Repository) -> None:
    error = refused(node28, desired(Repository("http://127.0.0.1:9", repository.folder, repository.fingerprint)))
    assert error.code == "repository-unreachable"
    assert "http://127.0.0.1:9/gpg" in error.message


def test_other_broken_sources_do_not_matter(node28: Node, repository: Repository) -> None:
    (node28.root / "etc/apt/sources.list.d/dead.list").write_text("deb http://127.0.0.1:9 trixie main\n")
    assert docker_verb.run(desired(repository), node28.root)["changed"] is True


@pytest.mark.parametrize("hook", ["Pre-Invoke", "Post-Invoke", "Post-Invoke-Success"])
def test_a_command_of_somebody_s_that_fails_after_apt_has_read_its_lists_does_not_matter(
    node28: Node, repository: Repository, hook: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of appstream and command-not-found do on many machines: apt has read its lists, and ends with an error."""
    (node28.root / "etc/apt/apt.conf.d/50appstream").write_text(f'APT::Update::{hook} {{ "exit 3"; }};\n')
    assert docker_verb.run(desired(repository), node28.root)["changed"] is True
    assert f"note: E: Problem executing scripts APT::Update::{hook} 'exit 3'" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["list", "sources"])
def test_an_entry_among_others_that_nobody_reaches_any_more_is_read_alone(
    node28: Node, repository: Repository, form: str
) -> None:
    """As in a sources.list with the installer's CD-ROM: apt reads Docker's repository, and only the others fail."""
    key = node28.root / "etc/apt/docker.asc"
    key.write_bytes((repository.folder / "gpg").read_bytes())
    Path(f"{node28.root}{node28.root}").parent.mkdir(parents=True)
    Path(f"{node28.root}{node28.root}").symlink_to("/")
    if form == "list":
        text = f"deb cdrom:[Debian 13]/ trixie main\ndeb [signed-by={key}] {repository.address} trixie stable\n"
        (node28.root / "etc/apt/sources.list").write_text(f"{text}deb http://127.0.0.1:9 trixie main\n")
    else:
        dead = "Types: deb\nURIs: http://127.0.0.1:9\nSuites: trixie\nComponents: main\n"
        own = f"Types: deb\nURIs: {repository.address}\nSuites: trixie\n# ours\nComponents: stable\nSigned-By: {key}\n"
        (node28.root / "etc/apt/sources.list.d/all.sources").write_text(f"{dead}\n# Docker\n{own}\n{dead}")
    assert docker_verb.run(desired(repository), node28.root)["version"] == "27.5.1"


def test_a_hidden_sources_file_counts_as_little_as_for_apt(node28: Node, repository: Repository) -> None:
    hidden = node28.root / "etc/apt/sources.list.d/.docker.list"
    hidden.write_text(f"deb [signed-by=/nowhere] {repository.address} trixie stable\n")
    assert docker_verb.run(desired(repository), node28.root)["version"] == "27.5.1"


class Guarded(http.server.SimpleHTTPRequestHandler):
    """A mirror that wants a login."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == f"Basic {base64.b64encode(b'node:hidden').decode()}":
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_mirror_that_apt_has_a_login_for_gives_its_key_too(node28: Node, repository: Repository) -> None:
    """Lost if this fails: a node whose apt can read the repository, and whose key can be read by nobody."""
    handler = functools.partial(Guarded, directory=str(repository.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, running(server):
        guarded = Repository(f"http://127.0.0.1:{server.server_port}", repository.folder, repository.fingerprint)
        assert refused(node28, desired(guarded)).code == "repository-unreachable"
        login = node28.root / "etc/apt/auth.conf"
        login.write_text(f"machine {guarded.address}/ login node password hidden\n")
        assert docker_verb.run(desired(guarded), node28.root)["version"] == "27.5.1"


def test_what_apt_would_tidy_away_beside_the_change_stays(node28: Node, repository: Repository) -> None:
    """With that setting apt removes what nothing needs with each change; beside --no-remove it changed nothing at all."""
    (node28.root / "etc/apt/apt.conf.d/50tidy").write_text('APT::Get::AutomaticRemove "true";\n')
    assert docker_verb.run(desired(repository), node28.root)["version"] == "27.5.1"
    assert restore_verb.run({"node": "n1"}, node28.root)["kept"] == []
    assert {node28.packages()[name] for name in PACKAGES} == {f"ii {NEW}"}


@pytest.mark.parametrize("form", ["list", "sources", "embedded", "indented"])
def test_a_source_that_is_there_already_is_used_when_its_key_is_right(node28: Node, repository: Repository, form: str) -> None:
    key = node28.root / "etc/apt/docker.asc"
    key.write_bytes((repository.folder / "gpg").read_bytes())
    folder = node28.root / "etc/apt/sources.list.d"
    text = f"Types: deb\nURIs: {repository.address}/\nSuites: trixie\nComponents: stable\n"
    # apt takes Signed-By as a path of the machine it runs on, the program as one of the node: a link serves both.
    Path(f"{node28.root}{node28.root}").parent.mkdir(parents=True)
    Path(f"{node28.root}{node28.root}").symlink_to("/")
    link = node28.root / "etc/apt/docker.asc"
    if form == "list":
        (folder / "docker.list").write_text(f"deb [arch=all signed-by={link}] {repository.address} trixie stable\n")
    elif form == "sources":
        (folder / "docker.sources").write_text(f"{text}Signed-By: {link}\n")
    else:
        empty = "." if form == "embedded" else ""  # sed 's/^/ /' leaves a line of one blank, which ends no entry for apt
        lines = "".join(f" {line or empty}\n" for line in key.read_text().splitlines())
        (folder / "docker.sources").write_text(f"{text}Signed-By:\n{lines}")
    before = set(node28.etc())
    assert docker_verb.run(desired(repository), node28.root)["version"] == "27.5.1"
    new = {Path(path).name for path in set(node28.etc()) - before}
    assert new == {"docker", "daemon.json"}


@pytest.mark.parametrize("form", ["list", "fingerprint", "embedded"])
def test_an_entry_with_another_component_alone_is_completed(node28: Node, repository: Repository, form: str) -> None:
    """apt reads no list at all where ours names the key in another way than theirs."""
    key = node28.root / "etc/apt/docker.asc"
    key.write_bytes((repository.folder / "gpg").read_bytes())
    Path(f"{node28.root}{node28.root}").parent.mkdir(parents=True)
    Path(f"{node28.root}{node28.root}").symlink_to("/")
    folder = node28.root / "etc/apt/sources.list.d"
    if form == "embedded":
        lines = "".join(f" {line or '.'}\n" for line in key.read_text().splitlines())
        text = f"Types: deb\nURIs: {repository.address}/\nSuites: trixie\nComponents: test\nSigned-By:\n{lines}"
        (folder / "docker.sources").write_text(text)
    else:
        signer = repository.fingerprint if form == "fingerprint" else key
        (node28.root / "etc/apt/trusted.gpg.d/docker.asc").write_bytes(key.read_bytes())
        (folder / "docker.list").write_text(f'deb [arch=all signed-by="{signer}"] {repository.address} trixie test\n')
    before = node28.etc(), node28.packages()
    assert docker_verb.run(desired(repository), node28.root)["version"] == "27.5.1"
    assert docker_verb.run(desired(repository), node28.root)["changed"] is False
    assert subprocess.run(["apt-get", "check"], check=True, capture_output=True, text=True).stderr == ""
    assert restore_verb.run({"node": "n1"}, node28.root)["kept"] == []
    assert (node28.etc(), node28.packages()) == before


def test_a_source_without_a_key_of_its_own_is_refused(node28: Node, repository: Repository) -> None:
    (node28.root / "etc/apt/sources.list.d/docker.list").write_text(f"deb {repository.address} trixie stable\n")
    error = refused(node28, desired(repository))
    assert error.code == "repository-key-mismatch"
    assert "/etc/apt/sources.list.d/docker.list" in error.message


def test_packages_that_would_be_removed_are_named_and_nothing_happens(node: Node, repository: Repository) -> None:
    source = node.root / "etc/apt/sources.list.d/first.list"
    source.write_text(f"deb [trusted=yes] {repository.address} trixie stable\n")
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    node.install("docker-rival")
    source.unlink()
    error = refused(node, desired(repository))
    assert error.code == "packages-conflict"
    assert "docker-rival" in error.message


def test_what_dpkg_says_below_the_package_is_the_reason(node: Node, repository: Repository) -> None:
    """Lost if this fails: dpkg's "error processing archive" with no word of the package that has the same file."""
    source = node.root / "etc/apt/sources.list.d/first.list"
    source.write_text(f"deb [trusted=yes] {repository.address} trixie stable\n")
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    node.install("podman-docker")
    source.unlink()
    error = refused(node, desired(repository))
    assert error.code == "package-install-failed"
    assert "trying to overwrite '/usr/bin/docker', which is also in package podman-docker" in error.message


def test_a_held_dpkg_lock_is_waited_for_and_its_holder_named(
    node28: Node, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_verb, "LOCK_SECONDS", 1)
    lock = node28.root / "var/lib/dpkg/lock-frontend"
    program = f"import fcntl, time\nf = open({str(lock)!r}, 'w')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\n"
    program += "time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            error = refused(node28, desired(repository))
        finally:
            holder.kill()
    assert error.code == "apt-lock-held"
    assert f"process {holder.pid} (python" in error.message


def test_a_busy_node_names_the_run_that_holds_it(node: Node, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_verb, "LOCK_SECONDS", 1)
    (node.root / "run").mkdir(exist_ok=True)
    with open(node.root / "run/kata-nodes.lock", "w") as lock:
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        error = refused(node, desired(repository))
    assert error.code == "node-busy"
    assert str(os.getpid()) in error.message


def test_what_somebody_else_holds_is_not_changed_for_our_sake(node28: Node, repository: Repository) -> None:
    source = node28.root / "etc/apt/sources.list.d/first.list"
    source.write_text(f"deb [trusted=yes] {repository.address} trixie stable\n")
    node28.install("--allow-downgrades", f"iptables={OLD_IPTABLES}")
    source.unlink()
    subprocess.run(["apt-mark", "hold", "iptables"], check=True, capture_output=True)
    error = refused(node28, desired(repository))
    assert error.code == "package-install-failed" and "held broken packages" in error.message
    subprocess.run(["apt-mark", "unhold", "iptables"], check=True, capture_output=True)
    before = node28.packages()
    docker_verb.run(desired(repository), node28.root)
    assert node28.packages()["iptables"] == "ii 1.8.11-2"
    restore_verb.run({"node": "n1"}, node28.root)
    assert node28.packages() == before


def test_a_dockerd_that_has_not_read_its_new_file_is_reloaded_by_the_next_run(node28: Node, repository: Repository) -> None:
    docker_verb.run(desired(repository, configPath="/opt/kata/old.toml"), node28.root)
    moved = desired(repository, configPath="/opt/kata/new.toml")
    argv = [sys.executable, "-m", "nodekit", "docker", "--root", str(node28.root)]
    env = {**os.environ, VARIABLE: "change-done"}
    result = subprocess.run(argv, input=json.dumps(moved), text=True, capture_output=True, env=env, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    read = node28.root / "run/daemon-read.json"
    assert "new.toml" in (node28.root / "etc/docker/daemon.json").read_text() and "new.toml" not in read.read_text()
    assert docker_verb.run(moved, node28.root)["changed"] is True
    assert "new.toml" in read.read_text()
    assert docker_verb.run(moved, node28.root)["changed"] is False


def test_a_config_path_goes_with_the_setting_and_somebody_else_s_stays(node28: Node, repository: Repository) -> None:
    file = node28.root / "etc/docker/daemon.json"
    docker_verb.run(desired(repository, configPath="/opt/kata/ours.toml"), node28.root)
    docker_verb.run(desired(repository), node28.root)
    assert json.loads(file.read_text()) == {"runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}}
    file.write_text(file.read_text().replace('kata.v2"', 'kata.v2", "options": {"ConfigPath": "/opt/kata/theirs.toml"}'))
    docker_verb.run(desired(repository), node28.root)
    assert "theirs.toml" in file.read_text()


def test_a_dockerd_whose_packages_stay_forgets_the_runtime_too(node28: Node, repository: Repository) -> None:
    assert docker_verb.run(desired(repository, version="28.5.2"), node28.root)["runtimes"] == ["kata", "runc"]
    calls = len(node28.calls())
    assert restore_verb.run({"node": "n1"}, node28.root)["kept"] == []
    assert "systemctl restart docker.service" in node28.calls()[calls:]
    assert host_docker.ask(node28.root).runtimes == {"runc"}


def test_a_package_that_somebody_removed_comes_back_as_it_was(node28: Node, repository: Repository) -> None:
    subprocess.run(["apt-mark", "auto", "docker-ce-rootless-extras"], check=True, capture_output=True)
    before = node28.packages()
    docker_verb.run(desired(repository), node28.root)
    node28.install("--allow-change-held-packages", "docker-ce-rootless-extras-")
    restore_verb.run({"node": "n1"}, node28.root)
    assert node28.packages() == before
    listed = subprocess.run(["apt-mark", "showauto", "docker-ce-rootless-extras"], check=True, capture_output=True, text=True)
    assert listed.stdout == "docker-ce-rootless-extras\n"


def begun(node: Node, state: dict[str, object], until: bytes) -> "subprocess.Popen[bytes]":
    """A run of the verb `docker` that has printed `until`."""
    argv = [sys.executable, "-m", "nodekit", "docker", "--root", str(node.root)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(json.dumps(state).encode())
    process.stdin.close()
    seen = b""
    while until not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    return process


def test_a_cut_connection_while_apt_works_loses_nothing(node28: Node, repository: Repository) -> None:
    before = node28.etc(), node28.packages(), node28.holds()
    process = begun(node28, desired(repository), b"Installing")
    assert process.stdout is not None and process.stderr is not None
    process.stderr.close()  # as sshd does when the client is gone
    process.stdout.close()
    # The pin is there, but nobody has read the result: the run is not a success.
    assert process.wait(120) == 1
    assert docker_verb.run(desired(repository), node28.root)["changed"] is False
    assert restore_verb.run({"node": "n1"}, node28.root)["kept"] == []
    assert (node28.etc(), node28.packages(), node28.holds()) == before


def test_a_cut_connection_and_a_failure_after_it_go_back_all_the_way(node28: Node, repository: Repository) -> None:
    before = node28.etc(), node28.packages(), node28.holds()
    process = begun(node28, desired(repository), b"Installing")
    (node28.root / "broken-service").touch()
    assert process.stdout is not None and process.stderr is not None
    process.stderr.close()
    process.stdout.close()
    assert process.wait(120) == 1
    assert (node28.etc(), node28.packages(), node28.holds()) == before
    assert journals(node28.root) == []


@pytest.mark.parametrize("second", [None, signal.SIGHUP, signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_second_signal_does_not_break_the_roll_back_that_the_first_began(
    node28: Node, repository: Repository, second: signal.Signals | None
) -> None:
    before = node28.etc(), node28.packages(), node28.holds()
    process = begun(node28, desired(repository), b"Setting up docker-ce ")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    seen = b""
    while b"Rolling back" not in seen:
        seen += process.stderr.readline()
    if second is not None:
        process.send_signal(second)
    assert process.stderr.read() is not None
    assert process.wait(120) == 128 + signal.SIGTERM
    assert (node28.etc(), node28.packages(), node28.holds()) == before
    assert journals(node28.root) == []


def test_a_signal_while_a_failed_run_goes_back_does_not_break_that(node28: Node, repository: Repository) -> None:
    before = node28.etc(), node28.packages(), node28.holds()
    (node28.root / "broken-service").touch()
    process = begun(node28, desired(repository), b"Rolling back")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None and process.stderr is not None
    assert process.stderr.read() is not None
    assert json.loads(process.stdout.read())["error"]["code"] == "command-failed"
    assert process.wait(120) == 1
    assert (node28.etc(), node28.packages(), node28.holds()) == before


def test_a_docker_that_somebody_upgraded_stays_and_all_else_goes_back(
    node: Node, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    docker_verb.run(desired(repository), node.root)
    module_file = "/etc/modules-load.d/kata-nodes.conf"
    with Transaction(node.root, "preflight") as change:
        change.write(module_file, b"vhost_net\n", 0o644)
    node.install("--allow-change-held-packages", *(f"{name}={NEW}" for name in PACKAGES))
    result = restore_verb.run({"node": "n1"}, node.root)
    stays = {line.split()[1]: line for line in result["kept"]}
    assert {name: "changed by somebody since" in line for name, line in stays.items()} == {
        **dict.fromkeys(PACKAGES, True),
        "containerd.io": False,
        "iptables": False,
    }
    assert "would also remove docker-ce" in stays["containerd.io"]
    assert all(line in capsys.readouterr().err for line in list(stays.values())[:1])
    assert {node.packages()[name] for name in PACKAGES} == {f"ii {NEW}"}
    assert (node.holds(), journals(node.root)) == ([], [])
    assert not (node.root / module_file.lstrip("/")).exists()
    assert not [path for path in node.etc() if "kata-nodes" in path]
    assert restore_verb.run({"node": "n1"}, node.root)["changed"] is False


def test_a_pin_that_moved_and_was_cut_off_before_apt_is_still_ours(node28: Node, repository: Repository) -> None:
    before = node28.etc(), node28.packages(), node28.holds()
    docker_verb.run(desired(repository), node28.root)
    argv = [sys.executable, "-m", "nodekit", "docker", "--root", str(node28.root)]
    moved = json.dumps(desired(repository, version="28.5.2"))
    # The journal's last record before apt: a kill at the point after it comes when apt has begun.
    killed = f"import os; from nodekit.host import apt; apt.install = lambda *_: os.kill(os.getpid(), {signal.SIGKILL:d})\n"
    killed += "import json, sys; from pathlib import Path; from nodekit.commands import docker\n"
    killed += "docker.run(json.load(sys.stdin), Path(sys.argv[1]))"
    argv = [sys.executable, "-c", killed, str(node28.root)]
    result = subprocess.run(argv, input=moved, text=True, capture_output=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert restore_verb.run({"node": "n1"}, node28.root)["kept"] == []
    assert (node28.etc(), node28.packages(), node28.holds()) == before


def test_a_version_that_no_repository_holds_any_more_stays_and_is_named(
    node28: Node, repository: Repository, tmp_path: Path
) -> None:
    docker_verb.run(desired(repository), node28.root)
    for file in (node28.root / "var/lib/apt/lists").glob("*Packages*"):
        file.unlink()
    (node28.root / "etc/apt/sources.list.d/kata-nodes-docker.sources").unlink()
    result = restore_verb.run({"node": "n1"}, node28.root)
    assert [line.split()[1] for line in result["kept"] if "No repository" in line] == sorted(PACKAGES)
    assert (node28.holds(), journals(node28.root)) == ([], [])


def test_a_package_change_that_fails_is_tried_once_more_and_then_left(node28: Node, repository: Repository) -> None:
    docker_verb.run(desired(repository), node28.root)
    (node28.root / "etc/apt/apt.conf.d/99fail").write_text('DPkg::Pre-Invoke { "exit 1"; };\n')
    with pytest.raises(NodeError) as caught:
        restore_verb.run({"node": "n1"}, node28.root)
    assert caught.value.code == "package-install-failed" and "the next run" in caught.value.remedy
    assert not (node28.root / "etc/docker/daemon.json").exists()
    assert (node28.root / "etc/apt/sources.list.d/kata-nodes-docker.sources").exists()
    result = restore_verb.run({"node": "n1"}, node28.root)
    assert any("failed in two runs" in line for line in result["kept"])
    assert (node28.holds(), journals(node28.root)) == ([], [])
    assert not [path for path in node28.etc() if "kata-nodes" in path]


def test_a_config_path_that_a_killed_run_never_wrote_does_not_hide_the_one_before(node28: Node, repository: Repository) -> None:
    file = node28.root / "etc/docker/daemon.json"
    file.parent.mkdir()
    theirs = {"runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": "/opt/theirs.toml"}}}}
    file.write_text(json.dumps(theirs))
    docker_verb.run(desired(repository, configPath="/opt/kata/a.toml"), node28.root)
    argv = [sys.executable, "-m", "nodekit", "docker", "--root", str(node28.root)]
    state = json.dumps(desired(repository, configPath="/opt/kata/b.toml"))
    env = {**os.environ, VARIABLE: "content-written:2"}  # the first is the journal
    result = subprocess.run(argv, input=state, text=True, capture_output=True, env=env, check=False)
    assert result.returncode == -signal.SIGKILL and "a.toml" in file.read_text(), result.stderr
    docker_verb.run(desired(repository), node28.root)
    assert json.loads(file.read_text()) == theirs


@pytest.mark.parametrize(
    ("cgroup", "waits"),
    [("0::/system.slice/cloud-final.service\n", False), ("0::/user.slice/user-0.slice/session-3.scope\n", True), (None, True)],
)
def test_a_first_boot_does_not_wait_for_the_cloud_init_that_waits_for_it(node: Node, cgroup: str | None, waits: bool) -> None:
    tool = node.root.parent / "root-bin/cloud-init"
    tool.write_text(f'#!/bin/sh\necho cloud-init "$@" >>{node.root}/calls\n')
    tool.chmod(0o755)
    if cgroup is not None:
        (node.root / "proc/self").mkdir(parents=True)
        (node.root / "proc/self/cgroup").write_text(cgroup)
    host_apt.settle(node.root, 5)
    assert ("cloud-init status --wait" in node.calls()) == waits
