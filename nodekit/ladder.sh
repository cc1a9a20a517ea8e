#!/bin/sh
# The ladder of a nested sandbox: measures, in whatever it runs in, what such a sandbox needs; one line for each rung.
#
# It decides nothing: nodekit/rules/proof/ladder.py reads the lines. Runs under busybox sh, dash and bash, in a booted guest, in
# a container and in a pod, always as an argument of the shell or as a file: a genuine Kata (Go shim) loses a container's output
# once standard input ends (kata-containers 13640). Environment:
#   KATA_NODES_NONCE    starts every line, so that the lines can be picked out of a console
#   KATA_NODES_NETWORK  1: also look for an interface other than lo with an address
#   KATA_NODES_NAME     with KATA_NODES_NETWORK=1: a name that the node itself can resolve
#   KATA_NODES_SECONDS  bound on each command, 20 when unset
#   KATA_NODES_ORDINARY a command that runs another as uid 1000 without capabilities, where setpriv's start is too dear
#   KATA_NODES_ENTRY    what entry.sh met, where the ladder runs behind it: `mounted`, or an error's words
#   KATA_NODES_MESSAGE  a file that gets the lines as well, in at most 4096 bytes: details are cut, and of the kernel's command
#                       line only parameters of the keys in KATA_NODES_KEYS (patterns of this shell, escaped, a blank between),
#                       what sets the limit, and a `--` remain
# A line is: <nonce> rung=<name> status=ok|fail|absent value=<escaped> detail=<escaped> at=<seconds since the kernel's boot>
# Escaped text holds printable ASCII only: space, %, tab and newline as %XX, anything else as "?".
set -u
LC_ALL=C
export LC_ALL
nonce=${KATA_NODES_NONCE:?is not set}
seconds=${KATA_NODES_SECONDS:-20}
message=
newline='
'

# escape TEXT: sets $escaped. Words with single blanks between them, as most texts are, are taken word by word: each search for a
# character costs an emulated guest more than all the rest of a line.
escape() {
    escaped=
    case " $1 " in
        *[!\ !-\$\&-~]* | *'  '*) ;;
        *)
            set -f
            for word in $1; do escaped=$escaped${escaped:+%20}$word; done
            set +f
            return
            ;;
    esac
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
            "$newline") escaped=$escaped%0A ;;
            *) escaped=$escaped'?' ;;
        esac
        rest=$tail
    done
}

# cut LENGTH ESCAPED: sets $cut to at most LENGTH characters of it, never with half a %XX at the end.
cut() {
    cut=$(printf "%.$1s" "$2")
    [ "$cut" != "$2" ] || return 0
    case $cut in
        *%) cut=${cut%?} ;;
        *%?) cut=${cut%??} ;;
    esac
}

# open_quote TEXT: whether a quote in it has no end.
open_quote() {
    quotes=$1
    while :; do
        case $quotes in
            *\"*\"*) quotes=${quotes#*\"*\"} ;;
            *\"*) return 0 ;;
            *) return 1 ;;
        esac
    done
}

# decides TOKEN: whether the judge needs it: of two parameters with one key the kernel takes the last, so all of a key are kept.
decides() {
    case $1 in *max_user_namespaces=* | --) return 0 ;; esac
    for key in ${KATA_NODES_KEYS:-}; do
        # shellcheck disable=SC2254 # a pattern
        case $1 in $key | $key=* | \"$key | \"$key=*) return 0 ;; esac
    done
    return 1
}

# parameters ESCAPED: sets $parameters to those of a command line that decide anything, escaped. A blank between quotes is a part of
# its parameter (linux lib/cmdline.c, next_arg).
parameters() {
    parameters=
    set -f
    rest=$1%20
    while [ -n "$rest" ]; do
        token=${rest%%\%20*}
        rest=${rest#"$token"%20}
        while [ -n "$rest" ] && open_quote "$token"; do
            part=${rest%%\%20*}
            rest=${rest#"$part"%20}
            token=$token%20$part
        done
        ! decides "$token" || parameters=$parameters${parameters:+%20}$token
    done
    set +f
}

# say RUNG STATUS VALUE DETAIL: of the two texts the first 4096 and 1000 characters, since to escape 20,000 takes bash 20 seconds.
say() {
    value=$3
    detail=$4
    [ "${#value}" -le 4096 ] || value=$(printf '%.4096s' "$value")
    [ "${#detail}" -le 1000 ] || detail=$(printf '%.1000s' "$detail")
    escape "$value"
    value=$escaped
    escape "$detail"
    printf '%s rung=%s status=%s value=%s detail=%s at=%s\n' "$nonce" "$1" "$2" "$value" "$escaped" "$at"
    [ -n "${KATA_NODES_MESSAGE:-}" ] || return 0
    if [ "$1" = command-line ]; then
        parameters "$value"
        value=$parameters
    fi
    cut 100 "$value"
    [ "$1" = command-line ] || value=$cut
    # Why it failed; or, shorter, which tool is not there, or which other rung stands for it.
    cut=
    length=72
    [ "$2" != fail ] || length=120
    if [ -n "$escaped" ] && [ "${#message}" -lt 2800 ]; then cut "$length" "$escaped"; fi
    # Since when the kernel runs that has this id; of the others the time would take room.
    [ "$1" != boot-id ] || cut="$cut at=$at"
    message="$message$nonce rung=$1 status=$2 value=$value detail=$cut$newline"
}

# look_at_clock: sets $at. Called where time was spent and not for each line, since a shell reads the file byte by byte.
# Where the file cannot be read, $at stays as it is, empty at first: a line counts without a time too.
at=
look_at_clock() { { read -r at _ </proc/uptime; } 2>/dev/null; }

have() { command -v "$1" >/dev/null 2>&1; }

# run COMMAND...: sets $said to its words, $code to its exit code. Bounded, unless timeout is not there or, as busybox's before 1.30,
# does not take the seconds first: that is looked at where a command fails, so that nothing is spent on it where all is well.
bound=
checked=
if have timeout; then bound=timeout; fi
run() {
    said=$(exec ${bound:+timeout "$seconds"} "$@" </dev/null 2>&1)
    code=$?
    look_at_clock
    if [ "$code" = 0 ] || [ -n "$checked" ] || [ -z "$bound" ]; then return "$code"; fi
    checked=1
    if timeout 5 true >/dev/null 2>&1; then return "$code"; fi
    bound=
    run "$@"
}

# try RUNG TOOLS COMMAND...: ok when the command ends with 0, absent when one of the TOOLS is not there. Sets $climbed to 1 or nothing.
try() {
    rung=$1
    climbed=
    for tool in $2; do
        if ! have "$tool"; then
            say "$rung" absent '' "$tool is not installed here"
            return
        fi
    done
    shift 2
    if run "$@"; then
        climbed=1
        say "$rung" ok 0 ''
    elif [ "$1" = "$setpriv" ] && ! "$setpriv" --reuid=0 true 2>/dev/null; then
        say "$rung" absent '' 'setpriv of util-linux is not installed here'
    else
        say "$rung" fail "$code" "$said"
    fi
}

# within RUNG STRONGER TOOLS COMMAND...: the same, but not run where STRONGER was just climbed, which does all of it and more. So a
# guest in which all is well is proven fast, and in one where something fails each part of it is tried by itself.
within() {
    rung=$1
    if [ -n "$climbed" ]; then
        say "$rung" ok 0 "part of $2"
        return
    fi
    shift 2
    try "$rung" "$@"
    climbed=
}

# among RUNG TOOLS COMMAND...: the same as try, but not run again where $together names it: climbed just now with others.
together=
among() {
    case " $together " in
        *" $1 "*)
            climbed=1
            say "$1" ok 0 ''
            ;;
        *) try "$@" ;;
    esac
}

# ordinary RUNG TOOLS COMMAND...: the same as uid 1000 without any capability.
ordinary() {
    rung=$1
    tools=$2
    climbed=
    shift 2
    if [ "$uid" != 0 ]; then
        say "$rung" absent '' "the ladder runs as uid $uid itself"
    elif [ ! -x "$setpriv" ]; then
        say "$rung" absent '' 'setpriv of util-linux is not installed here'
    else
        # shellcheck disable=SC2086 # a list of words
        among "$rung" "$tools" $as_ordinary "$@"
    fi
}
# By its path, since a busybox shell would take its own applet, which changes no user.
setpriv=/usr/bin/setpriv
[ -x "$setpriv" ] || setpriv=/bin/setpriv
as_ordinary="$setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all --bounding-set=-all"

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

# All at once where all are there, since each start of a program takes its time in an emulated guest: four facts of one line each,
# then what says who runs here and what is mounted.
said=$(cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/osrelease /proc/cmdline /proc/sys/user/max_user_namespaces \
    /proc/self/status /proc/self/mountinfo 2>/dev/null)
whole=$?
look_at_clock
state=$said
facts=
for _ in 1 2 3 4; do
    facts=$facts${state%%"$newline"*}$newline
    state=${state#*"$newline"}
done
if [ "$whole" = 0 ] && [ "${state%%:*}" = Name ]; then
    for rung in boot-id kernel command-line user-namespaces; do
        say "$rung" ok "${facts%%"$newline"*}" ''
        facts=${facts#*"$newline"}
    done
else
    fact boot-id /proc/sys/kernel/random/boot_id
    fact kernel /proc/sys/kernel/osrelease
    fact command-line /proc/cmdline
    fact user-namespaces /proc/sys/user/max_user_namespaces
    state=$(cat /proc/self/status /proc/self/mountinfo 2>/dev/null)
fi

# Of the state: the effective uid; whether every capability is effective, by the lowest 36 of some 41, none of which a container
# that drops any has all of; CAP_SETFCAP in the bounding set, bit 31, so the highest of the eighth hexadecimal digit from the right;
# and what lies over paths below /proc, which bars a user namespace from mounting proc, while a later mount of all of /proc lifts it.
uid=unknown
almighty=
setfcap=
masks=
tab='	'
set -f
IFS=$newline
for line in $state; do
    case $line in
        Uid:*)
            uid=${line#"Uid:$tab"*"$tab"}
            uid=${uid%%"$tab"*}
            ;;
        CapEff:*fffffffff) almighty=1 ;;
        CapBnd:*)
            bits=${line#"CapBnd:$tab"????????}
            case $bits in [89a-f]*) setfcap='--cap-add CAP_SETFCAP' ;; esac
            ;;
        [0-9]*)
            point=${line#* * * * }
            point=${point%% *}
            case $point in
                /proc) masks= ;;
                /proc/*) masks=$masks${masks:+ }$point ;;
            esac
            ;;
    esac
done
unset IFS
set +f
[ "$uid" = 0 ] || setfcap='' almighty=''
if [ "$uid" != unknown ]; then
    say uid ok "$uid" ''
else
    say uid absent '' '/proc/self/status cannot be read'
fi
say proc-masks ok "$masks" ''
case ${KATA_NODES_ENTRY:-} in
    '') say entry absent '' 'the ladder runs without the entry' ;;
    mounted) say entry ok mounted '' ;;
    *) say entry fail '' "$KATA_NODES_ENTRY" ;;
esac

# What sandbox-runtime 0.0.78 runs (dist/sandbox/linux-sandbox-utils.js, wrapCommandWithSandboxLinux and capabilityArgs); inside
# it, as its seccomp helper does, a second user namespace whose setgroups and uid_map are written, with PID and mount namespaces.
call='bwrap --new-session --die-with-parent --unshare-net --ro-bind / / --dev /dev --unshare-pid --unshare-user --cap-drop ALL'
inner='unshare -Urmpf true'
user='bwrap --ro-bind / / --unshare-user --unshare-net'
# As uid 0 without --unshare-user bubblewrap uses capabilities, as a plain user a user namespace.
own='bwrap --ro-bind / / --unshare-net --unshare-pid --proc /proc true'
# shellcheck disable=SC2086 # each is a list of words
{
    # First what does most, so that what it does is not done again where it works: bubblewrap makes a user namespace with its own
    # proc, mounts and PID namespace, brings the loopback of a new network up, and a user namespace within it is made. All in one
    # shell and under one bound, since each start of a program takes its time in an emulated guest; where any of it fails, each
    # is tried by itself. Its words go nowhere: a program that outlives the bound would keep a pipe open.
    if have bwrap && have unshare; then
        calls="$call $setfcap --proc /proc -- $inner"
        rungs=srt-call
        if [ -z "$almighty" ]; then
            calls="$own && $calls"
            rungs="$rungs bwrap-proc"
        fi
        if [ "$uid" = 0 ] && [ -x "$setpriv" ]; then
            # Capabilities are gone with uid 0, and a new user namespace has a bounding set of its own.
            calls="$calls && exec ${KATA_NODES_ORDINARY:-$as_ordinary} $call --proc /proc -- $inner"
            rungs="$rungs srt-call-ordinary"
        fi
        if ${bound:+timeout "$seconds"} sh -c "$calls" </dev/null >/dev/null 2>&1; then together=$rungs; fi
        look_at_clock
    fi
    among srt-call 'bwrap unshare' $call $setfcap --proc /proc -- $inner
    full=$climbed
    within bwrap-user-proc srt-call bwrap $user --unshare-pid --proc /proc true
    within bwrap-user srt-call bwrap $user true
    climbed=$full
    within loopback srt-call 'unshare ip' unshare -Urn ip link set lo up
    climbed=$full
    # What rootless engines do first: their own mounts, in their own PID namespace.
    within rootless-mounts srt-call 'unshare mount' unshare -Urmpf sh -c 'mount -t proc proc /proc && exec mount -t tmpfs none /tmp'
    climbed=$full
    if [ -n "$full" ]; then
        within unshare-nested srt-call
    else
        try unshare-nested unshare unshare -Ur unshare -Ur true
    fi
    within unshare-map-root unshare-nested unshare unshare -Ur true
    within unshare unshare-nested unshare unshare -U true
    # srt-call has made the same namespaces and mounts with the rights of a user namespace, and these are fewer.
    climbed=${almighty:+$full}
    if [ -n "$climbed" ]; then
        within bwrap-proc srt-call
    else
        among bwrap-proc bwrap $own
    fi
    ordinary srt-call-ordinary 'bwrap unshare' $call --proc /proc -- $inner
    if [ -n "$climbed" ]; then
        within bwrap-ordinary srt-call-ordinary
    else
        ordinary bwrap-ordinary bwrap $user --unshare-pid --proc /proc true
    fi
    if [ -n "$full" ]; then
        say srt-call-weaker absent '' 'the default mode works here'
    else
        try srt-call-weaker 'bwrap unshare' $call $setfcap --bind /proc /proc -- $inner
    fi
}
# The package itself where it is there: a command in a network of its own, where only lo is; and, from a server on this loopback,
# what its proxy lets through when the settings allow the name, and refuses when they do not. Three starts of Node.js take a while
# on an emulated node.
each=$seconds
seconds=$((each * 6))
# shellcheck disable=SC2016 # expanded by the shell in the sandbox
try sandbox-runtime 'srt bwrap' srt sh -c 'test "$(grep -c : /proc/net/dev)" = 1'
# shellcheck disable=SC2016 # JavaScript
try sandbox-runtime-proxy 'srt bwrap node' node -e '
const http = require("http"), fs = require("fs"), { spawn } = require("child_process");
const inside = `
const http = require("http"), proxy = new URL(process.env.HTTP_PROXY || "http://none.invalid:1");
const login = Buffer.from(decodeURIComponent(proxy.username + ":" + proxy.password)).toString("base64");
const headers = proxy.username ? { "Proxy-Authorization": "Basic " + login } : {};
http.get({ host: proxy.hostname, port: proxy.port, path: process.argv[1], headers }, (answer) => {
  process.exit(answer.statusCode === 204 ? 0 : 3);
}).on("error", () => process.exit(4));
`;
const folder = fs.mkdtempSync("/tmp/kata-nodes-");
const server = http.createServer((_, answer) => { answer.statusCode = 204; answer.end(); });
server.listen(0, "127.0.0.1", async () => {
  const address = "http://localhost:" + server.address().port + "/";
  const ask = (allowed) => new Promise((ended) => {
    const filesystem = { denyRead: [], allowWrite: [], denyWrite: [] };
    fs.writeFileSync(folder + "/settings", JSON.stringify({ network: { allowedDomains: allowed, deniedDomains: [] }, filesystem }));
    spawn("srt", ["--settings", folder + "/settings", "node", "-e", inside, address], { stdio: ["ignore", 2, 2] })
      .on("error", () => ended(127)).on("exit", ended);
  });
  const allowed = await ask(["localhost"]), denied = await ask([]);
  fs.rmSync(folder, { recursive: true });
  console.log("an allowed name ended with " + allowed + ", a denied one with " + denied);
  process.exit(allowed === 0 && denied === 3 ? 0 : 1);
});'
seconds=$each

# A container of runc without any privilege, in which this user alone is mapped, so that it needs neither newuidmap nor subuid.
# busybox is looked for in $PATH, since `command -v` does not name the file in a busybox shell, of which it is an applet.
# shellcheck disable=SC2016 # expanded by the shell that runs it
container='
bundle=/tmp/kata-nodes-$KATA_NODES_NONCE
mkdir "$bundle" || exit
trap '\''rm -rf "$bundle"'\'' EXIT
mkdir -p "$bundle/rootfs/bin" "$bundle/rootfs/dev" "$bundle/rootfs/proc"
IFS=:
for folder in $PATH; do
    if [ -x "$folder/busybox" ]; then busybox=$folder/busybox; fi
done
cp "$busybox" "$bundle/rootfs/bin/" || exit
cat >"$bundle/config.json" <<END
{
  "ociVersion": "1.0.2",
  "root": {"path": "rootfs"},
  "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/busybox", "true"], "noNewPrivileges": true},
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
  ],
  "linux": {
    "uidMappings": [{"containerID": 0, "hostID": $(id -u), "size": 1}],
    "gidMappings": [{"containerID": 0, "hostID": $(id -g), "size": 1}],
    "namespaces": [
      {"type": "user"}, {"type": "pid"}, {"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}
    ]
  }
}
END
runc --root "$bundle/state" run --bundle "$bundle" "$KATA_NODES_NONCE"
'
if [ "$uid" = 0 ]; then
    ordinary rootless-runc 'runc busybox' sh -c "$container"
else
    try rootless-runc 'runc busybox' sh -c "$container"
fi
if [ -c /dev/fuse ]; then say fuse ok /dev/fuse ''; else say fuse absent '' '/dev/fuse does not exist'; fi
if ! have newuidmap; then
    say subordinate-ids absent '' 'newuidmap is not installed here'
elif [ -s /etc/subuid ] && [ -s /etc/subgid ]; then
    say subordinate-ids ok /etc/subuid ''
else
    say subordinate-ids absent '' '/etc/subuid or /etc/subgid is empty or does not exist'
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

# Sets $route to the device of a default route: destination and mask are 0 (linux, fib_route_seq_show, rt6_stats); the IPv6
# table holds a null route on lo as well.
find_route() {
    route=
    while read -r device destination _ _ _ _ _ mask _; do
        [ "$destination:$mask" != 00000000:00000000 ] || route=$device
    done 2>/dev/null </proc/net/route
    while read -r destination mask _ _ _ _ _ _ _ device; do
        [ "$destination:$mask:${device:-lo}" != "00000000000000000000000000000000:00:lo" ] || continue
        case $destination:$mask in 00000000000000000000000000000000:00) route=$device ;; esac
    done 2>/dev/null </proc/net/ipv6_route
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
    find_route
    look_at_clock
    if [ -n "$address" ]; then
        say network ok "$address" "after $waited s; interfaces: $names"
    else
        say network fail '' "no address but the loopback's after $waited s; interfaces: $names"
    fi
    if [ -n "$route" ]; then
        say route ok "$route" ''
    else
        say route fail '' "no default route; interfaces: $names"
    fi
    servers=
    while read -r key server _; do
        [ "$key" = nameserver ] && servers="$servers $server"
    done 2>/dev/null </etc/resolv.conf
    servers="name servers:${servers:- none}"
    if [ -z "${KATA_NODES_NAME:-}" ]; then
        say name-resolution absent '' "no name to try; $servers"
    elif have getent; then
        if run getent hosts "$KATA_NODES_NAME"; then
            say name-resolution ok "$said" "$servers"
        else
            say name-resolution fail "$KATA_NODES_NAME" "$servers; $said"
        fi
    elif have nslookup; then
        if run nslookup "$KATA_NODES_NAME"; then
            say name-resolution ok "$KATA_NODES_NAME" "$servers"
        else
            say name-resolution fail "$KATA_NODES_NAME" "$servers; $said"
        fi
    else
        say name-resolution absent '' 'neither getent nor nslookup is installed here'
    fi
fi
printf '%s end\n' "$nonce"
if [ -n "${KATA_NODES_MESSAGE:-}" ]; then printf '%s' "$message$nonce end$newline" >"$KATA_NODES_MESSAGE"; fi
