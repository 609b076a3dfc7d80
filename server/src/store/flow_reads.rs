//! Rows of flows with their dimensions looked up.

use diesel::prelude::*;

use super::StoreError;
use super::address::Address;
use super::connection::{Connection, on_backend};
use super::flow_row::{EndedRow, OpenRow};
use super::schema::{domains, flows, open_flows, remote_hosts, routers};
use crate::domain::{FlowRecord, RouterId};

/// A row as it comes: its columns, its domain's name, its remote host's address, and its router's name.
pub(super) type Joined<Row> = (Row, Option<String>, Option<Address>, Option<String>);

/// A row of either table with its dimensions looked up.
macro_rules! joined {
    ($table:ident) => {
        $table::table
            .left_join(domains::table.on($table::domain_id.eq(domains::id.nullable())))
            .left_join(remote_hosts::table.on($table::host_id.eq(remote_hosts::id.nullable())))
            .left_join(routers::table.on($table::router_id.eq(routers::id)))
            .select((
                $table::all_columns,
                domains::name.nullable(),
                remote_hosts::address.nullable(),
                routers::name.nullable(),
            ))
    };
}

pub(super) use joined;

/// The open flows of a router.
pub(super) fn open_flows_of(
    connection: &mut Connection,
    router: RouterId,
) -> Result<Vec<FlowRecord>, StoreError> {
    let rows: Vec<Joined<OpenRow>> = on_backend!(connection, |c| joined!(open_flows)
        .filter(open_flows::router_id.eq(router.0))
        .order(open_flows::id)
        .load(c))?;
    rows.into_iter().map(|(row, domain, host, _)| Ok(row.into_flow(domain, host)?)).collect()
}

/// The flows of a router that ended last, the newest first.
pub(super) fn last_ended_of(
    connection: &mut Connection,
    router: RouterId,
    limit: i64,
) -> Result<Vec<FlowRecord>, StoreError> {
    // Of the newest rows, whoever's they are: an index by router would cost more than it is worth.
    let oldest: Option<i64> = on_backend!(&mut *connection, |c| flows::table
        .select(flows::id)
        .order(flows::id.desc())
        .offset(4 * limit)
        .first(c)
        .optional())?;
    let rows: Vec<Joined<EndedRow>> = on_backend!(connection, |c| joined!(flows)
        .filter(flows::id.gt(oldest.unwrap_or(i64::MIN)))
        .filter(flows::router_id.eq(router.0))
        .order(flows::id.desc())
        .limit(limit)
        .load(c))?;
    rows.into_iter().map(|(row, domain, host, _)| Ok(row.into_flow(domain, host)?)).collect()
}
