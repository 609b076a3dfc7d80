//! Flows that ended lately.
//!
//! The kernel may tell an end more than once: where any listener with NETLINK_BROADCAST_ERROR missed it,
//! it is sent again to all of them. And a row of a running dump may be older than the end that was heard
//! already. Neither must become a flow of its own.

use hashbrown::HashTable;

/// Ends remembered per generation; two generations are kept. 65,536 buckets of 17 bytes at most.
const GENERATION: usize = 57_344;
/// A generation is closed after this long, so that a quiet router keeps little.
const LIFE_MS: u64 = 30_000;

/// An end: the hash of its key (64 bits of SipHash, so that two keys do not meet), and when it ended.
#[derive(Clone, Copy, Debug)]
struct End {
    hash: u64,
    ended_us: i64,
}

#[derive(Debug, Default)]
pub(super) struct RecentEnds {
    current: HashTable<End>,
    previous: HashTable<End>,
    opened_ms: u64,
    generations: u32,
}

impl RecentEnds {
    /// How many generations were closed: who remembers the number of a moment ago knows that nothing since
    /// was forgotten while it grew by one at most.
    pub(super) fn generations(&self) -> u32 {
        self.generations
    }

    pub(super) fn remember(&mut self, hash: u64, ended_us: i64, uptime_ms: u64) {
        if self.current.len() >= GENERATION || uptime_ms.saturating_sub(self.opened_ms) >= LIFE_MS {
            self.previous = std::mem::take(&mut self.current);
            self.opened_ms = uptime_ms;
            self.generations = self.generations.wrapping_add(1);
        }
        match self.current.find_mut(hash, |end| end.hash == hash) {
            Some(end) => end.ended_us = end.ended_us.max(ended_us),
            None => {
                self.current.insert_unique(hash, End { hash, ended_us }, |end| end.hash);
            }
        }
    }

    /// True where the flow that began at `start_us` (zero: not known) is one that ended already.
    pub(super) fn has_ended(&self, hash: u64, start_us: i64) -> bool {
        [&self.current, &self.previous].into_iter().any(|generation| {
            generation
                .find(hash, |end| end.hash == hash)
                .is_some_and(|end| start_us == 0 || start_us <= end.ended_us)
        })
    }

    /// For a flow of the same key that is known to have begun since.
    pub(super) fn forget(&mut self, hash: u64) {
        for generation in [&mut self.current, &mut self.previous] {
            if let Ok(end) = generation.find_entry(hash, |end| end.hash == hash) {
                end.remove();
            }
        }
    }
}
