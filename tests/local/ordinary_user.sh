#!/bin/sh
# Boots a machine as the user 1000, looks at it, and ends it; the settings are on standard input.
#   unshare --mount ordinary_user.sh CHECKOUT PYTHON
# What is needed may lie below a folder that root alone may enter: here everybody may, and nothing outside is changed.
set -eu
checkout=$1 python=$2
as_user() { setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=/mnt/own "$@"; }

mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/own /mnt/checkout
chown 1000:1000 /mnt/own
mount --bind "$checkout" /mnt/checkout
for path in "$python" "$(readlink -f "$python")"; do
    top=/$(echo "$path" | cut -d/ -f2)
    as_user test -x "$path" && continue
    mkdir "/mnt$top" "/mnt$top/upper" "/mnt$top/work"
    chmod 0755 "/mnt$top/upper"
    mount -t overlay -o "lowerdir=$top,upperdir=/mnt$top/upper,workdir=/mnt$top/work" overlay "$top"
done

cd /mnt/checkout
settings=$(cat)
machine() { printf '%s' "$settings" | as_user "$python" -m local.machine "$1"; }
trap 'machine down >/dev/null' EXIT
machine up
machine status
