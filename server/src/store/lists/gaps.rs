//! What is missing, and why.

use diesel::prelude::*;

use super::super::StoreError;
use super::super::connection::{Connection, on_backend};
use super::super::rows::{Count, GapEntry, Page, PageOf};
use super::super::schema::{gaps, routers};
use super::{Position, scan};
use crate::domain::{GapRow, Micros, RouterId};

/// Which gaps; the newest come first. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapFilter {
    /// Of this router.
    pub router: Option<RouterId>,
    /// For this cause: `netmon.v1.GapCause`.
    pub cause: Option<i16>,
    /// That ended at this time or later.
    pub from: Option<Micros>,
    /// That began at this time or before.
    pub to: Option<Micros>,
}

impl GapFilter {
    fn matches(&self, row: &GapEntry) -> bool {
        self.router.is_none_or(|router| router == row.gap.router)
            && self.cause.is_none_or(|cause| cause == row.gap.cause)
            && self.from.is_none_or(|from| row.gap.to >= from)
            && self.to.is_none_or(|to| row.gap.from <= to)
    }

    fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

fn rows(
    connection: &mut Connection,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<GapEntry>, StoreError> {
    type Row = (i64, String, i64, i16, i64, i64, i64, String);
    let rows: Vec<Row> = on_backend!(connection, |c| {
        gaps::table
            .inner_join(routers::table.on(gaps::router_id.eq(routers::id)))
            .filter(gaps::id.lt(before.map_or(i64::MAX, |position| position.id)))
            .order(gaps::id.desc())
            .limit(limit)
            .select((
                gaps::id,
                routers::name,
                gaps::router_id,
                gaps::cause,
                gaps::count,
                gaps::from_us,
                gaps::to_us,
                gaps::detail,
            ))
            .load(c)
    })?;
    Ok(rows
        .into_iter()
        .map(|(id, router_name, router, cause, count, from, to, detail)| GapEntry {
            id,
            router_name,
            gap: GapRow { router: RouterId(router), cause, count, from, to, detail },
        })
        .collect())
}

pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &GapFilter,
    page: Page,
) -> Result<PageOf<GapEntry>, StoreError> {
    let matches: &dyn Fn(&GapEntry) -> bool = &|row| filter.matches(row);
    let matches = (!filter.is_any()).then_some(matches);
    scan::page(
        page,
        matches,
        |row| Position::after_id(row.id),
        |before, limit| rows(connection, before, limit),
    )
}

pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &GapFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    let matches: &dyn Fn(&GapEntry) -> bool = &|row| filter.matches(row);
    let matches = (!filter.is_any()).then_some(matches);
    scan::count(
        limit,
        matches,
        |row| Position::after_id(row.id),
        |before, limit| rows(connection, before, limit),
    )
}
