"""Where and how a node's container runtime learns of Kata. Lost if these fail: the other settings of that runtime, or
every pod of the class.

The configurations are written by hand after those that packages, kubeadm's guides and distributions bring.
"""

from copy import deepcopy
from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.host.process import run
from nodekit.rules.kata import containerd_config as containerd
from nodekit.rules.kata import crio_config as crio
from nodekit.rules.kata import kubelet_config as kubelet
from nodekit.rules.kata.containerd_config import File, Handler
from nodekit.rules.kata.handler_registration import PLACES, choose, is_served, refuse_other_cgroups
from nodekit.rules.kata.kata_config import table
from nodekit.rules.systemd_units import option, started
from tools import get

MAIN = "/etc/containerd/config.toml"
CONFIG = "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml"
SHIM = "/usr/local/bin/containerd-shim-kata-v2"
HANDLER = Handler("kata-qemu", SHIM, CONFIG, ("io.katacontainers.config.hypervisor.default_vcpus",))

KUBEADM_17 = """version = 2
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "registry.k8s.io/pause:3.9"
    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = true
"""
"""What `containerd config default` and a sed leave on most kubeadm nodes, shortened."""
KUBEADM_22 = """version = 3
imports = ['/etc/containerd/conf.d/*.toml']
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'registry.k8s.io/pause:3.10'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = true
"""
DOCKER = 'disabled_plugins = ["cri"]\n#root = "/var/lib/containerd"\n'
"""The file of Docker's package containerd.io."""
COMMENTS = DOCKER.replace("disabled_plugins", "#disabled_plugins")
"""The same as most guides have people change it for a cluster: nothing but comments."""
VERSION_1 = """[plugins.cri]
  systemd_cgroup = true
  [plugins.cri.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v1"
"""
DOTTED = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\ncontainerd.runtimes.runc.runtime_type = "io.containerd.runc.v2"\n'
INLINE = 'version = 2\nplugins = { "io.containerd.grpc.v1.cri" = { sandbox_image = "p" } }\n'
MICROK8S = """version = 2
oom_score = 0
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "${SNAPSHOTTER}"
  default_runtime_name = "${RUNTIME}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "${RUNTIME_TYPE}"
"""
K3S = """version = 3
imports = ["/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/*.toml"]
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


UNVERSIONED = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
TEXTS = [KUBEADM_17, KUBEADM_22, VERSION_1, DOTTED, MICROK8S, 'version = 2\n[debug]\nlevel = "info"']


def files(*texts: str) -> tuple[File, ...]:
    return tuple((MAIN if at == 0 else f"/etc/containerd/conf.d/{at}.toml", table(text, MAIN)) for at, text in enumerate(texts))


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("containerd github.com/containerd/containerd/v2 v2.2.0 1c4457e00facac03ce1d75f7b6777a7a851e5c41", (2, 2)),
        ("containerd containerd.io 1.7.28 b98a3aace656320842a23f4a392a33f46af97866", (1, 7)),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6)),
        ("containerd github.com/k3s-io/containerd v2.1.5-k3s1 abc", (2, 1)),
        ("containerd", None),
        ("GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)", None),
        ("Kubernetes v1.34.2", (1, 34)),
        ("", None),
    ],
)
def test_the_release_is_read_from_what_containerd_prints(text: str, release: tuple[int, int] | None) -> None:
    assert containerd.release(text) == release


@pytest.mark.parametrize(
    ("texts", "release", "file", "strategy", "version"),
    [
        ((KUBEADM_22,), (2, 2), "/etc/containerd/conf.d/60-kata-nodes.toml", "drop-in", 3),
        ((K3S,), (2, 0), "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/60-kata-nodes.toml", "drop-in", 3),
        (('imports = ["sub/*.toml"]\nversion = 2\n',), (2, 0), "/etc/containerd/sub/60-kata-nodes.toml", "drop-in", 2),
        ((), (2, 2), MAIN, "edit", 3),
        (("",), (2, 2), MAIN, "edit", 3),
        ((), (1, 7), MAIN, "edit", 2),
        ((KUBEADM_17,), (2, 2), MAIN, "edit", 2),
        ((KUBEADM_17,), (1, 7), MAIN, "edit", 2),
        # A drop-in there would take away runc's handler and the pause image.
        (('imports = ["/etc/containerd/conf.d/*.toml"]\n' + KUBEADM_17,), (1, 7), MAIN, "edit", 2),
        # Docker's file after `disabled_plugins` was emptied: containerd 2 reads what has no version as version 3.
        (("disabled_plugins = []\n",), (2, 2), MAIN, "edit", 3),
        (("disabled_plugins = []\n",), (1, 7), MAIN, "edit", 1),
        (('imports = ["conf.d/*.toml"]\n',), (2, 1), "/etc/containerd/conf.d/60-kata-nodes.toml", "drop-in", 3),
        (('version = 2\nimports = ["conf.d/*.toml"]\n', KUBEADM_17), (1, 7), "/etc/containerd/conf.d/1.toml", "edit", 2),
        (('version = 2\nimports = ["/etc/containerd/*/*.toml"]\n',), (2, 2), MAIN, "edit", 2),
        (('version = 2\nimports = ["/opt/kata/kata-deploy.toml"]\n',), (2, 2), MAIN, "edit", 2),
        ((VERSION_1,), (1, 6), MAIN, "edit", 1),
    ],
)
def test_a_drop_in_is_written_only_where_it_adds_to_what_counts(
    texts: tuple[str, ...], release: tuple[int, int], file: str, strategy: str, version: int
) -> None:
    target = containerd.target(files(*texts), release, MAIN)
    assert (target.file, target.strategy, target.version) == (file, strategy, version)


@pytest.mark.parametrize("text", TEXTS)
def test_tables_at_the_end_of_a_file_keep_every_byte_of_it_and_go_again(text: str) -> None:
    form = containerd.version([("", table(text, ""))])
    release = (2, 0) if form == 3 else (1, 7)
    result = containerd.edited(text, MAIN, HANDLER, form)
    assert result.startswith(text) and containerd.edited(result, MAIN, HANDLER, form) == result
    known = containerd.registered([(MAIN, table(result, MAIN))], release, "kata-qemu")
    assert known is not None and known.keeps_devices
    assert (known.runtime_type, known.runtime_path, known.config_path) == ("io.containerd.kata.v2", SHIM, CONFIG)
    others = [(MAIN, table(containerd.without_block(result), MAIN))]
    assert containerd.registered(others, release, "kata-qemu") is None
    before = containerd.merged_plugin([(MAIN, table(text, MAIN))], release)
    assert containerd.merged_plugin(others, release) == before
    # An editor of Windows, and a block that is written again into such a file.
    windows = text.replace("\n", "\r\n")
    assert containerd.without_block(result.replace("\n", "\r\n")).startswith(windows)
    again = containerd.edited(result.replace("\n", "\r\n"), MAIN, HANDLER, form)
    assert again.startswith(windows) and again.count(containerd.BEGIN) == 1
    assert containerd.without_block(containerd.edited(windows, MAIN, HANDLER, form)).startswith(windows)


def test_a_file_in_which_no_table_can_be_added_is_refused() -> None:
    with pytest.raises(NodeError) as caught:
        containerd.edited(INLINE, MAIN, HANDLER, 2)
    assert caught.value.code == "file-invalid" and "[headers]" in caught.value.remedy


def test_containerd_2_takes_no_handler_from_a_file_of_version_1(tmp_path: Path) -> None:
    main = tmp_path / "config.toml"
    main.write_text(containerd.edited(VERSION_1, str(main), HANDLER, 1))
    read = run([str(get.path("containerd")), "--config", str(main), "config", "dump"], timeout=30).stdout
    assert containerd.registered([("", table(read, ""))], (2, 2), "kata-qemu") is None
    with pytest.raises(NodeError) as caught:
        containerd.target(files(VERSION_1), (2, 2), MAIN)
    assert caught.value.code == "file-invalid" and "migrate" in caught.value.remedy


@pytest.mark.parametrize(("release", "form"), [((1, 7), 2), ((2, 2), 3)])
@pytest.mark.parametrize("text", ["", COMMENTS])
def test_a_file_that_sets_nothing_gets_the_version_of_our_tables(text: str, release: tuple[int, int], form: int) -> None:
    target = containerd.target(files(text), release, MAIN)
    result = containerd.edited(text, MAIN, HANDLER, target.version)
    assert target.version == form == table(result, MAIN)["version"], "without it containerd reads version 1"
    assert ("imports" in table(result, MAIN)) == (form == 3 and not text), "what somebody has left unread stays so"
    assert result.startswith(text) and containerd.edited(result, MAIN, HANDLER, form) == result


DEBIAN = """version = 2
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
"""
"""As short as the file of Debian's package containerd, which names no handler."""


@pytest.mark.parametrize(
    "text", ["", COMMENTS, DEBIAN, "oom_score = 0\n", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n']
)
def test_runc_stays_where_no_file_names_it(text: str) -> None:
    read = files(text)
    assert containerd.hides_runc(read, (1, 6)) and not containerd.hides_runc(read, (2, 0))
    form = containerd.target(read, (1, 7), MAIN).version
    result = containerd.edited(text, MAIN, HANDLER, form, with_runc=True)
    handlers = containerd.merged_plugin([(MAIN, table(result, MAIN))], (1, 7))["containerd"]["runtimes"]
    assert sorted(handlers) == ["kata-qemu", "runc"] and handlers["runc"] == {"runtime_type": "io.containerd.runc.v2"}
    assert containerd.without_block(result).startswith(text)


@pytest.mark.parametrize("text", [KUBEADM_17, VERSION_1, DOTTED, MICROK8S])
def test_handlers_that_a_file_names_are_all_that_containerd_has(text: str) -> None:
    assert not containerd.hides_runc(files(text), (1, 7))


def test_another_handler_takes_the_place_of_ours() -> None:
    first = containerd.edited(KUBEADM_17, MAIN, HANDLER, 2)
    second = containerd.edited(first, MAIN, Handler("kata", SHIM, CONFIG), 2)
    assert "kata-qemu" not in second and "runtimes.kata]" in second and second.startswith(KUBEADM_17)


def test_only_the_annotations_that_the_stack_allows_reach_kata() -> None:
    assert 'pod_annotations = ["io.katacontainers.config.hypervisor.default_vcpus"]' in containerd.tables(HANDLER, 3)
    assert "pod_annotations = []" in containerd.tables(Handler("kata", SHIM, CONFIG), 3)


@pytest.mark.parametrize(("form", "images"), [(2, False), (3, True)])
def test_firecracker_gets_block_devices_for_image_and_container(form: int, images: bool) -> None:
    text = containerd.tables(Handler("kata-fc", SHIM, CONFIG, (), "devmapper"), form)
    assert text.count('snapshotter = "devmapper"') == 1 + images
    assert ("io.containerd.cri.v1.images" in text) == images
    assert containerd.has_devmapper(files('[plugins."io.containerd.snapshotter.v1.devmapper"]\npool_name = "p"\n'))
    assert containerd.has_devmapper(files('[plugins.devmapper]\npool_name = "p"\n'))
    assert not containerd.has_devmapper(files(KUBEADM_17))


@pytest.mark.parametrize(
    ("text", "disabled"),
    [
        (DOCKER, True),
        ('disabled_plugins = ["io.containerd.grpc.v1.cri"]\n', True),
        (KUBEADM_17, False),
        ("disabled_plugins = 3\n", False),
    ],
)
def test_a_containerd_without_cri_serves_no_cluster(text: str, disabled: bool) -> None:
    assert (containerd.cri_disabled(files(text)) is not None) == disabled


@pytest.mark.parametrize(
    ("texts", "release", "systemd"),
    [
        ((KUBEADM_17,), (1, 7), True),
        ((KUBEADM_22,), (2, 2), True),
        ((VERSION_1,), (1, 6), True),
        ((KUBEADM_17.replace("true", "false"),), (1, 7), False),
        ((), (2, 2), False),
        # Before 2.0 the later file replaces the setting with all others; since then it is merged.
        ((KUBEADM_17, 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "x"\n'), (1, 7), False),
        ((KUBEADM_17, 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "x"\n'), (2, 2), True),
    ],
)
def test_the_cgroup_driver_is_that_of_the_handler_that_counts(
    texts: tuple[str, ...], release: tuple[int, int], systemd: bool
) -> None:
    assert containerd.systemd_cgroups(files(*texts), release) is systemd


WITHOUT_VERSION = KUBEADM_17.replace("version = 2\n", "")
"""A file as people shorten it: containerd 1 takes it for version 1, so it reads none of these tables."""


@pytest.mark.parametrize("release", [(1, 6), (1, 7), (2, 0), (2, 2)])
def test_tables_that_no_version_makes_count_are_not_believed(release: tuple[int, int]) -> None:
    # What 1.6.20 and 2.2.0 print for such a file has neither the handler nor SystemdCgroup = true.
    kata = containerd.edited(WITHOUT_VERSION, MAIN, HANDLER, 2)
    assert containerd.registered(files(kata), release, "kata-qemu") is None
    assert not containerd.systemd_cgroups(files(kata), release)
    assert containerd.hides_runc(files(kata), release) == (release < (2, 0)), "the node would start no pod any more"
    form = containerd.target(files(kata), release, MAIN).version
    assert containerd.registered(files(containerd.edited(WITHOUT_VERSION, MAIN, HANDLER, form)), release, "kata-qemu")
    # A version in a file that is imported counts for all of them.
    versioned = files(kata, "version = 2\n")
    assert containerd.registered(versioned, release, "kata-qemu") and containerd.target(versioned, release, MAIN).version == 2


def test_containerd_that_migrates_each_file_reads_one_without_a_version() -> None:
    read = files(containerd.edited(WITHOUT_VERSION, MAIN, HANDLER, 2))
    assert containerd.registered(read, (2, 3), "kata-qemu") and containerd.systemd_cgroups(read, (2, 3))
    assert containerd.target(files(WITHOUT_VERSION), (2, 3), MAIN).version == 2, "tables of version 3 would put runc's out of use"


@pytest.mark.parametrize(
    "text", [KUBEADM_17, KUBEADM_22, DOTTED, "", "\n", COMMENTS, "disabled_plugins = []\n", UNVERSIONED, WITHOUT_VERSION]
)
def test_a_real_containerd_reads_the_handler_and_keeps_all_else(text: str, tmp_path: Path) -> None:
    main = tmp_path / "config.toml"
    text = text.replace("/etc/containerd", str(tmp_path))
    main.write_text(text)
    program = str(get.path("containerd"))
    before = table(run([program, "--config", str(main), "config", "dump"], timeout=30).stdout, "")
    own = [(str(main), table(text, ""))]
    target = containerd.target(own, (2, 2), str(main))
    place = Path(target.file)
    place.parent.mkdir(exist_ok=True)
    if target.strategy == "drop-in":
        place.write_text(containerd.drop_in(HANDLER, target.version))
    else:
        place.write_text(containerd.edited(text, str(main), HANDLER, target.version))
    after = deepcopy(dict(table(run([program, "--config", str(main), "config", "dump"], timeout=30).stdout, "")))
    known = containerd.registered([("", after)], (2, 2), "kata-qemu")
    assert known is not None and (known.config_path, known.runtime_path, known.keeps_devices) == (CONFIG, SHIM, True)
    del after["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["kata-qemu"]
    assert {**after, "imports": []} == {**before, "imports": []}


NVIDIA = """version = 3
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
"""
"""What NVIDIA's toolkit 1.18 leaves in 99-nvidia.toml with containerd 2, whatever version the main file has, shortened."""
NVIDIA_2 = NVIDIA.replace("version = 3", "version = 2").replace("cri.v1.runtime", "grpc.v1.cri")
IMPORTING_2 = 'imports = ["conf.d/*.toml"]\n' + KUBEADM_17


@pytest.mark.parametrize(
    ("main", "other", "form", "runs"),
    [
        (IMPORTING_2, NVIDIA, 3, {"kata-qemu", "nvidia", "runc"}),
        (IMPORTING_2, NVIDIA_2, 2, {"kata-qemu", "nvidia", "runc"}),
        (KUBEADM_22.replace("/etc/containerd/", ""), NVIDIA, 3, {"kata-qemu", "nvidia", "runc"}),
        (KUBEADM_22.replace("/etc/containerd/", ""), NVIDIA_2, 3, {"kata-qemu", "runc"}),
        (IMPORTING_2.replace("*", "99-nvidia"), NVIDIA, 3, {"kata-qemu", "nvidia", "runc"}),
        # The handlers of the last file, of version 2, would be gone beside a table of version 3.
        ('version = 3\nimports = ["conf.d/*.toml"]\n', NVIDIA_2, 2, {"kata-qemu", "nvidia", "runc"}),
        ('version = 3\nimports = ["conf.d/99-nvidia.toml"]\n', NVIDIA_2, 2, {"kata-qemu", "nvidia", "runc"}),
    ],
)
def test_a_real_containerd_reads_the_handler_beside_a_file_of_another_version(
    main: str, other: str, form: int, runs: set[str], tmp_path: Path
) -> None:
    place = tmp_path / "config.toml"
    place.write_text(main)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/99-nvidia.toml").write_text(other)
    own = [(str(place), table(main, "")), (str(tmp_path / "conf.d/99-nvidia.toml"), table(other, ""))]
    target = containerd.target(own, (2, 2), str(place))
    assert target.version == form
    if target.strategy == "drop-in":
        Path(target.file).write_text(containerd.drop_in(HANDLER, target.version))
    else:
        place.write_text(containerd.edited(main, str(place), HANDLER, target.version))
    read = table(run([str(get.path("containerd")), "--config", str(place), "config", "migrate"], timeout=30).stdout, "")
    known = containerd.registered([("", read)], (2, 2), "kata-qemu")
    assert known is not None and known.config_path == CONFIG
    assert set(read["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]) == runs


def test_tables_that_a_later_file_puts_out_of_use_do_not_count() -> None:
    read = files(containerd.edited(KUBEADM_17, MAIN, HANDLER, 2), NVIDIA)
    assert containerd.registered(read, (2, 2), "kata-qemu") is None and not containerd.systemd_cgroups(read, (2, 2))
    # From 2.3 on each file is migrated by itself.
    assert containerd.registered(read, (2, 3), "kata-qemu") and containerd.systemd_cgroups(read, (2, 3))
    assert containerd.target(files(KUBEADM_17, NVIDIA), (2, 3), MAIN).version == 2


def test_crio_merges_its_drop_ins_and_knows_kata_by_its_type() -> None:
    main = '[crio.runtime]\ncgroup_manager = "cgroupfs"\n[crio.runtime.runtimes.runc]\nruntime_type = "oci"\n'
    deploy = '[crio.runtime.runtimes.kata-qemu]\nruntime_type = "vm"\nruntime_config_path = "/a.toml"\n'
    ours = crio.drop_in(HANDLER)
    read = [(crio.MAIN, table(main, "")), (f"{crio.FOLDER}/99-kata-deploy", table(deploy, "")), (crio.DROP_IN, table(ours, ""))]
    known = crio.known(read, "kata-qemu")
    assert known is not None and (known.file, known.config_path, known.keeps_devices) == (crio.DROP_IN, CONFIG, True)
    assert crio.handlers(read[:2])["kata-qemu"].config_path == "/a.toml" and "runc" not in crio.handlers(read)
    assert crio.known(read, "none") is None and crio.systemd_cgroups(read) is False and crio.systemd_cgroups([]) is True


def test_a_later_file_of_crio_replaces_a_handler_as_a_whole_and_keeps_the_others() -> None:
    first = '[crio.runtime]\ncgroup_manager = "cgroupfs"\n' + crio.drop_in(HANDLER).replace("# Written by kata-nodes.\n", "")
    later = f"[crio.runtime.runtimes.{HANDLER.name}]\nprivileged_without_host_devices = true\n"
    other = '[crio.runtime.runtimes.crun]\nruntime_path = "/usr/bin/crun"\n'
    read = [(crio.MAIN, table(first, "")), ("/99.conf", table(other, ""))]
    known = crio.known(read, HANDLER.name)
    assert known is not None and (known.file, known.config_path) == (crio.MAIN, CONFIG) and not crio.systemd_cgroups(read)
    replaced = crio.known([*read, ("/99-own.conf", table(later, ""))], HANDLER.name)
    assert replaced is not None and (replaced.file, replaced.runtime_type, replaced.config_path) == ("/99-own.conf", "oci", None)
    with pytest.raises(NodeError) as caught:
        is_served("n", "cri-o", replaced, HANDLER)
    assert "/99-own.conf registers a handler kata-qemu in cri-o already, with runtime type oci" in caught.value.message


BOTH = {"cri-o": "crio.service", "containerd": "containerd.service"}


@pytest.mark.parametrize(
    ("requested", "reasons", "endpoint", "chosen"),
    [
        (None, {"containerd": "containerd.service"}, None, "containerd"),
        (None, {"k3s": "f", "containerd": "containerd.service"}, None, "k3s"),
        (None, BOTH, "/var/run/crio/crio.sock", "cri-o"),
        (None, BOTH, "/run/containerd/containerd.sock", "containerd"),
        ("cri-o", BOTH, "/run/containerd/containerd.sock", "cri-o"),
        (None, {"rke2": "f"}, "/run/k3s/containerd/containerd.sock", "rke2"),
        (None, {"containerd": "containerd.service"}, "/run/cri-dockerd.sock", "container-runtime-missing"),
        (None, {}, "/var/run/cri-dockerd.sock", "container-runtime-missing"),
        ("containerd", BOTH, "/run/cri-dockerd.sock", "containerd"),
        (None, {"containerd": "containerd.service"}, "/run/other/containerd.sock", "container-runtime-missing"),
        (None, {"k3s": "f"}, "/run/other/containerd.sock", "k3s"),
        (None, BOTH, None, "container-runtime-ambiguous"),
        (None, {}, None, "container-runtime-missing"),
        ("k0s", BOTH, None, "container-runtime-missing"),
        ("podman", BOTH, None, "bad-input"),
    ],
)
def test_the_runtime_that_serves_the_cluster_is_found_or_asked_for(
    requested: str | None, reasons: dict[str, str], endpoint: str | None, chosen: str
) -> None:
    try:
        assert choose("n", requested, reasons, endpoint).name == chosen
    except NodeError as error:
        assert error.code == chosen


def test_a_kubelet_that_has_docker_run_its_pods_is_told_why_none_will_be_in_a_guest() -> None:
    flags = ["KUBELET_KUBEADM_ARGS=--container-runtime-endpoint=unix:///var/run/cri-dockerd.sock"]
    with pytest.raises(NodeError) as caught:
        choose("n1", None, {"containerd": "containerd.service"}, kubelet.endpoint([], flags))
    assert "n1: its kubelet has Docker run the pods, by /var/run/cri-dockerd.sock" in caught.value.message
    assert "containerRuntimeEndpoint" in caught.value.remedy and "kubernetes.containerRuntime: none" in caught.value.remedy


@pytest.mark.parametrize(("driver", "systemd"), [("systemd", True), ("cgroupfs", False), (None, True), (None, False)])
def test_cgroup_drivers_that_match_pass(driver: str | None, systemd: bool) -> None:
    refuse_other_cgroups("n", "containerd", systemd, driver)


@pytest.mark.parametrize(("driver", "systemd"), [("systemd", False), ("cgroupfs", True)])
def test_cgroup_drivers_that_do_not_match_are_refused_with_the_reason(driver: str, systemd: bool) -> None:
    with pytest.raises(NodeError) as caught:
        refuse_other_cgroups("n", "containerd", systemd, driver)
    assert caught.value.code == "cgroup-drivers-differ" and "kill" in caught.value.message and driver in caught.value.message


def test_the_kubelet_s_words_are_read_from_yaml_json_and_flags() -> None:
    yaml = "kind: KubeletConfiguration\ncgroupDriver: systemd # kubeadm\ncontainerRuntimeEndpoint: unix:///run/crio/crio.sock\n"
    json = '{"kind": "KubeletConfiguration",\n "cgroupDriver": "cgroupfs",\n "containerRuntimeEndpoint": ""}'
    flags = ['KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/containerd/containerd.sock --x=y"']
    assert (kubelet.cgroup_driver([yaml], []), kubelet.endpoint([yaml], [])) == ("systemd", "/run/crio/crio.sock")
    assert (kubelet.cgroup_driver([json], []), kubelet.endpoint([json], flags)) == ("cgroupfs", "/run/containerd/containerd.sock")
    assert kubelet.cgroup_driver([yaml], ["ExecStart=/usr/bin/kubelet --cgroup-driver cgroupfs"]) == "cgroupfs"
    assert kubelet.cgroup_driver([yaml], ["ExecStart=/usr/bin/kubelet --cgroup-driver='cgroupfs'"]) == "cgroupfs"
    assert kubelet.cgroup_driver([], []) is None and kubelet.endpoint(["a: 1\n"], []) is None


def test_the_kubelet_s_words_are_read_from_json_on_one_line() -> None:
    json = '{"kind":"KubeletConfiguration","cgroupDriver":"cgroupfs","containerRuntimeEndpoint":"unix:///run/crio/crio.sock"}'
    assert (kubelet.cgroup_driver([json], []), kubelet.endpoint([json], [])) == ("cgroupfs", "/run/crio/crio.sock")
    assert kubelet.cgroup_driver(['{"a": {"cgroupDriver": "cgroupfs"}, "cgroupDriver": null}'], []) is None
    assert kubelet.cgroup_driver(['{"cgroupDriver": 3}'], []) is None and kubelet.cgroup_driver(["[" * 100_000], []) is None


@pytest.mark.parametrize("comment", ["#", "# ", "  # ", ";"])
def test_a_flag_that_is_commented_out_says_nothing(comment: str) -> None:
    line = 'KUBELET_EXTRA_ARGS="--cgroup-driver=cgroupfs --container-runtime-endpoint=unix:///run/crio/crio.sock"\n'
    yaml = "cgroupDriver: systemd\n#cgroupDriver: cgroupfs\n"
    assert (kubelet.cgroup_driver([yaml], [line]), kubelet.endpoint([yaml], [line])) == ("cgroupfs", "/run/crio/crio.sock")
    assert (kubelet.cgroup_driver([yaml], [comment + line]), kubelet.endpoint([yaml], [comment + line])) == ("systemd", None)


TABLE = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata-qemu]\n"


@pytest.mark.parametrize(
    ("text", "served"),
    [
        (f'{TABLE}runtime_type = "io.containerd.kata-qemu.v2"\noptions.ConfigPath = "{CONFIG}"\n', True),
        (f'{TABLE}runtime_type = "io.containerd.run.kata.v2"\noptions.ConfigPath = "{CONFIG}"\n', True),
        ("", False),
        (f'{TABLE}runtime_type = "io.containerd.runc.v2"\n', "io.containerd.runc.v2"),
        (f'{TABLE}runtime_type = "io.containerd.kata.v2"\noptions.ConfigPath = "/b"\n', "ConfigPath /b"),
        (f'{TABLE}runtime_type = "io.containerd.kata.v2"\n', "ConfigPath none"),
    ],
)
def test_a_handler_of_others_is_taken_as_it_is_or_refused(text: str, served: bool | str) -> None:
    known = containerd.registered(files("version = 3\n" + text), (2, 2), "kata-qemu")
    if isinstance(served, bool):
        assert is_served("n", "containerd", known, HANDLER) is served
    else:
        with pytest.raises(NodeError) as caught:
            is_served("n", "containerd", known, HANDLER)
        assert caught.value.code == "handler-foreign" and served in caught.value.message


@pytest.mark.parametrize("name", ["", "Kata", "kata qemu", "-kata", "kata.qemu", "k" * 64, 'k"]\n[x'])
def test_a_name_that_could_not_stand_in_a_configuration_is_refused(name: str) -> None:
    with pytest.raises(NodeError):
        containerd.check(name, [])
    with pytest.raises(NodeError):
        containerd.check("kata", ['a"b'])
    containerd.check("kata-qemu", ["io.katacontainers.*"])


def test_the_unit_says_what_is_started_with_which_file() -> None:
    assert started([("", "[Service]\nExecStart=\n")]) == [] and option([], "config") is None
    unit = ("/u", "[Service]\nExecStartPre=-/sbin/modprobe overlay\nExecStart=/usr/bin/containerd\n")
    drop_in = ("/d", "[Service]\nExecStart=\nExecStart=-/opt/containerd \\\n  --config /etc/c.toml\n")
    assert started([unit]) == ["/usr/bin/containerd"] and started([]) == []
    assert started([unit, drop_in]) == ["/opt/containerd", "--config", "/etc/c.toml"]


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("containerd", None),
        ("containerd --config /a.toml", "/a.toml"),
        ("containerd --config=/a.toml --config /b.toml", "/b.toml"),
        ("containerd -c /a.toml", "/a.toml"),
        ("containerd -l debug -c=/a.toml", "/a.toml"),
        ("containerd -config /a.toml", "/a.toml"),
        ('containerd --config="/a.toml"', "/a.toml"),
        ("crio --config-dir /d -c /a.conf $EXTRA", "/a.conf"),
        ("containerd --config", None),
        ("containerd --address /c", None),
    ],
)
def test_the_main_file_is_the_one_that_the_unit_names(words: str, file: str | None) -> None:
    assert option(words.split(), "config", "c") == file


def test_each_place_is_distinguished_from_the_others() -> None:
    assert len({place.name for place in PLACES}) == len(PLACES)
    assert all(place.units or place.name == "k0s" for place in PLACES)
