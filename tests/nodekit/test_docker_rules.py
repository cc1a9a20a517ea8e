"""Docker's rules as exact tables. Lost if these fail: a pair that breaks silently, or a version that apt does not know."""

import itertools
import json
from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.rules.docker import apt_source, daemon_json, openpgp
from nodekit.rules.docker.docker_matrix import MATRIX, refuse_if_incompatible, verdict
from nodekit.rules.docker.docker_packages import (
    HELD,
    PACKAGES,
    PackageState,
    Plan,
    Simulated,
    madison_rows,
    package_version,
    parse_simulation,
    parse_states,
    plan,
)
from nodekit.rules.kata import kata_launchers
from tests.nodekit.docker_node import gpg_key

TYPE = "io.containerd.kata.v2"
ANY, UNTESTED = "2.0.0", "untested"


@pytest.mark.parametrize(
    ("docker", "runtime", "too_old", "first"),
    [
        ("26.0.0", "go", "3.28.9", "3.29.0"),
        ("28.0.0", "go", "3.27.0", "3.29.0"),
        ("28.5.2", "go", "3.28.0", "3.29.0"),
        ("29.4.9", "go", "3.28.0", "3.29.0"),
        ("29.5.0", "go", "3.31.9", "3.32.0"),
        ("30.1.0", "go", "3.31.0", "3.32.0"),
        ("26.0.0", "rust", "3.29.0", "3.30.0"),
        ("28.0.0", "rust", "3.29.9", "3.30.0"),
        ("29.4.0", "rust", "3.29.0", "3.30.0"),
        ("29.5.0", "rust", "3.31.0", "3.32.0"),
    ],
)
def test_a_pair_known_to_break_is_refused_up_to_the_version_that_cures_it(
    docker: str, runtime: str, too_old: str, first: str
) -> None:
    bad = verdict(docker, too_old, runtime)
    assert not bad.ok
    assert bad.cure.startswith(f"Kata {first} or newer")
    assert ("Docker 27.5.1" in bad.cure) == (runtime == "go")
    assert "kata-containers/kata-containers#" in bad.reason
    assert verdict(docker, first, runtime).ok
    with pytest.raises(NodeError) as caught:
        refuse_if_incompatible(docker, too_old, runtime)
    assert caught.value.code == "docker-kata-incompatible"
    assert f"Docker {docker}" in caught.value.message and too_old in caught.value.message and first in caught.value.remedy


@pytest.mark.parametrize("docker", ["23.0.0", "24.0.9", "25.0.5", "26.0.1", "26.1.4", "27.0.0", "27.5.1"])
def test_a_docker_that_sets_up_the_network_early_takes_every_go_shim(docker: str) -> None:
    assert verdict(docker, ANY, "go").ok
    older = verdict(docker, "3.29.0", "rust")
    assert older.ok and UNTESTED in older.reason
    assert UNTESTED not in verdict(docker, "3.30.0", "rust").reason


def test_a_docker_before_the_known_pairs_is_said_to_be_untested() -> None:
    assert verdict("20.10.24", "3.32.0", "go").ok
    assert UNTESTED in verdict("20.10.24", "3.32.0", "go").reason


def test_the_matrix_has_no_gap_and_each_row_its_source() -> None:
    for row, following in itertools.pairwise(MATRIX):
        assert row.end == following.first
    assert MATRIX[-1].end is None
    assert all(row.sources for row in MATRIX)


@pytest.mark.parametrize("text", ["27", "27.5", "27.5.1 ", " 27.5.1", "27.5.1\n", "v27.5.1", "27.5.1.2", "", "٢٧.5.1", "27.5.x"])
def test_text_that_is_not_a_whole_version_is_refused(text: str) -> None:
    for call in (
        lambda: verdict(text, "3.32.0", "go"),
        lambda: verdict("27.5.1", text, "go"),
        lambda: package_version(text, "debian", "13"),
    ):
        with pytest.raises(NodeError) as caught:
            call()
        assert caught.value.code == "bad-input"


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (("debian", "12"), "5:27.5.1-1~debian.12~bookworm"),
        (("debian", "13"), "5:27.5.1-1~debian.13~trixie"),
        (("ubuntu", "22.04"), "5:27.5.1-1~ubuntu.22.04~jammy"),
        (("ubuntu", "24.04"), "5:27.5.1-1~ubuntu.24.04~noble"),
    ],
)
def test_the_version_string_is_the_one_of_dockers_packages(system: tuple[str, str], expected: str) -> None:
    assert package_version("27.5.1", *system) == expected


@pytest.mark.parametrize("system", [("debian", "11"), ("ubuntu", "23.10"), ("fedora", "41"), ("", ""), ("debian", "\x1b[2J")])
def test_another_system_is_refused(system: tuple[str, str]) -> None:
    with pytest.raises(NodeError) as caught:
        package_version("27.5.1", *system)
    assert caught.value.code == "unsupported-os"
    assert "\x1b" not in caught.value.sentence()


def test_a_version_with_another_form_of_string_is_refused() -> None:
    with pytest.raises(NodeError, match="older than 23"):
        package_version("20.10.24", "debian", "12")


PINNED = "5:27.5.1-1~debian.13~trixie"


def states(**changes: PackageState | None) -> dict[str, PackageState]:
    good = {name: PackageState(True, "installed", PINNED if name in PACKAGES else "1.7.28-1") for name in HELD}
    return {name: state for name, state in {**good, **changes}.items() if state is not None}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (states(), Plan((), ())),
        (states(**{"containerd.io": PackageState(False, "installed", "1.7.28-1")}), Plan((), ("containerd.io",))),
        (states(**{"docker-ce": PackageState(True, "installed", "5:28.5.2-1~debian.13~trixie")}), Plan(("docker-ce",), ())),
        (states(**{"docker-ce": PackageState(True, "half-configured", PINNED)}), Plan(("docker-ce",), ())),
        (states(**{"docker-ce-rootless-extras": None}), Plan(("docker-ce-rootless-extras",), ("docker-ce-rootless-extras",))),
        ({}, Plan(HELD, HELD)),
    ],
)
def test_the_plan_is_exactly_what_is_missing(states: dict[str, PackageState], expected: Plan) -> None:
    assert plan(states, PINNED) == expected


def test_package_states_are_read_as_dpkg_writes_them() -> None:
    text = (
        f"hold installed docker-ce {PINNED}\ninstall half-configured containerd.io 1.7.28-1\n"
        "unknown not-installed docker-ce-cli \ndeinstall config-files iptables 1.8\n"
    )
    assert parse_states(text) == {
        "docker-ce": PackageState(True, "installed", PINNED),
        "containerd.io": PackageState(False, "half-configured", "1.7.28-1"),
    }


def test_the_index_and_a_simulation_are_read_as_apt_writes_them() -> None:
    madison = (
        f" docker-ce | {PINNED} | https://download.docker.com/linux/debian trixie/stable amd64 Packages\n"
        " docker-ce-cli | 5:1 | x\n docker-ce | 5:2 | a\n docker-ce | 5:2 | b\n"
    )
    assert madison_rows(madison) == [
        ("docker-ce", PINNED, "https://download.docker.com/linux/debian"),
        ("docker-ce-cli", "5:1", "x"),
        ("docker-ce", "5:2", "a"),
        ("docker-ce", "5:2", "b"),
    ]
    simulated = (
        "Reading package lists...\nRemv docker.io [26.1.5]\nInst docker-ce [5:28] (5:27 Docker CE:trixie [amd64])\n"
        "Inst iptables (1.8.11-2 Debian:13 [amd64])\nInst libx:amd64 [1] (2 D [amd64])\nConf iptables (1.8.11-2)\n"
    )
    assert parse_simulation(simulated) == Simulated(
        {"docker-ce": "5:28", "iptables": None, "libx": "1"},
        ("docker.io",),
        {"docker-ce": "5:27", "iptables": "1.8.11-2", "libx": "2"},
    )


KATA = {"runtimeType": "io.containerd.kata.v2"}


@pytest.mark.parametrize(
    ("text", "config_path", "expected"),
    [
        (None, None, {"runtimes": {"kata": KATA}}),
        ("", None, {"runtimes": {"kata": KATA}}),
        (" \n", "/c.toml", {"runtimes": {"kata": {**KATA, "options": {"ConfigPath": "/c.toml"}}}}),
        ('{"debug":true}', None, {"debug": True, "runtimes": {"kata": KATA}}),
        (
            '{"runtimes":{"nvidia":{"path":"n"}},"z":1,"a":2}',
            None,
            {"runtimes": {"nvidia": {"path": "n"}, "kata": KATA}, "z": 1, "a": 2},
        ),
        ('{"runtimes":{"kata":{"path":"/usr/bin/kata-runtime"}}}', None, {"runtimes": {"kata": KATA}}),
        (
            '{"runtimes":{"kata":{"runtimeType":"io.containerd.kata.v2","options":{"TypeUrl":"t","ConfigPath":"/old"}}}}',
            "/new",
            {"runtimes": {"kata": {**KATA, "options": {"TypeUrl": "t", "ConfigPath": "/new"}}}},
        ),
    ],
)
def test_the_runtime_is_merged_and_all_else_kept_in_its_order(
    text: str | None, config_path: str | None, expected: dict[str, object]
) -> None:
    merged = daemon_json.merge(text, "kata", config_path)
    assert json.dumps(json.loads(merged)) == json.dumps(expected)
    assert daemon_json.merge(merged, "kata", config_path) == merged


@pytest.mark.parametrize(
    "text", ["null", '{"runtimes": null}', '{"runtimes": {"kata": null}}', '{"runtimes": {"kata": {"options": null}}}']
)
def test_null_is_a_value_that_is_not_set(text: str) -> None:
    merged = json.loads(daemon_json.merge(text, "kata", "/c.toml"))
    assert merged == {"runtimes": {"kata": {**KATA, "options": {"ConfigPath": "/c.toml"}}}}
    assert daemon_json.config_path(text, "kata") is None and list(daemon_json.runtimes(text)) in ([], ["kata"])


def test_keys_of_an_entry_count_in_any_case_as_they_do_for_dockerd() -> None:
    """Lost if this fails: a path beside a type, with which dockerd does not start, or two keys where one was meant."""
    by_path = '{"runtimes": {"kata": {"Path": "/usr/bin/kata-runtime", "RuntimeArgs": ["-d"]}}}'
    assert json.loads(daemon_json.merge(by_path, "kata", None)) == {"runtimes": {"kata": {"runtimeType": TYPE}}}
    by_type = f'{{"runtimes": {{"kata": {{"RuntimeType": "{TYPE}", "Options": {{"ConfigPath": "/a"}}}}}}}}'
    assert daemon_json.merge(by_type, "kata", "/a") == by_type
    assert daemon_json.config_path(by_type, "kata") == kata_launchers.docker(by_type)[0].config_path == "/a"
    merged = {"runtimes": {"kata": {"runtimeType": TYPE, "options": {"ConfigPath": "/b"}}}}
    assert json.loads(daemon_json.merge(by_type, "kata", "/b")) == merged


def test_an_entry_of_somebody_else_that_names_the_shim_stays_byte_for_byte() -> None:
    text = '{ "runtimes": {"kata":{"runtimeType":"io.containerd.kata.v2","options":{"ConfigPath":"/theirs"}}}}'
    assert daemon_json.merge(text, "kata", None) == text


def test_indentation_and_letters_stay_as_they_were() -> None:
    text = '{\n\t"labels": [\n\t\t"ort=Zürich"\n\t]\n}\n'
    merged = daemon_json.merge(text, "kata", None)
    assert merged.startswith(text.removesuffix("\n}\n") + ',\n\t"runtimes": {\n\t\t"kata"')


@pytest.mark.parametrize("text", ["", " \n", "\ufeff", "\ufeff\n"])
def test_a_file_without_a_word_is_one_without_a_setting_as_dockerd_takes_it(text: str) -> None:
    assert daemon_json.runtimes(text) == {}
    assert daemon_json.config_path(text, "kata") is None
    assert json.loads(daemon_json.merge(text, "kata", None)) == {"runtimes": {"kata": KATA}}
    assert kata_launchers.docker(text) == []


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", '{"runtimes": []}', '{"a": NaN}', '{"a": 1,}', "[" * 100000, '{"runtimes":{"kata":{"runtimeType":'
     '"io.containerd.kata.v2","options":3}}}', '{"a": "\\ud800"}'],
)  # fmt: skip
def test_a_file_that_dockerd_would_not_read_is_refused(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        daemon_json.merge(text, "kata", "/c.toml")
    assert caught.value.code == "file-invalid"


@pytest.mark.parametrize(
    ("text", "version", "refused"),
    [
        ('{"firewall-backend": "nftables"}', "28.5.2", ["firewall-backend (known from 29.0.0 on)"]),
        ('{"firewall-backend": "nftables"}', "29.0.0", []),
        ('{"nri-opts": {"enable": true}, "log-format": "json"}', "29.1.0", ["nri-opts (known from 29.2.0 on)"]),
        ('{"cdi-spec-dirs": []}', "24.0.9", ["cdi-spec-dirs (known from 25.0.0 on)"]),
        ('{"oom-score-adjust": -500, "api-cors-header": "*"}', "27.5.1", ["oom-score-adjust (unknown from 26.0.0 on)"]),
        ('{"oom-score-adjust": -500}', "25.0.5", []),
        (
            '{"features": {"a": true}, "allow-nondistributable-artifacts": [], "builder": {}, "deprecated-key-path": ""}',
            "29.7.2",
            [],
        ),
        (None, "27.5.1", []),
    ],
)
def test_a_key_that_a_docker_does_not_know_is_named_before_it_comes(text: str | None, version: str, refused: list[str]) -> None:
    """By the flags of each release of moby, which dockerd compares the keys of its file with."""
    if not refused:
        daemon_json.refuse_unknown(text, version)
        return
    with pytest.raises(NodeError) as caught:
        daemon_json.refuse_unknown(text, version)
    assert (
        caught.value.message == f"/etc/docker/daemon.json sets {', '.join(refused)}, with which Docker {version} does not start"
    )


@pytest.mark.parametrize(
    ("version", "options", "refused"),
    [
        ("27.5.1", ["-H", "fd://", "--firewall-backend=nftables", "--bip6", "fd00::/64"], "--bip6, --firewall-backend"),
        ("29.0.0", ["--firewall-backend=nftables"], None),
        ("27.5.1", ["--oom-score-adjust", "-500"], "--oom-score-adjust"),
        ("27.5.1", ["-H", "fd://", "--containerd=/run/containerd/containerd.sock"], None),
    ],
)
def test_an_option_of_its_unit_that_a_docker_does_not_know_is_named_too(
    version: str, options: list[str], refused: str | None
) -> None:
    command = ["/usr/bin/dockerd", *options]
    if refused is None:
        daemon_json.refuse_unknown(None, version, command)
        return
    with pytest.raises(NodeError) as caught:
        daemon_json.refuse_unknown(None, version, command)
    assert caught.value.message == f"docker.service starts dockerd with {refused}, which Docker {version} does not know"


def test_the_address_is_the_one_of_the_nodes_system() -> None:
    address = apt_source.repository_address("https://download.docker.com/linux/{id}/", "debian")
    assert address == "https://download.docker.com/linux/debian"


@pytest.mark.parametrize(
    "text",
    ["ftp://a/b", "file:///x", "https://", "https://a b", "http://a\nTypes: deb", "https://u:p@host/x", "http://a/{what}", ""],
)
def test_an_address_that_could_write_something_else_into_the_source_is_refused(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        apt_source.repository_address(text, "debian")
    assert caught.value.code == "bad-input"


@pytest.mark.parametrize("text", ["", "a b", "stable\nTrusted: yes", "-x", "../x"])
def test_a_suite_that_is_not_one_word_is_refused(text: str) -> None:
    with pytest.raises(NodeError, match="is not one word"):
        apt_source.repository_word(text, "suite")


def test_the_source_that_is_written_is_read_back_with_its_key() -> None:
    key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n=BBBB\n-----END PGP PUBLIC KEY BLOCK-----\n"
    text = apt_source.source_text("https://h/d", "trixie", "stable", key)
    (source,) = apt_source.parse(text, deb822=True)
    assert (source.addresses, source.suites, source.components) == (("https://h/d",), ("trixie",), ("stable",))
    assert source.signed_by == key.strip()
    assert apt_source.same_repository(source, "https://h/d", "trixie")
    assert not apt_source.same_repository(source, "https://h/d", "bookworm")


def test_our_own_source_is_known_from_one_that_the_settings_no_longer_name(tmp_path: Path) -> None:
    mark, key = gpg_key(tmp_path, "ed25519")
    text = apt_source.source_text("https://h/d", "trixie", "stable", openpgp.armour(key).decode())
    assert not apt_source.is_another(text, "https://h/d", "trixie", mark)
    for other in (("https://h/e", "trixie", mark), ("https://h/d", "noble", mark), ("https://h/d", "trixie", "A" * 40)):
        assert apt_source.is_another(text, *other)
    for theirs in ("", "# nothing\n", f"Enabled: no\n{text.partition(chr(10))[2]}", "no source"):
        assert not apt_source.is_another(theirs, "https://h/e", "trixie", mark)


LIST = """
# deb https://h/off trixie stable
deb-src https://h/src trixie stable
deb [arch=amd64 signed-by=/k.asc,/l.asc] https://h/d/ trixie stable test # words
deb https://h/plain trixie main
"""
SOURCES = """Types: deb deb-src
URIs: https://h/a https://h/b
Suites: x y
# a comment
Components: main
Signed-By: /k.gpg

Enabled: no
Types: deb
URIs: https://h/off
Suites: x

Types: deb-src
URIs: https://h/src
Suites: x
"""


def test_both_forms_of_sources_are_read() -> None:
    assert apt_source.parse(LIST, deb822=False) == [
        apt_source.Source(("https://h/src",), ("trixie",), ("stable",), "", 3, False),
        apt_source.Source(("https://h/d/",), ("trixie",), ("stable", "test"), "/k.asc /l.asc", 4),
        apt_source.Source(("https://h/plain",), ("trixie",), ("main",), "", 5),
    ]
    assert apt_source.parse(SOURCES, deb822=True) == [
        apt_source.Source(("https://h/a", "https://h/b"), ("x", "y"), ("main",), "/k.gpg"),
        apt_source.Source(("https://h/src",), ("x",), (), "", 13, False),
    ]


@pytest.mark.parametrize(
    "line",
    [
        'deb [signed-by="/k.asc"] https://h/d trixie stable test',
        'deb ["signed-by=/k.asc"] https://h/d trixie stable test',
        'deb [ arch="amd64" signed-by="/k.asc" ] "https://h/d" "trixie" "stable" test # "words',
        "deb\t[signed-by=/%6b.asc]\thttps://h/%64\ttrixie\tstable\ttest\r",
        " deb [signed-by=/k.asc] https://h/d trixie stable test#words",
        "deb [signed-by=/j.asc signed-by=/k.asc] https://h/d trixie stable test",
        "deb [signed-by=/k.asc,] https://h/d trixie stable test",
    ],
)
def test_words_of_a_one_line_entry_are_those_that_apt_reads(line: str) -> None:
    """Each as apt 2.6 reads it (`apt-get indextargets --no-release-info`). Lost if this fails: a second entry beside one that is
    right, with which apt reads no list at all."""
    assert apt_source.parse(line, deb822=False) == [
        apt_source.Source(("https://h/d",), ("trixie",), ("stable", "test"), "/k.asc")
    ]


@pytest.mark.parametrize(
    ("line", "address", "suite", "components", "signed_by"),
    [
        ("deb cdrom:[Debian 13]/ trixie main", "cdrom:[Debian 13]/", "trixie", ("main",), ""),
        ('deb [arch=amd64 signed-by="/k]b.asc"] https://h/d ./', "https://h/d", "./", (), "/k]b.asc"),
        ("deb [signed-by=/k#b.asc] https://h/d trixie stable", "https://h/d", "trixie", ("stable",), "/k#b.asc"),
        # As apt, which takes the options of such an entry in small letters alone.
        ("deb [Signed-By=/k.asc] https://h/d trixie stable", "https://h/d", "trixie", ("stable",), ""),
    ],
)
def test_odd_one_line_entries_are_read_as_by_apt(
    line: str, address: str, suite: str, components: tuple[str, ...], signed_by: str
) -> None:
    assert apt_source.parse(line, deb822=False) == [apt_source.Source((address,), (suite,), components, signed_by)]


def test_a_contradiction_is_named_without_the_password_in_its_address() -> None:
    entries = [
        apt_source.Entry("/etc/apt/sources.list", apt_source.Source(("https://me:hunter2@packages/x",), ("s",), (), signer))
        for signer in ("/a.gpg", "/b.gpg")
    ]
    with pytest.raises(NodeError) as caught:
        apt_source.refuse_contradiction(entries)
    assert "https://packages/x s, and differ" in caught.value.message and "hunter" not in caught.value.message
