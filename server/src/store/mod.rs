//! The database, SQLite or Postgres: the only module that names diesel.
//!
//! A [`Store`] opens the database and brings its schema up to date. One [`Writer`] commits [`Changes`] in one
//! transaction each; [`Reader`]s read consistent states beside it. All calls block, so async code calls them
//! from `spawn_blocking` or from a thread of their own. Nothing here reads a clock or decides what an event
//! means.
//!
//! [`Changes`]: crate::domain::Changes

mod address;
mod attach;
mod baselines;
mod check;
mod connection;
mod damage;
mod days;
mod device_minutes;
mod devices;
mod dns_writes;
mod drop_writes;
mod error;
mod event_writes;
mod flow_reads;
mod flow_row;
mod flow_statements;
mod flow_writes;
mod fold;
mod health_reads;
mod health_writes;
mod host_facts;
mod http_batches;
mod identities;
mod ids;
mod import;
mod intern;
mod lists;
mod migrate;
mod reader;
mod retention;
mod rollup;
mod rollup_table;
mod router;
mod rows;
mod salvage;
mod schema;
mod settings;
mod space;
mod sweep;
mod text;
mod top;
mod totals;
mod url;
mod wanted;
mod writer;

use std::time::Duration;

pub use attach::AttachedRouter;
pub use damage::SET_ASIDE;
pub use error::StoreError;
pub use health_reads::RouterHealth;
pub use import::Imported;
pub use lists::{
    DeviceFilter, DeviceSort, DnsFilter, DnsSort, DomainFilter, DropFilter, DropSort, Elsewhere, FlowFilter,
    FlowSort, FlowText, GapFilter, HostFilter, HostSort, Position, RouterFilter, RouterSort,
};
pub use migrate::Migrated;
pub use reader::Reader;
pub use retention::{Retention, Step, Sweep, Swept};
pub use rows::{
    Count, DeviceDetail, DeviceRow, DnsAnswerRow, DnsRow, DomainRow, DropRow, FlowFigures, FlowRow, GapEntry,
    HostRow, LossRow, MinuteRow, Page, PageOf, RouterRow, Sums, Totals,
};
pub use salvage::{Salvaged, salvage};
pub use top::{TopBy, TopFilter, TopKey, TopList, TopRow};
pub use url::DatabaseUrl;
pub use writer::Writer;

use connection::{Connection, Purpose, ReadConnections};

/// What those who read may take.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Connections that read at the same time, at most.
    pub readers: u32,
    /// How long a reader waits for a connection.
    pub patience: Duration,
    /// How long Postgres works on a statement of a reader's. SQLite knows no such limit.
    pub statement: Duration,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { readers: 8, patience: Duration::from_secs(5), statement: Duration::from_secs(60) }
    }
}

/// A database, whose schema is this program's unless it is only to be copied.
pub struct Store {
    url: DatabaseUrl,
    reader: Reader,
}

impl Store {
    /// Opens the database, makes it if there is none (SQLite), and brings its schema up to date. Several
    /// servers may do so at once. A database that a newer program made is refused and left as it is.
    pub fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open_with(url, ReadLimits::default())
    }

    /// The same, with other limits for those who read.
    pub fn open_with(url: &DatabaseUrl, limits: ReadLimits) -> Result<Self, StoreError> {
        Self::migrate(url)?;
        Ok(Self::reading(url, limits))
    }

    /// Opens a database that is there, and changes nothing: one whose schema is another program's is refused.
    pub fn open_existing(url: &DatabaseUrl) -> Result<Self, StoreError> {
        migrate::expect_known(&mut Connection::open(url, Purpose::Read)?)?;
        Ok(Self::as_it_is(url))
    }

    /// For a copy of it, which can be made of any schema.
    #[must_use]
    pub fn as_it_is(url: &DatabaseUrl) -> Self {
        Self::reading(url, ReadLimits::default())
    }

    fn reading(url: &DatabaseUrl, limits: ReadLimits) -> Self {
        let pool = r2d2::Pool::builder()
            .max_size(limits.readers)
            .min_idle(Some(0))
            .connection_timeout(limits.patience)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(ReadConnections { url: url.clone(), statement: limits.statement });
        Self { url: url.clone(), reader: Reader::new(url.clone(), pool) }
    }

    /// Does the same with the schema alone.
    pub fn migrate(url: &DatabaseUrl) -> Result<Migrated, StoreError> {
        migrate::migrate(&mut open_patiently(url)?)
    }

    /// The write connection. One per process; several processes may each have one.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        Writer::open(self.url.clone())
    }

    /// Whether maintenance needs a write connection of its own. In SQLite one writes at a time, and steps are short.
    /// In Postgres a step may have to wait for a lock, which must not keep the writer from its commits.
    #[must_use]
    pub fn needs_own_maintenance(&self) -> bool {
        matches!(self.url, DatabaseUrl::Postgres(_))
    }

    /// The read side; cheap to clone.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }
}

/// Two servers that make the same new SQLite file at once can meet in the switch to WAL, where SQLite says
/// "locked" without waiting. The loser of each meeting finds the work done at the next try.
fn open_patiently(url: &DatabaseUrl) -> Result<Connection, StoreError> {
    let mut tries_left = 50;
    loop {
        match Connection::open(url, Purpose::Write) {
            Err(StoreError::Busy) if tries_left > 0 => {
                tries_left -= 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}
