"""Set up what `pulumi` commands need here (virtual environment, engine, plugins) and print it as shell exports."""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from tools import cache, get
from tools.cache import SetupError, say

CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON_NEEDED = (3, 11)
COMMAND_PLUGIN = "1.2.1"
OFFICIAL_PLUGIN = "https://get.pulumi.com/releases/plugins/pulumi-resource-{name}-v{version}-linux-amd64.tar.gz"


def virtual_environment(lock: Path = CHECKOUT / "requirements.txt") -> Path:
    """The virtual environment with the requirements of `lock`, made once for each content of that file."""
    if sys.version_info < PYTHON_NEEDED:
        raise SetupError(f"Python {sys.version.split()[0]} is too old. Install Python 3.11 or newer as python3.")
    # The Python beneath, where a virtual environment runs this: one environment for both.
    name = f"venv-{cache.key([lock, sys.version, sys.base_prefix])}"
    folder = cache.root() / name
    complete = folder / ".complete"
    if complete.exists():
        return folder
    with cache.lock(name):
        if complete.exists():
            return folder
        # A virtual environment holds its own path, so it is made in place; the marker says that it is whole.
        shutil.rmtree(folder, ignore_errors=True)
        say(f"Making the virtual environment of {lock.relative_to(CHECKOUT)} (about 1 min, once) ...")
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise SetupError(
                f"Python cannot make a virtual environment ({(made.stdout + made.stderr).strip()[-200:]}). "
                "Install the package python3-venv."
            )
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*pip, "--require-hashes", "--no-deps", "--requirement", str(lock)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise SetupError(
                f"The locked requirements could not be installed: {done.stderr.strip()[-400:]}. "
                "Check that the Python package index can be reached."
            )
        complete.touch()
    return folder


def engine_folder() -> Path:
    """A folder with the engine and its language host side by side, which is where the engine looks first."""
    engine, language = get.path("pulumi"), get.path("pulumi-language-python")
    if engine.resolve().parent == language.resolve().parent:
        return engine.parent

    def make(folder: Path) -> None:
        for program in (engine, *language.parent.iterdir()):
            shutil.copy2(program, folder / program.name)

    return cache.entry(f"engine-{cache.key([str(engine), str(language)])}", make, "Putting engine and language host together")


def reachable(url: str) -> bool:
    """Whether an address answers, within seconds."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10):
            return True
    except OSError:
        return False


def command_key(venv: Path) -> str:
    """What our command plugin consists of: its sources, and the virtual environment that it runs in."""
    sources = sorted((CHECKOUT / "plugins" / "command").glob("*.py"))
    return cache.key([str(venv), *(part for source in sources for part in (source.name, source))])


def own_command_plugin(venv: Path) -> Path:
    """Our implementation of the command plugin as one executable, in the cache; see plugins/command/README.md."""
    key = command_key(venv)

    def make(folder: Path) -> None:
        room = folder / "plugins" / "command"
        room.mkdir(parents=True)
        for source in (CHECKOUT / "plugins" / "command").glob("*.py"):
            shutil.copy(source, room)
        launcher = folder / "pulumi-resource-command"
        main_file = cache.root() / "plugins" / f"command-{key}" / "plugins" / "command" / "main.py"
        launcher.write_text(f'#!/bin/sh\nexec {shlex.quote(str(venv / "bin" / "python"))} {shlex.quote(str(main_file))} "$@"\n')
        launcher.chmod(0o755)

    return cache.entry(f"plugins/command-{key}", make, "Packing the command plugin") / "pulumi-resource-command"


def install_plugin(engine: Path, home: Path, name: str, version: str, own: Path | None) -> None:
    """Put one resource plugin into `home`: the official one (`own` is None), or the executable `own`."""
    argv = [str(engine), "plugin", "install", "resource", name, version, "--reinstall"]
    if own:
        argv += ["--file", str(own)]
    environment = {**os.environ, "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"The plugin {name} {version} could not be installed: {(done.stdout + done.stderr).strip()[-400:]}.")


def plugins(engine: Path, home: Path, venv: Path) -> None:
    """Have the two resource plugins in `home`: official where they can be downloaded, else our own build."""
    kubernetes = get.parts()["pulumi-resource-kubernetes"]
    folder = home / "plugins" / f"resource-kubernetes-v{kubernetes.version}"
    # The engine keeps this file beside a plugin while it unpacks it, and does not find one whose unpacking was killed.
    if not folder.exists() or folder.with_name(f"{folder.name}.partial").exists():
        official = not any((cache.root() / "parts").glob("pulumi-resource-kubernetes-*")) and reachable(
            OFFICIAL_PLUGIN.format(name="kubernetes", version=kubernetes.version)
        )
        install_plugin(
            engine, home, "kubernetes", kubernetes.version, None if official else get.path("pulumi-resource-kubernetes")
        )
    command = home / "plugins" / f"resource-command-v{COMMAND_PLUGIN}" / "pulumi-resource-command"
    if command.exists() and not command.read_bytes().startswith(b"#!"):
        return  # the official one
    if not command.exists() and reachable(OFFICIAL_PLUGIN.format(name="command", version=COMMAND_PLUGIN)):
        install_plugin(engine, home, "command", COMMAND_PLUGIN, None)
        return
    own = own_command_plugin(venv)
    if not command.exists() or command.read_bytes() != own.read_bytes():
        install_plugin(engine, home, "command", COMMAND_PLUGIN, own)


def passphrase(state: Path) -> Path:
    """The passphrase that guards the secrets of this checkout's own state, made once at random."""
    file = state / "passphrase"
    if not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_urlsafe(32))
    return file


def exports() -> dict[str, str]:
    """The environment in which `pulumi` works here; everything in it exists when this returns.

    What a person has set already (PULUMI_HOME, PULUMI_BACKEND_URL, a passphrase) is kept.
    """
    venv = virtual_environment()
    engine = engine_folder() / "pulumi"
    # A folder for each content of the plugin, so that two checkouts do not take turns in replacing it.
    home = Path(os.environ.get("PULUMI_HOME") or cache.root() / f"home-{command_key(venv)}")
    home.mkdir(parents=True, exist_ok=True)
    with cache.lock("plugins"):
        plugins(engine, home, venv)
    folders = [str(venv / "bin"), str(engine.parent)]
    kept = [f for f in os.environ.get("PATH", "").split(":") if f not in folders]
    result = {
        "PATH": ":".join([*folders, *kept]),
        "VIRTUAL_ENV": str(venv),
        "PULUMI_HOME": str(home),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    state = CHECKOUT / ".state"
    if "PULUMI_BACKEND_URL" not in os.environ:
        (state / "backend").mkdir(parents=True, exist_ok=True)
        state.chmod(0o700)
        result["PULUMI_BACKEND_URL"] = f"file://{state / 'backend'}"
    if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & set(os.environ):
        state.mkdir(mode=0o700, exist_ok=True)
        result["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(passphrase(state))
    return result


def main() -> int:
    """Print the exports."""
    try:
        for name, value in exports().items():
            print(f"export {name}={shlex.quote(value)}")
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        print("false")  # so that eval "$(tools/env)" fails
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
