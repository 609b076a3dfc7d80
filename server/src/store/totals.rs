//! Sums over whole tables.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::connection::{Connection, on_backend};
use super::rollup_table::{DEVICES, FIGURES, ROLLUPS};
use super::rows::{Sums, Totals};
use super::schema::removed_sums;
use super::{StoreError, rollup};
use crate::domain::Counters;

/// The sum of a figure that is not negative, as the sums of its upper and its lower 32 bits. A plain SUM() of
/// what strangers can make as large as 63 bits fails in SQLite and leaves BIGINT in Postgres.
pub(super) fn halves(figure: &str) -> [String; 2] {
    [
        format!("CAST(COALESCE(SUM(({figure}) >> 32), 0) AS BIGINT)"),
        format!("CAST(COALESCE(SUM(({figure}) & 4294967295), 0) AS BIGINT)"),
    ]
}

/// The sum that the halves stand for, at most `i64::MAX`.
pub(super) fn whole((upper, lower): (i64, i64)) -> i64 {
    let sum = (i128::from(upper) << 32) + i128::from(lower);
    i64::try_from(sum).unwrap_or(i64::MAX)
}

/// The halves of the five figures.
#[derive(QueryableByName)]
pub(super) struct SumFigures {
    #[diesel(sql_type = BigInt)]
    flows_upper: i64,
    #[diesel(sql_type = BigInt)]
    flows_lower: i64,
    #[diesel(sql_type = BigInt)]
    bytes_orig_upper: i64,
    #[diesel(sql_type = BigInt)]
    bytes_orig_lower: i64,
    #[diesel(sql_type = BigInt)]
    bytes_reply_upper: i64,
    #[diesel(sql_type = BigInt)]
    bytes_reply_lower: i64,
    #[diesel(sql_type = BigInt)]
    packets_orig_upper: i64,
    #[diesel(sql_type = BigInt)]
    packets_orig_lower: i64,
    #[diesel(sql_type = BigInt)]
    packets_reply_upper: i64,
    #[diesel(sql_type = BigInt)]
    packets_reply_lower: i64,
}

impl From<SumFigures> for Sums {
    fn from(row: SumFigures) -> Self {
        Self {
            flows: whole((row.flows_upper, row.flows_lower)),
            counters: Counters {
                bytes_orig: whole((row.bytes_orig_upper, row.bytes_orig_lower)),
                bytes_reply: whole((row.bytes_reply_upper, row.bytes_reply_lower)),
                packets_orig: whole((row.packets_orig_upper, row.packets_orig_lower)),
                packets_reply: whole((row.packets_reply_upper, row.packets_reply_lower)),
            },
        }
    }
}

/// The select list of a [`SumFigures`]. `figures` are the expressions in the order of [`FIGURES`].
pub(super) fn sum_columns(figures: [&str; 5]) -> String {
    let columns: Vec<String> = FIGURES
        .iter()
        .zip(figures)
        .map(|(name, figure)| {
            let [upper, lower] = halves(figure);
            format!("{upper} AS {name}_upper, {lower} AS {name}_lower")
        })
        .collect();
    columns.join(", ")
}

/// What one row of `flows` or `open_flows` adds to the sums.
pub(super) const WATCHED: [&str; 5] = [
    "CAST(1 AS BIGINT)",
    "bytes_orig - COALESCE(bytes_orig_before, 0)",
    "bytes_reply - COALESCE(bytes_reply_before, 0)",
    "packets_orig - COALESCE(packets_orig_before, 0)",
    "packets_reply - COALESCE(packets_reply_before, 0)",
];

impl Sums {
    /// The sum, at most `i64::MAX` each.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { flows: self.flows.saturating_add(other.flows), counters: self.counters.plus(other.counters) }
    }
}

/// The sums of what a query's rows hold, `from` being its FROM clause and what follows.
pub(super) fn sums(connection: &mut Connection, figures: [&str; 5], from: &str) -> Result<Sums, StoreError> {
    let query = format!("SELECT {} FROM {from}", sum_columns(figures));
    let row: SumFigures = on_backend!(connection, |c| diesel::sql_query(query).get_result(c))?;
    Ok(row.into())
}

/// What retention took out of a table.
pub(super) fn removed(connection: &mut Connection, table: &str) -> Result<Sums, StoreError> {
    type Row = (i64, i64, i64, i64, i64);
    let row: Option<Row> = on_backend!(connection, |c| removed_sums::table
        .find(table)
        .select((
            removed_sums::flows,
            removed_sums::bytes_orig,
            removed_sums::bytes_reply,
            removed_sums::packets_orig,
            removed_sums::packets_reply,
        ))
        .first(c)
        .optional())?;
    Ok(row.map_or_else(Sums::default, |(flows, bytes_orig, bytes_reply, packets_orig, packets_reply)| Sums {
        flows,
        counters: Counters { bytes_orig, bytes_reply, packets_orig, packets_reply },
    }))
}

/// How many flows were ever counted, and how many of them retention took away.
pub(super) fn flows_counted(connection: &mut Connection) -> Result<(i64, i64), StoreError> {
    let place = DEVICES + 2;
    let days = rollup::source(place, rollup::mark(connection)?, None);
    let counted = sums(connection, FIGURES, &days)?.plus(removed(connection, ROLLUPS[place].table)?);
    Ok((counted.flows, removed(connection, "flows")?.flows))
}

/// The sums over all tables, on one state of the database. Reads every flow.
pub(super) fn totals(connection: &mut Connection) -> Result<Totals, StoreError> {
    connection.snapshot(sums_of_all)
}

/// The same within a transaction of the caller's.
pub(super) fn sums_of_all(connection: &mut Connection) -> Result<Totals, StoreError> {
    let ended = sums(connection, WATCHED, "flows")?;
    let open = sums(connection, WATCHED, "open_flows")?;
    let gone = removed(connection, "flows")?;
    let mut rollups = [Sums::default(); ROLLUPS.len()];
    let mark = rollup::mark(connection)?;
    for (place, (sum, rollup)) in rollups.iter_mut().zip(&ROLLUPS).enumerate() {
        let kept = sums(connection, FIGURES, &rollup::source(place, mark, None))?;
        *sum = kept.plus(removed(connection, rollup.table)?);
    }
    let [
        device_minutes,
        device_hours,
        device_days,
        service_minutes,
        service_hours,
        service_days,
        host_minutes,
        host_hours,
        host_days,
    ] = rollups;
    Ok(Totals {
        flows: ended.plus(open).plus(gone),
        removed: gone,
        device_minutes,
        device_hours,
        device_days,
        service_minutes,
        service_hours,
        service_days,
        host_minutes,
        host_hours,
        host_days,
    })
}
