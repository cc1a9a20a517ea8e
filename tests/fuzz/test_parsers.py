"""Every parser ends with a value or with its own error, whatever it reads: never a traceback, never without end.

Lost if these fail: a file that somebody wrote, or a site, a guest or a fork sent, ends the program in the middle of its work.
`make test` tries some hundred texts of each kind, always the same; `make test-nightly` tries thousands, each night others.
"""

import io
import json
import lzma
import string
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings

from clusterkit import joining
from nodekit.__main__ import desired_state
from nodekit.errors import NodeError
from nodekit.host import kata_download, kata_launching
from nodekit.host.node import os_release
from nodekit.rules import systemd_units
from nodekit.rules.docker import apt_source, daemon_json, docker_matrix, docker_packages, openpgp
from nodekit.rules.kata import kata_config, kata_launchers, kernel_params, shim_scripts
from nodekit.rules.proof import console, ladder
from policy import plain_secrets, stack_policy
from review import comment, documents
from tests.fuzz.texts import CORPUS, damaged, damaged_bytes, values

pytestmark = pytest.mark.slow

Parser = Callable[[Any], object]
NONCE = "0123456789abcdef"
CHECKOUT = Path(__file__).resolve().parents[2]
QEMU = (CHECKOUT / "tools/image/configurations/configuration-qemu.toml").read_text()
TOML = '[hypervisor.qemu]\npath = "/q"\nkernel_params = "a=1 b" # why\n[runtime]\nx = [1, {y = "z"}]\n'
DAEMON = (
    '{\n  "runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": "/c"}}},\n  "debug": true\n}\n'
)
CONTAINERD = (
    'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]\n'
    'runtime_type = "io.containerd.kata.v2"\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata.options]\n'
    'ConfigPath = "/c"\n'
)
LIST = "deb [arch=amd64 signed-by=/k.asc trusted=yes] https://h/d trixie stable # words\ndeb-src https://h/e x y\n"
SOURCES = "Types: deb\nURIs: https://h/a\nSuites: x y\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n"
SOURCES += "\nTypes: deb\nTrusted: yes\n"
RELEASE = 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nPRETTY_NAME="a \\"b\\""\n'
PARAMETERS = 'console=ttyS0 "a b"=c systemd.unit=x quiet -- init=1'
RUNGS = "".join(f"{NONCE} {name} {status} {value}%20x {value}\n" for name, status, value in (
    ("kernel", "ok", "6.1"), ("boot-id", "ok", "01234567-0123-0123-0123-0123456789ab"), ("uid", "ok", "0"),
    ("command-line", "ok", "a=1"), ("user-namespaces", "ok", "9000"), ("unshare", "failed", "1"), ("bwrap", "missing", "-"),
))  # fmt: skip
TRANSCRIPT = f"[ 0.1] boot\n{RUNGS}{NONCE} end\n"
MADISON = " docker-ce | 5:27.5.1-1~debian.13~trixie | https://h/linux/debian trixie/stable amd64 Packages\n"
SIMULATED = "Inst docker-ce [5:28] (5:27 Docker CE:trixie [amd64])\nRemv docker.io [26.1.5]\nInst x (1 D [amd64])\n"
STATES = "hold installed docker-ce 5:27\ndeinstall config-files iptables 1.8\n"
PREVIEW = (CHECKOUT / "tests/review/head.json").read_text()
UNIT = '[Service]\nEnvironment="KATA_CONF_FILE=/c" A=b\nEnvironmentFile=-/etc/default/x\n'
DUMP = 'APT::Get "";\nAPT::Get::AllowUnauthenticated "true";\n'
KEY = (CORPUS / "openpgp.genuine-key.asc").read_bytes()
STDERR = "Unable to find image 'x' locally\ndocker: Error response from daemon: fork/exec /a/b: no such file or directory\n"


def in_root(path: str, parse: Callable[[Path], object]) -> Parser:
    """A parser that reads a file of a root folder."""

    def run(text: str) -> object:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / path
            place.parent.mkdir(parents=True)
            place.write_bytes(text.encode(errors="surrogatepass"))
            return parse(Path(folder))

    return run


def edited(text: str) -> object:
    """A configuration is parsed, and its parameters replaced: the result is TOML that says the same, with the new ones."""
    (name, *_) = kata_config.hypervisors(text, "x") or ["qemu"]
    before = kata_config.parameters([("x", text)], name)
    after = kata_config.with_parameters(text, name, "a=1", "x")
    assert tomlkit.parse(after.removeprefix("\ufeff")).unwrap()["hypervisor"][name]["kernel_params"] == "a=1"
    return before, after


def merged(text: str) -> object:
    """A merged file is JSON that has the runtime, and is left alone the next time."""
    after = daemon_json.merge(text, "kata", "/c")
    entry = json.loads(after.removeprefix("\ufeff"))["runtimes"]["kata"]
    assert daemon_json.is_kata(entry["runtimeType"]) and entry["options"]["ConfigPath"] == "/c"
    assert daemon_json.merge(after, "kata", "/c") == after
    return after


def parameters(text: str) -> object:
    kernel_params.check(["a=1"], text)
    once = kernel_params.merge(text, ["a=1"])
    assert kernel_params.merge(once, ["a=1"]) == once
    return kernel_params.tokens(once), kernel_params.unmerge(once, text, ["a=1"])


def sources(text: str) -> object:
    entries = [apt_source.Entry("/x", source) for deb822 in (True, False) for source in apt_source.parse(text, deb822=deb822)]
    for entry in entries:
        assert 1 <= entry.source.line <= text.count("\n") + 1
    apt_source.refuse_contradiction(entries)
    for entry in entries:
        apt_source.refuse_unsigned(entry, "x")
    return entries


def commented(text: str) -> object:
    read = documents.read(text)
    return comment.plan("prod", read), comment.pull_request("prod", read, documents.read(PREVIEW))


def armoured(data: bytes) -> object:
    fingerprints = openpgp.primary_fingerprints(data)
    assert openpgp.primary_fingerprints(openpgp.armour(data)) == fingerprints
    return fingerprints


def unpacked(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        archive, target = Path(folder) / "a", Path(folder) / "new"
        archive.write_bytes(
            data if data[:6] == b"\xfd7zXZ\0" or data[:4] == kata_download.ZSTD else lzma.compress(data, preset=0)
        )
        target.mkdir()
        kata_download.unpack(archive, target)
        return None


def archive() -> bytes:
    """A small archive in the form of a release, as tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in (
            ("./opt/kata", tarfile.DIRTYPE, ""), ("./opt/kata/bin", tarfile.DIRTYPE, ""),
            ("./opt/kata/bin/a", tarfile.REGTYPE, ""),
            ("./opt/kata/l", tarfile.SYMTYPE, "bin/a"), ("./opt/kata/h", tarfile.LNKTYPE, "opt/kata/bin/a"),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mtime = kind, link, 1.5
            tar.addfile(entry)
    return buffer.getvalue()


TEXTS: dict[str, tuple[Parser, tuple[str, ...]]] = {
    "edits of Kata's configuration": (edited, (TOML, QEMU[:1500])),
    "daemon.json": (merged, (DAEMON, "{}")),
    "launchers in daemon.json": (kata_launchers.docker, (DAEMON,)),
    "containerd's files": (
        in_root(
            "etc/containerd/config.toml",
            lambda root: kata_launching.containerd_launchers(root, "/etc/containerd/config.toml", []),
        ),
        (CONTAINERD,),
    ),
    "units": (
        lambda text: (
            systemd_units.environment([("x", text)], "K"),
            shim_scripts.in_script(text, "K"),
            systemd_units.in_environment_file(text, "K"),
        ),
        (UNIT,),
    ),
    "kernel parameters": (parameters, (PARAMETERS,)),
    "apt's lists": (sources, (LIST, SOURCES)),
    "apt's settings": (apt_source.lax_settings, (DUMP,)),
    "apt's answers": (
        lambda text: (
            docker_packages.madison_rows(text),
            docker_packages.parse_simulation(text),
            docker_packages.parse_states(text),
        ),
        (MADISON, SIMULATED, STATES),
    ),
    "versions": (
        lambda text: docker_matrix.verdict(docker_packages.upstream_version(text), text, "go"),
        ("5:27.5.1-1~d.13~t", "3.2.0-rc0"),
    ),
    "os-release": (in_root("etc/os-release", os_release), (RELEASE,)),
    "the ladder's transcript": (
        lambda text: ladder.judge(text, NONCE, "x", ["a=1"], network=True),
        (TRANSCRIPT, TRANSCRIPT + TRANSCRIPT),
    ),
    "consoles and Docker's words": (
        lambda text: (console.explain(text, text, text, timed_out=False), console.explain_docker(text)),
        (STDERR, "Kernel panic"),
    ),
    "documents of previews": (
        commented,
        (PREVIEW[:6000], '{"steps": [{"op": "create", "urn": "a::b::c::d", "newState": {"type": "t"}}]}'),
    ),
    "desired states": (desired_state, ('{"node": "n1"}',)),
    "the controller's settings": (joining.settings, ('{"selector": "a=b"}',)),
    "secrets in texts": (
        lambda text: list(plain_secrets.secrets({"a": text}, "x")),
        ("password=abc12345", "--token abcdef.0123456789abcdef"),
    ),
}
BYTES: dict[str, tuple[Parser, tuple[bytes, ...]]] = {
    "OpenPGP": (armoured, (KEY, openpgp.dearmour(KEY))),
    "archives": (unpacked, (archive(), lzma.compress(archive()))),
}
KINDS = {
    **{kind: (parse, damaged(*seeds)) for kind, (parse, seeds) in TEXTS.items()},
    **{kind: (parse, damaged_bytes(*seeds)) for kind, (parse, seeds) in BYTES.items()},
    "inputs from the engine": (lambda value: _policy(value), values()),
}


def _policy(value: object) -> object:
    read = stack_policy.values(value)
    inputs = read if isinstance(read, dict) else {"create": read, "connection": read, "spec": read}
    kinds = ("command:remote:Command", "kubernetes:core/v1:Pod", "kata-nodes:index:KataNode")
    judges = (stack_policy.pods, stack_policy.pairs, stack_policy.host_keys, stack_policy.plain_secrets)
    return [judge(kind, inputs, {"runtimeClasses": ["kata"]}) for kind in kinds for judge in judges]


def tried(kind: str, examples: int, derandomize: bool) -> None:
    parse, texts = KINDS[kind]

    @settings(
        max_examples=examples, derandomize=derandomize, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(texts)
    def run(text: object) -> None:
        try:
            parse(text)
        except NodeError as error:
            assert error.sentence()

    run()


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_ends_a_parser_but_by_its_own_error(kind: str) -> None:
    tried(kind, 150, derandomize=True)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_ends_a_parser_in_the_long_run(kind: str) -> None:
    tried(kind, 3_000, derandomize=False)


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_what_once_ended_a_parser_no_longer_does(name: str) -> None:
    """`KIND.what`: the letters of its kind, then what was wrong with it."""
    data = (CORPUS / name).read_bytes()
    (kind,) = (kind for kind in KINDS if "".join(c for c in kind.lower() if c in string.ascii_lowercase) == name.split(".")[0])
    try:
        KINDS[kind][0](data if kind in BYTES else data.decode(errors="surrogatepass"))
    except NodeError as error:
        assert error.sentence()
