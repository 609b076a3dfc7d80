//! Counts questions by minute, and remembers who asked for what lately. Pure: `now` is given, nothing is read.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use netmon_proto::v1::{
    DnsBucket, DnsContext, DnsResponse, Event, Flow, FlowPhase, HostIdentity, event::Kind,
};
use sha2::{Digest as _, Sha256};

use super::type_name;

const MINUTE_US: i64 = 60_000_000;
/// Who has not asked for so long is forgotten.
const MEMORY_US: i64 = 10 * MINUTE_US;
/// Clients that are remembered, and rows that are counted in one minute. A LAN has less of both; a flood of
/// made-up clients must not take the router's memory.
const MOST_CLIENTS: usize = 1024;
const MOST_ROWS: usize = 8192;
/// Names that a host_identity tells of, and that a flow does.
const HOST_NAMES: usize = 32;
const FLOW_NAMES: usize = 5;
/// Stands for every name above the cap.
const OTHER: &str = "other";
/// NXDOMAIN.
const NO_SUCH_NAME: u32 = 3;

type NameHash = Arc<str>;

/// What the original agent told of DNS beside the answers themselves.
#[derive(Debug)]
pub(crate) struct Digest {
    salt: String,
    /// The most names of one minute.
    cap: usize,
    /// Start of the minute that is being counted.
    minute_us: i64,
    /// No more than `cap`, as the rest is `other`.
    names: BTreeSet<NameHash>,
    rows: BTreeMap<(Bytes, u32, NameHash), Counts>,
    clients: BTreeMap<Bytes, Client>,
    stats: DigestStats,
}

/// Counters since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DigestStats {
    /// dns_bucket events made.
    pub(crate) buckets: u64,
    /// Questions that no bucket counts, for want of room. (Their answers are reported all the same.)
    pub(crate) left_out: u64,
}

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    nxdomain: u64,
}

#[derive(Debug)]
struct Client {
    last_seen_us: i64,
    /// Of this minute.
    told: bool,
    /// Distinct, the latest last.
    recent: VecDeque<NameHash>,
}

impl Digest {
    pub(crate) fn new(salt: &str, cap: usize, now_us: i64) -> Self {
        Self {
            salt: salt.to_owned(),
            cap,
            minute_us: minute(now_us),
            names: BTreeSet::new(),
            rows: BTreeMap::new(),
            clients: BTreeMap::new(),
            stats: DigestStats::default(),
        }
    }

    pub(crate) fn stats(&self) -> DigestStats {
        self.stats
    }

    /// Looks at what was heard: counts answers, and tells of every flow what its initiator had asked for.
    pub(crate) fn observe(&mut self, events: &mut [Event]) {
        for event in events {
            match &mut event.kind {
                Some(Kind::DnsResponse(response)) => self.count(response, event.time_us),
                Some(Kind::Flow(flow)) if flow.phase() != FlowPhase::Progress => self.explain(flow),
                _ => {}
            }
        }
    }

    /// Ends the minute when it is over: its buckets, and who asked.
    pub(crate) fn tick(&mut self, now_us: i64, out: &mut Vec<Event>) {
        // A clock that was set back ends it, too.
        if minute(now_us) != self.minute_us {
            self.flush(now_us, out);
        }
    }

    /// Ends the minute now.
    pub(crate) fn flush(&mut self, now_us: i64, out: &mut Vec<Event>) {
        let bucket_start_us = self.minute_us;
        for ((client_ip, kind, name), counts) in std::mem::take(&mut self.rows) {
            let bucket = DnsBucket {
                bucket_start_us,
                client_ip,
                r#type: type_name(kind).into_owned(),
                name_hash: name.to_string(),
                count: counts.all,
                nxdomain: counts.nxdomain,
            };
            out.push(Event { time_us: now_us, kind: Some(Kind::DnsBucket(bucket)) });
            self.stats.buckets += 1;
        }
        for (address, client) in self.clients.iter_mut().filter(|(_, client)| !client.told) {
            client.told = true;
            let host = HostIdentity {
                addresses: vec![address.clone()],
                last_seen_us: client.last_seen_us,
                recent_name_hashes: client.recent.iter().map(ToString::to_string).collect(),
                ..HostIdentity::default()
            };
            out.push(Event { time_us: now_us, kind: Some(Kind::HostIdentity(host)) });
        }
        self.clients.retain(|_, client| (client.last_seen_us - now_us).abs() < MEMORY_US);
        self.names.clear();
        self.minute_us = minute(now_us);
    }

    fn count(&mut self, response: &DnsResponse, time_us: i64) {
        let hash = self.hash(&response.name);
        let fits = self.names.contains(&hash) || self.names.len() < self.cap;
        let name = if fits { Arc::clone(&hash) } else { Arc::from(OTHER) };
        if fits {
            self.names.insert(Arc::clone(&hash));
        }
        let key = (Bytes::copy_from_slice(&response.client_ip), response.r#type, name);
        if self.rows.len() < MOST_ROWS || self.rows.contains_key(&key) {
            let counts = self.rows.entry(key).or_default();
            counts.all += 1;
            counts.nxdomain += u64::from(response.rcode == NO_SUCH_NAME);
        } else {
            self.stats.left_out += 1;
        }
        self.remember(&response.client_ip, hash, time_us);
    }

    fn remember(&mut self, address: &Bytes, hash: NameHash, time_us: i64) {
        if self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(address) {
            let longest = self.clients.iter().min_by_key(|(_, client)| client.last_seen_us);
            let Some(longest) = longest.map(|(address, _)| address.clone()) else { return };
            self.clients.remove(&longest);
        }
        // A copy: the event's own address is a slice of something larger.
        let new = || Client { last_seen_us: time_us, told: false, recent: VecDeque::new() };
        let client = match self.clients.get_mut(address) {
            Some(client) => client,
            None => self.clients.entry(Bytes::copy_from_slice(address)).or_insert_with(new),
        };
        client.last_seen_us = client.last_seen_us.max(time_us);
        client.told = false;
        client.recent.retain(|known| *known != hash);
        client.recent.push_back(hash);
        if client.recent.len() > HOST_NAMES {
            client.recent.pop_front();
        }
    }

    fn explain(&self, flow: &mut Flow) {
        let Some(client) = self.clients.get(&flow.src_ip) else { return };
        let from = client.recent.len().saturating_sub(FLOW_NAMES);
        flow.dns_context = Some(Box::new(DnsContext {
            recent_name_hashes: client.recent.range(from..).map(ToString::to_string).collect(),
            last_seen_us: client.last_seen_us,
        }));
    }

    fn hash(&self, name: &str) -> NameHash {
        let hash = Sha256::new().chain_update(&self.salt).chain_update(name.to_ascii_lowercase()).finalize();
        format!("b64:{}", STANDARD.encode(hash)).into()
    }
}

fn minute(time_us: i64) -> i64 {
    time_us - time_us.rem_euclid(MINUTE_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_US: i64 = 1_700_000_040_000_000;

    fn asked(client: u8, name: &str, rcode: u32, second: i64) -> Event {
        let response = DnsResponse {
            client_ip: vec![192, 168, 1, client].into(),
            name: name.to_owned(),
            r#type: 1,
            rcode,
            ..DnsResponse::default()
        };
        Event { time_us: START_US + second * 1_000_000, kind: Some(Kind::DnsResponse(response)) }
    }

    /// One line per event.
    fn told(digest: &mut Digest, second: i64) -> Vec<String> {
        let mut out = Vec::new();
        digest.tick(START_US + second * 1_000_000, &mut out);
        let line = |event: &Event| match &event.kind {
            Some(Kind::DnsBucket(bucket)) => format!(
                "{} {} {} {} {}/{}",
                (bucket.bucket_start_us - START_US) / 1_000_000,
                bucket.client_ip[3],
                bucket.r#type,
                &bucket.name_hash[..5],
                bucket.count,
                bucket.nxdomain
            ),
            Some(Kind::HostIdentity(host)) => {
                format!("host {} {} names", host.addresses[0][3], host.recent_name_hashes.len())
            }
            other => format!("{other:?}"),
        };
        out.iter().map(line).collect()
    }

    #[test]
    fn questions_are_counted_by_the_minute() {
        let mut digest = Digest::new("pepper", 200, START_US);
        let mut events = [
            asked(7, "a.example", 0, 1),
            asked(7, "A.Example", 0, 2),
            asked(7, "b.example", 3, 3),
            asked(8, "a.example", 0, 59),
        ];
        digest.observe(&mut events);
        assert_eq!(told(&mut digest, 59), [""; 0], "the minute is not over");
        let minute = told(&mut digest, 60);
        assert_eq!(minute.len(), 5, "{minute:?}");
        assert_eq!(
            minute.iter().filter(|line| line.starts_with("0 7 A ") && line.ends_with(" 2/0")).count(),
            1
        );
        assert_eq!(
            minute.iter().filter(|line| line.starts_with("0 7 A ") && line.ends_with(" 1/1")).count(),
            1
        );
        assert_eq!(minute[3..], ["host 7 2 names", "host 8 1 names"]);
        assert_eq!(told(&mut digest, 120), [""; 0], "nobody asked");
        assert_eq!(digest.stats(), DigestStats { buckets: 3, left_out: 0 });
    }

    #[test]
    fn names_are_hashed_with_the_salt() {
        // printf %s peppera.example | openssl dgst -sha256 -binary | base64
        let digest = Digest::new("pepper", 1, 0);
        assert_eq!(&*digest.hash("A.example"), "b64:net46j+LAXy8XOjifr1SRr7PU6YN9J1sASC+S/OlAHo=");
    }

    #[test]
    fn above_the_cap_names_are_one() {
        let mut digest = Digest::new("", 2, START_US);
        let names = ["a", "b", "c", "d", "a", "c"];
        digest.observe(&mut names.map(|name| asked(7, name, 0, 1)));
        let minute = told(&mut digest, 60);
        assert!(minute.contains(&"0 7 A other 3/0".to_owned()), "{minute:?}");
        assert_eq!(minute.iter().filter(|line| line.contains("b64:")).count(), 2, "{minute:?}");
        // The next minute begins anew.
        digest.observe(&mut [asked(7, "d", 0, 61)]);
        assert!(told(&mut digest, 120)[0].contains("b64:"));
    }

    #[test]
    fn a_flow_tells_a_few_names_of_its_initiator() {
        let mut digest = Digest::new("", 200, START_US);
        let flow = |src: u8| {
            let flow = Flow { src_ip: vec![192, 168, 1, src].into(), ..Flow::default() };
            Event { time_us: START_US, kind: Some(Kind::Flow(flow)) }
        };
        let mut events: Vec<Event> = (0..50).map(|n| asked(7, &format!("n{n}"), 0, n)).collect();
        events.extend([asked(7, "n48", 0, 51), flow(7), flow(8)]);
        digest.observe(&mut events);
        let context = |event: &Event| match &event.kind {
            Some(Kind::Flow(flow)) => flow.dns_context.clone(),
            _ => None,
        };
        let got = context(&events[51]).expect("names");
        let expected = ["n45", "n46", "n47", "n49", "n48"].map(|name| digest.hash(name).to_string());
        assert_eq!(got.recent_name_hashes, expected);
        assert_eq!(got.last_seen_us, START_US + 51_000_000);
        assert_eq!(context(&events[52]), None, "it asked for nothing");
        // It is forgotten in time.
        told(&mut digest, 700);
        let mut later = [flow(7)];
        digest.observe(&mut later);
        assert_eq!(context(&later[0]), None);
    }

    #[test]
    fn a_flood_takes_bounded_memory_and_is_counted() {
        let mut digest = Digest::new("", 1_000_000, START_US);
        for n in 0..20_000_u32 {
            let mut event = asked(7, &format!("n{n}"), 0, 1);
            if let Some(Kind::DnsResponse(response)) = &mut event.kind {
                response.client_ip = n.to_be_bytes().to_vec().into();
            }
            digest.observe(&mut [event]);
        }
        assert_eq!((digest.clients.len(), digest.rows.len()), (MOST_CLIENTS, MOST_ROWS));
        assert_eq!(digest.stats().left_out, 20_000 - MOST_ROWS as u64);
    }
}
