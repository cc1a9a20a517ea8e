#!/bin/sh
# Refuses a node whose operating system the program does not know, before anything is changed. Sent on standard input, as any
# user; prints one line of JSON.
set -eu

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
    printf '{"id": "%s", "versionId": "%s"}\n' "$id" "$version"
}

# This script arrives on standard input: nothing runs before all of it is read.
check_system </dev/null
