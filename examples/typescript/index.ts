// What sandbox pods are made from: RuntimeClass, guard, namespace, pod template.
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

const runtimeClass = new kata.KataRuntimeClass("kata", {
    runtimeClass: "kata-qemu",
    handler: "kata-qemu",
    kataVersion: "3.32.0",
}, { providers });
const guard = new kata.SandboxGuard("guard", {
    namespaces: ["sandboxes"],
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
    nestedSandbox: true,
}, { providers });

export const podTemplate = template.template;
export const capabilities = template.capabilities;
