//! The harness's own reader of conntrack over netlink (linux/netfilter/nfnetlink_conntrack.h). It shares no
//! code with the agent, so that an error there is not repeated here.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail, ensure};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};

use crate::namespaces::Place;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP.
const DUMP_REQUEST: u16 = 0x1 | 0x300;
/// NFNL_SUBSYS_CTNETLINK << 8, with IPCTNL_MSG_CT_NEW, _GET, _DELETE in the low byte.
const CT_NEW: u16 = 0x100;
const CT_GET: u16 = 0x101;
const CT_DELETE: u16 = 0x102;
/// The multicast group NFNLGRP_CONNTRACK_DESTROY, as bind(2) takes it.
const DESTROY_GROUP: u32 = 1 << 2;
/// Netlink header and nfgenmsg.
const HEADERS: usize = 16 + 4;
/// More than the kernel puts into one datagram.
const BUFFER_BYTES: usize = 256 * 1024;
/// For the listener, so that it can fall behind by a few ten thousand events.
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;

/// What a flow is known by: an original tuple.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    /// IANA number.
    pub(crate) protocol: u8,
    /// Who sent the first packet.
    pub(crate) src: IpAddr,
    /// To whom.
    pub(crate) dst: IpAddr,
    /// What tells flows between the two apart.
    pub(crate) detail: Detail,
}

/// The part of a tuple that depends on its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Detail {
    /// TCP and UDP: source and destination.
    Ports(u16, u16),
    /// ICMP and ICMPv6: type, code and identifier.
    Icmp(u8, u8, u16),
}

/// The kernel's counters of a flow.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Counters {
    /// In the direction of the first packet.
    pub(crate) bytes_orig: u64,
    /// In the other.
    pub(crate) bytes_reply: u64,
    /// In the direction of the first packet.
    pub(crate) packets_orig: u64,
    /// In the other.
    pub(crate) packets_reply: u64,
}

/// A conntrack entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its original tuple.
    pub(crate) key: FlowKey,
    /// The source of its reply tuple: the far end after destination NAT.
    pub(crate) responder: IpAddr,
    /// As of now, or its last ones.
    pub(crate) counters: Counters,
    /// CTA_ID.
    pub(crate) id: u32,
    /// CTA_TIMESTAMP_START, in nanoseconds. Zero where the kernel keeps none.
    pub(crate) start_ns: u64,
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, src, dst, detail } = self;
        write!(f, "proto {protocol} {src} -> {dst} {detail:?}")
    }
}

/// A socket that hears the end of every flow in a place.
pub(crate) fn subscribe(place: Place) -> anyhow::Result<OwnedFd> {
    let socket = place.within(|| netlink_socket(DESTROY_GROUP))?;
    // Beyond net.core.rmem_max this takes a privilege of the host. Without it the listener must be quick.
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
    }
    Ok(socket)
}

/// Waits for the next entries that ended.
pub(crate) fn receive_ended(socket: &OwnedFd, buffer: &mut Vec<u8>) -> anyhow::Result<Vec<Entry>> {
    let mut ended = Vec::new();
    for (kind, payload) in receive(socket, buffer)? {
        ensure!(kind == CT_DELETE, "message {kind:#x} from a group that carries ends alone");
        ended.push(decode(payload)?);
    }
    Ok(ended)
}

/// All entries of a place. The kernel ends those whose time is over as it walks past them, so this also
/// brings overdue ends about.
pub(crate) fn dump(place: Place) -> anyhow::Result<Vec<Entry>> {
    let socket = place.within(|| netlink_socket(0))?;
    let mut request = Vec::new();
    request.extend((HEADERS as u32).to_ne_bytes());
    request.extend(CT_GET.to_ne_bytes());
    request.extend(DUMP_REQUEST.to_ne_bytes());
    // Sequence, port, and nfgenmsg with AF_UNSPEC: both families.
    request.resize(HEADERS, 0);
    send(&socket, &request, SendFlags::empty())?;
    let mut entries = Vec::new();
    let mut buffer = Vec::new();
    loop {
        for (kind, payload) in receive(&socket, &mut buffer)? {
            match kind {
                CT_NEW => entries.push(decode(payload)?),
                NLMSG_DONE => return Ok(entries),
                NLMSG_ERROR => bail!("the kernel refuses to dump conntrack: {payload:?}"),
                other => bail!("message {other:#x} in a dump of conntrack"),
            }
        }
    }
}

fn netlink_socket(groups: u32) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// One datagram's messages: their types, and what follows the netlink header.
fn receive<'a>(socket: &OwnedFd, buffer: &'a mut Vec<u8>) -> anyhow::Result<Vec<(u16, &'a [u8])>> {
    buffer.resize(BUFFER_BYTES, 0);
    let (_, length) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    let mut rest = buffer.get(..length).context("a datagram larger than the buffer")?;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(take(rest, 0)?) as usize;
        let kind = u16::from_ne_bytes(take(rest, 4)?);
        messages.push((kind, rest.get(16..length).context("a message cut short")?));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages)
}

/// An entry from what follows the netlink header.
fn decode(payload: &[u8]) -> anyhow::Result<Entry> {
    let fields = attributes(payload.get(4..).context("no nfgenmsg")?)?;
    let key = tuple(fields.get(&1).context("no CTA_TUPLE_ORIG")?)?;
    let reply = tuple(fields.get(&2).context("no CTA_TUPLE_REPLY")?)?;
    let (packets_orig, bytes_orig) = counters(fields.get(&9))?;
    let (packets_reply, bytes_reply) = counters(fields.get(&10))?;
    let start_ns = match fields.get(&20) {
        Some(stamps) => attributes(stamps)?.get(&1).map_or(Ok(0), |start| number(start))?,
        None => 0,
    };
    Ok(Entry {
        key,
        responder: reply.src,
        counters: Counters { bytes_orig, bytes_reply, packets_orig, packets_reply },
        id: u32::from_be_bytes(take(fields.get(&12).context("no CTA_ID")?, 0)?),
        start_ns,
    })
}

/// CTA_COUNTERS_*: packets and bytes. Absent without accounting.
fn counters(nest: Option<&&[u8]>) -> anyhow::Result<(u64, u64)> {
    let Some(nest) = nest else { return Ok((0, 0)) };
    let fields = attributes(nest)?;
    Ok((
        number(fields.get(&1).context("no CTA_COUNTERS_PACKETS")?)?,
        number(fields.get(&2).context("no CTA_COUNTERS_BYTES")?)?,
    ))
}

/// CTA_TUPLE_*.
fn tuple(nest: &[u8]) -> anyhow::Result<FlowKey> {
    let fields = attributes(nest)?;
    let ip = attributes(fields.get(&1).context("no CTA_TUPLE_IP")?)?;
    let address = |v4: u16, v6: u16| -> anyhow::Result<IpAddr> {
        match (ip.get(&v4), ip.get(&v6)) {
            (Some(bytes), _) => Ok(Ipv4Addr::from(take::<4>(bytes, 0)?).into()),
            (None, Some(bytes)) => Ok(Ipv6Addr::from(take::<16>(bytes, 0)?).into()),
            (None, None) => bail!("a tuple without an address"),
        }
    };
    let proto = attributes(fields.get(&2).context("no CTA_TUPLE_PROTO")?)?;
    let byte = |kind: u16| proto.get(&kind).and_then(|value| value.first()).copied();
    let short = |kind: u16| match proto.get(&kind) {
        Some(value) => take(value, 0).map(u16::from_be_bytes),
        None => Ok(0),
    };
    let protocol = byte(1).context("no CTA_PROTO_NUM")?;
    let detail = match protocol {
        1 => Detail::Icmp(byte(5).context("no type")?, byte(6).context("no code")?, short(4)?),
        58 => Detail::Icmp(byte(8).context("no type")?, byte(9).context("no code")?, short(7)?),
        _ => Detail::Ports(short(2)?, short(3)?),
    };
    Ok(FlowKey { protocol, src: address(1, 3)?, dst: address(2, 4)?, detail })
}

/// The attributes of one level, by type without the flags for nesting and byte order.
fn attributes(mut rest: &[u8]) -> anyhow::Result<HashMap<u16, &[u8]>> {
    let mut found = HashMap::new();
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes(take(rest, 0)?));
        let kind = u16::from_ne_bytes(take(rest, 2)?) & 0x3fff;
        found.insert(kind, rest.get(4..length).context("an attribute cut short")?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

fn number(bytes: &[u8]) -> anyhow::Result<u64> {
    Ok(u64::from_be_bytes(take(bytes, 0)?))
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    let part = bytes.get(at..at + N).context("a value cut short")?;
    Ok(part.try_into()?)
}
