//! The table of cases: what a device asked, when a flow began, and which name it then has.

use super::tests::{Lab, NOW, bytes, report};
use super::*;
use crate::domain::{DnsAnswer, DnsData, DnsResponse, FlowName, Identity, NameReason};
use crate::ingest::Phase;

const SECOND_US: Micros = 1_000_000;
const RUN: u64 = 0xa << 32;
/// Of the sample's flows.
const DEVICE: &str = "192.168.1.20";
const HOST: &str = "203.0.113.9";

/// One answer: who asked, for what, at which second of the flow's clock, the TTL, and the addresses.
type Asked = (&'static str, &'static str, i64, Option<u32>, &'static [&'static str]);

fn response(client: &str, name: &str, rcode: u16, ttl_s: Option<u32>, addresses: &[&str]) -> DnsResponse {
    let record = |address: &&str| {
        let address: IpAddr = address.parse().unwrap();
        let kind = if address.is_ipv4() { 1 } else { 28 };
        DnsAnswer { name: name.to_owned(), kind, data: DnsData::Address(address), ttl_s }
    };
    DnsResponse {
        client: client.parse().unwrap(),
        name: name.to_owned(),
        kind: 1,
        rcode,
        answers: addresses.iter().map(record).collect(),
        resolver: None,
        cached: false,
    }
}

fn flow(responder: &str, phase: Phase) -> Observation {
    let mut report = report(phase, RUN | 1, 5000, bytes(1, 1));
    report.key.tuple.dst = responder.parse().unwrap();
    if responder.contains(':') {
        report.key.tuple.src = "fd00::20".parse().unwrap();
        report.device = Some(report.key.tuple.src);
    }
    report.remote = Some(report.key.tuple.dst);
    Observation::Flow(Box::new(report))
}

fn told(time: Micros, what: Observation) -> CheckedBatch {
    CheckedBatch {
        router: RouterId(1),
        epoch: 0,
        sequence: 0,
        lost_before: 0,
        lost_events: 0,
        lost_cause: 0,
        events: vec![Checked { time, clamped: 0, what }],
        refused: 0,
        http: None,
    }
}

fn apply(lab: &mut Lab, time: Micros, what: Observation) {
    assert_eq!(lab.engine.apply(told(time, what), NOW), Applied::Taken);
}

fn answer(lab: &mut Lab, (client, name, second, ttl_s, addresses): Asked) {
    let response = response(client, name, 0, ttl_s, addresses);
    apply(lab, NOW + second * SECOND_US, Observation::Dns(Box::new(response)));
}

/// The name of a flow to `responder`, whether its answers arrive before the flow, after it while it is open, or after
/// its end was committed.
fn check(what: &str, responder: &str, asked: &[Asked], expected: Option<(Option<&str>, u8, NameReason)>) {
    let shown = |name: &Option<FlowName>| {
        name.as_ref().map(|name| (name.domain.as_deref().map(str::to_owned), name.confidence, name.reason))
    };
    let expected =
        expected.map(|(domain, confidence, reason)| (domain.map(str::to_owned), confidence, reason));

    let mut lab = Lab::new();
    asked.iter().for_each(|asked| answer(&mut lab, *asked));
    apply(&mut lab, NOW, flow(responder, Phase::New));
    assert_eq!(shown(&lab.engine.take_changes().open[0].name), expected, "{what}, answers first");

    let mut lab = Lab::new();
    apply(&mut lab, NOW, flow(responder, Phase::New));
    lab.engine.take_changes();
    asked.iter().for_each(|asked| answer(&mut lab, *asked));
    let name = lab.engine.live(NOW).flows[0].record.name.clone();
    assert_eq!(shown(&name), expected, "{what}, the flow first");
    if expected.is_some() {
        assert_eq!(shown(&lab.engine.take_changes().open[0].name), expected, "{what}, written");
    }

    let mut lab = Lab::new();
    apply(&mut lab, NOW, flow(responder, Phase::End { seen: true }));
    lab.engine.take_changes();
    asked.iter().for_each(|asked| answer(&mut lab, *asked));
    let named = lab.engine.take_changes().named;
    assert_eq!(shown(&named.first().map(|flow| flow.name.clone())), expected, "{what}, the flow ended first");
}

#[test]
fn a_flow_has_the_name_that_its_device_asked_for() {
    use NameReason::{AnswerAfterFlow, OlderThanTtl, OnlyCandidate, OtherDeviceOnly, SeveralCandidates};
    const A: &str = "a.example";
    const B: &str = "b.example";
    let minute: Option<u32> = Some(60);
    check("nobody asked", HOST, &[], None);
    check("before", HOST, &[(DEVICE, A, -5, minute, &[HOST])], Some((Some(A), 95, OnlyCandidate)));
    check(
        "at the end of its TTL",
        HOST,
        &[(DEVICE, A, -60, minute, &[HOST])],
        Some((Some(A), 95, OnlyCandidate)),
    );
    check(
        "one of several addresses",
        HOST,
        &[(DEVICE, A, -5, minute, &["203.0.113.8", HOST])],
        Some((Some(A), 95, OnlyCandidate)),
    );
    check(
        "asked twice",
        HOST,
        &[(DEVICE, A, -50, minute, &[HOST]), (DEVICE, A, -5, minute, &[HOST])],
        Some((Some(A), 95, OnlyCandidate)),
    );
    check("no TTL told", HOST, &[(DEVICE, A, -299, None, &[HOST])], Some((Some(A), 95, OnlyCandidate)));
    check("expired", HOST, &[(DEVICE, A, -61, minute, &[HOST])], Some((Some(A), 50, OlderThanTtl)));
    check(
        "expired for hours",
        HOST,
        &[(DEVICE, A, -7_200, minute, &[HOST])],
        Some((Some(A), 30, OlderThanTtl)),
    );
    check("expired for more than a day", HOST, &[(DEVICE, A, -90_000, minute, &[HOST])], None);
    check(
        "expired, no TTL told",
        HOST,
        &[(DEVICE, A, -301, None, &[HOST])],
        Some((Some(A), 50, OlderThanTtl)),
    );
    check("after", HOST, &[(DEVICE, A, 2, minute, &[HOST])], Some((Some(A), 40, AnswerAfterFlow)));
    check("long after", HOST, &[(DEVICE, A, 61, minute, &[HOST])], None);
    check(
        "expired, and after",
        HOST,
        &[(DEVICE, A, -100, minute, &[HOST]), (DEVICE, B, 2, minute, &[HOST])],
        Some((Some(A), 50, OlderThanTtl)),
    );
    check(
        "two names of one address",
        HOST,
        &[(DEVICE, A, -9, minute, &[HOST]), (DEVICE, B, -5, minute, &[HOST])],
        Some((Some(B), 60, SeveralCandidates)),
    );
    check(
        "two names, one expired",
        HOST,
        &[(DEVICE, A, -61, minute, &[HOST]), (DEVICE, B, -5, minute, &[HOST])],
        Some((Some(B), 95, OnlyCandidate)),
    );
    check(
        "two names, one after",
        HOST,
        &[(DEVICE, A, -5, minute, &[HOST]), (DEVICE, B, 5, minute, &[HOST])],
        Some((Some(A), 95, OnlyCandidate)),
    );
    check(
        "three names",
        HOST,
        &[
            (DEVICE, A, -9, minute, &[HOST]),
            (DEVICE, "c.example", -7, minute, &[HOST]),
            (DEVICE, B, -5, minute, &[HOST]),
        ],
        Some((Some(B), 45, SeveralCandidates)),
    );
    check(
        "AAAA",
        "2001:db8::9",
        &[("fd00::20", A, -5, minute, &["2001:db8::9"])],
        Some((Some(A), 95, OnlyCandidate)),
    );
    check("another address", HOST, &[(DEVICE, A, -5, minute, &["203.0.113.8"])], None);
    check(
        "another device",
        HOST,
        &[("192.168.1.21", A, -5, minute, &[HOST])],
        Some((None, 0, OtherDeviceOnly)),
    );
    check(
        "both devices",
        HOST,
        &[("192.168.1.21", B, -5, minute, &[HOST]), (DEVICE, A, -7, minute, &[HOST])],
        Some((Some(A), 95, OnlyCandidate)),
    );
}

#[test]
fn a_name_that_is_asked_for_again_and_again_pushes_no_other_one_out() {
    use NameReason::SeveralCandidates;
    const A: &str = "a.example";
    const B: &str = "b.example";
    const C: &str = "c.example";
    let (second, hour) = (Some(1), Some(3_600));
    let first: Asked = (DEVICE, A, -600, hour, &[HOST]);
    let with = |others: Vec<Asked>| -> Vec<Asked> { std::iter::once(first).chain(others).collect() };

    let repeated = with((0..20).map(|n| (DEVICE, B, n - 30, Some(60), &[HOST][..])).collect());
    check("again while it is valid", HOST, &repeated, Some((Some(B), 60, SeveralCandidates)));
    let expired = with((0..20).map(|n| (DEVICE, B, 3 * n - 58, second, &[HOST][..])).collect());
    check("again when it has expired", HOST, &expired, Some((Some(B), 60, SeveralCandidates)));
    let in_turn =
        with((0..20).map(|n| (DEVICE, [B, C][n as usize % 2], n - 20, hour, &[HOST][..])).collect());
    check("two in turn", HOST, &in_turn, Some((Some(C), 45, SeveralCandidates)));

    // The flow began while it was asked for, and those who asked on told nothing new of it.
    let around = with((0..20).map(|n| (DEVICE, B, n - 1, second, &[HOST][..])).collect());
    check("around the beginning", HOST, &around, Some((Some(B), 60, SeveralCandidates)));
    let in_turn = with((0..20).map(|n| (DEVICE, [B, C][n as usize % 2], n - 1, hour, &[HOST][..])).collect());
    let mut lab = Lab::new();
    in_turn[..3].iter().for_each(|asked| answer(&mut lab, *asked));
    apply(&mut lab, NOW, flow(HOST, Phase::New));
    let before = lab.engine.take_changes().open[0].name.clone().unwrap();
    assert_eq!((before.domain.as_deref(), before.confidence), (Some(C), 45));
    in_turn[3..].iter().for_each(|asked| answer(&mut lab, *asked));
    assert_eq!(lab.engine.take_changes().open, []);
    assert_eq!(lab.engine.live(NOW).flows[0].record.name, Some(before));
}

#[test]
fn an_alias_is_called_by_the_name_that_was_asked_for() {
    let mut lab = Lab::new();
    let mut chain = response(DEVICE, "www.example", 0, Some(300), &[HOST]);
    chain.answers[0].name = "cdn.example".to_owned();
    let link = DnsData::Text("cdn.example".to_owned());
    chain
        .answers
        .insert(0, DnsAnswer { name: "www.example".to_owned(), kind: 5, data: link, ttl_s: Some(20) });
    apply(&mut lab, NOW - 15 * SECOND_US, Observation::Dns(Box::new(chain.clone())));
    apply(&mut lab, NOW, flow(HOST, Phase::New));
    let name = lab.engine.take_changes().open[0].name.clone().unwrap();
    assert_eq!((name.domain.as_deref(), name.confidence), (Some("www.example"), 95));

    // The shortest TTL on the way counts.
    let mut lab = Lab::new();
    apply(&mut lab, NOW - 25 * SECOND_US, Observation::Dns(Box::new(chain)));
    apply(&mut lab, NOW, flow(HOST, Phase::New));
    assert_eq!(lab.engine.take_changes().open[0].name.clone().unwrap().reason, NameReason::OlderThanTtl);
}

#[test]
fn an_answer_that_there_is_no_such_name_is_no_evidence() {
    let mut lab = Lab::new();
    let nxdomain = response(DEVICE, "a.example", 3, Some(60), &[HOST]);
    apply(&mut lab, NOW - SECOND_US, Observation::Dns(Box::new(nxdomain)));
    apply(&mut lab, NOW, flow(HOST, Phase::New));
    assert_eq!(lab.engine.take_changes().open[0].name, None);
}

#[test]
fn a_device_uses_over_one_protocol_what_it_asked_over_the_other() {
    for identity_first in [true, false] {
        let mut lab = Lab::new();
        let identity = Identity {
            mac: Some([2, 0, 0, 0, 0, 7]),
            addresses: vec![DEVICE.parse().unwrap(), "fd00::20".parse().unwrap()],
            host_name: String::new(),
            vendor_class: String::new(),
            lease_until: None,
            interface: String::new(),
            last_seen: NOW,
        };
        if identity_first {
            apply(&mut lab, NOW, Observation::Identity(Box::new(identity.clone())));
        }
        answer(&mut lab, (DEVICE, "a.example", -5, Some(60), &["2001:db8::9"]));
        if !identity_first {
            apply(&mut lab, NOW, Observation::Identity(Box::new(identity)));
        }
        apply(&mut lab, NOW, flow("2001:db8::9", Phase::New));
        let name = lab.engine.take_changes().open[0].name.clone().unwrap();
        assert_eq!((name.domain.as_deref(), name.confidence), (Some("a.example"), 95), "{identity_first}");
    }
}

#[test]
fn what_outsiders_begin_has_no_name() {
    let mut lab = Lab::new();
    answer(&mut lab, (DEVICE, "a.example", -5, Some(60), &["192.168.1.20"]));
    let mut inbound = report(Phase::New, RUN | 1, 5000, bytes(1, 1));
    inbound.key.tuple.src = HOST.parse().unwrap();
    inbound.key.tuple.dst = DEVICE.parse().unwrap();
    inbound.device = Some(DEVICE.parse().unwrap());
    apply(&mut lab, NOW, Observation::Flow(Box::new(inbound)));
    assert_eq!(lab.engine.take_changes().open[0].name, None);
}

#[test]
fn a_late_answer_finds_a_flow_that_a_restart_of_the_agent_renumbered() {
    let mut lab = Lab::new();
    apply(&mut lab, NOW, flow(HOST, Phase::New));
    let before = lab.engine.take_changes().open[0].clone();
    let mut found = report(Phase::Found, (0xb << 32) | 1, 5000, bytes(1, 1));
    found.key.tuple.dst = HOST.parse().unwrap();
    found.remote = Some(found.key.tuple.dst);
    apply(&mut lab, NOW, Observation::Flow(Box::new(found)));
    assert_eq!(lab.engine.take_changes().open[0].id, before.id);
    answer(&mut lab, (DEVICE, "a.example", 1, Some(60), &[HOST]));
    let changes = lab.engine.take_changes();
    assert!(changes.named.is_empty());
    let name = changes.open[0].name.clone().unwrap();
    assert_eq!((name.domain.as_deref(), name.reason), (Some("a.example"), NameReason::AnswerAfterFlow));
}

#[test]
fn memory_for_names_is_bounded_and_survives_a_restart() {
    let mut lab = Lab::new();
    for number in 0..5_000_u32 {
        let address = std::net::Ipv4Addr::from(0xcb00_7100 + number).to_string();
        let response = response(DEVICE, &format!("n{number}.example"), 0, Some(600), &[address.as_str()]);
        apply(&mut lab, NOW - SECOND_US, Observation::Dns(Box::new(response)));
    }
    // 203.0.113.9 was among the first and is forgotten: no name, and never another one.
    apply(&mut lab, NOW, flow(HOST, Phase::New));
    assert_eq!(lab.engine.take_changes().open[0].name, None);

    let mut engine = Engine::default();
    engine.give_ids(1, 100);
    let known = KnownAnswer {
        time: NOW - SECOND_US,
        client: DEVICE.parse().unwrap(),
        mac: None,
        domain: "a.example".to_owned(),
        address: HOST.parse().unwrap(),
        ttl_s: Some(60),
    };
    engine.attach(RouterId(1), "r", Known { answers: vec![known], ..Known::default() });
    assert_eq!(engine.apply(told(NOW, flow(HOST, Phase::New)), NOW), Applied::Taken);
    let name = engine.take_changes().open[0].name.clone().unwrap();
    assert_eq!((name.domain.as_deref(), name.confidence), (Some("a.example"), 95));
}
