#!/usr/bin/env python3
"""Runs built agents, foreign ones under qemu-user, and asks of each the same.

    program.py SERVER AGENT...

Version, configuration check, the events of a recording (which must not differ between processors), and a delivery
to a server on loopback: plain, by TLS with its CA, and by TLS with its fingerprint.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

RECORDING = pathlib.Path(__file__).resolve().parents[2] / "agent" / "testdata" / "events.bin"
TOKEN = "token-of-the-test"
# e_machine and byte order of an ELF file, as in elf.h.
RUNNERS = {
    (62, "little"): [],
    (183, "little"): ["qemu-aarch64-static"],
    (40, "little"): ["qemu-arm-static"],
    (8, "little"): ["qemu-mipsel-static"],
    (8, "big"): ["qemu-mips-static"],
}
# The clock of the run, and what follows from it.
TIMES = ("time_us", "first_seen_us", "last_seen_us")


def runner(program):
    with open(program, "rb") as file:
        header = file.read(20)
    order = "little" if header[5] == 1 else "big"
    return RUNNERS[int.from_bytes(header[18:20], order), order]


def run(command, expected=0):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != expected:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}, not {expected}\n{done.stdout}{done.stderr}")
    return done.stdout


def events(lines):
    found = [json.loads(line) for line in lines.splitlines()]
    return [{key: value for key, value in event.items() if key not in TIMES} for event in found]


def main():
    server, *programs = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory)
        data = base / "data"
        said = run([server, "cert", "--data", data, "--name", "127.0.0.1"])
        fingerprint = said.split("fingerprint ")[1].split()[0]
        process = subprocess.Popen(
            [server, "serve", "--listen", "127.0.0.1:0", "--data", data],
            env={"NETMON_API_TOKEN": TOKEN, "NETMON_LOG": "error", "PATH": ""}, stdout=subprocess.PIPE, text=True,
        )
        try:
            address = process.stdout.readline().split("https://")[1].strip()
            reference = None
            for number, program in enumerate(programs):
                agent = [*runner(program), os.path.realpath(program)]
                version = run([*agent, "--version"]).strip()
                config = base / "config"

                def write(url, more=""):
                    config.write_text(
                        f"router_id: r{number}\nserver_url: {url}\nauth_token: {TOKEN}\n"
                        f"spool_dir: {base}/spool{number}\nmetrics_bind: ''\n{more}"
                    )

                write(f"http://{address}")
                run([*agent, "--config", config, "--check-config"])
                heard = events(run([*agent, "--config", config, "--dump", "--replay", RECORDING]))
                reference = reference or heard
                if heard != reference:
                    sys.exit(f"{program}: hears the recording otherwise than {programs[0]} does")
                for url, more in (
                    (f"http://{address}", ""),
                    (f"https://{address}", f"tls_ca: {data}/tls/ca.pem\n"),
                    (f"https://{address}", f"server_fingerprint: '{fingerprint}'\n"),
                ):
                    write(url, more)
                    taken = run([*agent, "--config", config, "--replay", RECORDING])
                    if f"the server took {len(heard)} events" not in taken:
                        sys.exit(f"{program}: {url}: expected {len(heard)} events to be taken: {taken}")
                write(f"https://{address}", f"server_fingerprint: '{'00' * 32}'\n")
                refused = subprocess.run([*agent, "doctor", "--config", config], capture_output=True, text=True)
                if "not that of server_fingerprint" not in refused.stdout:
                    sys.exit(f"{program}: takes a certificate that it must not: {refused.stdout}")
                print(f"{program}: {version}, {len(heard)} events, plain and TLS: as expected")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
