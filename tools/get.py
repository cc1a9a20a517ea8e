"""Find or make one real part (engine, plugin, server): from PATH, by official download, else built from Go modules."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import tomllib

from tools import cache, official, sites
from tools.cache import SetupError, say

HERE = Path(__file__).resolve().parent
GO_NEEDED = (1, 26)


@dataclass(frozen=True)
class Part:
    """One entry of parts.toml; see the comments there."""

    name: str
    version: str
    group: str
    package: str
    minutes: int
    on_path: tuple[str, ...] = ()
    accept: str = ""
    beside: str = ""
    official: str = ""
    official_checksums: str = ""
    official_member: str = ""
    tags: str = ""
    ldflags: str = ""
    companions: dict[str, object] = field(default_factory=dict)


def parts() -> dict[str, Part]:
    """All parts by name."""
    with open(HERE / "parts.toml", "rb") as handle:
        table = tomllib.load(handle)
    return {name: Part(name=name, **{**values, "on_path": tuple(values.get("on_path", ()))}) for name, values in table.items()}


def acceptable(installed: str, required: str, rule: str) -> bool:
    """Whether a version found on PATH can stand for the pinned one: `same-minor`, or `same-major-or-newer` within the major."""
    have, want = (tuple(int(n) for n in v.split(".")[:3]) for v in (installed, required))
    if rule == "same-minor":
        return have[:2] == want[:2]
    return have[0] == want[0] and have >= want


def on_path(part: Part) -> Path | None:
    """The program from PATH when its version is acceptable."""
    if not part.on_path or not (program := shutil.which(part.on_path[0])):
        return None
    result = subprocess.run([program, *part.on_path[1:]], capture_output=True, text=True, timeout=60, check=False)
    version = re.search(r"\d+\.\d+\.\d+", result.stdout + result.stderr)
    if not version or not acceptable(version[0], part.version, part.accept):
        seen = version[0] if version else "no version"
        say(f"{part.name}: {program} reports {seen}, which does not satisfy {part.version}; looking further")
        return None
    return Path(program)


def beside(part: Part) -> Path | None:
    """The program that an engine from PATH or from the official archive brings along."""
    if not part.beside:
        return None
    engine = path(part.beside)
    candidate = engine.resolve().parent / part.name
    return candidate if candidate.exists() else None


def go_environment() -> dict[str, str]:
    """The environment in which Go builds parts: for this machine, and by the part's own module alone.

    A go.work in a folder above the checkout, or GO111MODULE=off, would have Go look for its packages elsewhere.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH")}
    own = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "GOWORK": "off", "GO111MODULE": "on"}
    return {**kept, **own, "CGO_ENABLED": "0"}


def go() -> str:
    """The Go toolchain; raises SetupError naming the remedy when it is missing or too old."""
    remedy = "Install Go 1.26 or newer and put its bin folder on PATH."
    program = shutil.which("go")
    if not program:
        raise SetupError(f"Go is needed to build the engine here, and no 'go' is on PATH. {remedy}")
    argv = [program, "env", "GOVERSION"]
    output = subprocess.run(argv, env=go_environment(), capture_output=True, text=True, check=True).stdout
    version = re.match(r"go(\d+)\.(\d+)", output)
    if not version or (int(version[1]), int(version[2])) < GO_NEEDED:
        raise SetupError(f"Go {output.strip()} is too old. {remedy}")
    return program


def can_build() -> bool:
    """Whether there is a Go that builds the parts."""
    try:
        go()
    except SetupError:
        return False
    return True


def build(part: Part, folder: Path) -> None:
    """Build the part from its Go module group into `folder`."""
    group = HERE / "go" / part.group
    environment = go_environment()
    argv = [go(), "build", "-trimpath", "-tags", part.tags, "-ldflags", f"-s -w {part.ldflags}"]
    argv += ["-o", str(folder / part.name), part.package]
    result = subprocess.run(argv, cwd=group, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if not line.startswith("go: downloading")]
        raise SetupError(
            f"{part.name} {part.version} could not be built (in {group}): {' / '.join(lines[-6:])}. "
            "Check that the Go module proxy can be reached and that the disk has 10 GiB free."
        )
    if part.companions:
        listed = subprocess.run(
            [go(), "list", "-m", "-f", "{{.Dir}}", str(part.companions["module"])],
            cwd=group,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        files = part.companions["files"]
        assert isinstance(files, list)
        for file in files:
            copy = folder / Path(file).name
            shutil.copy(Path(listed.stdout.strip()) / file, copy)
            copy.chmod(0o755)


def content_key(part: Part) -> str:
    """What a built part depends on: its entry except for the download addresses, its module group and the Go release."""
    entry = {**part.__dict__, "official": "", "official_checksums": "", "official_member": ""}
    group = HERE / "go" / part.group
    argv = [go(), "env", "GOVERSION", "GOARCH"]
    version = subprocess.run(argv, env=go_environment(), capture_output=True, text=True, check=True).stdout
    files = sorted(file for file in group.rglob("*") if file.is_file() and not file.name.endswith("_test.go"))
    return cache.key([json.dumps(entry, sort_keys=True), version, *files])


def is_built(name: str) -> bool:
    """Whether the part that this machine's Go would build is in the cache."""
    part = parts()[name]
    return (cache.root() / built_entry(part)).exists()


def built_entry(part: Part) -> str:
    """The name that the built part has in the cache; needs Go."""
    return f"parts/{part.name}-{part.version}-{content_key(part)}"


def downloaded(part: Part) -> Path:
    """The part from its official release; raises official.Unavailable and SetupError."""
    names = {"version": part.version, **sites.this_platform()}
    url, checksums, member = (text.format(**names) for text in (part.official, part.official_checksums, part.official_member))
    folder = cache.entry(
        f"parts/{part.name}-{part.version}-official-{names['os']}-{names['amd64']}",
        lambda work: official.download(part.name, url, checksums, member, work),
        f"Downloading {part.name} {part.version}",
    )
    return folder / part.name


def path(name: str) -> Path:
    """Where part `name` is, after finding or making it; raises SetupError with a remedy."""
    known = parts()
    if name not in known:
        raise SetupError(f"There is no part named {name}. Known: {', '.join(sorted(known))}.")
    part = known[name]
    existing = on_path(part) or beside(part)
    if existing:
        return existing
    built = built_entry(part) if can_build() else ""
    if part.official and not (built and (cache.root() / built).exists()):
        try:
            return downloaded(part)
        except official.Unavailable as error:
            if not built:
                raise SetupError(
                    f"{part.name} {part.version} cannot be downloaded ({error}), and there is no Go 1.26 or newer to build it "
                    f"with. Check the connection and its proxy, set {sites.MIRROR} to a mirror, or install Go."
                ) from error
            say(f"{part.name}: the official release cannot be downloaded ({error}); building it instead")
    folder = cache.entry(
        built or built_entry(part),
        lambda work: build(part, work),
        f"Building {part.name} {part.version} from Go modules (about {part.minutes} min on 2 cores, once)",
    )
    return folder / part.name


def main() -> int:
    """Print the path of each part named."""
    cli = argparse.ArgumentParser(prog="tools.get", description=__doc__, epilog=f"Parts: {', '.join(parts())}.")
    cli.add_argument("name", nargs="+", metavar="PART", help="a part's name")
    names = cli.parse_args().name

    def run() -> None:
        for name in names:
            print(path(name))

    return cache.exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
