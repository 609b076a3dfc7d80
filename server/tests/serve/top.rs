//! Rankings: JSON, CSV, gRPC and the page tell the same.

use netmon_proto::v1::{self, event::Kind};
use serde_json::Value;
use tonic::{Code, Status};

use crate::{
    client::{self, Agent},
    server::Server,
};

fn moved(id: u64, device: u8, protocol: u32, port: u32, bytes_orig: u64, bytes_reply: u64) -> v1::Event {
    client::event(Kind::Flow(v1::Flow {
        phase: v1::FlowPhase::End.into(),
        flow_id: 1 << 32 | id,
        protocol,
        src_ip: vec![192, 168, 1, device].into(),
        dst_ip: vec![203, 0, 113, device].into(),
        src_port: 50_000,
        dst_port: port,
        direction: v1::Direction::Out.into(),
        device: v1::End::Initiator.into(),
        remote: v1::End::Responder.into(),
        bytes_orig,
        bytes_reply,
        packets_orig: 1,
        packets_reply: 2,
        ..v1::Flow::default()
    }))
}

/// Device 21 moves most by what it is sent, device 20 sends most.
fn filled() -> Server {
    let server = Server::start();
    let agent = Agent::new(&server);
    let events =
        vec![moved(1, 20, 6, 443, 500, 10), moved(2, 20, 17, 53, 90, 9), moved(3, 21, 6, 443, 10, 4_000)];
    agent.report("attic", events).unwrap();
    agent.report("cellar", vec![moved(4, 22, 6, 50_123, 70, 0)]).unwrap();
    let rename =
        server.post_as_reader(&format!("/devices/{}/name", id_of(&server, "192.168.1.21")), "name=%3Cb%3Etv");
    assert_eq!(rename.status().as_u16(), 303);
    server
}

fn json(server: &Server, path: &str) -> Value {
    let (status, body) = server.read(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn id_of(server: &Server, address: &str) -> i64 {
    json(server, &format!("/api/v1/devices?address={address}"))["items"][0]["id"].as_i64().unwrap()
}

fn ranked(server: &Server, query: &str, field: &str) -> Vec<(Value, i64)> {
    let ranking = json(server, &format!("/api/v1/top?{query}"));
    let items = ranking["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let moved = item["bytes_orig"].as_i64().unwrap() + item["bytes_reply"].as_i64().unwrap();
            (item[field].clone(), moved)
        })
        .collect()
}

fn console(agent: &Agent, request: v1::ListTopRequest) -> Result<v1::ListTopResponse, Status> {
    agent.console(|mut client| async move { client.list_top(agent.authorized(request)).await })
}

#[test]
fn who_moved_most_is_told() {
    let server = filled();
    let text = |text: &str| Value::from(text);
    let devices =
        [(text("192.168.1.21"), 4_010), (text("192.168.1.20"), 609), (text("192.168.1.22"), 70)].to_vec();
    assert_eq!(ranked(&server, "", "address"), devices);
    assert_eq!(ranked(&server, "by=device&from=30d", "address"), devices);
    assert_eq!(ranked(&server, "by=device&limit=1", "address"), devices[..1]);
    assert_eq!(ranked(&server, "router=cellar", "address"), devices[2..]);
    assert_eq!(ranked(&server, "to=2h", "address"), []);
    assert_eq!(
        ranked(&server, "by=host&from=1h", "address"),
        [(text("203.0.113.21"), 4_010), (text("203.0.113.20"), 609), (text("203.0.113.22"), 70)]
    );
    assert_eq!(
        ranked(&server, "by=service", "name"),
        [(text("https"), 4_520), (text("domain"), 99), (Value::Null, 70)]
    );
    let first = &json(&server, "/api/v1/top?by=device&from=1h")["items"][0];
    for (field, expected) in [
        ("kind", text("device")),
        ("id", Value::from(id_of(&server, "192.168.1.21"))),
        ("name", text("<b>tv")),
        ("router", text("attic")),
        ("flows", Value::from(1)),
        ("bytes_orig", Value::from(10)),
        ("bytes_reply", Value::from(4_000)),
        ("packets_orig", Value::from(1)),
        ("packets_reply", Value::from(2)),
        ("port", Value::Null),
    ] {
        assert_eq!(first[field], expected, "{field}: {first}");
    }
    let service = &json(&server, "/api/v1/top?by=service")["items"][1];
    assert_eq!((&service["protocol"], &service["port"]), (&text("udp"), &Value::from(53)));
    let (status, file) = server.read("/api/v1/top.csv?by=service&limit=2");
    let expected = "kind,id,address,router,name,protocol,port,flows,bytes_orig,bytes_reply,packets_orig,packets_reply\r\n\
                    service,,,,https,tcp,443,2,510,4010,2,4\r\nservice,,,,domain,udp,53,1,90,9,1,2\r\n";
    assert_eq!((status, file.as_str()), (200, expected));
    let description = json(&server, "/api/v1/openapi.json");
    for path in ["/api/v1/top", "/api/v1/top.csv"] {
        let operation = &description["paths"][path]["get"];
        assert!(
            operation["responses"]["200"].is_object() && operation["responses"]["400"].is_object(),
            "{path}"
        );
        assert_eq!(operation["parameters"].as_array().unwrap().len(), 5, "{path}");
    }
}

#[test]
fn the_console_ranks_alike() {
    let server = filled();
    let agent = Agent::new(&server);
    let any = v1::ListTopRequest::default;
    let all = console(&agent, any()).unwrap();
    assert!(all.from_us < all.to_us);
    let addresses: Vec<&str> = all.entries.iter().map(|entry| entry.address.as_str()).collect();
    assert_eq!(addresses, ["192.168.1.21", "192.168.1.20", "192.168.1.22"]);
    let first = &all.entries[0];
    assert_eq!((first.name.as_str(), first.router_id.as_str(), first.flows), ("<b>tv", "attic", 1));
    assert_eq!((first.bytes_orig, first.bytes_reply, first.packets_reply), (10, 4_000, 2));
    let by = |by: v1::TopBy| v1::ListTopRequest { by: by.into(), ..any() };
    let services = console(&agent, by(v1::TopBy::Service)).unwrap().entries;
    let told: Vec<_> =
        services.iter().map(|entry| (entry.name.as_str(), entry.protocol, entry.port)).collect();
    assert_eq!(told, [("https", 6, 443), ("domain", 17, 53), ("", 6, 50_123)]);
    let cellar = v1::ListTopRequest { router_id: "cellar".to_owned(), limit: 5, ..by(v1::TopBy::Host) };
    assert_eq!(console(&agent, cellar).unwrap().entries[0].address, "203.0.113.22");
    // Whatever the span, it is answered.
    let all_time = v1::ListTopRequest { from_us: i64::MIN, to_us: i64::MAX, ..any() };
    assert_eq!(console(&agent, all_time).unwrap().entries.len(), 3);
    for (request, expected) in [
        (v1::ListTopRequest { by: 9, ..any() }, "by: 9 was given, expected a netmon.v1.TopBy"),
        (v1::ListTopRequest { limit: 1_001, ..any() }, "limit: 1001 was given, expected at most 1000"),
        (v1::ListTopRequest { router_id: "none".to_owned(), ..any() }, "expected a router that has reported"),
        (v1::ListTopRequest { from_us: 5, to_us: 5, ..any() }, "from_us: expected a time before the end"),
        (v1::ListTopRequest { from_us: i64::MAX, ..any() }, "from_us: expected a time before the end"),
    ] {
        let status = console(&agent, request).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(expected), "{status}");
    }
}

#[test]
fn the_page_shows_three_rankings() {
    let server = filled();
    let (status, page) = server.read("/top?from=1h");
    assert_eq!(status, 200);
    assert!(page.contains("<a href=\"/top\" aria-current=\"page\">Top</a>"), "{page}");
    assert!(page.contains("<option value=\"1h\" selected>the last hour</option>"), "{page}");
    let device = format!("title=\"192.168.1.21\"><a href=\"/devices/{}\">", id_of(&server, "192.168.1.21"));
    for expected in [
        format!("{device}&#60;b&#62;tv</a>").as_str(),
        "<a href=\"/flows?from=1h&#38;port=443&#38;protocol=tcp\">443 https</a>",
        "<a href=\"/hosts/203.0.113.21\">203.0.113.21</a>",
        "<a href=\"/api/v1/top.csv?from=1h&#38;by=service\">CSV</a>",
        "data-label=\"Sent by who answered\">4.0 kB</td>",
        "in whole minutes.",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(page.find("tv</a>") < page.find("192.168.1.20</a>"), "the most first");
    let (_, page) = server.read("/top?router=cellar");
    assert!(page.contains("192.168.1.22</a>") && !page.contains("192.168.1.20"), "{page}");
    assert!(page.contains("<option value=\"24h\" selected>24 hours</option>"), "{page}");
    let (status, page) = server.read("/top?from=later");
    assert!(status == 400 && page.contains("nor a time ago like"), "{page}");
}

#[test]
fn what_is_wrong_with_a_question_is_said() {
    let server = filled();
    for (query, expected) in [
        ("by=flow", "by: \\\"flow\\\" is not one of device, service, host"),
        ("from=later", "nor a time ago like 90m, 24h, 7d"),
        ("from=1h&to=2h", "from: expected a time before the end of the span"),
        ("to=9999-12-31T23:59:59Z&from=9999-12-31T23:59:59Z", "from: expected a time before the end"),
        ("router=none", "router: \\\"none\\\" has never reported"),
        ("limit=0", "limit: \\\"0\\\" is not within 1 to 1000"),
        ("cursor=x", "unknown field `cursor`, expected one of `by`, `from`, `to`, `router`, `limit`"),
    ] {
        for path in ["top", "top.csv"] {
            let (status, body) = server.read(&format!("/api/v1/{path}?{query}"));
            assert!(status == 400 && body.contains(expected), "{query}: {body}");
        }
    }
    assert_eq!(server.read("/api/v1/top?by=&from=&to=0001-01-01T00:00:01Z&router=").0, 400);
    assert_eq!(server.get("/api/v1/top", &[]).0, 401);
}
