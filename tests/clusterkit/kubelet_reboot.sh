#!/bin/sh
# Leaves of the node of tests/clusterkit/kubelet.py what a reboot leaves: its files, without those of /run, and none of its pods'
# processes; then another boot id, and containerd again. Read from standard input in the node; $1 is the boot id.
set -eu

pkill -KILL -x kubelet
systemctl stop containerd
first=$(readlink /proc/1/ns/pid)
for folder in /proc/[0-9]*; do
    name=$(cat "$folder/comm" 2>/dev/null) || continue
    # Of a pod: what has process numbers of its own, and what holds such a thing or a guest.
    case $name in
        containerd-shim* | qemu-system* | virtiofsd*) ;;
        *) [ "$(readlink "$folder/ns/pid" 2>/dev/null || echo "$first")" != "$first" ] || continue ;;
    esac
    kill -KILL "${folder#/proc/}" 2>/dev/null || true
done

sed -n 's/^[^ ]* \([^ ]*\) .*/\1/p' /proc/mounts | sort -r | while read -r place; do
    case $place in
        /run/containerd/* | /run/netns/* | /run/kata* | /run/vc/* | /var/lib/kubelet/pods/*) umount -l "$place" ;;
    esac
done
rm -rf /run/containerd /run/netns /run/kata-stand-in /run/vc

printf '%s\n' "$1" >/run/boot-id
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id
systemctl start containerd
