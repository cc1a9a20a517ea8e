// A proven node on Azure: any size whose page lists nested virtualization, with a network interface that is there already.
import * as azure from "@pulumi/azure-native";
import * as pulumi from "@pulumi/pulumi";
import * as kata from "@pulumi/kata-nodes";

const config = new pulumi.Config();
const host = new kata.HostKey("node");
const machine = new azure.compute.VirtualMachine("node", {
    resourceGroupName: config.require("resourceGroup"),
    hardwareProfile: { vmSize: "Standard_D4s_v5" },
    networkProfile: { networkInterfaces: [{ id: config.require("networkInterface") }] },
    osProfile: {
        computerName: "node",
        adminUsername: "azureuser",
        customData: host.userData.apply(text => Buffer.from(text).toString("base64")),
        linuxConfiguration: {
            disablePasswordAuthentication: true,
            ssh: { publicKeys: [{ path: "/home/azureuser/.ssh/authorized_keys", keyData: config.require("publicKey") }] },
        },
    },
    storageProfile: {
        imageReference: { publisher: "Canonical", offer: "ubuntu-24_04-lts", sku: "server", version: "latest" },
        osDisk: { createOption: "FromImage", diskSizeGB: 60 },
    },
});
const node = new kata.KataNode("node", {
    connection: {
        address: config.require("address"),
        user: "azureuser",
        hostKey: host.publicKey,
        privateKey: config.getSecret("privateKey"),
        identity: machine.vmId,
    },
}, { deletedWith: machine });
export const userNamespaces = node.userNamespaces;
