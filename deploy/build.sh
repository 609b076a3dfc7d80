#!/usr/bin/env bash
# Builds both programs for Debian and its kin.
#
#   deploy/build.sh ARCH...     of amd64 arm64
#
# They go to OUT/ARCH; OUT is target/debian, or NETMON_OUT. deploy/roads.sh says how they are built.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/roads.sh

out=${NETMON_OUT:-target/debian}
jobs=${NETMON_JOBS:-$(nproc)}
# The oldest C library that they run with: that of Debian 11 and Ubuntu 20.04.
glibc=2.31

triple() {
    case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    *)
        echo "build.sh: $1: expected amd64 or arm64" >&2
        return 2
        ;;
    esac
}

[ $# -gt 0 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
for arch; do triple "$arch" >/dev/null; done
for arch; do
    triple=$(triple "$arch")
    road=$(road "$triple")
    echo "-- $arch by road $road"
    base=${CARGO_TARGET_DIR:-target}/debian-$road
    # cross has a C library of its own.
    [ "$road" = 2 ] && target=$triple || target=$triple.$glibc
    CARGO_TARGET_DIR=$base CARGO_INCREMENTAL=0 by_road "$road" "" std,panic_unwind \
        -j"$jobs" --release --target "$target" -p netmon-agent -p netmon-server --features netmon-server/postgres-tls
    mkdir -p "$out/$arch"
    for program in netmon-agent netmon-server; do
        install -m 755 "$base/$triple/release/$program" "$out/$arch/$program"
        ls -l "$out/$arch/$program" | awk '{ print $5, $9 }'
    done
done
