"""Set up what `pulumi` commands need here (virtual environment, engine, plugins) and print it as shell exports."""

import argparse
import errno
import importlib.util
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from tools import cache, get, sites
from tools.cache import SetupError, say

CHECKOUT = Path(__file__).resolve().parent.parent
LOCK = CHECKOUT / "requirements-dev.txt"
"""What set-up installs: the program, its tests and its checks."""
STATE = CHECKOUT / ".state"
PASSPHRASE = STATE / "passphrase"
COMMAND_PLUGIN = "1.2.1"
OWN_PLUGIN = "plugins/command/main.py"
"""What our own command plugin starts, which distinguishes it from the official one."""
OWN_BACKEND = "local"
"""The stack that keeps its state in the checkout: what it makes is this machine's, not shared with others."""
NEWEST_PYTHON = (3, 14)
"""The newest for which the locked packages are built (tools/platforms.py)."""
PIP_ELSEWHERE = {"PIP_DRY_RUN", "PIP_PREFIX", "PIP_PYTHON", "PIP_ROOT", "PIP_TARGET", "PIP_USER"}
"""Settings of pip with which nothing comes into the environment for which it runs."""
NO_DOWNLOADS = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"
"""The engine's own setting: with it, the engine downloads no plugin by itself."""


def environment_name(lock: Path) -> str:
    """The cache entry of a lock's virtual environment."""
    # The Python beneath, where a virtual environment runs this: one environment for both.
    return f"venv-{cache.key([lock, sys.version, sys.base_prefix])}"


def virtual_environment(lock: Path = LOCK) -> Path:
    """The virtual environment with the requirements of `lock`, made once for each version of that file."""
    name = environment_name(lock)
    folder = cache.root() / name
    complete = folder / ".complete"
    if complete.exists():
        return folder
    with cache.lock(name):
        if complete.exists():
            return folder
        # A virtual environment holds its own path, so it is made in place; the marker means that it is whole.
        shutil.rmtree(folder, ignore_errors=True)
        say(f"Making the virtual environment of {lock.relative_to(CHECKOUT)} (about 1 min, once) ...")
        # -I: a PYTHONPATH of the person holds other packages, which pip would take for installed ones.
        creation = subprocess.run([sys.executable, "-I", "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
        if creation.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            has_pip = importlib.util.find_spec("ensurepip") is not None  # which Debian has in a package of its own
            raise SetupError(
                f"Python cannot make a virtual environment ({(creation.stdout + creation.stderr).strip()[-200:]}). "
                + (f"Check the space and the permissions of {cache.root()}." if has_pip else "Install the package python3-venv.")
            )
        pip = [
            str(folder / "bin" / "python"),
            "-I",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-user",
        ]
        installation = subprocess.run(
            [*pip, "--require-hashes", "--no-deps", "--requirement", str(lock)],
            env={name: value for name, value in os.environ.items() if name not in PIP_ELSEWHERE},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if installation.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise SetupError(
                f"The locked requirements could not be installed: {installation.stderr.strip()[-400:]}. "
                + installation_remedy(installation.stderr)
            )
        if absent := absent_packages(folder, lock):
            shutil.rmtree(folder, ignore_errors=True)
            raise SetupError(
                f"pip reported success, but {len(absent)} packages are not in the virtual environment, such as {absent[0]}. "
                "Remove target, prefix, root and dry-run from pip's configuration (pip config list shows it)."
            )
        complete.touch()
    return folder


def installation_remedy(printed: str) -> str:
    """What to do where pip could not install a lock, by what it printed."""
    if os.strerror(errno.ENOSPC) in printed:
        return f"Free space for {cache.root()}, or set {cache.CACHE} to another folder."
    if sys.version_info[:2] > NEWEST_PYTHON:
        newest = ".".join(map(str, NEWEST_PYTHON))
        return f"Its packages are built for Python 3.11 to {newest}: put one of these first on PATH as python3."
    return "Check that the Python package index can be reached, and what pip config list shows."


def absent_packages(venv: Path, lock: Path) -> list[str]:
    """Packages of a lock, of those for every platform, that a virtual environment does not hold."""
    listing = "import importlib.metadata as m\nfor d in m.distributions(): print(d.metadata['Name'] + '==' + d.version)"
    argv = [str(venv / "bin" / "python"), "-I", "-c", listing]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    installed = {f"{re.sub('[-_.]+', '-', name).lower()}=={version}" for name, _, version in (li.partition("==") for li in lines)}
    return [package for package in re.findall(r"^(\S+==\S+) \\$", lock.read_text(), re.MULTILINE) if package not in installed]


def show(venv: Path) -> None:
    """Have the engine find `venv` where Pulumi.yaml names it, unless `pulumi install` has made one of its own there."""
    place = CHECKOUT / "venv"
    if place.is_symlink() and place.readlink() == venv:
        return  # nothing to write: the checkout of an image may be read only
    if place.is_symlink() or not place.exists():
        with tempfile.TemporaryDirectory(dir=CHECKOUT, prefix=".venv-") as scratch:
            link = Path(scratch) / "venv"
            link.symlink_to(venv)
            link.replace(place)


def engine_folder() -> Path:
    """A folder with the engine and its language host side by side, where the engine looks first."""
    engine, language = get.path("pulumi"), get.path("pulumi-language-python")
    if engine.resolve().parent == language.resolve().parent:
        return engine.parent

    def make(folder: Path) -> None:
        for program in (engine, *language.parent.iterdir()):
            shutil.copy2(program, folder / program.name)

    # An engine of PATH is upgraded in its place; its copy would stay the old one.
    stats = [(str(program), program.stat().st_size, program.stat().st_mtime_ns) for program in (engine, language)]
    return cache.entry(f"engine-{cache.key([repr(stats)])}", make, "Assembling engine and language host")


def published(name: str, version: str) -> bool:
    """Whether the official plugin can be downloaded here."""
    names = sites.this_platform()
    return sites.available(f"{sites.PLUGINS}/pulumi-resource-{name}-v{version}-{names['os']}-{names['amd64']}.tar.gz")


def _command_sources() -> list[Path]:
    """The files of our command plugin, as paths in the checkout: its own, and those of the node program that it uses."""
    modules = ("rules/text.py", "host/reading.py")
    shared = ["nodekit/__init__.py"]
    for module in modules:
        shared += [f"nodekit/{Path(module).parent}/__init__.py", f"nodekit/{module}"]
    own = sorted(path.relative_to(CHECKOUT) for path in (CHECKOUT / "plugins" / "command").glob("*.py"))
    return [*own, *map(Path, shared)]


def command_key(venv: Path) -> str:
    """What our command plugin consists of: its sources, and the virtual environment that it runs in."""
    return cache.key([str(venv), *(part for source in _command_sources() for part in (str(source), CHECKOUT / source))])


def own_command_plugin(venv: Path) -> Path:
    """Our implementation of the command plugin as one executable, in the cache; see plugins/command/README.md."""
    key = command_key(venv)

    def make(folder: Path) -> None:
        for source in _command_sources():
            (folder / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / source, folder / source)
        launcher = folder / "pulumi-resource-command"
        main_file = cache.root() / "plugins" / f"command-{key}" / OWN_PLUGIN
        launcher.write_text(f'#!/bin/sh\nexec {shlex.quote(str(venv / "bin" / "python"))} {shlex.quote(str(main_file))} "$@"\n')
        launcher.chmod(0o755)

    return cache.entry(f"plugins/command-{key}", make, "Packing the command plugin") / "pulumi-resource-command"


def engine_settings() -> dict[str, str]:
    """What every command of the engine gets: no questions about updates, and plugins from the mirror where there is one."""
    overrides = sites.plugin_overrides()
    return {"PULUMI_SKIP_UPDATE_CHECK": "true", **({sites.OVERRIDES: overrides} if overrides else {})}


def install_plugin(engine: Path, home: Path, name: str, version: str, own: Path | None) -> None:
    """Put one resource plugin into `home`: the official one (`own` is None), or the executable `own`."""
    argv = [str(engine), "plugin", "install", "resource", name, version, "--reinstall"]
    if own:
        argv += ["--file", str(own)]
    environment = {**os.environ, **engine_settings(), "PULUMI_HOME": str(home)}
    result = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SetupError(f"The plugin {name} {version} could not be installed: {(result.stdout + result.stderr).strip()[-400:]}.")


def interrupted(folder: Path) -> bool:
    """Whether the unpacking of a plugin was killed: the engine keeps a file beside it meanwhile, and then ignores the plugin."""
    return folder.with_name(f"{folder.name}.partial").exists()


def plugins(engine: Path, home: Path, venv: Path) -> bool:
    """Have the two resource plugins in `home`: official where they can be downloaded, else our own build.

    Returns whether they are the official ones: then the engine can download others too.
    """
    kubernetes = get.parts()["pulumi-resource-kubernetes"]
    folder = home / "plugins" / f"resource-kubernetes-v{kubernetes.version}"
    if not folder.exists() or interrupted(folder):
        official = not any((cache.root() / "parts").glob("pulumi-resource-kubernetes-*")) and published(
            "kubernetes", kubernetes.version
        )
        install_plugin(
            engine, home, "kubernetes", kubernetes.version, None if official else get.path("pulumi-resource-kubernetes")
        )
    folder = home / "plugins" / f"resource-command-v{COMMAND_PLUGIN}"
    command = folder / "pulumi-resource-command"
    whole = command.exists() and not interrupted(folder)
    if whole and OWN_PLUGIN.encode() not in command.read_bytes():
        return True
    if not whole and published("command", COMMAND_PLUGIN):
        install_plugin(engine, home, "command", COMMAND_PLUGIN, None)
        return True
    own = own_command_plugin(venv)
    if not whole or command.read_bytes() != own.read_bytes():
        install_plugin(engine, home, "command", COMMAND_PLUGIN, own)
    return False


def passphrase() -> Path:
    """The passphrase that guards the secrets of this checkout's own state, made once at random."""
    with cache.lock("passphrase"):
        if not PASSPHRASE.exists():
            # Renamed once it is whole: an empty one, of a full disk, would guard nothing.
            with tempfile.TemporaryDirectory(dir=PASSPHRASE.parent) as scratch:
                beside = Path(scratch) / PASSPHRASE.name
                beside.touch(mode=0o600)
                beside.write_text(secrets.token_urlsafe(32))
                beside.rename(PASSPHRASE)
    return PASSPHRASE


def own_backend_url() -> str:
    """The address of the backend in the checkout; the engine takes it for a URL, in which some letters of a path are special."""
    return f"file://{STATE / 'backend'}".translate({ord(letter): quote(letter) for letter in "%#?"})


def own_backend() -> dict[str, str]:
    """Where stack `local` keeps its state: in this checkout, whatever backend a person is logged in to."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    STATE.chmod(0o700)
    (STATE / "backend").mkdir(exist_ok=True)
    # The engine empties this file before it writes it (gocloud.dev, fileblob): killed in between, it never reads its state again.
    for attributes in (STATE / "backend").rglob("*.json.attrs"):
        if attributes.stat().st_size == 0:
            attributes.unlink()
    say(f"Stack {OWN_BACKEND} keeps its state in this checkout ({STATE / 'backend'}), apart from your Pulumi login.")
    settings = {"PULUMI_BACKEND_URL": own_backend_url()}
    if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & set(os.environ):
        settings["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(passphrase())
    return settings


def leftovers(stack: str | None) -> list[str]:
    """Variables that an earlier set-up for stack `local` left in this shell, where it now works on another stack."""
    if stack in (None, OWN_BACKEND):
        return []
    own = {"PULUMI_BACKEND_URL": own_backend_url(), "PULUMI_CONFIG_PASSPHRASE_FILE": str(PASSPHRASE)}
    left = [name for name, value in own.items() if os.environ.get(name) == value]
    # A person may have set this one: it is that set-up's where its backend is, too.
    return [*left, NO_DOWNLOADS] if "PULUMI_BACKEND_URL" in left and os.environ.get(NO_DOWNLOADS) == "true" else left


def exports(stack: str | None) -> dict[str, str]:
    """The environment in which `pulumi` works here for `stack`; everything in it exists when this returns.

    A person's login, backend and passphrase stay theirs, and so does a PULUMI_HOME that is set already.
    """
    venv = virtual_environment()
    show(venv)
    engine = engine_folder() / "pulumi"
    # A folder for each version of the plugin, so that two checkouts do not keep replacing it.
    home = Path(os.environ.get("PULUMI_HOME") or cache.root() / f"home-{command_key(venv)}")
    cache.make_folder(home)
    with cache.lock("plugins"):
        official = plugins(engine, home, venv)
    folders = [str(venv / "bin"), str(engine.parent)]
    kept = [f for f in os.environ.get("PATH", "").split(":") if f not in folders]
    result = {
        "PATH": ":".join([*folders, *kept]),
        "VIRTUAL_ENV": str(venv),
        "PULUMI_HOME": str(home),
        **engine_settings(),
    }
    if not os.environ.get("PULUMI_HOME"):  # an empty one counts as none, for the engine too
        # The engine keeps logins beside plugins; plugins are ours, logins are not.
        result["PULUMI_CREDENTIALS_PATH"] = os.environ.get("PULUMI_CREDENTIALS_PATH") or str(cache.home() / ".pulumi")
    # The environment holds the AWS package for the tests, and the engine would fetch its plugin for a stack without AWS too.
    if stack == OWN_BACKEND or not official:
        result[NO_DOWNLOADS] = "true"
    if stack == OWN_BACKEND:
        result |= own_backend()
    return result


def main() -> int:
    """Print the exports."""
    cli = argparse.ArgumentParser(prog="tools/env", description=__doc__)
    cli.add_argument("stack", nargs="?", help=f"a stack's name; {OWN_BACKEND} gets a backend of its own in this checkout")
    stack = cli.parse_args().stack

    def run() -> None:
        exported = exports(stack)
        for name, value in exported.items():
            print(f"export {name}={shlex.quote(value)}")
        for name in leftovers(stack):
            if name not in exported:
                print(f"unset {name}")

    return cache.exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
