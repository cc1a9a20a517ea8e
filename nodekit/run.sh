# Starts the node program after checking that it is whole, and accepts only a verb's own result as success. bootstrap.sh puts this
# beside the program; a shell reads it, so that a file that a crash left empty is an unknown command, not a success:
#   sh -c '. /usr/local/lib/kata-nodes/run.sh; nodekit 0123456789ab docker'     the start of the program's sha256, and a verb
# shellcheck shell=sh
PROGRAMS=/usr/local/lib/kata-nodes
whole= # the last file that was seen to be whole: a caller that asks before `nodekit` does has it read once

# Whether file $1 is the program whose sha256 begins with $2. Every sum begins with too few digits, that of no file too.
is_program() {
    [ "${#2}" -ge 12 ] || return 1
    case $(sha256sum 2>/dev/null <"$1") in
        "$2"*) whole=$1 ;;
        *) return 1 ;;
    esac
} 2>/dev/null

# Check that program $1 (the start of its sha256) is whole; replace a damaged one by its copy.
whole_program() {
    program=$PROGRAMS/nodekit-$1.pyz
    [ "$whole" = "$program" ] || is_program "$program" "$1" && return
    if is_program "$program.copy" "$1"; then
        echo "$(uname -n): $program is damaged; its copy replaces it" >&2
        cp --reflink=never "$program.copy" "$program.new" && sync "$program.new" && mv "$program.new" "$program" && sync "$PROGRAMS"
    else
        echo "error: $(uname -n): neither $program nor its copy is the program that was put there." \
            "Put it there again: pulumi up --replace with the URN of the node's -upload. [program-damaged]" >&2
        return 1
    fi
}

# The program as bootstrap.sh compiled it, where that is whole.
quicker_program() {
    { read -r compiled_sum <"$program.compiled.sum"; } 2>/dev/null &&
        [ "${#compiled_sum}" -eq 64 ] && is_program "$program.compiled" "$compiled_sum"
}

nodekit() {
    whole_program "$1" || return 1
    touch "$program"
    started=$program
    ! quicker_program || started=$program.compiled
    # timeout(1) ends all of its group: this shell waits for the program, which rolls back first.
    trap : HUP INT TERM
    code=0
    # The lock keeps another checkout's bootstrap.sh from removing a program that runs. Only root can open its file: anyone who can
    # open one can lock it, and each verb would wait. Where a disk has no room for it, nothing is removed either.
    lock=$program.lock
    (umask 077 && : >>"$lock") 2>/dev/null || lock=
    # -S: all that it imports is in it or in the standard library, so Python need not look for what else is installed.
    # shellcheck disable=SC2094 # it is read twice
    result=$({ { [ -z "$lock" ] || flock --shared 9; } && exec python3 -I -S "$started" "$2"; } 9<"${lock:-$program}") || code=$?
    [ -z "$result" ] || printf '%s\n' "$result"
    [ "$code" -ne 137 ] || # 128 and SIGKILL, at which no program can say anything
        echo "error: $(uname -n): $2 was killed; the next run finishes or undoes what it had begun." \
            "See 'journalctl -k' on the node, free memory or add some, then run again. [run-killed]" >&2
    [ "$code" -eq 0 ] || return "$code"
    case $result in
        '{'*"\"verb\": \"$2\""*'}') ;;
        *)
            echo "error: $(uname -n): $2 ended without its own result, so nothing shows what it did." \
                "Run again; if it happens again, check that python3 on the node is complete. [result-missing]" >&2
            return 1
            ;;
    esac
}
