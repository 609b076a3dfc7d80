//! The sending side of the spool: which record comes next, what is on its way, what may be deleted.

use std::collections::VecDeque;

use bytes::Bytes;
use netmon_proto::v1::GapCause;
use tracing::warn;

use super::{
    Spool,
    holes::Hole,
    reader::{Item, Reader},
    segment::{HEADER_BYTES, Segment},
    settled::Settled,
};

/// A sequence that a server may claim to have; above it the claim is nonsense.
pub(super) const LARGEST_SEQUENCE: u64 = i64::MAX as u64;

/// The next batch to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Of the batch.
    pub sequence: u64,
    /// How many events it holds.
    pub events: u32,
    /// The encoded `Batch`, without the explanation.
    pub payload: Bytes,
    /// Set when the batch before it in the sequence does not exist any more.
    pub lost: Option<Explanation>,
}

/// Why there is a hole before a batch: `lost_before`, `lost_events`, `lost_cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// How many sequences are missing.
    pub batches: u64,
    /// How many events they held; zero: not known.
    pub events: u64,
    /// Why.
    pub cause: GapCause,
}

/// The server says something about sequences that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server speaks of sequence {said}, which was never sent")]
pub struct NeverSent {
    /// What it said.
    pub said: u64,
}

/// What is being sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    stream: Option<Stream>,
    acked: Acked,
}

/// What the server has, of the epoch that was streamed last.
#[derive(Debug, Default)]
struct Acked {
    epoch: u64,
    sequence: u64,
    /// The last record whose acknowledgement was heard.
    record: Option<InFlight>,
}

/// One stream to the server.
#[derive(Debug)]
struct Stream {
    epoch: u64,
    /// The last sequence that the server has or was sent.
    sent: u64,
    /// Segments before this one are behind us.
    from: u64,
    place: Option<Place>,
    in_flight: VecDeque<InFlight>,
    in_flight_events: usize,
    in_flight_bytes: usize,
    /// Read, but beyond the window when it was its turn.
    held_back: Option<(Frame, InFlight)>,
}

/// Where the next record is read.
#[derive(Debug)]
struct Place {
    segment: u64,
    reader: Reader,
    /// Of this segment: the last sequence read, and how many events there were up to it.
    sequence: u64,
    events: u64,
}

#[derive(Debug)]
struct InFlight {
    sequence: u64,
    events: u32,
    bytes: usize,
    segment: u64,
    /// Offset behind it in the segment, and the events of the segment up to there.
    end: u64,
    events_up_to: u64,
}

impl Outbox {
    pub(super) fn acked(&self, epoch: u64) -> u64 {
        if self.acked.epoch == epoch { self.acked.sequence } else { 0 }
    }

    pub(super) fn acked_bytes(&self, front: Option<&Segment>) -> u64 {
        let record = self.acked.record.as_ref();
        let inside = record.filter(|record| front.is_some_and(|front| front.id == record.segment));
        inside.map_or(0, |record| record.end - HEADER_BYTES)
    }

    /// What a segment that is being dropped still held for the server, as holes. What is on its way
    /// becomes a hole too, which its acknowledgement closes.
    pub(super) fn leave(&self, segment: &Segment, cause: GapCause) -> Vec<Hole> {
        let epoch = segment.epoch;
        let mut holes = Vec::new();
        let mut unsent = Hole {
            epoch,
            first: segment.first_sequence,
            last: segment.last_sequence,
            events: segment.events,
            cause,
        };
        let mut first_unsent = self.acked(epoch).saturating_add(1);
        if let Some(record) = self.acked.record.as_ref().filter(|record| record.segment == segment.id) {
            unsent.first = record.sequence.saturating_add(1);
            unsent.events = segment.events.saturating_sub(record.events_up_to);
        }
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.epoch == epoch) {
            let held_back = stream.held_back.iter().map(|(_, record)| record);
            for record in
                stream.in_flight.iter().chain(held_back).filter(|record| record.segment == segment.id)
            {
                let (first, last) = (record.sequence, record.sequence);
                holes.push(Hole { epoch, first, last, events: record.events.into(), cause });
            }
            let is_further = |place: &&Place| place.segment == segment.id && place.sequence >= unsent.first;
            if let Some(place) = stream.place.as_ref().filter(is_further) {
                unsent.first = place.sequence.saturating_add(1);
                unsent.events = segment.events.saturating_sub(place.events);
            }
            first_unsent = first_unsent.max(stream.sent.saturating_add(1));
        }
        if unsent.first <= unsent.last && first_unsent <= unsent.last {
            unsent.events = unsent.events_within(first_unsent, unsent.last);
            unsent.first = unsent.first.max(first_unsent);
            holes.push(unsent);
        }
        holes
    }
}

impl Spool {
    /// The epoch that has to be sent next: the oldest that still has batches, at last this run's.
    pub fn next_epoch(&self) -> u64 {
        self.segments.front().map_or(self.epoch, |segment| segment.epoch)
    }

    /// The first sequence of `epoch` that exists here, or that a later batch explains, or that comes next.
    pub fn oldest_sequence(&self, epoch: u64) -> u64 {
        let held =
            self.segments.iter().find(|segment| segment.epoch == epoch).map(|segment| segment.first_sequence);
        let oldest = held.into_iter().chain(self.holes.first(epoch)).min();
        let oldest = oldest.unwrap_or(if epoch == self.epoch { self.next_sequence } else { 1 });
        oldest.max(self.settled.of(epoch) + 1)
    }

    /// Begins to send `epoch` from behind `last_committed`, which the server has said it has.
    pub fn start_stream(&mut self, epoch: u64, last_committed: u64) -> Result<(), NeverSent> {
        self.end_stream();
        if last_committed > LARGEST_SEQUENCE {
            return Err(NeverSent { said: last_committed });
        }
        // Zero is what a server says that does not know the epoch: it expects what Hello called the oldest.
        let sent = if last_committed == 0 { self.oldest_sequence(epoch) - 1 } else { last_committed };
        if epoch == self.epoch && sent >= self.next_sequence {
            warn!(server = sent, ours = self.next_sequence - 1, "the server is ahead of this run's sequence");
            self.next_sequence = sent + 1;
            self.sealed = true;
        }
        let in_flight = VecDeque::new();
        let stream = Stream {
            epoch,
            sent,
            from: 0,
            place: None,
            in_flight,
            in_flight_events: 0,
            in_flight_bytes: 0,
            held_back: None,
        };
        self.outbox.stream = Some(stream);
        if self.outbox.acked.epoch != epoch {
            self.outbox.acked = Acked { epoch, ..Acked::default() };
        }
        let known = if last_committed == 0 { self.settled.of(epoch) } else { last_committed };
        self.outbox.acked.sequence = known;
        self.release(epoch, known);
        Ok(())
    }

    /// The connection is gone: what was on its way will be sent again.
    pub fn end_stream(&mut self) {
        if let Some(stream) = self.outbox.stream.take()
            && stream.epoch != self.epoch
            && !self.segments.iter().any(|segment| segment.epoch == stream.epoch)
        {
            self.report_holes(stream.epoch);
        }
    }

    /// The next batch of the stream's epoch, oldest first, if it is within the window: at most so many
    /// events and bytes on the way, or a single batch. It counts as on its way from now on.
    pub fn next_frame(&mut self, window_events: usize, window_bytes: usize) -> Option<Frame> {
        let held_back = self.outbox.stream.as_mut()?.held_back.take();
        let (frame, record) = held_back.or_else(|| self.read_frame())?;
        let stream = self.outbox.stream.as_mut()?;
        let events = stream.in_flight_events + record.events as usize;
        let bytes = stream.in_flight_bytes + record.bytes;
        if !stream.in_flight.is_empty() && (events > window_events || bytes > window_bytes) {
            stream.held_back = Some((frame, record));
            return None;
        }
        stream.sent = record.sequence;
        (stream.in_flight_events, stream.in_flight_bytes) = (events, bytes);
        stream.in_flight.push_back(record);
        Some(frame)
    }

    fn read_frame(&mut self) -> Option<(Frame, InFlight)> {
        loop {
            let stream = self.outbox.stream.as_mut()?;
            let (from, epoch) = (stream.from, stream.epoch);
            let at = self.segments.iter().position(|segment| segment.id >= from && segment.epoch == epoch)?;
            let is_last = self.segments.get(at + 1).is_none_or(|next| next.epoch != stream.epoch);
            let segment = self.segments.get_mut(at)?;
            let place = match &mut stream.place {
                Some(place) if place.segment == segment.id => place,
                place => place.insert(Place::at_start(segment)),
            };
            match place.reader.next(segment) {
                Ok(Item::Record(record)) => {
                    place.sequence = record.sequence;
                    place.events += u64::from(record.events);
                    if record.sequence <= stream.sent {
                        continue;
                    }
                    self.stats.damaged += u64::from(record.after_damage);
                    let (first, last) = (stream.sent + 1, record.sequence - 1);
                    let lost = (first <= last).then(|| {
                        let (events, cause) = self.holes.explain(stream.epoch, first, last);
                        let otherwise = if last < segment.first_sequence {
                            GapCause::ServerState
                        } else {
                            GapCause::SpoolCorrupt
                        };
                        let cause = cause.unwrap_or(otherwise);
                        Explanation { batches: last - first + 1, events, cause }
                    });
                    let (sequence, events, payload) = (record.sequence, record.events, record.payload);
                    let bytes = payload.len();
                    let in_flight = InFlight {
                        sequence,
                        events,
                        bytes,
                        segment: segment.id,
                        end: record.end,
                        events_up_to: place.events,
                    };
                    return Some((Frame { sequence, events, payload, lost }, in_flight));
                }
                Ok(Item::End | Item::Broken) if is_last => return None,
                Ok(Item::End | Item::Broken) => stream.from = segment.id + 1,
                Err(error) => {
                    warn!(%error, "cannot read a spool segment");
                    stream.from = segment.id + 1;
                    self.seal(at);
                    self.drop_segment(at, GapCause::SpoolWrite);
                }
            }
        }
    }

    /// Everything up to and including `sequence` of the stream's epoch is committed.
    pub fn ack(&mut self, sequence: u64) -> Result<(), NeverSent> {
        let Some(stream) = &mut self.outbox.stream else { return Ok(()) };
        if sequence > stream.sent {
            return Err(NeverSent { said: sequence });
        }
        let acked = &mut self.outbox.acked;
        while let Some(record) = stream.in_flight.pop_front_if(|record| record.sequence <= sequence) {
            stream.in_flight_events -= record.events as usize;
            stream.in_flight_bytes -= record.bytes;
            acked.record = Some(record);
        }
        acked.sequence = acked.sequence.max(sequence);
        let epoch = stream.epoch;
        self.release(epoch, sequence);
        Ok(())
    }

    /// How far the epoch that was streamed last is delivered, or what was known of it before.
    pub(super) fn delivered(&self) -> Settled {
        match &self.outbox.acked {
            Acked { epoch: 0, .. } => self.settled,
            Acked { epoch, sequence, .. } => Settled { epoch: *epoch, sequence: *sequence },
        }
    }

    /// Deletes what the server has.
    pub(super) fn release(&mut self, epoch: u64, committed: u64) {
        self.holes.trim(epoch, committed);
        while let Some(front) = self.segments.front()
            && front.epoch == epoch
            && front.last_sequence <= committed
        {
            let is_written = self.segments.len() == 1 && !self.sealed;
            if is_written && front.end < self.segment_bytes() / 4 {
                break;
            }
            self.seal(0);
            if let Some(segment) = self.segments.pop_front() {
                self.delete(segment);
            }
        }
    }

    /// Takes care that nothing is appended to the segment at this place.
    fn seal(&mut self, at: usize) {
        self.sealed |= at + 1 == self.segments.len();
    }

    /// Ends an earlier epoch when all of it that can be read is acknowledged. `false`: it is not yet.
    pub fn finish_epoch(&mut self) -> bool {
        let Some(stream) = &self.outbox.stream else { return false };
        let (epoch, sent) = (stream.epoch, stream.sent);
        if epoch == self.epoch || !stream.in_flight.is_empty() || stream.held_back.is_some() {
            return false;
        }
        while let Some(front) = self.segments.pop_front_if(|front| front.epoch == epoch) {
            let unread = front.batches_after(sent);
            if unread > 0 {
                self.note_loss(
                    GapCause::SpoolCorrupt,
                    unread,
                    "the last records of an earlier run were damaged",
                );
            }
            self.delete(front);
        }
        self.end_stream();
        true
    }

    /// Whether something was sent and not acknowledged.
    pub fn in_flight(&self) -> bool {
        self.outbox.stream.as_ref().is_some_and(|stream| !stream.in_flight.is_empty())
    }

    /// Whether everything that was appended is acknowledged.
    pub fn drained(&self) -> bool {
        self.waiting_batches() == 0
    }
}

impl Place {
    fn at_start(segment: &Segment) -> Self {
        let sequence = segment.first_sequence.saturating_sub(1);
        Self { segment: segment.id, reader: Reader::new(segment), sequence, events: 0 }
    }
}
