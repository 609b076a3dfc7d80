//! The page of a remote host, and its button that asks whois.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use diesel::prelude::*;
use netmon_proto::v1::{self, event::Kind};

use crate::client::{self, Agent};
use crate::server::Server;

/// Answers every question with a registry's words, some of them hostile. Gives its address.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut question = String::new();
            BufReader::new(&stream).read_line(&mut question).unwrap();
            write!(stream, "netname: EXAMPLE <b>\nasked for: {question}").unwrap();
        }
    });
    address
}

#[test]
fn a_person_asks_whois_about_a_host() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), format!("whois_server: {}\n", registry())).unwrap();
    let server = Server::start_with(&["--config", config.path().to_str().unwrap()]);
    let mut events = vec![client::flow(1, v1::FlowPhase::End, 500), client::flow(2, v1::FlowPhase::End, 500)];
    if let Some(Kind::Flow(flow)) = &mut events[1].kind {
        flow.dst_ip = vec![8, 8, 8, 8].into();
    }
    Agent::new(&server).report("attic", events).unwrap();

    let (status, page) = server.read("/hosts");
    assert!(status == 200 && page.contains("href=\"/hosts/8.8.8.8\""), "{page}");
    let (status, page) = server.read("/hosts/8.8.8.8");
    assert!(status == 200 && page.contains("<h1>8.8.8.8</h1>"), "{page}");
    assert!(page.contains("Nobody asked yet") && page.contains("href=\"/flows?host=8.8.8.8\""), "{page}");

    assert_eq!(server.post("/hosts/8.8.8.8/whois", "").status().as_u16(), 401, "without the token");
    let answer = server.post_as_reader("/hosts/8.8.8.8/whois", "");
    assert_eq!(answer.status().as_u16(), 303);
    assert_eq!(answer.headers()["location"], "/hosts/8.8.8.8");
    let (_, page) = server.read("/hosts/8.8.8.8");
    assert!(page.contains("netname: EXAMPLE &#60;b&#62;\nasked for: 8.8.8.8"), "{page}");
    assert!(page.contains("Ask again"), "{page}");

    for (path, status, expected) in [
        ("/hosts/203.0.113.9/whois", 400, "not a public address"),
        ("/hosts/example.org/whois", 400, "expected an IP address"),
    ] {
        let mut answer = server.post_as_reader(path, "");
        let body = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().as_u16() == status && body.contains(expected), "{path}: {body}");
    }
    assert_eq!(server.read("/hosts/203.0.113.9").0, 200);
    assert_eq!(server.read("/hosts/203.0.113.10").0, 404, "nothing ever came from there");
    assert_eq!(server.read("/hosts/nowhere").0, 400);
}

/// How many hosts were looked at by whoever asks for names. The one of these tests is in no DNS, so that nothing is
/// asked.
fn looked_at(server: &Server) -> i64 {
    let mut connection = server.database();
    let count = "SELECT COUNT(*) AS number FROM host_names";
    diesel::sql_query(count).get_result::<crate::pressure::Count>(&mut connection).unwrap().number
}

#[test]
fn reverse_dns_can_be_switched_off() {
    let off = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(off.path(), "reverse_dns_per_second: 0\n").unwrap();
    let flags = ["--config", off.path().to_str().unwrap()];
    // Both begin with a host that was never asked about.
    let mut servers = [Server::start_with(&flags), Server::start_with(&flags)];
    for server in &servers {
        Agent::new(server).report("attic", vec![client::ended(1)]).unwrap();
        assert_eq!(server.total("/api/v1/hosts"), 1);
    }
    let [off, on] = &mut servers;
    off.kill_and_restart_with(&flags);
    on.kill_and_restart();
    let until = Instant::now() + Duration::from_secs(20);
    while looked_at(on) == 0 {
        assert!(Instant::now() < until, "nobody asks for names");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(looked_at(off), 0);
}
