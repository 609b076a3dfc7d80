//! A SQLite database into an empty Postgres, in one transaction.
//!
//! SQLite writes its rows as JSON and Postgres reads them by its own columns' types, so no table needs code of its own.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::connection::{Connection, Purpose};
use super::{DatabaseUrl, Store, StoreError, totals};

/// Rows of one statement.
const CHUNK: i64 = 2_000;

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    /// Its place in the primary key; zero: it is not in it.
    #[diesel(sql_type = BigInt)]
    key: i64,
}

#[derive(QueryableByName)]
struct Part {
    #[diesel(sql_type = Text)]
    json: String,
    #[diesel(sql_type = BigInt)]
    rows: i64,
    /// The key of the last row, as SQL.
    #[diesel(sql_type = Nullable<Text>)]
    last: Option<String>,
}

#[derive(QueryableByName)]
struct Table {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    rowid: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// How far an import is.
#[derive(Clone, Debug)]
pub struct Imported<'a> {
    /// The present table.
    pub table: &'a str,
    /// Rows of it that are there.
    pub rows: i64,
    /// Rows of it that are to come, the others included.
    pub of: i64,
}

fn wrong(text: String) -> StoreError {
    StoreError::Database(text.into())
}

impl Store {
    /// Copies the SQLite database `from`, one state of it, into this Postgres, which must be empty. All of it or nothing;
    /// nothing either if the sums differ afterwards.
    pub fn import(&self, from: &DatabaseUrl, mut told: impl FnMut(&Imported<'_>)) -> Result<(), StoreError> {
        let (DatabaseUrl::Sqlite(_), DatabaseUrl::Postgres(_)) = (from, &self.url) else {
            return Err(wrong("import copies from SQLite to Postgres, expected one of each".to_owned()));
        };
        // The same schema on both sides.
        drop(Self::open(from)?);
        let mut source = Connection::open(from, Purpose::Read)?;
        let mut target = Connection::open(&self.url, Purpose::Write)?;
        source.snapshot(|source| {
            let expected = totals::sums_of_all(source)?;
            let Connection::Sqlite(sqlite) = source else { return Ok(()) };
            target.write(|target| {
                if let Connection::Postgres(pg) = target {
                    copy_all(sqlite, pg, &mut told)?;
                }
                let found = totals::sums_of_all(target)?;
                if found != expected {
                    return Err(wrong(format!("the sums differ: {expected:?} there, {found:?} here")));
                }
                Ok(())
            })
        })
    }
}

fn copy_all(
    sqlite: &mut SqliteConnection,
    pg: &mut PgConnection,
    told: &mut impl FnMut(&Imported<'_>),
) -> Result<(), StoreError> {
    let there: Count = diesel::sql_query("SELECT COUNT(*) AS rows FROM routers").get_result(pg)?;
    if there.rows > 0 {
        return Err(wrong("the Postgres database holds routers already: expected an empty one".to_owned()));
    }
    // What a new database has in it comes from the other one.
    for table in ["settings", "id_blocks"] {
        diesel::sql_query(format!("DELETE FROM {table}")).execute(pg)?;
    }
    // In the order in which they were made: a row comes after those that it names.
    let tables: Vec<Table> = diesel::sql_query(
        "SELECT name, CAST(sql NOT LIKE '%WITHOUT ROWID%' AS INTEGER) AS rowid FROM sqlite_master \
         WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_\\_diesel%' ESCAPE '\\' \
         ORDER BY sqlite_master.rowid",
    )
    .load(sqlite)?;
    for table in tables {
        copy(sqlite, pg, &table, told)?;
    }
    // The next ids come after those that are there.
    let identities: Vec<Table> = diesel::sql_query(
        "SELECT table_name::text AS name, 1::bigint AS rowid FROM information_schema.columns \
         WHERE table_schema = current_schema() AND is_identity = 'YES' AND column_name = 'id'",
    )
    .load(pg)?;
    for Table { name, .. } in identities {
        diesel::sql_query(format!(
            "SELECT setval(pg_get_serial_sequence('{name}', 'id'), GREATEST((SELECT MAX(id) FROM {name}), 1))"
        ))
        .execute(pg)?;
    }
    Ok(())
}

fn copy(
    sqlite: &mut SqliteConnection,
    pg: &mut PgConnection,
    table: &Table,
    told: &mut impl FnMut(&Imported<'_>),
) -> Result<(), StoreError> {
    let name = &table.name;
    let columns: Vec<Column> =
        diesel::sql_query(format!("SELECT name, type AS kind, pk AS key FROM pragma_table_info('{name}')"))
            .load(sqlite)?;
    let mut keys: Vec<&Column> = columns.iter().filter(|column| column.key > 0).collect();
    keys.sort_by_key(|column| column.key);
    let mut keys: Vec<&str> = keys.into_iter().map(|column| column.name.as_str()).collect();
    if table.rowid == 1 {
        keys = vec!["rowid"];
    }
    let quoted: Vec<String> = keys.iter().map(|key| format!("quote({key})")).collect();
    let (keys, key_of_row) = (keys.join(", "), quoted.join(" || ', ' || "));
    let fields: Vec<String> = columns
        .iter()
        .map(|Column { name, kind, .. }| match kind.as_str() {
            // As Postgres writes bytes itself.
            "BLOB" => format!("'{name}', CASE WHEN {name} IS NOT NULL THEN '\\x' || hex({name}) END"),
            _ => format!("'{name}', {name}"),
        })
        .collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let (fields, names) = (fields.join(", "), names.join(", "));
    let of: Count = diesel::sql_query(format!("SELECT COUNT(*) AS rows FROM {name}")).get_result(sqlite)?;
    // A device may name one that was made later.
    let chunk = if name == "devices" { i64::MAX } else { CHUNK };
    let insert = format!(
        "INSERT INTO {name} ({names}) SELECT {names} FROM json_populate_recordset(NULL::{name}, $1::json)"
    );
    let (mut after, mut done) = (String::new(), 0);
    loop {
        let part = format!(
            "WITH page AS MATERIALIZED \
             (SELECT *, {key_of_row} AS key_of_row FROM {name}{after} ORDER BY {keys} LIMIT {chunk}) \
             SELECT json_group_array(json_object({fields})) AS json, COUNT(*) AS rows, \
             (SELECT key_of_row FROM page LIMIT 1 OFFSET {chunk} - 1) AS last FROM page"
        );
        let part: Part = diesel::sql_query(part).get_result(sqlite)?;
        if part.rows > 0 {
            diesel::sql_query(&insert).bind::<Text, _>(&part.json).execute(pg)?;
        }
        done += part.rows;
        if let Some(last) = part.last {
            after = format!(" WHERE ({keys}) > ({last})");
        }
        told(&Imported { table: name, rows: done, of: of.rows });
        // All of it, of which there may be as many as fill the last statement.
        if part.rows < chunk || done >= of.rows {
            return Ok(());
        }
    }
}
