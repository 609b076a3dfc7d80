//! Gaps.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Listing,
    params::{Moment, Name, list_params},
    router_id,
};
use crate::{
    domain::Micros,
    enrich::Enrichment,
    store::{Count, GapEntry, GapFilter, Page, PageOf, Reader, StoreError},
    web::{WebError, format},
};

list_params! {
    /// Which gaps; the newest come first.
    GapParams {
        /// Of this router.
        router: Name as String,
        /// `kernel_overrun`, `spool_full`, ...: the names of `netmon.v1.GapCause` in lower case.
        cause: Cause as String,
        /// Ended at this time or later: RFC 3339, or so long ago (`90m`, `24h`, `7d`).
        from: Moment as String,
        /// Begun at this time or before: RFC 3339, or so long ago.
        to: Moment as String,
    }
}

/// The number of a cause.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Cause(i16);

impl Cause {
    /// The names of all causes.
    pub(in crate::web) fn names() -> Vec<String> {
        let known = |cause: &i16| netmon_proto::v1::GapCause::try_from(i32::from(*cause)).is_ok();
        (1..).take_while(known).map(format::gap_cause).collect()
    }
}

impl std::str::FromStr for Cause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::names();
        let place = names.iter().position(|name| name == text);
        let number = place.and_then(|place| i16::try_from(place + 1).ok());
        number.map(Self).ok_or_else(|| format!("{text:?} is not one of {}", names.join(", ")))
    }
}

impl Listing for GapParams {
    type Filter = GapFilter;
    type Row = GapEntry;
    type Item = GapItem;

    const NAME: &'static str = "gaps";
    const COLUMNS: &'static [&'static str] = &["id", "router", "cause", "count", "from", "to", "detail"];

    fn paging(&self) -> (Option<&str>, Option<usize>) {
        self.own_paging()
    }

    fn without_paging(&self) -> Self {
        self.own_without_paging()
    }

    fn filter(&self, reader: &Reader, now: Micros) -> Result<GapFilter, WebError> {
        Ok(GapFilter {
            router: router_id(reader, self.router.as_ref())?,
            cause: self.cause.map(|cause| cause.0),
            from: self.from.map(|from| from.at(now)),
            to: self.to.map(|to| to.at(now)),
        })
    }

    fn page(reader: &Reader, filter: &GapFilter, page: Page) -> Result<PageOf<GapEntry>, StoreError> {
        reader.gaps(filter, page)
    }

    fn count(reader: &Reader, filter: &GapFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_gaps(filter, limit)
    }

    fn item(row: GapEntry, _known: &Enrichment) -> GapItem {
        GapItem {
            id: row.id,
            router: row.router_name,
            cause: format::gap_cause(row.gap.cause),
            count: row.gap.count,
            from: format::rfc3339(row.gap.from),
            to: format::rfc3339(row.gap.to),
            detail: row.gap.detail,
        }
    }
}

/// What is missing, and why.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct GapItem {
    id: i64,
    router: String,
    cause: String,
    /// The unit is the cause's.
    count: i64,
    /// RFC 3339.
    from: String,
    /// RFC 3339.
    to: String,
    detail: String,
}
