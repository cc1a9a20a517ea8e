#!/bin/sh
# Runs a program as root where sudo asks the login user for a password:
#   sh -c "$(cat as_root.sh)" as-root [--as-user] PROGRAM [ARGUMENT]...
# With --as-user it only looks whether it could, and whether root can read that user's home, and runs the program as the login user.
# Standard input: one line with the password, then what the program reads. The script itself comes before them (login.as_root), so
# that no file of the login user's ever gets the password.
# The password goes to sudo's standard input alone: it is not an argument, in no environment, and never reaches the program.
set -eu

MARK="the program's standard input begins after this line"

fail() {
    echo "error: $(uname -n): $1 $2" >&2
    exit 1
}

# Explains sudo's refusal from its own English message; $1: that message.
refuse() {
    case $1 in
        *"must have a tty"*)
            fail "sudo wants a terminal of user $(id -un)." \
                "Put 'Defaults:$(id -un) !requiretty' into /etc/sudoers.d, or log in as root. [sudo-needs-terminal]"
            ;;
        *"not in the sudoers"* | *"not allowed to"* | *"may not run sudo"*)
            fail "user $(id -un) may not become root by sudo." "Allow it in /etc/sudoers.d, or log in as root. [sudo-not-allowed]"
            ;;
        *"incorrect password"* | *"no password was provided"* | *"Authentication failure"* | *"Sorry, try again"*)
            fail "sudo does not accept the password of user $(id -un)." \
                "Set the right one: pulumi config set --secret kata-nodes:sudoPassword, then pulumi up, without which a destroy takes the one before. [sudo-password-wrong]"
            ;;
        *)
            words=$(printf %s "$1" | LC_ALL=C tr -c '[:print:]' ' ' | cut -c 1-300)
            fail "sudo ended for user $(id -un) with: $words." "Repair sudo on the node, or log in as root. [sudo-not-allowed]"
            ;;
    esac
}

# Whether root can read what lies in the user's home: one on NFS, or an encrypted one, can be closed to it, and root takes the upload
# from there. The arguments: sudo and its options. A home that cannot be written is for the program to report.
look_from_root() {
    probe=${HOME:-.}/.kata-nodes-probe
    (: >"$probe") 2>/dev/null && chmod a+r "$probe" || return 0
    said=$(LC_ALL=C "$@" timeout 30 test -r "$probe" 2>&1) && reads=yes || reads=
    rm -f "$probe"
    [ -z "$reads" ] || return 0
    [ -z "$said" ] || refuse "$said"
    fail "root may not read ${HOME:-.}, where user $(id -un) logs in, and nothing was changed there." \
        "Log in as root, or as a user whose home root may read. [file-unreadable]"
}

run() {
    # An exported variable of that name would carry the new value into the environment of every program.
    unset password
    IFS= read -r password || fail "standard input holds no password." "Write it on the first line of the standard input. [bad-input]"
    as_user=
    [ "${1:-}" != --as-user ] || { as_user=yes && shift; }
    [ "$(id -u)" -ne 0 ] || exec "$@"
    command -v sudo >/dev/null 2>&1 ||
        fail "user $(id -un) is not root, and sudo is not installed." "Log in as root, or install sudo. [no-sudo]"

    # -k: ignore the ticket of an earlier run, so that the answer here holds for the run below.
    said=$(LC_ALL=C sudo -k -n true 2>&1 </dev/null) && {
        [ -n "$as_user" ] || exec sudo -k -n -- "$@"
        look_from_root sudo -k -n </dev/null
        exec "$@"
    }
    case $said in *"must have a tty"*) refuse "$said" ;; esac
    # One try, with nothing after the password that sudo could take for a second one: guesses can lock an account.
    said=$(printf '%s\n' "$password" | LC_ALL=C sudo -k -S -p '' true 2>&1) || refuse "$said"
    if [ -n "$as_user" ]; then
        printf '%s\n' "$password" | look_from_root sudo -k -S -p ''
        exec "$@"
    fi
    # Whatever sudo leaves unread before the mark, the password too, is thrown away.
    # shellcheck disable=SC2016 # for the shell that sudo starts
    {
        printf '%s\n%s\n' "$password" "$MARK"
        cat
    } | sudo -k -S -p '' -- sh -c 'while IFS= read -r line && [ "$line" != "$0" ]; do :; done; exec "$@"' "$MARK" "$@"
}

run "$@"
