#!/bin/sh
# The ladder of a nested sandbox: measures, in whatever it runs in, what such a sandbox needs, one line a rung.
#
# It decides nothing: nodekit/rules/ladder.py reads the lines. Runs under busybox sh, dash and bash, in a booted guest, in
# a container and in a Job. Environment:
#   KATA_NODES_NONCE    starts every line, so that the lines can be picked out of a console
#   KATA_NODES_NETWORK  1: also look for an interface other than lo with an address
#   KATA_NODES_NAME     with KATA_NODES_NETWORK=1: a name that the node itself can resolve
#   KATA_NODES_SECONDS  bound on each command, 20 when unset
# A line is: <nonce> rung=<name> status=ok|fail|absent value=<escaped> detail=<escaped>
# Escaped text holds printable ASCII only: space, %, tab and newline as %XX, anything else as "?".
set -u
LC_ALL=C
export LC_ALL
nonce=${KATA_NODES_NONCE:?is not set}
seconds=${KATA_NODES_SECONDS:-20}

# escape TEXT: sets $escaped.
escape() {
    escaped=
    rest=$1
    while [ -n "$rest" ]; do
        clean=${rest%%[!!-\$\&-~]*}
        escaped=$escaped$clean
        rest=${rest#"$clean"}
        [ -n "$rest" ] || break
        tail=${rest#?}
        case ${rest%"$tail"} in
            ' ') escaped=$escaped%20 ;;
            '%') escaped=$escaped%25 ;;
            '	') escaped=$escaped%09 ;;
            '
') escaped=$escaped%0A ;;
            *) escaped=$escaped'?' ;;
        esac
        rest=$tail
    done
}

# say RUNG STATUS VALUE DETAIL
say() {
    escape "$3"
    value=$escaped
    escape "$4"
    printf '%s rung=%s status=%s value=%s detail=%s\n' "$nonce" "$1" "$2" "$value" "$escaped"
}

have() { command -v "$1" >/dev/null 2>&1; }

if have timeout && timeout 5 true >/dev/null 2>&1; then
    bounded() { timeout "$seconds" "$@"; }
else
    bounded() { "$@"; }
fi

# try RUNG TOOL COMMAND...: ok when the command ends with 0, absent when TOOL is not there.
try() {
    rung=$1
    tool=$2
    shift 2
    if ! have "$tool"; then
        say "$rung" absent '' "$tool is not installed here"
        return
    fi
    if said=$(bounded "$@" </dev/null 2>&1); then
        say "$rung" ok 0 ''
    else
        code=$?
        say "$rung" fail "$code" "$said"
    fi
}

# fact RUNG FILE: its content. Read by cat: the shell's own `read` takes single bytes, and a file of /proc/sys answers the
# first read only, so that dash and busybox would see the first digit.
fact() {
    if [ ! -e "$2" ]; then
        say "$1" absent '' "$2 does not exist"
    elif said=$(cat "$2" 2>&1); then
        say "$1" ok "$said" ''
    else
        say "$1" fail '' "$said"
    fi
}

fact boot-id /proc/sys/kernel/random/boot_id
fact kernel /proc/sys/kernel/osrelease
fact command-line /proc/cmdline
fact user-namespaces /proc/sys/user/max_user_namespaces
if have id; then say uid ok "$(id -u)" ''; else say uid absent '' 'id is not installed here'; fi

try unshare unshare unshare -U true
try unshare-map-root unshare unshare -Ur true
try unshare-nested unshare unshare -Ur unshare -Ur true
# As sandbox-runtime starts it: as uid 0 bubblewrap then uses capabilities, as a plain user a user namespace.
try bwrap-proc bwrap bwrap --ro-bind / / --unshare-net --unshare-pid --proc /proc true
try bwrap-user bwrap bwrap --ro-bind / / --unshare-user --unshare-net true
try bwrap-user-proc bwrap bwrap --ro-bind / / --unshare-user --unshare-net --unshare-pid --proc /proc true
if have unshare; then
    try loopback ip unshare -Urn ip link set lo up
else
    say loopback absent '' 'unshare is not installed here'
fi

# Sets $address to the first local IPv4 or global IPv6 address that is not the loopback's.
find_address() {
    address=
    candidate=
    while read -r first second third; do
        case "$first $second" in
            '|-- '* | '+-- '*) candidate=$second ;;
            '/32 host')
                case $third:$candidate in
                    LOCAL:127.*) ;;
                    LOCAL:*) address=$candidate && return 0 ;;
                esac
                ;;
        esac
    done 2>/dev/null </proc/net/fib_trie
    while read -r first _ _ scope _ device; do
        if [ "$scope" = 00 ] && [ "$device" != lo ]; then
            address=$first
            return 0
        fi
    done 2>/dev/null </proc/net/if_inet6
    return 1
}

interfaces() {
    names=
    for path in /sys/class/net/*; do
        [ -e "$path" ] && names="$names ${path##*/}"
    done
    names=${names# }
}

# An interface can appear a second or more after the first process starts.
if [ "${KATA_NODES_NETWORK:-}" = 1 ]; then
    waited=0
    until find_address || [ "$waited" -ge 10 ]; do
        sleep 1 || break
        waited=$((waited + 1))
    done
    interfaces
    if [ -n "$address" ]; then
        say network ok "$address" "after $waited s; interfaces: $names"
    else
        say network fail '' "no address but the loopback's after $waited s; interfaces: $names"
    fi
    servers=
    while read -r key server _; do
        [ "$key" = nameserver ] && servers="$servers $server"
    done 2>/dev/null </etc/resolv.conf
    servers="name servers:${servers:- none}"
    if [ -z "${KATA_NODES_NAME:-}" ]; then
        say name-resolution absent '' "no name to try; $servers"
    elif have getent; then
        if said=$(bounded getent hosts "$KATA_NODES_NAME" 2>&1); then
            say name-resolution ok "$said" "$servers"
        else
            say name-resolution fail "$KATA_NODES_NAME" "$servers; $said"
        fi
    elif have nslookup; then
        if said=$(bounded nslookup "$KATA_NODES_NAME" 2>&1); then
            say name-resolution ok "$KATA_NODES_NAME" "$servers"
        else
            say name-resolution fail "$KATA_NODES_NAME" "$servers; $said"
        fi
    else
        say name-resolution absent '' 'neither getent nor nslookup is installed here'
    fi
fi
printf '%s end\n' "$nonce"
