//! Writing answers to questions for names, and counts of questions.

use std::borrow::Cow;

use diesel::prelude::*;

use super::address::Address;
use super::connection::{Connection, on_backend};
use super::intern::{CHUNK, Interned};
use super::schema::{dns_answers, dns_buckets, dns_queries};
use super::text::clean;
use super::{StoreError, ids};
use crate::domain::{DnsBucket, DnsData, DnsResponse, Observed};

#[derive(Insertable)]
#[diesel(table_name = dns_queries, treat_none_as_default_value = false)]
struct NewQuery {
    id: i64,
    router_id: i64,
    device_id: Option<i64>,
    domain_id: i64,
    time_us: i64,
    client_ip: Address,
    kind: i32,
    rcode: i16,
    resolver_ip: Option<Address>,
    cached: bool,
}

#[derive(Insertable)]
#[diesel(table_name = dns_answers, treat_none_as_default_value = false)]
struct NewAnswer<'a> {
    query_id: i64,
    position: i16,
    domain_id: i64,
    kind: i32,
    address: Option<Address>,
    text: Option<Cow<'a, str>>,
    ttl_s: Option<i64>,
}

#[derive(Insertable)]
#[diesel(table_name = dns_buckets, treat_none_as_default_value = false)]
struct NewBucket<'a> {
    router_id: i64,
    device_id: Option<i64>,
    bucket_start_us: i64,
    client_ip: Address,
    kind: Cow<'a, str>,
    name_hash: Cow<'a, str>,
    count: i64,
    nxdomain: i64,
}

/// Adds answers. Their ids are taken in the same transaction, so that none is lost or given twice.
pub(super) fn insert_responses(
    connection: &mut Connection,
    interned: &Interned,
    responses: &[Observed<DnsResponse>],
) -> Result<(), StoreError> {
    if responses.is_empty() {
        return Ok(());
    }
    let first = ids::take(connection, ids::DNS_QUERY, responses.len())?;
    let mut queries = Vec::with_capacity(responses.len());
    let mut answers = Vec::new();
    for (id, Observed { router, time, what }) in (first..).zip(responses) {
        // Every name was made known before.
        let Some(domain_id) = interned.domain(&what.name) else { continue };
        queries.push(NewQuery {
            id,
            router_id: router.0,
            device_id: interned.device(*router, what.client),
            domain_id,
            time_us: *time,
            client_ip: what.client.into(),
            kind: i32::from(what.kind),
            rcode: i16::try_from(what.rcode).unwrap_or(i16::MAX),
            resolver_ip: what.resolver.map(Address::from),
            cached: what.cached,
        });
        for (position, record) in (0..).zip(&what.answers) {
            let Some(domain_id) = interned.domain(&record.name) else { continue };
            let (address, text) = match &record.data {
                DnsData::Address(address) => (Some(Address::from(*address)), None),
                DnsData::Text(text) => (None, Some(clean(text))),
            };
            answers.push(NewAnswer {
                query_id: id,
                position,
                domain_id,
                kind: i32::from(record.kind),
                address,
                text,
                ttl_s: record.ttl_s.map(i64::from),
            });
        }
    }
    for chunk in queries.chunks(CHUNK) {
        on_backend!(&mut *connection, |c| diesel::insert_into(dns_queries::table).values(chunk).execute(c))?;
    }
    for chunk in answers.chunks(CHUNK) {
        on_backend!(&mut *connection, |c| diesel::insert_into(dns_answers::table).values(chunk).execute(c))?;
    }
    Ok(())
}

/// Adds counts of questions.
pub(super) fn insert_buckets(
    connection: &mut Connection,
    interned: &Interned,
    buckets: &[Observed<DnsBucket>],
) -> Result<(), StoreError> {
    for chunk in buckets.chunks(CHUNK) {
        let rows: Vec<NewBucket<'_>> = chunk
            .iter()
            .map(|Observed { router, what, .. }| NewBucket {
                router_id: router.0,
                device_id: interned.device(*router, what.client),
                bucket_start_us: what.start,
                client_ip: what.client.into(),
                kind: clean(&what.kind),
                name_hash: clean(&what.name_hash),
                count: what.count,
                nxdomain: what.nxdomain,
            })
            .collect();
        on_backend!(&mut *connection, |c| diesel::insert_into(dns_buckets::table).values(&rows).execute(c))?;
    }
    Ok(())
}
