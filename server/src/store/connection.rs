//! One connection to either database.
//!
//! An enum of our own and not diesel's `MultiConnection`: that one has no `on_conflict` and no multi-row insert.

use std::time::Duration;

use diesel::connection::{
    AnsiTransactionManager, CacheSize, Connection as _, SimpleConnection as _, TransactionManager as _,
};
use diesel::r2d2::R2D2Connection as _;
use diesel::{PgConnection, QueryResult, SqliteConnection};

use super::{DatabaseUrl, StoreError};

/// A connection. Queries are written once, inside [`on_backend!`].
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Expands the same query for both databases: `on_backend!(connection, |c| query.execute(c))`.
macro_rules! on_backend {
    ($connection:expr, |$c:ident| $query:expr) => {
        match $connection {
            $crate::store::connection::Connection::Sqlite($c) => $query,
            $crate::store::connection::Connection::Postgres($c) => $query,
        }
    };
}
pub(super) use on_backend;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
}

/// How long SQLite waits for another program's lock.
const BUSY_TIMEOUT_MS: u32 = 5_000;

/// Asked of a new file before anything is in it: empty pages can then be given back, see `space`. An older file would
/// not change, and asking would wait for the writer.
const SQLITE_NEW: &str = "PRAGMA auto_vacuum = INCREMENTAL;";

/// `synchronous=FULL`, because an acknowledgement is a promise. Foreign keys are checked where the schema has
/// them, which is not on the hot tables. The log is cut back to 64 MiB after a checkpoint that let it grow.
const SQLITE_WRITE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA foreign_keys = ON; \
    PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY;";

const SQLITE_READ: &str = "PRAGMA query_only = ON; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY;";

const POSTGRES_WRITE: &str = "SET synchronous_commit = on; SET lock_timeout = '30s'; \
    SET client_min_messages = warning;";

/// Lists are read in the order of an index, up to a limit. Bitmaps have no order, so that all rows of a key would be
/// read for the first of them. What lists look at is mostly in memory, where a row that an index points at costs no more
/// than the next one of the table; with the default costs all rows are read of which a tenth is wanted. A query that is
/// compiled or shared among processes takes longer to begin than most of them to end.
const POSTGRES_READ: &str = "SET default_transaction_read_only = on; \
    SET client_min_messages = warning; SET enable_bitmapscan = off; SET jit = off; \
    SET seq_page_cost = 0.1; SET random_page_cost = 0.1; SET max_parallel_workers_per_gather = 0;";

impl Connection {
    /// Opens one. SQLite makes the file if there is none.
    pub(super) fn open(url: &DatabaseUrl, purpose: Purpose) -> Result<Self, StoreError> {
        match url {
            DatabaseUrl::Sqlite(path) => {
                let Some(path) = path.to_str() else {
                    return Err(StoreError::Unavailable(format!("{} is not UTF-8", path.display())));
                };
                let is_new = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
                let mut connection = SqliteConnection::establish(&plain_path(path))?;
                connection.set_prepared_statement_cache_size(CacheSize::Unbounded);
                connection.batch_execute(&format!("PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};"))?;
                match purpose {
                    Purpose::Write => {
                        if is_new {
                            connection.batch_execute(SQLITE_NEW)?;
                        }
                        connection.batch_execute(SQLITE_WRITE)?;
                    }
                    Purpose::Read => connection.batch_execute(SQLITE_READ)?,
                }
                Ok(Self::Sqlite(connection))
            }
            DatabaseUrl::Postgres(url) => {
                let mut connection = PgConnection::establish(&with_time_limit(url))?;
                connection.batch_execute(match purpose {
                    Purpose::Write => POSTGRES_WRITE,
                    Purpose::Read => POSTGRES_READ,
                })?;
                Ok(Self::Postgres(connection))
            }
        }
    }

    /// Runs `body` in one transaction that may write. On an error nothing of it stays; the connection should
    /// then be thrown away, for it may be broken.
    pub(super) fn write<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self {
            // SQLite: take the write lock at once. A transaction that reads first and writes later can fail
            // with "locked" without the busy time-out being waited for.
            Self::Sqlite(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE")?,
            Self::Postgres(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN")?,
        }
        self.finish(body)
    }

    /// Runs `body`, which only reads, on one consistent state of the database.
    pub(super) fn snapshot<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self {
            Self::Sqlite(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN")?,
            Self::Postgres(c) => {
                AnsiTransactionManager::begin_transaction_sql(
                    c,
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                )?;
            }
        }
        self.finish(body)
    }

    fn finish<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match body(self) {
            Ok(value) => {
                on_backend!(self, |c| AnsiTransactionManager::commit_transaction(c))?;
                Ok(value)
            }
            Err(error) => {
                // A failed rollback means a dead connection or one that rolled back by itself; the error that
                // led here is the one to report.
                let _: QueryResult<()> =
                    on_backend!(self, |c| AnsiTransactionManager::rollback_transaction(c));
                Err(error)
            }
        }
    }
}

/// Makes connections for r2d2.
#[derive(Debug)]
pub(super) struct ReadConnections {
    pub(super) url: DatabaseUrl,
    /// How long Postgres works on a statement.
    pub(super) statement: Duration,
}

impl r2d2::ManageConnection for ReadConnections {
    type Connection = Connection;
    type Error = StoreError;

    fn connect(&self) -> Result<Connection, StoreError> {
        let mut connection = Connection::open(&self.url, Purpose::Read)?;
        if let Connection::Postgres(c) = &mut connection {
            c.batch_execute(&format!("SET statement_timeout = {}", self.statement.as_millis()))?;
        }
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), StoreError> {
        on_backend!(connection, |c| c.ping()).map_err(StoreError::from)
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        std::thread::panicking() || on_backend!(connection, |c| c.is_broken())
    }
}

/// Diesel opens with `SQLITE_OPEN_URI`: a path that looks like a URI would not be taken as a path.
fn plain_path(path: &str) -> String {
    if path.starts_with("file:") || path.starts_with("sqlite:") || path == ":memory:" {
        format!("./{path}")
    } else {
        path.to_owned()
    }
}

/// libpq waits for ever for a host that does not answer, unless it is told not to.
fn with_time_limit(url: &str) -> String {
    let mut url = url.to_owned();
    for (key, value) in [("connect_timeout", "10"), ("application_name", "netmon-server")] {
        if !url.contains(key) {
            let separator = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{separator}{key}={value}");
        }
    }
    url
}
