#!/bin/sh
# Brings a node to its state: installs the node program that was uploaded, with the bootstrap.sh that lies in it (a stack would otherwise
# keep that long script for each node), and has the program converge. On standard input: the desired state.
#   sh -c ... OFFSET LENGTH SHA256 SECONDS UPLOADED TARGET ...   where in the program bootstrap.sh lies, its sha256; the bound on the
#                                                                program, then the arguments of bootstrap.sh
set -eu
LC_ALL=C
export LC_ALL
FOLDER=/usr/local/lib/kata-nodes

fail() {
    echo "error: $(uname -n): $1 $2" >&2
    exit 1
}

holds() { [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$2  -" ]; }

# Whether the stack had this very program installed here before, under this name, and has sent no copy since. Not where the stack
# creates the resource, and not on another machine: one that was made from an image of the node. Silent where a file is missing or
# cannot be read: then it is installed, which says what is wrong.
is_installed() {
    [ "${6:-}" = again ] && [ ! -e "$1" ] && [ -s "$FOLDER/run.sh" ] && [ "$(cat "$FOLDER/stack")" = "$4" ] &&
        grep -Fxqe "$5" "$FOLDER/names" && [ "$(cat "$FOLDER/machine")" = "$(cat /etc/machine-id)" ] &&
        { holds "$2" "$3" || holds "$2.copy" "$3"; } # which run.sh puts in its place
} 2>/dev/null

# A node may have no Python yet, so the script is cut out. What was checked is what runs, as one argument (of at most 128 KiB): the
# upload is the login user's, who could change it in between. It needs its own text to become root, and puts it beside the program.
# It has bounds of its own within the 900 seconds, where it becomes root.
install_program() {
    offset=$1 length=$2 sum=$3
    shift 3
    for file in "$1" "$2" "$2.copy"; do
        [ -f "$file" ] || continue
        text=$(tail -c "+$((offset + 1))" "$file" | head -c "$length")
        case $(printf '%s\n' "$text" | sha256sum) in
            "$sum "*)
                KATA_NODES_SCRIPT=$text timeout 900 sh -c "$text" bootstrap.sh "$@"
                return
                ;;
        esac
    done
    [ ! -f "$1" ] ||
        fail "the upload $1 is damaged: the script in it does not have sha256 $sum." \
            "Send it again: pulumi up --replace with the URN of the node's -upload; if it happens again, check the disk. [file-invalid]"
    [ ! -e "$2" ] ||
        fail "neither $2 nor its copy is the program that was put there." \
            "Put it there again: pulumi up --replace with the URN of the node's -upload. [program-damaged]"
    fail "$2 is missing, and so is the upload $1." \
        "Send it again: pulumi up --replace with the URN of the node's -upload. [file-unreadable]"
}

converge() {
    place="$1 $2 $3" bound=$4
    shift 4
    # shellcheck disable=SC2086 # three words
    is_installed "$@" || install_program $place "$@" </dev/null
    root="sudo -n"
    [ "$(id -u)" -ne 0 ] || root=
    # shellcheck disable=SC2086,SC2016 # sudo and its option; for the shell that reads run.sh
    exec $root timeout --kill-after=30 "$bound" sh -c '. "$0/run.sh"; nodekit "$1" converge' "$FOLDER" "$(printf %.12s "$3")"
}

converge "$@"
