//! What the read side gives.

use std::net::IpAddr;

use super::lists::Position;
use crate::domain::{Counters, FlowRecord, GapRow, Hook, Mac, Micros, RouterId};

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only rows after this place: [`PageOf::next`] of the page before. `None`: from the first.
    pub before: Option<Position>,
    /// At most so many rows.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf<T> {
    /// The rows, in the order of the list. They can be fewer than asked for although there is a next page: then
    /// so many rows were looked at that the rest has to be asked for.
    pub items: Vec<T>,
    /// [`Page::before`] of the next page; `None`: this is the last.
    pub next: Option<Position>,
}

/// How many rows there are, counted up to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// So many, or more if `capped`.
    pub total: u64,
    /// The counting stopped there.
    pub capped: bool,
}

/// A router, with what it is and what it lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterRow {
    /// Row id.
    pub id: RouterId,
    /// As the agent names itself.
    pub name: String,
    /// When it first came.
    pub first_seen: Micros,
    /// When anything was last committed for it; `None`: never.
    pub last_heard: Option<Micros>,
    /// Between the newest observation and its commit.
    pub lag_us: Option<i64>,
    /// Router's clock minus server's.
    pub clock_skew_us: Option<i64>,
    /// Agent's version.
    pub agent_version: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// As in `uname -sr`.
    pub kernel: Option<String>,
    /// PRETTY_NAME of os-release.
    pub os: Option<String>,
    /// As in `uname -m`.
    pub architecture: Option<String>,
    /// Flows open on the router.
    pub open_flows: Option<i64>,
    /// Bytes waiting in its spool.
    pub spool_bytes: Option<i64>,
    /// Resident memory of its agent.
    pub memory_bytes: Option<i64>,
    /// What is wrong with the host, one a line.
    pub warnings: Option<String>,
    /// What is missing, by cause, in the order of the causes.
    pub losses: Vec<LossRow>,
}

/// How many flows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowFigures {
    /// That were ever counted.
    pub counted: i64,
    /// That have not ended.
    pub open: i64,
    /// That ended and are kept.
    pub kept: i64,
}

/// The sum of a router's gaps of one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossRow {
    /// `netmon.v1.GapCause`.
    pub cause: i16,
    /// The sum of their counts; the unit is the cause's.
    pub count: i64,
    /// The latest end of their spans.
    pub last: Micros,
}

/// A device in the LAN of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// Row id.
    pub id: i64,
    /// Behind which router.
    pub router: RouterId,
    /// That router's name.
    pub router_name: String,
    /// Its address.
    pub address: IpAddr,
    /// What a person called it, else what it called itself when it asked for its address.
    pub name: Option<String>,
    /// Its hardware address, if it is known.
    pub mac: Option<Mac>,
    /// First observation.
    pub first_seen: Micros,
    /// Latest observation, up to a minute behind.
    pub last_seen: Micros,
}

/// All that is known of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceDetail {
    /// Itself.
    pub device: DeviceRow,
    /// Its addresses, the last seen first, at most a hundred.
    pub addresses: Vec<IpAddr>,
    /// Devices that are shown as part of it, at most a hundred.
    pub parts: Vec<DeviceRow>,
    /// Bytes that it moved with remote hosts, of its newest flows: all, and those of which the remote host has no name.
    pub bytes: (i64, i64),
}

/// An address outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// Row id.
    pub id: i64,
    /// Its address.
    pub address: IpAddr,
    /// By reverse DNS; `None`: none, or not asked for yet.
    pub name: Option<String>,
    /// First observation.
    pub first_seen: Micros,
    /// Latest observation, up to a minute behind.
    pub last_seen: Micros,
}

/// A flow in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRow {
    /// The name of the router that saw it.
    pub router_name: String,
    /// The flow.
    pub flow: FlowRecord,
}

/// A gap in a list.
#[derive(Clone, Debug)]
pub struct GapEntry {
    /// Row id.
    pub id: i64,
    /// The router's name.
    pub router_name: String,
    /// What is missing.
    pub gap: GapRow,
}

/// Sums over a table, at most `i64::MAX` each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Flows.
    pub flows: i64,
    /// What they moved while they were watched.
    pub counters: Counters,
}

/// The same sums over all tables that hold them. They agree, or something is wrong.
///
/// They are over everything that was ever counted: what a table holds, and what retention took out of it, of which the
/// sums are kept. Tables that are kept for different times can be compared so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Over the flows, open and ended.
    pub flows: Sums,
    /// The part of `flows` that retention took away.
    pub removed: Sums,
    /// Over the minutes of the devices.
    pub device_minutes: Sums,
    /// Over the hours of the devices.
    pub device_hours: Sums,
    /// Over the days of the devices.
    pub device_days: Sums,
    /// Over the minutes of the services.
    pub service_minutes: Sums,
    /// Over the hours of the services.
    pub service_hours: Sums,
    /// Over the days of the services.
    pub service_days: Sums,
    /// Over the minutes of the remote hosts.
    pub host_minutes: Sums,
    /// Over the hours of the remote hosts.
    pub host_hours: Sums,
    /// Over the days of the remote hosts.
    pub host_days: Sums,
}

impl Totals {
    /// The rollups by the names of their tables.
    #[must_use]
    pub fn rollups(&self) -> [(&'static str, Sums); 9] {
        [
            ("device_minutes", self.device_minutes),
            ("device_hours", self.device_hours),
            ("device_days", self.device_days),
            ("service_minutes", self.service_minutes),
            ("service_hours", self.service_hours),
            ("service_days", self.service_days),
            ("host_minutes", self.host_minutes),
            ("host_hours", self.host_hours),
            ("host_days", self.host_days),
        ]
    }

    /// Whether every rollup holds what the flows moved.
    #[must_use]
    pub fn agree(&self) -> bool {
        self.rollups().iter().all(|(_, sums)| *sums == self.flows)
    }
}

/// What a device moved in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinuteRow {
    /// When the minute began.
    pub at: Micros,
    /// How much.
    pub sums: Sums,
}

/// An answer to a question for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRow {
    /// Row id.
    pub id: i64,
    /// Through which router.
    pub router: RouterId,
    /// That router's name.
    pub router_name: String,
    /// When it was observed.
    pub time: Micros,
    /// Who asked.
    pub client: IpAddr,
    /// Row id of the name that was asked for.
    pub domain: i64,
    /// For which name, lower case, without the final dot.
    pub name: String,
    /// RR type.
    pub kind: i32,
    /// Response code.
    pub rcode: i16,
    /// Who answered; `None`: the router itself.
    pub resolver: Option<IpAddr>,
    /// The router answered without asking anyone.
    pub cached: bool,
    /// The records, in their order.
    pub answers: Vec<DnsAnswerRow>,
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswerRow {
    /// Its owner.
    pub name: String,
    /// RR type.
    pub kind: i32,
    /// What it says.
    pub data: String,
    /// Seconds; `None`: not known.
    pub ttl_s: Option<i64>,
}

/// A packet that a firewall dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropRow {
    /// Row id.
    pub id: i64,
    /// By which router.
    pub router: RouterId,
    /// That router's name.
    pub router_name: String,
    /// When.
    pub time: Micros,
    /// Where in the kernel.
    pub hook: Hook,
    /// The rule's log prefix.
    pub prefix: String,
    /// NFLOG group.
    pub nflog_group: i32,
    /// Empty: none.
    pub in_interface: String,
    /// Empty: none.
    pub out_interface: String,
    /// Who sent it.
    pub src: IpAddr,
    /// To whom.
    pub dst: IpAddr,
    /// Zero where there are none.
    pub src_port: i32,
    /// Zero where there are none.
    pub dst_port: i32,
    /// IANA protocol number.
    pub protocol: i16,
    /// For TCP.
    pub tcp_flags: Option<i16>,
    /// For ICMP and ICMPv6.
    pub icmp_type: Option<i16>,
    /// For ICMP and ICMPv6.
    pub icmp_code: Option<i16>,
    /// The sender's hardware address.
    pub src_mac: Option<Vec<u8>>,
    /// Length of the packet in bytes.
    pub length: i64,
    /// How many like packets of this source were left out before it.
    pub left_out: i64,
}

/// A name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRow {
    /// Row id.
    pub id: i64,
    /// Lower case, without the final dot.
    pub name: String,
    /// First observation.
    pub first_seen: Micros,
    /// Latest observation.
    pub last_seen: Micros,
}
