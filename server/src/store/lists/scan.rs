//! Lists whose rows are told apart by more than the database can: along an index, row by row.

use super::super::StoreError;
use super::super::rows::{Count, Page, PageOf};
use super::{Position, WINDOW, cut, one_more};

/// Rows that are read at once while looking for those that match.
const CHUNK: i64 = 1_000;

/// A page of rows that `fetch` gives in their order, after a position and up to a number.
pub(super) fn page<T>(
    page: Page,
    matches: Option<&dyn Fn(&T) -> bool>,
    position: impl Fn(&T) -> Position,
    mut fetch: impl FnMut(Option<Position>, i64) -> Result<Vec<T>, StoreError>,
) -> Result<PageOf<T>, StoreError> {
    let Some(matches) = matches else {
        return Ok(cut(fetch(page.before, one_more(page.limit))?, page.limit, position));
    };
    let mut items = Vec::new();
    let mut before = page.before;
    let mut looked_at = 0;
    while looked_at < WINDOW {
        let rows = fetch(before, CHUNK)?;
        let read = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        before = rows.last().map(&position);
        items.extend(rows.into_iter().filter(matches));
        if items.len() > page.limit {
            return Ok(cut(items, page.limit, position));
        }
        if read < CHUNK {
            return Ok(PageOf { items, next: None });
        }
        looked_at += read;
    }
    Ok(PageOf { items, next: before })
}

/// A page of the rows of one window in an order of their own. `key` is what they are sorted by, and tells any two apart;
/// the page begins `after` one. What `fetch` gives, the newest first, is read from where the window of the first page
/// began: rows that come in meanwhile are not in it, so that each row of it is on one page.
pub(super) fn sorted<T, K: Ord>(
    page: Page,
    matches: impl Fn(&T) -> bool,
    key: impl Fn(&T) -> K,
    after: Option<K>,
    position: impl Fn(&T) -> Position,
    mut fetch: impl FnMut(Option<Position>, i64) -> Result<Vec<T>, StoreError>,
) -> Result<PageOf<T>, StoreError> {
    let mut below = page.before.map(|position| position.below);
    let mut items: Vec<(K, T)> = Vec::new();
    let mut before = below.map(Position::after_id);
    let mut looked_at = 0;
    while looked_at < WINDOW {
        let rows = fetch(before, CHUNK)?;
        let read = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        below = below.or_else(|| rows.first().map(|row| position(row).id.saturating_add(1)));
        before = rows.last().map(|row| Position::after_id(position(row).id));
        let wanted = rows.into_iter().filter(&matches).map(|row| (key(&row), row));
        items.extend(wanted.filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)));
        if read < CHUNK {
            break;
        }
        looked_at += read;
    }
    items.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let items = items.into_iter().map(|(_, row)| row).collect();
    Ok(cut(items, page.limit, |row| Position { below: below.unwrap_or(i64::MAX), ..position(row) }))
}

/// How many of the rows match, counted up to `limit` and to the end of the window.
pub(super) fn count<T>(
    limit: u32,
    matches: Option<&dyn Fn(&T) -> bool>,
    position: impl Fn(&T) -> Position,
    fetch: impl FnMut(Option<Position>, i64) -> Result<Vec<T>, StoreError>,
) -> Result<Count, StoreError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = page(Page { before: None, limit }, matches, position, fetch)?;
    Ok(Count { total: found.items.len() as u64, capped: found.next.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from `from` down to 1.
    fn countdown(from: i64) -> impl Fn(Option<Position>, i64) -> Result<Vec<i64>, StoreError> {
        move |before, limit| {
            let first = before.map_or(from, |position| position.id - 1);
            Ok((1..=first).rev().take(usize::try_from(limit).unwrap()).collect())
        }
    }

    fn read(from: i64, before: Option<Position>, matches: &dyn Fn(&i64) -> bool) -> PageOf<i64> {
        page(Page { before, limit: 3 }, Some(matches), |id| Position::after_id(*id), countdown(from)).unwrap()
    }

    #[test]
    fn pages_hold_what_matches_and_join() {
        let even = |id: &i64| id % 2 == 0;
        let first = read(11, None, &even);
        assert_eq!(first.items, [10, 8, 6]);
        let second = read(11, first.next, &even);
        assert_eq!((second.items, second.next), (vec![4, 2], None));
    }

    #[test]
    fn a_window_without_a_match_says_where_to_go_on() {
        let last = |id: &i64| *id == 1;
        let mut next = None;
        for window in 0..3 {
            let page = read(2 * WINDOW + 500, next, &last);
            next = page.next;
            assert_eq!(
                (page.items.len(), next.is_some()),
                (usize::from(window == 2), window < 2),
                "{window}"
            );
        }
    }

    #[test]
    fn a_sorted_window_stays_where_it_began() {
        let read = |from: i64, before: Option<Position>, limit| {
            // By the last digit, then the newest first.
            let key = |id: &i64| (id % 10, -id);
            let after = before.map(|position| key(&position.id));
            let page = Page { before, limit };
            let odd = |id: &i64| id % 2 == 1;
            sorted(page, odd, key, after, |id| Position::after_id(*id), countdown(from)).unwrap()
        };
        let first = read(25, None, 3);
        assert_eq!(first.items, [21, 11, 1]);
        let second = read(4_000, first.next, 4);
        assert_eq!(second.items, [23, 13, 3, 25]);
        let third = read(8_000, second.next, 10);
        assert_eq!((third.items, third.next), (vec![15, 5, 17, 7, 19, 9], None));
        // What is older than the window is in no order but the first.
        let whole = read(3 * WINDOW, None, usize::MAX);
        assert_eq!(whole.items.len() as i64, WINDOW / 2);
        assert_eq!(whole.items.iter().min(), Some(&(2 * WINDOW + 1)));
        assert!(read(0, None, 3).items.is_empty());
    }

    #[test]
    fn a_count_stops_at_its_limit_and_at_the_window() {
        let all = |limit, matches: Option<&dyn Fn(&i64) -> bool>| {
            count(limit, matches, |id| Position::after_id(*id), countdown(WINDOW * 2)).unwrap()
        };
        assert_eq!(all(10, None), Count { total: 10, capped: true });
        assert_eq!(all(10, Some(&|_| true)), Count { total: 10, capped: true });
        assert_eq!(all(10, Some(&|_| false)), Count { total: 0, capped: true });
        let few = count(10, None, |id| Position::after_id(*id), countdown(10)).unwrap();
        assert_eq!(few, Count { total: 10, capped: false });
    }
}
