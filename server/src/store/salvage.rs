//! Reading what can be read of a damaged SQLite file into a new one.

use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::connection::{Connection, Purpose};
use super::retention::BIG;
use super::rollup::MARK;
use super::{DatabaseUrl, Store, StoreError, ids};

/// How many ranges of a table may turn out to be unreadable before the rest of it is given up.
const MOST_BAD: u32 = 100_000;

/// Columns of flows that a schema before 0011 has in another way, and what they are of its columns.
const OF_LAST_SEEN: [(&str, &str); 2] = [
    ("lasted_us", "last_seen_us - first_seen_us"),
    (
        "kernel_start_us",
        "CASE WHEN kernel_start_us IS NULL THEN 0 WHEN kernel_start_us NOT IN (0, first_seen_us) THEN kernel_start_us END",
    ),
];

/// What became of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// Its name.
    pub table: String,
    /// Rows that are in the new file.
    pub rows: u64,
    /// Ranges of keys that could not be read.
    pub unreadable: u32,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Ends {
    #[diesel(sql_type = Nullable<BigInt>)]
    first: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
}

/// Copies what can be read of `damaged` into the new file `to`, table by table. `damaged` is not changed but for its log,
/// which SQLite may take into it.
pub fn salvage(damaged: &Path, to: &Path) -> Result<Vec<Salvaged>, StoreError> {
    let url = DatabaseUrl::Sqlite(to.to_owned());
    drop(Store::open(&url)?);
    let Connection::Sqlite(mut connection) = Connection::open(&url, Purpose::Write)? else {
        return Ok(Vec::new());
    };
    let c = &mut connection;
    // Rows may come before the ones they name, or without them. Nothing needs to be on disk before the end.
    c.batch_execute("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF;")?;
    let Some(path) = damaged.to_str() else {
        return Err(StoreError::Unavailable(format!("{} is not UTF-8", damaged.display())));
    };
    diesel::sql_query("ATTACH $1 AS damaged").bind::<Text, _>(path).execute(c)?;
    let tables = names(
        c,
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
         AND name NOT LIKE '\\_\\_diesel%' ESCAPE '\\' ORDER BY rowid",
    )?;
    // The new file's own mark says nothing about the old one's rows.
    let unmark = format!("DELETE FROM main.settings WHERE key = '{MARK}'");
    diesel::sql_query(unmark).execute(c)?;
    let mut salvaged = Vec::new();
    for table in tables {
        salvaged.push(copy(c, &table)?);
    }
    // New rows come after those that are there, also where the old file's word on that was not to be read.
    let given = BIG.iter().map(|what| (what.table, what.ids)).chain([("open_flows", ids::FLOW)]);
    for (table, name) in given {
        let next = format!(
            "UPDATE main.id_blocks SET next_id = MAX(next_id, (SELECT COALESCE(MAX(id), 0) + 1 FROM main.{table})) \
             WHERE name = '{name}'"
        );
        diesel::sql_query(next).execute(c)?;
    }
    // Without the old one hours and days stay as they are: nothing in them is counted twice.
    let marked = format!(
        "INSERT OR IGNORE INTO main.settings (key, value) SELECT '{MARK}', CAST(COALESCE(MAX(minute), -1) AS TEXT) FROM \
         (SELECT MAX(minute) AS minute FROM main.device_minutes UNION ALL \
          SELECT MAX(minute) FROM main.service_minutes UNION ALL SELECT MAX(minute) FROM main.host_minutes)"
    );
    diesel::sql_query(marked).execute(c)?;
    c.batch_execute("DETACH damaged; PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(TRUNCATE);")?;
    Ok(salvaged)
}

fn names(c: &mut SqliteConnection, query: &str) -> Result<Vec<String>, StoreError> {
    let rows: Vec<Name> = diesel::sql_query(query).load(c)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

fn copy(c: &mut SqliteConnection, table: &str) -> Result<Salvaged, StoreError> {
    let mut result = Salvaged { table: table.to_owned(), rows: 0, unreadable: 0 };
    let query = format!(
        "SELECT ours.name FROM pragma_table_info('{table}', 'main') ours \
         JOIN pragma_table_info('{table}', 'damaged') theirs USING (name)"
    );
    let mut columns: Vec<(String, String)> =
        names(c, &query)?.into_iter().map(|name| (name.clone(), name)).collect();
    let earlier =
        format!("SELECT name FROM pragma_table_info('{table}', 'damaged') WHERE name = 'last_seen_us'");
    if matches!(table, "flows" | "open_flows") && !names(c, &earlier)?.is_empty() {
        columns.retain(|(name, _)| OF_LAST_SEEN.iter().all(|(ours, _)| ours != name));
        columns.extend(OF_LAST_SEEN.map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned())));
    }
    let (columns, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
    let (columns, values) = (columns.join(", "), values.join(", "));
    if columns.is_empty() {
        // The list of tables itself is damaged, or an older program made the file.
        result.unreadable = 1;
        return Ok(result);
    }
    // A table of rowids has its first integer column there; the others begin with an integer but for the small ones.
    let key = names(
        c,
        &format!(
            "SELECT name FROM pragma_table_info('{table}', 'main') WHERE pk = 1 AND type = 'INTEGER' LIMIT 1"
        ),
    )?;
    let key = key.into_iter().next();
    let insert =
        format!("INSERT OR REPLACE INTO main.{table} ({columns}) SELECT {values} FROM damaged.{table}");
    let Some(key) = key else {
        match diesel::sql_query(insert).execute(c) {
            Ok(rows) => result.rows = rows as u64,
            Err(error) => {
                room_for(error)?;
                result.unreadable = 1;
            }
        }
        return Ok(result);
    };
    let ends = format!("SELECT MIN({key}) AS first, MAX({key}) AS last FROM damaged.{table}");
    let ends: Ends = match diesel::sql_query(ends).get_result(c) {
        Ok(ends) => ends,
        // One of the two edges is damaged: ids and times are positive, and far below this.
        Err(_) => Ends { first: Some(0), last: Some(1 << 40) },
    };
    let (Some(first), Some(last)) = (ends.first, ends.last) else { return Ok(result) };
    let mut ranges = vec![(first, last)];
    while let Some((from, to)) = ranges.pop() {
        match diesel::sql_query(format!("{insert} WHERE {key} BETWEEN {from} AND {to}")).execute(c) {
            Ok(rows) => result.rows += rows as u64,
            Err(error) => {
                room_for(error)?;
                if from == to || result.unreadable >= MOST_BAD {
                    result.unreadable += 1;
                    continue;
                }
                let middle = from + (to - from) / 2;
                ranges.push((middle + 1, to));
                ranges.push((from, middle));
            }
        }
    }
    Ok(result)
}

/// A full disk is no damage.
fn room_for(error: diesel::result::Error) -> Result<(), StoreError> {
    match StoreError::from(error) {
        StoreError::Full => Err(StoreError::Full),
        _ => Ok(()),
    }
}
