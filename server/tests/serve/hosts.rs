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

#[test]
fn a_host_is_found_by_all_that_is_known_of_it() {
    use crate::mmdb::{map, mmdb, number, string};

    let dir = tempfile::tempdir().unwrap();
    let (table, config) = (dir.path().join("networks.mmdb"), dir.path().join("config.yaml"));
    let network = map(&[
        ("autonomous_system_number", number(64500)),
        ("autonomous_system_organization", string("Example Networks")),
        ("country", map(&[("iso_code", string("NL"))])),
    ]);
    std::fs::write(&table, mmdb([203, 0, 113, 0], 24, &network)).unwrap();
    std::fs::write(&config, format!("mmdb: [{}]\nreverse_dns_per_second: 0\n", table.display())).unwrap();
    let server = Server::start_with(&["--config", config.to_str().unwrap()]);
    let agent = &Agent::new(&server);
    let mut events = vec![client::ended(1), client::ended(2)];
    if let Some(Kind::Flow(flow)) = &mut events[1].kind {
        flow.dst_ip = vec![198, 51, 100, 7].into();
    }
    agent.report("attic", events).unwrap();
    let named = "INSERT INTO host_names (host_id, name, asked_us, due_us)
                 SELECT id, 'Mail.example.net', 1, 1 FROM remote_hosts WHERE address = unhex('c6336407')";
    assert_eq!(diesel::sql_query(named).execute(&mut server.database()).unwrap(), 1);

    let (example, mail) = ("203.0.113.9", "198.51.100.7");
    for (text, expected) in [
        ("as64500", Some(example)),
        ("Example%20Net", Some(example)),
        ("nl", Some(example)),
        ("MAIL.", Some(mail)),
        ("100.7", Some(mail)),
        ("de", None),
        ("64501", None),
    ] {
        let (_, body) = server.read(&format!("/api/v1/hosts?q={text}"));
        let (_, file) = server.read(&format!("/api/v1/hosts.csv?q={text}"));
        let (_, page) = server.read(&format!("/hosts?q={text}"));
        let text = text.replace("%20", " ");
        let request = v1::ListHostsRequest { text: text.clone(), ..v1::ListHostsRequest::default() };
        let call = |mut client: v1::console_client::ConsoleClient<_>| async move {
            client.list_hosts(agent.authorized(request)).await
        };
        let answer = agent.console(call).unwrap();
        let total = u64::from(expected.is_some());
        assert!(body.contains(&format!("\"total\":{total},")), "{text}: {body}");
        assert_eq!((answer.hosts.len() as u64, answer.page.unwrap().total), (total, total), "{text}");
        for address in [example, mail] {
            let is_there = expected == Some(address);
            assert_eq!(body.contains(address), is_there, "{text}: {body}");
            assert_eq!(file.contains(address), is_there, "{text}: {file}");
            assert_eq!(page.contains(&format!("/hosts/{address}\"")), is_there, "{text}: {page}");
            assert_eq!(answer.hosts.iter().any(|host| host.address == address), is_there, "{text}");
        }
        if expected == Some(example) {
            let host = &answer.hosts[0];
            let known = (host.asn, host.organisation.as_str(), host.country.as_str());
            assert_eq!(known, (64500, "Example Networks", "NL"));
        }
    }
}

/// How many hosts were looked at by whoever asks for names. The one of these tests is in no DNS, so that nothing is
/// asked.
fn looked_at(server: &Server) -> i64 {
    let count = "SELECT COUNT(*) AS number FROM host_names";
    diesel::sql_query(count).get_result::<crate::pressure::Count>(&mut server.database()).unwrap().number
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
