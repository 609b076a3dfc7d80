//! Routers.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Listing,
    params::{Name, list_params, one_of},
};
use crate::{
    domain::Micros,
    enrich::Enrichment,
    store::{Count, Page, PageOf, Reader, RouterFilter, RouterRow, RouterSort, StoreError},
    web::{WebError, format},
};

list_params! {
    /// Which routers, and in which order.
    RouterParams {
        /// With this text in its name.
        q: Name as String,
        /// `name`, `last_heard` (the latest first) or `lag` (the largest first).
        sort: Sort as String,
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Sort(RouterSort);

impl Sort {
    /// Names of all orders, and what they are called on the page.
    pub(in crate::web) const ALL: [(&'static str, &'static str); 3] =
        [("name", "Name"), ("last_heard", "Last heard"), ("lag", "Lag")];
}

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, [RouterSort::Name, RouterSort::LastHeard, RouterSort::Lag], |sort| match sort {
            RouterSort::Name => "name",
            RouterSort::LastHeard => "last_heard",
            RouterSort::Lag => "lag",
        })
        .map(Self)
    }
}

impl Listing for RouterParams {
    type Filter = RouterFilter;
    type Row = RouterRow;
    type Item = RouterItem;

    const NAME: &'static str = "routers";
    const COLUMNS: &'static [&'static str] = &[
        "router",
        "first_seen",
        "last_heard",
        "lag_us",
        "clock_skew_us",
        "agent_version",
        "hostname",
        "kernel",
        "os",
        "architecture",
        "open_flows",
        "spool_bytes",
        "memory_bytes",
        "warnings",
    ];

    fn paging(&self) -> (Option<&str>, Option<usize>) {
        self.own_paging()
    }

    fn without_paging(&self) -> Self {
        self.own_without_paging()
    }

    fn filter(&self, _reader: &Reader, _now: Micros) -> Result<RouterFilter, WebError> {
        Ok(RouterFilter {
            text: self.q.as_ref().map(|text| text.0.to_lowercase()),
            sort: self.sort.map(|sort| sort.0).unwrap_or_default(),
        })
    }

    fn page(reader: &Reader, filter: &RouterFilter, page: Page) -> Result<PageOf<RouterRow>, StoreError> {
        reader.routers_of(filter, page)
    }

    fn count(reader: &Reader, filter: &RouterFilter, _limit: u32) -> Result<Count, StoreError> {
        reader.count_routers(filter)
    }

    fn item(row: RouterRow, _known: &Enrichment) -> RouterItem {
        row.into()
    }
}

/// A router, with what it is and what it lost.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct RouterItem {
    router: String,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339; null: nothing of it was ever committed.
    last_heard: Option<String>,
    /// Between the newest observation and its commit.
    lag_us: Option<i64>,
    /// The router's clock minus the server's.
    clock_skew_us: Option<i64>,
    agent_version: Option<String>,
    hostname: Option<String>,
    kernel: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    open_flows: Option<i64>,
    /// Bytes that wait in its spool.
    spool_bytes: Option<i64>,
    /// Resident memory of its agent.
    memory_bytes: Option<i64>,
    /// What is wrong with its host.
    warnings: Vec<String>,
    /// What is missing, by cause.
    losses: Vec<LossItem>,
}

/// The sum of a router's gaps of one cause.
#[derive(Serialize, ToSchema)]
struct LossItem {
    cause: String,
    count: i64,
    /// RFC 3339.
    last: String,
}

impl From<RouterRow> for RouterItem {
    fn from(row: RouterRow) -> Self {
        Self {
            router: row.name,
            first_seen: format::rfc3339(row.first_seen),
            last_heard: row.last_heard.map(format::rfc3339),
            lag_us: row.lag_us,
            clock_skew_us: row.clock_skew_us,
            agent_version: row.agent_version,
            hostname: row.hostname,
            kernel: row.kernel,
            os: row.os,
            architecture: row.architecture,
            open_flows: row.open_flows,
            spool_bytes: row.spool_bytes,
            memory_bytes: row.memory_bytes,
            warnings: row.warnings.unwrap_or_default().lines().map(str::to_owned).collect(),
            losses: row
                .losses
                .into_iter()
                .map(|loss| LossItem {
                    cause: format::gap_cause(loss.cause),
                    count: loss.count,
                    last: format::rfc3339(loss.last),
                })
                .collect(),
        }
    }
}
