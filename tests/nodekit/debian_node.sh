#!/bin/sh
# Boots the Debian of a node image as a container of this machine: real systemd, dockerd, apt and dpkg, and nothing emulated.
#   unshare --mount --net --pid --fork --cgroup --uts --ipc --kill-child debian_node.sh DISK FOLDER
# The disk is only read; changes lie in memory, in FOLDER/upper as this mount namespace sees it.
set -eu
disk=$1 folder=$2
root=$folder/root

mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$folder"
mkdir "$folder/disk" "$folder/upper" "$folder/work" "$root"
mount -o loop,ro "$disk" "$folder/disk"
mount -t overlay -o "lowerdir=$folder/disk,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"

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
# What docker keeps belongs neither to the state of the node that is compared nor on an overlay.
mkdir -p "$root/var/lib/docker"
mount -t tmpfs tmpfs "$root/var/lib/docker"
# The image's own disk is not a device here, and waiting for it would take minutes.
: >"$root/etc/fstab"

# What was changed is looked at from inside.
mount --bind "$folder" "$root/mnt"
mount --bind "$folder/disk" "$root/mnt/disk"

cd "$root"
# By the move, "/" and the mount's root are one: in a mere chroot the kernel makes no user namespace, not even in a container
# (linux, current_chrooted).
mount --move . /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --unit=docker.service --log-target=null
