//! Hands out the records of a segment in order, a window at a time, and finds its way behind damage.

use std::io;

use bytes::Bytes;

use super::{
    record::{self, FRAME_BYTES, Parsed},
    segment::{HEADER_BYTES, Segment},
};

/// How much is read at once.
const WINDOW_BYTES: usize = 64 * 1024;

/// How many bytes of checksums may be computed to find the next good record behind damage. Random bytes
/// need a small part of it; bytes made to look like many records must not keep a slow router busy.
const RESYNC_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// One good record.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) sequence: u64,
    pub(super) events: u32,
    /// The encoded batch.
    pub(super) payload: Bytes,
    /// Offset behind it.
    pub(super) end: u64,
    /// Damaged bytes were left out right before it.
    pub(super) after_damage: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Item {
    Record(Record),
    /// Everything up to the segment's end was read.
    End,
    /// There are bytes left, but no good record among them.
    Broken,
}

/// A place in a segment.
#[derive(Debug)]
pub(super) struct Reader {
    offset: u64,
    /// Of the record before; those after it are higher.
    sequence: u64,
    window: Vec<u8>,
    window_start: u64,
    /// The segment's end when nothing good was found up to it.
    broken_up_to: u64,
}

impl Reader {
    /// At the segment's first record.
    pub(super) fn new(segment: &Segment) -> Self {
        Self {
            offset: HEADER_BYTES,
            sequence: segment.first_sequence.saturating_sub(1),
            window: Vec::new(),
            window_start: 0,
            broken_up_to: 0,
        }
    }

    /// The record at this place, and moves behind it. An error means the file cannot be read.
    pub(super) fn next(&mut self, segment: &mut Segment) -> io::Result<Item> {
        if self.offset >= segment.end {
            return Ok(Item::End);
        }
        let available = segment.end - self.offset;
        let mut parsed = record::parse(self.rest(), available);
        while let Parsed::Short(needed) = parsed {
            if needed as u64 > available {
                parsed = Parsed::Bad;
                break;
            }
            self.fill(segment, needed)?;
            parsed = record::parse(self.rest(), available);
        }
        let in_order = |sequence: u64| self.follows(sequence, available);
        match parsed {
            Parsed::Record { sequence, events, payload_bytes } if in_order(sequence) => {
                Ok(Item::Record(self.take(sequence, events, payload_bytes, false)))
            }
            _ => self.resync(segment),
        }
    }

    /// Sequences rise, and not by more than there was room for: each damaged record took some bytes.
    fn follows(&self, sequence: u64, room: u64) -> bool {
        sequence > self.sequence && sequence - self.sequence <= room
    }

    fn rest(&self) -> &[u8] {
        let from = self.offset.checked_sub(self.window_start).and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| self.window.get(from..)).unwrap_or_default()
    }

    /// Reads at least `needed` bytes from the present offset into the window; the caller has checked that
    /// the segment has them.
    fn fill(&mut self, segment: &mut Segment, needed: usize) -> io::Result<()> {
        let available = segment.end - self.offset;
        let len = available.min(needed.max(WINDOW_BYTES) as u64);
        self.window.clear();
        self.window.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        self.window_start = self.offset;
        let filled = segment.read_at(&mut self.window, self.offset);
        if filled.is_err() {
            self.window.clear();
        }
        filled
    }

    fn take(&mut self, sequence: u64, events: u32, payload_bytes: usize, after_damage: bool) -> Record {
        let payload = self.rest().get(FRAME_BYTES..FRAME_BYTES + payload_bytes).unwrap_or_default();
        let payload = Bytes::copy_from_slice(payload);
        self.offset += (FRAME_BYTES + payload_bytes) as u64;
        self.sequence = sequence;
        if self.window.len() > 2 * WINDOW_BYTES && self.rest().len() <= WINDOW_BYTES {
            // One large record or a resync grew the window; a router has better uses for the memory.
            self.window = Vec::new();
        }
        Record { sequence, events, payload, end: self.offset, after_damage }
    }

    /// Looks for the next good record behind the bad place: first where the damaged one says that it
    /// ends, then at every offset.
    fn resync(&mut self, segment: &mut Segment) -> io::Result<Item> {
        if self.broken_up_to >= segment.end {
            return Ok(Item::Broken);
        }
        let available = segment.end - self.offset;
        self.fill(segment, usize::try_from(available).map_err(io::Error::other)?)?;
        let claimed = record::candidate(self.rest()).map(|payload_bytes| FRAME_BYTES + payload_bytes);
        let mut budget = RESYNC_BUDGET_BYTES;
        for skip in claimed.into_iter().chain(1..self.rest().len()) {
            let rest = self.rest().get(skip..).unwrap_or_default();
            let Some(cost) = record::candidate(rest) else { continue };
            let Some(left) = budget.checked_sub(cost) else { break };
            budget = left;
            if let Parsed::Record { sequence, events, payload_bytes } = record::parse(rest, rest.len() as u64)
                && self.follows(sequence, available)
            {
                self.offset += skip as u64;
                return Ok(Item::Record(self.take(sequence, events, payload_bytes, true)));
            }
        }
        self.broken_up_to = segment.end;
        Ok(Item::Broken)
    }
}
