//! Reports that nobody's message asked for: of the whole table, and of what changed.

use netmon_proto::v1::{Event, FlowPhase, table_sync::Step};

use super::{FlowTable, Moment, report::table_sync};

/// A walk over the whole table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    sync_id: u64,
    next_slot: u32,
}

impl FlowTable {
    /// True from the first dump's beginning to the end of the first that is complete.
    pub fn in_first_sync(&self) -> bool {
        self.first_sync.is_some()
    }

    /// Asks for a report of the whole table, to be made by [`FlowTable::sync`]. Without effect while the
    /// first sync is still running, which does the same.
    pub fn request_sync(&mut self) {
        if self.first_sync.is_none() {
            // One that is half done is begun anew: what was lost may be its first half.
            self.walk = Some(Walk { sync_id: 0, next_slot: 0 });
        }
    }

    /// Goes on with the report of the whole table until `out` holds `room` events. True when there is more
    /// to report.
    pub fn sync(&mut self, room: usize, now: Moment, out: &mut Vec<Event>) -> bool {
        let Some(mut walk) = self.walk.take() else { return false };
        if walk.sync_id == 0 {
            walk.sync_id = self.sync_id();
            out.push(table_sync(Step::Begin, walk.sync_id, now.unix_us));
        }
        // A flow that comes while this walk is under way reports itself; one that goes, too.
        while walk.next_slot < self.store.slots() {
            if out.len() >= room {
                self.walk = Some(walk);
                return true;
            }
            if let Some(entry) = self.store.get_mut(walk.next_slot) {
                entry.dirty = false;
                let phase = if entry.watched { FlowPhase::New } else { FlowPhase::Found };
                out.push(self.reporter.flow(entry, phase, false, now.unix_us));
            }
            walk.next_slot += 1;
        }
        out.push(table_sync(Step::End, walk.sync_id, now.unix_us));
        false
    }

    /// True where [`FlowTable::sync`] has something to do.
    pub fn wants_sync(&self) -> bool {
        self.walk.is_some()
    }

    /// Reports every flow that changed since its last report.
    pub fn flush_progress(&mut self, now: Moment, out: &mut Vec<Event>) {
        for slot in 0..self.store.slots() {
            self.tell_change(slot, now, out);
        }
    }
}
