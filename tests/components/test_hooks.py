"""Hooks of components that stand beside each other in one program.

Lost if these fail: a second component of the same name. The engine takes each name of a hook once in a run.
"""

import asyncio
from typing import Any

import pulumi
import pytest
from pulumi import resource_hooks

from components import JoiningNodes, KataProof, SandboxGuard, SandboxPodTemplate, children
from components.cluster import cluster_object, kata_proof
from tests.components.recorder import run
from tests.components.test_cluster_refusals import GUARD, KUBECONFIG, PROOF, TEMPLATE
from tests.components.test_wiring import FakeCluster


class Team(pulumi.ComponentResource):
    """A component of a user's own, with a sandbox in it."""

    def __init__(self, kind: str, namespace: str) -> None:
        super().__init__(f"own:index:{kind}", namespace, None, None)
        opts = pulumi.ResourceOptions(parent=self)
        SandboxGuard("sandbox", GUARD, opts)
        SandboxPodTemplate("sandbox", {**TEMPLATE, "namespace": namespace}, opts)  # type: ignore[typeddict-item]


def program() -> None:
    """Everything of it is named sandbox."""
    KataProof("sandbox", {"kubeconfig": KUBECONFIG, "namespace": "proofs", "proof": PROOF, "nodes": ["one"]})
    JoiningNodes("sandbox", {"namespace": "joining", "image": "c", "selector": "a=b", "proof": PROOF})
    Team("Blue", "blue")
    Team("Red", "red")


def registering(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An engine that takes hooks; the list of their names."""
    names: list[str] = []

    def register(hook: Any) -> asyncio.Future[None]:
        assert hook.name not in names, f"resource hook already registered for name {hook.name!r}"  # as the engine does
        names.append(hook.name)
        registered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        registered.set_result(None)
        return registered

    monkeypatch.setattr(resource_hooks, "register_resource_hook", register)
    monkeypatch.setattr(resource_hooks, "register_error_hook", register)
    for module in (children, cluster_object):
        monkeypatch.setattr(module, "calls_back", lambda: True)
        monkeypatch.setattr(module, "calls_back_on_error", lambda: True)
    return names


def test_components_of_one_name_have_hooks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = registering(monkeypatch)
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    run(program)
    kinds = ("account-explain", "template-refuse", "evidence-explain")
    assert {kind: sum(f"-{kind}" in name for name in names) for kind in kinds} == {
        "account-explain": 3, "template-refuse": 2, "evidence-explain": 1,
    }  # fmt: skip


@pytest.mark.parametrize("labels", [{"app.kubernetes.io/managed-by": "pulumi"}, {}])
def test_name_that_is_a_secret_is_judged_like_another_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, labels: dict[str, str]
) -> None:
    registering(monkeypatch)
    errors: list[str] = []
    monkeypatch.setattr(pulumi.log, "error", errors.append)

    async def hooks() -> None:
        options = cluster_object.cluster_options(
            pulumi.ComponentResource("a:b:C", "c"), None, "c-namespace", "Namespace", "namespace"
        )
        assert options.hooks and options.hooks.before_create and options.hooks.on_error
        inputs = {"metadata": pulumi.Output.secret({"name": "classified", "labels": labels})}  # as the SDK hands them over
        refuse, explain = options.hooks.before_create[0], options.hooks.on_error[0]
        about: Any = {"urn": "u", "id": "", "name": "c-namespace", "type": "t", "new_inputs": inputs}
        error = pulumi.ErrorHookArgs(**about, failed_operation="create", errors=['namespaces "classified" already exists'])
        assert await explain(error) is False  # type: ignore[misc]
        if labels:
            await refuse(pulumi.ResourceHookArgs(**about))  # type: ignore[misc]
            return
        with pytest.raises(pulumi.RunError, match=r"^Namespace c-namespace is not made, because the Kubernetes provider"):
            await refuse(pulumi.ResourceHookArgs(**about))  # type: ignore[misc]

    run(lambda: pulumi.export("hooks", pulumi.Output.from_input(hooks())))
    (sentence,) = errors
    assert sentence.startswith("Namespace c-namespace exists already")
