"""What a fork uploads becomes a comment on its own pull request, in our words, or nothing.

What would be lost if these failed: a fork could write as the project, or to another pull request, or read a file of the runner.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.review.conftest import GitHub

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
MARKER = "<!-- kata-nodes preview of stack staging -->"
BOT = {"login": "github-actions[bot]"}
REPOSITORY = HERE.parents[1]


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    """What the previews of one stack upload."""
    folder = tmp_path / "uploads"
    (folder / "staging").mkdir(parents=True)
    (folder / "staging" / "number").write_text("7\n")
    for name in ("base.json", "head.json"):
        shutil.copy(HERE / name, folder / "staging")
    return folder


def run(module: str, *argv: object, ok: bool = True) -> str:
    """The module as a workflow starts it: by a Python that has nothing but its standard library."""
    program = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, '.'); from {module} import main; sys.exit(main())"]
    result = subprocess.run([*program, *map(str, argv)], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    assert (result.returncode == 0) == ok and "Traceback" not in output, output
    return output


def test_comment_is_written_once_and_its_text_is_never_an_argument(uploads: Path, github: GitHub) -> None:
    assert "written" in run("review.post", uploads)
    ((method, path, body),) = github.writes()
    assert (method, path) == ("POST", "repos/o/r/issues/7/comments")
    assert body == {"body": (HERE / "comment.md").read_text()}
    assert all("node" not in argument for argv, _ in github.calls() for argument in argv)


def test_comment_that_is_there_is_brought_up_to_date(uploads: Path, github: GitHub) -> None:
    others: list[dict[str, Any]] = [{"id": n, "user": {"login": "someone"}, "body": "words"} for n in range(130)]
    ours = {"id": 4711, "user": BOT, "body": f"{MARKER}\r\nold"}
    github.answer("repos/o/r/issues/7/comments", [*others, ours])
    assert "brought up to date" in run("review.post", uploads)
    assert [write[:2] for write in github.writes()] == [("PATCH", "repos/o/r/issues/comments/4711")]


@pytest.mark.parametrize(
    "theirs",
    [
        {"id": 1, "user": {"login": "mallory"}, "body": f"{MARKER}\nmine"},
        {"id": 1, "user": None, "body": f"{MARKER}\nmine"},
        {"id": 1, "user": BOT, "body": f"quoting {MARKER}"},
        {"id": 1, "user": BOT, "body": f"words\n{MARKER}"},
        {"id": 1, "user": BOT, "body": MARKER.replace("preview", "plan")},
    ],
)
def test_comment_of_somebody_else_is_left_alone(uploads: Path, github: GitHub, theirs: dict[str, Any]) -> None:
    github.answer("repos/o/r/issues/7/comments", [theirs])
    run("review.post", uploads)
    assert [write[0] for write in github.writes()] == ["POST"]


def test_comment_of_a_stack_that_the_newest_commit_does_not_preview_no_longer_stands_for_it(
    uploads: Path, github: GitHub
) -> None:
    # The stack was renamed, or its job ended before its preview began: its comment is of an earlier commit.
    marker = MARKER.replace("staging", "lab")
    comments = [
        {"id": 1, "user": BOT, "body": f"{marker}\n### Preview of stack lab\n\n1 to create"},
        {"id": 2, "user": {"login": "mallory"}, "body": f"{marker}\nmine"},
        {"id": 3, "user": BOT, "body": "<!-- kata-nodes preview of stack @octocat -->\nwords"},
    ]
    github.answer("repos/o/r/issues/7/comments", comments)
    run("review.post", uploads)
    ((_, path, body),) = [write for write in github.writes() if write[0] == "PATCH"]
    assert path == "repos/o/r/issues/comments/1"
    assert body["body"].startswith(f"{marker}\n") and "no preview" in body["body"] and "to create" not in body["body"]
    github.answer("repos/o/r/issues/7/comments", [{**comments[0], "body": body["body"].replace("\n", "\r\n").strip()}])
    run("review.post", uploads)
    assert len([write for write in github.writes() if write[0] == "PATCH"]) == 1, "it is written once"


def test_comment_of_a_stack_beyond_those_that_get_one_no_longer_stands_for_the_newest_commit(
    uploads: Path, github: GitHub
) -> None:
    for count in range(50):
        shutil.copytree(uploads / "staging", uploads / f"lab-{count}")
    github.answer("repos/o/r/issues/7/comments", [{"id": 1, "user": BOT, "body": f"{MARKER}\n1 to create"}])
    assert "1 more stacks get no comment, from 'staging' on" in run("review.post", uploads)
    ((_, path, body),) = [write for write in github.writes() if write[0] == "PATCH"]
    assert path == "repos/o/r/issues/comments/1" and "50 other stacks" in body["body"]


@pytest.mark.parametrize("pull", [{"head": {"sha": "other"}, "state": "open"}, {"head": {"sha": "new"}, "state": "closed"}])
def test_pull_request_whose_newest_commit_was_not_previewed_gets_nothing(
    uploads: Path, github: GitHub, pull: dict[str, Any]
) -> None:
    github.answer("repos/o/r/pulls/7", pull)
    assert "nothing is posted" in run("review.post", uploads)
    assert github.writes() == []


@pytest.mark.parametrize("number", ["", "0", "7 8", "7/../8", "$(id)", "-1", "7" * 30, "８"])
def test_number_that_is_none_is_refused_before_anything_is_asked(uploads: Path, github: GitHub, number: str) -> None:
    (uploads / "staging" / "number").write_text(number)
    assert "do not name one pull request" in run("review.post", uploads, ok=False)
    assert github.calls() == []


def test_two_numbers_are_refused(uploads: Path, github: GitHub) -> None:
    shutil.copytree(uploads / "staging", uploads / "local")
    (uploads / "local" / "number").write_text("8")
    assert "do not name one pull request" in run("review.post", uploads, ok=False)
    assert github.calls() == []


@pytest.mark.parametrize("name", ["a-->", "@octocat", "A", "x y"])
def test_folder_that_is_no_stack_is_refused(uploads: Path, github: GitHub, name: str) -> None:
    (uploads / "staging").rename(uploads / name)
    assert "not the name of a stack" in run("review.post", uploads, ok=False)
    assert github.writes() == []


@pytest.mark.parametrize("file", ["head.json", "base.json", "number"])
def test_link_out_of_the_upload_is_not_read(uploads: Path, github: GitHub, tmp_path: Path, file: str) -> None:
    (tmp_path / "token").write_text("7" if file == "number" else '{"diagnostics": [{"severity": "error", "message": "runner"}]}')
    (uploads / "staging" / file).unlink()
    (uploads / "staging" / file).symlink_to(tmp_path / "token")
    assert f"{file} is not a file" in run("review.post", uploads, ok=False)
    assert github.writes() == []


def test_folder_that_is_a_link_is_not_read(uploads: Path, github: GitHub, tmp_path: Path) -> None:
    (uploads / "staging").rename(tmp_path / "elsewhere")
    (uploads / "staging").symlink_to(tmp_path / "elsewhere")
    assert "not the name of a stack" in run("review.post", uploads, ok=False)
    assert github.writes() == []


def test_document_of_a_hostile_fork_is_put_into_words_or_called_unreadable(uploads: Path, github: GitHub) -> None:
    (uploads / "staging" / "head.json").write_bytes(b"\xff\x00 @octocat <b>")
    run("review.post", uploads)
    ((_, _, body),) = github.writes()
    assert "ended without a document" in body["body"] and "octocat" not in body["body"]


def test_preview_that_ended_without_its_document_costs_no_other_stack_its_comment(uploads: Path, github: GitHub) -> None:
    # Its runner could not be set up: the folder has the number alone, and an older comment would stand for this commit.
    (uploads / "local").mkdir()
    (uploads / "local" / "number").write_text("7\n")
    run("review.post", uploads)
    first, second = (body["body"] for _, _, body in github.writes())
    assert first.startswith(MARKER.replace("staging", "local")) and "ended without a document" in first
    assert second == (HERE / "comment.md").read_text()


@pytest.mark.parametrize(
    ("server", "option"), [("https://github.com", []), ("https://acme.ghe.com", ["--hostname", "acme.ghe.com"])]
)
def test_github_of_an_enterprise_is_asked_and_not_another_one(
    uploads: Path, github: GitHub, monkeypatch: pytest.MonkeyPatch, server: str, option: list[str]
) -> None:
    """A token of one was sent to the other, which refused it, and no comment was written."""
    monkeypatch.setenv("GITHUB_SERVER_URL", server)
    run("review.post", uploads)
    assert github.writes() and all(argv[4 : 4 + len(option)] == option for argv, _ in github.calls())
    assert option or not any("--hostname" in argv for argv, _ in github.calls())


def test_refusal_of_github_is_told(uploads: Path, github: GitHub) -> None:
    github.answers.pop("repos/o/r/issues/7/comments")
    github.answer("x", 1)
    assert "Not Found" in run("review.post", uploads, ok=False)


def test_runner_without_the_program_of_github_is_told_so(
    uploads: Path, github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert "gh cannot be started" in run("review.post", uploads, ok=False)
    assert "gh cannot be started" in run("review.drift", "staging", document(tmp_path, None), ok=False)


def test_answer_that_is_not_of_github_is_told(uploads: Path, github: GitHub) -> None:
    github.answer("repos/o/r/pulls/7", "<html>a proxy's page</html>")
    assert "not JSON" in run("review.post", uploads, ok=False)


ISSUE = "<!-- kata-nodes drift of stack staging -->"
URN = "urn:pulumi:staging::kata-nodes::kubernetes:core/v1:Namespace::x"
OLD = {"type": "kubernetes:core/v1:Namespace", "custom": True, "outputs": {"metadata": {"labels": {"a": "1"}}}}


def document(tmp_path: Path, labels: dict[str, str] | None, **fields: Any) -> Path:
    """The document of a refresh that finds those labels, or the object gone."""
    new = {"type": OLD["type"], "custom": True, "outputs": {"metadata": {"labels": labels}}}
    op = "refresh" if labels == {"a": "1"} else "update"
    step = {"op": "delete", "urn": URN, "oldState": OLD}
    if labels is not None:
        step = {"op": op, "urn": URN, "oldState": OLD, "newState": new}
    (tmp_path / "document").write_text(json.dumps({"steps": [step], **fields}))
    return tmp_path / "document"


def test_drift_opens_one_issue_that_says_what_differs(tmp_path: Path, github: GitHub) -> None:
    run("review.drift", "staging", document(tmp_path, {"a": "2"}))
    ((method, path, body),) = github.writes()
    assert (method, path) == ("POST", "repos/o/r/issues")
    assert body["title"] == "Stack staging is not what was deployed"
    assert body["body"].startswith(ISSUE) and "`metadata.labels.a` `1` → `2`" in body["body"]


def test_object_that_is_gone_is_drift(tmp_path: Path, github: GitHub) -> None:
    run("review.drift", "staging", document(tmp_path, None))
    ((_, _, body),) = github.writes()
    assert "gone: `Namespace` `x`" in body["body"]


def test_measured_drift_is_reported_without_diffs_and_unread_measurements_leave_the_issue(tmp_path: Path, github: GitHub) -> None:
    differing = {
        "what": "docker-ce is not held @everyone `x`",
        "kind": "hold",
        "diff": "- secret\n+ line",
        "traces": ["run by admin"],
    }
    measured = [
        {"name": "n1", "reached": True, "differences": [differing]},
        {"name": "n2", "reached": False, "cause": "cannot reach it", "differences": []},
    ]
    file = tmp_path / "nodes"
    added = {"what": "guard has matchConditions", "kind": "added", "diff": "- secret\n+ line", "traces": ["run by admin"]}
    refreshed = {"what": "in the refresh as well", "kind": "changed", "diff": "", "traces": []}
    policy = {"kind": "Policy", "name": "p", "reached": True, "differences": [added, refreshed]}
    lost = {"kind": "Job", "name": "j", "reached": False, "cause": "forbidden", "differences": []}
    file.write_text(json.dumps({"nodes": measured, "objects": [policy, lost]}))
    run("review.drift", "staging", document(tmp_path, {"a": "2"}), "--measured", file)
    ((_, _, body),) = github.writes()
    assert (
        "- `n1`: `docker-ce is not held @everyone 'x'`" in body["body"]
        and "`n2`: `not measured: cannot reach it`" in body["body"]
    )
    assert "- `Policy p`: `guard has matchConditions`" in body["body"] and "`Job j`: `not measured: forbidden`" in body["body"]
    assert all(word not in body["body"] for word in ("secret", "admin", "in the refresh"))
    file.write_text("{}")
    assert "could not be read" in run("review.drift", "staging", document(tmp_path, {"a": "1"}), "--measured", file, ok=False)
    assert len(github.writes()) == 1


def test_proof_in_pods_that_is_not_there_keeps_the_issue_open(tmp_path: Path, github: GitHub) -> None:
    """No node and no object tells of it, nor does a refresh: the issue was closed while `kata-nodes drift` ended with 2."""
    file = tmp_path / "nodes"
    file.write_text(json.dumps({"nodes": [], "objects": [], "unfinished": ["proof", 7]}))
    run("review.drift", "staging", document(tmp_path, {"a": "1"}), "--measured", file)
    ((method, _, body),) = github.writes()
    assert method == "POST" and "- `proof`: `the stack holds no proof in pods`" in body["body"]


def test_object_of_which_a_refresh_sees_nothing_keeps_the_issue_open(tmp_path: Path, github: GitHub) -> None:
    """As a namespace that is being deleted, and is still there: the issue was closed while `kata-nodes drift` ended with 2."""
    leaving = {"what": "Namespace p is being deleted since 10:00", "kind": "missing", "repair": None}
    file = tmp_path / "nodes"
    file.write_text(
        json.dumps({"nodes": [], "objects": [{"kind": "Namespace", "name": "p", "reached": True, "differences": [leaving]}]})
    )
    run("review.drift", "staging", document(tmp_path, {"a": "1"}), "--measured", file)
    ((method, _, body),) = github.writes()
    assert method == "POST" and "`Namespace p`: `Namespace p is being deleted since 10:00`" in body["body"]


def test_open_issue_is_brought_up_to_date_and_closed_when_nothing_drifts(tmp_path: Path, github: GitHub) -> None:
    pull = {"number": 1, "user": BOT, "body": ISSUE, "pull_request": {}}
    github.answer("repos/o/r/issues", [pull, {"number": 12, "user": BOT, "body": f"{ISSUE}\nold"}])
    run("review.drift", "staging", document(tmp_path, {"a": "2"}))
    run("review.drift", "staging", document(tmp_path, {"a": "1"}))
    first, second = github.writes()
    assert first[:2] == second[:2] == ("PATCH", "repos/o/r/issues/12")
    assert set(first[2]) == {"body"} and second[2] == {"state": "closed", "state_reason": "completed"}


def test_stack_that_was_never_drifting_gets_no_issue(tmp_path: Path, github: GitHub) -> None:
    assert "not needed" in run("review.drift", "staging", document(tmp_path, {"a": "1"}))
    assert github.writes() == []


def test_stack_that_is_named_with_its_organization_is_refused_in_a_sentence(tmp_path: Path, github: GitHub) -> None:
    output = run("review.drift", "acme/staging", document(tmp_path, {"a": "2"}), ok=False)
    assert "'acme/staging' is none. Name it in DEPLOYED_STACKS as in stacks/" in output and github.calls() == []


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("plan", "--stack", "acme/staging", "--document", HERE / "head.json"), "'acme/staging' is none. Name it as in stacks/"),
        (("preview", "--stack", "staging", "--document", HERE / "no.json"), "no.json cannot be read: No such file"),
        (("preview", "--stack", "staging", "--document", HERE / "head.json", "--base", HERE), "cannot be read: Is a directory"),
    ],
    ids=["organization", "no document", "folder"],
)
def test_page_by_hand_of_what_is_not_there_is_refused_in_a_sentence(argv: tuple[object, ...], sentence: str) -> None:
    assert sentence in run("review.comment", *argv, ok=False)


def test_stack_that_cannot_be_read_is_no_reason_to_close_its_issue(tmp_path: Path, github: GitHub) -> None:
    github.answer("repos/o/r/issues", [{"number": 12, "user": BOT, "body": ISSUE}])
    fields = {"diagnostics": [{"severity": "error", "message": "no cluster"}]}
    assert "nothing is known" in run("review.drift", "staging", document(tmp_path, {"a": "1"}, **fields), ok=False)
    (tmp_path / "document").write_text("")
    run("review.drift", "staging", tmp_path / "document", ok=False)
    assert github.calls() == [] and os.environ["GITHUB_REPOSITORY"] == "o/r"
