#!/usr/bin/env bash
# Builds the agent as one static program for OpenWrt's processors.
#
#   openwrt/build.sh all | TARGET...     of x86_64 aarch64 armv7 mipsel mips
#
# The programs go to OUT/TARGET/netmon-agent; OUT is target/openwrt, or NETMON_OUT. deploy/roads.sh says how they are
# built; NETMON_ROAD=N forces a road. A program that is not static is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/roads.sh

out=${NETMON_OUT:-target/openwrt}
jobs=${NETMON_JOBS:-$(nproc)}
# Budget of an installed package, in bytes.
most=$((3 * 1024 * 1024))

triple() {
    case $1 in
    x86_64) echo x86_64-unknown-linux-musl ;;
    aarch64) echo aarch64-unknown-linux-musl ;;
    armv7) echo armv7-unknown-linux-musleabihf ;;
    mipsel) echo mipsel-unknown-linux-musl ;;
    mips) echo mips-unknown-linux-musl ;;
    *)
        echo "build.sh: $1: expected all, x86_64, aarch64, armv7, mipsel or mips" >&2
        return 2
        ;;
    esac
}

build() {
    # A panic ends the process, so nothing is unwound, and the tables for it are an eighth of the program.
    local triple=$1 road=$2 flags="-C force-unwind-tables=no" std=std,panic_abort
    if [ "$road" = 3 ]; then
        flags+=" -C link-self-contained=no"
        case $triple in
        mips*)
            # A static-pie links for 32-bit mips, and crashes at its start.
            flags+=" -C relocation-model=static"
            # Its code is the longest: the words of panics would take most of the room that the budget leaves. A panic
            # ends the program here without them.
            flags+=" -Z unstable-options -C panic=immediate-abort"
            std=std
            ;;
        esac
    fi
    by_road "$road" "$flags" "$std -Z build-std-features=optimize_for_size" \
        -j"$jobs" --profile size --target "$triple" -p netmon-agent
}

[ $# -gt 0 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
[ "$1" != all ] || set -- x86_64 aarch64 armv7 mipsel mips
for target; do triple "$target" >/dev/null; done
failed=0
for target; do
    triple=$(triple "$target")
    road=$(road "$triple")
    echo "-- $target by road $road"
    # Each road has flags of its own, and other flags would build everything again.
    base=${CARGO_TARGET_DIR:-target}/static-$road
    CARGO_TARGET_DIR=$base CARGO_INCREMENTAL=0 build "$triple" "$road"
    mkdir -p "$out/$target"
    python3 openwrt/trim.py "$base/$triple/size/netmon-agent" "$out/$target/netmon-agent"
    kind=$(file -b "$out/$target/netmon-agent")
    case $kind in
    *"statically linked"* | *"static-pie linked"*) ;;
    *)
        echo "build.sh: $target: not static: $kind" >&2
        failed=1
        ;;
    esac
done

printf '%-10s %10s %10s\n' target bytes 'gzip -9'
for target; do
    bytes=$(stat -c %s "$out/$target/netmon-agent")
    printf '%-10s %10d %10d\n' "$target" "$bytes" "$(gzip -9 -c "$out/$target/netmon-agent" | wc -c)"
    if [ "$bytes" -gt "$most" ]; then
        echo "build.sh: $target: expected at most $most bytes" >&2
        failed=1
    fi
done
exit $failed
