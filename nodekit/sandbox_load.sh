#!/bin/sh
# Runs in a container whose sandbox is measured from the node: keeps it idle, or busy. Needs a busybox and nothing else.
#   KATA_NODES_NONCE     starts each line
#   KATA_NODES_SECONDS   after which the container ends by itself, whatever became of the program that started it
#   KATA_NODES_FILL      MiB of /fill, a tmpfs, that are filled; without it the container is idle
#   KATA_NODES_WRITTEN   MiB that are written and read again each second: the root is shared by the node
set -u
nonce=${KATA_NODES_NONCE:?is not set}
seconds=${KATA_NODES_SECONDS:?is not set}

busy() {
    folder=/kata-nodes-load
    while :; do
        busybox mkdir -p $folder
        # Many small files and a large one: virtiofsd keeps something for each.
        for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo "$number" >$folder/$number; done
        busybox dd if=/dev/zero of=$folder/large bs=1M count="$KATA_NODES_WRITTEN" conv=fsync 2>/dev/null
        busybox cat $folder/* >/dev/null
        busybox rm -r $folder
        echo "$nonce round"
        busybox sleep 1
    done
}

if [ -n "${KATA_NODES_FILL:-}" ]; then
    processors=$(busybox nproc)
    [ "$KATA_NODES_FILL" -eq 0 ] || busybox dd if=/dev/zero of=/fill/memory bs=1M count="$KATA_NODES_FILL" 2>/dev/null
    filled=$(busybox stat -c %s /fill/memory 2>/dev/null || echo 0)
    number=0
    while [ "$number" -lt "$processors" ]; do
        number=$((number + 1))
        (while :; do :; done) &
    done
    busy &
    echo "$nonce ready $((filled >> 20)) $processors"
else
    echo "$nonce ready 0 0"
fi
exec busybox sleep "$seconds"
