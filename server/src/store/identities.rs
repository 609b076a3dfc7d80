//! What routers tell about their devices, and which devices are one.

use diesel::prelude::*;

use super::StoreError;
use super::address::Address;
use super::connection::{Connection, on_backend};
use super::devices::Devices;
use super::intern::{Seen, widen};
use super::schema::{device_merges, device_names, devices};
use super::text::{clean, clean_optional};
use crate::domain::{Identity, Mac, Micros, Observed, RouterId};

/// `device_names.source`: a person said so.
const FROM_PERSON: i16 = 1;
/// `device_names.source`: its DHCP lease.
const FROM_LEASE: i16 = 2;

/// `device_merges.cause`: an address turned out to be this device's.
const BY_ADDRESS: i16 = 1;
/// `device_merges.cause`: a person said so.
const BY_PERSON: i16 = 2;

#[derive(AsChangeset)]
#[diesel(table_name = devices)]
struct Facts {
    address: Option<Address>,
    vendor_class: Option<String>,
    interface: Option<String>,
    lease_until_us: Option<i64>,
}

/// Writes the identities of devices whose MAC is known, in the order in which they were told.
pub(super) fn write_with_mac(
    connection: &mut Connection,
    known: &mut Devices,
    identities: &[Observed<Identity>],
) -> Result<(), StoreError> {
    for Observed { router, what, .. } in identities {
        let Some(mac) = what.mac else { continue };
        let keys = what.addresses.iter().map(|address| (*router, *address));
        known.look_up(connection, keys.clone())?;
        // Without an address there is nothing to show a new device by.
        let Some(device) = by_mac(connection, known, *router, mac, what)? else { continue };
        for key in keys {
            take_address(connection, known, key, device, what.last_seen)?;
        }
        tell(connection, device, what)?;
    }
    Ok(())
}

/// Writes the others. Their addresses have devices by now.
pub(super) fn write_without_mac(
    connection: &mut Connection,
    known: &Devices,
    identities: &[Observed<Identity>],
) -> Result<(), StoreError> {
    for Observed { router, what, .. } in identities.iter().filter(|identity| identity.what.mac.is_none()) {
        for address in &what.addresses {
            if let Some(device) = known.id(*router, *address) {
                tell(connection, device, what)?;
            }
        }
    }
    Ok(())
}

/// The device of this MAC, made if there is none and it has an address.
fn by_mac(
    connection: &mut Connection,
    known: &mut Devices,
    router: RouterId,
    mac: Mac,
    identity: &Identity,
) -> Result<Option<i64>, StoreError> {
    if let Some(id) = known.by_mac.get(&(router, mac)) {
        return Ok(Some(*id));
    }
    let find =
        || devices::table.filter(devices::router_id.eq(router.0)).filter(devices::identity.eq(mac.to_vec()));
    let mut found: Option<i64> =
        on_backend!(&mut *connection, |c| find().select(devices::id).first(c).optional())?;
    if let (None, Some(address)) = (found, shown_address(identity)) {
        let row = (
            devices::router_id.eq(router.0),
            devices::identity.eq(mac.to_vec()),
            devices::address.eq(address),
            devices::first_seen_us.eq(identity.last_seen),
            devices::last_seen_us.eq(identity.last_seen),
        );
        found = Some(on_backend!(&mut *connection, |c| diesel::insert_into(devices::table)
            .values(row)
            .on_conflict((devices::router_id, devices::identity))
            .do_update()
            .set(widen!(devices))
            .returning(devices::id)
            .get_result(c))?);
    }
    if let Some(id) = found {
        known.by_mac.insert((router, mac), id);
    }
    Ok(found)
}

/// Gives an address to the device that holds it now. A device that was nothing but this address is found to be the
/// same; one with a MAC of its own has lost the address.
fn take_address(
    connection: &mut Connection,
    known: &mut Devices,
    key: super::devices::DeviceKey,
    device: i64,
    now: Micros,
) -> Result<(), StoreError> {
    let seen = Seen { first: now, last: now };
    match known.by_address.get(&key) {
        Some(stored) if stored.id == device && !stored.needs_write(seen) => return Ok(()),
        Some(stored) if stored.id != device => {
            let holder = stored.id;
            let is_bare: Option<i64> = on_backend!(&mut *connection, |c| devices::table
                .find(holder)
                .filter(devices::identity.eq(Address::from(key.1)))
                .filter(devices::merged_into.is_null())
                .select(devices::id)
                .first(c)
                .optional())?;
            if is_bare.is_some() {
                merge(connection, holder, device, BY_ADDRESS, now)?;
            }
        }
        _ => {}
    }
    known.give(connection, key, device, seen)
}

/// What a list shows a device by: IPv4 before IPv6, the first that the router names.
fn shown_address(identity: &Identity) -> Option<Address> {
    let first_of = |v4: bool| identity.addresses.iter().find(|address| address.is_ipv4() == v4);
    first_of(true).or_else(|| first_of(false)).map(|address| Address::from(*address))
}

/// Writes what an identity tells about its device.
fn tell(connection: &mut Connection, device: i64, identity: &Identity) -> Result<(), StoreError> {
    if !identity.host_name.is_empty() {
        name(connection, device, FROM_LEASE, &identity.host_name, identity.last_seen)?;
    }
    let text = |text: &str| if text.is_empty() { None } else { clean_optional(Some(text)) };
    let facts = Facts {
        // The one of a device without a MAC is what it is known by.
        address: identity.mac.and_then(|_| shown_address(identity)),
        vendor_class: text(&identity.vendor_class),
        interface: text(&identity.interface),
        lease_until_us: identity.lease_until,
    };
    let seen = identity.last_seen;
    on_backend!(&mut *connection, |c| {
        diesel::update(devices::table.find(device).filter(devices::last_seen_us.lt(seen)))
            .set(devices::last_seen_us.eq(seen))
            .execute(c)
    })?;
    if facts.address.is_some()
        || facts.vendor_class.is_some()
        || facts.interface.is_some()
        || facts.lease_until_us.is_some()
    {
        on_backend!(connection, |c| diesel::update(devices::table.find(device)).set(facts).execute(c))?;
    }
    Ok(())
}

/// A device has a name, from a source, as of `now`.
fn name(
    connection: &mut Connection,
    device: i64,
    source: i16,
    text: &str,
    now: Micros,
) -> Result<(), StoreError> {
    let row = (
        device_names::device_id.eq(device),
        device_names::source.eq(source),
        device_names::name.eq(clean(text).into_owned()),
        device_names::first_seen_us.eq(now),
        device_names::last_seen_us.eq(now),
    );
    on_backend!(connection, |c| diesel::insert_into(device_names::table)
        .values(row)
        .on_conflict((device_names::device_id, device_names::source, device_names::name))
        .do_update()
        .set(widen!(device_names))
        .execute(c))?;
    Ok(())
}

/// A person names a device. The newest such name is the one to show.
pub(super) fn name_by_person(
    connection: &mut Connection,
    device: i64,
    text: &str,
    now: Micros,
) -> Result<(), StoreError> {
    name(connection, device, FROM_PERSON, text, now)
}

/// A person says that a device is part of another one. False: it is already, or the other is part of it.
pub(super) fn merge_by_person(
    connection: &mut Connection,
    device: i64,
    into: i64,
    now: Micros,
) -> Result<bool, StoreError> {
    let (router, merged) = place_of(connection, device)?;
    let (other_router, _) = place_of(connection, into)?;
    if merged.is_some() || router != other_router || root_of(connection, into)? == device {
        return Ok(false);
    }
    merge(connection, device, into, BY_PERSON, now)?;
    Ok(true)
}

/// Takes the merging of a device back. False: it was not merged.
pub(super) fn split(connection: &mut Connection, device: i64, now: Micros) -> Result<bool, StoreError> {
    if place_of(connection, device)?.1.is_none() {
        return Ok(false);
    }
    let open = device_merges::table
        .filter(device_merges::device_id.eq(device))
        .filter(device_merges::undone_us.is_null());
    on_backend!(&mut *connection, |c| diesel::update(open)
        .set(device_merges::undone_us.eq(Some(now)))
        .execute(c))?;
    set_place(connection, device, None, None)?;
    // What had been merged into it comes along.
    let mut moved = vec![device];
    while let Some(parent) = moved.pop() {
        let children: Vec<i64> = on_backend!(&mut *connection, |c| devices::table
            .filter(devices::merged_into.eq(Some(parent)))
            .select(devices::id)
            .load(c))?;
        for child in children {
            set_place(connection, child, Some(parent), Some(device))?;
            moved.push(child);
        }
    }
    Ok(true)
}

fn merge(
    connection: &mut Connection,
    device: i64,
    into: i64,
    cause: i16,
    now: Micros,
) -> Result<(), StoreError> {
    let row = (
        device_merges::device_id.eq(device),
        device_merges::into_id.eq(into),
        device_merges::cause.eq(cause),
        device_merges::time_us.eq(now),
    );
    on_backend!(&mut *connection, |c| diesel::insert_into(device_merges::table).values(row).execute(c))?;
    let root = root_of(connection, into)?;
    on_backend!(&mut *connection, |c| diesel::update(
        devices::table.filter(devices::root_id.eq(Some(device)))
    )
    .set(devices::root_id.eq(Some(root)))
    .execute(c))?;
    set_place(connection, device, Some(into), Some(root))
}

fn root_of(connection: &mut Connection, device: i64) -> Result<i64, StoreError> {
    let root: Option<i64> =
        on_backend!(connection, |c| devices::table.find(device).select(devices::root_id).first(c))?;
    Ok(root.unwrap_or(device))
}

/// Behind which router it is, and what it is merged into.
fn place_of(connection: &mut Connection, device: i64) -> Result<(i64, Option<i64>), StoreError> {
    Ok(on_backend!(connection, |c| devices::table
        .find(device)
        .select((devices::router_id, devices::merged_into))
        .first(c))?)
}

fn set_place(
    connection: &mut Connection,
    device: i64,
    merged_into: Option<i64>,
    root: Option<i64>,
) -> Result<(), StoreError> {
    on_backend!(connection, |c| diesel::update(devices::table.find(device))
        .set((devices::merged_into.eq(merged_into), devices::root_id.eq(root)))
        .execute(c))?;
    Ok(())
}
