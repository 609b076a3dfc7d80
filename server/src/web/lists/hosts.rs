//! Remote hosts.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Listing,
    params::{Address, Name, list_params, one_of},
};
use crate::{
    domain::Micros,
    enrich::Enrichment,
    store::{Count, HostFilter, HostRow, HostSort, Page, PageOf, Reader, StoreError},
    web::{WebError, format},
};

list_params! {
    /// Which remote hosts, and in which order.
    HostParams {
        /// With this address.
        address: Address as String,
        /// With this text in its address, its name or that of its network (`AS64500 Example`), or of this country.
        q: Name as String,
        /// `newest` or `last_seen`.
        sort: Sort as String,
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Sort(HostSort);

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, [HostSort::Newest, HostSort::LastSeen], |sort| match sort {
            HostSort::Newest => "newest",
            HostSort::LastSeen => "last_seen",
        })
        .map(Self)
    }
}

impl Listing for HostParams {
    type Filter = HostFilter;
    type Row = HostRow;
    type Item = HostItem;

    const NAME: &'static str = "hosts";
    const COLUMNS: &'static [&'static str] =
        &["id", "address", "name", "asn", "organisation", "country", "first_seen", "last_seen"];

    fn paging(&self) -> (Option<&str>, Option<usize>) {
        self.own_paging()
    }

    fn without_paging(&self) -> Self {
        self.own_without_paging()
    }

    fn filter(&self, _reader: &Reader, _now: Micros) -> Result<HostFilter, WebError> {
        Ok(HostFilter {
            address: self.address.map(|address| address.0),
            text: self.q.as_ref().map(|text| text.0.to_lowercase()),
            sort: self.sort.map(|sort| sort.0).unwrap_or_default(),
            elsewhere: None,
        })
    }

    fn with_known(filter: HostFilter, known: &Arc<Enrichment>) -> HostFilter {
        HostFilter { elsewhere: Some(known.of_hosts()), ..filter }
    }

    fn page(reader: &Reader, filter: &HostFilter, page: Page) -> Result<PageOf<HostRow>, StoreError> {
        reader.hosts(filter, page)
    }

    fn count(reader: &Reader, filter: &HostFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_hosts(filter, limit)
    }

    fn item(row: HostRow, known: &Enrichment) -> HostItem {
        let network = known.networks.find(row.address);
        HostItem {
            id: row.id,
            address: row.address,
            name: row.name,
            asn: network.asn,
            organisation: network.organisation,
            country: network.country,
            first_seen: format::rfc3339(row.first_seen),
            last_seen: format::rfc3339(row.last_seen),
        }
    }
}

/// An address outside.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct HostItem {
    id: i64,
    #[schema(value_type = String)]
    address: std::net::IpAddr,
    /// By reverse DNS; null: none, or not asked for yet.
    name: Option<String>,
    /// Number of the autonomous system; null: not known, as are the next two.
    asn: Option<u32>,
    /// Who runs it.
    organisation: Option<String>,
    /// ISO 3166-1 alpha-2.
    country: Option<String>,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339, up to a minute behind.
    last_seen: String,
}
