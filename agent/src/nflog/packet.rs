//! The headers of one IP packet, as far as they were copied.

/// How many extension headers of IPv6 are passed over. Real packets have one or two.
const MOST_EXTENSIONS: usize = 12;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

// Extension headers that have another header behind them (RFC 8200, RFC 6275, RFC 7401, RFC 5533).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// What part of a packet this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    #[default]
    Whole,
    /// The first fragment, with the headers.
    First,
    /// Another fragment: no ports.
    Later,
}

/// What the headers say. Borrows what follows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet<'a> {
    /// True for IPv6.
    pub v6: bool,
    /// Source address; IPv4 fills the first four bytes.
    pub src: [u8; 16],
    /// Destination address, the same way.
    pub dst: [u8; 16],
    /// IANA protocol number, of IPv6 that behind the extension headers.
    pub protocol: u8,
    /// Length by the IP header. Zero: not told (jumbograms).
    pub length: u32,
    /// Which part of a packet it is.
    pub fragment: Fragment,
    /// Something that its protocol has is not there: it was cut off by the sender, or by the copy range.
    pub truncated: bool,
    /// Zero for protocols without ports and for later fragments.
    pub src_port: u16,
    /// The same way.
    pub dst_port: u16,
    /// TCP only.
    pub tcp_flags: u8,
    /// ICMP and ICMPv6: type and code.
    pub icmp: [u8; 2],
    /// From the transport header on, without padding behind the packet. Empty for later fragments.
    pub transport: &'a [u8],
}

/// Reads the headers of a packet. `None`: its IP header is not complete, or contradicts itself.
pub fn parse_packet(bytes: &[u8]) -> Option<Packet<'_>> {
    let mut packet = match bytes.first()? >> 4 {
        4 => v4(bytes)?,
        6 => v6(bytes)?,
        _ => return None,
    };
    if packet.fragment == Fragment::Later {
        packet.transport = &[];
        return Some(packet);
    }
    let there = match packet.protocol {
        TCP => ports(&mut packet) && flags(&mut packet),
        UDP | UDP_LITE | DCCP | SCTP => ports(&mut packet),
        ICMP | ICMP6 => icmp(&mut packet),
        _ => true,
    };
    packet.truncated |= !there;
    Some(packet)
}

fn v4(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = bytes.first_chunk::<20>()?;
    let header_bytes = usize::from(header[0] & 0xf) * 4;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_bytes < header.len() || length != 0 && length < header_bytes {
        return None;
    }
    let mut packet = Packet { protocol: header[9], length: length as u32, ..Packet::default() };
    packet.src[..4].copy_from_slice(&header[12..16]);
    packet.dst[..4].copy_from_slice(&header[16..20]);
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    packet.fragment = kind_of_fragment(fragment & 0x1fff, fragment & 0x2000 != 0);
    match within(bytes, length).get(header_bytes..) {
        Some(transport) => packet.transport = transport,
        None => packet.truncated = true,
    }
    Some(packet)
}

fn v6(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = bytes.first_chunk::<40>()?;
    // Zero: a jumbogram, or nothing behind the header.
    let length = match u16::from_be_bytes([header[4], header[5]]) {
        0 if bytes.len() > header.len() => 0,
        payload => usize::from(payload) + header.len(),
    };
    let mut packet = Packet { v6: true, length: length as u32, ..Packet::default() };
    packet.src.copy_from_slice(&header[8..24]);
    packet.dst.copy_from_slice(&header[24..40]);
    let mut rest = &within(bytes, length)[header.len()..];
    let mut next = header[6];
    for _ in 0..MOST_EXTENSIONS {
        let unit = match next {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => 8,
            AUTHENTICATION => 4,
            FRAGMENT => 0,
            _ => {
                packet.protocol = next;
                packet.transport = rest;
                return Some(packet);
            }
        };
        let Some([following, size, high, low, ..]) = rest.first_chunk::<8>().copied() else { break };
        let size = match next {
            FRAGMENT => {
                let field = u16::from_be_bytes([high, low]);
                packet.fragment = kind_of_fragment(field >> 3, field & 1 != 0);
                8
            }
            // RFC 4302: in units of four bytes, less two.
            AUTHENTICATION => (usize::from(size) + 2) * unit,
            _ => (usize::from(size) + 1) * unit,
        };
        next = following;
        if packet.fragment == Fragment::Later {
            packet.protocol = next;
            return Some(packet);
        }
        match rest.get(size..) {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    // Cut off within the extension headers, or more of them than anyone needs.
    packet.protocol = next;
    packet.truncated = true;
    packet.transport = &[];
    Some(packet)
}

fn kind_of_fragment(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Without the padding of a short Ethernet frame.
fn within(bytes: &[u8], length: usize) -> &[u8] {
    if length == 0 { bytes } else { bytes.get(..length).unwrap_or(bytes) }
}

fn ports(packet: &mut Packet<'_>) -> bool {
    let Some([s0, s1, d0, d1]) = packet.transport.first_chunk().copied() else { return false };
    packet.src_port = u16::from_be_bytes([s0, s1]);
    packet.dst_port = u16::from_be_bytes([d0, d1]);
    true
}

fn flags(packet: &mut Packet<'_>) -> bool {
    packet.tcp_flags = packet.transport.get(13).copied().unwrap_or(0);
    packet.transport.len() >= 14
}

fn icmp(packet: &mut Packet<'_>) -> bool {
    packet.icmp = packet.transport.first_chunk().copied().unwrap_or_default();
    packet.transport.len() >= 2
}
