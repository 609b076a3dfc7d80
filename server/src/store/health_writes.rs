//! Writing what routers tell about themselves, a minute a row.

use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::upsert::excluded;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::intern::{CHUNK, Interned};
use super::schema::{interface_minutes, router_minutes};
use crate::domain::HealthMinute;

/// `SET x = x + excluded.x` for each figure. A sum beyond 63 bits stays at the largest number: Postgres would
/// refuse the row and with it everything behind it, SQLite would turn it into an inexact number.
macro_rules! add_up {
    ($table:ident: $($column:ident),* $(,)?) => {
        ($($table::$column.eq(case_when(
            $table::$column.gt(i64::MAX.into_sql::<BigInt>() - excluded($table::$column)),
            i64::MAX.into_sql::<BigInt>(),
        )
        .otherwise($table::$column + excluded($table::$column))),)*)
    };
}

#[derive(Insertable)]
#[diesel(table_name = router_minutes, treat_none_as_default_value = false)]
struct NewMinute {
    minute: i64,
    router_id: i64,
    interval_ms: i64,
    load1_milli: i64,
    load5_milli: i64,
    load15_milli: i64,
    memory_total_bytes: i64,
    memory_available_bytes: i64,
    swap_total_bytes: i64,
    swap_free_bytes: i64,
    disk_total_bytes: i64,
    disk_free_bytes: i64,
    disk_read_bytes: i64,
    disk_written_bytes: i64,
    uptime_s: i64,
    conntrack_count: i64,
    conntrack_max: i64,
    temperature_milli_c: Option<i32>,
}

#[derive(Insertable)]
#[diesel(table_name = interface_minutes, treat_none_as_default_value = false)]
struct NewInterface {
    minute: i64,
    router_id: i64,
    interface_id: i64,
    rx_bytes: i64,
    tx_bytes: i64,
    rx_packets: i64,
    tx_packets: i64,
    rx_errors: i64,
    tx_errors: i64,
    rx_dropped: i64,
    tx_dropped: i64,
    up: bool,
}

/// Takes the newer level.
macro_rules! levels {
    ($($column:ident),*) => {
        ($(router_minutes::$column.eq(excluded(router_minutes::$column)),)*)
    };
}

/// Adds minutes to what is stored of them. In the order of the key, so that two servers cannot block each other for ever.
pub(super) fn add(
    connection: &mut Connection,
    interned: &Interned,
    minutes: &[HealthMinute],
) -> Result<(), StoreError> {
    let mut rows: Vec<NewMinute> = minutes.iter().map(row).collect();
    rows.sort_unstable_by_key(|row| (row.minute, row.router_id));
    for chunk in rows.chunks(CHUNK) {
        on_backend!(&mut *connection, |c| diesel::insert_into(router_minutes::table)
            .values(chunk)
            .on_conflict((router_minutes::minute, router_minutes::router_id))
            .do_update()
            .set((
                add_up!(router_minutes: interval_ms, disk_read_bytes, disk_written_bytes),
                levels!(
                    load1_milli,
                    load5_milli,
                    load15_milli,
                    memory_total_bytes,
                    memory_available_bytes,
                    swap_total_bytes,
                    swap_free_bytes,
                    disk_total_bytes,
                    disk_free_bytes,
                    uptime_s,
                    conntrack_max,
                    temperature_milli_c
                ),
                router_minutes::conntrack_count.eq(case_when(
                    excluded(router_minutes::conntrack_count).gt(router_minutes::conntrack_count),
                    excluded(router_minutes::conntrack_count),
                )
                .otherwise(router_minutes::conntrack_count)),
            ))
            .execute(c))?;
    }
    let mut rows: Vec<NewInterface> =
        minutes.iter().flat_map(|minute| interfaces(interned, minute)).collect();
    rows.sort_unstable_by_key(|row| (row.minute, row.router_id, row.interface_id));
    for chunk in rows.chunks(CHUNK) {
        on_backend!(&mut *connection, |c| diesel::insert_into(interface_minutes::table)
            .values(chunk)
            .on_conflict((
                interface_minutes::minute,
                interface_minutes::router_id,
                interface_minutes::interface_id,
            ))
            .do_update()
            .set((
                add_up!(interface_minutes: rx_bytes, tx_bytes, rx_packets, tx_packets, rx_errors, tx_errors,
                    rx_dropped, tx_dropped),
                interface_minutes::up.eq(excluded(interface_minutes::up)),
            ))
            .execute(c))?;
    }
    Ok(())
}

fn row(HealthMinute { router, minute, health }: &HealthMinute) -> NewMinute {
    let [load1_milli, load5_milli, load15_milli] = health.load_milli;
    NewMinute {
        minute: *minute,
        router_id: router.0,
        interval_ms: health.interval_ms,
        load1_milli,
        load5_milli,
        load15_milli,
        memory_total_bytes: health.memory_total_bytes,
        memory_available_bytes: health.memory_available_bytes,
        swap_total_bytes: health.swap_total_bytes,
        swap_free_bytes: health.swap_free_bytes,
        disk_total_bytes: health.disk_total_bytes,
        disk_free_bytes: health.disk_free_bytes,
        disk_read_bytes: health.disk_read_bytes,
        disk_written_bytes: health.disk_written_bytes,
        uptime_s: health.uptime_s,
        conntrack_count: health.conntrack_count,
        conntrack_max: health.conntrack_max,
        temperature_milli_c: health.temperature_milli_c,
    }
}

fn interfaces(
    interned: &Interned,
    HealthMinute { router, minute, health }: &HealthMinute,
) -> impl Iterator<Item = NewInterface> {
    health.interfaces.iter().filter_map(move |interface| {
        let ([rx_bytes, tx_bytes], [rx_packets, tx_packets]) = (interface.bytes, interface.packets);
        let ([rx_errors, tx_errors], [rx_dropped, tx_dropped]) = (interface.errors, interface.dropped);
        Some(NewInterface {
            minute: *minute,
            router_id: router.0,
            // Every label was made known before.
            interface_id: interned.label(&interface.name)?,
            rx_bytes,
            tx_bytes,
            rx_packets,
            tx_packets,
            rx_errors,
            tx_errors,
            rx_dropped,
            tx_dropped,
            up: interface.up,
        })
    })
}
