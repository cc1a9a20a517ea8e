"""The stack: nodes, each proven; then what sandboxes are made from; then the evidence."""

import asyncio
import json
import signal
from typing import Any

import pulumi
from pulumi.runtime import config as everything

from clusterkit.runtime_class import is_qemu
from components.many_resources import prepare
from components.plain import derived
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.rules.text import harmless
from nodekit.scripts import script
from stacks import consumers
from stacks.checklist import checklist, of_pods
from stacks.cluster import sandboxes
from stacks.configuration import (
    NAMESPACE,
    SECRET_KEYS,
    SECRETS,
    ConfigError,
    in_plain,
    load,
    refuse_encrypted_sections,
    refuse_settings_of_plugins,
    refuse_unknown,
    refuse_useless,
)
from stacks.pool import nodes as kata_nodes

prepare()
# When a resource fails, the engine interrupts the program; Python's own handler would bury the reason under a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

settings = pulumi.Config(NAMESPACE)


def section(key: str) -> Any:
    """As Config.get_object, but text where that raises an error without a remedy, such as that of a key with nothing below it."""
    text = everything.get_config(f"{NAMESPACE}:{key}")
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


secrets = {key: value for key in SECRETS if (value := settings.get_secret(key)) is not None}
try:
    # What the engine handed over, and what a test set in this process.
    values = {**everything.get_config_env(), **everything.CONFIG.get()}
    refuse_unknown(values, pulumi.get_project())
    refuse_encrypted_sections(everything.is_config_secret)
    config = load(section)
    refuse_settings_of_plugins(config, values)
    present = [key for key in SECRET_KEYS if settings.get_secret(key) is not None]
    refuse_useless(config, present)
except ConfigError as error:
    raise pulumi.RunError(harmless(str(error))) from None

# In the preview of a pull request made-up values stand for secrets, and are none.
for warning in in_plain(present, everything.is_config_secret) if not pulumi.runtime.is_dry_run() else []:
    pulumi.log.warn(harmless(warning))

elsewhere = config.kubernetes and config.kubernetes.cluster == "kubeconfig"
kubeconfig = settings.require_secret("kubeconfig") if elsewhere else None
nodes = kata_nodes(config, secrets, kubeconfig)
sandbox = sandboxes(config, kubeconfig, nodes)

granted = sandbox.template.capabilities if sandbox else list(CAPABILITIES if config.kata.nested_sandbox else ())
hypervisor: Any = config.kata.hypervisor
evidence = nodes.evidence.apply(lambda by_node: list(by_node.values()))
if sandbox and sandbox.proof and not nodes.pool:
    if config.kubernetes and config.kubernetes.adopt_runtime_class:
        hypervisor = sandbox.handler.apply(lambda handler: config.kata.hypervisor if is_qemu(handler) else None)
    known = pulumi.Output.all(sandbox.proof.evidence, sandbox.handler, hypervisor)
    evidence = known.apply(lambda values: of_pods(values[0], handler=values[1], hypervisor=values[2]))
pulumi.export(
    "checklist",
    derived(
        lambda capabilities, proofs, hypervisor: checklist(
            proofs,
            hypervisor=hypervisor,
            capabilities=capabilities,
            granted_by="PodTemplate" if sandbox else "settings.daycare",
        ),
        granted,
        evidence,
        hypervisor,
    ),
)
pulumi.export("notProven", config.not_proven)
pulumi.export("nodes", nodes.summaries)
pulumi.export("runtimeClass", sandbox.runtime_class if sandbox else None)
pulumi.export("podTemplate", sandbox.template.template if sandbox else None)
pulumi.export("clusterProof", sandbox.proof.evidence if sandbox and sandbox.proof else None)
pulumi.export(
    "settings",
    {
        "daycare": consumers.daycare(config.kata.nested_sandbox),
        "dockerRun": consumers.docker_run(config.kata.nested_sandbox),
        "dockerfile": consumers.dockerfile(script("entry.sh")) if config.kata.nested_sandbox else None,
        "openSandbox": sandbox.runtime_class.apply(lambda name: consumers.open_sandbox(name, config.kata.nested_sandbox))
        if sandbox
        else None,
    },
)


async def begun() -> None:
    """Let every registration begin, so that the SDK waits for each of these once.

    As long as none has begun, the SDK waits for all outputs at the same time, and looks through those that are left whenever one
    is known: the cost grows with the square of the number of nodes. An `up` keeps that, because it ends the program as soon as a
    value is refused, whatever is being done on nodes.
    """
    await asyncio.sleep(0)


if pulumi.runtime.is_dry_run():
    pulumi.run(begun)
