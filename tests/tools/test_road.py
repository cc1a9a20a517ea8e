"""From nothing to a preview of every stack, by downloads alone: the real engine and plugins, laid out as their vendors do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.plugin_resource import PLUGINS
from review.preview import kubeconfig
from tests.e2e.checkout import REPOSITORY, copy
from tests.tools.vendors import Sites, served
from tools import environment, get

pytestmark = [pytest.mark.engine]
PROVIDER = Path(__file__).with_name("provider.py")


@dataclass
class Road:
    """A checkout on a machine that has a Python and reaches the sites."""

    folder: Path
    vendors: Sites
    environment: dict[str, str]

    def shell(self, stack: str, script: str, stdin: str = "") -> str:
        """Evaluate tools/env for the stack, then run the script; what both print."""
        result = subprocess.run(
            ["bash", "-e", "-c", f'eval "$(tools/env {stack})" && {script}'],
            cwd=self.folder, env=self.environment, input=stdin, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout
        return result.stdout


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """All that is needed on the sites, and nothing of it on the machine."""
    folder = tmp_path_factory.mktemp("road")
    parts = {name: get.path(name) for name in ("pulumi", "pulumi-language-python", "pulumi-resource-kubernetes")}
    venv = environment.virtual_environment()
    stand_in = f'#!/bin/sh\nexec "{venv}/bin/python" "{PROVIDER}"\n'.encode()
    with served(folder / "sites") as vendors:
        programs = {name: parts[name] for name in ("pulumi", "pulumi-language-python")}
        script = "pulumi-language-python-exec"
        vendors.pulumi({**programs, script: parts["pulumi-language-python"].parent / script})
        vendors.plugin("kubernetes", get.parts()["pulumi-resource-kubernetes"].version, parts["pulumi-resource-kubernetes"])
        command = f'#!/bin/sh\ncd "{REPOSITORY}" && exec "{venv}/bin/python" -m plugins.command.main "$@"\n'
        vendors.plugin("command", environment.COMMAND_PLUGIN, command.encode())
        for name, version in PLUGINS.items():
            vendors.plugin(name, version, stand_in)
        checkout, programs_folder, home = folder / "checkout", folder / "programs", folder / "home"
        for place in (checkout, programs_folder, home, folder / "cache"):
            place.mkdir()
        copy(checkout)
        # The locked packages come from the package index, which is not what is tried here.
        (folder / "cache" / environment.environment_name(environment.LOCK)).symlink_to(venv)
        (programs_folder / "python3").write_text(f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n')
        (programs_folder / "python3").chmod(0o755)
        own = {"HOME": str(home), "KATA_NODES_CACHE": str(folder / "cache"), "KATA_NODES_MIRROR": vendors.url}
        backend = {"PULUMI_BACKEND_URL": f"file://{home}", "PULUMI_CONFIG_PASSPHRASE": "test"}
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        yield Road(checkout, vendors, {**kept, **own, **backend, "PATH": f"{programs_folder}:/usr/bin:/bin"})


@pytest.mark.parametrize(("stack", "downloads"), [("local", "command"), ("staging", "kubernetes"), ("prod", "aws")])
def test_stack_is_previewed_with_what_was_downloaded(road: Road, stack: str, downloads: str) -> None:
    secret = f"pulumi config set --secret kata-nodes:kubeconfig --stack {stack} && " if stack != "local" else ""
    script = f"pulumi stack init {stack} && {secret}pulumi preview --stack {stack} --non-interactive"
    output = road.shell(stack, script, kubeconfig("made-up"))
    assert "to create" in output and "error" not in output and "Building" not in output
    assert [path for path in road.vendors.requests if f"/pulumi-resource-{downloads}-v" in path]
