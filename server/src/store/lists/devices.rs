//! Devices in the LAN. One that was found to be another one is shown as part of that one alone.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use diesel::prelude::*;

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::rows::{Count, DeviceDetail, DeviceRow, Page, PageOf};
use super::super::schema::{device_addresses, device_names, devices, flows, routers};
use super::{Position, WINDOW, scan};
use crate::domain::{Mac, RouterId};

/// Which devices, and in which order. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Behind this router.
    pub router: Option<RouterId>,
    /// With this address.
    pub address: Option<IpAddr>,
    /// With this text, in lower case, in its name, its address or its hardware address.
    pub text: Option<String>,
    /// What comes first.
    pub sort: DeviceSort,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSort {
    /// What came last.
    #[default]
    Newest,
    /// What moved something last.
    LastSeen,
}

impl DeviceFilter {
    fn matches(&self, row: &DeviceRow) -> bool {
        self.router.is_none_or(|router| router == row.router)
            && self.address.is_none_or(|address| address == row.address)
            && self.text.as_ref().is_none_or(|text| {
                let name = row.name.as_deref().unwrap_or_default().to_lowercase();
                row.address.to_string().contains(text.as_str())
                    || name.contains(text.as_str())
                    || row.mac.is_some_and(|mac| shown(mac).contains(text.as_str()))
            })
    }

    fn position(&self, row: &DeviceRow) -> Position {
        let key = match self.sort {
            DeviceSort::Newest => 0,
            DeviceSort::LastSeen => row.last_seen,
        };
        Position::new(key, row.id)
    }
}

/// As people write it.
fn shown(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A device, and whether it is shown as part of another one.
type Candidate = (DeviceRow, bool);

type Stored = (i64, i64, String, Vec<u8>, Address, i64, i64, Option<i64>);

fn candidate((id, router, router_name, identity, address, first_seen, last_seen, root): Stored) -> Candidate {
    let row = DeviceRow {
        id,
        router: RouterId(router),
        router_name,
        address: address.into(),
        name: None,
        mac: Mac::try_from(identity.as_slice()).ok(),
        first_seen,
        last_seen,
    };
    (row, root.is_some())
}

macro_rules! stored {
    () => {
        devices::table.inner_join(routers::table.on(devices::router_id.eq(routers::id))).select((
            devices::id,
            devices::router_id,
            routers::name,
            devices::identity,
            devices::address,
            devices::first_seen_us,
            devices::last_seen_us,
            devices::root_id,
        ))
    };
}

fn rows(
    connection: &mut Connection,
    sort: DeviceSort,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<Candidate>, StoreError> {
    let rows: Vec<Stored> = on_backend!(&mut *connection, |c| {
        let query = stored!().limit(limit).into_boxed();
        match (sort, before) {
            (DeviceSort::Newest, before) => query
                .filter(devices::id.lt(before.map_or(i64::MAX, |position| position.id)))
                .order(devices::id.desc())
                .load(c),
            (DeviceSort::LastSeen, before) => {
                let before = before.unwrap_or(Position::new(i64::MAX, i64::MAX));
                let (key, id) = (before.number(), before.id);
                query
                    .filter(devices::last_seen_us.le(key))
                    .filter(devices::last_seen_us.lt(key).or(devices::id.lt(id)))
                    .order((devices::last_seen_us.desc(), devices::id.desc()))
                    .load(c)
            }
        }
    })?;
    let mut found: Vec<Candidate> = rows.into_iter().map(candidate).collect();
    add_names(connection, found.iter_mut().map(|(row, _)| row).collect())?;
    Ok(found)
}

/// Looks up the names of devices: of a person's the newest, else of the leases'. What was told of a part is the name
/// of the whole.
fn add_names(connection: &mut Connection, rows: Vec<&mut DeviceRow>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let parts: Vec<(i64, Option<i64>)> = on_backend!(&mut *connection, |c| devices::table
        .filter(devices::root_id.eq_any(ids.iter().copied().map(Some)))
        .select((devices::id, devices::root_id))
        .load(c))?;
    let root_of: HashMap<i64, i64> = parts.into_iter().filter_map(|(id, root)| Some((id, root?))).collect();
    let all: Vec<i64> = ids.into_iter().chain(root_of.keys().copied()).collect();
    let mut names: Vec<(i64, i16, String, i64)> = on_backend!(connection, |c| device_names::table
        .filter(device_names::device_id.eq_any(all))
        .select((
            device_names::device_id,
            device_names::source,
            device_names::name,
            device_names::last_seen_us,
        ))
        .load(c))?;
    // The best last, so that it stays.
    names.sort_unstable_by_key(|(id, source, _, seen)| (Reverse(*source), !root_of.contains_key(id), *seen));
    let mut names: HashMap<i64, String> =
        names.into_iter().map(|(id, _, name, _)| (root_of.get(&id).copied().unwrap_or(id), name)).collect();
    for row in rows {
        row.name = names.remove(&row.id);
    }
    Ok(())
}

/// The devices with these ids, in any order.
pub(in crate::store) fn by_id(
    connection: &mut Connection,
    ids: &[i64],
) -> Result<Vec<DeviceRow>, StoreError> {
    let rows: Vec<Stored> =
        on_backend!(&mut *connection, |c| stored!().filter(devices::id.eq_any(ids)).load(c))?;
    let mut found: Vec<DeviceRow> = rows.into_iter().map(|row| candidate(row).0).collect();
    add_names(connection, found.iter_mut().collect())?;
    Ok(found)
}

/// Parts and addresses that a device's page shows.
const MOST_SHOWN: i64 = 100;

/// All that is known of a device; `None`: there is none with this id.
pub(in crate::store) fn detail(
    connection: &mut Connection,
    id: i64,
) -> Result<Option<DeviceDetail>, StoreError> {
    connection.snapshot(|connection| {
        let found: Option<Stored> =
            on_backend!(&mut *connection, |c| stored!().filter(devices::id.eq(id)).first(c).optional())?;
        let Some((mut device, _)) = found.map(candidate) else { return Ok(None) };
        let parts: Vec<Stored> = on_backend!(&mut *connection, |c| stored!()
            .filter(devices::root_id.eq(Some(id)))
            .order(devices::id.desc())
            .limit(MOST_SHOWN)
            .load(c))?;
        let mut parts: Vec<DeviceRow> = parts.into_iter().map(|row| candidate(row).0).collect();
        add_names(connection, std::iter::once(&mut device).chain(&mut parts).collect())?;
        let ids: Vec<i64> = std::iter::once(id).chain(parts.iter().map(|part| part.id)).collect();
        let addresses: Vec<Address> = on_backend!(&mut *connection, |c| device_addresses::table
            .filter(device_addresses::device_id.eq_any(&ids))
            .order(device_addresses::last_seen_us.desc())
            .limit(MOST_SHOWN)
            .select(device_addresses::address)
            .load(c))?;
        let bytes = explained(connection, &ids)?;
        let addresses = addresses.into_iter().map(IpAddr::from).collect();
        Ok(Some(DeviceDetail { device, addresses, parts, bytes }))
    })
}

/// Bytes of the newest flows with remote hosts: all, and those without a name.
fn explained(connection: &mut Connection, ids: &[i64]) -> Result<(i64, i64), StoreError> {
    let (mut all, mut unnamed) = (0_i64, 0_i64);
    let window = (WINDOW / ids.len().max(1) as i64).max(1);
    for id in ids {
        let moved: Vec<(Option<i64>, Option<i64>, i64, i64)> =
            on_backend!(&mut *connection, |c| flows::table
                .filter(flows::device_id.eq(id))
                .order(flows::id.desc())
                .limit(window)
                .select((flows::host_id, flows::domain_id, flows::bytes_orig, flows::bytes_reply))
                .load(c))?;
        for (_, domain, orig, reply) in moved.into_iter().filter(|(host, ..)| host.is_some()) {
            let bytes = orig.saturating_add(reply);
            all = all.saturating_add(bytes);
            unnamed = unnamed.saturating_add(if domain.is_none() { bytes } else { 0 });
        }
    }
    Ok((all, unnamed))
}

pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &DeviceFilter,
    page: Page,
) -> Result<PageOf<DeviceRow>, StoreError> {
    let part = scan::page(
        page,
        Some(&|(row, is_part): &Candidate| !is_part && filter.matches(row)),
        |(row, _)| filter.position(row),
        |before, limit| rows(connection, filter.sort, before, limit),
    )?;
    Ok(PageOf { items: part.items.into_iter().map(|(row, _)| row).collect(), next: part.next })
}

pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &DeviceFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    scan::count(
        limit,
        Some(&|(row, is_part): &Candidate| !is_part && filter.matches(row)),
        |(row, _)| Position::after_id(row.id),
        |before, limit| rows(connection, DeviceSort::Newest, before, limit),
    )
}
