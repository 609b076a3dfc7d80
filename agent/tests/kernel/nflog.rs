//! What the firewall drops, as `--dump` prints it, against rules, packets and interfaces of a real kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    net::IpAddr,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    dump::{Dump, await_groups},
    must,
    network::{LAN_MAC, Network},
    packets::{Payload, SYN, packet, send},
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("every_dropped_syn_is_told_once", every_syn),
    ("icmp_fragments_and_what_is_cut_off_are_told", odd_packets),
    ("an_interface_made_anew_has_its_new_name", interface_made_anew),
    ("a_flood_is_counted_to_the_packet", flood),
    ("what_the_kernel_cannot_hand_over_is_counted_to_the_packet", overrun),
    ("a_group_of_another_program_is_waited_for", group_taken),
    ("who_may_not_listen_is_told_so_and_goes_on", not_allowed),
    ("what_is_not_routed_is_no_error", not_routed),
];

const AGENT: &str = env!("CARGO_BIN_EXE_netmon-agent");

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn rules(text: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("rules.nft");
    std::fs::write(&path, text).expect("written");
    must(&format!("nft -f {}", path.display()));
}

fn syn(src: &str, dst: &str, from: u16, to: u16) -> Vec<u8> {
    packet(address(src), address(dst), &Payload::Tcp { from, to, flags: SYN }, None)
}

/// The drops, without their times.
fn drops(events: &[Value]) -> Vec<Value> {
    let drops = events.iter().filter(|event| event["type"] == "firewall_drop");
    let without_time = |event: &Value| {
        let mut event = event.clone();
        let fields = event.as_object_mut().expect("fields");
        assert!(fields.remove("time_us").and_then(|time| time.as_u64()) > Some(1_700_000_000_000_000));
        fields.remove("type");
        event
    };
    drops.map(without_time).collect()
}

fn sorted(mut list: Vec<Value>) -> Vec<String> {
    let mut lines: Vec<String> = list.drain(..).map(|value| value.to_string()).collect();
    lines.sort();
    lines
}

const FIREWALL: &str = r#"
    table inet firewall {
        chain input {
            type filter hook input priority 10
            tcp dport 20-30 log prefix " drop-in: " group 10 drop
        }
        chain forward {
            type filter hook forward priority 10
            tcp dport 20-30 log prefix "drop-fwd" group 11 drop
        }
    }"#;

/// SYNs of each kind. Each is one packet: whoever sends them by hand does not send them again.
const SYNS: u16 = 40;

fn every_syn() {
    let network = Network::lay_out();
    rules(FIREWALL);
    let dump = Dump::start_with_groups(AGENT, "nflog_groups: [10, 11]", &[10, 11]);
    let (mut packets, mut expected) = (Vec::new(), Vec::new());
    for (dst, hook) in [
        ("10.77.0.1", "INPUT"),
        ("fd77::1", "INPUT"),
        ("198.51.100.10", "FORWARD"),
        ("2001:db8:51::10", "FORWARD"),
    ] {
        let (src, length) = if dst.contains(':') { ("fd77::10", 60) } else { ("10.77.0.10", 40) };
        for number in 0..SYNS {
            let (from, to) = (40_000 + number, 20 + number % 11);
            packets.push(syn(src, dst, from, to));
            let (prefix, group) = if hook == "INPUT" { ("drop-in:", 10) } else { ("drop-fwd", 11) };
            let mut event = json!({
                "hook": hook, "prefix": prefix, "nflog_group": group, "in_interface": "lan0",
                "protocol": 6, "src_ip": src, "src_port": from, "dst_ip": dst, "dst_port": to,
                "tcp_flags": "SYN", "src_mac": LAN_MAC, "length": length,
            });
            if hook == "FORWARD" {
                event["out_interface"] = "wan0".into();
            }
            expected.push(event);
        }
    }
    send(&network.lan, &packets);
    let events = dump.finish();
    assert_eq!(sorted(drops(&events)), sorted(expected));
    assert_eq!(events.len(), packets.len(), "and nothing else: {events:#?}");
}

fn odd_packets() {
    let network = Network::lay_out();
    // Before the kernel puts fragments together.
    rules(
        r#"
        table inet firewall {
            chain early {
                type filter hook prerouting priority -450
                iifname "lan0" udp dport 9 log prefix "early" group 10 drop
                iifname "lan0" ip daddr 198.51.100.77 log prefix "early" group 10 drop
                iifname "lan0" ip6 daddr 2001:db8:51::77 log prefix "early" group 10 drop
            }
            chain input {
                type filter hook input priority 10
                icmp type echo-request log prefix "ping" group 10 drop
                icmpv6 type echo-request log prefix "ping" group 10 drop
            }
            chain output {
                type filter hook output priority 10
                udp dport 9 log prefix "out" group 10 drop
            }
        }"#,
    );
    let dump = Dump::start_with_groups(AGENT, "nflog_groups: [10]", &[10]);
    let udp = Payload::Udp { from: 5, to: 9, bytes: vec![0; 16] };
    let (lan, there) = (
        [address("10.77.0.10"), address("fd77::10")],
        [address("198.51.100.77"), address("2001:db8:51::77")],
    );
    let router = [address("10.77.0.1"), address("fd77::1")];
    let mut packets = Vec::new();
    for (family, ping) in [(0, 8), (1, 128)] {
        let put = |payload: &Payload, part| packet(lan[family], there[family], payload, part);
        packets.extend([
            packet(lan[family], router[family], &Payload::Icmp { kind: ping, code: 0 }, None),
            put(&udp, Some((0, true))),
            put(&Payload::Raw(17, vec![7; 8]), Some((3, false))),
            // A TCP header of ten bytes.
            put(&Payload::Raw(6, vec![0, 1, 0, 2, 0, 0, 0, 0, 0, 0]), None),
            // ESP has no ports.
            put(&Payload::Raw(50, vec![9; 12]), None),
        ]);
    }
    // Hop-by-hop options, a routing header, destination options, and then a SYN.
    let mut chain = vec![43, 0, 1, 4, 0, 0, 0, 0, 60, 0, 4, 0, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0];
    chain.extend(Payload::Tcp { from: 3, to: 4, flags: SYN }.bytes());
    packets.push(packet(lan[1], there[1], &Payload::Raw(0, chain), None));
    send(&network.lan, &packets);
    std::net::UdpSocket::bind("198.51.100.1:6")
        .and_then(|socket| socket.send_to(b"out", "198.51.100.10:9"))
        .expect_err("the rule says no");
    let events = dump.finish();

    let short = |event: &Value| {
        let number = |key: &str| event[key].as_u64().unwrap_or(0);
        let [protocol, from, to, kind, length] =
            ["protocol", "src_port", "dst_port", "icmp_type", "length"].map(number);
        let hook = event["hook"].as_str().expect("a hook").to_owned();
        (hook, event["dst_ip"].to_string().contains(':'), protocol, [from, to, kind, length])
    };
    let told: BTreeSet<_> = drops(&events).iter().map(short).collect();
    let mut expected = BTreeSet::new();
    for (v6, header) in [(false, 20), (true, 40)] {
        let mut add = |hook: &str, protocol, rest| expected.insert((hook.to_owned(), v6, protocol, rest));
        let (icmp, ping, fragment) = if v6 { (58, 128, 8) } else { (1, 8, 0) };
        add("INPUT", icmp, [0, 0, ping, header + 8]);
        add("PREROUTING", 17, [5, 9, 0, header + fragment + 24]);
        add("PREROUTING", 17, [0, 0, 0, header + fragment + 8]);
        add("PREROUTING", 6, [1, 2, 0, header + 10]);
        add("PREROUTING", 50, [0, 0, 0, header + 12]);
    }
    expected.insert(("PREROUTING".to_owned(), true, 6, [3, 4, 0, 40 + 24 + 20]));
    expected.insert(("OUTPUT".to_owned(), false, 17, [6, 9, 0, 20 + 8 + 3]));
    assert_eq!(told, expected);
    assert_eq!(events.len(), expected.len(), "{events:#?}");
    let out = drops(&events).into_iter().find(|event| event["hook"] == "OUTPUT").expect("it was told");
    assert_eq!((&out["in_interface"], &out["out_interface"]), (&Value::Null, &json!("wan0")));
    assert_eq!(out["src_mac"], Value::Null);
}

fn interface_made_anew() {
    let network = Network::lay_out();
    rules(FIREWALL);
    let mut dump = Dump::start_with_groups(AGENT, "nflog_groups: [10, 11]", &[10, 11]);
    let mut expected = Vec::new();
    for turn in 0..4_u16 {
        // Every other time at once, most likely before the agent can read the last packet.
        must("ip link delete lan0");
        network.connect_lan();
        let renamed = turn % 2 == 1;
        let name = if renamed { "lan0-again" } else { "lan0" };
        if renamed {
            must(&format!("ip link set lan0 name {name}"));
        }
        send(&network.lan, &[syn("10.77.0.10", "10.77.0.1", 1000 + turn, 22)]);
        expected.push(name.to_owned());
        if renamed {
            dump.until("the drop", |events| drops(events).len() == usize::from(turn) + 1);
            must(&format!("ip link set {name} name lan0"));
        }
    }
    let events = dump.finish();
    let named: BTreeMap<u64, String> = drops(&events)
        .iter()
        .map(|event| {
            let port = event["src_port"].as_u64().expect("a port");
            (port, event["in_interface"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let expected: BTreeMap<u64, String> = (1000..).zip(expected).collect();
    assert_eq!(named, expected);
    assert_eq!(events.len(), expected.len());
}

/// What the agent can take without leaving anything out, and a lot more.
const FLOOD: usize = 3000;

fn flood() {
    let network = Network::lay_out();
    rules(FIREWALL);
    let dump = Dump::start_with_groups(AGENT, "nflog_groups: [10]\nnflog_source_rate: 5", &[10]);
    let packets: Vec<Vec<u8>> =
        (0..FLOOD).map(|number| syn("10.77.0.10", "10.77.0.1", 10_000 + number as u16, 22)).collect();
    send(&network.lan, &packets);
    // Another one that is not to suffer.
    send(&network.lan, &[syn("fd77::10", "fd77::1", 7, 22)]);
    let events = dump.finish();
    let drops = drops(&events);
    let (flooding, other): (Vec<_>, Vec<_>) = drops.iter().partition(|event| event["src_ip"] == "10.77.0.10");
    assert_eq!(other.len(), 1);
    let (untold, lost) = (missing(&events, "flood"), missing(&events, "kernel_overrun"));
    let left_out = left_out(&drops);
    assert_eq!(
        flooding.len() as u64 + left_out + untold + lost,
        FLOOD as u64,
        "every packet is accounted for"
    );
    assert!((50..200).contains(&flooding.len()), "{} were reported", flooding.len());
    assert!(untold > 0 && lost == 0, "{untold} not told of, {lost} lost");
}

/// How many packets the reports say were left out before them.
fn left_out(drops: &[Value]) -> u64 {
    drops.iter().filter_map(|event| event["left_out"].as_u64()).sum()
}

/// What gaps of a cause count.
fn missing(events: &[Value], cause: &str) -> u64 {
    let gaps = events.iter().filter(|event| event["type"] == "gap" && event["cause"] == cause);
    gaps.map(|gap| gap["count"].as_u64().expect("a count")).sum()
}

/// More than fits into the socket's buffer.
const TOO_MANY: usize = 40_000;

fn overrun() {
    let network = Network::lay_out();
    rules(FIREWALL);
    let mut dump = Dump::start_with_groups(AGENT, "nflog_groups: [10, 11]\nnflog_source_rate: 5", &[10, 11]);
    dump.signal("STOP");
    let packets: Vec<Vec<u8>> = (0..TOO_MANY)
        .map(|number| {
            // Two groups, whose packets are numbered apart.
            let to = if number % 2 == 0 { "10.77.0.1" } else { "198.51.100.10" };
            syn("10.77.0.10", to, number as u16, 22)
        })
        .collect();
    send(&network.lan, &packets);
    dump.signal("CONT");
    // The numbers of later packets show how many are missing before them. The first ones may find no room yet.
    let mut sent = TOO_MANY;
    let heard = |events: &[Value], hook: &str| {
        events.iter().any(|event| event["src_ip"] == "fd77::10" && event["hook"] == hook)
    };
    let told = (1..=50).any(|turn| {
        let later = ["fd77::1", "2001:db8:51::10"].map(|to| syn("fd77::10", to, turn, 22));
        send(&network.lan, &later);
        sent += later.len();
        dump.within(Duration::from_millis(300), |events| heard(events, "INPUT") && heard(events, "FORWARD"))
    });
    assert!(told, "the agent does not hear of packets any more");
    let events = dump.finish();
    let drops = drops(&events);
    let (untold, lost) = (missing(&events, "flood"), missing(&events, "kernel_overrun"));
    assert!(lost > 1000 && lost < TOO_MANY as u64, "{lost} found no room");
    assert_eq!(
        drops.len() as u64 + left_out(&drops) + untold + lost,
        sent as u64,
        "every packet is accounted for: {lost} lost, {untold} left out"
    );
}

fn group_taken() {
    let network = Network::lay_out();
    rules(FIREWALL);
    let first = Dump::start_with_groups(AGENT, "nflog_groups: [10]", &[10]);
    let mut second = Dump::start(AGENT, "nflog_groups: [10]\nhealth_interval: 1s");
    second.until("its other work", |events| !events.is_empty());
    send(&network.lan, &[syn("10.77.0.10", "10.77.0.1", 1, 22)]);
    assert_eq!(drops(&first.finish()).len(), 1);
    await_groups(&[10]);
    send(&network.lan, &[syn("10.77.0.10", "10.77.0.1", 2, 22)]);
    second.until("a drop", |events| drops(events).len() == 1);
    assert_eq!(drops(&second.finish())[0]["src_port"], 2);
}

fn not_allowed() {
    // SAFETY: takes a number, and moves this process, which has one thread, into a user namespace that
    // does not own the network namespace.
    let result = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.yaml");
    let text = format!(
        "router_id: a\nserver_url: http://127.0.0.1:1\nauth_token: x\nmetrics_bind: ''\nnflog_groups: [10]\nspool_dir: {}\n",
        dir.path().join("spool").display()
    );
    std::fs::write(&path, text).expect("written");
    let mut command = Command::new(AGENT);
    command
        .arg("--config")
        .arg(&path)
        .env("NETMON_LOG", "warn")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    let mut agent = command.spawn().expect("the agent");
    let (stdout, stderr) = (agent.stdout.take().expect("stdout"), agent.stderr.take().expect("stderr"));
    let (sender, lines) = std::sync::mpsc::channel();
    for output in [Box::new(stdout) as Box<dyn std::io::Read + Send>, Box::new(stderr)] {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    let expected = "not allowed to listen to NFLOG: run as root or with CAP_NET_ADMIN";
    while !lines.recv_timeout(Duration::from_secs(20)).expect("a word about NFLOG").contains(expected) {}
    assert_eq!(agent.try_wait().expect("a child"), None, "it goes on with the rest");
    must(&format!("kill {}", agent.id()));
    assert!(agent.wait().expect("its end").success());
}

fn not_routed() {
    let network = Network::lay_out();
    rules(
        r#"
        table arp watch {
            chain in { type filter hook input priority 0; log prefix "arp" group 10; }
        }
        table netdev watch {
            chain in {
                type filter hook ingress device lan0 priority 0
                tcp dport 22 log prefix "early" group 10 drop
            }
        }"#,
    );
    let mut dump = Dump::start_with_groups(AGENT, "nflog_groups: [10]", &[10]);
    network.lan.must("ip neighbour flush dev eth0");
    let status = network.lan.command("ping").args(["-c", "1", "10.77.0.1"]).output().expect("ping").status;
    assert!(status.success());
    send(&network.lan, &[syn("10.77.0.10", "10.77.0.1", 1, 22)]);
    dump.until("a drop", |events| !drops(events).is_empty());
    let events = dump.finish();
    assert_eq!(events.len(), 1, "ARP is no event: {events:#?}");
    assert_eq!((&events[0]["hook"], &events[0]["in_interface"]), (&json!("INGRESS"), &json!("lan0")));
    assert_eq!((&events[0]["dst_port"], &events[0]["src_mac"]), (&json!(22), &json!(LAN_MAC)));
}
