//! Routers: so few that they are read whole.

use std::cmp::Reverse;

use super::super::rows::{Count, Page, PageOf, RouterRow};
use super::{Position, cut};

/// Which routers, and in which order. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterFilter {
    /// With this text, in lower case, in its name.
    pub text: Option<String>,
    /// What comes first.
    pub sort: RouterSort,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouterSort {
    /// Their names, by the alphabet.
    #[default]
    Name,
    /// What was heard of last.
    LastHeard,
    /// What lags most.
    Lag,
}

impl RouterFilter {
    fn matches(&self, row: &RouterRow) -> bool {
        self.text.as_ref().is_none_or(|text| row.name.to_lowercase().contains(text.as_str()))
    }

    /// The largest comes first. Of what was never told the place is the last.
    fn key(&self, row: &RouterRow) -> i64 {
        match self.sort {
            RouterSort::Name => 0,
            RouterSort::LastHeard => row.last_heard.unwrap_or(i64::MIN),
            RouterSort::Lag => row.lag_us.unwrap_or(i64::MIN),
        }
    }
}

/// A page of all routers, which come by their names.
pub(in crate::store) fn page(
    mut rows: Vec<RouterRow>,
    filter: &RouterFilter,
    page: Page,
) -> PageOf<RouterRow> {
    rows.retain(|row| filter.matches(row));
    let place = |row: &RouterRow| (filter.key(row), row.id.0);
    match (filter.sort, page.before) {
        (RouterSort::Name, None) => {}
        // A position holds no names, so it is the id of the last router, which never goes away.
        (RouterSort::Name, Some(last)) => {
            let shown = rows.iter().position(|row| row.id.0 == last.id()).map_or(0, |place| place + 1);
            rows.drain(..shown);
        }
        (RouterSort::LastHeard | RouterSort::Lag, before) => {
            rows.sort_unstable_by_key(|row| Reverse(place(row)));
            rows.retain(|row| before.is_none_or(|last| place(row) < (last.number(), last.id())));
        }
    }
    cut(rows, page.limit, |row| Position::new(filter.key(row), row.id.0))
}

/// How many of all routers match.
pub(in crate::store) fn count(rows: &[RouterRow], filter: &RouterFilter) -> Count {
    let total = rows.iter().filter(|row| filter.matches(row)).count() as u64;
    Count { total, capped: false }
}
