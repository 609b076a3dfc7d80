//! Addresses outside.

use std::net::IpAddr;

use diesel::prelude::*;

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::host_facts;
use super::super::rows::{Count, HostRow, Page, PageOf};
use super::super::schema::remote_hosts;
use super::{Position, scan};

/// Which remote hosts, and in which order. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFilter {
    /// With this address.
    pub address: Option<IpAddr>,
    /// With this text in its address.
    pub text: Option<String>,
    /// What comes first.
    pub sort: HostSort,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostSort {
    /// What came last.
    #[default]
    Newest,
    /// What moved something last.
    LastSeen,
}

impl HostFilter {
    fn matches(&self, row: &HostRow) -> bool {
        self.text.as_ref().is_none_or(|text| row.address.to_string().contains(text.as_str()))
    }

    fn position(&self, row: &HostRow) -> Position {
        let key = match self.sort {
            HostSort::Newest => 0,
            HostSort::LastSeen => row.last_seen,
        };
        Position::new(key, row.id)
    }
}

fn rows(
    connection: &mut Connection,
    filter: &HostFilter,
    sort: HostSort,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<HostRow>, StoreError> {
    let rows: Vec<(i64, Address, i64, i64)> = on_backend!(connection, |c| {
        let mut query = remote_hosts::table.limit(limit).into_boxed();
        if let Some(address) = filter.address {
            query = query.filter(remote_hosts::address.eq(Address::from(address)));
        }
        match (sort, before) {
            (HostSort::Newest, before) => query
                .filter(remote_hosts::id.lt(before.map_or(i64::MAX, |position| position.id)))
                .order(remote_hosts::id.desc())
                .load(c),
            (HostSort::LastSeen, before) => {
                let before = before.unwrap_or(Position::new(i64::MAX, i64::MAX));
                let (key, id) = (before.number(), before.id);
                query
                    .filter(remote_hosts::last_seen_us.le(key))
                    .filter(remote_hosts::last_seen_us.lt(key).or(remote_hosts::id.lt(id)))
                    .order((remote_hosts::last_seen_us.desc(), remote_hosts::id.desc()))
                    .load(c)
            }
        }
    })?;
    Ok(rows
        .into_iter()
        .map(|(id, address, first_seen, last_seen)| HostRow {
            id,
            address: address.into(),
            name: None,
            first_seen,
            last_seen,
        })
        .collect())
}

pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &HostFilter,
    page: Page,
) -> Result<PageOf<HostRow>, StoreError> {
    let matches: &dyn Fn(&HostRow) -> bool = &|row| filter.matches(row);
    let matches = filter.text.is_some().then_some(matches);
    let mut part = scan::page(
        page,
        matches,
        |row| filter.position(row),
        |before, limit| rows(connection, filter, filter.sort, before, limit),
    )?;
    let ids: Vec<i64> = part.items.iter().map(|row| row.id).collect();
    let mut names = host_facts::names(connection, &ids)?;
    for row in &mut part.items {
        row.name = names.remove(&row.id);
    }
    Ok(part)
}

pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &HostFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    let matches: &dyn Fn(&HostRow) -> bool = &|row| filter.matches(row);
    let matches = filter.text.is_some().then_some(matches);
    scan::count(
        limit,
        matches,
        |row| Position::after_id(row.id),
        |before, limit| rows(connection, filter, HostSort::Newest, before, limit),
    )
}
