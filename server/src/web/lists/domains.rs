//! Names that were asked for.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Listing,
    params::{Name, list_params, one_of},
};
use crate::{
    domain::Micros,
    enrich::Enrichment,
    store::{Count, DomainFilter, DomainRow, HostSort, Page, PageOf, Reader, StoreError},
    web::{WebError, format},
};

list_params! {
    /// Which domains, and in which order.
    DomainParams {
        /// With this text in the name.
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

impl Listing for DomainParams {
    type Filter = DomainFilter;
    type Row = DomainRow;
    type Item = DomainItem;

    const NAME: &'static str = "domains";
    const COLUMNS: &'static [&'static str] = &["id", "name", "first_seen", "last_seen"];

    fn paging(&self) -> (Option<&str>, Option<usize>) {
        self.own_paging()
    }

    fn without_paging(&self) -> Self {
        self.own_without_paging()
    }

    fn filter(&self, _reader: &Reader, _now: Micros) -> Result<DomainFilter, WebError> {
        Ok(DomainFilter {
            text: self.q.as_ref().map(|text| text.0.to_lowercase()),
            sort: self.sort.map(|sort| sort.0).unwrap_or_default(),
        })
    }

    fn page(reader: &Reader, filter: &DomainFilter, page: Page) -> Result<PageOf<DomainRow>, StoreError> {
        reader.domains(filter, page)
    }

    fn count(reader: &Reader, filter: &DomainFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_domains(filter, limit)
    }

    fn item(row: DomainRow, _known: &Enrichment) -> DomainItem {
        DomainItem {
            id: row.id,
            name: row.name,
            first_seen: format::rfc3339(row.first_seen),
            last_seen: format::rfc3339(row.last_seen),
        }
    }
}

/// A name that was asked for.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct DomainItem {
    id: i64,
    name: String,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339.
    last_seen: String,
}
