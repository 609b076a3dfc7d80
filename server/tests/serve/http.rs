//! The original agent against this server: what it posts is stored once, whatever happens on the way.

use std::{io::Write as _, sync::LazyLock, time::Instant};

use diesel::prelude::*;
use diesel::sql_types::Text;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::recording::{BATCHES, EVENTS, ROWS, again, is_there_at_once};
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
pub(crate) fn all_rows(server: &Server) -> Vec<String> {
    let mut connection = server.database();
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

#[test]
fn a_capture_of_the_original_agent_counts_once() {
    let server = Server::start();
    let post_all = |text: &dyn Fn(&str) -> String| -> (u64, u64) {
        let told = BATCHES.iter().map(|body| taken(&server, text(body).as_bytes()));
        told.fold((0, 0), |sum, told| (sum.0 + told.0, sum.1 + told.1))
    };
    let rows =
        || -> Vec<String> { all_rows(&server).into_iter().filter(|row| is_there_at_once(row)).collect() };
    assert_eq!(post_all(&str::to_owned), (EVENTS, 0));
    let once = rows();
    let rows_of = |table: &str| {
        let prefix = format!("{table}: ");
        once.iter().filter(|row| row.starts_with(&prefix)).count()
    };
    assert_eq!(ROWS.map(|(table, _)| (table, rows_of(table))), ROWS);
    post_all(&str::to_owned);
    assert!(rows() == once, "posted again");
    post_all(&again);
    assert!(rows() == once, "posted with another sent_at");
    assert!(server.read("/api/v1/totals").1.contains("\"agree\":true"));
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
