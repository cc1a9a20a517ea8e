"""A new stack file comes from a few answers, is one that a preview accepts, and never takes another's place."""

from pathlib import Path

import pytest
import yaml

from stacks import model, new
from tests.stacks.test_schema import refused

HOST_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'E' * 43} root@rack"
MACHINE = ["--name", "rack", "--nodes", "existing", "--address", "192.0.2.7", "--host-key", HOST_KEY]
IMAGE = ["--proof-image", "registry.example/proof@sha256:0"]
EXISTING = [*MACHINE, *IMAGE]

AWS = ["--name", "cloud", "--nodes", "aws", "--region", "eu-central-1", "--image", "ami-0123456789abcdef0"]
AWS += ["--vpc", "vpc-0123abcd", "--subnet", "subnet-0123abcd", "--ssh-from", "203.0.113.0/24"]


def written(folder: Path, *argv: str, said: list[str] | None = None) -> tuple[int, Path]:
    """Exit status and file of one run; `said` answers what is asked, in order."""
    answers = iter(said or [])
    ask = (lambda question: next(answers)) if said is not None else None
    return new.main([*argv, "--folder", str(folder)], ask), folder


@pytest.mark.parametrize(
    ("argv", "sections"),
    [
        (["--name", "here", "--nodes", "local"], {"nodes", "docker", "kata", "kubernetes"}),
        (["--name", "lab", "--nodes", "cluster", *IMAGE], {"kubernetes"}),
        (["--name", "lab", "--nodes", "kata-deploy", "--selector", "pool=kata", *IMAGE], {"kubernetes"}),
        (EXISTING, {"nodes", "kubernetes"}),
        ([*MACHINE, "--cluster", "none"], {"nodes"}),
        ([*AWS, *IMAGE], {"nodes", "kubernetes"}),
        ([*AWS, "--instance-type", "m7i.metal-24xl", "--cluster", "none"], {"nodes"}),
        ([*MACHINE, "--cluster", "kubeconfig", "--selector", "none"], {"nodes", "kubernetes"}),
    ],
)
def test_file_is_one_that_a_preview_and_the_schema_accept(tmp_path: Path, argv: list[str], sections: set[str]) -> None:
    status, folder = written(tmp_path, *argv)
    assert status == 0
    (file,) = folder.iterdir()
    assert file.name == f"Pulumi.{argv[1]}.yaml" and file.read_text().startswith(new.SCHEMA_LINE + "\n")
    document = yaml.safe_load(file.read_text())
    assert refused(document) == []
    given = {key.removeprefix("kata-nodes:"): value for key, value in document["config"].items()}
    assert set(given) == sections
    model.load(given.get)


def test_answers_at_a_terminal_come_to_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "asked").mkdir()
    (tmp_path / "given").mkdir()
    written(tmp_path / "asked", said=["rack", "existing", "192.0.2.7", "", HOST_KEY, "", "", IMAGE[1]])
    written(tmp_path / "given", *EXISTING)
    asked, given = (tmp_path / name / "Pulumi.rack.yaml" for name in ("asked", "given"))
    assert asked.read_text() == given.read_text()


def test_file_that_exists_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Pulumi.lab.yaml").write_text("mine")
    assert written(tmp_path, "--name", "lab", "--nodes", "cluster", *IMAGE)[0] == 1
    assert (tmp_path / "Pulumi.lab.yaml").read_text() == "mine"
    assert "exists and was left as it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--nodes", "cluster"], "--name is missing"),
        (["--name", "../x", "--nodes", "cluster", *IMAGE], "Use a-z"),
        (["--name", "lab", "--nodes", "cluster"], "--proof-image is missing"),
        (["--name", "lab", "--nodes", "existing", "--address", "a"], "--host-key is missing"),
        ([*MACHINE[:-1], "ssh-rsa AAAA", *IMAGE], "hostKey"),
        ([*AWS[:-1], "0.0.0.0/0", *IMAGE], "[aws-ssh-networks]"),
        ([*AWS, "--instance-type", "m7g.metal", *IMAGE], "[aws-instance-type]"),
        (["--name", "lab", "--nodes", "cluster", "--selector", "none"], "nothing would be proven"),
        (["--name", "lab", "--nodes", "cluster", "--user", "root"], "--user has no meaning"),
        (["--name", "here", "--nodes", "local", "--selector", "a=b"], "--selector has no meaning"),
    ],
)
def test_refused_answers_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str) -> None:
    assert written(tmp_path, *argv)[0] == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_tells_which_secrets_are_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, *EXISTING)
    told = capsys.readouterr().out + (tmp_path / "Pulumi.rack.yaml").read_text()
    for key in ("sshPrivateKey", "kubeconfig"):
        assert told.count(f"pulumi config set --secret kata-nodes:{key} --stack rack") == 2
