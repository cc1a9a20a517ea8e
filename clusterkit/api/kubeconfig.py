"""Reads a kubeconfig as kubectl does, and makes the client that logs in with it.

The kubernetes library supports less than kubectl and the engine's Kubernetes plugin (client-go): it forgets the
proxy and the impersonated user, sends a token with the line break at its end, and reports a failed plugin only as a user whom
the server refuses. So this module reads what client-go reads, and hands the library an address and credentials. Rules:
https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

import base64
import binascii
import json
import os
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import certifi
import yaml

from clusterkit.api import environment_proxy
from clusterkit.api.client import lenient
from nodekit.errors import NodeError
from nodekit.host import capture, reading
from nodekit.rules.text import printable

if TYPE_CHECKING:
    from kubernetes import client

MADE_UP_SERVER = "https://made-up.invalid"
"""The API server of a kubeconfig that stands for one which a preview has not got: no host has a name in `.invalid` (RFC 2606)."""
PLUGIN_SECONDS = 60
"""Bound on a login plugin; those of the clouds ask their service once."""
PLUGIN_LIMIT = 1 << 20
"""Bytes that a plugin may print; a credential has a few KiB."""
FILE_LIMIT = 1 << 20
"""Bytes of a file that a kubeconfig names."""
EXPIRY_MARGIN = timedelta(seconds=60)
"""A credential is fetched again this long before its end."""
REMOVED_PROVIDERS = {"gcp": "gke-gcloud-auth-plugin", "azure": "kubelogin"}
"""`auth-provider` names that client-go dropped in 1.26, and the plugin that took each one's place."""


@dataclass(frozen=True)
class Login:
    """One context of a kubeconfig."""

    server: str
    """Address of the API server."""
    cluster: dict[str, Any]
    user_name: str
    """Empty where the context names no user."""
    user: dict[str, Any]


def login(kubeconfig: str | Mapping[str, Any], context: str | None) -> Login:
    """The cluster and user that `context`, or the current context, means; raises NodeError `kubeconfig-invalid`.

    A kubeconfig is text, or an object, as pulumi-eks returns it and the Kubernetes plugin takes it. Errors contain only names and
    addresses of it.
    """
    try:
        document = dict(kubeconfig) if isinstance(kubeconfig, Mapping) else _document(kubeconfig)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _invalid(f"the kubeconfig is not YAML{f' (line {mark.line + 1})' if mark else ''}") from None
    if not isinstance(document, dict):
        raise _invalid("the kubeconfig is empty" if not document else "the kubeconfig is not a mapping of keys")
    name = context or document.get("current-context")
    if not name:
        raise NodeError("kubeconfig-invalid", "the kubeconfig has no current-context, and no context is set", "no-context")
    if not isinstance(name, str):
        raise _invalid("current-context of the kubeconfig is not text")
    contexts = _by_name(document, "contexts", "context")
    if name not in contexts:
        known = ", ".join(printable(str(other), 80) for other in list(contexts)[:20]) or "none"
        raise NodeError(
            "kubeconfig-invalid", f"the kubeconfig has no context {printable(str(name), 80)}; its contexts: {known}", "context"
        )
    chosen = contexts[name]
    cluster = _referred(document, "clusters", "cluster", chosen.get("cluster"), str(name))
    user_name = chosen.get("user") or ""
    user = _referred(document, "users", "user", user_name, str(name)) if user_name else {}
    if not isinstance(cluster.get("insecure-skip-tls-verify"), bool | None):
        # As text, "false" would count as true.
        named = printable(str(chosen.get("cluster")), 80)
        raise _invalid(f"insecure-skip-tls-verify of cluster {named} of the kubeconfig is neither true nor false")
    server = _address(cluster, user)
    if server is None:
        raise _invalid(
            f"cluster {printable(str(chosen.get('cluster')), 80)} of the kubeconfig has no http(s) address as its server"
        )
    server, own = _without_user(server)
    if own and not any(user.get(key) for key in ("token", "tokenFile", "username", "auth-provider", "exec")):
        user = {**user, **own}
    return Login(server, cluster, str(user_name), user)


def _document(text: str) -> Any:
    """What a kubeconfig holds. JSON may be set in with tabs, which PyYAML takes nowhere, and kubectl does."""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        with suppress(ValueError):
            return json.loads(text.removeprefix("\ufeff"))
    return yaml.safe_load(text)


def _without_user(address: str) -> tuple[str, dict[str, str]]:
    """An address without its user, since errors name it, and that user's name and password, with which client-go logs in where
    nothing else does (Go, net/http, `send`)."""
    where = urlsplit(address)
    if where.username is None:
        return address, {}
    own = {"username": unquote(where.username), "password": unquote(where.password or "")}
    return where._replace(netloc=where.netloc.rpartition("@")[2]).geturl(), own


def _address(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> str | None:
    """The API server's URL; None where `server` is no http(s) address.

    Without a scheme it is https where certificates are there or are not asked for, as in client-go (rest, DefaultServerUrlFor).
    """
    server = cluster.get("server")
    if not isinstance(server, str):
        return None
    try:
        if "://" not in server:
            named = any(
                cluster.get(f"certificate-authority{end}") or user.get(f"client-certificate{end}") for end in ("", "-data")
            )
            server = f"{'https' if named or cluster.get('insecure-skip-tls-verify') else 'http'}://{server}"
        where = urlsplit(server)
        return server if where.scheme in ("https", "http") and where.hostname else None
    except ValueError:
        return None


def _by_name(document: Mapping[str, Any], section: str, key: str) -> dict[str, dict[str, Any]]:
    """The entries of a section by name; an entry without a mapping counts as an empty one, as in client-go."""
    entries = document.get(section) or []
    if not isinstance(entries, list):
        raise _invalid(f"{section} of the kubeconfig is not a list")
    named: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise _invalid(f"an entry in {section} of the kubeconfig has no name")
        if entry["name"] in named:
            raise _invalid(f"{section} of the kubeconfig has two entries with the name {printable(entry['name'], 80)}")
        value = entry.get(key)
        named[entry["name"]] = value if isinstance(value, dict) else {}
    return named


def _referred(document: Mapping[str, Any], section: str, key: str, name: object, context: str) -> dict[str, Any]:
    named = _by_name(document, section, key)
    if not isinstance(name, str) or name not in named:
        raise _invalid(
            f"context {printable(context, 80)} of the kubeconfig names the {key} {printable(str(name), 80)}, "
            f"which is not in {section}"
        )
    return named[name]


def _invalid(message: str) -> NodeError:
    return NodeError("kubeconfig-invalid", message)


@dataclass(frozen=True)
class Credentials:
    """How a user logs in; empty fields are not used. Everything except `expires` is secret."""

    authorization: str = ""
    """The header's value."""
    certificate: bytes = b""
    """PEM, with `key`."""
    key: bytes = b""
    expires: datetime | None = None


class Connection:
    """The way to a cluster, and the credentials for it (`client.Renewable`).

    They are read or fetched again before an end that was announced, and when the server no longer accepts them, as client-go
    does: a token can be withdrawn, and the file of one replaced, at any time.
    """

    def __init__(self, chosen: Login) -> None:
        self.chosen, self.held = chosen, credentials(chosen)
        self._lock = threading.Lock()
        self.api, self._context = _client(chosen, self.held, self._renew)

    def current(self) -> Credentials:
        """As `client.Renewable`."""
        return self.held

    def renewed(self, used: object) -> bool:
        """As `client.Renewable`; several threads may ask at once."""
        with self._lock:
            if self.held is used:
                self._fetch()
            return self.held != used

    def _renew(self, _: "client.Configuration") -> None:
        """Before each request."""
        with self._lock:
            if self.held.expires and self.held.expires - EXPIRY_MARGIN < datetime.now(UTC):
                self._fetch()

    def _fetch(self) -> None:
        before, self.held = self.held, credentials(self.chosen)
        keys = self.api.configuration.api_key
        if self.held.authorization or "authorization" in keys:
            keys["authorization"] = self.held.authorization
        if self.held.certificate and self.held.certificate != before.certificate:
            present(self._context, self.held)
            self.api.rest_client.pool_manager.clear()  # connections that have logged in with the one before


def connected(kubeconfig: str | Mapping[str, Any], context: str | None) -> Connection:
    """A connection to the cluster that a kubeconfig means; its answers are bounded.

    Raises NodeError `kubeconfig-invalid`, `kubeconfig-plugin-failed`, also from a request whose credential is fetched again.
    """
    chosen = login(kubeconfig, context)
    try:
        return Connection(chosen)
    except (TypeError, ValueError, AttributeError, KeyError):
        # Their texts may hold parts of the kubeconfig.
        raise _invalid("a part of the kubeconfig has the wrong type") from None


def _client(
    chosen: Login, held: Credentials, renew: Callable[["client.Configuration"], None]
) -> tuple["client.ApiClient", ssl.SSLContext]:
    """The client, which calls `renew` before each request, and what its connections present."""
    from kubernetes import client  # takes a fifth of a second to load, and a program without a cluster does not need it

    settings = client.Configuration()
    settings.host = chosen.server.rstrip("/")
    settings.proxy, settings.proxy_headers = _proxy_login(proxy(chosen))
    settings.no_proxy = None
    settings.tls_server_name = chosen.cluster.get("tls-server-name")
    if held.authorization or held.expires:
        settings.api_key["authorization"] = held.authorization  # has each request call `renew`, also for a certificate alone
        settings.refresh_api_key_hook = renew  # type: ignore[assignment]
    api = client.ApiClient(settings)
    for name, value in impersonation(chosen).items():
        api.set_default_header(name, value)  # type: ignore[no-untyped-call]
    pool = api.rest_client.pool_manager.connection_pool_kw
    context = pool["ssl_context"] = trust(chosen, held, pool.pop("ca_certs") or certifi.where())
    return api, context


def trust(chosen: Login, held: Credentials, public: str) -> ssl.SSLContext:
    """The authorities that a connection trusts, and the certificate that it presents.

    `public` is a file of the authorities of the Web, for a cluster whose kubeconfig names no authority of its own: where Python
    finds none of the system's, as on a Mac, they are all there is.
    """
    try:
        authority = _content(chosen.cluster, "certificate-authority", "the cluster")
        # Words beside a certificate may be of any language, and the ssl module takes ASCII alone.
        text = authority.decode("ascii", errors="replace").replace("\ufffd", "?")
        context = lenient(ssl.create_default_context(cadata=text or None))
        if not authority:
            context.load_verify_locations(public)
        if chosen.cluster.get("insecure-skip-tls-verify"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if held.certificate:
            present(context, held)
    except ssl.SSLError:
        raise _unreadable() from None
    return context


def present(context: ssl.SSLContext, held: Credentials) -> None:
    """Have the connections that are made from now on present the certificate."""
    # The ssl module takes a certificate and its key from files alone.
    try:
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "certificate"), Path(folder, "key")
            certificate.write_bytes(held.certificate)
            key.write_bytes(held.key)
            context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        raise _unreadable() from None
    except OSError as error:
        why = error.strerror or error
        raise NodeError("file-unwritable", f"The folder for temporary files cannot be written: {why}", "temporary") from None


def _unreadable() -> NodeError:
    return _invalid("a certificate or key of the kubeconfig is not PEM, has a passphrase, or does not belong to the other")


def proxy(chosen: Login) -> str | None:
    """The proxy to the API server: `proxy-url`, otherwise the environment's, unless that exempts the server."""
    named = chosen.cluster.get("proxy-url") or environment_proxy.of(chosen.server)
    if named and urlsplit(str(named)).scheme not in ("http", "https"):
        raise NodeError(
            "kubeconfig-invalid",
            f"the proxy of the cluster is of the kind {printable(urlsplit(str(named)).scheme, 20) or '(none)'}, "
            "and this program supports only http and https proxies",
            "proxy",
        )
    return str(named) if named else None


def _proxy_login(address: str | None) -> tuple[str | None, dict[str, str] | None]:
    """A proxy's address without its user, since errors name it, and the header by which that user logs in."""
    where = urlsplit(address or "")
    if where.username is None:
        return address, None
    pair = f"{unquote(where.username)}:{unquote(where.password or '')}".encode()
    header = {"Proxy-Authorization": "Basic " + base64.b64encode(pair).decode()}
    return where._replace(netloc=where.netloc.rpartition("@")[2]).geturl(), header


def impersonation(chosen: Login) -> dict[str, str]:
    """Headers by which the user acts as another."""
    user, headers = chosen.user, {}
    groups = user.get("as-groups") or []
    if user.get("as"):
        headers["Impersonate-User"] = _line(user["as"], "as")
    if user.get("as-uid"):
        headers["Impersonate-Uid"] = _line(user["as-uid"], "as-uid")
    if len(groups) == 1:
        headers["Impersonate-Group"] = _line(groups[0], "as-groups")
    if len(groups) > 1 or user.get("as-user-extra"):
        raise NodeError(
            "kubeconfig-invalid",
            f"user {printable(chosen.user_name, 80)} of the kubeconfig acts as another with several groups or extra fields, "
            "which this program cannot do",
            "impersonation",
        )
    return headers


def credentials(chosen: Login) -> Credentials:
    """How the user of a context logs in; runs its plugin where it has one.

    Order as in client-go: token, user name with password, plugin. Raises NodeError `kubeconfig-invalid`,
    `kubeconfig-plugin-failed`.
    """
    user, who = chosen.user, f"user {printable(chosen.user_name, 80)}"
    certificate = _content(user, "client-certificate", who)
    key = _content(user, "client-key", who)
    if bool(certificate) != bool(key):
        present, missing = ("client-certificate", "client-key") if certificate else ("client-key", "client-certificate")
        raise _invalid(f"{who} of the kubeconfig has a {present} and no {missing}")
    authorization = ""
    if user.get("tokenFile"):
        authorization = "Bearer " + _line(_file(str(user["tokenFile"]), "tokenFile", who).decode(errors="replace"), "tokenFile")
    elif user.get("token"):
        authorization = "Bearer " + _line(user["token"], "token")
    elif user.get("username") and user.get("password"):
        pair = f"{user['username']}:{user['password']}".encode()
        authorization = "Basic " + base64.b64encode(pair).decode()
    elif isinstance(user.get("auth-provider"), dict):
        authorization = _provided(user["auth-provider"], who)
    elif isinstance(user.get("exec"), dict) and not certificate:
        return _plugged_in(chosen)
    return Credentials(authorization, certificate, key)


def _provided(provider: Mapping[str, Any], who: str) -> str:
    """The header of an `auth-provider`: of oidc its present token, which is not renewed, since nobody could keep the new one."""
    name = str(provider.get("name"))
    settings = provider.get("config")
    if name == "oidc" and isinstance(settings, dict) and settings.get("id-token"):
        return "Bearer " + _line(settings["id-token"], "id-token")
    instead = REMOVED_PROVIDERS.get(name, "the credential plugin of the cluster's vendor")
    raise NodeError(
        "kubeconfig-invalid",
        f"{who} of the kubeconfig logs in by the auth-provider {printable(name, 40)}, which Kubernetes removed in 1.26 or which "
        "holds no token",
        "auth-provider",
        plugin=instead,
    )


def _plugged_in(chosen: Login) -> Credentials:
    """What the plugin of the user's `exec` section answers."""
    plugin = chosen.user["exec"]
    command, version = str(plugin.get("command") or ""), str(plugin.get("apiVersion") or "")
    who = f"the login plugin {printable(command, 120) or '(no name)'} of user {printable(chosen.user_name, 80)}"
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = _shown_to_plugin(chosen.cluster)
    credential = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    # One without a value is empty, as for client-go.
    variables = {str(entry["name"]): _text(entry.get("value")) for entry in plugin.get("env") or []}
    environment = {**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(credential)}
    argv = [command, *(str(word) for word in plugin.get("args") or [])]
    program = printable(command, 120)
    try:
        result = capture.capture(argv, timeout=PLUGIN_SECONDS, limit=PLUGIN_LIMIT, env=environment)
    except OSError as error:
        hint = printable(" ".join(str(plugin.get("installHint") or "").split()), 400)
        raise NodeError(
            "kubeconfig-plugin-failed",
            f"{who} cannot be started here: {error.strerror}",
            remedy=hint or None,
            program=program,
        ) from None
    output = printable(" ".join(result.stderr.decode(errors="replace").split()), 400) or "nothing"
    if result.timed_out:
        raise NodeError(
            "kubeconfig-plugin-failed",
            f"{who} did not end in {PLUGIN_SECONDS} s; it may have waited for input. It printed: {output}",
            "asks",
        )
    if result.code or result.too_long:
        ended = f"printed more than {PLUGIN_LIMIT >> 10} KiB" if result.too_long else f"ended with {result.code}"
        raise NodeError("kubeconfig-plugin-failed", f"{who} {ended}. It printed: {output}", "by-hand", program=program)
    try:
        answer = json.loads(result.stdout)
        status = answer["status"]
        if answer["kind"] != "ExecCredential" or not (status.get("token") or status.get("clientCertificateData")):
            raise KeyError("status")
        expires = datetime.fromisoformat(status["expirationTimestamp"]) if status.get("expirationTimestamp") else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # What it printed is a credential, or part of one.
        raise NodeError(
            "kubeconfig-plugin-failed", f"{who} printed no ExecCredential with a credential", "by-hand", program=program
        ) from None
    if answer.get("apiVersion") != version:
        raise NodeError(
            "kubeconfig-plugin-failed",
            f"{who} answers in {printable(str(answer.get('apiVersion')), 80)}, "
            f"and the kubeconfig asks for {printable(version, 80)}",
            "version",
        )
    return Credentials(
        "Bearer " + _line(status["token"], "token") if status.get("token") else "",
        str(status.get("clientCertificateData") or "").encode(),
        str(status.get("clientKeyData") or "").encode(),
        expires if expires is None or expires.tzinfo else expires.replace(tzinfo=UTC),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _shown_to_plugin(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """The cluster as client-go passes it to a plugin (`spec.cluster` of ExecCredential), with the extension for plugins."""
    cluster_info = {
        key: cluster[key] for key in ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url") if key in cluster
    }
    if authority := _content(cluster, "certificate-authority", "the cluster"):
        cluster_info["certificate-authority-data"] = base64.b64encode(authority).decode()
    for extension in cluster.get("extensions") or []:
        if extension.get("name") == "client.authentication.k8s.io/exec":
            cluster_info["config"] = extension.get("extension")
    return cluster_info


def _content(section: Mapping[str, Any], key: str, who: str) -> bytes:
    """What `KEY-data` holds in base64, else the file that `KEY` names; nothing where there is neither."""
    if data := section.get(f"{key}-data"):
        try:
            return base64.b64decode("".join(str(data).split()), validate=True)
        except (binascii.Error, ValueError):
            raise _invalid(f"{key}-data of {who} of the kubeconfig is not base64") from None
    return _file(str(section[key]), key, who) if section.get(key) else b""


def _file(path: str, key: str, who: str) -> bytes:
    """A file that the kubeconfig names; a relative path begins in the current folder, as a kubeconfig in a setting has none."""
    try:
        return reading.read(path, FILE_LIMIT)
    except OSError as error:
        raise _invalid(f"{key} of {who} of the kubeconfig names {printable(path, 200)}: {error.strerror}") from None


def _line(value: object, key: str) -> str:
    """A value that goes into a header, without the line break at its end that editors and `echo` leave."""
    text = str(value).strip()
    if not text or not text.isascii() or not text.isprintable():
        raise _invalid(f"{key} of the kubeconfig is empty, or holds a line break or a character that no header can hold")
    return text
