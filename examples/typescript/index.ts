// A machine of a cluster made a Kata node, then what sandbox pods are made from, and the proof of a pod on that node.
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as kata from "@pulumi/kata-nodes";

const config = new pulumi.Config();
// Without server-side apply, an object that exists already is refused instead of taken over.
const cluster = new k8s.Provider("cluster", {
    kubeconfig: config.requireSecret("kubeconfig"),
    enableServerSideApply: false,
});
const providers = [cluster];

const nodes = new kata.ExistingNodes("nodes", {
    hosts: [{ name: "node-0", address: config.require("address"), hostKey: config.require("hostKey") }],
    privateKey: config.requireSecret("privateKey"),
    // The node's container runtime is to know Kata by the name that the class below leads to.
    kata: { handler: { name: "kata-qemu" } },
});
// Labels are set on nodes that exist, for which server-side apply is needed.
const labels = new kata.KataNodeLabels("labels", {
    kubeconfig: config.requireSecret("kubeconfig"),
    machines: nodes.nodes.apply(all => Object.fromEntries(all.map(node => [node.name, node.machineId]))),
}, { providers: [new k8s.Provider("labelling", { kubeconfig: config.requireSecret("kubeconfig") })] });
const runtimeClass = new kata.KataRuntimeClass("kata", {
    runtimeClass: "kata-qemu",
    handler: "kata-qemu",
    kataVersion: "3.32.0",
}, { providers, dependsOn: [nodes] });
const guard = new kata.SandboxGuard("guard", {
    namespaces: ["sandboxes", "proofs"],
    runtimeClasses: [runtimeClass.runtimeClass],
}, { providers });
// No pod comes before the guard.
const namespace = new kata.SandboxNamespace("sandboxes", {
    namespace: "sandboxes",
}, { providers, dependsOn: [guard] });
const template = new kata.SandboxPodTemplate("nested", {
    template: "nested",
    namespace: namespace.namespace,
    runtimeClass: runtimeClass.runtimeClass,
    image: config.get("image") ?? "docker.io/library/debian:trixie-slim",
}, { providers });
const proofs = new kata.SandboxNamespace("proofs", { namespace: "proofs" }, { providers, dependsOn: [guard] });
const proof = new kata.KataProof("proof", {
    kubeconfig: config.requireSecret("kubeconfig"),
    namespace: proofs.namespace,
    nodes: ["node-0"],
    proof: {
        podTemplate: template.podTemplate,
        handler: runtimeClass.handler,
        kataVersion: "3.32.0",
        image: config.require("proofImage"),
    },
}, { providers, dependsOn: [labels] });

export const provenNodes = nodes.nodes;
export const evidence = proof.evidence;
export const podTemplate = template.template;
export const capabilities = template.capabilities;
