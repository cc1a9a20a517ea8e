#!/bin/sh
# Starts the program of a sandbox container on a proc of its own, so that a sandbox in it can mount proc as well.
#
#   sh entry.sh [--user UID] COMMAND [ARGUMENT...]     as a file, such as the ENTRYPOINT of an image
#   sh -c "$(cat entry.sh)" entry [--user UID] COMMAND …     as an argument, as the pod template has it
#
# Docker and containerd mask paths below /proc, Kata's agent applies that in the guest, and Linux lets a user namespace mount
# proc only where one is fully visible (fs/namespace.c, mount_too_revealing): bubblewrap and sandbox-runtime then end with
# "Can't mount proc". A new mount has no masks above it; SYS_ADMIN, which acts inside the guest, is just enough to make it.
# Becomes the command by exec, so that signals, exit code, standard streams, variables and working folder are the command's own;
# writes nothing, so a read-only root works. With --user the command runs as that user and group, without capabilities and with no
# way to gain any: root without capabilities, which a setuid program would make of it, may write sys/kernel/core_pattern of a clean
# proc, and the guest's kernel runs the program that stands there with all of them.
set -u
# Names that no container uses: what is assigned to a variable of the environment reaches the command.
kata_nodes_user=
kata_nodes_odd=
kata_nodes_fail() {
    echo "kata-nodes-entry: $*" >&2
    exit 125
}
if [ "${1:-}" = --user ]; then
    [ -n "${2:-}" ] || kata_nodes_fail "--user needs the number of a user."
    kata_nodes_user=$2
    shift 2
fi
[ $# -gt 0 ] || kata_nodes_fail "no command is given. Give the program of the container and its arguments."
if kata_nodes_text=$(mount -t proc proc /proc 2>&1); then
    kata_nodes_text=mounted
else
    kata_nodes_text=${kata_nodes_text:-mount ended with $?}
fi
if [ -n "${KATA_NODES_NONCE:-}" ]; then
    # A proof: its ladder goes on, so that it can say whether this is a guest at all, and reports the entry's failure.
    export KATA_NODES_ENTRY="$kata_nodes_text"
elif [ "$kata_nodes_text" != mounted ]; then
    kata_nodes_fail "proc cannot be mounted: $kata_nodes_text. Start the container as root with SYS_ADMIN under the Kata runtime," \
        "from an image that has mount; an ordinary user has sandbox-runtime's enableWeakerNestedSandbox only."
fi
if [ -n "$kata_nodes_user" ]; then
    # The runtime has set root's home. An image need not have /etc/passwd: then it is "/".
    kata_nodes_roots=/root
    kata_nodes_home=/
    while IFS=: read -r _ _ kata_nodes_id _ _ kata_nodes_path _; do
        [ "$kata_nodes_id" != 0 ] || kata_nodes_roots=$kata_nodes_path
        [ "$kata_nodes_id" != "$kata_nodes_user" ] || kata_nodes_home=$kata_nodes_path
    done 2>/dev/null </etc/passwd
    [ "${HOME:-$kata_nodes_roots}" != "$kata_nodes_roots" ] || export HOME="$kata_nodes_home"
fi
# dash and busybox drop variables whose names are not a shell's, such as my.name, which Kubernetes allows; env sets them again.
# Where they cannot be read, the command gets what the shell leaves of them.
IFS='
'
set -f
# shellcheck disable=SC2016 # of the other shell, whose parent is this one: a kubelet would read two dollars as one
for kata_nodes_text in $(/bin/sh -c 'tr "\n\000" "\001\n" </proc/$PPID/environ' 2>/dev/null); do
    case ${kata_nodes_text%%=*} in
        '' | IFS | [0-9]* | *[!A-Za-z0-9_]*)
            # A dot keeps newlines at the end.
            kata_nodes_text=$(printf '%s.' "$kata_nodes_text" | tr '\001' '\n')
            set -- "${kata_nodes_text%.}" "$@"
            kata_nodes_odd=1
            ;;
    esac
done
[ -z "$kata_nodes_odd" ] || set -- env "$@"
[ -n "$kata_nodes_user" ] || exec "$@"
# By its path: busybox has an applet of this name, which changes no user.
kata_nodes_setpriv=/usr/bin/setpriv
[ -x "$kata_nodes_setpriv" ] || kata_nodes_setpriv=/bin/setpriv
kata_nodes_become() {
    exec "$kata_nodes_setpriv" --reuid="$kata_nodes_user" --regid="$kata_nodes_user" --clear-groups --inh-caps=-all \
        --bounding-set=-all --no-new-privs -- "$@"
}
kata_nodes_text=$(kata_nodes_become /bin/sh -c : 2>&1) ||
    kata_nodes_fail "no user $kata_nodes_user: $kata_nodes_text. Give a number, and an image that has util-linux's setpriv."
kata_nodes_become "$@"
