#!/usr/bin/env bash
# Packs both programs for Debian and its kin: netmon-agent and netmon-server.
#
#   deploy/debian.sh ARCH=DIRECTORY...     ARCH: amd64 or arm64; DIRECTORY has the programs
#
# dpkg-deb alone makes the packages. The same programs give the same bytes. They go to NETMON_DIST, by default target/dist.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/version.sh

dist=${NETMON_DIST:-target/dist}
maintainer="netmon maintainers <netmon@netmon.invalid>"
umask 022

put() { install -D -m "$1" "$2" "$3"; }
packed() { install -d "$(dirname "$2")" && gzip -9n <"$1" >"$2" && chmod 644 "$2"; }

# The oldest glibc that has all that a program asks for.
glibc() { objdump -T "$1" | sed -n 's/.*GLIBC_\([0-9.]*\)).*/\1/p' | sort -V | tail -1; }

# A program for another processor, or one without a C library, would make a package that nobody can use.
fits() {
    local program=$1 arch=$2 machine
    # e_machine of elf.h, of a file whose bytes are in the order of both processors.
    machine=$(od -An -tu2 --endian=little -j18 -N2 "$program" | tr -d ' ')
    case $arch:$machine in
    amd64:62 | arm64:183) ;;
    *)
        echo "debian.sh: $program: expected a program for $arch" >&2
        return 1
        ;;
    esac
    [ -n "$(glibc "$program")" ] || { echo "debian.sh: $program: expected a program that is linked with glibc" >&2; return 1; }
}

documents() {
    local name=$1 root=$2 doc=$2/usr/share/doc/$1
    put 644 "deploy/debian/$name.README.Debian" "$doc/README.Debian"
    put 644 "deploy/debian/$name.lintian-overrides" "$root/usr/share/lintian/overrides/$name"
    packed CHANGELOG.md "$doc/changelog.gz"
    printf 'netmon (%s) unstable; urgency=medium\n\n  * Packaged; what changed is in changelog.gz.\n\n -- %s  %s\n' \
        "$deb_version" "$maintainer" "$(date -u -R -d "@$epoch")" >"$work/changelog"
    packed "$work/changelog" "$doc/changelog.Debian.gz"
    {
        echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
        printf '\nFiles: *\nCopyright: %s\nLicense: MIT\n' "$(sed -n 's/^Copyright (c) //p' LICENSE)"
        sed -n '/^Permission/,$p' LICENSE | sed 's/^$/./; s/^/ /'
    } >"$work/copyright"
    put 644 "$work/copyright" "$doc/copyright"
}

fill_agent() {
    local root=$1 examples=$1/usr/share/doc/netmon-agent/examples
    put 755 "$2/netmon-agent" "$root/usr/sbin/netmon-agent"
    put 640 deploy/netmon-agent.example.yaml "$root/etc/netmon-agent/config.yaml"
    put 644 deploy/nftables/netmon.nft "$examples/nftables/netmon.nft"
    put 644 deploy/iptables/netmon-nflog.rules.v4 "$examples/iptables/netmon-nflog.rules.v4"
    put 644 deploy/iptables/netmon-nflog.rules.v6 "$examples/iptables/netmon-nflog.rules.v6"
    put 644 deploy/logrotate/netmon-dnsmasq "$examples/logrotate/netmon-dnsmasq"
}

fill_server() {
    put 755 "$2/netmon-server" "$1/usr/bin/netmon-server"
    put 640 deploy/netmon-server.example.yaml "$1/etc/netmon-server/config.yaml"
}

describe_agent() {
    echo "Suggests: nftables | iptables, dnsmasq, netmon-server"
    echo "Description: streams what a router hears to netmon-server"
    echo " Runs on a router, hears every connection from the kernel, what the firewall"
    echo " drops and what DNS answers, and streams it to netmon-server. Survives outages"
    echo " with a spool on disk."
}

describe_server() {
    echo "Suggests: netmon-agent, postgresql"
    echo "Description: keeps what netmon agents hear and shows it to a browser"
    echo " Shows who on a network talks to whom, how much, and since when. Keeps every"
    echo " connection in SQLite or Postgres, counted once, and serves a live page to a"
    echo " browser on the LAN."
}

pack() {
    local name=$1 arch=$2 from=$3 root=$work/$1_$2 program
    "fill_${name#netmon-}" "$root" "$from"
    chmod 750 "$root/etc/$name"
    program=$(find "$root/usr" -name "$name" -type f -perm -100)
    put 644 "deploy/systemd/$name.service" "$root/usr/lib/systemd/system/$name.service"
    documents "$name" "$root"
    install -d "$root/DEBIAN"
    install -m 755 "deploy/debian/$name.postinst" "$root/DEBIAN/postinst"
    install -m 755 "deploy/debian/$name.prerm" "$root/DEBIAN/prerm"
    install -m 755 "deploy/debian/$name.postrm" "$root/DEBIAN/postrm"
    echo "/etc/$name/config.yaml" >"$root/DEBIAN/conffiles"
    (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    {
        echo "Package: $name"
        echo "Source: netmon"
        echo "Version: $deb_version"
        echo "Architecture: $arch"
        echo "Maintainer: $maintainer"
        echo "Installed-Size: $(find "$root" ! -path '*/DEBIAN*' -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')"
        echo "Depends: adduser, libc6 (>= $(glibc "$program"))"
        echo "Section: net"
        echo "Priority: optional"
        "describe_${name#netmon-}"
    } >"$root/DEBIAN/control"
    chmod 644 "$root"/DEBIAN/{control,conffiles,md5sums}
    # Threads of xz would show in the bytes.
    SOURCE_DATE_EPOCH=$epoch dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$root" \
        "$dist/${name}_${deb_version}_$arch.deb" >/dev/null
    ls -l "$dist/${name}_${deb_version}_$arch.deb" | awk '{ print $5, $9 }'
}

[ $# -gt 0 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for each; do
    arch=${each%%=*} from=${each#*=}
    case $arch in
    amd64 | arm64) ;;
    *)
        echo "debian.sh: $each: expected amd64=DIRECTORY or arm64=DIRECTORY" >&2
        exit 2
        ;;
    esac
    for name in netmon-agent netmon-server; do fits "$from/$name" "$arch"; done
    for name in netmon-agent netmon-server; do pack "$name" "$arch" "$from"; done
done
