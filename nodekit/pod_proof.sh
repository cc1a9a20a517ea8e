#!/bin/sh
# Climbs the ladder in a pod, judges it as nodekit/rules/ladder.py does, and ends with one line as termination message.
#
# Lies beside ladder.sh, `verdicts` (a finding a line: key, code, title, cause and remedy, tabs between; "@" in a cause is what
# was seen) and `node-boot-id` (the boot id of the node's own kernel, which the API server knows and a guest does not share).
# Runs under busybox sh, dash and bash, writes no file but the message. Environment:
#   KATA_NODES_NODE     name of the node
#   KATA_NODES_EXPECT   parameters that the command line must have, escaped as ladder.sh escapes, a blank between
#   KATA_NODES_NESTED   1: a nested sandbox is promised, so its rungs count
#   KATA_NODES_MESSAGE  file of the message, /dev/termination-log when unset
set -u
LC_ALL=C
export LC_ALL
place=${0%/*}
nonce=kata-nodes
newline='
'
tab='	'
sandbox=' user-namespaces unshare unshare-map-root unshare-nested bwrap-proc bwrap-user loopback '
required='boot-id kernel command-line user-namespaces uid unshare unshare-map-root unshare-nested bwrap-proc bwrap-user
loopback bwrap-user-proc'

# done_with CODE TEXT: the message to the kubelet, and to the log, which it falls back to.
done_with() {
    printf '%s\n' "$2"
    { printf '%s\n' "$2" >"${KATA_NODES_MESSAGE:-/dev/termination-log}"; } 2>/dev/null
    exit "$1"
}

# plain ESCAPED: sets $plain, unescaped, on one line.
plain() {
    plain=
    rest=$1
    while :; do
        head=${rest%%%*}
        plain=$plain$head
        [ "$head" != "$rest" ] || break
        rest=${rest#"$head"%}
        case $rest in
            25*) plain=$plain% ;;
            *) plain="$plain " ;;
        esac
        rest=${rest#??}
    done
    set -f
    # shellcheck disable=SC2086 # split at blanks, so that one stands for many
    set -- $plain
    set +f
    plain=$*
}

# quoted ESCAPED: sets $quoted, at most 300 characters in quotes.
quoted() {
    plain "$1"
    if [ "${#plain}" -gt 300 ]; then plain=$(printf '%.299s' "$plain")…; fi
    case $plain in
        *\'*) quoted="\"$plain\"" ;;
        *) quoted="'$plain'" ;;
    esac
}

# line RUNG: sets $status, $value, $detail from the transcript; false when it has no such line.
line() {
    rest=${transcript#*"$nonce rung=$1 status="}
    [ "$rest" != "$transcript" ] || return 1
    rest=${rest%%"$newline"*}
    status=${rest%% *}
    rest=${rest#* value=}
    value=${rest%% detail=*}
    detail=${rest#* detail=}
}

# verdict KEY: sets $code, $title, $cause, $remedy.
verdict() {
    while IFS=$tab read -r key code title cause remedy; do
        [ "$key" != "$1" ] || return 0
    done <"$place/verdicts"
    done_with 1 "$KATA_NODES_NODE: the proof knows no verdict $1. Run the proof again with its own files. [proof-container-failed]"
}

# why DETAIL: sets $why, the kind of a command's failure.
why() {
    plain "$1"
    case $plain in
        *'No space left on device'* | *ENOSPC*) why=spent ;;
        *'Operation not permitted'* | *'Permission denied'*) why=forbidden ;;
        *'Invalid argument'* | *'not implemented'*) why=lacking ;;
        *) why=other ;;
    esac
}

# judge RUNG: sets $found to the kind of its failure, empty when it passed, and $seen to what "@" stands for.
judge() {
    found=
    seen=
    case $1 in
        boot-id)
            case $value in
                "$(cat "$place/node-boot-id")") found=node ;;
                ????????-????-????-????-????????????) ;;
                *) found=unread ;;
            esac
            ;;
        command-line)
            for token in ${KATA_NODES_EXPECT:-}; do
                case "%20$value%20" in
                    *"%20$token%20"*) ;;
                    *) seen="$seen%20$token" ;;
                esac
            done
            [ -z "$seen" ] || found=lacks
            ;;
        user-namespaces)
            case $status:$value in
                absent:*) found=absent ;;
                fail:*) found=unreadable ;;
                ok: | ok:*[!0-9]* | ok:???????????*) found=not-a-number ;;
                ok:2147483647) found=child ;;
                ok:*[!0]*) ;;
                *)
                    found=hardened
                    line command-line || value=
                    set -f
                    plain "$value"
                    for token in $plain; do
                        case $token in sysctl.user.max_user_namespaces=*) found=set seen=$token ;; esac
                    done
                    set +f
                    line user-namespaces
                    ;;
            esac
            ;;
        *)
            case $status in
                fail) why "$detail" && found=$why ;;
                absent) [ "$1" != unshare ] || found=absent ;;
            esac
            ;;
    esac
}

said=$(KATA_NODES_NONCE=$nonce sh "$place/ladder.sh" 2>&1)

# What is whole of it: up to its end, to a line that is none of the ladder's, or to a rung that was there already.
transcript=
names=
whole=
rest=$said$newline
while [ -n "$rest" ]; do
    one=${rest%%"$newline"*}
    rest=${rest#*"$newline"}
    case $one in
        "$nonce end")
            whole=1
            break
            ;;
        "$nonce rung="*' status=ok value='*' detail='* | "$nonce rung="*' status=fail value='*' detail='* | \
            "$nonce rung="*' status=absent value='*' detail='*)
            name=${one#*rung=}
            name=${name%% *}
            case ", $names, " in *", $name, "*) break ;; esac
            names="$names${names:+, }$name"
            transcript=$transcript$one$newline
            ;;
        "$nonce "*) break ;;
    esac
done

passed=
untried=
uncounted=
for rung in boot-id command-line user-namespaces unshare unshare-map-root unshare-nested bwrap-proc bwrap-user bwrap-user-proc \
    loopback; do
    line "$rung" || continue
    judge "$rung"
    if [ -z "$found" ]; then
        case $status in
            absent) untried="$untried${untried:+, }$rung" ;;
            *) passed="$passed${passed:+, }$rung" ;;
        esac
        continue
    fi
    counts=1
    if [ "$rung" = bwrap-user-proc ]; then counts=; fi # fails wherever paths of /proc are masked
    if [ "${KATA_NODES_NESTED:-}" != 1 ]; then case $sandbox in *" $rung "*) counts= ;; esac fi
    if [ -z "$counts" ]; then
        uncounted="$uncounted${uncounted:+, }$rung"
        continue
    fi
    verdict "$rung/$found"
    case $rung:$status in
        command-line:*) met='is not as expected' ;;
        *:absent) met='is absent' ;;
        *:fail) quoted "$detail" && met="said $quoted" ;;
        *) quoted "$value" && met="read $quoted" ;;
    esac
    plain "$seen"
    case $cause in *@*) cause=${cause%%@*}$plain${cause#*@} ;; esac
    done_with 1 "$KATA_NODES_NODE: rung $rung ($title) $met: $cause. $remedy. [$code]"
done

lacking=
for rung in $required; do
    line "$rung" || lacking="$lacking${lacking:+, }$rung"
done
if [ -n "$lacking" ] || [ -z "$whole" ]; then
    verdict transcript/incomplete
    what='has no end, or a garbled line'
    if [ -n "$lacking" ]; then what="lacks $lacking"; fi
    cause=${cause%%@*}$what${cause#*@}
    done_with 1 "$KATA_NODES_NODE: ${cause%%@*}${names:-none}${cause#*@}. $remedy. [$code]"
fi

line kernel
plain "$value"
kernel=$plain
line boot-id
boot=$value
line user-namespaces
done_with 0 "$KATA_NODES_NODE: proven: max_user_namespaces ${value:-unread}, guest kernel $kernel, boot id $boot; passed: \
${passed:-none}; not tried: ${untried:-none}; failed without counting: ${uncounted:-none}"
