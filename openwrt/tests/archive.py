#!/usr/bin/env python3
"""Reads an .ipk with no part of what made it, and says what opkg would stumble over.

    archive.py FILE.ipk...      check packages: a line per defect, exit code 1 if there is one
    archive.py --self-test FILE.ipk   break a package in each way and see that the check notices
"""

import gzip
import io
import sys
import tarfile

BLOCK = 512
MODES = {
    "./usr/sbin/netmon-agent": 0o755,
    "./etc/init.d/netmon-agent": 0o755,
    "./etc/config/netmon-agent": 0o600,
    "./lib/upgrade/keep.d/netmon-agent": 0o644,
    "./etc/netmon-agent": 0o700,
    "./usr/share/netmon-agent.options": 0o644,
}
SCRIPTS = ("./postinst", "./prerm")
FORBIDDEN = ("./tmp", "./var", "./dev", "./proc", "./sys")


def raw_headers(data):
    """The type and format of each header, by the bytes of POSIX.1-1988 and nothing else."""
    at = 0
    while at + BLOCK <= len(data) and data[at] != 0:
        header = data[at : at + BLOCK]
        size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
        yield chr(header[156] or ord("0")), header[257:263]
        at += BLOCK + (size + BLOCK - 1) // BLOCK * BLOCK


def unpack(name, packed, defects):
    """The uncompressed tar and its members."""
    if packed[:2] != b"\x1f\x8b":
        defects.append(f"{name}: not gzip")
        return b"", {}
    if packed[4:8] != b"\0\0\0\0":
        defects.append(f"{name}: gzip keeps a time: two builds differ")
    data = gzip.decompress(packed)
    for kind, magic in raw_headers(data):
        if kind in "xg":
            defects.append(f"{name}: a pax header: opkg installs nothing and says nothing")
        elif kind not in "05":
            defects.append(f"{name}: a member of type {kind!r}")
        if magic not in (b"ustar ", b"ustar\0"):
            defects.append(f"{name}: neither ustar nor gnu form: {magic!r}")
    members = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            path = member.name if member.name == "." else "./" + member.name.removeprefix("./")
            if path in members:
                defects.append(f"{name}: {path} is there twice")
            if (member.uid, member.gid) != (0, 0):
                defects.append(f"{name}: {path} belongs to {member.uid}:{member.gid}, not to 0:0")
            if member.uname not in ("", "root") or member.gname not in ("", "root"):
                defects.append(f"{name}: {path} belongs to {member.uname}:{member.gname} by name")
            body = tar.extractfile(member).read() if member.isreg() else None
            members[path] = (member, body)
    return data, members


def check(package):
    """What is wrong with the bytes of a package."""
    defects = []
    _, outer = unpack("outer", package, defects)
    wanted = ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]
    if list(outer) != wanted:
        return defects + [f"outer: expected {wanted}, found {list(outer)}"]
    if outer["./debian-binary"][1] != b"2.0\n":
        defects.append("outer: debian-binary is not 2.0")
    data, files = unpack("data", outer["./data.tar.gz"][1], defects)
    _, control = unpack("control", outer["./control.tar.gz"][1], defects)

    for path in files:
        parent = path.rpartition("/")[0]
        if parent not in ("", ".") and parent not in files:
            defects.append(f"data: {path} has no entry for its directory {parent}")
        if path.startswith(FORBIDDEN):
            defects.append(f"data: {path} would overwrite a directory of the system")
    for path, (member, _) in files.items():
        mode = MODES.get(path, 0o755 if member.isdir() else None)
        if mode is None:
            defects.append(f"data: {path} is not expected")
        elif member.mode != mode:
            defects.append(f"data: {path} has the mode {member.mode:o}, not {mode:o}")
    defects.extend(f"data: {path} is missing" for path in MODES if path not in files)
    # What "uci commit" takes out of the one is still in the other.
    bodies = {files.get(path, (None, None))[1] for path in ("./etc/config/netmon-agent", "./usr/share/netmon-agent.options")}
    if len(bodies) != 1:
        defects.append("data: the options are not explained as in the configuration")

    for script in SCRIPTS:
        if script not in control:
            defects.append(f"control: {script} is missing")
        elif control[script][0].mode != 0o755:
            defects.append(f"control: {script} has the mode {control[script][0].mode:o}, not 755")
        elif not control[script][1].startswith(b"#!/bin/sh\n"):
            defects.append(f"control: {script} does not begin with #!/bin/sh")
    for conffile in control.get("./conffiles", (None, b""))[1].decode().split():
        if "." + conffile not in files:
            defects.append(f"control: the conffile {conffile} is not in the data")
    fields = dict(
        line.split(": ", 1) for line in control["./control"][1].decode().splitlines() if not line.startswith(" ")
    )
    for field in ("Package", "Version", "Depends", "Section", "Architecture", "Description", "License", "Maintainer"):
        if not fields.get(field):
            defects.append(f"control: no {field}")
    if fields.get("Installed-Size") != str(len(data)):
        defects.append(f"control: Installed-Size is {fields.get('Installed-Size')}, the data has {len(data)} bytes")
    return defects


def pack(members, form=tarfile.GNU_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member, body in members.values():
            tar.addfile(member, io.BytesIO(body) if body is not None else None)
    return gzip.compress(out.getvalue(), mtime=0)


def rebuilt(package, change, data_form=tarfile.GNU_FORMAT):
    """The package with one thing changed, everything that follows from it left as it was."""
    ignored = []
    _, outer = unpack("outer", package, ignored)
    _, files = unpack("data", outer["./data.tar.gz"][1], ignored)
    _, control = unpack("control", outer["./control.tar.gz"][1], ignored)
    for members in (outer, files, control):
        for path, (member, _) in members.items():
            member.name = path
    change(files, control)
    for name, members, form in (("data", files, data_form), ("control", control, tarfile.GNU_FORMAT)):
        member, _ = outer[f"./{name}.tar.gz"]
        body = pack(members, form)
        member.size = len(body)
        outer[f"./{name}.tar.gz"] = (member, body)
    return pack(outer)


def replace(members, path, body):
    member, _ = members[path]
    member.size = len(body)
    members[path] = (member, body)


def add_pax(files, _):
    files["./usr/sbin/netmon-agent"][0].pax_headers = {"comment": "x"}


BREAKS = {
    "pax header": (add_pax, tarfile.PAX_FORMAT),
    "no entry for its directory": (lambda files, _: files.pop("./etc/init.d"), tarfile.GNU_FORMAT),
    "belongs to 1000:0": (lambda files, _: setattr(files["./etc/config"][0], "uid", 1000), tarfile.GNU_FORMAT),
    "has the mode 644, not 600": (
        lambda files, _: setattr(files["./etc/config/netmon-agent"][0], "mode", 0o644),
        tarfile.GNU_FORMAT,
    ),
    "has the mode 700, not 755": (lambda files, _: setattr(files["./etc"][0], "mode", 0o700), tarfile.GNU_FORMAT),
    "not explained as in the configuration": (
        lambda files, _: replace(files, "./usr/share/netmon-agent.options", b"# other words\n"),
        tarfile.GNU_FORMAT,
    ),
    "is not in the data": (
        lambda _, control: replace(control, "./conffiles", b"/etc/config/other\n"),
        tarfile.GNU_FORMAT,
    ),
    "Installed-Size is": (
        lambda _, control: replace(
            control, "./control", control["./control"][1].replace(b"Installed-Size: ", b"Installed-Size: 1")
        ),
        tarfile.GNU_FORMAT,
    ),
    "postinst has the mode 644": (lambda _, control: setattr(control["./postinst"][0], "mode", 0o644), tarfile.GNU_FORMAT),
}


def self_test(package):
    if defects := check(rebuilt(package, lambda files, control: None)):
        sys.exit(f"unchanged, but: {defects}")
    for expected, (change, form) in BREAKS.items():
        defects = check(rebuilt(package, change, form))
        if not any(expected in defect for defect in defects):
            sys.exit(f"not noticed: {expected}; found {defects}")
        print(f"noticed: {expected}")


def main():
    if sys.argv[1] == "--self-test":
        with open(sys.argv[2], "rb") as file:
            return self_test(file.read())
    failed = False
    for name in sys.argv[1:]:
        with open(name, "rb") as file:
            for defect in check(file.read()):
                print(f"{name}: {defect}")
                failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
