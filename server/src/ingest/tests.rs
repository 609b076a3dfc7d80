//! What validation takes, clamps and refuses: the comments of `events.proto`, line by line.

use netmon_proto::v1::{self, event::Kind};

use super::{Checked, Observation, Phase, Refusal, check_event, check_events};

const NOW: i64 = 1_763_800_000_000_000;
const HOUR_US: i64 = 3_600_000_000;

fn flow() -> v1::Flow {
    v1::Flow {
        phase: v1::FlowPhase::Progress.into(),
        flow_id: 7,
        protocol: 6,
        src_ip: vec![192, 168, 1, 20].into(),
        dst_ip: vec![203, 0, 113, 9].into(),
        src_port: 50_000,
        dst_port: 443,
        direction: v1::Direction::Out.into(),
        bytes_orig: 100,
        first_seen_us: NOW - HOUR_US,
        last_seen_us: NOW - 1,
        device: v1::End::Initiator.into(),
        remote: v1::End::Responder.into(),
        ..v1::Flow::default()
    }
}

fn check_at(time_us: i64, flow: v1::Flow) -> Result<Checked, Refusal> {
    check_event(v1::Event { time_us, kind: Some(Kind::Flow(flow)) }, NOW)
}

fn check(change: impl FnOnce(&mut v1::Flow)) -> Result<Checked, Refusal> {
    let mut flow = flow();
    change(&mut flow);
    check_at(NOW, flow)
}

fn report(checked: &Checked) -> &super::FlowReport {
    match &checked.what {
        Observation::Flow(report) => report,
        other => panic!("expected a flow, got {other:?}"),
    }
}

#[test]
fn a_good_flow_passes_as_it_is() {
    let checked = check(|_| ()).unwrap();
    assert_eq!(checked.clamped, 0);
    let report = report(&checked);
    assert_eq!(report.phase, Phase::Progress);
    assert_eq!(report.device.unwrap().to_string(), "192.168.1.20");
    assert_eq!(report.remote.unwrap().to_string(), "203.0.113.9");
    assert_eq!(report.counters.bytes_orig, 100);
}

#[test]
fn what_is_wrong_is_refused_with_the_field_and_what_was_expected() {
    type Change = fn(&mut v1::Flow);
    let cases: [(Change, &str); 13] = [
        (|f| f.src_ip = vec![1; 7].into(), "flow.src_ip has 7 bytes, expected 4 or 16"),
        (|f| f.dst_ip = vec![].into(), "flow.dst_ip has 0 bytes, expected 4 or 16"),
        (|f| f.reply_src_ip = vec![1; 4].into(), "flow.reply_dst_ip has 0 bytes, expected 4 or 16"),
        (|f| f.dst_ip = vec![1; 16].into(), "the addresses of one tuple must be of one family"),
        (|f| f.protocol = 256, "flow.protocol is 256, expected at most 255"),
        (|f| f.src_port = 65_536, "flow.src_port is 65536, expected at most 65535"),
        (|f| f.zone = 65_536, "flow.zone is 65536, expected at most 65535"),
        (|f| f.flow_id = 0, "flow_id is 0, expected a unique id"),
        (|f| f.phase = 0, "flow.phase is 0, which is not one of its values"),
        (|f| f.phase = 99, "flow.phase is 99, which is not one of its values"),
        (|f| f.direction = 0, "flow.direction is 0, which is not one of its values"),
        (|f| f.device = 3, "flow.device is 3, which is not one of its values"),
        (|f| f.tcp_state = -1, "flow.tcp_state is -1, which is not one of its values"),
    ];
    for (change, expected) in cases {
        assert_eq!(check(change).unwrap_err().to_string(), expected);
    }
    let too_large = check(|f| f.bytes_reply = 1 << 63).unwrap_err().to_string();
    assert_eq!(too_large, "flow.bytes_reply is 9223372036854775808, expected at most 9223372036854775807");
}

#[test]
fn an_event_without_a_known_kind_is_refused() {
    assert_eq!(check_event(v1::Event { time_us: NOW, kind: None }, NOW), Err(Refusal::NoKind));
    for cause in [0, 99] {
        let gap = v1::Gap { cause, ..v1::Gap::default() };
        let event = v1::Event { time_us: NOW, kind: Some(Kind::Gap(gap)) };
        assert_eq!(check_event(event, NOW), Err(Refusal::Enum { field: "gap.cause", value: cause }));
    }
}

#[test]
fn a_clock_that_is_off_is_replaced_by_the_time_of_receipt() {
    let (year_2001, year_2099) = (978_307_200_000_000, 4_070_908_800_000_000);
    for (time, expected, clamped) in [
        (NOW, NOW, false),
        (NOW + 9 * 60_000_000, NOW + 9 * 60_000_000, false),
        (NOW + 11 * 60_000_000, NOW, true),
        (NOW - 24 * HOUR_US, NOW - 24 * HOUR_US, false),
        (NOW - 400 * 24 * HOUR_US, NOW - 400 * 24 * HOUR_US, false),
        (NOW - 401 * 24 * HOUR_US, NOW, true),
        (year_2001, NOW, true),
        (0, NOW, true),
        (-5, NOW, true),
        (i64::MIN, NOW, true),
        (i64::MAX, NOW, true),
        (year_2099, NOW, true),
    ] {
        let mut flow = flow();
        flow.first_seen_us = expected;
        flow.last_seen_us = expected;
        let checked = check_at(time, flow).unwrap();
        assert_eq!((checked.time, checked.clamped > 0), (expected, clamped), "{time}");
    }
}

#[test]
fn times_of_a_flow_stay_in_their_order() {
    for (first, last, expected, clamped) in [
        (NOW - 10, NOW - 5, (NOW - 10, NOW - 5), 0),
        (NOW + 10, NOW - 5, (NOW, NOW), 2),
        (0, NOW, (NOW, NOW), 1),
        (NOW - 400 * 24 * HOUR_US, NOW, (NOW - 400 * 24 * HOUR_US, NOW), 0),
        (NOW - 401 * 24 * HOUR_US, NOW, (NOW, NOW), 1),
        (NOW - 10, NOW + 10, (NOW - 10, NOW), 1),
        (NOW - 10, 0, (NOW - 10, NOW - 10), 1),
    ] {
        let checked = check(|f| (f.first_seen_us, f.last_seen_us) = (first, last)).unwrap();
        let report = report(&checked);
        assert_eq!((report.first_seen, report.last_seen), expected);
        assert_eq!(checked.clamped, clamped, "{first} {last}");
    }
}

#[test]
fn no_time_within_an_event_is_of_long_ago() {
    let long_ago = NOW - 401 * 24 * HOUR_US;
    let seen = |kind: Kind| {
        let checked = check_event(v1::Event { time_us: NOW, kind: Some(kind) }, NOW).unwrap();
        let times = match checked.what {
            Observation::Gap(gap) => vec![gap.from, gap.to],
            Observation::Bucket(bucket) => vec![bucket.start],
            Observation::Identity(identity) => vec![identity.last_seen],
            other => panic!("{other:?}"),
        };
        assert_eq!(times, vec![NOW; times.len()]);
    };
    seen(Kind::Gap(v1::Gap { cause: 1, from_us: long_ago, to_us: long_ago, ..v1::Gap::default() }));
    let client_ip = || vec![192, 168, 1, 20].into();
    seen(Kind::DnsBucket(v1::DnsBucket {
        bucket_start_us: long_ago,
        client_ip: client_ip(),
        ..v1::DnsBucket::default()
    }));
    seen(Kind::HostIdentity(v1::HostIdentity {
        last_seen_us: long_ago,
        addresses: vec![client_ip()],
        ..v1::HostIdentity::default()
    }));
}

#[test]
fn the_unwatched_part_is_at_most_the_whole() {
    let checked = check(|f| f.bytes_orig_before = 101).unwrap();
    assert_eq!(report(&checked).before.bytes_orig, 100);
    assert_eq!(checked.clamped, 1);
}

#[test]
fn the_responder_is_the_far_end_after_nat() {
    let checked = check(|f| {
        f.direction = v1::Direction::In.into();
        f.src_ip = vec![198, 51, 100, 1].into();
        f.dst_ip = vec![192, 0, 2, 1].into();
        f.reply_src_ip = vec![192, 168, 1, 5].into();
        f.reply_dst_ip = vec![198, 51, 100, 1].into();
        f.device = v1::End::Responder.into();
        f.remote = v1::End::Initiator.into();
    });
    let checked = checked.unwrap();
    assert_eq!(report(&checked).device.unwrap().to_string(), "192.168.1.5");
    assert_eq!(report(&checked).remote.unwrap().to_string(), "198.51.100.1");
}

#[test]
fn strangers_text_is_cut_and_loses_its_control_characters() {
    let detail = format!("a\u{7}b\n{}", "ä".repeat(150));
    let gap = v1::Gap { cause: 1, count: 2, detail, ..v1::Gap::default() };
    let checked = check_event(v1::Event { time_us: NOW, kind: Some(Kind::Gap(gap)) }, NOW).unwrap();
    let Observation::Gap(gap) = checked.what else { panic!("expected a gap") };
    assert!(gap.detail.starts_with("abä"));
    assert!(gap.detail.len() <= 200);
    assert_eq!((gap.from, gap.to), (NOW, NOW));
}

#[test]
fn a_bad_event_does_not_harm_its_neighbours() {
    let good = || v1::Event { time_us: NOW, kind: Some(Kind::Flow(flow())) };
    let bad = || v1::Event { time_us: NOW, kind: None };
    let events = vec![good(), bad(), good()];
    let checked = check_events(events, NOW, true);
    assert_eq!((checked.events.len(), checked.originals.len(), checked.rejected), (2, 2, 1));
    assert_eq!(checked.rejections[0].index, 1);

    let many = check_events((0..50).map(|_| bad()).collect(), NOW, false);
    assert_eq!((many.rejected, many.rejections.len()), (50, 10));
}

#[test]
fn router_names_are_short_and_plain() {
    for (name, expected) in
        [("router-01", true), ("a.b_c:D-9", true), ("", false), ("a b", false), ("<b>", false), ("é", false)]
    {
        assert_eq!(super::is_router_name(name), expected, "{name}");
    }
    assert!(super::is_router_name(&"x".repeat(64)));
    assert!(!super::is_router_name(&"x".repeat(65)));
}

#[test]
fn the_routers_own_addresses_are_no_devices() {
    let observed = |is_router| {
        let mac = vec![2, 0, 0, 0, 0, 1].into();
        let addresses = vec![vec![192, 168, 1, 1].into()];
        let identity = v1::HostIdentity { mac, addresses, is_router, ..v1::HostIdentity::default() };
        let event = v1::Event { time_us: NOW, kind: Some(Kind::HostIdentity(identity)) };
        check_event(event, NOW).expect("a right identity").what
    };
    assert!(matches!(observed(true), Observation::Own(_)));
    assert!(matches!(observed(false), Observation::Identity(_)));
}
