//! Devices.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Listing,
    params::{Address, Name, list_params, one_of},
    router_id,
};
use crate::{
    domain::Micros,
    enrich::Enrichment,
    store::{Count, DeviceFilter, DeviceRow, DeviceSort, Page, PageOf, Reader, StoreError},
    web::{WebError, format},
};

list_params! {
    /// Which devices, and in which order.
    DeviceParams {
        /// Behind this router.
        router: Name as String,
        /// With this address.
        address: Address as String,
        /// With this text in its name, its address or its hardware address.
        q: Name as String,
        /// `newest` or `last_seen`.
        sort: Sort as String,
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Sort(DeviceSort);

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, [DeviceSort::Newest, DeviceSort::LastSeen], |sort| match sort {
            DeviceSort::Newest => "newest",
            DeviceSort::LastSeen => "last_seen",
        })
        .map(Self)
    }
}

impl Listing for DeviceParams {
    type Filter = DeviceFilter;
    type Row = DeviceRow;
    type Item = DeviceItem;

    const NAME: &'static str = "devices";
    const COLUMNS: &'static [&'static str] =
        &["id", "router", "address", "name", "mac", "vendor", "first_seen", "last_seen"];

    fn paging(&self) -> (Option<&str>, Option<usize>) {
        self.own_paging()
    }

    fn without_paging(&self) -> Self {
        self.own_without_paging()
    }

    fn filter(&self, reader: &Reader, _now: Micros) -> Result<DeviceFilter, WebError> {
        Ok(DeviceFilter {
            router: router_id(reader, self.router.as_ref())?,
            address: self.address.map(|address| address.0),
            text: self.q.as_ref().map(|text| text.0.to_lowercase()),
            sort: self.sort.map(|sort| sort.0).unwrap_or_default(),
        })
    }

    fn page(reader: &Reader, filter: &DeviceFilter, page: Page) -> Result<PageOf<DeviceRow>, StoreError> {
        reader.devices(filter, page)
    }

    fn count(reader: &Reader, filter: &DeviceFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_devices(filter, limit)
    }

    fn item(row: DeviceRow, known: &Enrichment) -> DeviceItem {
        DeviceItem {
            id: row.id,
            router: row.router_name,
            address: row.address,
            name: row.name,
            mac: row.mac.map(format::mac),
            vendor: row.mac.and_then(|mac| known.vendors.find(mac)),
            first_seen: format::rfc3339(row.first_seen),
            last_seen: format::rfc3339(row.last_seen),
        }
    }
}

/// A device in the LAN of a router.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct DeviceItem {
    id: i64,
    router: String,
    #[schema(value_type = String)]
    address: std::net::IpAddr,
    /// What a person called it, else what it called itself when it asked for its address.
    name: Option<String>,
    /// Its hardware address, if it is known.
    mac: Option<String>,
    /// Who made its network card.
    vendor: Option<String>,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339, up to a minute behind.
    last_seen: String,
}
