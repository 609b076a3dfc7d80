//! What decoding and the flow table cost per event.
//!
//! `cargo bench -p netmon-agent --bench decode`. Messages of a real kernel (`testdata/events.bin`) are
//! copied with ids of their own, 100,000 flows with a NEW and a DESTROY each, and go once through a bare
//! loop that splits datagrams into messages and throws them away, once through the decoder, and once
//! through decoder and flow table. One thread, no socket.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]

use std::{hint::black_box, time::Instant};

use netmon_agent::{
    addresses::AddressBook,
    decode::{Envelopes, Frame, Kind, decode_conntrack},
    flows::{FlowTable, MAX_FLOWS, Moment},
};

const FLOWS: u32 = 100_000;
/// Flows that are open at one time.
const OPEN: usize = 16_384;
const ROUNDS: usize = 5;
const RECORDING: &[u8] = include_bytes!("../testdata/events.bin");
/// `nlmsghdr` and `nfgenmsg`.
const HEADERS: usize = 20;
const CTA_ID: u16 = 12;

fn main() {
    let datagrams = storm();
    println!(
        "{} datagrams of a real kernel's form: {FLOWS} flows, a NEW and a DESTROY each, {OPEN} open at a time; best of {ROUNDS} rounds",
        datagrams.len()
    );
    let bare = best(&datagrams, bare_loop);
    report("split and discard", bare, bare);
    report("decode", best(&datagrams, decode_only), bare);
    report("decode and flow table", best(&datagrams, decode_and_track), bare);
}

fn report(what: &str, nanoseconds: f64, bare: f64) {
    println!("{what:24} {nanoseconds:8.1} ns/event {:8.1} x the bare loop", nanoseconds / bare);
}

fn best(datagrams: &[Vec<u8>], run: fn(&[Vec<u8>]) -> usize) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        assert_eq!(run(datagrams), datagrams.len(), "some message was not understood");
        best = best.min(started.elapsed().as_nanos() as f64 / datagrams.len() as f64);
    }
    best
}

fn bare_loop(datagrams: &[Vec<u8>]) -> usize {
    let frames = datagrams.iter().flat_map(|datagram| Envelopes::new(datagram));
    frames.filter(|frame| matches!(black_box(frame), Ok(Frame::Message { .. }))).count()
}

fn decode_only(datagrams: &[Vec<u8>]) -> usize {
    let frames = datagrams.iter().flat_map(|datagram| Envelopes::new(datagram));
    frames
        .filter(|frame| match frame {
            Ok(Frame::Message { message_type, flags, payload, .. }) => {
                black_box(decode_conntrack(*message_type, *flags, payload)).is_ok()
            }
            _ => false,
        })
        .count()
}

fn decode_and_track(datagrams: &[Vec<u8>]) -> usize {
    let mut table = FlowTable::new(1, 0, MAX_FLOWS, AddressBook::default());
    let mut out = Vec::new();
    let mut events = 0;
    let now = Moment { unix_us: 1_800_000_000_000_000, uptime_ms: 1 };
    for batch in datagrams.chunks(64) {
        for frame in batch.iter().flat_map(|datagram| Envelopes::new(datagram)) {
            let Ok(Frame::Message { message_type, flags, payload, .. }) = frame else { continue };
            match decode_conntrack(message_type, flags, payload) {
                Ok(message) if message.kind == Kind::Destroy => table.on_destroy(&message, now, &mut out),
                Ok(message) => table.on_new(&message, now, &mut out),
                Err(_) => {}
            }
        }
        events += black_box(&out).len();
        out.clear();
    }
    assert!(table.is_empty());
    events
}

/// NEWs and DESTROYs of many flows, mixed such that [`OPEN`] are open.
fn storm() -> Vec<Vec<u8>> {
    let new = first(|kind, flags| kind == 0x100 && flags != 0);
    let destroy = first(|kind, _| kind == 0x102);
    let mut storm = Vec::new();
    for number in 0..FLOWS + OPEN as u32 {
        if number < FLOWS {
            storm.push(with_id(&new, number));
        }
        if let Some(ended) = number.checked_sub(OPEN as u32) {
            storm.push(with_id(&destroy, ended));
        }
    }
    storm
}

/// The first recorded datagram of an IPv4 TCP flow that `wanted` accepts by type and flags.
fn first(wanted: impl Fn(u16, u16) -> bool) -> Vec<u8> {
    let mut rest = RECORDING;
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (datagram, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        rest = tail;
        if let Some(Ok(Frame::Message { message_type, flags, payload, .. })) = Envelopes::new(datagram).next()
            && wanted(message_type, flags)
            && decode_conntrack(message_type, flags, payload)
                .is_ok_and(|message| message.protocol == 6 && !message.v6)
        {
            return datagram.to_vec();
        }
    }
    panic!("the recording has no such message");
}

fn with_id(datagram: &[u8], id: u32) -> Vec<u8> {
    let mut copy = datagram.to_vec();
    let mut place = HEADERS;
    while place + 4 <= copy.len() {
        let length = usize::from(u16::from_ne_bytes([copy[place], copy[place + 1]]));
        if u16::from_ne_bytes([copy[place + 2], copy[place + 3]]) == CTA_ID {
            copy[place + 4..place + 8].copy_from_slice(&id.to_be_bytes());
            return copy;
        }
        place += length.next_multiple_of(4);
    }
    panic!("a message without an id");
}
