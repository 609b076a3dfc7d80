//! The console's lists of routers and of what is missing of them.

use netmon_proto::v1;
use tonic::Status;

use super::lists::{List, figure};
use super::values::{self, router, text, time, wrong};
use crate::{
    enrich::Enrichment,
    store::{Count, GapEntry, GapFilter, Page, PageOf, Reader, RouterFilter, RouterRow, StoreError},
};

impl List for v1::ListRoutersRequest {
    type Filter = RouterFilter;
    type Row = RouterRow;
    type Entry = v1::Router;

    const NAME: &'static str = "console routers";

    fn take_page(&mut self) -> Option<v1::PageRequest> {
        self.page.take()
    }

    fn filter(&self, _reader: &Reader) -> Result<RouterFilter, Status> {
        Ok(RouterFilter { text: text("text", &self.text)?, sort: values::router_order(self.order)? })
    }

    fn page(reader: &Reader, filter: &RouterFilter, page: Page) -> Result<PageOf<RouterRow>, StoreError> {
        reader.routers_of(filter, page)
    }

    fn count(reader: &Reader, filter: &RouterFilter, _limit: u32) -> Result<Count, StoreError> {
        reader.count_routers(filter)
    }

    fn entry(row: RouterRow, _known: &Enrichment) -> v1::Router {
        let losses = row.losses.into_iter().map(|loss| v1::Loss {
            cause: loss.cause.into(),
            count: figure(loss.count),
            last_us: loss.last,
        });
        v1::Router {
            router_id: row.name,
            last_heard_us: row.last_heard.unwrap_or_default(),
            agent_version: row.agent_version.unwrap_or_default(),
            host: Some(v1::HostSummary {
                hostname: row.hostname.unwrap_or_default(),
                kernel: row.kernel.unwrap_or_default(),
                os: row.os.unwrap_or_default(),
                architecture: row.architecture.unwrap_or_default(),
            }),
            lag_us: row.lag_us.unwrap_or_default(),
            clock_skew_us: row.clock_skew_us.unwrap_or_default(),
            open_flows: figure(row.open_flows.unwrap_or_default()),
            losses: losses.collect(),
            warnings: row.warnings.unwrap_or_default().lines().map(str::to_owned).collect(),
            first_seen_us: row.first_seen,
            spool_bytes: figure(row.spool_bytes.unwrap_or_default()),
            memory_bytes: figure(row.memory_bytes.unwrap_or_default()),
        }
    }
}

impl List for v1::ListGapsRequest {
    type Filter = GapFilter;
    type Row = GapEntry;
    type Entry = v1::GapEntry;

    const NAME: &'static str = "console gaps";

    fn take_page(&mut self) -> Option<v1::PageRequest> {
        self.page.take()
    }

    fn filter(&self, reader: &Reader) -> Result<GapFilter, Status> {
        Ok(GapFilter {
            router: router(reader, &self.router_id)?,
            cause: cause(self.cause)?,
            from: time(self.from_us),
            to: time(self.to_us),
        })
    }

    fn page(reader: &Reader, filter: &GapFilter, page: Page) -> Result<PageOf<GapEntry>, StoreError> {
        reader.gaps(filter, page)
    }

    fn count(reader: &Reader, filter: &GapFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_gaps(filter, limit)
    }

    fn entry(row: GapEntry, _known: &Enrichment) -> v1::GapEntry {
        v1::GapEntry {
            id: row.id,
            router_id: row.router_name,
            cause: row.gap.cause.into(),
            count: figure(row.gap.count),
            from_us: row.gap.from,
            to_us: row.gap.to,
            detail: row.gap.detail,
        }
    }
}

fn cause(number: i32) -> Result<Option<i16>, Status> {
    match v1::GapCause::try_from(number) {
        Ok(v1::GapCause::Unspecified) => Ok(None),
        // The numbers of the enum are small.
        Ok(cause) => Ok(Some(cause as i16)),
        Err(_) => Err(wrong("cause", number, "a netmon.v1.GapCause")),
    }
}
