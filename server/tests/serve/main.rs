//! The server's program as its clients meet it: who gets in, what a stream may do, what a page shows of a
//! stranger's text, what a restart keeps.

mod client;
mod console;
mod devices;
mod files;
mod hosts;
mod http;
mod lists;
mod malformed;
mod manager;
#[path = "../support/mmdb.rs"]
mod mmdb;
mod orders;
mod original;
mod pages;
mod pressure;
#[path = "../support/capture.rs"]
mod recording;
mod resend;
mod server;
mod snapshots;
mod strangers;
mod tail;
mod tls;
mod top;
mod torture;

use netmon_proto::v1::{self, event::Kind};
use tonic::Code;

use client::Agent;
use server::{Server, TOKEN};

const BROWSER: (&str, &str) = ("Accept", "text/html");

#[test]
fn only_those_with_the_token_read() {
    let server = Server::start();
    let bearer = format!("Bearer {TOKEN}");
    for (headers, expected) in [
        (vec![], 401),
        (vec![("Authorization", "Bearer wrong")], 401),
        (vec![("Authorization", bearer.as_str())], 200),
        (vec![("Cookie", "netmon_session=9999999999.00")], 401),
    ] {
        for path in ["/api/v1/flows", "/api/v1/routers", "/live/events?sort=nonsense", "/"] {
            let (status, _) = server.get(path, &headers);
            let expected = if expected == 200 && path.contains("nonsense") { 400 } else { expected };
            assert_eq!(status, expected, "{path} {headers:?}");
        }
    }
    assert_eq!(server.get("/up", &[]), (200, "up\n".to_owned()));
    assert_eq!(server.get("/metrics", &[]).0, 200);
    assert_eq!(server.get("/nothing", &[]).0, 404);
    assert!(server.get("/nothing", &[BROWSER]).1.contains("<h1>Not found</h1>"));
}

#[test]
fn a_browser_logs_in_once() {
    let server = Server::start();
    let page = server.request("/").header(BROWSER.0, BROWSER.1).call().unwrap();
    assert_eq!((page.status().as_u16(), page.headers()["location"].to_str().unwrap()), (303, "/login"));
    let wrong = server.post("/login", "token=wrong");
    assert_eq!(wrong.status().as_u16(), 401);
    assert!(!wrong.headers().contains_key("set-cookie"));

    let right = server.post("/login", &format!("token={TOKEN}"));
    let cookie = right.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let session = cookie.split(';').next().unwrap();
    let (status, page) = server.get("/", &[("Cookie", session)]);
    assert_eq!(status, 200);
    assert!(page.contains("<h1>Live connections</h1>"));
    assert_eq!(server.get("/api/v1/flows", &[("Cookie", session)]).0, 200);
}

#[test]
fn a_strangers_text_stays_text() {
    let server = Server::start();
    let agent = Agent::new(&server);
    let hostile = "<script>alert(1)</script>\"'&";
    let warnings = vec![hostile.to_owned()];
    let heartbeat = v1::Heartbeat { warnings, ..v1::Heartbeat::default() };
    agent.report("attic", vec![client::event(Kind::Heartbeat(heartbeat))]).unwrap();
    let (status, page) = server.read("/routers");
    assert_eq!(status, 200);
    assert!(page.contains("&#60;script&#62;alert(1)"), "{page}");
    assert!(!page.contains("<script>alert"));
    let refused = agent.report("<b>", vec![]).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[test]
fn a_stream_says_hello_and_counts_on() {
    let server = Server::start();
    let agent = Agent::new(&server);
    let hello = |epoch| client::hello("attic", epoch, 1);
    let one = |sequence| client::batch(sequence, vec![client::ended(sequence)]);

    let acks = agent.stream(vec![hello(7), one(1), one(2), one(2), one(1), one(3)]).unwrap();
    assert_eq!((acks.last, acks.accepted, acks.rejected), (3, 3, 0));
    // The next stream of the same run goes on, and learns where.
    let again = agent.stream(vec![hello(7), one(3), one(4)]).unwrap();
    assert_eq!((again.welcome.last_sequence, again.last, again.accepted), (3, 4, 1));
    // A bad event is refused alone.
    let mixed = client::batch(5, vec![client::event_without_kind(), client::ended(5)]);
    let acks = agent.stream(vec![hello(7), mixed]).unwrap();
    assert_eq!((acks.accepted, acks.rejected), (1, 1));
    assert_eq!(server.total("/api/v1/flows"), 5);
    assert!(server.read("/api/v1/totals").1.contains("\"agree\":true"));
    // Of many, ten are told with the reason, in the answer and in the log; the others are counted there.
    let bad = client::batch(6, vec![client::event_without_kind(); 13]);
    let acks = agent.stream(vec![hello(7), bad]).unwrap();
    assert_eq!((acks.accepted, acks.rejected), (0, 13));
    let log = server.log();
    let said = |text: &str| log.lines().filter(|line| line.contains("attic") && line.contains(text)).count();
    assert_eq!(
        (said("an event was refused"), said("more events of the same batch were refused")),
        (11, 1),
        "{log}"
    );
    assert!(log.contains("others=3"), "{log}");
}

#[test]
fn a_stream_that_breaks_the_rules_ends_with_the_reason() {
    let server = Server::start();
    let agent = Agent::new(&server);
    let hello = || client::hello("attic", 9, 1);
    let hole = client::batch(3, vec![client::ended(3)]);
    let explained = client::explained(client::batch(3, vec![client::ended(3)]), 2);
    let too_many = client::batch(4, vec![client::ended(1); 8193]);
    let huge = client::batch(4, vec![client::large_event(3 << 20)]);
    for (frames, code, text) in [
        (vec![client::batch(1, vec![])], Code::FailedPrecondition, "expected Hello as the first frame"),
        (vec![hello(), hello()], Code::FailedPrecondition, "expected a Batch after Hello"),
        (vec![client::hello("", 9, 1)], Code::InvalidArgument, "router_id: expected 1 to 64"),
        (vec![client::hello("attic", 0, 1)], Code::InvalidArgument, "hello.epoch is 0"),
        (vec![hello(), client::batch(0, vec![])], Code::InvalidArgument, "batch.sequence is 0"),
        (vec![hello(), hole], Code::OutOfRange, "sequence 3 leaves a hole: expected 1"),
        (vec![hello(), too_many], Code::InvalidArgument, "the batch has 8193 events, expected at most 8192"),
        (vec![hello(), huge], Code::OutOfRange, "message length too large"),
    ] {
        let status = agent.stream(frames).unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    // A hole that is declared becomes a gap.
    let acks = agent.stream(vec![hello(), explained]).unwrap();
    assert_eq!((acks.last, acks.accepted), (3, 1));
    assert!(server.read("/api/v1/gaps").1.contains("\"cause\":\"spool_corrupt\",\"count\":2"));

    let stranger = Agent::with_token(&server, "wrong");
    assert_eq!(stranger.stream(vec![hello()]).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(stranger.report("attic", vec![]).unwrap_err().code(), Code::Unauthenticated);
}

/// It is larger than what may be on the way unread.
#[test]
fn a_full_batch_is_taken() {
    let server = Server::start();
    let detail = "x".repeat(200);
    let gap = |count| {
        client::event(Kind::Gap(v1::Gap { cause: 1, count, detail: detail.clone(), ..v1::Gap::default() }))
    };
    let events: Vec<v1::Event> = (1..=8192).map(gap).collect();
    let frames = vec![client::hello("attic", 9, 1), client::batch(1, events)];
    let acks = Agent::new(&server).stream(frames).unwrap();
    assert_eq!((acks.last, acks.accepted, acks.rejected), (1, 8192, 0));
}

#[test]
fn a_server_that_does_not_know_the_epoch_begins_where_the_agent_is() {
    let server = Server::start();
    let agent = Agent::new(&server);
    let acks =
        agent.stream(vec![client::hello("attic", 5, 41), client::batch(41, vec![client::ended(1)])]).unwrap();
    assert_eq!((acks.welcome.last_sequence, acks.last), (40, 41));
    assert!(server.read("/api/v1/gaps").1.contains("\"cause\":\"server_state\",\"count\":40"));
}

#[test]
fn a_restart_keeps_everything() {
    let mut server = Server::start();
    let opened = client::flow(1, v1::FlowPhase::New, 0);
    let agent = Agent::new(&server);
    agent.stream(vec![client::hello("attic", 3, 1), client::batch(1, vec![opened])]).unwrap();
    server.kill_and_restart();
    let agent = Agent::new(&server);
    let ended = client::flow(1, v1::FlowPhase::End, 500);
    let acks = agent
        .stream(vec![client::hello("attic", 3, 1), client::batch(1, vec![]), client::batch(2, vec![ended])])
        .unwrap();
    assert_eq!((acks.welcome.last_sequence, acks.accepted), (1, 1));
    assert_eq!(server.total("/api/v1/flows"), 1);
    assert!(server.read("/api/v1/flows").1.contains("\"bytes_orig\":500"));
}

#[test]
fn two_servers_do_not_share_a_data_directory() {
    let server = Server::start();
    let said = server.second_on_the_same_data();
    assert!(said.contains("another netmon-server uses this data directory"), "{said}");
}

#[test]
fn whois_asks_for_public_addresses_alone() {
    let server = Server::start();
    let ask = |address: &str| {
        let url = format!("{}/api/v1/hosts/{address}/whois", server.url);
        let request =
            ureq::config::Config::builder().http_status_as_error(false).build().new_agent().post(url);
        let mut answer = request.header("Authorization", format!("Bearer {TOKEN}")).send_empty().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    let (status, body) = ask("192.168.1.1");
    assert_eq!((status, body.contains("not a public address")), (400, true), "{body}");
    let (status, body) = ask("example.org");
    assert_eq!((status, body.contains("expected an IP address")), (400, true), "{body}");
    assert_eq!(server.read("/api/v1/hosts/8.8.8.8/whois").0, 404, "nobody asked");
    assert_eq!(server.get("/api/v1/hosts/8.8.8.8/whois", &[]).0, 401);
}
