//! Reading flows, open and ended together.

use diesel::prelude::*;

use super::StoreError;
use super::address::Address;
use super::connection::{Connection, on_backend};
use super::flow_row::{BadFlow, EndedRow, OpenRow};
use super::rows::{Count, FlowFilter, FlowRow, Page, PageOf};
use super::schema::{domains, flows, open_flows, remote_hosts, routers};
use crate::domain::{FlowRecord, RouterId};

/// A row as it comes: its columns, its domain's name, and its router's.
type Joined<Row> = (Row, Option<String>, Option<String>);

/// A row of either table with its dimensions looked up.
macro_rules! joined {
    ($table:ident) => {
        $table::table
            .left_join(domains::table.on($table::domain_id.eq(domains::id.nullable())))
            .left_join(routers::table.on($table::router_id.eq(routers::id)))
            .select(($table::all_columns, domains::name.nullable(), routers::name.nullable()))
    };
}

/// Narrows a boxed query to what the filter asks for.
macro_rules! narrowed {
    ($query:expr, $table:ident, $ids:expr) => {{
        let Ids { filter, devices, host } = $ids;
        let mut query = $query;
        if let Some(router) = filter.router {
            query = query.filter($table::router_id.eq(router.0));
        }
        if let Some(devices) = devices {
            query = query.filter($table::device_id.eq_any(devices.clone()));
        }
        if let Some(host) = host {
            query = query.filter($table::host_id.eq(*host));
        }
        if let Some(direction) = filter.direction {
            query = query.filter($table::direction.eq(direction as i16));
        }
        if let Some(protocol) = filter.protocol {
            query = query.filter($table::protocol.eq(i16::from(protocol)));
        }
        if let Some(port) = filter.port {
            query = query.filter($table::service_port.eq(i32::from(port)));
        }
        query
    }};
}

/// A page of one table, newest first, with one row more than asked for.
macro_rules! page_of {
    ($connection:expr, $table:ident, $row:ty, $ids:expr, $page:expr) => {{
        let Page { before, limit } = $page;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let rows: Vec<Joined<$row>> = on_backend!($connection, |c| {
            let mut query = narrowed!(joined!($table).into_boxed(), $table, $ids);
            if let Some(before) = before {
                query = query.filter($table::id.lt(before));
            }
            query.order($table::id.desc()).limit(limit).load(c)
        })?;
        rows.into_iter()
            .map(|(row, domain, router_name)| {
                let flow = row.into_flow(domain)?;
                Ok(FlowRow { router_name: router_name.unwrap_or_default(), flow })
            })
            .collect::<Result<Vec<FlowRow>, BadFlow>>()?
    }};
}

macro_rules! count_of {
    ($connection:expr, $table:ident, $ids:expr, $limit:expr) => {{
        let rows: Vec<i64> = on_backend!($connection, |c| {
            let query = $table::table.select($table::id).into_boxed();
            narrowed!(query, $table, $ids).limit($limit).load(c)
        })?;
        rows.len()
    }};
}

impl From<BadFlow> for StoreError {
    fn from(error: BadFlow) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The open flows of a router.
pub(super) fn open_flows_of(
    connection: &mut Connection,
    router: RouterId,
) -> Result<Vec<FlowRecord>, StoreError> {
    let rows: Vec<Joined<OpenRow>> = on_backend!(connection, |c| joined!(open_flows)
        .filter(open_flows::router_id.eq(router.0))
        .order(open_flows::id)
        .load(c))?;
    rows.into_iter().map(|(row, domain, _)| Ok(row.into_flow(domain)?)).collect()
}

/// A filter with its addresses turned into ids.
struct Ids {
    filter: FlowFilter,
    devices: Option<Vec<i64>>,
    host: Option<i64>,
}

impl Ids {
    /// `None`: no flow can match, since nothing has that address.
    fn look_up(connection: &mut Connection, filter: &FlowFilter) -> Result<Option<Self>, StoreError> {
        let mut ids = Self { filter: *filter, devices: None, host: None };
        if let Some(address) = filter.device {
            let address = Address::from(address);
            // One or more per router that has a device of this address.
            let found: Vec<i64> = super::devices::with_address(connection, address)?;
            if found.is_empty() {
                return Ok(None);
            }
            ids.devices = Some(found);
        }
        if let Some(address) = filter.host {
            let address = Address::from(address);
            let found: Option<i64> = on_backend!(connection, |c| remote_hosts::table
                .filter(remote_hosts::address.eq(address))
                .select(remote_hosts::id)
                .first(c)
                .optional())?;
            if found.is_none() {
                return Ok(None);
            }
            ids.host = found;
        }
        Ok(Some(ids))
    }
}

/// A page of open and ended flows together. Runs on one state of the database: a flow that ends meanwhile is in
/// one of the two tables, not in both or neither.
pub(super) fn page(
    connection: &mut Connection,
    filter: &FlowFilter,
    page: Page,
) -> Result<PageOf<FlowRow>, StoreError> {
    connection.snapshot(|connection| {
        let Some(ids) = Ids::look_up(connection, filter)? else {
            return Ok(PageOf { items: Vec::new(), next: None });
        };
        let mut items = Vec::new();
        if filter.ended != Some(false) {
            items.extend(page_of!(&mut *connection, flows, EndedRow, &ids, page));
        }
        if filter.ended != Some(true) {
            items.extend(page_of!(&mut *connection, open_flows, OpenRow, &ids, page));
        }
        items.sort_unstable_by_key(|row| std::cmp::Reverse(row.flow.id));
        Ok(PageOf::cut(items, page.limit, |row| row.flow.id.0))
    })
}

/// How many flows match, counted up to `limit`.
pub(super) fn count(
    connection: &mut Connection,
    filter: &FlowFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    connection.snapshot(|connection| {
        let Some(ids) = Ids::look_up(connection, filter)? else {
            return Ok(Count { total: 0, capped: false });
        };
        let one_more = i64::from(limit) + 1;
        let mut total = 0;
        if filter.ended != Some(false) {
            total += count_of!(&mut *connection, flows, &ids, one_more);
        }
        if filter.ended != Some(true) {
            total += count_of!(&mut *connection, open_flows, &ids, one_more);
        }
        let (total, limit) = (total as u64, u64::from(limit));
        Ok(Count { total: total.min(limit), capped: total > limit })
    })
}
