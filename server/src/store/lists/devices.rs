//! Devices in the LAN.

use std::net::IpAddr;

use diesel::prelude::*;

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::rows::{Count, DeviceRow, Page, PageOf};
use super::super::schema::{devices, routers};
use super::{Position, scan};
use crate::domain::RouterId;

/// Which devices, and in which order. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Behind this router.
    pub router: Option<RouterId>,
    /// With this address.
    pub address: Option<IpAddr>,
    /// With this text in its address.
    pub text: Option<String>,
    /// What comes first.
    pub sort: DeviceSort,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSort {
    /// What came last.
    #[default]
    Newest,
    /// What moved something last.
    LastSeen,
}

impl DeviceFilter {
    fn matches(&self, row: &DeviceRow) -> bool {
        self.router.is_none_or(|router| router == row.router)
            && self.address.is_none_or(|address| address == row.address)
            && self.text.as_ref().is_none_or(|text| row.address.to_string().contains(text.as_str()))
    }

    fn is_any(&self) -> bool {
        self.router.is_none() && self.address.is_none() && self.text.is_none()
    }

    fn position(&self, row: &DeviceRow) -> Position {
        let key = match self.sort {
            DeviceSort::Newest => 0,
            DeviceSort::LastSeen => row.last_seen,
        };
        Position { key, id: row.id }
    }
}

fn rows(
    connection: &mut Connection,
    sort: DeviceSort,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<DeviceRow>, StoreError> {
    let rows: Vec<(i64, i64, String, Address, i64, i64)> = on_backend!(connection, |c| {
        let query = devices::table
            .inner_join(routers::table.on(devices::router_id.eq(routers::id)))
            .select((
                devices::id,
                devices::router_id,
                routers::name,
                devices::address,
                devices::first_seen_us,
                devices::last_seen_us,
            ))
            .limit(limit)
            .into_boxed();
        match (sort, before) {
            (DeviceSort::Newest, before) => query
                .filter(devices::id.lt(before.map_or(i64::MAX, |position| position.id)))
                .order(devices::id.desc())
                .load(c),
            (DeviceSort::LastSeen, before) => {
                let Position { key, id } = before.unwrap_or(Position { key: i64::MAX, id: i64::MAX });
                query
                    .filter(devices::last_seen_us.le(key))
                    .filter(devices::last_seen_us.lt(key).or(devices::id.lt(id)))
                    .order((devices::last_seen_us.desc(), devices::id.desc()))
                    .load(c)
            }
        }
    })?;
    Ok(rows
        .into_iter()
        .map(|(id, router, router_name, address, first_seen, last_seen)| DeviceRow {
            id,
            router: RouterId(router),
            router_name,
            address: address.into(),
            first_seen,
            last_seen,
        })
        .collect())
}

pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &DeviceFilter,
    page: Page,
) -> Result<PageOf<DeviceRow>, StoreError> {
    let matches: &dyn Fn(&DeviceRow) -> bool = &|row| filter.matches(row);
    let matches = (!filter.is_any()).then_some(matches);
    scan::page(
        page,
        matches,
        |row| filter.position(row),
        |before, limit| rows(connection, filter.sort, before, limit),
    )
}

pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &DeviceFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    let matches: &dyn Fn(&DeviceRow) -> bool = &|row| filter.matches(row);
    let matches = (!filter.is_any()).then_some(matches);
    scan::count(
        limit,
        matches,
        |row| Position::after_id(row.id),
        |before, limit| rows(connection, DeviceSort::Newest, before, limit),
    )
}
