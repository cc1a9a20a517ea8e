#!/bin/sh
# Installs the node program on a node, and removes it again, with the bootstrap.sh that lies in it: a stack would otherwise keep that
# long script for each node. Sent on standard input:
#   sh -s -- OFFSET LENGTH SHA256 UPLOADED TARGET ...   install: where in the program the script lies, its sha256, then its arguments
#   sh -s -- --remove [STACK [NAME]]                    remove: with the script of a program on the node that is whole, or else with the
#                                                       one that lies beside it
set -eu
LC_ALL=C
export LC_ALL
FOLDER=/usr/local/lib/kata-nodes
JOURNALS=/var/lib/kata-nodes

fail() {
    echo "error: $(uname -n): $1 $2" >&2
    exit 1
}

root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

# It needs its own text to become root, and puts it beside the program.
run() {
    KATA_NODES_SCRIPT=$text
    export KATA_NODES_SCRIPT
    exec sh -c "$text" bootstrap.sh "$@"
}

# A node may have no Python yet, so the script is cut out. What was checked is what runs, as one argument (of at most 128 KiB): the
# upload is the login user's, who could change it in between.
install_program() {
    offset=$1 length=$2 sum=$3
    shift 3
    for file in "$1" "$2" "$2.copy"; do
        [ -f "$file" ] || continue
        text=$(tail -c "+$((offset + 1))" "$file" | head -c "$length")
        case $(printf '%s\n' "$text" | sha256sum) in "$sum "*) run "$@" ;; esac
    done
    [ ! -f "$1" ] ||
        fail "the upload $1 is damaged: the script in it does not have sha256 $sum." \
            "Send it again: pulumi up --replace with the URN of the node's -upload; if it happens again, check the disk. [file-invalid]"
    fail "$2 is missing, and so is the upload $1." \
        "Send it again: pulumi up --replace with the URN of the node's -upload. [file-unreadable]"
}

READ='
import sys, zipfile
sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("nodekit/bootstrap.sh"))
'

# The file of root's named as $1 whose sha256 begins as its name says; a .pyz, its copy or a .sh. What was started last comes first:
# programs of other checkouts may lie beside it. Silent where there is no folder, or a file that cannot be read: that is no whole
# file, and remove_program says what follows.
whole() {
    for name in $(find "$FOLDER" -maxdepth 1 -name "$1" -type f -user root ! -perm /022 -printf '%T@ %f\n' 2>/dev/null | sort -rn | sed 's/.* //'); do
        case $name in *.pyz | *.copy | *.sh) ;; *) continue ;; esac
        sum=${name#*-}
        case $(sha256sum 2>/dev/null <"$FOLDER/$name") in "${sum%%.*}"*) echo "$FOLDER/$name" && return ;; esac
    done
    return 1
}

remove_program() {
    if file=$(whole 'nodekit-????????????.pyz*'); then
        text=$(python3 -I -c "$READ" "$file") ||
            fail "python3 does not read $file." "Install the package python3 on the node. [tool-missing]"
        run --remove "$@"
    elif file=$(whole 'bootstrap-????????????.sh'); then
        text=$(cat "$file")
        run --remove "$@"
    fi
    # Without the file, or where it cannot be read, no other stack is known to have the machine.
    there=$(head -c 200 "$FOLDER/stack" 2>/dev/null | tr -cd '[:alnum:]/._-') || there=
    if [ -n "${1:-}" ] && [ -n "$there" ] && [ "$there" != "$1" ]; then
        echo "unpack: left as it is: this machine is a node of the stack $there" >&2
    else
        # Everyone may list the first folder, and root alone the other. One that cannot be searched is not an empty one.
        changes=
        [ ! -d "$FOLDER" ] || changes=$(find "$FOLDER" -maxdepth 1 -name 'nodekit-*.pyz' -o -name 'nodekit-*.pyz.copy') || changes=unread
        if [ -d "$JOURNALS" ]; then
            root true ||
                fail "user $(id -un) cannot look into $JOURNALS." "Allow it (NOPASSWD) for this user, set the secret sudoPassword, or log in as root. [no-sudo]"
            changes=$changes$(root find "$JOURNALS" -maxdepth 1 -name '*.json') || changes=unread
        fi
        [ -z "$changes" ] ||
            fail "no program in $FOLDER is whole any more, nor is its copy, so nothing was undone." \
                "Put it there again: pulumi up --replace with the URN of the node's -upload, with the node in the stack's file; to leave the machine as it is, remove $FOLDER and $JOURNALS. [program-damaged]"
        # What an earlier version's installation left that ended before the program was in place: it changed nothing but packages.
        [ ! -s "$FOLDER/packages" ] || echo "unpack: these packages stay:" "$(tr '\n' ' ' <"$FOLDER/packages")" >&2
        [ ! -e "$FOLDER" ] || root rm -rf "$FOLDER"
    fi
    echo '{"changed": false}'
}

# This script arrives on standard input: nothing runs before all of it is read, and no program below reads what is left of it.
if [ "${1:-}" = --remove ]; then shift && remove_program "$@" </dev/null; else install_program "$@" </dev/null; fi
