//! DNS responses that firewall rules logged, as packets.

use std::net::IpAddr;

use bytes::Bytes;
use netmon_proto::v1::{Event, event::Kind};

use super::{
    dns::{Unreported, read_message},
    message::LogMessage,
    packet::{Fragment, Packet, parse_packet},
    state::NflogState,
};
use crate::{decode::address_bytes, flows::Moment};

const DNS_PORT: u16 = 53;
const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEADER_BYTES: usize = 8;

/// What became of packets and the messages in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DnsCounts {
    pub(super) reported: u64,
    /// Not from port 53, or no response.
    pub(super) other: u64,
    /// TC is set: the client asks again over TCP.
    pub(super) truncated: u64,
    /// Not all of the message was in the packet.
    pub(super) partial: u64,
    pub(super) malformed: u64,
    /// Records of responses with too many.
    pub(super) records_left_out: u64,
}

/// Appends what there is to report about one logged packet.
pub(super) fn take(message: &LogMessage<'_>, now: Moment, state: &mut NflogState, out: &mut Vec<Event>) {
    if !message.is_ip() {
        state.count_ignored(message.family);
        return;
    }
    let Some(packet) = parse_packet(message.payload) else {
        state.parse_errors += 1;
        return;
    };
    state.count(message.group, message.prefix);
    let counts = &mut state.dns;
    if packet.fragment != Fragment::Whole {
        state.fragments += 1;
        counts.partial += 1;
        return;
    }
    match (packet.protocol, packet.src_port) {
        (UDP, DNS_PORT) => match udp_payload(&packet) {
            Some(bytes) => take_message(bytes, message, &packet, now, counts, out),
            None => counts.partial += 1,
        },
        (TCP, DNS_PORT) => {
            let whole = each_in_segment(tcp_payload(&packet), |bytes| {
                take_message(bytes, message, &packet, now, counts, out);
            });
            counts.partial += u64::from(!whole);
        }
        _ => counts.other += 1,
    }
}

fn take_message(
    bytes: &[u8],
    message: &LogMessage<'_>,
    packet: &Packet<'_>,
    now: Moment,
    counts: &mut DnsCounts,
    out: &mut Vec<Event>,
) {
    match read_message(bytes) {
        Ok(reading) => {
            counts.reported += 1;
            counts.records_left_out += u64::from(reading.records_left_out);
            let address = |bytes| Bytes::copy_from_slice(address_bytes(bytes, packet.v6));
            let mut response = reading.response;
            response.client_ip = address(&packet.dst);
            if !message.is_the_hosts_own() {
                response.resolver_ip = address(&packet.src);
            }
            out.push(Event { time_us: now.unix_us, kind: Some(Kind::DnsResponse(response)) });
        }
        Err(Unreported::NotAResponse) => counts.other += 1,
        Err(Unreported::Truncated) => counts.truncated += 1,
        Err(Unreported::Malformed) => {
            tracing::debug!(client = %IpAddr::from(packet.dst), bytes = bytes.len(), "malformed DNS response");
            counts.malformed += 1;
        }
    }
}

/// `None`: not all of it is there.
fn udp_payload<'a>(packet: &Packet<'a>) -> Option<&'a [u8]> {
    let length = packet.transport.get(4..6)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    packet.transport.get(UDP_HEADER_BYTES..length)
}

fn tcp_payload<'a>(packet: &Packet<'a>) -> &'a [u8] {
    let header_bytes = packet.transport.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    // Less than a header is no offset of a payload.
    packet.transport.get(header_bytes.max(20)..).unwrap_or_default()
}

/// Calls `take` with each message of a segment, RFC 1035 4.2.2. False: the last one goes on in another segment,
/// or begins in an earlier one.
fn each_in_segment(mut bytes: &[u8], mut take: impl FnMut(&[u8])) -> bool {
    while !bytes.is_empty() {
        let Some(([high, low], rest)) = bytes.split_first_chunk().map(|(length, rest)| (*length, rest))
        else {
            return false;
        };
        let Some((message, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))
        else {
            return false;
        };
        take(message);
        bytes = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_segment() {
        let check = |bytes: &[u8], expected: &[&[u8]], whole: bool| {
            let mut messages = Vec::new();
            let ended = each_in_segment(bytes, |message| messages.push(message.to_vec()));
            assert_eq!((messages, ended), (expected.iter().map(|bytes| bytes.to_vec()).collect(), whole));
        };
        check(&[], &[], true);
        check(&[0, 2, 7, 8], &[&[7, 8]], true);
        check(&[0, 2, 7, 8, 0, 1, 9], &[&[7, 8], &[9]], true);
        check(&[0, 2, 7, 8, 0, 2, 9], &[&[7, 8]], false);
        check(&[0], &[], false);
        check(&[0xff, 0xff, 1], &[], false);
    }
}
