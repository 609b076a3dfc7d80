//! TLS between the agent's transport and the server's program: who is believed, and what is said to whom is not.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use netmon_agent::{
    Config,
    spool::{Spool, SpoolConfig},
    transport::{Fingerprint, Transport, TransportConfig},
};
use netmon_proto::v1::{Event, Heartbeat, event::Kind};
use netmon_server::cert::Authority;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use time::OffsetDateTime;

use crate::server::{Server, TOKEN, agent};

/// A CA and the certificate that a server shows.
struct Certified {
    dir: tempfile::TempDir,
    fingerprint: Fingerprint,
}

impl Certified {
    fn new(name: &str, now: OffsetDateTime) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();
        // The CA is of today whatever the certificate is of.
        let ca = authority.certificate(OffsetDateTime::now_utc()).unwrap();
        let issued = authority.issue(&[name.to_owned()], now, 30).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let fingerprint = Fingerprint::of(&der);
        for (file, text) in [("ca.pem", ca), ("server.pem", issued.certificate), ("server.key", issued.key)] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        Self { dir, fingerprint }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn serve(&self, more: &[&str]) -> Server {
        let path = |name| self.dir.path().join(name).display().to_string();
        let (certificate, key) = (path("server.pem"), path("server.key"));
        Server::start_with(&[&["--tls-cert", &certificate, "--tls-key", &key], more].concat())
    }
}

fn today() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn config(url: &str, ca: Option<&Path>, fingerprint: Option<Fingerprint>) -> Config {
    let mut config = Config::new("attic", url, TOKEN);
    config.tls_ca = ca.map(Path::to_owned);
    config.server_fingerprints = fingerprint.into_iter().collect();
    config
}

/// What the agent is told, "welcome" if it is let in.
fn ask(config: &Config) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let transport = TransportConfig::new(config).unwrap();
    let (_, answer) = runtime.block_on(transport.probe()).remove(0);
    answer.map_or_else(|unanswered| unanswered.why, |_| "welcome".to_owned())
}

fn check(config: &Config, expected: &[&str]) {
    let said = ask(config);
    for part in expected {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
    assert_eq!(said == "welcome", expected == ["welcome"], "{said}");
    assert!(!said.contains('\n'), "{said:?} is more than one line");
}

/// The server's URL with another scheme or host.
fn url(server: &Server, scheme: &str, host: &str) -> String {
    let port = server.url.rsplit(':').next().unwrap();
    format!("{scheme}://{host}:{port}")
}

#[test]
fn the_right_certificate_is_believed_by_its_ca_or_its_fingerprint() {
    let certified = Certified::new("127.0.0.1", today());
    let server = certified.serve(&[]);
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    check(&config(&server.url, Some(&certified.ca()), None), &["welcome"]);
    check(&config(&server.url, None, Some(certified.fingerprint)), &["welcome"]);
    check(&config(&server.url, Some(&certified.ca()), Some(certified.fingerprint)), &["welcome"]);
}

#[test]
fn events_travel_by_tls() {
    let certified = Certified::new("127.0.0.1", today());
    let server = certified.serve(&["--tls-only"]);
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(
        SpoolConfig { dir: dir.path().to_owned(), max_bytes: 64 * 1024, fsync: false, memory_events: 10 },
        7,
    )
    .unwrap();
    for _ in 0..20 {
        let heartbeat = Heartbeat::default();
        let time_us = i64::try_from(today().unix_timestamp_nanos() / 1000).unwrap();
        spool.append(&[Event { time_us, kind: Some(Kind::Heartbeat(heartbeat)) }]);
    }
    let config = config(&server.url, Some(&certified.ca()), None);
    let mut transport = Transport::new(TransportConfig::new(&config).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deliver = async {
        loop {
            transport.pump(&mut spool);
            if spool.drained() {
                break;
            }
            let wake = transport.wait().await;
            transport.advance(wake, &mut spool);
        }
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), deliver).await }).unwrap();
    let stats = transport.stats();
    assert_eq!((stats.streams, stats.accepted, stats.failures.len()), (1, 20, 0));
}

#[test]
fn a_certificate_that_expired_is_refused() {
    let certified = Certified::new("127.0.0.1", OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap());
    let server = certified.serve(&[]);
    let by_ca = config(&server.url, Some(&certified.ca()), None);
    check(&by_ca, &["expired on 2026-01-31", "netmon-server cert"]);
    // A fingerprint needs no date: it is the very certificate.
    check(&config(&server.url, None, Some(certified.fingerprint)), &["welcome"]);
}

#[test]
fn a_certificate_of_the_future_is_refused() {
    let certified = Certified::new("127.0.0.1", today() + time::Duration::days(40));
    let server = certified.serve(&[]);
    check(&config(&server.url, Some(&certified.ca()), None), &["valid from", "NTP"]);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let certified = Certified::new("localhost", today());
    let server = certified.serve(&[]);
    let ca = certified.ca();
    let said = ["is for localhost, not for 127.0.0.1", "netmon-server cert --name 127.0.0.1"];
    check(&config(&url(&server, "https", "127.0.0.1"), Some(&ca), None), &said);
    check(&config(&url(&server, "https", "localhost"), Some(&ca), None), &["welcome"]);
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    let (certified, other) = (Certified::new("127.0.0.1", today()), Certified::new("127.0.0.1", today()));
    let server = certified.serve(&[]);
    let shown = certified.fingerprint.to_string();
    let by_other = config(&server.url, Some(&other.ca()), None);
    check(&by_other, &["not signed by a CA in", "ca.pem", "tls_ca", "server_fingerprint", &shown]);
    let pinned = config(&server.url, None, Some(other.fingerprint));
    check(&pinned, &[&shown, "not that of server_fingerprint", "netmon-server cert"]);
    // Given both, both must hold.
    let both = config(&server.url, Some(&other.ca()), Some(certified.fingerprint));
    check(&both, &["not signed by a CA in"]);
}

#[test]
fn tls_where_the_server_has_none_says_so() {
    let server = Server::start();
    let certified = Certified::new("127.0.0.1", today());
    let secret = url(&server, "https", "127.0.0.1");
    let said = ["does not speak TLS", "write http:// in server_url", "netmon-server cert"];
    check(&config(&secret, Some(&certified.ca()), None), &said);
}

/// The cookies that a login or a logout over TLS sets.
fn cookies(server: &Server, ca: &Path, path: &str) -> Vec<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = "127.0.0.1".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(server.url.trim_start_matches("https://")).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let form = format!("token={TOKEN}");
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).map(str::to_owned).collect()
}

#[test]
fn a_session_begun_over_tls_is_for_tls() {
    let certified = Certified::new("127.0.0.1", today());
    let (both, only) = (certified.serve(&[]), certified.serve(&["--tls-only"]));
    for server in [&both, &only] {
        let cookies = cookies(server, &certified.ca(), "/login");
        let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
        assert!(cookie.starts_with("__Host-netmon_session=") && cookie.ends_with("; Secure"), "{cookie}");
    }
    let cookie = cookies(&both, &certified.ca(), "/login").remove(0);
    let session = cookie.split(';').next().unwrap();
    let plain = || agent().get(url(&both, "http", "127.0.0.1")).header("Accept", "text/html");
    assert_eq!(plain().call().unwrap().status().as_u16(), 303);
    assert_eq!(plain().header("Cookie", session).call().unwrap().status().as_u16(), 200);
    // A browser without TLS would not take it: it gets the other one.
    let login =
        agent().post(url(&both, "http", "127.0.0.1") + "/login").send_form([("token", TOKEN)]).unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("netmon_session=") && !cookie.contains("Secure"), "{cookie}");
    let ended = cookies(&both, &certified.ca(), "/logout");
    assert!(
        ended.len() == 2 && ended.iter().all(|cookie| cookie.contains("=; Path=/; Max-Age=0;")),
        "{ended:?}"
    );
}

#[test]
fn plain_is_taken_beside_tls_unless_it_is_forbidden() {
    let certified = Certified::new("127.0.0.1", today());
    let both = certified.serve(&[]);
    check(&config(&url(&both, "http", "127.0.0.1"), None, None), &["welcome"]);
    let only = certified.serve(&["--tls-only"]);
    check(&config(&url(&only, "http", "127.0.0.1"), None, None), &["takes TLS alone", "https://"]);

    // And a browser is told in words.
    let mut stream = TcpStream::connect(only.url.trim_start_matches("https://")).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
}

/// Any other server of TLS answers a plain client with an alert.
#[test]
fn plain_where_a_stranger_speaks_tls_says_so() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", stranger.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = stranger.accept().unwrap();
        stream.read_exact(&mut [0; 24]).unwrap();
        stream.write_all(&[21, 3, 3, 0, 2, 2, 10]).unwrap();
        // Until the client is gone.
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    });
    check(&config(&url, None, None), &["speaks TLS there", "write https:// in server_url"]);
    answering.join().unwrap();
}

#[test]
fn a_file_that_holds_no_ca_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let said = || {
        let config = config("https://127.0.0.1:1", Some(&file), None);
        TransportConfig::new(&config).unwrap_err().to_string()
    };
    let missing = said();
    assert!(missing.contains("ca.pem: cannot read it") && missing.contains("copy the server's"), "{missing}");
    std::fs::write(&file, "nothing").unwrap();
    assert!(said().contains("expected certificates in PEM"), "{}", said());
}
