#!/bin/sh
# Has the Debian of a node image as a container of this machine: real systemd, dockerd, apt and dpkg, and nothing emulated.
#   unshare --mount --net debian_node.sh DISK FOLDER [UNIT]
# DISK is an image, or folders as overlay's lowerdir has them, so that many nodes share what was mounted once. It is only read;
# changes lie in memory, in FOLDER/upper as this mount namespace sees it. When its systemd has ended, each line on standard input
# boots it once more from the same disk; at the end of the input this ends. UNIT is what systemd starts, by default dockerd.
set -eu
disk=$1 folder=$2 unit=${3:-docker.service}
root=$folder/root

mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$folder"
mkdir "$folder/disk" "$folder/upper" "$folder/work" "$folder/groups" "$root"
lower=$disk
if [ -f "$disk" ]; then
    mount -o loop,ro "$disk" "$folder/disk"
    lower=$folder/disk
fi
mount -t overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"
# What docker keeps belongs neither to the state of the node that is compared nor on an overlay.
mkdir -p "$root/var/lib/docker"
mount -t tmpfs tmpfs "$root/var/lib/docker"
# The image's own disk is not a device here, and waiting for it would take minutes.
: >"$root/etc/fstab"

# A control group of its own, in which its cgroup namespace begins: with one for all, a systemd that kills a service kills that of
# every other node, since cgroup.kill ends whatever is in the group. Groups of nodes that are gone have no process.
mount -t cgroup2 cgroup2 "$folder/groups"
for group in "$folder"/groups/kata-nodes-*; do
    if grep -qs 'populated 0' "$group/cgroup.events"; then find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || :; fi
done
group=$folder/groups/kata-nodes-$$
# Another node that starts may take the new group for one of those.
tries=0
until mkdir -p "$group" && echo $$ >"$group/cgroup.procs"; do
    tries=$((tries + 1))
    [ "$tries" -lt 50 ] || exit 1
done
umount "$folder/groups"

while :; do
    # Whatever ends this shell ends the node.
    setpriv --pdeathsig=KILL unshare --mount --pid --fork --cgroup --uts --ipc --kill-child \
        sh "${0%/*}/debian_boot.sh" "$folder" "$unit" </dev/null || :
    read -r _ || exit 0
done
