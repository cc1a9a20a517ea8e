# Makes a machine of an auto-scaling group a node at its first boot, proves it, and only then lets it join a cluster. cloud-init
# runs this as root, once in a machine's life, with settings before it (aws/user_data.py), which brings it without its comments:
# PROGRAM_ADDRESS, PROGRAM_SHA256, the states and bounds of the verbs STATE_CONVERGE, SECONDS_CONVERGE, STATE_PROVE and SECONDS_PROVE,
# RUNTIME where a script installs the cluster's container runtime, and JOIN where there is something to join.
# The console and /var/log/kata-nodes/first-boot show how it ended; the other files in that folder are listed in docs/guides/aws.md.
# shellcheck shell=sh
set -eu
LC_ALL=C
export LC_ALL
FOLDER=/usr/local/lib/kata-nodes
LOGS=/var/log/kata-nodes
LOCK=/run/kata-nodes-first-boot.lock
DOWNLOAD_SECONDS=300
SCRIPT_SECONDS=1800
ended=
work=
said=
fate="This machine does not join."

# A program's output may hold sequences that a terminal would obey.
say() {
    line=$(printf 'kata-nodes: %s' "$1" | tr '\000-\037\177' '?')
    printf '%s\n' "$line" >&2 || :
    # A machine may have no console that can be written; cloud-init's log and the file have the line anyway.
    printf '%s\n' "$line" 2>/dev/null >/dev/console || :
}

# The console has it too where the disk is full.
verdict() {
    ended=yes
    if printf '%s\n' "$1" | tr '\000-\011\013-\037\177' '?' >"$LOGS/first-boot.new"; then
        mv "$LOGS/first-boot.new" "$LOGS/first-boot" || :
    else
        rm -f "$LOGS/first-boot.new" || :
    fi
    say "$1"
}

fail() {
    verdict "failed: $node, $1 $fate"
    exit 1
}

unwritable() {
    fail "$FOLDER, $LOGS or /run cannot be written. Free space, or make the file system writable, then run again. [file-unwritable]"
}

leave() {
    [ -n "$ended" ] || verdict "failed: $node, the first boot's script ended early; see $LOGS/log. $fate"
    rm -rf "$work" "$said"
}

# The address may hold a secret, so it is not an argument. Exit code 3: the file cannot be written.
download() {
    printf '%s\n' "$PROGRAM_ADDRESS" | timeout --kill-after=30 "$DOWNLOAD_SECONDS" python3 -I -c '
import pathlib, sys, urllib.request
try: program = urllib.request.urlopen(sys.stdin.readline().strip(), timeout=60).read(1 << 26)
except Exception as error: sys.exit("the node program cannot be downloaded: " + " ".join(str(error).split())[:400])
try: pathlib.Path(sys.argv[1]).write_bytes(program)
except OSError: sys.exit(3)
' "$1"
}

get_program() {
    for pause in 2 4 8 16 32 60 60 0; do
        code=0
        download "$1" 2>"$said" || code=$?
        [ "$code" -ne 3 ] || unwritable
        if [ "$code" -ne 0 ]; then
            why=$(tail -n 1 "$said")
            why="${why:-the node program is not downloaded in $DOWNLOAD_SECONDS s} (${PROGRAM_ADDRESS%%\?*}). Check that this machine can reach it. [command-failed]"
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

# Runs a program: its name, its bound, what it reads, then its command. Its result is in a file of that name. What it says is in
# the log at once, for the boot may take an hour, and on the console which of its steps begins and ends. A file and no pipe takes
# what it says: a service that it starts would hold the pipe open for ever. In memory, for the reason must not need a disk.
# A service would also hold the lock (7) as long as it runs.
run() {
    name=$1
    seconds=$2
    text=$3
    shift 3
    code=0
    : >"$said"
    printf '%s' "$text" | timeout --kill-after=30 "$seconds" "$@" 2>>"$said" >"$LOGS/$name.json" 7>&- &
    # A shutdown signals all of them, and a verb that it ends still says what it undoes.
    (
        trap '' HUP INT TERM PIPE
        tail -n +1 -s 0.2 -f --pid=$! "$said" | tee -a "$LOGS/log" | sed -un '/^step /p' | while IFS= read -r progress; do
            say "$progress"
        done
    ) || :
    wait $! || code=$?
    [ "$code" -eq 0 ] || failed
}

# The step is the one that has begun and is not done. Where the bound is over, run.sh is killed too, and cannot say so.
failed() {
    why=$(sed -n 's/^error: //p' "$said" | tail -n 1 | cut -c 1-2000)
    step=$(sed -n 's/^\(step [a-z]*\) \.\.\.$/\1/p; s/^step [a-z]*: done in .*//p' "$said" | tail -n 1)
    last=$(tail -n 1 "$said" | tr -cd '[:print:]' | cut -c 1-500)
    case $why:$code in
        *"[run-killed]:137") ;;
        *:124 | *:137) why="it did not end in $seconds s. See $LOGS/log. [command-timeout]" ;;
    esac
    fail "$name${step:+, $step}: ${why:-it ended with exit code $code and gave no reason${last:+; its last line is: $last}. See $LOGS/log. [command-failed]}"
}

# A script of the program's own, with arguments; the program was verified before.
script() {
    python3 -I -c 'import sys, zipfile; sys.stdout.write(zipfile.ZipFile(sys.argv[1]).read(f"nodekit/{sys.argv[2]}").decode())' \
        "$downloaded" "$1" >"$work/$1" || unwritable
    file=$1
    shift
    run "${file%.sh}" 900 "" sh "$work/$file" "$@"
}

verb() {
    say "$1 ..."
    # shellcheck disable=SC2016 # for the shell that reads run.sh
    run "$1" "$2" "$(printf '%s' "$3" | sed "s/@NODE@/$node/g")" sh -c '. "$0/run.sh"; nodekit "$1" "$2"' "$FOLDER" "$sum" "$1"
}

# A script of the stack's settings: its name, its text. Its words are in a file that root alone reads: they may hold a token.
own_script() {
    { printf '%s' "$2" >"$work/$1" && chmod 0700 "$work/$1"; } || unwritable
    say "$1 ..."
    code=0
    timeout --kill-after=30 "$SCRIPT_SECONDS" "$work/$1" </dev/null >"$LOGS/$1" 2>&1 7>&- || code=$?
    # It may have run timeout(1) itself.
    case $code in 124 | 137) code="$code, as where it takes longer than $SCRIPT_SECONDS s" ;; esac
}

runtime() {
    own_script runtime "$RUNTIME"
    [ "$code" = 0 ] || fail "the runtime script ended with exit code $code. See $LOGS/runtime. [runtime-script-failed]"
}

join() {
    fate="Its join script had begun."
    own_script join "$JOIN"
    [ "$code" = 0 ] || {
        verdict "failed: $node is proven, and its join script ended with exit code $code. See $LOGS/join. [join-failed]"
        exit 1
    }
}

node=$(uname -n | tr -cd '[:alnum:].-' | cut -c 1-63)
trap leave EXIT
# dash ends on a signal, such as a shutdown's, without what EXIT is trapped for.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
# What writes cloud-init's log may have ended. Not ignored: the scripts of the settings would inherit that.
trap : PIPE
# Anyone who can open a lock's file can lock it.
(umask 077 && : >>"$LOCK") || unwritable
exec 7>>"$LOCK"
# The verdict is that of the other run.
flock --nonblock 7 || {
    ended=yes
    say "error: another run of the first boot's script holds $LOCK. Wait until that run has ended, then run again. [node-busy]"
    exit 1
}
# What is removed is of a run before, or of the machine whose image this one was made from. Scripts lie beside the program, since
# temporary folders are often mounted so that nothing in them can be run.
{
    rm -rf "$FOLDER"/first-boot.* "$LOGS/first-boot" "$LOGS"/*.json "$LOGS/runtime" "$LOGS/join" &&
        { [ ! -e "$LOGS/log" ] || mv "$LOGS/log" "$LOGS/log.before"; } &&
        mkdir -p "$FOLDER" "$LOGS" && chmod 0700 "$LOGS" &&
        said=$(mktemp /run/kata-nodes-said.XXXXXX) && work=$(mktemp -d "$FOLDER/first-boot.XXXXXX")
} || unwritable
downloaded=$work/nodekit.pyz
sum=$(printf '%s' "$PROGRAM_SHA256" | cut -c 1-12)
program=$FOLDER/nodekit-$sum.pyz
get_program "$downloaded"
script system.sh
script bootstrap.sh "$downloaded" "$program" "$PROGRAM_SHA256"
[ -z "${RUNTIME:-}" ] || runtime
verb converge "$SECONDS_CONVERGE" "$STATE_CONVERGE"
verb prove "$SECONDS_PROVE" "$STATE_PROVE"
if [ -n "${JOIN:-}" ]; then
    join
    verdict "proven and joined: $node"
else
    verdict "proven: $node, and there is no join script"
fi
