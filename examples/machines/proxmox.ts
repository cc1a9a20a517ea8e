// A proven node on Proxmox VE: a clone of a cloud-init template, with the processor of the host so that it has KVM itself.
import * as proxmox from "@muhlba91/pulumi-proxmoxve";
import * as pulumi from "@pulumi/pulumi";
import * as kata from "@pulumi/kata-nodes";

const config = new pulumi.Config();
const host = new kata.HostKey("node");
const userData = new proxmox.FileLegacy("node", {
    nodeName: config.require("host"),
    datastoreId: "local",
    contentType: "snippets",
    sourceRaw: { data: host.userData, fileName: "node.yaml" },
});
const machine = new proxmox.VmLegacy("node", {
    nodeName: config.require("host"),
    clone: { vmId: config.requireNumber("template") },
    cpu: { cores: 4, type: "host" },
    memory: { dedicated: 8192 },
    initialization: {
        ipConfigs: [{ ipv4: { address: `${config.require("address")}/24`, gateway: config.require("gateway") } }],
        vendorDataFileId: userData.id,
        userAccount: { username: "debian", keys: [config.require("publicKey")] },
    },
});
const node = new kata.KataNode("node", {
    connection: {
        address: config.require("address"),
        user: "debian",
        hostKey: host.publicKey,
        privateKey: config.getSecret("privateKey"),
        identity: machine.id,
    },
}, { deletedWith: machine });
export const userNamespaces = node.userNamespaces;
