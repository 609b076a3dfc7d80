//! What a device moved, minute by minute.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::devices;
use super::rollup_table::{DEVICES, FIGURES, ROLLUPS};
use super::rows::{MinuteRow, Sums};
use super::totals::{SumFigures, sum_columns};
use crate::domain::{MINUTE_US, Micros};

/// A day and an hour: the longest day of a time zone.
const MOST_MINUTES: i64 = 25 * 60;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    minute: i64,
    #[diesel(embed)]
    sums: SumFigures,
}

/// The minutes from `from` to before `to`, no more than the last 25 hours of them, in which a device or a part of it
/// moved anything.
pub(super) fn device_minutes(
    connection: &mut Connection,
    device: i64,
    from: Micros,
    to: Micros,
) -> Result<Vec<MinuteRow>, StoreError> {
    let devices = devices::with_parts(connection, device)?;
    let last = (to - 1).div_euclid(MINUTE_US);
    let first = from.div_euclid(MINUTE_US).max(last - MOST_MINUTES + 1);
    let ids: Vec<String> = devices.iter().map(i64::to_string).collect();
    // Numbers only, of which none comes from outside but the times.
    let query = format!(
        "SELECT minute, {} FROM {} WHERE minute BETWEEN {first} AND {last} AND device_id IN ({}) \
         GROUP BY minute ORDER BY minute",
        sum_columns(FIGURES),
        ROLLUPS[DEVICES].table,
        ids.join(", "),
    );
    let rows: Vec<Row> = on_backend!(connection, |c| diesel::sql_query(query).load(c))?;
    Ok(rows
        .into_iter()
        .map(|row| MinuteRow { at: row.minute * MINUTE_US, sums: Sums::from(row.sums) })
        .collect())
}
