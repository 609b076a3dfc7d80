//! The attributes of one conntrack entry.

use super::message::{Counters, CtMessage, DecodeError, Kind, Tuple, is_icmp};

/// `nfgenmsg`: family, version, resource id.
const NFGENMSG_BYTES: usize = 4;
const SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_NEW: u16 = 0;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const NLM_F_MULTI: u16 = 0x2;
const NLM_F_CREATE: u16 = 0x400;
/// `nlattr`: length and type. The two highest bits of the type are flags.
const NLA_HEADER_BYTES: usize = 4;
const NLA_TYPE_MASK: u16 = 0x3fff;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

// enum ctattr_type
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_MARK: u16 = 8;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TIMESTAMP: u16 = 20;
const CTA_TIMESTAMP_EVENT: u16 = 27;

// enum ctattr_tuple
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;

// enum ctattr_ip
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

// enum ctattr_l4proto
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;

const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;
const CTA_TIMESTAMP_START: u16 = 1;
const CTA_TIMESTAMP_STOP: u16 = 2;

/// Decodes one netlink message of the conntrack subsystem, without its netlink header.
///
/// # Errors
/// When the message is not an entry, is cut off, or lacks what makes it a flow.
pub fn decode_conntrack(message_type: u16, flags: u16, payload: &[u8]) -> Result<CtMessage, DecodeError> {
    let kind = kind(message_type, flags)?;
    let Some((header, attributes)) = payload.split_at_checked(NFGENMSG_BYTES) else {
        return Err(DecodeError::TooShort(payload.len()));
    };
    let v6 = match header[0] {
        AF_INET => false,
        AF_INET6 => true,
        other => return Err(DecodeError::Family(other)),
    };

    let mut original = None;
    let mut reply = None;
    let mut counters = [None; 2];
    let mut message = CtMessage {
        kind,
        v6,
        protocol: 0,
        original: Tuple::default(),
        reply: Tuple::default(),
        zone: 0,
        id: 0,
        status: None,
        mark: None,
        timeout_s: None,
        counters: None,
        tcp_state: None,
        start_us: 0,
        stop_us: 0,
        event_us: 0,
    };
    walk(attributes, |kind, value| {
        match kind {
            CTA_TUPLE_ORIG => original = Some(half(value, v6)?),
            CTA_TUPLE_REPLY => reply = Some(half(value, v6)?),
            CTA_STATUS => message.status = Some(be32(kind, value)?),
            CTA_PROTOINFO => message.tcp_state = tcp_state(value)?,
            CTA_TIMEOUT => message.timeout_s = Some(be32(kind, value)?),
            CTA_MARK => message.mark = Some(be32(kind, value)?),
            CTA_COUNTERS_ORIG => counters[0] = Some(packets_and_bytes(value)?),
            CTA_COUNTERS_REPLY => counters[1] = Some(packets_and_bytes(value)?),
            CTA_ID => message.id = be32(kind, value)?,
            CTA_ZONE => message.zone = be16(kind, value)?,
            CTA_TIMESTAMP => (message.start_us, message.stop_us) = start_and_stop(value)?,
            CTA_TIMESTAMP_EVENT => message.event_us = microseconds(be64(kind, value)?),
            _ => {}
        }
        Ok(())
    })?;

    let original = original.ok_or(DecodeError::Missing("CTA_TUPLE_ORIG"))?;
    let reply = reply.ok_or(DecodeError::Missing("CTA_TUPLE_REPLY"))?;
    message.protocol = original.protocol;
    message.original = original.tuple;
    message.reply = reply.tuple;
    if message.zone == 0 {
        message.zone = original.zone.or(reply.zone).unwrap_or(0);
    }
    if let [Some((packets_orig, bytes_orig)), Some((packets_reply, bytes_reply))] = counters {
        message.counters = Some(Counters { bytes_orig, bytes_reply, packets_orig, packets_reply });
    }
    Ok(message)
}

fn kind(message_type: u16, flags: u16) -> Result<Kind, DecodeError> {
    if message_type >> 8 != SUBSYS_CTNETLINK {
        return Err(DecodeError::NotAnEntry(message_type));
    }
    match message_type & 0xff {
        IPCTNL_MSG_CT_DELETE => Ok(Kind::Destroy),
        IPCTNL_MSG_CT_NEW if flags & NLM_F_MULTI != 0 => Ok(Kind::Row),
        IPCTNL_MSG_CT_NEW if flags & NLM_F_CREATE != 0 => Ok(Kind::New),
        IPCTNL_MSG_CT_NEW => Ok(Kind::Update),
        _ => Err(DecodeError::NotAnEntry(message_type)),
    }
}

/// A tuple with what it says about the whole entry.
struct Half {
    tuple: Tuple,
    protocol: u8,
    zone: Option<u16>,
}

fn half(value: &[u8], v6: bool) -> Result<Half, DecodeError> {
    let mut half = Half { tuple: Tuple::default(), protocol: 0, zone: None };
    let (mut addresses, mut protocol) = (0, None);
    walk(value, |kind, value| {
        match kind {
            CTA_TUPLE_IP => addresses = ip(value, v6, &mut half.tuple)?,
            CTA_TUPLE_PROTO => protocol = l4(value, &mut half.tuple)?,
            CTA_TUPLE_ZONE => half.zone = Some(be16(kind, value)?),
            _ => {}
        }
        Ok(())
    })?;
    if addresses != 2 {
        return Err(DecodeError::Missing("an address of a tuple"));
    }
    half.protocol = protocol.ok_or(DecodeError::Missing("CTA_PROTO_NUM"))?;
    Ok(half)
}

/// Fills in the addresses and says how many there were.
fn ip(value: &[u8], v6: bool, tuple: &mut Tuple) -> Result<u32, DecodeError> {
    let (mut src, mut dst) = (false, false);
    walk(value, |kind, value| {
        let (target, seen) = match kind {
            CTA_IP_V4_SRC if !v6 => (&mut tuple.src, &mut src),
            CTA_IP_V4_DST if !v6 => (&mut tuple.dst, &mut dst),
            CTA_IP_V6_SRC if v6 => (&mut tuple.src, &mut src),
            CTA_IP_V6_DST if v6 => (&mut tuple.dst, &mut dst),
            _ => return Ok(()),
        };
        let length = if v6 { 16 } else { 4 };
        if value.len() != length {
            return Err(DecodeError::Length(kind, value.len()));
        }
        target[..length].copy_from_slice(value);
        *seen = true;
        Ok(())
    })?;
    Ok(u32::from(src) + u32::from(dst))
}

fn l4(value: &[u8], tuple: &mut Tuple) -> Result<Option<u8>, DecodeError> {
    let mut protocol = None;
    let (mut ports, mut icmp_id, mut icmp_type, mut icmp_code) = ([0, 0], 0, 0, 0);
    walk(value, |kind, value| {
        match kind {
            CTA_PROTO_NUM => protocol = Some(u8_of(kind, value)?),
            CTA_PROTO_SRC_PORT => ports[0] = be16(kind, value)?,
            CTA_PROTO_DST_PORT => ports[1] = be16(kind, value)?,
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => icmp_id = be16(kind, value)?,
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => icmp_type = u8_of(kind, value)?,
            CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => icmp_code = u8_of(kind, value)?,
            _ => {}
        }
        Ok(())
    })?;
    if protocol.is_some_and(is_icmp) {
        ports = [icmp_id, u16::from_be_bytes([icmp_type, icmp_code])];
    }
    [tuple.src_port, tuple.dst_port] = ports;
    Ok(protocol)
}

fn tcp_state(value: &[u8]) -> Result<Option<u8>, DecodeError> {
    let mut state = None;
    walk(value, |kind, value| {
        if kind == CTA_PROTOINFO_TCP {
            walk(value, |kind, value| {
                if kind == CTA_PROTOINFO_TCP_STATE {
                    state = Some(u8_of(kind, value)?);
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    Ok(state)
}

fn packets_and_bytes(value: &[u8]) -> Result<(u64, u64), DecodeError> {
    let mut pair = (0, 0);
    walk(value, |kind, value| {
        match kind {
            CTA_COUNTERS_PACKETS => pair.0 = be64(kind, value)?,
            CTA_COUNTERS_BYTES => pair.1 = be64(kind, value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(pair)
}

fn start_and_stop(value: &[u8]) -> Result<(i64, i64), DecodeError> {
    let mut pair = (0, 0);
    walk(value, |kind, value| {
        match kind {
            CTA_TIMESTAMP_START => pair.0 = microseconds(be64(kind, value)?),
            CTA_TIMESTAMP_STOP => pair.1 = microseconds(be64(kind, value)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(pair)
}

/// The kernel's nanoseconds; a u64 divided by a thousand always fits.
fn microseconds(nanoseconds: u64) -> i64 {
    (nanoseconds / 1000) as i64
}

/// Calls `each` with type and value of every attribute.
///
/// netlink-packet-core's iterator would do, but with the error type that it carries around it is several times as slow, and a router
/// walks some forty attributes per event.
pub(crate) fn walk<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u16, &'a [u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        let [l0, l1, t0, t1] = *bytes.first_chunk().ok_or(DecodeError::Attributes)?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(NLA_HEADER_BYTES..length).ok_or(DecodeError::Attributes)?;
        each(u16::from_ne_bytes([t0, t1]) & NLA_TYPE_MASK, value)?;
        // The last attribute need not be padded.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

fn u8_of(kind: u16, value: &[u8]) -> Result<u8, DecodeError> {
    match value {
        [byte] => Ok(*byte),
        _ => Err(DecodeError::Length(kind, value.len())),
    }
}

pub(crate) fn be16(kind: u16, value: &[u8]) -> Result<u16, DecodeError> {
    value.try_into().map(u16::from_be_bytes).map_err(|_| DecodeError::Length(kind, value.len()))
}

pub(crate) fn be32(kind: u16, value: &[u8]) -> Result<u32, DecodeError> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| DecodeError::Length(kind, value.len()))
}

fn be64(kind: u16, value: &[u8]) -> Result<u64, DecodeError> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| DecodeError::Length(kind, value.len()))
}
