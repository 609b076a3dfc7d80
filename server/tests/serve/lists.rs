//! The lists: pages, JSON, files.

use netmon_proto::v1::{self, event::Kind};
use serde_json::Value;

use crate::{
    client::{self, Agent},
    server::Server,
};

const LISTS: [&str; 8] = ["routers", "devices", "hosts", "flows", "gaps", "dns", "drops", "domains"];

pub(crate) fn json(server: &Server, path: &str) -> Value {
    let (status, body) = server.read(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Flows 1 to `count`, the first of them still open.
pub(crate) fn filled(count: u64) -> Server {
    let server = Server::start();
    let mut events: Vec<v1::Event> = (2..=count).map(client::ended).collect();
    events.push(client::flow(1, v1::FlowPhase::New, 5));
    events.push(client::event(Kind::Gap(v1::Gap {
        cause: 1,
        count: 3,
        detail: "=1+1".to_owned(),
        ..v1::Gap::default()
    })));
    events.push(client::event(Kind::DnsResponse(v1::DnsResponse {
        client_ip: vec![192, 168, 1, 20].into(),
        name: HOSTILE_NAME.to_owned(),
        r#type: 1,
        rcode: 3,
        ..v1::DnsResponse::default()
    })));
    events.push(client::event(Kind::FirewallDrop(v1::FirewallDrop {
        hook: "INPUT".to_owned(),
        prefix: "<b>drop</b>".to_owned(),
        src_ip: vec![203, 0, 113, 9].into(),
        dst_ip: vec![192, 168, 1, 20].into(),
        dst_port: 22,
        protocol: 6,
        tcp_flags: 2,
        ..v1::FirewallDrop::default()
    })));
    let ack = Agent::new(&server).report("attic", events).unwrap();
    assert_eq!(ack.rejected, 0, "{:?}", ack.rejections);
    server
}

pub(crate) const HOSTILE_NAME: &str = "<img/src=x/onerror=alert(1)>.example.org";

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let server = filled(3);
    for (path, expected) in [
        ("flows?limit=0", "limit: \\\"0\\\" is not within 1 to 1000"),
        ("flows?direction=up", "direction: \\\"up\\\" is not one of out, in, lan, local, forward"),
        ("flows?protocol=xyz", "protocol: \\\"xyz\\\" is neither a known name nor 0 to 255"),
        ("flows?port=70000", "port: \\\"70000\\\" is not within 0 to 65535"),
        ("flows?device=here", "device: \\\"here\\\" is not an IPv4 or IPv6 address"),
        ("flows?ended=maybe", "ended: \\\"maybe\\\" is neither true nor false"),
        ("flows?from=later", "nor a time ago like 90m, 24h, 7d"),
        ("flows?sort=colour", "is not one of newest, bytes, last_seen, duration"),
        ("flows?router=none", "router: \\\"none\\\" has never reported"),
        ("flows?router=%00", "expected at most 300 bytes without control characters"),
        ("flows?colour=red", "unknown field `colour`, expected one of `router`, `device`, `host`"),
        ("flows?port=1&port=2", "duplicate field `port`"),
        ("flows?q=%ff", "is not an address, a port, the name of a protocol, or three letters"),
        ("gaps?cursor=x", "cursor: expected `next` of a page of this list"),
        ("gaps?cause=bad_luck", "is not one of kernel_overrun, spool_full"),
        ("live?cursor=x", "cursor: expected `next` of a page of this list"),
        ("totals?x=1", ""),
    ] {
        let (status, body) = server.read(&format!("/api/v1/{path}"));
        assert_eq!(status, if expected.is_empty() { 200 } else { 400 }, "{path}");
        assert!(body.contains(expected), "{path}: {body}");
        if path.starts_with("flows?") {
            let (status, body) = server.read(&format!("/{path}"));
            assert_eq!(status, 400, "{path}");
            assert!(body.contains("role=\"alert\">") && body.contains("<form"), "{path}: {body}");
            assert_eq!(server.read(&format!("/api/v1/{}", path.replace('?', ".csv?"))).0, 400, "{path}");
        }
    }
    for list in LISTS {
        assert_eq!(server.read(&format!("/api/v1/{list}?nothing=1")).0, 400, "{list}");
        assert_eq!(server.read(&format!("/api/v1/{list}?cursor=&limit=")).0, 200, "{list}");
    }
}

#[test]
fn a_cursor_fits_no_other_query() {
    let server = filled(7);
    let next = json(&server, "/api/v1/flows?limit=3")["next"].as_str().unwrap().to_owned();
    for path in [
        format!("flows?port=443&cursor={next}"),
        format!("gaps?cursor={next}"),
        format!("live?cursor={next}"),
    ] {
        assert_eq!(server.read(&format!("/api/v1/{path}")).0, 400, "{path}");
    }
}

#[test]
fn files_hold_what_the_list_holds() {
    let server = filled(2_345);
    let (status, csv) = server.read("/api/v1/flows.csv");
    assert_eq!(status, 200);
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert!(lines[0].starts_with("id,router,device,remote,direction,protocol,src_ip,"), "{}", lines[0]);
    assert!(lines[0].contains(",nat.reply_src_ip,"), "{}", lines[0]);
    assert_eq!((lines.len(), lines.last().copied()), (2_345 + 2, Some("")));
    let columns = lines[0].split(',').count();
    assert!(lines[1..=2_345].iter().all(|line| line.split(',').count() == columns));

    let (_, text) = server.read("/api/v1/flows.jsonl");
    let items: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(items.len(), 2_345);
    assert_eq!(json(&server, "/api/v1/flows?limit=1000")["items"].as_array().unwrap()[..], items[..1000]);
    assert_eq!(server.read("/api/v1/flows.jsonl?limit=7&ended=true").1.lines().count(), 7);
    assert_eq!(server.read("/api/v1/flows.csv?port=1").1.matches("\r\n").count(), 1);

    // Every field of an item is in a column.
    for list in LISTS {
        let (_, csv) = server.read(&format!("/api/v1/{list}.csv"));
        let head: Vec<&str> = csv.split("\r\n").next().unwrap().split(',').collect();
        let item = &json(&server, &format!("/api/v1/{list}"))["items"][0];
        for name in item.as_object().unwrap().keys() {
            let is_list = ["losses"].contains(&name.as_str());
            let nested = head.iter().any(|column| column.starts_with(&format!("{name}.")));
            assert!(is_list || nested || head.contains(&name.as_str()), "{list}: {name} is not in {head:?}");
        }
        assert!(csv.len() > head.len(), "{list}");
    }
    // What a spreadsheet would take for a formula is text.
    assert!(server.read("/api/v1/gaps.csv").1.contains(",'=1+1\r\n"));
}

#[test]
fn pages_of_lists_lead_on_and_back() {
    let server = filled(120);
    let (status, page) = server.read("/flows?port=443&limit=");
    assert_eq!(status, 200);
    assert_eq!(page.matches("<tr>").count(), 51, "a heading and fifty rows");
    for expected in [
        "<a href=\"/flows\">Reset</a>",
        "value=\"443\"",
        "120 rows",
        "rel=\"next\">Next page</a>",
        "<a href=\"/api/v1/flows.csv?port=443\">CSV</a>",
        "<a href=\"/flows?port=443&#38;sort=duration\">Took</a>",
        "<option value=\"bytes\">Up and down ▾</option>",
        "<a href=\"/flows?port=443&#38;device=192.168.1.20\">192.168.1.20</a>",
    ] {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    let link = page.split("<a href=\"").find(|part| part.contains("rel=\"next\"")).unwrap();
    let next = link.split('"').next().unwrap().replace("&#38;", "&");
    let (status, second) = server.read(&next);
    assert_eq!(status, 200, "{next}");
    assert!(second.contains(">First page</a>"), "{second}");
    assert!(second.contains("value=\"443\""), "{second}");
    for path in ["/devices", "/hosts", "/gaps", "/flows?sort=bytes", "/devices?sort=last_seen&q=192.168"] {
        let (status, page) = server.read(path);
        assert_eq!(status, 200, "{path}");
        assert!(page.contains("<td"), "{path}: {page}");
    }
    assert!(server.read("/gaps").1.contains("<td class=\"wide\" data-label=\"Detail\">=1+1</td>"));
    assert!(server.read("/hosts?q=nowhere").1.contains("No remote host matches."));
}

#[test]
fn names_and_drops_are_listed_and_stay_text() {
    let server = filled(3);
    for (path, expected) in [
        ("/dns", "&#60;img/src=x/onerror=alert(1)&#62;.example.org"),
        ("/domains", "&#60;img/src=x/onerror=alert(1)&#62;.example.org"),
        ("/drops", "&#60;b&#62;drop&#60;/b&#62;"),
    ] {
        let (status, page) = server.read(path);
        assert_eq!(status, 200, "{path}");
        assert!(page.contains(expected), "{path}: {page}");
        assert!(!page.contains("<img") && !page.contains("<b>"), "{path}: {page}");
    }
    for (path, expected) in [
        ("dns?q=EXAMPLE.org&type=a&rcode=nxdomain&device=192.168.1.20", 1),
        ("dns?q=nowhere", 0),
        ("dns?type=AAAA", 0),
        ("dns?rcode=0", 0),
        ("dns?domain=%3Cimg/src=x/onerror=alert(1)%3E.example.org.", 1),
        ("dns?domain=example.org", 0),
        ("dns?device=192.168.1.99", 0),
        ("drops?q=DROP&hook=INPUT&port=22&protocol=tcp&from=1h", 1),
        ("drops?host=203.0.113.9", 1),
        ("drops?host=203.0.113.10", 0),
        ("drops?device=192.168.1.20&host=203.0.113.9", 1),
        ("drops?to=1h", 0),
        ("drops?hook=FORWARD", 0),
        ("domains?q=example&sort=last_seen", 1),
        ("domains?q=nowhere", 0),
        ("flows?domain=example.org", 0),
        ("flows?port=80", 0),
    ] {
        assert_eq!(server.total(&format!("/api/v1/{path}")), expected, "{path}");
    }
    let answer = &json(&server, "/api/v1/dns")["items"][0];
    assert_eq!((&answer["type"], &answer["rcode"]), (&Value::from("A"), &Value::from("NXDOMAIN")));
    assert_eq!(json(&server, "/api/v1/drops")["items"][0]["tcp_flags"], "SYN");
    for (path, expected) in [
        ("dns?type=x", "is neither a known name nor 0 to 65535"),
        ("drops?hook=input", "is not one of PREROUTING, INPUT"),
    ] {
        let (status, body) = server.read(&format!("/api/v1/{path}"));
        assert!(status == 400 && body.contains(expected), "{path}: {body}");
    }
}

#[test]
fn well_known_ports_have_their_names() {
    let server = filled(2);
    for (path, expected) in [
        ("/flows", "<a href=\"/flows?port=443\">443 https</a>"),
        ("/drops", "<a href=\"/drops?port=22\">22 ssh</a>"),
        ("/", "<td>443 https</td>"),
    ] {
        let (_, page) = server.read(path);
        assert!(page.contains(expected), "{path}: {page}");
    }
    for (list, port, name) in [("flows", 443, "https"), ("live", 443, "https"), ("drops", 22, "ssh")] {
        let item = &json(&server, &format!("/api/v1/{list}"))["items"][0];
        assert_eq!((&item["dst_port"], &item["service"]), (&Value::from(port), &Value::from(name)), "{list}");
    }
    for list in ["flows", "drops"] {
        let (_, file) = server.read(&format!("/api/v1/{list}.csv"));
        let lines: Vec<&str> = file.lines().collect();
        assert!(lines[0].ends_with(",service"), "{file}");
        assert!(lines[1].ends_with(if list == "flows" { ",https" } else { ",ssh" }), "{file}");
    }
}

#[test]
fn metrics_tell_what_came_and_what_is_missing() {
    let server = filled(5);
    let (status, text) = server.get("/metrics", &[]);
    assert_eq!(status, 200);
    for line in [
        "netmon_server_events_total 8",
        "netmon_server_events_rejected_total 0",
        "netmon_server_queue_events 0",
        "netmon_server_writable 1",
        "netmon_server_readable 1",
        "netmon_server_flows_counted 5",
        "netmon_server_flows_open 1",
        "netmon_server_flows_kept 4",
        "netmon_server_lost{cause=\"kernel_overrun\"} 3",
        "netmon_server_connections_refused_total{cause=\"no_request\"} 0",
        "netmon_server_connections_refused_total{cause=\"too_many_of_one_address\"} 0",
        "netmon_server_router_silent_seconds{router=\"1\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    for name in ["commits_total", "commit_microseconds_total", "database_bytes", "router_lag_microseconds"] {
        let start = format!("netmon_server_{name}");
        let value =
            text.lines().find(|line| line.starts_with(&start)).and_then(|line| line.rsplit(' ').next());
        assert!(value.is_some_and(|value| value.parse::<f64>().unwrap() > 0.0), "{name}: {text}");
    }
    assert!(!text.contains("attic") && !text.contains("192.168"), "{text}");
}

#[test]
fn a_notice_is_shown_until_it_was_read() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("netmon.db"), [b'x'; 8192]).unwrap();
    let server = Server::start_on(data);
    let (_, page) = server.read("/gaps");
    assert!(page.contains("/notice"), "{page}");
    // Whoever has no session changes nothing.
    assert_eq!(server.post("/notice", "").status().as_u16(), 401);
    assert!(server.read("/gaps").1.contains("/notice"));
    let bearer = format!("Bearer {}", crate::server::TOKEN);
    let answer = server.post_body("/notice", &[("Authorization", &bearer)], b"");
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/"));
    assert!(!server.read("/gaps").1.contains("/notice"));
}

#[test]
fn the_description_names_every_list() {
    let server = Server::start();
    let description = json(&server, "/api/v1/openapi.json");
    for list in LISTS {
        for path in
            [format!("/api/v1/{list}"), format!("/api/v1/{list}.csv"), format!("/api/v1/{list}.jsonl")]
        {
            let operation = &description["paths"][&path]["get"];
            assert!(operation["responses"]["200"].is_object(), "{path}: {operation}");
            assert!(operation["responses"]["400"].is_object(), "{path}: {operation}");
        }
    }
    for (path, most) in
        [("flows", 1000), ("flows.csv", 5_000_000), ("gaps.jsonl", 5_000_000), ("top.csv", 1000)]
    {
        let parameters = &description["paths"][format!("/api/v1/{path}")]["get"]["parameters"];
        let limit =
            parameters.as_array().unwrap().iter().find(|parameter| parameter["name"] == "limit").unwrap();
        assert_eq!(limit["schema"]["maximum"], most, "{path}: {limit}");
    }
    let parameters = description["paths"]["/api/v1/flows"]["get"]["parameters"].as_array().unwrap();
    assert!(parameters.iter().all(|parameter| parameter["in"] == "query" && parameter["required"] == false));
    assert!(parameters.iter().any(|parameter| parameter["name"] == "device"));
    let batch = &description["paths"]["/api/v1/netmon/events/batch"]["post"];
    for status in ["200", "400", "401", "413", "503"] {
        assert!(batch["responses"][status].is_object(), "{status}: {batch}");
    }
    let body = &batch["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(body, "#/components/schemas/EventBatch");
}

#[test]
fn the_page_of_routers_filters_and_goes_on() {
    let server = Server::start();
    for router in ["attic", "barn", "cellar"] {
        Agent::new(&server).report(router, vec![client::flow(1, v1::FlowPhase::New, 5)]).unwrap();
    }
    let names = |page: &str| -> Vec<String> {
        let shown = page.split("<h2>").skip(1).map(|rest| rest.split(' ').next().unwrap().to_owned());
        shown.collect()
    };
    let (_, page) = server.read("/routers?q=BA");
    assert_eq!(names(&page), ["barn"]);
    assert!(page.contains("1 row") && page.contains("name=\"q\" value=\"BA\""), "{page}");
    assert!(page.contains("<a href=\"/api/v1/routers.csv?q=BA\">CSV</a>"), "{page}");
    assert!(server.read("/routers?q=nowhere").1.contains("No router matches."));

    let (_, page) = server.read("/routers?limit=2");
    assert_eq!(names(&page), ["attic", "barn"]);
    let next =
        page.split("<a href=\"").find_map(|rest| rest.split_once("\" rel=\"next\"")).expect("a next page").0;
    let (_, page) = server.read(&next.replace("&#38;", "&"));
    assert_eq!(names(&page), ["cellar"]);
    assert!(!page.contains("rel=\"next\"") && page.contains("\">First page</a>"), "{page}");

    for (query, expected) in
        [("limit=0", "is not within 1 to 1000"), ("colour=red", "unknown field `colour`")]
    {
        let (status, page) = server.read(&format!("/routers?{query}"));
        assert_eq!(status, 400, "{query}");
        assert!(page.contains("role=\"alert\">") && page.contains(expected), "{page}");
    }
}

#[test]
fn a_router_shows_how_its_machine_is() {
    let server = Server::start();
    let health = |load1_milli, conntrack_count| {
        client::event(Kind::RouterHealth(v1::RouterHealth {
            interval_ms: 60_000,
            load1_milli,
            memory_total_bytes: 256 << 20,
            memory_available_bytes: 128 << 20,
            conntrack_count,
            conntrack_max: 16_384,
            temperature_milli_c: Some(48_500),
            uptime_s: 90_000,
            ..v1::RouterHealth::default()
        }))
    };
    Agent::new(&server).report("attic", vec![health(250, 77)]).unwrap();
    Agent::new(&server).report("cellar", vec![client::flow(1, v1::FlowPhase::New, 5)]).unwrap();
    let (status, page) = server.read("/routers");
    assert_eq!(status, 200);
    for expected in ["0.25 0.00 0.00", "77 of 16384", "48.5 °C", "1 d 1 h"] {
        assert_eq!(page.matches(expected).count(), 1, "{expected}: {page}");
    }
}
