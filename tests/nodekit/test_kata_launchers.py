"""Who names which configuration file. Lost if these fail: the launcher whose setting decides what a guest gets."""

from collections.abc import Mapping
from typing import Any

import pytest

from nodekit.errors import NodeError
from nodekit.rules.kata.containerd_config import registered
from nodekit.rules.kata.kata_config import table
from nodekit.rules.kata.kata_launchers import (
    Launcher,
    containerd,
    crio,
    docker,
    imports,
    is_kata,
)

SHIM = "containerd-shim-kata-v2"
V2 = 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes'
V3 = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes"


def parsed(*texts: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"/f{at}", table(text, "f")) for at, text in enumerate(texts)]


def test_docker_s_kata_runtimes_with_their_file() -> None:
    text = """\ufeff{"runtimes": {
      "kata": {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": "/a.toml"}},
      "bare": {"runtimeType": "io.containerd.kata-qemu.v2"},
      "empty": {"runtimeType": "/opt/kata/bin/containerd-shim-kata-v2", "options": {"ConfigPath": ""}},
      "runc2": {"runtimeType": "io.containerd.runc.v2", "options": {"ConfigPath": "/b.toml"}},
      "old": {"path": "/usr/bin/kata-runtime"}, "odd": 3}}"""
    assert docker(text) == [
        Launcher("docker runtime kata", "/etc/docker/daemon.json", "/a.toml", SHIM),
        Launcher("docker runtime bare", "/etc/docker/daemon.json", None, "containerd-shim-kata-qemu-v2"),
        Launcher("docker runtime empty", "/etc/docker/daemon.json", None, "/opt/kata/bin/containerd-shim-kata-v2"),
    ]
    assert docker("null") == docker('{"runtimes": null}') == []
    assert docker("") == docker("{}") == docker('{"runtimes": 3}') == []


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"a": }', "[" * 100_000])
def test_a_broken_daemon_json_is_named(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        docker(text)
    assert caught.value.code == "file-invalid" and "/etc/docker/daemon.json" in caught.value.message


@pytest.mark.parametrize("at", [V2, V3])
def test_containerd_s_kata_handlers_in_both_configuration_versions(at: str) -> None:
    main = f'version = 2\n[{at}.runc]\nruntime_type = "io.containerd.runc.v2"\n[{at}.runc.options]\nConfigPath = "/no"\n'
    handler = f'[{at}.kata-qemu]\nruntime_type = "io.containerd.kata-qemu.v2"\n[{at}.kata-qemu.options]\nConfigPath = "/q.toml"\n'
    bare = f'[{at}.kata]\nruntime_type = "io.containerd.kata.v2"\n'
    assert containerd(parsed(main, handler + bare)) == [
        Launcher("containerd handler kata-qemu", "/f1", "/q.toml", "containerd-shim-kata-qemu-v2"),
        Launcher("containerd handler kata", "/f1", None, SHIM),
    ]


@pytest.mark.parametrize(
    ("table_text", "shim"),
    [
        ('[plugins.cri.containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n', SHIM),
        ('[plugins.cri.containerd.untrusted_workload_runtime]\nruntime_type = "io.containerd.kata.v2"\n', SHIM),
        (f'[{V2}.kata]\nruntime_type = "io.containerd.run.kata.v2"\n', SHIM),
        (f'[{V2}.kata]\nruntime_type = "/opt/kata/bin/containerd-shim-kata-v2"\n', f"/opt/kata/bin/{SHIM}"),
        (f'[{V3}.kata]\nruntime_type = "io.containerd.kata.v2"\nruntime_path = "/srv/{SHIM}"\n', f"/srv/{SHIM}"),
        (f'[{V3}.vm]\nruntime_type = "io.containerd.vm.v2"\nruntime_path = "/srv/{SHIM}"\n', f"/srv/{SHIM}"),
    ],
)
def test_a_handler_is_kata_s_in_each_way_to_name_its_shim(table_text: str, shim: str) -> None:
    (launcher,) = containerd(parsed(table_text))
    assert launcher.shim == shim


def test_a_handler_s_file_is_known_by_each_name_that_containerd_takes() -> None:
    text = f'[{V2}.kata]\nruntime_type = "io.containerd.kata.v2"\noptions.configPath = "/a.toml"\n'
    assert containerd(parsed(text))[0].config_path == "/a.toml"
    read = registered(parsed("version = 2\n" + text), (1, 7), "kata")
    assert read is not None and read.config_path == "/a.toml"


def test_crio_s_handlers_of_type_vm_are_kata_s() -> None:
    main = '[crio.runtime.runtimes.runc]\nruntime_type = "oci"\n[crio.runtime.runtimes.kata]\nruntime_type = "vm"\n'
    whole = f'runtime_type = "vm"\nruntime_path = "/opt/kata/bin/{SHIM}"\nruntime_config_path = "/c.toml"\n'
    drop_in = f"[crio.runtime.runtimes.kata]\n{whole}"
    assert crio(parsed(main, drop_in)) == [Launcher("crio handler kata", "/f1", "/c.toml", f"/opt/kata/bin/{SHIM}")]
    assert crio(parsed(main)) == [Launcher("crio handler kata", "/f0", None, None)]
    assert crio(parsed("", "crio = 3\n")) == []


def test_a_later_file_of_crio_replaces_a_handler_as_a_whole() -> None:
    first = '[crio.runtime.runtimes.kata]\nruntime_type = "vm"\nruntime_config_path = "/c.toml"\n'
    other = '[crio.runtime.runtimes.crun]\nruntime_path = "/usr/bin/crun"\n'
    assert crio(parsed(first, other)) == [Launcher("crio handler kata", "/f0", "/c.toml", None)]
    assert crio(parsed(first, "[crio.runtime.runtimes.kata]\nprivileged_without_host_devices = true\n")) == []
    without_path = '[crio.runtime.runtimes.kata]\nruntime_type = "vm"\n'
    assert crio(parsed(first, without_path)) == [Launcher("crio handler kata", "/f1", None, None)]


def test_a_later_file_of_containerd_counts_more() -> None:
    first = f'[{V2}.kata]\nruntime_type = "io.containerd.kata.v2"\noptions.ConfigPath = "/first"\n'
    assert containerd(parsed(first, f'[{V2}.kata.options]\nConfigPath = "/second"\n')) == [
        Launcher("containerd handler kata", "/f1", "/second", SHIM)
    ]
    assert containerd(parsed(first, f"[{V2}.kata]\nprivileged_without_host_devices = true\n"))[0].config_path == "/first"
    assert containerd(parsed(first, f'[{V2}.kata]\nruntime_type = "io.containerd.runc.v2"\n')) == []


@pytest.mark.parametrize("text", ["", "plugins = 3\n", f"[{V2}]\nkata = 3\n", '[plugins.cri.containerd]\nruntimes = "x"\n'])
def test_a_containerd_without_handlers_has_no_kata(text: str) -> None:
    assert containerd(parsed(text)) == []


def test_imports_are_relative_to_the_file_that_names_them() -> None:
    named = table('imports = ["conf.d/*.toml", "/opt/kata/containerd/config.d/kata-deploy.toml", ""]\n', "f")
    assert imports(named, "/etc/containerd/config.toml") == [
        "/etc/containerd/conf.d/*.toml",
        "/opt/kata/containerd/config.d/kata-deploy.toml",
    ]
    assert imports({}, "/f") == imports({"imports": 3}, "/f") == []


def test_what_starts_kata_is_distinguished_from_what_does_not() -> None:
    assert all(map(is_kata, ["io.containerd.kata.v2", "io.containerd.kata-clh.v2", "/usr/local/bin/containerd-shim-kata-v2"]))
    assert not any(map(is_kata, ["io.containerd.runc.v2", "runc", None, 3, "kata"]))
