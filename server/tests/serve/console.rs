//! The console's lists over gRPC.

use netmon_proto::v1::{self, event::Kind};
use tonic::{Code, Status};

use crate::client::{self, Agent};
use crate::lists::{HOSTILE_NAME, filled};
use crate::server::Server;

fn flows(agent: &Agent, request: v1::ListFlowsRequest) -> Result<v1::ListFlowsResponse, Status> {
    agent.console(|mut client| async move { client.list_flows(agent.authorized(request)).await })
}

fn page(size: u32, token: &str) -> Option<v1::PageRequest> {
    Some(v1::PageRequest { size, token: token.to_owned() })
}

#[test]
fn pages_of_flows_join() {
    let server = filled(7);
    let agent = Agent::new(&server);
    let mut ids = Vec::new();
    let mut token = String::new();
    loop {
        let request = v1::ListFlowsRequest { page: page(3, &token), ..v1::ListFlowsRequest::default() };
        let part = flows(&agent, request).unwrap();
        assert!(part.flows.len() <= 3);
        ids.extend(part.flows.iter().map(|flow| flow.id));
        let info = part.page.unwrap();
        assert_eq!((info.total, info.total_capped), (7, false));
        token = info.next_token;
        if token.is_empty() {
            break;
        }
        // A token fits its own request alone.
        let other = v1::ListFlowsRequest {
            port: Some(443),
            page: page(3, &token),
            ..v1::ListFlowsRequest::default()
        };
        let status = flows(&agent, other).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("page.token: expected next_token"), "{status}");
    }
    let all = flows(&agent, v1::ListFlowsRequest::default()).unwrap().flows;
    assert_eq!(ids, all.iter().map(|flow| flow.id).collect::<Vec<_>>());
    assert_eq!(ids.len(), 7);
    let flow = all.iter().find(|flow| flow.ended).unwrap();
    assert_eq!(
        (flow.router_id.as_str(), flow.device.as_str(), flow.remote.as_str()),
        ("attic", "192.168.1.20", "203.0.113.9")
    );
    assert_eq!((flow.bytes_orig, flow.service_port, flow.direction()), (100, 443, v1::Direction::Out));
}

#[test]
fn filters_of_flows_narrow() {
    let server = filled(5);
    let agent = Agent::new(&server);
    let any = v1::ListFlowsRequest::default;
    for (request, expected) in [
        (v1::ListFlowsRequest { router_id: "attic".to_owned(), ..any() }, 5),
        (v1::ListFlowsRequest { device: "192.168.1.20".to_owned(), ..any() }, 5),
        (v1::ListFlowsRequest { device: "192.168.1.21".to_owned(), ..any() }, 0),
        (v1::ListFlowsRequest { host: "203.0.113.9".to_owned(), ..any() }, 5),
        (v1::ListFlowsRequest { domain: "example.org".to_owned(), ..any() }, 0),
        (v1::ListFlowsRequest { domain_part: "exam".to_owned(), ..any() }, 0),
        (v1::ListFlowsRequest { direction: v1::Direction::In.into(), ..any() }, 0),
        (v1::ListFlowsRequest { protocol: 6, port: Some(443), ..any() }, 5),
        (v1::ListFlowsRequest { port: Some(0), ..any() }, 0),
        (v1::ListFlowsRequest { ended: Some(false), ..any() }, 1),
        (v1::ListFlowsRequest { from_us: 1, order: v1::FlowOrder::Bytes.into(), ..any() }, 5),
        (v1::ListFlowsRequest { to_us: 1, ..any() }, 0),
    ] {
        let answer = flows(&agent, request.clone()).unwrap();
        assert_eq!(answer.page.unwrap().total, expected, "{request:?}");
        assert_eq!(answer.flows.len() as u64, expected, "{request:?}");
    }
    for (request, expected) in [
        (
            v1::ListFlowsRequest { device: "here".to_owned(), ..any() },
            "device: \"here\" was given, expected an IPv4",
        ),
        (v1::ListFlowsRequest { protocol: 256, ..any() }, "protocol: 256 was given, expected 0 to 255"),
        (v1::ListFlowsRequest { port: Some(65_536), ..any() }, "port: 65536 was given, expected 0 to 65535"),
        (v1::ListFlowsRequest { direction: 9, ..any() }, "direction: 9 was given"),
        (v1::ListFlowsRequest { order: 9, ..any() }, "order: 9 was given"),
        (
            v1::ListFlowsRequest { router_id: "none".to_owned(), ..any() },
            "router_id: none was given, expected a router",
        ),
        (v1::ListFlowsRequest { domain: "a\0".to_owned(), ..any() }, "without control characters"),
        (
            v1::ListFlowsRequest { page: page(1_001, ""), ..any() },
            "page.size: 1001 was given, expected at most 1000",
        ),
        (v1::ListFlowsRequest { page: page(1, "x"), ..any() }, "page.token"),
    ] {
        let status = flows(&agent, request).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(expected), "{status}");
    }
    let stranger = Agent::with_token(&server, "wrong");
    assert_eq!(flows(&stranger, any()).unwrap_err().code(), Code::Unauthenticated);
}

#[test]
fn flows_are_found_by_a_part_of_a_name() {
    let server = Server::start();
    let agent = Agent::new(&server);
    let answer = client::event(Kind::DnsResponse(v1::DnsResponse {
        client_ip: vec![192, 168, 1, 20].into(),
        name: "www.example.org".to_owned(),
        r#type: 1,
        answers: vec![v1::DnsAnswer {
            name: "www.example.org".to_owned(),
            r#type: 1,
            address: vec![203, 0, 113, 9].into(),
            ttl_s: Some(300),
            ..v1::DnsAnswer::default()
        }],
        ..v1::DnsResponse::default()
    }));
    agent.report("attic", vec![answer]).unwrap();
    agent.report("attic", vec![client::ended(1)]).unwrap();
    for (part, expected) in [("W.Exam", 1), ("example.com", 0)] {
        let request =
            v1::ListFlowsRequest { domain_part: part.to_owned(), ..v1::ListFlowsRequest::default() };
        assert_eq!(flows(&agent, request).unwrap().flows.len() as u64, expected, "{part}");
        assert_eq!(server.total(&format!("/api/v1/flows?q={part}")), expected, "{part}");
    }
}

#[test]
fn devices_answers_and_drops_are_listed() {
    let server = filled(3);
    let agent = &Agent::new(&server);
    let devices = |text: &str| {
        let request = v1::ListDevicesRequest { text: text.to_owned(), ..v1::ListDevicesRequest::default() };
        agent
            .console(|mut client| async move { client.list_devices(agent.authorized(request)).await })
            .unwrap()
            .devices
    };
    assert_eq!(devices("168")[0].address, "192.168.1.20");
    assert!(devices("nowhere").is_empty());

    let dns = |request: v1::ListDnsRequest| {
        agent
            .console(|mut client| async move { client.list_dns(agent.authorized(request)).await })
            .unwrap()
            .answers
    };
    let all = dns(v1::ListDnsRequest { text: "EXAMPLE".to_owned(), ..v1::ListDnsRequest::default() });
    assert_eq!((all[0].name.as_str(), all[0].r#type, all[0].rcode), (HOSTILE_NAME, 1, 3));
    assert_eq!(all[0].client_ip, "192.168.1.20");
    assert!(dns(v1::ListDnsRequest { rcode: Some(0), ..v1::ListDnsRequest::default() }).is_empty());
    assert!(dns(v1::ListDnsRequest { r#type: 28, ..v1::ListDnsRequest::default() }).is_empty());

    let drops = |request: v1::ListDropsRequest| {
        agent.console(|mut client| async move { client.list_drops(agent.authorized(request)).await })
    };
    let input =
        v1::ListDropsRequest { hook: "INPUT".to_owned(), port: Some(22), ..v1::ListDropsRequest::default() };
    let all = drops(input.clone()).unwrap().drops;
    assert_eq!(
        (all.len(), all[0].prefix.as_str(), all[0].src_ip.as_str()),
        (1, "<b>drop</b>", "203.0.113.9")
    );
    assert!(drops(v1::ListDropsRequest { port: Some(23), ..input.clone() }).unwrap().drops.is_empty());
    let status = drops(v1::ListDropsRequest { hook: "input".to_owned(), ..input }).unwrap_err();
    assert!(status.message().contains("hook: input was given, expected PREROUTING"), "{status}");
}
