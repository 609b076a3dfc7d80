//! The writing side of the spool: batches are made, appended, and the oldest dropped when there is no room.

use std::{
    fs::{self, File},
    io,
};

use netmon_proto::v1::{Event, GapCause};
use tracing::{info, warn};

use super::{
    Spool,
    holes::Hole,
    record,
    segment::{self, Segment},
};

/// The same for segments in memory: smaller, since memory comes back by whole segments only.
const MEMORY_SEGMENT_BYTES: u64 = 64 * 1024;
/// A batch is closed at this size. The protocol allows more; smaller ones are acknowledged sooner.
const BATCH_BYTES: u64 = 256 * 1024;

impl Spool {
    /// Appends events as one or more batches. Returns how many events, from the front of the slice, were
    /// taken; the rest has to be counted as lost by the caller (cause `SPOOL_WRITE`): the disk cannot be
    /// written and memory holds as much as it may.
    pub fn append(&mut self, events: &[Event]) -> usize {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut rest = events;
        while !rest.is_empty() {
            // Memory takes what it has room for, even where that is a part of a batch.
            let most = if self.failing { self.memory_room().max(1).min(rest.len()) } else { rest.len() };
            let now = rest.get(..most).unwrap_or_default();
            let soft_limit = BATCH_BYTES.min(self.segment_bytes() / 2) as usize;
            let encoded = record::encode(&mut scratch, self.next_sequence, now, soft_limit);
            let was_failing = self.failing;
            if encoded.oversized {
                self.note_loss(GapCause::SpoolWrite, 1, "an event was larger than a message may be");
            } else if !self.store(&scratch, encoded.taken) {
                if was_failing || self.memory_room() == 0 {
                    break;
                }
                continue;
            }
            rest = rest.get(encoded.taken.max(1)..).unwrap_or_default();
        }
        scratch.clear();
        scratch.shrink_to(64 * 1024);
        self.scratch = scratch;
        events.len() - rest.len()
    }

    /// How many more events may be kept in memory.
    fn memory_room(&self) -> usize {
        let in_memory = self.segments.iter().filter(|segment| !segment.is_file());
        let held: u64 = in_memory.map(|segment| segment.events).sum();
        self.config.memory_events.saturating_sub(usize::try_from(held).unwrap_or(usize::MAX))
    }

    fn store(&mut self, record: &[u8], events: usize) -> bool {
        match self.store_in_file(record, events) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info!(dir = %self.config.dir.display(), "the spool can be written again");
                }
            }
            Err(error) => {
                self.sealed = true;
                self.note_failure(&error);
                if !self.store_in_memory(record, events) {
                    return false;
                }
            }
        }
        self.next_sequence += 1;
        self.stats.batches += 1;
        true
    }

    fn store_in_file(&mut self, record: &[u8], events: usize) -> io::Result<()> {
        let len = record.len() as u64;
        self.make_room(len + segment::HEADER_BYTES);
        let limit = self.segment_bytes();
        let fits = |last: &&mut Segment| last.is_file() && (last.is_empty() || last.end + len <= limit);
        let (fsync, sequence) = (self.config.fsync, self.next_sequence);
        if !self.sealed
            && let Some(last) = self.segments.back_mut().filter(fits)
        {
            match last.append(record, sequence, events as u64, fsync) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        fs::create_dir_all(&self.config.dir)?;
        let mut segment = Segment::create(&self.config.dir, self.next_id, self.epoch, sequence)?;
        if let Err(error) = segment.append(record, sequence, events as u64, fsync) {
            segment.remove()?;
            return Err(error);
        }
        if fsync {
            File::open(&self.config.dir)?.sync_all()?;
        }
        self.push(segment);
        Ok(())
    }

    fn store_in_memory(&mut self, record: &[u8], events: usize) -> bool {
        if events > self.memory_room() {
            self.sync_wanted = true;
            return false;
        }
        let has_room = |last: &Segment| {
            !last.is_file()
                && last.epoch == self.epoch
                && last.end + record.len() as u64 <= MEMORY_SEGMENT_BYTES
        };
        if !self.segments.back().is_some_and(has_room) {
            let segment = Segment::in_memory(self.next_id, self.epoch, self.next_sequence);
            self.push(segment);
        }
        let sequence = self.next_sequence;
        let last = self.segments.back_mut();
        last.is_some_and(|last| last.append(record, sequence, events as u64, false).is_ok())
    }

    fn push(&mut self, segment: Segment) {
        if let Some(last) = self.segments.back_mut() {
            last.close();
        }
        self.sealed = !segment.is_file();
        self.segments.push_back(segment);
        self.next_id = self.next_id.saturating_add(1);
    }

    /// Drops whole segments, the oldest first, until `len` more bytes are within the cap.
    fn make_room(&mut self, len: u64) {
        let mut dropped = false;
        while self.file_bytes() + len > self.config.max_bytes {
            let Some(oldest) = self.segments.iter().position(Segment::is_file) else { break };
            if oldest + 1 == self.segments.len() {
                self.sealed = true;
            }
            self.drop_segment(oldest, GapCause::SpoolFull);
            dropped = true;
        }
        if dropped && let Err(error) = self.holes.save() {
            warn!(%error, "cannot note in the spool what it dropped");
        }
    }

    /// Forgets a segment whose batches the server may not have, and notes what it held as a hole.
    pub(super) fn drop_segment(&mut self, place: usize, cause: GapCause) {
        let Some(segment) = self.segments.remove(place) else { return };
        let lost = self.outbox.leave(&segment, cause);
        let mut events = 0;
        for hole in lost {
            self.stats.dropped_batches += hole.last - hole.first + 1;
            self.stats.dropped_events += hole.events;
            events += hole.events;
            self.holes.add(hole);
        }
        let (id, epoch) = (segment.id, segment.epoch);
        warn!(segment = id, events, cause = cause.as_str_name(), "dropped a spool segment");
        self.sync_wanted |= events > 0;
        self.delete(segment);
        if epoch != self.epoch && !self.segments.iter().any(|other| other.epoch == epoch) {
            self.report_holes(epoch);
        }
    }

    /// No batch of `epoch` is left to explain its holes: they become losses.
    pub(super) fn report_holes(&mut self, epoch: u64) {
        for Hole { cause, events, first, last, .. } in self.holes.take(epoch) {
            let count = if events > 0 { events } else { last - first + 1 };
            self.note_loss(cause, count, "the rest of an earlier run was dropped");
        }
    }

    pub(super) fn delete(&mut self, segment: Segment) {
        if let Err(error) = segment.remove() {
            warn!(%error, "cannot delete a spool segment; its batches may be sent again, and are counted once");
        }
    }
}
