"""Settings to paste into the programs that start Kata containers."""

from nodekit.rules.node_state import RUNTIME_NAME
from nodekit.rules.pod import CAPABILITIES


def daycare(nested_sandbox: bool) -> dict[str, object]:
    """The part of Daycare's `settings.json` that starts its containers under Kata by Docker."""
    return {"docker": {"runtime": RUNTIME_NAME, **({"capAdd": list(CAPABILITIES)} if nested_sandbox else {})}}


def open_sandbox(runtime_class: str) -> str:
    """The part of OpenSandbox's `~/.sandbox.toml` that starts its pods under the RuntimeClass."""
    return f'[secure_runtime]\ntype = "kata"\ndocker_runtime = "{RUNTIME_NAME}"\nk8s_runtime_class = "{runtime_class}"\n'
