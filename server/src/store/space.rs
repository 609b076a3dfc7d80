//! The size of the database, and giving back what it does not need.

use diesel::connection::SimpleConnection as _;

use super::connection::Connection;
use super::retention::{BIG, Timed, Went};
use super::sweep::{number, take};
use super::{StoreError, days};

/// Empty pages that stay in the file, for the rows of the next minutes: one of so many pages, and so many at least.
const SPARE_SHARE: i64 = 50;
const SPARE_PAGES: i64 = 256;

/// With a cap, rows go until the database is so many percent of it.
const CAPPED_PERCENT: u64 = 97;

/// More than a row takes with its indexes, so that the last step takes no more away than it must; and the fewest rows
/// of a step.
const ROW_BYTES: u64 = 400;
const ROWS_MIN: u64 = 25;

/// Pages of a SQLite file.
struct Pages {
    all: i64,
    free: i64,
    bytes: i64,
}

fn pages(connection: &mut Connection) -> Result<Pages, StoreError> {
    let mut pragma = |name: &str| -> Result<i64, StoreError> {
        let query = format!("SELECT {name} AS number FROM pragma_{name}");
        Ok(number(connection, query)?.unwrap_or(0))
    };
    Ok(Pages { all: pragma("page_count")?, free: pragma("freelist_count")?, bytes: pragma("page_size")? })
}

/// The bytes that rows take, without what is free.
fn used_bytes(connection: &mut Connection) -> Result<u64, StoreError> {
    let used = match connection {
        Connection::Sqlite(_) => {
            let pages = pages(connection)?;
            (pages.all - pages.free) * pages.bytes
        }
        Connection::Postgres(_) => {
            let query = "SELECT pg_database_size(current_database()) AS number";
            number(connection, query.to_owned())?.unwrap_or(0)
        }
    };
    Ok(used.max(0).cast_unsigned())
}

/// Takes the oldest rows away, of whatever kind, while the database is larger than it may be. Postgres' files shrink
/// by whole days alone.
pub(super) fn shrink(connection: &mut Connection, most: u64, rows: i64) -> Result<Went, StoreError> {
    let used = used_bytes(connection)?;
    let excess = used.saturating_sub(most / 100 * CAPPED_PERCENT);
    // Only what is above the cap itself is worth a word.
    let nothing_left = if used > most { Went::Beyond(used - most) } else { Went::Through };
    if excess == 0 {
        return Ok(Went::Through);
    }
    if matches!(connection, Connection::Postgres(_)) {
        return Ok(match days::drop_oldest(connection)? {
            Went::Through => nothing_left,
            went => went,
        });
    }
    let mut oldest: Option<(i64, Timed)> = None;
    for table in BIG {
        // By its beginning, as its id: the first row may be of a flow that ended just now.
        let Timed { table: name, began, .. } = table;
        let query = format!("SELECT (SELECT {began} FROM {name} ORDER BY id LIMIT 1) AS number");
        if let Some(time) = number(connection, query)?
            && oldest.is_none_or(|(known, _)| time < known)
        {
            oldest = Some((time, table));
        }
    }
    // Nothing is left to take: rollups, devices and hosts stay.
    let Some((_, table)) = oldest else { return Ok(nothing_left) };
    let name = table.table;
    let rows = rows.min((excess / ROW_BYTES).max(ROWS_MIN).cast_signed());
    let last =
        format!("SELECT MAX(id) AS number FROM (SELECT id FROM {name} ORDER BY id LIMIT {rows}) AS part");
    let Some(last) = number(connection, last)? else { return Ok(Went::Through) };
    let removed = take(connection, &table, &format!("id <= {last}"))?;
    Ok(Went::On { removed, at: last })
}

/// Gives empty pages at the end of a SQLite file back, some at a time. Those between others are filled from the end
/// before. Postgres sees to that by itself.
pub(super) fn give_back(connection: &mut Connection, most: u64, rows: i64) -> Result<Went, StoreError> {
    if matches!(connection, Connection::Postgres(_)) {
        return Ok(Went::Through);
    }
    let Pages { all, free, bytes } = pages(connection)?;
    let over = most > 0 && all.saturating_mul(bytes).max(0).cast_unsigned() > most;
    let spare = if over { 0 } else { (all / SPARE_SHARE).max(SPARE_PAGES) };
    let steps = (rows / 8).clamp(8, 256).min(free - spare);
    if steps <= 0 {
        return Ok(Went::Through);
    }
    if let Connection::Sqlite(c) = connection {
        c.batch_execute(&format!("PRAGMA incremental_vacuum({steps})"))?;
    }
    // A file that was made before this could be asked of it gives nothing back.
    if pages(connection)?.all >= all { Ok(Went::Through) } else { Ok(Went::On { removed: 0, at: 0 }) }
}

/// Lets a SQLite file shrink now rather than at the next checkpoint, as far as nobody reads from the log.
pub(super) fn checkpoint(connection: &mut Connection) -> Result<(), StoreError> {
    if let Connection::Sqlite(c) = connection {
        c.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")?;
    }
    Ok(())
}
