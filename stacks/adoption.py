"""What must be on a cluster before anything is made there: the objects that a stack adopts, and the kind of its guard."""

from typing import Any

import pulumi

from clusterkit.api.cluster_reader import Reader
from components.cluster.reading import read_in_thread
from nodekit.errors import NodeError
from stacks.kubernetes_model import Kubernetes


def adopted(kubernetes: Kubernetes, kubeconfig: Any) -> dict[str, pulumi.Input[str]]:
    """Names of namespace and class; the name of an adopted one is known once it is found on the cluster, or where there is no
    cluster to look at (`kubeconfig` resolves to None).

    The provider's own error says only that the object does not exist.
    """

    def adopt_existing(kind: str, name: str, adopt: bool, setting: str) -> pulumi.Input[str]:
        async def look(text: str | None) -> str:
            if text is None:
                return name
            try:
                await read_in_thread(lambda: reader(text, kubernetes.context).require(kind, name, setting))
            except NodeError as error:
                raise pulumi.RunError(error.sentence()) from None
            return name

        return pulumi.Output.unsecret(pulumi.Output.from_input(kubeconfig)).apply(look) if adopt else name

    return {
        "namespace": adopt_existing("Namespace", kubernetes.namespace, kubernetes.adopt_namespace, "kubernetes.adoptNamespace"),
        "runtime_class": adopt_existing(
            "RuntimeClass", kubernetes.runtime_class, kubernetes.adopt_runtime_class, "kubernetes.adoptRuntimeClass"
        ),
    }


def guardable(kubernetes: Kubernetes, kubeconfig: Any) -> Any:
    """The kubeconfig, known once its API server is seen to know the kind of the guard, or where it resolves to None.

    The guard is made after Kata is on the nodes, whose container runtimes kata-deploy restarts.
    """

    async def look(text: str | None) -> bool:
        if text is None:
            return False
        try:
            await read_in_thread(lambda: reader(text, kubernetes.context).require_policies())
        except NodeError as error:
            raise pulumi.RunError(error.sentence()) from None
        return True

    looked: pulumi.Output[Any] = pulumi.Output.unsecret(pulumi.Output.from_input(kubeconfig)).apply(look)
    return pulumi.Output.all(kubeconfig, looked).apply(lambda both: both[0])


def reader(kubeconfig: str, context: str | None) -> Reader:
    """For the stack's cluster."""
    return Reader(kubeconfig, context)
