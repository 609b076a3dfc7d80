#!/usr/bin/env python3
"""Installs the packages in a copy of a clean root, upgrades, removes and purges them, and looks at the units.

    debian.py ROOT AGENT.deb SERVER.deb [OTHER.deb...]   ROOT: what debootstrap made, with adduser, systemd,
                                                         logrotate and dnsmasq-base; OTHER: for lintian alone
    debian.py --self-test ROOT AGENT.deb SERVER.deb  break a package in each way and see that it is noticed

Needs root, unshare, dpkg-deb, lintian, ip and dig; nft and iptables-restore for the examples of rules.
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import rotation
from clean_root import Defect, Root, expect, run

# Exposure of a unit, by `systemd-analyze security`.
MOST = {"netmon-agent": 3.0, "netmon-server": 2.0}
PROGRAMS = {"netmon-agent": "/usr/sbin/netmon-agent", "netmon-server": "/usr/bin/netmon-server"}
ENABLED = "etc/systemd/system/multi-user.target.wants"


def changed(package, directory, version, change):
    """The package under another version, with something changed in its files."""
    files = pathlib.Path(directory) / f"files-{version}"
    shutil.rmtree(files, ignore_errors=True)
    run("dpkg-deb", "-R", package, files)
    control = files / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.M))
    change(files)
    sums = [path for path in files.rglob("*") if path.is_file() and files / "DEBIAN" not in path.parents]
    lines = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(files)}\n" for path in sums)
    (files / "DEBIAN" / "md5sums").write_text("".join(lines))
    made = pathlib.Path(directory) / f"{os.path.basename(package).split('_')[0]}_{version}.deb"
    run("dpkg-deb", "--root-owner-group", "-Zxz", "-z0", "-b", files, made)
    return made


def test_lintian(packages):
    for package in packages:
        run("lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags", "no-manual-page", package)


def test_installation(root):
    for name in PROGRAMS:
        config = f"/etc/{name}/config.yaml"
        expect(root.mode(f"/etc/{name}"), f"750 root:{name}", "the directory of the configuration")
        expect(root.mode(config), f"640 root:{name}", "the configuration")
        expect(root.do(PROGRAMS[name], "--version").split()[0], name, "the program")
        user = root.do("getent", "passwd", name).strip().split(":")
        expect(user[5:], [f"/var/lib/{name}", "/usr/sbin/nologin"], "the user")
    # The shipped configuration is right as it is, and its user may read it.
    root.do("runuser", "-u", "netmon-agent", "--", PROGRAMS["netmon-agent"], "--check-config")
    enabled = sorted(path.name for path in (root.path / ENABLED).glob("netmon-*"))
    expect(enabled, ["netmon-server.service"], "what starts by itself")


def test_units(root):
    for name, most in MOST.items():
        unit = f"/usr/lib/systemd/system/{name}.service"
        expect(root.do("systemd-analyze", "verify", unit), "", f"systemd-analyze verify {name}")
        told = root.do("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
        exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)[1])
        if exposure > most:
            raise Defect(f"{name}: exposure {exposure}, expected at most {most}")
        text = (root.path / unit[1:]).read_text()
        lines = ("Type=notify", "Restart=always", "WatchdogSec=", "MemoryMax=", "ProtectSystem=strict")
        for line in (*lines, f"User={name}", f"StateDirectory={name}"):
            expect(line in text, True, f"{name}: {line}")
        allowed = re.findall(r"^(?:Ambient|CapabilityBounding)\w+=(.*)$", text, flags=re.M)
        if name == "netmon-agent":
            for line in ("RuntimeDirectory=netmon-agent", "RuntimeDirectoryPreserve=yes"):
                expect(line in text, True, f"a spool in memory: {line}")
        expect(allowed, ["CAP_NET_ADMIN" if name == "netmon-agent" else ""] * 2, f"capabilities of {name}")
        print(f"{name}: exposure {exposure} of at most {most}")


def test_rules(root):
    """The examples are taken by the tools that they are for, in a namespace of its own."""
    examples = root.path / "usr/share/doc/netmon-agent/examples"
    alone = ("unshare", "-n")
    run(*alone, "nft", "-c", "-f", examples / "nftables/netmon.nft")
    for program, version in (("iptables-restore", "v4"), ("ip6tables-restore", "v6")):
        rules = (examples / f"iptables/netmon-nflog.rules.{version}").read_text()
        subprocess.run([*alone, program, "--test"], input=rules, text=True, check=True)


def test_upgrades(root, packages, directory):
    edited, untouched = "netmon-agent", "netmon-server"
    config = root.path / f"etc/{edited}/config.yaml"
    mine = config.read_text() + "# edited by hand\nspool_max_bytes: 1048576\n"
    config.write_text(mine)

    def same(_):
        pass

    def new_default(files):
        for path in files.glob("etc/*/config.yaml"):
            path.write_text(path.read_text() + "# a newer default\n")

    for version, change in (("9.0-1", same), ("9.1-1", new_default)):
        root.install(*(changed(package, directory, version, change) for package in packages))
        expect(config.read_text(), mine, f"the edited configuration after {version}")
        for name in PROGRAMS:
            expect(root.mode(f"/etc/{name}/config.yaml"), f"640 root:{name}", f"the configuration after {version}")
    shipped = (root.path / f"etc/{untouched}/config.yaml").read_text()
    expect(shipped.endswith("# a newer default\n"), True, "a configuration that nobody edited is the newer one")


def test_removal(root, before, accounts):
    for name in PROGRAMS:
        spool = root.path / f"var/lib/{name}/spool"
        spool.mkdir(parents=True)
        (spool / "state").write_text("x")
        (root.path / f"etc/{name}/ca.pem").write_text("x")
    in_memory = root.path / "run/netmon-agent/spool"
    in_memory.mkdir(parents=True)
    root.do("dpkg", "-r", *PROGRAMS)
    for name in PROGRAMS:
        expect((root.path / PROGRAMS[name][1:]).exists(), False, "the program after its removal")
        for kept in (f"etc/{name}/config.yaml", f"var/lib/{name}/spool/state"):
            expect((root.path / kept).exists(), True, f"{kept} after the removal")
    expect(in_memory.exists(), True, "a spool in memory after the removal")
    root.do("dpkg", "-P", *PROGRAMS)
    after = root.tree()
    expect(in_memory.parent.exists(), False, "a spool in memory after a purge")
    left = {path: mode for path, mode in after.items() if before.get(path) != mode}
    expect(left, {}, "what a purge leaves behind")
    expect(set(before) - set(after), set(), "what a purge takes too much")
    expect(root.accounts(), accounts, "accounts after a purge")


def check(template, every):
    packages = every[:2]
    with Root(template) as root, tempfile.TemporaryDirectory() as directory:
        before, accounts = root.tree(), root.accounts()
        root.install(*packages)
        test_installation(root)
        test_units(root)
        test_rules(root)
        rotation.test_rotation(root)
        test_upgrades(root, packages, directory)
        test_removal(root, before, accounts)
    test_lintian(every)


def edit(inside, old, new):
    def change(files):
        path = files / inside
        text = path.read_text()
        assert old in text, f"{inside} has no {old!r}"
        path.write_text(text.replace(old, new))

    return change


UNIT = "usr/lib/systemd/system/netmon-agent.service"
LOOSE = "SystemCallFilter=\nPrivateDevices=no\nNoNewPrivileges=no\nRestrictNamespaces=no\nProtectKernelModules=no\n"
BREAKS = {
    "netmon-agent: exposure": edit(UNIT, "\n[Install]", f"{LOOSE}\n[Install]"),
    "systemd-analyze verify": edit(UNIT, "ProtectHome=yes", "ProtectHom=yes"),
    "capabilities of netmon-agent": edit(UNIT, "Capabilities=CAP_NET_ADMIN", "Capabilities=CAP_NET_ADMIN CAP_NET_RAW"),
    "netmon-agent: Type=notify": edit(UNIT, "Type=notify", "Type=exec"),
    "the configuration: expected '640": edit("DEBIAN/postinst", "chmod 0640", "chmod 0644"),
    "the edited configuration after": edit(
        "DEBIAN/postinst", "set -e\n", "set -e\nsed -i '/by hand/d' /etc/netmon-agent/config.yaml\n"
    ),
    "the edited configuration after 9": edit("DEBIAN/conffiles", "/etc/netmon-agent/config.yaml\n", ""),
    "what starts by itself": edit("DEBIAN/postinst", "update-state", "enable"),
    "what a purge leaves behind": edit("DEBIAN/postrm", "rm -rf /var/lib/netmon-agent", "rm -rf"),
    "a spool in memory after a purge": edit("DEBIAN/postrm", "/run/netmon-agent", ""),
    "a spool in memory: Runtime": edit(UNIT, "DirectoryPreserve=yes", "DirectoryPreserve=no"),
    "accounts after a purge": edit("DEBIAN/postrm", "deluser --system", ": deluser --system"),
    "unknown-section": edit("DEBIAN/control", "Section: net", "Section: nets"),
    "the log after a rotation": edit(rotation.EXAMPLE, "create 0640 dnsmasq adm", "create 0640 dnsmasq root"),
    "the logs that are kept": edit(rotation.EXAMPLE, "kill -USR2", ": -USR2"),
    "s: the agent tells of an answer": edit(rotation.EXAMPLE, "-m 640 -o dnsmasq", "-m 600 -o dnsmasq"),
    "nft": edit("usr/share/doc/netmon-agent/examples/nftables/netmon.nft", "group 10", "group ten"),
}


def self_test(template, packages):
    with tempfile.TemporaryDirectory() as directory:
        for expected, change in BREAKS.items():
            broken = changed(packages[0], directory, "0.0.1-1", change)
            try:
                check(template, [broken, packages[1]])
            except (Defect, subprocess.CalledProcessError) as defect:
                if expected not in str(defect):
                    sys.exit(f"{expected}: noticed something else: {defect}")
                print(f"noticed: {expected}")
            else:
                sys.exit(f"not noticed: {expected}")


def main():
    arguments = sys.argv[1:]
    task = check
    if arguments[:1] == ["--self-test"]:
        task, arguments = self_test, arguments[1:]
    template, *packages = arguments
    try:
        task(template, [os.path.realpath(package) for package in packages])
    except Defect as defect:
        sys.exit(f"debian.py: {defect}")
    print("debian: all as expected")


if __name__ == "__main__":
    main()
