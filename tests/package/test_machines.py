"""The machines of examples/machines fit the SDKs of their clouds: lost otherwise is an example that no reader can start.

The SDKs have some hundred MB and are no dependency, so they are fetched into a folder of the test's own.
"""

import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.package.example import REPOSITORY, sdk

# mypy reads the whole SDK of a cloud, and a compiler as much: minutes each.
pytestmark = [pytest.mark.engine, pytest.mark.nightly, pytest.mark.timeout(1800)]
MACHINES = REPOSITORY / "examples" / "machines"
CLOUDS = ("azure", "gcp", "hetzner", "proxmox")
PYTHON_SDKS = ("pulumi-gcp==10.2.0", "pulumi-azure-native==3.29.0", "pulumi-hcloud==1.43.3", "pulumi-proxmoxve==8.6.0")
NODE_SDKS = ("@pulumi/gcp@9.37.0", "@pulumi/azure-native@3.28.0", "@pulumi/hcloud@1.41.0", "@muhlba91/pulumi-proxmoxve@8.6.0")
MODULES = {
    "gcp": "pulumi_gcp",
    "azure-native": "pulumi_azure_native",
    "hcloud": "pulumi_hcloud",
    "proxmoxve": "pulumi_proxmoxve",
    "kata-nodes": "pulumi_kata_nodes",
}
RECORDS = {"connection": "pulumi_kata_nodes.ConnectionArgs", "bastion": "pulumi_kata_nodes.BastionArgs"}


def run(*argv: str, cwd: Path, ok: bool = True, **options: Any) -> str:
    """What a program prints; it must end as `ok` demands."""
    result = subprocess.run(
        argv, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1500, check=False, **options
    )
    assert (result.returncode == 0) == ok, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the SDKs."""
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder / "venv", with_pip=True)
    interpreter = folder / "venv" / "bin" / "python"
    run(str(interpreter), "-m", "pip", "install", "--quiet", *PYTHON_SDKS, str(sdk("python", folder / "sdk")), cwd=folder)
    return interpreter


def checked(python: Path, file: Path, ok: bool = True) -> str:
    """What mypy reports about a program against these SDKs."""
    argv = ("-m", "mypy", "--config-file=", "--python-executable", str(python), "--cache-dir", str(python.parent / "cache"))
    return run(sys.executable, *argv, str(file), cwd=file.parent, ok=ok)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_python_machine_fits_its_sdk(python: Path, cloud: str, tmp_path: Path) -> None:
    checked(python, Path(shutil.copy(MACHINES / f"{cloud}.py", tmp_path / f"on_{cloud}.py")))


def test_wrong_key_of_a_machine_is_found(python: Path, tmp_path: Path) -> None:
    text = (MACHINES / "gcp.py").read_text()
    (tmp_path / "wrong.py").write_text(text.replace("enable_nested_virtualization", "nested_virtualization"))
    assert "No overload variant" in checked(python, tmp_path / "wrong.py", ok=False)


def words(name: str) -> str:
    """A name in Python's spelling."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z]+)", "_", name).lower()


def source(value: Any, key: str = "") -> str:
    """A value of a YAML program as Python; what refers to something else is of any type."""
    if isinstance(value, str):
        return "ANY" if "${" in value else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(source(inner) for inner in value)}]"
    if not isinstance(value, dict):
        return repr(value)
    if any(name.startswith("fn::") for name in value):
        return "ANY"
    if key in RECORDS:
        return f"{RECORDS[key]}({', '.join(f'{words(name)}={source(inner, name)}' for name, inner in value.items())})"
    spelled = str if key == "metadata" else words  # the keys of a map are the reader's own
    return f"{{{', '.join(f'{spelled(name)!r}: {source(inner, name)}' for name, inner in value.items())}}}"


def as_python(document: dict[str, Any]) -> str:
    """The resources of a YAML program as a Python program."""
    lines = ["from typing import Any", *(f"import {module}" for module in MODULES.values()), "ANY: Any = None"]
    for name, resource in document["resources"].items():
        package, *path = resource["type"].split(":")
        properties = resource.get("properties", {})
        inputs = "".join(f", {words(key)}={source(value, key)}" for key, value in properties.items())
        lines.append(f"{'.'.join([MODULES[package], *path])}({name!r}{inputs})")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_yaml_machine_fits_its_sdk(python: Path, cloud: str, tmp_path: Path) -> None:
    text = (MACHINES / f"{cloud}.yaml").read_text()
    (tmp_path / "machine.py").write_text(as_python(yaml.safe_load(text)))
    checked(python, tmp_path / "machine.py")
    (tmp_path / "wrong.py").write_text(as_python(yaml.safe_load(text.replace("hostKey: $", "hostkey: $"))))
    assert "hostkey" in checked(python, tmp_path / "wrong.py", ok=False)


@pytest.mark.skipif(not shutil.which("npm"), reason="needs Node.js with npm")
def test_typescript_machines_fit_their_sdks(tmp_path: Path) -> None:
    for name in ("package.json", "package-lock.json", "tsconfig.json"):
        shutil.copy(REPOSITORY / "examples" / "typescript" / name, tmp_path)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund")
    run("npm", "install", *quiet, *NODE_SDKS, cwd=tmp_path)
    own = sdk("nodejs", tmp_path / "node_modules" / "@pulumi" / "kata-nodes")
    compiler = ("node", "--max-old-space-size=6000", "node_modules/typescript/bin/tsc")
    run(*compiler, "--project", str(own), cwd=tmp_path)
    shutil.copy(own / "package.json", own / "bin")
    settings = json.loads((tmp_path / "tsconfig.json").read_text())
    settings |= {
        "files": [f"{cloud}.ts" for cloud in CLOUDS],
        "compilerOptions": {**settings["compilerOptions"], "skipLibCheck": True},
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    for cloud in CLOUDS:
        shutil.copy(MACHINES / f"{cloud}.ts", tmp_path)
    run(*compiler, "--noEmit", cwd=tmp_path)
    wrong = (tmp_path / "gcp.ts").read_text().replace("enableNestedVirtualization", "nestedVirtualization")
    (tmp_path / "gcp.ts").write_text(wrong)
    assert "nestedVirtualization" in run(*compiler, "--noEmit", cwd=tmp_path, ok=False)
