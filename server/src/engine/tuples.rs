//! Flows of agents that give them no id: the original agent names a flow by its five-tuple alone.
//!
//! NEW, UPDATE and DESTROY of one tuple are one flow; a NEW that began later than the open one is another. Batches may
//! arrive late (the agent posts what failed again, after newer ones), so what a report is about is decided by its time.

use std::collections::HashMap;

use rustc_hash::FxHashMap;

use super::router::OpenEntry;
use crate::{
    domain::{Counters, End, FlowKey, FlowRecord, Micros, is_by_tuple},
    ingest::{FlowReport, Phase},
};

/// Tuples of ended flows that are remembered, for reports that come late.
const ENDED: usize = 8192;

const HOUR_US: Micros = 3_600_000_000;

/// The kernel's time-out of an established connection without traffic (nf_conntrack_tcp_timeout_established): after
/// it the flow is gone, whatever was heard.
const TCP_QUIET_US: Micros = 120 * HOUR_US;
/// Of others the kernel forgets sooner, but one with traffic lives on unheard: NEW is all that is told of it.
const QUIET_US: Micros = 6 * HOUR_US;
/// How long the end of a flow whose tuple is in use again may be on its way.
const DISPLACED_QUIET_US: Micros = HOUR_US;

/// How often a router's flows are looked through.
const SWEEP_US: Micros = 60_000_000;

/// What a report without an id is about.
pub(super) enum ByTuple {
    /// This open flow.
    Flow(u64),
    /// One that nothing was heard of yet.
    New {
        /// What was counted of the flow before it was silent for so long that it was taken for gone.
        counted: Counters,
    },
    /// One that has ended: there is nothing more to tell.
    Late,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tuples {
    /// Open flows whose tuple a later one uses; their ends may still come.
    displaced: HashMap<FlowKey, Vec<Displaced>>,
    /// The last flow of a tuple that ended.
    ended: HashMap<FlowKey, Ended>,
    swept: Micros,
}

/// An open flow that a later one of its tuple followed.
#[derive(Clone, Copy, Debug)]
struct Displaced {
    flow_id: u64,
    /// When the next one of the tuple began, which may have ended since: what was told from then on is not about this.
    until: Micros,
}

/// When an ended flow was heard of last.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// When it moved something.
    last_seen: Micros,
    /// When its end was observed: later, if it had been silent. After a restart that is not known.
    told: Micros,
    /// Nobody saw its end: it was silent for too long, and may speak again. What was counted of it until then.
    unseen: Option<Counters>,
}

/// The id of a flow that was told without one: one that [`is_by_tuple`].
pub(super) fn by_tuple_id(row: i64) -> u64 {
    (row.cast_unsigned() & u64::from(u32::MAX)).max(1)
}

/// An id for a flow that was told without one. Row ids repeat their low half, on Postgres every day.
pub(super) fn free_id(open: &FxHashMap<u64, OpenEntry>, row: i64) -> u64 {
    let mut id = by_tuple_id(row);
    while open.contains_key(&id) {
        id = by_tuple_id(id.cast_signed() + 1);
    }
    id
}

fn began(open: &FxHashMap<u64, OpenEntry>, flow_id: u64) -> Option<Micros> {
    open.get(&flow_id).map(|entry| entry.record.first_seen)
}

impl Tuples {
    /// Finds what a report is about. `current` is the open flow of its tuple.
    pub(super) fn find(
        &self,
        open: &FxHashMap<u64, OpenEntry>,
        current: Option<u64>,
        report: &FlowReport,
        time: Micros,
    ) -> ByTuple {
        let starts = report.phase == Phase::New;
        if let Some(current) = current
            && let Some(since) = began(open, current)
        {
            if starts && report.first_seen > since {
                return ByTuple::New { counted: Counters::default() };
            }
            if time >= since {
                return ByTuple::Flow(current);
            }
        }
        let is_about = |earlier: &&Displaced| {
            began(open, earlier.flow_id).is_some_and(|since| {
                (since..earlier.until).contains(&time) && !(starts && report.first_seen > since)
            })
        };
        let earlier = self.displaced.get(&report.key).into_iter().flatten().find(is_about);
        if let Some(earlier) = earlier {
            return ByTuple::Flow(earlier.flow_id);
        }
        let is_late = |ended: &Ended| match report.phase {
            // An end tells all of its flow, and a batch that came before is not applied again.
            Phase::End { .. } => false,
            // A snapshot tells an end and what uses its tuple in one moment.
            Phase::New | Phase::Found => time <= ended.last_seen,
            Phase::Progress if ended.unseen.is_some() => time <= ended.last_seen,
            Phase::Progress => time <= ended.told || report.first_seen <= ended.last_seen,
        };
        let ended = self.ended.get(&report.key);
        if ended.is_some_and(is_late) {
            return ByTuple::Late;
        }
        // The same flow again, if it began before and its counters went on from there.
        let counted = ended
            .filter(|ended| report.first_seen <= ended.last_seen)
            .and_then(|ended| ended.unseen)
            .filter(|counted| counted.min(report.counters) == *counted);
        ByTuple::New { counted: counted.unwrap_or_default() }
    }

    /// A flow without an id begins, and is put in its place among the open ones of its tuple, of which `current` is the
    /// present one. Whether it is that from now on.
    pub(super) fn begin(
        &mut self,
        open: &FxHashMap<u64, OpenEntry>,
        current: Option<u64>,
        (key, flow_id): (FlowKey, u64),
        since: Micros,
    ) -> bool {
        let mut next = self.bound(open, key, since);
        if let Some(current) = current
            && let Some(began) = began(open, current)
        {
            if began > since {
                next = Some(next.unwrap_or(began).min(began));
            } else {
                self.displace(key, current, since);
            }
        }
        if let Some(next) = next {
            self.displace(key, flow_id, next);
        }
        next.is_none()
    }

    /// A flow of this tuple began at `since`: those before it were over by then. When the next one began.
    fn bound(&mut self, open: &FxHashMap<u64, OpenEntry>, key: FlowKey, since: Micros) -> Option<Micros> {
        let mut next: Option<Micros> = None;
        for other in self.displaced.get_mut(&key).into_iter().flatten() {
            match began(open, other.flow_id) {
                Some(began) if began > since => next = Some(next.unwrap_or(began).min(began)),
                _ => other.until = other.until.min(since),
            }
        }
        next
    }

    fn displace(&mut self, key: FlowKey, flow_id: u64, until: Micros) {
        self.displaced.entry(key).or_default().push(Displaced { flow_id, until });
    }

    /// One that has ended is known from before a restart. An open one of its tuple that began earlier is not the
    /// present one, as which it was read.
    pub(super) fn restore_ended(
        &mut self,
        open: &FxHashMap<u64, OpenEntry>,
        by_key: &mut HashMap<FlowKey, u64>,
        record: &FlowRecord,
    ) {
        self.bound(open, record.key, record.first_seen);
        if let Some(current) = by_key.get(&record.key).copied()
            && is_by_tuple(current)
            && began(open, current).is_some_and(|since| since < record.first_seen)
        {
            by_key.remove(&record.key);
            self.displace(record.key, current, record.first_seen);
        }
        self.ended(record, record.last_seen);
    }

    /// A flow has ended that was last reported then.
    pub(super) fn closed(&mut self, record: &FlowRecord, reported_at: Micros) {
        if let Some(flows) = self.displaced.get_mut(&record.key) {
            flows.retain(|other| other.flow_id != record.flow_id);
            if flows.is_empty() {
                self.displaced.remove(&record.key);
            }
        }
        self.ended(record, reported_at);
    }

    /// A flow ended, and that was observed then.
    pub(super) fn ended(&mut self, record: &FlowRecord, told: Micros) {
        if self.ended.len() >= ENDED {
            self.ended.clear();
        }
        let unseen = (record.end == Some(End::Unseen)).then_some(record.counters);
        let ended = Ended { last_seen: record.last_seen, told: told.max(record.last_seen), unseen };
        let latest = self.ended.entry(record.key).or_insert(ended);
        if ended.last_seen >= latest.last_seen {
            latest.unseen = ended.unseen;
        }
        latest.last_seen = ended.last_seen.max(latest.last_seen);
        latest.told = ended.told.max(latest.told);
    }

    /// Flows that nothing was heard of for so long that they must be gone. Looked for once a minute.
    pub(super) fn gone(&mut self, open: &FxHashMap<u64, OpenEntry>, now: Micros) -> Vec<u64> {
        if now - self.swept < SWEEP_US {
            return Vec::new();
        }
        self.swept = now;
        let is_gone = |flow_id: u64, entry: &OpenEntry| {
            let flows = self.displaced.get(&entry.record.key);
            let displaced = flows.is_some_and(|flows| flows.iter().any(|other| other.flow_id == flow_id));
            let quiet = match (displaced, entry.record.key.protocol) {
                (true, _) => DISPLACED_QUIET_US,
                (false, 6) => TCP_QUIET_US,
                (false, _) => QUIET_US,
            };
            now - entry.reported_at > quiet
        };
        open.iter()
            .filter(|(flow_id, entry)| is_by_tuple(**flow_id) && is_gone(**flow_id, entry))
            .map(|(flow_id, _)| *flow_id)
            .collect()
    }
}
