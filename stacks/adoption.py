"""Namespace and RuntimeClass that a stack adopts: checked on the cluster before anything is made."""

import asyncio
from typing import Any

import pulumi

from clusterkit.api.cluster_reader import Reader
from nodekit.errors import NodeError
from stacks.model import Kubernetes


def adopted(wanted: Kubernetes, kubeconfig: Any) -> dict[str, pulumi.Input[str]]:
    """Names of namespace and class; the name of an adopted one is known once it is found on the cluster.

    The provider's own error says only that the object does not exist.
    """

    def found(kind: str, name: str, adopt: bool, setting: str) -> pulumi.Input[str]:
        async def look(text: str) -> str:
            try:
                await asyncio.to_thread(lambda: reader(text, wanted.context).require(kind, name, setting))
            except NodeError as error:
                raise pulumi.RunError(error.sentence()) from None
            return name

        return pulumi.Output.unsecret(pulumi.Output.from_input(kubeconfig)).apply(look) if adopt else name

    return {
        "namespace": found("Namespace", wanted.namespace, wanted.adopt_namespace, "kubernetes.adoptNamespace"),
        "runtime_class": found("RuntimeClass", wanted.runtime_class, wanted.adopt_runtime_class, "kubernetes.adoptRuntimeClass"),
    }


def reader(kubeconfig: str, context: str | None) -> Reader:
    """For the stack's cluster."""
    return Reader(kubeconfig, context)
