"""An API server, or something in its place, that answers without end. Lost if these fail: the memory of its client."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clusterkit import proof_guard
from clusterkit.api import answers, cluster_reader
from clusterkit.api.cluster_reader import Reader
from clusterkit.controller.api import Api
from clusterkit.joining import Settings
from nodekit.errors import NodeError
from tests.serving import running

pytestmark = pytest.mark.slow

MIB = 1 << 20


class EndlessPages(BaseHTTPRequestHandler):
    """Answers every request with a page of a list, and says that there are more."""

    def do_GET(self) -> None:
        items = [{"metadata": {"name": "n", "uid": "u", "annotations": {"a": "x" * MIB}}}]
        text = json.dumps({"items": items, "metadata": {"resourceVersion": "1", "continue": "more"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Endless(BaseHTTPRequestHandler):
    """Answers every request with a status, then with as much as is taken; `/version` and what is short end."""

    status = 200
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        if "short" in self.path:
            text = json.dumps({"items": [], "metadata": {"resourceVersion": "1"}, "message": "short"}).encode()
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_header("Connection", "close")
        self.send_header("Retry-After", "0")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * MIB)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def server(status: int, kind: type[BaseHTTPRequestHandler] = Endless) -> Iterator[str]:
    """The address of a server with that status."""
    handler = type("Handler", (kind,), {"status": status, "protocol_version": "HTTP/1.1"})
    with running(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as served:
        yield f"http://127.0.0.1:{served.server_port}"


def kubeconfig(address: str) -> str:
    """Of that server."""
    named: dict[str, Any] = {"name": "one"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{**named, "context": {"cluster": "one", "user": "one"}}],
        "clusters": [{**named, "cluster": {"server": address}}],
        "users": [{**named, "user": {"token": "t"}}],
    }
    return json.dumps(document)


def controller(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The controller's side."""
    (folder / "kubeconfig").write_text(kubeconfig(address))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "kubeconfig"))
    return Api(cast(Settings, SimpleNamespace(proof="p", namespace="n", selector="s")))


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that a test reaches soon."""
    monkeypatch.setattr(answers, "MAX_ANSWER", 8 * MIB)
    monkeypatch.setattr(answers, "MAX_LINE", 4 * MIB)


@pytest.mark.parametrize("status", [200, 403, 500, 503])
def test_an_answer_without_end_is_cut_off_and_reported(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with server(status) as address:
        reader, api = Reader(kubeconfig(address), None), controller(address, tmp_path, monkeypatch)
        for call in (
            lambda: reader.nodes(["n"], None),
            lambda: reader.require("Namespace", "n", "s"),
            lambda: list(api.pages("nodes")),
            lambda: api.kept("name"),
        ):
            with pytest.raises(NodeError) as caught:
                call()
            assert caught.value.code == "cluster-unreachable"
            assert caught.value.message == f"the API server {address} answered more than 8 MiB"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 96 * 1024, f"{grown} KiB"


def test_a_change_without_end_is_cut_off_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(200) as address:
        api = controller(address, tmp_path, monkeypatch)
        with pytest.raises(NodeError, match=f"{address} sent a change of more than 4 MiB"):
            list(api.changes("nodes", "1"))
    with server(403) as address:
        api = controller(address, tmp_path, monkeypatch)
        with pytest.raises(NodeError, match="answered more than 8 MiB"):
            list(api.changes("nodes", "1"))


def test_a_list_whose_pages_never_end_is_cut_off_and_reported() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with server(200, EndlessPages) as address:
        reader = Reader(kubeconfig(address), None)
        for call in (lambda: reader.nodes(["n"], None), lambda: reader.jobs("n", "p"), lambda: reader.events("n")):
            with pytest.raises(NodeError, match=f"{address} listed (nodes|jobs|events) in more than 8 MiB"):
                call()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 96 * 1024, f"{grown} KiB"


@pytest.mark.parametrize("status", [200, 404, 302])
def test_a_server_without_the_api_is_reported_as_silent_and_gets_no_second_request(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []

    class Web(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with server(status, Web) as address:
        with pytest.raises(NodeError) as caught:
            Reader(kubeconfig(address), None).nodes(["n"], None)
        with pytest.raises(NodeError):
            list(controller(address, tmp_path, monkeypatch).pages("nodes"))
    assert caught.value.code == "cluster-unreachable" and "list nodes" in caught.value.message
    assert (status == 200) == ("did not answer with a JSON object" in caught.value.message)
    assert len(requests) == 2


@pytest.mark.parametrize("status", [200, 403, 404])
def test_json_that_is_nested_without_end_is_reported(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nested(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = b"[" * 100_000 + b"\n"
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with server(status, Nested) as address:
        with pytest.raises(NodeError, match="list nodes"):
            Reader(kubeconfig(address), None).nodes(["n"], None)
        api = controller(address, tmp_path, monkeypatch)
        if status == 200:
            assert list(api.changes("nodes", "1")) == [], "the next watch reports what is wrong"
        else:
            with pytest.raises(NodeError, match="watch nodes"):
                list(api.changes("nodes", "1"))


def test_pages_that_the_server_has_forgotten_are_listed_again_from_the_first() -> None:
    answers_left = [
        (200, {"items": [{"metadata": {"uid": "gone"}}], "metadata": {"continue": "c"}}),
        (410, {"message": "too old"}),
        (200, {"items": [{"metadata": {"uid": "a"}}], "metadata": {"continue": "c"}}),
        (200, {"items": [{"metadata": {"uid": "b"}}], "metadata": {}}),
    ]

    class Forgetful(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = answers_left.pop(0)
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with server(200, Forgetful) as address:
        assert list(Reader(kubeconfig(address), None).jobs("n", "p")) == ["a", "b"]


def test_what_is_short_is_read_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(200) as address:
        reader = Reader(kubeconfig(address), None)
        assert [reader.jobs("short", "p") for _ in range(3)] == [{}, {}, {}]
        api = controller(address, tmp_path, monkeypatch)
        api.settings = cast(Settings, SimpleNamespace(proof="p", namespace="n", selector="short"))
        assert [list(api.pages("nodes")) for _ in range(3)] == [[([], "1")]] * 3
    with server(403) as address, pytest.raises(NodeError, match=r"the controller may not list x: short"):
        api = controller(address, tmp_path, monkeypatch)
        api.client.call("list", "x", "GET", "/short")


def test_a_proof_outlives_a_server_that_fails_for_a_moment_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_reader, "POLL_SECONDS", 0.01)
    statuses: list[int] = []

    class Restarting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = b'{"items": [], "metadata": {"resourceVersion": "1"}}'
            self.send_response(statuses.pop() if statuses else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with server(200, Restarting) as address:
        reader = Reader(kubeconfig(address), None)
        statuses += [500, 200, 503, 200, 502, 504, 200, 500]
        assert reader.outcome("n", "p", {}, 1) == {} and not statuses
        statuses.append(401)
        with pytest.raises(NodeError, match="does not accept"):
            reader.outcome("n", "p", {}, 1)
        monkeypatch.setattr(cluster_reader, "PATIENCE_SECONDS", 0.2)
        statuses += [500] * 10_000
        with pytest.raises(NodeError, match="answered 500"):
            reader.outcome("n", "p", {}, 1)


ROLE = 'jobs.batch is forbidden: User "c" cannot create resource "jobs" in API group "batch" in the namespace "n"'


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (ROLE, "cluster-forbidden"),
        ("", "cluster-forbidden"),
        (
            "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: " + proof_guard.policy()["validations"][3]["message"],  # type: ignore[index]
            "cluster-forbidden",
        ),
        ('jobs.batch "j" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=1', "refused"),
        ('pods "p" is forbidden: failed quota: q: must specify limits.cpu for: sandbox', "refused"),
        ("jobs.batch \"j\" is forbidden: ValidatingAdmissionPolicy 'v' with binding 'b' denied request: no", "refused"),
        ('admission webhook "w" denied the request: no', "refused"),
    ],
)
def test_what_admission_refuses_is_not_taken_for_a_missing_right(
    message: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Admission(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = json.dumps({"kind": "Status", "code": 403, "reason": "Forbidden", "message": message}).encode()
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(403)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with server(403, Admission) as address, pytest.raises(NodeError) as caught:
        controller(address, tmp_path, monkeypatch).make({})
    assert caught.value.code.endswith(code) and message in caught.value.message
    assert ("Correct what it names" in caught.value.sentence()) == (code == "refused")
