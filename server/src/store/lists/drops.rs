//! Packets that firewalls dropped.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use diesel::prelude::*;

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::devices;
use super::super::rows::{Count, DropRow, Page, PageOf};
use super::super::schema::{firewall_drops, labels, routers};
use super::wanted::host_id;
use super::{Position, keyed, scan};
use crate::domain::{Hook, Micros, RouterId};

/// Which drops; the newest come first. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropFilter {
    /// By this router.
    pub router: Option<RouterId>,
    /// From or to this device, by its address.
    pub device: Option<IpAddr>,
    /// From or to this remote host, by its address.
    pub host: Option<IpAddr>,
    /// At this hook.
    pub hook: Option<Hook>,
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
        self.router.is_none_or(|router| router == row.router)
            && (self.device.is_none() || self.host.is_none_or(is_end))
            && self.hook.is_none_or(|hook| hook == row.hook)
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
        Ok(vec![Key::All])
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
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<Stored>, StoreError> {
    let below = before.map_or(i64::MAX, |position| position.id);
    Ok(on_backend!(connection, |c| {
        let query = firewall_drops::table
            .left_join(routers::table.on(firewall_drops::router_id.eq(routers::id)))
            .filter(firewall_drops::id.lt(below))
            .order(firewall_drops::id.desc())
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
        match key {
            Key::All => query,
            Key::Device(id) => query.filter(firewall_drops::device_id.eq(id)),
            Key::Host(id) => query.filter(firewall_drops::host_id.eq(id)),
        }
        .load(c)
    })?)
}

fn rows(
    connection: &mut Connection,
    key: Key,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<DropRow>, StoreError> {
    let stored = stored(connection, key, before, limit)?;
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

pub(in crate::store) fn page(
    connection: &mut Connection,
    filter: &DropFilter,
    page: Page,
) -> Result<PageOf<DropRow>, StoreError> {
    connection.snapshot(|connection| {
        let keys = filter.keys(connection)?;
        let matches: &dyn Fn(&DropRow) -> bool = &|row| filter.matches(row);
        let matches = (*filter != DropFilter::default()).then_some(matches);
        scan::page(
            page,
            matches,
            |row| Position::after_id(row.id),
            |before, limit| {
                keyed::merged(
                    &keys,
                    limit,
                    |row: &DropRow| row.id,
                    |key| rows(connection, key, before, limit),
                )
            },
        )
    })
}

pub(in crate::store) fn count(
    connection: &mut Connection,
    filter: &DropFilter,
    limit: u32,
) -> Result<Count, StoreError> {
    connection.snapshot(|connection| {
        let keys = filter.keys(connection)?;
        let matches: &dyn Fn(&DropRow) -> bool = &|row| filter.matches(row);
        let matches = (*filter != DropFilter::default()).then_some(matches);
        scan::count(
            limit,
            matches,
            |row| Position::after_id(row.id),
            |before, limit| {
                keyed::merged(
                    &keys,
                    limit,
                    |row: &DropRow| row.id,
                    |key| rows(connection, key, before, limit),
                )
            },
        )
    })
}
