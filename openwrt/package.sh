#!/usr/bin/env bash
# Packs what openwrt/build.sh built: an .ipk for OpenWrt 24.10 and earlier, and an .apk for 25.12 and later.
#
#   openwrt/package.sh all | ARCH... | TARGET...
#
# ARCH is a name that `opkg print-architecture` or `apk --print-arch` prints, TARGET one of openwrt/build.sh: it stands for
# all names that its program runs on.
#
# No SDK: GNU tar and gzip make the .ipk, apk-tools (version 3, where it is on the PATH) the .apk. The same program
# gives the same bytes. The packages go to NETMON_DIST, by default target/dist.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/version.sh

built=${NETMON_OUT:-target/openwrt}
dist=${NETMON_DIST:-target/dist}
all="x86_64 aarch64_cortex-a53 aarch64_cortex-a72 aarch64_generic arm_cortex-a7_neon-vfpv4 arm_cortex-a9_vfpv3-d16
    mipsel_24kc mips_24kc"
depends="kmod-nf-conntrack-netlink kmod-nfnetlink-log"
description="Streams what a router hears (connections, drops, DNS) to netmon-server"
# Budgets, in bytes.
most_package=$((3 * 512 * 1024))
most_installed=$((3 * 1024 * 1024))
umask 022

target() {
    case $1 in
    x86_64) echo x86_64 ;;
    aarch64_*) echo aarch64 ;;
    arm_cortex-a7_neon-vfpv4 | arm_cortex-a9_vfpv3-d16) echo armv7 ;;
    mipsel_24kc) echo mipsel ;;
    mips_24kc) echo mips ;;
    *)
        echo "package.sh: $1: expected all, a target of build.sh, or one of" $all >&2
        return 2
        ;;
    esac
}

# opkg takes no pax headers and installs nothing then: gnu form, plain owners, one order, one time.
archive() {
    tar --format=gnu --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -C "$1" -cf - "${@:2}" |
        gzip -9n
}

stage_files() {
    local root=$1 program=$2
    install -d -m 755 "$root" "$root"/{etc,etc/config,etc/init.d,lib,lib/upgrade,lib/upgrade/keep.d}
    install -d -m 755 "$root"/{usr,usr/sbin,usr/share}
    install -d -m 700 "$root/etc/netmon-agent"
    install -m 755 "$program" "$root/usr/sbin/netmon-agent"
    install -m 755 openwrt/files/netmon-agent.init "$root/etc/init.d/netmon-agent"
    # It holds the token.
    install -m 600 openwrt/files/netmon-agent.config "$root/etc/config/netmon-agent"
    # "uci commit" writes the one above anew, without its comments. No directory of its own: opkg leaves those behind.
    install -m 644 openwrt/files/netmon-agent.config "$root/usr/share/netmon-agent.options"
    install -m 644 openwrt/files/netmon-agent.keep "$root/lib/upgrade/keep.d/netmon-agent"
}

# What opkg runs. default_postinst enables and starts; the init script itself looks at the option "enabled".
write_scripts() {
    local dir=$1
    cat >"$dir/postinst" <<'EOF'
#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
default_postinst $0 $@
EOF
    cat >"$dir/prerm" <<'EOF'
#!/bin/sh
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
# Rules that nobody listens to any more would stay in the firewall.
[ -n "${IPKG_INSTROOT}" ] || /etc/init.d/netmon-agent firewall_off
default_prerm $0 $@
EOF
    chmod 755 "$dir/postinst" "$dir/prerm"
}

make_ipk() {
    local arch=$1 root=$2 work=$3 out=$4
    mkdir -p "$work/control" "$work/outer"
    archive "$root" . >"$work/outer/data.tar.gz"
    cat >"$work/control/control" <<EOF
Package: netmon-agent
Version: $ipk_version
Depends: ${depends// /, }
Source: netmon
SourceName: netmon-agent
License: MIT
Section: net
Maintainer: netmon
Architecture: $arch
Installed-Size: $(gzip -dc "$work/outer/data.tar.gz" | wc -c)
Description: $description
EOF
    echo /etc/config/netmon-agent >"$work/control/conffiles"
    chmod 644 "$work/control/control" "$work/control/conffiles"
    write_scripts "$work/control"
    archive "$work/control" . >"$work/outer/control.tar.gz"
    echo 2.0 >"$work/outer/debian-binary"
    archive "$work/outer" ./debian-binary ./data.tar.gz ./control.tar.gz >"$out"
}

# opkg's script, with what apk does not tell.
apk_script() {
    printf '#!/bin/sh\n%s\n' "$2"
    tail -n +2 "$1"
}

make_apk() {
    local arch=$1 root=$2 work=$3 out=$4
    local meta=$root/lib/apk/packages
    install -d -m 755 "$root/lib/apk" "$meta"
    (cd "$root" && find . -type f ! -path './lib/apk/*' | sed 's/^\.//' | sort) >"$meta/netmon-agent.list"
    echo /etc/config/netmon-agent >"$meta/netmon-agent.conffiles"
    (cd "$root" && sha256sum etc/config/netmon-agent | sed 's|^\(.*\)  \(.*\)$|/\2 \1|') >"$meta/netmon-agent.conffiles_static"
    mkdir -p "$work/scripts"
    write_scripts "$work/scripts"
    local header='export root="${IPKG_INSTROOT}" pkgname=netmon-agent'
    apk_script "$work/scripts/postinst" "$header" >"$work/scripts/post-install"
    # default_postinst enables the service but on an upgrade: its owner may have disabled it.
    apk_script "$work/scripts/postinst" "$header PKG_UPGRADE=1" >"$work/scripts/post-upgrade"
    apk_script "$work/scripts/prerm" "$header" >"$work/scripts/pre-deinstall"
    find "$root" -exec touch -h -d "@$epoch" {} +
    SOURCE_DATE_EPOCH=$epoch ${APK_ROOT_COMMAND:-fakeroot} apk mkpkg --info name:netmon-agent --info "version:$apk_version" \
        --info "arch:$arch" --info "description:$description" --info license:MIT --info "depends:$depends" \
        --script "post-install:$work/scripts/post-install" --script "pre-deinstall:$work/scripts/pre-deinstall" \
        --script "post-upgrade:$work/scripts/post-upgrade" --files "$root" --output "$out"
}

[ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
[ "$1" != all ] || set -- $all
names=()
for word; do
    case $word in
    aarch64 | armv7 | mipsel | mips)
        for arch in $all; do [ "$(target "$arch")" != "$word" ] || names+=("$arch"); done
        ;;
    *)
        target "$word" >/dev/null
        names+=("$word")
        ;;
    esac
done
set -- "${names[@]}"
mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
printf '%-26s %10s %10s\n' package bytes installed
for arch; do
    program=$built/$(target "$arch")/netmon-agent
    if [ ! -x "$program" ]; then
        echo "package.sh: $program is not there: openwrt/build.sh $(target "$arch")" >&2
        exit 1
    fi
    root=$work/$arch/root
    mkdir -p "$work/$arch"
    stage_files "$root" "$program"
    installed=$(find "$root" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
    ipk=$dist/netmon-agent_${ipk_version}_$arch.ipk
    make_ipk "$arch" "$root" "$work/$arch" "$ipk"
    bytes=$(stat -c %s "$ipk")
    printf '%-26s %10d %10d\n' "$arch" "$bytes" "$installed"
    if [ "$bytes" -gt "$most_package" ] || [ "$installed" -gt "$most_installed" ]; then
        echo "package.sh: $arch: expected at most $most_package bytes, $most_installed installed" >&2
        failed=1
    fi
    if command -v apk >/dev/null; then
        make_apk "$arch" "$root" "$work/$arch" "$dist/netmon-agent-${apk_version}_$arch.apk"
    fi
done
command -v apk >/dev/null || echo "apk-tools is not on the PATH: no .apk was made"
exit $failed
