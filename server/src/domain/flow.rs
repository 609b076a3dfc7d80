//! A flow as the server keeps it.

use std::{net::IpAddr, sync::Arc};

use super::{Micros, RouterId};

/// A flow's row id: given when the server first hears of the flow, the same while it is open and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub i64);

/// Bytes and packets of both directions. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes in the direction of the first packet.
    pub bytes_orig: i64,
    /// Bytes in the other direction.
    pub bytes_reply: i64,
    /// Packets in the direction of the first packet.
    pub packets_orig: i64,
    /// Packets in the other direction.
    pub packets_reply: i64,
}

/// Addresses and ports of one direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Who sends.
    pub src: IpAddr,
    /// To whom.
    pub dst: IpAddr,
    /// Zero for protocols without ports.
    pub src_port: u16,
    /// Zero for protocols without ports.
    pub dst_port: u16,
}

/// What tells one conntrack entry from another at one moment. The kernel may use all of it again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The conntrack zone.
    pub zone: u16,
    /// CTA_ID.
    pub conntrack_id: u32,
    /// IANA protocol number.
    pub protocol: u8,
    /// The original tuple.
    pub tuple: Tuple,
}

/// What an ICMP flow has in place of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type of the first packet.
    pub kind: u8,
    /// Code of the first packet.
    pub code: u8,
    /// Identifier of the query.
    pub id: u16,
}

/// Who talks to whom, seen from the router. The numbers are those of the protocol and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Direction {
    /// A LAN device to the outside.
    Out = 1,
    /// The outside to a LAN device.
    In = 2,
    /// Between two LAN devices.
    Lan = 3,
    /// The router itself is one end.
    Local = 4,
    /// Neither end is in the LAN or the router.
    Forward = 5,
}

/// How a flow ended. The numbers are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum End {
    /// Its final counters are the kernel's own.
    Seen = 1,
    /// It is gone, and what it moved since its last report is not known.
    Unseen = 2,
}

/// A flow, open or ended.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRecord {
    /// Row id.
    pub id: FlowId,
    /// The router that saw it.
    pub router: RouterId,
    /// The agent's id for it, which nobody asks for once it has ended: then the database keeps neither this nor the
    /// kernel's (`key.conntrack_id`, zero), and gives [`Self::NO_FLOW_ID`]. Those that [`is_by_tuple`] tells are kept.
    pub flow_id: u64,
    /// Zone, conntrack id, protocol and original tuple.
    pub key: FlowKey,
    /// The reply tuple, where NAT makes it other than the original one reversed.
    pub reply: Option<Tuple>,
    /// For ICMP and ICMPv6.
    pub icmp: Option<Icmp>,
    /// Seen from the router.
    pub direction: Direction,
    /// The LAN device's address, if a LAN device takes part.
    pub device: Option<IpAddr>,
    /// The outside address, if one takes part.
    pub remote: Option<IpAddr>,
    /// The kernel's cumulative counters at the last report.
    pub counters: Counters,
    /// The part of `counters` that had moved before the flow was watched. It is in no rollup.
    pub before: Counters,
    /// When it began.
    pub first_seen: Micros,
    /// When its counters last changed, to one reporting interval.
    pub last_seen: Micros,
    /// The kernel's own start stamp, if it keeps one.
    pub kernel_start: Option<Micros>,
    /// `netmon.v1.TcpState`; zero for other protocols.
    pub tcp_state: u8,
    /// The kernel's IPS_* bits.
    pub status: u32,
    /// CTA_MARK.
    pub mark: u32,
    /// The kernel kept no counters for it.
    pub no_counters: bool,
    /// None while it is open.
    pub end: Option<End>,
    /// The name that its responder was called by; `None`: nothing is known about it.
    pub name: Option<FlowName>,
}

/// The name that the device had for a flow's responder, and how sure that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowName {
    /// Lower case, without the final dot. `None`: there is none, for the reason given.
    pub domain: Option<Arc<str>>,
    /// Percent.
    pub confidence: u8,
    /// Why so much.
    pub reason: NameReason,
}

/// Why a name is as sure as it is. The numbers are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum NameReason {
    /// Of all that the device had asked for, only this name led to the address, and its answer was still valid.
    OnlyCandidate = 1,
    /// Several names with valid answers led to the address; this one was asked for last.
    SeveralCandidates = 2,
    /// The answer was no longer valid when the flow began.
    OlderThanTtl = 3,
    /// The device asked after the flow had begun.
    AnswerAfterFlow = 4,
    /// Only another device had asked for a name of this address: no name.
    OtherDeviceOnly = 5,
}

impl Counters {
    /// Applies `f` to each pair of figures.
    fn zip(self, other: Self, f: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            bytes_orig: f(self.bytes_orig, other.bytes_orig),
            bytes_reply: f(self.bytes_reply, other.bytes_reply),
            packets_orig: f(self.packets_orig, other.packets_orig),
            packets_reply: f(self.packets_reply, other.packets_reply),
        }
    }

    /// The sum, at most `i64::MAX` each.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, i64::saturating_add)
    }

    /// The difference, at least zero each.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.zip(other, |a, b| (a - b).max(0))
    }

    /// The larger of each pair.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, i64::max)
    }

    /// The smaller of each pair.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.zip(other, i64::min)
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// Whether a flow's id was made here, because its agent gives flows none: their reports may come late, after a restart
/// too. The high half is zero, where other agents have the tag of their run.
#[must_use]
pub fn is_by_tuple(flow_id: u64) -> bool {
    flow_id >> 32 == 0
}

impl FlowRecord {
    /// See [`Self::flow_id`]. Not one of those by tuple.
    pub const NO_FLOW_ID: u64 = u64::MAX;

    /// What moved while the flow was watched: what the rollups hold of it.
    #[must_use]
    pub fn watched(&self) -> Counters {
        self.counters.minus(self.before)
    }

    /// Who answers: the far end after destination NAT.
    #[must_use]
    pub fn responder(&self) -> IpAddr {
        self.reply.map_or(self.key.tuple.dst, |reply| reply.src)
    }

    /// The port that names the service: the responder's, after destination NAT. Zero where there are no ports.
    #[must_use]
    pub fn service_port(&self) -> u16 {
        self.reply.map_or(self.key.tuple.dst_port, |reply| reply.src_port)
    }
}

impl FlowName {
    /// Whether it says more than what was known before. A name by valid answers is not given up for a lesser one: the
    /// answers may be forgotten by now.
    #[must_use]
    pub fn is_better_than(&self, known: Option<&Self>) -> bool {
        match known {
            None => true,
            Some(known) if known == self => false,
            Some(known) => self.domain.is_some() && (self.is_by_valid() || !known.is_by_valid()),
        }
    }

    /// Whether an answer told it that was valid when the flow began.
    #[must_use]
    pub fn is_by_valid(&self) -> bool {
        matches!(self.reason, NameReason::OnlyCandidate | NameReason::SeveralCandidates)
    }
}

impl NameReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::OnlyCandidate,
        Self::SeveralCandidates,
        Self::OlderThanTtl,
        Self::AnswerAfterFlow,
        Self::OtherDeviceOnly,
    ];

    /// As the API writes it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::OnlyCandidate => "only_candidate",
            Self::SeveralCandidates => "several_candidates",
            Self::OlderThanTtl => "older_than_ttl",
            Self::AnswerAfterFlow => "answer_after_flow",
            Self::OtherDeviceOnly => "other_device_only",
        }
    }

    /// The one of this number in the database.
    #[must_use]
    pub fn numbered(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as i16 == number)
    }
}

impl Direction {
    /// As the API and the pages write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
            Self::Lan => "lan",
            Self::Local => "local",
            Self::Forward => "forward",
        }
    }
}
