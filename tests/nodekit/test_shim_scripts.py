"""The script in a shim's place. Lost if these fail: parameters beside a file that no shim reads."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from nodekit.rules.kata.shim_scripts import exports, in_script

NAME = "KATA_CONF_FILE"


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
def test_a_long_script_is_read_in_a_moment(text: str) -> None:
    begin = time.process_time()
    exports(text, NAME)
    assert time.process_time() - begin < 2
