"""The scripts of the workflows, run for real: the engine, git and an API server are real, only GitHub's command stands in.

What would be lost if these failed: a fork's pull request without a preview, a deployment that does what nobody approved, or
drift that nobody hears of.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from local import cluster
from review import comment
from stacks.configuration import load
from tests.e2e.checkout import REPOSITORY, Checkout
from tests.review.conftest import GitHub, git
from tests.serving import running
from tools import get

engine = pytest.mark.engine
NONE = {"PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_HOME", "VIRTUAL_ENV"}


def script(folder: Path, name: str, *argv: object, ok: bool = True, **variables: str) -> str:
    """Run a script of the checkout in `folder` without any secret of ours; all that it prints."""
    environment = {key: value for key, value in os.environ.items() if key not in NONE}
    # Set-up keys its virtual environment by the Python that it finds; a runner has the machine's own.
    own = str(Path(sys.prefix) / "bin")
    environment["PATH"] = ":".join(directory for directory in environment["PATH"].split(":") if directory != own)
    result = subprocess.run(
        [folder / ".github" / "scripts" / name, *map(str, argv)],
        cwd="/", env={**environment, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    print(result.stdout)
    assert (result.returncode == 0) == ok, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose first commit is this checkout."""
    folder = Checkout(tmp_path_factory.mktemp("clone")).folder
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "base")
    return folder


def test_every_stack_file_is_in_the_matrix(tmp_path: Path) -> None:
    files = {file.name.split(".")[1] for file in (REPOSITORY / "stacks").glob("Pulumi.*.yaml")}
    name, _, value = script(REPOSITORY, "stacks").partition("=")
    assert name == "stacks" and set(json.loads(value)) == files


@pytest.mark.parametrize("name", ['a"],x=["b', "$(id)", "A", "-a", "a b", "a" * 43])
def test_stack_file_with_a_name_that_could_do_harm_is_refused(tmp_path: Path, name: str) -> None:
    shutil.copytree(REPOSITORY / ".github", tmp_path / ".github")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / f"Pulumi.{name}.yaml").touch()
    output = script(tmp_path, "stacks", ok=False)
    assert "small letters, digits and dashes" in output and "stacks=" not in output
    assert "no such stack" in script(tmp_path, "plan", name, tmp_path, ok=False, GITHUB_STEP_SUMMARY="/dev/null")


def test_stack_whose_deployment_would_need_no_approval_is_refused(tmp_path: Path) -> None:
    """The environment staging-plan has the secrets of staging, and no reviewers."""
    shutil.copytree(REPOSITORY / ".github", tmp_path / ".github")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.staging-plan.yaml").touch()
    output = script(tmp_path, "plan", "staging-plan", tmp_path, ok=False, GITHUB_STEP_SUMMARY="/dev/null")
    assert "stack staging-plan cannot be deployed: its name ends with -plan" in output


def test_plan_that_a_policy_refused_is_not_shown_as_what_will_be_done(tmp_path: Path) -> None:
    """The engine's document holds every step then, and no error: a policy of an organization is not in it."""
    shutil.copytree(REPOSITORY / ".github", tmp_path / ".github")
    for name, text in {
        "stacks/Pulumi.staging.yaml": "",
        "tools/env": f"#!/bin/sh\necho 'export PATH={tmp_path}/bin:{sys.prefix}/bin:$PATH PYTHONPATH={REPOSITORY}'\n",
        "bin/pulumi": f"#!/bin/sh\ncat {Path(__file__).parent / 'head.json'}\nexit 255\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script(tmp_path, "plan", "staging", tmp_path, ok=False, GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    summary = (tmp_path / "summary").read_text()
    assert "**Refused: the preview failed" in summary and "ended with exit code 255" in summary and "**Nodes**" not in summary
    assert "After approval" not in summary


def test_longest_name_of_a_stack_can_be_commented_on(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / ".github", tmp_path / ".github")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / f"Pulumi.{'a' * 42}.yaml").touch()
    assert script(tmp_path, "stacks") == f'stacks=["{"a" * 42}"]\n'
    assert comment.STACK.fullmatch("a" * 42) and not comment.STACK.fullmatch("a" * 43)


class Cloud(BaseHTTPRequestHandler):
    """Pulumi Cloud, as far as a stack is looked for: the token is Ann's, and no stack exists."""

    paths: ClassVar[list[str]]
    """What was asked for; each test has a class of its own, since a request may come late."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.paths.append(path)
        known = {
            "/api/user": {"githubLogin": "ann", "organizations": [{"githubLogin": "ann"}, {"githubLogin": "acme"}]},
            "/api/user/organizations/default": {"GitHubLogin": "ann"},
            "/api/capabilities": {"capabilities": []},
        }
        answer = json.dumps(known.get(path, {"code": 404, "message": "Not Found"})).encode()
        self.send_response(200 if path in known else 404)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@engine
@pytest.mark.parametrize("argv", [("plan", "staging"), ("deploy", "staging"), ("drift", "staging")], ids=lambda argv: argv[0])
@pytest.mark.parametrize("owner", ["ann", "acme"])
def test_stack_is_looked_for_where_its_organization_has_it(tmp_path: Path, argv: tuple[str, str], owner: str) -> None:
    paths: list[str] = []
    with running(ThreadingHTTPServer(("127.0.0.1", 0), type("Cloud", (Cloud,), {"paths": paths}))) as server:
        variables = {
            "PULUMI_BACKEND_URL": f"http://127.0.0.1:{server.server_port}", "PULUMI_ACCESS_TOKEN": "pul-t",
            "PULUMI_ORGANIZATION": "" if owner == "ann" else owner,
            "PULUMI_HOME": str(tmp_path / "home"), "GITHUB_STEP_SUMMARY": "/dev/null",
        }  # fmt: skip
        output = script(REPOSITORY, *argv, *([] if argv[0] == "drift" else [tmp_path / "plan"]), ok=False, **variables)
    assert "no stack named 'staging' found" in output
    assert [path for path in paths if "/stacks/" in path] == [f"/api/stacks/{owner}/kata-nodes/staging"]


@engine
def test_fork_without_any_secret_gets_its_comment(clone: Path, tmp_path: Path, github: GitHub) -> None:
    file = clone / "stacks" / "Pulumi.staging.yaml"
    before = file.read_text()
    changed = before.replace("27.5.1", "28.5.2").replace(
        "kernelParams: []", "kernelParams: [sysctl.user.max_user_namespaces=20000]"
    )
    file.write_text(changed)
    git(clone, "commit", "--quiet", "--all", "--message", "head")
    script(clone, "preview", "staging", 7, tmp_path / "uploads")
    assert file.read_text() == changed  # neither preview writes into the checkout
    assert sorted(entry.name for entry in (tmp_path / "uploads" / "staging").iterdir()) == ["base.json", "head.json", "number"]
    subprocess.run([sys.executable, "-m", "review.post", tmp_path / "uploads"], cwd=clone, check=True)
    ((_, _, body),) = github.writes()
    words = "Docker `27.5.1` → `28.5.2`; kernel_params gain `sysctl.user.max_user_namespaces=20000`; proven again"
    assert f"- node `staging-1`: {words}\n" in body["body"]
    assert "Nodes (1): **1 to change** · Cluster: **1 to change** · Other resources: **no change**" in body["body"]
    proof = "the proof of the cluster's nodes `proof`: kernel_params gain `sysctl.user.max_user_namespaces=20000`"
    assert f"- change {proof}\n" in body["body"]
    assert "Made-up values stood for the secrets `kata-nodes:kubeconfig`" in body["body"]
    git(clone, "reset", "--quiet", "--hard", "HEAD^")


@engine
def test_stack_that_only_its_cluster_could_be_asked_about_gets_its_comment(clone: Path, tmp_path: Path, github: GitHub) -> None:
    """The made-up kubeconfig leads to no cluster: the preview was red, and the comment said that this one does not answer."""
    file = clone / "stacks" / "Pulumi.lab.yaml"
    kubernetes = {"kataDeploy": {}, "adoptNamespace": True, "proof": {"selector": "a=b", "image": "proof@sha256:0"}}
    for message, cpu in (("base", "1"), ("head", "2")):
        config = {"kata-nodes:kubernetes": {**kubernetes, "pod": {"cpu": cpu}}}
        file.write_text(json.dumps({"config": config}))
        git(clone, "add", file)
        git(clone, "commit", "--quiet", "--message", message)
    script(clone, "preview", "lab", 7, tmp_path / "uploads")
    subprocess.run([sys.executable, "-m", "review.post", tmp_path / "uploads"], cwd=clone, check=True)
    ((_, _, body),) = github.writes()
    assert "Nodes (0): **no change** · Cluster: **1 to change** · Other resources: **no change**" in body["body"]
    assert "change `PodTemplate` `nested-sandbox`" in body["body"] and "No node, cluster or state was asked." in body["body"]
    git(clone, "reset", "--quiet", "--hard", "HEAD^^")


@engine
def test_local_stack_is_previewed_and_compared_at_one_place(clone: Path, tmp_path: Path, github: GitHub) -> None:
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "head")
    script(clone, "preview", "local", 7, tmp_path / "uploads")
    subprocess.run([sys.executable, "-m", "review.post", tmp_path / "uploads"], cwd=clone, check=True)
    ((_, _, body),) = github.writes()
    # Inputs hold paths of the checkout: two places would differ in every one of them.
    assert "Nodes (1): **no change** · Cluster: **no change** · Other resources: **no change**" in body["body"]
    git(clone, "reset", "--quiet", "--hard", "HEAD^")


@engine
def test_refused_head_ends_red_and_is_told_with_its_code(clone: Path, tmp_path: Path, github: GitHub) -> None:
    file = clone / "stacks" / "Pulumi.staging.yaml"
    file.write_text(file.read_text().replace("27.5.1", "29.5.0").replace("3.32.0", "3.27.0"))
    git(clone, "commit", "--quiet", "--all", "--message", "head")
    script(clone, "preview", "staging", 7, tmp_path / "uploads", ok=False)
    subprocess.run([sys.executable, "-m", "review.post", tmp_path / "uploads"], cwd=clone, check=True)
    ((_, _, body),) = github.writes()
    refused = body["body"].index("**Refused")
    assert refused < body["body"].index("Docker 29.5.0 does not work with the Go shim of Kata 3.27.0")
    assert "- `docker-kata-incompatible`: The pair of Docker and Kata is known to break." in body["body"]
    git(clone, "reset", "--quiet", "--hard", "HEAD^")


PROGRAM = """
import pulumi
from pulumi_command import local
config = pulumi.Config()
first = local.Command("first", create="echo " + config.require("said"), environment={"KEY": config.require_secret("key")})
node = pulumi.ComponentResource("kata-nodes:index:KataNode", "n", {"plan": {"node": "n"}})
local.Command("n-converge", create="echo " + config.require("said"), opts=pulumi.ResourceOptions(parent=node))
if config.get_bool("late"):
    first.stdout.apply(lambda _: local.Command("inner", create="true") and None)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose program is small and whose stack `small` has a secret."""
    checkout = Checkout(tmp_path_factory.mktemp("small"))
    (checkout.folder / "__main__.py").write_text(PROGRAM)
    checkout.pulumi("stack", "init", "small")
    checkout.pulumi("config", "set", "--stack", "small", "said", "one")
    checkout.pulumi("config", "set", "--stack", "small", "--secret", "key", "PLANTED-KEY")
    return checkout


def settings(checkout: Checkout, tmp_path: Path) -> dict[str, str]:
    """What the scripts get from the workflow: the summary's file, and the backend of the stack."""
    names = ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE_FILE")
    variables = {name: checkout.environment[name] for name in names if name in checkout.environment}
    return {**variables, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}


@engine
def test_what_was_approved_is_done(small: Checkout, tmp_path: Path) -> None:
    variables = settings(small, tmp_path)
    script(small.folder, "plan", "small", tmp_path, **variables)
    assert "create `command:local:Command` `first`" in (tmp_path / "summary").read_text()
    assert "PLANTED" not in (tmp_path / "summary").read_text() + (tmp_path / "plan.json").read_text()
    script(small.folder, "deploy", "small", tmp_path, **variables)
    assert "command:local:Command" in small.pulumi("stack", "--stack", "small")


@engine
def test_node_whose_commands_alone_change_is_a_node_of_the_plan(small: Checkout, tmp_path: Path) -> None:
    """The engine leaves out a component that stays the same, as the nodes of which only the program is another one."""
    variables = settings(small, tmp_path)
    script(small.folder, "plan", "small", tmp_path, **variables)
    script(small.folder, "deploy", "small", tmp_path, **variables)
    (tmp_path / "summary").unlink()
    small.pulumi("config", "set", "--stack", "small", "said", "three")
    script(small.folder, "plan", "small", tmp_path, **variables)
    small.pulumi("config", "set", "--stack", "small", "said", "one")
    assert "- node `n`: its commands change\n" in (tmp_path / "summary").read_text()


@engine
def test_what_was_not_approved_is_refused_with_what_to_do(small: Checkout, tmp_path: Path) -> None:
    variables = settings(small, tmp_path)
    script(small.folder, "plan", "small", tmp_path, **variables)
    small.pulumi("config", "set", "--stack", "small", "said", "two")
    output = script(small.folder, "deploy", "small", tmp_path, ok=False, **variables)
    assert "violates plan" in output and "Start the deployment again, and read and approve its new plan" in output
    assert "echo two" not in small.pulumi("stack", "export", "--stack", "small")
    script(small.folder, "plan", "small", tmp_path, **variables)
    small.pulumi("config", "set", "--stack", "small", "late", "true")
    script(small.folder, "deploy", "small", tmp_path, ok=False, **variables)


@engine
def test_plan_that_fails_is_shown_and_ends_red(small: Checkout, tmp_path: Path) -> None:
    small.pulumi("config", "rm", "--stack", "small", "said")
    script(small.folder, "plan", "small", tmp_path, ok=False, **settings(small, tmp_path))
    small.pulumi("config", "set", "--stack", "small", "said", "one")
    assert "**Refused" in (tmp_path / "summary").read_text()
    assert "Missing required configuration variable" in (tmp_path / "summary").read_text()


@pytest.mark.parametrize("name", ["nowhere", "../local", "--help", "local; id"])
def test_stack_that_is_none_is_neither_planned_nor_run(tmp_path: Path, name: str) -> None:
    assert "no such stack" in script(REPOSITORY, "plan", name, tmp_path, ok=False, GITHUB_STEP_SUMMARY="/dev/null")


CLUSTER_PROGRAM = """
import pulumi
import pulumi_kubernetes as k8s
provider = k8s.Provider("cluster", kubeconfig=pulumi.Config().require("kubeconfig"))
labels = {"kept": "as-deployed"}
where = pulumi.ResourceOptions(provider=provider)
k8s.node.v1.RuntimeClass("x", metadata={"name": "drifting", "labels": labels}, handler="kata", opts=where)
"""


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A real API server, gone afterwards."""
    request: dict[str, Any] = {"directory": str(tmp_path / "cluster")}
    request |= {"etcd": str(get.path("etcd")), "apiserver": str(get.path("kube-apiserver"))}
    yield cluster.up(request)
    cluster.down(request)


@engine
@pytest.mark.timeout(600)
def test_drift_of_a_real_cluster_opens_an_issue_and_its_end_closes_it(
    tmp_path: Path, github: GitHub, api_server: dict[str, Any]
) -> None:
    from kubernetes import client, config

    (tmp_path / "checkout").mkdir()
    checkout = Checkout(tmp_path / "checkout")
    (checkout.folder / "__main__.py").write_text(CLUSTER_PROGRAM)
    checkout.pulumi("stack", "init", "drifting")
    checkout.pulumi("config", "set", "--stack", "drifting", "kubeconfig", stdin=str(api_server["kubeconfig"]))
    checkout.pulumi("up", "--yes", "--skip-preview", "--stack", "drifting")
    variables = settings(checkout, tmp_path)
    assert "none; issue not needed" in script(checkout.folder, "drift", "drifting", **variables)

    api = client.NodeV1Api(config.new_client_from_config_dict(json.loads(str(api_server["kubeconfig"]))))
    api.patch_runtime_class("drifting", {"metadata": {"labels": {"kept": "by-hand"}}})
    assert "found; issue opened" in script(checkout.folder, "drift", "drifting", **variables)
    ((_, _, body),) = github.writes()
    assert "changed: `RuntimeClass` `drifting`: `metadata.labels.kept` `as-deployed` → `by-hand`" in body["body"]

    github.answer("repos/o/r/issues", [{"number": 3, "user": {"login": "github-actions[bot]"}, "body": body["body"]}])
    api.patch_runtime_class("drifting", {"metadata": {"labels": {"kept": "as-deployed"}}})
    assert "none; issue closed" in script(checkout.folder, "drift", "drifting", **variables)
    assert github.writes()[-1][2]["state"] == "closed"

    api.delete_runtime_class("drifting")
    assert "found; issue brought up to date" in script(checkout.folder, "drift", "drifting", **variables)
    assert "gone: `RuntimeClass` `drifting`" in github.writes()[-1][2]["body"]

    # A cluster that cannot be read is not a cluster without drift.
    before = len(github.calls())
    cluster.halt(tmp_path / "cluster")
    assert "nothing is known" in script(checkout.folder, "drift", "drifting", ok=False, **variables)
    assert len(github.calls()) == before


BEHIND_A_PROOF = """
import pulumi
import pulumi_kubernetes as k8s
from pulumi_command import local
config = pulumi.Config()
proof = local.Command("proof", create="true")
known = pulumi.Output.all(config.require("kubeconfig"), proof.stdout).apply(lambda both: both[0])
provider = k8s.Provider("cluster", kubeconfig=known, cluster_identifier="c", enable_server_side_apply=False)
where = pulumi.ResourceOptions(provider=provider, depends_on=[proof])
k8s.node.v1.RuntimeClass("x", metadata={"name": "behind"}, handler="kata", scheduling={"tolerations": []}, opts=where)
"""


@engine
@pytest.mark.timeout(600)
def test_what_comes_after_a_proof_is_done_by_a_second_plan(tmp_path: Path, api_server: dict[str, Any]) -> None:
    (tmp_path / "checkout").mkdir()
    checkout = Checkout(tmp_path / "checkout")
    (checkout.folder / "__main__.py").write_text(BEHIND_A_PROOF)
    checkout.pulumi("stack", "init", "behind")
    checkout.pulumi("config", "set", "--stack", "behind", "kubeconfig", stdin=str(api_server["kubeconfig"]))
    variables = settings(checkout, tmp_path)
    script(checkout.folder, "plan", "behind", tmp_path, **variables)
    assert "this happens once" in script(checkout.folder, "deploy", "behind", tmp_path, ok=False, **variables)
    assert "RuntimeClass" not in checkout.pulumi("stack", "--stack", "behind")
    script(checkout.folder, "plan", "behind", tmp_path, **variables)
    script(checkout.folder, "deploy", "behind", tmp_path, **variables)
    assert "RuntimeClass" in checkout.pulumi("stack", "--stack", "behind")


@pytest.fixture
def release(tmp_path: Path, github: GitHub) -> dict[str, str]:
    """What the test on a real machine reads about it and about Kata's release."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE"
    (tmp_path / "host.pub").write_text(f"{key} root@runner\n")
    github.answer(
        "repos/kata-containers/kata-containers/releases/tags/3.32.0",
        f"kata-static-3.32.0-amd64.tar.zst sha256:{'0a' * 32}\n",
    )
    return {"E2E_HOST_KEY": str(tmp_path / "host.pub")}


def test_stack_of_the_real_machine_is_one_that_the_program_takes(release: dict[str, str]) -> None:
    document = yaml.safe_load(script(REPOSITORY, "e2e-stack", "28.5.2", "3.32.0", **release))
    config = load({key.removeprefix("kata-nodes:"): value for key, value in document["config"].items()}.get)
    assert config.docker.version == "28.5.2" and config.nodes.existing and config.nodes.existing[0].address == "127.0.0.1"
    assert not isinstance(config.kata.install, str | None) and config.kata.install.sha256 == "0a" * 32


def test_release_that_is_split_is_tested_with_the_archive_of_the_runtime(release: dict[str, str], github: GitHub) -> None:
    """kata-static of 4.1.0 has no shim of the Go runtime, which the stack sets."""
    archives = [f"kata-static-4.1.0-amd64.tar.zst sha256:{'0b' * 32}", f"kata-go-static-4.1.0-amd64.tar.zst sha256:{'0c' * 32}"]
    github.answer("repos/kata-containers/kata-containers/releases/tags/4.1.0", "\n".join(archives))
    document = yaml.safe_load(script(REPOSITORY, "e2e-stack", "28.5.2", "4.1.0", **release))
    config = load({key.removeprefix("kata-nodes:"): value for key, value in document["config"].items()}.get)
    assert config.kata.runtime == "go" and "/kata-go-static-4.1.0-amd64" in str(config.kata.install)


def test_release_without_a_sum_is_refused(release: dict[str, str], github: GitHub) -> None:
    path = "repos/kata-containers/kata-containers/releases/tags/3.32.0"
    for answer in ("", "kata-static-3.32.0-amd64.tar.zst null\n"):
        github.answer(path, answer)
        assert "has no archive" in script(REPOSITORY, "e2e-stack", "28.5.2", "3.32.0", ok=False, **release)


STANDIN = """#!/bin/sh
name=${{0##*/}}
echo "$name $*" >> {folder}/calls
case "$name $*" in
    sudo*) exec "$@" ;;
    "docker version"*) cat {folder}/docker ;;
    "docker run"*) echo "$READING" ;;
    "apt-mark"*) echo docker-ce ;;
    "ssh-keygen"*) for file; do :; done; echo key > "$file"; echo public > "$file.pub" ;;
    "pulumi up"*) [ -z "$FAILS" ] || exit 1; echo 28.5.2 > {folder}/docker ;;
    "pulumi destroy"*) echo 28.0.4 > {folder}/docker ;;
esac
"""


@pytest.mark.parametrize(("reading", "fails", "ok"), [("20000", "", True), ("0", "", False), ("20000", "yes", False)])
def test_real_machine_is_put_back_whatever_happens(
    release: dict[str, str], tmp_path: Path, reading: str, fails: str, ok: bool
) -> None:
    # Only what acts on the machine is a stand-in: the test may not change this machine.
    folder, checkout = tmp_path / "programs", tmp_path / "checkout"
    folder.mkdir()
    for name in ("sudo", "docker", "apt-mark", "apt-get", "systemctl", "ssh-keygen", "pulumi"):
        (folder / name).write_text(STANDIN.format(folder=tmp_path))
        (folder / name).chmod(0o755)
    (tmp_path / "docker").write_text("28.0.4\n")
    shutil.copytree(REPOSITORY / ".github", checkout / ".github")
    for room in ("stacks", "tools"):
        (checkout / room).mkdir()
    (checkout / "tools" / "env").write_text("#!/bin/sh\n")
    (checkout / "tools" / "env").chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path), "READING": reading, "FAILS": fails}
    script(checkout, "e2e", "28.5.2", "3.32.0", ok=ok, **release, **variables)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[1] for line in calls if line.startswith("pulumi")].count("destroy") == 1
    assert (tmp_path / "docker").read_text() == "28.0.4\n"
    assert any(line.startswith("docker run --rm --runtime kata") for line in calls) == (not fails)
