//! What one post carries: JSON of consecutive events, and how far in the spool they reach.

use bytes::Bytes;
use netmon_proto::v1::{Event, Gap, event::Kind};
use prost::{
    Message,
    bytes::Buf,
    encoding::{WireType, decode_key, decode_varint},
};

use super::json;
use crate::spool::{Explanation, Frame, Spool};

/// Field number of `Batch.events`.
const EVENTS_FIELD: u32 = 5;

/// Events up to here are in a parcel, or need no post.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Through {
    /// Every event of the batches up to this one.
    pub(super) sequence: u64,
    /// And so many of the batch after it.
    pub(super) events: u32,
}

/// Events on their way, the oldest first, as JSON objects with commas between them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Parcel {
    json: Vec<u8>,
    /// Offsets behind each event.
    ends: Vec<usize>,
    pub(super) through: Through,
}

impl Parcel {
    /// As it was written down; `None`: these offsets cannot be.
    pub(super) fn restore(json: Vec<u8>, ends: Vec<usize>, through: Through) -> Option<Self> {
        let ascending = ends.is_sorted_by(|before, after| before < after);
        let fits = ends.last().copied().unwrap_or(0) == json.len();
        (ascending && fits).then_some(Self { json, ends, through })
    }

    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    pub(super) fn ends(&self) -> &[usize] {
        &self.ends
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The first `count` events.
    pub(super) fn front(&self, count: usize) -> &[u8] {
        let end = count.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        self.json.get(..end).unwrap_or_default()
    }

    /// Takes the first `count` events out.
    pub(super) fn cut(&mut self, count: usize) {
        let count = count.min(self.ends.len());
        let end = self.front(count).len();
        // The comma, too.
        let from = (end + 1).min(self.json.len());
        self.json.drain(..from);
        self.ends.drain(..count);
        for later in &mut self.ends {
            *later -= from;
        }
        if self.ends.is_empty() {
            // One post in a storm is large; a router has better uses for the memory.
            self.json = Vec::new();
        }
    }

    fn put(&mut self, event: &Event) {
        let Self { json, ends, .. } = self;
        if !json.is_empty() {
            json.push(b',');
        }
        json::write(event, json, |json| {
            ends.push(json.len());
            json.push(b',');
        });
        // The comma that came last waits for its event.
        json.truncate(ends.last().copied().unwrap_or(0));
    }
}

/// Reads the spool event by event.
#[derive(Debug, Default)]
pub(super) struct Reader {
    open: Option<Open>,
}

/// A batch that is being read.
#[derive(Debug)]
struct Open {
    sequence: u64,
    rest: Bytes,
    read: u32,
    /// So many are not posted again.
    skip: u32,
    /// What is missing before it.
    lost: Option<Explanation>,
}

impl Reader {
    /// Goes on behind `through`, of which the spool may still hold something.
    pub(super) fn behind(through: Through, spool: &mut Spool) -> Self {
        while let Some(frame) = spool.next_frame(usize::MAX, usize::MAX) {
            if frame.sequence > through.sequence {
                let is_next = frame.sequence == through.sequence + 1;
                return Self { open: Some(Open::new(frame, if is_next { through.events } else { 0 })) };
            }
        }
        Self { open: None }
    }

    /// Puts events into the parcel until it holds `most`, or there are no more.
    pub(super) fn fill(&mut self, parcel: &mut Parcel, spool: &mut Spool, most: usize, beginnings: bool) {
        while parcel.len() < most {
            let Some(open) = &mut self.open else {
                let Some(frame) = spool.next_frame(usize::MAX, usize::MAX) else { return };
                self.open = Some(Open::new(frame, 0));
                continue;
            };
            if let Some(lost) = open.lost.take() {
                parcel.put(&explained(lost, open.rest.clone()));
                continue;
            }
            match next_event(&mut open.rest) {
                Some(event) => {
                    open.read += 1;
                    if open.read > open.skip && json::is_posted(&event, beginnings) {
                        parcel.put(&event);
                    }
                    parcel.through.events = open.read;
                }
                None => self.close(parcel),
            }
        }
        // A batch that ends here is done: it need not wait for the next parcel.
        if self.open.as_ref().is_some_and(|open| open.rest.is_empty()) {
            self.close(parcel);
        }
    }

    fn close(&mut self, parcel: &mut Parcel) {
        if let Some(open) = self.open.take() {
            parcel.through = Through { sequence: open.sequence, events: 0 };
        }
    }
}

impl Open {
    fn new(frame: Frame, skip: u32) -> Self {
        let Frame { sequence, payload, lost, .. } = frame;
        Self { sequence, rest: payload, read: 0, skip, lost }
    }
}

/// A hole in the spool, told as of the first event behind it.
fn explained(lost: Explanation, mut payload: Bytes) -> Event {
    let time_us = next_event(&mut payload).map_or(0, |event| event.time_us);
    let Explanation { batches, events, cause } = lost;
    let count = if events > 0 { events } else { batches };
    let detail = "dropped from the spool before it was posted".to_owned();
    let gap = Gap { cause: cause.into(), count, from_us: time_us, to_us: time_us, detail };
    Event { time_us, kind: Some(Kind::Gap(gap)) }
}

/// Takes the next event off an encoded `Batch`. The spool has checked the bytes; what is no event all the same
/// ends the batch.
fn next_event(payload: &mut Bytes) -> Option<Event> {
    while payload.has_remaining() {
        let (field, wire_type) = decode_key(payload).ok()?;
        match wire_type {
            WireType::Varint => {
                decode_varint(payload).ok()?;
            }
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(payload).ok()?).ok()?;
                if len > payload.len() {
                    return None;
                }
                let bytes = payload.split_to(len);
                if field == EVENTS_FIELD {
                    return Event::decode(bytes).ok();
                }
            }
            _ => return None,
        }
    }
    None
}
