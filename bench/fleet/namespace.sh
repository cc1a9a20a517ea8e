#!/bin/sh
# What all hosts of the benchmark share, in namespaces of its own: the Debian of a node image without Docker, and a bridge.
#   unshare --mount --net namespace.sh DISK FOLDER ADDRESS KEYS PACKAGE...
# FOLDER/layer:FOLDER/disk is their root. KEYS holds what lies in each host's /etc/ssh and root's .ssh. PACKAGEs are files that the
# Debian gets. Prints a line when all is there, and ends with its standard input.
set -eu
disk=$1 folder=$2 address=$3 keys=$4
shift 4
root=$folder/root

mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$folder"
mkdir "$folder/disk" "$folder/layer" "$folder/work" "$folder/hosts" "$root"
mount -o loop,ro "$disk" "$folder/disk"
mount -t overlay -o "lowerdir=$folder/disk,upperdir=$folder/layer,workdir=$folder/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mkdir "$root/packages"
cp "$@" "$root/packages"
chroot "$root" sh -ec '
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
    dpkg --purge docker-ce-rootless-extras docker-ce docker-ce-cli containerd.io
    dpkg --install packages/*.deb
    rm -r packages /etc/systemd/system/node-seed.service
    # The played dockerd has no containerd; addresses come from outside, keys from below; a namespace has no disks and devices.
    systemctl --quiet mask containerd systemd-networkd node-seed sshd-keygen systemd-udevd systemd-udev-trigger \
        systemd-journald systemd-journald.socket systemd-journald-dev-log.socket systemd-journal-flush
' >&2
# Debian's own settings of sshd, limits included.
echo "HostKey /etc/ssh/ssh_host_ed25519_key" >"$root/etc/ssh/sshd_config.d/node.conf"
cp "$keys/ssh_host_ed25519_key" "$root/etc/ssh"
mkdir -p "$root/root/.ssh"
chmod 0700 "$root/root/.ssh"
cp "$keys/authorized_keys" "$root/root/.ssh"
cp "$keys/qemu" "$root/usr/bin/qemu-system-x86_64"
chmod 0755 "$root/usr/bin/qemu-system-x86_64"
umount "$root/dev" "$root/proc" "$root"

ip link add hosts type bridge
ip address add "$address" dev hosts
ip link set hosts up
ip link set lo up
echo ready
cat >/dev/null
