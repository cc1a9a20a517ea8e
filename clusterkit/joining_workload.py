"""How the controller of joining nodes runs in a cluster, and the least that it may do there."""

from clusterkit import pod_proof, runtime_class
from clusterkit.joining import COMPONENT

SETTINGS_KEY = "settings.json"
"""Key of the ConfigMap that holds `joining.Settings`, and the file's name in the pod."""
SETTINGS_PLACE = "/etc/kata-nodes"
HEALTH_PORT = 8080
USER_ID = 65532
"""User and group of the controller, as in clusterkit/controller/Containerfile."""
LABELS = {"app.kubernetes.io/name": COMPONENT}
NODE_RULES: list[dict[str, object]] = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch", "patch"]}]
"""Rules of its ClusterRole. `patch` reaches every field of every node; `joining_guard` leaves one taint and one annotation."""
EVENT_RULES: list[dict[str, object]] = [{"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}]
"""Rules of its Role in `joining.EVENTS_NAMESPACE`."""


def own_rules(proof: str) -> list[dict[str, object]]:
    """Rules of its Role in its own namespace. Creating cannot be bound to a name; of ConfigMaps it writes its own alone."""
    names = pod_proof.evidence_maps(proof)
    return [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "list", "watch", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": ["get", "patch"]},
    ]


def deployment(image: str, account: str, settings: str) -> dict[str, object]:
    """The `spec` of its Deployment (apps/v1); `settings` is the ConfigMap's name, a new one with every change of it.

    One at a time, so that two never prove the same node at once. It tolerates the taint that it removes: where every node
    waits for its proof, it could run nowhere else. Of nodes with several kinds of processors it takes the kind that its image is
    built for by the guide; an image for all of them runs where no other node is free for it. Of Windows there is no image.
    """
    amd64 = {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}
    preferred = [{"weight": 100, "preference": amd64}]
    probe = {"httpGet": {"path": "/healthz", "port": HEALTH_PORT}}
    container = {
        "name": "controller",
        "image": image,
        "args": [f"{SETTINGS_PLACE}/{SETTINGS_KEY}", f"http://[::]:{HEALTH_PORT}/healthz"],
        "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # It answers once it has read the cluster. A server that a network policy hides is given up after four tries of 20 s each
        # (`client.RETRIES`), and one that is slow takes longer for the nodes of a large cluster.
        "startupProbe": {**probe, "periodSeconds": 5, "failureThreshold": 120, "timeoutSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 20, "failureThreshold": 3, "timeoutSeconds": 5},
        "readinessProbe": {**probe, "periodSeconds": 5, "timeoutSeconds": 5},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "settings", "mountPath": SETTINGS_PLACE, "readOnly": True}],
    }
    spec = {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}},
        "tolerations": [{"key": runtime_class.TAINT, "operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "settings", "configMap": {"name": settings}}],
    }
    return {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": spec},
    }
