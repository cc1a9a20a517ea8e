"""Kubeconfigs as people have them. Lost if these fail: the way to their cluster, or a token in a log."""

import base64
import ipaddress
import json
import re
import ssl
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import certifi
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clusterkit.api import kubeconfig
from clusterkit.api.cluster_reader import Reader
from clusterkit.controller.api import Api
from clusterkit.joining import Settings
from local import certificates
from nodekit.errors import NodeError
from tests.serving import running

SECRET = "eyJhbGciOi.not.a-real-token"
NODES = json.dumps({"items": [{"metadata": {"name": "node-0", "uid": "u"}, "status": {"nodeInfo": {"bootID": "b"}}}]}).encode()


class Server(ThreadingHTTPServer):
    """An API server with one node, or a proxy before it; keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.busy: list[str] = []
        """Retry-After of the next answers, from the last."""
        self.accepted: str | None = None
        """The one header that logs in; None where every one does."""
        self.users: list[str] = []
        """Who asked, by the certificates of their connections."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        if isinstance(self.connection, ssl.SSLSocket):
            subject: Any = (self.connection.getpeercert() or {}).get("subject", ())
            self.server.users += [value for part in subject for key, value in part if key == "commonName"]
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        busy = self.server.busy.pop() if self.server.busy else None
        accepted = self.server.accepted in (None, self.headers.get("Authorization"))
        self.send_response(429 if busy else 200 if accepted else 401)
        if busy:
            self.send_header("Retry-After", busy)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(NODES)))
        self.end_headers()
        self.wfile.write(NODES)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server()) as served:
        yield served


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def written(user: dict[str, Any] | None, server: str = "https://192.0.2.10:6443", **cluster: Any) -> str:
    """A kubeconfig with one context, `x`."""
    context = {"cluster": "c"} if user is None else {"cluster": "c", "user": "u"}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
            "contexts": [{"name": "x", "context": context}],
            "current-context": "x",
            "users": [] if user is None else [{"name": "u", "user": user}],
        }
    )


def plugin(tmp_path: Path, body: str, **fields: Any) -> dict[str, Any]:
    """A user with a login plugin of that Python text."""
    program = tmp_path / "plugin"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    program.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), **fields}}


ANSWER = "print(json.dumps({**json.loads(os.environ['KUBERNETES_EXEC_INFO']), 'status': %s}))"


def authorization(text: Any, server: Server) -> str | None:
    """The header that a request brings."""
    (node,) = Reader(text, None).nodes(["node-0"], None)
    assert node.name == "node-0"
    return server.requests[-1][1].get("authorization")


def refused(text: Any, context: str | None = None) -> NodeError:
    """The error of the first use; it never holds the secret."""
    with pytest.raises(NodeError) as caught:
        Reader(text, context).nodes(["node-0"], None)
    assert SECRET not in caught.value.sentence() + repr(caught.value.details)
    return caught.value


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "  \n\n"])
def test_a_token_is_sent_without_the_line_break_at_its_end(server: Server, tmp_path: Path, ending: str) -> None:
    place = tmp_path / "token"
    place.write_bytes((SECRET + ending).encode())
    for user in ({"token": SECRET + ending}, {"tokenFile": str(place)}, {"tokenFile": str(place), "token": "older"}):
        assert authorization(written(user, server.address), server) == f"Bearer {SECRET}"


@pytest.mark.parametrize("token", [f"{SECRET}\n{SECRET}", f"{SECRET}\x00", f"{SECRET}é", "\n"])
def test_a_token_that_no_header_can_hold_is_refused_unseen(server: Server, token: str) -> None:
    error = refused(written({"token": token}, server.address))
    assert error.code == "kubeconfig-invalid" and "token of the kubeconfig" in error.message
    assert not server.requests


def test_a_kubeconfig_can_be_an_object_as_pulumi_eks_gives_it(server: Server) -> None:
    """Its type is any in TypeScript, so nothing there keeps it from a component, and the Kubernetes plugin takes it."""
    document = yaml.safe_load(written({"token": SECRET}, server.address))
    assert authorization(document, server) == f"Bearer {SECRET}"
    assert "no current-context" in refused({**document, "current-context": None}).message


def test_json_may_be_set_in_with_tabs_as_for_kubectl(server: Server) -> None:
    document = yaml.safe_load(written({"token": SECRET}, server.address))
    for text in (json.dumps(document, indent="\t"), "\ufeff" + json.dumps(document, indent="\t"), json.dumps(document)):
        assert authorization(text, server) == f"Bearer {SECRET}"
    flow = "{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, cluster: {server: "
    assert authorization(f'{flow}"{server.address}"}}}}]}}', server) is None, "no JSON, but YAML"


def test_the_user_of_an_address_logs_in_and_is_not_told(server: Server) -> None:
    """Lost if this fails: a password in each error about the server, and so in the log of CI."""
    address = server.address.replace("://", f"://me:{SECRET}%21@")
    pair = base64.b64encode(f"me:{SECRET}!".encode()).decode()
    assert authorization(written(None, address), server) == f"Basic {pair}"
    assert authorization(written({"token": "other"}, address), server) == "Bearer other"
    server.accepted = "nothing"
    error = refused(written(None, address))
    assert error.code == "cluster-login-refused" and f"server {server.address} does" in error.message


def test_user_name_with_password_no_user_and_an_identity_token(server: Server) -> None:
    pair = base64.b64encode(b"me:pass").decode()
    assert authorization(written({"username": "me", "password": "pass"}, server.address), server) == f"Basic {pair}"
    assert authorization(written(None, server.address), server) is None
    oidc = {"auth-provider": {"name": "oidc", "config": {"id-token": SECRET}}}
    assert authorization(written(oidc, server.address), server) == f"Bearer {SECRET}"


@pytest.mark.parametrize(("name", "instead"), [("gcp", "gke-gcloud-auth-plugin"), ("azure", "kubelogin"), ("other", "vendor")])
def test_a_removed_auth_provider_is_named_with_its_replacement(name: str, instead: str) -> None:
    error = refused(written({"auth-provider": {"name": name, "config": {"access-token": SECRET}}}))
    assert error.code == "kubeconfig-invalid" and name in error.message and instead in error.remedy


def test_a_plugin_logs_in_and_is_asked_again_when_its_token_ends(server: Server, tmp_path: Path) -> None:
    ended = plugin(
        tmp_path, ANSWER % "{'token': os.environ['T'] + str(time.time_ns()), 'expirationTimestamp': '2020-01-01T00:00:00Z'}"
    )
    ended["exec"]["env"] = [{"name": "T", "value": "t"}]
    reader = Reader(written(ended, server.address), None)
    for _ in range(2):
        reader.nodes(["node-0"], None)
    first, second = (headers["authorization"] for _, headers in server.requests)
    assert first.startswith("Bearer t") and second.startswith("Bearer t") and first != second


def test_a_plugin_is_asked_again_when_its_token_is_no_longer_accepted(server: Server, tmp_path: Path) -> None:
    """As when an administrator withdraws it: it has no end of its own."""
    current = tmp_path / "current"
    current.write_text("first")
    reader = Reader(written(plugin(tmp_path, ANSWER % f"{{'token': open({str(current)!r}).read()}}"), server.address), None)
    reader.nodes(["node-0"], None)
    current.write_text("second")
    server.accepted = "Bearer second"
    reader.nodes(["node-0"], None)
    assert [headers["authorization"] for _, headers in server.requests] == ["Bearer first", "Bearer first", "Bearer second"]
    server.accepted = "Bearer third"
    with pytest.raises(NodeError) as caught:
        reader.nodes(["node-0"], None)
    assert caught.value.code == "cluster-login-refused" and len(server.requests) == 4, "the same token is not tried again"


def test_two_requests_at_once_are_both_sent_again_with_the_next_token(server: Server, tmp_path: Path) -> None:
    """As of a wave's nodes, which are drained at once."""
    place = tmp_path / "token"
    place.write_text("first")
    connection = kubeconfig.connected(written({"tokenFile": str(place)}, server.address), None)
    used = connection.current()
    assert not connection.renewed(used), "there is no other one"
    used = connection.current()
    place.write_text("second")
    assert connection.renewed(used) and connection.renewed(used)
    assert connection.current().authorization == "Bearer second" and not connection.renewed(connection.current())


def test_the_file_of_a_token_is_read_again_once_the_token_is_no_longer_accepted(server: Server, tmp_path: Path) -> None:
    """As of a service account in a pod, where a kubelet replaces it each hour, while a rollout takes several."""
    place = tmp_path / "token"
    place.write_text("first")
    reader = Reader(written({"tokenFile": str(place)}, server.address), None)
    reader.nodes(["node-0"], None)
    place.write_text("second\n")
    server.accepted = "Bearer second"
    reader.nodes(["node-0"], None)
    place.unlink()
    server.accepted = "Bearer third"
    with pytest.raises(NodeError, match="tokenFile of user u"):
        reader.nodes(["node-0"], None)


def test_a_plugin_is_asked_again_when_its_certificate_ends(server: Server, tmp_path: Path) -> None:
    certificates.make(tmp_path / "pki")
    authority = str(tmp_path / "pki" / "ca.crt")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.load_cert_chain(tmp_path / "pki" / "apiserver.crt", tmp_path / "pki" / "apiserver.key")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    # Each time the certificate of another user.
    body = f"""
place = {str(tmp_path)!r} + "/"
name = "etcd-client" if os.path.exists(place + "asked") else "admin"
open(place + "asked", "w").close()
read = lambda end: open(place + "pki/" + name + end).read()
"""
    status = (
        "{'clientCertificateData': read('.crt'), 'clientKeyData': read('.key'), 'expirationTimestamp': '2020-01-01T00:00:00Z'}"
    )
    user = plugin(tmp_path, body + ANSWER % status)
    address = server.address.replace("http:", "https:")
    reader = Reader(written(user, address, **{"certificate-authority": authority}), None)
    for _ in range(2):
        reader.nodes(["node-0"], None)
    assert server.users == ["kube-apiserver", "kube-apiserver"]
    assert "authorization" not in server.requests[-1][1]
    (tmp_path / "asked").unlink()
    reader.nodes(["node-0"], None)
    assert server.users[-1] == "admin", "the connection of the certificate before is not used again"


@pytest.mark.parametrize("entry", [{"name": "T"}, {"name": "T", "value": None}, {"name": "T", "value": ""}])
def test_a_variable_of_a_plugin_without_a_value_is_empty(server: Server, tmp_path: Path, entry: dict[str, Any]) -> None:
    """As in `- name: AWS_PROFILE` of a template whose value was left out: aws would look for the profile None."""
    user = plugin(tmp_path, ANSWER % "{'token': 'profile:' + os.environ['T']}", env=[entry])
    assert authorization(written(user, server.address), server) == "Bearer profile:"


def test_a_plugin_gets_the_cluster_when_it_asks_for_it(server: Server, tmp_path: Path) -> None:
    user = plugin(tmp_path, ANSWER % "{'token': json.loads(os.environ['KUBERNETES_EXEC_INFO'])['spec']['cluster']['config']}")
    user["exec"]["provideClusterInfo"] = True
    extensions = [{"name": "client.authentication.k8s.io/exec", "extension": "audience"}]
    assert authorization(written(user, server.address, extensions=extensions), server) == "Bearer audience"


def test_a_plugin_that_is_missing_is_named_with_its_own_hint() -> None:
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "aws-iam-authenticator-not-here",
            "args": [SECRET],
        }
    }
    error = refused(written(user))
    assert error.code == "kubeconfig-plugin-failed"
    assert "aws-iam-authenticator-not-here" in error.message and "No such file or directory" in error.message
    assert "PATH" in error.remedy
    user["exec"]["installHint"] = "brew install it"
    assert refused(written(user)).remedy == "brew install it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "sys.exit('the session has expired, run: vendor login')",
            "ended with 1. It printed: the session has expired, run: vendor login",
        ),
        ("print('no JSON " + SECRET + "')", "printed no ExecCredential"),
        (ANSWER % "{}", "printed no ExecCredential"),
        (ANSWER % "{'token': 7, 'expirationTimestamp': 'soon'}", "printed no ExecCredential"),
        (ANSWER.replace("**json", "**{'kind': 'Other'}, **json") % "None", "printed no ExecCredential"),
        ("print(json.dumps({'kind': 'ExecCredential', 'apiVersion': 'v0', 'status': {'token': 't'}}))", "answers in v0"),
        ("sys.stdout.write('x' * (2 << 20))", "printed more than 1024 KiB"),
        ("time.sleep(60)", "did not end in 1 s"),
    ],
)
def test_a_plugin_that_fails_is_reported_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    monkeypatch.setattr(kubeconfig, "PLUGIN_SECONDS", 1 if "sleep" in body else 60)
    error = refused(written(plugin(tmp_path, body)))
    assert error.code == "kubeconfig-plugin-failed" and words in error.message and str(tmp_path / "plugin") in error.message


def test_the_proxy_of_the_kubeconfig_is_used(server: Server) -> None:
    text = written({"token": SECRET}, "http://cluster.invalid:6443", **{"proxy-url": server.address})
    assert authorization(text, server) == f"Bearer {SECRET}"
    assert server.requests[-1][0] == "http://cluster.invalid:6443/api/v1/nodes?limit=200"


def test_the_proxy_of_the_environment_is_used_but_for_whom_it_exempts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    authorization(written({"token": SECRET}, "http://cluster.invalid"), server)
    assert server.requests[-1][0] == "http://cluster.invalid/api/v1/nodes?limit=200"
    monkeypatch.setenv("no_proxy", "127.0.0.1,.invalid")
    authorization(written({"token": SECRET}, server.address), server)
    assert server.requests[-1][0] == "/api/v1/nodes?limit=200"


@pytest.mark.parametrize(
    ("server", "exempt", "direct"),
    [
        # A local cluster, or a tunnel to one: Go never sends these to a proxy of the environment.
        ("https://127.0.0.1:6443", "", True),
        ("https://localhost:6443", "", True),
        ("https://[::1]:6443", "", True),
        ("https://10.1.2.3:6443", "10.0.0.0/8", True),
        ("https://[fd00::1]:6443", "192.168.0.0/16, fd00::/8", True),
        ("https://11.1.2.3:6443", "10.0.0.0/8,10.1.2.3", False),
        ("https://api.corp.example:6443", "*.corp.example", True),
        ("https://api.corp.example:6443", "corp.example:6443", True),
        ("https://api.corp.example:6443", "corp.example:443", False),
        ("https://corp.example:6443", ".corp.example", False),
        ("https://10.1.2.3", "10.1.2.3:443", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://api.corp.example:6443", "*", True),
        ("https://api.corp.example:6443", "other.example,nonsense/99,:", False),
    ],
)
def test_a_proxy_of_the_environment_is_left_out_where_go_leaves_it_out(
    server: str, exempt: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert kubeconfig.proxy(kubeconfig.login(written(None, server), None)) == (None if direct else "http://proxy.example:3128")


def test_of_two_variables_the_one_in_capitals_counts_as_for_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = kubeconfig.login(written(None, "https://api.corp.example:6443"), None)
    monkeypatch.setenv("https_proxy", "http://lower.example:3128")
    monkeypatch.setenv("no_proxy", "corp.example")
    assert kubeconfig.proxy(chosen) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "other.example")
    assert kubeconfig.proxy(chosen) == "http://proxy.example:3128"
    monkeypatch.setenv("HTTPS_PROXY", "")
    assert kubeconfig.proxy(chosen) == "http://lower.example:3128"


def test_a_proxy_of_the_systems_settings_is_none_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python asks them on a Mac, which kubectl and the engine's Kubernetes plugin do not."""
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://of-the-settings.example:3128"})
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda _: True)
    chosen = kubeconfig.login(written(None, "https://api.corp.example:6443"), None)
    assert kubeconfig.proxy(chosen) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert kubeconfig.proxy(chosen) == "http://proxy.example:3128"


def test_a_proxy_of_the_environment_needs_no_scheme(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address.removeprefix("http://"))
    authorization(written({"token": SECRET}, "http://cluster.invalid"), server)
    assert server.requests[-1][0] == "http://cluster.invalid/api/v1/nodes?limit=200"


def test_the_user_of_a_proxy_logs_in_there_and_is_not_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    address = server.address.replace("//", f"//me:{SECRET}%40%2F@")
    expected = "Basic " + base64.b64encode(f"me:{SECRET}@/".encode()).decode()
    authorization(written({"token": "t"}, "http://cluster.invalid:6443", **{"proxy-url": address}), server)
    assert server.requests[-1][1].get("proxy-authorization") == expected
    monkeypatch.setenv("http_proxy", address)
    authorization(written({"token": "t"}, "http://cluster.invalid:6443"), server)
    assert server.requests[-1][1].get("proxy-authorization") == expected
    closed = f"http://me:{SECRET}@127.0.0.1:1"
    assert "does not answer" in refused(written({"token": "t"}, **{"proxy-url": closed})).message


def test_what_an_address_of_the_server_holds_beside_its_place_is_not_told() -> None:
    message = refused(written({"token": "t"}, f"https://me:{SECRET}@127.0.0.1:1/k8s?token={SECRET}")).message
    assert message.startswith("the API server https://127.0.0.1:1/k8s does not answer")


def test_a_proxy_of_another_kind_is_refused() -> None:
    error = refused(written({"token": SECRET}, **{"proxy-url": "socks5://127.0.0.1:1080"}))
    assert error.code == "kubeconfig-invalid" and "socks5" in error.message and "proxy-url" in error.remedy


def test_words_of_any_language_beside_an_authority_are_no_fault(tmp_path: Path) -> None:
    """As in the bundles of distributions, which name each authority above its certificate."""
    bundle = Path(certifi.where()).read_text(encoding="utf-8")
    authority = bundle[bundle.index("-----BEGIN") : bundle.index("-----END")] + "-----END CERTIFICATE-----\n"
    file = tmp_path / "bundle.pem"
    file.write_text(f"# NetLock Arany (Class Gold) F\u0151tan\u00fas\u00edtv\u00e1ny\n{authority}", encoding="utf-8")
    chosen = kubeconfig.login(written(None, **{"certificate-authority": str(file)}), None)
    assert len(kubeconfig.trust(chosen, kubeconfig.Credentials(), certifi.where()).get_ca_certs()) == 1
    file.write_text("\u0151")
    assert "is not PEM" in refused(written(None, **{"certificate-authority": str(file)})).message


def plain_authority(folder: Path) -> None:
    """An authority without a key identifier, as EKS has them (kubernetes-client/python 2394), and a certificate of it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), certificates.subject("kubernetes", None)
    authority = certificates.builder(name, name, key.public_key())
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    server = certificates.builder(certificates.subject("kube-apiserver", None), name, key.public_key())
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = server.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    for file, unsigned in (("ca.crt", authority), ("server.crt", server)):
        (folder / file).write_bytes(unsigned.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(certificates.private_pem(key))


@pytest.mark.parametrize("trusted", [True, False])
def test_the_controller_accepts_an_authority_without_a_key_identifier(
    trusted: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its image has Python 3.13, where urllib3 refuses them. The server is below a path, as behind a management server."""
    monkeypatch.setattr("urllib3.util.ssl_.sys", SimpleNamespace(version_info=(3, 13)))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    plain_authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    authority = {"certificate-authority": str(tmp_path / "ca.crt")} if trusted else {}
    address = server.address.replace("http:", "https:") + "/k8s/clusters/c-1"
    (tmp_path / "kubeconfig").write_text(written({"token": SECRET}, address, **authority))
    api = Api(cast(Settings, SimpleNamespace(proof="p", namespace="n", selector="s")))
    if trusted:
        assert [[node["metadata"]["name"] for node in nodes] for nodes, _ in api.pages("nodes")] == [["node-0"]]
        assert server.requests[-1][0].startswith("/k8s/clusters/c-1/api/v1/nodes?")
    else:
        with pytest.raises(NodeError, match="certificate verify failed"):
            list(api.pages("nodes"))


def chain(folder: Path) -> None:
    """A root, an authority below it, and that one's certificate of a server: a cluster in an organization's own PKI."""
    names = [certificates.subject(name, None) for name in ("root", "kubernetes", "kube-apiserver")]
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in names]
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    for number, file in enumerate(("root.crt", "ca.crt", "server.crt")):
        issuer = max(number - 1, 0)
        unsigned = certificates.builder(names[number], names[issuer], keys[number].public_key())
        is_authority = x509.BasicConstraints(ca=number < 2, path_length=None)
        unsigned = unsigned.add_extension(is_authority, critical=True).add_extension(address, critical=False)
        (folder / file).write_bytes(unsigned.sign(keys[issuer], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(certificates.private_pem(keys[2]))


@pytest.mark.parametrize("authority", ["ca.crt", "server.crt"])
def test_an_authority_that_is_no_root_is_trusted_as_by_kubectl(
    authority: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python before 3.13 asks for a chain up to a root; Go ends it at what the kubeconfig holds."""
    chain(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    text = written(
        {"token": SECRET}, server.address.replace("http:", "https:"), **{"certificate-authority": str(tmp_path / authority)}
    )
    assert authorization(text, server) == f"Bearer {SECRET}"
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    (tmp_path / "kubeconfig").write_text(text)
    api = Api(cast(Settings, SimpleNamespace(proof="p", namespace="n", selector="s")))
    assert len(list(api.pages("nodes"))) == 1


@pytest.mark.parametrize(
    ("fault", "words", "remedy"),
    [
        (
            "authority",
            "self-signed certificate|local issuer certificate",
            "If the cluster was made again, set its new kubeconfig",
        ),
        ("time", "certificate has expired", "Set this machine's clock; if it is right, renew the API server's certificate"),
        ("name", "certificate is not valid for 'localhost'", "set tls-server-name of the kubeconfig's cluster"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_not_called_a_server_that_does_not_answer(
    fault: str, words: str, remedy: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a cluster that was made again at its address. "Start it" helps nobody then, nor does to ask it again for minutes."""
    if fault == "time":
        monkeypatch.setattr(certificates, "LIFETIME", timedelta(minutes=-30))
    (tmp_path / "other").mkdir()
    chain(tmp_path)
    chain(tmp_path / "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    authority = tmp_path / ("other/root.crt" if fault == "authority" else "ca.crt")
    address = f"https://{'localhost' if fault == 'name' else '127.0.0.1'}:{server.server_port}"
    error = refused(written({"token": SECRET}, address, **{"certificate-authority": str(authority)}))
    assert error.code == "cluster-certificate-untrusted", error.sentence()
    assert re.search(words, error.message) and remedy in error.remedy


@pytest.mark.parametrize("is_full", [True, False])
def test_a_certificate_for_which_there_is_no_temporary_folder_is_no_traceback(
    is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    if is_full:
        monkeypatch.setattr(Path, "write_bytes", refuse)
    else:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    data = base64.b64encode(b"c").decode()
    error = refused(written({"client-certificate-data": data, "client-key-data": data}))
    assert error.code == "file-unwritable" and "set TMPDIR" in error.remedy


def test_the_user_acts_as_another(server: Server) -> None:
    authorization(written({"token": SECRET, "as": "me", "as-groups": ["admins"]}, server.address), server)
    headers = server.requests[-1][1]
    assert (headers["impersonate-user"], headers["impersonate-group"]) == ("me", "admins")
    assert "several groups" in refused(written({"token": SECRET, "as": "me", "as-groups": ["a", "b"]})).message


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (
            {"client-certificate": "/nowhere/c", "client-key": "/nowhere/k"},
            "client-certificate of user u of the kubeconfig names /nowhere/c",
        ),
        ({"tokenFile": "/nowhere/token"}, "tokenFile of user u of the kubeconfig names /nowhere/token: No such file"),
        ({"tokenFile": "/dev/zero"}, "is not a regular file"),
        ({"client-certificate-data": base64.b64encode(b"c").decode()}, "has a client-certificate and no client-key"),
        (
            {"client-certificate-data": "%%%", "client-key-data": "%%%"},
            "client-certificate-data of user u of the kubeconfig is not",
        ),
        ({"client-certificate-data": "YQ==", "client-key-data": "YQ=="}, "is not PEM"),
        ({"exec": {"command": 7, "args": 5}}, "has the wrong type"),
    ],
)
def test_a_missing_file_of_a_user_is_reported(user: dict[str, Any], words: str) -> None:
    error = refused(written(user))
    assert error.code == "kubeconfig-invalid" and words in error.message and "--flatten" in error.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("[]", "is empty"),
        ("just words", "not a mapping"),
        (f"a: [\n{SECRET}", "not YAML (line"),
        ("[" * 5000 + "]" * 5000, "not YAML"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, "not YAML"),
        ("contexts: []", "no current-context"),
        ("current-context: x\ncontexts: 7", "contexts of the kubeconfig is not a list"),
        ("current-context: [x]\ncontexts: []", "current-context of the kubeconfig is not text"),
        ("current-context: {x: y}", "current-context of the kubeconfig is not text"),
        ("current-context: x\ncontexts: [7]", "has no name"),
        ("current-context: x", "no context x; its contexts: none"),
        ("current-context: x\ncontexts: [{name: x}, {name: x}]", "two entries with the name x"),
        ("current-context: x\ncontexts: [{name: x, context: {cluster: c}}]", "names the cluster c, which is not in clusters"),
        ("current-context: x\ncontexts: [{name: x}]\nclusters: [{name: c}]", "names the cluster None"),
        ("current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c}]", "no http(s) address"),
        (written({}).replace("name: u\n", "name: other\n"), "names the user u, which is not in users"),
    ],
)
def test_an_incomplete_kubeconfig_is_refused_with_what_it_lacks(text: str, words: str) -> None:
    error = refused(text)
    assert error.code == "kubeconfig-invalid" and words in error.message


@pytest.mark.parametrize("value", ["false", "true", "", 0, 1, [True]])
def test_no_text_turns_the_check_of_the_servers_certificate_off(value: Any) -> None:
    error = refused(written({"token": SECRET}, **{"insecure-skip-tls-verify": value}))
    assert error.code == "kubeconfig-invalid" and "neither true nor false" in error.message
    for plain, mode in ((None, ssl.CERT_REQUIRED), (False, ssl.CERT_REQUIRED), (True, ssl.CERT_NONE)):
        api = kubeconfig.connected(written({"token": SECRET}, **{"insecure-skip-tls-verify": plain}), None).api
        assert api.rest_client.pool_manager.connection_pool_kw["ssl_context"].verify_mode is mode


@pytest.mark.parametrize(
    ("cluster", "user", "address"),
    [
        ({"insecure-skip-tls-verify": True}, {}, "https://192.0.2.10:6443"),
        ({"certificate-authority": "/etc/ca"}, {}, "https://192.0.2.10:6443"),
        ({}, {"client-certificate-data": "eA=="}, "https://192.0.2.10:6443"),
        ({}, {"token": "x"}, "http://192.0.2.10:6443"),
    ],
)
def test_an_address_without_a_scheme_is_read_as_client_go_reads_it(
    cluster: dict[str, Any], user: dict[str, Any], address: str
) -> None:
    assert kubeconfig.login(written(user, "192.0.2.10:6443", **cluster), None).server == address


@pytest.mark.parametrize("server", ["", "https://", "ftp://192.0.2.10", "https://[192.0.2.10", "//192.0.2.10", 6443])
def test_an_address_that_is_no_http_address_is_refused(server: Any) -> None:
    with pytest.raises(NodeError, match=r"no http\(s\) address"):
        kubeconfig.login(written({"token": "x"}, server), None)


@pytest.mark.slow
def test_a_busy_server_is_asked_again_after_a_bounded_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)
    server.busy = ["99999999999999999999", "2", "1"]
    authorization(written(None, server.address), server)
    assert rests == [1, 2, 10] and len(server.requests) == 4
    server.busy = ["1"] * 9
    assert refused(written(None, server.address)).code == "cluster-unreachable" and rests[3:] == [1, 1, 1]
    server.busy = ["Fri, 27 Nov 2026 09:00:00 GMT"]
    assert refused(written(None, server.address)).code == "cluster-unreachable" and len(rests) == 6


def test_a_missing_context_is_reported_with_those_that_exist() -> None:
    assert "no context y; its contexts: x" in refused(written({}), "y").message
