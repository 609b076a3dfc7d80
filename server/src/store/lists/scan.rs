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
