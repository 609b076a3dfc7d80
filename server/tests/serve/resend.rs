//! What the original agent posts again because it had no answer, or none in time, counts once.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use diesel::prelude::*;
use serde_json::{Value, json};

use crate::http::{DAY, PATH, batch, flow, flows, post, taken};
use crate::server::{Server, TOKEN, agent};

/// As many as the original agent was seen to send at once.
const EVENTS: u16 = 707;
/// How long the original agent waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flows, a byte the first, two the second and so on, and an answer and a drop, of which nothing but the batch says
/// that they were told before.
fn events() -> Vec<Value> {
    let mut events: Vec<Value> =
        (1..EVENTS - 1).map(|port| flow("EventDestroy", port, 1, u64::from(port))).collect();
    let time = format!("{}T08:00:01Z", *DAY);
    events.push(json!({ "type": "firewall_drop", "ts": time, "data": {
        "src_ip": "203.0.113.9", "dst_ip": "192.168.1.20", "dst_port": 22, "l4proto": 6, "tcp_syn": true } }));
    events.push(json!({ "type": "dns_bucket", "ts": time, "data": { "bucket_start": time,
        "client_ip": "192.168.1.20", "qtype": "A", "qname_hash": "b64:AAAA", "count": 3, "nxdomain": 0 } }));
    events
}

/// A server that knows the agent: heartbeats come ahead of everything.
fn server_that_knows_it() -> Server {
    let server = Server::start();
    assert_eq!(taken(&server, &batch(&[heartbeat()])), (1, 0));
    server
}

fn heartbeat() -> Value {
    json!({ "type": "heartbeat", "ts": format!("{}T08:00:00Z", *DAY), "data": { "router_id": "attic" } })
}

/// Nothing of it is missing, and nothing is there twice.
fn assert_counted_once(server: &Server) {
    let (_, totals) = server.read("/api/v1/totals");
    let totals: Value = serde_json::from_str(&totals).unwrap();
    let count = u64::from(EVENTS) - 2;
    assert_eq!(flows(server).len() as u64, count);
    assert_eq!(totals["flows"]["bytes_orig"], json!(count * (count + 1) / 2));
    assert_eq!(totals["flows"], totals["service_minutes"]);
    assert_eq!(server.total("/api/v1/drops"), 1);
    let mut connection = server.database();
    let sum = "SELECT SUM(count) AS number FROM dns_buckets";
    let asked: crate::pressure::Count = diesel::sql_query(sum).get_result(&mut connection).unwrap();
    assert_eq!(asked.number, 3);
}

/// A connection that has brought the head of a request and so much of its body.
fn sent(server: &Server, body: &[u8], bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..bytes]).unwrap();
    stream
}

/// Ends a connection by a reset: the peer's next read or write of it fails.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Holds the database, so that the writer waits, and whoever waits for the writer.
fn hold(server: &Server) -> SqliteConnection {
    let mut other = server.database();
    diesel::sql_query("BEGIN IMMEDIATE").execute(&mut other).unwrap();
    other
}

fn let_go(mut other: SqliteConnection) {
    diesel::sql_query("ROLLBACK").execute(&mut other).unwrap();
}

/// Waits until the server has a batch and is about to write it.
fn wait_until_queued(server: &Server) {
    let until = Instant::now() + Duration::from_secs(20);
    while metric(server, "queue_events") < u64::from(EVENTS) {
        assert!(Instant::now() < until, "the batch is not taken");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn metric(server: &Server, name: &str) -> u64 {
    let (_, metrics) = server.get("/metrics", &[]);
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("netmon_server_{name} ")));
    line.unwrap().parse().unwrap()
}

/// Posts until it is taken, as the agent does from its spool: with a time-out, and a new `sent_at` each time.
fn posted_again(server: &Server, events: &[Value]) -> Value {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (status, answer) = post(server, &batch(events));
        if status == 200 {
            return answer;
        }
        assert!(status == 503 && Instant::now() < until, "{status} {answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The same, of an agent that does not wait for longer than this. None: no answer came in time.
fn post_for(server: &Server, body: &[u8], patience: Duration) -> Option<u16> {
    let request = agent().post(format!("{}{PATH}", server.url)).header("Content-Type", "application/json");
    let request = request.header("Authorization", format!("Bearer {TOKEN}"));
    match request.config().timeout_global(Some(patience)).build().send(body) {
        Ok(answer) => Some(answer.status().as_u16()),
        Err(ureq::Error::Timeout(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_was_answered_too_late_counts_once() {
    let mut server = server_that_knows_it();
    let events = events();
    let held = hold(&server);
    let begun = Instant::now();
    assert_eq!(post_for(&server, &batch(&events), PATIENCE), None, "the answer comes too late");
    assert!(begun.elapsed() >= PATIENCE);
    // From the spool, while the writer is still not there. By now the server knows, and says so, however large the
    // batch.
    let until = begun + Duration::from_secs(20);
    while metric(&server, "writable") == 1 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(post_for(&server, &batch(&events), PATIENCE), Some(503));
    assert_eq!(post_for(&server, &vec![b'x'; 8 << 20], PATIENCE), Some(503));
    let_go(held);
    let answer = posted_again(&server, &events);
    assert_eq!((&answer["accepted"], &answer["duplicate"]), (&json!(EVENTS), &json!(true)), "{answer}");
    assert_counted_once(&server);
    server.kill_and_restart();
    assert_eq!(posted_again(&server, &events)["duplicate"], json!(true));
    assert_counted_once(&server);
}

#[test]
fn what_a_reset_cut_off_counts_once() {
    let server = server_that_knows_it();
    let events = events();
    let body = batch(&events);
    // The server has all of it and is about to write it when the connection goes.
    let held = hold(&server);
    let stream = sent(&server, &body, body.len());
    wait_until_queued(&server);
    reset(stream);
    let_go(held);
    let answer = posted_again(&server, &events);
    assert_eq!((&answer["accepted"], &answer["duplicate"]), (&json!(EVENTS), &json!(true)), "{answer}");
    assert_counted_once(&server);
}

#[test]
fn a_reset_at_any_moment_counts_nothing_twice() {
    let server = server_that_knows_it();
    let events = events();
    let body = batch(&events);
    reset(sent(&server, &body, body.len() / 2));
    // Before the body is read, while it is, before it is written, before the answer, after it.
    for wait in [0, 1, 2, 4, 8, 16, 32, 64, 128] {
        let stream = sent(&server, &body, body.len());
        std::thread::sleep(Duration::from_millis(wait));
        reset(stream);
    }
    let answer = posted_again(&server, &events);
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(EVENTS), &json!(0)), "{answer}");
    assert_counted_once(&server);
}

#[test]
fn what_the_agent_gave_up_on_counts_once() {
    let mut server = server_that_knows_it();
    let events = events();
    let body = batch(&events);
    // The connection is gone in the middle of the body: nothing is taken.
    drop(sent(&server, &body, body.len() / 2));
    // It is gone once the body was sent, before the answer: taken or not, the agent cannot know.
    drop(sent(&server, &body, body.len()));
    // It answers late for an agent that has hung up meanwhile, and which posts it again at once, twice.
    let both = [sent(&server, &body, body.len()), sent(&server, &body, body.len())];
    for mut stream in both {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    assert_counted_once(&server);
    // After a restart it is still known, and a heartbeat by itself is a batch.
    server.kill_and_restart();
    let (status, answer) = post(&server, &body);
    assert_eq!((status, &answer["accepted"], &answer["duplicate"]), (200, &json!(EVENTS), &json!(true)));
    let another = json!({ "type": "heartbeat", "ts": format!("{}T08:00:30Z", *DAY), "data": {} });
    assert_eq!(taken(&server, &batch(&[another])), (1, 0));
    assert_counted_once(&server);
}
