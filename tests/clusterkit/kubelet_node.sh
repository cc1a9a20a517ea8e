#!/bin/sh
# Prepares a Debian in namespaces (tests/nodekit/debian_node.sh) for a kubelet; read from standard input in it, once.
set -eu

systemctl stop docker.socket docker

# A kubelet sets these on its machine (pkg/kubelet/cm, setupKernelTunables), which is that of the tests: it gets copies.
for file in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=/run/tunable-${file##*/}
    cat "/proc/sys/$file" >"$copy"
    mount --bind "$copy" "/proc/sys/$file"
done

# Neither's files can lie on an overlay, and what the kubelet mounts for a pod containerd must see. The kubelet's is small, so that
# a test can fill it.
for folder in containerd kubelet; do
    mkdir -p "/var/lib/$folder"
    size=$([ "$folder" = kubelet ] && echo 128m || echo 50%)
    mount -t tmpfs -o "mode=0755,size=$size" tmpfs "/var/lib/$folder"
    mount --make-shared "/var/lib/$folder"
done

mkdir -p /dev/net /var/log/pods
mknod /dev/kmsg c 1 11
mknod /dev/net/tun c 10 200

systemctl daemon-reload
systemctl restart containerd
