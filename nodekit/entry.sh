#!/bin/sh
# Starts the program of a sandbox container on a proc of its own, so that a sandbox in it can mount proc as well.
#
#   sh entry.sh [--user UID] COMMAND [ARGUMENT...]     as a file, such as the ENTRYPOINT of an image
#   sh -c "$(cat entry.sh)" entry [--user UID] COMMAND …     as an argument, as the pod template has it
#
# Docker and containerd mask paths below /proc, Kata's agent applies that in the guest, and Linux lets a user namespace mount
# proc only where one is fully visible (fs/namespace.c, mount_too_revealing): bubblewrap and sandbox-runtime then end with
# "Can't mount proc". A new mount has no masks above it; SYS_ADMIN, which acts inside the guest, is just enough to make it.
# Becomes the command by exec, so that signals, exit code, standard streams and the working folder are the command's own; writes
# nothing, so a read-only root works. With --user the command runs as that user and group without capabilities.
set -u
name=kata-nodes-entry
user=
if [ "${1:-}" = --user ]; then
    user=${2:?--user needs a number}
    shift 2
fi
if [ $# -eq 0 ]; then
    echo "$name: no command is given. Give the program of the container and its arguments." >&2
    exit 125
fi
if said=$(mount -t proc proc /proc 2>&1); then
    said=mounted
else
    said=${said:-mount ended with $?}
fi
if [ -n "${KATA_NODES_NONCE:-}" ]; then
    # A proof: its ladder goes on, so that it can say whether this is a guest at all, and reports the entry's failure.
    export KATA_NODES_ENTRY="$said"
elif [ "$said" != mounted ]; then
    echo "$name: proc cannot be mounted: $said. Start the container as root with SYS_ADMIN under the Kata runtime, from an image" \
        "that has mount; an ordinary user has sandbox-runtime's enableWeakerNestedSandbox only." >&2
    exit 125
fi
if [ -z "$user" ]; then exec "$@"; fi
# By its path: busybox has an applet of this name, which changes no user.
setpriv=/usr/bin/setpriv
[ -x "$setpriv" ] || setpriv=/bin/setpriv
exec "$setpriv" --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all --bounding-set=-all -- "$@"
