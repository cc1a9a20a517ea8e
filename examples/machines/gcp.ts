// A proven node on Google Cloud: any Intel type with nested virtualization, and an image with cloud-init.
import * as gcp from "@pulumi/gcp";
import * as pulumi from "@pulumi/pulumi";
import * as kata from "@pulumi/kata-nodes";

const config = new pulumi.Config();
const host = new kata.HostKey("node");
const machine = new gcp.compute.Instance("node", {
    machineType: "n2-standard-4",
    advancedMachineFeatures: { enableNestedVirtualization: true },
    bootDisk: { initializeParams: { image: "ubuntu-os-cloud/ubuntu-2404-lts-amd64", size: 60 } },
    networkInterfaces: [{ network: "default", accessConfigs: [{}] }],
    metadata: { "user-data": host.userData, "ssh-keys": `ubuntu:${config.require("publicKey")}` },
});
const node = new kata.KataNode("node", {
    connection: {
        address: machine.networkInterfaces.apply(interfaces => interfaces[0].accessConfigs![0].natIp!),
        user: "ubuntu",
        hostKey: host.publicKey,
        privateKey: config.getSecret("privateKey"),
        identity: machine.instanceId,
    },
}, { deletedWith: machine });
export const userNamespaces = node.userNamespaces;
