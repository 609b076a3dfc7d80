//! Who moved most, from the rollups: never from the flows, so that a month costs no more than an hour.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::StoreError;
use super::address::Address;
use super::connection::{Connection, on_backend};
use super::rollup::{self, NOBODY};
use super::rollup_table::{DEVICES, FIGURES, HOSTS, ROLLUPS, Rollup, SERVICES};
use super::rows::{Sums, TopBy, TopFilter, TopKey, TopList, TopRow};
use super::schema::{devices, remote_hosts};
use super::totals::{SumFigures, sum_columns};
use crate::domain::MINUTE_US;

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
    let table = unit
        + match filter.by {
            TopBy::Device => DEVICES,
            TopBy::Service => SERVICES,
            TopBy::Host => HOSTS,
        };
    let rollup = &ROLLUPS[table];
    let bucket_us = rollup.minutes * MINUTE_US;
    let first = filter.from.div_euclid(bucket_us);
    let last = (filter.to - 1).max(filter.from).div_euclid(bucket_us);
    let rows = connection.snapshot(|connection| {
        let from = rollup::source(table, rollup::mark(connection)?, Some((first, last)));
        let rows = read(connection, rollup, filter, &from)?;
        named(connection, filter.by, rows)
    })?;
    Ok(TopList { from: first * bucket_us, to: (last + 1) * bucket_us, rows })
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

/// Looks up what the ids stand for.
fn named(connection: &mut Connection, by: TopBy, rows: Vec<Row>) -> Result<Vec<TopRow>, StoreError> {
    let ids: Vec<i64> = rows.iter().map(|row| row.first).filter(|id| *id != NOBODY).collect();
    let addresses: HashMap<i64, Address> = match by {
        TopBy::Service => HashMap::new(),
        _ if ids.is_empty() => HashMap::new(),
        TopBy::Device => on_backend!(connection, |c| devices::table
            .filter(devices::id.eq_any(&ids))
            .select((devices::id, devices::address))
            .load::<(i64, Address)>(c))?
        .into_iter()
        .collect(),
        TopBy::Host => on_backend!(connection, |c| remote_hosts::table
            .filter(remote_hosts::id.eq_any(&ids))
            .select((remote_hosts::id, remote_hosts::address))
            .load::<(i64, Address)>(c))?
        .into_iter()
        .collect(),
    };
    rows.into_iter()
        .map(|row| {
            let damaged = |what: &str| StoreError::Damaged(format!("a rollup has {what}"));
            let key = match by {
                TopBy::Service if row.second < 0 => TopKey::Others,
                TopBy::Service => TopKey::Service {
                    protocol: u8::try_from(row.first).map_err(|_| damaged("a protocol beyond 255"))?,
                    port: u16::try_from(row.second).map_err(|_| damaged("a port beyond 65535"))?,
                },
                _ if row.first < 0 => TopKey::Others,
                _ if row.first == NOBODY => TopKey::Nobody,
                _ => {
                    let address = addresses.get(&row.first).copied();
                    let address = address.ok_or_else(|| damaged("an id that stands for nothing"))?.into();
                    TopKey::Address { id: row.first, address }
                }
            };
            Ok(TopRow { key, sums: Sums::from(row.sums) })
        })
        .collect()
}
