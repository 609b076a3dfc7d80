#!/usr/bin/env bash
# Builds a release into dist/ (or NETMON_DIST): packages for OpenWrt and Debian, static agents, the source, and SHA256SUMS.
#
#   deploy/release.sh [PART...]     a part of it, of x86_64 aarch64 armv7 mipsel mips (static, for OpenWrt),
#                                   amd64 arm64 (for Debian; amd64=DIRECTORY packs the programs that are there) and
#                                   source (what is committed, as openwrt/Makefile wants it)
#
# Needs what openwrt/build.sh and deploy/build.sh need. Every version is that of Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/version.sh

dist=$(realpath -m "${NETMON_DIST:-dist}")
base=$(realpath -m "${CARGO_TARGET_DIR:-target}")
static=${NETMON_OUT:-$base/openwrt}
[ $# -gt 0 ] || set -- x86_64 aarch64 armv7 mipsel mips amd64 arm64 source
targets=() build=() debian=() source=
for part; do
    case $part in
    x86_64 | aarch64 | armv7 | mipsel | mips) targets+=("$part") ;;
    amd64 | arm64) build+=("$part") debian+=("$part=$base/debian/$part") ;;
    amd64=* | arm64=*) debian+=("$part") ;;
    source) source=1 ;;
    *)
        echo "release.sh: $part: expected nothing, or some of x86_64 aarch64 armv7 mipsel mips amd64 arm64 source" >&2
        exit 2
        ;;
    esac
done

# The one version that is written a second time, for OpenWrt's own build system.
grep -qx "PKG_VERSION:=$version" openwrt/Makefile ||
    { echo "release.sh: openwrt/Makefile: expected PKG_VERSION:=$version" >&2; exit 1; }
if [ -e "$dist" ] && [ -n "$(ls -A "$dist")" ]; then
    echo "release.sh: $dist: expected an empty directory, so that nothing of another release is in it" >&2
    exit 1
fi
mkdir -p "$dist"

if [ ${#targets[@]} -gt 0 ]; then
    NETMON_OUT=$static openwrt/build.sh "${targets[@]}"
    NETMON_OUT=$static NETMON_DIST=$dist openwrt/package.sh "${targets[@]}"
    for target in "${targets[@]}"; do
        install -m 755 "$static/$target/netmon-agent" "$dist/netmon-agent-$version-$target"
    done
fi
[ ${#build[@]} -eq 0 ] || NETMON_OUT=$base/debian deploy/build.sh "${build[@]}"
[ ${#debian[@]} -eq 0 ] || NETMON_DIST=$dist deploy/debian.sh "${debian[@]}"
[ -z "$source" ] || git archive --prefix="netmon-$version/" HEAD | gzip -9n >"$dist/netmon-$version.tar.gz"
sums=$(mktemp)
trap 'rm -f "$sums"' EXIT
(cd "$dist" && sha256sum -- * >"$sums" && install -m 644 "$sums" SHA256SUMS)
cat "$dist/SHA256SUMS"
