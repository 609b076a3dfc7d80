//! Devices: whose an address is, and what is known about them.
//!
//! What is kept in memory must be forgotten when the transaction that found it fails: see [`Devices::clear`].

use std::collections::HashMap;
use std::net::IpAddr;

use diesel::prelude::*;
use diesel::upsert::excluded;

use super::StoreError;
use super::address::Address;
use super::connection::{Connection, on_backend};
use super::intern::{CHUNK, MOST_KEPT, Seen, Stored, widen};
use super::schema::{device_addresses, devices};
use crate::domain::{Mac, RouterId};

pub(super) type DeviceKey = (RouterId, IpAddr);

/// Row ids by address and by MAC. The maps keep the standard library's keyed hash: strangers choose the addresses.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) by_address: HashMap<DeviceKey, Stored>,
    pub(super) by_mac: HashMap<(RouterId, Mac), i64>,
}

#[derive(Insertable)]
#[diesel(table_name = devices, treat_none_as_default_value = false)]
struct NewDevice {
    router_id: i64,
    identity: Address,
    address: Address,
    first_seen_us: i64,
    last_seen_us: i64,
}

#[derive(Insertable)]
#[diesel(table_name = device_addresses, treat_none_as_default_value = false)]
struct NewAddress {
    router_id: i64,
    address: Address,
    device_id: i64,
    first_seen_us: i64,
    last_seen_us: i64,
}

impl NewAddress {
    fn new((router, address): DeviceKey, device_id: i64, seen: Seen) -> Self {
        Self {
            router_id: router.0,
            address: address.into(),
            device_id,
            first_seen_us: seen.first,
            last_seen_us: seen.last,
        }
    }
}

impl Devices {
    pub(super) fn clear(&mut self) {
        self.by_address.clear();
        self.by_mac.clear();
    }

    /// Makes room.
    pub(super) fn trim(&mut self) {
        if self.by_address.len() > MOST_KEPT || self.by_mac.len() > MOST_KEPT {
            self.clear();
        }
    }

    /// The device that holds an address, after [`Self::resolve`] or [`Self::look_up`].
    pub(super) fn id(&self, router: RouterId, address: IpAddr) -> Option<i64> {
        self.by_address.get(&(router, address)).map(|stored| stored.id)
    }

    /// Finds out who holds these addresses; those that nobody holds stay unknown.
    pub(super) fn look_up(
        &mut self,
        connection: &mut Connection,
        keys: impl IntoIterator<Item = DeviceKey>,
    ) -> Result<(), StoreError> {
        let mut unknown: HashMap<RouterId, Vec<Address>> = HashMap::new();
        for key in keys {
            if !self.by_address.contains_key(&key) {
                unknown.entry(key.0).or_default().push(key.1.into());
            }
        }
        for (router, addresses) in unknown {
            for chunk in addresses.chunks(CHUNK) {
                let found: Vec<(Address, i64, i64, i64)> =
                    on_backend!(&mut *connection, |c| device_addresses::table
                        .filter(device_addresses::router_id.eq(router.0))
                        .filter(device_addresses::address.eq_any(chunk))
                        .select((
                            device_addresses::address,
                            device_addresses::device_id,
                            device_addresses::first_seen_us,
                            device_addresses::last_seen_us,
                        ))
                        .load(c))?;
                for (address, id, first, last) in found {
                    self.by_address
                        .insert((router, address.into()), Stored { id, seen: Seen { first, last } });
                }
            }
        }
        Ok(())
    }

    /// Sees to it that every address has a device, and writes when it was seen. In the order of the key, so that two
    /// servers that write the same rows cannot block each other for ever.
    pub(super) fn resolve(
        &mut self,
        connection: &mut Connection,
        wanted: HashMap<DeviceKey, Seen>,
    ) -> Result<(), StoreError> {
        self.look_up(connection, wanted.keys().copied())?;
        let mut wanted: Vec<(DeviceKey, Seen)> = wanted.into_iter().collect();
        wanted.sort_unstable_by_key(|(key, _)| *key);
        let (known, new): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(key, _)| self.by_address.contains_key(key));
        for chunk in new.chunks(CHUNK) {
            self.create(connection, chunk)?;
        }
        let stale: Vec<NewAddress> = known
            .into_iter()
            .filter_map(|(key, seen)| {
                let stored = self.by_address.get(&key)?;
                stored.needs_write(seen).then(|| NewAddress::new(key, stored.id, seen))
            })
            .collect();
        for row in &stale {
            let (first, last) = (row.first_seen_us, row.last_seen_us);
            on_backend!(&mut *connection, |c| {
                let device = devices::table.find(row.device_id);
                diesel::update(device.filter(devices::last_seen_us.lt(last)))
                    .set(devices::last_seen_us.eq(last))
                    .execute(c)?;
                diesel::update(device.filter(devices::first_seen_us.gt(first)))
                    .set(devices::first_seen_us.eq(first))
                    .execute(c)
            })?;
        }
        self.write_addresses(connection, &stale)
    }

    /// Makes a device of each address.
    fn create(&mut self, connection: &mut Connection, new: &[(DeviceKey, Seen)]) -> Result<(), StoreError> {
        let rows: Vec<NewDevice> = new
            .iter()
            .map(|((router, address), seen)| NewDevice {
                router_id: router.0,
                identity: (*address).into(),
                address: (*address).into(),
                first_seen_us: seen.first,
                last_seen_us: seen.last,
            })
            .collect();
        let made: Vec<(i64, i64, Address)> =
            on_backend!(&mut *connection, |c| diesel::insert_into(devices::table)
                .values(&rows)
                .on_conflict((devices::router_id, devices::identity))
                .do_update()
                .set(widen!(devices))
                .returning((devices::id, devices::router_id, devices::identity))
                .get_results(c))?;
        let ids: HashMap<DeviceKey, i64> =
            made.into_iter().map(|(id, router, address)| ((RouterId(router), address.into()), id)).collect();
        let rows: Vec<NewAddress> =
            new.iter().filter_map(|(key, seen)| Some(NewAddress::new(*key, *ids.get(key)?, *seen))).collect();
        self.write_addresses(connection, &rows)
    }

    /// Writes when addresses were seen. One that another server gave to a device meanwhile stays that device's.
    fn write_addresses(
        &mut self,
        connection: &mut Connection,
        rows: &[NewAddress],
    ) -> Result<(), StoreError> {
        for chunk in rows.chunks(CHUNK) {
            let stored: Vec<(i64, Address, i64, i64, i64)> =
                on_backend!(&mut *connection, |c| diesel::insert_into(device_addresses::table)
                    .values(chunk)
                    .on_conflict((device_addresses::router_id, device_addresses::address))
                    .do_update()
                    .set(widen!(device_addresses))
                    .returning(device_addresses::all_columns)
                    .get_results(c))?;
            for (router, address, id, first, last) in stored {
                let key = (RouterId(router), address.into());
                self.by_address.insert(key, Stored { id, seen: Seen { first, last } });
            }
        }
        Ok(())
    }

    /// Gives an address to a device.
    pub(super) fn give(
        &mut self,
        connection: &mut Connection,
        key: DeviceKey,
        device: i64,
        seen: Seen,
    ) -> Result<(), StoreError> {
        let row = NewAddress::new(key, device, seen);
        let (id, first, last): (i64, i64, i64) =
            on_backend!(connection, |c| diesel::insert_into(device_addresses::table)
                .values(&row)
                .on_conflict((device_addresses::router_id, device_addresses::address))
                .do_update()
                .set((
                    device_addresses::device_id.eq(excluded(device_addresses::device_id)),
                    widen!(device_addresses),
                ))
                .returning((
                    device_addresses::device_id,
                    device_addresses::first_seen_us,
                    device_addresses::last_seen_us,
                ))
                .get_result(c))?;
        self.by_address.insert(key, Stored { id, seen: Seen { first, last } });
        Ok(())
    }
}

/// The ids of all devices that are shown as the one that holds this address, behind any router.
pub(super) fn with_address(connection: &mut Connection, address: Address) -> Result<Vec<i64>, StoreError> {
    let holders: Vec<(i64, Option<i64>)> = on_backend!(&mut *connection, |c| devices::table
        .inner_join(device_addresses::table.on(device_addresses::device_id.eq(devices::id)))
        .filter(device_addresses::address.eq(address))
        .select((devices::id, devices::root_id))
        .load(c))?;
    let mut roots: Vec<i64> = holders.into_iter().map(|(id, root)| root.unwrap_or(id)).collect();
    roots.sort_unstable();
    roots.dedup();
    if roots.is_empty() {
        return Ok(roots);
    }
    let parts: Vec<i64> = on_backend!(connection, |c| devices::table
        .filter(devices::root_id.eq_any(roots.iter().copied().map(Some)))
        .select(devices::id)
        .load(c))?;
    Ok(roots.into_iter().chain(parts).collect())
}

/// The id of a device and those of its parts.
pub(super) fn with_parts(connection: &mut Connection, device: i64) -> Result<Vec<i64>, StoreError> {
    let mut ids: Vec<i64> = on_backend!(connection, |c| devices::table
        .filter(devices::root_id.eq(Some(device)))
        .select(devices::id)
        .load(c))?;
    ids.push(device);
    Ok(ids)
}

/// The device behind this router that holds an address; of a part the whole.
pub(super) fn holder(
    connection: &mut Connection,
    router: RouterId,
    address: Address,
) -> Result<Option<i64>, StoreError> {
    let found: Option<(i64, Option<i64>)> = on_backend!(connection, |c| devices::table
        .inner_join(device_addresses::table.on(device_addresses::device_id.eq(devices::id)))
        .filter(device_addresses::router_id.eq(router.0))
        .filter(device_addresses::address.eq(address))
        .select((devices::id, devices::root_id))
        .first(c)
        .optional())?;
    Ok(found.map(|(id, root)| root.unwrap_or(id)))
}
