"""The mirror stands for every site, the engine's downloads of plugins included; what a person has set stays."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local import certificates
from tools import sites
from tools.cache import SetupError


def test_mirror_stands_for_every_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_NODES_MIRROR", "https://mirror.example/files/")
    assert sites.address("https://dl.k8s.io/release/a") == "https://mirror.example/files/dl.k8s.io/release/a"
    monkeypatch.setenv("KATA_NODES_MIRROR", "https://mirror.example/files@2")
    assert sites.address("https://dl.k8s.io/a") == "https://mirror.example/files@2/dl.k8s.io/a"
    monkeypatch.delenv("KATA_NODES_MIRROR")
    assert sites.address("https://dl.k8s.io/release/a") == "https://dl.k8s.io/release/a"


@pytest.mark.parametrize(
    "address", ["mirror.example", "ftp://mirror.example", "https://", "https://m.example/?a=b", "https://a b", "http://[::1"]
)
def test_mirror_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("KATA_NODES_MIRROR", address)
    with pytest.raises(SetupError, match="Set it to an http or https address"):
        sites.mirror()


def test_letters_outside_of_ascii_in_a_mirrors_address_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's client sends ASCII alone, and ended set-up with a traceback."""
    monkeypatch.setenv("KATA_NODES_MIRROR", "https://spiegel.example/für%20alle/\udcfc")
    assert sites.address("https://dl.k8s.io/a") == "https://spiegel.example/f%C3%BCr%20alle/%FC/dl.k8s.io/a"


def test_host_whose_name_cannot_be_one_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_NODES_MIRROR", f"http://{'a' * 70}.example")
    assert not sites.available("https://dl.k8s.io/a")
    with pytest.raises(OSError, match="UnicodeError while reading"):
        sites.fetch("https://dl.k8s.io/a")


@pytest.mark.parametrize(
    "address", ["https://me:WORD@mirror.example", "https://me:WO#RD@mirror.example", "me:WORD@mirror.example"]
)
def test_login_in_a_mirrors_address_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    # Python's downloads take what is before the @ for a host and print it.
    monkeypatch.setenv("KATA_NODES_MIRROR", address)
    with pytest.raises(SetupError, match="a user or a password") as caught:
        sites.fetch("https://dl.k8s.io/release/a")
    assert "RD" not in str(caught.value)


def test_engine_gets_the_mirror_after_what_a_person_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_NODES_MIRROR", "https://mirror.example")
    monkeypatch.setenv(sites.OVERRIDES, "^https://own=https://other.example")
    own, led = sites.plugin_overrides().split(",")
    assert own == "^https://own=https://other.example"
    pattern, _, place = led.partition("=")
    assert place == "https://mirror.example/get.pulumi.com/releases/plugins"
    # How the engine spells the sources of its own plugins: pulumi/sdk/go/common/workspace/plugins.go.
    for source in ("github://api.github.com/pulumi/pulumi-aws", "https://get.pulumi.com/releases/plugins"):
        assert re.search(pattern, source)
    assert not re.search(pattern, "github://api.github.com/somebody/pulumi-aws")
    monkeypatch.setenv(sites.OVERRIDES, sites.plugin_overrides())
    assert sites.plugin_overrides().split(",") == [own, led]  # a second run in the same shell adds nothing


def test_engine_gets_nothing_without_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KATA_NODES_MIRROR", raising=False)
    monkeypatch.delenv(sites.OVERRIDES, raising=False)
    assert sites.plugin_overrides() == ""


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, answers: list[bytes], pki: Path | None = None) -> Iterator[list[bytes]]:
    """A mirror whose connections end after these answers, one each, and the last one again and again; the requests it got.

    It has TLS where a folder of certificates is given.
    """
    requests: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    if pki:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        listener = context.wrap_socket(listener, server_side=True)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                requests.append(connection.recv(4096))
                connection.sendall(answers[min(len(requests), len(answers)) - 1])

    thread = threading.Thread(target=serve)
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KATA_NODES_MIRROR", f"http{'s' if pki else ''}://127.0.0.1:{listener.getsockname()[1]}")
    try:
        yield requests
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile"
HALF = WHOLE[:-2]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfi"


@pytest.mark.parametrize("dropped", [b"", HALF, CHUNKED])
def test_file_whose_connection_is_dropped_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, dropped: bytes) -> None:
    with answering(monkeypatch, [dropped, dropped, WHOLE]) as requests:
        assert sites.fetch("https://dl.k8s.io/release/a") == b"file"
    assert len(requests) == 3


@pytest.mark.parametrize(
    ("answer", "error", "words", "number"),
    [
        (b"", OSError, "RemoteDisconnected|closed connection", 3),
        (HALF, SetupError, "ended after 2 of 4 bytes. Run the command again", 3),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", OSError, "404", 1),
        (b"SSH-2.0-OpenSSH_9.2\r\n", OSError, "BadStatusLine", 1),
    ],
)
def test_file_that_stays_away_is_reported(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, error: type[Exception], words: str, number: int
) -> None:
    with answering(monkeypatch, [answer]) as requests, pytest.raises(error, match=words):
        sites.fetch("https://dl.k8s.io/release/a")
    assert len(requests) == number


def test_authority_that_python_does_not_know_is_told_with_where_to_name_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`Check the connection and its proxy` is no help on macOS, where Python from python.org knows no authority at first."""
    certificates.make(tmp_path / "pki")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with (
        answering(monkeypatch, [WHOLE], tmp_path / "pki"),
        pytest.raises(OSError, match=r"certificate is refused \(.*set SSL_CERT_FILE to"),
    ):
        sites.fetch("https://dl.k8s.io/release/a")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pki/ca.crt"))
    with answering(monkeypatch, [WHOLE], tmp_path / "pki"):
        assert sites.fetch("https://dl.k8s.io/release/a") == b"file"
