"""What a log-in can certainly not use as a private key is refused before anybody is contacted, and never shown.

What would be lost if these failed: a sentence that says what to do, where the plugin's own is `ssh: no key found`.
"""

import base64
import os
import shutil
import subprocess
import time
from pathlib import Path

import asyncssh
import pytest

from delivery import login
from nodekit.errors import NodeError
from nodekit.scripts import script

pytestmark = pytest.mark.slow

FORMS = {
    "openssh": ["-t", "ed25519"],
    "pem": ["-t", "rsa", "-b", "2048", "-m", "PEM"],
    "pkcs8": ["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
}


def pair(folder: Path, form: str, passphrase: str) -> tuple[str, str]:
    """Private and public half of a new key."""
    file = folder / form
    subprocess.run(["ssh-keygen", "-q", *FORMS[form], "-N", passphrase, "-C", "me@home", "-f", str(file)], check=True)
    return file.read_text(), file.with_suffix(".pub").read_text()


def refusal(text: str) -> str:
    """The sentence that refuses it."""
    with pytest.raises(NodeError) as refused:
        login.refuse_unusable(text, "bastion")
    assert refused.value.code == "login-key-unusable"
    return refused.value.sentence()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_key_is_taken_without_a_passphrase_alone(tmp_path: Path, form: str, ends: str) -> None:
    (tmp_path / "open").mkdir()
    login.refuse_unusable(pair(tmp_path / "open", form, "")[0].replace("\n", ends), "node")
    private, public = pair(tmp_path, form, "a secret word")
    assert "login to the bastion has a passphrase. Keep the key in an SSH agent" in refusal(private.replace("\n", ends))
    assert "is a public key. Set the private half" in refusal(public)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "is a public key"),
        ("sk-ecdsa-sha2-nistp256@openssh.com AAAA me", "is a public key"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA", "is a public key"),
        ("-----BEGIN RSA PUBLIC KEY-----\nAAAA", "is a public key"),
        ("~/.ssh/id_ed25519", "is the path of a file. Set the content of that file"),
        ("/home/me/.ssh/id_ed25519", "is the path of a file"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none", "is in PuTTY's own form"),
    ],
)
def test_other_thing_is_named_and_not_shown(text: str, words: str) -> None:
    sentence = refusal(text)
    assert words in sentence and "AAAA" not in sentence and "id_ed25519" not in sentence


@pytest.mark.parametrize("form", [["ed25519"], *(["ecdsa", "-b", size] for size in ("256", "384", "521"))])
def test_host_key_of_a_machine_in_fips_mode_is_taken_too(tmp_path: Path, form: list[str]) -> None:
    """Such a machine has none of kind ed25519."""
    subprocess.run(["ssh-keygen", "-q", "-t", *form, "-N", "", "-C", "root@rack", "-f", str(tmp_path / "key")], check=True)
    kind, data, comment = (tmp_path / "key.pub").read_text().split()
    assert login.host_key(f"{kind} {data} {comment}\n") == f"{kind} {data}"
    other = next(name for name in login.HOST_KEYS if name != kind)
    wrongs = []
    if kind != "ssh-ed25519":  # a point of a curve, which says of itself that it is compressed
        compressed = bytearray(base64.b64decode(data))
        compressed[-login.HOST_KEYS[kind][1]] = 2
        wrongs = [f"{kind} {base64.b64encode(compressed).decode()}"]
    for wrong in (f"{other} {data}", f"{kind} {data[:-4]}", f"{kind} {data}AAAA", *wrongs):
        with pytest.raises(NodeError, match="is not an ed25519 or ECDSA public key"):
            login.host_key(wrong)


def test_rsa_host_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(NodeError) as refused:
        login.host_key(pair(tmp_path, "pem", "")[1])
    assert "ssh_host_ecdsa_key.pub" in refused.value.remedy and "SHA-1" in refused.value.remedy


CUT = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.mark.parametrize("text", ["", "KEY", "-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----\nä\n", CUT])
def test_what_is_not_known_is_left_to_the_plugin(text: str) -> None:
    login.refuse_unusable(text, "node")


@pytest.mark.parametrize(
    "text", ["", "ssh-ed25519", "ssh-ed25519 äAAAC3Nza", "SHA256:uNiVztksCsDhcc0u9e8Brv", "a ssh-ed25519 AAAA"]
)
def test_other_thing_than_a_host_key_is_refused(text: str) -> None:
    with pytest.raises(NodeError, match="is not an ed25519 or ECDSA public key"):
        login.host_key(text)


PRIVATE = [
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n",
    "PuTTY-User-Key-File-3: ssh-ed25519\nMHcCAQEE",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_private_key_in_the_place_of_a_public_one_is_not_shown(text: str) -> None:
    for check in (login.host_key, lambda key: login.pinned(key, "node"), login.public_key):
        with pytest.raises(NodeError, match="is a private key") as refused:
            check(text)
        assert ".pub" in refused.value.remedy and "MHcCAQEE" not in refused.value.sentence()


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_public_login_key_of_nothing_is_refused(text: str | None) -> None:
    with pytest.raises(NodeError, match="The public login key holds nothing"):
        login.public_key(text)


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa"])
def test_public_login_key_that_lost_a_part_is_refused_before_ec2_does(kind: str) -> None:
    key = asyncssh.generate_private_key(kind).export_public_key().decode().strip()
    for whole in (key, f"{key} ann@example\n"):
        assert login.public_key(whole) == whole
    for part in (key[:-8], key[:60], kind, f"{kind} {key.split()[1][4:]}", key.replace("AAAA", "AAA A", 1)):
        with pytest.raises(NodeError, match=f"not a whole key of the kind {kind}"):
            login.public_key(part)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_variable_of_the_login_does_not_carry_the_password_into_environments(tmp_path: Path, shell: str) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n")
    (tmp_path / "id").chmod(0o755)
    argv = [shell, "-c", script("as_root.sh", "delivery"), "as-root", "env"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "password": "of the login"}
    result = subprocess.run(argv, input="s3cret\n", env=environment, capture_output=True, text=True, check=True)
    assert "PATH=" in result.stdout and "s3cret" not in result.stdout


SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "ksh", "mksh", "yash", "fish", "tcsh", "csh") if shutil.which(shell)]
"""Login shells of users that this machine knows too; a server hands each the whole command line with -c."""
LOGINS = [[shell] for shell in SHELLS] + ([["busybox", "sh"]] if shutil.which("busybox") else [])
SCRIPT = """\
#!/bin/sh
# ä: of a letter that is two bytes
printf '%s|' "$0" "$@"
case $1 in plain) cat ;; env) env ;; esac
"""
CONTENT = b'{"node": "n1"}\n\n second \\line \xff\0 $HOME `id`\r\n no end'
"""What a program on the node reads: each byte of it, and nothing else."""


def logged_in(shell: list[str], line: str, *pieces: bytes, **environment: str) -> bytes:
    """What a command line prints in a login shell; its input comes in pieces, as over a network."""
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C", **environment}
    with subprocess.Popen(
        [*shell, "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        for piece in pieces:
            process.stdin.write(piece)
            process.stdin.flush()
            time.sleep(0.05)
        process.stdin.close()
        output, errors = process.stdout.read(), process.stderr.read()
    assert (process.returncode, errors) == (0, b""), errors
    return output


def split(text: bytes) -> list[bytes]:
    """Two places in the midst of the script, and one after it."""
    size = len(SCRIPT.encode())
    return [text[:7], text[7 : size - 3], text[size - 3 : size + 2], text[size + 2 :]]


@pytest.mark.parametrize("shell", LOGINS, ids=" ".join)
def test_a_script_that_is_handed_over_leaves_its_program_each_byte_after_it(shell: list[str]) -> None:
    """Lost if this fails: a desired state that lacks its first letters, or a script that lacks its last."""
    line = f"{login.handed(SCRIPT, 'a-name')}plain 2"
    assert logged_in(shell, line, *split(SCRIPT.encode() + CONTENT)) == b"a-name|plain|2|" + CONTENT
    assert logged_in(shell, line, SCRIPT.encode()) == b"a-name|plain|2|"


@pytest.mark.parametrize("shell", LOGINS, ids=" ".join)
def test_a_script_is_handed_over_by_a_script_that_is_handed_over(shell: list[str]) -> None:
    """As -converge is where sudo asks for a password: as_root.sh, the password, converge.sh, the state."""
    first = 'IFS= read -r password; exec "$@"\n'
    stdin = login.before(first, "s3cret", SCRIPT).encode() + CONTENT
    line = f"{login.as_root(first)}timeout 20 {login.handed(SCRIPT, 'converge')}plain"
    assert logged_in(shell, line, *split(stdin)) == b"converge|plain|" + CONTENT
