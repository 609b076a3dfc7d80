//! The original agent against this server: what it posts is stored once, whatever happens on the way.

use std::{io::Write as _, path::Path, sync::LazyLock, time::Instant};

use diesel::prelude::*;
use diesel::sql_types::Text;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::server::{Server, TOKEN};

pub(crate) const PATH: &str = "/api/v1/netmon/events/batch";

/// The day of what is told. What is told of long ago is not believed.
pub(crate) static DAY: LazyLock<String> = LazyLock::new(|| {
    let yesterday = OffsetDateTime::now_utc() - time::Duration::DAY;
    yesterday.date().to_string()
});

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Every row of every table, but of what the program tells about itself.
fn all_rows(server: &Server) -> Vec<String> {
    let path = server.data().join("netmon.db");
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let mut load = |query: &str| -> Vec<String> {
        let rows: Vec<Line> = diesel::sql_query(query).load(&mut connection).unwrap();
        rows.into_iter().map(|row| row.line).collect()
    };
    let tables = load(
        "SELECT name AS line FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY 1",
    );
    let mut all = Vec::new();
    for table in tables {
        let columns =
            load(&format!("SELECT 'quote(' || name || ')' AS line FROM pragma_table_info('{table}')"));
        let line = columns.join(" || ' ' || ");
        all.extend(load(&format!("SELECT '{table}: ' || {line} AS line FROM {table} ORDER BY 1")));
    }
    all
}

pub(crate) fn post(server: &Server, body: &[u8]) -> (u16, Value) {
    let mut response = server.post_body(PATH, &[("Authorization", &format!("Bearer {TOKEN}"))], body);
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Posts and expects it to be taken whole or in part.
pub(crate) fn taken(server: &Server, body: &[u8]) -> (u64, u64) {
    let (status, answer) = post(server, body);
    assert_eq!(status, 200, "{answer}");
    (answer["accepted"].as_u64().unwrap(), answer["rejected"].as_u64().unwrap())
}

pub(crate) fn batch(events: &[Value]) -> Vec<u8> {
    let sent_at = format!("{}T08:00:00.{:09}Z", *DAY, Instant::now().elapsed().subsec_nanos());
    json!({ "router_id": "attic", "sent_at": sent_at, "events": events }).to_string().into_bytes()
}

pub(crate) fn flow(event: &str, port: u16, second: u32, bytes: u64) -> Value {
    let time = format!("{}T08:00:{second:02}.123456789Z", *DAY);
    json!({ "type": "flow", "ts": time, "data": {
        "event": event, "state": "ESTABLISHED", "flags": "SEEN_REPLY|ASSURED|CONFIRMED|TCP_FLAGS=SYN|ACK/ACK",
        "src_ip": "192.168.1.20", "dst_ip": "203.0.113.9", "src_port": port, "dst_port": 443, "l4proto": 6,
        "dir": "OUT", "bytes_orig": bytes, "bytes_reply": 2 * bytes, "packets_orig": 1, "packets_reply": 2,
        "first_seen": time, "last_seen": time } })
}

pub(crate) fn flows(server: &Server) -> Vec<Value> {
    let (_, body) = server.read("/api/v1/flows?limit=1000");
    serde_json::from_str::<Value>(&body).unwrap()["items"].as_array().unwrap().clone()
}

/// The whole capture where it is beside the clone, else the part that is in it.
fn capture() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let whole = here.join("../../shared/fixtures/http_batches.jsonl");
    std::fs::read_to_string(whole)
        .unwrap_or_else(|_| std::fs::read_to_string(here.join("testdata/http_batches.jsonl")).unwrap())
}

#[test]
fn a_capture_of_the_original_agent_counts_once() {
    let server = Server::start();
    let batches: Vec<String> = capture().lines().map(str::to_owned).collect();
    assert!(batches.len() > 10);
    for batch in &batches {
        let events = serde_json::from_str::<Value>(batch).unwrap()["events"].as_array().unwrap().len();
        assert_eq!(taken(&server, batch.as_bytes()), (events as u64, 0), "{batch}");
    }
    let once = all_rows(&server);
    for table in
        ["flows: ", "firewall_drops: ", "dns_buckets: ", "devices: ", "http_batches: ", "raw_events: "]
    {
        assert!(once.iter().any(|row| row.starts_with(table)), "nothing in {table}");
    }
    for batch in &batches {
        taken(&server, batch.as_bytes());
    }
    assert!(all_rows(&server) == once, "posted again");
    for batch in &batches {
        let mut batch: Value = serde_json::from_str(batch).unwrap();
        // The agent keeps the order of the members; what it sends again is the same text with a new time.
        let events = batch["events"].take();
        let text = format!(
            "{{\"router_id\":{},\"sent_at\":\"2026-11-23T00:00:00Z\",\"events\":{}}}",
            batch["router_id"],
            original_events(&batches, &events)
        );
        taken(&server, text.as_bytes());
    }
    assert!(all_rows(&server) == once, "posted with another sent_at");
}

/// The events as they stood in the capture.
fn original_events(batches: &[String], events: &Value) -> String {
    let text = batches
        .iter()
        .find(|text| serde_json::from_str::<Value>(text).unwrap()["events"] == *events)
        .unwrap();
    let (_, from) = text.split_once("\"events\":").unwrap();
    from.strip_suffix('}').unwrap().to_owned()
}

#[test]
fn only_an_agent_with_the_token_is_heard() {
    let server = Server::start();
    let body = batch(&[flow("EventDestroy", 1, 1, 10)]);
    for headers in [vec![], vec![("Authorization", "Bearer wrong")], vec![("Authorization", TOKEN)]] {
        let mut response = server.post_body(PATH, &headers, &body);
        assert_eq!(response.status().as_u16(), 401);
        assert!(response.body_mut().read_to_string().unwrap().contains("Bearer TOKEN"));
    }
    assert!(flows(&server).is_empty());
}

#[test]
fn what_is_no_batch_is_refused_whole() {
    let server = Server::start();
    let large = format!("{{\"router_id\":\"attic\",\"events\":[],\"x\":\"{}\"}}", "x".repeat(8 << 20));
    for (body, status, reason) in [
        ("", 400, "not a JSON object"),
        ("[]", 400, "not a JSON object"),
        ("{\"router_id\":\"attic\"}", 400, "not a JSON object"),
        ("{\"router_id\":\"attic\",\"events\":{}}", 400, "not a JSON object"),
        ("{\"router_id\":\"attic\",\"events\":[]}x", 400, "not a JSON object"),
        ("{\"router_id\":\"attic\",\"events\":[1", 400, "not a JSON object"),
        ("{\"router_id\":\"a b\",\"events\":[]}", 400, "router_id: expected"),
        ("{\"router_id\":7,\"events\":[]}", 400, "router_id: expected"),
        ("{\"events\":[]}", 400, "router_id: expected"),
        ("{\"router_id\":\"attic\",\"events\":[],\"events\":[]}", 400, "there twice"),
        (large.as_str(), 413, "larger than 8 MiB"),
    ] {
        let (got, answer) = post(&server, body.as_bytes());
        assert_eq!(got, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(reason), "{answer}");
    }
    assert_eq!(taken(&server, b"{\"router_id\":\"attic\",\"events\":[]}"), (0, 0));
}

#[test]
fn a_packed_body_is_bounded_too() {
    let server = Server::start();
    let packed = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let send = |encoding: &str, body: &[u8]| {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Encoding", encoding)];
        server.post_body(PATH, &headers, body).status().as_u16()
    };
    assert_eq!(send("gzip", &packed(&batch(&[flow("DESTROY", 1, 1, 10)]))), 200);
    assert_eq!(flows(&server).len(), 1);
    assert_eq!(send("gzip", &packed(&vec![b' '; 64 << 20])), 413);
    assert_eq!(send("gzip", b"no gzip"), 400);
    assert_eq!(send("br", b"x"), 415);
}

/// What stands between good events, and what becomes of it: `None`, it is taken.
fn torture() -> Vec<(Vec<u8>, Option<&'static str>)> {
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
    let html = "<script>alert(1)</script>\"'&";
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
        (set("state", json!(html)), None),
        (set("unheard_of", json!({ "deep": [html] })), None),
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

#[test]
fn a_bad_event_is_rejected_alone() {
    let server = Server::start();
    for (number, (event, expected)) in (100..).zip(torture()) {
        let neighbour = |port: u16| flow("EventDestroy", port, 2, 1_000).to_string().into_bytes();
        let mut body = b"{\"router_id\":\"attic\",\"events\":[".to_vec();
        body.extend([neighbour(number), event.clone(), neighbour(number + 1_000)].join(&b','));
        body.extend(b"]}");
        let (status, answer) = post(&server, &body);
        let shown = String::from_utf8_lossy(&event[..event.len().min(200)]).into_owned();
        assert_eq!(status, 200, "{shown}: {answer}");
        match expected {
            None => assert_eq!(
                (&answer["accepted"], &answer["rejected"]),
                (&json!(3), &json!(0)),
                "{shown}: {answer}"
            ),
            Some(reason) => {
                assert_eq!(
                    (&answer["accepted"], &answer["rejected"]),
                    (&json!(2), &json!(1)),
                    "{shown}: {answer}"
                );
                assert_eq!(answer["errors"][0]["index"], json!(1));
                let said = answer["errors"][0]["reason"].as_str().unwrap();
                assert!(said.contains(reason), "{shown}: {said}, expected {reason}");
            }
        }
        for port in [number, number + 1_000] {
            assert!(
                flows(&server).iter().any(|flow| flow["src_port"] == json!(port)),
                "a neighbour of {shown}"
            );
        }
    }
    let seen: Vec<String> =
        all_rows(&server).into_iter().filter(|row| row.starts_with("devices: ")).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    for flow in flows(&server) {
        let first = flow["first_seen"].as_str().unwrap();
        assert!(
            first.starts_with("20") && !first.starts_with("2099") && !first.starts_with("2001"),
            "{flow}"
        );
    }
    // The event of 08:00:01 is the first that this device had, whatever clocks said.
    let (_, hosts) = server.read("/api/v1/hosts");
    let host: Value = serde_json::from_str(&hosts).unwrap();
    let first = format!("{}T08:00:01", *DAY);
    assert!(host["items"][0]["first_seen"].as_str().unwrap().starts_with(&first), "{hosts}");
    let kept = all_rows(&server).into_iter().filter(|row| row.starts_with("raw_events: ")).count();
    assert_eq!(kept, 2, "the unknown field and the unknown type");
    assert!(server.read("/routers").1.contains("attic"));
}

#[test]
fn addresses_are_stored_in_one_spelling() {
    let server = Server::start();
    let spellings = ["2001:db8::9", "2001:DB8:0:0:0:0:0:9", "2001:0db8:0000::0009", "2001:db8::0.0.0.9"];
    for (port, spelling) in (1..).zip(spellings) {
        let mut event = flow("EventDestroy", port, 1, 1);
        event["data"]["src_ip"] = json!("fd00::20");
        event["data"]["dst_ip"] = json!(spelling);
        assert_eq!(taken(&server, &batch(&[event])), (1, 0), "{spelling}");
    }
    let mut mapped = flow("EventDestroy", 9, 1, 1);
    mapped["data"]["src_ip"] = json!("::ffff:192.168.1.20");
    assert_eq!(taken(&server, &batch(&[mapped])), (1, 0));
    let (_, hosts) = server.read("/api/v1/hosts");
    let hosts: Value = serde_json::from_str(&hosts).unwrap();
    let addresses: Vec<&str> =
        hosts["items"].as_array().unwrap().iter().map(|host| host["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["203.0.113.9", "2001:db8::9"]);
}
