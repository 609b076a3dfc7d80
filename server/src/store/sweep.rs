//! Taking old rows away, some at a time.
//!
//! The names of tables and columns come from this module's callers, the numbers from clocks and ids: nothing here is
//! text from outside.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::connection::{Connection, on_backend};
use super::retention::{Timed, Went};
use super::rollup_table::{FIGURES, Rollup, add_up};
use super::rows::Sums;
use super::totals::{SumFigures, WATCHED, sum_columns, sums};
use super::{StoreError, days, rollup};

#[derive(QueryableByName)]
struct Part {
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    oldest: Option<i64>,
}

#[derive(QueryableByName)]
pub(super) struct Number {
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) number: Option<i64>,
}

/// The one number that a query gives as `number`.
pub(super) fn number(connection: &mut Connection, query: String) -> Result<Option<i64>, StoreError> {
    let row: Number = on_backend!(connection, |c| diesel::sql_query(query).get_result(c))?;
    Ok(row.number)
}

/// Runs a statement, and gives how many rows it changed.
pub(super) fn execute(connection: &mut Connection, statement: String) -> Result<u64, StoreError> {
    Ok(on_backend!(connection, |c| diesel::sql_query(statement).execute(c))? as u64)
}

/// Of the `rows` rows with ids above `after`, takes away those that ended before this time. Ids are in the order in
/// which rows were begun: when none of these was begun before, all that follow are younger.
pub(super) fn rows(
    connection: &mut Connection,
    what: &Timed,
    before: i64,
    after: i64,
    rows: i64,
) -> Result<Went, StoreError> {
    let Timed { table, ended, began, .. } = what;
    // What Postgres has in parts goes by them.
    let by_days = what.is_daily() && matches!(connection, Connection::Postgres(_));
    let below = if by_days { days::FIRST_ID } else { i64::MAX };
    let part: Part = {
        let query = format!(
            "SELECT MAX(id) AS last, MIN(began) AS oldest FROM \
             (SELECT id, {began} AS began FROM {table} WHERE id > {after} AND id < {below} ORDER BY id LIMIT {rows}) AS part"
        );
        on_backend!(&mut *connection, |c| diesel::sql_query(query).get_result(c))?
    };
    let (Some(last), Some(oldest)) = (part.last, part.oldest) else { return Ok(Went::Through) };
    if oldest >= before {
        return Ok(Went::Through);
    }
    let removed = take(connection, what, &format!("id > {after} AND id <= {last} AND {ended} < {before}"))?;
    Ok(Went::On { removed, at: last })
}

/// Takes the rows of a condition away, with their parts, and remembers their sums.
pub(super) fn take(connection: &mut Connection, what: &Timed, condition: &str) -> Result<u64, StoreError> {
    let Timed { table, .. } = what;
    if what.counted {
        return delete_counted(connection, table, WATCHED, condition);
    }
    if let Some((parts, owner)) = what.parts {
        let owners = format!("SELECT id FROM {table} WHERE {condition}");
        execute(connection, format!("DELETE FROM {parts} WHERE {owner} IN ({owners})"))?;
    }
    execute(connection, format!("DELETE FROM {table} WHERE {condition}"))
}

#[derive(QueryableByName)]
struct Gone {
    #[diesel(embed)]
    sums: SumFigures,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// Takes the rows of a condition away, and remembers their sums: those of the very rows that went. On Postgres another
/// server may take the same ones, or a late flow widen one, at any moment before.
fn delete_counted(
    connection: &mut Connection,
    table: &str,
    figures: [&str; 5],
    condition: &str,
) -> Result<u64, StoreError> {
    let (gone, rows) = match connection {
        // One writer at a time.
        Connection::Sqlite(_) => {
            let gone = sums(connection, figures, &format!("{table} WHERE {condition}"))?;
            (gone, execute(connection, format!("DELETE FROM {table} WHERE {condition}"))?)
        }
        Connection::Postgres(c) => {
            let query = format!(
                "WITH gone AS (DELETE FROM {table} WHERE {condition} RETURNING *) SELECT {}, COUNT(*) AS rows FROM gone",
                sum_columns(figures)
            );
            let Gone { sums, rows } = diesel::sql_query(query).get_result(c)?;
            (sums.into(), rows.max(0).cast_unsigned())
        }
    };
    remember(connection, table, gone)?;
    Ok(rows)
}

/// Takes away the oldest buckets of a rollup, if they are before this one: as many as may have so many rows, one at
/// least. No minute goes that is not in its hour and its day.
pub(super) fn buckets(
    connection: &mut Connection,
    rollup: &Rollup,
    before: i64,
    rows: i64,
) -> Result<Went, StoreError> {
    let Rollup { table, time, minutes, .. } = rollup;
    let before = match minutes {
        1 => before.min(rollup::kept_mark(connection)?.saturating_add(1)),
        _ => before,
    };
    let Some(last) = last_of(connection, table, time, before, rows)? else { return Ok(Went::Through) };
    let removed = delete_counted(connection, table, FIGURES, &format!("{time} <= {last}"))?;
    Ok(Went::On { removed, at: last })
}

/// The same of a table whose rows are in no sum.
pub(super) fn minutes(
    connection: &mut Connection,
    table: &str,
    before: i64,
    rows: i64,
) -> Result<Went, StoreError> {
    let Some(last) = last_of(connection, table, "minute", before, rows)? else { return Ok(Went::Through) };
    let removed = execute(connection, format!("DELETE FROM {table} WHERE minute <= {last}"))?;
    Ok(Went::On { removed, at: last })
}

/// The last of the oldest buckets that have so many rows together; `None`: none is before this one.
fn last_of(
    connection: &mut Connection,
    table: &str,
    time: &str,
    before: i64,
    rows: i64,
) -> Result<Option<i64>, StoreError> {
    let query = format!(
        "SELECT CASE WHEN MAX(bucket) > MIN(bucket) THEN MAX(bucket) - 1 ELSE MAX(bucket) END AS number FROM \
         (SELECT {time} AS bucket FROM {table} WHERE {time} < {before} ORDER BY {time} LIMIT {rows}) AS part"
    );
    // The last one may have more rows than were looked at, so it is left to the next step unless it is the only one.
    number(connection, query)
}

/// Adds to what was taken from a table.
pub(super) fn remember(connection: &mut Connection, table: &str, gone: Sums) -> Result<(), StoreError> {
    if gone == Sums::default() {
        return Ok(());
    }
    let counters = gone.counters;
    let query = format!(
        "INSERT INTO removed_sums (name, {}) VALUES ($1, $2, $3, $4, $5, $6){}",
        FIGURES.join(", "),
        add_up("removed_sums", &["name"])
    );
    on_backend!(connection, |c| diesel::sql_query(query)
        .bind::<Text, _>(table)
        .bind::<BigInt, _>(gone.flows)
        .bind::<BigInt, _>(counters.bytes_orig)
        .bind::<BigInt, _>(counters.bytes_reply)
        .bind::<BigInt, _>(counters.packets_orig)
        .bind::<BigInt, _>(counters.packets_reply)
        .execute(c))?;
    Ok(())
}
