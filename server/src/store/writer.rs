//! The one connection that writes.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::connection::{Connection, Purpose};
use super::intern::Interned;
use super::{
    AttachedRouter, DatabaseUrl, StoreError, attach, damage, days, dns_writes, drop_writes, event_writes,
    flow_writes, health_writes, http_batches, identities, ids, rollup, router, settings, space,
};
use crate::domain::{Changes, CursorMove, Micros, RouterId};

/// The one connection that writes, with what it remembers of the dimension tables.
///
/// All methods block. After any error but [`StoreError::CursorMoved`] the connection is made anew, in the next
/// call at the latest; a connection that broke (Postgres was restarted) is made anew and tried once within the call.
pub struct Writer {
    url: DatabaseUrl,
    connection: Option<Connection>,
    interned: Interned,
    undecided: Option<Undecided>,
}

/// A Postgres transaction whose COMMIT was sent and never answered.
struct Undecided {
    transaction: i64,
    changes: Fingerprint,
}

/// Enough of a [`Changes`] to know it again when it is tried again.
#[derive(PartialEq)]
struct Fingerprint {
    cursors: Vec<CursorMove>,
    finished: Vec<i64>,
    open: Vec<i64>,
    digests: Vec<[u8; 32]>,
    lengths: [usize; 12],
}

impl Fingerprint {
    fn of(changes: &Changes) -> Self {
        Self {
            cursors: changes.cursors.clone(),
            finished: changes.finished.iter().map(|flow| flow.id.0).collect(),
            open: changes.open.iter().map(|flow| flow.id.0).collect(),
            digests: changes.http_batches.iter().map(|batch| batch.digest).collect(),
            lengths: [
                changes.routers.len(),
                changes.devices.len(),
                changes.closed.len(),
                changes.minutes.len(),
                changes.host_minutes.len(),
                changes.gaps.len(),
                changes.raw.len(),
                changes.dns.len(),
                changes.dns_buckets.len(),
                changes.drops.len(),
                changes.identities.len(),
                changes.health.len(),
            ],
        }
    }
}

impl Writer {
    pub(super) fn open(url: DatabaseUrl) -> Result<Self, StoreError> {
        let connection = Connection::open(&url, Purpose::Write)?;
        Ok(Self { url, connection: Some(connection), interned: Interned::default(), undecided: None })
    }

    /// Finds the router of this name, or makes it, and reads its open flows.
    pub fn attach_router(&mut self, name: &str, now: Micros) -> Result<AttachedRouter, StoreError> {
        self.with_connection(|connection| {
            connection.write(|connection| attach::attach(connection, name, now))
        })
    }

    /// The last committed sequence of an epoch; `None`: nothing of it is committed.
    pub fn cursor(&mut self, router: RouterId, epoch: u64) -> Result<Option<u64>, StoreError> {
        self.with_connection(|connection| router::cursor(connection, router, epoch))
    }

    /// Takes `count` row ids for flows that nobody else gets, and gives the first of them. Those that are not
    /// used are lost, which is no harm.
    pub fn reserve_flow_ids(&mut self, count: i64) -> Result<i64, StoreError> {
        let count = usize::try_from(count).unwrap_or(0);
        self.with_connection(|connection| {
            connection.write(|connection| ids::take(connection, ids::FLOW, count))
        })
    }

    /// Whether row ids tell the day on which they were given, so that those of yesterday must not be used today.
    #[must_use]
    pub fn ids_tell_the_day(&self) -> bool {
        matches!(self.url, DatabaseUrl::Postgres(_))
    }

    /// Whether another server may write to the same database.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.url, DatabaseUrl::Postgres(_))
    }

    /// Makes room for the rows of this day and the next. Asked for at the start, and by every sweep of retention.
    pub fn begin_day(&mut self, now: Micros) -> Result<(), StoreError> {
        self.maintain(|connection| days::begin(connection, now)).map(drop)
    }

    /// A fact that the server keeps about itself.
    pub fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.with_connection(|connection| settings::get(connection, key))
    }

    /// Keeps such a fact, unless there is one under this key; gives the one that is kept. Of several servers
    /// that start at once all get the same.
    pub fn setting_or_insert(&mut self, key: &str, value: &str) -> Result<String, StoreError> {
        self.with_connection(|connection| {
            connection.write(|connection| settings::put_once(connection, key, value))
        })
    }

    /// What was answered to a batch that came over HTTP and is stored: events taken, events refused.
    pub fn http_batch(
        &mut self,
        router: RouterId,
        digest: &[u8; 32],
    ) -> Result<Option<(u64, u64)>, StoreError> {
        self.with_connection(|connection| http_batches::find(connection, router, digest))
    }

    /// A person names a device.
    pub fn name_device(&mut self, device: i64, name: &str, now: Micros) -> Result<(), StoreError> {
        self.with_connection(|connection| {
            connection.write(|connection| identities::name_by_person(connection, device, name, now))
        })
    }

    /// From now on a device is shown as part of another one behind the same router. False: it is already, or the
    /// other one is part of it.
    pub fn merge_devices(&mut self, device: i64, into: i64, now: Micros) -> Result<bool, StoreError> {
        self.with_connection(|connection| {
            connection.write(|connection| identities::merge_by_person(connection, device, into, now))
        })
    }

    /// From now on a device that was merged, by a person or by its address, is shown by itself again. False: it was
    /// not merged.
    pub fn split_device(&mut self, device: i64, now: Micros) -> Result<bool, StoreError> {
        self.with_connection(|connection| {
            connection.write(|connection| identities::split(connection, device, now))
        })
    }

    /// Keeps such a fact, in place of the one before.
    pub fn set_setting(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        self.with_connection(|connection| {
            connection.write(|connection| settings::put(connection, key, value))
        })
    }

    /// Whether anybody but snapshots told of a router: an agent, or a batch of the last day that came over HTTP.
    pub fn is_told_by_agent(&mut self, router: RouterId) -> Result<bool, StoreError> {
        self.with_connection(|connection| {
            Ok(router::has_cursor(connection, router)? || http_batches::are_there(connection, router)?)
        })
    }

    /// Forgets such a fact.
    pub fn forget_setting(&mut self, key: &str) -> Result<(), StoreError> {
        self.with_connection(|connection| settings::remove(connection, key))
    }

    /// Writes `changes`, all of it or nothing, in one transaction that is on disk when this returns.
    ///
    /// After an error the same changes can be given again. When Postgres went away between COMMIT and its
    /// answer, and the same changes are given again, they are not written twice: Postgres is asked what became
    /// of the transaction.
    pub fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        if self.was_committed(changes)? {
            return Ok(());
        }
        let error = match self.try_commit(changes) {
            Err(error @ StoreError::Unavailable(_)) => error,
            result => return result,
        };
        // Either the server was restarted and is there again, or this fails at once and the caller waits.
        if self.reconnect().is_err() {
            return Err(error);
        }
        if self.was_committed(changes)? {
            return Ok(());
        }
        self.try_commit(changes)
    }

    /// Runs one step of maintenance in a transaction of its own.
    pub(super) fn maintain<T>(
        &mut self,
        body: impl Fn(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with_connection(|connection| connection.write(&body))
    }

    /// Lets a SQLite file shrink now rather than at the next checkpoint.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.with_connection(space::checkpoint)
    }

    fn try_commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let mut connection = self.take_connection()?;
        let interned = &mut self.interned;
        let mut transaction = None;
        let result = connection.write(|connection| {
            // First, because it is what fails when another server has these events already.
            router::advance(connection, &changes.cursors)?;
            http_batches::insert(connection, &changes.http_batches)?;
            router::update(connection, &changes.routers)?;
            interned.resolve(connection, changes)?;
            // Before the open ones are written: an id of the agent may have moved to another row.
            flow_writes::remove_open(connection, &changes.closed)?;
            flow_writes::insert_ended(connection, interned, &changes.finished)?;
            flow_writes::upsert_open(connection, interned, &changes.open)?;
            rollup::add(connection, interned, changes)?;
            event_writes::insert_gaps(connection, &changes.gaps)?;
            event_writes::insert_raw(connection, &changes.raw)?;
            dns_writes::insert_responses(connection, interned, &changes.dns)?;
            dns_writes::insert_buckets(connection, interned, &changes.dns_buckets)?;
            drop_writes::insert(connection, interned, &changes.drops)?;
            health_writes::add(connection, interned, &changes.health)?;
            flow_writes::name_ended(connection, interned, &changes.named)?;
            transaction = transaction_id(connection)?;
            Ok(())
        });
        match &result {
            Ok(()) => self.connection = Some(connection),
            Err(error) => {
                self.interned.clear();
                if let StoreError::Damaged(_) = error {
                    damage::suspect(&self.url);
                }
                if let (StoreError::Unavailable(_), Some(transaction)) = (error, transaction) {
                    self.undecided = Some(Undecided { transaction, changes: Fingerprint::of(changes) });
                }
            }
        }
        result
    }

    /// Whether `changes` are those of the transaction whose end we did not hear of, and it did commit.
    fn was_committed(&mut self, changes: &Changes) -> Result<bool, StoreError> {
        let Some(Undecided { transaction, changes: fingerprint }) = &self.undecided else {
            return Ok(false);
        };
        let transaction = *transaction;
        let same = *fingerprint == Fingerprint::of(changes);
        let committed =
            self.with_connection(|connection| match status_of(connection, transaction)?.as_deref() {
                // The old connection's process has not noticed yet that we are gone.
                Some("in progress") => {
                    Err(StoreError::Unavailable("an earlier commit is not decided yet".to_owned()))
                }
                // A server that crashed may give the number of a transaction that it lost to another one; that one
                // did not move our cursors.
                Some("committed") if same => Ok(router::are_at_end(connection, &changes.cursors)?
                    && http_batches::are_stored(connection, &changes.http_batches)?),
                _ => Ok(false),
            })?;
        self.undecided = None;
        Ok(committed)
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.connection = Some(Connection::open(&self.url, Purpose::Write)?);
        Ok(())
    }

    fn take_connection(&mut self) -> Result<Connection, StoreError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.url, Purpose::Write),
        }
    }

    /// Runs `body`, which may be run twice, on a connection that works.
    pub(super) fn with_connection<T>(
        &mut self,
        body: impl Fn(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fresh = self.connection.is_none();
        let mut connection = self.take_connection()?;
        let mut result = body(&mut connection);
        if !fresh && matches!(result, Err(StoreError::Unavailable(_))) {
            connection = Connection::open(&self.url, Purpose::Write)?;
            result = body(&mut connection);
        }
        if result.is_ok() {
            self.connection = Some(connection);
        }
        result
    }
}

#[derive(QueryableByName)]
struct TransactionId {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct TransactionStatus {
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
}

/// The running transaction, by a number that outlives the connection. SQLite needs none: its COMMIT is a call
/// that returns.
fn transaction_id(connection: &mut Connection) -> Result<Option<i64>, StoreError> {
    match connection {
        Connection::Sqlite(_) => Ok(None),
        Connection::Postgres(c) => {
            let row: TransactionId = diesel::sql_query("SELECT txid_current() AS id").get_result(c)?;
            Ok(Some(row.id))
        }
    }
}

/// What became of it: "committed", "aborted", "in progress", or nothing if it is too long ago.
fn status_of(connection: &mut Connection, transaction: i64) -> Result<Option<String>, StoreError> {
    match connection {
        Connection::Sqlite(_) => Ok(None),
        Connection::Postgres(c) => {
            // txid_status() refuses a number that was not given yet, which a crash can bring about.
            let row: TransactionStatus = diesel::sql_query(
                "SELECT CASE WHEN $1 < txid_snapshot_xmax(txid_current_snapshot()) THEN txid_status($1) END AS status",
            )
            .bind::<BigInt, _>(transaction)
            .get_result(c)?;
            Ok(row.status)
        }
    }
}
