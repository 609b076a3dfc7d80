#!/usr/bin/env python3
"""Looks at what deploy/release.sh made, with no part of what made it, and at what it refuses.

    release.py DIST              DIST: of a release, or of a part of one with packages for arm64
    release.py --self-test DIST  break a release in each way and see that it is noticed

Needs dpkg-deb, and the programs that deploy/debian.sh needs.
"""

import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib

TOP = pathlib.Path(__file__).resolve().parents[2]
# e_machine and byte order of an ELF file, as in elf.h.
MACHINES = {"amd64": (62, "little"), "arm64": (183, "little"), "x86_64": (62, "little"), "aarch64": (183, "little"),
            "armv7": (40, "little"), "mipsel": (8, "little"), "mips": (8, "big")}
# The names of OpenWrt that a program is for, by their beginning.
NAMES = {"x86_64": "x86_64", "aarch64_": "aarch64", "arm_": "armv7", "mipsel_": "mipsel", "mips_": "mips"}
PROGRAM = {"netmon-agent": "./usr/sbin/netmon-agent", "netmon-server": "./usr/bin/netmon-server"}


class Defect(Exception):
    """What a release has otherwise than it should."""


def expect(found, expected, what):
    if found != expected:
        raise Defect(f"{what}: expected {expected!r}, found {found!r}")


def version():
    with open(TOP / "Cargo.toml", "rb") as file:
        return tomllib.load(file)["workspace"]["package"]["version"]


def kind(program):
    order = "little" if program[5] == 1 else "big"
    return program[:4] == b"\x7fELF" and (int.from_bytes(program[18:20], order), order)


def says_its_version(program, name):
    """Where it runs on this machine."""
    if kind(program) != MACHINES["amd64"] or os.uname().machine != "x86_64":
        return
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, name)
        path.write_bytes(program)
        path.chmod(0o755)
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    expect(said.split()[:2], [name, version()], f"what {name} says")


def fields(control):
    lines = (line for line in control.decode().splitlines() if not line.startswith(" "))
    return dict(line.split(": ", 1) for line in lines)


def members(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: (member, tar.extractfile(member).read() if member.isreg() else b"") for member in tar}


def check_sums(dist):
    lines = (dist / "SHA256SUMS").read_text().splitlines()
    files = sorted(path.name for path in dist.iterdir() if path.name != "SHA256SUMS")
    expect(sorted(line.split("  ")[1] for line in lines), files, "the files of SHA256SUMS")
    for line in lines:
        told, name = line.split("  ")
        expect(hashlib.sha256((dist / name).read_bytes()).hexdigest(), told, f"the sum of {name}")


def check_ipk(path, programs):
    name = re.fullmatch(r"netmon-agent_(.+-r1)_(.+)\.ipk", path.name)
    expect(bool(name), True, f"a name such as netmon-agent_0.1.0-r1_x86_64.ipk: {path.name}")
    expect(name[1], version().replace("-", "~", 1) + "-r1", f"the version of {path.name}")
    outer = members(path.read_bytes())
    control = fields(members(outer["./control.tar.gz"][1])["./control"][1])
    expect((control["Version"], control["Architecture"]), (name[1], name[2]), f"what {path.name} says of itself")
    target = next(target for begin, target in NAMES.items() if name[2].startswith(begin))
    program = members(outer["./data.tar.gz"][1])["./usr/sbin/netmon-agent"][1]
    expect(program == programs.get(target), True, f"the program of {path.name} is that of {target}")


def check_deb(path, layouts):
    name = re.fullmatch(r"(netmon-(?:agent|server))_(.+)_(amd64|arm64)\.deb", path.name)
    expect(bool(name), True, f"a name such as netmon-agent_0.1.0-1_amd64.deb: {path.name}")
    package, arch = name[1], name[3]
    expect(name[2], version().replace("-", "~", 1) + "-1", f"the version of {path.name}")
    extract = lambda option: members(subprocess.run(["dpkg-deb", option, path], capture_output=True, check=True).stdout)
    meta, files = extract("--ctrl-tarfile"), extract("--fsys-tarfile")
    control = fields(meta["./control"][1])
    told = tuple(control[field] for field in ("Package", "Version", "Architecture"))
    expect(told, name.groups(), f"what {path.name} says of itself")
    program = files[PROGRAM[package]][1]
    expect(kind(program), MACHINES[arch], f"the processor of the program in {path.name}")
    says_its_version(program, package)
    wanted = max(tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_(2[0-9.]+)\0", program))
    depends = f"adduser, libc6 (>= {'.'.join(map(str, wanted))})"
    expect(control["Depends"], depends, f"what {path.name} depends on")
    kib = sum((member.size + 1023) // 1024 for member, _ in files.values())
    size = int(control["Installed-Size"])
    # What a directory takes is up to the file system.
    expect(kib <= size <= kib + 4 * len(files), True, f"the size that {path.name} tells, {size} of {kib} KiB")
    for conffile in meta["./conffiles"][1].decode().split():
        expect("." + conffile in files, True, f"{path.name} has its {conffile}")
    sums = dict(reversed(line.split("  ")) for line in meta["./md5sums"][1].decode().splitlines())
    found = {member.name[2:]: hashlib.md5(body).hexdigest() for member, body in files.values() if member.isreg()}
    expect(sums, found, f"md5sums of {path.name}")
    # All processors have the same files, but for the program.
    scripts = {name: body for name, (_, body) in meta.items() if name not in ("./control", "./md5sums")}
    other = {name: body for name, (_, body) in files.items() if name != PROGRAM[package]}
    modes = {name: (member.mode, member.uid, member.gid, member.type) for name, (member, _) in files.items()}
    layout = layouts.setdefault(package, (scripts, other, modes))
    expect((scripts, other, modes) == layout, True, f"{path.name} has the files of its other processors")


def check(dist):
    check_sums(dist)
    programs = {}
    for path in sorted(dist.glob("netmon-agent-*")):
        if path.suffix != ".apk":
            target = path.name.removeprefix(f"netmon-agent-{version()}-")
            expect(target in MACHINES, True, f"a static program of this version: {path.name}")
            programs[target] = path.read_bytes()
            expect(kind(programs[target]), MACHINES[target], f"the processor of {path.name}")
            says_its_version(programs[target], "netmon-agent")
    packages = {path: path.suffix for path in sorted(dist.iterdir())}
    for path in (path for path, suffix in packages.items() if suffix == ".ipk"):
        check_ipk(path, programs)
    source = members((dist / f"netmon-{version()}.tar.gz").read_bytes())
    wanted = {f"netmon-{version()}/{name}" for name in ("Cargo.toml", "Cargo.lock", "LICENSE", "agent/src/main.rs")}
    expect(wanted - set(source), set(), "what the source lacks")
    layouts = {}
    for path in (path for path, suffix in packages.items() if suffix == ".deb"):
        check_deb(path, layouts)
    print(f"release: {len(packages)} files, all as expected")


def release(top, dist, *parts):
    command = [top / "deploy/release.sh", *parts]
    environment = {**os.environ, "NETMON_DIST": str(dist), "SOURCE_DATE_EPOCH": "1", "DPKG_DEB_COMPRESSOR_LEVEL": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def check_refusals(dist):
    """In a copy of the source, with the programs of a package for Debian."""
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        top, programs, made = work / "top", work / "programs", work / "made"
        for name in ("deploy", "openwrt"):
            shutil.copytree(TOP / name, top / name)
        for name in ("Cargo.toml", "CHANGELOG.md", "LICENSE"):
            shutil.copy(TOP / name, top / name)
        programs.mkdir()
        for package, inside in PROGRAM.items():
            deb = next(dist.glob(f"{package}_*_arm64.deb"))
            subprocess.run(["dpkg-deb", "-x", deb, work / package], check=True)
            shutil.copy(work / package / inside, programs / package)

        def refused(words, code, *parts):
            done = release(top, made, *parts)
            expect((done.returncode, words in done.stderr), (code, True), f"refused with {words!r}: {done.stderr}")

        part = f"arm64={programs}"
        refused("expected nothing, or some of", 2, part, "sparc")
        refused("expected a program for amd64", 1, f"amd64={programs}")
        shutil.rmtree(made)
        manifest, makefile = top / "Cargo.toml", top / "openwrt/Makefile"
        manifest.write_text(manifest.read_text().replace(f'version = "{version()}"', 'version = "7.8.9-rc.1"', 1))
        refused("openwrt/Makefile: expected PKG_VERSION:=7.8.9-rc.1", 1, part)
        expect(made.exists(), False, "what a refusal leaves behind")
        makefile.write_text(makefile.read_text().replace(f"PKG_VERSION:={version()}", "PKG_VERSION:=7.8.9-rc.1"))
        done = release(top, made, part)
        expect(done.returncode, 0, f"a release of another version: {done.stderr}")
        names = sorted(path.name for path in made.iterdir())
        debs = [f"netmon-{program}_7.8.9~rc.1-1_arm64.deb" for program in ("agent", "server")]
        expect(names, ["SHA256SUMS", *debs], "a release candidate")
        refused("expected an empty directory", 1, part)
    print("release: refuses what it should")


def rebuilt(dist, change):
    """Takes the first package for arm64 apart, changes it, and packs it and the sums again."""
    deb = next(dist.glob("netmon-agent_*_arm64.deb"))
    with tempfile.TemporaryDirectory() as directory:
        files = pathlib.Path(directory, "files")
        subprocess.run(["dpkg-deb", "-R", deb, files], check=True)
        change(files)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-z0", "-b", files, deb], check=True, capture_output=True)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(dist.iterdir())
             if path.name != "SHA256SUMS"]
    (dist / "SHA256SUMS").write_text("".join(lines))


def told_otherwise(old, new):
    def change(files):
        path = files / "DEBIAN/control"
        assert re.search(old, path.read_text()), old
        path.write_text(re.sub(old, new, path.read_text()))

    return lambda dist: rebuilt(dist, change)


def other_program(files):
    shutil.copy("/bin/true", files / PROGRAM["netmon-agent"])


BREAKS = {
    "the files of SHA256SUMS": lambda dist: (dist / "more").touch(),
    "the sum of netmon-server": lambda dist: next(dist.glob("netmon-server_*_arm64.deb")).open("ab").write(b"x"),
    "what netmon-agent_": told_otherwise("Version: .*", "Version: 9.9.9-1"),
    "depends on": told_otherwise(r"libc6 \(>= .*\)", "libc6 (>= 2.1)"),
    "the size that": told_otherwise("Installed-Size: .*", "Installed-Size: 1"),
    "the processor of the program": lambda dist: rebuilt(dist, other_program),
    "md5sums of": lambda dist: rebuilt(dist, lambda files: (files / "etc/netmon-agent/config.yaml").write_text("#")),
    "has the files of its other processors": lambda dist: rebuilt(
        dist, lambda files: (files / "DEBIAN/prerm").write_text("#!/bin/sh\n")
    ),
}


def main():
    dist = pathlib.Path(sys.argv[-1]).resolve()
    try:
        if sys.argv[1] != "--self-test":
            check(dist)
            return check_refusals(dist)
        for expected, change in BREAKS.items():
            with tempfile.TemporaryDirectory() as directory:
                broken = pathlib.Path(directory, "dist")
                shutil.copytree(dist, broken)
                change(broken)
                try:
                    check(broken)
                except Defect as defect:
                    if expected not in str(defect):
                        sys.exit(f"{expected}: noticed something else: {str(defect)[:500]}")
                    print(f"noticed: {expected}")
                else:
                    sys.exit(f"not noticed: {expected}")
    except Defect as defect:
        sys.exit(f"release.py: {str(defect)[:2000]}")


if __name__ == "__main__":
    main()
