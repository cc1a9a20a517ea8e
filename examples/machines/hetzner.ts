// A proven node at Hetzner: a dedicated server, since its cloud servers have no KVM, behind a cloud server as its bastion.
import * as hcloud from "@pulumi/hcloud";
import * as pulumi from "@pulumi/pulumi";
import * as kata from "@pulumi/kata-nodes";

const config = new pulumi.Config();
const host = new kata.HostKey("bastion");
const bastion = new hcloud.Server("bastion", {
    serverType: "cx23",
    image: "debian-12",
    sshKeys: [config.require("keyName")],
    networks: [{ networkId: config.requireNumber("network") }],
    userData: host.userData,
});
const privateKey = config.getSecret("privateKey");
const node = new kata.KataNode("node", {
    connection: {
        address: config.require("address"),
        hostKey: config.require("hostKey"),
        privateKey,
        bastion: { address: bastion.ipv4Address, user: "root", hostKey: host.publicKey, privateKey },
    },
});
export const userNamespaces = node.userNamespaces;
