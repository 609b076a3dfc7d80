//! One message of a log group: the packet's head with what the kernel knew about it.

use crate::decode::{DecodeError, be16, be32, walk};

const SUBSYS_ULOG: u16 = 4;
const NFULNL_MSG_PACKET: u16 = 0;
/// `nfgenmsg`: family, version, and the group in network order.
const NFGENMSG_BYTES: usize = 4;

// enum nfulnl_attr_type
const NFULA_PACKET_HDR: u16 = 1;
const NFULA_IFINDEX_INDEV: u16 = 4;
const NFULA_IFINDEX_OUTDEV: u16 = 5;
const NFULA_HWADDR: u16 = 8;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFULA_SEQ: u16 = 12;

/// `enum nf_inet_hooks`.
const NF_INET_LOCAL_OUT: u8 = 3;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// The table family that a packet was logged from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// ip, ip6 and inet tables.
    Ip,
    /// arp tables: no IP packet.
    Arp,
    /// bridge tables: frames that the router switches, not routes.
    Bridge,
    /// netdev tables: before routing.
    Netdev,
    /// One that the kernel has learned since.
    Other(u8),
}

/// What the kernel says about one logged packet. Borrows from the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMessage<'a> {
    /// The log group.
    pub group: u16,
    /// Where the rule stands.
    pub family: Family,
    /// The Ethernet type, zero where it is not told.
    pub ether_type: u16,
    /// The hook's number within its family.
    pub hook: Option<u8>,
    /// Index of the interface that it came in by. Zero: none.
    pub in_index: u32,
    /// Index of the interface that it leaves by. Zero: none.
    pub out_index: u32,
    /// The sender's hardware address, where it is one of Ethernet.
    pub mac: Option<[u8; 6]>,
    /// The rule's prefix, without the final NUL.
    pub prefix: &'a [u8],
    /// Counts the packets of the group, those that found no room included.
    pub sequence: Option<u32>,
    /// The packet from its IP header on, as much of it as was asked for.
    pub payload: &'a [u8],
}

impl LogMessage<'_> {
    /// Whether the payload is an IP packet.
    pub fn is_ip(&self) -> bool {
        match self.family {
            Family::Ip => true,
            Family::Netdev => matches!(self.ether_type, ETH_P_IP | ETH_P_IPV6),
            Family::Arp | Family::Bridge | Family::Other(_) => false,
        }
    }

    /// Whether this host made the packet: it has just been routed, and came in by no interface.
    pub fn is_the_hosts_own(&self) -> bool {
        self.family == Family::Ip && self.hook == Some(NF_INET_LOCAL_OUT)
    }

    /// The hook's name. Empty: not told, or not known.
    pub fn hook_name(&self) -> &'static str {
        match (self.family, self.hook) {
            // enum nf_dev_hooks
            (Family::Netdev, Some(0)) => "INGRESS",
            (Family::Netdev, _) | (_, None) => "",
            // enum nf_inet_hooks
            (_, Some(0)) => "PREROUTING",
            (_, Some(1)) => "INPUT",
            (_, Some(2)) => "FORWARD",
            (_, Some(NF_INET_LOCAL_OUT)) => "OUTPUT",
            (_, Some(4)) => "POSTROUTING",
            (_, Some(5)) => "INGRESS",
            (_, Some(_)) => "",
        }
    }
}

/// Decodes one netlink message of the log subsystem, without its netlink header.
///
/// # Errors
/// When it is no packet, or cut off.
pub fn decode_log(message_type: u16, payload: &[u8]) -> Result<LogMessage<'_>, DecodeError> {
    if message_type != SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET {
        return Err(DecodeError::NotAPacket(message_type));
    }
    let Some((header, attributes)) = payload.split_first_chunk::<NFGENMSG_BYTES>() else {
        return Err(DecodeError::TooShort(payload.len()));
    };
    let [family, _, group_high, group_low] = *header;
    let mut message = LogMessage {
        group: u16::from_be_bytes([group_high, group_low]),
        family: self::family(family),
        ether_type: 0,
        hook: None,
        in_index: 0,
        out_index: 0,
        mac: None,
        prefix: &[],
        sequence: None,
        payload: &[],
    };
    walk(attributes, |kind, value| {
        match kind {
            NFULA_PACKET_HDR => {
                let [high, low, hook, _] = *fixed(kind, value)?;
                message.ether_type = u16::from_be_bytes([high, low]);
                message.hook = Some(hook);
            }
            NFULA_IFINDEX_INDEV => message.in_index = be32(kind, value)?,
            NFULA_IFINDEX_OUTDEV => message.out_index = be32(kind, value)?,
            NFULA_HWADDR => message.mac = mac(kind, value)?,
            NFULA_PAYLOAD => message.payload = value,
            NFULA_PREFIX => message.prefix = value.split(|byte| *byte == 0).next().unwrap_or_default(),
            NFULA_SEQ => message.sequence = Some(be32(kind, value)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(message)
}

/// NFPROTO_*, from `linux/netfilter.h`.
fn family(number: u8) -> Family {
    match number {
        1 | 2 | 10 => Family::Ip,
        3 => Family::Arp,
        5 => Family::Netdev,
        7 => Family::Bridge,
        other => Family::Other(other),
    }
}

fn fixed<const N: usize>(kind: u16, value: &[u8]) -> Result<&[u8; N], DecodeError> {
    value.try_into().map_err(|_| DecodeError::Length(kind, value.len()))
}

/// `nfulnl_msg_packet_hw`: length, padding, and room for eight bytes.
fn mac(kind: u16, value: &[u8]) -> Result<Option<[u8; 6]>, DecodeError> {
    let Some((length, rest)) = value.split_at_checked(2) else {
        return Err(DecodeError::Length(kind, value.len()));
    };
    let address = rest.get(2..).and_then(|room| room.first_chunk::<6>());
    // Loopback has an address of zeroes, which is nobody's.
    Ok(address.copied().filter(|address| be16(kind, length) == Ok(6) && *address != [0; 6]))
}
