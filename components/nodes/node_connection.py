"""How a node is dialed, directly or through its bastion, in the terms of the command plugin."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pulumi

from components.nodes.settings import Connection
from components.plain import derived, set_or
from components.refusals import reporting_refusals
from components.whole_numbers import MOST_PORT, whole
from delivery import login
from nodekit.errors import NodeError

DIALS, DIAL_SECONDS = 60, 15
"""Patience with a machine that is still starting: dials, at most 5 s apart, and the bound on each."""
ROOT = "root"
"""The login user where none is named."""
HOP = ("address", "port", "user", "host_key", "private_key")
"""What of a connection, and of its bastion, decides how a host is dialed."""
RECORDS = {"node": "connection", "bastion": "bastion"}
"""Host -> the argument that says how it is reached."""


def connection_of(connection: Connection, gone: bool) -> pulumi.Output[dict[str, Any]]:
    """How to reach the node: directly or through its bastion, every host key pinned. In the plugin's own terms, and secret.

    In a preview, and where the machine is gone, it may have an empty address, with which the plugin would dial its own machine.
    It has None where `--target` leaves the machine out (Pulumi 3.255 and older).
    """
    hops: list[Mapping[str, Any]] = [connection, *([bastion] if (bastion := connection.get("bastion")) is not None else [])]
    values = [hop.get(key) for hop in hops for key in HOP]
    # As text: made of a record, it would be an output for each of its keys.
    reached = not gone and not pulumi.runtime.is_dry_run()
    text: pulumi.Output[str] = pulumi.Output.secret(derived(reporting_refusals(partial(_connection, reached)), *values))
    known: pulumi.Output[dict[str, Any]] = text.apply(json.loads)
    # Only a copy that was never made would still be tried: once, and not for as long as for a machine that is starting.
    return known.apply(lambda dialed: {**dialed, "dialErrorLimit": 0}) if gone else known


def _connection(reached: bool, *values: Any) -> str:
    hops = {"node": values[: len(HOP)], "bastion": values[len(HOP) :]}
    for host, hop in hops.items():
        if reached and hop and hop[0] == "":
            raise NodeError("host-address-invalid", f"The connection to the {host} has no address", "none")
    node = _hop("node", *hops["node"])
    if hops["bastion"]:
        node["proxy"] = _hop("bastion", *hops["bastion"])
    return json.dumps(node)


def _hop(host: str, address: str, port: object, user: str | None, host_key: str | None, private_key: str | None) -> Any:
    if private_key is not None:
        login.refuse_unusable(private_key, host)
    return {
        "host": address and login.host_address(address, host),
        "port": login.SSH_PORT if port is None else whole(f"{RECORDS[host]}.port", port, 1, MOST_PORT),
        "user": user or ROOT,
        "hostKey": login.pinned(host_key, host),
        **({} if private_key is None else {"privateKey": private_key}),
        "dialErrorLimit": DIALS,
        "perDialTimeout": DIAL_SECONDS,
    }


def reached(connection: Connection) -> dict[str, pulumi.Input[Any]]:
    """How the node is dialed, for people who read a preview: every command has it too, as a part of a secret that two previews
    show alike. A private key in the place of a host key is refused before it is shown."""
    bastion = connection.get("bastion")

    def public_half(host_key: pulumi.Input[str]) -> pulumi.Input[str]:
        return derived(reporting_refusals(lambda key: key and login.public_half(key)), host_key)

    return {
        "address": connection["address"],
        "port": set_or(connection.get("port"), login.SSH_PORT),
        "user": set_or(connection.get("user"), ROOT),
        "hostKey": public_half(connection["host_key"]),
        "bastionAddress": bastion["address"] if bastion else None,
        "bastionPort": set_or(bastion.get("port"), login.SSH_PORT) if bastion else None,
        "bastionUser": bastion["user"] if bastion else None,
        "bastionHostKey": public_half(bastion["host_key"]) if bastion else None,
    }
