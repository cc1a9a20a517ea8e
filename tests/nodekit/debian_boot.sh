#!/bin/sh
# Boots the Debian that debian_node.sh has laid out in FOLDER, as the first process of its namespaces.
#   debian_boot.sh FOLDER UNIT
set -eu
folder=$1 unit=$2
root=$folder/root

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"

# What was changed is looked at from inside.
mount --bind "$folder" "$root/mnt"
mount --bind "$folder/disk" "$root/mnt/disk"

cd "$root"
# By the move, "/" and the mount's root are one: in a mere chroot the kernel makes no user namespace, not even in a container
# (linux, current_chrooted).
mount --move . /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd "--unit=$unit" --log-target=null
