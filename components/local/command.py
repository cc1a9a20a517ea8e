"""Run a program of the room `local/` as a resource: made by its verb `up`, removed by its verb `down`."""

import sys
from pathlib import Path
from typing import Any

import pulumi
from pulumi.output import UNKNOWN
from pulumi_command import local

from local.boot import Boot
from nodekit.rules.text import harmless

CHECKOUT = Path(__file__).resolve().parents[2]


def local_command(
    name: str,
    module: str,
    spec: dict[str, Any],
    opts: pulumi.ResourceOptions,
    environment: dict[str, pulumi.Input[str]],
) -> local.Command:
    """A resource whose standard output is the JSON document of `python -m MODULE up`; that output is secret.

    `spec` is the desired state on standard input, for both `up` and `down`: another one replaces what was made. Where
    `environment` changes, `up` runs again.
    """
    # The interpreter itself, so that no shell and no PATH stands between the resource and its program.
    return local.Command(
        name,
        interpreter=[sys.executable, "-m", module],
        create="up",
        delete="down",
        stdin=pulumi.Output.json_dumps(spec, sort_keys=True),
        dir=str(CHECKOUT),
        environment=environment,
        logging=local.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                additional_secret_outputs=["stdout"],
                # A machine has its spec from the start: another spec is another machine.
                replace_on_changes=["stdin"],
                delete_before_replace=True,
            ),
        ),
    )


def start_of(server: str, start: Boot) -> Any:
    """The name of a server's start: the recorded one while it runs, else a new one, with which `up` runs again.

    Unknown in a preview where there is none: another name each time would make two previews of one program differ. One that was
    started and no longer runs, as after a reboot, is named in a warning.
    """
    if not start.exists and pulumi.runtime.is_dry_run():
        return UNKNOWN
    if start.exists and not start.running:
        pulumi.log.warn(harmless(f"{server} no longer runs. `pulumi up` starts it again."))
    return start.name
