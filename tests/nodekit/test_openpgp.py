"""Fingerprints of repository keys, against gpg itself. Lost if these fail: the proof of who signed the packages."""

import subprocess
from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.rules.docker import openpgp
from tests.nodekit.docker_node import gpg_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bytes]]:
    home = tmp_path_factory.mktemp("g")
    return {algorithm: gpg_key(home, algorithm) for algorithm in ("rsa2048", "ed25519")}


@pytest.mark.parametrize("algorithm", ["rsa2048", "ed25519"])
def test_the_fingerprint_is_the_one_that_gpg_says(keys: dict[str, tuple[str, bytes]], algorithm: str) -> None:
    expected, armoured = keys[algorithm]
    assert openpgp.primary_fingerprints(armoured) == [expected]
    assert openpgp.primary_fingerprints(openpgp.dearmour(armoured)) == [expected]
    openpgp.refuse_other_keys(armoured, expected, "x")


def test_a_subkey_is_not_taken_for_a_primary_key(tmp_path: Path) -> None:
    fingerprint, _ = gpg_key(tmp_path, "ed25519")
    gpg = ["gpg", "--homedir", str(tmp_path), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-add-key", fingerprint, "rsa2048", "sign"], check=True)
    exported = subprocess.run([*gpg, "--armor", "--export", fingerprint], check=True, capture_output=True).stdout
    assert openpgp.primary_fingerprints(exported) == [fingerprint]


def test_the_armour_that_is_written_is_the_same_key_for_gpg(keys: dict[str, tuple[str, bytes]], tmp_path: Path) -> None:
    expected, armoured = keys["rsa2048"]
    tmp_path.chmod(0o700)
    argv = ["gpg", "--homedir", str(tmp_path), "--batch", "--with-colons", "--show-keys"]
    output = subprocess.run(
        argv, input=openpgp.armour(openpgp.dearmour(armoured)), check=True, capture_output=True
    ).stdout.decode()
    assert f"fpr:::::::::{expected}:" in output


def test_a_file_with_any_other_key_is_refused(keys: dict[str, tuple[str, bytes]]) -> None:
    (rsa, first), (two, second) = keys["rsa2048"], keys["ed25519"]
    both = openpgp.armour(openpgp.dearmour(first) + openpgp.dearmour(second))
    for data, expected in ((both, rsa), (both, two), (first, two)):
        with pytest.raises(NodeError) as caught:
            openpgp.refuse_other_keys(data, expected, "https://h/gpg")
        assert caught.value.code == "repository-key-mismatch"
        assert "https://h/gpg" in caught.value.message and expected in caught.value.message


def test_two_blocks_are_refused_because_readers_differ_on_them(keys: dict[str, tuple[str, bytes]]) -> None:
    with pytest.raises(NodeError, match="2 armoured blocks"):
        openpgp.primary_fingerprints(keys["rsa2048"][1] + keys["ed25519"][1])


def test_what_is_broken_is_refused_at_every_byte(keys: dict[str, tuple[str, bytes]]) -> None:
    packets = openpgp.dearmour(keys["ed25519"][1])
    whole = openpgp.primary_fingerprints(packets)

    def read(end: int) -> list[str]:
        try:
            return openpgp.primary_fingerprints(packets[:end])
        except NodeError as error:
            assert error.code == "file-invalid"
            return []

    read_back = [read(end) for end in range(len(packets))]
    # Only a cut between two packets leaves a shorter key file, with the same primary key: after the key, after the user id.
    assert [fingerprints for fingerprints in read_back if fingerprints] == [whole, whole]


def test_armour_whose_checksum_is_another_is_refused(keys: dict[str, tuple[str, bytes]]) -> None:
    lines = openpgp.armour(openpgp.dearmour(keys["ed25519"][1])).split(b"\n")
    at = next(number for number, line in enumerate(lines) if line.startswith(b"="))
    lines[at] = b"=" + (b"A" if lines[at][1:2] != b"A" else b"B") + lines[at][2:]
    with pytest.raises(NodeError, match="checksum"):
        openpgp.primary_fingerprints(b"\n".join(lines))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>not found</html>",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----\n",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
        bytes([0xC6, 2, 6, 0]),  # a primary key of version 6
        bytes([0xC6, 0xE1, 4, 0]),  # a partial length
        bytes([0x9B, 4, 0]),  # an old packet without length
        bytes([0xCB, 1, 0]),  # a packet of literal data
        bytes([0xFF] * 40),
    ],
)
def test_what_is_no_key_file_is_refused(data: bytes) -> None:
    with pytest.raises(NodeError) as caught:
        openpgp.primary_fingerprints(data)
    assert caught.value.code == "file-invalid"


def test_a_fingerprint_may_have_blanks_and_small_letters() -> None:
    docker = "9DC8 5822 9FC7 DD38 854A  E2D8 8D81 803C 0EBF CD88"
    assert openpgp.fingerprint(docker.lower()) == "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"


@pytest.mark.parametrize("text", ["", "0EBFCD88", "9DC858229FC7DD38854AE2D88D81803C0EBFCD8", "G" * 40, "0" * 41, "0x" + "0" * 38])
def test_a_fingerprint_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        openpgp.fingerprint(text)
    assert caught.value.code == "bad-input"


@pytest.mark.parametrize(
    ("where", "remedy"),
    [
        ("https://download.docker.com/linux/debian/gpg", "sign-in page"),
        ("/etc/apt/keyrings/docker.asc", "Replace /etc/apt/keyrings/docker.asc"),
        ("/etc/apt/sources.list.d/docker.sources:1", "Replace the key within /etc/apt/sources.list.d/docker.sources:1"),
    ],
)
def test_what_is_no_key_is_named_by_where_it_lies(where: str, remedy: str) -> None:
    """Lost if this fails: a sign-in page of a network, or a damaged file, that nobody can find by the message."""
    with pytest.raises(NodeError) as caught:
        openpgp.refuse_other_keys(b"<html>Welcome to our network</html>", "A" * 40, where)
    assert caught.value.code == "file-invalid"
    assert caught.value.message.startswith(f"{where} is not an OpenPGP public key: it holds 0 armoured blocks")
    assert remedy in caught.value.remedy
