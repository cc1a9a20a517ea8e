"""The proxy that the environment names for an address, by the rules of Go's net/http, which kubectl and the engine's Kubernetes
plugin follow. Python's own rules differ: they know no networks in NO_PROXY, send to a proxy even what is on this machine, prefer
variables in lower case, and ask a Mac's settings too.

https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config
"""

import ipaddress
import os
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}


def of(address: str) -> str | None:
    """The URL of the proxy for `address`; None where it is reached without one."""
    where = urlsplit(address)
    host, named = where.hostname or "", variable(where.scheme)
    port = where.port or PORTS.get(where.scheme)
    if not host or not named or is_local(host):
        return None
    if any(exempts(entry.strip().lower(), host, port) for entry in variable("no").split(",")):
        return None
    # HOST:PORT is a proxy too.
    return named if urlsplit(named).scheme and urlsplit(named).netloc else f"http://{named}"


def variable(kind: str) -> str:
    """Of a kind, `https`, `http` or `no`: the variable in capitals, else the other one; empty where neither says anything."""
    return os.environ.get(f"{kind.upper()}_PROXY") or os.environ.get(f"{kind}_proxy") or ""


def is_local(host: str) -> bool:
    """Whether it is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def exempts(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY means this host and port: *, a network, or an address or domain with or without a port."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:  # one of them is a name, or the entry has a port
        pass
    try:
        where = urlsplit(f"//{entry}")
        name, only = where.hostname or "", where.port
    except ValueError:
        return False
    if not name or only not in (None, port):
        return False
    name = name.removeprefix("*")
    return host == name or host.endswith(name if name.startswith(".") else f".{name}")
