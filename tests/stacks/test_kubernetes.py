"""Settings of the Kubernetes section that would fail on a cluster, or open its guard, are refused at preview."""

from typing import Any

import pytest

from tests.stacks.test_model import loaded, refused


def test_defaults_take_nothing_over_and_let_nothing_through() -> None:
    section = loaded(kubernetes={}).kubernetes
    assert section
    assert (section.adopt_namespace, section.adopt_runtime_class, section.allowed_annotations) == (False, False, [])
    pod = section.pod
    assert (pod.user, pod.read_only_root, pod.service_account_token, pod.seccomp) == ("root", True, False, "RuntimeDefault")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"adopt": True}, ["kata-nodes:kubernetes.adopt", "no such key"]),
        ({"tolerations": ["a b"]}, ["kubernetes.tolerations", "KEY[=VALUE][:EFFECT]", "kubectl taint", "[bad-input]"]),
        ({"tolerations": ["a=b:Never"]}, ["kubernetes.tolerations", "NoSchedule"]),
        ({"overhead": {"memory": "much", "cpu": "1"}}, ["kubernetes.overhead.memory", "'much'"]),
        ({"overhead": {"memory": "1Gi"}}, ["kubernetes.overhead.cpu", "Add the key"]),
        ({"allowedAnnotations": ["io.katacontainers.*"]}, ["kubernetes.allowedAnnotations", "'io.katacontainers.*'"]),
        ({"allowedAnnotations": ["example.org/a"]}, ["kubernetes.allowedAnnotations", "'example.org/a'"]),
        ({"pod": {"user": "daemon"}}, ["kubernetes.pod.user", "'daemon'", "'root' or 'ordinary'"]),
        ({"pod": {"seccomp": "Localhost"}}, ["kubernetes.pod.seccomp", "'Localhost'"]),
        ({"proof": {}}, ["kubernetes.proof", "exactly one of nodes and selector"]),
        ({"proof": {"nodes": ["a"], "selector": "b=c"}}, ["kubernetes.proof", "exactly one of nodes and selector"]),
        ({"cluster": "local", "proof": {"nodes": ["a"]}}, ["kata-nodes:kubernetes", "no kubelet"]),
        ({"joiningNodes": {}}, ["kubernetes.joiningNodes.image", "Add the key"]),
        ({"cluster": "local", "joiningNodes": {"image": "i"}}, ["kata-nodes:kubernetes", "no node joins the local cluster"]),
        ({"joiningNodes": {"image": "i", "namespace": "sandboxes"}}, ["kata-nodes:kubernetes", "joiningNodes.namespace"]),
        ({"adoptRuntimeClass": True, "tolerations": ["a"]}, ["kata-nodes:kubernetes", "adoptRuntimeClass"]),
    ],
)
def test_setting_is_refused_in_words(section: dict[str, Any], said: list[str]) -> None:
    refused(*said, kubernetes=section)
