"""A new stack file comes from a few answers, is one that a preview accepts, and never takes another's place."""

import errno
import os
import subprocess
from pathlib import Path
from typing import IO, Any

import asyncssh
import pytest
import yaml

from nodekit.rules.docker.docker_matrix import NEWEST_PROVEN
from stacks import configuration, new
from tests.stacks.test_schema import refused

HOST_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'E' * 43} root@rack"
MACHINE = ["--name", "rack", "--nodes", "existing", "--address", "192.0.2.7", "--host-key", HOST_KEY]
IMAGE = ["--proof-image", "registry.example/proof@sha256:0"]
EXISTING = [*MACHINE, "--cluster", "kubeconfig", *IMAGE]

AWS = ["--name", "cloud", "--nodes", "aws", "--region", "eu-central-1", "--image", "ami-0123456789abcdef0"]
AWS += ["--vpc", "vpc-0123abcd", "--subnet", "subnet-0123abcd", "--ssh-from", "203.0.113.0/24"]


def written(folder: Path, *argv: str, answered: list[str] | None = None) -> tuple[int, Path]:
    """Exit status and file of one run; `answered` answers what is asked, in order."""
    answers = iter(answered or [])
    ask = (lambda question: next(answers)) if answered is not None else None
    return new.main(["--ssh-folder", str(folder / "no-ssh"), *argv, "--folder", str(folder)], ask), folder


@pytest.mark.parametrize(
    ("argv", "sections"),
    [
        (["--name", "here", "--nodes", "local"], {"nodes", "docker", "kata", "kubernetes"}),
        (["--name", "lab", "--nodes", "cluster", *IMAGE], {"kubernetes"}),
        (["--name", "lab", "--nodes", "kata-deploy", "--selector", "pool=kata", *IMAGE], {"kubernetes"}),
        (EXISTING, {"nodes", "docker", "kata", "kubernetes"}),
        (MACHINE, {"nodes", "docker", "kata"}),
        ([*MACHINE, "--install", "none", "--kata", "3.27.0", "--cluster", "none"], {"nodes", "docker", "kata"}),
        ([*AWS, "--cluster", "kubeconfig", *IMAGE], {"nodes", "docker", "kata", "kubernetes"}),
        # New instances serve no cluster: the proof of one would be of nodes that it has already.
        ([*AWS, "--instance-type", "m7i.metal-24xl"], {"nodes", "docker", "kata"}),
        ([*MACHINE, "--cluster", "kubeconfig", "--selector", "none"], {"nodes", "docker", "kata", "kubernetes"}),
    ],
)
def test_file_is_one_that_a_preview_and_the_schema_accept(tmp_path: Path, argv: list[str], sections: set[str]) -> None:
    status, folder = written(tmp_path, *argv)
    assert status == 0
    (file,) = folder.iterdir()
    assert file.name == f"Pulumi.{argv[1]}.yaml" and file.read_text().startswith(new.SCHEMA_LINE + "\n")
    document = yaml.safe_load(file.read_text())
    assert refused(document) == []
    settings = {key.removeprefix("kata-nodes:"): value for key, value in document["config"].items()}
    assert set(settings) == sections
    configuration.load(settings.get)


def test_new_instances_are_not_refused_for_the_container_runtime_that_no_image_of_ubuntu_has(tmp_path: Path) -> None:
    """They were made first, and then refused by their preflight."""
    _, folder = written(tmp_path, *AWS, "--cluster", "kubeconfig", *IMAGE)
    example = Path(new.__file__).with_name("Pulumi.prod.yaml")
    for file in (folder / "Pulumi.cloud.yaml", example):
        config = yaml.safe_load(file.read_text())["config"]
        parsed = configuration.load(lambda key, config=config: config.get(f"kata-nodes:{key}"))  # type: ignore[misc]
        assert parsed.served_handler is None and parsed.handler == "kata-qemu", file
    assert "containerRuntime" not in written(tmp_path, *EXISTING)[1].joinpath("Pulumi.rack.yaml").read_text()


def test_answers_at_a_terminal_come_to_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "asked").mkdir()
    (tmp_path / "given").mkdir()
    written(tmp_path / "asked", answered=["rack", "existing", "192.0.2.7", "", HOST_KEY, "", "", "kubeconfig", "", IMAGE[1]])
    written(tmp_path / "given", *EXISTING)
    interactive, by_options = (tmp_path / name / "Pulumi.rack.yaml" for name in ("asked", "given"))
    assert interactive.read_text() == by_options.read_text()


def test_answer_that_is_none_is_asked_for_again_before_the_next_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One mistyped word cost all answers before it."""
    answers = ["My Stack", "", "rack", "exsting", "existing", "", "192.0.2.7", "", HOST_KEY, "", "", "none"]
    assert written(tmp_path, answered=answers)[0] == 0
    keys = ("name", "name", "nodes", "address")
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == [f"--{key}" for key in keys]
    # An option stands in a script, which nobody answers.
    assert written(tmp_path, "--name", "My Stack", answered=["rack"])[0] == 1


def test_file_that_exists_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Pulumi.lab.yaml").write_text("mine")
    assert written(tmp_path, "--name", "lab", "--nodes", "cluster", *IMAGE)[0] == 1
    assert (tmp_path / "Pulumi.lab.yaml").read_text() == "mine"
    assert "exists and was left as it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nodes", "cluster"], "--name is missing"),
        (["--name", "../x", "--nodes", "cluster", *IMAGE], "Use a-z"),
        (["--name", "lab", "--nodes", "cluster"], "--proof-image is missing"),
        (["--name", "Lab", "--nodes", "existing", "--address", "a"], "--name is 'Lab'. Use a-z"),
        ([*MACHINE[:-3], ",", *MACHINE[-2:]], "--address has no machine"),
        ([*MACHINE[:-3], "192.0.2.7:2222", *MACHINE[-2:]], "the port as its own setting. [host-address-invalid] Here, a port"),
        ([*MACHINE[:-3], "[2001:db8::7]", *MACHINE[-2:]], "[host-address-invalid]"),
        (["--name", "lab", "--nodes", "existing", "--address", "a"], "Log in once"),
        (["--name", "lab", "--nodes", "existing", "--address", "rack-*"], "no Host entry"),
        ([*MACHINE[:-3], "192.0.2.7,192.0.2.8", *MACHINE[-2:]], "no ed25519 or ECDSA key of 192.0.2.7"),
        ([*EXISTING, "--install", "none", "--docker", "28.5.2", "--kata", "3.27.0"], "[docker-kata-incompatible]"),
        ([*EXISTING, "--kata", "3.27.0"], "--kata has no meaning"),
        ([*MACHINE[:-1], "ssh-rsa AAAA"], "hostKey"),
        ([*AWS[:-1], "0.0.0.0/0"], "[aws-ssh-networks]"),
        ([*AWS, "--instance-type", "m7g.metal"], "[aws-instance-type]"),
        (["--name", "lab", "--nodes", "cluster", "--selector", "none"], "nothing would be proven"),
        (["--name", "lab", "--nodes", "cluster", "--user", "root"], "--user has no meaning"),
        (["--name", "here", "--nodes", "local", "--selector", "a=b"], "--selector has no meaning"),
        ([*MACHINE, *IMAGE], "--proof-image has no meaning for --nodes existing --cluster none"),
    ],
)
def test_refused_answers_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    assert written(tmp_path, *argv)[0] == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [EOFError, KeyboardInterrupt])
def test_person_who_stops_answering_gets_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: type[BaseException]
) -> None:
    def ask(question: str) -> str:
        raise ending

    assert new.main(["--name", "lab", "--folder", str(tmp_path)], ask) == 1
    assert "error: no answer was given" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert written(tmp_path / "none", "--name", "lab", "--nodes", "cluster", *IMAGE)[0] == 1
    assert f"{tmp_path}/none/Pulumi.lab.yaml cannot be written: No such file or directory" in capsys.readouterr().err


def test_what_is_written_tells_which_secrets_are_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, *EXISTING)
    output = capsys.readouterr().out + (tmp_path / "Pulumi.rack.yaml").read_text()
    for key in ("sshPrivateKey", "kubeconfig"):
        # From a file in both places: a terminal would take one line of it.
        assert output.count(f"pulumi config set --secret kata-nodes:{key} --stack rack < FILE") == 2


KEYS = {name: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43}" for name, letter in (("a", "A"), ("b", "B"), ("jump", "J"))}
CONFIG = """
Host rack-*
    User admin
    ProxyJump jump.example
Host rack-a
    HostName 192.0.2.1
Host=rack-b other
    HostName 192.0.2.2
    Port 2222
Host jump.example
    User gate
"""
KNOWN = f"192.0.2.1 {KEYS['a']}\n[192.0.2.2]:2222 {KEYS['b']}\njump.example {KEYS['jump']}\n"


@pytest.fixture
def ssh_folder(tmp_path: Path) -> Path:
    """A folder as ~/.ssh."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    (folder / "config").write_text(CONFIG)
    (folder / "known_hosts").write_text(KNOWN)
    return folder


def sections(folder: Path, *argv: str) -> dict[str, Any]:
    """The sections of the file that is written to that folder."""
    assert written(folder, *argv)[0] == 0
    (file,) = folder.glob("Pulumi.*.yaml")
    return {key.removeprefix("kata-nodes:"): value for key, value in yaml.safe_load(file.read_text())["config"].items()}


@pytest.mark.parametrize("hashed", [False, True])
def test_pattern_of_the_ssh_configuration_is_every_machine_with_its_key_and_the_way_there(
    tmp_path: Path, ssh_folder: Path, hashed: bool
) -> None:
    if hashed:
        subprocess.run(["ssh-keygen", "-H", "-f", str(ssh_folder / "known_hosts")], check=True, capture_output=True)
    argv = ["--name", "rack", "--nodes", "existing", "--address", "rack-*", "--cluster", "none", "--ssh-folder", str(ssh_folder)]
    assert sections(tmp_path, *argv)["nodes"] == {
        "existing": [
            {"name": "rack-1", "address": "192.0.2.1", "user": "admin", "hostKey": KEYS["a"]},
            {"name": "rack-2", "address": "192.0.2.2", "user": "admin", "port": 2222, "hostKey": KEYS["b"]},
        ],
        "bastion": {"address": "jump.example", "port": 22, "user": "gate", "hostKey": KEYS["jump"]},
    }


def test_comment_and_second_name_of_an_entry_are_no_further_machines(tmp_path: Path, ssh_folder: Path) -> None:
    config = "Host rack-a rack-a.example # was rack-0\n    HostName 192.0.2.1\n"
    (ssh_folder / "config").write_text(config)
    argv = ["--name", "rack", "--nodes", "existing", "--address", "rack-*", "--ssh-folder", str(ssh_folder)]
    assert [node["address"] for node in sections(tmp_path, *argv)["nodes"]["existing"]] == ["192.0.2.1"]


def test_stack_with_the_longest_name_can_have_machines(tmp_path: Path) -> None:
    name = "a" * 40 + "-b"
    argv = ["--name", name, "--nodes", "existing", "--address", "192.0.2.7", "--host-key", HOST_KEY, "--cluster", "none"]
    (node,) = sections(tmp_path, *argv)["nodes"]["existing"]
    assert node["name"] == "a" * 40 + "-1"


def test_user_before_a_machine_is_its_login_user(tmp_path: Path, ssh_folder: Path) -> None:
    argv = ["--name", "rack", "--nodes", "existing", "--address", "ubuntu@192.0.2.1", "--ssh-folder", str(ssh_folder)]
    assert sections(tmp_path, *argv)["nodes"]["existing"][0]["user"] == "ubuntu"
    argv[1] = "pile"
    assert written(tmp_path, *argv, "--user", "root")[0] == 0
    assert "user: root" in (tmp_path / "Pulumi.pile.yaml").read_text()


def test_key_is_looked_up_by_the_alias_under_which_ssh_keeps_it(tmp_path: Path, ssh_folder: Path) -> None:
    (ssh_folder / "config").write_text("Host rack-a\n    HostName 192.0.2.44\n    HostKeyAlias rack-a.example\n")
    (ssh_folder / "known_hosts").write_text(f"rack-a.example {KEYS['a']}\n")
    argv = ["--name", "rack", "--nodes", "existing", "--address", "rack-a", "--ssh-folder", str(ssh_folder)]
    (node,) = sections(tmp_path, *argv)["nodes"]["existing"]
    assert (node["address"], node["hostKey"]) == ("192.0.2.44", KEYS["a"])


@pytest.mark.parametrize("keyword", ["UserKnownHostsFile", "GlobalKnownHostsFile"])
def test_key_is_looked_up_in_the_files_in_which_ssh_keeps_it(
    tmp_path: Path, ssh_folder: Path, capsys: pytest.CaptureFixture[str], keyword: str
) -> None:
    """To log in once, as the refusal says, puts it into these."""
    (ssh_folder / "config").write_text(f"Host rack-a\n    HostName 192.0.2.44\n    {keyword} {tmp_path}/absent {tmp_path}/rack\n")
    argv = ["--name", "rack", "--nodes", "existing", "--address", "rack-a", "--ssh-folder", str(ssh_folder)]
    (tmp_path / "rack").write_text(f"192.0.2.45 {KEYS['b']}\n")
    assert written(tmp_path, *argv)[0] == 1
    place = f"{tmp_path}/absent" if keyword == "UserKnownHostsFile" else f"{ssh_folder}/known_hosts"
    assert f"{place} has no ed25519 or ECDSA key of 192.0.2.44" in capsys.readouterr().err
    (tmp_path / "rack").write_text(f"192.0.2.44 {KEYS['a']}\n")
    assert sections(tmp_path, *argv)["nodes"]["existing"][0]["hostKey"] == KEYS["a"]


def test_key_without_a_port_counts_for_another_port_as_for_ssh(
    tmp_path: Path, ssh_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ssh asks about no such key, and so adds none with the port."""
    argv = ["--name", "rack", "--nodes", "existing", "--address", "ssh://192.0.2.44:2200", "--ssh-folder", str(ssh_folder)]
    (ssh_folder / "known_hosts").write_text(f"@revoked * {KEYS['a']}\n192.0.2.44 {KEYS['a']}\n")
    assert written(tmp_path, *argv)[0] == 1
    (ssh_folder / "known_hosts").write_text(f"[192.0.2.44]:2200 ssh-rsa AAAA\n192.0.2.44 {KEYS['a']}\n")
    assert written(tmp_path, *argv)[0] == 1 and "key of [192.0.2.44]:2200" in capsys.readouterr().err
    (ssh_folder / "known_hosts").write_text(f"@revoked * {KEYS['b']}\n192.0.2.44 {KEYS['a']}\n")
    assert sections(tmp_path, *argv)["nodes"]["existing"][0]["hostKey"] == KEYS["a"]


def test_line_of_the_ssh_configuration_that_is_wrong_is_named(
    tmp_path: Path, ssh_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ssh_folder / "config").write_text("Host rack-a\n    Hostnam 192.0.2.44\n")
    assert (
        written(tmp_path, "--name", "rack", "--nodes", "existing", "--address", "rack-a", "--ssh-folder", str(ssh_folder))[0] == 1
    )
    assert "line 2: Bad configuration option: hostnam" in capsys.readouterr().err


def test_key_that_is_revoked_is_not_pinned(tmp_path: Path, ssh_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--name", "rack", "--nodes", "existing", "--address", "192.0.2.1", "--ssh-folder", str(ssh_folder)]
    (ssh_folder / "known_hosts").write_text(f"192.0.2.1 {KEYS['a']}\n@revoked * {KEYS['a']}\n")
    assert written(tmp_path, *argv)[0] == 1
    assert "has no ed25519 or ECDSA key of 192.0.2.1" in capsys.readouterr().err
    (ssh_folder / "known_hosts").write_text(f"@revoked * {KEYS['b']}\n192.0.2.1 {KEYS['a']}\n")
    assert sections(tmp_path, *argv)["nodes"]["existing"][0]["hostKey"] == KEYS["a"]


ECDSA = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode().strip()


@pytest.mark.parametrize(("known", "pinned"), [(["ssh-rsa AAAA", ECDSA], ECDSA), ([ECDSA, KEYS["a"]], KEYS["a"])])
def test_ecdsa_key_is_pinned_where_a_machine_in_fips_mode_has_no_better_one(
    tmp_path: Path, ssh_folder: Path, known: list[str], pinned: str
) -> None:
    (ssh_folder / "known_hosts").write_text("".join(f"192.0.2.1 {key}\n" for key in known))
    argv = ["--name", "rack", "--nodes", "existing", "--address", "192.0.2.1", "--ssh-folder", str(ssh_folder)]
    assert sections(tmp_path, *argv)["nodes"]["existing"][0]["hostKey"] == pinned


def test_ecdsa_key_that_is_given_is_pinned(tmp_path: Path) -> None:
    argv = ["--name", "rack", "--nodes", "existing", "--address", "192.0.2.1", "--host-key", ECDSA, "--cluster", "none"]
    assert sections(tmp_path, *argv)["nodes"]["existing"][0]["hostKey"] == ECDSA


def test_several_machines_are_several_nodes_with_the_keys_that_were_given(tmp_path: Path) -> None:
    keys = f"192.0.2.7 {KEYS['a']}\n192.0.2.8 {KEYS['b']}"
    argv = ["--name", "pair", "--nodes", "existing", "--address", "192.0.2.7, 192.0.2.8", "--host-key", keys, "--cluster", "none"]
    nodes = sections(tmp_path, *argv)["nodes"]["existing"]
    assert [(node["name"], node["address"], node["user"], node["hostKey"]) for node in nodes] == [
        ("pair-1", "192.0.2.7", "root", KEYS["a"]),
        ("pair-2", "192.0.2.8", "root", KEYS["b"]),
    ]


def test_machines_behind_different_bastions_are_refused(
    tmp_path: Path, ssh_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = (ssh_folder / "known_hosts").read_text()
    (ssh_folder / "known_hosts").write_text(f"{known}192.0.2.9 {KEYS['a']}\n")
    argv = ["--name", "rack", "--nodes", "existing", "--address", "rack-a,192.0.2.9", "--cluster", "none"]
    argv += ["--ssh-folder", str(ssh_folder)]
    assert written(tmp_path, *argv)[0] == 1
    assert "jump.example, no other machine" in capsys.readouterr().err


def test_machine_and_bastion_can_have_addresses_of_the_sixth_version(tmp_path: Path, ssh_folder: Path) -> None:
    """ssh itself writes such a bastion with brackets, and takes no address of that kind in `ssh://`."""
    (ssh_folder / "config").write_text("Host 2001:db8::7\n    ProxyJump gate@[2001:db8::1]:2200\n")
    known = f"[2001:db8::7]:2222 {KEYS['a']}\n[2001:db8::1]:2200 {KEYS['jump']}\n"
    (ssh_folder / "known_hosts").write_text(known)
    argv = ["--name", "six", "--nodes", "existing", "--address", "ssh://admin@[2001:db8::7]:2222", "--cluster", "none"]
    assert sections(tmp_path, *argv, "--ssh-folder", str(ssh_folder))["nodes"] == {
        "existing": [{"name": "six-1", "address": "2001:db8::7", "user": "admin", "port": 2222, "hostKey": KEYS["a"]}],
        "bastion": {"address": "2001:db8::1", "port": 2200, "user": "gate", "hostKey": KEYS["jump"]},
    }


def test_way_that_a_stack_cannot_go_is_refused(tmp_path: Path, ssh_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ssh_folder / "config").write_text("Host rack-a\n    HostName 192.0.2.1\n    ProxyCommand ssh -W %h:%p jump.example\n")
    argv = ["--name", "rack", "--nodes", "existing", "--address", "rack-a", "--ssh-folder", str(ssh_folder), "--cluster", "none"]
    assert written(tmp_path, *argv)[0] == 1
    assert "rack-a" in (message := capsys.readouterr().err) and "ProxyCommand" in message and "ProxyJump" in message
    assert "192.0.2.1" not in message and not [*tmp_path.glob("Pulumi.*")]
    (ssh_folder / "config").write_text(f"{CONFIG}    ProxyJump outer.example\n")
    assert written(tmp_path, *argv)[0] == 1
    assert "through outer.example and jump.example" in capsys.readouterr().err
    (ssh_folder / "config").write_text("Host rack-a\n    HostName 192.0.2.1\n    ProxyCommand none\n")
    assert written(tmp_path, *argv)[0] == 0


def test_new_machines_get_kata_by_release_and_a_docker_that_works_with_it(tmp_path: Path) -> None:
    for docker in new.DOCKERS:
        folder = tmp_path / docker
        folder.mkdir()
        settings = sections(folder, *MACHINE, "--docker", docker, "--cluster", "none")
        assert settings["docker"] == {"version": docker}
        assert settings["kata"] == {"version": NEWEST_PROVEN[1], "install": "release"}


def test_file_that_no_space_was_left_for_is_not_in_the_way_of_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(handle: int, *_: object, **__: object) -> IO[str]:
        os.close(handle)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    argv = ("--name", "lab", "--nodes", "local")
    with monkeypatch.context() as patch:
        patch.setattr(new.os, "fdopen", full)
        assert written(tmp_path, *argv)[0] == 1
    assert "Pulumi.lab.yaml cannot be written: No space left on device. Give another --folder." in capsys.readouterr().err
    assert written(tmp_path, *argv)[0] == 0


def test_user_without_a_home_writes_a_stack_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs with any user id."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert new.main(["--name", "lab", "--nodes", "local", "--folder", str(tmp_path)]) == 0


def test_questions_and_help_show_on_a_terminal_that_is_not_in_utf_8() -> None:
    """With LANG=de_DE.ISO-8859-1 its help ended with a traceback, and so did the question for an image."""
    assert new.parser().format_help().isascii()
    assert all(question.text.isascii() for question in new.QUESTIONS)
    meanings = [meaning for question in new.QUESTIONS for meaning in (question.choices or {}).values()]
    assert all(map(str.isascii, meanings))
