"""The user data of a machine on EC2: its host key, or what it needs to become a node without anybody logging in."""

import base64
import json
import re
import shlex
from collections.abc import Mapping
from urllib.parse import urlsplit

from nodekit.errors import NodeError

MAX_BYTES = 16384
"""What EC2 takes, before it is encoded."""
NODE = "@NODE@"
"""Stands in the states for the node's name, which only the machine knows: its host name."""


def host_key(private_key: str, public_key: str) -> str:
    """cloud-config that gives the machine this ed25519 host key and no other, before its SSH server answers for the first time.

    `private_key` is in OpenSSH's form. cloud-init makes no key of its own where `ssh_keys` are given.
    """
    config = {
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": private_key.rstrip("\n") + "\n", "ed25519_public": public_key.strip()},
    }
    # JSON is YAML, and its indentation cannot be wrong.
    return fitting(f"#cloud-config\n{json.dumps(config, indent=1)}\n")


def first_boot(
    script: str,
    *,
    program_address: str,
    program_sha256: str,
    states: Mapping[str, object],
    seconds: Mapping[str, int],
    join_script: str | None,
    runtime_script: str | None = None,
) -> str:
    """`script` (aws/first_boot.sh) with its settings before it.

    `states` and `seconds` hold the desired state and the bound of the verbs `converge` and `prove`, as for a node that is reached
    over SSH;
    `runtime_script` is what runs before all of them, and `join_script` what runs once the proof has passed, each with a first
    line that names its program. Raises NodeError `user-data-too-long`, or `bad-input` for a script that nothing would run, and
    for an address that the machine's client cannot use.
    """
    refuse_address(program_address)
    scripts = {"runtime": runtime_script, "join": join_script}
    for name, text in scripts.items():
        if text is not None and (not text.startswith("#!/") or "\0" in text):
            raise NodeError(
                "bad-input",
                f"The {name} script does not begin with the program that runs it (#!/…), it has {len(text)} characters",
                expected="a script that begins with #!/bin/sh",
            )
        if text is not None and text.partition("\n")[0].endswith("\r"):
            # The kernel would look for a program whose name ends with it.
            raise NodeError(
                "bad-input",
                f"The {name} script has the line ends of Windows, so no machine could start it",
                expected="the same script with line ends of Unix",
            )
    settings = {"PROGRAM_ADDRESS": program_address, "PROGRAM_SHA256": program_sha256}
    for verb, state in states.items():
        document = json.dumps(state, sort_keys=True, separators=(",", ":"))
        settings |= {f"STATE_{verb.upper()}": document, f"SECONDS_{verb.upper()}": str(seconds[verb])}
    settings |= {name.upper(): text for name, text in scripts.items() if text is not None}
    # No export: programs that the shell starts cannot read its own variables.
    lines = [f"{key}={shlex.quote(value)}\n" for key, value in settings.items()]
    return fitting("#!/bin/sh\n" + "".join(lines) + script)


def refuse_address(address: str) -> None:
    """Raise NodeError `bad-input` for an address of the node program that Python's client on a machine cannot ask."""
    if re.match(r"[^/?#]*//[^/?#]*@", address):
        raise NodeError(
            "bad-input",
            "The address of the node program holds a user name or a password, which machines cannot send",
            expected="an address without them, such as one whose query holds a signature",
        )
    # The client refuses other characters, and says so with the whole address, which machines would write to their consoles.
    if not re.fullmatch(r"https?://[^/?#\s]+([/?#][!-~]*)?", address) or not _has_host(address):
        raise NodeError(
            "bad-input",
            "The address of the node program is not one of HTTP, which is all that machines can ask",
            expected="an address that begins with https:// and a host, without spaces, and with letters outside of ASCII and "
            "control characters percent-encoded, such as one whose query holds a signature",
        )


def _has_host(address: str) -> bool:
    """Whether an address names a host, and no port that there cannot be."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or "\n").isprintable() and parts.port != 0
    except ValueError:
        return False


def fitting(text: str) -> str:
    """`text`; raises NodeError `user-data-too-long` when EC2 would refuse it."""
    size = len(text.encode())
    if size > MAX_BYTES:
        raise NodeError(
            "user-data-too-long", f"The user data has {size} bytes, {size - MAX_BYTES} more than the {MAX_BYTES} that EC2 accepts"
        )
    return text


def refuse_another_program(sha256: str, own: str) -> None:
    """Raise NodeError `aws-program-differs` unless `sha256`, the sha256 of the uploaded program, is this checkout's own."""
    if sha256 != own:
        raise NodeError(
            "aws-program-differs",
            f"The program of the group has sha256 {sha256}, this checkout's own {own}: machines would be made by other rules "
            "than the stack's",
        )


def encoded(text: str) -> str:
    """In the form of launch templates."""
    return base64.b64encode(text.encode()).decode()
