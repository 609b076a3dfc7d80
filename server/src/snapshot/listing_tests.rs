use netmon_proto::v1::{Direction, End, Flow, TcpState};
use proptest::prelude::*;

use super::read;

/// Of a router with NAT in a household.
const FIXTURE: &str = include_str!("../../testdata/conntrack_extended.txt");

fn one(line: &str) -> Flow {
    let listing = read(line.as_bytes());
    assert_eq!(listing.refusal, None, "{line}");
    listing.flows.into_iter().next().unwrap()
}

fn refusal(line: &str) -> String {
    let listing = read(line.as_bytes());
    assert_eq!((listing.flows.len(), listing.refused), (0, 1), "{line}");
    listing.refusal.unwrap()
}

#[test]
fn a_real_listing_is_read_whole() {
    let listing = read(FIXTURE.as_bytes());
    assert_eq!((listing.flows.len(), listing.refused, listing.refusal), (110, 0, None));
    let without_counters = listing.flows.iter().filter(|flow| flow.no_counters).count();
    assert_eq!(
        without_counters,
        FIXTURE.lines().filter(|line| line.contains("src=") && !line.contains("bytes=")).count()
    );
    let sum = |key: &str| -> u64 {
        FIXTURE.split(key).skip(1).map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let bytes: u64 = listing.flows.iter().map(|flow| flow.bytes_orig + flow.bytes_reply).sum();
    let packets: u64 = listing.flows.iter().map(|flow| flow.packets_orig + flow.packets_reply).sum();
    assert_eq!((bytes, packets), (sum("bytes="), sum("packets=")));
    let second = &listing.flows[1];
    assert_eq!(second.src_ip.as_ref(), [10, 0, 0, 24]);
    assert_eq!(second.dst_ip.as_ref(), [142, 250, 69, 174]);
    assert_eq!(second.reply_dst_ip.as_ref(), [135, 131, 124, 247]);
    assert_eq!((second.src_port, second.dst_port), (40_098, 443));
    assert_eq!(
        (second.packets_orig, second.bytes_orig, second.packets_reply, second.bytes_reply),
        (67, 10_475, 68, 17_170)
    );
    assert_eq!(second.tcp_state(), TcpState::TimeWait);
    assert_eq!(second.direction(), Direction::Out);
    assert_eq!((second.device(), second.remote()), (End::Initiator, End::Responder));
    // CONFIRMED, ASSURED, SEEN_REPLY, SRC_NAT.
    assert_eq!(second.status, 0b1_1110);
}

#[test]
fn the_plain_form_says_the_same() {
    let plain: String = FIXTURE.lines().map(|line| line.replacen("ipv4     2 ", "", 1) + "\n").collect();
    assert_eq!(read(plain.as_bytes()).flows, read(FIXTURE.as_bytes()).flows);
}

#[test]
fn other_protocols_and_signs_are_understood() {
    let ping = one("icmp     1 29 src=192.168.1.7 dst=192.0.2.1 type=8 code=0 id=77 packets=3 bytes=252 \
         src=192.0.2.1 dst=198.51.100.2 type=0 code=0 id=78 packets=2 bytes=168 mark=9 zone=5 use=1 id=4000000000");
    assert_eq!((ping.protocol, ping.icmp_type, ping.icmp_code, ping.icmp_id), (1, 8, 0, 77));
    assert_eq!((ping.mark, ping.zone, ping.conntrack_id), (9, 5, 4_000_000_000));
    assert_eq!((ping.bytes_orig, ping.bytes_reply), (252, 168));
    let query =
        one("ipv6     10 udp      17 28 src=fd00::7 dst=2001:db8::53 sport=5353 dport=53 [UNREPLIED] \
         src=2001:db8::53 dst=fd00::7 sport=53 dport=5353 mark=0 secctx=null use=1");
    assert_eq!((query.status, query.no_counters, query.reply_src_ip.len()), (0b1000, true, 0));
    let forwarded =
        one("ipv4 2 tcp 6 src=203.0.113.9 dst=198.51.100.2 sport=4000 dport=80 packets=1 bytes=60 \
         src=192.168.1.9 dst=203.0.113.9 sport=8080 dport=4000 packets=1 bytes=60 [OFFLOAD] mark=0 use=2");
    assert_eq!(forwarded.direction(), Direction::In);
    assert_eq!((forwarded.device(), forwarded.remote()), (End::Responder, End::Initiator));
    // CONFIRMED, SEEN_REPLY, DST_NAT, OFFLOAD.
    assert_eq!(forwarded.status, 0b1000 | 0b10 | 0b10_0000 | 1 << 14);
    assert_eq!(one("unknown  47 599 src=10.0.0.1 dst=10.0.0.2 src=10.0.0.2 dst=10.0.0.1 use=1").protocol, 47);
}

#[test]
fn what_is_no_flow_is_refused_with_the_reason() {
    for (line, expected) in [
        ("tcp 6 10 ESTABLISHED", "line 1: expected two tuples, found 0"),
        ("tcp 6 10 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2", "line 1: expected two tuples, found 1"),
        ("tcp six src=10.0.0.1", "the protocol's number: expected a number, got \"six\""),
        ("tcp 6 dst=10.0.0.1", "dst comes before src"),
        ("tcp 6 src=not-an-ip<b> dst=10.0.0.2", "src: expected an IP address, got \"not-an-ip<b>\""),
        ("tcp 6 src=10.0.0.1 dst=::1 src=::1 dst=10.0.0.1", "src and dst of one family"),
        ("tcp 6 src=10.0.0.1 src=10.0.0.2 dst=10.0.0.1", "expected src and dst of one family in each tuple"),
        ("tcp 6 src=10.0.0.1 dst=10.0.0.2 sport=65536", "sport: expected a number, got \"65536\""),
        ("tcp 6 src=10.0.0.1 dst=10.0.0.2 src=10.0.0.2 dst=10.0.0.1 bytes=-1", "bytes: expected a number"),
        ("conntrack v1.4.8 (conntrack-tools): 110 flow entries have been shown.", "the protocol's number"),
        (&"x".repeat(3_000), "expected at most 2048 bytes"),
    ] {
        let found = refusal(line);
        assert!(found.contains(expected), "{line}: {found}");
    }
    assert!(refusal("\u{0}").contains("line 1"));
    // A neighbour is read all the same, and the reader knows that not all is there.
    let text = format!("garbage\n{}\n", FIXTURE.lines().find(|line| line.contains("src=")).unwrap());
    let listing = read(text.as_bytes());
    assert_eq!((listing.flows.len(), listing.refused, listing.is_complete()), (1, 1, false));
}

#[derive(Clone, Debug)]
struct Row {
    v6: bool,
    hosts: [u8; 3],
    ports: [u16; 3],
    counters: Option<[u64; 4]>,
    replied: bool,
    assured: bool,
    mark: u32,
}

fn rows() -> impl Strategy<Value = Row> {
    (
        any::<bool>(),
        any::<[u8; 3]>(),
        any::<[u16; 3]>(),
        proptest::option::of(any::<[u64; 4]>()),
        any::<[bool; 2]>(),
        any::<u32>(),
    )
        .prop_map(|(v6, hosts, ports, counters, [replied, assured], mark)| Row {
            v6,
            hosts,
            ports,
            counters,
            replied,
            assured,
            mark,
        })
}

impl Row {
    fn address(&self, place: usize) -> String {
        let host = self.hosts[place];
        if self.v6 { format!("2001:db8::{host:x}") } else { format!("192.0.2.{host}") }
    }

    /// As a kernel prints it.
    fn line(&self) -> String {
        let (client, server, nat) = (self.address(0), self.address(1), self.address(2));
        let counted = |of: usize| {
            self.counters
                .map_or_else(String::new, |all| format!("packets={} bytes={} ", all[of], all[of + 1]))
        };
        let [from, to, translated] = self.ports;
        format!(
            "{} udp      17 30 src={client} dst={server} sport={from} dport={to} {}{}src={server} dst={nat} sport={to} dport={translated} {}{}mark={} use=1",
            if self.v6 { "ipv6     10" } else { "ipv4     2" },
            counted(0),
            if self.replied { "" } else { "[UNREPLIED] " },
            counted(2),
            if self.assured { "[ASSURED] " } else { "" },
            self.mark,
        )
    }
}

proptest! {
    #[test]
    fn what_a_kernel_prints_is_read(rows in prop::collection::vec(rows(), 1..20)) {
        let text: Vec<String> = rows.iter().map(Row::line).collect();
        let listing = read(text.join("\n").as_bytes());
        prop_assert_eq!(listing.refusal, None);
        for (row, flow) in rows.iter().zip(&listing.flows) {
            let most = i64::MAX.cast_unsigned();
            let counters = row.counters.unwrap_or_default().map(|count| count.min(most));
            prop_assert_eq!([flow.packets_orig, flow.bytes_orig, flow.packets_reply, flow.bytes_reply], counters);
            prop_assert_eq!([flow.src_port, flow.dst_port], [u32::from(row.ports[0]), u32::from(row.ports[1])]);
            prop_assert_eq!(flow.reply_dst_ip.is_empty(), row.hosts[2] == row.hosts[0] && row.ports[2] == row.ports[0]);
            prop_assert_eq!(flow.status & 0b110, u32::from(row.replied) << 1 | u32::from(row.assured) << 2);
            prop_assert_eq!((flow.mark, flow.no_counters), (row.mark, row.counters.is_none()));
        }
    }

    #[test]
    fn nothing_harms_the_reader(text in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let listing = read(&text);
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        prop_assert_eq!(listing.flows.len() as u64 + listing.refused, lines as u64);
    }

    #[test]
    fn no_damage_to_a_line_harms_the_reader(place in 0..10_000_usize, byte: u8, cut in 0..10_000_usize) {
        let mut text = FIXTURE.as_bytes().to_vec();
        text[place] = byte;
        text.truncate(cut);
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        let listing = read(&text);
        prop_assert_eq!(listing.flows.len() as u64 + listing.refused, lines as u64);
    }
}
