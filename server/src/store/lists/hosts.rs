//! Addresses outside.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use diesel::prelude::*;

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::host_facts;
use super::super::rows::{Count, HostRow, Page, PageOf};
use super::super::schema::remote_hosts;
use super::{Position, scan};

/// Which remote hosts, and in which order. `None` is any.
#[derive(Clone, Debug, Default)]
pub struct HostFilter {
    /// With this address.
    pub address: Option<IpAddr>,
    /// With this text, in lower case, in its address, its name or what is known of it elsewhere.
    pub text: Option<String>,
    /// What comes first.
    pub sort: HostSort,
    /// Where else the text is looked for.
    pub elsewhere: Option<Elsewhere>,
}

/// Tells whether a text, in lower case, is in what is known of an address from elsewhere than the database.
#[derive(Clone)]
pub struct Elsewhere(Arc<Says>);

type Says = dyn Fn(IpAddr, &str) -> bool + Send + Sync;

impl Elsewhere {
    /// By asking this, for each row that is looked at: it has to answer from memory.
    pub fn new(says: impl Fn(IpAddr, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(says))
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Elsewhere")
    }
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
        self.text.as_ref().is_none_or(|text| {
            row.address.to_string().contains(text.as_str())
                || row.name.as_ref().is_some_and(|name| name.to_lowercase().contains(text.as_str()))
                || self.elsewhere.as_ref().is_some_and(|elsewhere| (elsewhere.0)(row.address, text))
        })
    }

    fn position(&self, row: &HostRow) -> Position {
        let key = match self.sort {
            HostSort::Newest => 0,
            HostSort::LastSeen => row.last_seen,
        };
        Position::new(key, row.id)
    }
}

/// `named`: the names are looked up, too.
fn rows(
    connection: &mut Connection,
    filter: &HostFilter,
    sort: HostSort,
    before: Option<Position>,
    limit: i64,
    named: bool,
) -> Result<Vec<HostRow>, StoreError> {
    let rows: Vec<(i64, Address, i64, i64)> = on_backend!(&mut *connection, |c| {
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
    let ids: Vec<i64> = rows.iter().map(|(id, ..)| *id).collect();
    let mut names = if named { host_facts::names(connection, &ids)? } else { HashMap::new() };
    Ok(rows
        .into_iter()
        .map(|(id, address, first_seen, last_seen)| HostRow {
            id,
            address: address.into(),
            name: names.remove(&id),
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
    scan::page(
        page,
        matches,
        |row| filter.position(row),
        |before, limit| rows(connection, filter, filter.sort, before, limit, true),
    )
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
        |before, limit| rows(connection, filter, HostSort::Newest, before, limit, matches.is_some()),
    )
}
