//! Open flows by key: a vector with holes, and an index of hashes beside it.
//!
//! A hash map of whole entries would keep up to half of its buckets empty at 170 bytes each; here an empty
//! bucket costs five.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::entry::{Entry, Key};

/// Below this capacity nothing is given back to the allocator.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Store {
    /// SipHash with random keys: addresses and ports are chosen by strangers.
    hashes: RandomState,
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: HashTable<u32>,
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// To be computed once per message and handed to the other methods.
    pub(super) fn hash(&self, key: &Key) -> u64 {
        self.hashes.hash_one(key)
    }

    pub(super) fn find(&self, hash: u64, key: &Key) -> Option<u32> {
        self.index.find(hash, |slot| self.holds(*slot, key)).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The slots in use and free, for walks that survive changes between their steps.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The key must not be there yet.
    pub(super) fn insert(&mut self, hash: u64, entry: Entry) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() as u32 - 1
            }
        };
        self.slots[slot as usize] = Some(entry);
        let Store { hashes, slots, index, .. } = self;
        index.insert_unique(hash, slot, |slot| {
            slots[*slot as usize].as_ref().map_or(0, |entry| hashes.hash_one(entry.key))
        });
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Entry> {
        let key = self.slots.get(slot as usize)?.as_ref()?.key;
        let hash = self.hash(&key);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.free.push(slot);
        self.slots[slot as usize].take()
    }

    /// Gives memory back after a storm: cuts the empty tail off, and lets the index shrink with it.
    pub(super) fn shrink(&mut self) {
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        let slots = self.slots.len();
        self.free.retain(|slot| (*slot as usize) < slots);
        if self.slots.capacity() > KEPT && self.slots.capacity() / 4 > slots {
            self.slots.shrink_to(slots * 2);
            self.free.shrink_to(slots * 2);
            let Store { hashes, slots, index, .. } = self;
            index.shrink_to(index.len() * 2, |slot| {
                slots[*slot as usize].as_ref().map_or(0, |entry| hashes.hash_one(entry.key))
            });
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    fn holds(&self, slot: u32, key: &Key) -> bool {
        matches!(self.slots.get(slot as usize), Some(Some(entry)) if entry.key == *key)
    }
}
