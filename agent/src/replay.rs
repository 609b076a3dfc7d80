//! `--replay FILE`: recorded messages of a kernel in place of the kernel, for a host that may not watch its own,
//! or has none. With `--dump` the events are printed, else they are delivered to the server once.
//!
//! A recording is what `examples/conntrack_capture.rs` writes: datagrams of conntrack, each after its length,
//! of a little-endian machine.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use netmon_proto::v1::Event;
use tokio::time::{Instant, timeout_at};

use crate::{
    addresses::AddressBook,
    config::Config,
    decode::{Envelopes, Frame, Kind, decode_conntrack},
    flows::{FlowTable, Moment},
    host,
    spool::{Spool, SpoolConfig},
    transport::{Transport, TransportConfig},
};

/// More than any recording that is of use.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// `NLA_F_NESTED` of linux/netlink.h.
const NESTED: u16 = 0x8000;
/// What delivery may take.
const DELIVERY: Duration = Duration::from_secs(20);

/// The events of a recording, as if it were heard now.
///
/// # Errors
/// The file cannot be read, or is no recording.
pub fn events(file: &Path) -> anyhow::Result<Vec<Event>> {
    let shown = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("{shown}: cannot be read"))?.len();
    if size > MOST_BYTES {
        bail!("{shown}: expected a recording of at most {MOST_BYTES} bytes, found {size}");
    }
    let recording = std::fs::read(file).with_context(|| format!("{shown}: cannot be read"))?;
    let now_us = host::now_us();
    let now = Moment { unix_us: now_us, uptime_ms: 0 };
    // The same on each machine and in each run, but for the time.
    let mut table = FlowTable::new(1, now_us, 65_536, AddressBook::default());
    let mut out = Vec::new();
    let Some(datagrams) = datagrams(&recording) else {
        bail!("{shown}: expected a recording: datagrams, each after its length");
    };
    for mut datagram in datagrams {
        if cfg!(target_endian = "big") {
            swap_datagram(&mut datagram);
        }
        for frame in Envelopes::new(&datagram) {
            let Ok(Frame::Message { message_type, flags, payload, .. }) = frame else { continue };
            match decode_conntrack(message_type, flags, payload) {
                Ok(message) => match message.kind {
                    Kind::New => table.on_new(&message, now, &mut out),
                    Kind::Destroy => table.on_destroy(&message, now, &mut out),
                    Kind::Row | Kind::Update => {}
                },
                Err(error) => bail!("{shown}: a message is not understood: {error}"),
            }
        }
    }
    if out.is_empty() {
        bail!("{shown}: no connection begins or ends in it");
    }
    Ok(out)
}

/// Delivers the events of a recording by the road of every event: spool, stream, ack.
///
/// # Errors
/// The spool or the server takes them not.
pub async fn deliver(config: &Config, events: Vec<Event>) -> anyhow::Result<u64> {
    let spool = SpoolConfig {
        dir: config.spool_dir.clone(),
        max_bytes: config.spool_max_bytes,
        fsync: false,
        memory_events: config.queue_depth,
    };
    let mut spool = Spool::open(spool, rand::random_range(1..=u64::MAX))?;
    let mut transport = Transport::new(TransportConfig::new(config)?);
    let mut rest = &events[..];
    while !rest.is_empty() {
        let taken = spool.append(rest);
        if taken == 0 {
            bail!("the spool takes no more: make room in spool_dir, or raise spool_max_bytes");
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    let limit = Instant::now() + DELIVERY;
    loop {
        transport.pump(&mut spool);
        if spool.drained() {
            return Ok(transport.stats().accepted);
        }
        let Ok(wake) = timeout_at(limit, transport.wait()).await else {
            bail!("the server did not take everything within {DELIVERY:?}; the rest is in the spool");
        };
        transport.advance(wake, &mut spool);
    }
}

/// None: a length leads past the end.
fn datagrams(mut recording: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut datagrams = Vec::new();
    while let Some((length, rest)) = recording.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        datagrams.push(rest.get(..length)?.to_vec());
        recording = &rest[length..];
    }
    recording.is_empty().then_some(datagrams)
}

/// Turns the headers of a little-endian kernel into those that a big-endian one would write. What is within
/// attributes is in network order everywhere.
fn swap_datagram(datagram: &mut [u8]) {
    let mut rest = datagram;
    while let Some((header, _)) = rest.split_first_chunk_mut::<16>() {
        let length = usize::try_from(u32::from_le_bytes([header[0], header[1], header[2], header[3]]));
        // struct nlmsghdr: length, type, flags, sequence, port.
        for field in [0..4, 4..6, 6..8, 8..12, 12..16] {
            header[field].reverse();
        }
        let Some(length) = length.ok().filter(|length| (16..=rest.len()).contains(length)) else { return };
        let (message, after) = std::mem::take(&mut rest).split_at_mut(length);
        // struct nfgenmsg is two bytes and one number in network order.
        if let Some(attributes) = message.get_mut(20..) {
            swap_attributes(attributes);
        }
        rest = after;
    }
}

fn swap_attributes(attributes: &mut [u8]) {
    let mut rest = attributes;
    while let Some((header, _)) = rest.split_first_chunk_mut::<4>() {
        let length = usize::from(u16::from_le_bytes([header[0], header[1]]));
        let nested = u16::from_le_bytes([header[2], header[3]]) & NESTED != 0;
        header[..2].reverse();
        header[2..].reverse();
        if !(4..=rest.len()).contains(&length) {
            return;
        }
        let padded = length.next_multiple_of(4).min(rest.len());
        let (attribute, after) = std::mem::take(&mut rest).split_at_mut(padded);
        if nested && let Some(inner) = attribute.get_mut(4..length) {
            swap_attributes(inner);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use netmon_proto::v1::{FlowPhase, event};

    use super::*;

    const EVENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/events.bin");

    fn phases(events: &[Event]) -> Vec<FlowPhase> {
        let phase = |event: &Event| match &event.kind {
            Some(event::Kind::Flow(flow)) => Some(flow.phase()),
            _ => None,
        };
        events.iter().filter_map(phase).collect()
    }

    #[test]
    fn a_recording_is_heard_like_a_kernel() {
        let phases = phases(&events(Path::new(EVENTS)).expect("a recording"));
        let of = |wanted: FlowPhase| phases.iter().filter(|phase| **phase == wanted).count();
        assert!(of(FlowPhase::New) >= 5, "{phases:?}");
        assert_eq!(of(FlowPhase::New), of(FlowPhase::End), "each began and ended");
    }

    #[test]
    fn headers_are_swapped_and_nothing_else() {
        let little = [
            &[36, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 6, 0, 0, 0][..],
            &[2, 0, 0, 9],
            &[16, 0, 1, 0x80, 8, 0, 2, 0, 0xa, 0xb, 0xc, 0xd, 5, 0, 3, 0][..16],
        ];
        let big = [
            &[0, 0, 0, 36, 2, 1, 4, 3, 0, 0, 0, 5, 0, 0, 0, 6][..],
            &[2, 0, 0, 9],
            &[0, 16, 0x80, 1, 0, 8, 0, 2, 0xa, 0xb, 0xc, 0xd, 0, 5, 0, 3][..16],
        ];
        let mut datagram = little.concat().repeat(2);
        swap_datagram(&mut datagram);
        assert_eq!(datagram, big.concat().repeat(2));
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (bytes, expected) in [
            (&[][..], "no connection begins or ends"),
            (&[1, 2, 3], "expected a recording"),
            (&[0xff, 0xff, 0xff, 0xff, 1], "expected a recording"),
        ] {
            std::fs::write(file.path(), bytes).expect("written");
            let error = events(file.path()).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
        for hostile in [vec![0; 16], vec![0xff; 40], [16, 0, 0, 0].repeat(8)] {
            swap_datagram(&mut hostile.clone());
            swap_attributes(&mut hostile.clone());
        }
    }
}
