//! Packets made by hand and sent once, as no TCP stack would.

use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use super::network::Host;

pub(crate) const SYN: u8 = 2;

/// What is behind an IP header.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Tcp {
        from: u16,
        to: u16,
        flags: u8,
    },
    Udp {
        from: u16,
        to: u16,
        bytes: Vec<u8>,
    },
    Icmp {
        kind: u8,
        code: u8,
    },
    /// A protocol number, and what comes then.
    Raw(u8, Vec<u8>),
}

impl Payload {
    pub(crate) fn protocol(&self, v6: bool) -> u8 {
        match self {
            Self::Tcp { .. } => 6,
            Self::Udp { .. } => 17,
            Self::Icmp { .. } if v6 => 58,
            Self::Icmp { .. } => 1,
            Self::Raw(protocol, _) => *protocol,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let ports = |from: &u16, to: &u16| [from.to_be_bytes(), to.to_be_bytes()].concat();
        match self {
            Self::Tcp { from, to, flags } => {
                let mut bytes = ports(from, to);
                bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes
            }
            Self::Udp { from, to, bytes: payload } => {
                let mut bytes = ports(from, to);
                bytes.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
                bytes.extend_from_slice(&[0; 2]);
                bytes.extend_from_slice(payload);
                bytes
            }
            Self::Icmp { kind, code } => vec![*kind, *code, 0, 0, 0, 7, 0, 1],
            Self::Raw(_, bytes) => bytes.clone(),
        }
    }
}

/// Where a part of a packet belongs: offset in units of eight bytes, and whether more follows.
pub(crate) type Fragment = (u16, bool);

/// A whole IP packet. `fragment` makes it a part of a larger one.
pub(crate) fn packet(src: IpAddr, dst: IpAddr, payload: &Payload, fragment: Option<Fragment>) -> Vec<u8> {
    let body = payload.bytes();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (offset, more) = fragment.unwrap_or_default();
            let mut bytes = vec![0x45, 0];
            bytes.extend_from_slice(&(20 + body.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&77_u16.to_be_bytes());
            bytes.extend_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
            // The kernel fills in the checksum.
            bytes.extend_from_slice(&[64, payload.protocol(false), 0, 0]);
            bytes.extend_from_slice(&src.octets());
            bytes.extend_from_slice(&dst.octets());
            bytes.extend_from_slice(&body);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut next = payload.protocol(true);
            let mut rest = Vec::new();
            if let Some((offset, more)) = fragment {
                rest.extend_from_slice(&[next, 0]);
                rest.extend_from_slice(&(offset << 3 | u16::from(more)).to_be_bytes());
                rest.extend_from_slice(&[0, 0, 0, 77]);
                next = 44;
            }
            rest.extend_from_slice(&body);
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend_from_slice(&(rest.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&[next, 64]);
            bytes.extend_from_slice(&src.octets());
            bytes.extend_from_slice(&dst.octets());
            bytes.extend_from_slice(&rest);
            bytes
        }
        _ => panic!("two families in one packet"),
    }
}

/// Sends whole IP packets from a host, each to the address that it names.
pub(crate) fn send(from: &Host, packets: &[Vec<u8>]) {
    from.within(|| {
        let raw = |family| socket(family, SocketType::RAW, Some(ipproto::RAW)).expect("a raw socket");
        let (v4, v6) = (raw(AddressFamily::INET), raw(AddressFamily::INET6));
        for packet in packets {
            let (socket, address) = if packet[0] >> 4 == 4 {
                (&v4, IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).expect("four bytes")))
            } else {
                (&v6, IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).expect("sixteen bytes")))
            };
            let sent = sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(address, 0));
            assert_eq!(sent.expect("sent"), packet.len());
        }
    });
}
