//! A real dnsmasq, real questions, and what the agent makes of its log: every answer that a client got, once.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    dns::{A, AAAA, CNAME, Client, Exchange, HTTPS, MX, PTR, TXT, serve},
    dnsmasq::Dnsmasq,
    dump::Dump,
    network::Network,
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("answers_are_known_from_the_plain_log", plain),
    ("answers_are_known_from_the_log_with_numbers", numbered),
    ("answers_are_known_from_a_syslog_file", syslog_file),
    ("answers_are_known_from_logread", logread),
    ("answers_are_known_from_a_named_pipe", named_pipe),
    ("a_plain_log_renamed_under_load_loses_and_repeats_nothing", || renamed("log-queries")),
    ("a_numbered_log_renamed_under_load_loses_and_repeats_nothing", || renamed("log-queries=extra")),
    ("a_plain_log_truncated_under_load_loses_and_repeats_nothing", || truncated("log-queries")),
    ("a_numbered_log_truncated_under_load_loses_and_repeats_nothing", || truncated("log-queries=extra")),
];

const UPSTREAM: &str = "198.51.100.10";
const CLIENTS: [&str; 3] = ["10.77.0.10", "10.77.0.11", "fd77::11"];
/// Questions of one client under load.
const LOAD: usize = 500;
/// At most, while too little has been done to the log.
const MOST_LOAD: usize = 10 * LOAD;

/// Questions until the agent has heard one; more than it may take.
const MOST_PROBES: u32 = 400;
/// Rotations in one run.
const MOST_ACTS: u32 = 20;
/// Less says too little.
const LEAST_ACTS: u32 = 3;

/// Whatever dnsmasq can say of an answer.
const QUESTIONS: &[(&str, u16)] = &[
    ("www.test", A),
    ("WwW.test", AAAA),
    ("www.test", HTTPS),
    ("www.test", A),
    ("text.test", TXT),
    ("mail.test", MX),
    ("chain.test", A),
    ("chain.test", AAAA),
    ("chain.test", MX),
    ("chainnx.test", A),
    ("chainempty.test", A),
    ("chainempty.test", AAAA),
    ("nx.test", A),
    ("nx.test", MX),
    ("empty.test", A),
    ("empty.test", TXT),
    ("fail.test", A),
    ("refused.test", AAAA),
    ("slow.test", A),
    ("slow.test", AAAA),
    ("big", A),
    ("80.100.51.198.in-addr.arpa", PTR),
    ("1.0.77.10.in-addr.arpa", PTR),
    ("router.lan", A),
    ("router.lan", AAAA),
    ("printer.lan", A),
    ("printer.lan", AAAA),
    ("alias.lan", A),
    ("nothere.lan", A),
];

/// Of these a log without numbers does not tell apart what is under way at one time: which name an error is about, which
/// type of a name does not exist, and which one was passed on to the resolver.
const ALIKE: [&str; 4] = ["nx.test", "fail.test", "refused.test", "slow.test"];

/// Whether the lines of the log have their question's number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    None,
    All,
}

struct Lab {
    network: Network,
    dir: tempfile::TempDir,
    probes: AtomicU32,
}

impl Lab {
    fn new() -> Self {
        let network = Network::lay_out();
        network.lan.must("ip address add 10.77.0.11/24 dev eth0");
        network.lan.must("ip address add fd77::11/64 dev eth0 nodad");
        serve(&network.wan, UPSTREAM.parse().expect("an address"));
        Self { network, dir: tempfile::tempdir().expect("a directory"), probes: AtomicU32::new(0) }
    }

    /// What dnsmasq is told, with these lines more.
    fn settings(&self, more: &str) -> String {
        let hosts = self.dir.path().join("hosts");
        fs::write(&hosts, "10.77.0.1 router.lan\nfd77::1 router.lan\n").expect("written");
        format!(
            "server={UPSTREAM}\ncache-size=1000\nlocal=/lan/\nhost-record=printer.lan,10.77.0.99\n\
             cname=alias.lan,printer.lan\naddn-hosts={}\n{more}\n",
            hosts.display()
        )
    }

    fn client(&self, address: &str) -> Client {
        let address: IpAddr = address.parse().expect("an address");
        let server = if address.is_ipv4() { "10.77.0.1" } else { "fd77::1" };
        Client::new(&self.network.lan, address, server.parse().expect("an address"))
    }

    /// Asks until the agent has heard of it, so that what follows is heard from the first word.
    fn await_agent(&self, dump: &mut Dump) {
        let heard = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let client = self.client(CLIENTS[0]);
                while !heard.load(Ordering::Relaxed) && self.probes.load(Ordering::Relaxed) < MOST_PROBES {
                    let number = self.probes.fetch_add(1, Ordering::Relaxed);
                    client.send_only(&format!("probe-{number}.test"));
                    thread::sleep(Duration::from_millis(100));
                }
            });
            dump.until("a probe was heard", |events| events.iter().any(is_probe));
            heard.store(true, Ordering::Relaxed);
        });
    }

    /// Every client asks everything, all at the same time. Without numbers in the log, those of [`ALIKE`] one after
    /// the other, the same from all clients at once.
    fn ask_all(&self, numbers: Numbers) -> Vec<Exchange> {
        let together = Barrier::new(CLIENTS.len());
        self.at_once(|client| {
            let mut was_alike = false;
            // An answer from the cache that is too long for UDP looks like any other in the log, so that it is
            // told twice. Let each client ask for its own.
            let big = format!("big-{}.test", client.label());
            let names =
                QUESTIONS.iter().map(|(name, rr_type)| (if *name == "big" { &big } else { *name }, *rr_type));
            names
                .map(|(name, rr_type)| {
                    let is_alike = ALIKE.contains(&name);
                    if numbers == Numbers::None && (is_alike || was_alike) {
                        together.wait();
                    }
                    was_alike = is_alike;
                    client.ask(&self.network.lan, name, rr_type)
                })
                .collect()
        })
    }

    fn at_once(&self, ask: impl Fn(&mut Client) -> Vec<Exchange> + Sync) -> Vec<Exchange> {
        thread::scope(|scope| {
            let ask = &ask;
            let clients = CLIENTS.map(|address| scope.spawn(move || ask(&mut self.client(address))));
            clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
        })
    }

    /// What the agent told has to be what was asked, each as often.
    fn compare(&self, mut dump: Dump, mut asked: Vec<Exchange>) {
        let last = self.client(CLIENTS[0]).ask(&self.network.lan, "last.test", A);
        asked.push(last);
        dump.until("the last question was heard", |events| {
            events.iter().any(|event| event["type"] == "dns_response" && event["name"] == "last.test")
        });
        let events = dump.finish();
        let mut told: Vec<Exchange> = events
            .iter()
            .filter(|event| event["type"] == "dns_response" && !is_probe(event))
            .map(exchange)
            .collect();
        told.sort();
        asked.sort();
        let missing: Vec<_> = asked.iter().filter(|one| !told.contains(one)).take(5).collect();
        let made_up: Vec<_> = told.iter().filter(|one| !asked.contains(one)).take(5).collect();
        assert!(missing.is_empty() && made_up.is_empty(), "missing: {missing:#?}\nmade up: {made_up:#?}");
        assert_eq!(told.len(), asked.len(), "some are told more than once");
        assert!(told == asked);
        let gaps: Vec<_> = events.iter().filter(|event| event["type"] == "gap").collect();
        assert!(gaps.is_empty(), "{gaps:?}");
    }
}

fn is_probe(event: &Value) -> bool {
    event["name"].as_str().is_some_and(|name| name.starts_with("probe-"))
}

fn exchange(event: &Value) -> Exchange {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rr_type = |value: &Value| match value.as_str().expect("a type") {
        "A" => A,
        "CNAME" => CNAME,
        "PTR" => PTR,
        "MX" => MX,
        "TXT" => TXT,
        "AAAA" => AAAA,
        "HTTPS" => HTTPS,
        other => panic!("{other} was not asked for"),
    };
    let rcode = match event["rcode"].as_str().expect("an rcode") {
        "NOERROR" => 0,
        "SERVFAIL" => 2,
        "NXDOMAIN" => 3,
        "REFUSED" => 5,
        other => panic!("{other} was not answered"),
    };
    let cached = event["cached"].as_bool().unwrap_or(false);
    let resolver = text(&event["resolver_ip"]);
    assert_eq!(resolver, if cached { "" } else { UPSTREAM }, "{event}");
    let answers = event["answers"].as_array().into_iter().flatten();
    Exchange {
        client: text(&event["client_ip"]).parse().expect("an address"),
        name: text(&event["name"]),
        rr_type: rr_type(&event["record_type"]),
        rcode,
        answers: answers
            .map(|answer| (text(&answer["name"]), rr_type(&answer["type"]), text(&answer["data"])))
            .collect::<BTreeSet<_>>(),
    }
}

fn agent() -> &'static str {
    env!("CARGO_BIN_EXE_netmon-agent")
}

fn follow(log: &Path) -> String {
    format!("dns_log: file\ndnsmasq_log_path: {}", log.display())
}

fn by_file(option: &str, numbers: Numbers) {
    let lab = Lab::new();
    let dnsmasq = Dnsmasq::start(None, &lab.settings(option));
    let mut dump = Dump::start(agent(), &follow(&dnsmasq.log));
    lab.await_agent(&mut dump);
    let asked = lab.ask_all(numbers);
    lab.compare(dump, asked);
}

fn plain() {
    by_file("log-queries", Numbers::None);
}

fn numbered() {
    by_file("log-queries=extra", Numbers::All);
}

fn named_pipe() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("made");
    let mut dump = Dump::start(agent(), &follow(&pipe));
    let settings = lab.settings(&format!("log-queries=extra\nlog-facility={}", pipe.display()));
    let _dnsmasq = Dnsmasq::start(None, &settings);
    lab.await_agent(&mut dump);
    let asked = lab.ask_all(Numbers::All);
    lab.compare(dump, asked);
}

/// BusyBox's syslogd and a dnsmasq that logs to it, with a `/dev` and a shared memory of their own. The agent
/// is started among them, and the only one to hold its standard output.
struct Syslog {
    lab: Lab,
}

impl Syslog {
    fn set_up(syslogd: &str, log_queries: &str) -> Self {
        let lab = Lab::new();
        let dir = lab.dir.path();
        std::os::unix::fs::symlink("/bin/busybox", dir.join("logread")).expect("linked");
        let settings =
            lab.settings(&format!("no-resolv\nno-hosts\npid-file\nlog-facility=daemon\n{log_queries}"));
        fs::write(dir.join("dnsmasq.conf"), settings).expect("written");
        let script = format!(
            "#!/bin/sh\nset -e\ncd {dir}\n\
             if [ -z \"$AMONG_THEM\" ]; then AMONG_THEM=1 exec unshare -mi -- \"$0\" \"$@\"; fi\n\
             mkdir old; mount --rbind /dev old; mount -t tmpfs dev /dev\n\
             for file in null urandom; do : >/dev/$file; mount --bind old/$file /dev/$file; done\n\
             busybox syslogd -n {syslogd} >/dev/null & echo $! >>pids\n\
             until [ -S /dev/log ]; do sleep 0.05; done\n\
             dnsmasq --no-daemon --conf-file=dnsmasq.conf >/dev/null 2>&1 & echo $! >>pids\n\
             PATH={dir}:$PATH exec {agent} \"$@\"\n",
            dir = dir.display(),
            agent = agent(),
        );
        let own = Self { lab };
        fs::write(own.script(), script).expect("written");
        fs::set_permissions(own.script(), fs::Permissions::from_mode(0o755)).expect("set");
        own
    }

    fn script(&self) -> PathBuf {
        self.lab.dir.path().join("agent.sh")
    }

    fn check(&self, settings: &str, numbers: Numbers) {
        let mut dump = Dump::start(self.script().to_str().expect("text"), settings);
        self.lab.await_agent(&mut dump);
        let asked = self.lab.ask_all(numbers);
        self.lab.compare(dump, asked);
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        let pids = fs::read_to_string(self.lab.dir.path().join("pids")).unwrap_or_default();
        for pid in pids.split_whitespace() {
            // It may have gone already.
            let _ = Command::new("kill").args(["-s", "KILL", pid]).status();
        }
    }
}

fn syslog_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("messages");
    Syslog::set_up(&format!("-O {}", log.display()), "log-queries").check(&follow(&log), Numbers::None);
}

fn logread() {
    Syslog::set_up("-C256", "log-queries=extra").check("dns_log: logread", Numbers::All);
}

/// Every client asks what nobody has asked, while something is done to the log.
fn under_load(option: &str, act: impl Fn(&Dnsmasq, usize) + Sync) {
    let lab = Lab::new();
    let dnsmasq = Dnsmasq::start(None, &lab.settings(option));
    let mut dump = Dump::start(agent(), &follow(&dnsmasq.log));
    lab.await_agent(&mut dump);
    let (done, acts) = (AtomicBool::new(false), AtomicU32::new(0));
    let asked = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && acts.load(Ordering::Relaxed) < MOST_ACTS {
                act(&dnsmasq, acts.fetch_add(1, Ordering::Relaxed) as usize);
                thread::sleep(Duration::from_millis(100));
            }
        });
        let asked = lab.at_once(|client| {
            // On a fast machine all is asked before anything was done to the log: go on until it was.
            let enough = |number| number >= LOAD && acts.load(Ordering::Relaxed) >= LEAST_ACTS;
            let asked = (0..MOST_LOAD).take_while(|number| !enough(*number)).map(|number| {
                let name = format!("load-{number}-{}.test", client.label());
                client.ask(&lab.network.lan, &name, if number % 2 == 0 { A } else { AAAA })
            });
            asked.collect()
        });
        done.store(true, Ordering::Relaxed);
        asked
    });
    let acts = acts.load(Ordering::Relaxed);
    assert!(acts >= LEAST_ACTS, "the load was over after {acts} rotations");
    lab.compare(dump, asked);
}

fn renamed(option: &str) {
    under_load(option, |dnsmasq, number| {
        let log = dnsmasq.log.as_path();
        fs::rename(log, log.with_extension(number.to_string())).expect("renamed");
        if number % 2 == 0 {
            // As logrotate's "create" does.
            fs::write(log, "").expect("made");
            thread::sleep(Duration::from_millis(30));
        }
        dnsmasq.signal("USR2");
        // dnsmasq opens it when it gets to it.
        while !log.exists() {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

fn truncated(option: &str) {
    under_load(option, |dnsmasq, number| {
        let log = dnsmasq.log.as_path();
        // What is written between copy and truncation is lost to everyone, so nothing is.
        dnsmasq.signal("STOP");
        await_stop(dnsmasq);
        fs::copy(log, log.with_extension(format!("log.{number}"))).expect("copied");
        fs::OpenOptions::new().write(true).open(log).expect("open").set_len(0).expect("truncated");
        dnsmasq.signal("CONT");
    });
}

/// A signal is delivered a little later.
fn await_stop(dnsmasq: &Dnsmasq) {
    let stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", dnsmasq.id())).expect("its state");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    while !stopped() {
        thread::sleep(Duration::from_millis(1));
    }
}
