"""Component resources for nodes whose Kata guests can run a nested sandbox; usable from any Pulumi program."""

from components.aws.node_group import AwsNodeGroup, AwsNodeGroupArgs
from components.aws.nodes import AwsNodes, AwsNodesArgs
from components.aws.parts import AwsMachine
from components.cluster.joining_nodes import JoiningNodes, JoiningNodesArgs
from components.cluster.kata_deploy import KataDeploy, KataDeployArgs
from components.cluster.kata_node_labels import KataNodeLabels, KataNodeLabelsArgs
from components.cluster.kata_proof import KataProof, KataProofArgs
from components.cluster.kata_runtime_class import KataRuntimeClass, KataRuntimeClassArgs
from components.cluster.sandbox_guard import SandboxGuard, SandboxGuardArgs
from components.cluster.sandbox_namespace import SandboxNamespace, SandboxNamespaceArgs
from components.cluster.sandbox_pod_template import SandboxPodTemplate, SandboxPodTemplateArgs
from components.local.cluster import LocalCluster, LocalClusterArgs
from components.local.machine import LocalMachine, LocalMachineArgs
from components.local.nodes import LocalNodes, LocalNodesArgs
from components.local.site import LocalSite, LocalSiteArgs
from components.nodes.existing_nodes import ExistingHost, ExistingNodes, ExistingNodesArgs
from components.nodes.host_key import HostKey, HostKeyArgs
from components.nodes.kata_node import KataNode, KataNodeArgs

__all__ = [
    "AwsMachine",
    "AwsNodeGroup",
    "AwsNodeGroupArgs",
    "AwsNodes",
    "AwsNodesArgs",
    "ExistingHost",
    "ExistingNodes",
    "ExistingNodesArgs",
    "HostKey",
    "HostKeyArgs",
    "JoiningNodes",
    "JoiningNodesArgs",
    "KataDeploy",
    "KataDeployArgs",
    "KataNode",
    "KataNodeArgs",
    "KataNodeLabels",
    "KataNodeLabelsArgs",
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
    "SandboxGuard",
    "SandboxGuardArgs",
    "SandboxNamespace",
    "SandboxNamespaceArgs",
    "SandboxPodTemplate",
    "SandboxPodTemplateArgs",
]
