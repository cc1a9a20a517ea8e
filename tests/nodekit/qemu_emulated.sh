#!/bin/sh
# QEMU for a machine without KVM: the guests that the node program asks KVM for are emulated, by the same kernel and RAM disk.
for word; do
    shift
    case $word in
        kvm) word=tcg ;;
        host) word=max ;;
    esac
    set -- "$@" "$word"
done
exec /usr/bin/qemu-system-x86_64 "$@"
