//! The hot state of the writer: what is open, how far each agent is committed, and what the next
//! transaction will write.
//!
//! Pure: batches and `now` go in, [`Changes`] come out. It never touches the database and never reads a
//! clock. What it holds in memory is what the database holds plus the changes not yet taken; after a
//! transaction is lost for good, [`Engine::forget_all`] drops it and routers are attached anew.
//!
//! Maps by address, tuple or name keep the standard library's keyed hash, for strangers choose those keys: with a hash
//! that can be foreseen, answers full of chosen addresses would stop the writer. Ids and flow ids are the parts' own.

mod ends;
mod events;
mod live;
mod names;
mod pending;
mod router;
mod tuples;

use std::{collections::HashMap, net::IpAddr};

use rustc_hash::FxHashMap;

use live::Recent;
pub use live::{LiveFlow, LiveSnapshot, Rate};
use names::RecentFlow;
use pending::Pending;
use router::{RouterState, Tenant};

use crate::{
    domain::{
        Changes, CursorMove, FlowId, FlowRecord, GapRow, HttpBatch, KnownAnswer, Mac, Micros, NamedFlow,
        Observed, RawEvent, RouterId, RouterUpdate, WRITES,
    },
    ingest::{Checked, FlowReport, Observation},
};
use netmon_proto::v1::GapCause;

/// One batch, checked event by event.
#[derive(Debug)]
pub struct CheckedBatch {
    /// From which router.
    pub router: RouterId,
    /// Which run of its agent; zero: none (each call counts).
    pub epoch: u64,
    /// Its sequence; zero: none.
    pub sequence: u64,
    /// How many sequences right before it no longer exist.
    pub lost_before: u64,
    /// How many events those held.
    pub lost_events: u64,
    /// Why they are lost.
    pub lost_cause: i16,
    /// What passed.
    pub events: Vec<Checked>,
    /// How many events were refused.
    pub refused: u64,
    /// What it is known by, if it came over HTTP.
    pub http: Option<HttpBatch>,
}

/// What the database knows about a router, for its state in memory.
#[derive(Debug, Default)]
pub struct Known {
    /// Its open flows, in the order of their ids.
    pub open: Vec<FlowRecord>,
    /// The flows that ended last, the newest first.
    pub ended: Vec<FlowRecord>,
    /// Which MAC holds an address.
    pub holders: Vec<(IpAddr, Mac)>,
    /// What its devices asked for lately, the oldest first.
    pub answers: Vec<KnownAnswer>,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in the next changes.
    Taken,
    /// It was committed before.
    Duplicate,
    /// There is a hole before it that it does not explain.
    Hole {
        /// The sequence that was due.
        expected: u64,
    },
    /// The router is not attached (any more).
    Detached,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Engine {
    routers: FxHashMap<RouterId, RouterState>,
    names: HashMap<String, RouterId>,
    pending: Pending,
    recent: Recent,
    ids: std::ops::Range<i64>,
    clamped: u64,
}

impl Engine {
    /// Takes a block of row ids for new flows.
    pub fn give_ids(&mut self, first: i64, count: i64) {
        self.ids = first..first + count;
    }

    /// How many row ids are left. A batch may need as many as it has events.
    #[must_use]
    pub fn ids_left(&self) -> i64 {
        self.ids.end - self.ids.start
    }

    /// How many fields of events were clamped since the start.
    #[must_use]
    pub fn clamped(&self) -> u64 {
        self.clamped
    }

    /// The router of that name, if its state is in memory.
    #[must_use]
    pub fn router_named(&self, name: &str) -> Option<RouterId> {
        self.names.get(name).copied()
    }

    /// Loads what is known about a router.
    pub fn attach(&mut self, router: RouterId, name: &str, known: Known) {
        self.names.insert(name.to_owned(), router);
        self.routers.insert(router, RouterState::new(name, known));
    }

    /// Whether a batch that came over HTTP is in the next changes, and what was counted of it.
    #[must_use]
    pub fn pending_http_batch(&self, router: RouterId, digest: &[u8; 32]) -> Option<HttpBatch> {
        self.pending.http_batches.get(&(router, *digest)).copied()
    }

    /// Drops everything that is not committed, and what rests on it.
    pub fn forget_all(&mut self) {
        self.routers.clear();
        self.names.clear();
        self.pending = Pending::default();
        self.recent = Recent::default();
    }

    /// How far the epoch is committed, if that is in memory.
    #[must_use]
    pub fn cursor(&self, router: RouterId, epoch: u64) -> Option<u64> {
        self.routers.get(&router)?.cursors.get(&epoch).copied()
    }

    /// Notes how far the epoch is committed. `stored` says whether that stands in the database; an epoch
    /// that the database does not know is written with the next changes, at `last`.
    pub fn load_cursor(&mut self, router: RouterId, epoch: u64, stored: bool, last: u64) {
        let Some(state) = self.routers.get_mut(&router) else { return };
        state.cursors.insert(epoch, last);
        if !stored {
            self.pending.cursors.insert((router, epoch), CursorMove { router, epoch, from: None, to: last });
        }
    }

    /// Whether the next changes have something that rests on what is in memory of a router, see [`WRITES`].
    #[must_use]
    pub fn is_written(&self, router: RouterId) -> bool {
        self.pending.cursors.contains_key(&(router, WRITES))
    }

    /// Records that something is missing.
    pub fn gap(&mut self, gap: GapRow) {
        self.pending.gap(gap);
    }

    /// Merges new facts about a router into the next changes.
    pub fn update_router(&mut self, update: RouterUpdate) {
        self.pending.update_router(update);
    }

    /// Applies one batch.
    pub fn apply(&mut self, batch: CheckedBatch, now: Micros) -> Applied {
        let Some(state) = self.routers.get_mut(&batch.router) else { return Applied::Detached };
        if batch.epoch != 0 && batch.sequence != 0 {
            let Some(last) = state.cursors.get(&batch.epoch).copied() else { return Applied::Detached };
            if batch.sequence <= last {
                return Applied::Duplicate;
            }
            let missing = batch.sequence - last - 1;
            if missing > batch.lost_before {
                return Applied::Hole { expected: last + 1 };
            }
            state.cursors.insert(batch.epoch, batch.sequence);
            self.pending.move_cursor(batch.router, batch.epoch, last, batch.sequence);
            if missing > 0 {
                state.hole();
                let events = if batch.lost_events > 0 { batch.lost_events } else { missing };
                self.pending.gap(GapRow {
                    router: batch.router,
                    cause: batch.lost_cause,
                    count: i64::try_from(events).unwrap_or(i64::MAX),
                    from: now,
                    to: now,
                    detail: format!("sequences {} to {} no longer exist", last + 1, batch.sequence - 1),
                });
            }
        }
        if let Some(http) = batch.http {
            if self.pending.http_batches.contains_key(&(batch.router, http.digest)) {
                return Applied::Duplicate;
            }
            self.pending.http_batches.insert((batch.router, http.digest), http);
            for flow_id in state.tuples.gone(&state.open, now) {
                Self::end_unseen(state, &mut self.pending, &mut self.recent, flow_id, now);
            }
        }
        Self::count_write(state, &mut self.pending, batch.router);
        if batch.refused > 0 {
            self.pending.gap(GapRow {
                router: batch.router,
                cause: GapCause::Refused as i16,
                count: i64::try_from(batch.refused).unwrap_or(i64::MAX),
                from: now,
                to: now,
                detail: "events refused as invalid".to_owned(),
            });
        }
        let mut update = RouterUpdate::heard(batch.router, now);
        for event in batch.events {
            self.clamped += u64::from(event.clamped);
            update.lag_us = Some((now - event.time).max(0));
            match event.what {
                Observation::Flow(report) => {
                    Self::apply_flow(
                        state,
                        &mut self.pending,
                        &mut self.recent,
                        &mut self.ids,
                        batch.router,
                        event.time,
                        *report,
                    );
                }
                Observation::SyncBegin(id) => state.begin_sync(id),
                Observation::SyncEnd(id) => {
                    for flow_id in state.end_sync(id) {
                        Self::end_unseen(state, &mut self.pending, &mut self.recent, flow_id, event.time);
                    }
                }
                Observation::Heartbeat(beat) => {
                    update.open_flows = Some(i64::try_from(beat.open_flows).unwrap_or(i64::MAX));
                    update.spool_bytes = Some(i64::try_from(beat.spool_bytes).unwrap_or(i64::MAX));
                    update.memory_bytes = Some(i64::try_from(beat.memory_bytes).unwrap_or(i64::MAX));
                    update.warnings = Some(state.warnings.of_heartbeat(&beat.warnings));
                }
                Observation::Gap(gap) => self.pending.gap(GapRow {
                    router: batch.router,
                    cause: gap.cause,
                    count: gap.count,
                    from: gap.from,
                    to: gap.to,
                    detail: gap.detail,
                }),
                Observation::Drop(drop) => {
                    self.pending.drops.push(Observed { router: batch.router, time: event.time, what: *drop });
                }
                Observation::Alive => {}
                Observation::Own(addresses) => state.own_addresses(addresses),
                Observation::Dns(response) => {
                    // The original agent may tell an answer more than once.
                    if batch.http.is_some() && !state.told.is_new(event.time, &response) {
                        continue;
                    }
                    state.names.answered(event.time, &response);
                    self.pending.dns_answered(batch.router, event.time, *response, &state.own);
                }
                Observation::Bucket(bucket) => {
                    self.pending.dns_counted(batch.router, event.time, *bucket, &state.own);
                }
                Observation::Identity(identity) => {
                    state.names.identified(&identity);
                    self.pending.identified(batch.router, event.time, *identity);
                }
                Observation::Health(health) => {
                    update.warnings = Some(state.warnings.of_health(&health.warnings));
                    self.pending.health_sampled(batch.router, event.time, *health);
                }
                Observation::Raw(payload) => self.pending.raw.push(RawEvent {
                    router: batch.router,
                    kind: 0,
                    time: event.time,
                    payload: payload.into(),
                }),
            }
        }
        self.pending.update_router(update);
        for flow in state.names.take_named() {
            Self::name_flow(state, &mut self.pending, batch.router, flow);
        }
        Applied::Taken
    }

    /// A name of a flow became known, or a better one: wherever the flow is by now.
    fn name_flow(state: &mut RouterState, pending: &mut Pending, router: RouterId, flow: RecentFlow) {
        let RecentFlow { row, flow_id, last_seen, name, .. } = flow;
        if let Some(entry) = state.open.get_mut(&flow_id).filter(|entry| entry.record.id.0 == row) {
            entry.record.name = name;
            pending.open.insert((router, flow_id));
        } else if let Some(record) = pending.finished.iter_mut().find(|record| record.id.0 == row) {
            record.name = name;
        } else if let Some(name) = name {
            pending.named.insert(row, NamedFlow { id: FlowId(row), last_seen, name });
        }
    }

    fn apply_flow(
        state: &mut RouterState,
        pending: &mut Pending,
        recent: &mut Recent,
        ids: &mut std::ops::Range<i64>,
        router: RouterId,
        time: Micros,
        report: FlowReport,
    ) {
        if let Tenant::Over(other) = state.tenant(&report) {
            Self::end_unseen(state, pending, recent, other, time);
        }
        let Some(touch) = state.take_report(router, time, report, ids) else { return };
        pending.flow_touched(&touch);
        let Some(end) = touch.end else {
            pending.open.insert((router, touch.flow_id));
            return;
        };
        Self::close(state, pending, recent, touch.flow_id, end, time);
    }

    /// Where several servers write, the next changes have something of this router, see [`WRITES`].
    fn count_write(state: &mut RouterState, pending: &mut Pending, router: RouterId) {
        if let Some(writes) = state.cursors.get_mut(&WRITES) {
            pending.move_cursor(router, WRITES, *writes, *writes + 1);
            *writes += 1;
        }
    }

    /// Takes what the next transaction must write.
    pub fn take_changes(&mut self) -> Changes {
        let mut pending = std::mem::take(&mut self.pending);
        self.clamped += pending.clamped;
        let mut open = Vec::with_capacity(pending.open.len());
        for (router, flow_id) in pending.open.drain() {
            if let Some(entry) = self.routers.get_mut(&router).and_then(|state| state.open.get_mut(&flow_id))
            {
                entry.stored = true;
                open.push(entry.record.clone());
            }
        }
        // In the order of their ids the rows go in at the right edge of the tree.
        open.sort_unstable_by_key(|record| record.id);
        pending.into_changes(open)
    }
}

/// The next row id. The writer sees to it that the block never runs dry.
fn next_id(ids: &mut std::ops::Range<i64>) -> FlowId {
    FlowId(ids.next().expect("the writer reserves as many ids as a batch has events"))
}

#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tuples_tests;
