#!/bin/sh
# Runs a command on many hosts at once by plain ssh, one connection each; the floor of what any tool can do.
#   parallel_ssh.sh CONFIG FOLDER COMMAND HOST...
# Each gets FOLDER/HOST.in on standard input, and FOLDER/HOST.out holds what it prints. Fails if one does.
set -eu
config=$1 folder=$2 command=$3
shift 3
started=
for host in "$@"; do
    ssh -F "$config" "$host" "$command" <"$folder/$host.in" >"$folder/$host.out" 2>&1 &
    started="$started $!"
done
failed=0
for process in $started; do
    wait "$process" || failed=1
done
exit "$failed"
