# Makes a machine of an auto-scaling group a node at its first boot, proves it, and only then lets it join a cluster. cloud-init
# runs this as root, once in a machine's life, with settings before it (aws/user_data.py): PROGRAM_ADDRESS,
# PROGRAM_SHA256, STATE_… and SECONDS_… of each verb, RUNTIME where a script installs the cluster's container runtime, and JOIN where
# there is something to join. The console and /var/log/kata-nodes/first-boot show how it ended; everything else is in that folder.
# shellcheck shell=sh
set -eu
LC_ALL=C
export LC_ALL
FOLDER=/usr/local/lib/kata-nodes
LOGS=/var/log/kata-nodes
SCRIPT_SECONDS=1800
ended=

# A program's output may hold sequences that a terminal would obey.
say() {
    line=$(printf 'kata-nodes: %s' "$1" | tr '\000-\037\177' '?')
    printf '%s\n' "$line" >&2
    # A machine may have no console that can be written; the log and the file have the line anyway.
    printf '%s\n' "$line" 2>/dev/null >/dev/console || :
}

verdict() {
    ended=yes
    printf '%s\n' "$1" | tr '\000-\011\013-\037\177' '?' >"$LOGS/first-boot.new"
    mv "$LOGS/first-boot.new" "$LOGS/first-boot"
    say "$1"
}

fail() {
    verdict "failed: $node, $1 This machine does not join."
    exit 1
}

leave() {
    [ -n "$ended" ] || verdict "failed: $node, the first boot's script ended early; see $LOGS/log. This machine does not join."
    rm -rf "$work"
}

# The address may hold a secret, so it is not an argument.
download() {
    printf '%s\n' "$PROGRAM_ADDRESS" | timeout --kill-after=30 300 python3 -I -c '
import sys, urllib.request
try:
    with urllib.request.urlopen(sys.stdin.readline().strip(), timeout=60) as answer, open(sys.argv[1], "wb") as file:
        file.write(answer.read(1 << 26))
except (OSError, ValueError) as error:
    sys.exit(f"the node program cannot be downloaded: {error}")
' "$1"
}

get_program() {
    for pause in 2 4 8 16 32 60 60 0; do
        if ! download "$1" 2>"$work/said"; then
            why="$(tail -n 1 "$work/said") (${PROGRAM_ADDRESS%%\?*}). Check that this machine can reach it. [command-failed]"
        elif echo "$PROGRAM_SHA256  $1" | sha256sum -c --status; then
            return
        else
            why="the node program has sha256 $(sha256sum "$1" | cut -c 1-64), not $PROGRAM_SHA256 (${PROGRAM_ADDRESS%%\?*}). Upload the file that this stack's checkout builds. [program-differs]"
        fi
        rm -f "$1"
        sleep "$pause"
    done
    fail "$why"
}

# A script of the program's own, with arguments; the program was verified before.
script() {
    python3 -I -c 'import sys, zipfile; sys.stdout.write(zipfile.ZipFile(sys.argv[1]).read(f"nodekit/{sys.argv[2]}").decode())' \
        "$downloaded" "$1" >"$work/$1"
    name=$1
    shift
    timeout --kill-after=30 900 sh "$work/$name" "$@" </dev/null >"$LOGS/${name%.sh}.json" 2>"$work/said" || failed_step "${name%.sh}" $? 900
    cat "$work/said" >>"$LOGS/log"
}

verb() {
    say "$1 ..."
    code=0
    # shellcheck disable=SC2016 # for the shell that reads run.sh
    printf '%s' "$3" | sed "s/@NODE@/$node/g" |
        timeout --kill-after=30 "$2" sh -c '. "$0/run.sh"; nodekit "$1" "$2"' "$FOLDER" "$sum" "$1" \
            >"$LOGS/$1.json" 2>"$work/said" || code=$?
    [ "$code" -eq 0 ] || failed_step "$1" "$code" "$2"
    cat "$work/said" >>"$LOGS/log"
}

failed_step() {
    cat "$work/said" >>"$LOGS/log"
    case $2 in
        124 | 137) fail "$1: it did not end in $3 s. See $LOGS/log. [command-timeout]" ;;
    esac
    why=$(sed -n 's/^error: //p' "$work/said" | tail -n 1)
    fail "$1: ${why:-it ended with exit code $2 and gave no reason. See $LOGS/log. [command-failed]}"
}

# A script of the stack's settings: its name, its text. Its words are in a file that root alone reads: they may hold a token.
own_script() {
    printf '%s' "$2" >"$work/$1"
    chmod 0700 "$work/$1"
    say "$1 ..."
    code=0
    timeout --kill-after=30 "$SCRIPT_SECONDS" "$work/$1" </dev/null >"$LOGS/$1" 2>&1 || code=$?
}

runtime() {
    own_script runtime "$RUNTIME"
    [ "$code" -eq 0 ] || fail "the runtime script ended with exit code $code. See $LOGS/runtime. [runtime-script-failed]"
}

join() {
    own_script join "$JOIN"
    [ "$code" -eq 0 ] || {
        verdict "failed: $node is proven, and its join script ended with exit code $code. See $LOGS/join. [join-failed]"
        exit 1
    }
}

node=$(uname -n | tr -cd '[:alnum:].-' | cut -c 1-63)
mkdir -p "$FOLDER" "$LOGS"
chmod 0700 "$LOGS"
rm -f "$LOGS/first-boot"
# Beside the program, since temporary folders are often mounted so that nothing in them can be run.
work=$(mktemp -d "$FOLDER/first-boot.XXXXXX")
trap leave EXIT
# dash ends on a signal, such as a shutdown's, without what EXIT is trapped for.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
downloaded=$work/nodekit.pyz
sum=$(printf '%s' "$PROGRAM_SHA256" | cut -c 1-12)
program=$FOLDER/nodekit-$sum.pyz
get_program "$downloaded"
script system.sh
script bootstrap.sh "$downloaded" "$program" "$PROGRAM_SHA256"
[ -z "${RUNTIME:-}" ] || runtime
verb preflight "$SECONDS_PREFLIGHT" "$STATE_PREFLIGHT"
verb docker "$SECONDS_DOCKER" "$STATE_DOCKER"
verb kata "$SECONDS_KATA" "$STATE_KATA"
verb prove "$SECONDS_PROVE" "$STATE_PROVE"
if [ -n "${JOIN:-}" ]; then
    join
    verdict "proven and joined: $node"
else
    verdict "proven: $node, and there is no join script"
fi
