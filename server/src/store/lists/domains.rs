//! Names that were asked for.

use diesel::prelude::*;

use super::super::StoreError;
use super::super::connection::{Connection, on_backend};
use super::super::rows::{Count, DomainRow, Page, PageOf};
use super::super::schema::domains;
use super::{HostSort, Position, scan};

/// Which domains, and in which order. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainFilter {
    /// With this text in the name, in lower case.
    pub text: Option<String>,
    /// What comes first.
    pub sort: HostSort,
}

impl DomainFilter {
    fn matches(&self, row: &DomainRow) -> bool {
        self.text.as_ref().is_none_or(|text| row.name.contains(text.as_str()))
    }

    fn position(&self, row: &DomainRow) -> Position {
        let key = match self.sort {
            HostSort::Newest => 0,
            HostSort::LastSeen => row.last_seen,
        };
        Position::new(key, row.id)
    }
}

fn rows(
    connection: &mut Connection,
    sort: HostSort,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<DomainRow>, StoreError> {
    let rows: Vec<(i64, String, i64, i64)> = on_backend!(connection, |c| {
        let query = domains::table.limit(limit).into_boxed();
        match (sort, before) {
            (HostSort::Newest, before) => query
                .filter(domains::id.lt(before.map_or(i64::MAX, |position| position.id)))
                .order(domains::id.desc())
                .load(c),
            (HostSort::LastSeen, before) => {
                let before = before.unwrap_or(Position::new(i64::MAX, i64::MAX));
                let (key, id) = (before.number(), before.id);
                query
                    .filter(domains::last_seen_us.le(key))
                    .filter(domains::last_seen_us.lt(key).or(domains::id.lt(id)))
                    .order((domains::last_seen_us.desc(), domains::id.desc()))
                    .load(c)
            }
        }
    })?;
    let row = |(id, name, first_seen, last_seen)| DomainRow { id, name, first_seen, last_seen };
    Ok(rows.into_iter().map(row).collect())
}

pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &DomainFilter,
    page: Page,
) -> Result<PageOf<DomainRow>, StoreError> {
    let matches: &dyn Fn(&DomainRow) -> bool = &|row| filter.matches(row);
    let matches = filter.text.is_some().then_some(matches);
    scan::page(
        page,
        matches,
        |row| filter.position(row),
        |before, limit| rows(connection, filter.sort, before, limit),
    )
}

pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &DomainFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    let matches: &dyn Fn(&DomainRow) -> bool = &|row| filter.matches(row);
    let matches = filter.text.is_some().then_some(matches);
    scan::count(
        limit,
        matches,
        |row| Position::after_id(row.id),
        |before, limit| rows(connection, HostSort::Newest, before, limit),
    )
}
