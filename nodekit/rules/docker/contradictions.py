"""Contradictions about Docker on a node: each of its parts reports something plausible, and not all of it can be true."""

from collections.abc import Collection, Mapping

from nodekit.rules.docker.docker_packages import PackageState, upstream_version
from nodekit.rules.text import printable


def contradictions(
    version: str | None,
    runtimes: Collection[str],
    packages: Mapping[str, PackageState],
    held_by_us: Collection[str],
    in_file: Collection[str],
) -> list[str]:
    """A sentence for each, with its remedy.

    `version` and `runtimes` are what dockerd answers (None: it does not), `packages` what dpkg knows, `held_by_us` the packages
    that this program set a hold on, and `in_file` the runtimes in daemon.json.
    """
    sentences = []
    package = packages.get("docker-ce")
    if version is not None and package is not None and upstream_version(package.version) != version:
        sentences.append(
            f"dockerd runs {version}, and its package docker-ce is {package.version}: it was not restarted after that came, or "
            "another dockerd runs; 'systemctl restart docker', or the verb docker, starts the package's"
        )
    sentences += [
        f"{name} is no longer held, and this program had held it: the next upgrade of the system moves it; "
        "the verb docker sets the hold again"
        for name in held_by_us
        if name in packages and not packages[name].held
    ]
    unknown = sorted({*in_file} - {*runtimes}) if version is not None else []
    sentences += [
        f"daemon.json names the runtime {printable(name, 80)}, and dockerd does not know it: it has not read that file since; "
        "'systemctl reload docker', or the verb docker, has it read"
        for name in unknown
    ]
    return sentences
