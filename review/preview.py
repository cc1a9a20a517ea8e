"""Preview one stack of a checkout with nothing to lose: no secret, no state, no node, no cluster."""

import argparse
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clusterkit.api.kubeconfig import MADE_UP_SERVER
from nodekit.host.capture import capture
from nodekit.host.reading import MAX_OWN, read
from nodekit.rules.text import harmless
from review.documents import MAX_DOCUMENT
from stacks.configuration import NAMESPACE, ConfigError, refuse_encrypted_sections
from stacks.stack_file import handed_over, loaded, misplaced, namespaced

SEALED = ("encryptionsalt", "encryptedkey", "secretsprovider")
"""Keys of a stack file by which its secrets are opened."""
ENVIRONMENT = "environment"
"""Key of a stack file that names environments of Pulumi ESC, which only Pulumi Cloud opens."""
KUBECONFIG = f"{NAMESPACE}:kubeconfig"
MADE_UP = "made-up"
SECONDS = 3600
"""Bound on one command of the engine; the first one sets the environment up, too."""
MISSING = re.compile(r"Missing required configuration variable '([\w-]+:[\w-]+)'[^']*`pulumi config set --secret ")
"""How a program reports that it has no value for one of its secrets (pulumi.Config.require_secret)."""


def dumped(document: Mapping[str, Any]) -> str:
    """A stack file with that content: as JSON, which is YAML in which all text is in quotes."""
    return json.dumps(document, ensure_ascii=False, default=str)


def kubeconfig(context: str) -> str:
    """A kubeconfig whose cluster cannot exist, and is not asked anything."""
    named: dict[str, Any] = {"name": MADE_UP}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "contexts": [{"name": context, "context": {"cluster": MADE_UP, "user": MADE_UP}}],
            "clusters": [{**named, "cluster": {"server": MADE_UP_SERVER}}],
            "users": [{**named, "user": {"token": MADE_UP}}],
        }
    )


def made_up(key: str, config: Mapping[str, Any]) -> str:
    """The value that stands for the secret `key` (such as kata-nodes:kubeconfig)."""
    if key.endswith(":kubeconfig"):
        cluster = handed_over(config.get(f"{key.partition(':')[0]}:kubernetes"))
        context = cluster.get("context") if isinstance(cluster, dict) else None
        return kubeconfig(str(context or MADE_UP))
    # One that names no program is refused, as if the author had written it.
    return f"#!/bin/sh\n# {MADE_UP}\n" if key.endswith("Script") else MADE_UP


def without_secrets(document: Mapping[str, Any], missing: tuple[str, ...] = ()) -> tuple[dict[str, Any], list[str]]:
    """A stack file that anybody can open, and the names of what is made up in it.

    Each encrypted value, and each key of `missing`, which the program requires, gets a made-up value, and so does the kubeconfig,
    by which a cluster would be asked: one without a secret, as of EKS, may be in the file in plain. Environments are left out.
    """
    sealed: list[str] = [ENVIRONMENT] if document.get(ENVIRONMENT) else []
    config = document.get("config")
    config = config if isinstance(config, dict) else {}

    def opened(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            if set(value) == {"secure"}:
                sealed.append(key)
                return made_up(key, config)
            return {inner: opened(below, f"{key}.{inner}") for inner, below in value.items()}
        return [opened(below, f"{key}[{index}]") for index, below in enumerate(value)] if isinstance(value, list) else value

    values = {key: opened(value, key) for key, value in config.items() if key != KUBECONFIG}
    for key in (*([KUBECONFIG] if KUBECONFIG in config else []), *missing):
        sealed.append(key)
        values[key] = made_up(key, config)
    kept = {key: value for key, value in document.items() if key not in (*SEALED, ENVIRONMENT)}
    return {**kept, "config": values}, sealed


@dataclass(frozen=True)
class Finished:
    """How a command of the engine ended."""

    passed: bool
    stdout: str
    stderr: str


class Engine:
    """The checkout's own engine and plugins, with a backend that is gone afterwards."""

    def __init__(self, checkout: Path, backend: Path) -> None:
        self.checkout = checkout
        # Set-up keys its virtual environment by the Python that runs it: the machine's own, not this program's.
        own = str(Path(sys.prefix) / "bin")
        path = ":".join(folder for folder in os.environ["PATH"].split(":") if folder != own)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PULUMI_") and key != "VIRTUAL_ENV"}
        self.environment = {
            **kept,
            "PATH": path,
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": secrets.token_urlsafe(32),
        }

    def run(self, *argv: str) -> Finished:
        """One `pulumi` command in the checkout; its standard error goes to ours as well."""
        shell = ["bash", "-c", 'eval "$(tools/env)" && exec pulumi "$@"', "pulumi", *argv, "--non-interactive"]
        result = capture(shell, timeout=SECONDS, limit=MAX_DOCUMENT, cwd=self.checkout, env=self.environment)
        messages = result.stderr.decode(errors="replace")
        if result.timed_out or result.too_long:
            bound = f"{SECONDS} s" if result.timed_out else f"{MAX_DOCUMENT >> 20} MiB of output"
            messages += f"\npulumi {' '.join(argv[:2])} was ended after {bound}.\n"
        sys.stderr.write(harmless(messages))
        return Finished(result.code == 0, result.stdout.decode(errors="replace"), messages)


def project_name(file: Path) -> str:
    """Of a project's file; nothing where it has none, which the engine says itself."""
    try:
        project = loaded(read(file, MAX_OWN))
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    return str(project.get("name", "")) if isinstance(project, dict) else ""


def preview(checkout: Path, stack: str) -> dict[str, Any] | None:
    """The engine's document and the names of made-up secrets; None where the checkout has no such stack."""
    file = checkout / "stacks" / f"Pulumi.{stack}.yaml"
    if not file.exists():
        return None
    with tempfile.TemporaryDirectory() as scratch:
        backend, seat, copy = (Path(scratch) / name for name in ("backend", "seat", "stack.yaml"))
        backend.mkdir()
        seat.mkdir()
        # Made from another folder, so that the engine writes its salt there and not into the checkout's file.
        (seat / "Pulumi.yaml").write_bytes(read(checkout / "Pulumi.yaml", MAX_OWN))
        engine = Engine(checkout, backend)
        missing: tuple[str, ...] = ()
        try:
            stack_file = loaded(read(file, MAX_OWN))
        except (OSError, ValueError, yaml.YAMLError) as error:
            return failed(f"{file.name} cannot be read: {error}")
        if not isinstance(stack_file, dict):
            return failed(f"{file.name} holds no configuration.")
        if keys := misplaced(stack_file):
            where = f"{file.name} has {', '.join(keys)} beside its key config"
            return failed(f"{where}, where nothing reads it. Indent it below config.")
        if isinstance(config := stack_file.get("config"), dict):
            stack_file["config"] = namespaced(config, project_name(seat / "Pulumi.yaml"))
        encrypted = {re.split(r"[.\[]", name, maxsplit=1)[0] for name in without_secrets(stack_file)[1]}
        try:
            # The program cannot see it: in its preview a made-up value is no secret.
            refuse_encrypted_sections(lambda key: key in encrypted)
        except ConfigError as error:
            return failed(str(error))
        creation = engine.run("-C", str(seat), "stack", "init", stack)
        if not creation.passed:
            return failed(creation.stderr)
        while True:
            document, names = without_secrets(stack_file, missing)
            copy.write_text(dumped(document), encoding="utf-8")
            result = engine.run("preview", "--stack", stack, "--config-file", str(copy), "--json")
            try:
                plan = json.loads(result.stdout)
            except ValueError:
                return failed(result.stderr)
            missing_key = MISSING.search(json.dumps(plan.get("diagnostics"))) if not result.passed else None
            if not missing_key or missing_key[1] in names:
                # Some failures leave a document that names no error, and holds only a part of the resources.
                if not result.passed and not errors(plan):
                    plan["diagnostics"] = [*(plan.get("diagnostics") or []), *diagnostics(result.stderr)]
                return {"madeUp": names, "preview": plan}
            missing = (*missing, missing_key[1])


def errors(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The errors that a document of the engine names."""
    return [diagnostic for diagnostic in plan.get("diagnostics") or [] if diagnostic.get("severity") == "error"]


def diagnostics(why: str) -> list[dict[str, Any]]:
    """The end of what the engine printed, as an error of its document."""
    lines = why.strip().splitlines() or ["The engine said nothing."]
    return [{"severity": "error", "message": "\n".join(lines[-5:])}]


def failed(why: str) -> dict[str, Any]:
    """A document that explains why there is none of the engine's."""
    return {"preview": {"steps": [], "diagnostics": diagnostics(why)}}


def main() -> int:
    """Write the document; 1 when the preview failed."""
    cli = argparse.ArgumentParser(prog="python -m review.preview", description=__doc__)
    cli.add_argument("stack")
    cli.add_argument("--checkout", type=Path, default=Path(), help="folder of the program (default: this one)")
    cli.add_argument("--to", type=Path, required=True, help="file to write; not written where the checkout has no such stack")
    options = cli.parse_args()
    document = preview(options.checkout.resolve(), options.stack)
    if document is None:
        print(f"{options.checkout} has no stack {options.stack}", file=sys.stderr)
        return 0
    options.to.write_text(json.dumps(document))
    failures = errors(document["preview"])
    for error in failures:
        print(harmless(error["message"].strip()), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
