//! Pages of every list, over JSON, files and gRPC alike: together they are the list, each row once.

use std::collections::BTreeSet;

use netmon_proto::v1::{self, event::Kind};
use serde_json::Value;

use crate::{
    client::{self, Agent},
    lists::json,
    server::Server,
};

/// Routers, each with a device, a host, a name, an answer, a drop, a gap, and a flow of either kind.
const ROUTERS: u8 = 8;

/// Every list has at least as many rows as there are routers, all of them different.
fn many_of_all() -> Server {
    let server = Server::start();
    let agent = Agent::new(&server);
    for number in 1..=ROUTERS {
        let (device, host) = (vec![192, 168, number, 20], vec![203, 0, 113, number]);
        let mut flows = [client::flow(1, v1::FlowPhase::New, 5), client::ended(2)];
        for (event, src_port) in flows.iter_mut().zip(50_000..) {
            // Who lags most was not heard last.
            event.time_us -= i64::from(number * 3 % ROUTERS) * 10_000_000;
            if let Some(Kind::Flow(flow)) = &mut event.kind {
                (flow.src_ip, flow.dst_ip) = (device.clone().into(), host.clone().into());
                flow.src_port = src_port;
                flow.bytes_orig += u64::from(number % 3);
            }
        }
        let answer = Kind::DnsResponse(v1::DnsResponse {
            client_ip: device.clone().into(),
            name: format!("name-{number}.example.org"),
            r#type: 1,
            ..v1::DnsResponse::default()
        });
        let drop = Kind::FirewallDrop(v1::FirewallDrop {
            hook: "INPUT".to_owned(),
            src_ip: host.into(),
            dst_ip: device.into(),
            protocol: if number % 2 == 0 { 6 } else { 1 },
            tcp_flags: 18,
            icmp_type: 8,
            src_mac: vec![2, 0, 0, 0, 0xab, number].into(),
            nflog_group: 5,
            ..v1::FirewallDrop::default()
        });
        let cause = if number % 2 == 0 { v1::GapCause::Flood } else { v1::GapCause::Decode };
        let gap = Kind::Gap(v1::Gap { cause: cause.into(), count: number.into(), ..v1::Gap::default() });
        let others = [answer, drop, gap].map(client::event);
        let ack = agent.report(&router(number), others.into_iter().chain(flows).collect()).unwrap();
        assert_eq!(ack.rejected, 0, "{:?}", ack.rejections);
    }
    server
}

fn router(number: u8) -> String {
    format!("router-{number}")
}

/// What tells the rows of a list apart.
fn keys(list: &str, page: &Value) -> Vec<String> {
    let key = if list == "routers" { "router" } else { "id" };
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item[key].to_string()).inspect(|key| assert_ne!(key, "null", "{list}")).collect()
}

#[test]
fn pages_of_json_are_the_list() {
    let server = many_of_all();
    for (list, orders) in [
        ("flows", &["newest", "bytes", "last_seen", "duration"][..]),
        ("live", &[]),
        ("devices", &["newest", "last_seen"]),
        ("hosts", &["newest", "last_seen"]),
        ("domains", &["newest", "last_seen"]),
        ("routers", &["name", "last_heard", "lag"]),
        ("gaps", &[]),
        ("dns", &["newest", "oldest", "name", "client"]),
        ("drops", &["newest", "oldest", "source", "port", "left_out"]),
    ] {
        let orders = orders.iter().map(|order| format!("&sort={order}"));
        for order in orders.chain([String::new()]) {
            let all = json(&server, &format!("/api/v1/{list}?limit=1000{order}"));
            let whole = keys(list, &all);
            assert!(whole.len() >= usize::from(ROUTERS), "{list}: {whole:?}");
            assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), whole.len(), "{list}{order}: {whole:?}");
            assert_eq!((all["total"].as_u64(), &all["next"]), (Some(whole.len() as u64), &Value::Null));
            for limit in [1, 3] {
                let mut read = Vec::new();
                let mut cursor = String::new();
                loop {
                    let page = json(&server, &format!("/api/v1/{list}?limit={limit}{order}{cursor}"));
                    let found = keys(list, &page);
                    let next = page["next"].as_str();
                    assert!(found.len() == limit || next.is_none() && found.len() < limit, "{list}: {page}");
                    read.extend(found);
                    assert!(read.len() <= whole.len(), "{list}{order} by {limit} begins again: {read:?}");
                    match next {
                        Some(next) => cursor = format!("&cursor={next}"),
                        None => break,
                    }
                }
                assert_eq!(read, whole, "{list}{order} by {limit}");
            }
            if list != "live" {
                let (status, lines) = server.read(&format!("/api/v1/{list}.jsonl?{order}"));
                let of_a_window = ["flows", "dns", "drops"].contains(&list)
                    && !["", "&sort=newest", "&sort=oldest"].contains(&order.as_str());
                assert_eq!(status, if of_a_window { 400 } else { 200 }, "{list}{order}: {lines}");
                if of_a_window {
                    continue;
                }
                let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                let items: Value = lines.collect();
                assert_eq!(keys(list, &serde_json::json!({ "items": items })), whole, "{list}{order}");
            }
        }
    }
}

/// Reads a list of the console in pages of three, and again whole. Gives what tells the rows apart.
macro_rules! console {
    ($agent:expr, $rpc:ident($request:expr), $rows:ident, $key:expr) => {{
        let agent = $agent;
        let page = |size, token: String| {
            let page = Some(v1::PageRequest { size, token });
            let mut request = $request;
            request.page = page;
            let call = |mut client: Console| async move { client.$rpc(agent.authorized(request)).await };
            let answer = agent.console(call).unwrap();
            let rows: Vec<String> = answer.$rows.iter().map($key).collect();
            (rows, answer.page.unwrap())
        };
        let (whole, info) = page(1000, String::new());
        assert_eq!((info.total, info.next_token.as_str()), (whole.len() as u64, ""));
        let (mut read, mut token) = (Vec::new(), String::new());
        loop {
            let (rows, info) = page(3, token);
            assert!(rows.len() == 3 || info.next_token.is_empty(), "{rows:?}");
            read.extend(rows);
            assert!(read.len() <= whole.len(), "{} begins again: {read:?}", stringify!($rpc));
            token = info.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(read, whole, stringify!($rpc));
        whole
    }};
}

type Console = v1::console_client::ConsoleClient<tonic::transport::Channel>;

#[test]
fn pages_of_the_console_are_the_lists_of_json() {
    let server = many_of_all();
    let agent = &Agent::new(&server);
    let same = |list: &str, read: &[String]| {
        assert!(read.len() >= usize::from(ROUTERS), "{list}: {read:?}");
        assert_eq!(read, keys(list.split('?').next().unwrap(), &json(&server, &format!("/api/v1/{list}"))));
    };
    let (flows, dns) = (v1::ListFlowsRequest::default, v1::ListDnsRequest::default);
    same("flows", &console!(agent, list_flows(flows()), flows, |row| row.id.to_string()));
    same("dns", &console!(agent, list_dns(dns()), answers, |row| row.id.to_string()));
    let (drops, devices) = (v1::ListDropsRequest::default, v1::ListDevicesRequest::default);
    same("drops", &console!(agent, list_drops(drops()), drops, |row| row.id.to_string()));
    same("devices", &console!(agent, list_devices(devices()), devices, |row| row.id.to_string()));
    let gaps = v1::ListGapsRequest::default;
    same("gaps", &console!(agent, list_gaps(gaps()), gaps, |row| row.id.to_string()));
    for (order, number) in [("newest", 0), ("last_seen", 1)] {
        let request = || v1::ListHostsRequest { order: number, ..v1::ListHostsRequest::default() };
        let read = console!(agent, list_hosts(request()), hosts, |row| row.id.to_string());
        same(&format!("hosts?sort={order}"), &read);
        let request = || v1::ListDomainsRequest { order: number, ..v1::ListDomainsRequest::default() };
        let read = console!(agent, list_domains(request()), domains, |row| row.id.to_string());
        same(&format!("domains?sort={order}"), &read);
    }
    for (order, number) in [("name", 0), ("last_heard", 1), ("lag", 2)] {
        let request = || v1::ListRoutersRequest { order: number, ..v1::ListRoutersRequest::default() };
        let read = console!(agent, list_routers(request()), routers, |row| format!("{:?}", row.router_id));
        same(&format!("routers?sort={order}"), &read);
    }
}

#[test]
fn routers_come_in_the_order_that_is_asked_for() {
    let server = many_of_all();
    for (order, expected) in [
        ("", "1 2 3 4 5 6 7 8"),
        ("name", "1 2 3 4 5 6 7 8"),
        ("last_heard", "8 7 6 5 4 3 2 1"),
        ("lag", "5 2 7 4 1 6 3 8"),
    ] {
        let expected: Vec<String> = expected.split(' ').map(|number| format!("router-{number}")).collect();
        let list = json(&server, &format!("/api/v1/routers?sort={order}"));
        let names: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|item| item["router"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{order}");
        let (_, page) = server.read(&format!("/routers?sort={order}&q=ROUTER"));
        let names: Vec<&str> =
            page.split("<h2>").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
        assert_eq!(names, expected, "{order}");
        let chosen = format!("<option value=\"{order}\" selected>");
        assert!(order.is_empty() || page.contains(&chosen), "{order}: {page}");
    }
    for path in ["/api/v1/routers?sort=size", "/routers?sort=size"] {
        let (status, body) = server.read(path);
        assert!(status == 400 && body.contains("is not one of name, last_heard, lag"), "{body}");
    }
}

#[test]
fn filters_of_the_console_narrow() {
    let server = many_of_all();
    let agent = &Agent::new(&server);
    let hosts = |text: &str, address: &str| {
        let request = || v1::ListHostsRequest {
            text: text.to_owned(),
            address: address.to_owned(),
            ..v1::ListHostsRequest::default()
        };
        console!(agent, list_hosts(request()), hosts, |row| row.address.clone())
    };
    assert_eq!(hosts("113.7", ""), ["203.0.113.7"]);
    assert_eq!(hosts("", "203.0.113.4"), ["203.0.113.4"]);
    assert_eq!(hosts("", "203.0.113.99"), [""; 0]);
    let domains = |text: &str| {
        let request =
            || v1::ListDomainsRequest { text: text.to_owned(), ..v1::ListDomainsRequest::default() };
        console!(agent, list_domains(request()), domains, |row| row.name.clone())
    };
    assert_eq!(domains("NAME-3"), ["name-3.example.org"]);
    assert_eq!(domains("nowhere"), [""; 0]);
    let gaps = |request: v1::ListGapsRequest| {
        console!(agent, list_gaps(request.clone()), gaps, |row| format!("{} {}", row.router_id, row.count))
    };
    let any = v1::ListGapsRequest::default;
    assert_eq!(gaps(v1::ListGapsRequest { router_id: router(3), ..any() }), ["router-3 3"]);
    let floods = v1::ListGapsRequest { cause: v1::GapCause::Flood.into(), ..any() };
    assert_eq!(gaps(floods.clone()), ["router-8 8", "router-6 6", "router-4 4", "router-2 2"]);
    assert_eq!(gaps(v1::ListGapsRequest { router_id: router(3), ..floods }), [""; 0]);
    assert_eq!(gaps(v1::ListGapsRequest { to_us: 1, ..any() }), [""; 0]);
    assert_eq!(gaps(v1::ListGapsRequest { from_us: 1, ..any() }).len(), usize::from(ROUTERS));
    let routers = |text: &str| {
        let request =
            || v1::ListRoutersRequest { text: text.to_owned(), ..v1::ListRoutersRequest::default() };
        console!(agent, list_routers(request()), routers, |row| row.router_id.clone())
    };
    assert_eq!(routers("ROUTER-5"), ["router-5"]);
    assert_eq!(routers("nowhere"), [""; 0]);

    let wrong = |request: v1::ListGapsRequest| {
        agent
            .console(|mut client| async move { client.list_gaps(agent.authorized(request)).await })
            .unwrap_err()
    };
    for (request, expected) in [
        (v1::ListGapsRequest { cause: 99, ..any() }, "cause: 99 was given, expected a netmon.v1.GapCause"),
        (
            v1::ListGapsRequest { router_id: "none".to_owned(), ..any() },
            "expected a router that has reported",
        ),
    ] {
        let status = wrong(request);
        assert!(
            status.code() == tonic::Code::InvalidArgument && status.message().contains(expected),
            "{status}"
        );
    }
    let request = v1::ListRoutersRequest { order: 9, ..v1::ListRoutersRequest::default() };
    let status =
        agent.console(|mut client| async move { client.list_routers(agent.authorized(request)).await });
    assert!(status.unwrap_err().message().contains("order: 9 was given"));
}

#[test]
fn the_console_tells_all_of_a_device_and_of_a_drop() {
    let server = many_of_all();
    let agent = &Agent::new(&server);
    let identity = v1::HostIdentity {
        mac: vec![0x00, 0x00, 0x0c, 0, 0, 7].into(),
        addresses: vec![vec![192, 168, 3, 20].into()],
        host_name: "printer".to_owned(),
        ..v1::HostIdentity::default()
    };
    agent.report(&router(3), vec![client::event(Kind::HostIdentity(identity))]).unwrap();
    let request = v1::ListDevicesRequest { text: "PRINT".to_owned(), ..v1::ListDevicesRequest::default() };
    let devices =
        agent.console(|mut client| async move { client.list_devices(agent.authorized(request)).await });
    let devices = devices.unwrap().devices;
    assert_eq!(devices.len(), 1, "{devices:?}");
    let device = &devices[0];
    assert_eq!((device.name.as_str(), device.mac.as_str()), ("printer", "00:00:0c:00:00:07"));
    assert!(device.vendor.starts_with("Cisco"), "{device:?}");

    let all = v1::ListDropsRequest::default();
    let drops = agent.console(|mut client| async move { client.list_drops(agent.authorized(all)).await });
    let drops = drops.unwrap().drops;
    let told = |drop: &v1::DropEntry| (drop.tcp_flags, drop.icmp_type, drop.icmp_code, drop.src_mac.clone());
    let mac = |number: u8| format!("02:00:00:00:ab:{number:02x}");
    assert_eq!(told(&drops[0]), (Some(18), None, None, mac(8)), "TCP");
    assert_eq!(told(&drops[1]), (None, Some(8), Some(0), mac(7)), "ICMP");
    assert_eq!(drops[0].nflog_group, 5);
}
