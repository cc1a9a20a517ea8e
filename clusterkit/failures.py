"""What can fail with a cluster: its API server, a kubeconfig, pods and their proof."""

from nodekit.failures import Failure

_SET = "kubectl config view --raw --minify --flatten | pulumi config set --secret kata-nodes:kubeconfig"
"""Sets a kubeconfig that holds one cluster, and what its files hold."""
_LIMIT_RANGE = "Change the namespace's LimitRange, or the template's resources (kubernetes.pod), to fit each other"
_NEW_ID = (
    "remove /var/lib/dbus/machine-id, from which it would come back, empty /etc/machine-id, run systemd-machine-id-setup and "
    "restart the kubelet"
)
"""What makes a machine's id another (systemd-machine-id-setup(1): that of D-Bus is taken before a new one is made)."""
CATALOGUE: dict[str, Failure] = {
    "pod-capabilities": Failure(
        "A container adds capabilities that its pod's RuntimeClass does not keep inside a guest.",
        "Set runtimeClassName to {classes}, or add no capability",
        {
            "set": "Add {capabilities}, spelled exactly so, or neither",
        },
    ),
    "pod-reaches-node": Failure(
        "A pod would reach the node itself: a privileged container, a process or port of the node, a host namespace, a host in a "
        "probe, a hostPath or gitRepo volume, or one whose server, disk or driver the pod names.",
        "Remove {fields}",
        {
            "privileged": "Remove privileged; {capabilities} under a RuntimeClass of Kata are enough for a nested sandbox",
            "volume": "Use emptyDir or a persistent volume claim",
        },
    ),
    "proof-timeout": Failure(
        "The pod of a proof did not end in time.",
        "Read the runtime's log on the node, and raise the proof's timeoutSeconds only if the node is just slow",
        {
            "suspended": "Exempt the proof's namespace from what suspends Jobs, such as Kueue, then run again",
            "hangs": (
                "Read the runtime's log on the node; end there what is left of the guest, remove the pod by kubectl delete pod "
                "--force, then run again"
            ),
        },
    ),
    "proof-pod-unscheduled": Failure(
        "The pod of a proof is not started, because its node accepts no more pods, or not this one.",
        "Set the labels that the RuntimeClass asks for, and remove taints that its tolerations leave out; or leave the node out "
        "of the proof",
        {
            "full": (
                "Make room on the node: a proof's pod needs the template's requests, the class's overhead and one of the node's "
                "pods; or leave the node out of the proof"
            ),
            "rejected": (
                "Correct what it names, on the node or in the pod template, or wait until the node is up again; then run again"
            ),
            "unready": (
                "Start the kubelet there; if the machine is gone, remove its node by kubectl delete node, or leave it out of the "
                "proof; then run again"
            ),
            "cordoned": "Run kubectl uncordon for the node, or leave it out of the proof; then run again",
            "gated": (
                "Exempt the proof's namespace from what puts scheduling gates on pods, such as Kueue for plain pods, "
                "then run again"
            ),
            "volume": (
                "Create what the template's volumes name in the proof's own namespace, where the node can reach it, or have the "
                "template use an ephemeral volume"
            ),
            "pressure": (
                "Free what the node is short of, such as disk space by kubectl delete pod or crictl rmi --prune, and run again "
                "some 5 minutes later, when the kubelet has taken the condition back"
            ),
        },
    ),
    "proof-pod-lost": Failure(
        "The pod of a proof disappeared before it reported.",
        "Run pulumi up again, which proves the node again",
        {
            "replaced": "Run pulumi up again, which proves the machine that is there",
            "refresh": "Run pulumi refresh, then pulumi up",
            "node": "Check that the node still exists and is Ready, remove it if its machine is gone, then run again",
            "evicted": "Free what the node is short of (kubectl describe node), then run again",
            "disrupted": (
                "Wait until the drain is over or the taint is gone, or give the template's pods a higher priority, whichever it "
                "names; then run again"
            ),
        },
    ),
    "proof-pod-refused": Failure(
        "The cluster refuses the pod of a proof, so no guest was started.",
        "Correct what it names, then run again",
        {
            "PodSecurity": (
                "Label the namespace pod-security.kubernetes.io/enforce=privileged (SandboxNamespace does), or use the "
                "template for an ordinary user, which needs no capability"
            ),
            "ValidatingAdmissionPolicy": (
                "Follow the rule that it names; the sandbox guard admits the capabilities under its own RuntimeClasses"
            ),
            "security context constraint": (
                "Let the proof's service account use one that allows the template's user and capabilities, in the proof's "
                "namespace alone (docs/guides/openshift.md)"
            ),
            "denied the request": (
                "Exempt the namespaces of proof and sandboxes from the webhook that it names, or change the template so that it "
                "lets the pod pass"
            ),
            **dict.fromkeys(("usage per ", "max limit to request ratio per "), _LIMIT_RANGE),
            "RuntimeClass": "Create the RuntimeClass, or name one that exists",
            "must specify": (
                "Give the namespace a LimitRange with defaults for what it names, or a quota that does not limit it"
            ),
            "quota": (
                "Raise the namespace's quota: each node's proof is a pod with the template's requests and the class's overhead"
            ),
        },
    ),
    "proof-forged": Failure(
        "A Job or pod of a proof is not the one that was asked for, so its report is not trusted.",
        "Check who may write in the proof's namespace, and which webhooks change Jobs and pods there; then run pulumi up again",
    ),
    "kata-deploy-distribution": Failure(
        "Nodes run another Kubernetes distribution than kata-deploy is set to, so it would configure Kata where their containerd "
        "never looks.",
        "Set it to what the nodes run; if they run several, choose the nodes of one with kubernetes.kataDeploy.nodeSelector",
    ),
    "kata-deploy-no-kvm": Failure(
        "kata-deploy would install Kata on nodes that cannot run it, and label them as if they could.",
        "Choose the nodes that have KVM with kubernetes.kataDeploy.nodeSelector",
        {
            "linux": "Leave them out with kubernetes.kataDeploy.nodeSelector, which has at least kubernetes.io/os: linux",
        },
    ),
    "kata-deploy-unfinished": Failure(
        "kata-deploy did not finish on every node that it runs on, so Kata is not known to be there.",
        "Read the log of its pod there (kubectl logs, in the release's namespace) and repair what it names, or leave the "
        "node out with kubernetes.kataDeploy.nodeSelector; then run pulumi up again",
        {
            "taken-back": (
                "Run pulumi up again, and while it waits see which pods are not ready, and why: kubectl --namespace {namespace} "
                "get pods --selector name=kata-deploy --output wide, and kubectl logs. Repair what they name, or leave the node "
                "out with kubernetes.kataDeploy.nodeSelector"
            ),
        },
    ),
    "kata-deploy-release": Failure(
        "Helm cannot make or change kata-deploy's release, because of what is on the cluster already.",
        "Remove what it names, then run pulumi up --refresh",
        {
            "exists": (
                "Where an interrupted run left it (helm status kata-deploy --namespace {namespace}), run helm uninstall "
                "kata-deploy --namespace {namespace}, then pulumi up --refresh; where others installed it, leave "
                "kubernetes.kataDeploy out and use the Kata that is there (kubernetes.adoptRuntimeClass)"
            ),
            "pending": (
                "If no other run is at work, take the interrupted one back: helm rollback kata-deploy --namespace {namespace}, "
                "or helm uninstall where it was the first; then run pulumi up --refresh"
            ),
            "namespace": (
                "Create it (kubectl create namespace {namespace}), or leave kubernetes.kataDeploy.namespace out; then run pulumi "
                "up again"
            ),
            "objects": (
                "Remove the Kata that was installed there without Helm, by its own guide, or leave kubernetes.kataDeploy out "
                "and use the Kata that is there (kubernetes.adoptRuntimeClass)"
            ),
        },
    ),
    "rollout-refused": Failure(
        "The settings of a rollout do not divide the existing nodes into waves.",
        "Set canary to a number from 1 on, and batch to such a number or to a percentage from 1% to 100%",
        {
            "canary": "Set canary to at most the number of nodes that are not gone",
            "cluster": (
                "Remove rollout, or have the nodes serve a cluster, by the component's kata.handler; here by kubernetes with "
                "the secret kubeconfig and without containerRuntime: none"
            ),
        },
    ),
    "rollout-stopped": Failure(
        "A step on a node failed, so the waves after it do not begin.",
        "Repair what the step's own error names and run pulumi up again: it goes on from there, and uncordons each node once it "
        "is proven",
    ),
    "drain-refused": Failure(
        "A node cannot be drained, so nothing on it is changed.",
        "Run pulumi up again",
        {
            "bare": "Delete these pods, or let the rollout evict them for good: evictBarePods: true",
            "budget": (
                "Give the workload another replica, or wait until its pods are healthy elsewhere (kubectl get pdb "
                "--all-namespaces), then run pulumi up again; drainSeconds is how long a drain waits"
            ),
            "budgets": "Leave one PodDisruptionBudget that selects the pod, then run pulumi up again",
            "ending": (
                "See what keeps them from ending (kubectl describe pod), then run pulumi up again; drainSeconds is how long a "
                "drain waits"
            ),
        },
    ),
    "cluster-node-unknown": Failure(
        "The cluster has no such node, or none with such labels.",
        "Use the names that kubectl get nodes lists",
        {
            "labels": "Correct the selector, or label the nodes: kubectl label node",
            "joining": (
                "Read why a machine did not join in its /var/log/kata-nodes/first-boot and on its console, and see that its "
                "kubelet sets the labels of the selector. Correct that, run pulumi up again, and while it waits end each machine "
                "that failed, whose first boot is not run again, so that its group makes another: aws autoscaling "
                "terminate-instance-in-auto-scaling-group --no-should-decrement-desired-capacity --instance-id ID"
            ),
            "boot-id": "Start the kubelet there; without the boot id a guest cannot be distinguished from the node's own kernel",
        },
    ),
    "cluster-machine-id-shared": Failure(
        "A machine's id is not unique, so its node on the cluster cannot be distinguished from others.",
        f"Give each machine an id of its own: {_NEW_ID}",
        {
            "nodes": (
                "If the machine was renamed, remove the node of its old name by kubectl delete node; if these are several "
                f"machines, give each an id of its own: {_NEW_ID}"
            ),
        },
    ),
    "cluster-object-exists": Failure(
        "An object of that name already exists on the cluster and is not this stack's.",
        "Choose another name, or remove that object",
        {
            "namespace": (
                "Choose another namespace, or adopt this one, which only labels it (the component's adopt; for the namespace "
                "of this program's sandboxes kubernetes.adoptNamespace)"
            ),
            "pod-template": "Choose another name for the template",
            "runtime-class": (
                "Choose another name for the class, or use this one as it is (adopt; here kubernetes.adoptRuntimeClass), as "
                "for a class that kata-deploy made"
            ),
        },
    ),
    "cluster-object-ending": Failure(
        "An object of that name, or the namespace for it, is still being deleted.",
        "Wait until it is gone, then run again; kubectl get with -o yaml shows what it waits for, in status.conditions or "
        "metadata.finalizers",
    ),
    "cluster-object-missing": Failure(
        "An object to adopt is not on the cluster.",
        "Correct its name, or have it made: {setting}: false",
    ),
    "cluster-provider-takes-over": Failure(
        "The Kubernetes provider creates objects in a way that would take over existing ones.",
        "Make it with a provider that has enableServerSideApply: false, or adopt the one that is there",
    ),
    "cluster-field-owned": Failure(
        "A field to be set on the cluster belongs to another manager.",
        "Release the field from that owner (for a label: kubectl label KIND NAME KEY-), or choose another name",
    ),
    "cluster-forbidden": Failure(
        "The kubeconfig's user lacks a right that this program needs.",
        "Grant that user {verbs} on {resource}, or use the kubeconfig of a user who has them",
        {
            "controller": "Have the stack make the controller's roles and its admission policy again: pulumi up --refresh",
        },
    ),
    "cluster-login-refused": Failure(
        "The cluster's API server does not accept the kubeconfig's credentials.",
        "Get a new kubeconfig, then: " + _SET,
        {
            "token": "Delete the controller's pod, so that the next one gets a new token",
            "controller": "Run the controller in a pod with its service account, or set KUBECONFIG",
        },
    ),
    "kubeconfig-invalid": Failure(
        "The kubeconfig cannot be used: it is incomplete, or asks for something that this program cannot do.",
        "Write it completely and set it again: " + _SET,
        {
            "auth-provider": "Write the kubeconfig again with {plugin} (its exec section), then: " + _SET,
            "no-context": "Name the context in the stack's file: kubernetes.context",
            "context": "Name one of them in the stack's file (kubernetes.context), or set the kubeconfig of the right cluster",
            "several": "Merge them into one file (kubectl config view --raw --flatten), and have KUBECONFIG name that",
            "file": "Correct its path, or let KUBECONFIG name a kubeconfig that this user may read",
            "proxy": "Set proxy-url of the kubeconfig's cluster to such a proxy, or remove it and reach the server another way",
            "impersonation": "Use a context whose user has the rights itself, or acts with at most one entry in as-groups",
        },
    ),
    "kubeconfig-plugin-failed": Failure(
        "The program with which a kubeconfig's user logs in is missing, or failed.",
        "Install {program} where pulumi runs and put it on PATH, or set a kubeconfig with a token",
        {
            "asks": "Log in by hand first, or use one that asks nothing",
            "version": "Write the kubeconfig again with the tool of the cluster's vendor",
            "by-hand": "Run it by hand ({program}, with the args of the kubeconfig); it must print an ExecCredential",
        },
    ),
    "cluster-unreachable": Failure(
        "The cluster's API server does not answer.",
        "Start it, or make it reachable from this machine; to set the kubeconfig of another cluster: " + _SET,
        {
            "log": "Read the API server's log",
            "other": (
                "Check that this is the API server's address, and which proxy is on the way: something else seems to answer there"
            ),
            "controller": "Start the controller again, as its Deployment does; it then reports what it lacks",
            "long": "Find what makes its lists so long, and check that this is the right API server",
            "pod": "Check that it runs, and that no network policy keeps the controller's pod from it",
        },
    ),
    "cluster-certificate-untrusted": Failure(
        "The certificate of the cluster's API server is not trusted.",
        "If the cluster was made again, set its new kubeconfig: "
        + _SET
        + "; if a proxy on the way shows a certificate of its own, keep it out of the way, or add its authority to the "
        "kubeconfig's certificate-authority-data",
        {
            "time": (
                "Set this machine's clock; if it is right, renew the API server's certificate: kubeadm certs renew apiserver on "
                "its machines and a restart of it, or for k3s and RKE2 a restart alone"
            ),
            "name": (
                "Reach the API server by a name or address that its certificate is for, or set tls-server-name of the "
                "kubeconfig's cluster to one"
            ),
            "controller": "Delete the controller's pod, so that the next one gets the cluster's present authority",
        },
    ),
    "cluster-object-refused": Failure(
        "The cluster's API server refuses a request and gives a reason.",
        "Correct what it names",
    ),
    "cluster-too-old": Failure(
        "The cluster does not know a kind of object that is needed.",
        "Update the cluster: ValidatingAdmissionPolicy is part of Kubernetes from 1.30 on",
    ),
    "runtime-class-handler": Failure(
        "An existing RuntimeClass uses another handler than the stack asks for.",
        "Choose another name, so that the class is made, or remove kubernetes.handler, so that the class is proven as it is",
    ),
}
CASES = {
    "bad-input": {
        "settings": (
            "Build the controller's image from the version of this program that the stack runs (joiningNodes.image); if somebody "
            "changed their ConfigMap, pulumi up --refresh writes it again"
        ),
        "kata-deploy-value": "Leave it out of values, and use that setting",
    },
    "file-unwritable": {
        "temporary": "Free space there, or set TMPDIR to a folder that this user may write, then run again",
    },
    "file-unreadable": {
        "settings": "Mount the settings' ConfigMap there",
    },
    "proof-container-failed": {
        "runtime": (
            "Correct what it names in Kata's installation or configuration on the node; the runtime's log there says more"
        ),
        "pull": (
            "Set kubernetes.proof.image to one that the node can pull; check its name, its registry and the registry's "
            "credentials"
        ),
        "volume": "Create what the template's volumes name, in the proof's own namespace",
        "handler": (
            "Register the handler of the RuntimeClass in the node's containerd or CRI-O, as kata-deploy does, and "
            "restart it; or leave the node out of the proof"
        ),
        "host-users": (
            "Remove hostUsers: false from the pod template: in Kata's guest a sandbox makes its user namespaces itself"
        ),
        "guest": (
            "See what ended it in the node's kernel log (journalctl -k), such as the OOM killer, and in the runtime's log there; "
            "where the node's memory ran out, raise the class's overhead (kubernetes.overhead)"
        ),
        "image": "Name a proof image that has /bin/sh and mount, and look at the runtime's log on the node",
        "container": "Correct what it names; the runtime's log on the node says more",
        "beside": (
            "A proof has one container: keep what adds others, such as a service mesh, out of the proof's namespace, or have it "
            "add them as sidecars that end with the pod (init containers with restartPolicy: Always)"
        ),
        "memory": "Raise the pod's memory limit (kubernetes.pod.memoryLimit)",
        "killed": (
            "Check the pod's events and the kubelet's log on the node: a full node, an eviction, a cgroup driver other than "
            "the runtime's, or systemd's with no other pod beside this one (kubernetes issue 131567) ends containers this way"
        ),
    },
    "proof-transcript-incomplete": {
        "log": (
            "See whether kubectl logs shows the lines of the proof's pod, in the proof's namespace. Where Kata shares no files "
            "with its guests, as with Firecracker, the report is there alone: grant the user that reads it get on pods/log, then "
            "run again"
        ),
    },
    "proof-not-a-guest": {
        "handler": (
            "Point the RuntimeClass's handler to Kata (io.containerd.kata.v2) on the node; one that leads to runc is not Kata"
        ),
    },
}
"""Further remedies of failures that nodes have as well."""
