//! Minute rollups: what moved in a minute, by device and by service.

use std::collections::BTreeMap;

use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::upsert::excluded;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::intern::Interned;
use super::schema::{device_minutes, service_minutes};
use crate::domain::{Counters, MinuteDelta};

/// `device_id` where no LAN device took part.
const NO_DEVICE: i64 = 0;

/// Rows of one multi-row statement.
const CHUNK: usize = 250;

#[derive(Insertable)]
#[diesel(table_name = device_minutes, treat_none_as_default_value = false)]
struct DeviceMinute {
    minute: i64,
    router_id: i64,
    device_id: i64,
    flows: i64,
    bytes_orig: i64,
    bytes_reply: i64,
    packets_orig: i64,
    packets_reply: i64,
}

#[derive(Insertable)]
#[diesel(table_name = service_minutes, treat_none_as_default_value = false)]
struct ServiceMinute {
    minute: i64,
    router_id: i64,
    protocol: i16,
    port: i32,
    flows: i64,
    bytes_orig: i64,
    bytes_reply: i64,
    packets_orig: i64,
    packets_reply: i64,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    flows: i64,
    counters: Counters,
}

impl Sum {
    fn add(&mut self, delta: &MinuteDelta) {
        self.flows = self.flows.saturating_add(delta.flows);
        self.counters = self.counters.plus(delta.counters);
    }
}

/// `SET x = x + excluded.x` for each figure. A sum beyond 63 bits stays at the largest number: Postgres would
/// refuse the row and with it everything behind it, SQLite would turn it into an inexact number.
macro_rules! add_up {
    ($table:ident: $($column:ident),*) => {
        ($($table::$column.eq(case_when(
            $table::$column.gt(i64::MAX.into_sql::<BigInt>() - excluded($table::$column)),
            i64::MAX.into_sql::<BigInt>(),
        )
        .otherwise($table::$column + excluded($table::$column))),)*)
    };
}

pub(super) use add_up;

/// Adds the deltas to both rollups. Summed here first, because Postgres refuses two rows with one key in one
/// statement; in the order of the key, so that two servers cannot block each other for ever.
pub(super) fn add(
    connection: &mut Connection,
    interned: &Interned,
    deltas: &[MinuteDelta],
) -> Result<(), StoreError> {
    let mut devices: BTreeMap<(i64, i64, i64), Sum> = BTreeMap::new();
    let mut services: BTreeMap<(i64, i64, u8, u16), Sum> = BTreeMap::new();
    for delta in deltas {
        let router = delta.router.0;
        let device =
            delta.device.and_then(|address| interned.device(delta.router, address)).unwrap_or(NO_DEVICE);
        devices.entry((delta.minute, router, device)).or_default().add(delta);
        services.entry((delta.minute, router, delta.protocol, delta.port)).or_default().add(delta);
    }
    let devices: Vec<DeviceMinute> = devices
        .into_iter()
        .map(|((minute, router_id, device_id), Sum { flows, counters })| DeviceMinute {
            minute,
            router_id,
            device_id,
            flows,
            bytes_orig: counters.bytes_orig,
            bytes_reply: counters.bytes_reply,
            packets_orig: counters.packets_orig,
            packets_reply: counters.packets_reply,
        })
        .collect();
    let services: Vec<ServiceMinute> = services
        .into_iter()
        .map(|((minute, router_id, protocol, port), Sum { flows, counters })| ServiceMinute {
            minute,
            router_id,
            protocol: i16::from(protocol),
            port: i32::from(port),
            flows,
            bytes_orig: counters.bytes_orig,
            bytes_reply: counters.bytes_reply,
            packets_orig: counters.packets_orig,
            packets_reply: counters.packets_reply,
        })
        .collect();
    for chunk in devices.chunks(CHUNK) {
        on_backend!(&mut *connection, |c| diesel::insert_into(device_minutes::table)
            .values(chunk)
            .on_conflict((device_minutes::minute, device_minutes::router_id, device_minutes::device_id))
            .do_update()
            .set(add_up!(device_minutes: flows, bytes_orig, bytes_reply, packets_orig, packets_reply))
            .execute(c))?;
    }
    for chunk in services.chunks(CHUNK) {
        on_backend!(&mut *connection, |c| diesel::insert_into(service_minutes::table)
            .values(chunk)
            .on_conflict((
                service_minutes::minute,
                service_minutes::router_id,
                service_minutes::protocol,
                service_minutes::port,
            ))
            .do_update()
            .set(add_up!(service_minutes: flows, bytes_orig, bytes_reply, packets_orig, packets_reply))
            .execute(c))?;
    }
    Ok(())
}
