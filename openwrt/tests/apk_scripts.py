#!/usr/bin/env python3
"""The scripts that package.sh hands to apk, and what they ask of OpenWrt's functions. Needs busybox and no apk:
a stand-in keeps what mkpkg is given.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "package.sh"
# Keeps FILE of each `--script NAME:FILE`.
APK = """#!/bin/sh
while [ $# -gt 0 ]; do
    [ "$1" != --script ] || cp "${2#*:}" "$SCRIPTS/${2%%:*}"
    shift
done
"""
FUNCTIONS = """
default_postinst() { echo "postinst of $pkgname, PKG_UPGRADE=${PKG_UPGRADE-}"; }
default_prerm() { echo "prerm of $pkgname, PKG_UPGRADE=${PKG_UPGRADE-}"; }
"""
EXPECTED = {
    "post-install": "postinst of netmon-agent, PKG_UPGRADE=\n",
    # What its owner disabled is not enabled again.
    "post-upgrade": "postinst of netmon-agent, PKG_UPGRADE=1\n",
    "pre-deinstall": "prerm of netmon-agent, PKG_UPGRADE=\n",
}


def put(path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)


def main():
    with tempfile.TemporaryDirectory(prefix="netmon-apk-") as directory:
        top = pathlib.Path(directory)
        (top / "scripts").mkdir()
        put(top / "bin" / "apk", APK)
        put(top / "built" / "x86_64" / "netmon-agent", "#!/bin/sh\n")
        put(top / "root" / "lib" / "functions.sh", FUNCTIONS)
        environment = {
            "PATH": f"{top}/bin:{os.environ['PATH']}", "SCRIPTS": str(top / "scripts"), "APK_ROOT_COMMAND": "env",
            "NETMON_OUT": str(top / "built"), "NETMON_DIST": str(top / "dist"), "IPKG_INSTROOT": str(top / "root"),
        }
        subprocess.run([PACKAGE, "x86_64"], env=environment, check=True, stdout=subprocess.DEVNULL)
        found = {}
        for script in (top / "scripts").iterdir():
            command = ["busybox", "ash", str(script)]
            found[script.name] = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True).stdout
        if found != EXPECTED:
            sys.exit(f"expected {EXPECTED}, found {found}")
    print("apk scripts: as expected")


if __name__ == "__main__":
    main()
