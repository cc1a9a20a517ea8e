"""Component resources for nodes whose Kata guests can run a nested sandbox; usable from any Pulumi program."""

from components.existing_nodes import ExistingHost, ExistingNodes, ExistingNodesArgs
from components.joining_nodes import JoiningNodes, JoiningNodesArgs
from components.kata_deploy import KataDeploy, KataDeployArgs
from components.kata_node import KataNode, KataNodeArgs
from components.kata_proof import KataProof, KataProofArgs
from components.kata_runtime_class import KataRuntimeClass, KataRuntimeClassArgs
from components.local_cluster import LocalCluster, LocalClusterArgs
from components.local_machine import LocalMachine, LocalMachineArgs
from components.local_nodes import LocalNodes, LocalNodesArgs
from components.local_site import LocalSite, LocalSiteArgs
from components.node import Node
from components.sandbox_guard import SandboxGuard, SandboxGuardArgs
from components.sandbox_namespace import SandboxNamespace, SandboxNamespaceArgs
from components.sandbox_pod_template import SandboxPodTemplate, SandboxPodTemplateArgs

__all__ = [
    "ExistingHost",
    "ExistingNodes",
    "ExistingNodesArgs",
    "JoiningNodes",
    "JoiningNodesArgs",
    "KataDeploy",
    "KataDeployArgs",
    "KataNode",
    "KataNodeArgs",
    "KataProof",
    "KataProofArgs",
    "KataRuntimeClass",
    "KataRuntimeClassArgs",
    "LocalCluster",
    "LocalClusterArgs",
    "LocalMachine",
    "LocalMachineArgs",
    "LocalNodes",
    "LocalNodesArgs",
    "LocalSite",
    "LocalSiteArgs",
    "Node",
    "SandboxGuard",
    "SandboxGuardArgs",
    "SandboxNamespace",
    "SandboxNamespaceArgs",
    "SandboxPodTemplate",
    "SandboxPodTemplateArgs",
]
