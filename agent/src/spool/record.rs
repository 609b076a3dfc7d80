//! The framing of one batch: `[len u32 LE][crc32 u32 LE][encoded Batch]`.
//!
//! The checksum covers the length bytes as well, so that a flipped length is noticed like any other flip.

use bytes::Buf;
use netmon_proto::{MAX_MESSAGE_BYTES, v1::Event};
use prost::Message;

/// Length and checksum before each encoded batch.
pub(super) const FRAME_BYTES: usize = 8;

/// The most events that one batch carries; half of what the protocol permits.
pub(super) const BATCH_EVENTS: usize = 4096;

/// The protocol's limit less what the wrapping frame and an explanation of a hole need.
const PAYLOAD_BYTES: usize = MAX_MESSAGE_BYTES - 128;

/// Key of `Batch.sequence` (field 1, varint). It is written first, which makes a record recognisable.
const SEQUENCE_KEY: u8 = 0x08;
/// Key of `Batch.events` (field 5, length-delimited).
const EVENTS_KEY: u8 = 0x2a;

/// What [`encode`] did.
pub(super) struct Encoded {
    /// How many events from the front of the slice went into the record.
    pub(super) taken: usize,
    /// The first event alone is beyond the protocol's limit; nothing was encoded.
    pub(super) oversized: bool,
}

/// Writes one framed batch of as many of `events` as fit under `soft_limit` bytes (at least one) to `buf`.
/// The events are encoded in place, without building a `Batch` that would own them.
pub(super) fn encode(buf: &mut Vec<u8>, sequence: u64, events: &[Event], soft_limit: usize) -> Encoded {
    buf.clear();
    buf.extend_from_slice(&[0; FRAME_BYTES]);
    buf.push(SEQUENCE_KEY);
    prost::encoding::encode_varint(sequence, buf);

    let mut taken = 0;
    for event in events.iter().take(BATCH_EVENTS) {
        let before = buf.len();
        buf.push(EVENTS_KEY);
        if event.encode_length_delimited(buf).is_err() {
            return Encoded { taken, oversized: taken == 0 };
        }
        let payload = buf.len() - FRAME_BYTES;
        if taken == 0 && payload > PAYLOAD_BYTES {
            return Encoded { taken: 0, oversized: true };
        }
        if taken > 0 && payload > soft_limit.min(PAYLOAD_BYTES) {
            buf.truncate(before);
            break;
        }
        taken += 1;
    }

    let len = u32::try_from(buf.len() - FRAME_BYTES).unwrap_or(u32::MAX).to_le_bytes();
    let crc = checksum(len, &buf[FRAME_BYTES..]).to_le_bytes();
    buf[..4].copy_from_slice(&len);
    buf[4..FRAME_BYTES].copy_from_slice(&crc);
    Encoded { taken, oversized: false }
}

/// What lies at the front of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole record with a right checksum.
    Record {
        /// Of the batch.
        sequence: u64,
        /// How many events it holds.
        events: u32,
        /// Length of the payload, without the frame.
        payload_bytes: usize,
    },
    /// The slice ends before the record does; it needs this many bytes in all.
    Short(usize),
    /// Not a record.
    Bad,
}

/// Reads the record at the front of `data`. `available` is how many bytes there are up to the end of the
/// segment, of which `data` may show only the first: no length is believed that reaches beyond it.
pub(super) fn parse(data: &[u8], available: u64) -> Parsed {
    let Some((len, crc)) = frame(data) else { return Parsed::Short(FRAME_BYTES) };
    let payload_bytes = u32::from_le_bytes(len) as usize;
    if !plausible(payload_bytes, available) {
        return Parsed::Bad;
    }
    let Some(payload) = data.get(FRAME_BYTES..FRAME_BYTES + payload_bytes) else {
        return Parsed::Short(FRAME_BYTES + payload_bytes);
    };
    if checksum(len, payload) != crc {
        return Parsed::Bad;
    }
    match summary(payload) {
        Some((sequence, events)) => Parsed::Record { sequence, events, payload_bytes },
        None => Parsed::Bad,
    }
}

/// Whether a record may begin at the front of `data`, judged by its length and its first payload byte
/// alone, and what its checksum costs to verify.
pub(super) fn candidate(data: &[u8]) -> Option<usize> {
    let (len, _) = frame(data)?;
    let payload_bytes = u32::from_le_bytes(len) as usize;
    let looks_right =
        plausible(payload_bytes, data.len() as u64) && data.get(FRAME_BYTES) == Some(&SEQUENCE_KEY);
    looks_right.then_some(payload_bytes)
}

fn frame(data: &[u8]) -> Option<([u8; 4], u32)> {
    let (len, rest) = data.split_first_chunk::<4>()?;
    let (crc, _) = rest.split_first_chunk::<4>()?;
    Some((*len, u32::from_le_bytes(*crc)))
}

fn plausible(payload_bytes: usize, available: u64) -> bool {
    (2..=MAX_MESSAGE_BYTES).contains(&payload_bytes) && (FRAME_BYTES + payload_bytes) as u64 <= available
}

fn checksum(len: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len);
    hasher.update(payload);
    hasher.finalize()
}

/// Sequence and number of events of an encoded batch, from its top-level fields alone.
fn summary(mut payload: &[u8]) -> Option<(u64, u32)> {
    if payload.first() != Some(&SEQUENCE_KEY) {
        return None;
    }
    payload.advance(1);
    let sequence = prost::encoding::decode_varint(&mut payload).ok()?;
    let mut events = 0_u32;
    while payload.has_remaining() {
        let (tag, wire_type) = prost::encoding::decode_key(&mut payload).ok()?;
        if tag != u32::from(EVENTS_KEY >> 3) || wire_type != prost::encoding::WireType::LengthDelimited {
            return None;
        }
        let len = prost::encoding::decode_varint(&mut payload).ok()?;
        let len = usize::try_from(len).ok().filter(|len| *len <= payload.remaining())?;
        payload.advance(len);
        events += 1;
    }
    (sequence > 0).then_some((sequence, events))
}

#[cfg(test)]
mod tests {
    use netmon_proto::v1::{Batch, event::Kind};

    use super::*;

    fn event(time_us: i64, detail: usize) -> Event {
        let gap = netmon_proto::v1::Gap { detail: "x".repeat(detail), ..Default::default() };
        Event { time_us, kind: Some(Kind::Gap(gap)) }
    }

    #[test]
    fn a_record_is_an_encoded_batch_in_a_frame() {
        let events = [event(1, 0), event(2, 5)];
        let mut buf = Vec::new();
        assert_eq!(encode(&mut buf, 300, &events, 4096).taken, 2);
        let parsed = parse(&buf, buf.len() as u64);
        let Parsed::Record { sequence: 300, events: 2, payload_bytes } = parsed else { panic!("{parsed:?}") };
        let batch = Batch::decode(&buf[FRAME_BYTES..FRAME_BYTES + payload_bytes]).expect("a batch");
        assert_eq!(batch, Batch { sequence: 300, events: events.to_vec(), ..Default::default() });
    }

    #[test]
    fn batches_are_split_by_size_and_count() {
        let mut buf = Vec::new();
        let events = vec![event(1, 100); 10];
        assert_eq!(encode(&mut buf, 1, &events, 350).taken, 3);
        assert_eq!(encode(&mut buf, 1, &events, 1).taken, 1, "one event always goes in");
        assert_eq!(encode(&mut buf, 1, &vec![event(1, 0); 5000], usize::MAX).taken, BATCH_EVENTS);
        assert!(encode(&mut buf, 1, &[event(1, MAX_MESSAGE_BYTES)], usize::MAX).oversized);
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        let mut buf = Vec::new();
        encode(&mut buf, 7, &[event(1, 3)], 4096);
        for bit in 0..buf.len() * 8 {
            let mut flipped = buf.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let parsed = parse(&flipped, flipped.len() as u64);
            assert_eq!(parsed, Parsed::Bad, "bit {bit}");
        }
    }

    #[test]
    fn a_length_beyond_the_segment_is_not_believed() {
        let mut buf = Vec::new();
        encode(&mut buf, 7, &[event(1, 3)], 4096);
        assert_eq!(parse(&buf[..9], buf.len() as u64), Parsed::Short(buf.len()));
        assert_eq!(parse(&buf[..9], buf.len() as u64 - 1), Parsed::Bad);
        assert_eq!(parse(&buf[..3], buf.len() as u64), Parsed::Short(FRAME_BYTES));
    }
}
