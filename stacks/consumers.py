"""Settings to paste into the programs that start Kata containers."""

from nodekit.rules.node_state import RUNTIME_NAME
from nodekit.rules.proof.capabilities import CAPABILITIES

ENTRY_PLACE = "/usr/local/bin/kata-nodes-entry"
"""Where the entry lies in an image made by `dockerfile`."""


def daycare(nested_sandbox: bool) -> dict[str, object]:
    """The part of Daycare's `settings.json` that starts its containers under Kata by Docker.

    Its settings have no `systempaths=unconfined` (its `unconfinedSecurity` turns off seccomp and AppArmor alone), so its image
    has to start through the entry; see `dockerfile`.
    """
    return {"docker": {"runtime": RUNTIME_NAME, **({"capAdd": list(CAPABILITIES)} if nested_sandbox else {})}}


def docker_run(nested_sandbox: bool) -> list[str]:
    """Options of `docker run` under which a nested sandbox works in any image, without an entry."""
    if not nested_sandbox:
        return ["--runtime", RUNTIME_NAME]
    granted = [word for capability in CAPABILITIES for word in ("--cap-add", capability)]
    return ["--runtime", RUNTIME_NAME, *granted, "--security-opt", "systempaths=unconfined"]


def dockerfile(entry: str) -> str:
    """Lines of a Dockerfile (BuildKit) that make an image start through the entry, whose text is `entry`.

    An ENTRYPOINT resets the CMD of the base image, so one must follow.
    """
    return f'COPY --chmod=0755 <<\'ENTRY\' {ENTRY_PLACE}\n{entry}ENTRY\nENTRYPOINT ["{ENTRY_PLACE}"]\nCMD ["sleep", "infinity"]\n'


def open_sandbox(runtime_class: str, nested_sandbox: bool) -> str:
    """The part of OpenSandbox's `~/.sandbox.toml` that starts its pods under the RuntimeClass."""
    hint = "# Images of sandboxes start through the entry of settings.dockerfile.\n" if nested_sandbox else ""
    return f'{hint}[secure_runtime]\ntype = "kata"\ndocker_runtime = "{RUNTIME_NAME}"\nk8s_runtime_class = "{runtime_class}"\n'
