//! Keeping the first of an hour or a day that is over, and adding the others up in one row.
//!
//! A household talks to thousands of hosts a day, and a scan touches every port. Rankings ask for the first ten; the
//! sums stay what they were.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::retention::Went;
use super::rollup_table::{FIGURES, ROLLUPS};
use super::{rollup, settings, sweep};
use crate::domain::Counters;

/// Which row.
#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = BigInt)]
    router_id: i64,
    #[diesel(sql_type = BigInt)]
    first: i64,
    #[diesel(sql_type = BigInt)]
    second: i64,
}

/// What it held.
#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = BigInt)]
    flows: i64,
    #[diesel(sql_type = BigInt)]
    bytes_orig: i64,
    #[diesel(sql_type = BigInt)]
    bytes_reply: i64,
    #[diesel(sql_type = BigInt)]
    packets_orig: i64,
    #[diesel(sql_type = BigInt)]
    packets_reply: i64,
}

/// Folds the next bucket before this one, or `rows` rows of it. How far this went before stands in the settings.
pub(super) fn buckets(
    connection: &mut Connection,
    place: usize,
    before: i64,
    top: i64,
    rows: i64,
) -> Result<Went, StoreError> {
    let table = &ROLLUPS[place];
    let setting = format!("folded_{}", table.table);
    let folded = settings::get(connection, &setting)?.and_then(|text| text.parse().ok()).unwrap_or(-1);
    let (name, time) = (table.table, table.time);
    let next =
        format!("SELECT MIN({time}) AS number FROM {name} WHERE {time} > {folded} AND {time} < {before}");
    let Some(bucket) = sweep::number(connection, next)? else { return Ok(Went::Through) };

    let keys = table.keys.join(", ");
    let [first, second] = table.key_pair();
    // The sum of strangers' numbers may leave 63 bits; for the order a float will do.
    let query = format!(
        "SELECT router_id, CAST({first} AS BIGINT) AS first, CAST({second} AS BIGINT) AS second FROM \
         (SELECT *, ROW_NUMBER() OVER (PARTITION BY router_id \
          ORDER BY CAST(bytes_orig AS DOUBLE PRECISION) + bytes_reply DESC, {keys}) AS place \
          FROM {name} WHERE {time} = {bucket} AND {single}) AS ranked \
         WHERE place > {top} ORDER BY place DESC LIMIT {rows}",
        single = table.single,
    );
    let small: Vec<Key> = on_backend!(&mut *connection, |c| diesel::sql_query(query).load(c))?;
    let mut others = rollup::Rows::new();
    let [first, second] = table.others;
    for row in &small {
        let second_key =
            table.keys.get(1).map_or_else(String::new, |key| format!(" AND {key} = {}", row.second));
        // What is added to the others is what went: on Postgres another server may have taken the row meanwhile.
        let query = format!(
            "DELETE FROM {name} WHERE {time} = {bucket} AND router_id = {} AND {} = {}{second_key} RETURNING {}",
            row.router_id,
            table.keys[0],
            row.first,
            FIGURES.join(", ")
        );
        let held: Vec<Held> = on_backend!(&mut *connection, |c| diesel::sql_query(query).load(c))?;
        for Held { flows, bytes_orig, bytes_reply, packets_orig, packets_reply } in held {
            let counters = Counters { bytes_orig, bytes_reply, packets_orig, packets_reply };
            others.entry([bucket, row.router_id, first, second]).or_default().add(flows, counters);
        }
    }
    rollup::write_at(connection, place, &others)?;
    if (small.len() as i64) < rows {
        settings::put(connection, &setting, &bucket.to_string())?;
    }
    Ok(Went::On { removed: small.len() as u64, at: bucket })
}
