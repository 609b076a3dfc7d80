//! What can go wrong with the database, sorted by what the caller does about it.

use diesel::result::{DatabaseErrorKind, Error};

use crate::domain::RouterId;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer program made the database. Nothing was changed.
    #[error(
        "the database has {database}, this program knows {program}: upgrade netmon-server or restore a backup"
    )]
    Newer {
        /// The newest schema in the database, and who made it.
        database: String,
        /// The newest schema of this program, and its version.
        program: String,
    },
    /// An older program made the database, or none did. Nothing was changed.
    #[error(
        "the database has {database}, this program knows {program}: bring it up by netmon-server migrate first"
    )]
    Older {
        /// The newest schema in the database.
        database: String,
        /// The newest schema of this program, and its version.
        program: String,
    },
    /// There is no room, or the database is read-only. Try again later; nothing was written.
    #[error(
        "the database cannot be written: its disk is full or it is read-only; make room or give write access"
    )]
    Full,
    /// Another program held the database too long. Try again; nothing was written.
    #[error("the database is busy: another program holds it; try again")]
    Busy,
    /// The stored cursor is not where the changes begin: another server took the router over, or the same
    /// batch is committed already. Nothing was written.
    #[error("epoch {epoch:016x} of router {} is not at sequence {expected:?} but at {found:?}: attach the router again", router.0)]
    CursorMoved {
        /// Whose cursor.
        router: RouterId,
        /// Which run of its agent.
        epoch: u64,
        /// Where the changes begin; `None`: the epoch was to be unknown.
        expected: Option<u64>,
        /// Where it is.
        found: Option<u64>,
    },
    /// A batch that came over HTTP is stored already: another server took it. Nothing was written.
    #[error("a batch of router {} is stored already: another server took it", router.0)]
    BatchStored {
        /// Whose batch.
        router: RouterId,
    },
    /// The database cannot be reached, or the connection broke. Try the same again.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The database's content is not what this program wrote.
    #[error("the database is damaged: {0}; keep the file and restore a backup, or start with a new one")]
    Damaged(String),
    /// Anything else.
    #[error("the database refused: {0}")]
    Database(Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether the same call may succeed later without anyone changing it.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Full | Self::Busy | Self::Unavailable(_))
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::DatabaseError(kind, information) => match kind {
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
                    Self::Unavailable(one_line(information.message()))
                }
                DatabaseErrorKind::SerializationFailure => Self::Busy,
                DatabaseErrorKind::ReadOnlyTransaction => Self::Full,
                DatabaseErrorKind::Unknown => by_message(information.message())
                    .unwrap_or_else(|| Self::Database(Box::new(Error::DatabaseError(kind, information)))),
                _ => Self::Database(Box::new(Error::DatabaseError(kind, information))),
            },
            Error::RollbackErrorOnCommit { commit_error, .. } => Self::from(*commit_error),
            Error::BrokenTransactionManager => Self::Unavailable("the connection broke".to_owned()),
            Error::DeserializationError(error) => Self::Damaged(error.to_string()),
            other => Self::Database(Box::new(other)),
        }
    }
}

impl From<diesel::ConnectionError> for StoreError {
    fn from(error: diesel::ConnectionError) -> Self {
        match error {
            diesel::ConnectionError::CouldntSetupConfiguration(error) => Self::from(error),
            other => Self::Unavailable(one_line(&other.to_string())),
        }
    }
}

/// Diesel passes neither SQLite's result code nor most SQLSTATEs on, so the message has to tell. SQLite's are
/// constants of its source (`sqlite3ErrStr`), in English always. Postgres' may be translated; then the error
/// falls under `Database`, which is less helpful but not wrong.
pub(super) fn by_message(message: &str) -> Option<StoreError> {
    let has = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if has(&["database or disk is full", "readonly database", "No space left on device"]) {
        Some(StoreError::Full)
    } else if has(&["is locked", "deadlock detected", "lock timeout"]) {
        Some(StoreError::Busy)
    } else if has(&["disk image is malformed", "file is not a database"]) {
        Some(StoreError::Damaged(one_line(message)))
    } else if has(&[
        "disk I/O error",
        "unable to open database file",
        "terminating connection",
        "server closed the connection",
        "no connection to the server",
        "the database system is",
    ]) {
        Some(StoreError::Unavailable(one_line(message)))
    } else {
        None
    }
}

/// libpq's messages end in a line break and may hold several.
pub(super) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
