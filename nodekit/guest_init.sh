#!/kata-nodes/root/bin/busybox sh
# shellcheck shell=dash
# First process of a proof's guest: makes a root that a sandbox can pivot from, climbs the ladder in it, ends the guest.
#
# No pivot_root(2) can leave the initramfs' own root. A bind mount of a folder of it, moved over "/", can be left: nothing is
# copied. Everything of ours lies in /kata-nodes, so that Kata's own initrd may lie around it.
here=/kata-nodes
PATH=$here/root/bin
export PATH

mount -a -T $here/mounts
cd $here/root || exit 1
# Kernel messages would fall into the ladder's lines.
echo 1 >proc/sys/kernel/printk
# Programs at the same addresses each time: an emulated processor translates them once, not at every start.
echo 0 >proc/sys/kernel/randomize_va_space
# shellcheck source=/dev/null
. $here/environment
export KATA_NODES_NONCE KATA_NODES_ORDINARY

if [ -n "$KATA_NODES_IMAGE" ]; then
    status=fail
    detail=no-such-device-or-file-system
    for kind in $KATA_NODES_IMAGE ext4 xfs erofs; do
        if mount -t "$kind" -o ro dev/vda1 image 2>/dev/null; then
            status=ok
            detail=
            umount image
            break
        fi
    done
    echo "$KATA_NODES_NONCE rung=image status=$status value=/dev/vda1:$kind detail=$detail"
fi
# The move keeps "/" and the mount's root one, without which no user namespace can be made (linux, current_chrooted).
mount --move . /
PATH=/bin:/usr/bin chroot . sh /ladder.sh
reboot -f
