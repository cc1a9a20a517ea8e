#!/bin/sh
# Refuses a node whose operating system or processor is unknown, or whose login user can store nothing, before anything is changed.
# Sent on standard input, as any user; prints one line of JSON.
#   sh -s                look at the node
#   sh -s -- --remove [STACK [NAME]]
#                        remove what a run left that ended early: an upload, and an installation whose answer never came
set -eu
UPLOAD=2097152 # more than the node program has

# A field of os-release(5), without what could make a terminal or JSON misread it; a file that cannot be read has none, which is
# refused below like every other system that is not known.
field() {
    # shellcheck source=/dev/null # the node's own
    (unset ID VERSION_ID && . /etc/os-release && eval "printf %s \"\${$1:-}\"") 2>/dev/null | LC_ALL=C tr -cd '[:alnum:]._-' | cut -c 1-40
}

check_system() {
    id=$(field ID) version=$(field VERSION_ID)
    case "$id $version" in
        "debian 12" | "debian 13" | "ubuntu 22.04" | "ubuntu 24.04") ;;
        *)
            echo "error: $(uname -n): /etc/os-release says ${id:-no ID} ${version:-without VERSION_ID}, and nothing was changed there." \
                "Use Debian 12 or 13, or Ubuntu 22.04 or 24.04. [unsupported-os]" >&2
            exit 1
            ;;
    esac
    # The proof's guests are those of an x86 machine.
    machine=$(uname -m)
    [ "$machine" = x86_64 ] || {
        echo "error: $(uname -n): its processor is $machine, and nothing was changed there." \
            "Use a machine with an Intel or AMD processor (x86_64). [unsupported-processor]" >&2
        exit 1
    }
    check_home
    printf '{"id": "%s", "versionId": "%s"}\n' "$id" "$version"
}

# What follows is an upload into this folder, and SFTP has no code for a full or read-only disk: it reports only "Failure".
check_home() {
    [ -n "${HOME:-}" ] || return 0
    probe=$HOME/.kata-nodes-probe
    trap 'rm -f "$probe" 2>/dev/null' EXIT
    words=$( (head -c "$UPLOAD" /dev/zero >"$probe") 2>&1) || {
        words=${words##*: }
        echo "error: $(uname -n): $HOME, where user $(id -un) logs in, cannot be written: $words, and nothing was changed there." \
            "Free $((UPLOAD >> 20)) MiB, make the file system writable, or give the user a folder of its own, then run again. [file-unwritable]" >&2
        exit 1
    }
}

# Where the answer of an installation never came, the stack does not know that there is something to undo. Once a verb has run, which
# leaves its lock, the stack knows the program and removes it itself; and this may be a replacement of this resource alone.
remove_installation() {
    folder=/usr/local/lib/kata-nodes
    for script in "$folder"/bootstrap-*.sh; do
        if [ ! -f "$script" ] || [ -e "$folder/proofs.json" ] || [ -e /var/lib/kata-nodes ]; then continue; fi
        [ -z "$(find "$folder" -name '*.pyz.lock')" ] || continue
        KATA_NODES_SCRIPT=$(cat "$script") sh "$script" --remove "$@" >/dev/null ||
            echo "system: $folder stays, and this machine with the stack. Run 'pulumi up' and then 'pulumi destroy' with it, or remove $folder" >&2
    done
}

remove_upload() {
    rm -f .kata-nodes-*.pyz .kata-nodes-probe || echo "system: an upload stays in $HOME" >&2 # no reason to keep a whole stack from being destroyed
    echo '{}'
}

# This script arrives on standard input: nothing runs before all of it is read.
if [ "${1:-}" = --remove ]; then shift && remove_installation "$@" </dev/null && remove_upload </dev/null; else check_system </dev/null; fi
