#!/usr/bin/env python3
"""Prints the table of figures of ARCHITECTURE.md: sizes, memory with a live TLS stream, time to the first ack.

    figures.py SERVER OUT DIST     OUT: what openwrt/build.sh filled; DIST: what openwrt/package.sh filled

Needs root or user namespaces and ip. The agent is that of x86_64, in a namespace of its own with the server.
"""

import gzip
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

INSIDE = "NETMON_TEST_INSIDE"
TOKEN = "token-of-the-test"
TARGETS = ("x86_64", "aarch64", "armv7", "mipsel", "mips")
MOST = {"installed": 3 * 1024 * 1024, "ipk": 3 * 512 * 1024, "memory": 6_000_000, "first ack": 1.0}
STARTS = 10
# How long a stream lives before its agent is looked at, seconds.
IDLE_S = 20
LIMIT_S = 30


def megabytes(size):
    return f"{size / 1e6:.2f} MB"


def sizes(out, dist):
    print("| processor | program | gzip -9 | packages |\n| --- | --- | --- | --- |")
    for target in TARGETS:
        program = (out / target / "netmon-agent").read_bytes()
        kin = {"aarch64": "aarch64_", "armv7": "arm_", "x86_64": "x86_64"}.get(target, f"{target}_24kc")
        packages = sorted(dist.glob(f"netmon-agent_*_{kin}*.ipk"))
        largest = max((package.stat().st_size for package in packages), default=0)
        names = ", ".join(package.stem.split("_", 2)[2] for package in packages)
        packed = len(gzip.compress(program, 9))
        print(f"| {target} | {len(program):,} | {packed:,} | {names}: {largest:,} |")
        if not packages or len(program) > MOST["installed"] or largest > MOST["ipk"]:
            sys.exit(f"{target}: expected an .ipk of at most {MOST['ipk']} and at most {MOST['installed']} installed")


class Run:
    """An agent with a TLS stream to a server."""

    def __init__(self, server, agent, base):
        data = base / "data"
        done = subprocess.run([server, "cert", "--data", data, "--name", "127.0.0.1"], capture_output=True, text=True)
        fingerprint = done.stdout.split("fingerprint ")[1].split()[0]
        self.server = subprocess.Popen(
            [server, "serve", "--listen", "127.0.0.1:0", "--data", data],
            env={"NETMON_API_TOKEN": TOKEN, "NETMON_LOG": "error", "PATH": ""}, stdout=subprocess.PIPE, text=True,
        )
        url = self.server.stdout.readline().split()[-1]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.metrics = f"127.0.0.1:{free.getsockname()[1]}"
        self.agent, self.process = agent, None
        self.config = base / "config.yaml"
        self.config.write_text(
            f"router_id: attic\nserver_url: {url}\nserver_fingerprint: '{fingerprint}'\nauth_token: {TOKEN}\n"
            f"spool_dir: {base}/spool\nmetrics_bind: {self.metrics}\ndns_log: off\n"
        )

    def acks(self):
        try:
            with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=1) as answer:
                return float(re.search(r"^acks_total (\S+)", answer.read().decode(), flags=re.M)[1])
        except OSError:
            return 0

    def start(self):
        """Seconds from the start of the program to the first ack."""
        began = time.monotonic()
        self.process = subprocess.Popen([self.agent, "--config", self.config], stderr=subprocess.DEVNULL)
        while self.acks() < 1:
            if time.monotonic() - began > LIMIT_S or self.process.poll() is not None:
                sys.exit(f"no ack within {LIMIT_S} s")
            time.sleep(0.005)
        return time.monotonic() - began

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def memory(self):
        """All resident memory of the agent, and what of it is no page of a file, in bytes."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return [int(re.search(rf"^{name}:\s+(\d+) kB", text, flags=re.M)[1]) * 1024 for name in ("VmRSS", "RssAnon")]


def main():
    server, out, dist = sys.argv[1:]
    if INSIDE not in os.environ:
        command = ["unshare", "-rn", sys.executable, __file__, os.path.realpath(server), out, dist]
        sys.exit(subprocess.run(command, env={**os.environ, INSIDE: "1"}).returncode)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    out, dist = pathlib.Path(out), pathlib.Path(dist)
    sizes(out, dist)
    with tempfile.TemporaryDirectory() as directory:
        run = Run(server, (out / "x86_64" / "netmon-agent").absolute(), pathlib.Path(directory))
        try:
            took = []
            for number in range(STARTS):
                took.append(run.start())
                if number < STARTS - 1:
                    run.stop()
            time.sleep(IDLE_S)
            memory, own = run.memory()
        finally:
            run.stop()
            run.server.terminate()
            run.server.wait()
    load = os.getloadavg()[0]
    print(f"\nStatic x86_64, TLS stream of {IDLE_S} s: {megabytes(memory)} resident, {megabytes(own)} of it its own.")
    print(f"Start to first ack, {STARTS} starts: median {statistics.median(took):.2f} s, most {max(took):.2f} s (load {load:.1f}).")
    if memory > MOST["memory"] or statistics.median(took) > MOST["first ack"]:
        sys.exit(f"expected at most {megabytes(MOST['memory'])}, and {MOST['first ack']} s to the first ack")


if __name__ == "__main__":
    main()
