//! Answers to questions for names.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use diesel::prelude::*;

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::devices;
use super::super::rows::{Count, DnsAnswerRow, DnsRow, Page, PageOf};
use super::super::schema::{dns_answers, dns_queries, domains, routers};
use super::keyed::{self, Way};
use super::{Position, address_key, scan};
use crate::domain::{Micros, RouterId};

/// Which answers, and in which order. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsFilter {
    /// Through this router.
    pub router: Option<RouterId>,
    /// Asked for by this device, by its address.
    pub device: Option<IpAddr>,
    /// For this name.
    pub domain: Option<String>,
    /// For a name with this text in it.
    pub text: Option<String>,
    /// Of this RR type.
    pub kind: Option<u16>,
    /// With this response code.
    pub rcode: Option<u16>,
    /// At this time or later.
    pub from: Option<Micros>,
    /// At this time or before.
    pub to: Option<Micros>,
    /// What comes first.
    pub sort: DnsSort,
}

/// What comes first. Names and clients are sorted among the newest rows alone, some twenty thousand; so are the oldest
/// since a time, for no index says where that began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsSort {
    /// What came last.
    #[default]
    Newest,
    /// What came first.
    Oldest,
    /// The names, by the alphabet.
    Name,
    /// Who asked, by the address.
    Client,
}

#[derive(Clone, Copy)]
enum Key {
    All,
    Device(i64),
    Domain(i64),
}

impl DnsFilter {
    fn is_any(&self) -> bool {
        Self { device: None, sort: DnsSort::Newest, ..self.clone() } == Self::default()
    }

    fn is_sorted(&self) -> bool {
        match self.sort {
            DnsSort::Newest => false,
            DnsSort::Oldest => self.from.is_some(),
            DnsSort::Name | DnsSort::Client => true,
        }
    }

    fn way(&self) -> Way {
        if self.sort == DnsSort::Oldest { Way::Up } else { Way::Down }
    }
}

/// What the rows of a window are sorted by, the newest of equal ones first.
type Rank = (String, i128, Reverse<i64>);

/// A filter with its device and its name looked up.
struct Wanted<'a> {
    filter: &'a DnsFilter,
    /// Along which index; empty: nothing can match.
    keys: Vec<Key>,
    /// Asked for by this address, which no device has.
    client: Option<IpAddr>,
}

impl<'a> Wanted<'a> {
    fn look_up(connection: &mut Connection, filter: &'a DnsFilter) -> Result<Self, StoreError> {
        let along = |keys| Self { filter, keys, client: None };
        if let Some(address) = filter.device {
            let devices = devices::with_address(connection, address.into())?;
            if !devices.is_empty() {
                return Ok(along(devices.into_iter().map(Key::Device).collect()));
            }
        }
        // A router that asks for itself is no device.
        let mut wanted = Self { client: filter.device, ..along(vec![Key::All]) };
        if let Some(name) = &filter.domain {
            let ids: Vec<i64> = on_backend!(connection, |c| domains::table
                .filter(domains::name.eq(name))
                .select(domains::id)
                .load(c))?;
            wanted.keys = ids.into_iter().map(Key::Domain).collect();
        }
        Ok(wanted)
    }

    fn matches(&self, row: &DnsRow) -> bool {
        let filter = self.filter;
        self.client.is_none_or(|client| client == row.client)
            && filter.router.is_none_or(|router| router == row.router)
            && filter.domain.as_ref().is_none_or(|domain| *domain == row.name)
            && filter.text.as_ref().is_none_or(|text| row.name.contains(text.as_str()))
            && filter.kind.is_none_or(|kind| i32::from(kind) == row.kind)
            && filter.rcode.is_none_or(|rcode| i32::from(rcode) == i32::from(row.rcode))
            && filter.from.is_none_or(|from| row.time >= from)
            && filter.to.is_none_or(|to| row.time <= to)
    }

    /// Whether the keys alone do not say what matches.
    fn needs_scan(&self) -> bool {
        self.client.is_some() || !self.filter.is_any()
    }

    fn rank(&self, row: &DnsRow) -> Rank {
        let (name, key) = match self.filter.sort {
            DnsSort::Name => (row.name.clone(), 0),
            DnsSort::Client => (String::new(), address_key(row.client)),
            DnsSort::Newest | DnsSort::Oldest => (String::new(), row.id.into()),
        };
        (name, key, Reverse(row.id))
    }

    /// A position has no room for a name: it holds the name's id.
    fn position(&self, row: &DnsRow) -> Position {
        match self.filter.sort {
            DnsSort::Name => Position::new(row.domain, row.id),
            _ => Position::new(self.rank(row).1, row.id),
        }
    }

    fn rank_of(&self, connection: &mut Connection, position: Position) -> Result<Rank, StoreError> {
        let (name, key) = match self.filter.sort {
            DnsSort::Name => (name_of(connection, position.number())?, 0),
            _ => (String::new(), position.key),
        };
        Ok((name, key, Reverse(position.id)))
    }

    fn rows(
        &self,
        connection: &mut Connection,
        way: Way,
        before: Option<Position>,
        limit: i64,
    ) -> Result<Vec<DnsRow>, StoreError> {
        let id = |row: &DnsRow| row.id;
        keyed::merged(&self.keys, way, limit, id, |key| rows(connection, key, way, before, limit))
    }
}

/// Names stay; empty, before all others: there was none with this id.
fn name_of(connection: &mut Connection, id: i64) -> Result<String, StoreError> {
    let name: Option<String> = on_backend!(connection, |c| domains::table
        .filter(domains::id.eq(id))
        .select(domains::name)
        .first(c)
        .optional())?;
    Ok(name.unwrap_or_default())
}

fn rows(
    connection: &mut Connection,
    key: Key,
    way: Way,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<DnsRow>, StoreError> {
    type Row =
        (i64, i64, Option<String>, (i64, Option<String>), i64, Address, i32, i16, Option<Address>, bool);
    let start = way.start(before);
    let rows: Vec<Row> = on_backend!(connection, |c| {
        let query = dns_queries::table
            .left_join(routers::table.on(dns_queries::router_id.eq(routers::id)))
            .left_join(domains::table.on(dns_queries::domain_id.eq(domains::id)))
            .limit(limit)
            .select((
                dns_queries::id,
                dns_queries::router_id,
                routers::name.nullable(),
                (dns_queries::domain_id, domains::name.nullable()),
                dns_queries::time_us,
                dns_queries::client_ip,
                dns_queries::kind,
                dns_queries::rcode,
                dns_queries::resolver_ip,
                dns_queries::cached,
            ))
            .into_boxed();
        let query = match way {
            Way::Down => query.filter(dns_queries::id.lt(start)).order(dns_queries::id.desc()),
            Way::Up => query.filter(dns_queries::id.gt(start)).order(dns_queries::id.asc()),
        };
        match key {
            Key::All => query,
            Key::Device(id) => query.filter(dns_queries::device_id.eq(id)),
            Key::Domain(id) => query.filter(dns_queries::domain_id.eq(id)),
        }
        .load(c)
    })?;
    Ok(rows
        .into_iter()
        .map(|(id, router, router_name, (domain, name), time, client, kind, rcode, resolver, cached)| {
            DnsRow {
                id,
                router: RouterId(router),
                router_name: router_name.unwrap_or_default(),
                time,
                client: client.into(),
                domain,
                name: name.unwrap_or_default(),
                kind,
                rcode,
                resolver: resolver.map(IpAddr::from),
                cached,
                answers: Vec::new(),
            }
        })
        .collect())
}

/// Reads the records of the answers, in their order.
fn add_answers(connection: &mut Connection, rows: &mut [DnsRow]) -> Result<(), StoreError> {
    type Row = (i64, Option<String>, i32, Option<Address>, Option<String>, Option<i64>);
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let found: Vec<Row> = on_backend!(connection, |c| dns_answers::table
        .left_join(domains::table.on(dns_answers::domain_id.eq(domains::id)))
        .filter(dns_answers::query_id.eq_any(ids))
        .order((dns_answers::query_id, dns_answers::position))
        .select((
            dns_answers::query_id,
            domains::name.nullable(),
            dns_answers::kind,
            dns_answers::address,
            dns_answers::text,
            dns_answers::ttl_s,
        ))
        .load(c))?;
    let mut answers: HashMap<i64, Vec<DnsAnswerRow>> = HashMap::new();
    for (query, name, kind, address, text, ttl_s) in found {
        let data = match address {
            Some(address) => IpAddr::from(address).to_string(),
            None => text.unwrap_or_default(),
        };
        let answer = DnsAnswerRow { name: name.unwrap_or_default(), kind, data, ttl_s };
        answers.entry(query).or_default().push(answer);
    }
    for row in rows {
        row.answers = answers.remove(&row.id).unwrap_or_default();
    }
    Ok(())
}

pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &DnsFilter,
    page: Page,
) -> Result<PageOf<DnsRow>, StoreError> {
    connection.snapshot(|connection| {
        let wanted = Wanted::look_up(connection, filter)?;
        let mut part = if filter.is_sorted() {
            let after = page.before.map(|position| wanted.rank_of(connection, position)).transpose()?;
            scan::sorted(
                page,
                |row| wanted.matches(row),
                |row| wanted.rank(row),
                after,
                |row| wanted.position(row),
                |before, limit| wanted.rows(connection, Way::Down, before, limit),
            )?
        } else {
            let matches: &dyn Fn(&DnsRow) -> bool = &|row| wanted.matches(row);
            scan::page(
                page,
                wanted.needs_scan().then_some(matches),
                |row| Position::after_id(row.id),
                |before, limit| wanted.rows(connection, filter.way(), before, limit),
            )?
        };
        add_answers(connection, &mut part.items)?;
        Ok(part)
    })
}

/// The order does not change how many there are.
pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &DnsFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    connection.snapshot(|connection| {
        let wanted = Wanted::look_up(connection, filter)?;
        let matches: &dyn Fn(&DnsRow) -> bool = &|row| wanted.matches(row);
        scan::count(
            limit,
            wanted.needs_scan().then_some(matches),
            |row| Position::after_id(row.id),
            |before, limit| wanted.rows(connection, Way::Down, before, limit),
        )
    })
}
