//! What the server knows about a network, free of any database, wire format or clock.

mod baseline;
mod changes;
mod events;
mod flow;

pub use baseline::{BASELINE_READS_US, BASELINE_US, Baseline, Baselines};
pub use changes::{
    Changes, CursorMove, DeviceTouch, GapRow, HostMinuteDelta, HostName, HostTouch, HttpBatch, MinuteDelta,
    NamedFlow, RawEvent, RouterUpdate, WRITES,
};
pub use events::{
    DnsAnswer, DnsBucket, DnsData, DnsResponse, FirewallDrop, Health, HealthMinute, Hook, Identity,
    InterfaceHealth, KnownAnswer, Mac, Observed,
};
pub use flow::{
    Counters, Direction, End, FlowId, FlowKey, FlowName, FlowRecord, Icmp, NameReason, Tuple, is_by_tuple,
};

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// Microseconds in a minute.
pub const MINUTE_US: Micros = 60_000_000;

/// A router's row id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(pub i64);
