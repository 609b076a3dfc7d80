//! Rollups: what moved in a minute, an hour and a day, by device, by service and by remote host.
//!
//! All of them are written in the transaction of the flows. A late event is thus in the minute, the hour and the day in
//! which it happened, and the sums of every table are those of the flows at any moment.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::StoreError;
use super::connection::Connection;
use super::intern::Interned;
use super::rollup_table::{Add, AddMany, DEVICES, HOSTS, Key, ROLLUPS, SERVICES, Sum};
use crate::domain::Changes;

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

    for (first, minutes) in [(DEVICES, &devices), (SERVICES, &services), (HOSTS, &hosts)] {
        write_at(connection, first, minutes)?;
        write_at(connection, first + 1, &coarser(first + 1, minutes))?;
        write_at(connection, first + 2, &coarser(first + 2, minutes))?;
    }
    Ok(())
}

/// The rows of minutes in the unit of another table.
fn coarser(place: usize, minutes: &Rows) -> Rows {
    let mut rows = Rows::new();
    for (&[minute, router, first, second], sum) in minutes {
        let time = minute.div_euclid(ROLLUPS[place].minutes);
        rows.entry([time, router, first, second]).or_default().add(sum.flows, sum.counters);
    }
    rows
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
