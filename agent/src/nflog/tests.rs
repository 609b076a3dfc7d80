use netmon_proto::v1::{Event, event::Kind};
use proptest::prelude::*;

use super::{Fragment, decode_log, parse_packet, report_datagram};
use crate::{
    decode::{DecodeError, Envelopes, Frame},
    dump,
};

/// Recorded by `examples/nflog_capture.rs` on Linux 6.18, x86-64.
const RECORDING: &[u8] = include_bytes!("../../testdata/nflog.bin");

/// The datagrams of a recording.
pub(super) fn datagrams(mut recording: &[u8]) -> Vec<&[u8]> {
    let mut datagrams = Vec::new();
    while let Some((length, rest)) = recording.split_first_chunk::<4>() {
        let (datagram, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        datagrams.push(datagram);
        recording = rest;
    }
    datagrams
}

/// A line per event. Times and indices of interfaces are those of the recording's machine.
fn describe(events: &[Event]) -> String {
    events.iter().map(|event| dump::json(event).to_string() + "\n").collect()
}

#[cfg(target_endian = "little")]
#[test]
fn packets_of_a_real_kernel() {
    let events: Vec<Event> =
        datagrams(RECORDING).into_iter().flat_map(|datagram| report_datagram(datagram, false)).collect();
    insta::assert_snapshot!(describe(&events));
}

#[cfg(target_endian = "little")]
#[test]
fn the_packets_of_a_group_are_numbered() {
    let mut next = [0, 0];
    let mut several = false;
    for datagram in datagrams(RECORDING) {
        several |= Envelopes::new(datagram).count() > 2;
        for frame in Envelopes::new(datagram) {
            let Ok(Frame::Message { message_type, payload, .. }) = frame else { continue };
            let message = decode_log(message_type, payload).expect("a message of the kernel");
            let next = &mut next[usize::from(message.group - 10)];
            assert_eq!(message.sequence, Some(*next));
            *next += 1;
        }
    }
    assert!(several, "no datagram of several packets among the test data");
}

#[test]
fn what_is_no_packet_is_refused() {
    assert_eq!(decode_log(0x0401, &[2, 0, 0, 10]), Err(DecodeError::NotAPacket(0x0401)));
    assert_eq!(decode_log(0x0400, &[2, 0]), Err(DecodeError::TooShort(2)));
    assert_eq!(decode_log(0x0400, &[2, 0, 0, 10, 3, 0, 1, 0]), Err(DecodeError::Attributes));
    assert_eq!(decode_log(0x0400, &[2, 0, 0, 10, 6, 0, 1, 0, 8, 0, 0, 0]), Err(DecodeError::Length(1, 2)));
}

/// An IPv6 packet with these extension headers and bytes behind them.
fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, rest.len() as u8, next, 64];
    bytes.resize(40, 1);
    bytes.extend_from_slice(rest);
    bytes
}

#[test]
fn headers_that_contradict_themselves() {
    assert_eq!(parse_packet(&[]), None);
    assert_eq!(parse_packet(&[0x45; 19]), None, "cut off in the header");
    assert_eq!(parse_packet(&[0x60; 39]), None, "cut off in the header");
    assert_eq!(parse_packet(&[0x55; 40]), None, "no version of IP");
    let mut short = [0; 20];
    short[0] = 0x44;
    assert_eq!(parse_packet(&short), None, "a header shorter than a header");
    (short[0], short[3]) = (0x45, 19);
    assert_eq!(parse_packet(&short), None, "a packet shorter than its header");
    (short[0], short[3], short[9]) = (0x4f, 60, 6);
    let cut = parse_packet(&short).expect("addresses");
    assert!(cut.truncated && cut.transport.is_empty() && cut.protocol == 6, "options cut off");
}

#[test]
fn extension_headers_that_do_not_end() {
    let endless = v6(0, &[0; 200]);
    let packet = parse_packet(&endless).expect("addresses");
    assert!(packet.truncated && packet.transport.is_empty());
    let beyond = v6(60, &[6, 255, 0, 0, 0, 0, 0, 0]);
    assert!(parse_packet(&beyond).expect("addresses").truncated);
    let authenticated = [&[17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 53, 0, 9, 0, 8, 0, 0]].concat();
    let authenticated = v6(51, &authenticated);
    let packet = parse_packet(&authenticated).expect("a packet");
    assert_eq!((packet.protocol, packet.src_port, packet.dst_port, packet.truncated), (17, 53, 9, false));
    let later = v6(44, &[60, 0, 0, 8, 0, 0, 0, 1]);
    let packet = parse_packet(&later).expect("a packet");
    assert_eq!((packet.protocol, packet.fragment, packet.truncated), (60, Fragment::Later, false));
    let nothing = v6(59, &[]);
    let packet = parse_packet(&nothing).expect("a packet");
    assert_eq!((packet.protocol, packet.length, packet.truncated), (59, 40, false));
}

#[test]
fn padding_is_not_the_packets() {
    let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    bytes.extend_from_slice(&[0, 53, 0, 9, 0, 8, 0, 0]);
    bytes.extend_from_slice(&[0xee; 18]);
    assert_eq!(parse_packet(&bytes).expect("a packet").transport.len(), 8);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Cut off, flipped or made up: never a panic, and no event that says more than the packet.
    #[test]
    fn no_bytes_make_it_panic(which in 0..8_usize, cut in 0..700_usize, flips in prop::collection::vec((0..700_usize, any::<u8>()), 0..8), noise in prop::collection::vec(any::<u8>(), 0..120)) {
        let recorded = datagrams(RECORDING);
        let mut datagram = recorded[which % recorded.len()].to_vec();
        datagram.truncate(cut);
        for (place, bits) in flips {
            if let Some(byte) = datagram.get_mut(place) {
                *byte ^= bits;
            }
        }
        for event in report_datagram(&datagram, false) {
            let Some(Kind::FirewallDrop(drop)) = event.kind else { continue };
            prop_assert!(matches!(drop.src_ip.len(), 4 | 16) && drop.src_ip.len() == drop.dst_ip.len());
            prop_assert!(drop.prefix.len() <= 127);
        }
        let _ = parse_packet(&noise);
        let _ = decode_log(0x400, &noise);
    }
}
