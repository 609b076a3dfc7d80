//! A real dnsmasq, in the router or beside it, and `dig` to ask it.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::network::Host;

/// A running dnsmasq, killed when dropped.
pub(crate) struct Dnsmasq {
    child: Child,
    /// What it logs, if its settings do not say otherwise.
    pub(crate) log: PathBuf,
    said: PathBuf,
    _dir: tempfile::TempDir,
}

impl Dnsmasq {
    /// Starts it in this namespace, or in that of a host, with these lines in its configuration, and waits until
    /// it listens. Without other settings it knows nothing, asks nobody, and logs every query to a file.
    pub(crate) fn start(place: Option<&Host>, settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (config, log) = (dir.path().join("dnsmasq.conf"), dir.path().join("dnsmasq.log"));
        let mut text = format!("no-resolv\nno-hosts\npid-file\n{settings}\n");
        if !settings.contains("log-queries") {
            text.push_str("log-queries=extra\n");
        }
        if !settings.contains("log-facility=") {
            text.push_str(&format!("log-facility={}\n", log.display()));
        }
        fs::write(&config, text).expect("written");
        let said = dir.path().join("said");
        let child = spawn(place, &config, &said);
        let mut dnsmasq = Self { child, log, said, _dir: dir };
        dnsmasq.await_port(place);
        dnsmasq
    }

    fn await_port(&mut self, place: Option<&Host>) {
        let limit = Instant::now() + Duration::from_secs(10);
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, 53)).is_ok();
        while !place.map_or_else(listens, |host| host.within(listens)) {
            let ended = self.child.try_wait().expect("a child");
            if ended.is_some() || Instant::now() > limit {
                let said = fs::read_to_string(&self.said).unwrap_or_default();
                panic!("dnsmasq does not listen ({ended:?}): {said}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: SIGUSR2 has it open its log anew.
    pub(crate) fn signal(&self, signal: &str) {
        super::must(&format!("kill -s {signal} {}", self.child.id()));
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nsenter becomes the program, so the process id is dnsmasq's.
fn spawn(place: Option<&Host>, config: &Path, said: &Path) -> Child {
    let mut command = place.map_or_else(|| Command::new("dnsmasq"), |host| host.command("dnsmasq"));
    // In the debug mode that this is, it does not try to become another user, which a namespace has not.
    command.arg("--no-daemon").arg(format!("--conf-file={}", config.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(said).expect("created"));
    command.spawn().expect("dnsmasq (Debian: dnsmasq-base)")
}

/// What a client was told: its own account of one question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answered {
    pub(crate) name: String,
    pub(crate) record_type: String,
    /// NOERROR, NXDOMAIN, ...
    pub(crate) rcode: String,
    /// Name, TTL, type, data of each record, in the order of the answer.
    pub(crate) answers: Vec<(String, u64, String, String)>,
}

/// Has a host ask `server` one question with dig; `options` such as `+tcp`.
pub(crate) fn dig(client: &Host, server: &str, name: &str, record_type: &str, options: &[&str]) -> Answered {
    let mut command = client.command("dig");
    command.args(["+noall", "+comments", "+answer", "+tries=1"]).args(options);
    let output = command.arg(format!("@{server}")).args([name, record_type]).output();
    let output = output.expect("dig (Debian: bind9-dnsutils)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "dig @{server} {name} {record_type}: {text}");
    let (_, status) = text.split_once("status: ").unwrap_or_else(|| panic!("no status in {text}"));
    let records = text.lines().filter(|line| !line.starts_with(';') && !line.trim().is_empty());
    Answered {
        name: plain_name(name),
        record_type: record_type.to_owned(),
        rcode: status.split(',').next().unwrap_or_default().to_owned(),
        answers: records.map(record).collect(),
    }
}

fn plain_name(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

/// `host.lan.test. 77 IN A 10.77.0.99`
fn record(line: &str) -> (String, u64, String, String) {
    let mut rest = line;
    let mut word = || {
        let (word, behind) = rest.split_once(char::is_whitespace).expect("five words");
        rest = behind.trim_start();
        word
    };
    let (name, ttl, _class, kind) = (word(), word(), word(), word());
    let data = match kind {
        "TXT" => rest.trim_matches('"').replace("\" \"", ""),
        _ => plain_name(rest),
    };
    (plain_name(name), ttl.parse().expect("a TTL"), kind.to_owned(), data)
}
