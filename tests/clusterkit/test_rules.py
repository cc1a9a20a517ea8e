"""The pure rules of the cluster: nobody gets a sandbox's capabilities on the node, and errors say what to do."""

import itertools
import re
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from clusterkit import cluster_errors, guard, pod, runtime_class
from nodekit.errors import NodeError, remedy_for
from nodekit.rules.kata.guest_memory import pod_overhead
from nodekit.scripts import script

VARIANTS = [
    dict(zip(("nested_sandbox", "ordinary_user", "read_only_root"), values, strict=True))
    for values in itertools.product([True, False], repeat=3)
]


def container(**variant: bool) -> dict[str, object]:
    """The container of a variant's template."""
    spec = pod.template("image", "kata-qemu", {}, entry=script("entry.sh"), **variant)["spec"]
    assert isinstance(spec, dict)
    return dict(spec["containers"][0])


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_only_root_that_nests_gets_capabilities_and_nobody_is_privileged(variant: dict[str, bool]) -> None:
    context = container(**variant)["securityContext"]
    assert isinstance(context, dict)
    granted = context.get("capabilities", {}).get("add", [])
    assert granted == (
        ["NET_ADMIN", "SYS_ADMIN", "SETFCAP"] if variant["nested_sandbox"] and not variant["ordinary_user"] else []
    )
    assert context["privileged"] is False and context["seccompProfile"] == {"type": "RuntimeDefault"}
    if variant["ordinary_user"]:
        assert (context["runAsNonRoot"], context["runAsUser"], context["allowPrivilegeEscalation"]) == (True, 1000, False)
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_read_only_root_has_a_bounded_place_to_write(variant: dict[str, bool]) -> None:
    spec = pod.template("image", "kata-qemu", {}, entry=script("entry.sh"), **variant)["spec"]
    assert isinstance(spec, dict)
    written = [mount["mountPath"] for mount in spec["containers"][0].get("volumeMounts", [])]
    assert written == (["/tmp"] if variant["read_only_root"] else [])
    assert all(volume["emptyDir"]["sizeLimit"] for volume in spec.get("volumes", []))


def test_pod_without_class_or_with_an_unknown_profile_is_refused() -> None:
    with pytest.raises(NodeError, match="no RuntimeClass"):
        pod.template("image", "", {}, entry=script("entry.sh"))
    with pytest.raises(NodeError, match="'runtime/default' is not known") as caught:
        pod.template("image", "kata-qemu", {}, seccomp="runtime/default", entry=script("entry.sh"))
    assert caught.value.remedy == "Use one of RuntimeDefault, Unconfined"


def test_service_account_token_is_off_unless_asked_for() -> None:
    assert [
        pod.template("image", "kata-qemu", {}, entry=script("entry.sh"), **setting)["spec"]["automountServiceAccountToken"]  # type: ignore[arg-type, index]
        for setting in ({}, {"service_account_token": True})
    ] == [False, True]


def test_container_starts_through_the_entry_exactly_where_it_can_mount_and_becomes_its_command() -> None:
    def first(**variant: Any) -> dict[str, Any]:
        template: Any = pod.template("image", "kata-qemu", {}, entry=script("entry.sh"), **variant)
        container: dict[str, Any] = template["spec"]["containers"][0]
        return container

    entry = ["/bin/sh", "-c", script("entry.sh"), "kata-nodes-entry"]
    assert first()["command"] == entry and first()["args"] == ["sleep", "infinity"]
    for user_id in (1000, 1000.0):  # as Python and as other languages send it
        assert first(command=["server", "a b"], user_id=user_id)["args"] == ["--user", "1000", "server", "a b"]
    for variant in ({"ordinary_user": True}, {"nested_sandbox": False}):
        container = first(command=["server"], **variant)
        assert container["command"] == ["server"] and "args" not in container and not pod.enters(container)
        with pytest.raises(NodeError, match="a user id and no entry"):
            first(user_id=1000, **variant)
    assert pod.enters(first()) and pod.entry_options(first(user_id=7)) == ["--user", "7"] and pod.entry_options(first()) == []
    with pytest.raises(NodeError, match="no command"):
        first(command=[])


@pytest.mark.parametrize(
    ("version", "overhead", "expected"),
    [
        ("3.32.0", (), {"memory": "160Mi", "cpu": "250m"}),
        ("4.0.0", (), {"memory": "320Mi", "cpu": "250m"}),
        ("10.1.0", (), {"memory": "320Mi", "cpu": "250m"}),
        ("3.32.0", ("1Gi", "1"), {"memory": "1Gi", "cpu": "1"}),
        ("3.32.0", (None, "1"), {"memory": "160Mi", "cpu": "1"}),
    ],
)
def test_overhead_is_the_releases_or_the_given(version: str, overhead: tuple[str | None, ...], expected: dict[str, str]) -> None:
    assert pod_overhead(version, *overhead) == expected


def test_nodes_carry_the_second_label_from_release_4_1() -> None:
    first = {"katacontainers.io/kata-runtime": "true"}
    assert runtime_class.node_selector("4.0.9") == first
    for version in ("4.1.0", "4.10.0", "5.0.0"):
        assert runtime_class.node_selector(version) == first | {"kata-deploy.katacontainers.io/default": "true"}


@pytest.mark.parametrize(
    ("taint", "expected"),
    [
        ("a", {"key": "a", "operator": "Exists"}),
        ("a:NoExecute", {"key": "a", "operator": "Exists", "effect": "NoExecute"}),
        ("a/b=c:NoSchedule", {"key": "a/b", "operator": "Equal", "value": "c", "effect": "NoSchedule"}),
        ("a=", {"key": "a", "operator": "Equal", "value": ""}),
    ],
)
def test_toleration_reads_as_kubectl_taint_writes(taint: str, expected: dict[str, str]) -> None:
    assert runtime_class.toleration(taint) == expected


@pytest.mark.parametrize(
    "taint",
    ["", "=a", "a:noschedule", "a b", "a=b=c", "a\n", "a:NoSchedule-", "a/b/c", "a.", "a=-b", "B/c", "a" * 64, "a=" + "b" * 64],
)
def test_text_that_is_not_a_taint_is_refused(taint: str) -> None:
    with pytest.raises(NodeError, match=re.escape(repr(taint))):
        runtime_class.toleration(taint)


def test_adopted_class_must_lead_to_the_wanted_handler() -> None:
    assert runtime_class.adopted("kata", "kata-qemu", "kata-qemu") == "kata"
    assert runtime_class.adopted("kata", "kata-vm-isolation", None) == "kata"
    with pytest.raises(NodeError, match="'runc', not 'kata-qemu'") as caught:
        runtime_class.adopted("kata", "runc", "kata-qemu")
    assert caught.value.code == "runtime-class-handler" and "another name" in caught.value.remedy


def test_guard_without_a_class_is_refused() -> None:
    for classes in ([], [""]):
        with pytest.raises(NodeError, match="no RuntimeClass, or one without a name"):
            guard.policy(classes)


def test_guard_without_a_namespace_is_refused() -> None:
    for namespaces in ([], [""]):
        with pytest.raises(NodeError, match="no namespace, or one without a name"):
            guard.binding("p", namespaces)


def test_guard_of_the_clusters_own_namespace_is_refused() -> None:
    """Its network and kube-proxy would not come back after the next restart."""
    with pytest.raises(NodeError, match="kube-system would refuse the cluster's own pods"):
        guard.binding("p", ["sandboxes", "kube-system"])


def test_guard_keeps_sandboxes_from_unproven_nodes_where_there_are_any() -> None:
    rules = [
        {str(each["message"]).split()[1] for each in guard.policy(["kata"], proof_namespaces=namespaces)["validations"]}  # type: ignore[attr-defined]
        for namespaces in ([], ["proof"])
    ]
    assert rules[1] - rules[0] == {"unproven"} and rules[1] == set(guard.RULES)
    with pytest.raises(NodeError, match="which is text"):
        guard.policy(["kata"], proof_namespaces="proof")


def test_guard_looks_at_labels_and_at_the_keys_of_every_runtime_too() -> None:
    """CRI-O hands a pod's labels to Kata as it does its annotations, and Kata reads containerd's keys there."""
    spec: Any = guard.policy(["kata"], ["io.katacontainers.x"])
    foreign = next(each["expression"] for each in spec["variables"] if each["name"] == "foreign")
    for kind in ("annotations", "labels"):
        assert f"object.metadata.?{kind}.orValue({{}}).map(k, k).filter(k, {guard.text(list(guard.OF_THE_RUNTIME))}" in foreign
    assert foreign.count('!(k in ["io.katacontainers.x"])') == 2 and "io.kubernetes.cri." in guard.OF_THE_RUNTIME


def test_guard_fails_closed_denies_and_audits() -> None:
    assert guard.policy(["kata"])["failurePolicy"] == "Fail"
    assert guard.binding("p", ["s"])["validationActions"] == ["Deny", "Audit"]


def test_names_from_settings_stay_text_within_an_expression() -> None:
    hostile = "k'\"] || true || '\\"
    expressions = [variable["expression"] for variable in guard.policy([hostile], [hostile])["variables"]]  # type: ignore[attr-defined]
    assert sum(guard.text([hostile]) in expression for expression in expressions) == 2
    assert guard.text([hostile]) == '["k\'\\"] || true || \'\\\\"]'


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ('namespaces "n" already exists', "cluster-object-exists", ["Namespace n exists already", "Choose another namespace"]),
        (
            'object is being deleted: namespaces "n" already exists',
            "cluster-object-ending", ["Namespace n is still being deleted", "Wait until it is gone"],
        ),
        (
            'podtemplates "t" is forbidden: unable to create new content in namespace n because it is being terminated',
            "cluster-object-ending", ["namespace n is still being deleted", "finalizers"],
        ),
        (
            'Apply failed with 1 conflict: conflict with "kubectl-label" using v1: .metadata.labels.a/b',
            "cluster-field-owned", [".metadata.labels.a/b belongs to kubectl-label", "kubectl label"],
        ),
        (
            'Apply failed with 3 conflicts: conflicts with "argocd":\n- .metadata.labels.c/d\n- .metadata.labels.e\n'
            'conflicts with "kubectl-label" with subresource "status" using v1:\n- .metadata.labels.a/b',
            "cluster-field-owned",
            [
                "as it is: .metadata.labels.c/d belongs to argocd; .metadata.labels.e belongs to argocd; "
                ".metadata.labels.a/b belongs to kubectl-label. Release",
            ],
        ),
        (
            'namespaces is forbidden: User "jo" cannot create resource "namespaces" in API group "" at the cluster scope',
            "cluster-forbidden", ["user jo may not create namespaces", "Grant that user create on namespaces"],
        ),
        ("configured Kubernetes cluster is unreachable: Unauthorized", "cluster-login-refused", ["expired", "new kubeconfig"]),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "cluster-unreachable", ["does not answer", "make it reachable"]),
        (
            'configured Kubernetes cluster is unreachable: unable to load schema information from the API server: Get "https://h:1/'
            'openapi/v2": tls: failed to verify certificate: x509: certificate signed by unknown authority',
            "cluster-certificate-untrusted", ["unknown authority", "If the cluster was made again, set its new kubeconfig"],
        ),
        (
            "unreachable: x509: certificate has expired or is not yet valid: current time 2026-11-30 is after 2026-11-01",
            "cluster-certificate-untrusted", ["Set this machine's clock; if it is right, renew the API server's certificate"],
        ),
        (
            "unreachable: x509: certificate is valid for 10.96.0.1, not 203.0.113.7",
            "cluster-certificate-untrusted", ["not 203.0.113.7", "tls-server-name"],
        ),
        ("the apiVersion for this resource does not exist", "cluster-too-old", ["1.30"]),
    ],
)  # fmt: skip
def test_error_of_the_plugin_is_reported_with_its_remedy(text: str, code: str, words: list[str]) -> None:
    error = cluster_errors.explained(text, "Namespace", "n", "namespace")
    assert error and error.code == code
    for part in words:
        assert part in error.sentence()


def test_error_that_speaks_for_itself_is_left_alone() -> None:
    assert cluster_errors.explained("spec.replicas: Invalid value", "Namespace", "n", "namespace") is None


@pytest.mark.parametrize("words", ["context deadline exceeded", "connect: connection refused", "x509: certificate has expired"])
def test_webhook_that_fails_is_not_taken_for_the_api_server(words: str) -> None:
    text = (
        'Internal error occurred: failed calling webhook "validate.kyverno.svc-fail": failed to call webhook: '
        f'Post "https://kyverno-svc.kyverno.svc:443/validate/fail?timeout=10s": {words}'
    )
    assert cluster_errors.explained(text, "Namespace", "n", "namespace") is None


@pytest.mark.parametrize(
    "text",
    [
        'admission webhook "rancher.cattle.io.namespaces" denied the request: Unauthorized',
        'admission webhook "validate.kyverno.svc-fail" denied the request: team-a: a namespace of this team already exists',
        'admission webhook "validation.gatekeeper.sh" denied the request: [images] the registry is unreachable',
        "namespaces \"n\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: its owner already exists",
    ],
)
def test_words_of_who_refuses_are_not_taken_for_the_api_servers(text: str) -> None:
    """Lost otherwise: a person gets a new kubeconfig, or chooses another name, and meets the same refusal."""
    assert cluster_errors.explained(text, "Namespace", "n", "namespace") is None


@pytest.mark.parametrize(
    "words",
    [
        "401 Unauthorized",
        "dial tcp 10.0.0.9:443: connect: connection refused",
        "lookup registry.example: no such host",
        "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }",
    ],
)
def test_what_a_pod_meets_is_not_taken_for_what_the_api_server_says(words: str) -> None:
    """As the plugin reports a Deployment whose pod does not start, here of an image that cannot be pulled."""
    text = (
        "4 errors occurred:\n\t* the Kubernetes API server reported that \"n/c\" failed to fully initialize or become live: 'c' "
        "timed out waiting to be Ready\n\t* [MinimumReplicasUnavailable] Deployment does not have minimum availability.\n"
        f"\t* [Pod n/c-1]: containers with unready status: [controller] -- [ErrImagePull] {words}\n\n"
    )
    assert cluster_errors.explained(text, "Deployment", "c", "") is None
    refused = cluster_errors.explained(
        'reported that "n/c" failed to fully initialize or become live: Unauthorized', "Deployment", "c", ""
    )
    assert refused is not None and refused.code == "cluster-login-refused"


def test_object_is_made_only_where_a_taken_name_is_refused() -> None:
    cluster_errors.refuse_taking_over("Namespace", {"name": "n", "labels": {"app.kubernetes.io/managed-by": "pulumi"}})
    for labels in (None, {}, {"a": "b"}):
        with pytest.raises(NodeError, match="Namespace n is not made"):
            cluster_errors.refuse_taking_over("Namespace", {"name": "n", "labels": labels})


@pytest.mark.parametrize(
    ("memory", "limit", "fits"),
    [
        ("2Gi", "2Gi", True),
        ("2048Mi", "2Gi", True),
        ("2G", "2Gi", True),
        ("1.5Gi", "1536Mi", True),
        ("2147483648", "2Gi", True),
        ("2e9", "2Gi", True),
        ("3e9", "2Gi", False),
        ("4Gi", "2Gi", False),
        ("2.1Gi", "2Gi", False),
        ("2Gi", "2G", False),
        ("2049Mi", "2Gi", False),
        ("3Gi", "3000000k", False),
    ],
)
def test_request_above_the_limit_is_refused_before_any_node_changes(memory: str, limit: str, fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(NodeError, match="is more than memoryLimit"):
        pod.template("image", "kata", {}, entry="", memory=memory, memory_limit=limit)


@pytest.mark.skipif(shutil.which("systemd-machine-id-setup") is None, reason="needs systemd")
def test_the_remedy_of_a_shared_machine_id_ends_with_another_one(tmp_path: Path) -> None:
    """systemd takes the id of D-Bus first, which a clone has as well: without its removal the same one came back."""
    remedy = remedy_for("cluster-machine-id-shared")
    shared, files = "0123456789abcdef" * 2, [tmp_path / "var/lib/dbus/machine-id", tmp_path / "etc/machine-id"]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text(f"{shared}\n")
    if "remove /var/lib/dbus/machine-id" in remedy:
        files[0].unlink()
    files[1].write_text("")
    subprocess.run(["systemd-machine-id-setup", f"--root={tmp_path}"], check=True, capture_output=True)
    assert files[1].read_text().strip() not in ("", shared)
