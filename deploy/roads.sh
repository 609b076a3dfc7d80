# To be sourced at the root of the source: the roads to a program for another processor or C library. The first that is
# open is taken, or the one that NETMON_ROAD says:
#   1. rustup's standard library for the target, and cargo-zigbuild
#   2. cross and Docker (Cross.toml)
#   3. Debian's compiler with its source: the standard library is built on the way, zig links

# Where the line that is printed where no road is open puts zig and cargo-zigbuild.
tools=${NETMON_CROSS_TOOLS:-$HOME/.cache/netmon-cross}
zig_tools="ziglang==0.17.1 cargo-zigbuild==0.24.0"

with_tools() { PATH="$1$tools/bin:$PATH" PYTHONPATH="$tools${PYTHONPATH:+:$PYTHONPATH}" "${@:2}"; }
has_zigbuild() { with_tools "" cargo-zigbuild --version >/dev/null 2>&1; }
debian_source() { [ -x /usr/bin/cargo ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std" ]; }

# The road that is open for a triple.
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
$0: nothing here can build for $1. One of these makes it possible:
  rustup target add $1      (not for mips and mipsel), and the two lines at the end
  Docker, and cargo install cross
  on Debian 12 and later: apt-get install rustc-web cargo-web rust-web-src, and these:
    apt-get install python3-pip file make perl binutils
    python3 -m pip install --target $tools $zig_tools
EOF
        return 1
    fi
}

# by_road ROAD FLAGS STD ARGUMENT...: cargo's build by a road, with flags for rustc. STD are the crates of the standard
# library and what cargo should know of them, where it is built on the way.
by_road() {
    local road=$1 flags=$2 std=$3
    shift 3
    case $road in
    1) RUSTFLAGS="$flags" with_tools "" cargo zigbuild --locked "$@" ;;
    2) RUSTFLAGS="$flags" cross build --locked "$@" ;;
    3)
        # /usr/bin first: rustup's cargo has no source to build from.
        # shellcheck disable=SC2086
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" with_tools /usr/bin: cargo zigbuild --locked "$@" -Z build-std=$std
        ;;
    *)
        echo "NETMON_ROAD=$road: expected 1, 2 or 3" >&2
        return 2
        ;;
    esac
}
