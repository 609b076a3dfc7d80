//! Who moved most, from the rollups: never from the flows, so that a month costs no more than an hour.

use std::collections::HashMap;
use std::net::IpAddr;

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::StoreError;
use super::address::Address;
use super::connection::{Connection, on_backend};
use super::rollup::{self, NOBODY};
use super::rollup_table::{DEVICES, FIGURES, HOSTS, ROLLUPS, Rollup, SERVICES};
use super::rows::Sums;
use super::schema::remote_hosts;
use super::totals::{SumFigures, sum_columns};
use super::{host_facts, lists, sweep};
use crate::domain::{MINUTE_US, Micros, RouterId};

/// What to rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopBy {
    /// LAN devices.
    Device,
    /// Protocols with the responder's port.
    Service,
    /// Remote hosts.
    Host,
}

/// Which ranking.
#[derive(Clone, Copy, Debug)]
pub struct TopFilter {
    /// Of what.
    pub by: TopBy,
    /// Seen by this router; `None`: by any.
    pub router: Option<RouterId>,
    /// From this moment.
    pub from: Micros,
    /// To this one, which is not in it.
    pub to: Micros,
    /// So many rows at most.
    pub limit: usize,
}

/// A ranking by bytes of both directions, the most first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopList {
    /// The span that is really covered: whole minutes up to three hours, whole hours up to four days, else whole days.
    pub from: Micros,
    /// Its end.
    pub to: Micros,
    /// The rows.
    pub rows: Vec<TopRow>,
}

/// A row of a ranking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopRow {
    /// Who.
    pub key: TopKey,
    /// What a device is called, or a host by reverse DNS; `None`: not known.
    pub name: Option<String>,
    /// The router that a device is behind.
    pub router_name: Option<String>,
    /// How much.
    pub sums: Sums,
}

/// What a row of a ranking stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopKey {
    /// A device or a remote host.
    Address {
        /// Its row id.
        id: i64,
        /// Its address.
        address: IpAddr,
    },
    /// A service.
    Service {
        /// IANA protocol number.
        protocol: u8,
        /// The responder's port.
        port: u16,
    },
    /// Traffic in which no device or no outside address took part.
    Nobody,
    /// Everything that was not among the first of an hour or day that is over.
    Others,
}

/// Up to this span minutes are read, up to the next one hours, beyond it days: some 200 buckets at most, but for years.
const BY_MINUTES: i64 = 3 * 60;
const BY_HOURS: i64 = 4 * 24 * 60;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    first: i64,
    #[diesel(sql_type = BigInt)]
    second: i64,
    #[diesel(embed)]
    sums: SumFigures,
}

/// The rows that moved most bytes, both directions together.
pub(super) fn top(connection: &mut Connection, filter: &TopFilter) -> Result<TopList, StoreError> {
    let minutes = (filter.to - filter.from).div_euclid(MINUTE_US);
    let unit = usize::from(minutes > BY_MINUTES) + usize::from(minutes > BY_HOURS);
    let tables = match filter.by {
        TopBy::Device => DEVICES,
        TopBy::Service => SERVICES,
        TopBy::Host => HOSTS,
    };
    connection.snapshot(|connection| {
        let mut table = tables + unit;
        for coarser in table + 1..=tables + 2 {
            if reaches_further(connection, coarser, table, filter.from)? {
                table = coarser;
            }
        }
        let rollup = &ROLLUPS[table];
        let bucket_us = rollup.minutes * MINUTE_US;
        let first = filter.from.div_euclid(bucket_us);
        let last = (filter.to - 1).max(filter.from).div_euclid(bucket_us);
        let from = rollup::source(table, rollup::mark(connection)?, Some((first, last)));
        let rows = read(connection, rollup, filter, &from)?;
        Ok(TopList {
            from: first * bucket_us,
            to: (last + 1) * bucket_us,
            rows: named(connection, filter.by, rows)?,
        })
    })
}

/// Whether the finer of two tables of [`ROLLUPS`] was not kept since this time, and the coarser one for longer.
fn reaches_further(
    connection: &mut Connection,
    coarser: usize,
    finer: usize,
    from: Micros,
) -> Result<bool, StoreError> {
    let mut oldest = |table: usize| {
        let Rollup { table, time, minutes, .. } = ROLLUPS[table];
        let number = sweep::number(
            connection,
            format!("SELECT (SELECT {time} FROM {table} ORDER BY {time} LIMIT 1) AS number"),
        )?;
        Ok::<_, StoreError>(number.map(|bucket| bucket * minutes))
    };
    let (fine, coarse) = (oldest(finer)?, oldest(coarser)?);
    let unit = ROLLUPS[coarser].minutes;
    Ok(match (fine, coarse) {
        (_, None) => false,
        (None, Some(_)) => true,
        // An hour begins before its first minute in any case.
        (Some(fine), Some(coarse)) => {
            from.div_euclid(MINUTE_US) < fine && coarse < fine.div_euclid(unit) * unit
        }
    })
}

fn read(
    connection: &mut Connection,
    rollup: &Rollup,
    filter: &TopFilter,
    from: &str,
) -> Result<Vec<Row>, StoreError> {
    let [mut key, second] = rollup.key_pair();
    if key == "device_id" {
        // A device that was found to be another one counts as that one.
        key = "COALESCE((SELECT root_id FROM devices WHERE devices.id = device_id), device_id)";
    }
    // Numbers only, of which none comes from outside but the router's id and the limit.
    let router = filter.router.map_or_else(String::new, |router| format!(" WHERE router_id = {}", router.0));
    // A sum of strangers' numbers may leave 63 bits, which is an error in SQLite; for the order a float will do.
    let query = format!(
        "SELECT CAST({key} AS BIGINT) AS first, CAST({second} AS BIGINT) AS second, {sums} FROM {from}{router} \
         GROUP BY 1, 2 \
         ORDER BY SUM(CAST(bytes_orig AS DOUBLE PRECISION) + bytes_reply) DESC, 1, 2 LIMIT {limit}",
        sums = sum_columns(FIGURES),
        limit = filter.limit.min(10_000),
    );
    Ok(on_backend!(connection, |c| diesel::sql_query(query).load(c))?)
}

/// What is known of a device or a host.
struct Known {
    address: IpAddr,
    name: Option<String>,
    router_name: Option<String>,
}

/// Looks up what the ids stand for.
fn known(connection: &mut Connection, by: TopBy, ids: &[i64]) -> Result<HashMap<i64, Known>, StoreError> {
    if ids.is_empty() || by == TopBy::Service {
        return Ok(HashMap::new());
    }
    if by == TopBy::Device {
        let devices = lists::devices_by_id(connection, ids)?.into_iter();
        return Ok(devices
            .map(|row| {
                let router_name = Some(row.router_name);
                (row.id, Known { address: row.address, name: row.name, router_name })
            })
            .collect());
    }
    let mut names = host_facts::names(connection, ids)?;
    let addresses: Vec<(i64, Address)> = on_backend!(connection, |c| remote_hosts::table
        .filter(remote_hosts::id.eq_any(ids))
        .select((remote_hosts::id, remote_hosts::address))
        .load(c))?;
    Ok(addresses
        .into_iter()
        .map(|(id, address)| {
            (id, Known { address: address.into(), name: names.remove(&id), router_name: None })
        })
        .collect())
}

fn named(connection: &mut Connection, by: TopBy, rows: Vec<Row>) -> Result<Vec<TopRow>, StoreError> {
    let ids: Vec<i64> = rows.iter().map(|row| row.first).filter(|id| *id != NOBODY).collect();
    let mut known = known(connection, by, &ids)?;
    rows.into_iter()
        .map(|row| {
            let damaged = |what: &str| StoreError::Damaged(format!("a rollup has {what}"));
            let mut top =
                TopRow { key: TopKey::Others, name: None, router_name: None, sums: Sums::from(row.sums) };
            top.key = match by {
                TopBy::Service if row.second < 0 => TopKey::Others,
                TopBy::Service => TopKey::Service {
                    protocol: u8::try_from(row.first).map_err(|_| damaged("a protocol beyond 255"))?,
                    port: u16::try_from(row.second).map_err(|_| damaged("a port beyond 65535"))?,
                },
                _ if row.first < 0 => TopKey::Others,
                _ if row.first == NOBODY => TopKey::Nobody,
                _ => {
                    let found = known.remove(&row.first);
                    let found = found.ok_or_else(|| damaged("an id that stands for nothing"))?;
                    (top.name, top.router_name) = (found.name, found.router_name);
                    TopKey::Address { id: row.first, address: found.address }
                }
            };
            Ok(top)
        })
        .collect()
}
