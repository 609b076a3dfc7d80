//! What one commit writes. The engine makes it from batches; the store writes it in one transaction.
//!
//! A `Changes` is complete: written whole it takes the database from one consistent state to the next, and
//! it can be tried again as it is when a commit fails. Each key occurs at most once in each list.

use std::net::IpAddr;

use super::{
    Counters, DnsBucket, DnsResponse, FirewallDrop, FlowId, FlowName, FlowRecord, HealthMinute, Identity,
    Micros, Observed, RouterId,
};

/// One transaction's worth of changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What is new about routers.
    pub routers: Vec<RouterUpdate>,
    /// How far each epoch is committed now.
    pub cursors: Vec<CursorMove>,
    /// Devices heard of; created where new.
    pub devices: Vec<DeviceTouch>,
    /// Remote hosts heard of; created where new.
    pub hosts: Vec<HostTouch>,
    /// Flows that ended: rows for `flows`.
    pub finished: Vec<FlowRecord>,
    /// Flows that are open after this commit and changed in it: inserted, or updated by their row id.
    pub open: Vec<FlowRecord>,
    /// Row ids to take out of `open_flows`, if they are in it.
    pub closed: Vec<i64>,
    /// What to add to the rollups.
    pub minutes: Vec<MinuteDelta>,
    /// The same traffic, by remote host.
    pub host_minutes: Vec<HostMinuteDelta>,
    /// What is missing, and why.
    pub gaps: Vec<GapRow>,
    /// Events that no table of their own can take, kept whole.
    pub raw: Vec<RawEvent>,
    /// Packets that firewalls dropped.
    pub drops: Vec<Observed<FirewallDrop>>,
    /// Answers to questions for names.
    pub dns: Vec<Observed<DnsResponse>>,
    /// Counts of questions.
    pub dns_buckets: Vec<Observed<DnsBucket>>,
    /// What routers know about their devices, in the order in which they told it.
    pub identities: Vec<Observed<Identity>>,
    /// What routers told about themselves, a minute each.
    pub health: Vec<HealthMinute>,
    /// Names of flows that had ended before this commit.
    pub named: Vec<NamedFlow>,
    /// Batches that came over HTTP. The commit fails as a whole if one of them is stored already.
    pub http_batches: Vec<HttpBatch>,
}

/// An ended flow whose name became known later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFlow {
    /// Which.
    pub id: FlowId,
    /// When it moved something last.
    pub last_seen: Micros,
    /// Its name.
    pub name: FlowName,
}

/// A batch that came over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpBatch {
    /// From which router.
    pub router: RouterId,
    /// SHA-256 of the router's name and the bytes of its events.
    pub digest: [u8; 32],
    /// When it was received.
    pub time: Micros,
    /// How many events of it were taken.
    pub accepted: u64,
    /// How many were refused.
    pub rejected: u64,
}

/// New facts about a router. `None` leaves what is stored.
#[derive(Clone, Debug)]
pub struct RouterUpdate {
    /// Which.
    pub router: RouterId,
    /// When this commit was made for it, server's clock.
    pub last_heard: Micros,
    /// From the newest observation in it to the commit.
    pub lag_us: Option<i64>,
    /// Router's clock minus server's, at its Hello.
    pub clock_skew_us: Option<i64>,
    /// Agent's version.
    pub agent_version: Option<String>,
    /// From Hello.
    pub hostname: Option<String>,
    /// From Hello.
    pub kernel: Option<String>,
    /// From Hello.
    pub os: Option<String>,
    /// From Hello.
    pub architecture: Option<String>,
    /// From the last heartbeat: flows open on the router.
    pub open_flows: Option<i64>,
    /// From the last heartbeat: bytes waiting in the spool.
    pub spool_bytes: Option<i64>,
    /// From the last heartbeat: the agent's resident memory.
    pub memory_bytes: Option<i64>,
    /// From the last heartbeat: what is wrong with the host, one a line.
    pub warnings: Option<String>,
}

/// The epoch under which servers that share a database count their commits of a router; no agent's run has it. A server
/// whose count is not the stored one holds flows in memory that another one has written since: its commit fails.
pub const WRITES: u64 = 0;

/// A cursor moves on. The commit fails as a whole if the stored one is not at `from` (another server has
/// taken the router over).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// Which router.
    pub router: RouterId,
    /// Which run of its agent.
    pub epoch: u64,
    /// The sequence it must be at now; `None`: the epoch must be unknown.
    pub from: Option<u64>,
    /// The sequence it is at afterwards.
    pub to: u64,
}

/// A device was seen.
#[derive(Clone, Debug)]
pub struct DeviceTouch {
    /// Behind which router.
    pub router: RouterId,
    /// Its address.
    pub address: IpAddr,
    /// Earliest observation in this commit.
    pub first_seen: Micros,
    /// Latest observation in this commit.
    pub last_seen: Micros,
}

/// A remote host was seen.
#[derive(Clone, Debug)]
pub struct HostTouch {
    /// Its address.
    pub address: IpAddr,
    /// Earliest observation in this commit.
    pub first_seen: Micros,
    /// Latest observation in this commit.
    pub last_seen: Micros,
}

/// Traffic to add to one minute of one device and service.
#[derive(Clone, Debug)]
pub struct MinuteDelta {
    /// Behind which router.
    pub router: RouterId,
    /// Minutes since 1970.
    pub minute: i64,
    /// The LAN device; `None`: no LAN device took part.
    pub device: Option<IpAddr>,
    /// IANA protocol number.
    pub protocol: u8,
    /// The responder's port; zero where there are none.
    pub port: u16,
    /// Flows that began in it.
    pub flows: i64,
    /// What moved in it.
    pub counters: Counters,
}

/// Traffic to add to one minute of one remote host.
#[derive(Clone, Debug)]
pub struct HostMinuteDelta {
    /// Seen by which router.
    pub router: RouterId,
    /// Minutes since 1970.
    pub minute: i64,
    /// The outside address; `None`: none took part.
    pub remote: Option<IpAddr>,
    /// Flows that began in it.
    pub flows: i64,
    /// What moved in it.
    pub counters: Counters,
}

/// Something is missing.
#[derive(Clone, Debug)]
pub struct GapRow {
    /// On which router.
    pub router: RouterId,
    /// `netmon.v1.GapCause`.
    pub cause: i16,
    /// How many; the unit is the cause's.
    pub count: i64,
    /// Start of the span concerned.
    pub from: Micros,
    /// End of the span concerned.
    pub to: Micros,
    /// For a person.
    pub detail: String,
}

/// An event kept as it came.
#[derive(Clone, Debug)]
pub struct RawEvent {
    /// From which router.
    pub router: RouterId,
    /// The number of its field in `netmon.v1.Event.kind`; zero: JSON, as it came over HTTP.
    pub kind: i16,
    /// When it was observed.
    pub time: Micros,
    /// The encoded `netmon.v1.Event`, or the JSON.
    pub payload: Vec<u8>,
}

/// What reverse DNS says of a remote host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// Its row id.
    pub host: i64,
    /// Its name; `None`: there is none, or it could not be found out.
    pub name: Option<String>,
    /// It could not be found out.
    pub failed: bool,
    /// When it was asked for.
    pub asked: Micros,
    /// When to ask again.
    pub due: Micros,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
            && self.cursors.is_empty()
            && self.devices.is_empty()
            && self.hosts.is_empty()
            && self.finished.is_empty()
            && self.open.is_empty()
            && self.closed.is_empty()
            && self.minutes.is_empty()
            && self.host_minutes.is_empty()
            && self.gaps.is_empty()
            && self.raw.is_empty()
            && self.drops.is_empty()
            && self.dns.is_empty()
            && self.dns_buckets.is_empty()
            && self.identities.is_empty()
            && self.health.is_empty()
            && self.named.is_empty()
            && self.http_batches.is_empty()
    }
}

impl RouterUpdate {
    /// It was heard of at `now`, and nothing else is new.
    #[must_use]
    pub fn heard(router: RouterId, now: Micros) -> Self {
        Self {
            router,
            last_heard: now,
            lag_us: None,
            clock_skew_us: None,
            agent_version: None,
            hostname: None,
            kernel: None,
            os: None,
            architecture: None,
            open_flows: None,
            spool_bytes: None,
            memory_bytes: None,
            warnings: None,
        }
    }

    /// Takes over what `later` knows.
    pub fn merge(&mut self, later: Self) {
        fn take<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        self.last_heard = self.last_heard.max(later.last_heard);
        take(&mut self.lag_us, later.lag_us);
        take(&mut self.clock_skew_us, later.clock_skew_us);
        take(&mut self.agent_version, later.agent_version);
        take(&mut self.hostname, later.hostname);
        take(&mut self.kernel, later.kernel);
        take(&mut self.os, later.os);
        take(&mut self.architecture, later.architecture);
        take(&mut self.open_flows, later.open_flows);
        take(&mut self.spool_bytes, later.spool_bytes);
        take(&mut self.memory_bytes, later.memory_bytes);
        take(&mut self.warnings, later.warnings);
    }
}
