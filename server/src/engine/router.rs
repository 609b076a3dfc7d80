//! One router's open flows and cursors.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Known,
    events::{Told, Warnings},
    live::Rate,
    names::{Names, RecentFlow},
    next_id,
    pending::FlowTouch,
    tuples::{ByTuple, Tuples, free_id},
};
use crate::{
    domain::{Counters, End, FlowKey, FlowRecord, Micros, RouterId, is_by_tuple},
    ingest::{FlowReport, Phase},
};

/// Addresses of a router itself that are remembered.
const MOST_OWN: usize = 1024;

/// A rate is shown until the next report is overdue: for twice the time that it was computed over, within
/// these limits. A flow that stands still is not reported.
const RATE_VALID_US: std::ops::RangeInclusive<Micros> = 3_000_000..=25_000_000;

/// The kernel dates its event of a new flow when it makes the entry, and its start when the first packet has
/// passed all rules: some microseconds later, or as long as a busy machine lets the packet wait.
const START_AFTER_EVENT_US: Micros = 100_000;

#[derive(Debug)]
pub(super) struct RouterState {
    pub(super) name: Arc<str>,
    pub(super) open: FxHashMap<u64, OpenEntry>,
    pub(super) cursors: FxHashMap<u64, u64>,
    by_key: HashMap<FlowKey, u64>,
    pub(super) names: Names,
    pub(super) tuples: Tuples,
    /// The router's own addresses: nobody's device.
    pub(super) own: HashSet<IpAddr>,
    pub(super) told: Told,
    sync: Option<Sync>,
    /// Batches were lost since the last BEGIN: the END of that sync would end flows whose reports were
    /// among them. The agent begins another one.
    holed: bool,
    pub(super) warnings: Warnings,
}

/// What an open flow is to another one of the same tuple, see [`RouterState::tenant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    /// There is none.
    None,
    /// It is the same flow, under an id of an earlier run.
    Same(u64),
    /// It is over: the kernel uses its tuple for another one.
    Over(u64),
    /// It began later, and goes on: the report is a late one.
    Later,
}

#[derive(Debug)]
struct Sync {
    id: u64,
    reported: FxHashSet<u64>,
}

#[derive(Debug)]
pub(super) struct OpenEntry {
    pub(super) record: FlowRecord,
    /// Whether a row of it is in `open_flows` (or in changes that will be written before anything else).
    pub(super) stored: bool,
    rate: Rate,
    rate_valid_us: Micros,
    pub(super) reported_at: Micros,
}

impl OpenEntry {
    pub(super) fn rate(&self, now: Micros) -> Rate {
        if now - self.reported_at <= self.rate_valid_us { self.rate } else { Rate::default() }
    }
}

/// The tag of the agent's run that an id was made in.
fn run_tag(id: u64) -> u64 {
    id >> 32
}

impl RouterState {
    /// The router holds these. An agent tells all of them again and again, so that those that it no longer
    /// has may be forgotten when there are too many.
    pub(super) fn own_addresses(&mut self, addresses: Vec<IpAddr>) {
        if self.own.len() + addresses.len() > MOST_OWN {
            self.own.clear();
        }
        self.own.extend(addresses.into_iter().take(MOST_OWN));
    }

    pub(super) fn new(name: &str, known: Known) -> Self {
        let mut tuples = Tuples::default();
        let mut by_key: HashMap<FlowKey, u64> = HashMap::new();
        let mut names = Names::default();
        for (address, mac) in known.holders {
            names.hold(address, mac);
        }
        names.restore(known.answers);
        for record in known.ended.iter().rev().chain(&known.open) {
            if let Some(flow) = recent_flow(record) {
                names.began(flow);
            }
        }
        let order: Vec<(FlowKey, u64)> =
            known.open.iter().map(|record| (record.key, record.flow_id)).collect();
        let open: FxHashMap<u64, OpenEntry> = known
            .open
            .into_iter()
            .map(|record| {
                let reported_at = record.last_seen;
                (
                    record.flow_id,
                    OpenEntry { record, stored: true, rate: Rate::default(), rate_valid_us: 0, reported_at },
                )
            })
            .collect();
        // In the order of their ids, so that the newest of one tuple stands for it; without ids the times tell.
        for (key, flow_id) in order {
            let since = open[&flow_id].record.first_seen;
            let current = by_key.get(&key).copied();
            if !is_by_tuple(flow_id) || tuples.begin(&open, current, (key, flow_id), since) {
                by_key.insert(key, flow_id);
            }
        }
        for record in known.ended.iter().rev().filter(|record| is_by_tuple(record.flow_id)) {
            tuples.restore_ended(&open, &mut by_key, record);
        }
        Self {
            name: name.into(),
            open,
            by_key,
            names,
            tuples,
            own: HashSet::new(),
            told: Told::default(),
            cursors: FxHashMap::default(),
            sync: None,
            holed: false,
            warnings: Warnings::default(),
        }
    }

    /// Batches of this router no longer exist.
    pub(super) fn hole(&mut self) {
        self.holed = true;
    }

    pub(super) fn begin_sync(&mut self, id: u64) {
        self.holed = false;
        self.sync = Some(Sync { id, reported: FxHashSet::default() });
    }

    /// The flows that the sync shows to be gone. Flows of earlier runs of the agent are gone if nothing
    /// joined them to the present run, whether or not this server heard the sync begin.
    pub(super) fn end_sync(&mut self, id: u64) -> Vec<u64> {
        let sync = self.sync.take().filter(|sync| sync.id == id);
        if self.holed {
            return Vec::new();
        }
        self.open
            .keys()
            .copied()
            .filter(|&flow_id| {
                run_tag(flow_id) != run_tag(id)
                    || sync.as_ref().is_some_and(|sync| !sync.reported.contains(&flow_id))
            })
            .collect()
    }

    /// What the open flow of its tuple is to the flow that a report with a new id is about.
    pub(super) fn tenant(&self, report: &FlowReport) -> Tenant {
        if report.flow_id == 0 || self.open.contains_key(&report.flow_id) {
            return Tenant::None;
        }
        let open =
            self.by_key.get(&report.key).and_then(|other| Some((*other, &self.open.get(other)?.record)));
        match open {
            None => Tenant::None,
            Some((_, open)) if began_before(report, open) => Tenant::Later,
            Some((other, open)) if continues(open, report) => Tenant::Same(other),
            Some((other, _)) => Tenant::Over(other),
        }
    }

    /// Takes a report into the table: the flow it names, the one it continues, or a new one.
    pub(super) fn take_report(
        &mut self,
        router: RouterId,
        time: Micros,
        mut report: FlowReport,
        ids: &mut std::ops::Range<i64>,
    ) -> Option<FlowTouch> {
        let flow_id = match report.flow_id {
            0 => match self.tuples.find(&self.open, self.by_key.get(&report.key).copied(), &report, time) {
                ByTuple::Flow(flow_id) => flow_id,
                ByTuple::New { counted } => {
                    report.before = report.before.max(counted);
                    free_id(&self.open, ids.start)
                }
                ByTuple::Late => return None,
            },
            flow_id => flow_id,
        };
        if let Some(sync) = &mut self.sync {
            sync.reported.insert(flow_id);
        }
        let mut began = false;
        if !self.open.contains_key(&flow_id) {
            let tenant = self.tenant(&report);
            let continued = match tenant {
                Tenant::Same(other) => self.open.remove(&other).inspect(|entry| {
                    self.names.renumbered(entry.record.id.0, flow_id);
                }),
                Tenant::None | Tenant::Over(_) | Tenant::Later => None,
            };
            let entry = continued.unwrap_or_else(|| {
                began = true;
                let mut entry = new_entry(router, time, &report, flow_id, ids);
                if let Some(mut flow) = recent_flow(&entry.record) {
                    flow.name = self.names.name_of(flow.device, flow.responder, flow.first_seen);
                    entry.record.name.clone_from(&flow.name);
                    self.names.began(flow);
                }
                entry
            });
            // A late report of an earlier flow does not make that one the tuple's.
            let is_present = if began && is_by_tuple(flow_id) {
                let current = self.by_key.get(&report.key).copied();
                self.tuples.begin(&self.open, current, (report.key, flow_id), report.first_seen)
            } else {
                tenant != Tenant::Later
            };
            if is_present {
                self.by_key.insert(report.key, flow_id);
            }
            self.open.insert(flow_id, entry);
        }
        let Some(entry) = self.open.get_mut(&flow_id) else {
            unreachable!("the entry was there or has just been put there")
        };
        let record = &mut entry.record;
        record.flow_id = flow_id;
        let counters = record.counters.max(report.counters);
        let moved = counters.minus(record.counters);
        let clamped = counters != report.counters;
        record.counters = counters;
        record.last_seen = record.last_seen.max(report.last_seen);
        record.first_seen = match report.kernel_start {
            // The kernel's own word, where the one before was the time of an event. Another time stands for it where
            // its clock was wrong.
            Some(start) if start == report.first_seen => start,
            _ => record.first_seen.min(report.first_seen),
        };
        record.kernel_start = record.kernel_start.or(report.kernel_start);
        record.reply = report.reply.or(record.reply);
        if report.tcp_state != 0 {
            record.tcp_state = report.tcp_state;
        }
        record.status |= report.status;
        record.mark = report.mark;
        record.no_counters = report.no_counters;
        let elapsed = time - entry.reported_at;
        if elapsed > 0 {
            entry.rate_valid_us = (2 * elapsed).clamp(*RATE_VALID_US.start(), *RATE_VALID_US.end());
            let per_second = 1_000_000.0 / elapsed as f64;
            entry.rate = Rate {
                orig: moved.bytes_orig as f64 * per_second,
                reply: moved.bytes_reply as f64 * per_second,
            };
        }
        entry.reported_at = time;
        Some(FlowTouch {
            router,
            flow_id,
            device: record.device,
            remote: record.remote,
            protocol: record.key.protocol,
            port: record.service_port(),
            began_at: began.then_some(if report.phase == Phase::Found { time } else { record.first_seen }),
            seen: time,
            moved,
            moved_at: report.last_seen,
            clamped,
            end: match report.phase {
                Phase::End { seen: true } => Some(End::Seen),
                Phase::End { seen: false } => Some(End::Unseen),
                Phase::New | Phase::Found | Phase::Progress => None,
            },
        })
    }

    /// Takes a flow that has ended out of the table.
    pub(super) fn remove(&mut self, flow_id: u64, end: End) -> Option<OpenEntry> {
        let mut entry = self.open.remove(&flow_id)?;
        entry.record.end = Some(end);
        if self.by_key.get(&entry.record.key) == Some(&flow_id) {
            self.by_key.remove(&entry.record.key);
        }
        if is_by_tuple(flow_id) {
            self.tuples.closed(&entry.record, entry.reported_at);
        }
        Some(entry)
    }
}

fn new_entry(
    router: RouterId,
    time: Micros,
    report: &FlowReport,
    flow_id: u64,
    ids: &mut std::ops::Range<i64>,
) -> OpenEntry {
    let record = FlowRecord {
        id: next_id(ids),
        router,
        flow_id,
        key: report.key,
        reply: report.reply,
        icmp: report.icmp,
        direction: report.direction,
        device: report.device,
        remote: report.remote,
        // What had moved before it was watched counts as known from the start; the rest of the report's
        // counters is what moved since.
        counters: report.before,
        before: report.before,
        first_seen: report.first_seen,
        last_seen: report.last_seen,
        kernel_start: report.kernel_start,
        tcp_state: report.tcp_state,
        status: report.status,
        mark: report.mark,
        no_counters: report.no_counters,
        end: None,
        name: None,
    };
    OpenEntry {
        record,
        stored: false,
        rate: Rate::default(),
        rate_valid_us: 0,
        reported_at: report.first_seen.min(time),
    }
}

/// The flow as the names look at it, if a device began it.
fn recent_flow(record: &FlowRecord) -> Option<RecentFlow> {
    let device = record.device.filter(|device| *device == record.key.tuple.src)?;
    Some(RecentFlow {
        row: record.id.0,
        flow_id: record.flow_id,
        device,
        responder: record.responder(),
        first_seen: record.first_seen,
        last_seen: record.last_seen,
        name: record.name.clone(),
    })
}

/// Whether a report is about a flow that began before the open one. The end of a flow may be told after the
/// beginning of the next one of its tuple, and after a row of the kernel's table made the agent take the next one
/// for it: its end then comes under an id of its own.
fn began_before(report: &FlowReport, open: &FlowRecord) -> bool {
    report.kernel_start.zip(open.kernel_start).is_some_and(|(start, open)| start < open)
}

/// Whether a report under a new id is about a flow that is open under an id of an earlier run.
fn continues(open: &FlowRecord, report: &FlowReport) -> bool {
    let same_start = match (open.kernel_start, report.kernel_start) {
        (Some(a), Some(b)) => a == b,
        // Of the open one only the beginning was heard, and the kernel does not tell the start with it. But
        // it was there when it was first seen; one that started later has its tuple and its memory.
        (None, Some(start)) => start <= open.first_seen + START_AFTER_EVENT_US,
        _ => true,
    };
    let not_less = |open: Counters, now: Counters| open.max(now) == now;
    report.phase != Phase::New
        && run_tag(open.flow_id) != run_tag(report.flow_id)
        && same_start
        && not_less(open.counters, report.counters)
}
