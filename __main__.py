"""The stack: nodes, each proven; then what sandboxes are made from; then the evidence."""

import signal

import pulumi
from pulumi.runtime import config as everything

from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.rules.text import harmless
from nodekit.scripts import script
from stacks import consumers
from stacks.checklist import checklist, of_pods
from stacks.cluster import sandboxes
from stacks.model import NAMESPACE, SECRETS, ConfigError, load, refuse_unknown, refuse_useless
from stacks.pool import nodes as kata_nodes

# When a resource fails, the engine interrupts the program; Python's own handler would bury the reason under a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

given = pulumi.Config(NAMESPACE)
secrets = {key: value for key in SECRETS if (value := given.get_secret(key)) is not None}
try:
    # What the engine handed over, and what a test set in this process.
    refuse_unknown({*everything.get_config_env(), *everything.CONFIG.get()})
    config = load(given.get_object)
    refuse_useless(config, secrets)
except ConfigError as error:
    raise pulumi.RunError(harmless(str(error))) from None

nodes = kata_nodes(config, secrets)
elsewhere = config.kubernetes and config.kubernetes.cluster == "kubeconfig"
made = sandboxes(config, given.require_secret("kubeconfig") if elsewhere else None, nodes)

granted = made.template.capabilities if made else list(CAPABILITIES if config.kata.nested_sandbox else ())
evidence = nodes.evidence.apply(lambda by_node: list(by_node.values()))
if made and made.proof and not nodes.pool:
    evidence = made.proof.evidence.apply(lambda found: of_pods(found, handler=config.handler))
pulumi.export(
    "checklist",
    pulumi.Output.all(granted, evidence).apply(
        lambda both: checklist(
            both[1],
            hypervisor=config.kata.hypervisor,
            capabilities=both[0],
            granted_by="PodTemplate" if made else "settings.daycare",
        )
    ),
)
pulumi.export("notProven", config.not_proven)
pulumi.export("nodes", nodes.summaries)
pulumi.export("runtimeClass", made.runtime_class if made else None)
pulumi.export("podTemplate", made.template.template if made else None)
pulumi.export("clusterProof", made.proof.evidence if made and made.proof else None)
pulumi.export(
    "settings",
    {
        "daycare": consumers.daycare(config.kata.nested_sandbox),
        "dockerRun": consumers.docker_run(config.kata.nested_sandbox),
        "dockerfile": consumers.dockerfile(script("entry.sh")) if config.kata.nested_sandbox else None,
        "openSandbox": made.runtime_class.apply(lambda name: consumers.open_sandbox(name, config.kata.nested_sandbox))
        if made
        else None,
    },
)
