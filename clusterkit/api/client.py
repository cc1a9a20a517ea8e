"""The one client of an API server: bounded requests, lists in pages, watches, and errors with a remedy.

Requests do not go through the kubernetes library's classes for each resource: their checks of a request take longer than
everything else that it costs the controller, and their models take a third of its memory. The library connects and logs in.
"""

import json
import re
import ssl
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import urlencode, urlsplit

import urllib3

from clusterkit import certificate_errors
from clusterkit.api import answers
from nodekit.errors import NodeError
from nodekit.rules.text import public

if TYPE_CHECKING:
    from kubernetes import client

REQUEST_SECONDS = 20
"""Bound on one request that reads; one that could not connect is tried four times."""
WRITE_SECONDS = 70
"""Bound on one that writes. Each webhook of the cluster may take 30 s of it, and the API server itself ends it after 60 s
(--request-timeout): what is given up before that is often done all the same."""
RETRIES = urllib3.Retry(3, redirect=False, respect_retry_after_header=False)
"""Where no answer comes. The library would wait as long as a server says, and read all that it sends meanwhile."""
UNAUTHORIZED = 401
"""Status of a server that does not accept the credentials, and has done nothing."""
BUSY = (429, 503)
"""Statuses of a server that has done nothing, and names the seconds after which to ask again (Retry-After)."""
REPEATS, LONGEST_REST = 3, 10
"""How often a busy server is asked again, and the most seconds before each."""
PAGE = 200
"""Objects that are listed at once: some 4 MiB of real nodes, whose images make them long."""
LISTINGS = 3
"""How often a list is begun again when the server can no longer continue it."""
WATCH_SECONDS = 600
"""Seconds after which the server ends a watch; the next one goes on from there."""
QUIET_SECONDS = 150
"""Seconds after which a silent watch is taken for a lost connection; a server sends a bookmark each minute."""
ADMISSION = re.compile(r"\b(exceeded|failed) quota\b|\bdenied (the )?request\b(?!: Rule )")
"""Words of a refusal that no right would change: of a quota, a webhook or an admission policy, which is not one of ours."""
GONE = 410
"""Status of a list or a watch that would have to go on from what the server has forgotten."""
JSON, JSON_PATCH, MERGE_PATCH = "application/json", "application/json-patch+json", "application/merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""Asks for an object's metadata alone (Kubernetes, API concepts)."""
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
"""The same for a list."""


def lenient(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context, which accepts what client-go accepts.

    From Python 3.13 on, ssl and urllib3 are strict by default: they refuse the authorities of clusters that have no key
    identifier, such as those of EKS (kubernetes-client/python 2394). Before 3.13 they ask for a chain that ends in a root, where
    a kubeconfig often holds an authority below it alone, or the server's own certificate.
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@dataclass(frozen=True)
class Caller:
    """Who sends requests, in the words of error messages, and the cases of the catalogue whose remedies fit."""

    user: str
    credentials: str
    login_case: str = ""
    forbidden_case: str = ""
    unreachable_case: str = ""
    authority_case: str = ""


PERSON = Caller("the kubeconfig's user", "the kubeconfig's credentials; they may have expired")
CONTROLLER = Caller("the controller", "the controller's credentials", "token", "controller", "pod", "controller")


class Changed(Exception):
    """The object of a request has changed since it was read, or is gone: read it again."""

    def __init__(self, about: str, status: int = 0, document: object = None, refusal: NodeError | None = None) -> None:
        super().__init__(about)
        self.status, self.document, self.refusal = status, document, refusal
        """The answer's HTTP status, its JSON, a Status of the API server, and what it is where it was not expected after all."""


Read: TypeAlias = Callable[[bytes], Any]
"""Reads JSON; raises ValueError or RecursionError for what is none."""
BRIEF = urllib3.Timeout(total=REQUEST_SECONDS)
WRITING = urllib3.Timeout(connect=REQUEST_SECONDS, read=WRITE_SECONDS)


@dataclass(frozen=True)
class Request:
    """What is sent."""

    method: str
    path: str
    query: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    content_type: str = JSON
    accept: str = JSON
    timeout: urllib3.Timeout = BRIEF
    watches: bool = False
    """Whether the answer goes on until the server ends it."""


class Renewable(Protocol):
    """Credentials that can be fetched again."""

    def current(self) -> object:
        """Those with which requests are sent now."""

    def renewed(self, used: object) -> bool:
        """Have others than the `used` ones, which the server does not accept; whether there are others."""


class Client:
    """One cluster; every error except Changed is a NodeError with a remedy, and none contains a secret."""

    def __init__(
        self,
        api: "client.ApiClient",
        caller: Caller,
        login: Renewable | None = None,
        pool: urllib3.HTTPConnectionPool | None = None,
    ) -> None:
        """`login` is asked for other credentials where the server does not accept those at hand.

        `pool` are the server's connections where they stay the same: to look them up takes an eighth of a request's time.
        """
        self.api, self.caller, self.login = api, caller, login
        address = api.configuration.host
        self.server = public(address)  # as errors name it
        self.connections: urllib3.HTTPConnectionPool | urllib3.PoolManager = pool or api.rest_client.pool_manager
        self.root = urlsplit(address).path if pool else address

    def call(
        self,
        verb: str,
        resource: str,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        expected: Container[int] = (),
        read: Read = json.loads,
    ) -> dict[str, Any]:
        """The JSON answer of one request, as `read` reads it; `verb` and `resource` are for its refusal.

        `body` is sent as JSON, bytes as they are. Raises Changed for `expected` statuses.
        """
        timeout = BRIEF if method == "GET" else WRITING
        request = Request(method, path, query or {}, body, content_type, accept, timeout)
        return self._call(verb, resource, request, expected, read)[0]

    def get(self, resource: str, path: str) -> dict[str, Any] | None:
        """One object, None where there is none."""
        try:
            return self.call("get", resource, "GET", path, expected=(404,))
        except Changed:
            return None

    def text(self, resource: str, path: str, query: Mapping[str, object]) -> str:
        """What is no JSON, such as a log; of `answers.MAX_ANSWER` bytes at most."""
        answer = self.call("get", resource, "GET", path, query=query, read=lambda body: {"text": body.decode(errors="replace")})
        return str(answer.get("text", ""))

    def pages(
        self, resource: str, path: str, query: Mapping[str, object], read: Read = json.loads
    ) -> Iterator[tuple[list[dict[str, Any]], str]]:
        """Objects of a list in pages, each with the version of the cluster that all pages show; `read` reads the JSON of a page.

        Raises Changed where the server can no longer continue the list.
        """
        for items, version, _ in self._pages(resource, path, query, read):
            yield items, version

    def listed(self, resource: str, path: str, query: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """All objects of a list, of `answers.MAX_ANSWER` bytes at most."""
        for _ in range(LISTINGS):
            objects: list[dict[str, Any]] = []
            size = 0
            with suppress(Changed):
                for items, _, length in self._pages(resource, path, query or {}, json.loads):
                    size += length
                    if size > answers.MAX_ANSWER:
                        raise answers.too_long(self.api, f"listed {resource} in", answers.MAX_ANSWER)
                    objects += items
                return objects
        raise cut_short(resource, self.server)

    def watch(
        self, resource: str, path: str, query: Mapping[str, object], version: str, read: Read = json.loads
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """What changes after a version, until the server ends the watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object.

        `read` reads the JSON of a change.

        Raises Changed when the version is too old.
        """
        query = {**query, "watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query["timeoutSeconds"] = WATCH_SECONDS
        quiet = urllib3.Timeout(connect=REQUEST_SECONDS, read=QUIET_SECONDS)
        answer, body = self._answer(Request("GET", path, query, timeout=quiet, watches=True))
        if answer.status == GONE:
            raise Changed(resource)
        if answer.status != 200:
            raise self._refused("watch", resource, answer, parsed(body))
        # A connection that breaks, or says nothing, is made again by the next watch, which reports when that is impossible.
        with suppress(urllib3.exceptions.HTTPError, ValueError, RecursionError):
            for line in answers.lines(self.api, answer):
                change = read(line)
                if change["type"] == "ERROR":
                    raise Changed(resource)
                yield change["type"], change["object"]

    def _pages(
        self, resource: str, path: str, query: Mapping[str, object], read: Read
    ) -> Iterator[tuple[list[dict[str, Any]], str, int]]:
        """Pages with their lengths in bytes."""
        following = ""
        while True:
            parameters = {"limit": PAGE, **query, **({"continue": following} if following else {})}
            page, length = self._call("list", resource, Request("GET", path, parameters), (GONE,), read)
            about = page.get("metadata") or {}
            yield page.get("items") or [], str(about.get("resourceVersion") or ""), length
            following = str(about.get("continue") or "")
            if not following:
                return

    def _call(
        self, verb: str, resource: str, request: Request, expected: Container[int], read: Read
    ) -> tuple[dict[str, Any], int]:
        """The JSON answer of one request, as `read` reads it, and its length."""
        answer, body = self._answer(request, expected)
        document = parsed(body, read if answer.status < 300 else json.loads)
        if answer.status in expected:
            raise Changed(f"{verb} {resource}", answer.status, document, self._refused(verb, resource, answer, document))
        if answer.status >= 300 or not isinstance(document, dict):
            raise self._refused(verb, resource, answer, document)
        return document, len(body)

    def _answer(self, request: Request, expected: Container[int] = ()) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        """The answer to a request, which is sent again to a busy server unless that status is `expected`, and once with new
        credentials; and its body, of a watch that is granted none."""
        used = self.login.current() if self.login else None
        answer, body = self._request(request)
        if answer.status == UNAUTHORIZED and self.login and self.login.renewed(used):
            answer, body = self._request(request)
        for _ in range(REPEATS):
            after = answer.headers.get("Retry-After", "")
            if answer.status not in BUSY or answer.status in expected or not (after.isascii() and after.isdecimal()):
                break
            time.sleep(min(int(after[:6]), LONGEST_REST))
            answer, body = self._request(request)
        return answer, body

    def _request(self, request: Request) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        """As `_answer`, sent once; raises NodeError where no answer arrives."""
        headers = {"Accept": request.accept, **self.api.default_headers}
        for login in self.api.configuration.auth_settings().values():  # fetches a credential again once it has expired
            if login["value"]:
                headers[str(login["key"])] = str(login["value"])
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        address = f"{self.root}{request.path}"
        try:
            # Not redirected, because the headers log in, wherever they are sent.
            answer = self.connections.urlopen(
                request.method,
                f"{address}?{urlencode(request.query)}" if request.query else address,
                body=request.body if isinstance(request.body, (bytes, NoneType)) else json.dumps(request.body),
                headers=headers,
                timeout=request.timeout,
                redirect=False,
                retries=RETRIES,
                preload_content=False,
            )
            return answer, b"" if request.watches and answer.status == 200 else answers.whole(self.api, answer)
        except urllib3.exceptions.HTTPError as error:
            why = str(getattr(error, "reason", None) or error)[:300]
        except ValueError as error:
            why = type(error).__name__  # its text may hold a header
        untrusted = f"the API server {self.server} shows a certificate that is not trusted: {why}"
        raise certificate_errors.explained(why, untrusted, self.caller.authority_case) or NodeError(
            "cluster-unreachable", f"the API server {self.server} does not answer: {why}", self.caller.unreachable_case
        )

    def _refused(self, verb: str, resource: str, answer: urllib3.BaseHTTPResponse, document: object) -> NodeError:
        """From an unexpected answer."""
        status, caller = answer.status, self.caller
        reason = str(document.get("message") or "")[:600] if isinstance(document, dict) else ""
        because = f": {reason}" if reason else ""
        if status == UNAUTHORIZED:
            return NodeError(
                "cluster-login-refused",
                f"the API server {self.server} does not accept {caller.credentials}",
                caller.login_case,
            )
        if status == 403 and not ADMISSION.search(reason):
            return NodeError(
                "cluster-forbidden",
                f"{caller.user} may not {verb} {resource}{because}",
                caller.forbidden_case,
                verbs=verb,
                resource=resource,
            )
        if status < 300:
            return NodeError(
                "cluster-unreachable",
                f"the API server {self.server} did not answer with a JSON object when asked to {verb} {resource}",
                "other",
            )
        answered = f"the API server {self.server} answered {status} {answer.reason or ''}".rstrip()
        answered += f" when asked to {verb} {resource}{because}"
        if 400 <= status < 500 and status != 429 and reason:
            return NodeError("cluster-object-refused", answered)
        # An API server has a reason for each of its refusals, but where it is too busy for one.
        return NodeError("cluster-unreachable", answered, "log" if status == 429 or status >= 500 else "other")


def cut_short(resource: str, server: str) -> NodeError:
    """The error for a server that can continue no list to its end."""
    text = f"the API server {server} ended a list of {resource} before it was complete, {LISTINGS} times"
    return NodeError("cluster-unreachable", text, "log")


def parsed(body: bytes, read: Read = json.loads) -> Any:
    """The JSON of an answer, an empty object where it has no content, and None where that is no JSON."""
    try:
        return read(body) if body else {}
    except (ValueError, RecursionError):
        return None
