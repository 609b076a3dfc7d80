//! One open flow, kept small: a router holds tens of thousands.

use std::cmp::Ordering;

use crate::{
    addresses::Place,
    decode::{Counters, CtMessage, Kind, Tuple, status},
};

/// The earliest start that is believed, 2000-01-01: before it a router had no clock yet.
const EARLIEST_US: i64 = 946_684_800_000_000;

/// Which of several flows with one key a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Same,
    Predecessor,
    Successor,
}

/// What makes an entry of the kernel's table one entry. The conntrack id belongs to it: of two entries
/// with one five-tuple, the old one's DESTROY may come after the new one's NEW, and must find its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) original: Tuple,
    pub(super) id: u32,
    pub(super) zone: u16,
    pub(super) protocol: u8,
    pub(super) v6: bool,
}

impl Key {
    pub(super) fn of(message: &CtMessage) -> Self {
        let CtMessage { original, id, zone, protocol, v6, .. } = *message;
        Key { original, id, zone, protocol, v6 }
    }
}

/// What only some flows have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra {
    /// What had been counted when the agent first looked.
    pub(super) before: Counters,
    /// What had been counted when somebody zeroed the kernel's counters.
    pub(super) zeroed: Counters,
}

/// An open flow.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) flow_id: u64,
    /// When it began: the kernel's word if `start_is_kernels`, else when it was first seen.
    pub(super) first_us: i64,
    /// When its counters were last seen to change.
    pub(super) last_us: i64,
    /// As the kernel last told them.
    pub(super) counters: Counters,
    extra: Option<Box<Extra>>,
    pub(super) key: Key,
    pub(super) reply: Tuple,
    pub(super) status: u32,
    pub(super) mark: u32,
    /// The last dump that held it, or that was running when it appeared.
    pub(super) dump: u32,
    /// Uptime in milliseconds, cut to 32 bits, of the first complete dump without it. Zero: not missed.
    pub(super) missed_ms: u32,
    /// [`Place`] in three bytes: direction, device, remote.
    pub(super) place: [u8; 3],
    /// The kernel's number plus one; zero: not known.
    pub(super) tcp_state: u8,
    pub(super) start_is_kernels: bool,
    /// Began while the agent was listening.
    pub(super) watched: bool,
    /// Changed since it was last reported.
    pub(super) dirty: bool,
    pub(super) no_counters: bool,
}

impl Entry {
    /// As a message tells it. `seen_us` is the beginning where the kernel does not tell one.
    pub(super) fn new(
        message: &CtMessage,
        flow_id: u64,
        seen_us: i64,
        place: Place,
        watched: bool,
        dump: u32,
    ) -> Self {
        let counters = message.counters.unwrap_or_default();
        let mut entry = Entry {
            flow_id,
            first_us: if message.event_us > EARLIEST_US { message.event_us.min(seen_us) } else { seen_us },
            last_us: seen_us,
            counters,
            extra: None,
            key: Key::of(message),
            reply: message.reply,
            status: message.status.unwrap_or(0),
            mark: message.mark.unwrap_or(0),
            dump,
            missed_ms: 0,
            // The values of these enums are below ten.
            place: [place.direction as u8, place.device as u8, place.remote as u8],
            tcp_state: 0,
            start_is_kernels: false,
            watched,
            dirty: false,
            no_counters: false,
        };
        entry.learn(message);
        if !watched {
            entry.extra_mut().before = counters;
        }
        entry
    }

    /// Takes in a later message about the same flow. True where something of it changed that is worth a
    /// report. Says through `zeroed` that counters went down.
    pub(super) fn update(&mut self, message: &CtMessage, now_us: i64, zeroed: &mut bool) -> bool {
        let mut changed = false;
        if let Some(counters) = message.counters {
            if counters.below(&self.counters) {
                // Who zeroes (IPCTNL_MSG_CT_GET_CTRZERO) zeroes all four at once.
                let so_far = self.counters;
                let extra = self.extra_mut();
                extra.zeroed = extra.zeroed.plus(&so_far);
                *zeroed = true;
            }
            if counters != self.counters {
                changed = true;
                self.last_us = now_us;
            }
            self.counters = counters;
        }
        let before = (self.status & !status::DYING, self.mark, self.tcp_state, self.start_is_kernels);
        self.status = message.status.unwrap_or(self.status);
        self.mark = message.mark.unwrap_or(self.mark);
        self.learn(message);
        changed |= before != (self.status & !status::DYING, self.mark, self.tcp_state, self.start_is_kernels);
        self.dirty |= changed;
        changed
    }

    /// What every message but NEW tells for good.
    fn learn(&mut self, message: &CtMessage) {
        if let Some(state) = message.tcp_state {
            self.tcp_state = state.saturating_add(1);
        }
        if message.start_us >= EARLIEST_US {
            self.first_us = message.start_us;
            self.start_is_kernels = true;
        }
        if matches!(message.kind, Kind::Row | Kind::Destroy) {
            self.no_counters = message.counters.is_none();
        }
    }

    /// Which of the flows with this key `message` is about: the kernel may have given the same five-tuple
    /// the same conntrack id again, because it put the entry into the same memory. `ended` says whether
    /// the flow that the message is about is known to have ended.
    pub(super) fn relation(&self, message: &CtMessage, dump: u32, ended: impl Fn() -> bool) -> Relation {
        let stamped = message.start_us >= EARLIEST_US;
        if stamped && self.start_is_kernels {
            return match message.start_us.cmp(&self.first_us) {
                Ordering::Less => Relation::Predecessor,
                Ordering::Equal => Relation::Same,
                Ordering::Greater => Relation::Successor,
            };
        }
        // Without timestamps only the row of a dump that was running already can be about an earlier one.
        let in_doubt = stamped || message.kind == Kind::Row && self.dump == dump;
        if in_doubt && ended() {
            Relation::Predecessor
        } else if stamped && message.start_us > self.last_us {
            // Not `first_us`: CTA_TIMESTAMP_EVENT of a NEW is some microseconds older than the start.
            Relation::Successor
        } else {
            Relation::Same
        }
    }

    /// Since the flow began, whatever somebody zeroed in between.
    pub(super) fn total(&self) -> Counters {
        match &self.extra {
            Some(extra) => extra.zeroed.plus(&self.counters),
            None => self.counters,
        }
    }

    /// What had been counted when the agent first looked.
    pub(super) fn before(&self) -> Counters {
        self.extra.as_ref().map(|extra| extra.before).unwrap_or_default()
    }

    fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
}

#[cfg(test)]
#[test]
fn an_entry_stays_small() {
    // 16,384 flows in 3 MB leave room for the rest of an agent of 12 MB.
    assert!(size_of::<Entry>() <= 176, "{} bytes", size_of::<Entry>());
}
