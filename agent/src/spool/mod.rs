//! Keeps every batch on disk from the moment it is made until the server has committed it.
//!
//! A directory of segment files (`segment`), each a header and records of one epoch. Batches are appended
//! to the last segment by one write each (`inbox`); the sending side (`outbox`) reads them oldest first; a
//! segment is deleted when all of it is acknowledged. One plain struct, used by one task, with blocking
//! I/O: the spool lives in memory (tmpfs) on a router, and on a local disk elsewhere.
//!
//! What it cannot keep it counts. Batches that are dropped because the spool is full leave a hole in the
//! sequence, which the next batch of that epoch explains to the server (`holes`); where no such batch can
//! follow, and for what never got a sequence, there is a [`Loss`] for the caller to report as an event.
//! It never reads a clock and never waits.

mod holes;
mod inbox;
mod outbox;
mod reader;
mod record;
mod segment;
mod settled;

use std::{
    collections::VecDeque,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use netmon_proto::v1::GapCause;
use tracing::warn;

pub use outbox::{Explanation, Frame, NeverSent};

use holes::{Hole, Holes};
use outbox::Outbox;
use reader::{Item, Reader};
use segment::Segment;
use settled::Settled;

/// A segment is closed when it has reached this size, or an eighth of the spool's cap.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// Below this cap segments would be too small to be worth a file.
pub const SMALLEST_CAP_BYTES: u64 = 64 * 1024;

const STAMP_FILE: &str = "last-run";
const LOCK_FILE: &str = "lock";

/// How the spool behaves.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// Where the segments are. Made if it does not exist.
    pub dir: PathBuf,
    /// The most bytes of all segment files together.
    pub max_bytes: u64,
    /// Whether every batch is forced to the disk, against a loss of power.
    pub fsync: bool,
    /// How many events are kept in memory while the directory cannot be written.
    pub memory_events: usize,
}

/// Why a spool cannot be used at all. (One that cannot be written is used, from memory.)
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Two agents would send each other's batches.
    #[error("{} is in use by another netmon-agent; stop it, or give this one a spool_dir of its own", .0.display())]
    InUse(PathBuf),
}

/// Something that is gone and that no batch will explain: to be reported as a `Gap` event, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub cause: GapCause,
    /// How many, in the cause's unit.
    pub count: u64,
    /// For a person, one line.
    pub detail: &'static str,
}

/// Counters since the spool was opened.
#[derive(Debug, Default, Clone)]
pub struct SpoolStats {
    /// Batches appended.
    pub batches: u64,
    /// Batches dropped because the spool was full or its files disappeared.
    pub dropped_batches: u64,
    /// The events in those.
    pub dropped_events: u64,
    /// Places with damaged records.
    pub damaged: u64,
    /// Writes that failed.
    pub write_errors: u64,
}

/// The spool.
#[derive(Debug)]
pub struct Spool {
    config: SpoolConfig,
    epoch: u64,
    next_sequence: u64,
    next_id: u64,
    segments: VecDeque<Segment>,
    /// The last segment takes no more records.
    sealed: bool,
    holes: Holes,
    losses: Vec<Loss>,
    outbox: Outbox,
    settled: Settled,
    stats: SpoolStats,
    /// Something was dropped: the server's picture of the open flows may be wrong.
    sync_wanted: bool,
    failing: bool,
    previous_run_us: Option<i64>,
    scratch: Vec<u8>,
    lock: Option<File>,
}

impl Spool {
    /// Opens the directory, reads what earlier runs left, and begins the new `epoch`.
    pub fn open(config: SpoolConfig, epoch: u64) -> Result<Self, SpoolError> {
        let mut config = config;
        config.max_bytes = config.max_bytes.max(SMALLEST_CAP_BYTES);
        let mut spool = Self {
            holes: Holes::load(&config.dir),
            config,
            epoch,
            next_sequence: 1,
            next_id: 1,
            segments: VecDeque::new(),
            sealed: true,
            losses: Vec::new(),
            outbox: Outbox::default(),
            settled: Settled::default(),
            stats: SpoolStats::default(),
            sync_wanted: false,
            failing: false,
            previous_run_us: None,
            scratch: Vec::new(),
            lock: None,
        };
        if let Err(error) = spool.load()? {
            spool.note_failure(&error);
        }
        Ok(spool)
    }

    /// The outer error is fatal, the inner one is what the disk said.
    fn load(&mut self) -> Result<io::Result<()>, SpoolError> {
        let dir = self.config.dir.clone();
        if let Err(error) = fs::create_dir_all(&dir) {
            return Ok(Err(error));
        }
        match File::create(dir.join(LOCK_FILE)).map(|file| (file.try_lock(), file)) {
            Ok((Err(TryLockError::WouldBlock), _)) => return Err(SpoolError::InUse(dir)),
            Ok((_, file)) => self.lock = Some(file),
            Err(error) => return Ok(Err(error)),
        }
        Ok(self.load_segments(&dir))
    }

    fn load_segments(&mut self, dir: &Path) -> io::Result<()> {
        let mut newest_us;
        (newest_us, self.settled) = read_stamp(dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match Segment::open(&entry.path()) {
                Ok(Some(segment)) => {
                    newest_us = newest_us.max(modified_us(&entry));
                    found.push(segment);
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(path = %entry.path().display(), %error, "cannot read this spool segment");
                    self.note_loss(GapCause::SpoolCorrupt, 1, "a spool segment could not be read");
                }
            }
        }
        self.previous_run_us = newest_us;
        found.sort_by_key(|(segment, _)| segment.id);
        self.next_id = found.last().map_or(1, |(segment, _)| segment.id.saturating_add(1));

        let epochs: Vec<u64> = found.iter().map(|(segment, _)| segment.epoch).collect();
        let mut expected = (0, 0);
        for (place, (segment, scan)) in found.into_iter().enumerate() {
            self.stats.damaged += scan.damaged + u64::from(scan.broken_tail);
            if scan.broken_tail {
                warn!(segment = segment.id, kept = segment.end, "cut the damaged end of a spool segment");
                if epochs.get(place + 1) != Some(&segment.epoch) {
                    self.note_loss(GapCause::SpoolCorrupt, 1, "the last record of a run was cut or damaged");
                }
            }
            if expected.0 != segment.epoch {
                expected = (segment.epoch, segment.first_sequence);
            }
            if segment.is_empty() {
                self.delete(segment);
                continue;
            }
            if scan.broken_tail
                && let Err(error) = segment.cut_tail()
            {
                self.note_failure(&error);
            }
            self.note_missing(segment.epoch, expected.1, segment.first_sequence);
            expected.1 = segment.last_sequence + 1;
            self.segments.push_back(segment);
        }
        self.forget_settled();
        let segments = &self.segments;
        self.holes.retain_epochs(|epoch| segments.iter().any(|segment| segment.epoch == epoch));
        Ok(())
    }

    /// Sequences that should have come before `found`: damaged, or lost with the memory that held them
    /// while the disk could not be written. What was dropped on purpose is noted already.
    fn note_missing(&mut self, epoch: u64, expected: u64, found: u64) {
        let (first, last) = (expected, found - 1);
        if first <= last && self.holes.explain(epoch, first, last).1.is_none() {
            self.holes.add(Hole { epoch, first, last, events: 0, cause: GapCause::SpoolCorrupt });
        }
    }

    fn note_loss(&mut self, cause: GapCause, count: u64, detail: &'static str) {
        let same = self.losses.iter_mut().find(|loss| loss.cause == cause && loss.detail == detail);
        match same {
            Some(loss) => loss.count += count,
            None => self.losses.push(Loss { cause, count, detail }),
        }
    }

    fn note_failure(&mut self, error: &io::Error) {
        self.stats.write_errors += 1;
        if !self.failing {
            self.failing = true;
            let dir = self.config.dir.display();
            warn!(%dir, %error, "the spool cannot be written; events are kept in memory until it can");
        }
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES.min(self.config.max_bytes / 8)
    }

    fn file_bytes(&self) -> u64 {
        self.segments.iter().filter(|segment| segment.is_file()).map(|segment| segment.end).sum()
    }

    /// Writes down that the agent ran at this time, for the gap that its next start reports, and how far the
    /// spool is delivered.
    pub fn stamp(&mut self, now_us: i64) {
        let text = format!("{now_us}\n{}", self.delivered().line());
        if let Err(error) = write_anew(&self.config.dir.join(STAMP_FILE), &text) {
            self.note_failure(&error);
        }
    }

    /// When an earlier run was last known to be alive. `None`: there was none.
    pub fn previous_run_us(&self) -> Option<i64> {
        self.previous_run_us
    }

    /// What has to be reported since the last call.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.losses)
    }

    /// Whether events were lost since the last call, so that the whole table has to be reported again.
    pub fn take_sync_wanted(&mut self) -> bool {
        std::mem::take(&mut self.sync_wanted)
    }

    /// Three quarters of the cap are in use: leave out what can be left out.
    pub fn pressure(&self) -> bool {
        self.file_bytes() * 4 >= self.config.max_bytes * 3
    }

    /// Half of the cap is free, and the disk can be written.
    pub fn relieved(&self) -> bool {
        self.file_bytes() * 2 <= self.config.max_bytes && !self.failing
    }

    /// Bytes that wait for an acknowledgement.
    pub fn waiting_bytes(&self) -> u64 {
        let all: u64 = self.segments.iter().map(|segment| segment.end - segment::HEADER_BYTES).sum();
        all.saturating_sub(self.outbox.acked_bytes(self.segments.front()))
    }

    /// Batches that wait for an acknowledgement.
    pub fn waiting_batches(&self) -> u64 {
        self.segments.iter().map(|segment| segment.batches_after(self.outbox.acked(segment.epoch))).sum()
    }

    /// Whether the directory cannot be written at the moment.
    pub fn failing(&self) -> bool {
        self.failing
    }

    /// Counters.
    pub fn stats(&self) -> &SpoolStats {
        &self.stats
    }

    /// The server has refused so many events for good, and will not tell of it itself.
    pub fn note_refused(&mut self, events: u64) {
        self.note_loss(GapCause::Refused, events, "refused by the server that JSON batches are posted to");
    }

    /// Where the segments are.
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// Whether what is written is forced to the disk.
    pub fn fsync(&self) -> bool {
        self.config.fsync
    }

    /// The epoch of this run.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// Reads bytes as a segment's file would be read, and returns the sequence and the number of events of
/// every good record, and how many places were damaged. For the fuzzer.
pub fn read_segment(bytes: Vec<u8>) -> (Vec<(u64, u32)>, u64) {
    let (mut segment, scan) = Segment::from_bytes(bytes);
    let mut reader = Reader::new(&segment);
    let mut records = Vec::new();
    while let Ok(Item::Record(record)) = reader.next(&mut segment) {
        records.push((record.sequence, record.events));
    }
    (records, scan.damaged + u64::from(scan.broken_tail))
}

/// Puts a new file in the place of an old one, so that one of them is there whole whatever happens.
fn write_anew(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

fn read_stamp(dir: &Path) -> (Option<i64>, Settled) {
    let text = fs::read_to_string(dir.join(STAMP_FILE)).unwrap_or_default();
    let mut lines = text.lines();
    let alive_us = lines.next().and_then(|line| line.trim().parse().ok());
    (alive_us, lines.next().and_then(Settled::parse).unwrap_or_default())
}

fn modified_us(entry: &fs::DirEntry) -> Option<i64> {
    let modified = entry.metadata().ok()?.modified().ok()?;
    i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
