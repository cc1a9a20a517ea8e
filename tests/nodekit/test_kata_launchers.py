"""Who names which configuration file. Lost if these fail: the launcher whose setting decides what a guest gets."""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nodekit.errors import NodeError
from nodekit.rules.kata.containerd_config import registered
from nodekit.rules.kata.kata_config import table
from nodekit.rules.kata.kata_launchers import (
    Launcher,
    Variable,
    containerd,
    crio,
    docker,
    exports,
    imports,
    in_environment_file,
    in_script,
    is_kata,
    option,
    started,
    stops_all,
    unit_environment,
)

NAME = "KATA_CONF_FILE"
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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"Environment={NAME}=/a\n", "/a"),
        (f'Environment="{NAME}=/a b" OTHER=1\n', "/a b"),
        (f"Environment=OTHER=1 '{NAME}=/a'\n", "/a"),
        (f'Environment={NAME}="/a b" OTHER=1\n', "/a b"),
        (f"Environment=OTHER=1 \\\n  # {NAME}=/old \\\n  {NAME}=/a\n", "/a"),
        (f"Environment = {NAME}=/a\nEnvironment={NAME}=/b\n", "/b"),
        (f"Environment=OTHER=1 \\\n  {NAME}=/a\n", "/a"),
        (f"Environment={NAME}=\n", ""),
        (f"Environment={NAME}=/a\nEnvironment=\n", None),
        (f"#Environment={NAME}=/a\n;Environment={NAME}=/a\n", None),
        (f"Environment=X{NAME}=/a {NAME}X=/b\nExecStart=/bin/x {NAME}=/c\n", None),
        (f"# ExecStart=/old \\\nEnvironment={NAME}=/a\n", "/a"),
        (f"[Unit]\nEnvironment={NAME}=/b\n[Service]\n  Environment={NAME}=/a\n[Install]\nEnvironment={NAME}=/c\n", "/a"),
        (f"[Unit]\nEnvironment={NAME}=/a\n", None),
    ],
)
def test_a_unit_sets_the_variable_as_systemd_reads_it(text: str, value: str | None) -> None:
    variable, named = unit_environment([("/u", f"[Service]\n{text}")], NAME)
    assert variable == (None if value is None else Variable(value, "/u")) and named == []


def test_a_drop_in_whose_header_was_forgotten_sets_nothing() -> None:
    """systemd: "Assignment outside of section. Ignoring." Lost if this fails: parameters in a file that no shim reads."""
    text = f"Environment={NAME}=/a\nEnvironmentFile=/b\nExecStart=\nExecStart=/bin/x\nKillMode=process\n"
    assert unit_environment([("/d", text)], NAME) == (None, []) and started([("/d", text)]) == [] and stops_all([("/d", text)])


def test_a_later_drop_in_of_a_unit_counts_more_and_files_are_listed() -> None:
    unit = f"[Service]\nEnvironment={NAME}=/a\nEnvironmentFile=/etc/first\n"
    variable, named = unit_environment(
        [("/u", unit), ("/d", f"[Service]\nEnvironment={NAME}=/b\nEnvironmentFile=-/etc/second\n")], NAME
    )
    assert (variable, named) == (Variable("/b", "/d"), ["/etc/first", "/etc/second"])
    assert unit_environment([("/u", unit), ("/d", "[Service]\nEnvironmentFile=\n")], NAME)[1] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"{NAME}=/a\n{NAME}=/b\n", "/b"),
        (f'{NAME}="/a b"\n', "/a b"),
        (f"#!/bin/sh\nexport {NAME}=/a\nexec shim\n", "/a"),
        (f"#!/bin/bash\n{NAME}=/a /opt/kata/bin/containerd-shim-kata-v2 $@\n", "/a"),
        (f"{NAME}=\n", ""),
        (f"# {NAME}=/a\nX{NAME}=/a\n", None),
        (f'#!/bin/sh\nexec env {NAME}="/a b" /opt/kata/bin/containerd-shim-kata-v2 "$@"\n', "/a b"),
        (f"#!/bin/sh\nexec /usr/bin/env -i PATH=/bin {NAME}=/a shim\n", "/a"),
        (f"#!/bin/sh\nexec env \\\n  A='1 2' \\\n  {NAME}=/a \\\n  shim\n", "/a"),
        (f"#!/bin/bash\ndeclare -x {NAME}=/a; exec -a kata shim\n", "/a"),
        (f"#!/bin/sh\nif true; then {NAME}=/a exec shim; fi\n", "/a"),
        (f"#!/bin/sh\necho {NAME}=/a\n", None),
        (f'#!/bin/sh\nexec env "{NAME}=/a b" shim\n', "/a b"),
        (f"#!/bin/sh\nexec env -u HOME '{NAME}=/a' shim\n", "/a"),
        (f'#!/bin/sh\nexport "{NAME}=/a"\n', "/a"),
        (f"#!/bin/ksh\ntypeset -x {NAME}=/a\n", "/a"),
    ],
)
def test_a_script_sets_the_variable(text: str, value: str | None) -> None:
    assert in_script(text, NAME) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"{NAME}=/a\n{NAME}=/b\n", "/b"),
        (f'{NAME}="/a b"\n', "/a b"),
        (f"{NAME}='/a'", "/a"),
        (f"  {NAME} = /a \r\n", "/a"),
        (f"{NAME}=/a # b\n", "/a # b"),
        (f"{NAME}=$DIR/a\n", "$DIR/a"),
        (f"{NAME}=/a\\\n/b\n", "/a/b"),
        (f'{NAME}="/a\\$b"\n', "/a$b"),
        (f"{NAME}=\n", ""),
        (f"{NAME}=/a\nexport {NAME}\n", "/a"),
        # systemd passes over it: "Ignoring invalid environment assignment 'export …'".
        (f"export {NAME}=/a\n", None),
        (f"OTHER=1 {NAME}=/a\n", None),
        (f"OTHER='1\n{NAME}=/a\n'\n", None),
        (f"#{NAME}=/a\n;{NAME}=/a\nX{NAME}=/a\n", None),
    ],
)
def test_an_environment_file_sets_the_variable_as_systemd_reads_it(text: str, value: str | None) -> None:
    """Lost if this fails: parameters in a file that no shim reads."""
    assert in_environment_file(text, NAME) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"CONF=/a.toml\n{NAME}=$CONF exec shim\n", "/a.toml"),
        (f'DIR="/opt/my kata"\nexport {NAME}="${{DIR}}/a.toml"\nexec shim\n', "/opt/my kata/a.toml"),
        (f'DIR=/opt\nexport {NAME}="$DIR"/a.toml\n', "/opt/a.toml"),
        (f'export {NAME}="${{{NAME}:-/a.toml}}"\n', "/a.toml"),
        (f"export {NAME}=${{{NAME}-/a.toml}}\n", "/a.toml"),
        (f"D=/d\nC=${{D}}/c\nexport {NAME}=$C\n", "/d/c"),
        (f"{NAME}=/a exec shim\n", "/a"),
        (f"C=/a\n{NAME}='$C' exec shim\n", "$C"),
        (f': "${{{NAME}:=/a.toml}}"\nexport {NAME}\nexec shim\n', "/a.toml"),
        (f": ${{{NAME}=/a.toml}}; export {NAME}\nexec shim\n", "/a.toml"),
        (f"export {NAME}=${{{NAME}-'/nix/store/a.toml'}}\nexec shim\n", "/nix/store/a.toml"),
        (f'export {NAME}="${{{NAME}:-"/a.toml"}}"\nexec shim\n', "/a.toml"),
        (f"{NAME}=/a\n{NAME}=/b exec shim\n", "/b"),
        (f"case $0 in *) export {NAME}=/a ;; esac\nexec shim\n", "/a"),
        (f"case $0 in\n*qemu*) {NAME}=/q ;;\n*fc*) {NAME}=/f ;;\nesac\nexport {NAME}\nexec shim\n", "one of /q, /f"),
        (f"{NAME}=/a\n[ -f /b ] && {NAME}=/b\nexport {NAME}\nexec shim\n", "one of /a, /b"),
        # What cannot be told stays as it is written, and so is refused by its name.
        (f"{NAME}=$C exec shim\n", "$C"),
        (f"if x; then C=a; else C=b; fi\n{NAME}=/$C exec shim\n", "/$C"),
        (f"{NAME}=/a/$1.toml exec shim\n", "/a/$1.toml"),
        (f"C=$D\nD=$C\n{NAME}=$C/x exec shim\n", "$C/x"),
        ("exec shim\n", None),
    ],
)
def test_a_script_in_the_shim_s_place_names_its_file_by_variables_too(text: str, value: str | None) -> None:
    assert in_script(f"#!/bin/sh\n{text}", NAME) == value


@pytest.mark.parametrize(
    "text",
    [
        f"{NAME}=/a\nexec shim\n",
        f"{NAME}=/a; exec shim\n",
        f"{NAME}=/a && exec shim\n",
        f"{NAME}=/a OTHER='1 2'\nexec shim\n",
        f"{NAME}=/a # before all else\nexec shim\n",
        f"readonly {NAME}=/a\nexec shim\n",
        f"if true; then {NAME}=/a; fi\nexec shim\n",
        f"set -eu\nset -- -a\nexport OTHER=1\n{NAME}=/a\nexec shim -a\n",
        f"# export {NAME}\n{NAME}=/a\nexec shim\n",
        f"{NAME}=/a exec shim\n",
        f"OTHER=1 {NAME}='/a b' THIRD=\"$HOME\" shim\n",
        f"{NAME}=/a \\\n  exec shim\n",
        f"{NAME}=/a\nexport {NAME}\nexec shim\n",
        f"export OTHER {NAME}\n{NAME}=/a\nexec shim\n",
        f"{NAME}=/a;export {NAME};exec shim\n",
        f"declare -rx {NAME}=/a\nexec shim\n",
        f"typeset -g -x {NAME}=/a\nexec shim\n",
        f"exec /usr/bin/env -i PATH=/bin {NAME}=/a shim\n",
        f"set -a\n{NAME}=/a\nexec shim\n",
        f"set -eo allexport\n{NAME}=/a\nexec shim\n",
        f"if true; then {NAME}=/a exec shim; fi\n",
    ],
)
def test_a_script_exports_what_bash_exports(text: str, tmp_path: Path) -> None:
    """Lost if this fails: parameters beside a file that no shim reads, as its name is in a variable of the script alone."""
    (tmp_path / "shim").write_text(f'#!/bin/sh\necho "${{{NAME}-}}"\n')
    (tmp_path / "shim").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = text.replace("PATH=/bin", "PATH=$PATH")
    ended = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert exports(text, NAME) is (ended.stdout.strip() != "") and in_script(text, NAME)


@pytest.mark.parametrize(
    "text", ["(" * 65000, f"{NAME}=a " * 7000, "env X " * 10000, "${" * 32000, "set -w " * 9000, "\n" * 65000, "\nA=1" * 16000]
)
def test_a_long_file_is_read_in_a_moment(text: str) -> None:
    begin = time.process_time()
    exports(text, NAME)
    in_environment_file(text, NAME)
    assert time.process_time() - begin < 2


def test_what_starts_kata_is_distinguished_from_what_does_not() -> None:
    assert all(map(is_kata, ["io.containerd.kata.v2", "io.containerd.kata-clh.v2", "/usr/local/bin/containerd-shim-kata-v2"]))
    assert not any(map(is_kata, ["io.containerd.runc.v2", "runc", None, 3, "kata"]))


@pytest.mark.parametrize(
    ("command", "program", "config"),
    [
        ('"/usr/local/bin/containerd" "--config=/etc/c.toml"', "/usr/local/bin/containerd", "/etc/c.toml"),
        ("-/usr/bin/containerd --config '/etc/my conf/c.toml'", "/usr/bin/containerd", "/etc/my conf/c.toml"),
        ('/usr/bin/containerd -c /etc/c.toml "$CONTAINERD_OPTS"', "/usr/bin/containerd", "/etc/c.toml"),
        ("/usr/bin/containerd \\\n  -c /etc/c.toml \\\n  # -c /etc/old.toml \\\n  -l info", "/usr/bin/containerd", "/etc/c.toml"),
        ('/bin/sh -c "exec /usr/bin/containerd -c /etc/c.toml"', "/bin/sh", "/etc/c.toml"),
        ('/usr/bin/containerd -c "/etc/c.toml', "/usr/bin/containerd", "/etc/c.toml"),
        (r"/usr/bin/containerd -c /etc/my\x20c.toml -l info", "/usr/bin/containerd", r"/etc/my\x20c.toml"),
    ],
)
def test_a_unit_s_command_is_split_as_systemd_does_it(command: str, program: str, config: str) -> None:
    """Lost if this fails: a containerd that is not found, or a handler in a file that it does not read."""
    words = started([("/u", f"[Service]\nExecStart={command}\n")])
    assert (words[0], option(words, "config", "c")) == (program, config)
