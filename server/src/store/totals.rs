//! Sums over whole tables.

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::rows::{Sums, Totals};
use super::schema::{device_minutes, flows, open_flows, service_minutes};
use crate::domain::Counters;

/// A count, and the sums of four figures in two halves each.
type Row = (i64, (i64, i64), (i64, i64), (i64, i64), (i64, i64));

type Halves = (SqlLiteral<BigInt>, SqlLiteral<BigInt>);

/// The sum of a figure that is not negative, as the sums of its upper and its lower 32 bits. A plain SUM() of
/// what strangers can make as large as 63 bits fails in SQLite and leaves BIGINT in Postgres.
fn halves(figure: &str) -> Halves {
    (
        sql(&format!("CAST(COALESCE(SUM(({figure}) >> 32), 0) AS BIGINT)")),
        sql(&format!("CAST(COALESCE(SUM(({figure}) & 4294967295), 0) AS BIGINT)")),
    )
}

/// The sum that the halves stand for, at most `i64::MAX`.
pub(super) fn whole((upper, lower): (i64, i64)) -> i64 {
    let sum = (i128::from(upper) << 32) + i128::from(lower);
    i64::try_from(sum).unwrap_or(i64::MAX)
}

/// The sum of a column as an expression of one table.
pub(super) fn sum_of(column: &str) -> Halves {
    halves(column)
}

impl Sums {
    fn of(flows: i64, (_, bytes_orig, bytes_reply, packets_orig, packets_reply): Row) -> Self {
        Self {
            flows,
            counters: Counters {
                bytes_orig: whole(bytes_orig),
                bytes_reply: whole(bytes_reply),
                packets_orig: whole(packets_orig),
                packets_reply: whole(packets_reply),
            },
        }
    }

    fn plus(self, other: Self) -> Self {
        Self { flows: self.flows.saturating_add(other.flows), counters: self.counters.plus(other.counters) }
    }
}

macro_rules! flow_sums {
    ($connection:expr, $table:ident) => {{
        let row: Row = on_backend!($connection, |c| $table::table
            .select((
                sql::<BigInt>("COUNT(*)"),
                halves("bytes_orig - bytes_orig_before"),
                halves("bytes_reply - bytes_reply_before"),
                halves("packets_orig - packets_orig_before"),
                halves("packets_reply - packets_reply_before"),
            ))
            .get_result(c))?;
        Sums::of(row.0, row)
    }};
}

macro_rules! minute_sums {
    ($connection:expr, $table:ident) => {{
        let (flows, row): ((i64, i64), Row) = on_backend!($connection, |c| $table::table
            .select((
                halves("flows"),
                (
                    sql::<BigInt>("COUNT(*)"),
                    halves("bytes_orig"),
                    halves("bytes_reply"),
                    halves("packets_orig"),
                    halves("packets_reply"),
                ),
            ))
            .get_result(c))?;
        Sums::of(whole(flows), row)
    }};
}

/// The sums over all tables, on one state of the database. Reads every flow.
pub(super) fn totals(connection: &mut Connection) -> Result<Totals, StoreError> {
    connection.snapshot(|connection| {
        let ended = flow_sums!(&mut *connection, flows);
        let open = flow_sums!(&mut *connection, open_flows);
        Ok(Totals {
            flows: ended.plus(open),
            device_minutes: minute_sums!(&mut *connection, device_minutes),
            service_minutes: minute_sums!(&mut *connection, service_minutes),
        })
    })
}
