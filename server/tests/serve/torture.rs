//! Events that are wrong in every way, each between two good ones: what the README says becomes of it does, and its
//! neighbours are stored.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::http::{DAY, all_rows, flow, flows, post};
use crate::server::Server;

const HTML: &str = "<script>alert(1)</script>\"'&";

/// An event, and what its refusal says. `None`: it is taken.
type Case = (Vec<u8>, Option<&'static str>);

/// Flows that are wrong, and events that are none.
fn flows_and_others() -> Vec<Case> {
    let set = |key: &str, value: Value| {
        let mut event = flow("EventDestroy", 7, 1, 10);
        event["data"][key] = value;
        event.to_string().into_bytes()
    };
    let text = |text: &str| text.as_bytes().to_vec();
    let good = || flow("EventDestroy", 7, 1, 10);
    let without = |key: &str| {
        let mut event = good();
        event["data"].as_object_mut().unwrap().remove(key);
        event.to_string().into_bytes()
    };
    let at = |ts: &str| {
        let mut event = flow("EventDestroy", 7, 1, 0);
        event["ts"] = json!(ts);
        event["data"]["first_seen"] = json!(ts);
        event["data"]["last_seen"] = json!(ts);
        event.to_string().into_bytes()
    };
    let raw = |key: &str, value: &str| {
        String::from_utf8(set(key, json!("@"))).unwrap().replace("\"@\"", value).into_bytes()
    };
    let mut not_utf8 = set("state", json!("@"));
    let place = not_utf8.iter().position(|byte| *byte == b'@').unwrap();
    not_utf8[place] = 0xff;
    vec![
        (text("7"), Some("not a JSON object")),
        (text("null"), Some("not a JSON object")),
        (text("{}"), Some("type is missing")),
        (text("{\"type\":\"flow\"}"), Some("ts is missing")),
        (text("{\"type\":\"flow\",\"ts\":\"2026-11-22T08:00:00Z\"}"), Some("missing field")),
        (text("{\"type\":\"flow\",\"type\":\"flow\",\"ts\":\"2026-11-22T08:00:00Z\"}"), Some("there twice")),
        (without("src_ip"), Some("missing field `src_ip`")),
        (without("l4proto"), Some("missing field `l4proto`")),
        (set("src_ip", json!(7)), Some("invalid type")),
        (set("src_ip", json!("not-an-ip<b>")), Some("src_ip is \"not-an-ip<b>\", expected an IP address")),
        (set("src_ip", json!("192.168.1.256")), Some("expected an IP address")),
        (set("dst_ip", json!("2001:db8::1")), Some("must be of one family")),
        (set("src_port", json!(65_536)), Some("expected at most 65535")),
        (set("src_port", json!(-1)), Some("invalid value")),
        (set("l4proto", json!(256)), Some("expected at most 255")),
        (set("l4proto", json!("tcp")), Some("invalid type")),
        (set("bytes_orig", json!(-5)), Some("invalid value")),
        (set("bytes_orig", json!(1.5)), Some("invalid type")),
        (raw("bytes_orig", "18446744073709551616"), Some("invalid type")),
        (raw("bytes_orig", "9223372036854775808"), Some("expected at most 9223372036854775807")),
        (raw("bytes_orig", "NaN"), Some("expected")),
        (raw("bytes_orig", "1e999"), Some("out of range")),
        (raw("bytes_orig", "1, \"bytes_orig\": 2"), Some("duplicate field")),
        (
            raw("extra", &"[".repeat(10_000).chars().chain("]".repeat(10_000).chars()).collect::<String>()),
            Some("recursion limit"),
        ),
        (set("state", json!("x".repeat(1 << 20))), Some("expected at most 65536")),
        (set("event", json!("EventOther")), Some("expected NEW, UPDATE or DESTROY")),
        (set("dir", json!("UP")), Some("expected OUT, IN or FWD")),
        (set("first_seen", json!("yesterday")), Some("first_seen: ")),
        (not_utf8, Some("invalid unicode")),
        // Taken: a name that nobody knows, text of a stranger, clocks that are off.
        (set("state", json!(HTML)), None),
        (set("flags", json!(HTML)), None),
        (set("flags", json!(7)), Some("invalid type")),
        (set("event", json!(HTML)), Some("expected NEW, UPDATE or DESTROY")),
        (set("dir", json!(HTML)), Some("expected OUT, IN or FWD")),
        (set("dst_ip", json!(HTML)), Some("dst_ip is \"<script>")),
        (set("last_seen", json!(HTML)), Some("last_seen: ")),
        (set("dns_context", json!("no object")), Some("invalid type")),
        (set("dns_context", json!({ "recent_qname_hashes": [HTML, 7], "last_seen": HTML })), None),
        (set("packets_reply", json!(-1)), Some("invalid value")),
        (raw("l4proto", "4294967296"), Some("invalid value")),
        (set("unheard_of", json!({ "deep": [HTML] })), None),
        (
            text("{\"type\":\"<b>\",\"ts\":\"2026-11-22T08:00:00Z\",\"data\":{\"a\":\"<i>\"},\"more\":1}"),
            None,
        ),
        (at("2099-01-01T00:00:00Z"), None),
        (at("1970-01-01T00:00:00Z"), None),
        (at("2001-01-01T00:00:00Z"), None),
        (at(&format!("{}T10:00:01+02:00", *DAY)), None),
    ]
}

/// What an event of one type looks like when all is well.
fn good(kind: &str) -> Value {
    let time = format!("{}T08:00:01Z", *DAY);
    let data = match kind {
        "firewall_drop" => json!({ "hook": "INPUT", "rule_tag": "DROP ", "nflog_group": 1, "if_in": "eth0",
            "if_out": null, "src_ip": "203.0.113.9", "dst_ip": "192.168.1.20", "src_port": 5, "dst_port": 22,
            "l4proto": 6, "tcp_syn": true }),
        "dns_bucket" => json!({ "bucket_start": time, "client_ip": "192.168.1.20", "qtype": "A",
            "qname_hash": "b64:AAAA", "count": 3, "nxdomain": 0 }),
        "dns_response" => json!({ "client_ip": "192.168.1.20", "qname": "example.org", "qtype": "A",
            "rcode": "NOERROR", "resolver": "192.168.1.1",
            "answers": [{ "name": "example.org", "type": "A", "data": "203.0.113.9", "ttl": 60 }] }),
        "host_identity" => json!({ "ip": "192.168.1.20", "last_seen": time, "recent_qname_hashes": [] }),
        _ => json!({ "router_id": "attic" }),
    };
    json!({ "type": kind, "ts": time, "data": data })
}

/// One member of the data, by its JSON pointer, has another value. Answers of one time and name would be one answer
/// that was told again.
fn changed(micros: usize, kind: &str, member: &str, value: &str) -> Vec<u8> {
    let mut event = good(kind);
    event["ts"] = json!(format!("{}T08:00:01.{micros:06}Z", *DAY));
    let (parent, name) = member.rsplit_once('/').unwrap_or(("", member));
    let parent = if parent.is_empty() { "/data".to_owned() } else { format!("/data/{parent}") };
    event.pointer_mut(&parent).unwrap()[name] = json!("@@");
    event.to_string().replace("\"@@\"", value).into_bytes()
}

/// The other types, member by member.
fn members() -> Vec<Case> {
    const LARGE: &str = "18446744073709551616";
    let html = json!(HTML).to_string();
    let long = json!("x".repeat(300)).to_string();
    let txt = json!([{ "type": "TXT", "data": HTML }]).to_string();
    let cases: [(&str, &str, &str, Option<&str>); 66] = [
        ("firewall_drop", "hook", &html, None),
        ("firewall_drop", "hook", "7", Some("invalid type")),
        ("firewall_drop", "rule_tag", &html, None),
        ("firewall_drop", "rule_tag", "[]", Some("invalid type")),
        ("firewall_drop", "rule_tag", &long, None),
        ("firewall_drop", "if_in", &html, None),
        ("firewall_drop", "if_out", &html, None),
        ("firewall_drop", "if_in", "{}", Some("invalid type")),
        ("firewall_drop", "src_ip", &html, Some("src_ip is \"<script>")),
        ("firewall_drop", "dst_ip", &html, Some("dst_ip is \"<script>")),
        ("firewall_drop", "dst_ip", "\"2001:db8::1\"", Some("must be of one family")),
        ("firewall_drop", "src_port", "-1", Some("invalid value")),
        ("firewall_drop", "src_port", "65536", Some("expected at most 65535")),
        ("firewall_drop", "dst_port", LARGE, Some("invalid type")),
        ("firewall_drop", "dst_port", "null", None),
        ("firewall_drop", "l4proto", "256", Some("expected at most 255")),
        ("firewall_drop", "l4proto", "\"tcp\"", Some("invalid type")),
        ("firewall_drop", "nflog_group", "65536", Some("expected at most 65535")),
        ("firewall_drop", "nflog_group", "-1", Some("invalid value")),
        ("firewall_drop", "tcp_syn", &html, Some("invalid type")),
        ("firewall_drop", "tcp_syn", "null", None),
        ("firewall_drop", "more", &html, None),
        ("dns_bucket", "bucket_start", &html, Some("bucket_start: ")),
        ("dns_bucket", "bucket_start", "\"2099-01-01T00:00:00Z\"", None),
        ("dns_bucket", "bucket_start", "\"1970-01-01T00:00:00Z\"", None),
        ("dns_bucket", "client_ip", &html, Some("client_ip is \"<script>")),
        ("dns_bucket", "qtype", &html, None),
        ("dns_bucket", "qtype", "1", Some("invalid type")),
        ("dns_bucket", "qname_hash", &html, None),
        ("dns_bucket", "qname_hash", &long, None),
        ("dns_bucket", "count", "-1", Some("invalid value")),
        ("dns_bucket", "count", LARGE, Some("invalid type")),
        ("dns_bucket", "count", "9223372036854775808", Some("expected at most 9223372036854775807")),
        ("dns_bucket", "nxdomain", "1.5", Some("invalid type")),
        ("dns_response", "client_ip", &html, Some("client_ip is \"<script>")),
        ("dns_response", "qname", &html, None),
        ("dns_response", "qname", "7", Some("invalid type")),
        ("dns_response", "qname", &long, Some("expected at most 253")),
        ("dns_response", "qtype", &html, Some("expected a name or a number")),
        ("dns_response", "qtype", "-1", Some("expected a name or a number")),
        ("dns_response", "qtype", "65536", Some("expected at most 65535")),
        ("dns_response", "qtype", "{}", Some("expected a name or a number")),
        ("dns_response", "rcode", &html, Some("expected a name or a number")),
        ("dns_response", "rcode", "4096", Some("expected at most 4095")),
        ("dns_response", "rcode", "null", None),
        ("dns_response", "resolver", &html, Some("resolver is \"<script>")),
        ("dns_response", "answers", &html, Some("invalid type")),
        ("dns_response", "answers", "[7]", Some("invalid type")),
        ("dns_response", "answers", "[{}]", Some("missing field `type`")),
        ("dns_response", "answers/0/name", &html, None),
        ("dns_response", "answers/0/name", &long, Some("expected at most 253")),
        ("dns_response", "answers", &txt, None),
        ("dns_response", "answers/0/type", &html, Some("expected a name or a number")),
        ("dns_response", "answers/0/data", &html, Some("answers.data: ")),
        ("dns_response", "answers/0/ttl", "-1", Some("invalid value")),
        ("dns_response", "answers/0/ttl", "4294967295", None),
        ("dns_response", "answers/0/ttl", "4294967296", Some("invalid value")),
        ("host_identity", "ip", &html, Some("ip is \"<script>")),
        ("host_identity", "last_seen", &html, Some("last_seen: ")),
        ("host_identity", "last_seen", "\"2099-01-01T00:00:00Z\"", None),
        ("host_identity", "last_seen", "\"1970-01-01T00:00:00Z\"", None),
        ("host_identity", "last_seen", "7", Some("invalid type")),
        ("host_identity", "recent_qname_hashes", &format!("[{html}]"), None),
        ("host_identity", "recent_qname_hashes", "[7]", Some("invalid type")),
        ("heartbeat", "router_id", &html, None),
        ("heartbeat", "more", &html, None),
    ];
    let numbered = (0..).zip(cases);
    numbered
        .map(|(number, (kind, member, value, said))| (changed(number, kind, member, value), said))
        .collect()
}

/// The other types as wholes.
fn wholes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, needed) in [
        ("firewall_drop", &["src_ip", "dst_ip", "l4proto"][..]),
        ("dns_bucket", &["bucket_start", "client_ip", "qtype", "qname_hash", "count"]),
        ("dns_response", &["client_ip", "qname", "qtype"]),
        ("host_identity", &["ip"]),
        ("heartbeat", &[]),
    ] {
        for member in needed {
            let mut event = good(kind);
            event["data"].as_object_mut().unwrap().remove(*member);
            cases.push((event.to_string().into_bytes(), Some("missing field")));
        }
        let with = |member: &str, value: Value| {
            let mut event = good(kind);
            event[member] = value;
            event.to_string().into_bytes()
        };
        cases.push((with("ts", json!(HTML)), Some("ts: ")));
        cases.push((with("ts", json!(7)), Some("ts: ")));
        for data in [json!(7), json!(HTML), json!([]), Value::Null] {
            cases.push((with("data", data), Some("data: ")));
        }
        cases.push((good(kind).to_string().into_bytes(), None));
    }
    cases
}

/// Posts each between two good flows of its own ports. Gives the ports.
fn post_each(server: &Server, cases: &[Case], first_port: u16) -> Vec<u16> {
    let mut ports = Vec::new();
    for (number, (event, expected)) in (0..).zip(cases) {
        let pair = [first_port + 2 * number, first_port + 2 * number + 1];
        let [before, after] = pair.map(|port| flow("EventDestroy", port, 2, 1_000).to_string().into_bytes());
        let mut body = b"{\"router_id\":\"attic\",\"events\":[".to_vec();
        body.extend([before, event.clone(), after].join(&b','));
        body.extend(b"]}");
        let (status, answer) = post(server, &body);
        let shown = String::from_utf8_lossy(&event[..event.len().min(300)]).into_owned();
        assert_eq!(status, 200, "{shown}: {answer}");
        let refused = u64::from(expected.is_some());
        let counts = [&answer["accepted"], &answer["rejected"]];
        assert_eq!(counts, [&json!(3 - refused), &json!(refused)], "{shown}: {answer}");
        if let Some(reason) = expected {
            assert_eq!(answer["errors"][0]["index"], json!(1));
            let said = answer["errors"][0]["reason"].as_str().unwrap();
            assert!(said.contains(reason), "{shown}: {said}, expected {reason}");
        }
        ports.extend(pair);
    }
    ports
}

fn items(server: &Server, list: &str) -> Vec<Value> {
    let (_, body) = server.read(&format!("/api/v1/{list}?limit=1000"));
    serde_json::from_str::<Value>(&body).unwrap()["items"].as_array().unwrap().clone()
}

#[test]
fn a_bad_event_is_rejected_alone() {
    let server = Server::start_keeping();
    let began = OffsetDateTime::now_utc();
    let cases = [flows_and_others(), members(), wholes()].concat();
    let mut ports = post_each(&server, &cases, 1_000);
    let stored = flows(&server);
    ports.retain(|port| !stored.iter().any(|flow| flow["src_port"] == json!(port)));
    assert!(ports.is_empty(), "neighbours are missing: {ports:?}");

    // The event of 08:00:01 is the first that anyone had, whatever clocks said, and nobody was seen after now.
    let first = OffsetDateTime::parse(&format!("{}T08:00:01Z", *DAY), &Rfc3339).unwrap();
    let seen: Vec<Value> = [stored, items(&server, "devices"), items(&server, "hosts")].concat();
    for row in &seen {
        let [since, until] = ["first_seen", "last_seen"]
            .map(|key| OffsetDateTime::parse(row[key].as_str().unwrap(), &Rfc3339).unwrap());
        assert!(first <= since && since <= until && until <= OffsetDateTime::now_utc(), "{row}");
        // Nothing between yesterday's times and those of receipt is made up.
        let told = |time: OffsetDateTime| time - first < time::Duration::seconds(2) || time >= began;
        assert!(told(since) && told(until), "{row}");
    }
    assert_eq!(items(&server, "devices").len(), 1);
    assert_eq!(items(&server, "hosts").len(), 1);
    let kept: Vec<String> =
        all_rows(&server).into_iter().filter(|row| row.starts_with("raw_events: ")).collect();
    assert_eq!(kept.len(), 5, "three unknown fields, an unknown type, hashes of names: {kept:?}");
    assert!(server.read("/routers").1.contains("attic"));
}

#[test]
fn times_within_an_event_bend_nothing() {
    let server = Server::start();
    let mut cases = Vec::new();
    for time in ["2099-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2001-01-01T00:00:00Z"] {
        for member in ["first_seen", "last_seen"] {
            let mut event = flow("EventDestroy", 7, 1, 10);
            event["data"][member] = json!(time);
            cases.push((event.to_string().into_bytes(), None));
        }
        let time = json!(time).to_string();
        cases.push((changed(0, "host_identity", "last_seen", &time), None));
        cases.push((changed(0, "dns_bucket", "bucket_start", &time), None));
    }
    post_each(&server, &cases, 1_000);
    for row in [items(&server, "devices"), items(&server, "hosts")].concat() {
        let times =
            [&row["first_seen"], &row["last_seen"]].map(|time| time.as_str().unwrap()[..19].to_owned());
        assert_eq!(times, [format!("{}T08:00:01", *DAY), format!("{}T08:00:02", *DAY)], "{row}");
    }
    for flow in flows(&server) {
        for time in [&flow["first_seen"], &flow["last_seen"]] {
            let time = time.as_str().unwrap();
            assert!(["01", "02"].iter().any(|s| time.starts_with(&format!("{}T08:00:{s}", *DAY))), "{flow}");
        }
    }
}

#[test]
fn html_is_text_on_every_page() {
    let server = Server::start();
    post_each(&server, &[flows_and_others(), members()].concat(), 1_000);
    let escaped = "&#60;script&#62;alert(1)";
    for (page, shows) in [
        ("/", false),
        ("/flows", false),
        ("/routers", false),
        ("/hosts", false),
        ("/devices", false),
        ("/devices/1", false),
        ("/gaps", false),
        ("/domains", true),
        ("/dns", true),
        ("/drops", true),
    ] {
        let (status, text) = server.read(page);
        assert_eq!((status, text.contains("<script>alert")), (200, false), "{page}: {text}");
        assert_eq!(text.contains(escaped), shows, "{page}: {text}");
    }
    let drops = items(&server, "drops");
    for member in ["prefix", "in_interface", "out_interface"] {
        assert!(drops.iter().any(|drop| drop[member] == json!(HTML)), "{member}: {drops:?}");
    }
    let dns = items(&server, "dns");
    assert!(dns.iter().any(|answer| answer["name"] == json!(HTML)), "{dns:?}");
    assert!(dns.iter().any(|answer| answer["answers"][0]["name"] == json!(HTML)), "{dns:?}");
    assert!(dns.iter().any(|answer| answer["answers"][0]["data"] == json!(HTML)), "{dns:?}");
}
