"""What the init script asks of procd, under BusyBox ash. Run by router.py."""

import re
import shutil

from standin import CONFIG, INIT, basic, expect, run


def test_the_shipped_configuration(router):
    """It is disabled, and right once the two options are set."""
    run("busybox", "ash", "-n", str(INIT))
    text = CONFIG.read_text()
    set_up = text.replace("option enabled '0'", "option enabled '1'").replace("url ''", "url 'http://s:3000'")
    router.config.write_text(set_up.replace("token ''", "token 'x'"))
    run(router.agent, "--uci", str(router.config), "--check-config")
    # All that is shown goes together, but for the list in place of server_url.
    shown = re.sub(r"^\t#(option|list) (?!server_urls )", r"\t\1 ", router.config.read_text(), flags=re.M)
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
            ["set", "file", config, router.agent],
            ["set", "respawn", "3600", "5", "0"],
            ["set", "term_timeout", "20"],
            ["set", "stdout", "1"],
            ["set", "stderr", "1"],
            ["close"],
        ],
        "the instance",
    )
    expect(router.init("service_triggers"), [["trigger", "netmon-agent", "firewall"]], "the trigger")


def test_the_jail(router):
    root, spool, log = router.dir / "root", str(router.dir / "spool"), str(router.dir / "dnsmasq.log")
    files = ["tmp/dhcp.leases", "tmp/odhcpd.leases", "tmp/hosts/odhcpd", "etc/config/firewall"]
    for file in (router.dir / "dnsmasq.log", *(root / file for file in files)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    router.script = router.dir / "rooted.init"
    text = INIT.read_text()
    for place in ("/tmp/dhcp", "/tmp/odhcpd", "/tmp/hosts", "/etc/config/firewall"):
        text = text.replace(f" {place}", f" {root}{place}")
    router.script.write_text(text)
    router.configure(basic(jail="1", spool_dir=spool, dns_log="file", dnsmasq_log_path=log))
    calls = router.init("start_service")
    expect([words[0] for words in calls].count("jail"), 1, "a jail")
    mounts = {word for words in calls if words[0] == "mount" for word in words[1:]}
    wanted = {f"{root}/{file}".replace("hosts/odhcpd", "hosts") for file in files} | {log, str(router.config)}
    expect(wanted - mounts, set(), "what a jail cannot read")
    expect(["mount_rw", spool] in calls, True, "a jail can write its spool")
    router.configure(basic(jail="1", spool_dir=spool, dns_log="logread"))
    calls = router.init("start_service")
    expect([words[0] for words in calls if words[0] in ("jail", "mount", "log")], ["log"], "logread in a jail")
    router.script = INIT


def test_a_mistake_leaves_the_instance_alone(router):
    def words(calls):
        return [call[0] for call in calls if call[0] in ("open", "log", "set_service")]

    router.configure(basic())
    expect(words(router.init("reload")), ["open", "set_service"], "a reload")
    router.configure({**basic(), "enabled": "0"})
    expect(words(router.init("reload")), ["set_service"], "a reload of what is disabled now")
    router.configure(basic(report_interval="soon"))
    calls = router.init("reload", check=False)
    expect(words(calls), ["log"], "a reload with a mistake")
    complaint = calls[0][-1]
    expect("goes on as it was" in complaint and "report_interval" in complaint, True, complaint)
    expect(words(router.init("start", check=False)), ["log", "set_service"], "a start with a mistake")
    # What uci cannot read has no options at all.
    shutil.rmtree(router.dir / "uci" / "netmon-agent")
    expect(words(router.init("reload", check=False)), ["log"], "a reload of what is not UCI")


def test_answers_of_dns_count_once(router):
    """The log has the router's own answers; the packets of others on their way through are in no log."""
    for log, hooks in (("off", ["forward", "output"]), ("logread", ["forward"]), ("file", ["forward"])):
        router.configure(basic(log_dns="1", dns_log=log))
        router.init("start_service")
        rules = (router.includes / "table-post" / "netmon-agent.nft").read_text()
        expect(re.findall(r"hook (\w+)", rules), hooks, f"log_dns with dns_log={log}")
    router.init("firewall_off")


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


def test_all(router):
    test_the_shipped_configuration(router)
    test_the_instance(router)
    test_the_jail(router)
    test_a_mistake_leaves_the_instance_alone(router)
    test_answers_of_dns_count_once(router)
    test_hostile_values(router)
