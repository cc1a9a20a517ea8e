#!/kata-nodes/busybox sh
# shellcheck shell=dash
# First process of a proof's guest: makes a root that a sandbox can pivot from, climbs the ladder, ends the guest.
#
# Runs twice: in the initramfs, whose root no pivot_root(2) can leave, and again in a tmpfs that took its place.
# Everything of ours lies in /kata-nodes, so that Kata's own initrd may lie around it.
here=/kata-nodes
PATH=$here/bin:/usr/bin:/bin
export PATH

if [ "${1:-}" != second ]; then
    mkdir -p $here/new
    mount -t tmpfs -o mode=0755 root $here/new
    mkdir -p $here/new/kata-nodes $here/new/proc $here/new/sys $here/new/dev $here/new/tmp $here/new/image
    cp -a $here/busybox $here/bin $here/init $here/ladder.sh $here/environment $here/new/kata-nodes/
    cp -a $here/node/. $here/new/
    cd $here/new || exit 1
    # The move keeps "/" and the mount's root one, without which no user namespace can be made (linux, current_chrooted).
    mount --move . /
    exec chroot . $here/init second
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
# As Kata's agent does: runc starts nothing without one.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=1777 tmp /tmp
# Kernel messages would fall into the ladder's lines.
echo 1 >/proc/sys/kernel/printk
# shellcheck source=/dev/null
. $here/environment
export KATA_NODES_NONCE

if [ -n "$KATA_NODES_IMAGE" ]; then
    status=fail
    detail=no-such-device-or-file-system
    for kind in $KATA_NODES_IMAGE ext4 xfs erofs; do
        if mount -t "$kind" -o ro /dev/vda1 /image 2>/dev/null; then
            status=ok
            detail=
            umount /image
            break
        fi
    done
    echo "$KATA_NODES_NONCE rung=image status=$status value=/dev/vda1:$kind detail=$detail"
fi
sh $here/ladder.sh
reboot -f
