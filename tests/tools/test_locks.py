"""The locks: what people install is small, is what the tests ran with, and has a wheel on every supported machine."""

import ast
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from tools import platforms

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
OTHERS = ["requirements.txt", "clusterkit/controller/requirements.txt", "fleet/requirements.txt"]


def pins(file: Path) -> dict[str, set[str]]:
    """Hashes by pinned requirement of a lock."""
    hashes: dict[str, set[str]] = {}
    for line in file.read_text().splitlines():
        if pinned := re.match(r"(\S+==\S+)", line):
            current = hashes.setdefault(pinned[1], set())
        elif match := re.match(r"\s+--hash=(\S+)", line):
            current.add(match[1])
    return hashes


def names(file: Path) -> set[str]:
    """Packages of a lock."""
    return {pin.partition("==")[0] for pin in pins(file)}


@pytest.mark.parametrize("lock", OTHERS)
def test_people_install_what_the_tests_ran_with(lock: str) -> None:
    theirs, tested = pins(REPOSITORY / lock), pins(REPOSITORY / "requirements-dev.txt")
    assert theirs and all(theirs.values()) and {pin: tested.get(pin) for pin in theirs} == theirs, "run: make lock"


def test_package_installs_the_programs_lock() -> None:
    lines = (REPOSITORY / "components" / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-r ../requirements.txt"]


def test_program_installs_no_tool_and_nothing_large() -> None:
    program = names(REPOSITORY / "requirements.txt")
    assert {"pulumi", "pulumi-command", "pulumi-kubernetes", "boto3"} <= program
    assert not {"pulumi-aws", "pulumi-tls", "pytest", "mypy", "ruff", "uv", "moto"} & program


def test_program_and_package_have_an_environment_of_their_own() -> None:
    for file in ("Pulumi.yaml", "components/PulumiPlugin.yaml"):
        runtime = yaml.safe_load((REPOSITORY / file).read_text())["runtime"]
        assert runtime == {"name": "python", "options": {"toolchain": "pip", "virtualenv": "venv"}}


WITHOUT = """
import sys
absent = {absent!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, {root!r})
"""


def without(*absent: str) -> str:
    """Python that cannot import the modules of distributions that the program's lock lacks, nor `absent`."""
    installed = names(REPOSITORY / "requirements.txt") | {"pip", "setuptools"}
    modules = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & installed
    }
    assert {"moto", "cryptography"} <= modules
    return WITHOUT.format(absent=modules | set(absent), root=str(REPOSITORY))


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run it in a Python of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_program_and_package_need_nothing_that_pulumi_install_leaves_out() -> None:
    tree = ast.parse((REPOSITORY / "__main__.py").read_text())
    imports = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)))
    result = run(f"{without()}\n{imports}\nfrom components import package\nprint(package.schema(), end='')")
    assert result.returncode == 0, result.stderr
    from components import package

    assert result.stdout == package.schema()


@pytest.mark.parametrize("module", ["stacks.aws_pool", "aws.preflight"])
def test_stack_on_aws_needs_nothing_that_pulumi_install_leaves_out(module: str) -> None:
    result = run(f"{without()}\nimport {module}")
    assert result.returncode == 0, result.stderr


def test_package_without_a_wheel_for_a_platform_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tag in ("manylinux_2_28_x86_64", "macosx_11_0_arm64"):
        with zipfile.ZipFile(tmp_path / f"partial-1.0-py3-none-{tag}.whl", "w") as wheel:
            wheel.writestr("partial-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: partial\nVersion: 1.0\n")
            wheel.writestr("partial-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-{tag}\n")
            wheel.writestr("partial-1.0.dist-info/RECORD", "")
    lock = tmp_path / "requirements.txt"
    lock.write_text("partial==1.0\n")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    assert platforms.missing(lock, "x86_64-manylinux_2_28", "3.13") is None
    assert platforms.missing(lock, "aarch64-manylinux_2_28", "3.13") == "partial==1.0 has no wheel"
    monkeypatch.setattr(platforms, "PYTHONS", ("3.14",))
    assert list(platforms.gaps([lock])) == [
        f"requirements.txt on {platform} with Python 3.14: partial==1.0 has no wheel"
        for platform in ("aarch64-manylinux_2_28", "x86_64-apple-darwin")
    ]
