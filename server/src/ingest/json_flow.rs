//! The original agent's word for a flow, and what it is in the protocol.

use std::borrow::Cow;
use std::net::IpAddr;

use netmon_proto::{STATUS_BITS, v1};
use serde::Deserialize;

use super::json_data::{Unused, address, octets, time_or};
use crate::domain::Micros;

#[derive(Deserialize)]
pub(super) struct Flow<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    state: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    flags: Option<Cow<'a, str>>,
    #[serde(borrow)]
    src_ip: Cow<'a, str>,
    #[serde(borrow)]
    dst_ip: Cow<'a, str>,
    #[serde(default)]
    src_port: Option<u32>,
    #[serde(default)]
    dst_port: Option<u32>,
    l4proto: u32,
    #[serde(borrow, default)]
    dir: Option<Cow<'a, str>>,
    #[serde(default)]
    bytes_orig: u64,
    #[serde(default)]
    bytes_reply: u64,
    #[serde(default)]
    packets_orig: u64,
    #[serde(default)]
    packets_reply: u64,
    #[serde(borrow, default)]
    first_seen: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    last_seen: Option<Cow<'a, str>>,
    /// Hashes of names that buckets tell as well.
    #[serde(default)]
    #[expect(dead_code, reason = "a field that is known, so that it does not count as unknown")]
    dns_context: Option<Context>,
}

#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    #[expect(dead_code, reason = "as above")]
    recent_qname_hashes: Option<Vec<Unused>>,
    #[serde(default)]
    #[expect(dead_code, reason = "as above")]
    last_seen: Option<Unused>,
}

impl Flow<'_> {
    pub(super) fn translate(self, time: Micros) -> Result<v1::Flow, String> {
        let phase = match self.event.as_ref() {
            "NEW" | "EventNew" => v1::FlowPhase::New,
            "UPDATE" | "EventUpdate" => v1::FlowPhase::Progress,
            "DESTROY" | "EventDestroy" => v1::FlowPhase::End,
            other => {
                let other = super::printable(other, 40);
                return Err(format!("event is {other:?}, expected NEW, UPDATE or DESTROY"));
            }
        };
        let (src, dst) = (address("src_ip", &self.src_ip)?, address("dst_ip", &self.dst_ip)?);
        let (direction, device, remote) = direction(self.dir.as_deref().unwrap_or("OUT"), src, dst)?;
        let first_seen_us = time_or("first_seen", self.first_seen.as_deref(), time)?;
        Ok(v1::Flow {
            phase: phase.into(),
            // It has none; the engine finds out which flow it is.
            flow_id: u64::MAX,
            protocol: self.l4proto,
            src_ip: octets(src).into(),
            dst_ip: octets(dst).into(),
            src_port: self.src_port.unwrap_or(0),
            dst_port: self.dst_port.unwrap_or(0),
            direction: direction.into(),
            bytes_orig: self.bytes_orig,
            bytes_reply: self.bytes_reply,
            packets_orig: self.packets_orig,
            packets_reply: self.packets_reply,
            first_seen_us,
            last_seen_us: time_or("last_seen", self.last_seen.as_deref(), first_seen_us)?,
            tcp_state: match self.l4proto {
                6 => tcp_state(self.state.as_deref().unwrap_or("")).into(),
                _ => 0,
            },
            status: status_bits(self.flags.as_deref().unwrap_or("")),
            device: device.into(),
            remote: remote.into(),
            ..v1::Flow::default()
        })
    }
}

/// Which end is what. The original agent calls every flow `OUT` and does not know its own addresses, so that what can be
/// told from the addresses is.
fn direction(dir: &str, src: IpAddr, dst: IpAddr) -> Result<(v1::Direction, v1::End, v1::End), String> {
    use v1::{Direction, End};
    match dir {
        "OUT" => Ok(direction_by_addresses(src, dst)),
        "IN" => Ok((Direction::In, end_of(dst, End::Responder), end_of(src, End::Initiator))),
        "FWD" => Ok((Direction::Forward, End::None, end_of(dst, End::Responder))),
        other => Err(format!("dir is {:?}, expected OUT, IN or FWD", super::printable(other, 40))),
    }
}

fn end_of(address: IpAddr, end: v1::End) -> v1::End {
    if is_group(address) { v1::End::None } else { end }
}

/// The direction, which end is a device, and which is outside, where nothing is known but the addresses of the two
/// ends.
pub(crate) fn direction_by_addresses(src: IpAddr, dst: IpAddr) -> (v1::Direction, v1::End, v1::End) {
    use v1::{Direction, End};
    let remote = end_of(dst, End::Responder);
    if is_internal(src) && same_net(src, dst) {
        (Direction::Lan, End::Initiator, End::None)
    } else if is_internal(src) {
        (Direction::Out, End::Initiator, remote)
    } else if is_internal(dst) {
        (Direction::In, End::Responder, end_of(src, End::Initiator))
    } else if src.is_ipv6() {
        // Of IPv6 devices have addresses of the outside; of IPv4 only the router has.
        (Direction::Out, End::Initiator, remote)
    } else {
        (Direction::Local, End::None, remote)
    }
}

/// RFC 1918, RFC 4193, and addresses of the link.
fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether both are of one net as homes have them: /24, /64.
fn same_net(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        _ => false,
    }
}

fn is_group(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_multicast() || address.is_unspecified() || broadcast
}

pub(crate) fn tcp_state(name: &str) -> v1::TcpState {
    v1::TcpState::from_str_name(&format!("TCP_STATE_{}", name.trim_end()))
        .unwrap_or(v1::TcpState::Unspecified)
}

/// The kernel's IPS_* bits, by their names in the order of their places.
pub(crate) fn status_bits(flags: &str) -> u32 {
    flags
        .split('|')
        // The original agent leaves spaces at the end.
        .map(str::trim_end)
        // An older name of the same bit.
        .map(|flag| if flag == "UNTRACKED" { "NAT_CLASH" } else { flag })
        .filter_map(|flag| STATUS_BITS.iter().position(|name| *name == flag))
        .fold(0, |bits, place| bits | 1 << place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_has_its_word() {
        assert_eq!(status_bits(&STATUS_BITS.join("|")), 0xffff);
        assert_eq!(status_bits("SEEN_REPLY|ASSURED|TCP_FLAGS=SYN|ACK/ACK"), 0b110);
        assert_eq!(status_bits("SEEN_REPLY|ASSURED "), 0b110);
        assert_eq!(status_bits("UNTRACKED"), status_bits("NAT_CLASH"));
        assert_eq!(status_bits("dying|"), 0);
    }
}
