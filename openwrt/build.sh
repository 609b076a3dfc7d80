#!/usr/bin/env bash
# Builds the agent as one static program for OpenWrt's processors.
#
#   openwrt/build.sh all | TARGET...     of x86_64 aarch64 armv7 mipsel mips
#
# The programs go to OUT/TARGET/netmon-agent; OUT is target/openwrt, or NETMON_OUT. Three roads, the first that is
# open for a target is taken:
#   1. rustup's standard library for the target, and cargo-zigbuild
#   2. cross and Docker (Cross.toml)
#   3. Debian's compiler with its source: the standard library is built on the way, zig links
# NETMON_ROAD=N forces one. A program that is not static is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${NETMON_OUT:-target/openwrt}
jobs=${NETMON_JOBS:-$(nproc)}
# Where the line that road 4 prints puts zig and cargo-zigbuild.
tools=${NETMON_CROSS_TOOLS:-$HOME/.cache/netmon-cross}
zig_tools="ziglang==0.17.1 cargo-zigbuild==0.24.0"
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

with_tools() { PATH="$1$tools/bin:$PATH" PYTHONPATH="$tools${PYTHONPATH:+:$PYTHONPATH}" "${@:2}"; }
has_zigbuild() { with_tools "" cargo-zigbuild --version >/dev/null 2>&1; }
debian_source() { [ -x /usr/bin/cargo ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std" ]; }

# The first road that is open for a triple.
road() {
    [ -z "${NETMON_ROAD:-}" ] || { echo "$NETMON_ROAD"; return; }
    if has_zigbuild && compgen -G "$(rustc --print sysroot)/lib/rustlib/$1/lib/libstd-*.rlib" >/dev/null; then
        echo 1
    elif command -v cross >/dev/null && docker info >/dev/null 2>&1; then
        echo 2
    elif has_zigbuild && debian_source; then
        echo 3
    else
        cat >&2 <<EOF
build.sh: nothing here can build for $1. One of these makes it possible:
  rustup target add $1      (not for mips and mipsel)
      and python3 -m pip install --target $tools $zig_tools
  Docker, and cargo install cross
  on Debian 12 and later: apt-get install rustc-web cargo-web rust-web-src
      and python3 -m pip install --target $tools $zig_tools
EOF
        return 1
    fi
}

build() {
    # A panic ends the process, so nothing is unwound, and the tables for it are an eighth of the program.
    local triple=$1 road=$2 tables="-C force-unwind-tables=no"
    local flags="-C link-self-contained=no $tables"
    local args=(-j"$jobs" --locked --profile size --target "$triple" -p netmon-agent)
    case $road in
    1) RUSTFLAGS="$tables" with_tools "" cargo zigbuild "${args[@]}" ;;
    2) cross build "${args[@]}" ;;
    3)
        local std=std,panic_abort
        case $triple in
        mips*)
            # A static-pie links for 32-bit mips, and crashes at its start.
            flags+=" -C relocation-model=static"
            # Its code is the longest. A panic ends the program here without a word, which is a fifth of it.
            flags+=" -Z unstable-options -C panic=immediate-abort"
            std=std
            ;;
        esac
        # /usr/bin first: rustup's cargo has no source to build from.
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" with_tools /usr/bin: \
            cargo zigbuild "${args[@]}" -Z build-std=$std -Z build-std-features=optimize_for_size
        ;;
    *)
        echo "build.sh: NETMON_ROAD=$road: expected 1, 2 or 3" >&2
        return 2
        ;;
    esac
}

[ $# -gt 0 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
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
    install -m 755 "$base/$triple/size/netmon-agent" "$out/$target/netmon-agent"
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
