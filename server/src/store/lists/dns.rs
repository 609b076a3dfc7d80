//! Answers to questions for names.

use std::collections::HashMap;
use std::net::IpAddr;

use diesel::prelude::*;

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::devices;
use super::super::rows::{Count, DnsAnswerRow, DnsRow, Page, PageOf};
use super::super::schema::{dns_answers, dns_queries, domains, routers};
use super::{Position, keyed, scan};
use crate::domain::{Micros, RouterId};

/// Which answers; the newest come first. `None` is any.
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
}

#[derive(Clone, Copy)]
enum Key {
    All,
    Device(i64),
    Domain(i64),
}

impl DnsFilter {
    fn matches(&self, row: &DnsRow) -> bool {
        self.router.is_none_or(|router| router == row.router)
            && self.domain.as_ref().is_none_or(|domain| *domain == row.name)
            && self.text.as_ref().is_none_or(|text| row.name.contains(text.as_str()))
            && self.kind.is_none_or(|kind| i32::from(kind) == row.kind)
            && self.rcode.is_none_or(|rcode| i32::from(rcode) == i32::from(row.rcode))
            && self.from.is_none_or(|from| row.time >= from)
            && self.to.is_none_or(|to| row.time <= to)
    }

    fn is_any(&self) -> bool {
        Self { device: None, ..self.clone() } == Self::default()
    }

    /// Along which index; empty: nothing can match.
    fn keys(&self, connection: &mut Connection) -> Result<Vec<Key>, StoreError> {
        if let Some(address) = self.device {
            let devices = devices::with_address(connection, address.into())?;
            return Ok(devices.into_iter().map(Key::Device).collect());
        }
        if let Some(name) = &self.domain {
            let ids: Vec<i64> = on_backend!(connection, |c| domains::table
                .filter(domains::name.eq(name))
                .select(domains::id)
                .load(c))?;
            return Ok(ids.into_iter().map(Key::Domain).collect());
        }
        Ok(vec![Key::All])
    }
}

fn rows(
    connection: &mut Connection,
    key: Key,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<DnsRow>, StoreError> {
    type Row = (i64, i64, Option<String>, Option<String>, i64, Address, i32, i16, Option<Address>, bool);
    let below = before.map_or(i64::MAX, |position| position.id);
    let rows: Vec<Row> = on_backend!(connection, |c| {
        let query = dns_queries::table
            .left_join(routers::table.on(dns_queries::router_id.eq(routers::id)))
            .left_join(domains::table.on(dns_queries::domain_id.eq(domains::id)))
            .filter(dns_queries::id.lt(below))
            .order(dns_queries::id.desc())
            .limit(limit)
            .select((
                dns_queries::id,
                dns_queries::router_id,
                routers::name.nullable(),
                domains::name.nullable(),
                dns_queries::time_us,
                dns_queries::client_ip,
                dns_queries::kind,
                dns_queries::rcode,
                dns_queries::resolver_ip,
                dns_queries::cached,
            ))
            .into_boxed();
        match key {
            Key::All => query,
            Key::Device(id) => query.filter(dns_queries::device_id.eq(id)),
            Key::Domain(id) => query.filter(dns_queries::domain_id.eq(id)),
        }
        .load(c)
    })?;
    Ok(rows
        .into_iter()
        .map(|(id, router, router_name, name, time, client, kind, rcode, resolver, cached)| DnsRow {
            id,
            router: RouterId(router),
            router_name: router_name.unwrap_or_default(),
            time,
            client: client.into(),
            name: name.unwrap_or_default(),
            kind,
            rcode,
            resolver: resolver.map(IpAddr::from),
            cached,
            answers: Vec::new(),
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
        let keys = filter.keys(connection)?;
        let matches: &dyn Fn(&DnsRow) -> bool = &|row| filter.matches(row);
        let matches = (!filter.is_any()).then_some(matches);
        let mut part = scan::page(
            page,
            matches,
            |row| Position::after_id(row.id),
            |before, limit| {
                keyed::merged(&keys, limit, |row: &DnsRow| row.id, |key| rows(connection, key, before, limit))
            },
        )?;
        add_answers(connection, &mut part.items)?;
        Ok(part)
    })
}

pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &DnsFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    connection.snapshot(|connection| {
        let keys = filter.keys(connection)?;
        let matches: &dyn Fn(&DnsRow) -> bool = &|row| filter.matches(row);
        let matches = (!filter.is_any()).then_some(matches);
        scan::count(
            limit,
            matches,
            |row| Position::after_id(row.id),
            |before, limit| {
                keyed::merged(&keys, limit, |row: &DnsRow| row.id, |key| rows(connection, key, before, limit))
            },
        )
    })
}
