//! A damaged SQLite file: set aside at the start, and read as far as it goes.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use diesel::prelude::*;
use diesel::sql_types::Text;
use time::OffsetDateTime;

use super::connection::{Connection, Purpose};
use super::{DatabaseUrl, Store, StoreError, settings};
use crate::domain::Micros;

/// The setting that says which file was set aside and why, until a person has read it.
pub const SET_ASIDE: &str = "set_aside";

/// Beside the database while damage was met in it that a look at its start does not show.
const SUSPECT: &str = "-suspect";

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

impl Store {
    /// As [`Store::open`]. A damaged SQLite file is renamed, never deleted, and a new one begun; the setting
    /// [`SET_ASIDE`] says so. A file that is not SQLite's is refused unless it has the name of ours.
    pub fn open_or_set_aside(url: &DatabaseUrl, now: Micros) -> Result<Self, StoreError> {
        let DatabaseUrl::Sqlite(path) = url else { return Self::open(url) };
        let why = match Self::open(url).and_then(|store| look(path).map(|()| store)) {
            Err(StoreError::Damaged(why)) if path.exists() && is_ours(path) => why,
            result => return result,
        };
        let aside = set_aside(path, now).map_err(|error| {
            StoreError::Unavailable(format!("{} cannot be renamed: {error}", path.display()))
        })?;
        let store = Self::open(url)?;
        let told = format!(
            "The database was damaged ({why}). It is kept as {}, and a new one was begun.",
            aside.display()
        );
        let mut connection = Connection::open(url, Purpose::Write)?;
        connection.write(|connection| settings::put(connection, SET_ASIDE, &told))?;
        Ok(store)
    }
}

/// Remembers that damage was met: the next start looks at everything.
pub(super) fn suspect(url: &DatabaseUrl) {
    if let DatabaseUrl::Sqlite(path) = url {
        // A disk that cannot take this either is looked at by hand anyway.
        let _: std::io::Result<()> = fs::write(beside(path, SUSPECT), "");
    }
}

/// Looks at the beginning of every table and index, which costs the same for any size. At all of it where damage was
/// met before.
fn look(path: &Path) -> Result<(), StoreError> {
    let url = DatabaseUrl::Sqlite(path.to_owned());
    let Connection::Sqlite(mut connection) = Connection::open(&url, Purpose::Read)? else { return Ok(()) };
    let suspect = beside(path, SUSPECT);
    if suspect.exists() {
        let query = "SELECT quick_check AS line FROM pragma_quick_check(1)";
        let lines: Vec<Line> = diesel::sql_query(query).load(&mut connection)?;
        if let Some(line) = lines.into_iter().map(|row| row.line).find(|line| line != "ok") {
            return Err(StoreError::Damaged(line));
        }
        // Sound after all.
        let _: std::io::Result<()> = fs::remove_file(suspect);
    }
    let tables: Vec<Line> = diesel::sql_query(
        "SELECT name AS line FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
    )
    .load(&mut connection)?;
    for Line { line: table } in tables {
        // Every column, so that every page of the first rows is read.
        let query = format!(
            "SELECT CAST(COUNT(*) AS TEXT) AS line FROM (SELECT DISTINCT * FROM \"{table}\" LIMIT 50)"
        );
        diesel::sql_query(query).load::<Line>(&mut connection)?;
    }
    Ok(())
}

/// Renames the file and its log. With the same ending, so that SQLite still finds the log of the file.
fn set_aside(path: &Path, now: Micros) -> std::io::Result<PathBuf> {
    let at = OffsetDateTime::from_unix_timestamp(now / 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let stamp = format!(
        ".damaged-{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    let aside = beside(path, &stamp);
    for ending in ["-wal", "-shm"] {
        let log = beside(path, ending);
        if log.exists() {
            fs::rename(log, beside(&aside, ending))?;
        }
    }
    fs::rename(path, &aside)?;
    let suspect = beside(path, SUSPECT);
    if suspect.exists() {
        fs::remove_file(suspect)?;
    }
    Ok(aside)
}

/// A mistyped path must not rename somebody's file.
fn is_ours(path: &Path) -> bool {
    let mut head = [0; 16];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    path.file_name().is_some_and(|name| name == "netmon.db")
        || (read.is_ok() && &head == b"SQLite format 3\0")
}

/// The path with an ending after its whole name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}
