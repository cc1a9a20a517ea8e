"""Runs a real Kubernetes API server with its etcd on the loopback address, for the Kubernetes half of a local stack.

python3 -m local.cluster up|down     (settings as JSON on standard input)
"""

import http.client
import json
import os
import ssl
import sys
from pathlib import Path

from local import certificates, parts, process
from local.boot import ADDRESS, BOOT_VARIABLE, CLUSTER_RECORDS, cluster_boot, named, place
from local.process import progress
from nodekit.errors import NodeError
from nodekit.host.reading import MAX_OWN, read_text

READY_SECONDS = 120
SERVICE_RANGE = "10.96.0.0/24"
NAMES = (*CLUSTER_RECORDS, "etcd.log", "apiserver.log", "place.json", "etcd", "pki", "made")


def etcd_command(etcd: Path, directory: Path, client: int, peer: int) -> list[str]:
    """etcd's arguments: one member, loopback only, and no access without a certificate of this cluster's authority."""
    pki = directory / "pki"
    return [
        str(etcd),
        "--name=local",
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls=https://{ADDRESS}:{client}",
        f"--advertise-client-urls=https://{ADDRESS}:{client}",
        f"--listen-peer-urls=https://{ADDRESS}:{peer}",
        f"--initial-advertise-peer-urls=https://{ADDRESS}:{peer}",
        f"--initial-cluster=local=https://{ADDRESS}:{peer}",
        "--client-cert-auth",
        f"--trusted-ca-file={pki / 'ca.crt'}",
        f"--cert-file={pki / 'etcd.crt'}",
        f"--key-file={pki / 'etcd.key'}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={pki / 'ca.crt'}",
        f"--peer-cert-file={pki / 'etcd.crt'}",
        f"--peer-key-file={pki / 'etcd.key'}",
        "--log-level=warn",
    ]


def apiserver_command(apiserver: Path, directory: Path, port: int, client: int) -> list[str]:
    """kube-apiserver's arguments: certificates only, RBAC, loopback only."""
    pki = directory / "pki"
    return [
        str(apiserver),
        f"--bind-address={ADDRESS}",
        f"--advertise-address={ADDRESS}",
        # Nothing reconciles the `kubernetes` service onto a loopback address, which the API refuses as an endpoint.
        "--endpoint-reconciler-type=none",
        f"--secure-port={port}",
        f"--cert-dir={pki}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--anonymous-auth=false",
        "--authorization-mode=RBAC",
        f"--etcd-servers=https://{ADDRESS}:{client}",
        f"--etcd-cafile={pki / 'ca.crt'}",
        f"--etcd-certfile={pki / 'etcd-client.crt'}",
        f"--etcd-keyfile={pki / 'etcd-client.key'}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
    ]


def kubeconfig(server: str, authority: str, certificate: str, key: str) -> str:
    """A kubeconfig with everything inline, as JSON (which every YAML reader takes)."""
    cluster = {"server": server, "certificate-authority-data": certificates.base64(authority)}
    user = {
        "client-certificate-data": certificates.base64(certificate),
        "client-key-data": certificates.base64(key),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
    }
    return json.dumps(document, indent=2) + "\n"


def client_context(pki: Path) -> ssl.SSLContext:
    """How this program itself talks to the API server: as its administrator, trusting its authority alone."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return context


def get(port: int, path: str, context: ssl.SSLContext) -> bytes | None:
    """The answer to one GET, at most 64 KiB, or None when it is not 200."""
    connection = http.client.HTTPSConnection(ADDRESS, port, timeout=5, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read(65536) if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def described(directory: Path, port: int) -> dict[str, object]:
    """What a caller needs to reach the API server. Holds the administrator's key: it must not be printed in a log."""
    pki = directory / "pki"
    version = get(port, "/version", client_context(pki))
    if version is None:
        raise NodeError("local-cluster-not-up", "the API server does not report its version")
    server = f"https://{ADDRESS}:{port}"
    texts = [read_text(pki / name, MAX_OWN) for name in ("ca.crt", "admin.crt", "admin.key")]
    return {
        "kubeconfig": kubeconfig(server, *texts),
        "server": server,
        "version": json.loads(version)["gitVersion"],
    }


def up(request: dict[str, object]) -> dict[str, object]:
    """Make sure that etcd and the API server run: reuse them, start them again over their data, or create them.

    Keys: `directory` (private folder), `etcd`, `apiserver` (paths of the programs). Raises NodeError with the end
    of the log; what an `up` started is ended when it fails or is interrupted.
    """
    request = parts.completed(request, {"etcd": "etcd", "apiserver": "kube-apiserver"})
    directory = process.path_field(request, "directory")
    etcd, apiserver = process.path_field(request, "etcd"), process.path_field(request, "apiserver")
    with process.owned(directory):
        whole = (directory / "made").exists()
        name = os.environ.get(BOOT_VARIABLE) or cluster_boot(directory).name
        if not whole:
            clear(directory)
        try:
            if not whole:
                certificates.make(directory / "pki")
                process.write(directory / "made", "")
            port = start(directory, etcd, apiserver)
            named(directory, name)
            return described(directory, port)
        except BaseException:
            # Data that was here before outlives a failed start; the processes do not.
            halt(directory)
            if not whole:
                clear(directory)
                directory.rmdir()
            raise


def start(directory: Path, etcd: Path, apiserver: Path) -> int:
    """Start what does not run and wait for /readyz; the port of the API server."""
    records = [directory / record for record in CLUSTER_RECORDS]
    ports = {name: port for name, port in place(directory).items() if isinstance(port, int)}
    if not all(process.alive(record) for record in records):
        # One without the other is of no use, and a peer address cannot change under a running member.
        halt(directory)
        chosen: dict[str, int] = {}
        for name in ("client", "peer", "apiserver"):
            chosen[name] = process.free_port(ports.get(name), chosen.values())
        ports = chosen
        process.write(directory / "place.json", json.dumps(ports))
        process.spawn(etcd_command(etcd, directory, ports["client"], ports["peer"]), records[0], directory / "etcd.log")
        process.spawn(
            apiserver_command(apiserver, directory, ports["apiserver"], ports["client"]),
            records[1],
            directory / "apiserver.log",
        )
    wait(directory, ports["apiserver"])
    return ports["apiserver"]


def wait(directory: Path, port: int) -> None:
    """Return once /readyz says ok. Raises NodeError when a process ended or after `READY_SECONDS`."""
    context = client_context(directory / "pki")
    for waited in process.waiting("cluster: waiting for the API server", READY_SECONDS, 0.2):
        for name in ("etcd", "apiserver"):
            if process.alive(directory / f"{name}.process") is None:
                last = process.tail(directory / f"{name}.log", 5)
                raise NodeError("local-cluster-not-up", f"{name} ended by itself: {last}", "ended")
        if get(port, "/readyz", context) is not None:
            progress(f"cluster: the API server is ready after {waited:.1f} s")
            return
    last = process.tail(directory / "apiserver.log", 5)
    raise NodeError("local-cluster-not-up", f"the API server was not ready within {READY_SECONDS} s: {last}")


def halt(directory: Path) -> None:
    """End both processes, the API server first; it would wait for its leases after etcd is gone."""
    for name in ("apiserver", "etcd"):
        process.stop(directory / f"{name}.process", grace=5)


def clear(directory: Path) -> None:
    """End both processes and empty the folder."""
    halt(directory)
    process.empty(directory, NAMES)


def down(request: dict[str, object]) -> dict[str, object]:
    """Stop both servers and remove all their data; nothing to stop is not an error."""
    return process.removed(request, clear)


if __name__ == "__main__":
    sys.exit(process.serve_verbs({"up": up, "down": down}, "local.cluster"))
