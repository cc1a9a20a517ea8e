"""The verb `effective`. Lost if these fail: the one place that shows a person why Kata does not read what they wrote."""

import argparse
import json
from pathlib import Path

import pytest

from nodekit.commands.effective import arguments, run, text
from nodekit.commands.kata import run as bring
from nodekit.errors import NodeError
from nodekit.rules.kata.kata_layout import MANAGED_MARK
from tests.nodekit.kata_files import put, setting
from tests.nodekit.kata_release import BASE, CONFIG, FOLDER, tree
from tests.nodekit.test_kata_command import SEED, ZERO, state

ETC = "/etc/kata-containers/configuration.toml"
KEYS = {
    *("runtime", "hypervisor", "version", "shim", "configFile", "resolvedFile", "chosenBy", "dropIns", "kernelParams"),
    *("parameters", "kernelParamsFrom", "sources", "launchers", "dead", "notes", "write", "refusals"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The seed's file over a release, and Docker naming the release's."""
    put(tmp_path, f"{FOLDER}/configuration-qemu.toml", CONFIG.replace(BASE, f"{BASE} {SEED}"))
    put(tmp_path, "/opt/kata/VERSION", "3.32.0")
    put(tmp_path, ETC, setting("seed"))
    entry = {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": f"/{FOLDER}/configuration-qemu.toml"}}
    put(tmp_path, "/etc/docker/daemon.json", json.dumps({"runtimes": {"kata": entry}}))
    return tmp_path


def test_the_document_says_what_is_read_and_why_and_changes_nothing(root: Path) -> None:
    before = tree(root)
    document = run(root, runtime="go", hypervisor="qemu", config_path=None)
    assert tree(root) == before and set(document) == KEYS
    assert json.loads(json.dumps(document)) == document
    assert (
        document["configFile"] == document["resolvedFile"] == document["kernelParamsFrom"] == f"/{FOLDER}/configuration-qemu.toml"
    )
    assert [(parameter["text"], parameter["inert"] is None) for parameter in document["parameters"]] == [  # type: ignore[attr-defined]
        *((token, True) for token in BASE.split()),
        (SEED, False),
    ]
    assert document["launchers"] == [
        {"name": "docker runtime kata", "file": "/etc/docker/daemon.json", "configPath": f"/{FOLDER}/configuration-qemu.toml"}
    ]
    assert [entry["path"] for entry in document["dead"]] == [ETC]  # type: ignore[attr-defined]
    assert document["sources"]["kernel"] == f"/{FOLDER}/configuration-qemu.toml"  # type: ignore[index]


@pytest.mark.parametrize(("version", "strategy"), [("3.32.0", "drop-in"), ("2.4.3", "edit")])
def test_it_names_the_file_that_the_program_then_writes(root: Path, version: str, strategy: str) -> None:
    put(root, "/opt/kata/VERSION", version)
    write = run(root, runtime="go", hypervisor="qemu", config_path=None)["write"]
    result = bring(state([ZERO], version=version), root)
    assert write == {"file": result["written"], "strategy": strategy, "reason": write["reason"]}  # type: ignore[index]


def test_where_the_program_would_refuse_the_reason_stands_in_place_of_the_file(root: Path) -> None:
    put(root, "/opt/kata/VERSION", "2.4.3")
    put(root, f"{FOLDER}/configuration-qemu.toml", f"# {MANAGED_MARK}\n{CONFIG}")
    document = run(root, runtime="go", hypervisor="qemu", config_path=None)
    assert document["write"]["file"] is None and "Upgrade Kata" in document["write"]["reason"]  # type: ignore[index]
    assert "to change      not possible\n" in text(document)


def test_people_read_every_dead_file_with_its_reason(root: Path) -> None:
    put(root, f"{FOLDER}/config.d/50-a.bak", setting(f"{BASE} {ZERO}"))
    document = run(root, runtime="go", hypervisor="qemu", config_path=None)
    output = text(document)
    assert output.endswith("\n") and "\n\n" not in output
    for entry in document["dead"]:  # type: ignore[attr-defined]
        assert f"{entry['path']}: {entry['reason']}\n" in output
    for part in (
        document["chosenBy"],
        document["kernelParams"],
        "50-a.bak looks like a leftover",
        "forbids user namespaces",
        "docker runtime kata",
    ):
        assert str(part) in output
    assert {line[:15].strip() for line in output.splitlines()} == {
        *("", "runtime", "shim", "file", "drop-ins", "kernel_params", "to change", "launchers", "refused", "dead", "notes")
    }


def test_the_path_on_the_command_line_comes_before_docker_s(root: Path) -> None:
    parser = argparse.ArgumentParser()
    arguments(parser)
    options = vars(parser.parse_args(["--config-path", ETC]))
    assert options == {"runtime": "go", "hypervisor": "qemu", "config_path": ETC}
    assert run(root, **options)["kernelParams"] == "seed"
    assert vars(parser.parse_args(["--runtime", "rust", "--hypervisor", "firecracker"]))["config_path"] is None
    with pytest.raises(NodeError) as caught:
        run(root, runtime="rust", hypervisor="qemu", config_path="/nowhere.toml")
    assert caught.value.code == "kata-not-found" and "/nowhere.toml" in caught.value.message
