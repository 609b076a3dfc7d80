//! The table of open flows: conntrack messages in, events out.
//!
//! Pure: no socket, and the time comes with every call as a [`Moment`].
//!
//! **What is one flow.** An entry of the kernel's table is known by zone, protocol, original tuple and
//! conntrack id together. A five-tuple that is used again while the end of its predecessor is still on its
//! way is thus a second flow beside the first, and each end finds its own. Where kernel starts are known,
//! they tell flows apart even when the kernel gave out the same id again (it derives the id from the
//! entry's place in memory).
//!
//! **Who ends a flow.** Its DESTROY, whose counters are final, whether or not the flow was known. Else its
//! absence from two complete dumps at least ten seconds apart: one is not enough, for with
//! NETLINK_BROADCAST_ERROR the DESTROY of an entry that is no longer in the table may still be waiting for
//! room in our socket. Such a flow is reported as `end_unseen` and counted in a gap.
//!
//! **What is not a flow.** A DESTROY that is told again (see `recent.rs`), a row of a dump that is older
//! than the DESTROY heard meanwhile, and a row that is dying: its DESTROY was sent before it left the table.
//!
//! **What was counted before.** A flow that began while the agent listened was watched from its first
//! byte, even when its NEW was lost. For the others the counters of the first sight are the unwatched
//! part. An end of an unknown flow that began earlier is reported as FOUND first: a server that watched
//! it through an earlier run of the agent then joins it with what it has.
//!
//! Counters that go down were zeroed by another program (IPCTNL_MSG_CT_GET_CTRZERO); what they had is
//! added from then on, so that what is reported stays cumulative.

mod entry;
#[cfg(test)]
mod model;
mod recent;
mod report;
mod stats;
mod store;
mod sync;
#[cfg(test)]
mod tests;

use netmon_proto::v1::{Event, FlowPhase, GapCause, table_sync::Step};

use crate::{
    addresses::AddressBook,
    decode::{CtMessage, status},
};

use entry::{Entry, Key, Relation};
use recent::RecentEnds;
use report::{Reporter, table_sync};
use store::Store;
use sync::Walk;

pub(crate) use report::gap;
pub use stats::{FlowStats, Moment};

/// More flows than this are not kept; their ends are still reported in full.
pub const MAX_FLOWS: usize = 262_144;
/// How long a flow must be missing before it counts as ended.
const MISSED_MS: u32 = 10_000;

/// The number of the dump before the first one.
const BEFORE_DUMPS: u32 = 0;

/// Whose end a DESTROY tells.
enum Ending {
    /// That of a flow of the table, which is taken out.
    Known(Entry),
    /// That of a flow that was not known.
    Unknown,
    /// One that was told before.
    Repeated,
}

/// The open flows.
#[derive(Debug)]
pub struct FlowTable {
    store: Store,
    recent: RecentEnds,
    reporter: Reporter,
    book: AddressBook,
    stats: FlowStats,
    limit: usize,
    /// When the kernel began to send us events.
    watch_start_us: i64,
    next_flow_id: u64,
    next_sync_id: u64,
    reports_progress: bool,
    dump: u32,
    /// [`RecentEnds::generations`] when the dump began.
    dump_generations: u32,
    /// Gaps for the end of the dump: changed flows left out, flows without room.
    skipped: u64,
    untracked: u64,
    /// The sync of the first dump, as long as it is open.
    first_sync: Option<u64>,
    /// A complete dump was seen.
    complete: bool,
    walk: Option<Walk>,
}

impl FlowTable {
    /// An empty table. `run_tag` is random per run of the agent; `watch_start_us` is when events began to
    /// come; above `limit` flows are not kept.
    pub fn new(run_tag: u32, watch_start_us: i64, limit: usize, book: AddressBook) -> Self {
        let first_id = u64::from(run_tag) << 32 | 1;
        FlowTable {
            store: Store::default(),
            recent: RecentEnds::default(),
            reporter: Reporter::default(),
            book,
            stats: FlowStats::default(),
            limit,
            watch_start_us,
            next_flow_id: first_id,
            next_sync_id: first_id,
            reports_progress: true,
            dump: BEFORE_DUMPS,
            dump_generations: 0,
            skipped: 0,
            untracked: 0,
            first_sync: None,
            complete: false,
            walk: None,
        }
    }

    /// How many flows are open.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// True without open flows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What happened so far.
    pub fn stats(&self) -> &FlowStats {
        &self.stats
    }

    /// For flows from now on.
    pub fn set_address_book(&mut self, book: AddressBook) {
        self.book = book;
    }

    /// With `false`, dumps report no progress; what changed is reported when it is switched on again.
    pub fn set_progress(&mut self, on: bool) {
        self.reports_progress = on;
    }

    /// A NEW message.
    pub fn on_new(&mut self, message: &CtMessage, now: Moment, out: &mut Vec<Event>) {
        self.stats.new += 1;
        let key = Key::of(message);
        let hash = self.store.hash(&key);
        if self.store.find(hash, &key).is_some() {
            // A dump was faster, or the kernel tells it again. If it is a successor in the same memory,
            // the next message with a kernel start shows it.
            return;
        }
        if self.store.len() >= self.limit {
            self.recent.forget(hash);
            self.no_room();
            return;
        }
        let entry = self.entry(message, now, true);
        out.push(self.reporter.flow(&entry, FlowPhase::New, false, now.unix_us));
        self.store.insert(hash, entry);
    }

    /// A DESTROY message.
    pub fn on_destroy(&mut self, message: &CtMessage, now: Moment, out: &mut Vec<Event>) {
        self.stats.destroy += 1;
        let key = Key::of(message);
        let hash = self.store.hash(&key);
        let ended_us = if message.stop_us > 0 { message.stop_us } else { now.unix_us };

        let mut entry = match self.ending(hash, &key, message, now, out) {
            Ending::Known(entry) => entry,
            Ending::Repeated => {
                self.stats.repeated += 1;
                return;
            }
            Ending::Unknown => {
                let watched = self.began_watched(message);
                let mut entry = self.entry(message, now, watched);
                entry.last_us = ended_us.min(now.unix_us);
                if !watched {
                    out.push(self.reporter.flow(&entry, FlowPhase::Found, false, now.unix_us));
                }
                entry
            }
        };
        // Traffic since the last look is dated by the kernel's word of the end.
        let mut zeroed = false;
        entry.update(message, ended_us.min(now.unix_us), &mut zeroed);
        self.stats.zeroed += u64::from(zeroed);
        self.stats.no_counters += u64::from(entry.no_counters);
        out.push(self.reporter.flow(&entry, FlowPhase::End, false, now.unix_us));
        self.recent.remember(hash, ended_us, now.uptime_ms);
    }

    /// A dump was asked for. The first one opens the first sync.
    pub fn begin_dump(&mut self, now: Moment, out: &mut Vec<Event>) {
        self.dump = self.dump.wrapping_add(1);
        self.dump_generations = self.recent.generations();
        if !self.complete && self.first_sync.is_none() {
            let sync_id = self.sync_id();
            self.first_sync = Some(sync_id);
            out.push(table_sync(Step::Begin, sync_id, now.unix_us));
        }
    }

    /// A row of the running dump.
    pub fn on_row(&mut self, message: &CtMessage, now: Moment, out: &mut Vec<Event>) {
        self.stats.rows += 1;
        let key = Key::of(message);
        let hash = self.store.hash(&key);
        if let Some(slot) = self.store.find(hash, &key) {
            match self.relation(slot, hash, message) {
                Relation::Same => return self.progress(slot, message, now, out),
                // An earlier one: its end was heard while the dump ran.
                Relation::Predecessor => return,
                // A later one: the end of ours is still to be heard, most likely. If not, it is missed by
                // this dump and the next, and then makes room.
                Relation::Successor => return,
            }
        }
        if message.status.is_some_and(|bits| bits & status::DYING != 0)
            || self.recent.has_ended(hash, message.start_us)
            // More ends than are remembered came while this dump runs: the next one decides.
            || self.recent.generations().wrapping_sub(self.dump_generations) > 1
        {
            return;
        }
        if self.store.len() >= self.limit {
            self.no_room();
            return;
        }
        let watched = self.began_watched(message);
        let phase = if watched { FlowPhase::New } else { FlowPhase::Found };
        let entry = self.entry(message, now, watched);
        out.push(self.reporter.flow(&entry, phase, false, now.unix_us));
        self.store.insert(hash, entry);
    }

    /// The dump is over. Only a complete one says anything about flows that it did not hold.
    pub fn end_dump(&mut self, complete: bool, now: Moment, out: &mut Vec<Event>) {
        if complete {
            let missed_ms = (now.uptime_ms as u32).max(1);
            let mut ended = 0;
            for slot in 0..self.store.slots() {
                let dump = self.dump;
                let Some(entry) = self.store.get_mut(slot).filter(|entry| entry.dump != dump) else {
                    continue;
                };
                if entry.missed_ms == 0 {
                    entry.missed_ms = missed_ms;
                } else if missed_ms.wrapping_sub(entry.missed_ms) >= MISSED_MS {
                    self.end_unseen(slot, now, out);
                    ended += 1;
                }
            }
            if ended > 0 {
                out.push(unseen_gap(ended, now));
            }
            self.store.shrink();
            self.complete = true;
            if let Some(sync_id) = self.first_sync.take() {
                out.push(table_sync(Step::End, sync_id, now.unix_us));
            }
        }
        self.skipped_gap(now, out);
    }

    /// Which flow of the key in `slot` a message is about.
    fn relation(&self, slot: u32, hash: u64, message: &CtMessage) -> Relation {
        self.store.get(slot).map_or(Relation::Successor, |entry| {
            entry.relation(message, self.dump, || self.recent.has_ended(hash, message.start_us))
        })
    }

    /// Takes a row into the entry that it is about.
    fn progress(&mut self, slot: u32, message: &CtMessage, now: Moment, out: &mut Vec<Event>) {
        let Some(entry) = self.store.get_mut(slot) else { return };
        let before_sync = self.first_sync.is_some() && entry.dump == BEFORE_DUMPS;
        entry.dump = self.dump;
        entry.missed_ms = 0;
        let mut zeroed = false;
        entry.update(message, now.unix_us, &mut zeroed);
        self.stats.zeroed += u64::from(zeroed);
        // What the sync does not name is gone, to the server: one whose NEW came before its BEGIN, too.
        if before_sync || entry.dirty && self.reports_progress {
            entry.dirty = false;
            out.push(self.reporter.flow(entry, FlowPhase::Progress, false, now.unix_us));
        } else if entry.dirty {
            self.skipped += 1;
        }
    }

    /// Finds out whose end a DESTROY tells, and takes a known flow out of the table.
    fn ending(
        &mut self,
        hash: u64,
        key: &Key,
        message: &CtMessage,
        now: Moment,
        out: &mut Vec<Event>,
    ) -> Ending {
        if let Some(slot) = self.store.find(hash, key) {
            match self.relation(slot, hash, message) {
                Relation::Same => return self.store.remove(slot).map_or(Ending::Unknown, Ending::Known),
                // Ours was taken for the later one by a row: who gets our reports must know that first.
                Relation::Predecessor => self.tell_change(slot, now, out),
                Relation::Successor => {
                    self.end_unseen(slot, now, out);
                    out.push(unseen_gap(1, now));
                    return Ending::Unknown;
                }
            }
        }
        if self.recent.has_ended(hash, message.start_us) { Ending::Repeated } else { Ending::Unknown }
    }

    /// Reports a flow that changed since its last report.
    fn tell_change(&mut self, slot: u32, now: Moment, out: &mut Vec<Event>) {
        if let Some(entry) = self.store.get_mut(slot).filter(|entry| entry.dirty) {
            entry.dirty = false;
            out.push(self.reporter.flow(entry, FlowPhase::Progress, false, now.unix_us));
        }
    }

    fn end_unseen(&mut self, slot: u32, now: Moment, out: &mut Vec<Event>) {
        let Some(entry) = self.store.remove(slot) else { return };
        self.stats.end_unseen += 1;
        out.push(self.reporter.flow(&entry, FlowPhase::End, true, now.unix_us));
        let hash = self.store.hash(&entry.key);
        // A successor of the same key, begun since, must not look as if it had ended too. Where the start is the
        // kernel's it tells the two apart; the last sight does not, for the row of a dump may be older than that.
        let until_us =
            if entry.start_is_kernels { entry.first_us } else { entry.last_us.max(entry.first_us) };
        self.recent.remember(hash, until_us, now.uptime_ms);
    }

    fn entry(&mut self, message: &CtMessage, now: Moment, watched: bool) -> Entry {
        let flow_id = self.next_flow_id;
        self.next_flow_id = flow_id.wrapping_add(1).max(1);
        let place = self.book.place(message.initiator(), message.responder());
        Entry::new(message, flow_id, now.unix_us, place, watched, self.dump)
    }

    fn began_watched(&self, message: &CtMessage) -> bool {
        if message.start_us > 0 { message.start_us >= self.watch_start_us } else { self.complete }
    }

    fn sync_id(&mut self) -> u64 {
        let sync_id = self.next_sync_id;
        self.next_sync_id = sync_id.wrapping_add(1).max(1);
        sync_id
    }

    fn no_room(&mut self) {
        self.stats.untracked += 1;
        self.untracked += 1;
    }

    fn skipped_gap(&mut self, now: Moment, out: &mut Vec<Event>) {
        let (skipped, untracked) = (std::mem::take(&mut self.skipped), std::mem::take(&mut self.untracked));
        self.stats.progress_skipped += skipped;
        if skipped > 0 {
            let detail = "progress reports are switched off under pressure";
            out.push(gap(GapCause::ProgressSkipped, skipped, 0, now.unix_us, detail));
        }
        if untracked > 0 {
            let detail = "the flow table is full; further flows are reported when they end";
            out.push(gap(GapCause::ProgressSkipped, untracked, 0, now.unix_us, detail));
        }
    }
}

fn unseen_gap(count: u64, now: Moment) -> Event {
    gap(GapCause::FlowEndUnseen, count, 0, now.unix_us, "flows are gone without a final report of the kernel")
}
