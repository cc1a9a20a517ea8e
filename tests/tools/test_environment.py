"""tools/env from an empty cache, by the vendors' sites alone: a shell that evaluates it has an engine, or fails."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.tools.vendors import Sites
from tools import environment, get, platforms
from tools.cache import SetupError

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
SHELLS = ["bash", "dash"]
ENGINE = r"""#!/bin/sh
case $1 in
version) echo v{version} ;;
plugin) mkdir -p "$PULUMI_HOME/plugins/$3-$4-v$5" && echo program >"$PULUMI_HOME/plugins/$3-$4-v$5/pulumi-$3-$4"
    echo "$4 from ${{PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES#*=}} with ${{6-}} ${{7-}}" >>"$PULUMI_HOME/installed" ;;
esac
"""
"""Does what set-up asks of the engine."""


class Clone:
    """What set-up reads of the project, in a folder of its own, on a machine with a Python."""

    def __init__(self, folder: Path, vendors: Sites) -> None:
        self.folder, self.vendors = folder / "clone", vendors
        for name in ("tools", "plugins", "nodekit"):
            shutil.copytree(REPOSITORY / name, self.folder / name, ignore=shutil.ignore_patterns("go", "__pycache__"))
        for lock in REPOSITORY.glob("requirements*.txt"):
            shutil.copy(lock, self.folder)
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.program("python3", f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n')
        for name in ("cat", "echo", "env", "mkdir", "rm", "bash", "dash"):
            if program := shutil.which(name, path="/usr/bin:/bin"):
                (self.programs / name).symlink_to(program)
        # The locked packages are not what is tried here.
        venv = Path(os.environ["KATA_NODES_CACHE"]) / environment.environment_name(environment.LOCK)
        (venv / "bin").mkdir(parents=True)
        (venv / ".complete").touch()
        self.home = folder / "home"
        self.home.mkdir()
        self.environment = {
            "PATH": str(self.programs),
            "HOME": str(self.home),
            "KATA_NODES_CACHE": os.environ["KATA_NODES_CACHE"],
            "KATA_NODES_MIRROR": vendors.url,
        }

    def program(self, name: str, text: str) -> None:
        """A program on PATH."""
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def release(self) -> None:
        """Everything that set-up downloads."""
        version = get.parts()["pulumi"].version
        self.vendors.pulumi({"pulumi": ENGINE.format(version=version).encode(), "pulumi-language-python": b""})
        self.vendors.plugin("command", environment.COMMAND_PLUGIN, b"")
        self.vendors.plugin("kubernetes", get.parts()["pulumi-resource-kubernetes"].version, b"")

    def shell(self, shell: str, stack: str = "", after: str = "env", **variables: str) -> subprocess.CompletedProcess[str]:
        """Evaluate tools/env as people and scripts do, then run `after`."""
        script = f'eval "$({self.folder}/tools/env {stack})" && {after}'
        return subprocess.run(
            [shell, "-c", script], cwd="/", env={**self.environment, **variables}, capture_output=True, text=True, check=False
        )

    def variables(self, stack: str = "", **variables: str) -> dict[str, str]:
        """The environment after it."""
        result = self.shell("bash", stack, **variables)
        assert result.returncode == 0, result.stderr
        return dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)


@pytest.fixture
def clone(tmp_path: Path, vendors: Sites) -> Clone:
    """One whose vendors have released nothing yet."""
    return Clone(tmp_path, vendors)


@pytest.mark.parametrize("shell", SHELLS)
def test_empty_machine_gets_an_engine_and_official_plugins(clone: Clone, shell: str) -> None:
    clone.release()
    result = clone.shell(shell, after='pulumi version && cat "$PULUMI_HOME/installed"')
    assert result.returncode == 0, result.stderr
    version, *installed = result.stdout.splitlines()
    assert version == f"v{get.parts()['pulumi'].version}"
    from_mirror = f"from {clone.vendors.url}/get.pulumi.com/releases/plugins with --reinstall"
    assert [line.strip() for line in installed] == [f"kubernetes {from_mirror}", f"command {from_mirror}"]


def test_plugin_whose_unpacking_was_killed_is_installed_again(clone: Clone) -> None:
    clone.release()
    home = Path(clone.variables()["PULUMI_HOME"])
    versions = {"command": environment.COMMAND_PLUGIN, "kubernetes": get.parts()["pulumi-resource-kubernetes"].version}
    for name, version in versions.items():
        # The engine ignores a plugin beside which this file is.
        (home / "plugins" / f"resource-{name}-v{version}.partial").touch()
    (home / "installed").unlink()
    clone.variables()
    assert {line.split()[0] for line in (home / "installed").read_text().splitlines()} == set(versions)


def failed(clone: Clone, shell: str) -> str:
    """The one line of error with which both the eval and what comes after it fail."""
    result = clone.shell(shell, after="echo went on")
    assert result.returncode != 0 and result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if not line.endswith(" ...")]
    assert len(errors) == 1 and errors[0].startswith("error: "), result.stderr
    return errors[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_set_up_without_an_archive_fails_the_shell(clone: Clone, shell: str) -> None:
    assert "cannot be downloaded" in failed(clone, shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_set_up_with_a_damaged_archive_fails_the_shell(clone: Clone, shell: str) -> None:
    clone.release()
    archive = clone.vendors.pulumi()
    archive.write_bytes(archive.read_bytes() + b"more")
    assert "-checksums.txt says" in failed(clone, shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_machine_without_python_is_told(clone: Clone, shell: str) -> None:
    (clone.programs / "python3").unlink()
    assert "python3 is missing. Put Python 3.11 to 3.14 first on PATH" in failed(clone, shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_machine_whose_python_is_too_old_is_told(clone: Clone, shell: str) -> None:
    clone.program("python3", "#!/bin/sh\ncase $1 in --version) echo Python 3.9.6 ;; *) exit 1 ;; esac\n")
    assert "python3 is Python 3.9.6. Put Python 3.11 to 3.14 first on PATH" in failed(clone, shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_cache_that_cannot_be_written_fails_the_shell(clone: Clone, shell: str) -> None:
    clone.release()
    (Path(clone.environment["KATA_NODES_CACHE"]) / "parts").write_text("not a folder")
    assert "Check the space and the permissions of" in failed(clone, shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_set_up_that_is_stopped_fails_the_shell(clone: Clone, shell: str) -> None:
    clone.program("python3", '#!/bin/sh\ncase $1 in -c) exit 0 ;; esac\nkill -TERM "$PPID"\n')
    result = clone.shell(shell, after="echo went on")
    assert result.returncode != 0 and result.stdout == ""


def test_login_backend_and_passphrase_stay_the_persons_own(clone: Clone) -> None:
    clone.release()
    for stack in ("", "staging"):
        plain = clone.variables(stack)
        assert not {"PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & set(plain)
        assert plain["PULUMI_CREDENTIALS_PATH"] == str(clone.home / ".pulumi")
    own = {"PULUMI_BACKEND_URL": "s3://team", "PULUMI_CONFIG_PASSPHRASE": "p", "PULUMI_CREDENTIALS_PATH": "/credentials"}
    kept = clone.variables("staging", **own)
    assert {name: kept[name] for name in own} == own
    assert not (clone.folder / ".state").exists()


def test_empty_home_of_an_engine_counts_as_none(clone: Clone) -> None:
    """Logins would be kept in the cache, where no other shell finds them."""
    clone.release()
    assert clone.variables(PULUMI_HOME="")["PULUMI_CREDENTIALS_PATH"] == str(clone.home / ".pulumi")


def test_set_up_finds_its_modules_where_python_leaves_out_the_current_folder(clone: Clone) -> None:
    clone.release()
    assert "PULUMI_HOME" in clone.variables(PYTHONSAFEPATH="1")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"KATA_NODES_CACHE": "~nobody-of-that-name/cache"}, "there is no such user. Set it to a folder."),
        ({"KATA_NODES_CACHE": "/a:b"}, "has a colon in its path"),
        ({"KATA_NODES_CACHE": "", "HOME": ""}, "This user has no home folder. Set HOME to"),
        ({"KATA_NODES_CACHE": "", "HOME": "relative"}, "This user has no home folder. Set HOME to"),
    ],
)
def test_cache_that_has_no_place_is_one_sentence(clone: Clone, variables: dict[str, str], sentence: str) -> None:
    clone.environment |= variables
    assert sentence in failed(clone, "bash")


def test_checkout_that_is_set_up_need_not_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an image of CI, the checkout and its link belong to root, and jobs run as another user."""
    monkeypatch.setattr(environment, "CHECKOUT", tmp_path)
    environment.show(tmp_path / "cache/venv-1")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))

    monkeypatch.setattr(environment.tempfile, "TemporaryDirectory", refuse)
    environment.show(tmp_path / "cache/venv-1")
    with pytest.raises(PermissionError):
        environment.show(tmp_path / "cache/venv-2")


def test_home_of_an_engine_stays_the_persons_own(clone: Clone) -> None:
    clone.release()
    variables = clone.variables(PULUMI_HOME=str(clone.home / "mine"))
    assert variables["PULUMI_HOME"] == str(clone.home / "mine") and "PULUMI_CREDENTIALS_PATH" not in variables


def test_only_stack_local_keeps_its_state_in_the_checkout_and_says_so(clone: Clone) -> None:
    clone.release()
    result = clone.shell("bash", "local", PULUMI_BACKEND_URL="s3://team")
    backend = clone.folder / ".state" / "backend"
    assert f"PULUMI_BACKEND_URL=file://{backend}\n" in result.stdout and backend.is_dir()
    assert f"PULUMI_CONFIG_PASSPHRASE_FILE={clone.folder / '.state' / 'passphrase'}\n" in result.stdout
    assert f"Stack local keeps its state in this checkout ({backend}), apart from your Pulumi login." in result.stderr
    assert "login" not in clone.shell("bash", "staging").stderr
    attributes = [backend / "stacks" / name for name in ("killed.json.attrs", "well.json.attrs")]
    attributes[0].parent.mkdir()
    for file, content in zip(attributes, ("", "{}"), strict=True):
        file.write_text(content)
    clone.shell("bash", "local")
    assert [file.exists() for file in attributes] == [False, True]  # the first would keep the engine from its state for ever


def test_backend_in_a_checkout_with_any_name_is_a_url_that_leads_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder `a#b` the engine looked for `a`; with a `%` it asked for a token of Pulumi Cloud."""
    monkeypatch.setattr(environment, "STATE", Path("/home/me/100% a#b?/kata nodes-ü/.state"))
    address = environment.own_backend_url()
    assert address == "file:///home/me/100%25 a%23b%3F/kata nodes-ü/.state/backend"
    assert unquote(urlsplit(address).path) == "/home/me/100% a#b?/kata nodes-ü/.state/backend"


def test_backend_of_stack_local_is_not_left_to_the_next_stack(clone: Clone) -> None:
    clone.release()
    left = {name: value for name, value in clone.variables("local").items() if name.startswith("PULUMI_")}
    after = clone.variables("staging", **left)
    assert not {"PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE_FILE"} & set(after)
    # Or a stack on AWS would lack the plugins that no set-up brings.
    assert left.keys() - after.keys() >= {"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"}
    own = clone.variables("staging", PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION="true")
    assert own["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"


def test_engine_that_was_upgraded_in_its_place_is_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path / "cache"))
    places = {name: tmp_path / name / name for name in ("pulumi", "pulumi-language-python")}
    monkeypatch.setattr(get, "path", places.__getitem__)
    for place in places.values():
        place.parent.mkdir()
    for name, text in (("pulumi", "1"), ("pulumi-language-python", "1"), ("pulumi", "new"), ("pulumi-language-python", "new")):
        places[name].write_text(text)
        if places["pulumi-language-python"].exists():
            folder = environment.engine_folder()
            assert {name: (folder / name).read_text() for name in places} == {name: places[name].read_text() for name in places}


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of one package, which lies in a folder that stands for the package index."""
    wheel = tmp_path / "index" / "small-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    files = {
        "small.py": "",
        "small-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Small\nVersion: 1.0\n",
        "small-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "small-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    file = tmp_path / "requirements.txt"
    file.write_text(f"small==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    monkeypatch.setattr(environment, "CHECKOUT", tmp_path)
    for name, value in (("KATA_NODES_CACHE", tmp_path / "cache"), ("PIP_FIND_LINKS", wheel.parent), ("PIP_NO_INDEX", 1)):
        monkeypatch.setenv(name, str(value))
    return file


def holds(venv: Path) -> bool:
    """Whether the package of `lock` is in a virtual environment."""
    return subprocess.run([venv / "bin/python", "-I", "-c", "import small"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", ["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_DRY_RUN", "PYTHONPATH"])
def test_locked_packages_come_into_their_environment_whatever_a_person_has_set(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without them it counted as whole for ever: every command of the checkout then ended with `No module named …`."""
    elsewhere = tmp_path / "elsewhere"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", elsewhere, "small==1.0"], check=True)
    monkeypatch.setenv(name, "1" if name in ("PIP_USER", "PIP_DRY_RUN") else str(elsewhere))
    assert holds(environment.virtual_environment(lock))


def test_environment_without_its_packages_does_not_count_as_made(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text(f"[install]\ntarget = {tmp_path / 'elsewhere'}\n")
    with monkeypatch.context() as patch:
        patch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        with pytest.raises(SetupError, match=r"1 packages are not in the virtual environment, such as small==1\.0"):
            environment.virtual_environment(lock)
    assert holds(environment.virtual_environment(lock))


@pytest.mark.parametrize(
    ("version", "printed", "remedy"),
    [
        ((3, 14, 1), "ERROR: [Errno 28] No space left on device", "Free space for"),
        ((3, 15, 0), "error: metadata-generation-failed", "built for Python 3.11 to 3.14: put one of these first on PATH"),
        ((3, 14, 1), "ERROR: No matching distribution", "Check that the Python package index can be reached"),
    ],
)
def test_remedy_of_an_installation_is_that_of_its_cause(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], printed: str, remedy: str
) -> None:
    monkeypatch.setattr(environment.sys, "version_info", version)
    assert remedy in environment.installation_remedy(printed)


def test_python_that_packages_are_built_for_is_the_same_everywhere() -> None:
    assert platforms.PYTHONS[-1] == ".".join(map(str, environment.NEWEST_PYTHON))
    assert f"Python {platforms.PYTHONS[0]} to {platforms.PYTHONS[-1]} " in (REPOSITORY / "tools/env").read_text()


def test_passphrase_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "state" / "passphrase"
    place.parent.mkdir()
    monkeypatch.setattr(environment, "PASSPHRASE", place)

    def full(*_: object) -> str:
        assert not place.exists()  # another set-up would seal its state with an empty one, and so would the next after a kill
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(environment.secrets, "token_urlsafe", full)
        with pytest.raises(OSError, match="No space"):
            environment.passphrase()
    assert list(place.parent.iterdir()) == []
    first = environment.passphrase().read_text()
    assert len(first) > 40 and environment.passphrase().read_text() == first
    assert place.stat().st_mode & 0o777 == 0o600 and list(place.parent.iterdir()) == [place]


def test_engine_downloads_other_plugins_itself_where_the_sites_are_reached(clone: Clone) -> None:
    clone.release()
    switch = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"
    assert switch not in clone.variables("prod")
    assert clone.variables("local")[switch] == "true"  # it has all of its plugins, and no use for AWS's


def test_packed_command_plugin_has_all_that_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of this project that it imports and that is not packed would end every `up`."""
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path))
    folder = environment.own_command_plugin(Path(sys.prefix)).parent
    subprocess.run([sys.executable, "-c", "import plugins.command.main"], cwd=folder, check=True, timeout=60)
