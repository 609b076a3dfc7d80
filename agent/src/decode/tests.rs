use std::fmt::Write;

use proptest::prelude::*;

use super::{CtMessage, DecodeError, Envelopes, Frame, FrameError, Kind, decode_conntrack};
use crate::decode::is_icmp;

/// Recorded by `examples/conntrack_capture.rs` on Linux 6.18, x86-64.
const EVENTS: &[u8] = include_bytes!("../../testdata/events.bin");
const DUMP: &[u8] = include_bytes!("../../testdata/dump.bin");

/// The datagrams of a recording.
fn datagrams(mut recording: &[u8]) -> Vec<&[u8]> {
    let mut datagrams = Vec::new();
    while let Some((length, rest)) = recording.split_first_chunk::<4>() {
        let (datagram, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        datagrams.push(datagram);
        recording = rest;
    }
    datagrams
}

/// One line a message.
fn describe(message: &CtMessage) -> String {
    let CtMessage { original, reply, .. } = message;
    let arrow = |tuple: &super::Tuple| {
        let ip = |bytes: &[u8; 16]| {
            let short = CtMessage { original: super::Tuple { src: *bytes, ..*tuple }, ..*message };
            short.initiator().to_string()
        };
        let port = if is_icmp(message.protocol) {
            format!("id {}", u8::from(tuple.src_port > 0))
        } else {
            tuple.src_port.to_string()
        };
        format!("{} {} > {} {}", ip(&tuple.src), port, ip(&tuple.dst), tuple.dst_port)
    };
    let mut line = format!("{:?} {} {} | {}", message.kind, message.protocol, arrow(original), arrow(reply));
    let _ = write!(
        line,
        " | zone {} mark {:?} status {:x?} tcp {:?}",
        message.zone, message.mark, message.status, message.tcp_state
    );
    if let Some(counters) = message.counters {
        let _ = write!(
            line,
            " | {} / {} bytes, {} / {} packets",
            counters.bytes_orig, counters.bytes_reply, counters.packets_orig, counters.packets_reply
        );
    }
    // What differs from recording to recording is shown as being there.
    let _ = write!(
        line,
        " | id {} timeout {} start {} stop {} event {}",
        message.id != 0,
        message.timeout_s.is_some(),
        message.start_us > 1_700_000_000_000_000,
        message.stop_us > message.start_us,
        message.event_us > 1_700_000_000_000_000
    );
    line
}

/// Everything in a recording but ports that the kernel chose.
fn check(recording: &[u8]) -> String {
    let mut text = String::new();
    for datagram in datagrams(recording) {
        for frame in Envelopes::new(datagram) {
            match frame {
                Ok(Frame::Message { message_type, flags, payload, interrupted }) => {
                    assert!(!interrupted);
                    let message =
                        decode_conntrack(message_type, flags, payload).expect("a message of the kernel");
                    text.push_str(&describe(&message));
                }
                other => text.push_str(&format!("{other:?}")),
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(target_endian = "little")]
#[test]
fn events_of_a_real_kernel() {
    insta::assert_snapshot!(check(EVENTS));
}

#[cfg(target_endian = "little")]
#[test]
fn a_dump_of_a_real_kernel() {
    insta::assert_snapshot!(check(DUMP));
    let rows = datagrams(DUMP).iter().map(|datagram| Envelopes::new(datagram).count()).max();
    assert!(rows > Some(1), "no datagram of several messages among the test data");
}

/// A netlink message around a payload.
fn message(message_type: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(16 + payload.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(&message_type.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn control_messages() {
    let mut datagram = message(2, 0, &(-libc::EPERM).to_ne_bytes());
    datagram.extend(message(1, 0, &[]));
    datagram.extend(message(0x100, 0x10, &[1, 2, 3]));
    datagram.push(0);
    datagram.extend(message(3, 0x10, &0_i32.to_ne_bytes()));
    datagram.extend(message(3, 0, &(-libc::ENOMEM).to_ne_bytes()));
    datagram.extend(message(2, 0, &i32::MIN.to_ne_bytes()));
    datagram.extend_from_slice(&[8, 0, 0]);
    let frames: Vec<_> = Envelopes::new(&datagram).collect();
    let length = datagram.len() - 3;
    assert_eq!(
        frames,
        [
            Ok(Frame::Error(libc::EPERM)),
            Ok(Frame::Message { message_type: 0x100, flags: 0x10, payload: &[1, 2, 3], interrupted: true }),
            Ok(Frame::Done { errno: 0, interrupted: true }),
            Ok(Frame::Done { errno: libc::ENOMEM, interrupted: false }),
            Ok(Frame::Error(i32::MAX)),
            Err(FrameError(length)),
        ]
    );
}

#[test]
fn what_is_no_entry_is_refused() {
    let refused = |message_type, payload: &[u8]| decode_conntrack(message_type, 0, payload).unwrap_err();
    assert_eq!(refused(0x0a00, &[2, 0, 0, 0]), DecodeError::NotAnEntry(0x0a00));
    assert_eq!(refused(0x0105, &[2, 0, 0, 0]), DecodeError::NotAnEntry(0x0105));
    assert_eq!(refused(0x0100, &[2, 0]), DecodeError::TooShort(2));
    assert_eq!(refused(0x0100, &[7, 0, 0, 0]), DecodeError::Family(7));
    assert_eq!(refused(0x0100, &[2, 0, 0, 0]), DecodeError::Missing("CTA_TUPLE_ORIG"));
    assert_eq!(refused(0x0100, &[2, 0, 0, 0, 3, 0, 1, 0]), DecodeError::Attributes);
    let status_of_three_bytes = [2, 0, 0, 0, 7, 0, 3, 0, 1, 1, 1, 0];
    assert_eq!(refused(0x0100, &status_of_three_bytes), DecodeError::Length(3, 3));
}

/// The first DESTROY of the recording, as header and payload.
fn a_destroy() -> (u16, u16, Vec<u8>) {
    let found = datagrams(EVENTS).into_iter().find_map(|datagram| match Envelopes::new(datagram).next() {
        Some(Ok(Frame::Message { message_type: message_type @ 0x102, flags, payload, .. })) => {
            Some((message_type, flags, payload.to_vec()))
        }
        _ => None,
    });
    found.expect("a DESTROY among the test data")
}

#[cfg(target_endian = "little")]
#[test]
fn the_kind_is_in_type_and_flags() {
    let (_, _, payload) = a_destroy();
    let kind = |message_type, flags| decode_conntrack(message_type, flags, &payload).unwrap().kind;
    assert_eq!(kind(0x102, 0), Kind::Destroy);
    assert_eq!(kind(0x100, 0x600), Kind::New);
    assert_eq!(kind(0x100, 0x2), Kind::Row);
    assert_eq!(kind(0x100, 0), Kind::Update);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Cut off, flipped or made up: an error or a message, never a panic, and an end.
    #[test]
    fn no_bytes_make_it_panic(cut in 0..400_usize, flips in prop::collection::vec((0..400_usize, any::<u8>()), 0..8), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let (message_type, flags, mut payload) = a_destroy();
        payload.truncate(cut);
        for (place, bits) in flips {
            if let Some(byte) = payload.get_mut(place) {
                *byte ^= bits;
            }
        }
        let _ = decode_conntrack(message_type, flags, &payload);
        let _ = decode_conntrack(message_type, flags, &noise);
        let mut datagram = message(message_type, flags, &payload);
        datagram.extend_from_slice(&noise);
        prop_assert!(Envelopes::new(&datagram).count() <= datagram.len());
    }
}
