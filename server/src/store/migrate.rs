//! Brings the schema up to this program's, or refuses a database that is ahead of it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;

use diesel::connection::SimpleConnection as _;
use diesel::migration::{MigrationSource, MigrationVersion};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::error::by_message;
use super::schema::settings;

const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");

/// The setting that holds the version of the program that last changed the schema.
const PROGRAM: &str = "schema_program";

/// Any number will do, as long as every netmon-server uses the same.
const POSTGRES_LOCK: &str = "SELECT pg_advisory_xact_lock(7236837431)";

/// Which schema a database had, and which it has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Before; `None`: there was none.
    pub from: Option<String>,
    /// Now: this program's.
    pub to: String,
}

/// Runs what is missing, in one transaction under a lock, so that several servers may start at once.
pub(super) fn migrate(connection: &mut Connection) -> Result<Migrated, StoreError> {
    if let Connection::Sqlite(c) = connection {
        // An index over a large table is sorted, which in memory takes as much as the index.
        c.batch_execute("PRAGMA temp_store = FILE")?;
    }
    connection.write(|connection| {
        if let Connection::Postgres(c) = connection {
            diesel::sql_query(POSTGRES_LOCK).execute(c)?;
        }
        let known = known(connection)?;
        let applied: BTreeSet<String> =
            on_backend!(&mut *connection, |c| names(c.applied_migrations().map_err(failed)?));
        if let Some(newest) = applied.difference(&known).last() {
            return Err(StoreError::Newer {
                database: described(newest, &program_of(connection)?),
                program: described(known.last().map_or("none", String::as_str), env!("CARGO_PKG_VERSION")),
            });
        }
        let newest = |of: &BTreeSet<String>| of.last().cloned();
        let migrated = Migrated { from: newest(&applied), to: newest(&known).unwrap_or_default() };
        if applied == known {
            return Ok(migrated);
        }
        match connection {
            Connection::Sqlite(c) => drop(c.run_pending_migrations(SQLITE).map_err(failed)?),
            Connection::Postgres(c) => drop(c.run_pending_migrations(POSTGRES).map_err(failed)?),
        }
        super::settings::put(connection, PROGRAM, env!("CARGO_PKG_VERSION"))?;
        Ok(migrated)
    })
}

/// Refuses a database whose schema is not this program's, and changes nothing.
pub(super) fn expect_known(connection: &mut Connection) -> Result<(), StoreError> {
    let known = known(connection)?;
    let applied = read_applied(connection)?;
    let newest = |of: &BTreeSet<String>| of.last().map_or("none", String::as_str).to_owned();
    let program = described(&newest(&known), env!("CARGO_PKG_VERSION"));
    if let Some(newest) = applied.difference(&known).last() {
        return Err(StoreError::Newer { database: described(newest, &program_of(connection)?), program });
    }
    if applied == known {
        return Ok(());
    }
    let database =
        if applied.is_empty() { "no schema".to_owned() } else { format!("schema {}", newest(&applied)) };
    Err(StoreError::Older { database, program })
}

/// The migrations that a database has. Diesel's own question makes their table where it is missing.
fn read_applied(connection: &mut Connection) -> Result<BTreeSet<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    #[derive(QueryableByName)]
    struct Version {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let query = match connection {
        Connection::Sqlite(_) => {
            "SELECT COUNT(*) AS number FROM sqlite_master WHERE name = '__diesel_schema_migrations'"
        }
        Connection::Postgres(_) => "SELECT COUNT(to_regclass('__diesel_schema_migrations')) AS number",
    };
    let Number { number } = on_backend!(&mut *connection, |c| diesel::sql_query(query).get_result(c))?;
    if number == 0 {
        return Ok(BTreeSet::new());
    }
    let query = "SELECT version FROM __diesel_schema_migrations";
    let versions: Vec<Version> = on_backend!(connection, |c| diesel::sql_query(query).load(c))?;
    Ok(versions.into_iter().map(|row| row.version).collect())
}

/// The migrations built into this program.
fn known(connection: &Connection) -> Result<BTreeSet<String>, StoreError> {
    fn of<DB: diesel::backend::Backend>(
        source: &impl MigrationSource<DB>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let migrations = source.migrations().map_err(failed)?;
        Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
    }
    match connection {
        Connection::Sqlite(_) => of::<diesel::sqlite::Sqlite>(&SQLITE),
        Connection::Postgres(_) => of::<diesel::pg::Pg>(&POSTGRES),
    }
}

fn names(versions: Vec<MigrationVersion<'_>>) -> BTreeSet<String> {
    versions.iter().map(ToString::to_string).collect()
}

/// Who made the schema that we do not know. A newer schema may have no such table any more.
fn program_of(connection: &mut Connection) -> Result<String, StoreError> {
    let program = on_backend!(connection, |c| settings::table
        .find(PROGRAM)
        .select(settings::value)
        .first::<String>(c)
        .optional())?;
    Ok(program.unwrap_or_else(|| "unknown".to_owned()))
}

fn described(schema: &str, program: impl fmt::Display) -> String {
    format!("schema {schema} of netmon-server {program}")
}

/// Finds out what a boxed error means, so that "disk full" is told from a broken migration. The error of a
/// migration that failed has a private type; only its message is left to go by.
fn failed(error: Box<dyn Error + Send + Sync>) -> StoreError {
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => StoreError::from(*error),
        Err(error) => by_message(&error.to_string()).unwrap_or(StoreError::Database(error)),
    }
}
