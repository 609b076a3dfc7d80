//! Packets that firewalls dropped.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use diesel::prelude::*;

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::devices;
use super::super::rows::{Count, DropRow, Page, PageOf};
use super::super::schema::{firewall_drops, labels, routers};
use super::keyed::{self, Way};
use super::wanted::host_id;
use super::{Position, address_key, scan};
use crate::domain::{Hook, Micros, RouterId};

/// Which drops, and in which order. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropFilter {
    /// By this router.
    pub router: Option<RouterId>,
    /// From or to this device, by its address.
    pub device: Option<IpAddr>,
    /// From or to this remote host, by its address.
    pub host: Option<IpAddr>,
    /// From this address.
    pub source: Option<IpAddr>,
    /// At this hook.
    pub hook: Option<Hook>,
    /// By way of the interface of this name, in or out.
    pub interface: Option<String>,
    /// Of this IANA protocol number.
    pub protocol: Option<u8>,
    /// To this port.
    pub port: Option<u16>,
    /// With this text in the rule's prefix, in any case.
    pub text: Option<String>,
    /// At this time or later.
    pub from: Option<Micros>,
    /// At this time or before.
    pub to: Option<Micros>,
    /// What comes first.
    pub sort: DropSort,
}

/// What comes first. All but the newest and the oldest are found among the newest rows alone, some twenty thousand; so
/// are the oldest since a time, for no index says where that began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropSort {
    /// What came last.
    #[default]
    Newest,
    /// What came first.
    Oldest,
    /// The senders, by the address.
    Source,
    /// The ports that they were for, the smallest first.
    Port,
    /// Those before which most like them were left out.
    LeftOut,
}

#[derive(Clone, Copy)]
enum Key {
    All,
    Device(i64),
    Host(i64),
}

impl DropFilter {
    fn matches(&self, row: &DropRow) -> bool {
        let is_end = |address| row.src == address || row.dst == address;
        let is_way = |name: &String| row.in_interface == *name || row.out_interface == *name;
        self.router.is_none_or(|router| router == row.router)
            && (self.device.is_none() || self.host.is_none_or(is_end))
            && self.source.is_none_or(|source| source == row.src)
            && self.hook.is_none_or(|hook| hook == row.hook)
            && self.interface.as_ref().is_none_or(is_way)
            && self.protocol.is_none_or(|protocol| i16::from(protocol) == row.protocol)
            && self.port.is_none_or(|port| i32::from(port) == row.dst_port)
            && self.text.as_ref().is_none_or(|text| row.prefix.to_lowercase().contains(text.as_str()))
            && self.from.is_none_or(|from| row.time >= from)
            && self.to.is_none_or(|to| row.time <= to)
    }

    /// Along which index; empty: nothing can match.
    fn keys(&self, connection: &mut Connection) -> Result<Vec<Key>, StoreError> {
        if let Some(address) = self.device {
            let devices = devices::with_address(connection, address.into())?;
            return Ok(devices.into_iter().map(Key::Device).collect());
        }
        if let Some(address) = self.host {
            return Ok(host_id(connection, address)?.map(Key::Host).into_iter().collect());
        }
        if let Some(address) = self.source {
            // It may have been a host before it was a device; what is neither, like 0.0.0.0, has no key.
            let devices = devices::with_address(connection, address.into())?;
            let devices = devices.into_iter().map(Key::Device);
            let keys: Vec<Key> = devices.chain(host_id(connection, address)?.map(Key::Host)).collect();
            return Ok(if keys.is_empty() { vec![Key::All] } else { keys });
        }
        Ok(vec![Key::All])
    }

    fn needs_scan(&self) -> bool {
        Self { sort: DropSort::Newest, ..self.clone() } != Self::default()
    }

    fn is_sorted(&self) -> bool {
        match self.sort {
            DropSort::Newest => false,
            DropSort::Oldest => self.from.is_some(),
            DropSort::Source | DropSort::Port | DropSort::LeftOut => true,
        }
    }

    fn way(&self) -> Way {
        if self.sort == DropSort::Oldest { Way::Up } else { Way::Down }
    }

    /// What the rows of a window are sorted by; the newest of equal ones come first.
    fn key(&self, row: &DropRow) -> i128 {
        match self.sort {
            DropSort::Newest | DropSort::Oldest => row.id.into(),
            DropSort::Source => address_key(row.src),
            DropSort::Port => row.dst_port.into(),
            DropSort::LeftOut => -i128::from(row.left_out),
        }
    }
}

#[derive(Queryable)]
struct Stored {
    id: i64,
    router: i64,
    router_name: Option<String>,
    time: i64,
    hook: i16,
    prefix: i64,
    nflog_group: i32,
    interfaces: (Option<i64>, Option<i64>),
    ends: (Address, Address),
    ports: (i32, i32),
    protocol: i16,
    tcp_flags: Option<i16>,
    icmp: (Option<i16>, Option<i16>),
    src_mac: Option<Vec<u8>>,
    length: i64,
    left_out: i64,
}

fn stored(
    connection: &mut Connection,
    key: Key,
    way: Way,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<Stored>, StoreError> {
    let start = way.start(before);
    Ok(on_backend!(connection, |c| {
        let query = firewall_drops::table
            .left_join(routers::table.on(firewall_drops::router_id.eq(routers::id)))
            .limit(limit)
            .select((
                firewall_drops::id,
                firewall_drops::router_id,
                routers::name.nullable(),
                firewall_drops::time_us,
                firewall_drops::hook,
                firewall_drops::prefix_id,
                firewall_drops::nflog_group,
                (firewall_drops::in_interface_id, firewall_drops::out_interface_id),
                (firewall_drops::src_ip, firewall_drops::dst_ip),
                (firewall_drops::src_port, firewall_drops::dst_port),
                firewall_drops::protocol,
                firewall_drops::tcp_flags,
                (firewall_drops::icmp_type, firewall_drops::icmp_code),
                firewall_drops::src_mac,
                firewall_drops::length,
                firewall_drops::left_out,
            ))
            .into_boxed();
        let query = match way {
            Way::Down => query.filter(firewall_drops::id.lt(start)).order(firewall_drops::id.desc()),
            Way::Up => query.filter(firewall_drops::id.gt(start)).order(firewall_drops::id.asc()),
        };
        match key {
            Key::All => query,
            Key::Device(id) => query.filter(firewall_drops::device_id.eq(id)),
            Key::Host(id) => query.filter(firewall_drops::host_id.eq(id)),
        }
        .load(c)
    })?)
}

fn rows_of(
    connection: &mut Connection,
    key: Key,
    way: Way,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<DropRow>, StoreError> {
    let stored = stored(connection, key, way, before, limit)?;
    let wanted: BTreeSet<i64> = stored
        .iter()
        .flat_map(|row| [Some(row.prefix), row.interfaces.0, row.interfaces.1])
        .flatten()
        .collect();
    let texts: Vec<(i64, String)> =
        on_backend!(connection, |c| labels::table.filter(labels::id.eq_any(wanted)).load(c))?;
    let texts: HashMap<i64, String> = texts.into_iter().collect();
    let text = |id: Option<i64>| id.and_then(|id| texts.get(&id)).cloned().unwrap_or_default();
    Ok(stored
        .into_iter()
        .map(|row| DropRow {
            id: row.id,
            router: RouterId(row.router),
            router_name: row.router_name.unwrap_or_default(),
            time: row.time,
            hook: Hook::numbered(row.hook),
            prefix: text(Some(row.prefix)),
            nflog_group: row.nflog_group,
            in_interface: text(row.interfaces.0),
            out_interface: text(row.interfaces.1),
            src: row.ends.0.into(),
            dst: row.ends.1.into(),
            src_port: row.ports.0,
            dst_port: row.ports.1,
            protocol: row.protocol,
            tcp_flags: row.tcp_flags,
            icmp_type: row.icmp.0,
            icmp_code: row.icmp.1,
            src_mac: row.src_mac,
            length: row.length,
            left_out: row.left_out,
        })
        .collect())
}

fn rows(
    connection: &mut Connection,
    keys: &[Key],
    way: Way,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<DropRow>, StoreError> {
    let id = |row: &DropRow| row.id;
    keyed::merged(keys, way, limit, id, |key| rows_of(connection, key, way, before, limit))
}

pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &DropFilter,
    page: Page,
) -> Result<PageOf<DropRow>, StoreError> {
    connection.snapshot(|connection| {
        let keys = filter.keys(connection)?;
        if filter.is_sorted() {
            return scan::sorted(
                page,
                |row| filter.matches(row),
                |row| (filter.key(row), Reverse(row.id)),
                page.before.map(|position| (position.key, Reverse(position.id))),
                |row| Position::new(filter.key(row), row.id),
                |before, limit| rows(connection, &keys, Way::Down, before, limit),
            );
        }
        let matches: &dyn Fn(&DropRow) -> bool = &|row| filter.matches(row);
        scan::page(
            page,
            filter.needs_scan().then_some(matches),
            |row| Position::after_id(row.id),
            |before, limit| rows(connection, &keys, filter.way(), before, limit),
        )
    })
}

/// The order does not change how many there are.
pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &DropFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    connection.snapshot(|connection| {
        let keys = filter.keys(connection)?;
        let matches: &dyn Fn(&DropRow) -> bool = &|row| filter.matches(row);
        scan::count(
            limit,
            filter.needs_scan().then_some(matches),
            |row| Position::after_id(row.id),
            |before, limit| rows(connection, &keys, Way::Down, before, limit),
        )
    })
}
