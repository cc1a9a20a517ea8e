"""Find, write and close this project's comments and issues on GitHub, through GitHub's own command `gh`."""

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from nodekit.host.capture import capture

MAX_ANSWER = 32 << 20
"""Bytes of an answer; a hundred comments of GitHub's greatest length have 26 MiB."""
SECONDS = 120
"""Bound on one request."""
PAGES = 30
"""Pages of a hundred that are read at most."""
AUTHOR = "github-actions[bot]"
"""Who writes with a workflow's own token. Anybody can put our marker into a comment; only this author's is ours."""


class GitHubError(Exception):
    """GitHub refused or could not be reached; the text is what `gh` printed."""


def api(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the REST API answers; a body goes through standard input, so that no text becomes an argument."""
    argv = ["gh", "api", "--method", method, path, *_hostname(), *(["--input", "-"] if body is not None else [])]
    text = b"" if body is None else json.dumps(body).encode()
    try:
        result = capture(argv, timeout=SECONDS, limit=MAX_ANSWER, stdin=text)
    except OSError as error:
        raise GitHubError(f"gh cannot be started ({error.strerror}): install GitHub's command on this runner") from None
    if result.timed_out or result.too_long:
        bound = f"within {SECONDS} s" if result.timed_out else f"in {MAX_ANSWER >> 20} MiB"
        raise GitHubError(f"{method} {path}: gh did not end {bound}")
    if result.code != 0:
        raise GitHubError(f"{method} {path}: {result.stderr.decode(errors='replace').strip()[-500:]}")
    try:
        return json.loads(result.stdout) if result.stdout.strip() else None
    except ValueError:
        raise GitHubError(f"{method} {path}: the answer is not JSON, so it is not of GitHub's API") from None


def _hostname() -> list[str]:
    """Option with the GitHub that runs the workflow, where it is that of an enterprise (ACME.ghe.com): `gh` would ask github.com,
    and hand it the token."""
    host = urlsplit(os.environ.get("GITHUB_SERVER_URL", "")).hostname
    return ["--hostname", host] if host and host != "github.com" else []


def pages(path: str) -> Iterator[dict[str, Any]]:
    """All entries of a list."""
    for number in range(1, PAGES + 1):
        entries = api("GET", f"{path}{'&' if '?' in path else '?'}per_page=100&page={number}")
        yield from entries
        if len(entries) < 100:
            return


def ours(entry: dict[str, Any], marker: str) -> bool:
    """Whether a comment or issue was written by our workflows under that marker."""
    return written_here(entry) and str(entry.get("body") or "").split("\n", 1)[0].strip() == marker


def written_here(entry: dict[str, Any]) -> bool:
    """Whether a comment or issue was written by workflows of this repository."""
    return (entry.get("user") or {}).get("login") == AUTHOR


def comments(repository: str, number: int) -> Iterator[tuple[int, str]]:
    """Number and text of every comment on a pull request that workflows of this repository have written."""
    for entry in pages(f"repos/{repository}/issues/{number}/comments"):
        if written_here(entry):
            yield int(entry["id"]), str(entry.get("body") or "").replace("\r\n", "\n")


def rewrite(repository: str, comment_number: int, text: str) -> None:
    """Give a comment another text."""
    api("PATCH", f"repos/{repository}/issues/comments/{comment_number}", {"body": text})


def comment(repository: str, number: int, marker: str, text: str) -> str:
    """Write the one comment of `marker` on a pull request, or update it; what was done."""
    for comment_number, body in comments(repository, number):
        if body.split("\n", 1)[0].strip() == marker:
            rewrite(repository, comment_number, text)
            return "brought up to date"
    api("POST", f"repos/{repository}/issues/{number}/comments", {"body": text})
    return "written"


def issue(repository: str, marker: str, title: str, text: str | None) -> str:
    """Write `text` into the one open issue of `marker`, or close it where there is nothing to report; what was done."""
    for entry in pages(f"repos/{repository}/issues?state=open"):
        if "pull_request" not in entry and ours(entry, marker):
            body = {"body": text} if text else {"state": "closed", "state_reason": "completed"}
            api("PATCH", f"repos/{repository}/issues/{int(entry['number'])}", body)
            return "brought up to date" if text else "closed"
    if not text:
        return "not needed"
    api("POST", f"repos/{repository}/issues", {"title": title, "body": text})
    return "opened"
