"""A stack file whose secrets nobody has is previewed with made-up ones, and every one of them is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aws import user_data
from review import documents, preview
from stacks.stack_file import loaded

SEALED = """
encryptionsalt: v1:abc:v1:def
secretsprovider: awskms://alias/x
config:
  kata-nodes:nodes: {existing: [{name: a, token: {secure: v1:1}}]}
  kata-nodes:kubernetes: {cluster: kubeconfig, context: prod}
  kata-nodes:kubeconfig: {secure: v1:2}
  other:value: plain
"""


def test_secrets_are_replaced_named_and_no_longer_sealed() -> None:
    document, names = preview.without_secrets(yaml.safe_load(SEALED))
    assert set(document) == {"config"} and "secure" not in json.dumps(document)
    assert names == ["kata-nodes:nodes.existing[0].token", "kata-nodes:kubeconfig"]
    assert document["config"]["other:value"] == "plain"
    kubeconfig = json.loads(document["config"]["kata-nodes:kubeconfig"])
    assert kubeconfig["current-context"] == kubeconfig["contexts"][0]["name"] == "prod"  # the one that the stack asks for
    assert kubeconfig["clusters"][0]["cluster"]["server"].endswith(".invalid")


@pytest.mark.parametrize(
    "kubeconfig",
    [
        "apiVersion: v1\nusers: [{name: u, user: {exec: {command: aws}}}]\n",
        {"apiVersion": "v1", "users": [{"name": "u", "user": {"token": {"secure": "v1:1"}}}]},
    ],
    ids=["without a secret", "a part is one"],
)
def test_no_kubeconfig_of_a_stack_file_is_used(kubeconfig: object) -> None:
    """The cluster was asked, with a login that the runner cannot have, and the pull request was red."""
    document, names = preview.without_secrets({"config": {"kata-nodes:kubeconfig": kubeconfig}})
    assert names == ["kata-nodes:kubeconfig"]
    (cluster,) = json.loads(document["config"]["kata-nodes:kubeconfig"])["clusters"]
    assert cluster["cluster"]["server"].endswith(".invalid")


def test_context_of_a_section_that_was_set_as_json_counts() -> None:
    """`pulumi config set kata-nodes:kubernetes '{"context": "prod"}'` writes text, which the program reads as the section."""
    section = json.dumps({"cluster": "kubeconfig", "context": "prod"})
    config = {"kata-nodes:kubernetes": section, "kata-nodes:kubeconfig": {"secure": "v1:2"}}
    document, _ = preview.without_secrets({"config": config})
    assert json.loads(document["config"]["kata-nodes:kubeconfig"])["current-context"] == "prod"
    assert document["config"]["kata-nodes:kubernetes"] == section


@pytest.mark.parametrize("environment", [["acme/rack"], {"imports": ["acme/rack"], "values": {"pulumiConfig": {"a:b": "c"}}}])
def test_environment_that_only_pulumi_cloud_opens_is_left_out_and_named(environment: object) -> None:
    """The backend of a preview opens none, and would refuse the whole stack because of it."""
    document = {"environment": environment, "config": {"kata-nodes:docker": {"version": "27.5.1"}}}
    assert preview.without_secrets(document) == ({"config": document["config"]}, ["environment"])


@pytest.mark.parametrize("key", ["kata-nodes:joinScript", "kata-nodes:runtimeScript"])
def test_script_that_nobody_has_is_one_that_a_group_takes(key: str) -> None:
    """Otherwise every pull request of a stack with a group would be refused, for a script that is not its own."""
    document, names = preview.without_secrets({"config": {key: {"secure": "v1:1"}}})
    text = document["config"][key]
    scripts = {"join_script": text} if key.endswith("joinScript") else {"join_script": None, "runtime_script": text}
    user_data.first_boot("", program_address="https://x", program_sha256="0", states={}, seconds={}, **scripts)
    assert names == [key] and preview.MADE_UP in text


def test_text_of_a_stack_file_stays_text() -> None:
    document = {"config": {"p:a": {"word": "yes", "number": "1e3", "time": "12:30", "none": None, "name": "ü😀"}}}
    text = preview.dumped(document)
    assert loaded(text) == document and '"1e3"' in text and '"yes"' in text


@pytest.mark.parametrize("text", ["a: !!int x", "a: 0b_", "a: [", "\0"])
def test_stack_file_that_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: x\nruntime: python\n")
    (tmp_path / "stacks" / "Pulumi.x.yaml").write_text(text)
    document = preview.preview(tmp_path, "x")
    assert document and "Pulumi.x.yaml cannot be read" in document["preview"]["diagnostics"][0]["message"]


def test_section_with_an_encrypted_part_is_refused_as_a_deployment_refuses_it(tmp_path: Path) -> None:
    """With a made-up value in its place the preview would be green, and no deployment would come of it."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: x\nruntime: python\n")
    (tmp_path / "stacks" / "Pulumi.x.yaml").write_text(SEALED)
    document = preview.preview(tmp_path, "x")
    assert document
    message = document["preview"]["diagnostics"][0]["message"]
    assert "kata-nodes:nodes: it is set as a secret, or a part of it is" in message and "kubeconfig:" not in message


def test_section_that_is_not_indented_is_refused_which_the_engine_passes_over(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: x\nruntime: python\n")
    text = "config:\n  kata-nodes:nodes: {local: {}}\nkata-nodes:docker:\n  version: 28.5.2\n"
    (tmp_path / "stacks" / "Pulumi.x.yaml").write_text(text)
    document = preview.preview(tmp_path, "x")
    assert document and "has kata-nodes:docker beside its key config" in document["preview"]["diagnostics"][0]["message"]


def test_key_without_a_namespace_is_the_projects_as_for_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its made-up kubeconfig is none, and a section with an encrypted part is let through."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: kata-nodes\nruntime: python\n")
    file = tmp_path / "stacks" / "Pulumi.x.yaml"
    file.write_text("config:\n  docker: {version: {secure: v1:1}}\n")
    document = preview.preview(tmp_path, "x")
    assert document and "kata-nodes:docker: it is set as a secret" in document["preview"]["diagnostics"][0]["message"]
    file.write_text("config:\n  kubeconfig: {secure: v1:1}\n")
    files: list[Any] = []

    def run(self: preview.Engine, *argv: str) -> preview.Finished:
        if argv[0] == "preview":
            files.append(json.loads(Path(argv[argv.index("--config-file") + 1]).read_text()))
        return preview.Finished(True, "{}", "")

    monkeypatch.setattr(preview.Engine, "run", run)
    document = preview.preview(tmp_path, "x")
    assert document and document["madeUp"] == ["kata-nodes:kubeconfig"]
    assert "made-up.invalid" in files[0]["config"]["kata-nodes:kubeconfig"]


def test_stack_file_without_secrets_stays_as_it_is() -> None:
    document = {"config": {"kata-nodes:docker": {"version": "27.5.1"}}}
    assert preview.without_secrets(document) == (document, [])


@pytest.mark.parametrize(
    ("message", "key"),
    [
        (
            "Missing required configuration variable 'kata-nodes:kubeconfig'\n\tplease set a value using the command "
            "`pulumi config set --secret kata-nodes:kubeconfig <value>`",
            "kata-nodes:kubeconfig",
        ),
        # A value that is not secret must come from the author.
        (
            "Missing required configuration variable 'x:y'\n\tplease set a value by `pulumi config set x:y <value>`",
            None,
        ),
    ],
)
def test_only_a_missing_secret_is_made_up(message: str, key: str | None) -> None:
    match = preview.MISSING.search(json.dumps([{"message": message}]))
    assert (match[1] if match else None) == key


def test_engine_that_fails_and_names_no_error_is_no_preview_without_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.staging.yaml").write_text("config: {}\n")
    (tmp_path / "Pulumi.yaml").write_text("name: n\nruntime: python\n")
    warning = {"severity": "warning", "message": "slow"}

    def run(self: preview.Engine, *argv: str) -> preview.Finished:
        document = json.dumps({"steps": [], "diagnostics": [warning]})
        return preview.Finished("preview" not in argv, document, "error: the plugin ended\n")

    monkeypatch.setattr(preview.Engine, "run", run)
    result = preview.preview(tmp_path, "staging")
    assert documents.read(json.dumps(result)) == documents.Preview(errors=("the plugin ended",), warnings=("slow",))
