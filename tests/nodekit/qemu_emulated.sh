#!/bin/sh
# QEMU for a machine without KVM: what Kata and the node program start it with, emulated instead.
for word; do
    shift
    case $word in
        kvm) word=tcg ;;
        host | host,*) word=max${word#host} ;;
        *,accel=kvm) word=${word%kvm}tcg ;;
        kvm-pit.*) word=mc146818rtc.lost_tick_policy=discard ;; # the clock that an emulated machine has
    esac
    set -- "$@" "$word"
done
exec /usr/bin/qemu-system-x86_64 "$@"
