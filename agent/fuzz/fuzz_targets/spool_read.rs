//! Any bytes, read as a segment of the spool: no panic, no allocation by a length that the bytes claim,
//! sequences that rise, and never more events than the bytes have room for.
//!
//! The checksum would keep random bytes from ever being a record, so where the first byte is odd the rest
//! is cut into pieces, and every other one is given a frame that fits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = match data.split_first() {
        Some((first, pieces)) if first % 2 == 1 => framed(pieces),
        _ => data.to_vec(),
    };
    let room = bytes.len() as u64;
    let (records, _damaged) = netmon_agent::spool::read_segment(bytes);
    assert!(records.is_sorted_by(|(a, _), (b, _)| a < b), "sequences rise");
    let events: u64 = records.iter().map(|(_, events)| u64::from(*events)).sum();
    assert!(events <= room, "an event takes two bytes at least");
});

/// A segment's header that says nothing, then pieces of the lengths that their first bytes give.
fn framed(mut pieces: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    let mut is_record = true;
    while let Some((len, rest)) = pieces.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        if is_record {
            let len = u32::from(*len).to_le_bytes();
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&len);
            hasher.update(piece);
            bytes.extend_from_slice(&len);
            bytes.extend_from_slice(&hasher.finalize().to_le_bytes());
        }
        bytes.extend_from_slice(piece);
        is_record = !is_record;
        pieces = rest;
    }
    bytes
}
