//! What is usual for devices, from what is stored of them.

use diesel::prelude::*;
use diesel::upsert::excluded;

use super::connection::{Connection, on_backend};
use super::flow_row::device_began;
use super::schema::{baselines, device_minutes, devices, flows, open_flows};
use super::{StoreError, Writer};
use crate::domain::{BASELINE_READS_US, BASELINE_US, Baseline, Baselines, MINUTE_US, Micros};

/// Flows that are read at once.
const CHUNK: i64 = 5_000;
/// Of so many flows one after the other none began late enough: those before began earlier still.
const QUIET: usize = 20_000;

/// Row, device, host, ends, port, beginning.
type FlowPart = (i64, Option<i64>, Option<i64>, Option<i16>, i32, Micros);

/// The parts of flows that a baseline is made of.
macro_rules! parts {
    ($table:ident) => {
        $table::table.filter($table::device_id.is_not_null()).select((
            $table::id,
            $table::device_id,
            $table::host_id,
            $table::ends,
            $table::service_port,
            $table::first_seen_us,
        ))
    };
}

impl Writer {
    /// Makes the baselines of all devices anew, of the 24 hours up to this time. Gives how many there are. A device
    /// that did nothing meanwhile keeps the one it had.
    pub fn recompute_baselines(&mut self, now: Micros) -> Result<usize, StoreError> {
        self.with_connection(|connection| {
            let found = connection.snapshot(|connection| gather(connection, now))?;
            connection.write(|connection| write(connection, &found, now))?;
            Ok(found.len())
        })
    }
}

/// Reads two days of flows and one of minutes.
fn gather(connection: &mut Connection, now: Micros) -> Result<Vec<(i64, Baseline)>, StoreError> {
    let roots: Vec<(i64, i64)> = on_backend!(&mut *connection, |c| devices::table
        .filter(devices::root_id.is_not_null())
        .select((devices::id, devices::root_id.assume_not_null()))
        .load(c))?;
    let roots: std::collections::HashMap<i64, i64> = roots.into_iter().collect();
    let root = |device: i64| roots.get(&device).copied().unwrap_or(device);
    let mut baselines = Baselines::until(now);

    let first = (now - BASELINE_US).div_euclid(MINUTE_US);
    let minutes: Vec<(i64, i64, i64, i64)> = on_backend!(&mut *connection, |c| device_minutes::table
        .filter(device_minutes::minute.ge(first))
        .filter(device_minutes::device_id.gt(0))
        .select((
            device_minutes::device_id,
            device_minutes::minute,
            device_minutes::bytes_orig,
            device_minutes::flows,
        ))
        .load(c))?;
    for (device, minute, bytes_orig, flows) in minutes {
        baselines.minute(root(device), minute, bytes_orig, flows);
    }

    let mut take = |row: &FlowPart| {
        let (_, device, host, ends, port, began) = *row;
        if let (Some(device), true, Ok(port)) = (device, device_began(ends), u16::try_from(port)) {
            baselines.flow(root(device), host, port, began);
        }
    };
    let open: Vec<FlowPart> = on_backend!(&mut *connection, |c| parts!(open_flows).load(c))?;
    open.iter().for_each(&mut take);
    // Along the ids, which are in the order in which flows were first heard of.
    let (mut below, mut quiet) = (i64::MAX, 0);
    while quiet < QUIET {
        let rows: Vec<FlowPart> = on_backend!(&mut *connection, |c| parts!(flows)
            .filter(flows::id.lt(below))
            .order(flows::id.desc())
            .limit(CHUNK)
            .load(c))?;
        let Some(last) = rows.last() else { break };
        below = last.0;
        let late = rows.iter().any(|row| row.5 >= now - BASELINE_READS_US);
        quiet = if late { 0 } else { quiet + rows.len() };
        rows.iter().for_each(&mut take);
    }
    Ok(baselines.finish())
}

fn write(connection: &mut Connection, found: &[(i64, Baseline)], until: Micros) -> Result<(), StoreError> {
    for (device, baseline) in found {
        let row = (
            baselines::device_id.eq(device),
            baselines::minutes.eq(baseline.minutes),
            baselines::bytes_orig_per_minute.eq(baseline.bytes_orig),
            baselines::flows_per_minute.eq(baseline.flows),
            baselines::ten_minutes.eq(baseline.ten_minutes),
            baselines::new_hosts_per_ten_minutes.eq(baseline.new_hosts),
            baselines::ports_per_ten_minutes.eq(baseline.ports),
            baselines::until_us.eq(until),
        );
        on_backend!(&mut *connection, |c| diesel::insert_into(baselines::table)
            .values(row)
            .on_conflict(baselines::device_id)
            .do_update()
            .set((
                baselines::minutes.eq(excluded(baselines::minutes)),
                baselines::bytes_orig_per_minute.eq(excluded(baselines::bytes_orig_per_minute)),
                baselines::flows_per_minute.eq(excluded(baselines::flows_per_minute)),
                baselines::ten_minutes.eq(excluded(baselines::ten_minutes)),
                baselines::new_hosts_per_ten_minutes.eq(excluded(baselines::new_hosts_per_ten_minutes)),
                baselines::ports_per_ten_minutes.eq(excluded(baselines::ports_per_ten_minutes)),
                baselines::until_us.eq(excluded(baselines::until_us)),
            ))
            .execute(c))?;
    }
    Ok(())
}
