# To be sourced at the root of the source: the one version, from Cargo.toml, and as each packager writes it.
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
[ -n "$version" ] || { echo "no version in Cargo.toml" >&2; exit 1; }
release=${NETMON_RELEASE:-1}
pre=${version#*-}
[ "$pre" != "$version" ] || pre=""
ipk_version=${version%%-*}${pre:+~${pre//./}}-r$release
apk_version=${version%%-*}${pre:+_${pre//./}}-r$release
deb_version=${version%%-*}${pre:+~$pre}-$release
# The time of every file in a package.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
