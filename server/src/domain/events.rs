//! What a router tells beside its flows.

use std::net::IpAddr;

use super::{Micros, RouterId};

/// Something that a router observed at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed<T> {
    /// Which router.
    pub router: RouterId,
    /// When.
    pub time: Micros,
    /// What.
    pub what: T,
}

/// A hardware address.
pub type Mac = [u8; 6];

/// Where in the kernel a rule stood. The numbers are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Hook {
    /// None that this program knows.
    Unknown = 0,
    /// Before routing.
    Prerouting = 1,
    /// To the router itself.
    Input = 2,
    /// Through the router.
    Forward = 3,
    /// From the router itself.
    Output = 4,
    /// After routing.
    Postrouting = 5,
    /// As it comes from the interface.
    Ingress = 6,
}

/// A packet that a firewall dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallDrop {
    /// Where.
    pub hook: Hook,
    /// The rule's log prefix.
    pub prefix: String,
    /// NFLOG group.
    pub nflog_group: u16,
    /// The interface it came in by; empty: none.
    pub in_interface: String,
    /// The interface it would have left by; empty: none.
    pub out_interface: String,
    /// Who sent it.
    pub src: IpAddr,
    /// To whom.
    pub dst: IpAddr,
    /// Zero where there are none.
    pub src_port: u16,
    /// Zero where there are none.
    pub dst_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// For TCP.
    pub tcp_flags: Option<u8>,
    /// Type and code, for ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// The sender's hardware address.
    pub src_mac: Option<Mac>,
    /// Length of the packet in bytes.
    pub length: u32,
    /// How many like packets of this source were left out before it.
    pub left_out: i64,
}

impl FirewallDrop {
    /// The ends that may be remote hosts: what comes to the router itself and what it sends has it for the other one.
    #[must_use]
    pub fn outside_ends(&self) -> (Option<IpAddr>, Option<IpAddr>) {
        ((self.hook != Hook::Output).then_some(self.src), (self.hook != Hook::Input).then_some(self.dst))
    }
}

/// One answer to one question of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsResponse {
    /// Who asked.
    pub client: IpAddr,
    /// For which name, lower case, without the final dot.
    pub name: String,
    /// RR type.
    pub kind: u16,
    /// RFC 1035's response code.
    pub rcode: u16,
    /// The records, in their order.
    pub answers: Vec<DnsAnswer>,
    /// Who answered; `None`: the router itself.
    pub resolver: Option<IpAddr>,
    /// The router answered without asking anyone.
    pub cached: bool,
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// Its owner, lower case, without the final dot.
    pub name: String,
    /// RR type.
    pub kind: u16,
    /// What it says.
    pub data: DnsData,
    /// Seconds; `None`: not known.
    pub ttl_s: Option<u32>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsData {
    /// A and AAAA.
    Address(IpAddr),
    /// Every other type, as text.
    Text(String),
}

/// An answer as the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAnswer {
    /// When.
    pub time: Micros,
    /// Who asked.
    pub client: IpAddr,
    /// What held that address then, if that was known.
    pub mac: Option<Mac>,
    /// For what.
    pub domain: String,
    /// One of the addresses.
    pub address: IpAddr,
    /// The shortest on the way to it, in seconds.
    pub ttl_s: Option<u32>,
}

/// A count of questions, as the original agent sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsBucket {
    /// Start of the time that was counted.
    pub start: Micros,
    /// Who asked.
    pub client: IpAddr,
    /// The RR type's name.
    pub kind: String,
    /// Of salt and name, or "other".
    pub name_hash: String,
    /// How many questions.
    pub count: i64,
    /// How many of them were answered that there is no such name.
    pub nxdomain: i64,
}

/// A device as its router knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its hardware address, if the router knows it.
    pub mac: Option<Mac>,
    /// Every address that it holds now.
    pub addresses: Vec<IpAddr>,
    /// From its DHCP lease; empty: none.
    pub host_name: String,
    /// From its DHCP lease; empty: none.
    pub vendor_class: String,
    /// When the lease ends.
    pub lease_until: Option<Micros>,
    /// Empty: not known.
    pub interface: String,
    /// When it was last heard of.
    pub last_seen: Micros,
}

/// A router's own state over an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How long the interval was; zero: a first sample, which has no differences.
    pub interval_ms: i64,
    /// Load averages of 1, 5 and 15 minutes, times 1000.
    pub load_milli: [i64; 3],
    /// Memory.
    pub memory_total_bytes: i64,
    /// Memory that programs could still have.
    pub memory_available_bytes: i64,
    /// Swap.
    pub swap_total_bytes: i64,
    /// Swap that is free.
    pub swap_free_bytes: i64,
    /// The spool's file system.
    pub disk_total_bytes: i64,
    /// What is free on it.
    pub disk_free_bytes: i64,
    /// Read in the interval.
    pub disk_read_bytes: i64,
    /// Written in the interval.
    pub disk_written_bytes: i64,
    /// Since the router's start.
    pub uptime_s: i64,
    /// Connections that the kernel tracks.
    pub conntrack_count: i64,
    /// How many it may track.
    pub conntrack_max: i64,
    /// Thousandths of a degree Celsius.
    pub temperature_milli_c: Option<i32>,
    /// By name.
    pub interfaces: Vec<InterfaceHealth>,
    /// What is wrong with the host.
    pub warnings: Vec<String>,
}

/// What an interface moved in an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceHealth {
    /// Its name.
    pub name: String,
    /// Bytes received and sent.
    pub bytes: [i64; 2],
    /// Packets received and sent.
    pub packets: [i64; 2],
    /// Errors on receiving and on sending.
    pub errors: [i64; 2],
    /// Packets dropped on receiving and on sending.
    pub dropped: [i64; 2],
    /// Whether it was up.
    pub up: bool,
}

/// A router's state over one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthMinute {
    /// Which router.
    pub router: RouterId,
    /// Minutes since 1970.
    pub minute: i64,
    /// Levels as of its last sample, sums over all its samples.
    pub health: Health,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
        Self::Ingress,
    ];

    /// As the kernel's headers write it; empty where it is not known.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
            Self::Ingress => "INGRESS",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|hook| hook.name() == name).unwrap_or(Self::Unknown)
    }

    /// The one of this number in the database.
    #[must_use]
    pub fn numbered(number: i16) -> Self {
        Self::ALL.into_iter().find(|hook| *hook as i16 == number).unwrap_or(Self::Unknown)
    }
}

impl Health {
    /// Takes over a later sample of the same minute.
    pub fn add(&mut self, later: Self) {
        let earlier = std::mem::replace(self, later);
        let sum = |into: &mut i64, of: i64| *into = into.saturating_add(of);
        sum(&mut self.interval_ms, earlier.interval_ms);
        sum(&mut self.disk_read_bytes, earlier.disk_read_bytes);
        sum(&mut self.disk_written_bytes, earlier.disk_written_bytes);
        self.conntrack_count = self.conntrack_count.max(earlier.conntrack_count);
        for interface in earlier.interfaces {
            match self.interfaces.iter_mut().find(|known| known.name == interface.name) {
                None => self.interfaces.push(interface),
                Some(known) => {
                    for (into, of) in [
                        (&mut known.bytes, interface.bytes),
                        (&mut known.packets, interface.packets),
                        (&mut known.errors, interface.errors),
                        (&mut known.dropped, interface.dropped),
                    ] {
                        sum(&mut into[0], of[0]);
                        sum(&mut into[1], of[1]);
                    }
                }
            }
        }
    }
}
