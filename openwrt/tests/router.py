#!/usr/bin/env python3
"""The init script under BusyBox ash, and the firewall's rules in network namespaces.

    router.py AGENT SERVER      both programs; AGENT is the one that is packed

Needs root or user namespaces, busybox, nft and ip. Makes namespaces of its own and leaves nothing behind.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

import init_script
from standin import INIT, TOKEN, Router, basic, expect, run, until

INSIDE = "NETMON_TEST_INSIDE"


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

        # The same over IPv6.
        inside = ("nsenter", "-t", str(wan.pid), "-n")
        run(*inside, "ip", "addr", "add", "fd00:1::3/64", "dev", "eth0", "nodad")
        run(*inside, "ip", "-6", "route", "replace", "fd00:2::/64", "via", "fd00:1::1", "src", "fd00:1::3")
        send(wan, "fd00:2::2", 4001, 3)
        until("IPv6 drops on the way through", lambda: drops("fd00:1::3", 11) or None)

        router.init("firewall_off")
        expect(ruleset(), untouched, "what is left behind")
        expect(list(router.includes.rglob("*.nft")), [], "files that are left behind")

        # A rule that nft does not take must not reach the firewall.
        broken = INIT.read_text().replace("limit rate over $rate/second", "limit rate above $rate/second")
        (router.dir / "broken.init").write_text(broken)
        router.script = router.dir / "broken.init"
        calls = router.init("start_service")
        router.script = INIT
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
        init_script.test_all(router)
        test_the_instance_streams(router, server)
        test_the_firewall(router)
    finally:
        router.remove()
    print("router: all as expected")


if __name__ == "__main__":
    main()
