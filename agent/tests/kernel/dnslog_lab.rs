//! A network with a resolver, its clients, what they ask, and whether the agent told of it, each answer once.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
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
    dump::Dump,
    network::Network,
};

const UPSTREAM: &str = "198.51.100.10";
const CLIENTS: [&str; 3] = ["10.77.0.10", "10.77.0.11", "fd77::11"];

/// Questions until the agent has heard one; more than it may take.
const MOST_PROBES: u32 = 400;

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
pub(crate) enum Numbers {
    None,
    All,
}

pub(crate) struct Lab {
    pub(crate) network: Network,
    pub(crate) dir: tempfile::TempDir,
    probes: AtomicU32,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let network = Network::lay_out();
        network.lan.must("ip address add 10.77.0.11/24 dev eth0");
        network.lan.must("ip address add fd77::11/64 dev eth0 nodad");
        serve(&network.wan, UPSTREAM.parse().expect("an address"));
        Self { network, dir: tempfile::tempdir().expect("a directory"), probes: AtomicU32::new(0) }
    }

    /// What dnsmasq is told, with these lines more.
    pub(crate) fn settings(&self, more: &str) -> String {
        let hosts = self.dir.path().join("hosts");
        fs::write(&hosts, "10.77.0.1 router.lan\nfd77::1 router.lan\n").expect("written");
        format!(
            "server={UPSTREAM}\ncache-size=1000\nlocal=/lan/\nhost-record=printer.lan,10.77.0.99\n\
             cname=alias.lan,printer.lan\naddn-hosts={}\n{more}\n",
            hosts.display()
        )
    }

    pub(crate) fn client(&self, address: &str) -> Client {
        let address: IpAddr = address.parse().expect("an address");
        let server = if address.is_ipv4() { "10.77.0.1" } else { "fd77::1" };
        Client::new(&self.network.lan, address, server.parse().expect("an address"))
    }

    /// Asks until the agent has heard of it, so that what follows is heard from the first word.
    pub(crate) fn await_agent(&self, dump: &mut Dump) {
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
    pub(crate) fn ask_all(&self, numbers: Numbers) -> Vec<Exchange> {
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

    pub(crate) fn at_once(&self, ask: impl Fn(&mut Client) -> Vec<Exchange> + Sync) -> Vec<Exchange> {
        thread::scope(|scope| {
            let ask = &ask;
            let clients = CLIENTS.map(|address| scope.spawn(move || ask(&mut self.client(address))));
            clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
        })
    }

    /// What the agent told has to be what was asked, each as often.
    pub(crate) fn compare(&self, mut dump: Dump, mut asked: Vec<Exchange>) {
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
