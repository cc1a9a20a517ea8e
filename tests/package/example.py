"""An example in a folder of its own, as a person copies it, with the engine's commands."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tools import get

REPOSITORY = Path(__file__).resolve().parents[2]


def sdk(language: str, folder: Path) -> Path:
    """The package's SDK for a language, as `pulumi package add` makes it where the language's official host is."""
    schema = (REPOSITORY / "components" / "schema.json").read_bytes()
    subprocess.run([str(get.path("sdkgen")), language, str(folder)], input=schema, check=True)
    return folder


class Example:
    """A copy of `examples/NAME` with a stack `test` of its own, and the package on PATH as its README says."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder / name
        shutil.copytree(REPOSITORY / "examples" / name, self.folder, ignore=shutil.ignore_patterns("node_modules", "sdks"))
        (folder / "state").mkdir()
        own = {"PULUMI_BACKEND_URL": f"file://{folder / 'state'}", "PULUMI_CONFIG_PASSPHRASE": "test"}
        self.environment = {**os.environ, **own}
        self.environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
        places = [str(REPOSITORY / "components"), str(get.path("pulumi-language-yaml").parent), os.environ["PATH"]]
        self.environment["PATH"] = ":".join(places)

    def run(self, *argv: str, ok: bool = True, stdin: str = "") -> str:
        """Run a program; what it prints. Fails unless it ends as `ok` demands."""
        result = subprocess.run(
            argv, cwd=self.folder, env=self.environment, input=stdin, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert (result.returncode == 0) == ok, result.stdout
        return result.stdout

    def pulumi(self, *argv: str, ok: bool = True, stdin: str = "") -> str:
        """Run a command of the engine."""
        return self.run("pulumi", *argv, "--non-interactive", ok=ok, stdin=stdin)

    def start(self, kubeconfig: str) -> None:
        """Make the stack, for a cluster."""
        self.pulumi("stack", "init", "test")
        self.pulumi("config", "set", "--secret", "kubernetes:kubeconfig", stdin=kubeconfig)

    def up(self, *argv: str, ok: bool = True) -> str:
        """`pulumi up`."""
        return self.pulumi("up", "--yes", "--skip-preview", *argv, ok=ok)

    def output(self, name: str) -> Any:
        """One stack output."""
        return json.loads(self.pulumi("stack", "output", name, "--json"))
