//! Rollups: what moved in a minute, an hour and a day, by device, by service and by remote host.
//!
//! Minutes are written in the transaction of the flows. When a minute is over, its rows are added to its hour and its
//! day, and a mark in the settings moves past it: six of nine tables are touched once a minute rather than by every
//! commit. What comes late for a minute up to the mark goes into all three at once. [`source`] reads hours and days with
//! the minutes after the mark, so that the sums of every table are those of the flows at any moment.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::connection::Connection;
use super::intern::Interned;
use super::retention::Went;
use super::rollup_table::{Add, AddMany, DEVICES, FIGURES, HOSTS, Key, ROLLUPS, SERVICES, Sum};
use super::schema::settings;
use super::{StoreError, sweep};
use crate::domain::Changes;

/// The setting that holds the last minute whose rows are in their hour and day. Made by a migration; without it nothing
/// waits, and every row is written in all three units.
pub(super) const MARK: &str = "rolled_minute";

/// `device_id` where no LAN device took part, `host_id` where no outside address did.
pub(super) const NOBODY: i64 = 0;

/// Rows by key, which is the order in which they are written: two servers then cannot block each other for ever.
/// Summed here first, because Postgres refuses two rows with one key in one statement.
pub(super) type Rows = BTreeMap<Key, Sum>;

/// Adds what moved to all rollups.
pub(super) fn add(
    connection: &mut Connection,
    interned: &Interned,
    changes: &Changes,
) -> Result<(), StoreError> {
    let mut devices = Rows::new();
    let mut services = Rows::new();
    for delta in &changes.minutes {
        let router = delta.router.0;
        let device =
            delta.device.and_then(|address| interned.device(delta.router, address)).unwrap_or(NOBODY);
        let service = [delta.minute, router, i64::from(delta.protocol), i64::from(delta.port)];
        devices.entry([delta.minute, router, device, 0]).or_default().add(delta.flows, delta.counters);
        services.entry(service).or_default().add(delta.flows, delta.counters);
    }
    let mut hosts = Rows::new();
    for delta in &changes.host_minutes {
        let host = delta.remote.and_then(|address| interned.host(address)).unwrap_or(NOBODY);
        hosts.entry([delta.minute, delta.router.0, host, 0]).or_default().add(delta.flows, delta.counters);
    }

    // Before any row: who moves the mark waits for the commits that have read it.
    let mark = locked_mark(connection, Lock::Share)?;
    for (first, minutes) in [(DEVICES, &devices), (SERVICES, &services), (HOSTS, &hosts)] {
        write_at(connection, first, minutes)?;
        write_at(connection, first + 1, &coarser(first + 1, minutes, mark))?;
        write_at(connection, first + 2, &coarser(first + 2, minutes, mark))?;
    }
    Ok(())
}

/// The rows of minutes up to the mark in the unit of another table.
fn coarser(place: usize, minutes: &Rows, mark: i64) -> Rows {
    let mut rows = Rows::new();
    let late = minutes.iter().take_while(|([minute, ..], _)| *minute <= mark);
    for (&[minute, router, first, second], sum) in late {
        let time = minute.div_euclid(ROLLUPS[place].minutes);
        rows.entry([time, router, first, second]).or_default().add(sum.flows, sum.counters);
    }
    rows
}

#[derive(Clone, Copy)]
enum Lock {
    Share,
    Update,
}

/// The mark, which nobody moves before the end of this transaction. SQLite has one writer at a time anyway.
fn locked_mark(connection: &mut Connection, lock: Lock) -> Result<i64, StoreError> {
    let query = settings::table.find(MARK).select(settings::value);
    let value: Option<String> = match (connection, lock) {
        (Connection::Sqlite(c), _) => query.first(c).optional()?,
        (Connection::Postgres(c), Lock::Share) => query.for_share().first(c).optional()?,
        (Connection::Postgres(c), Lock::Update) => query.for_update().first(c).optional()?,
    };
    parsed(value)
}

/// The mark, which stays where it is until the end of this transaction.
pub(super) fn kept_mark(connection: &mut Connection) -> Result<i64, StoreError> {
    locked_mark(connection, Lock::Share)
}

/// The mark as a reader sees it.
pub(super) fn mark(connection: &mut Connection) -> Result<i64, StoreError> {
    parsed(super::settings::get(connection, MARK)?)
}

fn parsed(value: Option<String>) -> Result<i64, StoreError> {
    let Some(value) = value else { return Ok(i64::MAX) };
    value
        .parse()
        .map_err(|_| StoreError::Damaged(format!("the setting {MARK} is {value:?}, expected a minute")))
}

/// Adds the next minute after the mark, if it is before this one, to its hour and its day, and moves the mark.
pub(super) fn roll_up(connection: &mut Connection, before: i64) -> Result<Went, StoreError> {
    let mark = locked_mark(connection, Lock::Update)?;
    let next: Vec<String> = [DEVICES, SERVICES, HOSTS]
        .map(|kind| {
            let table = ROLLUPS[kind].table;
            format!("SELECT MIN(minute) AS number FROM {table} WHERE minute > {mark} AND minute < {before}")
        })
        .into();
    let next = format!("SELECT MIN(number) AS number FROM ({}) AS part", next.join(" UNION ALL "));
    let Some(minute) = sweep::number(connection, next)? else { return Ok(Went::Through) };
    for kind in [DEVICES, SERVICES, HOSTS] {
        for place in [kind + 1, kind + 2] {
            let time = minute.div_euclid(ROLLUPS[place].minutes);
            sweep::execute(connection, ROLLUPS[place].add_bucket(time, &ROLLUPS[kind], minute))?;
        }
    }
    super::settings::put(connection, MARK, &minute.to_string())?;
    Ok(Went::On { removed: 0, at: minute })
}

/// What to read instead of the table at this place of [`ROLLUPS`]: that table, and of the minutes after the mark what
/// will be in it. `within` is the first and the last bucket that are wanted.
pub(super) fn source(place: usize, mark: i64, within: Option<(i64, i64)>) -> String {
    let (rollup, minutes) = (&ROLLUPS[place], &ROLLUPS[place - place % 3]);
    let (table, time, unit) = (rollup.table, rollup.time, rollup.minutes);
    let columns: Vec<&str> = rollup.key_columns().skip(1).chain(FIGURES).collect();
    let columns = columns.join(", ");
    let (mut buckets, mut after) = (String::new(), String::new());
    if let Some((first, last)) = within {
        buckets = format!(" WHERE {time} BETWEEN {first} AND {last}");
        after = format!(" AND minute BETWEEN {} AND {}", first * unit, last * unit + unit - 1);
    }
    let kept = format!("SELECT {time}, {columns} FROM {table}{buckets}");
    if unit == 1 {
        return format!("({kept}) AS {table}");
    }
    format!(
        "({kept} UNION ALL SELECT minute / {unit} AS {time}, {columns} FROM {} WHERE minute > {mark}{after}) AS {table}",
        minutes.table
    )
}

/// Adds rows to the table at this place of [`ROLLUPS`].
pub(super) fn write_at(connection: &mut Connection, place: usize, rows: &Rows) -> Result<(), StoreError> {
    match place {
        0 => write::<0>(connection, rows),
        1 => write::<1>(connection, rows),
        2 => write::<2>(connection, rows),
        3 => write::<3>(connection, rows),
        4 => write::<4>(connection, rows),
        5 => write::<5>(connection, rows),
        6 => write::<6>(connection, rows),
        7 => write::<7>(connection, rows),
        _ => write::<8>(connection, rows),
    }
}

fn write<const TABLE: usize>(connection: &mut Connection, rows: &Rows) -> Result<(), StoreError> {
    match connection {
        // A row at a time, prepared once, is the fastest way into SQLite.
        Connection::Sqlite(c) => {
            for (key, sum) in rows {
                Add::<TABLE>::new(key, sum).execute(c)?;
            }
        }
        Connection::Postgres(c) => {
            if !rows.is_empty() {
                AddMany::<TABLE>::new(rows.iter()).execute(c)?;
            }
        }
    }
    Ok(())
}
