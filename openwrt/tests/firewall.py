"""The firewall's rules in network namespaces, with traffic. Run by router.py."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

from standin import INIT, basic, expect, run, until

GROUPS = pathlib.Path("/proc/net/netfilter/nfnetlink_log")


def ruleset():
    return run("nft", "-s", "list", "ruleset")


def inside(holder):
    """What runs a command beside the router, or on it: None."""
    return ("nsenter", "-t", str(holder.pid), "-n") if holder else ()


def hold():
    """Namespaces on both sides of this one, the router: wan0 and lan0 lead to them."""
    holders = []
    for side, number in (("wan", 1), ("lan", 2)):
        holder = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        holders.append(holder)
        until("a namespace", lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        run("ip", "link", "add", f"{side}0", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        for prefix, device, last in (((), f"{side}0", 1), (inside(holder), "eth0", 2)):
            run(*prefix, "ip", "addr", "add", f"10.0.{number}.{last}/24", "dev", device)
            run(*prefix, "ip", "addr", "add", f"fd00:{number}::{last}/64", "dev", device, "nodad")
            run(*prefix, "ip", "link", "set", device, "up")
        run(*inside(holder), "ip", "route", "add", "default", "via", f"10.0.{number}.1")
        run(*inside(holder), "ip", "-6", "route", "add", "default", "via", f"fd00:{number}::1")
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
    run(*inside(holder), sys.executable, "-c", script, address, str(port), str(count), *more)


class Dump:
    """The agent with the configuration of a router: what it hears, as it is told."""

    def __init__(self, router):
        self.path = router.dir / "dump"
        self.agent = subprocess.Popen([router.agent, "--uci", str(router.config), "--dump"],
                                      stdout=self.path.open("w"), stderr=subprocess.DEVNULL)
        try:
            until("the agent listens", lambda: len(GROUPS.read_text().splitlines()) >= 3)
        except SystemExit:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.agent.kill()
        self.agent.wait()
        until("the groups are free again", lambda: not GROUPS.read_text())

    def events(self, kind, **fields):
        lines = self.path.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n") and kind in line]
        return [event for event in events if event["type"] == kind and fields.items() <= event.items()]

    def drops(self, **fields):
        return self.events("firewall_drop", **fields)

    def answers(self, **fields):
        return self.events("dns_response", **fields)


def switch_on(router, **options):
    """The rules, as the init script makes them."""
    router.configure(basic(log_drops="1", log_dns="1", dns_log="off", **options))
    calls = router.init("start_service")
    expect([words for words in calls if words[0] == "log"], [], "no complaint")


def test_drops(router, wan):
    switch_on(router, log_rate="5")
    with Dump(router) as dump:
        # 100 packets of each kind at once: what the rates let through is told, the rest is not.
        for address in ("10.0.1.1", "fd00:1::1", "10.0.2.2", "fd00:2::2"):
            send(wan, address, 4000, 100)
        for source in ("10.0.1.2", "fd00:1::2"):
            until(f"drops of {source} on the way in", lambda: dump.drops(src_ip=source, nflog_group=10))
        seen = dump.drops()
        print(f"{len(seen)} drops of 400 packets were told of")
        for source in ("10.0.1.2", "fd00:1::2"):
            of_source = [event for event in seen if event["src_ip"] == source]
            expect(5 <= len(of_source) <= 40, True, f"the rate of {source}: {len(of_source)}")
        # Another source has a rate of its own: the guest's drops on the way through are not eaten by the first.
        for more, source, target, via, beyond in (
            ((), "10.0.1.3/24", "10.0.2.2", "10.0.1.1", "10.0.2.0/24"),
            (("-6",), "fd00:1::3/64", "fd00:2::2", "fd00:1::1", "fd00:2::/64"),
        ):
            address = source.partition("/")[0]
            run(*inside(wan), "ip", *more, "addr", "add", source, "dev", "eth0", *(("nodad",) if more else ()))
            run(*inside(wan), "ip", *more, "route", "replace", beyond, "via", via, "src", address)
            send(wan, target, 4001, 3)
            until(f"drops of {address} on the way through", lambda: dump.drops(src_ip=address, nflog_group=11))


@contextlib.contextmanager
def resolver(holder, address):
    """A dnsmasq that knows one name; the version of IP tells by which record."""
    # In debug mode it does not try to become another user, which a namespace has not.
    process = subprocess.Popen(
        [*inside(holder), "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file",
         f"--address=/netmon.test/{address}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def ask(client, server, name):
    command = [*inside(client), "dig", "+short", "+tries=1", "+timeout=5", f"@{server}", name, "A"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def test_answers(router, wan, lan):
    """A client asks a resolver beyond the router, and the router's own; each answer is told of once."""
    clients = {True: "10.0.2.2", False: "fd00:2::2"}
    hooks = {"forward": (wan, ("10.0.1.2", "fd00:1::2")), "output": (None, ("10.0.2.1", "fd00:2::1"))}
    switch_on(router)
    with Dump(router) as dump:
        for number, (hook, (place, servers)) in enumerate(hooks.items()):
            with resolver(place, f"192.0.2.{number}"):
                for server in servers:
                    ready = f"ready{number}.netmon.test"
                    until(f"{server} answers", lambda: ask(lan, server, ready))
                    name = f"{hook}{server.count(':')}.netmon.test"
                    expect(ask(lan, server, name), f"192.0.2.{number}", f"the answer of {server}")
                    until(f"the answer of {server}", lambda: dump.answers(name=name))
                    told = [(event["client_ip"], event.get("resolver_ip"), event["answers"][0]["data"])
                            for event in dump.answers(name=name)]
                    # Of its own answers the router does not say who gave them.
                    beyond = server if place else None
                    expect(told, [(clients["." in server], beyond, f"192.0.2.{number}")], f"by {hook}")


BURST, RATE = 1000, 500


def test_rates_of_all(router, wan, lan):
    """However many sources there are, no more than a burst and so many a second reach the agent."""
    # One source alone is hardly bounded here, neither by the agent nor by the rules, which knew it with another rate.
    switch_on(router, log_rate="1000", nflog_source_rate="1000000")
    with Dump(router) as dump:
        for what, found, senders in (
            ("drops", dump.drops, ((wan, "10.0.1.1", 4100, None), (wan, "fd00:1::1", 4100, None))),
            ("answers on their way through", dump.answers, ((lan, "10.0.1.2", 4100, 53), (lan, "fd00:1::2", 4100, 53))),
            ("answers of the router", dump.answers, ((None, "10.0.2.2", 4100, 53), (None, "fd00:2::2", 4100, 53))),
        ):
            # What was counted before is none of this.
            until_quiet(found)
            before, began = len(found()), time.monotonic()
            for holder, address, port, source in senders:
                send(holder, address, port, 1900, source)
            took = time.monotonic() - began
            until(f"a burst of {what}", lambda: len(found()) >= before + BURST)
            until_quiet(found)
            told = len(found()) - before
            print(f"{told} of 3800 {what} were told of, which were sent within {took:.2f} s")
            expect(took < 4, True, f"{what} were sent in time: {took:.2f} s")
            # The burst may be larger by what a tick of the clock adds.
            most = BURST + RATE * took + 20
            expect(BURST <= told <= most, True, f"{what}: {told}, expected {BURST} to {most:.0f}")


def until_quiet(found):
    """Until nothing more is told of: the kernel hands its packets over after a tenth of a second."""
    last = [-1, time.monotonic()]

    def quiet():
        count, now = len(found()), time.monotonic()
        if count != last[0]:
            last[:] = count, now
        return now - last[1] > 1

    until("nothing more is told of", quiet)


def test_switched_on_and_off(router, wan, lan):
    run("fw4", env=router.environment)
    untouched = ruleset()
    switch_on(router, log_rate="5")
    expect("netmon_drop" in ruleset(), True, "the rules are in firewall4's table")
    log = (router.dir / "fw4.log").read_text()
    router.init("start_service")
    expect((router.dir / "fw4.log").read_text(), log, "a second start reloads nothing")

    test_drops(router, wan)
    test_answers(router, wan, lan)
    test_rates_of_all(router, wan, lan)

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


def test_all(router):
    holders = hold()
    try:
        # Of what earlier tests did.
        subprocess.run(["nft", "delete", "table", "inet", "fw4"], check=False, capture_output=True)
        test_switched_on_and_off(router, *holders)
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


