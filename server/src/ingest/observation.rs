//! What is left of an event once it was checked: what the engine may trust.

use std::net::IpAddr;

use netmon_proto::v1;

use crate::domain::{
    Counters, Direction, DnsBucket, DnsResponse, FirewallDrop, FlowKey, Health, Icmp, Identity, Micros, Tuple,
};

/// An event that passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// When it was observed.
    pub time: Micros,
    /// How many of its fields had to be clamped.
    pub clamped: u32,
    /// What was observed.
    pub what: Observation,
}

/// What was observed.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A flow's report.
    Flow(Box<FlowReport>),
    /// The table is being reported whole.
    SyncBegin(u64),
    /// The table has been reported whole.
    SyncEnd(u64),
    /// The agent's gauges.
    Heartbeat(v1::Heartbeat),
    /// Something is missing.
    Gap(GapReport),
    /// A packet that a firewall dropped.
    Drop(Box<FirewallDrop>),
    /// An answer to a question for a name.
    Dns(Box<DnsResponse>),
    /// A count of questions.
    Bucket(Box<DnsBucket>),
    /// A device as its router knows it.
    Identity(Box<Identity>),
    /// The router's own state.
    Health(Box<Health>),
    /// It is alive, and no more.
    Alive,
    /// Addresses of the router itself.
    Own(Vec<IpAddr>),
    /// JSON, kept as it came.
    Raw(Box<[u8]>),
}

/// A gap as an agent tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapReport {
    /// `netmon.v1.GapCause`.
    pub cause: i16,
    /// How many.
    pub count: i64,
    /// Start of the span.
    pub from: Micros,
    /// End of the span.
    pub to: Micros,
    /// For a person.
    pub detail: String,
}

/// What a flow's report means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It began.
    New,
    /// It was there when the agent first looked.
    Found,
    /// It is alive.
    Progress,
    /// It ended; false: unseen, so that its last bytes are not known.
    End {
        /// Whether the counters are final.
        seen: bool,
    },
}

/// One report about a flow.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowReport {
    /// What it means.
    pub phase: Phase,
    /// The agent's id.
    pub flow_id: u64,
    /// Zone, conntrack id, protocol, original tuple.
    pub key: FlowKey,
    /// The reply tuple, where NAT changed it.
    pub reply: Option<Tuple>,
    /// For ICMP.
    pub icmp: Option<Icmp>,
    /// Seen from the router.
    pub direction: Direction,
    /// The LAN device.
    pub device: Option<IpAddr>,
    /// The outside address.
    pub remote: Option<IpAddr>,
    /// Cumulative counters.
    pub counters: Counters,
    /// Unwatched part of them.
    pub before: Counters,
    /// When it began.
    pub first_seen: Micros,
    /// When its counters last changed.
    pub last_seen: Micros,
    /// The kernel's start stamp.
    pub kernel_start: Option<Micros>,
    /// `netmon.v1.TcpState`.
    pub tcp_state: u8,
    /// IPS_* bits.
    pub status: u32,
    /// CTA_MARK.
    pub mark: u32,
    /// The kernel keeps no counters for it.
    pub no_counters: bool,
}
