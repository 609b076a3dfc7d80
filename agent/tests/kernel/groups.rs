//! NFLOG groups that another program holds, for a while.

use std::time::{Duration, Instant};

use netmon_proto::v1::event::Kind;

use super::faults::{Agent, Far, token, warned};
use crate::{
    collector::Kept,
    support::{
        dump::{Dump, await_groups},
        must,
        network::Network,
        packets::{Payload, packet, send},
    },
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("a_taken_group_does_not_silence_the_others", taken),
    ("an_overrun_while_a_group_is_asked_for_is_no_failure", overrun),
];

const OF: &str = "NFLOG group 10 belongs to another program";

/// UDP to these ports of the router is logged to groups 10 and 11; answers of DNS on their way through to 20.
const PORTS: [u16; 2] = [4010, 4011];

/// a.test A 192.0.2.1.
const ANSWER: &[u8] =
    b"\0\x01\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x04test\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";

fn rules() {
    must("nft add table inet firewall");
    for (hook, rule) in [
        ("input", "udp dport 4010 log group 10 drop"),
        ("input", "udp dport 4011 log group 11 drop"),
        ("forward", "udp sport 53 log group 20"),
    ] {
        let priority = if hook == "input" { "10" } else { "20" };
        must(&format!(
            "nft add chain inet firewall {hook} {{ type filter hook {hook} priority {priority} ; }}"
        ));
        must(&format!("nft add rule inet firewall {hook} {rule}"));
    }
}

/// From ports that tell one packet from another.
fn knock(network: &Network, to: u16, from: impl Iterator<Item = u16>) {
    let [src, dst] = ["10.77.0.10", "10.77.0.1"].map(|text| text.parse().expect("an address"));
    let packets: Vec<_> =
        from.map(|from| packet(src, dst, &Payload::Udp { from, to, bytes: Vec::new() }, None)).collect();
    send(&network.lan, &packets);
}

fn is_told(kept: &Kept, from: u16, group: u32) -> bool {
    kept.events.iter().any(|event| match &event.kind {
        Some(Kind::FirewallDrop(drop)) => drop.src_port == u32::from(from) && drop.nflog_group == group,
        _ => false,
    })
}

fn taken() {
    let network = Network::lay_out();
    rules();
    let holder = Dump::start_with_groups(env!("CARGO_BIN_EXE_netmon-agent"), "nflog_groups: [10]", &[10]);
    let far = Far::new();
    let dir = tempfile::tempdir().expect("a directory");
    let settings = format!("{}\nnflog_groups: [10, 11]\ndns_nflog_groups: [20]", token());
    let mut agent = Agent::start(dir.path(), &far.url(), &settings);
    await_groups(&[10, 11, 20]);
    agent.until_health("the warning", |status, text| status == 200 && text.contains(OF));
    far.until("the warning in a heartbeat", |kept| kept.events.iter().any(|event| warned(event, OF)));

    knock(&network, PORTS[1], 2..=2);
    let [src, dst] = ["10.77.0.10", "198.51.100.10"].map(|text| text.parse().expect("an address"));
    let answer = Payload::Udp { from: 53, to: 5353, bytes: ANSWER.to_vec() };
    send(&network.lan, &[packet(src, dst, &answer, None)]);
    far.until("what the other groups bring", |kept| {
        is_told(kept, 2, 11)
            && kept.events.iter().any(|event| matches!(event.kind, Some(Kind::DnsResponse(_))))
    });

    drop(holder);
    agent.until_health("its end", |status, text| status == 200 && !text.contains(OF));
    knock(&network, PORTS[0], 3..=3);
    far.until("the freed group's drops", |kept| is_told(kept, 3, 10));
    agent.until_metric("part_restarts_total{part=\"nflog\"}", |count| count == 0.0);
}

fn overrun() {
    let network = Network::lay_out();
    rules();
    let holder = Dump::start_with_groups(env!("CARGO_BIN_EXE_netmon-agent"), "nflog_groups: [10]", &[10]);
    let far = Far::new();
    let dir = tempfile::tempdir().expect("a directory");
    let settings = format!("{}\nnflog_groups: [11, 10]\nnflog_source_rate: 5", token());
    let mut agent = Agent::start(dir.path(), &far.url(), &settings);
    agent.until_health("the warning", |_, text| text.contains(OF));
    must(&format!("kill -s STOP {}", agent.0.id()));
    // More than its buffer takes, and until it is to ask again: its first pause is over then.
    let began = Instant::now();
    let mut sent = 0;
    while sent < 40_000 || began.elapsed() < Duration::from_millis(1500) {
        knock(&network, PORTS[1], 1..1001);
        sent += 1000;
    }
    drop(holder);
    must(&format!("kill -s CONT {}", agent.0.id()));
    agent.until_metric("nflog_overruns_total", |count| count >= 1.0);
    agent.until_health("the end of the warning", |_, text| !text.contains("NFLOG group"));
    knock(&network, PORTS[0], 7..=7);
    far.until("the freed group's drops", |kept| is_told(kept, 7, 10));
    agent.until_metric("part_restarts_total{part=\"nflog\"}", |count| count == 0.0);
}
