//! Postgres' largest tables, in one part a day.
//!
//! A part holds the ids that were given during a day: `day << 32` and what follows, days being counted since 1970.
//! Ids move on to a new day only where the part for it is there, so that there is a part for every row, however late
//! it comes and whatever its times are. A day that was kept long enough is dropped whole, which costs the same for any
//! number of rows; only its sums are read before. Where a flow of the day is still open an empty part stays. SQLite
//! keeps these tables in one piece, and nothing here does anything to it.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::connection::Connection;
use super::retention::{BIG, FLOWS, Timed, Went};
use super::sweep::{execute, number, remember};
use super::totals::{WATCHED, sums};
use super::{StoreError, ids};
use crate::domain::{MINUTE_US, Micros};

const DAY_US: Micros = 24 * 60 * MINUTE_US;

/// The ids of a day.
const DAY_BITS: u32 = 32;

/// Smaller ids are of no day: rows that were imported, or were here before there were parts.
pub(super) const FIRST_ID: i64 = 1 << 44;
const FIRST_DAY: i64 = FIRST_ID >> DAY_BITS;

/// Several servers make and drop parts one after the other. Any number will do that all of them use.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7236837432)";

/// While a part is taken out, commits and lists wait. It is given up, and tried again by the next sweep, where others
/// would make it wait longer than this.
const PATIENCE: &str = "SET LOCAL lock_timeout = '50ms'";

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Day {
    #[diesel(sql_type = BigInt)]
    day: i64,
}

/// Makes the parts of this day and the next, and lets ids move on to this day.
pub(super) fn begin(connection: &mut Connection, now: Micros) -> Result<Went, StoreError> {
    if matches!(connection, Connection::Sqlite(_)) {
        return Ok(Went::Through);
    }
    run(connection, LOCK)?;
    for what in &BIG {
        let ids = what.ids;
        let next =
            number(connection, format!("SELECT next_id AS number FROM id_blocks WHERE name = '{ids}'"))?;
        // Where a clock was ahead, ids stay ahead.
        let day = now.div_euclid(DAY_US).max(FIRST_DAY).max(next.unwrap_or(0) >> DAY_BITS);
        for day in [day, day + 1] {
            for table in what.tables() {
                make(connection, table, day)?;
            }
        }
        let first = day << DAY_BITS;
        execute(
            connection,
            format!("UPDATE id_blocks SET next_id = {first} WHERE name = '{ids}' AND next_id < {first}"),
        )?;
    }
    // An earlier version dropped the parts of days of which flows are still open.
    for day in days_of_open_flows(connection)? {
        make(connection, FLOWS.table, day)?;
    }
    Ok(Went::Through)
}

fn days_of_open_flows(connection: &mut Connection) -> Result<Vec<i64>, StoreError> {
    let Connection::Postgres(c) = connection else { return Ok(Vec::new()) };
    let query = format!("SELECT DISTINCT id >> {DAY_BITS} AS day FROM open_flows WHERE id >= {FIRST_ID}");
    let days: Vec<Day> = diesel::sql_query(query).load(c)?;
    Ok(days.into_iter().map(|row| row.day).collect())
}

/// Of the next day after the day `after` takes away the rows that ended before this time. Days in which no row may be
/// younger go whole.
pub(super) fn drop_before(
    connection: &mut Connection,
    what: &Timed,
    before: Micros,
    after: i64,
) -> Result<Went, StoreError> {
    if matches!(connection, Connection::Sqlite(_)) {
        return Ok(Went::Through);
    }
    let last = before.div_euclid(DAY_US);
    match days(connection, what.table)?.into_iter().find(|day| *day > after && *day < last) {
        None => Ok(Went::Through),
        Some(day) => Ok(Went::On { removed: take_out(connection, what, day, Some(before))?, at: day }),
    }
}

/// Drops the oldest day of all tables, however young its rows are; never the present one. Rows of no day are left to
/// their time, and so are the days meanwhile, which are younger.
pub(super) fn drop_oldest(connection: &mut Connection) -> Result<Went, StoreError> {
    let mut oldest: Option<(i64, &Timed)> = None;
    for what in &BIG {
        let Timed { table, ids, .. } = what;
        let query = format!("SELECT id AS number FROM {table} WHERE id < {FIRST_ID} LIMIT 1");
        if number(connection, format!("SELECT ({query}) AS number"))?.is_some() {
            return Ok(Went::Through);
        }
        let next =
            number(connection, format!("SELECT next_id AS number FROM id_blocks WHERE name = '{ids}'"))?;
        let present = next.unwrap_or(0) >> DAY_BITS;
        for day in days(connection, table)?.into_iter().take_while(|day| *day < present) {
            // A part that waits for rows and has none is nothing to drop.
            if !rows_may_come(connection, what, day)? || has_rows(connection, &part(table, day))? {
                if oldest.is_none_or(|(known, _)| day < known) {
                    oldest = Some((day, what));
                }
                break;
            }
        }
    }
    match oldest {
        None => Ok(Went::Through),
        Some((day, what)) => Ok(Went::On { removed: take_out(connection, what, day, None)?, at: day }),
    }
}

/// The days that a table has parts for, the oldest first.
fn days(connection: &mut Connection, table: &str) -> Result<Vec<i64>, StoreError> {
    let Connection::Postgres(c) = connection else { return Ok(Vec::new()) };
    let query = format!(
        "SELECT relname::text AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
         WHERE inhparent = '{table}'::regclass"
    );
    let names: Vec<Name> = diesel::sql_query(query).load(c)?;
    let prefix = part(table, "");
    let mut days: Vec<i64> =
        names.iter().filter_map(|Name { name }| name.strip_prefix(&prefix)?.parse().ok()).collect();
    days.sort_unstable();
    Ok(days)
}

fn part(table: &str, day: impl std::fmt::Display) -> String {
    format!("{table}_day_{day}")
}

/// Makes a part, unless it is there. Made by itself and then attached, because that waits for nobody.
fn make(connection: &mut Connection, table: &str, day: i64) -> Result<(), StoreError> {
    let name = part(table, day);
    let known = format!("SELECT to_regclass('{name}')::oid::bigint AS number");
    if number(connection, known)?.is_some() {
        return Ok(());
    }
    run(connection, &format!("CREATE TABLE {name} (LIKE {table})"))?;
    attach(connection, table, day)
}

fn attach(connection: &mut Connection, table: &str, day: i64) -> Result<(), StoreError> {
    let (name, first, next) = (part(table, day), day << DAY_BITS, (day + 1) << DAY_BITS);
    run(
        connection,
        &format!("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({next})"),
    )
}

fn has_rows(connection: &mut Connection, table: &str) -> Result<bool, StoreError> {
    Ok(number(connection, format!("SELECT (SELECT 1 FROM {table} LIMIT 1)::bigint AS number"))?.is_some())
}

/// Whether a row with an id of this day, which is over, may still be written. A flow has its id from its beginning and
/// comes at its end, however much later; those that began when the day ended may not even be among the open ones yet.
fn rows_may_come(connection: &mut Connection, what: &Timed, day: i64) -> Result<bool, StoreError> {
    if what.ids != ids::FLOW {
        return Ok(false);
    }
    let (first, next) = (day << DAY_BITS, (day + 1) << DAY_BITS);
    let query = format!(
        "SELECT (SELECT next_id >> {DAY_BITS} <= {day} + 1 FROM id_blocks WHERE name = '{}')::int::bigint \
         + (SELECT COUNT(*) FROM open_flows WHERE id >= {first} AND id < {next}) AS number",
        what.ids
    );
    Ok(number(connection, query)?.unwrap_or(0) > 0)
}

/// Takes away what ended before a time, or everything, of one day, and remembers its sums. A flow that began on this
/// day may have ended much later, or not yet: a new part takes the old one's place, with the rows that stay.
fn take_out(
    connection: &mut Connection,
    what: &Timed,
    day: i64,
    before: Option<Micros>,
) -> Result<u64, StoreError> {
    let name = part(what.table, day);
    let (over, stays) = match before {
        Some(before) => (format!("{} < {before}", what.ended), format!("{} >= {before}", what.ended)),
        None => ("TRUE".to_owned(), "FALSE".to_owned()),
    };
    run(connection, LOCK)?;
    run(connection, PATIENCE)?;
    // From here on no row comes to this day; the other days are open to everyone.
    run(connection, &format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))?;
    let count = |connection: &mut Connection, condition: &str| -> Result<u64, StoreError> {
        let query = format!("SELECT COUNT(*) AS number FROM {name} WHERE {condition}");
        Ok(number(connection, query)?.unwrap_or(0).max(0).cast_unsigned())
    };
    let (removed, kept) = (count(connection, &over)?, count(connection, &stays)?);
    let is_kept = kept > 0 || rows_may_come(connection, what, day)?;
    if removed == 0 && is_kept {
        return Ok(0);
    }
    if what.counted {
        let gone = sums(connection, WATCHED, &format!("{name} WHERE {over}"))?;
        remember(connection, what.table, gone)?;
    }
    // The parts of rows first, for they are known by the rows.
    if let Some((parts, owner)) = what.parts {
        let stays = (kept > 0).then(|| format!("{owner} IN (SELECT id FROM {name} WHERE {stays})"));
        replace(connection, parts, day, stays)?;
    }
    replace(connection, what.table, day, is_kept.then_some(stays))?;
    Ok(removed)
}

/// Drops a part; the rows that stay, if any do, are in a new one.
fn replace(
    connection: &mut Connection,
    table: &str,
    day: i64,
    stays: Option<String>,
) -> Result<(), StoreError> {
    let name = part(table, day);
    run(connection, &format!("ALTER TABLE {table} DETACH PARTITION {name}"))?;
    let Some(stays) = stays else { return run(connection, &format!("DROP TABLE {name}")) };
    run(
        connection,
        &format!("ALTER TABLE {name} RENAME TO {name}_gone; CREATE TABLE {name} (LIKE {table})"),
    )?;
    execute(connection, format!("INSERT INTO {name} SELECT * FROM {name}_gone WHERE {stays}"))?;
    attach(connection, table, day)?;
    run(connection, &format!("DROP TABLE {name}_gone"))
}

/// Runs statements of Postgres' alone.
fn run(connection: &mut Connection, statements: &str) -> Result<(), StoreError> {
    if let Connection::Postgres(c) = connection {
        c.batch_execute(statements)?;
    }
    Ok(())
}
