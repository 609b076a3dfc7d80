#!/usr/bin/env python3
"""Cuts a program after the last byte that a kernel loads.

    trim.py FROM TO

What follows is section headers and what only a debugger reads. On mips it has a table of procedures (.pdr) that strip
leaves there and that is a tenth of the program. The layout is that of elf(5).
"""

import os
import struct
import sys

PT_LOAD = 1


def trimmed(program):
    if program[:4] != b"\x7fELF":
        raise SystemExit("trim.py: expected an ELF file")
    wide, order = program[4] == 2, "<" if program[5] == 1 else ">"
    # e_phoff and e_shoff; after e_flags and e_ehsize: e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    offsets, counts = ("QQ", 32), ("HHHHH", 54)
    if not wide:
        offsets, counts = ("II", 28), ("HHHHH", 42)
    headers, _ = struct.unpack_from(order + offsets[0], program, offsets[1])
    size, number, *_ = struct.unpack_from(order + counts[0], program, counts[1])
    end = headers + size * number
    for at in range(headers, end, size):
        if struct.unpack_from(order + "I", program, at)[0] != PT_LOAD:
            continue
        # p_offset and p_filesz.
        form, where = ("Q16xQ", at + 8) if wide else ("I8xI", at + 4)
        offset, length = struct.unpack_from(order + form, program, where)
        end = max(end, offset + length)
    out = bytearray(program[:end])
    struct.pack_into(order + offsets[0], out, offsets[1], headers, 0)
    struct.pack_into(order + counts[0], out, counts[1], size, number, 0, 0, 0)
    return bytes(out)


def main():
    source, target = sys.argv[1:]
    with open(source, "rb") as file:
        program = trimmed(file.read())
    with open(target, "wb") as file:
        file.write(program)
    os.chmod(target, 0o755)


if __name__ == "__main__":
    main()
