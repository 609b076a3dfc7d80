//! What the writer must know of a router before it takes its events.

use std::collections::HashMap;
use std::net::IpAddr;

use diesel::prelude::*;

use super::address::Address;
use super::connection::{Connection, on_backend};
use super::schema::{device_addresses, devices, dns_answers, dns_queries, domains};
use super::{StoreError, flow_reads, router};
use crate::domain::{FlowRecord, KnownAnswer, Mac, Micros, RouterId, WRITES};

/// The last flows that may still get a name, or whose tuple may be reported late.
const ENDED: i64 = 4096;
/// The last questions, over all routers, that flows may get their names from.
const QUESTIONS: i64 = 20_000;

/// A router that an agent reports for.
#[derive(Debug)]
pub struct AttachedRouter {
    /// Its row id.
    pub id: RouterId,
    /// How many commits there were of it, see [`WRITES`]; `None`: nobody counted.
    pub writes: Option<u64>,
    /// Its open flows, in the order of their ids.
    pub open: Vec<FlowRecord>,
    /// The flows that ended last, the newest first.
    pub ended: Vec<FlowRecord>,
    /// Which MAC holds an address.
    pub holders: Vec<(IpAddr, Mac)>,
    /// What its devices asked for lately, the oldest first.
    pub answers: Vec<KnownAnswer>,
}

/// Finds the router of this name, or makes it, and reads what is known about it.
pub(super) fn attach(
    connection: &mut Connection,
    name: &str,
    now: Micros,
) -> Result<AttachedRouter, StoreError> {
    let id = router::find_or_create(connection, name, now)?;
    Ok(AttachedRouter {
        id,
        // First: what another server commits while the rest is read must make the count wrong, not right.
        writes: router::cursor(connection, id, WRITES)?,
        open: flow_reads::open_flows_of(connection, id)?,
        ended: flow_reads::last_ended_of(connection, id, ENDED)?,
        holders: holders(connection, id)?,
        answers: answers(connection, id)?,
    })
}

fn holders(connection: &mut Connection, router: RouterId) -> Result<Vec<(IpAddr, Mac)>, StoreError> {
    let rows: Vec<(Address, Vec<u8>)> = on_backend!(connection, |c| device_addresses::table
        .inner_join(devices::table.on(device_addresses::device_id.eq(devices::id)))
        .filter(device_addresses::router_id.eq(router.0))
        .select((device_addresses::address, devices::identity))
        .load(c))?;
    let held = |(address, identity): (Address, Vec<u8>)| {
        Some((IpAddr::from(address), Mac::try_from(identity.as_slice()).ok()?))
    };
    Ok(rows.into_iter().filter_map(held).collect())
}

fn answers(connection: &mut Connection, router: RouterId) -> Result<Vec<KnownAnswer>, StoreError> {
    type Row = (i64, Micros, Address, Option<Vec<u8>>, String, Option<Address>, Option<i64>);
    let oldest: Option<i64> = on_backend!(&mut *connection, |c| dns_queries::table
        .select(dns_queries::id)
        .order(dns_queries::id.desc())
        .offset(QUESTIONS)
        .first(c)
        .optional())?;
    let rows: Vec<Row> = on_backend!(connection, |c| dns_queries::table
        .inner_join(dns_answers::table.on(dns_answers::query_id.eq(dns_queries::id)))
        .inner_join(domains::table.on(dns_queries::domain_id.eq(domains::id)))
        .left_join(devices::table.on(dns_queries::device_id.eq(devices::id.nullable())))
        .filter(dns_queries::id.gt(oldest.unwrap_or(i64::MIN)))
        .filter(dns_queries::router_id.eq(router.0))
        .filter(dns_queries::rcode.eq(0))
        .order((dns_queries::id, dns_answers::position))
        .select((
            dns_queries::id,
            dns_queries::time_us,
            dns_queries::client_ip,
            devices::identity.nullable(),
            domains::name,
            dns_answers::address,
            dns_answers::ttl_s,
        ))
        .load(c))?;
    let mut shortest: HashMap<i64, i64> = HashMap::new();
    for (query, .., ttl) in &rows {
        if let Some(ttl) = ttl {
            shortest.entry(*query).and_modify(|known| *known = (*ttl).min(*known)).or_insert(*ttl);
        }
    }
    let answer = |(query, time, client, identity, domain, address, _): Row| {
        let ttl_s = shortest.get(&query).and_then(|ttl| u32::try_from(*ttl).ok());
        // An address may have another holder today.
        let mac = identity.and_then(|identity| Mac::try_from(identity.as_slice()).ok());
        Some(KnownAnswer { time, client: client.into(), mac, domain, address: address?.into(), ttl_s })
    };
    Ok(rows.into_iter().filter_map(answer).collect())
}
