"""What the node program trusts in apt's lists and settings, in keys and in archives.

Lost if these fail: unsigned packages run as root, a second key signs for Docker, an archive writes outside its folder.
"""

import io
import lzma
import socket
import subprocess
import tarfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from nodekit.commands import apt_sources as question
from nodekit.errors import NodeError
from nodekit.host import apt, kata_archive, kata_download
from nodekit.host import apt_source as host_apt_source
from nodekit.rules.docker import apt_source, openpgp
from nodekit.rules.docker.apt_source import Entry, lax_settings, parse, refuse_contradiction, refuse_unsigned
from tests.nodekit.docker_node import gpg_key
from tests.nodekit.kata_release import served, tree

DOCKER = "https://download.docker.com/linux/ubuntu"
UBUNTU = 'ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n'


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """Fingerprint and armoured text of a key."""
    return gpg_key(tmp_path_factory.mktemp("key"), "ed25519")


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    """Files below a root folder."""
    for name, content in {"etc/os-release": UBUNTU, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def answer_of(root: Path, fingerprint: str = apt_source.DOCKER_FINGERPRINT) -> dict[str, object]:
    """What `apt-sources` answers."""
    return question.run(
        root, address=apt_source.DOCKER_ADDRESS, suite=None, component="stable", fingerprint=fingerprint, key=None
    )


def refused(root: Path, code: str, fingerprint: str = apt_source.DOCKER_FINGERPRINT) -> NodeError:
    with pytest.raises(NodeError) as caught:
        answer_of(root, fingerprint)
    assert caught.value.code == code, caught.value.sentence()
    return caught.value


LISTS = {
    "etc/apt/sources.list.d/docker.list": f"deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] {DOCKER} noble stable\n",
    "etc/apt/sources.list.d/download_docker_com_linux_ubuntu.list": (
        f"deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.gpg] {DOCKER} noble stable\n"
    ),
}


def test_two_entries_with_different_signers_are_refused_naming_both_files(tmp_path: Path, key: tuple[str, bytes]) -> None:
    keys = {"etc/apt/keyrings/docker.asc": key[1], "etc/apt/keyrings/docker.gpg": openpgp.dearmour(key[1])}
    error = refused(put(tmp_path, LISTS | keys), "apt-sources-invalid", key[0])
    for name in (*LISTS, *keys):
        assert f"/{name}" in error.message
    assert "apt reads no list at all" in error.message


A, B = (f"deb [signed-by=/{name}.gpg] https://h/linux" for name in "ab")
PAIRS = [
    (f"{A} noble stable", f"{B} noble stable", True),
    (f"{A} noble stable", f"{B}/ noble test", True),
    (f"{A} noble stable", f"{B} jammy stable", False),
    (f"{A} noble stable", f"{A}/ noble stable", False),
    (f"{A} noble stable", "deb https://h/linux noble stable", True),
    ("deb https://h/linux noble stable", f"{A} noble stable", False),
    (f"{A} noble stable".replace("deb ", "deb-src "), f"{B} noble stable", True),
    (f"{A} noble stable", f"{B} noble stable".replace("https:", "http:"), True),
    (f"{A} noble stable", f"{B} noble stable".replace("https:", "mirror+https:"), True),
    (f"{A} noble stable", f"{B} noble/", False),
    (f"{A} noble stable", f"{B}// noble stable", False),
    (f"{A} noble stable", f"#{B} noble stable", False),
    (
        "deb [signed-by=AAAABBBBCCCCDDDDEEEEFFFF0000111122223333] https://h/x y z",
        "deb [signed-by=aaaabbbbccccddddeeeeffff0000111122223333] https://h/x y z",
        False,
    ),
]


@pytest.mark.parametrize(("first", "second", "contradict"), PAIRS)
def test_a_contradiction_is_what_apt_calls_one(tmp_path: Path, first: str, second: str, contradict: bool) -> None:
    try:
        refuse_contradiction(
            [Entry(name, source) for name, text in (("a", first), ("b", second)) for source in parse(text, deb822=False)]
        )
        contradicts = False
    except NodeError as error:
        assert error.code == "apt-sources-invalid"
        contradicts = True
    assert contradicts == contradict
    # What apt itself says of the same two files.
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "a.list").write_text(f"{first}\n")
    (parts / "b.list").write_text(f"{second}\n")
    argv = ["apt-get", "indextargets", "-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={parts}"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ("Conflicting values set for option Signed-By" in result.stderr) == contradict, result.stderr


@pytest.mark.parametrize("between", [",", ", ", " ", "\n "])
def test_the_keys_of_an_entry_are_several_however_they_are_parted(between: str) -> None:
    stanza = f"Types: deb\nURIs: https://h/linux\nSuites: noble\nComponents: stable\nSigned-By: /a.gpg{between}/b.gpg\n"
    assert [source.signed_by for source in parse(stanza, deb822=True)] == ["/a.gpg /b.gpg"]


WEAK = [
    ("x.list", f"deb [trusted=0x1] {DOCKER} noble stable\n", 1, "trusted"),
    ("x.list", f"deb [trusted=yes] {DOCKER} noble stable\n", 1, "trusted=yes"),
    ("x.list", f"# words\n\ndeb [ arch=amd64  Trusted=YES signed-by=/k.asc ] {DOCKER}/ noble stable # why\n", 3, "trusted=YES"),
    ("x.list", f"deb [allow-insecure=1] {DOCKER} noble stable\n", 1, "allow-insecure=1"),
    ("x.list", f'deb ["trusted=yes"] "{DOCKER}" noble stable\n', 1, "trusted=yes"),
    ("x.list", f"deb [arch=amd64 trusted=%79es] {DOCKER} noble stable\n", 1, "trusted=yes"),
    ("x.list", f"deb [allow-weak=on] {DOCKER} noble stable\n", 1, "allow-weak=on"),
    ("x.list", f"deb [allow-downgrade-to-insecure=true] {DOCKER} noble stable\n", 1, "allow-downgrade-to-insecure=true"),
    (
        "x.sources",
        f"Types: deb\nURIs: https://h/a\nSuites: x\n\n# words\nTypes: deb\nURIs: https://h/b {DOCKER}\nSuites: x noble\n"
        "Components: stable\nTrusted: yes\nSigned-By: /k.asc\n",
        6,
        "trusted=yes",
    ),
    (
        "x.sources",
        f"types: deb\nuris:\n {DOCKER}\nsuites: noble\ncomponents: stable\nALLOW-INSECURE:\n yes\n",
        1,
        "allow-insecure",
    ),
]


@pytest.mark.parametrize(("name", "text", "line", "flag"), WEAK)
def test_an_entry_that_needs_no_signature_is_refused_by_file_and_line(
    tmp_path: Path, key: tuple[str, bytes], name: str, text: str, line: int, flag: str
) -> None:
    put(tmp_path, {f"etc/apt/sources.list.d/{name}": text, "k.asc": key[1]})
    error = refused(tmp_path, "repository-unsigned", key[0])
    assert f"/etc/apt/sources.list.d/{name}:{line} sets {flag}" in error.message and "Remove" in error.remedy


@pytest.mark.parametrize("value", ["no", "false", "0", "off", "2"])  # apt takes no other number for a yes than 1
def test_an_option_that_is_switched_off_is_no_reason_to_refuse(tmp_path: Path, key: tuple[str, bytes], value: str) -> None:
    text = f"deb [trusted={value} signed-by=/k.asc] {DOCKER} noble stable\n"
    put(tmp_path, {"etc/apt/sources.list.d/x.list": text, "k.asc": key[1]})
    assert answer_of(tmp_path, key[0]) == {"file": "/etc/apt/sources.list.d/x.list", "line": 1, "content": None}


@pytest.mark.parametrize("signer", ["signed-by=/etc/apt/keyrings/docker.asc", '"signed-by=/etc/apt/keyrings/docker.asc"'])
def test_an_entry_with_another_component_alone_lends_its_key(tmp_path: Path, key: tuple[str, bytes], signer: str) -> None:
    """Lost if this fails: a node with Docker's entry for `test` is told that its repository holds no Docker at all."""
    put(tmp_path, {
        "etc/apt/keyrings/docker.asc": key[1].decode(),
        "etc/apt/sources.list.d/docker.list": f"deb [{signer}] {DOCKER} noble test\n",
    })  # fmt: skip
    answer = answer_of(tmp_path, fingerprint=key[0])
    expected = f"URIs: {DOCKER}\nSuites: noble\nComponents: stable\nSigned-By: /etc/apt/keyrings/docker.asc\n"
    assert answer["file"] == apt_source.SOURCE and str(answer["content"]).endswith(expected)
    with (tmp_path / "etc/apt/sources.list.d/docker.list").open("a") as file:
        file.write(f"deb [{signer}] {DOCKER} noble stable\n")
    assert answer_of(tmp_path, fingerprint=key[0])["line"] == 2


def test_disabled_entries_copies_and_backups_count_for_nothing(tmp_path: Path) -> None:
    stanza = f"Types: deb\nURIs: {DOCKER}\nSuites: noble\nComponents: stable\nTrusted: yes\n"
    folder = "etc/apt/sources.list.d"
    put(tmp_path, {
        f"{folder}/off.sources": f"Enabled: no\n{stanza}",
        f"{folder}/docker.list.save": f"deb [trusted=yes] {DOCKER} noble stable\n",
        f"{folder}/docker (copy).list": f"deb [trusted=yes] {DOCKER} noble stable\n",
        f"{folder}/commented.list": f"# deb [trusted=yes] {DOCKER} noble stable\n",
    })  # fmt: skip
    (tmp_path / folder / "folder.list").mkdir()
    answer = answer_of(tmp_path)
    assert answer["file"] == apt_source.SOURCE
    assert f"URIs: {DOCKER}\nSuites: noble\nComponents: stable\nSigned-By: (the key 9DC858" in str(answer["content"])


def test_an_entry_without_a_key_beside_one_with_it_is_refused(tmp_path: Path, key: tuple[str, bytes]) -> None:
    lists = {"a.list": f"deb {DOCKER} noble stable\n", "b.list": f"deb [signed-by=/k.asc] {DOCKER} noble stable\n"}
    put(tmp_path, {"k.asc": key[1], **{f"etc/apt/sources.list.d/{name}": text for name, text in lists.items()}})
    assert "a.list" in refused(tmp_path, "repository-key-mismatch", key[0]).message


def test_a_key_within_the_entry_is_checked(tmp_path: Path, key: tuple[str, bytes]) -> None:
    text = apt_source.source_text(DOCKER, "noble", "stable", key[1].decode())
    put(tmp_path, {"etc/apt/sources.list.d/d.sources": text})
    assert answer_of(tmp_path, key[0])["line"] == 2
    refused(tmp_path, "repository-key-mismatch")


def test_the_whole_file_is_printed_with_a_checked_key(tmp_path: Path, key: tuple[str, bytes]) -> None:
    put(tmp_path, {})
    (tmp_path / "gpg").write_bytes(key[1])
    arguments = {"address": apt_source.DOCKER_ADDRESS, "suite": None, "component": "stable", "key": tmp_path / "gpg"}
    answer = question.run(tmp_path, fingerprint=key[0], **arguments)
    assert answer["content"] == apt_source.source_text(DOCKER, "noble", "stable", openpgp.armour(key[1]).decode())
    with pytest.raises(NodeError, match=r"gpg holds the key"):
        question.run(tmp_path, fingerprint=apt_source.DOCKER_FINGERPRINT, **arguments)


@pytest.mark.parametrize("name", apt_source.SETTINGS)
@pytest.mark.parametrize("form", ["plain", "braces"])
def test_a_setting_of_apt_that_lets_unsigned_packages_in_is_refused_by_file_and_line(
    tmp_path: Path, name: str, form: str
) -> None:
    folders, last = name.rpartition("::")[::2]
    text = f'// {last}\n{name} "true";\n'
    if form == "braces":
        text = (
            "// words\n"
            + "".join(f"{part} {{ " for part in folders.split("::"))
            + f'{last} "1";'
            + " };" * len(folders.split("::"))
        )
    put(tmp_path, {"etc/apt/apt.conf.d/99lax": text})
    error = refused(tmp_path, "repository-unsigned")
    assert f"/etc/apt/apt.conf.d/99lax:2 sets {name}" in error.message
    put(tmp_path, {"etc/apt/apt.conf.d/99lax": text.replace('"true"', '"false"').replace('"1"', '"0"')})
    assert answer_of(tmp_path)["file"] == apt_source.SOURCE


def test_what_apt_reports_is_read_whatever_its_capitals() -> None:
    dump = 'APT "";\napt::get::allowunauthenticated "yes";\nAcquire::AllowInsecureRepositories "0";\nApt::X "1";\n'
    assert lax_settings(dump) == ["apt::get::allowunauthenticated"]


def test_flags_are_named_with_the_packages_that_they_endanger() -> None:
    (source,) = parse("deb [trusted=yes allow-weak=yes] https://h/x y z", deb822=False)
    with pytest.raises(
        NodeError, match=r"/l:1 sets trusted=yes allow-weak=yes, so that apt would install iptables 1\.8"
    ) as caught:
        refuse_unsigned(Entry("/l", source), "iptables 1.8")
    assert "trusted and allow-weak" in caught.value.remedy


@pytest.mark.parametrize(("held", "refused"), [("1.8", True), ("1.9", False)])
def test_an_unsigned_entry_that_holds_a_package_of_ours_is_refused_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str, refused: bool
) -> None:
    put(tmp_path, {"etc/apt/sources.list.d/x.list": "deb [trusted=yes] https://h/x y z\n"})
    monkeypatch.setattr(apt, "offers", lambda names: [(name, held, "http://h/x/") for name in names])
    if refused:
        with pytest.raises(NodeError, match=r"x\.list:1 sets trusted=yes, so that apt would install iptables 1\.8"):
            host_apt_source.refuse_unsigned_packages(tmp_path, {"iptables": "1.8"})
    else:
        host_apt_source.refuse_unsigned_packages(tmp_path, {"iptables": "1.8"})


def packet(tag: int, body: bytes) -> bytes:
    """A packet with a length of five bytes."""
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize("name", ["PUBLIC KEY BLOCK", "MESSAGE", "PRIVATE KEY BLOCK", "SIGNATURE", "ARMORED FILE"])
def test_a_second_block_of_any_name_is_refused(key: tuple[str, bytes], name: str) -> None:
    second = key[1].decode().replace("PUBLIC KEY BLOCK", name).encode()
    for data in (key[1] + second, second + key[1], openpgp.dearmour(key[1]) + second, key[1][:-1] + b" \r\n  " + second):
        with pytest.raises(NodeError) as caught:
            openpgp.refuse_other_keys(data, key[0], "x")
        assert caught.value.code == "file-invalid"


def test_a_second_key_in_the_same_packets_is_refused(key: tuple[str, bytes], tmp_path: Path) -> None:
    packets, other = openpgp.dearmour(key[1]), openpgp.dearmour(gpg_key(tmp_path, "ed25519")[1])
    for data in (packets + other, other + packets, packets + packets):
        for form in (data, openpgp.armour(data)):
            with pytest.raises(NodeError) as caught:
                openpgp.refuse_other_keys(form, key[0], "x")
            assert caught.value.code == "repository-key-mismatch"


def test_only_the_pinned_key_is_in_what_is_written(key: tuple[str, bytes]) -> None:
    assert openpgp.primary_fingerprints(openpgp.armour(b"\n".join((b"words", key[1], b"words")))) == [key[0]]
    assert openpgp.armour(b"words\n" + key[1]).startswith(openpgp.BEGIN.encode())
    with pytest.raises(NodeError, match="begins with a packet of type 13"):
        openpgp.primary_fingerprints(packet(13, b"x") + openpgp.dearmour(key[1]))


@pytest.mark.parametrize("size", [65535, 65536, 200_000])
def test_a_key_of_any_length_is_no_traceback(size: int) -> None:
    data = packet(6, b"\x04" + b"x" * (size - 1))
    if size < 65536:
        assert len(openpgp.primary_fingerprints(data)) == 1
    else:
        with pytest.raises(NodeError, match=f"its key has {size} bytes"):
            openpgp.primary_fingerprints(data)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "ended after 4 of 100 bytes"),
        (b"SSH-2.0-server\r\n", "SSH-2.0-server"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: many\r\n\r\n", "many"),
        (b"", "without response"),
    ],
    ids=["half", "no HTTP", "a length that is none", "nothing"],
)
def test_a_site_that_answers_anything_causes_no_traceback_and_half_a_key_is_refused(answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # the end of the test
                while True:  # apt's own download asks again
                    caller, _ = listener.accept()
                    with caller:
                        caller.recv(65536)
                        caller.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(NodeError, match=words) as raised:
            host_apt_source.fetch_key(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert raised.value.code == "repository-unreachable"


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    """One member of an archive."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry, data


def packed(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these members after its folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name in ("./opt", "./opt/kata", "./opt/kata/bin"):
            tar.addfile(member(name, tarfile.DIRTYPE)[0])
        for entry, data in members:
            tar.addfile(entry, io.BytesIO(data))
    return lzma.compress(buffer.getvalue())


HOSTILE = {
    "a marker that is a link": [member("./opt/kata/.kata-nodes.json", tarfile.SYMTYPE, "/OUT/marker")],
    "a marker that is a link within": [member("./opt/kata/.kata-nodes.json", tarfile.SYMTYPE, "VERSION")],
    "a marker": [member("./opt/kata/./.kata-nodes.json", data=b"{}")],
    "a marker that is a hard link": [
        member("./opt/kata/v", data=b"x"), member("./opt/kata/.kata-nodes.json", tarfile.LNKTYPE, "opt/kata/v")],
    "a hard link out": [member("./opt/kata/h", tarfile.LNKTYPE, "/OUT/secret")],
    "a hard link up": [member("./opt/kata/h", tarfile.LNKTYPE, "opt/kata/../../OUT/secret")],
    "a hard link to nothing": [member("./opt/kata/h", tarfile.LNKTYPE, "opt/kata/none")],
    "a hard link through a link": [
        member("./opt/kata/l", tarfile.SYMTYPE, "/OUT"), member("./opt/kata/h", tarfile.LNKTYPE, "opt/kata/l/secret")],
    "a file through a link of a link": [
        member("./opt/kata/a", tarfile.SYMTYPE, "/OUT"), member("./opt/kata/b", tarfile.SYMTYPE, "a"),
        member("./opt/kata/b/x", data=b"x")],
    "a folder that is a link": [member("./opt/kata/l", tarfile.SYMTYPE, "/OUT"), member("./opt/kata/l", tarfile.DIRTYPE)],
    "a link in the folder's place": [member("./opt/kata", tarfile.SYMTYPE, "/OUT")],
    "a device": [member("./opt/kata/d", tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "a pipe": [member("./opt/kata/p", tarfile.FIFOTYPE)],
    "a file in a file": [member("./opt/kata/f", data=b"x"), member("./opt/kata/f/g", data=b"x")],
    "a name that is too long": [member("./opt/kata/" + "n" * 300, data=b"x")],
    "a name with a zero": [member("./opt/kata/x", data=b"x", pax_headers={"path": "opt/kata/a\0b"})],
    "another folder": [member("./opt/kata-other", data=b"x")],
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_as_an_archive_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    outside, root = tmp_path / "out", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "secret").write_text("mine")
    members = [(entry, data) for entry, data in HOSTILE[kind]]
    for entry, _ in members:
        entry.linkname = entry.linkname.replace("/OUT", str(outside))
    before = tree(tmp_path)
    with served(packed(*members)) as (address, sha256), pytest.raises(NodeError) as caught:
        kata_archive.install(root, address, sha256, lambda new: None)
    assert caught.value.code == "kata-archive-invalid", caught.value.sentence()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("mtime", [-5.0, 1e30, float("nan"), float("inf"), 2**40])
def test_times_that_no_file_can_have_are_no_traceback(tmp_path: Path, mtime: float) -> None:
    (tmp_path / "a").write_bytes(packed(member("./opt/kata/x", data=b"x", pax_headers={"mtime": str(mtime)})))
    (tmp_path / "new").mkdir()
    kata_download.unpack(tmp_path / "a", tmp_path / "new")
    assert (tmp_path / "new/opt/kata/x").read_bytes() == b"x"


def test_a_member_of_negative_size_is_refused(tmp_path: Path) -> None:
    block = bytearray(member("./opt/kata/x")[0].tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (2**96 - 512).to_bytes(12, "big")  # base 256, as GNU tar writes what is negative
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    (tmp_path / "a").write_bytes(lzma.compress(bytes(block) + bytes(1024)))
    with pytest.raises(NodeError) as caught:
        kata_download.unpack(tmp_path / "a", tmp_path)
    assert caught.value.code == "kata-archive-invalid"
    # The second is Python's own, from 3.14 on.
    assert any(words in caught.value.message for words in ("negative size", "invalid offset"))
