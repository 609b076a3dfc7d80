//! What one conntrack message says.

use std::net::IpAddr;

/// Bits of [`CtMessage::status`], from `linux/netfilter/nf_conntrack_common.h`.
pub mod status {
    /// `IPS_DYING`: the kernel has begun to remove the entry.
    pub const DYING: u32 = 1 << 9;
}

/// What a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An entry was made.
    New,
    /// An entry is gone; its counters are final.
    Destroy,
    /// A row of a dump.
    Row,
    /// An entry changed. Not subscribed to, but another program may have asked for it on our behalf.
    Update,
}

/// One direction's addresses and ports.
///
/// An IPv4 address fills the first four bytes and leaves the rest zero. ICMP and ICMPv6 have no ports:
/// `src_port` is the query's identifier and `dst_port` is type in the high byte, code in the low one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Source port, GRE key or ICMP identifier.
    pub src_port: u16,
    /// Destination port, GRE key or ICMP type and code.
    pub dst_port: u16,
}

/// Packets and bytes of both directions, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes in the direction of the first packet.
    pub bytes_orig: u64,
    /// Bytes the other way.
    pub bytes_reply: u64,
    /// Packets in the direction of the first packet.
    pub packets_orig: u64,
    /// Packets the other way.
    pub packets_reply: u64,
}

impl Counters {
    /// True where any counter is below that of `earlier`: counters of one entry only grow, unless
    /// somebody zeroed them.
    pub fn below(&self, earlier: &Counters) -> bool {
        self.bytes_orig < earlier.bytes_orig
            || self.bytes_reply < earlier.bytes_reply
            || self.packets_orig < earlier.packets_orig
            || self.packets_reply < earlier.packets_reply
    }

    /// The sum, field by field.
    #[must_use]
    pub fn plus(&self, other: &Counters) -> Counters {
        Counters {
            bytes_orig: self.bytes_orig.saturating_add(other.bytes_orig),
            bytes_reply: self.bytes_reply.saturating_add(other.bytes_reply),
            packets_orig: self.packets_orig.saturating_add(other.packets_orig),
            packets_reply: self.packets_reply.saturating_add(other.packets_reply),
        }
    }
}

/// One conntrack message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtMessage {
    /// What it means.
    pub kind: Kind,
    /// True for IPv6.
    pub v6: bool,
    /// IANA protocol number.
    pub protocol: u8,
    /// CTA_TUPLE_ORIG.
    pub original: Tuple,
    /// CTA_TUPLE_REPLY.
    pub reply: Tuple,
    /// CTA_ZONE, or the zone of a tuple where only one direction has it. Zero: the default zone.
    pub zone: u16,
    /// CTA_ID.
    pub id: u32,
    /// CTA_STATUS, see [`status`]. Absent: not told.
    pub status: Option<u32>,
    /// CTA_MARK. Absent: not told, which the kernel also does for a mark of zero.
    pub mark: Option<u32>,
    /// CTA_TIMEOUT in seconds. Absent in DESTROY messages of older kernels.
    pub timeout_s: Option<u32>,
    /// CTA_COUNTERS_ORIG and _REPLY. Absent in NEW messages, and everywhere for an entry that was made
    /// while nf_conntrack_acct was off.
    pub counters: Option<Counters>,
    /// CTA_PROTOINFO_TCP_STATE, the kernel's number.
    pub tcp_state: Option<u8>,
    /// CTA_TIMESTAMP_START in microseconds since 1970. Zero: not told.
    pub start_us: i64,
    /// CTA_TIMESTAMP_STOP, the same way.
    pub stop_us: i64,
    /// CTA_TIMESTAMP_EVENT (Linux 6.14 and later): when the kernel made this message.
    pub event_us: i64,
}

/// ICMP and ICMPv6 have identifiers in place of ports.
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMP6: u8 = 58;

impl CtMessage {
    /// True for ICMP and ICMPv6.
    pub fn is_icmp(&self) -> bool {
        is_icmp(self.protocol)
    }

    /// The original source: who began.
    pub fn initiator(&self) -> IpAddr {
        address(&self.original.src, self.v6)
    }

    /// The source of the reply tuple: the far end after destination NAT.
    pub fn responder(&self) -> IpAddr {
        address(&self.reply.src, self.v6)
    }
}

/// True for ICMP and ICMPv6.
pub(crate) fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_ICMP | PROTOCOL_ICMP6)
}

/// The meaningful bytes of an address in a [`Tuple`].
pub(crate) fn address_bytes(address: &[u8; 16], v6: bool) -> &[u8] {
    if v6 { address } else { address.first_chunk::<4>().map_or(&address[..], |v4| &v4[..]) }
}

fn address(bytes: &[u8; 16], v6: bool) -> IpAddr {
    match bytes.first_chunk::<4>() {
        Some(v4) if !v6 => IpAddr::from(*v4),
        _ => IpAddr::from(*bytes),
    }
}

/// Why a message could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends before its header does.
    #[error("message of {0} bytes is too short for its header")]
    TooShort(usize),
    /// Not one of the conntrack messages that carry an entry.
    #[error("message type {0:#06x} does not carry a conntrack entry")]
    NotAnEntry(u16),
    /// Not a packet that a firewall rule logged.
    #[error("message type {0:#06x} does not carry a logged packet")]
    NotAPacket(u16),
    /// The chain of attributes is broken.
    #[error("attributes are malformed")]
    Attributes,
    /// An attribute is not of the length that its type has.
    #[error("attribute {0} has {1} bytes")]
    Length(u16, usize),
    /// Something without which a flow has no identity is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Not IPv4 or IPv6.
    #[error("address family {0} is neither IPv4 nor IPv6")]
    Family(u8),
}
