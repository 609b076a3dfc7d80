//! The lists that pages, the API and the console show: one filter a list, and how a page of it is read.
//!
//! Every list is read along an index, and no further than a window of rows. What a filter asks for beyond that
//! index is looked for inside the window; a page that the window ends says where to go on. So no request reads
//! a large table whole, whatever it asks for.

mod devices;
mod dns;
mod domains;
mod drops;
mod flow_filter;
mod flow_pages;
mod gaps;
mod hosts;
mod keyed;
mod position;
mod routers;
mod scan;
mod wanted;

pub use devices::{DeviceFilter, DeviceSort};
pub use dns::{DnsFilter, DnsSort};
pub use domains::DomainFilter;
pub use drops::{DropFilter, DropSort};
pub use flow_filter::{FlowFilter, FlowSort, FlowText};
pub use gaps::GapFilter;
pub use hosts::{Elsewhere, HostFilter, HostSort};
pub use position::Position;
pub use routers::{RouterFilter, RouterSort};

pub(super) use devices::{
    by_id as devices_by_id, count as count_devices, detail as device_detail, page as page_of_devices,
};
pub(super) use dns::{count as count_dns, page as page_of_dns};
pub(super) use domains::{count as count_domains, page as page_of_domains};
pub(super) use drops::{count as count_drops, page as page_of_drops};
pub(super) use flow_pages::{count as count_flows, page as page_of_flows};
pub(super) use gaps::{count as count_gaps, page as page_of_gaps};
pub(super) use hosts::{count as count_hosts, page as page_of_hosts};
pub(super) use routers::{count as count_routers, page as page_of_routers};

use std::net::IpAddr;

use super::rows::{Count, Page, PageOf};

/// How many rows of an index one page may look at. They take some 20 ms, and a page of flows that is not full
/// after so many tells its reader more by being there than by being complete.
pub(super) const WINDOW: i64 = 20_000;

/// One row more than the page holds tells whether there is a next one.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// Cuts what was read, one row more than the page holds, to the page.
fn cut<T>(mut items: Vec<T>, limit: usize, position: impl Fn(&T) -> Position) -> PageOf<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(position) } else { None };
    PageOf { items, next }
}

/// What an address is sorted by: those of IPv4 as they are mapped into IPv6, before those that are global.
fn address_key(address: IpAddr) -> i128 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    // The first bit would be a sign.
    (address.to_bits() ^ (1 << 127)).cast_signed()
}

/// The largest id that a page may show, plus one.
fn below(page: Page) -> i64 {
    page.before.map_or(i64::MAX, |position| position.id)
}

/// A count of rows that were read up to one more than the limit.
fn counted(rows: usize, limit: u32) -> Count {
    let (rows, limit) = (rows as u64, u64::from(limit));
    Count { total: rows.min(limit), capped: rows > limit }
}
