//! Writing flows.

use diesel::prelude::*;
use diesel::upsert::excluded;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::flow_row::{EndedRow, OpenRow, sureness};
use super::flow_statements::{InsertEnded, UpsertOpen};
use super::intern::Interned;
use super::schema::{flows, open_flows};
use crate::domain::{FlowRecord, NamedFlow};

/// Rows of one multi-row statement of Postgres: 41 columns each, at most 65,535 values in all.
const CHUNK: usize = 500;

/// Adds flows that ended.
pub(super) fn insert_ended(
    connection: &mut Connection,
    interned: &Interned,
    ended: &[FlowRecord],
) -> Result<(), StoreError> {
    // The database would take it for one whose end was seen.
    if let Some(flow) = ended.iter().find(|flow| flow.end.is_none()) {
        return Err(StoreError::Database(format!("flow {} has not ended", flow.id.0).into()));
    }
    let row = |flow: &FlowRecord| EndedRow::new(flow, interned.ids(flow));
    match connection {
        // One prepared statement, stepped once a row, is the fastest way into SQLite: a multi-row statement
        // is parsed anew each time.
        Connection::Sqlite(c) => {
            for flow in ended {
                InsertEnded(&row(flow)).execute(c)?;
            }
        }
        Connection::Postgres(c) => {
            if !ended.is_empty() {
                let rows: Vec<EndedRow> = ended.iter().map(row).collect();
                diesel::copy_from(flows::table).from_insertable(rows).execute(c)?;
            }
        }
    }
    Ok(())
}

/// Takes flows out of the open ones, if they are there.
pub(super) fn remove_open(connection: &mut Connection, closed: &[i64]) -> Result<(), StoreError> {
    match connection {
        Connection::Sqlite(c) => {
            for id in closed {
                diesel::delete(open_flows::table.find(id)).execute(c)?;
            }
        }
        Connection::Postgres(c) => {
            if !closed.is_empty() {
                diesel::delete(open_flows::table.filter(open_flows::id.eq_any(closed))).execute(c)?;
            }
        }
    }
    Ok(())
}

macro_rules! take_all {
    ($($column:ident),* $(,)?) => {
        ($(open_flows::$column.eq(excluded(open_flows::$column)),)*)
    };
}

/// Adds open flows, or brings those that are there up to date: a restarted agent gives the flow a new id, too.
pub(super) fn upsert_open(
    connection: &mut Connection,
    interned: &Interned,
    open: &[FlowRecord],
) -> Result<(), StoreError> {
    let row = |flow: &FlowRecord| OpenRow::new(flow, interned.ids(flow));
    match connection {
        Connection::Sqlite(c) => {
            for flow in open {
                UpsertOpen(&row(flow)).execute(c)?;
            }
        }
        Connection::Postgres(c) => {
            for chunk in open.chunks(CHUNK) {
                let rows: Vec<OpenRow> = chunk.iter().map(row).collect();
                diesel::insert_into(open_flows::table)
                    .values(&rows)
                    .on_conflict(open_flows::id)
                    .do_update()
                    .set(take_all!(
                        router_id,
                        device_id,
                        host_id,
                        flow_id,
                        zone,
                        conntrack_id,
                        protocol,
                        src_ip,
                        src_port,
                        dst_ip,
                        dst_port,
                        reply_src_ip,
                        reply_src_port,
                        reply_dst_ip,
                        reply_dst_port,
                        service_port,
                        icmp_type,
                        icmp_code,
                        icmp_id,
                        direction,
                        bytes_orig,
                        bytes_reply,
                        packets_orig,
                        packets_reply,
                        bytes_orig_before,
                        bytes_reply_before,
                        packets_orig_before,
                        packets_reply_before,
                        first_seen_us,
                        lasted_us,
                        kernel_start_us,
                        tcp_state,
                        status,
                        mark,
                        no_counters,
                        end_kind,
                        ends,
                        domain_id,
                        domain_confidence,
                        domain_reason,
                    ))
                    .execute(c)?;
            }
        }
    }
    Ok(())
}

/// Gives names to flows that ended in an earlier commit.
pub(super) fn name_ended(
    connection: &mut Connection,
    interned: &Interned,
    named: &[NamedFlow],
) -> Result<(), StoreError> {
    for NamedFlow { id, name, .. } in named {
        let domain = name.domain.as_deref().and_then(|domain| interned.domain(domain));
        let (confidence, reason) = sureness(Some(name), domain);
        on_backend!(&mut *connection, |c| diesel::update(flows::table.find(id.0))
            .set((
                flows::domain_id.eq(domain),
                flows::domain_confidence.eq(confidence),
                flows::domain_reason.eq(reason),
            ))
            .execute(c))?;
    }
    Ok(())
}
