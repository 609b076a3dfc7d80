//! Pages and counts of flows, open and ended together.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};

use super::super::StoreError;
use super::super::connection::{Connection, on_backend};
use super::super::flow_reads::{Joined, joined};
use super::super::flow_row::{BadFlow, EndedRow, OpenRow};
use super::super::rows::{Count, FlowRow, Page, PageOf};
use super::super::schema::{domains, flows, open_flows, remote_hosts, routers};
use super::wanted::{Key, Wanted};
use super::{FlowFilter, FlowSort, Position, WINDOW, below, counted, cut, one_more};
use crate::domain::FlowRecord;

/// A part of one of the two tables.
struct Part {
    keys: Vec<Key>,
    below: i64,
    /// Only rows with this id or a larger one. `None`: the rows themselves end first.
    floor: Option<i64>,
}

/// Narrows a boxed query to a key, to ids, and to what is wanted. The conditions that an index could answer are
/// written so that none is taken but the key's: the window is measured along that one.
macro_rules! narrowed {
    ($query:expr, $table:ident, $key:expr, $part:expr, $wanted:expr) => {{
        let wanted: &Wanted = $wanted;
        let mut query = $query.filter($table::id.lt($part.below));
        if let Some(floor) = $part.floor {
            query = query.filter($table::id.ge(floor));
        }
        query = match $key {
            Key::All => query,
            Key::Device(id) => query.filter($table::device_id.eq(id)),
            Key::Host(id) => query.filter($table::host_id.eq(id)),
            Key::Domain(id) => query.filter($table::domain_id.eq(id)),
            Key::Port(port) => query.filter($table::service_port.eq(port)).filter(is_rare_port()),
        };
        if let Some(router) = wanted.router {
            query = query.filter($table::router_id.eq(router));
        }
        if let Some(devices) = &wanted.devices
            && !matches!($key, Key::Device(_))
        {
            query = query.filter(($table::device_id + 0_i64).eq_any(devices.clone()));
        }
        if let Some(host) = wanted.host
            && !matches!($key, Key::Host(_))
        {
            query = query.filter(($table::host_id + 0_i64).eq(host));
        }
        if let Some(domain) = wanted.domain
            && !matches!($key, Key::Domain(_))
        {
            query = query.filter(($table::domain_id + 0_i64).eq(domain));
        }
        if let Some(names) = &wanted.names
            && !matches!($key, Key::Domain(_))
        {
            query = query.filter(($table::domain_id + 0_i64).eq_any(names.clone()));
        }
        if let Some(either) = &wanted.either {
            let device = ($table::device_id + 0_i64).eq_any(either.devices.clone());
            let known = device.or(($table::host_id + 0_i64).eq_any(either.hosts.clone()));
            query = match either.end {
                None => query.filter(known),
                Some(end) => {
                    let other = $table::src_ip.eq(end).or($table::dst_ip.eq(end));
                    query.filter(known.or(other).or($table::reply_src_ip.eq(end)))
                }
            };
        }
        if let Some(direction) = wanted.direction {
            query = query.filter($table::direction.eq(direction));
        }
        for protocol in &wanted.protocols {
            query = query.filter($table::protocol.eq(*protocol));
        }
        for port in &wanted.ports {
            query = query.filter($table::service_port.eq(*port));
        }
        // What is open is alive now, however long nothing has moved.
        if let Some(from) = wanted.from
            && stringify!($table) == "flows"
        {
            query = query.filter(($table::first_seen_us + $table::lasted_us).ge(from));
        }
        if let Some(to) = wanted.to {
            query = query.filter($table::first_seen_us.le(to));
        }
        query
    }};
}

/// The id of the last row of a window along a key.
macro_rules! floor_of {
    ($connection:expr, $table:ident, $key:expr, $below:expr, $rows:expr) => {{
        let floor: Option<i64> = on_backend!($connection, |c| {
            let query = $table::table.select($table::id).filter($table::id.lt($below)).into_boxed();
            let query = match $key {
                Key::All => query,
                Key::Device(id) => query.filter($table::device_id.eq(id)),
                Key::Host(id) => query.filter($table::host_id.eq(id)),
                Key::Domain(id) => query.filter($table::domain_id.eq(id)),
                Key::Port(port) => query.filter($table::service_port.eq(port)).filter(is_rare_port()),
            };
            query.order($table::id.desc()).offset($rows - 1).first(c).optional()
        })?;
        floor
    }};
}

/// Rows of one table, in the order that is wanted, with one row more than asked for.
macro_rules! rows_of {
    ($connection:expr, $table:ident, $row:ty, $wanted:expr, $part:expr, $page:expr) => {{
        let mut found: Vec<FlowRow> = Vec::new();
        for key in &$part.keys {
            let rows: Vec<Joined<$row>> = on_backend!(&mut *$connection, |c| {
                let query = narrowed!(joined!($table).into_boxed(), $table, *key, $part, $wanted);
                let query = match sort_key(stringify!($table), $wanted.sort) {
                    None => query.order($table::id.desc()),
                    Some(key) => {
                        let query = match $page.before {
                            None => query,
                            Some(position) => {
                                let (last, id) = (position.number(), position.id);
                                let tied = key.clone().eq(last).and($table::id.lt(id));
                                query.filter(key.clone().lt(last).or(tied))
                            }
                        };
                        query.order((key.desc(), $table::id.desc()))
                    }
                };
                query.limit(one_more($page.limit)).load(c)
            })?;
            for (row, domain, host, router_name) in rows {
                let flow = row.into_flow(domain, host)?;
                found.push(FlowRow { router_name: router_name.unwrap_or_default(), flow });
            }
        }
        found
    }};
}

macro_rules! ids_of {
    ($connection:expr, $table:ident, $wanted:expr, $part:expr, $limit:expr, $ids:expr) => {
        for key in &$part.keys {
            let found: Vec<i64> = on_backend!(&mut *$connection, |c| {
                let query = $table::table.select($table::id).into_boxed();
                let query = narrowed!(query, $table, *key, $part, $wanted);
                query.order($table::id.desc()).limit($limit).load(c)
            })?;
            $ids.extend(found);
        }
    };
}

impl From<BadFlow> for StoreError {
    fn from(error: BadFlow) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// What SQLite must read to take the index on ports, which holds no others.
fn is_rare_port() -> SqlLiteral<Bool> {
    sql("service_port NOT IN (0, 53, 443)")
}

/// What the rows of a window are sorted by; `None`: their ids. The sum of two counters that strangers can make
/// as large as they like stops at the largest number, as [`key_of`] does.
fn sort_key(table: &str, sort: FlowSort) -> Option<SqlLiteral<BigInt>> {
    let key = match sort {
        FlowSort::Newest => return None,
        FlowSort::Bytes => format!(
            "CASE WHEN {table}.bytes_orig > 9223372036854775807 - {table}.bytes_reply THEN 9223372036854775807 \
             ELSE {table}.bytes_orig + {table}.bytes_reply END"
        ),
        FlowSort::LastSeen => format!("({table}.first_seen_us + {table}.lasted_us)"),
        FlowSort::Duration => format!("{table}.lasted_us"),
    };
    Some(sql(&key))
}

/// The same of a row.
fn key_of(flow: &FlowRecord, sort: FlowSort) -> i64 {
    match sort {
        FlowSort::Newest => 0,
        FlowSort::Bytes => flow.counters.bytes_orig.saturating_add(flow.counters.bytes_reply),
        FlowSort::LastSeen => flow.last_seen,
        FlowSort::Duration => flow.last_seen - flow.first_seen,
    }
}

/// The part of `flows` to look at: along the way that reaches furthest back in one window.
fn ended_part(connection: &mut Connection, wanted: &Wanted, below: i64) -> Result<Part, StoreError> {
    let mut best: Option<Part> = None;
    for keys in wanted.ways() {
        let answered = usize::from(keys != [Key::All]);
        if !wanted.needs_window(answered) {
            return Ok(Part { keys, below, floor: None });
        }
        let rows = (WINDOW / keys.len() as i64).max(1);
        let mut floor = None;
        for key in &keys {
            floor = floor.max(floor_of!(&mut *connection, flows, *key, below, rows));
        }
        // None, the end of the rows themselves, is less than every floor.
        if best.as_ref().is_none_or(|best| floor < best.floor) {
            best = Some(Part { keys, below, floor });
        }
    }
    Ok(best.unwrap_or(Part { keys: vec![Key::All], below, floor: None }))
}

/// The part of `open_flows`, which has no index but its key.
fn open_part(connection: &mut Connection, wanted: &Wanted, below: i64) -> Result<Part, StoreError> {
    let floor = if wanted.needs_window(0) {
        floor_of!(&mut *connection, open_flows, Key::All, below, WINDOW)
    } else {
        None
    };
    Ok(Part { keys: vec![Key::All], below, floor })
}

/// Both parts, cut to the window that both have.
fn parts(
    connection: &mut Connection,
    filter: &FlowFilter,
    wanted: &Wanted,
    below: i64,
) -> Result<(Option<Part>, Option<Part>), StoreError> {
    let mut ended =
        (filter.ended != Some(false)).then(|| ended_part(connection, wanted, below)).transpose()?;
    let mut open = (filter.ended != Some(true)).then(|| open_part(connection, wanted, below)).transpose()?;
    let floor = ended.iter().chain(&open).filter_map(|part| part.floor).max();
    for part in ended.iter_mut().chain(&mut open) {
        part.floor = floor;
    }
    Ok((ended, open))
}

/// A page of open and ended flows together. Runs on one state of the database: a flow that ends meanwhile is in
/// one of the two tables, not in both or neither.
pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &FlowFilter,
    page: Page,
) -> Result<PageOf<FlowRow>, StoreError> {
    connection.snapshot(|connection| {
        let Some(wanted) = Wanted::look_up(connection, filter)? else {
            return Ok(PageOf { items: Vec::new(), next: None });
        };
        let by_id = filter.sort == FlowSort::Newest;
        // A sorted window begins at the newest row on each of its pages.
        let below = if by_id { below(page) } else { i64::MAX };
        let (ended, open) = parts(connection, filter, &wanted, below)?;
        let mut items = Vec::new();
        let mut floor = None;
        if let Some(part) = ended {
            items.extend(rows_of!(connection, flows, EndedRow, &wanted, part, page));
            floor = part.floor;
        }
        if let Some(part) = open {
            items.extend(rows_of!(connection, open_flows, OpenRow, &wanted, part, page));
            floor = part.floor;
        }
        let place = |row: &FlowRow| (Reverse(key_of(&row.flow, filter.sort)), Reverse(row.flow.id));
        items.sort_unstable_by_key(place);
        // A flow between two devices that both match comes by two keys.
        items.dedup_by_key(|row| row.flow.id);
        let mut part =
            cut(items, page.limit, |row| Position::new(key_of(&row.flow, filter.sort), row.flow.id.0));
        if part.next.is_none() && by_id {
            part.next = floor.map(Position::after_id);
        }
        Ok(part)
    })
}

/// How many flows match, counted up to `limit` and to the end of the window.
pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &FlowFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    connection.snapshot(|connection| {
        let Some(wanted) = Wanted::look_up(connection, filter)? else {
            return Ok(Count { total: 0, capped: false });
        };
        // The order does not change how many there are.
        let wanted = Wanted { sort: FlowSort::Newest, ..wanted };
        let (ended, open) = parts(connection, filter, &wanted, i64::MAX)?;
        let one_more = i64::from(limit) + 1;
        let mut ids = BTreeSet::new();
        let mut ended_early = false;
        if let Some(part) = ended {
            ids_of!(connection, flows, &wanted, part, one_more, ids);
            ended_early = part.floor.is_some();
        }
        if let Some(part) = open {
            ids_of!(connection, open_flows, &wanted, part, one_more, ids);
            ended_early = part.floor.is_some();
        }
        let count = counted(ids.len(), limit);
        Ok(Count { capped: count.capped || ended_early, ..count })
    })
}
