#!/usr/bin/env bash
# Builds a release into dist/ (or NETMON_DIST): packages for OpenWrt and Debian, static agents, and SHA256SUMS.
#
#   deploy/release.sh
#
# Needs what openwrt/build.sh and deploy/build.sh need. Every version is that of Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/version.sh

dist=$(realpath -m "${NETMON_DIST:-dist}")
targets="x86_64 aarch64 armv7 mipsel mips"
base=$(realpath -m "${CARGO_TARGET_DIR:-target}")

# The one version that is written a second time, for OpenWrt's own build system.
grep -qx "PKG_VERSION:=$version" openwrt/Makefile ||
    { echo "release.sh: openwrt/Makefile: expected PKG_VERSION:=$version" >&2; exit 1; }
if [ -e "$dist" ] && [ -n "$(ls -A "$dist")" ]; then
    echo "release.sh: $dist: expected an empty directory, so that nothing of another release is in it" >&2
    exit 1
fi
mkdir -p "$dist"

# shellcheck disable=SC2086
NETMON_OUT=$base/openwrt openwrt/build.sh $targets
NETMON_OUT=$base/debian deploy/build.sh amd64 arm64
NETMON_OUT=$base/openwrt NETMON_DIST=$dist openwrt/package.sh all
NETMON_DIST=$dist deploy/debian.sh "amd64=$base/debian/amd64" "arm64=$base/debian/arm64"
for target in $targets; do
    install -m 755 "$base/openwrt/$target/netmon-agent" "$dist/netmon-agent-$version-$target"
done
(cd "$dist" && sha256sum -- * >"$base/SHA256SUMS" && mv "$base/SHA256SUMS" .)
cat "$dist/SHA256SUMS"
