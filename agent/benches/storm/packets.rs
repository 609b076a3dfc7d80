//! Packets that rules log, DNS answers among them, at a steady rate; and a table that is full beforehand.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use netmon_proto::v1::{Event, event::Kind};

use crate::{
    SECONDS,
    support::{inject::Injector, must},
};

/// Per second.
const DROPS: u32 = 2_000;
const ANSWERS: u32 = 1_000;
/// Logged packets of one storm.
pub(crate) const SENT: u32 = (DROPS + ANSWERS) * SECONDS;
/// Of the flows that are open all the while.
const OPEN: u32 = 16_384;
const CLIENTS: u32 = 100;
const TICK: Duration = Duration::from_millis(10);

/// The flood guard is not what is measured here.
pub(crate) const SETTINGS: &str = "nflog_groups: [10]\ndns_nflog_groups: [20]\nnflog_source_rate: 1000000\n";

pub(crate) fn set_up() {
    must("nft add rule inet watch output udp dport 9001 log prefix bench group 10");
    must("nft add rule inet watch output udp sport 53 log group 20");
    // Addresses of the clients that get answers.
    must("ip address add 10.99.0.1/16 dev lo");
}

/// Opens flows that live through the storm.
pub(crate) fn fill_table() {
    let mut injector = Injector::open().expect("an injector");
    for number in 0..OPEN {
        let port = 1024 + (number / CLIENTS) as u16;
        injector.create(([10, 2, 0, (number % CLIENTS) as u8], port), 3600);
    }
    injector.send();
}

/// Sends them all, in ten seconds.
pub(crate) fn send() {
    let bind = |address: &str| UdpSocket::bind(address).expect("a socket");
    let (from, to, resolver) = (bind("127.0.0.1:0"), bind("127.0.0.1:9001"), bind("127.0.0.53:53"));
    let client = bind("0.0.0.0:5300");
    let started = Instant::now();
    for tick in 0..100 * SECONDS {
        for _ in 0..DROPS / 100 {
            from.send_to(b"dropped", to.local_addr().expect("an address")).expect("sent");
        }
        for number in tick * ANSWERS / 100..(tick + 1) * ANSWERS / 100 {
            let to = format!("10.99.0.{}:5300", 1 + number % CLIENTS);
            resolver
                .send_to(&answer(number), to)
                .or_else(|_| {
                    // Only one of these addresses is on the interface itself.
                    resolver.send_to(&answer(number), "10.99.0.1:5300")
                })
                .expect("sent");
        }
        thread::sleep((started + TICK * (tick + 1)).saturating_duration_since(Instant::now()));
    }
    drop(client);
}

/// One A record for one of a thousand names (RFC 1035, section 4).
fn answer(number: u32) -> Vec<u8> {
    let label = format!("host{:03}", number % 1000);
    let mut message = (number as u16).to_be_bytes().to_vec();
    message.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, label.len() as u8]);
    message.extend(label.as_bytes());
    message.extend(b"\x07example\0\0\x01\0\x01");
    // A pointer to the name, A, IN, 60 s, four bytes.
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
    message
}

/// What of it arrived, and what was counted as lost.
pub(crate) fn report(events: &[Event]) {
    let count = |is_one: fn(&Kind) -> bool| {
        events.iter().filter_map(|event| event.kind.as_ref()).filter(|kind| is_one(kind)).count()
    };
    let drops = count(|kind| matches!(kind, Kind::FirewallDrop(_)));
    let answers = count(|kind| matches!(kind, Kind::DnsResponse(_)));
    let mut gaps = BTreeMap::new();
    for event in events {
        if let Some(Kind::Gap(gap)) = &event.kind {
            *gaps.entry(gap.cause().as_str_name()).or_insert(0) += gap.count;
        }
    }
    println!(
        "mixed  agent   {drops} of {} logged packets, {answers} of {} DNS answers; gaps: {gaps:?}",
        DROPS * SECONDS,
        ANSWERS * SECONDS
    );
}
