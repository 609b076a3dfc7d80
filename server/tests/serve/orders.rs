//! The orders of DNS answers, drops and devices: on their pages, as JSON, in files, in the console.

use netmon_proto::v1::{self, event::Kind};
use serde_json::Value;

use crate::{
    client::{self, Agent},
    server::Server,
};

/// Clients and names, the first told first.
const ANSWERS: [([u8; 4], &str); 4] = [
    ([192, 168, 1, 20], "b.example"),
    ([192, 168, 1, 3], "c.example"),
    ([192, 168, 1, 100], "a.example"),
    ([192, 168, 1, 3], "b.example"),
];

/// Senders, ports, and how many were left out.
const DROPS: [([u8; 4], u32, u64); 4] = [
    ([203, 0, 113, 9], 443, 0),
    ([198, 51, 100, 7], 22, 5),
    ([203, 0, 113, 9], 80, 9),
    ([198, 51, 100, 7], 80, 0),
];

/// Orders, and the rows in each by their numbers in the order of arrival.
type Orders = &'static [(&'static str, [usize; 4])];

/// The lists and their orders.
const ORDERS: [(&str, Orders); 2] = [
    (
        "dns",
        &[
            ("newest", [4, 3, 2, 1]),
            ("oldest", [1, 2, 3, 4]),
            ("name", [3, 4, 1, 2]),
            ("client", [4, 2, 1, 3]),
        ],
    ),
    (
        "drops",
        &[
            ("newest", [4, 3, 2, 1]),
            ("oldest", [1, 2, 3, 4]),
            ("source", [4, 2, 3, 1]),
            ("port", [2, 4, 3, 1]),
            ("left_out", [3, 2, 4, 1]),
        ],
    ),
];

fn filled() -> Server {
    let server = Server::start();
    let answers = ANSWERS.map(|(client, name)| {
        client::event(Kind::DnsResponse(v1::DnsResponse {
            client_ip: client.to_vec().into(),
            name: name.to_owned(),
            r#type: 1,
            ..v1::DnsResponse::default()
        }))
    });
    let drops = DROPS.map(|(src, dst_port, left_out)| {
        client::event(Kind::FirewallDrop(v1::FirewallDrop {
            hook: "INPUT".to_owned(),
            in_interface: "wan0".to_owned(),
            src_ip: src.to_vec().into(),
            dst_ip: vec![192, 168, 1, 20].into(),
            dst_port,
            protocol: 6,
            left_out,
            ..v1::FirewallDrop::default()
        }))
    });
    let ack = Agent::new(&server).report("attic", answers.into_iter().chain(drops).collect()).unwrap();
    assert_eq!(ack.rejected, 0, "{:?}", ack.rejections);
    server
}

fn json(server: &Server, path: &str) -> Value {
    let (status, body) = server.read(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn id(item: &Value) -> i64 {
    item["id"].as_i64().unwrap()
}

/// Ids as numbers from 1 in the order of arrival.
fn numbers(server: &Server, list: &str, ids: impl IntoIterator<Item = i64>) -> Vec<usize> {
    let all = json(server, &format!("/api/v1/{list}?sort=newest"));
    let all: Vec<i64> = all["items"].as_array().unwrap().iter().map(id).collect();
    ids.into_iter().map(|id| all.len() - all.iter().position(|known| *known == id).unwrap()).collect()
}

#[test]
fn json_and_files_come_in_the_order_that_is_asked_for() {
    let server = filled();
    for (list, orders) in ORDERS {
        for (sort, expected) in orders {
            for query in
                [format!("sort={sort}"), format!("sort={sort}&from=1h"), format!("sort={sort}&limit=1")]
            {
                let mut ids = Vec::new();
                let mut path = format!("/api/v1/{list}?{query}");
                loop {
                    let page = json(&server, &path);
                    assert_eq!(page["total"], 4, "{path}");
                    ids.extend(page["items"].as_array().unwrap().iter().map(id));
                    let Some(next) = page["next"].as_str() else { break };
                    // A place in one order is none in another.
                    let other = format!("/api/v1/{list}?limit=1&cursor={next}");
                    assert_eq!(server.read(&other).0, 400, "{other}");
                    path = format!("/api/v1/{list}?{query}&cursor={next}");
                }
                assert_eq!(numbers(&server, list, ids), expected, "{list}?{query}");
            }
            let (status, csv) = server.read(&format!("/api/v1/{list}.csv?sort={sort}"));
            if !["newest", "oldest"].contains(sort) {
                assert!(status == 400 && csv.contains("a file holds all"), "{list}.csv by {sort}: {csv}");
                continue;
            }
            let ids = csv.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap());
            assert_eq!(numbers(&server, list, ids), expected, "{list}.csv by {sort}");
            let (_, lines) = server.read(&format!("/api/v1/{list}.jsonl?sort={sort}"));
            let ids = lines.lines().map(|line| id(&serde_json::from_str(line).unwrap()));
            assert_eq!(numbers(&server, list, ids), expected, "{list}.jsonl by {sort}");
        }
        // Without an order the newest come first.
        let first = id(&json(&server, &format!("/api/v1/{list}"))["items"][0]);
        assert_eq!(numbers(&server, list, [first]), [4], "{list}");
        let names: Vec<&str> = orders.iter().map(|(name, _)| *name).collect();
        let (status, body) = server.read(&format!("/api/v1/{list}?sort=colour"));
        let expected = format!("is not one of {}", names.join(", "));
        assert!(status == 400 && body.contains(&expected), "{body}");
        let description = json(&server, "/api/v1/openapi.json");
        for kind in ["", ".csv", ".jsonl"] {
            let operation = &description["paths"][format!("/api/v1/{list}{kind}")]["get"];
            let parameters = operation["parameters"].as_array().unwrap();
            let sort = parameters.iter().find(|parameter| parameter["name"] == "sort").expect("an order");
            let text = sort["description"].as_str().unwrap();
            assert!(names.iter().all(|name| text.contains(&format!("`{name}`"))), "{list}{kind}: {text}");
        }
    }
}

/// What stands in the cells of a column.
fn column(page: &str, label: &str) -> Vec<String> {
    let start = format!("data-label=\"{label}\"");
    let cells = page.split(&start).skip(1);
    let text = |cell: &str| {
        let cell = cell.split_once('>').unwrap().1.split("</td>").next().unwrap();
        cell.rsplit_once("</a>").map_or(cell, |(link, _)| link.split_once('>').unwrap().1).to_owned()
    };
    cells.map(text).collect()
}

#[test]
fn headings_sort_and_turn_round() {
    let server = filled();
    let page = |path: &str| {
        let (status, page) = server.read(path);
        assert_eq!(status, 200, "{path}: {page}");
        page
    };
    let note = "the newest 20,000 that were searched";
    for (path, heading, is_window) in [
        ("/dns", "aria-sort=\"descending\"><a href=\"/dns?sort=oldest\">Time</a>", false),
        ("/dns?sort=oldest", "aria-sort=\"ascending\"><a href=\"/dns?sort=newest\">Time</a>", false),
        ("/dns?sort=oldest&from=1h", "<a href=\"/dns?from=1h&#38;sort=newest\">Time</a>", true),
        ("/dns?sort=name", "aria-sort=\"ascending\"><a href=\"/dns?sort=name\">Name</a>", true),
        ("/dns?sort=name&limit=2", "<a href=\"/dns?limit=2&#38;sort=newest\">Time</a>", true),
        ("/drops?port=22", "<a href=\"/drops?port=22&#38;sort=source\">Source</a>", false),
        (
            "/drops?sort=left_out",
            "aria-sort=\"descending\"><a href=\"/drops?sort=left_out\">Left out</a>",
            true,
        ),
        ("/flows?sort=bytes", "<option value=\"bytes\" selected>Up and down ▾</option>", false),
    ] {
        let page = page(path);
        assert!(page.contains(heading), "{path}: {heading} is not in {page}");
        assert_eq!(page.contains(note), is_window, "{path}: {page}");
    }
    assert_eq!(column(&page("/dns?sort=name"), "Name"), ["a.example", "b.example", "b.example", "c.example"]);
    assert_eq!(column(&page("/dns?sort=oldest"), "Client")[0], "192.168.1.20");
    assert_eq!(column(&page("/drops?sort=port"), "Port"), ["22 ssh", "80 http", "80 http", "443 https"]);
    assert_eq!(column(&page("/drops?sort=left_out"), "Left out"), ["9", "5", "", ""]);

    // The form keeps the order, and offers it where no heading is shown.
    let sorted = page("/drops?sort=source");
    assert!(sorted.contains("<select name=\"sort\">"), "{sorted}");
    assert!(sorted.contains("<option value=\"source\" selected>Source ▴</option>"), "{sorted}");
    assert!(!sorted.contains(">Reset</a>"), "an order filters nothing: {sorted}");
    assert!(page("/dns").contains("<option value=\"newest\" selected>Time ▾</option>"));
    // From page to page in the order.
    let first = page("/dns?sort=client&limit=3");
    assert_eq!(column(&first, "Client"), ["192.168.1.3", "192.168.1.3", "192.168.1.20"]);
    let link = first.split("<a href=\"").find(|part| part.contains("rel=\"next\"")).unwrap();
    let second = page(&link.split('"').next().unwrap().replace("&#38;", "&"));
    assert_eq!(column(&second, "Client"), ["192.168.1.100"]);
    assert!(second.contains("<a href=\"/api/v1/dns.csv\">CSV</a>"), "{second}");
    let (status, wrong) = server.read("/dns?sort=colour");
    assert!(status == 400 && wrong.contains("role=\"alert\">"), "{wrong}");

    for (path, expected) in [
        ("drops?source=203.0.113.9", 2),
        ("drops?source=192.168.1.20", 0),
        ("drops?interface=wan0&port=80", 2),
        ("drops?interface=lan0", 0),
        ("dns?device=192.168.1.3", 2),
        ("dns?device=192.168.1.4", 0),
    ] {
        assert_eq!(server.total(&format!("/api/v1/{path}")), expected, "{path}");
        assert_eq!(column(&page(&format!("/{path}")), "Time").len() as u64, expected, "{path}");
    }
    let link = "<a href=\"/drops?source=203.0.113.9\">203.0.113.9</a>";
    assert!(page("/drops").contains(link), "{link}");
}

#[test]
fn the_console_lists_in_the_same_orders() {
    use v1::{DnsOrder, DropOrder};
    let server = filled();
    let agent = &Agent::new(&server);
    let part = |token: &str| Some(v1::PageRequest { size: 3, token: token.to_owned() });
    let dns = |request: v1::ListDnsRequest| {
        agent.console(|mut client| async move { client.list_dns(agent.authorized(request)).await })
    };
    let drops = |request: v1::ListDropsRequest| {
        agent.console(|mut client| async move { client.list_drops(agent.authorized(request)).await })
    };
    let orders = [DnsOrder::Unspecified, DnsOrder::Oldest, DnsOrder::Name, DnsOrder::Client];
    for (order, (name, expected)) in orders.into_iter().zip(ORDERS[0].1) {
        let request = |token: &str| v1::ListDnsRequest {
            order: order.into(),
            page: part(token),
            ..v1::ListDnsRequest::default()
        };
        let first = dns(request("")).unwrap();
        let rest = dns(request(&first.page.unwrap().next_token)).unwrap();
        let ids = first.answers.iter().chain(&rest.answers).map(|answer| answer.id);
        assert_eq!(numbers(&server, "dns", ids), expected, "{name}");
    }
    let orders =
        [DropOrder::Unspecified, DropOrder::Oldest, DropOrder::Source, DropOrder::Port, DropOrder::LeftOut];
    for (order, (name, expected)) in orders.into_iter().zip(ORDERS[1].1) {
        let request = |token: &str| v1::ListDropsRequest {
            order: order.into(),
            page: part(token),
            ..v1::ListDropsRequest::default()
        };
        let first = drops(request("")).unwrap();
        let rest = drops(request(&first.page.unwrap().next_token)).unwrap();
        let ids = first.drops.iter().chain(&rest.drops).map(|drop| drop.id);
        assert_eq!(numbers(&server, "drops", ids), expected, "{name}");
    }
    let from = |source: &str, interface: &str| v1::ListDropsRequest {
        source: source.to_owned(),
        interface: interface.to_owned(),
        ..v1::ListDropsRequest::default()
    };
    assert_eq!(drops(from("203.0.113.9", "wan0")).unwrap().page.unwrap().total, 2);
    assert_eq!(drops(from("", "lan0")).unwrap().page.unwrap().total, 0);
    for (status, expected) in [
        (
            dns(v1::ListDnsRequest { order: 9, ..v1::ListDnsRequest::default() }).unwrap_err(),
            "a netmon.v1.DnsOrder",
        ),
        (drops(v1::ListDropsRequest { order: 9, ..from("", "") }).unwrap_err(), "a netmon.v1.DropOrder"),
        (drops(from("here", "")).unwrap_err(), "source: \"here\" was given, expected an IPv4"),
        (drops(from("", "a\0")).unwrap_err(), "without control characters"),
    ] {
        assert!(status.message().contains(expected), "{status}");
    }
}

#[test]
fn the_console_finds_devices_as_the_page_does() {
    let server = Server::start();
    let agent = &Agent::new(&server);
    let identity = |last: u8, name: &str, ago_s: i64| {
        let mut event = client::event(Kind::HostIdentity(v1::HostIdentity {
            mac: vec![2, 0, 0, 0, 0, last].into(),
            addresses: vec![vec![192, 168, 1, last].into()],
            host_name: name.to_owned(),
            ..v1::HostIdentity::default()
        }));
        event.time_us -= ago_s * 1_000_000;
        event
    };
    agent.report("attic", vec![identity(20, "Tower", 0), identity(21, "tablet", 600)]).unwrap();
    let devices = |request: v1::ListDevicesRequest| {
        agent.console(|mut client| async move { client.list_devices(agent.authorized(request)).await })
    };
    let text = |text: &str| {
        let request = v1::ListDevicesRequest { text: text.to_owned(), ..v1::ListDevicesRequest::default() };
        devices(request).unwrap().devices.into_iter().map(|device| device.address).collect::<Vec<_>>()
    };
    for (part, expected) in [
        ("", vec!["192.168.1.21", "192.168.1.20"]),
        ("TOWER", vec!["192.168.1.20"]),
        ("00:15", vec!["192.168.1.21"]),
        ("1.2", vec!["192.168.1.21", "192.168.1.20"]),
        ("nobody", vec![]),
    ] {
        assert_eq!(text(part), expected, "{part}");
        let items = json(&server, &format!("/api/v1/devices?q={part}"));
        let page = items["items"].as_array().unwrap().iter().map(|item| item["address"].as_str().unwrap());
        assert_eq!(page.collect::<Vec<_>>(), expected, "{part}");
    }
    let order = |order| v1::ListDevicesRequest { order, ..v1::ListDevicesRequest::default() };
    let sorted = devices(order(v1::DeviceOrder::LastSeen.into())).unwrap().devices;
    let known = &sorted[0];
    assert_eq!(
        (known.address.as_str(), known.name.as_str(), known.mac.as_str()),
        ("192.168.1.20", "Tower", "02:00:00:00:00:14")
    );
    assert!(sorted[0].last_seen_us > sorted[1].last_seen_us);
    let status = devices(order(9)).unwrap_err();
    assert!(status.message().contains("order: 9 was given, expected a netmon.v1.DeviceOrder"), "{status}");
}
