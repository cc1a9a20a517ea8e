#!/bin/sh
# The first and the last that a stack does on a node, as any user. Sent on standard input; prints one line of JSON.
#   sh -s [-- --with-password]         refuse a machine whose operating system or processor is unknown, or whose login user can store
#                                      nothing or not become root, before anything is changed; with a password as_root.sh has seen to
#                                      the latter
#   sh -s -- --remove [STACK [NAME]]   undo all that the stack has changed there, with the bootstrap.sh of a program on the node that is
#                                      whole, or else with the one that lies beside it, and remove what a run left that ended early
set -eu
LC_ALL=C
export LC_ALL
FOLDER=/usr/local/lib/kata-nodes
JOURNALS=/var/lib/kata-nodes
UPLOAD=2097152 # more than the node program has

fail() {
    echo "error: $(uname -n): $1 $2" >&2
    exit 1
}

# A field of os-release(5), without what could make a terminal or JSON misread it; a file that cannot be read has none, which is
# refused below like every other system that is not known.
field() {
    # shellcheck source=/dev/null # the node's own
    (unset ID VERSION_ID && . /etc/os-release && eval "printf %s \"\${$1:-}\"") 2>/dev/null | tr -cd '[:alnum:]._-' | cut -c 1-40
}

check_system() {
    id=$(field ID) version=$(field VERSION_ID)
    case "$id $version" in
        "debian 12" | "debian 13" | "ubuntu 22.04" | "ubuntu 24.04") ;;
        *)
            fail "/etc/os-release says ${id:-no ID} ${version:-without VERSION_ID}, and nothing was changed there." \
                "Use Debian 12 or 13, or Ubuntu 22.04 or 24.04. [unsupported-os]"
            ;;
    esac
    # The proof's guests are those of an x86 machine.
    machine=$(uname -m)
    [ "$machine" = x86_64 ] ||
        fail "its processor is $machine, and nothing was changed there." \
            "Use a machine with an Intel or AMD processor (x86_64). [unsupported-processor]"
    check_home
    [ "${1:-}" = --with-password ] || check_root
    # By which a cluster knows the machine (machine-id(5)); an image before its first boot has none. A machine
    # without one is looked at all the same: it is no reason to refuse it.
    known=$(head -c 32 /etc/machine-id 2>/dev/null | tr -cd '0-9a-f') || known=
    [ "${#known}" -eq 32 ] || known=
    printf '{"verb": "system", "id": "%s", "versionId": "%s", "machineId": "%s"}\n' "$id" "$version" "$known"
}

# What follows is an upload into this folder, and SFTP has no code for a full or read-only disk: it reports only "Failure".
check_home() {
    [ -n "${HOME:-}" ] || return 0
    probe=$HOME/.kata-nodes-probe
    trap 'rm -f "$probe" 2>/dev/null' EXIT
    words=$( (head -c "$UPLOAD" /dev/zero >"$probe") 2>&1) || {
        words=${words##*: }
        fail "$HOME, where user $(id -un) logs in, cannot be written: $words, and nothing was changed there." \
            "Free $((UPLOAD >> 20)) MiB, make the file system writable, or give the user a folder of its own, then run again. [file-unwritable]"
    }
}

# One who cannot could not undo the node later either.
check_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null 2>&1 ||
        fail "user $(id -un) is not root, and sudo is not installed." "Log in as root, or install sudo. [no-sudo]"
    said=$(sudo -n true 2>&1) || case $said in
        *"must have a tty"*)
            fail "sudo wants a terminal of user $(id -un)." \
                "Put 'Defaults:$(id -un) !requiretty' into /etc/sudoers.d, or log in as root. [sudo-needs-terminal]"
            ;;
        *)
            fail "user $(id -un) has no password-less sudo." \
                "Allow it (NOPASSWD) for this user, set the secret sudoPassword, or log in as root. [no-sudo]"
            ;;
    esac
    # It takes the upload from there: a home on NFS, or an encrypted one, can be closed to it.
    [ -z "${probe:-}" ] || { chmod a+r "$probe" && sudo -n timeout 30 test -r "$probe"; } ||
        fail "root may not read $HOME, where user $(id -un) logs in, and nothing was changed there." \
            "Log in as root, or as a user whose home root may read. [file-unreadable]"
}

root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

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

# It needs its own text to become root. That of an earlier version, as on a machine that was put back to a snapshot, knows another word.
bootstrap() {
    case $text in *--undo*) word=--undo ;; *) word=--remove ;; esac
    KATA_NODES_SCRIPT=$text sh -c "$text" bootstrap.sh "$word" "$@"
}

remove_program() {
    if file=$(whole 'nodekit-????????????.pyz*'); then
        text=$(python3 -I -c "$READ" "$file") ||
            fail "python3 does not read $file." "Install the package python3 on the node. [tool-missing]"
        bootstrap "$@"
        return
    elif file=$(whole 'bootstrap-????????????.sh'); then
        text=$(cat "$file")
        bootstrap "$@"
        return
    fi
    # Without the file, or where it cannot be read, no other stack is known to have the machine.
    there=$(head -c 200 "$FOLDER/stack" 2>/dev/null | tr -cd '[:alnum:]/._-') || there=
    if [ -n "${1:-}" ] && [ -n "$there" ] && [ "$there" != "$1" ]; then
        echo "system: left as it is: this machine is a node of the stack $there" >&2
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
        [ ! -s "$FOLDER/packages" ] || echo "system: these packages stay:" "$(tr '\n' ' ' <"$FOLDER/packages")" >&2
        [ ! -e "$FOLDER" ] || root rm -rf "$FOLDER"
    fi
    echo '{"changed": false}'
}

remove_upload() {
    rm -f .kata-nodes-*.pyz .kata-nodes-probe || echo "system: an upload stays in $HOME" >&2 # no reason to keep a whole stack from being destroyed
}

remove() {
    remove_program "$@"
    remove_upload
}

# This script arrives on standard input: nothing runs before all of it is read, and no program below reads what is left of it.
if [ "${1:-}" = --remove ]; then shift && remove "$@" </dev/null; else check_system "$@" </dev/null; fi
