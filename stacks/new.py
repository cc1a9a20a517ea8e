"""Writes a new stack file from a few answers, which the model checks first: `make new-stack`."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from clusterkit.runtime_class import NODE_LABEL
from delivery import login
from delivery.login import HOST_KEYS, SSH_PORT
from nodekit.errors import NodeError
from nodekit.rules.docker.docker_matrix import NEWEST_PROVEN, SAFE_DOCKER
from nodekit.rules.kata.handler_registration import NONE
from stacks import ssh_hosts, stack_file
from stacks.configuration import NAMESPACE, SECRET_KEYS, ConfigError, load
from stacks.sections import Name
from stacks.ssh_hosts import SshHost

FOLDER = Path(__file__).resolve().parent
SCHEMA_LINE = "# yaml-language-server: $schema=schema.json"
"""First line of every stack file: editors complete and check the file by it."""
POOLS = {
    "local": "virtual machines that the stack makes and destroys on this machine",
    "existing": "machines that are there already and are reached over SSH",
    "aws": "instances on AWS that the stack makes",
    "cluster": "nodes of a Kubernetes cluster that has Kata already",
    "kata-deploy": "nodes of a Kubernetes cluster that gets Kata by Kata's Helm chart",
}
"""Where nodes can come from."""
CLUSTERS = {
    "none": "no Kubernetes: nodes with Docker and Kata only",
    "local": "an API server that the stack starts on this machine; it runs no pods",
    "kubeconfig": "a cluster of yours",
}
"""What sandboxes are made on."""
DOCKERS = {
    SAFE_DOCKER: "works with every Kata release of the Go shim; no fixes since January 2025; Docker has none for Debian 13",
    NEWEST_PROVEN[0]: f"the newest that a proof passed with, on Kata {NEWEST_PROVEN[1]}",
}
"""Versions of Docker to choose from."""
INSTALLS = {
    "release": "Kata's official release, for each machine's architecture",
    "none": "Kata is on the machines already",
}
"""How Kata comes to the machines."""
LONGEST_NAME = 42
"""Characters of the name of a stack or node (`stacks.sections.Name`)."""
KNOWN_HOSTS = "known_hosts"
"""The answer that host keys are those of known_hosts."""
OVER_SSH = ("local", "existing", "aws")
Answers = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """One setting that only the owner of the stack knows."""

    key: str
    text: str
    default: Callable[[Answers], str] = lambda answers: ""
    choices: Mapping[str, str] | None = None
    applies: Callable[[Answers], bool] = lambda answers: True
    """Whether it makes sense after the answers before it."""


def only(*pools: str) -> Callable[[Answers], bool]:
    """Whether the nodes come from one of these."""
    return lambda answers: answers["nodes"] in pools


QUESTIONS = (
    Question("name", "Name of the stack (a-z, 0-9 and -)"),
    Question("nodes", "Where the nodes come from", lambda answers: "existing", POOLS),
    Question(
        "address",
        "Machines: host names or IP addresses with commas between, or a pattern of Host entries in ~/.ssh/config (rack-*)",
        applies=only("existing"),
    ),
    Question(
        "user",
        "Login user on them; none: for each, the user before its @, or the one of ~/.ssh/config",
        lambda answers: "none" if ssh_hosts.WILDCARDS.search(answers["address"]) or "@" in answers["address"] else "root",
        applies=only("existing"),
    ),
    Question(
        "host-key",
        f"Their host keys: {KNOWN_HOSTS}, or what /etc/ssh/ssh_host_ed25519_key.pub holds there; for several machines a line "
        "each as in known_hosts (NAME ssh-ed25519 KEY)",
        lambda answers: KNOWN_HOSTS,
        applies=only("existing"),
    ),
    Question("region", "Region, such as eu-central-1", applies=only("aws")),
    Question(
        "instance-type",
        "Type of instance: bare metal, or one that lists nested-virtualization",
        lambda answers: "m8i.4xlarge",
        applies=only("aws"),
    ),
    Question(
        "image",
        "Image (ami-ID): python -m aws.preflight --newest-image prints one",
        applies=only("aws"),
    ),
    Question("vpc", "Network (vpc-ID)", applies=only("aws")),
    Question("subnet", "Subnet in it (subnet-ID)", applies=only("aws")),
    Question("ssh-from", "Network that the stack is run from, such as 203.0.113.0/24", applies=only("aws")),
    Question("docker", "Version of Docker", lambda answers: SAFE_DOCKER, DOCKERS, only("existing", "aws")),
    Question("install", "How Kata comes to the machines", lambda answers: "release", INSTALLS, only("existing", "aws")),
    Question(
        "kata",
        "Version of Kata on the machines",
        lambda answers: NEWEST_PROVEN[1],
        applies=lambda answers: answers.get("install") == "none",
    ),
    Question(
        "cluster",
        "What sandboxes are made on",
        lambda answers: "local" if answers["nodes"] == "local" else "none",
        CLUSTERS,
        only(*OVER_SSH),
    ),
    Question(
        "selector",
        "Label selector of the cluster's nodes to prove; none: the cluster's nodes are not proven",
        lambda answers: "none" if answers["nodes"] == "local" else f"{NODE_LABEL}=true",
        applies=lambda answers: answers.get("cluster", "kubeconfig") == "kubeconfig",
    ),
    Question(
        "proof-image",
        "Image of the proof, by its digest: built from images/proof/Containerfile and pushed to a registry of yours",
        applies=lambda answers: answers.get("selector", "none") != "none",
    ),
)


def machines(answers: Answers, folder: Path) -> list[SshHost]:
    """The existing machines, as `folder`, OpenSSH's own, and the answers describe them. Raises ConfigError when there is none."""
    named: list[str] = []
    for part in re.split(r"[,\s]+", answers["address"].strip(", \t")):
        if not part:
            raise ConfigError("--address has no machine. Name at least one.")
        names = ssh_hosts.matching(part, folder) if ssh_hosts.WILDCARDS.search(part) else [part]
        if not names:
            raise ConfigError(f"--address is {part!r}, and no Host entry of {folder / 'config'} matches. Name the machines.")
        named += names
    by_login: dict[tuple[str, int, str, str | None], SshHost] = {}
    for name in named:
        host = ssh_hosts.described(name, folder)
        # An entry often has two names of its machine, such as a short and a long one.
        by_login.setdefault((host.address, host.port, host.user, host.jump), host)
    hosts = list(by_login.values())
    try:
        for host in hosts:
            login.host_address(host.address, "host")
    except NodeError as error:
        raise ConfigError(f"--address: {error.sentence()} Here, a port is written as ssh://HOST:PORT.") from None
    return hosts if answers["user"] == "none" else [replace(host, user=answers["user"]) for host in hosts]


def host_key(host: SshHost, answer: str, alone: bool) -> str:
    """The key to pin for a machine; raises ConfigError when there is none."""
    if answer == KNOWN_HOSTS:
        key = ssh_hosts.known_key(host)
    elif alone and answer.startswith(("ssh-", "ecdsa-")):
        key = " ".join(answer.split()[:2])
    else:
        key = ssh_hosts.listed_key(answer, host.known_as) or ssh_hosts.listed_key(answer, host.name)
    if key is None:
        where = next(map(str, host.known_hosts), KNOWN_HOSTS) if answer == KNOWN_HOSTS else "--host-key"
        raise ConfigError(
            f"{where} has no ed25519 or ECDSA key of {host.known_as}. Log in once "
            f"(ssh -o HostKeyAlgorithms={','.join(HOST_KEYS)} {host.name}) and compare the fingerprint that is shown, or give "
            "--host-key what /etc/ssh/ssh_host_ed25519_key.pub holds there, or ssh_host_ecdsa_key.pub on a machine in FIPS mode."
        )
    return key


def node_name(stack: str, number: int) -> str:
    """Name of the stack's machine of that number, cut where it would be longer than a name may be."""
    ending = f"-{number}"
    return stack[: LONGEST_NAME - len(ending)].rstrip("-") + ending


def existing(answers: Answers, folder: Path) -> dict[str, Any]:
    """The section `nodes` for machines that are there already, with the bastion that ~/.ssh/config names for all of them."""
    hosts = machines(answers, folder)
    nodes = []
    for at, host in enumerate(hosts, 1):
        node = {"name": node_name(answers["name"], at), "address": host.address, "user": host.user}
        port = {"port": host.port} if host.port != SSH_PORT else {}
        nodes.append({**node, **port, "hostKey": host_key(host, answers["host-key"], len(hosts) == 1)})
    jumps = sorted({host.jump or "no other machine" for host in hosts})
    if len(jumps) > 1 or "," in jumps[0]:
        raise ConfigError(
            f"--address: {folder / 'config'} leads to these machines through {', '.join(jumps)}, and a stack has one bastion. "
            "Write a stack for each."
        )
    if hosts[0].jump is None:
        return {"existing": nodes}
    bastion = ssh_hosts.described(f"ssh://{hosts[0].jump}", folder)
    if bastion.jump not in (None, hosts[0].jump):
        raise ConfigError(
            f"--address: {folder / 'config'} leads to these machines through {bastion.jump} and {bastion.address}, and a stack "
            "has one bastion. Name one that is reached directly by ProxyJump."
        )
    way = {"address": bastion.address, "port": bastion.port, "user": bastion.user}
    return {"existing": nodes, "bastion": {**way, "hostKey": host_key(bastion, KNOWN_HOSTS, False)}}


def document(answers: Answers, folder: Path) -> dict[str, Any]:
    """The sections of the configuration, by key. `folder` is OpenSSH's own. Raises ConfigError."""
    sections: dict[str, Any] = {}
    pool = answers["nodes"]
    if pool == "local":
        sections |= {"nodes": {"local": {"count": 1}}, "docker": {"repository": "local"}, "kata": {"install": "local"}}
    elif pool == "existing":
        sections |= {"nodes": existing(answers, folder)}
    elif pool == "aws":
        sections |= {
            "nodes": {
                "aws": {
                    "region": answers["region"],
                    "instanceType": answers["instance-type"],
                    "nestedVirtualization": ".metal" not in answers["instance-type"],
                    "image": answers["image"],
                    "vpc": answers["vpc"],
                    "subnets": [answers["subnet"]],
                    "instances": {"count": 1, "sshFrom": [answers["ssh-from"]]},
                }
            }
        }
    if "docker" in answers:
        sections["docker"] = {"version": answers["docker"]}
        installed = answers["install"] == "none"
        sections["kata"] = {"version": answers["kata"]} if installed else {"version": NEWEST_PROVEN[1], "install": "release"}
    cluster = answers.get("cluster", "kubeconfig")
    if cluster != "none":
        sections["kubernetes"] = {"cluster": cluster}
        if pool == "kata-deploy":
            sections["kubernetes"]["kataDeploy"] = {}
        if pool == "aws" and cluster == "kubeconfig":
            # A new machine has no cluster's container runtime, and would be refused once it is made.
            sections["kubernetes"]["containerRuntime"] = NONE
        if answers.get("selector", "none") != "none":
            sections["kubernetes"]["proof"] = {"selector": answers["selector"], "image": answers["proof-image"]}
    return sections


def secrets(answers: Answers, sections: Mapping[str, Any]) -> list[str]:
    """Secret keys that the stack can need."""
    nodes = sections.get("nodes", {})
    keys = ["sshPrivateKey"] if "existing" in nodes else []
    keys += ["sudoPassword"] if any(node["user"] != "root" for node in nodes.get("existing", [])) else []
    keys += ["bastionPrivateKey"] if "bastion" in nodes else []
    return keys + (["kubeconfig"] if answers.get("cluster", "kubeconfig") == "kubeconfig" else [])


def text(answers: Answers, sections: Mapping[str, Any]) -> str:
    """Content of the stack file. Raises ConfigError when the model refuses it."""
    load(sections.get)
    lines = [SCHEMA_LINE, "# Every key and its default: docs/reference/settings.md. Secrets are set by:"]
    stack = answers["name"]
    lines += [f"#   pulumi config set --secret {NAMESPACE}:{key} --stack {stack} < FILE" for key in secrets(answers, sections)]
    if len(lines) == 2:
        lines[1] = "# Every key and its default: docs/reference/settings.md"
    body = stack_file.dumped({"config": {f"{NAMESPACE}:{key}": value for key, value in sections.items()}})
    return "\n".join(lines) + "\n" + body


def checked(question: Question, answer: str) -> str:
    """An answer that is one to the question; raises ConfigError for a missing or useless one."""
    if not answer:
        raise ConfigError(f"--{question.key} is missing. Set it: {question.text}.")
    if question.choices and answer not in question.choices:
        raise ConfigError(f"--{question.key} is {answer!r}. Give one of {', '.join(question.choices)}.")
    if question.key == "name":
        named(answer)
    return answer


def put(question: Question, default: str, ask: Callable[[str], str]) -> str:
    """What a person answers, who is asked again after a useless answer: the answers before it stay."""
    for choice, meaning in (question.choices or {}).items():
        print(f"  {choice:<12} {meaning}")
    while True:
        answer = ask(f"{question.text}{f' [{default}]' if default else ''}: ").strip()
        try:
            return checked(question, answer or default)
        except ConfigError as error:
            print(f"error: {error}", file=sys.stderr)


def collect(options: Answers, ask: Callable[[str], str] | None) -> dict[str, str]:
    """The answers: the options', else those of `ask`, else the defaults. Raises ConfigError for an option that cannot be one."""
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        answer = options.get(question.key)
        if not question.applies(answers):
            if answer is not None:
                beside = " ".join(f"--{key} {answers[key]}" for key in ("nodes", "cluster") if key in answers)
                raise ConfigError(f"--{question.key} has no meaning for {beside}. Leave it out.")
            continue
        default = question.default(answers)
        if answer is None and ask:
            answers[question.key] = put(question, default, ask)
        else:
            answers[question.key] = checked(question, answer or default)
    return answers


def parser() -> argparse.ArgumentParser:
    """The command line; every question is an option as well."""
    command_line = argparse.ArgumentParser(
        prog="python -m stacks.new",
        description="Write stacks/Pulumi.NAME.yaml for a new stack. At a terminal, asks for what no option sets.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="where nodes come from (--nodes):\n"
        + "\n".join(f"  {key:<12} {meaning}" for key, meaning in POOLS.items())
        + "\n\nwhat sandboxes are made on (--cluster):\n"
        + "\n".join(f"  {key:<12} {meaning}" for key, meaning in CLUSTERS.items())
        + "\n\nexamples:\n  python -m stacks.new --name lab --nodes kata-deploy \\\n"
        "      --proof-image registry.example.org/kata-nodes-proof@sha256:DIGEST\n"
        "  python -m stacks.new --name rack --nodes existing --address 'rack-*' --cluster none\n"
        "  python -m stacks.new --name bench --nodes existing --address 192.0.2.7,192.0.2.8 --cluster none\n\n"
        "The file is checked as a preview would, and one that exists is never overwritten.\n"
        "Exit: 0 written, 1 refused, 2 bad usage.",
    )
    for question in QUESTIONS:
        command_line.add_argument(f"--{question.key}", help=question.text, choices=question.choices, metavar=question.key.upper())
    command_line.add_argument(
        "--folder", type=Path, default=FOLDER, help="folder of the stack files (default: the checkout's own)"
    )
    command_line.add_argument(
        "--ssh-folder", type=Path, default="~/.ssh", help="folder of config and known_hosts (default: ~/.ssh)"
    )
    return command_line


def named(name: str) -> None:
    """Refuse what cannot be a stack's name, which is part of a file's; raises ConfigError."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise ConfigError(f"--name is {name!r}. Use a-z, 0-9 and -, at most {LONGEST_NAME} of them.") from None


def unwritten(file: Path, error: OSError) -> int:
    """Say why the file could not be written; the exit status."""
    print(f"error: {file} cannot be written: {error.strerror}. Give another --folder.", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None, ask: Callable[[str], str] | None = None) -> int:
    """Returns the exit status; `ask` puts a question to a person and returns the answer."""
    options = {key.replace("_", "-"): value for key, value in vars(parser().parse_args(argv)).items() if value is not None}
    folder: Path = options.pop("folder")
    ssh_folder: Path = options.pop("ssh-folder")
    with suppress(RuntimeError):  # where this user has no home, as in a container that runs with any user id: no such folder
        ssh_folder = ssh_folder.expanduser()
    try:
        answers = collect(options, ask)
        sections = document(answers, ssh_folder)
        content = text(answers, sections)
        file = folder / f"Pulumi.{answers['name']}.yaml"
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (EOFError, KeyboardInterrupt):
        # The cursor stands behind a question.
        print(
            "\nerror: no answer was given, and nothing was written. Run it again, or give the answers as options.",
            file=sys.stderr,
        )
        return 1
    try:
        # Exclusive: a file that somebody else makes at this very moment is kept too.
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        print(f"error: {file} exists and was left as it is. Choose another name, or edit that file.", file=sys.stderr)
        return 1
    except OSError as error:
        return unwritten(file, error)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(content)
    except OSError as error:
        file.unlink(missing_ok=True)  # an empty one would be in the way of the next run
        return unwritten(file, error)
    print(f"Wrote {file}. Next:")
    print('  pulumi install    # once; without a Pulumi of your own instead: eval "$(tools/env)"')
    print(f"  pulumi stack init {answers['name']}")
    for key in secrets(answers, sections):
        print(f"  pulumi config set --secret {NAMESPACE}:{key} --stack {answers['name']} < FILE    # {SECRET_KEYS[key]}")
    print(f"  pulumi preview --stack {answers['name']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(ask=input if sys.stdin.isatty() else None))
