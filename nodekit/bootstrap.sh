#!/bin/sh
# Installs the node program on a node, and removes it again. It lies in that program; converge.sh and system.sh take it out and start it:
#   sh -c ... UPLOADED TARGET SHA256 [STACK [NAME [again]]]   install what was uploaded as TARGET, after what it and the proof need
#   sh -c ... --undo [STACK [NAME]]                           undo what the program changed on the node, then remove the program
# STACK owns the node: a node of another stack is neither taken nor undone. NAME is the stack's name for it: when a node is renamed,
# the new name is added before the old one is removed, and a node that still has a name is not undone; `again` means that the stack
# knew it before.
# Runs as root (as_root.sh sees to that where sudo asks for a password), or becomes root with password-less sudo; for that it
# gets its own text. Prints one line of JSON; a second run changes nothing.
set -eu
LC_ALL=C
export LC_ALL
own=${KATA_NODES_SCRIPT:-}
unset KATA_NODES_SCRIPT
FOLDER=/usr/local/lib/kata-nodes
LOCK=/run/kata-nodes-program.lock
JOURNALS=/var/lib/kata-nodes

placing=

fail() {
    placing=
    echo "error: $1 $2" >&2
    exit 1
}

# What `set -e` ends while files are put in place: the tool's own words stand above.
ended() {
    [ $? -eq 0 ] || [ -z "$placing" ] ||
        echo "error: $(uname -n): $FOLDER cannot be written." "Free space, or make the file system writable, then run again. [file-unwritable]" >&2
}
trap ended EXIT

trap 'fail "$(uname -n): this script was ended from outside, as when its time bound is over." \
    "Find the step that took so long, remove what made it slow, such as a slow site, then run again. [run-ended]"' HUP INT TERM

# One sudo for all of it: each takes its time, and a line of the node's log. And a lock that root holds ends with a root's process.
become_root() {
    command -v sudo >/dev/null 2>&1 ||
        fail "$(uname -n): user $(id -un) is not root, and sudo is not installed." "Log in as root, or install sudo. [no-sudo]"
    said=$(LC_ALL=C sudo -n true 2>&1 </dev/null) || case $said in
        *"must have a tty"*)
            fail "$(uname -n): sudo wants a terminal of user $(id -un)." \
                "Put 'Defaults:$(id -un) !requiretty' into /etc/sudoers.d, or log in as root. [sudo-needs-terminal]"
            ;;
        *)
            fail "$(uname -n): user $(id -un) has no password-less sudo." \
                "Allow it (NOPASSWD) for this user, set the secret sudoPassword, or log in as root. [no-sudo]"
            ;;
    esac
    [ -n "$own" ] || fail "this script does not know its own text, so root cannot run it." "See the first lines of this script. [bad-input]"
    # The login user's timeout cannot end what runs as root, so that has a bound of its own, a minute within the stack's.
    trap : HUP INT TERM
    bound=840
    [ "${1:-}" != --undo ] || bound=1740
    # shellcheck disable=SC2016 # for the shell of root
    printf '%s\n' "$own" |
        sudo -n timeout --kill-after=30 "$bound" sh -c 'KATA_NODES_SCRIPT=$(cat) && export KATA_NODES_SCRIPT && exec sh -c "$KATA_NODES_SCRIPT" "$@"' sh "$0" "$@" || code=$?
    [ "${code:=0}" -ne 137 ] || fail "$(uname -n): this script was killed, as when its time bound is over." \
        "Find the step that took so long, remove what made it slow, such as a slow site, then run again. [run-ended]"
    [ "$code" -eq 0 ] || exit "$code"
    [ "${1:-}" = --undo ] || rm -f "${1:-}" # root may have no right to in this user's home (NFS)
}

# Two runs at once would write the same files. Each verb has a lock of its own (nodekit/host/lock.py), which the removal's verb
# takes under this one. Only root can open it, since anyone who can open a file can lock it.
take_lock() {
    (umask 077 && : >>"$LOCK") || fail "$(uname -n): $LOCK cannot be opened." "Free space, or make the file system writable, then run again. [file-unwritable]"
    exec 8>>"$LOCK"
    flock --nonblock 8 && return
    echo "bootstrap: another run installs or removes the program; waiting up to 300 s until it is done" >&2
    flock --timeout 300 8 || fail "$(uname -n): another run that installs or removes the program holds $LOCK." "Wait until that run has ended, then run again. [node-busy]"
}

# A service that a package starts would hold the lock as long as it runs.
unlocked() { "$@" 8>&-; }

# A minimal Debian has no Python, or python3-minimal, which lacks most of the standard library; one that was built by hand can lack what
# needs a library. To load all of it would take longer than all else that is looked at here.
PARTS='
import sys
from importlib.util import find_spec
sys.exit(any(map(lambda name: not find_spec(name), "ctypes _ctypes json lzma _lzma shutil ssl _ssl tarfile urllib.request".split())))
'

python_is_whole() { python3 -I -S -c "$PARTS" >/dev/null 2>&1; }

# With any of these set otherwise in its settings, apt ends without an error and no package comes (nodekit/host/apt.py, `_ACT`).
ACT='-o APT::Get::Simulate=false -o APT::Get::Download-Only=false -o APT::Get::Print-URIs=false -o APT::Get::Trivial-Only=false'
ACT="$ACT -o APT::Get::Download=true -o APT::Get::Upgrade=true -o APT::Get::Only-Upgrade=false -o APT::Get::Remove=true"
ACT="$ACT -o APT::Mark::Simulate=false -o DPkg::ConfigurePending=true -o Debug::pkgDPkgPM=false"

# apt waits for dpkg's lock, and not for that of its lists, which the system itself often holds in the minutes after a boot.
update_lists() {
    end=
    # shellcheck disable=SC2086 # a list of words
    until said=$(unlocked env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -q $ACT -o DPkg::Lock::Timeout=300 update 2>&1); do
        case $said in
            *"Could not get lock"* | *"Unable to lock"*) ;;
            *) end=0 ;; # waiting does not help
        esac
        if [ -z "$end" ]; then
            echo "bootstrap: another program reads the package lists; waiting up to 300 s until it is done" >&2
            end=$(($(date +%s) + 300))
        fi
        if [ "$(date +%s)" -ge "$end" ]; then
            printf '%s\n' "$said" >&2
            return 1
        fi
        sleep 2
    done
    printf '%s\n' "$said" >&2
}

install_packages() {
    echo "bootstrap: installing $* ..." >&2
    update_lists || echo "bootstrap: the package lists could not all be brought up to date" >&2
    apt_install "$@" || {
        forget_missing || :
        fail "$(uname -n): the packages $* could not be installed." "Install them by hand, then run again. [tool-missing]"
    }
}

apt_install() {
    packages_come "$@" || { finish_interrupted && packages_come "$@"; }
}

# A command of somebody's that apt runs after dpkg may fail once all packages are there.
packages_come() {
    code=0
    # shellcheck disable=SC2086 # a list of words
    unlocked env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -q -y $ACT -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@" >&2 || code=$?
    for package; do
        installed "$package" || return 1
    done
    [ "$code" -eq 0 ] || echo "bootstrap: apt ended with an error, and all of these packages are installed: $*" >&2
}

# Until dpkg has finished what a crash or a kill interrupted, apt installs nothing (apt, `debSystem::CheckUpdates`). Whether that
# works out is for apt to say.
finish_interrupted() {
    for update in /var/lib/dpkg/updates/[0-9]*; do
        [ -e "$update" ] || return
        echo "bootstrap: finishing what an interrupted dpkg left half done ..." >&2
        unlocked env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 dpkg --force-confdef --force-confold --configure -a >&2 || :
        return 0
    done
}

# Beside the records, before a package comes: where no program is in place, nothing else on the node can undo what they record.
# system.sh runs it if its sha256 begins as its name says.
# first_boot.sh hands over no text: its machines go as a whole.
keep_script() {
    [ -n "$own" ] || return 0
    script=bootstrap-$(printf '%s\n' "$own" | sha256sum | cut -c 1-12).sh
    # Absent, or of another text: written in both cases.
    [ "$(cat "$FOLDER/$script" 2>/dev/null)" = "$own" ] || printf '%s\n' "$own" | record "$script"
    find "$FOLDER" -maxdepth 1 -name 'bootstrap-*.sh' ! -name "$script" -exec rm -f {} +
}

# Which packages we install, so that they can be removed again. Python stays: we cannot know what needs it by now. Written before
# the installation: otherwise nobody would remove what a run that is killed in between has installed.
record_packages() {
    {
        recorded_packages
        printf '%s\n' "$@"
    } | sort -u | record packages
}

recorded_packages() { [ ! -f "$FOLDER/packages" ] || cat "$FOLDER/packages"; }

# What did not come is not ours if somebody installs it by hand, as the error says.
forget_missing() {
    recorded_packages | while read -r package; do ! present "$package" || echo "$package"; done | record packages
    ! installed busybox || rm -f "$FOLDER/busybox" # nothing has replaced it
}

# busybox and busybox-static exclude each other, so apt removes the one for the other. Written before the installation, after
# which nothing shows that it was there.
record_busybox() {
    installed busybox || return 0
    mark=$(apt-mark showauto busybox) || mark=
    printf '%s\n' "${mark:+auto}" | record busybox
}

# One transaction puts it in the place of busybox-static: scripts of a RAM disk need one of them.
bring_busybox_back() {
    apt_install busybox || { update_lists && apt_install busybox; } || return
    [ "$(cat "$FOLDER/busybox")" != auto ] || apt-mark auto busybox >&2
}

# dpkg refuses where another package needs it by now; then it stays, and is named.
remove_packages() {
    latest=$(($(date +%s) + 300))
    static=
    # Also where an installation ended between the two, with neither of them.
    [ ! -f "$FOLDER/busybox" ] || installed busybox || bring_busybox_back </dev/null || {
        echo "bootstrap: busybox-static stays: busybox, which was there before it, cannot be installed" >&2
        static=busybox-static
    }
    recorded_packages | while read -r package; do
        if [ "$package" = "$static" ] || ! present "$package"; then continue; fi
        purge "$package" "$latest" </dev/null ||
            echo "bootstrap: $package stays: dpkg does not remove it" >&2
    done
}

# dpkg waits for nobody, as apt does.
purge() {
    until said=$(unlocked env LC_ALL=C DEBIAN_FRONTEND=noninteractive dpkg --purge "$1" 2>&1); do
        case $said in *"locked by another process"*) [ "$(date +%s)" -lt "$2" ] && sleep 2 && continue ;; esac
        printf '%s\n' "$said" >&2
        return 1
    done
    printf '%s\n' "$said" >&2
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Half-installed counts, which an installation leaves that was cut off. dpkg-query fails for a package that it does not know.
present() {
    # shellcheck disable=SC2016 # of dpkg-query
    case $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) in "" | not-installed | config-files) return 1 ;; esac
}

# Every program that is here, or its copy, the one that was started last first, by the start of its sha256; none before the first
# installation, which makes the folder.
programs() {
    find "$FOLDER" -maxdepth 1 -name 'nodekit-????????????.pyz*' -type f -printf '%T@ %f\n' 2>/dev/null | sort -rn |
        sed -n 's/.* nodekit-\(.*\)\.pyz$/\1/p; s/.* nodekit-\(.*\)\.pyz\.copy$/\1/p' | awk '!seen[$0]++'
}

# The first that is whole, or whose copy is.
usable_program() {
    for sum in $(programs); do
        for file in "$FOLDER/nodekit-$sum.pyz" "$FOLDER/nodekit-$sum.pyz.copy"; do
            [ -f "$file" ] || continue
            case $(sha256sum "$file") in
                "$sum"*)
                    echo "$sum"
                    return
                    ;;
            esac
        done
    done
}

# Programs of other checkouts stay, since their stacks do not install them again, but at most eight. A running one is never removed.
remove_old_programs() {
    programs | tail -n +10 | while read -r sum; do
        file=$FOLDER/nodekit-$sum.pyz
        (umask 077 && flock --exclusive --nonblock "$file.lock" rm -f "$file" "$file.copy" "$file.compiled" "$file.compiled.sum" "$file.lock") || :
    done
}

# Of two stacks, the later one would change what the other has proven, and the first to be destroyed would undo it. Without the
# file there is no other stack.
other_stack() {
    there=$(head -c 200 "$FOLDER/stack" 2>/dev/null | tr -cd '[:alnum:]/._-') || there=
    [ -n "$1" ] && [ -n "$there" ] && [ "$there" != "$1" ]
}

# The id of this machine (machine-id(5)); nothing where it has none yet, as in an image before its first boot.
machine() {
    id=$(head -c 32 /etc/machine-id 2>/dev/null | tr -cd '0-9a-f') || id=
    [ "${#id}" -ne 32 ] || echo "$id"
}

# Whether stack, names and proofs are another machine's: an image that was taken of a node holds them, and this machine came from it.
# A record that is absent, as on nodes of earlier versions, or cannot be read makes no copy: then another stack's node is refused.
is_copy() {
    recorded=$(cat "$FOLDER/machine" 2>/dev/null) && id=$(machine) && [ -n "$id" ] && [ "$recorded" != "$id" ]
}

refuse_other_stack() {
    is_copy || ! other_stack "$1" || fail "$(uname -n): this machine is a node of the stack $there, not of $1." \
        "Take the machine out of that stack first, or destroy the stack; where it does not have it, is gone or was renamed, remove $FOLDER/stack on the machine. [node-taken]"
}

# What the command, the further arguments, writes as $1.new takes the place of $1. The login user reads it, whatever root's umask is.
replace() {
    file=$1
    shift
    if "$@" && chmod 0644 "$file.new" && sync "$file.new" && mv "$file.new" "$file"; then return; fi
    rm -f "$file.new"
    return 1
}

# On standard input, as FOLDER/$1.
record() { replace "$FOLDER/$1" tee "$FOLDER/$1.new" >/dev/null; }

# The names that the stack has for this machine, except the given one.
other_names() { grep -Fvxe "$1" "$FOLDER/names" 2>/dev/null || :; }

record_owner() {
    refuse_other_stack "$1" # again: another one may have come while packages were installed
    # A machine of a group has no stack that owns it.
    ! is_copy || rm -f "$FOLDER/names" "$FOLDER/proofs.json" "$FOLDER/stack"
    # Without the file there was no stack, or somebody removed its record; `record` keeps it readable for the login user.
    if [ -n "$1" ] && [ "$(cat "$FOLDER/stack" 2>/dev/null)" != "$1" ]; then
        # Those of another stack, whose record somebody removed: it never takes its names back, and no node that has one is undone.
        rm -f "$FOLDER/names"
        printf '%s\n' "$1" | record stack
    fi
    id=$(machine)
    [ -z "$id" ] || [ "$(cat "$FOLDER/machine" 2>/dev/null)" = "$id" ] || echo "$id" | record machine
    [ -n "$2" ] || return 0
    others=$(other_names "$2")
    # A single other name of a node that the stack knew before is its own former one (an alias).
    if [ "$3" = again ] && [ "$others" = "$(cat "$FOLDER/names" 2>/dev/null)" ] && [ "$(printf '%s\n' "$others" | wc -l)" -eq 1 ]; then
        others=
    fi
    # shellcheck disable=SC2086 # names hold no blank
    printf '%s\n' $others "$2" | record names
}

# Where no program ever came, packages alone are undone. A folder that cannot be searched is not an empty one: what it holds could
# never be undone again.
refuse_damaged() {
    left=
    [ ! -d "$FOLDER" ] || left=$(find "$FOLDER" -maxdepth 1 -name 'nodekit-*.pyz' -o -name 'nodekit-*.pyz.copy') || left=unread
    [ ! -d "$JOURNALS" ] || left=$left$(find "$JOURNALS" -maxdepth 1 -name '*.json') || left=unread
    if [ -z "$left" ]; then
        echo '{"changed": true}'
        return
    fi
    fail "$(uname -n): no program in $FOLDER is whole any more, nor is its copy, so nothing was undone." \
        "Put it there again: pulumi up --replace with the URN of the node's -upload, with the node in the stack's file; to leave the machine as it is, remove $FOLDER and $JOURNALS. [program-damaged]"
}

remove() {
    take_lock
    if other_stack "${1:-}"; then
        echo "bootstrap: left as it is: this machine is a node of the stack $there" >&2
        echo '{"changed": false}'
    elif [ -n "${2:-}" ] && others=$(other_names "$2") && [ -n "$others" ]; then
        echo "bootstrap: left as it is: the stack has this machine under another name too: $others" >&2
        printf '%s\n' "$others" | record names
        echo '{"changed": false}'
    else
        sum=$(usable_program)
        target=$FOLDER/nodekit-$sum.pyz
        if [ -n "$sum" ]; then undo; else refuse_damaged; fi
        remove_packages
        # The program last, or this script: without one, what a removal that is cut off has left could never be removed.
        [ ! -d "$FOLDER" ] || # a removal that this one waited for took it
            find "$FOLDER" -mindepth 1 -maxdepth 1 ! -name "nodekit-$sum.pyz" ! -name 'bootstrap-*.sh' -exec rm -rf {} +
        rm -rf "$FOLDER"
        sync "$(dirname "$FOLDER")" # a crash would bring back the stack's record
    fi
    rm -f .kata-nodes-as-root.sh
}

undo() {
    if [ ! -s "$FOLDER/run.sh" ]; then
        case $(sha256sum 2>/dev/null <"$target") in "$sum"*) ;; *) target=$target.copy ;; esac
        put_run_script >&2
    fi
    # shellcheck disable=SC2016 # for the shell of root
    printf '{"node": "%s"}\n' "$(uname -n)" | unlocked sh -c '. "$0/run.sh"; nodekit "$1" restore' "$FOLDER" "$sum"
}

holds() { [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$sum  -" ]; }

# For run.sh, where a disk has damaged the program.
copy_program() { replace "$target.copy" cp --reflink=never "$target" "$target.copy.new"; }

# The sum of the program with its modules compiled by this node's Python: a zipapp is otherwise compiled at each start, which takes
# as long as a check. run.sh starts it only where the sum is right; another Python compiles the modules in it itself (PEP 552).
# tomlkit, a third of it all, is loaded where a file of Kata's or containerd's is edited in place, and where Python has no tomllib.
compiled() {
    sha256sum 2>/dev/null <"$target.compiled" | cut -c 1-64
}

COMPILE='
import importlib.util, marshal, sys, zipfile
program = zipfile.ZipFile(sys.argv[1])
with zipfile.ZipFile(sys.argv[2], "w") as compiled:
    for name in program.namelist():
        text = program.read(name)
        compiled.writestr(name, text)
        if name.endswith(".py") and not (name.startswith("tomlkit/") and sys.version_info >= (3, 11)):
            code = compile(text, f"{sys.argv[1]}/{name}", "exec", dont_inherit=True)
            head = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(text)
            compiled.writestr(f"{name}c", head + marshal.dumps(code))
'

compile_program() {
    why=$(replace "$target.compiled" python3 -I -S -c "$COMPILE" "$target" "$target.compiled.new" 2>&1) &&
        compiled | record "$(basename "$target").compiled.sum"
}

# Prints the version of Python, so that it need not be started once more for that.
EXTRACT='
import sys, zipimport
text = zipimport.zipimporter(sys.argv[1]).get_data("nodekit/run.sh")
try:
    with open(sys.argv[2], "wb") as file:
        file.write(text)
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
print(".".join(map(str, sys.version_info[:3])))
'

put_run_script() { replace "$FOLDER/run.sh" python3 -I -S -c "$EXTRACT" "$target" "$FOLDER/run.sh.new"; }

install_program() {
    [ $# -ge 3 ] && [ $# -le 6 ] || fail "three to six arguments are needed, $# were given." "See the first lines of this script. [bad-input]"
    uploaded=$1 target=$2 sum=$3
    case $target in
        "$FOLDER"/nodekit-*.pyz) ;;
        *) fail "$target lies outside $FOLDER." "Use a path in it. [bad-input]" ;;
    esac
    take_lock
    refuse_other_stack "${4:-}"
    command -v apt-get >/dev/null 2>&1 ||
        fail "$(uname -n): there is no apt-get here." "Use Debian 12 or 13, or Ubuntu 22.04 or 24.04. [unsupported-os]"

    wanted=
    # The proof boots a guest from a static busybox (the dynamic one does not run there), and tries bubblewrap in it. Kata's release
    # archives are packed with zstd, which Python reads only from 3.14 on.
    for package in busybox-static bubblewrap zstd; do
        installed "$package" || wanted="$wanted $package"
    done
    tools=$wanted
    changed=false
    whole=yes
    python_is_whole || { whole= && wanted="python3$wanted"; }
    placing=yes
    install -d -o root -g root -m 0755 "$FOLDER"
    keep_script
    # shellcheck disable=SC2086 # lists of package names
    if [ -n "$wanted" ]; then
        case "$wanted " in *" busybox-static "*) record_busybox ;; esac
        [ -z "$tools" ] || record_packages $tools
        placing=
        install_packages $wanted
        changed=true
    fi
    [ -n "$whole" ] || python_is_whole || fail "$(uname -n): python3 lacks parts of its standard library." "Install the package python3 on the node. [tool-missing]"

    placing=yes
    if ! holds "$target"; then
        [ -f "$uploaded" ] ||
            fail "$(uname -n): $target is missing, and so is the upload $uploaded." "Send it again: pulumi up --replace with the URN of the node's -upload. [file-unreadable]"
        # Verified where only root writes: the upload is the login user's, who could change it between a check and the copy. And
        # where only root reads: in its place could be a link to what that user may not read.
        install -o root -g root -m 0600 "$uploaded" "$target.new"
        if ! holds "$target.new"; then
            rm -f "$target.new"
            fail "$(uname -n): the upload $uploaded does not have sha256 $sum." \
                "Send it again: pulumi up --replace with the URN of the node's -upload; if it happens again, check the disk. [file-invalid]"
        fi
        replace "$target" true
        changed=true
    fi
    record_owner "${4:-}" "${5:-}" "${6:-}"
    [ "${6:-}" = again ] || rm -f "$FOLDER/converged.json" # a resource that is created, and not updated, takes every step
    holds "$target.copy" || copy_program
    chmod 0644 "$target" "$target.copy" # what reads them as the login user finds neither otherwise
    [ -n "$(compiled)" ] && [ "$(compiled)" = "$(cat "$target.compiled.sum" 2>/dev/null)" ] || compile_program ||
        echo "bootstrap: the program could not be compiled, so each start of it takes longer: $(printf '%s\n' "$why" | tail -n 1)" >&2
    version=$(put_run_script)
    ln -sfn "$(basename "$target")" "$FOLDER/nodekit.pyz"
    # On the disk before this ends: a crash would otherwise leave empty files behind names that a stack takes for done.
    sync "$FOLDER" "$(dirname "$FOLDER")"
    placing=
    remove_old_programs
    rm -f "$uploaded" 2>/dev/null || : # then its owner does (become_root)
    printf '{"changed": %s, "path": "%s", "python": "%s"}\n' "$changed" "$target" "$version"
}

# Nothing runs before all of it is read, wherever it comes from.
if [ "${1:-}" = --remove ]; then
    # A stack of an earlier version had this done by a resource that goes when the stack is brought up with this one.
    echo "bootstrap: left as it is: the node goes with another resource of the stack now" >&2
    echo '{"changed": false}'
    exit
fi
if [ "$(id -u)" -ne 0 ]; then
    become_root "$@"
    exit
fi
if [ "${1:-}" = --undo ]; then remove "${2:-}" "${3:-}" </dev/null; else install_program "$@" </dev/null; fi
