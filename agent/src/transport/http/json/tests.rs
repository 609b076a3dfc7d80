//! Single events, and batches of the original agent read and written again.

use bytes::Bytes;
use insta::assert_snapshot;
use netmon_proto::v1::{DnsContext, Heartbeat};
use serde_json::{Value, json};

use netmon_proto::STATUS_BITS;

use super::*;

/// Batches that the original agent posted, from a lab with a few clients.
const BATCHES: &str = include_str!("../../../../testdata/http_batches.jsonl");

fn written(kind: Kind) -> String {
    written_at(1_700_000_000_123_400, kind)
}

fn written_at(time_us: i64, kind: Kind) -> String {
    let event = Event { time_us, kind: Some(kind) };
    let mut out = Vec::new();
    write(&event, &mut out, |out| out.push(b'\n'));
    String::from_utf8(out).expect("UTF-8").trim_end().to_owned()
}

#[test]
fn a_flow_is_told_with_its_own_times_and_direction() {
    let mut flow = Flow {
        phase: FlowPhase::End.into(),
        protocol: 6,
        src_ip: vec![192, 168, 1, 20].into(),
        dst_ip: vec![198, 51, 100, 1].into(),
        src_port: 40_000,
        dst_port: 443,
        direction: Direction::In.into(),
        bytes_orig: 5,
        bytes_reply: u64::MAX,
        packets_orig: 1,
        packets_reply: 2,
        first_seen_us: 1_699_999_999_000_000,
        last_seen_us: 1_700_000_000_000_001,
        tcp_state: TcpState::TimeWait.into(),
        status: 0x1e,
        dns_context: Some(Box::new(DnsContext {
            recent_name_hashes: vec!["b64:x".to_owned()],
            last_seen_us: 1_699_999_990_000_000,
        })),
        ..Flow::default()
    };
    assert_snapshot!(written(Kind::Flow(flow.clone())), @r##"{"type":"flow","ts":"2023-11-14T22:13:20.1234Z","data":{"event":"DESTROY","state":"TIME_WAIT","flags":"SEEN_REPLY|ASSURED|CONFIRMED|SRC_NAT","src_ip":"192.168.1.20","dst_ip":"198.51.100.1","src_port":40000,"dst_port":443,"l4proto":6,"dir":"IN","bytes_orig":5,"bytes_reply":18446744073709551615,"packets_orig":1,"packets_reply":2,"first_seen":"2023-11-14T22:13:19Z","last_seen":"2023-11-14T22:13:20.000001Z","dns_context":{"recent_qname_hashes":["b64:x"],"last_seen":"2023-11-14T22:13:10Z"}}}"##);

    flow = Flow { phase: FlowPhase::New.into(), tcp_state: 0, dns_context: None, ..flow };
    for (direction, device, remote, word) in [
        (Direction::Out, End::Initiator, End::Responder, "OUT"),
        (Direction::In, End::Responder, End::Initiator, "IN"),
        (Direction::Lan, End::Initiator, End::None, "FWD"),
        (Direction::Forward, End::None, End::Responder, "FWD"),
        (Direction::Local, End::None, End::Responder, "OUT"),
        (Direction::Local, End::Responder, End::None, "OUT"),
        (Direction::Local, End::Initiator, End::None, "IN"),
        (Direction::Local, End::None, End::Initiator, "IN"),
    ] {
        (flow.direction, flow.device, flow.remote) = (direction.into(), device.into(), remote.into());
        let line = written(Kind::Flow(flow.clone()));
        assert!(line.contains(&format!("\"dir\":\"{word}\"")), "{direction:?} {device:?}: {line}");
        assert!(line.contains(r#""event":"NEW","state":"NEW""#), "{line}");
    }
}

#[test]
fn answers_are_told_with_their_names() {
    let answer = |r#type, text: &str, address: &[u8], ttl_s| DnsAnswer {
        name: "www.example".to_owned(),
        r#type,
        text: text.to_owned(),
        address: address.to_vec().into(),
        ttl_s,
    };
    let response = DnsResponse {
        client_ip: vec![192, 168, 1, 20].into(),
        name: "www.example".to_owned(),
        r#type: 28,
        answers: vec![answer(5, "web.example", &[], None), answer(28, "", &[0; 16], Some(60))],
        ..DnsResponse::default()
    };
    assert_snapshot!(written(Kind::DnsResponse(response)), @r##"{"type":"dns_response","ts":"2023-11-14T22:13:20.1234Z","data":{"client_ip":"192.168.1.20","qname":"www.example","qtype":"AAAA","rcode":"NOERROR","answers":[{"name":"www.example","type":"CNAME","data":"web.example","ttl":null},{"name":"www.example","type":"AAAA","data":"::","ttl":60}],"resolver":null}}"##);
}

#[test]
fn a_strangers_text_stays_a_text() {
    let drop = FirewallDrop { prefix: "\"},{\u{1}<b>".to_owned(), ..FirewallDrop::default() };
    let line = written(Kind::FirewallDrop(drop));
    let value: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["data"]["rule_tag"], "\"},{\u{1}<b>");
    assert_eq!(value["data"]["src_ip"], "", "no address is no reason to fail");
}

#[test]
fn times_are_written_as_go_does() {
    let check = |us: i64, expected: &str| assert_eq!(Time(us).to_string(), expected);
    check(0, "1970-01-01T00:00:00Z");
    check(-1, "1969-12-31T23:59:59.999999Z");
    check(951_782_400_000_000, "2000-02-29T00:00:00Z");
    check(4_107_542_399_500_000, "2100-02-28T23:59:59.5Z");
    check(4_107_542_400_000_000, "2100-03-01T00:00:00Z");
    check(1_795_557_600_000_010, "2026-11-24T22:00:00.00001Z");
    // No time is out of range.
    let _ = (Time(i64::MIN).to_string(), Time(i64::MAX).to_string());
}

/// Every event of the original agent is one of ours, and written again as it was, field by field. What it
/// got wrong, by [`right`], aside.
#[test]
fn the_original_agents_events_are_written_again() {
    let mut counts = std::collections::BTreeMap::new();
    for batch in BATCHES.lines() {
        let batch: Value = serde_json::from_str(batch).expect("JSON");
        let router_id = batch["router_id"].as_str().expect("a name");
        for line in batch["events"].as_array().expect("events") {
            let event = read(line);
            let again = match &event.kind {
                Some(Kind::Heartbeat(_)) => heartbeat(router_id, event.time_us),
                Some(kind) => written_at(event.time_us, kind.clone()).into_bytes(),
                None => panic!("{line}"),
            };
            let again: Value = serde_json::from_slice(&again).expect("JSON");
            assert_eq!(again, right(line.clone()));
            *counts.entry(line["type"].as_str().expect("a type").to_owned()).or_insert(0) += 1;
        }
    }
    let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    assert_snapshot!(counts.join(", "), @"dns_bucket 187, firewall_drop 43, flow 121, heartbeat 12, host_identity 30");
}

/// Known wrong values of the original agent, put right:
/// - the event is spelled `EventNew` or `EventDestroy`,
/// - a rule's tag ends in the space that separates it from what comes next,
/// - the flags may end in TCP flags that have been seen, which are no state of the connection (ours lack them),
/// - times have nanoseconds, ours microseconds.
///
/// Two more cannot be told from a batch: the direction is always `OUT`, and `first_seen` is when the agent
/// heard of the flow, its end included.
fn right(mut line: Value) -> Value {
    truncate_times(&mut line);
    let data = line["data"].as_object_mut().expect("an object");
    let edit = |value: &mut Value, change: &dyn Fn(&str) -> String| {
        *value = change(value.as_str().expect("a text")).into();
    };
    for (key, value) in data.iter_mut() {
        match key.as_str() {
            "event" => edit(value, &|word| word.trim_start_matches("Event").to_ascii_uppercase()),
            "rule_tag" => edit(value, &|tag| tag.trim().to_owned()),
            "flags" => edit(value, &|flags| flags.split("|TCP_FLAGS=").next().unwrap_or_default().to_owned()),
            _ => {}
        }
    }
    line
}

fn truncate_times(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(truncate_times),
        Value::String(text) if text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T') => {
            if let Some((whole, fraction)) = text.trim_end_matches('Z').split_once('.') {
                let fraction = fraction[..fraction.len().min(6)].trim_end_matches('0');
                let point = if fraction.is_empty() { "" } else { "." };
                *text = format!("{whole}{point}{fraction}Z");
            }
        }
        _ => {}
    }
}

fn read(line: &Value) -> Event {
    let data = &line["data"];
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| data[key].as_u64().expect("a number");
    let small = |key: &str| u32::try_from(number(key)).expect("a small number");
    let ip = |key: &str| address(data[key].as_str().expect("an address"));
    let hashes = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .expect("a list")
            .iter()
            .map(|hash| hash.as_str().expect("a hash").to_owned())
            .collect()
    };
    let kind = match line["type"].as_str().expect("a type") {
        "heartbeat" => Kind::Heartbeat(Heartbeat::default()),
        "flow" => {
            let word = text("event");
            let phase = if word == "EventNew" { FlowPhase::New } else { FlowPhase::End };
            let state = TcpState::from_str_name(&format!("TCP_STATE_{}", text("state"))).unwrap_or_default();
            let flags = text("flags");
            let bits = STATUS_BITS.iter().enumerate();
            let set = bits.filter(|(_, name)| flags.split('|').any(|flag| flag == **name));
            let dns_context = data.get("dns_context").map(|context| {
                Box::new(DnsContext {
                    recent_name_hashes: hashes(&context["recent_qname_hashes"]),
                    last_seen_us: micros(&context["last_seen"]),
                })
            });
            Kind::Flow(Flow {
                phase: phase.into(),
                tcp_state: state.into(),
                status: set.map(|(bit, _)| 1 << bit).sum(),
                src_ip: ip("src_ip"),
                dst_ip: ip("dst_ip"),
                src_port: small("src_port"),
                dst_port: small("dst_port"),
                protocol: small("l4proto"),
                direction: if text("dir") == "OUT" { Direction::Out.into() } else { 0 },
                bytes_orig: number("bytes_orig"),
                bytes_reply: number("bytes_reply"),
                packets_orig: number("packets_orig"),
                packets_reply: number("packets_reply"),
                first_seen_us: micros(&data["first_seen"]),
                last_seen_us: micros(&data["last_seen"]),
                dns_context,
                ..Flow::default()
            })
        }
        "firewall_drop" => Kind::FirewallDrop(FirewallDrop {
            hook: text("hook"),
            prefix: text("rule_tag").trim().to_owned(),
            nflog_group: small("nflog_group"),
            in_interface: text("if_in"),
            out_interface: text("if_out"),
            src_ip: ip("src_ip"),
            dst_ip: ip("dst_ip"),
            src_port: small("src_port"),
            dst_port: small("dst_port"),
            protocol: small("l4proto"),
            tcp_flags: if data["tcp_syn"] == json!(true) { TCP_SYN } else { 0 },
            ..FirewallDrop::default()
        }),
        "dns_bucket" => Kind::DnsBucket(DnsBucket {
            bucket_start_us: micros(&data["bucket_start"]),
            client_ip: ip("client_ip"),
            r#type: text("qtype"),
            name_hash: text("qname_hash"),
            count: number("count"),
            nxdomain: number("nxdomain"),
        }),
        "host_identity" => Kind::HostIdentity(HostIdentity {
            addresses: vec![ip("ip")],
            last_seen_us: micros(&data["last_seen"]),
            recent_name_hashes: hashes(&data["recent_qname_hashes"]),
            ..HostIdentity::default()
        }),
        other => panic!("{other}"),
    };
    Event { time_us: micros(&line["ts"]), kind: Some(kind) }
}

fn address(text: &str) -> Bytes {
    match text.parse().expect("an address") {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec().into(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec().into(),
    }
}

/// RFC 3339 in UTC, cut at microseconds, for years from 1970 on.
fn micros(text: &Value) -> i64 {
    let text = text.as_str().expect("a time").strip_suffix('Z').expect("UTC");
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().expect("a number");
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let years: i64 = (1970..year).map(|year| 365 + i64::from(leap(year))).sum();
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: i64 = lengths[..month as usize - 1].iter().sum();
    let seconds =
        ((years + months + day - 1) * 24 + number(11, 13)) * 3600 + number(14, 16) * 60 + number(17, 19);
    let fraction = text.get(20..).unwrap_or_default();
    let fraction = format!("{:0<6}", &fraction[..fraction.len().min(6)]);
    seconds * 1_000_000 + fraction.parse::<i64>().expect("a number")
}
