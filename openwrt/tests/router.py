#!/usr/bin/env python3
"""The init script under BusyBox ash, and the firewall's rules in network namespaces.

    router.py AGENT SERVER      both programs; AGENT is the one that is packed

Needs root or user namespaces, busybox, nft and ip. Makes namespaces of its own and leaves nothing behind.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
INIT = HERE.parent / "files" / "netmon-agent.init"
CONFIG = HERE.parent / "files" / "netmon-agent.config"
INSIDE = "NETMON_TEST_INSIDE"
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
        command = ["busybox", "ash", str(HERE / "stubs.sh"), str(INIT), *action.split()]
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


def test_the_shipped_configuration(router):
    """It is disabled, and right once the two options are set."""
    run("busybox", "ash", "-n", str(INIT))
    text = CONFIG.read_text()
    set_up = text.replace("option enabled '0'", "option enabled '1'").replace("url ''", "url 'http://s:3000'")
    router.config.write_text(set_up.replace("token ''", "token 'x'"))
    run(router.agent, "--uci", str(router.config), "--check-config")
    # Each option that is shown is one that the agent knows.
    shown = "".join(line.replace("\t#", "\t", 1) if line.startswith(("\t#option", "\t#list")) else line
                    for line in router.config.read_text().splitlines(keepends=True))
    shown = shown.replace("'AA:BB:...'", "'" + "AB" * 32 + "'")
    router.config.write_text(shown)
    run(router.agent, "--uci", str(router.config), "--check-config")


def test_the_instance(router):
    router.configure({**basic(), "enabled": "0"})
    expect(router.init("start_service"), [], "disabled")
    router.configure(basic())
    config = str(router.config)
    expect(
        router.init("start_service"),
        [
            ["open", "main"],
            ["set", "command", router.agent, "--uci", config],
            ["set", "file", config],
            ["set", "respawn", "3600", "5", "0"],
            ["set", "term_timeout", "20"],
            ["set", "stdout", "1"],
            ["set", "stderr", "1"],
            ["close"],
        ],
        "the instance",
    )
    expect(router.init("service_triggers"), [["trigger", "netmon-agent", "firewall"]], "the trigger")
    router.configure(basic(jail="1", spool_dir=str(router.dir / "spool")))
    jailed = router.init("start_service")
    expect(["mount_rw", str(router.dir / "spool")] in jailed, True, "a jail can write its spool")
    expect(any(words[0] == "jail" for words in jailed), True, "a jail")


def test_hostile_values(router):
    marker = router.dir / "marker"
    hostile = ["a'b", f"$(touch {marker})", f"`touch {marker}`", f"a\nb'; touch {marker}; '", "x" * 4096, "\\", "*"]
    for value in hostile:
        # A salt may be anything: the agent takes it, and the instance is the same as ever.
        router.configure(basic(qname_hash_salt=value, transport="http"))
        expect(router.command(router.init("start_service")), [router.agent, "--uci", str(router.config)], value)
        # Where only some values make sense, the agent refuses, and nothing is started.
        router.configure(basic(router_id=value))
        calls = router.init("start_service", check=False)
        expect([words[0] for words in calls], ["log"], f"router_id {value!r}")
        # What the shell itself looks at.
        for option in ("enabled", "log_drops", "log_dns", "log_rate", "jail"):
            router.configure({**basic(log_drops="1"), option: value})
            router.init("start_service", check=False)
        spool = str(router.dir / "s") + value.replace("/", "_")[:200]
        router.configure(basic(jail="1", spool_dir=spool, tls_ca="/" + value[:100]))
        calls = router.init("start_service", check=False)
        mounts = [words[1:] for words in calls if words[0] == "mount_rw"]
        expect(mounts, [[spool]], f"the spool {value!r} in a jail")
        router.firewall({"zone3": {"type": "zone", "name": value}})
        router.configure(basic(log_drops="1"))
        router.init("start_service")
        router.init("firewall_off")
    expect(marker.exists(), False, "nothing was run")
    router.firewall({"zone3": {"type": "zone", "name": "guest"}})


def start_server(router, server):
    process = subprocess.Popen(
        [server, "serve", "--listen", "127.0.0.1:0", "--data", str(router.dir / "data")],
        env={"NETMON_API_TOKEN": TOKEN, "NETMON_LOG": "error", "PATH": ""}, stdout=subprocess.PIPE, text=True,
    )
    return process, process.stdout.readline().split()[-1]


def test_the_instance_streams(router, server):
    process, url = start_server(router, server)
    agent = None
    try:
        router.configure(basic(url, router_id="attic", spool_dir=str(router.dir / "spool"), health_interval="1s"))
        began = time.monotonic()
        agent = subprocess.Popen(router.command(router.init("start_service")), stderr=subprocess.DEVNULL)

        def heard():
            request = urllib.request.Request(f"{url}/api/v1/routers", headers={"Authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)["items"]

        routers = until("the server hears of the router", heard)
        print(f"the server heard of the router after {time.monotonic() - began:.2f} s")
        expect(routers[0].get("name", routers[0].get("router_id", routers[0].get("router"))), "attic", "the router")
    finally:
        for child in filter(None, (agent, process)):
            child.terminate()
            child.wait()


def ruleset():
    return run("nft", "-s", "list", "ruleset")


def hold(router):
    """Namespaces on both sides of this one, the router: wan0 and lan0 lead to them."""
    holders = []
    for side, number in (("wan", 1), ("lan", 2)):
        holder = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        holders.append(holder)
        until("a namespace", lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        run("ip", "link", "add", f"{side}0", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        inside = ("nsenter", "-t", str(holder.pid), "-n")
        for prefix, device, last in (((), f"{side}0", 1), (inside, "eth0", 2)):
            run(*prefix, "ip", "addr", "add", f"10.0.{number}.{last}/24", "dev", device)
            run(*prefix, "ip", "addr", "add", f"fd00:{number}::{last}/64", "dev", device, "nodad")
            run(*prefix, "ip", "link", "set", device, "up")
        run(*inside, "ip", "route", "add", "default", "via", f"10.0.{number}.1")
        run(*inside, "ip", "-6", "route", "add", "default", "via", f"fd00:{number}::1")
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    pathlib.Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    return holders


SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sender = socket.socket(family, socket.SOCK_DGRAM)
if len(sys.argv) > 4:
    sender.bind(("", int(sys.argv[4])))
for _ in range(int(sys.argv[3])):
    try:
        sender.sendto(bytes.fromhex("%(answer)s"), (sys.argv[1], int(sys.argv[2])))
    except OSError:
        pass
"""
# An answer of DNS: a.test A 192.0.2.1.
ANSWER = "000181800001000100000000016104746573740000010001c00c000100010000003c0004c0000201"


def send(holder, address, port, count, source=None):
    more = [str(source)] if source else []
    script = SEND % {"answer": ANSWER}
    run("nsenter", "-t", str(holder.pid), "-n", sys.executable, "-c", script, address, str(port), str(count), *more)


def test_the_firewall(router):
    holders = hold(router)
    wan, lan = holders
    dump = None
    try:
        # Of what earlier tests did.
        subprocess.run(["nft", "delete", "table", "inet", "fw4"], check=False, capture_output=True)
        run("fw4", env=router.environment)
        untouched = ruleset()
        router.configure(basic(log_drops="1", log_dns="1", log_rate="5", dns_log="off"))
        calls = router.init("start_service")
        expect([words for words in calls if words[0] == "log"], [], "no complaint")
        expect("netmon_drop" in ruleset(), True, "the rules are in firewall4's table")
        log = (router.dir / "fw4.log").read_text()
        router.init("start_service")
        expect((router.dir / "fw4.log").read_text(), log, "a second start reloads nothing")

        out = (router.dir / "dump").open("w")
        dump = subprocess.Popen([router.agent, "--uci", str(router.config), "--dump"], stdout=out,
                                stderr=subprocess.DEVNULL)
        groups = pathlib.Path("/proc/net/netfilter/nfnetlink_log")
        until("the agent listens", lambda: len(groups.read_text().splitlines()) >= 3)

        def events(kind):
            lines = (router.dir / "dump").read_text().splitlines(keepends=True)
            found = [json.loads(line) for line in lines if line.endswith("\n")]
            return [event for event in found if kind in event["type"]]

        # 100 packets of each kind at once: what the rates let through is told, the rest is not.
        for address in ("10.0.1.1", "fd00:1::1", "10.0.2.2", "fd00:2::2"):
            send(wan, address, 4000, 100)
        def drops(source, group):
            return [event for event in events("drop") if event.get("src_ip") == source and event.get("nflog_group") == group]
        for source in ("10.0.1.2", "fd00:1::2"):
            until(f"drops of {source} on the way in", lambda: drops(source, 10) or None)
        seen = events("drop")
        print(f"{len(seen)} drops of 400 packets were told of")
        for source in ("10.0.1.2", "fd00:1::2"):
            of_source = [event for event in seen if event.get("src_ip") == source]
            expect(5 <= len(of_source) <= 40, True, f"the rate of {source}: {len(of_source)}")
        # Another source has a rate of its own: the guest's drops on the way through are not eaten by the first.
        run("nsenter", "-t", str(wan.pid), "-n", "ip", "addr", "add", "10.0.1.3/24", "dev", "eth0")
        run("nsenter", "-t", str(wan.pid), "-n", "ip", "route", "replace", "10.0.2.0/24", "via", "10.0.1.1",
            "src", "10.0.1.3")
        send(wan, "10.0.2.2", 4001, 3)
        until("drops on the way through", lambda: drops("10.0.1.3", 11) or None)

        send(lan, "10.0.1.2", 5353, 3, source=53)
        until("an answer of DNS", lambda: events("dns") or None)

        router.init("firewall_off")
        expect(ruleset(), untouched, "what is left behind")
        expect(list(router.includes.rglob("*.nft")), [], "files that are left behind")

        # A rule that nft does not take must not reach the firewall.
        broken = INIT.read_text().replace("limit rate over $rate/second", "limit rate above $rate/second")
        (router.dir / "broken.init").write_text(broken)
        global_init = globals()["INIT"]
        globals()["INIT"] = router.dir / "broken.init"
        try:
            calls = router.init("start_service")
        finally:
            globals()["INIT"] = global_init
        expect(any("not taken by nft" in " ".join(words) for words in calls), True, "a complaint")
        expect(ruleset(), untouched, "the firewall with a broken rule")
    finally:
        for child in filter(None, (dump, *holders)):
            child.kill()
            child.wait()


def main():
    agent, server = sys.argv[1:3]
    if INSIDE not in os.environ:
        command = ["unshare", "-rn", sys.executable, __file__, os.path.realpath(agent), os.path.realpath(server)]
        sys.exit(subprocess.run(command, env={**os.environ, INSIDE: "1"}).returncode)
    run("ip", "link", "set", "lo", "up")
    router = Router(agent)
    try:
        test_the_shipped_configuration(router)
        test_the_instance(router)
        test_hostile_values(router)
        test_the_instance_streams(router, server)
        test_the_firewall(router)
    finally:
        router.remove()
    print("router: all as expected")


if __name__ == "__main__":
    main()
