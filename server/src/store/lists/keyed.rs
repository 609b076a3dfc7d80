//! Rows of several keys of an index as one list, the newest first.

use super::super::StoreError;

/// Merges what `fetch` gives for each key, at most `limit` rows of each, by id from the largest down.
pub(super) fn merged<K: Copy, T>(
    keys: &[K],
    limit: i64,
    id: impl Fn(&T) -> i64,
    mut fetch: impl FnMut(K) -> Result<Vec<T>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut rows = Vec::new();
    for key in keys {
        rows.extend(fetch(*key)?);
    }
    if keys.len() > 1 {
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(id(row)));
        rows.dedup_by_key(|row| id(row));
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(rows)
}
