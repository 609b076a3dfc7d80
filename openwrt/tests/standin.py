"""A directory that looks like a router to the init script, and stubs for what OpenWrt has around it."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
INIT = HERE.parent / "files" / "netmon-agent.init"
CONFIG = HERE.parent / "files" / "netmon-agent.config"
TOKEN = "token-of-the-test"
LIMIT_S = 60

# What firewall4 makes of OpenWrt's default configuration, as far as the rules of the agent meet it. The includes
# are where its ruleset.uc has them.
FW4 = """
add table inet fw4
flush table inet fw4
table inet fw4 {
    include "%(dir)s/table-pre/*.nft"
    chain input {
        type filter hook input priority filter; policy drop
        iifname "lo" accept
        ct state established,related accept
        iifname "wan0" jump input_wan
        iifname "lan0" accept
        jump handle_reject
    }
    chain forward {
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        iifname "wan0" jump drop_from_wan
        iifname "lan0" accept
        jump handle_reject
    }
    chain output {
        type filter hook output priority filter; policy accept
    }
    chain input_wan {
        meta l4proto { icmp, icmpv6 } accept
        jump handle_reject
    }
    chain drop_from_wan {
        iifname "wan0" counter drop
    }
    chain handle_reject {
        meta l4proto tcp reject with tcp reset
        reject
    }
    include "%(dir)s/table-post/*.nft"
}
"""


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def until(what, condition):
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    sys.exit(f"not within {LIMIT_S} s: {what}")


def expect(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")


class Router:
    """A directory that looks like a router to the init script."""

    def __init__(self, agent):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="netmon-router-"))
        self.agent = agent
        self.script = INIT
        self.config = self.dir / "etc-config"
        self.includes = self.dir / "nftables.d"
        self.calls = self.dir / "calls"
        bin_dir = self.dir / "bin"
        bin_dir.mkdir()
        for kind in ("table-pre", "table-post"):
            (self.includes / kind).mkdir(parents=True)
        (self.dir / "base.nft").write_text(FW4 % {"dir": self.includes})
        fw4 = bin_dir / "fw4"
        fw4.write_text(f'#!/bin/sh\necho "$@" >>{self.dir}/fw4.log\nexec nft -f {self.dir}/base.nft\n')
        fw4.chmod(0o755)
        self.environment = {
            "PATH": f"{bin_dir}:/usr/sbin:/usr/bin:/sbin:/bin",
            "NETMON_TEST_UCI": str(self.dir / "uci"),
            "NETMON_TEST_CALLS": str(self.calls),
            "NETMON_PROGRAM": agent,
            "NETMON_CONFIG": str(self.config),
            "NETMON_INCLUDES": str(self.includes),
            "NETMON_SYSCTLS": str(self.dir / "sysctls"),
            "NETMON_UJAIL": "/bin/true",
        }
        self.firewall({"zone1": {"type": "zone", "name": "wan"}, "zone2": {"type": "zone", "name": "lan"}})

    def firewall(self, sections):
        for section, options in sections.items():
            where = self.dir / "uci" / "firewall" / section
            where.mkdir(parents=True, exist_ok=True)
            for option, value in options.items():
                (where / option).write_bytes(value.encode() + b"\n")

    def configure(self, options):
        """Writes /etc/config/netmon-agent as uci commit would, and the same for the stubs."""
        where = self.dir / "uci" / "netmon-agent" / "main"
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        text = "config agent 'main'\n"
        for option, value in options.items():
            (where / option).write_bytes(value.encode() + b"\n")
            text += "\toption {} '{}'\n".format(option, value.replace("'", "'\\''"))
        self.config.write_text(text)

    def init(self, action, check=True):
        """The calls of procd and logger that an action makes."""
        self.calls.write_text("")
        command = ["busybox", "ash", str(HERE / "stubs.sh"), str(self.script), *action.split()]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if check and done.returncode != 0:
            sys.exit(f"{action}: exit code {done.returncode}: {done.stderr}")
        lines = self.calls.read_text().splitlines()
        return [[bytes.fromhex(word).decode() for word in line.split()] for line in lines]

    def command(self, calls):
        return next(words[2:] for words in calls if words[:2] == ["set", "command"])

    def remove(self):
        shutil.rmtree(self.dir)


def basic(server_url="http://127.0.0.1:1", **more):
    return {"enabled": "1", "server_url": server_url, "auth_token": TOKEN, "metrics_bind": "off", **more}
