"""The repository's key and Kata's archive come the way that apt's own downloads take.

Lost if these fail: a node that reaches the repository through a proxy of apt.conf alone, and whose key or archive is never read;
or a proxy's password in a message."""

import functools
import hashlib
import http.server
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.host import apt, apt_source, kata_download
from nodekit.host.journal import Transaction
from nodekit.rules import certificates
from nodekit.rules.docker.apt_source import proxy
from tests.nodekit.docker_node import served
from tests.serving import running

ADDRESS = "http://download.invalid/linux/debian"


class Proxy(http.server.BaseHTTPRequestHandler):
    """Answers for every site."""

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200 if b"refused" not in body else 407)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """apt's settings on a node behind a proxy, with a login for it."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server, running(server):
        dump = f'Acquire "";\nAcquire::http "";\nAcquire::http::Proxy "http://user:hid/hidden@127.0.0.1:{server.server_port}/";\n'
        monkeypatch.setattr(apt, "settings", lambda root: dump)
        yield dump


@pytest.mark.usefixtures("settings")
def test_the_key_is_read_through_the_proxy_of_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def checked(address: str, suite: str, component: str, fingerprint: str, key: bytes, where: str) -> str:
        read.append(key)
        return "text\n"

    monkeypatch.setattr(apt_source, "checked_source", checked)
    with Transaction(tmp_path, "docker") as change:
        apt_source.ensure(tmp_path, change, address=ADDRESS, suite="trixie", component="stable", fingerprint="A" * 40)
    assert read == [f"{ADDRESS}/gpg".encode()]


def test_a_proxy_that_refuses_is_named_without_its_login(settings: str) -> None:
    address = "http://refused.invalid/linux/debian"
    with pytest.raises(NodeError) as caught:
        apt_source.fetch_key(address, proxy(settings, address))
    assert "through apt's proxy 127.0.0.1:" in caught.value.message and "407" in caught.value.message
    assert "hidden" not in caught.value.sentence()


ARCHIVE = "http://download.invalid/kata-static.tar.xz"


@pytest.mark.usefixtures("settings")
def test_the_archive_is_read_through_the_proxy_of_apt(tmp_path: Path) -> None:
    assert kata_download.size(tmp_path, ARCHIVE) == len(ARCHIVE)
    kata_download.download(tmp_path, ARCHIVE, hashlib.sha256(ARCHIVE.encode()).hexdigest(), tmp_path / "archive")
    assert (tmp_path / "archive").read_text() == ARCHIVE


@pytest.mark.parametrize("name", ["kata.tar.xz", "refused"], ids=["answers-with-a-page-of-its-own", "refuses"])
@pytest.mark.usefixtures("settings")
def test_what_the_proxy_of_apt_does_not_give_is_asked_for_without_it(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As apt-cacher-ng, which leads to repositories alone."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / name).write_bytes(b"archive")
    with served(tmp_path / "site") as address:
        kata_download.download(tmp_path, f"{address}/{name}", hashlib.sha256(b"archive").hexdigest(), tmp_path / "archive")
    assert (tmp_path / "archive").read_bytes() == b"archive"
    printed = capsys.readouterr().err
    assert "through apt's proxy 127.0.0.1:" in printed and "trying without it" in printed and "hidden" not in printed


@pytest.mark.usefixtures("settings")
def test_an_archive_that_no_way_leads_to_is_refused_with_what_each_said(tmp_path: Path) -> None:
    with pytest.raises(NodeError) as caught:
        kata_download.size(tmp_path, "http://refused.invalid/kata-static.tar.xz")
    message = caught.value.message
    assert caught.value.code == "kata-download-failed" and "hidden" not in caught.value.sentence()
    assert "name" in message.lower() and "through apt's proxy 127.0.0.1:" in message and "407" in message


HTTP, HTTPS, OWN, DIRECT = (
    'Acquire::http::Proxy "http://all:1";\n',
    'acquire::HTTPS::proxy "http://tls:1";\n',
    'Acquire::http::Proxy::download.docker.com "http://own:1";\n',
    'Acquire::https::Proxy::download.docker.com "DIRECT";\n',
)


@pytest.mark.parametrize(
    ("dump", "expected"),
    [
        ("", None),
        (HTTP, "http://all:1"),  # of https where that has none of its own (apt-transport-https(1))
        (HTTP + HTTPS, "http://tls:1"),
        (HTTP + HTTPS + OWN, "http://own:1"),
        (HTTP + HTTPS + OWN + DIRECT, None),
        ('Acquire::http::Proxy "";\n', None),
        ('Acquire::http::Proxy "false";\n', None),
        ('Acquire::http::Proxy "socks5h://localhost:1080";\n', None),
    ],
)
def test_the_proxy_is_the_one_that_apt_would_take(dump: str, expected: str | None) -> None:
    assert proxy(dump, "https://download.docker.com/linux/debian") == expected


@pytest.mark.parametrize(
    ("code", "words", "remedy"),
    [
        (9, "certificate is not yet valid", "Set the node's clock"),
        (10, "certificate has expired", "Set the node's clock"),
        (20, "unable to get local issuer certificate", "ca-certificates"),
        (19, "self-signed certificate in certificate chain", "ca-certificates"),
        (62, "Hostname mismatch", "that the node reaches it"),
    ],
)
def test_a_certificate_that_the_node_does_not_trust_has_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str, remedy: str
) -> None:
    """Lost if this fails: a clock that is wrong, or a minimal system without authorities, is searched for in the network."""

    def refuse(*_: object, **__: object) -> None:
        error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {words}")
        error.verify_code = code
        raise urllib.error.URLError(error)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    size = functools.partial(kata_download.size, tmp_path)
    archive = functools.partial(kata_download.download, tmp_path, sha256="", target=Path(os.devnull))
    for download in (apt_source.fetch_key, size, archive):
        with pytest.raises(NodeError) as caught:
            download("https://mirror.example/linux/debian")
        assert words in caught.value.message and remedy in caught.value.remedy, caught.value.sentence()


@pytest.mark.parametrize(
    ("words", "case"),
    [
        ("Certificate verification failed: The certificate chain uses expired certificate.", "time"),
        ("The certificate is NOT trusted. The certificate chain uses not yet valid certificate.  Could not handshake", "time"),
        ("The certificate is NOT trusted. The certificate issuer is unknown.  Could not handshake", "authority"),
        ("No system certificates available. Try installing ca-certificates.", "authority"),
        ("Could not resolve 'download.docker.com'", ""),
    ],
)
def test_apt_s_own_words_of_a_certificate_have_the_same_remedies(words: str, case: str) -> None:
    assert certificates.case_of_words(words).removeprefix("certificate-") == case
