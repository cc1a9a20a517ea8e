"""The workflows keep to the rules by which a pull request can do no harm, and the files of editors and hooks are valid.

What would be lost if these failed: a moved tag would run in a deployment, a pull request's title would run as shell, or a
workflow would hold a token that it does not need.
"""

import fnmatch
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_tiers import TARGETS

REPOSITORY = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
WRITES = {
    ("preview-comment.yml", "pull-requests"), ("drift.yml", "issues"), ("release.yml", "contents"), ("release.yml", "packages"),
    ("release.yml", "id-token"), ("release.yml", "attestations"),
}  # fmt: skip
"""All that any workflow may write on GitHub."""
SECRETS = {"deploy.yml", "drift.yml"}
"""Workflows that may read secrets; none of them runs for a pull request."""
every = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)


def read(file: Path) -> dict[str, Any]:
    """The workflow; YAML 1.1 takes its key `on` for a truth value."""
    document = yaml.safe_load(file.read_text())
    document["on"] = document.pop(True)
    return dict(document)


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Steps of all jobs."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_workflows_are_there() -> None:
    assert {file.name for file in WORKFLOWS} == {
        "ci.yml", "deploy.yml", "drift.yml", "e2e.yml", "nightly.yml", "preview.yml", "preview-comment.yml",
        "release.yml",
    }  # fmt: skip


@every
def test_actions_are_pinned_by_commit_and_each_to_one(file: Path) -> None:
    pins: dict[str, set[str]] = {}
    for workflow_file in WORKFLOWS:
        for line in workflow_file.read_text().splitlines():
            if "uses:" in line:
                match = re.fullmatch(r"\s*(?:- )?uses: ([\w./-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+", line)
                assert match, f"{workflow_file.name}: {line.strip()}"
                pins.setdefault(match[1], set()).add(match[2])
    assert all(len(commits) == 1 for commits in pins.values()), pins


@every
def test_shell_lies_in_scripts_that_are_checked_and_run_in_tests(file: Path) -> None:
    for run in (step["run"] for step in steps(read(file)) if "run" in step):
        assert "\n" not in run.strip() and "${{" not in run
        first = run.split()[0]
        assert first.startswith(".github/scripts/") or run.startswith(("make ", "python3 -m review.", "apt-get update"))
        if first.startswith(".github/"):
            assert (REPOSITORY / first).stat().st_mode & 0o111


@every
def test_permissions_are_the_least_and_every_job_is_bounded(file: Path) -> None:
    workflow = read(file)
    permission_sets = [workflow["permissions"], *(job.get("permissions", {}) for job in workflow["jobs"].values())]
    written = {(file.name, key) for permissions in permission_sets for key, value in permissions.items() if value != "read"}
    assert written <= WRITES
    for name, job in workflow["jobs"].items():
        # One that is cut off leaves nodes cordoned and the state locked, so it gets all that there is.
        assert job["timeout-minutes"] == 360 if name == "deploy" else 0 < job["timeout-minutes"] <= 180
    assert workflow.get("concurrency") or all("concurrency" in job for job in workflow["jobs"].values())


@every
def test_no_checkout_leaves_its_token_behind(file: Path) -> None:
    for step in steps(read(file)):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
            assert "ref" not in step["with"]


@every
def test_no_workflow_of_a_pull_request_reads_a_secret(file: Path) -> None:
    text, workflow = file.read_text(), read(file)
    assert ("secrets." in text) == (file.name in SECRETS)
    events = set(workflow["on"])
    assert "pull_request_target" not in events
    if file.name in SECRETS:
        assert events <= {"workflow_dispatch", "schedule"}
        assert all("environment" in job for job in workflow["jobs"].values())


def test_a_comment_is_written_only_after_a_preview_that_ran() -> None:
    # A run that waits for its approval, as each of a first-time contributor, is `completed` too, with `action_required`.
    condition = read(REPOSITORY / ".github" / "workflows" / "preview-comment.yml")["jobs"]["comment"]["if"]
    conclusions = re.search(r"contains\(fromJSON\('(\[.*?\])'\), github\.event\.workflow_run\.conclusion\)", condition)
    assert conclusions and set(json.loads(conclusions[1])) == {"success", "failure", "timed_out"}


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_what_reads_or_writes_a_state_can_log_in_where_the_guide_says_that_it_may_lie(name: str) -> None:
    login = ("PULUMI_ACCESS_TOKEN", "PULUMI_CONFIG_PASSPHRASE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    environments = [step["env"] for step in steps(read(REPOSITORY / ".github" / "workflows" / name)) if "env" in step]
    for environment in environments:
        assert {key: environment.get(key) for key in login} == {key: f"${{{{ secrets.{key} }}}}" for key in login}
    guide = (REPOSITORY / "docs" / "pull-requests.md").read_text()
    assert environments and all(f"`{key}`" in guide for key in login)


def test_list_without_stacks_is_not_a_run_that_fails_each_night() -> None:
    # GitHub refuses a matrix without values; the list is empty once the last stack is destroyed.
    condition = read(REPOSITORY / ".github" / "workflows" / "drift.yml")["jobs"]["drift"]["if"]
    assert condition == "vars.DEPLOYED_STACKS && vars.DEPLOYED_STACKS != '[]'"


def test_a_deployment_waits_between_plan_and_deed_and_trusts_no_cache() -> None:
    workflow = read(REPOSITORY / ".github" / "workflows" / "deploy.yml")
    plan, deploy = workflow["jobs"]["plan"], workflow["jobs"]["deploy"]
    assert deploy["needs"] == "plan" and plan["environment"] != deploy["environment"]
    assert workflow["concurrency"]["cancel-in-progress"] is False
    for step in steps(workflow):
        assert "actions/cache" not in step.get("uses", "")
        assert step.get("with", {}).get("cache", False) is False


def test_only_a_tag_releases_and_each_job_of_it_writes_only_what_it_makes() -> None:
    workflow = read(REPOSITORY / ".github" / "workflows" / "release.yml")
    assert workflow["on"] == {"push": {"tags": ["v*.*.*"]}} and workflow["permissions"] == {"contents": "read"}
    written = {
        name: {key for key, value in job.get("permissions", {}).items() if value == "write"}
        for name, job in workflow["jobs"].items()
    }
    assert written == {
        "files": {"id-token", "attestations"},
        "image": {"packages"},
        "index": {"packages", "id-token", "attestations"},
        "publish": {"contents"},
    }
    assert workflow["jobs"]["publish"]["environment"] == "release"
    assert set(workflow["jobs"]["publish"]["needs"]) == {"files", "index"}
    assert not any("cache" in step.get("uses", "") for step in steps(workflow)), "a release trusts no cache"


def test_each_night_the_long_forms_run_that_no_change_runs() -> None:
    workflow = read(REPOSITORY / ".github" / "workflows" / "nightly.yml")
    assert "schedule" in workflow["on"]
    assert steps(workflow)[-1]["run"] == ".github/scripts/ci make test-nightly"
    jobs = read(REPOSITORY / ".github" / "workflows" / "ci.yml")["jobs"]
    before = steps(workflow)[:-1]
    (checkout,) = (step for step in before if "fetch-depth" in step.get("with", {}))
    assert checkout["with"].pop("fetch-depth") == 0, "tests/e2e/test_upgrade.py takes the version before from the history"
    assert before == jobs["set-up"]["steps"][:-1] == jobs["tests"]["steps"][:-1]


def test_each_change_runs_every_check_and_every_tier_of_the_tests() -> None:
    jobs = read(REPOSITORY / ".github" / "workflows" / "ci.yml")["jobs"]
    assert set(jobs["tests"]["strategy"]["matrix"]["target"]) == {"lint", "test-python310", "bench-budget", *TARGETS}
    assert jobs["tests"]["needs"] == "set-up" and jobs["tests"]["env"]["TARGET"] == "${{ matrix.target }}"


def test_dependency_updates_look_at_every_lock() -> None:
    updates = yaml.safe_load((REPOSITORY / ".github" / "dependabot.yml").read_text())["updates"]
    looked = {
        update["package-ecosystem"]: [folder.strip("/") for folder in update.get("directories", [update.get("directory", "")])]
        for update in updates
    }
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    locks = {"requirements.txt": "pip", "go.mod": "gomod", "package-lock.json": "npm", "Containerfile": "docker"}
    for file in map(Path, tracked):
        if (kind := locks.get(file.name)) and file.parts[0] != "tests":
            folder = "" if str(file.parent) == "." else str(file.parent)
            assert any(fnmatch.fnmatch(folder, pattern) for pattern in looked[kind]), f"{file}: no update looks at it"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("persist-credentials: false", "clean: true", "artipacked"),
        (
            'run: .github/scripts/preview "$STACK"',
            'run: .github/scripts/preview "${{ github.head_ref }}"',
            "potentially untrusted",
        ),
        ("needs: stacks", "needs: stackz", "stackz"),
        ('"$STACK"', "$STACK", "SC2086"),
    ],
    ids=["token", "injection", "syntax", "shell"],
)
def test_checker_of_workflows_finds_what_it_is_for(tmp_path: Path, old: str, new: str, message: str) -> None:
    for folder in (".github", "tools"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    file = tmp_path / ".github" / "workflows" / "preview.yml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    result = subprocess.run([tmp_path / "tools" / "workflows"], capture_output=True, text=True, check=False)
    assert result.returncode != 0 and message in result.stdout + result.stderr, result.stdout + result.stderr


def test_hooks_before_a_commit_download_nothing() -> None:
    document = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in document["repos"]] == ["local"]
    for hook in document["repos"][0]["hooks"]:
        assert hook["language"] == "system" and 'eval "$(tools/env)"' in hook["entry"]
        assert subprocess.run(["bash", "-n", "-c", hook["entry"]], check=False).returncode == 0


def test_container_for_editors_is_valid_and_sets_itself_up() -> None:
    document = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text())
    program = document["postCreateCommand"].split()[0]
    assert (REPOSITORY / program).stat().st_mode & 0o111
    assert document["image"].startswith("golang:1.26-")  # tools/get.py: GO_NEEDED
