//! One epoch of the spool on its way, a parcel at a time.

use tokio::time::Instant;

use super::{
    journal::Journal,
    parcel::{Parcel, Reader, Through},
};
use crate::{spool::Spool, transport::HttpConfig};

/// A batch, or an event by itself, is refused so often before the server is believed.
const REFUSALS: u32 = 3;

/// What is being sent.
pub(super) struct Sending {
    epoch: u64,
    journal: Journal,
    reader: Reader,
    parcel: Parcel,
    /// Up to and including this sequence everything is delivered.
    delivered: u64,
    /// When the parcel is posted even though there is room in it.
    due: Option<Instant>,
    /// Posted once: it is not changed any more, but for what the server takes of it.
    sealed: bool,
    refusal: Refusal,
}

/// What the server says of a parcel that it does not take.
#[derive(Debug, Default)]
struct Refusal {
    /// How often it refused what is posted now.
    times: u32,
    /// So much of the front is posted by itself. Zero: all of it.
    part: usize,
    /// The culprit is being looked for.
    halving: bool,
    /// It took another part of the parcel: so it works, and what it refuses it refuses for good.
    works: bool,
}

/// What to do after a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same again, after a pause.
    Later,
    /// A part of it.
    AtOnce,
    /// The event was given up; go on with the rest.
    Dropped,
}

impl Sending {
    /// The oldest epoch of the spool. What an earlier run had on its way comes first, and what it had
    /// delivered is not sent again.
    pub(super) fn begin(spool: &mut Spool) -> Self {
        let epoch = spool.next_epoch();
        let journal = Journal::new(spool.dir(), spool.fsync());
        let (mut delivered, mut parcel) = (0, Parcel::default());
        if let Some(entry) = journal.read() {
            parcel = entry.parcel;
            if entry.epoch == epoch {
                delivered = entry.delivered;
            } else {
                // All the rest of its run is gone from the spool; the parcel itself may still be owed.
                parcel.through = Through::default();
            }
        }
        if spool.start_stream(epoch, delivered).is_err() {
            // A sequence that cannot be: the journal is wrong, the spool is right.
            (delivered, parcel) = (0, Parcel::default());
            let _ = spool.start_stream(epoch, 0);
        }
        let reader = Reader::behind(parcel.through, spool);
        let sealed = !parcel.is_empty();
        Self { epoch, journal, reader, parcel, delivered, due: None, sealed, refusal: Refusal::default() }
    }

    /// Takes in what the spool has. False: there is nothing to post.
    pub(super) fn fill(&mut self, spool: &mut Spool, http: &HttpConfig) -> bool {
        if !self.sealed {
            self.reader.fill(&mut self.parcel, spool, http.batch_events, http.beginnings);
        }
        if self.parcel.is_empty() {
            self.acknowledge(spool);
            return false;
        }
        self.due.get_or_insert_with(|| Instant::now() + http.batch_wait);
        true
    }

    /// Whether the parcel may wait no longer.
    pub(super) fn is_due(&self, spool: &Spool, http: &HttpConfig) -> bool {
        // Nothing more comes to an earlier run's.
        let alone = self.epoch != spool.epoch();
        let now = self.due.is_none_or(|due| due <= Instant::now());
        self.sealed || alone || now || self.parcel.len() >= http.batch_events
    }

    /// When it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Ends an earlier run's epoch of which nothing is left. False: this one goes on.
    pub(super) fn finish(&self, spool: &mut Spool) -> bool {
        self.epoch != spool.epoch() && spool.finish_epoch()
    }

    /// What to post: how many events, and their JSON.
    pub(super) fn seal(&mut self) -> (usize, Vec<u8>) {
        if !std::mem::replace(&mut self.sealed, true) {
            self.journal.write(self.epoch, self.delivered, &self.parcel);
        }
        let all = self.parcel.len();
        let count = if self.refusal.part == 0 { all } else { self.refusal.part.min(all) };
        (count, self.parcel.front(count).to_vec())
    }

    /// The server has the first `count` events.
    pub(super) fn delivered(&mut self, count: usize, spool: &mut Spool) {
        self.refusal.works = true;
        self.leave(count, spool);
    }

    /// The server refused the first `count` events as they are.
    pub(super) fn refused(&mut self, count: usize, too_large: bool, spool: &mut Spool) -> Next {
        let refusal = &mut self.refusal;
        refusal.times += 1;
        let divisible = count > 1 && (refusal.halving || too_large);
        if refusal.times < REFUSALS && !refusal.works && !divisible {
            return Next::Later;
        }
        refusal.times = 0;
        if count > 1 {
            (refusal.halving, refusal.part) = (true, count.div_ceil(2));
            return Next::AtOnce;
        }
        spool.note_refused(1);
        self.leave(count, spool);
        Next::Dropped
    }

    /// So many events are dealt with.
    fn leave(&mut self, count: usize, spool: &mut Spool) {
        self.parcel.cut(count);
        (self.refusal.times, self.refusal.part) = (0, 0);
        let done = self.parcel.is_empty();
        let delivered = if done { self.parcel.through.sequence } else { self.delivered };
        // Before the spool forgets them: an agent that is killed here must not miss them in both.
        self.journal.write(self.epoch, delivered, &self.parcel);
        if done {
            self.acknowledge(spool);
            (self.sealed, self.due, self.refusal) = (false, None, Refusal::default());
        }
    }

    /// All events up to here are dealt with.
    fn acknowledge(&mut self, spool: &mut Spool) {
        let sequence = self.parcel.through.sequence;
        if sequence > self.delivered {
            self.delivered = sequence;
            // It was handed out; a spool that has dropped it meanwhile has nothing to forget.
            let _ = spool.ack(sequence);
        }
    }
}
