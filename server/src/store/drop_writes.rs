//! Writing what firewalls dropped.

use std::net::IpAddr;

use diesel::prelude::*;

use super::address::Address;
use super::connection::{Connection, on_backend};
use super::intern::{CHUNK, Interned};
use super::schema::firewall_drops;
use super::{StoreError, ids};
use crate::domain::{FirewallDrop, Observed};

#[derive(Insertable)]
#[diesel(table_name = firewall_drops, treat_none_as_default_value = false)]
struct NewDrop {
    id: i64,
    router_id: i64,
    device_id: Option<i64>,
    host_id: Option<i64>,
    time_us: i64,
    hook: i16,
    prefix_id: i64,
    nflog_group: i32,
    in_interface_id: Option<i64>,
    out_interface_id: Option<i64>,
    src_ip: Address,
    dst_ip: Address,
    src_port: i32,
    dst_port: i32,
    protocol: i16,
    tcp_flags: Option<i16>,
    icmp_type: Option<i16>,
    icmp_code: Option<i16>,
    src_mac: Option<Vec<u8>>,
    length: i64,
    left_out: i64,
}

/// Adds drops. Their ids are taken in the same transaction, so that none is lost or given twice.
pub(super) fn insert(
    connection: &mut Connection,
    interned: &Interned,
    drops: &[Observed<FirewallDrop>],
) -> Result<(), StoreError> {
    if drops.is_empty() {
        return Ok(());
    }
    let first = ids::take(connection, ids::FIREWALL_DROP, drops.len())?;
    let rows: Vec<NewDrop> = (first..).zip(drops).filter_map(|(id, drop)| row(interned, id, drop)).collect();
    for rows in rows.chunks(CHUNK) {
        on_backend!(&mut *connection, |c| diesel::insert_into(firewall_drops::table)
            .values(rows)
            .execute(c))?;
    }
    Ok(())
}

fn row(
    interned: &Interned,
    id: i64,
    Observed { router, time, what }: &Observed<FirewallDrop>,
) -> Option<NewDrop> {
    let device = |address| interned.device(*router, address);
    let host = |address: IpAddr| if device(address).is_none() { interned.host(address) } else { None };
    let (src, dst) = what.outside_ends();
    let interface = |name: &str| if name.is_empty() { None } else { interned.label(name) };
    Some(NewDrop {
        id,
        router_id: router.0,
        device_id: device(what.src).or_else(|| device(what.dst)),
        host_id: src.and_then(host).or_else(|| dst.and_then(host)),
        time_us: *time,
        hook: what.hook as i16,
        // Every label was made known before.
        prefix_id: interned.label(&what.prefix)?,
        nflog_group: i32::from(what.nflog_group),
        in_interface_id: interface(&what.in_interface),
        out_interface_id: interface(&what.out_interface),
        src_ip: what.src.into(),
        dst_ip: what.dst.into(),
        src_port: i32::from(what.src_port),
        dst_port: i32::from(what.dst_port),
        protocol: i16::from(what.protocol),
        tcp_flags: what.tcp_flags.map(i16::from),
        icmp_type: what.icmp.map(|(kind, _)| i16::from(kind)),
        icmp_code: what.icmp.map(|(_, code)| i16::from(code)),
        src_mac: what.src_mac.map(|mac| mac.to_vec()),
        length: i64::from(what.length),
        left_out: what.left_out,
    })
}
