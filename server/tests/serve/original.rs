//! What becomes of the original agent's events: it gives flows no ids, and does not tell all of them.

use serde_json::{Value, json};

use crate::http::{DAY, batch, flow, flows, post, taken};
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

#[test]
fn an_answer_names_the_flow_that_follows() {
    let server = Server::start();
    let answer = |client: &str, name: &str, address: &str| {
        json!({ "type": "dns_response", "ts": format!("{}T08:00:01Z", *DAY), "data": {
            "client_ip": client, "qname": name, "qtype": "A", "rcode": "NOERROR", "resolver": "192.168.1.1",
            "answers": [
                { "name": name, "type": "CNAME", "data": "edge.example.net", "ttl": 300 },
                { "name": "edge.example.net", "type": "A", "data": address, "ttl": 60 }] } })
    };
    send(&server, &[answer("192.168.1.20", "Www.Example.org.", "203.0.113.9")]);
    // What another device asked for names nothing of this one.
    send(&server, &[answer("192.168.1.21", "other.example", "203.0.113.10")]);
    let mut unnamed = flow("EventDestroy", 6, 3, 100);
    unnamed["data"]["dst_ip"] = json!("203.0.113.10");
    send(&server, &[flow("EventDestroy", 5, 3, 100), unnamed]);

    let (_, dns) = server.read("/api/v1/dns?device=192.168.1.20");
    let dns: Value = serde_json::from_str(&dns).unwrap();
    assert_eq!(dns["total"], json!(1), "{dns}");
    let stored = &dns["items"][0];
    assert_eq!(
        [&stored["name"], &stored["type"], &stored["rcode"], &stored["resolver"]],
        ["www.example.org", "A", "NOERROR", "192.168.1.1"]
    );
    assert_eq!(stored["answers"][0]["data"], json!("edge.example.net"));
    assert_eq!(
        [&stored["answers"][1]["data"], &stored["answers"][1]["ttl"]],
        [&json!("203.0.113.9"), &json!(60)]
    );
    let names: Vec<(Value, Value)> =
        flows(&server).into_iter().map(|flow| (flow["src_port"].clone(), flow["domain"].clone())).collect();
    assert!(names.contains(&(json!(5), json!("www.example.org"))), "{names:?}");
    assert!(names.contains(&(json!(6), Value::Null)), "{names:?}");
    // At least once: the agent may tell it again, in another batch.
    send(
        &server,
        &[flow("EventDestroy", 7, 4, 1), answer("192.168.1.20", "Www.Example.org.", "203.0.113.9")],
    );
    assert_eq!(server.total("/api/v1/dns?device=192.168.1.20"), 1);
    assert!(server.read("/flows").1.contains("www.example.org"));
}

/// As iptables' NFLOG prefix and the original agent have them.
#[test]
fn spaces_at_the_end_are_none() {
    let server = Server::start();
    let drop = |tag: &str| {
        json!({ "type": "firewall_drop", "ts": format!("{}T08:00:01Z", *DAY), "data": {
            "hook": "INPUT", "rule_tag": tag, "nflog_group": 1, "if_in": "eth0", "if_out": null,
            "src_ip": "203.0.113.9", "dst_ip": "192.168.1.20", "src_port": 7, "dst_port": 22, "l4proto": 6,
            "tcp_syn": true } })
    };
    let mut spaced = flow("EventDestroy", 5, 1, 100);
    spaced["data"]["flags"] = json!("SEEN_REPLY|ASSURED ");
    spaced["data"]["state"] = json!("TIME_WAIT ");
    send(&server, &[drop("DROP-WAN "), drop(" DROP-WAN"), drop("DROP-WAN"), spaced]);
    let (_, drops) = server.read("/api/v1/drops");
    let drops: Value = serde_json::from_str(&drops).unwrap();
    let prefixes: Vec<&Value> =
        drops["items"].as_array().unwrap().iter().map(|drop| &drop["prefix"]).collect();
    assert_eq!(prefixes, ["DROP-WAN"; 3]);
    let flow = &flows(&server)[0];
    assert_eq!([&flow["flags"], &flow["state"]], ["SEEN_REPLY|ASSURED", "TIME_WAIT"], "{flow}");
}

#[test]
fn the_first_ten_reasons_come_back_and_all_are_counted() {
    let server = Server::start();
    let mut events: Vec<Value> = (1..=15).map(|port| flow("EventDestroy", port, 1, 1)).collect();
    for (number, event) in events.iter_mut().enumerate().filter(|(number, _)| number % 5 != 0) {
        event["data"]["src_ip"] = json!(format!("bad-{number}"));
    }
    let expected: Vec<usize> = (0..15).filter(|number| number % 5 != 0).take(10).collect();
    let body = batch(&events);
    for duplicate in [Value::Null, json!(true)] {
        let (status, answer) = post(&server, &body);
        assert_eq!(
            (status, &answer["accepted"], &answer["rejected"]),
            (200, &json!(3), &json!(12)),
            "{answer}"
        );
        assert_eq!(answer["duplicate"], duplicate);
        let errors = answer["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 10, "{answer}");
        for (error, number) in errors.iter().zip(&expected) {
            assert_eq!(error["index"], json!(number));
            let reason = error["reason"].as_str().unwrap();
            assert!(reason.contains(&format!("src_ip is \"bad-{number}\"")), "{reason}");
        }
    }
    assert_eq!(flows(&server).len(), 3);
}
