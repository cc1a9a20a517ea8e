"""The verb `kata` on a node that serves a cluster: what it registers is read by a real containerd, comes back after a failure or
a kill at any point, and goes with `restore`.

Lost if these fail: a node whose kubelet has no container runtime any more, or one that says it runs Kata and does not.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from clusterkit.kata_deploy import RESTART_SECONDS
from nodekit.commands import kata, restore, status
from nodekit.errors import NodeError
from nodekit.host import cluster_runtime, docker, kata_handler
from nodekit.host.failpoints import POINTS, VARIABLE
from nodekit.host.process import Finished
from nodekit.rules.kata import containerd_config, crio_config
from nodekit.rules.kata.handler_registration import PLACES
from nodekit.rules.kata.kata_config import table
from nodekit.rules.node_state import KataState
from tests.nightly import nightly
from tests.nodekit.kata_files import put
from tests.nodekit.kata_release import CONFIG, FOLDER
from tests.nodekit.test_handler_rules import DOCKER, KUBEADM_17, KUBEADM_22, MICROK8S
from tests.nodekit.test_kata_command import SEED, state
from tests.nodekit.test_killed import tree
from tools import get

pytestmark = pytest.mark.slow

MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/60-kata-nodes.toml"
SHIM = "/usr/local/bin/containerd-shim-kata-v2"
CONFIGURATION = f"/{FOLDER}/configuration.toml"
IMPORTING = KUBEADM_22.replace("/etc/containerd/conf.d", "conf.d")  # so that the real program finds it below any root
K3S = "/var/lib/rancher/k3s/agent/etc/containerd"
RENDERED = (
    'version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
)


@dataclass
class Programs:
    """systemd, a real containerd's reading of its files, and a CRI-O that reads as its manual says; a file lists what runs."""

    root: Path
    real: bool = True
    """Whether containerd's own program reads its files; without it they are put together, which takes no time."""
    kubelet: str = "v1.30.0"
    release: str = "containerd github.com/containerd/containerd/v2 v2.2.0 1c4457e"

    def read(self) -> dict[str, str]:
        """Unit -> the handlers that it has read at its last start."""
        file = self.root.parent / "read.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def running(self) -> list[str]:
        """The handlers that the runtime knows that runs now."""
        (handlers,) = self.read().values()
        return handlers.split()

    def start(self, unit: str) -> None:
        """Have a runtime read its files, as at its start; k3s writes containerd's from its template first."""
        names: list[str] = []
        if unit == "k3s.service":
            names_of_templates = (f"{K3S}/config-v3.toml.tmpl", f"{K3S}/config.toml.tmpl")
            templates = [self.root / name.lstrip("/") for name in names_of_templates]
            template = next((path for path in templates if path.exists()), templates[0])
            text = template.read_text().replace('{{ template "base" . }}\n', RENDERED) if template.exists() else RENDERED
            put(self.root, f"{K3S}/config.toml", text)
            names = list(table(text, "")["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"])
        elif unit == "crio.service":
            names = list(crio_config.runtime_table([("", table(self.crio().stdout, ""))]).get("runtimes", {}))
        elif unit == "containerd.service":
            dump = table(self.dump(MAIN).stdout, "")
            names = list(dump["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"])
        (self.root.parent / "read.json").write_text(json.dumps({unit: " ".join(sorted(names))}))

    def dump(self, main: str) -> Finished:
        """`containerd config dump` of 2.2.0."""
        if not self.real:
            drop_in = self.root / DROP_IN.lstrip("/")
            texts = [self.root.joinpath(main.lstrip("/")).read_text(), drop_in.read_text() if drop_in.exists() else ""]
            return Finished(0, texts[0] + texts[1].replace("version = 3\n", ""), "")
        argv = [str(get.path("containerd")), "--config", str(self.root / main.lstrip("/")), "config", "dump"]
        result = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
        return Finished(result.returncode, result.stdout, result.stderr)

    def crio(self) -> Finished:
        """`crio config`: the main file with each drop-in over it, in one text."""
        folder = self.root / crio_config.FOLDER.lstrip("/")
        paths = [self.root / crio_config.MAIN.lstrip("/"), *(sorted(folder.iterdir()) if folder.exists() else [])]
        return Finished(0, "".join(path.read_text() for path in paths if path.exists()), "")

    def run(self, argv: Sequence[str], *, check: bool = True, **_: object) -> Finished:
        """Stands for `nodekit.host.process.run`."""
        name, *words = argv
        result = Finished(0, "", "")
        if name.endswith("containerd"):
            result = Finished(0, self.release, "") if words == ["--version"] else self.dump(words[1])
            if words[-1] == "dump" and "v2.0.5" in self.release:  # prints only the tables of version 3
                result = Finished(0, result.stdout.replace("kata-qemu", "none"), "")
        elif name.endswith("crio"):
            named = words[words.index("--config") + 1] if "--config" in words else None
            is_there = named is None or (self.root / named.lstrip("/")).exists()
            result = (
                self.crio() if is_there else Finished(1, "", f"update config from file: open {named}: no such file or directory")
            )
        elif name.endswith("kubelet"):
            result = Finished(0, f"Kubernetes {self.kubelet}\n", "")
        elif name.endswith("ctr"):
            loaded = not (self.root.parent / "broken").exists()
            result = Finished(
                0, f"TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri linux/amd64 {'ok' if loaded else 'error'}\n", ""
            )
        elif words[:1] == ["is-active"]:
            result = Finished(0, "active\n" if words[1] in self.read() else "inactive\n", "")
        elif words[:1] == ["restart"]:
            self.start(words[1])
        elif words[:1] == ["show"]:
            result = Finished(0, "9\n", "")
        else:
            assert name in ("systemctl", "journalctl"), argv
        if check and result.code:
            raise NodeError("command-failed", f"{name}: {result.stderr}", "Look")
        return result


class Clock:
    """Time that goes by as fast as somebody waits."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root with somebody's Kata and its shim; short, because sockets have short names."""
    folder = Path(tempfile.mkdtemp(prefix="kn-", dir="/tmp"))
    root = folder / "r"
    put(root, f"/{FOLDER}/configuration-qemu.toml", CONFIG)
    (root / FOLDER / "configuration.toml").symlink_to("configuration-qemu.toml")
    put(root, "/opt/kata/VERSION", "3.32.0\n")
    put(root, SHIM, "ELF").chmod(0o755)
    (root / "var/lib").mkdir(parents=True)
    put(root, "/proc/7/comm", "containerd-shim\n")
    monkeypatch.setattr(kata_handler, "time", Clock())
    yield root
    shutil.rmtree(folder)


@dataclass
class Node:
    """A root with a runtime that runs."""

    root: Path
    programs: Programs

    def kata(self, **handler: object) -> dict[str, object]:
        """Run the verb for a node of a cluster."""
        settings = {"name": "kata-qemu", "podAnnotations": [], **handler}
        return kata.run({**state([SEED]), "handler": settings}, self.root)

    def lost(self) -> list[str | None]:
        """The files in which `compare` misses the handler."""
        desired = KataState.read({**state([SEED]), "handler": {"name": "kata-qemu", "podAnnotations": []}})
        return [difference.file for difference in kata.differences(desired, self.root) if difference.kind == "handler"]

    def text(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()


def answer_with(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Finished]) -> None:
    """Have this answer for the programs that are run to find the runtime, and to register the handler in it."""
    monkeypatch.setattr(cluster_runtime, "run", run)
    monkeypatch.setattr(kata_handler, "run", run)


def node(root: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, main: str | None = None) -> Node:
    """The root as a node on which that runtime runs, with a main file that holds `main`."""
    programs = Programs(root)
    answer_with(monkeypatch, programs.run)
    place = next(place for place in PLACES if place.name == runtime)
    if main is not None:
        put(root, place.main, main)
    unit = place.units[0] if place.units else None
    if unit and not place.files:
        put(root, f"/usr/lib/systemd/system/{unit}", f"[Service]\nExecStart=/usr/bin/{unit.partition('.')[0]}\n")
    if unit:
        programs.start(unit)
    listening = root / place.socket.lstrip("/")
    listening.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
    monkeypatch.setattr(kata_handler, "socket", SimpleNamespace(socket=lambda *_: _Connected(), AF_UNIX=1, SOCK_STREAM=1))
    return Node(root, programs)


class _Connected:
    """A connection to a socket that is there."""

    def __enter__(self) -> "_Connected":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def settimeout(self, _: float) -> None:
        return None

    def connect(self, path: str) -> None:
        if not Path(path).is_socket():
            raise FileNotFoundError(2, "No such file or directory")


def test_containerd_of_which_a_dump_shows_no_table_of_version_2(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", KUBEADM_17)
    host.programs.release = "containerd github.com/containerd/containerd/v2 v2.0.5 fb4c30d4ede3531652d86197bf3fc9515e5276d9"
    host.kata()
    assert host.programs.running() == ["kata-qemu", "runc"]


def outside(root: Path) -> dict[str, str]:
    return {path: content for path, content in tree(root).items() if not path.startswith("run")}


@pytest.mark.parametrize(
    ("main", "file"),
    [
        (IMPORTING, DROP_IN),
        (IMPORTING.replace("imports", "# imports"), MAIN),
        (None, MAIN),
        (KUBEADM_17, MAIN),
        ("disabled_plugins = []\n", MAIN),
    ],
)
def test_the_runtime_knows_the_handler_and_restore_leaves_no_trace(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], main: str | None, file: str
) -> None:
    host = node(root, monkeypatch, "containerd", main)
    if main is None:
        put(root, MAIN, "").unlink()
    before = outside(root)
    result = host.kata(podAnnotations=["io.katacontainers.config.hypervisor.default_vcpus"])
    assert result["handler"] == {"changed": True, "runtime": "containerd", "file": file, "restarted": "containerd.service"}
    assert host.programs.running() == ["kata-qemu", "runc"]
    known = containerd_config.registered([("", table(host.programs.dump(MAIN).stdout, ""))], (2, 2), "kata-qemu")
    assert known is not None and (known.config_path, known.runtime_path, known.keeps_devices) == (CONFIGURATION, SHIM, True)
    output = capsys.readouterr().err
    assert output.index("1 containers run under shims of their own and go on running") < output.index(
        "containerd.service restarts "
    )
    registered = outside(root)
    assert host.kata(podAnnotations=["io.katacontainers.config.hypervisor.default_vcpus"])["changed"] is False
    assert "restarts" not in capsys.readouterr().err and outside(root) == registered
    restore.run({"node": "n"}, root)
    assert outside(root) == before and host.programs.running() == ["runc"]


@pytest.mark.parametrize(
    ("runtime", "main", "file"),
    [
        ("k3s", RENDERED, f"{K3S}/config-v3.toml.tmpl"),
        ("k0s", "# k0s_managed=true\nversion = 3\n", "/etc/k0s/containerd.d/60-kata-nodes.toml"),
        ("k0s", 'version = 3\nimports = ["/etc/k0s/containerd.d/*.toml"]\n', "/etc/k0s/containerd.d/60-kata-nodes.toml"),
        ("microk8s", MICROK8S, "/var/snap/microk8s/current/args/containerd-template.toml"),
        ("cri-o", "[crio.runtime]\n", "/etc/crio/crio.conf.d/60-kata-nodes.conf"),
    ],
)
def test_each_distribution_gets_it_where_it_reads_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, main: str, file: str
) -> None:
    host = node(root, monkeypatch, runtime, main)
    before = outside(root)
    result = host.kata()["handler"]
    assert isinstance(result, dict) and (result["runtime"], result["file"]) == (runtime, file)
    assert "kata-qemu" in host.text(file) and CONFIGURATION in host.text(file)
    if runtime == "k3s":
        assert host.text(file).startswith('{{ template "base" . }}\n') and host.programs.running() == ["kata-qemu", "runc"]
    assert host.kata()["changed"] is False and host.lost() == []
    put(root, file, host.text(file).replace("kata-qemu", "kata-other"))
    assert host.lost() == [file]
    assert host.kata()["changed"] is True and host.lost() == []
    restore.run({"node": "n"}, root)
    assert outside(root) == before and host.lost() == [file]


def test_a_service_of_k3s_that_its_installer_was_given_a_name_for_is_restarted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = node(root, monkeypatch, "k3s", RENDERED)
    units = "/etc/systemd/system"
    put(root, f"{units}/k3s-backup.service", "[Service]\nExecStart=/usr/local/bin/k3s etcd-snapshot save\n")
    put(root, f"{units}/k3s-edge.service", "[Service]\nExecStart=/usr/local/bin/k3s \\\n    agent \\\n\t'--node-name' \\\n")
    monkeypatch.setattr(host.programs, "read", lambda: {"k3s-edge.service": "", "k3s-backup.service": ""})
    started: list[str] = []

    def start(unit: str) -> None:
        started.append(unit)
        Programs.start(host.programs, "k3s.service")

    monkeypatch.setattr(host.programs, "start", start)
    handler = host.kata()["handler"]
    assert isinstance(handler, dict) and handler["restarted"] == "k3s-edge.service" and started == ["k3s-edge.service"]


@pytest.mark.parametrize("again", [False, True])
def test_a_refresh_of_the_snap_of_microk8s_does_not_keep_the_handler_for_ever(
    root: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    snap = root / "var/snap/microk8s"
    (snap / "7234").mkdir(parents=True)
    (snap / "current").symlink_to("7234")
    host = node(root, monkeypatch, "microk8s", MICROK8S)
    host.kata()
    shutil.copytree(snap / "7234", snap / "7300")
    (snap / "current").unlink()
    (snap / "current").symlink_to("7300")
    template = "/var/snap/microk8s/7300/args/containerd-template.toml"
    assert "kata-qemu" in host.text(template)
    if again:
        host.kata(podAnnotations=["io.katacontainers.config.hypervisor.default_vcpus"])
        assert "default_vcpus" in host.text(template) and host.text(template).count("runtimes.kata-qemu]") == 1
    shutil.rmtree(snap / "7234")
    restore.run({"node": "n"}, root)
    assert host.text(template) == MICROK8S


@pytest.mark.parametrize(
    ("unit", "others"),
    [
        ("ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--data-dir' \\\n\t'/data/k3s/' \\\n", {}),
        ("ExecStart=/usr/local/bin/k3s server --data-dir=/data/k3s\n", {"/etc/rancher/k3s/config.yaml": "data-dir: /other\n"}),
        ("ExecStart=/usr/local/bin/k3s server\n", {"/etc/rancher/k3s/config.yaml": 'tls-san:\n- x\ndata-dir: "/data/k3s"\n'}),
        (
            "ExecStart=/usr/local/bin/k3s server -c /etc/mine.yaml\n",
            {"/etc/mine.yaml": "data-dir: /other\n", "/etc/mine.yaml.d/10.yaml": "data-dir: /data/k3s\n"},
        ),
        (
            "EnvironmentFile=-/etc/systemd/system/%N.env\nExecStart=/usr/local/bin/k3s server\n",
            {"/etc/systemd/system/k3s.env": "K3S_DATA_DIR='/data/k3s'\n"},
        ),
    ],
)
def test_k3s_gets_it_in_the_folder_that_its_owner_chose(
    root: Path, monkeypatch: pytest.MonkeyPatch, unit: str, others: dict[str, str]
) -> None:
    moved = "/data/k3s/agent/etc/containerd"
    left = f"{K3S}/config.toml"  # of an installation before
    put(root, left, RENDERED)
    monkeypatch.setattr("tests.nodekit.test_handler.K3S", moved)
    host = node(root, monkeypatch, "k3s")
    put(root, "/etc/systemd/system/k3s.service", f"[Service]\n{unit}")
    for path, text in others.items():
        put(root, path, text)
    handler = host.kata()["handler"]
    assert isinstance(handler, dict) and handler["file"] == f"{moved}/config-v3.toml.tmpl"
    assert host.programs.running() == ["kata-qemu", "runc"] and host.text(left) == RENDERED
    shutil.rmtree(root / "data")
    assert refused(host, "container-runtime-missing")


def test_a_template_of_k3s_s_older_name_is_not_put_out_of_use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "k3s", RENDERED)
    theirs = RENDERED + '[debug]\nlevel = "info"\n'
    put(root, f"{K3S}/config.toml.tmpl", theirs)
    put(root, f"{K3S}/config.toml", theirs)
    host.kata()
    assert host.text(f"{K3S}/config.toml.tmpl").startswith(theirs) and "kata-qemu" in host.text(f"{K3S}/config.toml.tmpl")
    assert not (root / f"{K3S}/config-v3.toml.tmpl".lstrip("/")).exists() and host.programs.running() == ["kata-qemu", "runc"]


def test_a_template_that_somebody_wrote_for_k3s_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "k3s", RENDERED)
    theirs = '{{ template "base" . }}\n[debug]\nlevel = "info"'
    put(root, f"{K3S}/config-v3.toml.tmpl", theirs)
    host.kata()
    assert host.text(f"{K3S}/config-v3.toml.tmpl").startswith(theirs)


@pytest.mark.parametrize(
    "main",
    [
        "# k0s_managed=false\nversion = 3\n",
        "version = 2\n# k0s_managed=true\n",
        'version = 3\nimports = ["/etc/k0s/other.d/*.toml"]\n',
        'version = 2\nimports = ["/etc/k0s/containerd.d/*.toml"]\n',
    ],
)
def test_a_configuration_into_which_k0s_merges_nothing_gets_no_dead_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, main: str
) -> None:
    host = node(root, monkeypatch, "k0s", main)
    error = refused(host, "file-invalid")
    assert "/etc/k0s/containerd.toml is not k0s's own" in error.message and "restart k0s" in error.remedy
    form, plugin = main[10:11] if main.startswith("version") else "3", {"2": "grpc.v1.cri", "3": "cri.v1.runtime"}
    table = f'[plugins."io.containerd.{plugin[form]}".containerd.runtimes.kata-qemu]\n'
    served = f'{main}{table}runtime_type = "io.containerd.kata.v2"\noptions.ConfigPath = "{CONFIGURATION}"\n'
    put(root, "/etc/k0s/containerd.toml", served)
    handler = host.kata()["handler"]
    assert isinstance(handler, dict) and (handler["changed"], handler["file"]) == (False, "/etc/k0s/containerd.toml")


def test_a_template_that_k3s_has_not_read_yet_gets_no_handler_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost if this fails: k3s, and with it a control plane, is down until the roll-back of a containerd that cannot start."""
    host = node(root, monkeypatch, "k3s", RENDERED)
    theirs = '{{ template "base" . }}\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes."kata-qemu"]\n'
    put(root, f"{K3S}/config-v3.toml.tmpl", theirs)
    error = refused(host, "handler-foreign")
    assert f"{K3S}/config-v3.toml.tmpl registers" in error.message and "Restart k3s" in error.remedy
    put(root, f"{K3S}/config-v3.toml.tmpl", theirs.replace("[plugins", "# [plugins"))
    assert host.kata()["changed"] is True


@pytest.mark.parametrize("main", [None, "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/usr/lib/cni'\n"])
def test_containerd_1_keeps_the_handler_of_every_other_pod(root: Path, monkeypatch: pytest.MonkeyPatch, main: str | None) -> None:
    host = node(root, monkeypatch, "containerd", main or "")
    host.programs.release = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3"
    if main is None:
        put(root, MAIN, "").unlink()
    before = outside(root)
    host.kata()
    handlers = table(host.text(MAIN), "")["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]
    assert sorted(handlers) == ["kata-qemu", "runc"]
    assert host.kata()["changed"] is False
    restore.run({"node": "n"}, root)
    assert outside(root) == before


def test_a_handler_that_is_no_longer_asked_for_goes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    host.kata()
    host.kata(name="kata")
    assert host.programs.running() == ["kata", "runc"]
    assert kata.run(state([SEED]), root)["changed"] is True
    assert host.programs.running() == ["runc"] and not (root / DROP_IN.lstrip("/")).exists()


def test_a_handler_that_moves_to_a_folder_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING.replace("imports", "# imports"))
    host.kata()
    put(root, MAIN, IMPORTING)
    host.kata()
    assert host.text(MAIN) == IMPORTING and host.programs.running() == ["kata-qemu", "runc"]


def refused(host: Node, code: str, **handler: object) -> NodeError:
    """The verb refuses, and node and runtime are as they were."""
    before, running = outside(host.root), host.programs.read()
    with pytest.raises(NodeError) as caught:
        host.kata(**handler)
    assert caught.value.code == code, caught.value
    assert (outside(host.root), host.programs.read()) == (before, running)
    return caught.value


def test_a_runtime_that_is_not_well_is_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    (root.parent / "broken").touch()
    assert "CRI plugin did not load" in refused(host, "container-runtime-unhealthy").message
    (root.parent / "broken").unlink()
    host.kata()
    (root.parent / "broken").touch()
    refused(host, "container-runtime-unhealthy", name="kata")
    assert host.programs.running() == ["kata-qemu", "runc"]


@pytest.mark.parametrize("words", ["--config /srv/c.toml", "--config=/srv/c.toml", "-c /srv/c.toml", "-l debug -c=/srv/c.toml"])
def test_the_file_that_a_unit_names_is_the_one_that_gets_the_handler(tmp_path: Path, words: str) -> None:
    for place in (place for place in PLACES if not place.files):
        put(tmp_path, f"/usr/lib/systemd/system/{place.units[0]}", f"[Service]\nExecStart=/usr/bin/{place.name} {words}\n")
        assert cluster_runtime._main(tmp_path, place) == (f"/usr/bin/{place.name}", "/srv/c.toml")
        put(tmp_path, f"/usr/lib/systemd/system/{place.units[0]}", f"[Service]\nExecStart=/usr/bin/{place.name} --x-c /srv/c\n")
        assert cluster_runtime._main(tmp_path, place)[1] == place.main


def test_the_file_that_a_variable_of_the_unit_names_is_the_one_that_gets_the_handler(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Flatcar's unit: a file in /etc that containerd does not read got the handler, and all seemed well.
    host = node(root, monkeypatch, "containerd", IMPORTING)
    put(root, "/usr/share/containerd/config.toml", IMPORTING)
    unit = "[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\nKillMode=process\n"
    put(
        root,
        "/usr/lib/systemd/system/containerd.service",
        f"{unit}ExecStart=/usr/bin/containerd --config ${{CONTAINERD_CONFIG}}\n",
    )
    assert host.kata()["handler"]["file"] == "/usr/share/containerd/conf.d/60-kata-nodes.toml"  # type: ignore[index]
    own = "[Service]\nEnvironment=CONTAINERD_CONFIG=/etc/containerd/config.toml\n"
    put(root, "/etc/systemd/system/containerd.service.d/10-own.conf", own)
    assert host.kata()["handler"]["file"] == DROP_IN  # type: ignore[index]


@pytest.mark.parametrize(
    "setting",
    [
        'CRIO_CONFIG_OPTIONS="--config /srv/crio.conf --config-dir /srv/crio.d"',
        "CRIO_CONFIG_OPTIONS=--config /srv/crio.conf -d=/srv/crio.d/",
        "CONTAINER_CONFIG=/srv/crio.conf\nCONTAINER_CONFIG_DIR=/srv/crio.d",
    ],
)
def test_the_folder_that_a_unit_of_crio_names_is_the_one_that_gets_the_handler(
    root: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    host = node(root, monkeypatch, "cri-o", "")
    command = "/usr/bin/crio \\\n  $CRIO_CONFIG_OPTIONS \\\n  $CRIO_RUNTIME_OPTIONS"
    unit = f"[Service]\nEnvironmentFile=-/etc/sysconfig/crio\nExecStart={command}\n"
    put(root, "/usr/lib/systemd/system/crio.service", unit)
    put(root, "/etc/sysconfig/crio", f"{setting}\n")
    put(root, "/srv/crio.conf", "")
    calls: list[Sequence[str]] = []

    def run(argv: Sequence[str], **words: bool) -> Finished:
        calls.append(argv)
        if argv[-1] == "config":
            return Finished(0, host.text("/srv/crio.d/60-kata-nodes.conf"), "")
        return host.programs.run(argv, **words)

    answer_with(monkeypatch, run)
    assert host.kata()["handler"]["file"] == "/srv/crio.d/60-kata-nodes.conf"  # type: ignore[index]
    assert ["/usr/bin/crio", "--config", "/srv/crio.conf", "--config-dir", "/srv/crio.d", "config"] in calls
    assert host.lost() == []


SERVER = '[plugins."io.containerd.server.v1.grpc"]\naddress = "/run/own/containerd.sock"\n'


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (" --address /run/own/containerd.sock", ""),
        (" -a=/run/own/containerd.sock", '[grpc]\naddress = "/run/other.sock"\n'),
        ("", '[grpc]\naddress = "/run/own/containerd.sock"\n'),
        ("", SERVER),
    ],
)
def test_the_socket_of_the_unit_is_the_one_to_reach_containerd_by(
    root: Path, monkeypatch: pytest.MonkeyPatch, words: str, settings: str
) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING + settings)
    put(root, "/usr/lib/systemd/system/containerd.service", f"[Service]\nExecStart=/usr/bin/containerd{words}\n")
    put(root, "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///run/own/containerd.sock\n")
    (root / "run/own").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "run/own/containerd.sock"))
    assert cluster_runtime.find(root, "n", None).place.socket == "/run/own/containerd.sock"
    assert host.kata()["changed"] is True


def test_a_kubelet_with_a_containerd_of_its_own_leaves_docker_s_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As k8s-containerd.service with /etc/k8s-containerd/config.toml, beside the containerd of Docker.
    host = node(root, monkeypatch, "containerd", IMPORTING)
    put(root, "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///run/k8s-containerd/containerd.sock\n")
    error = refused(host, "container-runtime-missing")
    assert "/run/k8s-containerd/containerd.sock" in error.message and "kubernetes.containerRuntime" in error.remedy
    assert host.kata(runtime="containerd")["changed"] is True
    # The same socket by another name, as Flatcar links it, is the same runtime.
    put(root, "/run/docker/x", "")
    (root / "run/docker/containerd.sock").symlink_to("/run/containerd/containerd.sock")
    put(root, "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///run/docker/containerd.sock\n")
    assert host.kata()["changed"] is False


@pytest.mark.parametrize(
    "text",
    [
        "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n",
        "containerRuntimeEndpoint: unix://${CRI_SOCK}\n",
        "containerRuntimeEndpoint: null\n",
    ],
)
def test_a_socket_in_a_linked_folder_or_one_that_is_no_path_leaves_the_only_runtime(
    root: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    put(root, "/var/lib/kubelet/config.yaml", text)
    (root / "mnt").mkdir(exist_ok=True)
    (root / "run/containerd").rename(root / "mnt/state")
    (root / "run/containerd").symlink_to("../mnt/state")
    assert host.kata()["changed"] is True


def test_a_socket_that_leads_to_itself_does_not_keep_a_named_runtime(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    (root / "run/my.sock").symlink_to("/run/my.sock")
    put(root, "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///run/my.sock\n")
    assert refused(host, "file-unreadable")
    assert host.kata(runtime="containerd")["changed"] is True


def test_crio_that_listens_elsewhere_is_the_kubelet_s(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "cri-o", '[crio.api]\nlisten = "/run/own/crio.sock"\n')
    put(root, "/usr/lib/systemd/system/containerd.service", "[Service]\nExecStart=/usr/bin/containerd\n")
    put(root, "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///run/own/crio.sock\n")
    runtime = cluster_runtime.find(root, "n", None)
    assert (runtime.place.name, runtime.place.socket) == ("cri-o", "/run/own/crio.sock") and host.programs.read()


@pytest.mark.parametrize(("mode", "ends"), [("", True), ("KillMode=mixed\n", True), ("KillMode=process\n", False)])
def test_containers_that_a_restart_ends_are_not_said_to_go_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, ends: bool
) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    put(root, "/usr/lib/systemd/system/containerd.service", f"[Service]\nExecStart=/usr/bin/containerd\n{mode}")
    put(root, "/proc/7/cgroup", "0::/system.slice/containerd.service\n")
    put(root, "/proc/8/comm", "containerd-shim\n")
    put(root, "/proc/8/cgroup", "0::/system.slice/docker.service\n")
    host.kata()
    output = capsys.readouterr().err
    assert ("1 containers end with it" in output) == ends and f"{1 if ends else 2} containers run under shims" in output


@pytest.mark.parametrize(
    ("command", "other"), [("--config\0/srv/old.toml\0", "/srv/old.toml"), ("", MAIN), ("-c\0/srv/c.toml", "")]
)
def test_a_runtime_that_runs_with_another_file_than_its_unit_s_is_not_taken_for_done(
    root: Path, monkeypatch: pytest.MonkeyPatch, command: str, other: str
) -> None:
    # A unit was changed, and systemd has not loaded it: the restart starts what the old one names.
    host = node(root, monkeypatch, "containerd", IMPORTING)
    put(root, "/srv/c.toml", IMPORTING)
    put(root, "/usr/lib/systemd/system/containerd.service", "[Service]\nExecStart=/usr/bin/containerd -c /srv/c.toml\n")
    put(root, "/proc/9/cmdline", f"/usr/bin/containerd\0{command}")
    if other:
        error = refused(host, "container-runtime-unhealthy")
        assert other in error.message and "daemon-reload" in error.remedy
    else:
        assert host.kata()["changed"] is True


def test_crio_of_its_own_packages_has_no_main_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "cri-o")
    put(root, f"{crio_config.FOLDER}/10-crio.conf", '[crio.runtime]\ndefault_runtime = "crun"\n')
    assert host.kata()["handler"]["file"] == f"{crio_config.FOLDER}/{crio_config.DROP_IN}"  # type: ignore[index]
    assert "kata-qemu" in host.programs.running() and host.lost() == []


def test_crio_reads_the_folders_in_its_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "cri-o", "")
    put(root, "/etc/crio/crio.conf.d/50-more/10-own", '[crio.runtime]\ncgroup_manager = "cgroupfs"\n')
    put(root, "/etc/crio/crio.conf.d/40-first.conf", '[crio.runtime]\ncgroup_manager = "systemd"\n')
    runtime = cluster_runtime.find(root, "n", None)
    assert [path for path, _ in runtime.files][1:] == [
        f"{crio_config.FOLDER}/40-first.conf",
        f"{crio_config.FOLDER}/50-more/10-own",
    ]
    assert not crio_config.systemd_cgroups(runtime.files) and host.programs.read()


def test_a_restart_that_fails_names_the_unit_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "systemctl"
    fake.write_text('#!/bin/sh\n[ "$1" != restart ] && [ "$1" != stop ] || { echo "Job failed." >&2; exit 1; }\n')
    fake.chmod(0o755)
    log = tmp_path / "journalctl"
    log.write_text("#!/bin/sh\necho a reason\n")
    log.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    unit = {"docker.socket": docker.Unit(True, "enabled"), "docker.service": docker.Unit(True, "enabled")}
    monkeypatch.setattr(docker, "units", lambda: unit)
    stopped = {name: docker.Unit(False, "enabled") for name in unit}
    for call, status_of in (
        (lambda: kata_handler._tell("k3s.service"), "systemctl status k3s.service"),
        (lambda: docker.bring_units_back(tmp_path, stopped), "systemctl status docker.socket docker.service"),
    ):
        with pytest.raises(NodeError) as caught:
            call()
        assert caught.value.code == "command-failed" and "Job failed" in caught.value.message
        assert caught.value.remedy == f"See '{status_of}' on the node"
        assert caught.value.message.endswith("; its log ends: a reason") == ("k3s" in status_of)


def test_what_containerd_does_not_take_is_never_started_with(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    put(root, "/etc/containerd/conf.d/70-theirs.toml", f'version = 3\n{_table("kata-qemu")}options.ConfigPath = "/theirs"\n')
    assert "/theirs" in refused(host, "handler-foreign").message
    put(root, "/etc/containerd/conf.d/70-theirs.toml", "version = 4\n")
    assert "60-kata-nodes.toml" in refused(host, "file-invalid").message


def test_the_handlers_of_other_pods_are_never_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    real = containerd_config.tables
    spoiled = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = false\n"
    monkeypatch.setattr(containerd_config, "tables", lambda *words: real(*words) + spoiled)
    error = refused(host, "file-invalid")
    assert "other settings of runc" in error.message and "one version" in error.remedy
    with monkeypatch.context() as earlier:  # what a program without this check has left is put right
        earlier.setattr(kata_handler, "_refuse_changed", lambda *_: None)
        assert host.kata()["changed"] is True
    monkeypatch.setattr(containerd_config, "tables", real)
    assert host.kata()["changed"] is True and "SystemdCgroup" not in host.text(DROP_IN)


def _table(handler: str) -> str:
    return f"[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{handler}]\nruntime_type = 'io.containerd.kata.v2'\n"


def test_what_others_registered_already_is_left_and_said(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    theirs = "/etc/containerd/conf.d/kata-deploy.toml"
    put(root, theirs, f'version = 3\n{_table("kata-qemu")}options.ConfigPath = "{CONFIGURATION}"\n')
    result = host.kata()["handler"]
    assert result == {"changed": False, "runtime": "containerd", "file": theirs, "restarted": None}
    assert "privileged_without_host_devices" in capsys.readouterr().err and not (root / DROP_IN.lstrip("/")).exists()
    annotations = ["io.katacontainers.config.hypervisor.default_vcpus", "io.katacontainers.config.agent.*"]
    host.kata(podAnnotations=annotations)
    assert f"without pod_annotations for {', '.join(annotations)}" in capsys.readouterr().err
    put(root, theirs, host.text(theirs).replace("options.", 'pod_annotations = ["io.katacontainers.config.hyper*"]\noptions.'))
    host.kata(podAnnotations=annotations)
    assert f"without pod_annotations for {annotations[1]}: a pod's own" in capsys.readouterr().err


def test_a_restart_that_waits_for_a_control_plane_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, float] = {}

    def run(argv: Sequence[str], *, timeout: float, **_: object) -> Finished:
        limits[argv[1]] = timeout
        return Finished(0, "", "")

    answer_with(monkeypatch, run)
    kata_handler._tell("rke2-server.service")
    assert limits["restart"] >= RESTART_SECONDS, "kata-deploy waits as long for a node whose runtime it restarts"


@pytest.mark.parametrize("main", [DOCKER, None])
def test_a_node_without_a_runtime_for_a_cluster_is_refused_unless_it_serves_none(
    root: Path, monkeypatch: pytest.MonkeyPatch, main: str | None
) -> None:
    host = node(root, monkeypatch, "k0s" if main is None else "containerd", main)
    refused(host, "container-runtime-missing")
    assert kata.run(state([SEED]), root)["handler"] is None


def test_cgroups_that_do_not_match_are_refused_before_anything_is_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING.replace("SystemdCgroup = true", ""))
    put(root, "/var/lib/kubelet/config.yaml", "cgroupDriver: systemd\n")
    assert "systemd" in refused(host, "cgroup-drivers-differ").message
    put(root, "/var/lib/kubelet/config.yaml", "cgroupDriver: cgroupfs\n")
    assert host.kata()["changed"] is True


def test_what_is_left_of_a_runtime_that_is_gone_serves_no_cluster(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "k0s")
    for unit in ("containerd.service", "crio.service"):
        put(root, f"/etc/systemd/system/{unit}.d/proxy.conf", "[Service]\nEnvironment=HTTP_PROXY=http://p\n")
    assert "has no container runtime" in refused(host, "container-runtime-missing").message


def test_the_flags_of_a_kubelet_are_in_the_file_that_its_unit_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    unit = "[Service]\nEnvironmentFile=-/etc/kubernetes/kubelet.env\nExecStart=/usr/local/bin/kubelet $KUBELET_ARGS\n"
    put(root, "/etc/systemd/system/kubelet.service", unit)
    put(root, "/etc/kubernetes/kubelet.env", 'KUBELET_ARGS="--v=2 \\\n--config=/etc/kubernetes/kubelet-config.yaml \\\n"\n')
    put(root, "/etc/kubernetes/kubelet-config.yaml", "containerRuntimeEndpoint: unix:///var/run/cri-dockerd.sock\n")
    assert "/var/run/cri-dockerd.sock" in refused(host, "container-runtime-missing").message
    put(root, "/etc/kubernetes/kubelet-config.yaml", "cgroupDriver: cgroupfs\n")
    assert "cgroupfs" in refused(host, "cgroup-drivers-differ").message


def test_a_drop_in_of_the_kubelet_counts_more_than_its_configuration(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As nodeadm of Amazon's images lays it out; only what ends with .conf counts.
    host = node(root, monkeypatch, "containerd", IMPORTING)
    folder = "/etc/kubernetes/kubelet/config.json.d"
    words = f"--config /etc/kubernetes/kubelet/config.json --config-dir {folder}"
    put(root, "/etc/systemd/system/kubelet.service", f"[Service]\nExecStart=/usr/bin/kubelet {words}\n")
    put(root, "/etc/kubernetes/kubelet/config.json", '{"cgroupDriver": "systemd"}')
    put(root, f"{folder}/40-nodeadm.conf", '{"cgroupDriver": "cgroupfs"}')
    put(root, f"{folder}/90-left.bak", '{"cgroupDriver": "systemd"}')
    assert "cgroupfs" in refused(host, "cgroup-drivers-differ").message
    put(root, f"{folder}/50-own.conf", '{"cgroupDriver": "systemd"}')
    assert host.kata()["changed"] is True


@pytest.mark.parametrize(
    ("kubelet", "release", "refuses"), [("v1.34.2", "v2.2.0", False), ("v1.30.1", "v2.2.0", True), ("v1.34.2", "v1.7.24", True)]
)
def test_a_kubelet_that_asks_the_runtime_for_its_driver_may_name_another(
    root: Path, monkeypatch: pytest.MonkeyPatch, kubelet: str, release: str, refuses: bool
) -> None:
    main = KUBEADM_17.replace("SystemdCgroup = true", "") if refuses and release[1] == "1" else IMPORTING
    host = node(root, monkeypatch, "containerd", main.replace("SystemdCgroup = true", ""))
    host.programs.release, host.programs.kubelet = f"containerd github.com/containerd/containerd {release} x", kubelet
    put(root, "/usr/lib/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet\n")
    put(root, "/var/lib/kubelet/config.yaml", "cgroupDriver: systemd\n")
    if refuses:
        assert "systemd" in refused(host, "cgroup-drivers-differ").message
    else:
        assert host.kata()["changed"] is True


def test_firecracker_without_block_devices_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    put(root, f"/{FOLDER}/configuration-qemu.toml", CONFIG.replace("[hypervisor.qemu]", "[hypervisor.firecracker]"))
    before = outside(root)
    desired = {**state([]), "hypervisor": "firecracker", "handler": {"name": "kata-fc", "podAnnotations": []}}
    with pytest.raises(NodeError) as caught:
        kata.run(desired, root)
    assert caught.value.code == "snapshotter-missing" and outside(root) == before
    devmapper = '[plugins."io.containerd.snapshotter.v1.devmapper"]\npool_name = "pool"\n'
    put(root, MAIN, f"{IMPORTING}{devmapper}")
    kata.run(desired, root)
    assert host.text(DROP_IN).count("devmapper") == 2
    assert list(kata.differences(KataState.read(desired), root)) == []
    put(root, MAIN, IMPORTING)  # the pool is gone, and our file is as it was
    with pytest.raises(NodeError) as caught:
        list(kata.differences(KataState.read(desired), root))
    assert caught.value.code == "snapshotter-missing"


def test_firecracker_is_refused_where_containerd_takes_no_snapshotter_for_one_handler(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # containerd 1.6 leaves the handler's key out without a word, and each pod gets a file system that the guest cannot have.
    pool = '[plugins."io.containerd.snapshotter.v1.devmapper"]\npool_name = "pool"\n'
    host = node(root, monkeypatch, "containerd", KUBEADM_17 + pool)
    host.programs.release = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3"
    put(root, f"/{FOLDER}/configuration-qemu.toml", CONFIG.replace("[hypervisor.qemu]", "[hypervisor.firecracker]"))
    desired = {**state([]), "hypervisor": "firecracker", "handler": {"name": "kata-fc", "podAnnotations": []}}
    before = outside(root)
    with pytest.raises(NodeError) as caught:
        kata.run(desired, root)
    assert caught.value.code == "snapshotter-missing" and "1.7" in caught.value.remedy and outside(root) == before
    everywhere = KUBEADM_17.replace(
        'default_runtime_name = "runc"', 'default_runtime_name = "runc"\n      snapshotter = "devmapper"'
    )
    read = [(MAIN, table(everywhere + pool, MAIN))]
    assert containerd_config.has_snapshotter_of_handler(read, (1, 6), "devmapper")


@pytest.mark.parametrize(
    "handler", [{"name": "Kata"}, {"runtime": "podman"}, {"podAnnotations": ['"']}, {"unknown": 1}, {"podAnnotations": "x"}]
)
def test_what_no_runtime_could_take_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch, handler: dict[str, object]) -> None:
    refused(node(root, monkeypatch, "containerd", IMPORTING), "bad-input", **handler)


def killed(host: Node, verb: str, point: str, number: int) -> bool:
    """Run a verb in a process that ends at a point; whether it came there."""
    child = os.fork()
    if child == 0:
        os.environ[VARIABLE] = f"{point}:{number}"
        try:
            host.kata() if verb == "kata" else restore.run({"node": "n"}, host.root)
        except BaseException:
            os._exit(70)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


@pytest.mark.parametrize("every", [pytest.param(False, id="first-time"), nightly(True, id="every-time")])
@pytest.mark.parametrize("main", [IMPORTING, IMPORTING.replace("imports", "# imports")])
@pytest.mark.parametrize("verb", ["kata", "restore"])
def test_a_kill_at_any_point_leaves_what_the_next_run_finishes(
    root: Path, monkeypatch: pytest.MonkeyPatch, verb: str, main: str, every: bool
) -> None:
    host = node(root, monkeypatch, "containerd", main)
    host.programs.real = False
    before = outside(root)
    kills = 0
    for point in POINTS:
        for number in range(1, 100 if every else 2):
            if verb == "restore":
                host.kata()
            if not killed(host, verb, point, number):
                break
            kills += 1
            if verb == "kata":
                host.kata()
                assert host.programs.running() == ["kata-qemu", "runc"], (point, number)
                assert host.kata()["changed"] is False
            restore.run({"node": "n"}, root)
            assert (outside(root), host.programs.running()) == (before, ["runc"]), (point, number)
        restore.run({"node": "n"}, root)
    assert kills >= 5


def test_a_roll_back_never_returns_to_the_unhealthy_runtime_of_a_killed_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    before = outside(root)
    assert killed(host, "kata", "runtime-restarted", 1)
    (root.parent / "broken").touch()
    with pytest.raises(NodeError):
        host.kata()
    assert not (root / DROP_IN.lstrip("/")).exists() and host.programs.running() == ["runc"]
    restore.run({"node": "n"}, root)
    assert outside(root) == before


def test_status_tells_the_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node(root, monkeypatch, "containerd", IMPORTING)
    host.kata()
    changes = status.run(root)["changes"]
    assert isinstance(changes, dict) and changes[kata_handler.JOURNAL]["restores"] == [DROP_IN]
