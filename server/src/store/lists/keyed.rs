//! Rows of several keys of an index as one list, along their ids.

use std::cmp::Reverse;

use super::super::StoreError;
use super::Position;

/// Which way along the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The newest first.
    Down,
    /// The oldest first.
    Up,
}

impl Way {
    /// The id that a list begins after.
    pub(super) fn start(self, before: Option<Position>) -> i64 {
        let first = match self {
            Self::Down => i64::MAX,
            Self::Up => i64::MIN,
        };
        before.map_or(first, |position| position.id)
    }
}

/// Merges what `fetch` gives for each key, at most `limit` rows of each, by id.
pub(super) fn merged<K: Copy, T>(
    keys: &[K],
    way: Way,
    limit: i64,
    id: impl Fn(&T) -> i64,
    mut fetch: impl FnMut(K) -> Result<Vec<T>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut rows = Vec::new();
    for key in keys {
        rows.extend(fetch(*key)?);
    }
    if keys.len() > 1 {
        match way {
            Way::Down => rows.sort_unstable_by_key(|row| Reverse(id(row))),
            Way::Up => rows.sort_unstable_by_key(&id),
        }
        rows.dedup_by_key(|row| id(row));
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(rows)
}
