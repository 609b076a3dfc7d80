//! What becomes of the original agent's events: it gives flows no ids, and does not tell all of them.

use serde_json::{Value, json};

use crate::http::{DAY, batch, flow, flows, taken};
use crate::server::Server;

fn send(server: &Server, events: &[Value]) {
    assert_eq!(taken(server, &batch(events)), (events.len() as u64, 0));
}

/// The sums of the flows, which all others must agree with.
fn totals(server: &Server) -> Value {
    let (_, totals) = server.read("/api/v1/totals");
    let totals: Value = serde_json::from_str(&totals).unwrap();
    assert_eq!(totals["flows"], totals["device_minutes"], "{totals}");
    totals["flows"].clone()
}

#[test]
fn a_five_tuple_is_one_flow_until_it_is_used_again() {
    let server = Server::start();
    send(&server, &[flow("EventNew", 5, 1, 0)]);
    send(&server, &[flow("EventUpdate", 5, 3, 70)]);
    // Used again before the end of the first was heard of, which then comes late.
    send(&server, &[flow("EventNew", 5, 10, 0)]);
    send(&server, &[flow("EventDestroy", 5, 8, 100)]);
    send(&server, &[flow("EventDestroy", 5, 15, 4_000)]);
    // Late words about what is over change nothing.
    send(&server, &[flow("EventNew", 5, 2, 0), flow("EventUpdate", 5, 4, 80)]);
    // An end alone is a flow.
    send(&server, &[flow("EventDestroy", 5, 20, 6_300)]);
    let mut bytes: Vec<u64> =
        flows(&server).iter().map(|flow| flow["bytes_orig"].as_u64().unwrap()).collect();
    bytes.sort_unstable();
    assert_eq!(bytes, [100, 4_000, 6_300]);
    assert!(flows(&server).iter().all(|flow| flow["ended"] == json!(true)));
    assert_eq!(totals(&server)["bytes_orig"], json!(10_400));
}

#[test]
fn a_late_word_does_not_open_a_flow_again() {
    let mut server = Server::start();
    let at = |mut event: Value, ts: u32, first_seen: u32| {
        event["ts"] = json!(format!("{}T08:00:{ts:02}Z", *DAY));
        event["data"]["first_seen"] = json!(format!("{}T08:00:{first_seen:02}Z", *DAY));
        event
    };
    // Silent since second 9, over in second 20. What was told in second 15 comes last.
    send(&server, &[at(flow("EventNew", 5, 1, 0), 1, 1)]);
    send(&server, &[at(flow("EventDestroy", 5, 9, 2_000), 20, 1)]);
    send(&server, &[at(flow("EventUpdate", 5, 9, 1_500), 15, 15)]);
    let expect = |server: &Server, count: u64, bytes: u64| {
        assert_eq!(flows(server).len() as u64, count);
        assert!(flows(server).iter().all(|flow| flow["ended"] == json!(true)));
        assert_eq!(totals(server)["bytes_orig"], json!(bytes));
    };
    expect(&server, 1, 2_000);
    // The same over a restart, of an agent that tells when the flow began.
    server.kill_and_restart();
    send(&server, &[at(flow("EventUpdate", 5, 9, 1_600), 16, 1)]);
    expect(&server, 1, 2_000);
    // What begins after the end is another flow.
    send(&server, &[at(flow("EventUpdate", 5, 22, 300), 22, 21), flow("EventDestroy", 5, 23, 400)]);
    expect(&server, 2, 2_400);
}

#[test]
fn icmp_has_no_type_where_none_is_told() {
    let server = Server::start();
    let icmp = |event: &str, protocol: u8| {
        let mut event = flow(event, 0, 1, 100);
        event["data"]["dst_port"] = json!(0);
        event["data"]["l4proto"] = json!(protocol);
        event
    };
    let drop = json!({ "type": "firewall_drop", "ts": format!("{}T08:00:01Z", *DAY), "data": {
        "hook": "INPUT", "rule_tag": "DROP", "nflog_group": 1, "if_in": "eth0", "if_out": null,
        "src_ip": "203.0.113.9", "dst_ip": "192.168.1.20", "src_port": 0, "dst_port": 0, "l4proto": 1,
        "tcp_syn": false } });
    send(&server, &[icmp("EventDestroy", 1), icmp("EventNew", 58), drop]);
    let all = flows(&server);
    assert_eq!(all.len(), 2);
    for flow in all {
        assert_eq!([&flow["icmp_type"], &flow["icmp_code"], &flow["icmp_id"]], [&Value::Null; 3], "{flow}");
    }
    let (_, drops) = server.read("/api/v1/drops");
    let drops: Value = serde_json::from_str(&drops).unwrap();
    assert_eq!(drops["items"][0]["protocol"], json!("icmp"), "{drops}");
    assert_eq!([&drops["items"][0]["icmp_type"], &drops["items"][0]["icmp_code"]], [&Value::Null; 2]);
    for path in ["/flows", "/drops", "/"] {
        let (status, page) = server.read(path);
        assert_eq!((status, page.contains("type 0")), (200, false), "{path}");
        assert!(page.contains("icmp"), "{path}");
    }
}
