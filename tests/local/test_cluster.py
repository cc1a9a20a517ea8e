"""The local API server is real, private to its stack, and gone with it."""

import json
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from local import certificates, cluster, process
from local.boot import BOOT_VARIABLE, Boot, cluster_boot
from nodekit.errors import NodeError
from tools import get


def test_nobody_gets_in_without_a_certificate_and_nothing_listens_outside() -> None:
    directory = Path("/d")
    etcd = cluster.etcd_command(Path("/etcd"), directory, 1, 2)
    server = cluster.apiserver_command(Path("/apiserver"), directory, 3, 1)
    assert {"--client-cert-auth", "--peer-client-cert-auth", "--trusted-ca-file=/d/pki/ca.crt"} <= set(etcd)
    assert {"--anonymous-auth=false", "--authorization-mode=RBAC", "--bind-address=127.0.0.1"} <= set(server)
    for argument in (*etcd, *server):
        if "://" in argument and "issuer" not in argument:
            assert "https://127.0.0.1:" in argument


def test_certificates_say_who_they_are_and_keys_are_private(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    certificates.make(pki)
    assert pki.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in pki.iterdir()} == {0o600}
    admin = x509.load_pem_x509_certificate((pki / "admin.crt").read_bytes())
    assert admin.subject.rfc4514_string() == "CN=admin,O=system:masters"
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    for name, *_ in certificates.LEAVES:
        leaf = x509.load_pem_x509_certificate((pki / f"{name}.crt").read_bytes())
        leaf.verify_directly_issued_by(authority)


def test_the_kubeconfig_carries_everything_itself() -> None:
    document = json.loads(cluster.kubeconfig("https://127.0.0.1:1", "authority", "certificate", "key"))
    assert document["clusters"][0]["cluster"]["certificate-authority-data"] == "YXV0aG9yaXR5"
    assert document["users"][0]["user"] == {"client-certificate-data": "Y2VydGlmaWNhdGU=", "client-key-data": "a2V5"}


def test_a_server_that_ends_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    false = shutil.which("false")
    with pytest.raises(NodeError, match="ended by itself"):
        cluster.up({"directory": str(tmp_path / "cluster"), "etcd": false, "apiserver": false})
    assert not (tmp_path / "cluster").exists()


def test_start_that_was_asked_for_is_recorded_and_half_a_cluster_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "server"
    server.write_text("#!/bin/sh\nexec sleep 300\n")
    server.chmod(0o755)
    monkeypatch.setattr(cluster, "wait", lambda directory, port: None)
    monkeypatch.setattr(cluster, "described", lambda directory, port: {"port": port})
    directory = tmp_path / "cluster"
    request: dict[str, Any] = {"directory": str(directory), "etcd": str(server), "apiserver": str(server)}
    assert (cluster_boot(directory).exists, cluster_boot(directory).running) == (False, False)
    monkeypatch.setenv(BOOT_VARIABLE, "asked")
    first = cluster.up(request)
    try:
        assert cluster_boot(directory) == Boot(True, True, "asked")
        process.stop(directory / "apiserver.process")
        ended = cluster_boot(directory)
        assert (ended.exists, ended.running) == (True, False) and ended.name != "asked"
        for name in (ended.name, "asked again"):  # the second finds it running
            monkeypatch.setenv(BOOT_VARIABLE, name)
            assert cluster.up(request) == first and cluster_boot(directory) == Boot(True, True, name)
    finally:
        cluster.down(request)


@pytest.fixture(scope="module")
def servers() -> dict[str, str]:
    from tools import get

    return {"etcd": str(get.path("etcd")), "apiserver": str(get.path("kube-apiserver"))}


@pytest.mark.engine
def test_the_api_server_serves_its_administrator_alone_and_keeps_its_data(tmp_path: Path, servers: dict[str, str]) -> None:
    directory = tmp_path / "cluster"
    request: dict[str, Any] = {"directory": str(directory), **servers}
    try:
        first = cluster.up(request)
        assert first["version"] == f"v{get.parts()['kube-apiserver'].version}"
        assert cluster.up(request) == first
        port = int(str(first["server"]).rpartition(":")[2])
        admin = cluster.client_context(directory / "pki")
        assert b'"default"' in (cluster.get(port, "/api/v1/namespaces", admin) or b"")
        stranger = ssl.create_default_context(cafile=str(directory / "pki/ca.crt"))
        assert cluster.get(port, "/api/v1/namespaces", stranger) is None
        before = cluster.get(port, "/api/v1/namespaces/default", admin)

        pids = [process.alive(directory / name) for name in ("etcd.process", "apiserver.process")]
        cluster.halt(directory)
        assert cluster.up(request) == first
        assert cluster.get(port, "/api/v1/namespaces/default", admin) == before
        again = [process.alive(directory / name) for name in ("etcd.process", "apiserver.process")]
        assert None not in again and not set(pids) & set(again)
    finally:
        cluster.down(request)
    assert not directory.exists()
    for pid in again:
        assert pid is not None
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        # A child of this test stays as a zombie until it is waited for.
        assert state == "Z" and os.waitpid(pid, 0)[0] == pid


@pytest.mark.engine
def test_half_a_cluster_is_started_again(tmp_path: Path, servers: dict[str, str]) -> None:
    request: dict[str, Any] = {"directory": str(tmp_path / "cluster"), **servers}
    try:
        first = cluster.up(request)
        process.stop(tmp_path / "cluster" / "etcd.process")
        assert cluster.up(request) == first
    finally:
        cluster.down(request)
