//! The connections that read.

use std::collections::HashMap;
use std::net::IpAddr;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt};

use super::connection::{Connection, ReadConnections, on_backend};
use super::lists::{
    self, DeviceFilter, DnsFilter, DomainFilter, DropFilter, FlowFilter, GapFilter, HostFilter, RouterFilter,
};
use super::rows::{
    Count, DeviceDetail, DeviceRow, DnsRow, DomainRow, DropRow, FlowFigures, FlowRow, GapEntry, HostRow,
    LossRow, MinuteRow, Page, PageOf, RouterRow, Totals,
};
use super::schema::{flows, open_flows, routers};
use super::top::{TopFilter, TopList};
use super::{DatabaseUrl, StoreError, device_minutes, devices, router, settings, top, totals};
use crate::domain::{Micros, RouterId};

/// So many gaps are added up for the routers' losses. A router that loses something all the time tells of it once in
/// some seconds.
const MOST_GAPS: u32 = 20_000;

/// Reads, several at a time, without waiting for the writer. All methods block.
#[derive(Clone)]
pub struct Reader {
    url: DatabaseUrl,
    pool: r2d2::Pool<ReadConnections>,
}

#[derive(Queryable)]
struct StoredRouter {
    id: i64,
    name: String,
    first_seen_us: i64,
    last_heard_us: Option<i64>,
    lag_us: Option<i64>,
    clock_skew_us: Option<i64>,
    agent_version: Option<String>,
    hostname: Option<String>,
    kernel: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    open_flows: Option<i64>,
    spool_bytes: Option<i64>,
    memory_bytes: Option<i64>,
    warnings: Option<String>,
}

impl StoredRouter {
    fn with_losses(self, losses: Vec<LossRow>) -> RouterRow {
        RouterRow {
            id: RouterId(self.id),
            name: self.name,
            first_seen: self.first_seen_us,
            last_heard: self.last_heard_us,
            lag_us: self.lag_us,
            clock_skew_us: self.clock_skew_us,
            agent_version: self.agent_version,
            hostname: self.hostname,
            kernel: self.kernel,
            os: self.os,
            architecture: self.architecture,
            open_flows: self.open_flows,
            spool_bytes: self.spool_bytes,
            memory_bytes: self.memory_bytes,
            warnings: self.warnings,
            losses,
        }
    }
}

impl Reader {
    pub(super) fn new(url: DatabaseUrl, pool: r2d2::Pool<ReadConnections>) -> Self {
        Self { url, pool }
    }

    pub(super) fn with<T>(
        &self,
        body: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.pool.get().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        body(&mut connection)
    }

    /// Every router, by name, with its losses by cause: those of the latest 20,000 gaps.
    pub fn routers(&self) -> Result<Vec<RouterRow>, StoreError> {
        self.with(|connection| {
            connection.snapshot(|connection| {
                let stored: Vec<StoredRouter> =
                    on_backend!(&mut *connection, |c| routers::table.order(routers::name).load(c))?;
                let mut losses = losses(connection)?;
                Ok(stored
                    .into_iter()
                    .map(|router| {
                        let losses = losses.remove(&router.id).unwrap_or_default();
                        router.with_losses(losses)
                    })
                    .collect())
            })
        })
    }

    /// A page of the routers.
    pub fn routers_of(&self, filter: &RouterFilter, page: Page) -> Result<PageOf<RouterRow>, StoreError> {
        Ok(lists::page_of_routers(self.routers()?, filter, page))
    }

    /// How many routers match.
    pub fn count_routers(&self, filter: &RouterFilter) -> Result<Count, StoreError> {
        Ok(lists::count_routers(&self.routers()?, filter))
    }

    /// The id of a router by its name; `None`: it has never reported.
    pub fn router_id(&self, name: &str) -> Result<Option<RouterId>, StoreError> {
        self.with(|connection| {
            let id: Option<i64> = on_backend!(connection, |c| routers::table
                .filter(routers::name.eq(name))
                .select(routers::id)
                .first(c)
                .optional())?;
            Ok(id.map(RouterId))
        })
    }

    /// The names of all routers, in their order.
    pub fn router_names(&self) -> Result<Vec<String>, StoreError> {
        self.with(|connection| {
            Ok(on_backend!(connection, |c| routers::table
                .order(routers::name)
                .select(routers::name)
                .load(c))?)
        })
    }

    /// A page of the devices.
    pub fn devices(&self, filter: &DeviceFilter, page: Page) -> Result<PageOf<DeviceRow>, StoreError> {
        self.with(|connection| lists::page_of_devices(connection, filter, page))
    }

    /// All that is known of a device; `None`: there is none with this id.
    pub fn device(&self, id: i64) -> Result<Option<DeviceDetail>, StoreError> {
        self.with(|connection| lists::device_detail(connection, id))
    }

    /// The device behind this router that holds an address, by its id; of a part the whole.
    pub fn device_at(&self, router: RouterId, address: IpAddr) -> Result<Option<i64>, StoreError> {
        self.with(|connection| devices::holder(connection, router, address.into()))
    }

    /// How many devices match, counted up to `limit` or a little less far.
    pub fn count_devices(&self, filter: &DeviceFilter, limit: u32) -> Result<Count, StoreError> {
        self.with(|connection| lists::count_devices(connection, filter, limit))
    }

    /// A page of the remote hosts.
    pub fn hosts(&self, filter: &HostFilter, page: Page) -> Result<PageOf<HostRow>, StoreError> {
        self.with(|connection| lists::page_of_hosts(connection, filter, page))
    }

    /// How many remote hosts match, counted up to `limit` or a little less far.
    pub fn count_hosts(&self, filter: &HostFilter, limit: u32) -> Result<Count, StoreError> {
        self.with(|connection| lists::count_hosts(connection, filter, limit))
    }

    /// A page of the flows, open and ended together.
    pub fn flows(&self, filter: &FlowFilter, page: Page) -> Result<PageOf<FlowRow>, StoreError> {
        self.with(|connection| lists::page_of_flows(connection, filter, page))
    }

    /// How many flows match, counted up to `limit` or a little less far.
    pub fn count_flows(&self, filter: &FlowFilter, limit: u32) -> Result<Count, StoreError> {
        self.with(|connection| lists::count_flows(connection, filter, limit))
    }

    /// A page of the answers to questions for names.
    pub fn dns(&self, filter: &DnsFilter, page: Page) -> Result<PageOf<DnsRow>, StoreError> {
        self.with(|connection| lists::page_of_dns(connection, filter, page))
    }

    /// How many answers to questions for names match, counted up to `limit` or a little less far.
    pub fn count_dns(&self, filter: &DnsFilter, limit: u32) -> Result<Count, StoreError> {
        self.with(|connection| lists::count_dns(connection, filter, limit))
    }

    /// A page of the drops.
    pub fn drops(&self, filter: &DropFilter, page: Page) -> Result<PageOf<DropRow>, StoreError> {
        self.with(|connection| lists::page_of_drops(connection, filter, page))
    }

    /// How many drops match, counted up to `limit` or a little less far.
    pub fn count_drops(&self, filter: &DropFilter, limit: u32) -> Result<Count, StoreError> {
        self.with(|connection| lists::count_drops(connection, filter, limit))
    }

    /// A page of the domains.
    pub fn domains(&self, filter: &DomainFilter, page: Page) -> Result<PageOf<DomainRow>, StoreError> {
        self.with(|connection| lists::page_of_domains(connection, filter, page))
    }

    /// How many domains match, counted up to `limit` or a little less far.
    pub fn count_domains(&self, filter: &DomainFilter, limit: u32) -> Result<Count, StoreError> {
        self.with(|connection| lists::count_domains(connection, filter, limit))
    }

    /// A page of the gaps.
    pub fn gaps(&self, filter: &GapFilter, page: Page) -> Result<PageOf<GapEntry>, StoreError> {
        self.with(|connection| lists::page_of_gaps(connection, filter, page))
    }

    /// How many gaps match, counted up to `limit` or a little less far.
    pub fn count_gaps(&self, filter: &GapFilter, limit: u32) -> Result<Count, StoreError> {
        self.with(|connection| lists::count_gaps(connection, filter, limit))
    }

    /// The last committed sequence of an epoch; `None`: nothing of it is committed.
    pub fn cursor(&self, router: RouterId, epoch: u64) -> Result<Option<u64>, StoreError> {
        self.with(|connection| router::cursor(connection, router, epoch))
    }

    /// The sums over flows and rollups, for anyone to compare. Reads every flow.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        self.with(totals::totals)
    }

    /// Who moved most in a span. Reads rollups alone.
    pub fn top(&self, filter: &TopFilter) -> Result<TopList, StoreError> {
        self.with(|connection| top::top(connection, filter))
    }

    /// What a device, by its id, and its parts moved in each minute of a span, the last 25 hours of it at most.
    pub fn device_minutes(
        &self,
        device: i64,
        from: Micros,
        to: Micros,
    ) -> Result<Vec<MinuteRow>, StoreError> {
        self.with(|connection| device_minutes::device_minutes(connection, device, from, to))
    }

    /// How many flows there are, from the sums of the days: no flow is read.
    pub fn flow_figures(&self) -> Result<FlowFigures, StoreError> {
        self.with(|connection| {
            connection.snapshot(|connection| {
                let open: i64 = on_backend!(&mut *connection, |c| open_flows::table.count().get_result(c))?;
                let (counted, removed) = totals::flows_counted(connection)?;
                Ok(FlowFigures { counted, open, kept: counted - removed - open })
            })
        })
    }

    /// When the first of the flows that are kept ended; `None`: none is kept.
    pub fn oldest_flow(&self) -> Result<Option<Micros>, StoreError> {
        self.with(|connection| {
            Ok(on_backend!(connection, |c| flows::table
                .order(flows::id)
                .select(flows::first_seen_us + flows::lasted_us)
                .first(c)
                .optional())?)
        })
    }

    /// A fact that the server keeps about itself.
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.with(|connection| settings::get(connection, key))
    }

    /// What the database takes on disk, its log included.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        match &self.url {
            DatabaseUrl::Sqlite(path) => {
                let log = {
                    let mut name = path.clone().into_os_string();
                    name.push("-wal");
                    name
                };
                let file =
                    std::fs::metadata(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
                // There is no log before the first write and after a clean end.
                Ok(file.len() + std::fs::metadata(log).map_or(0, |log| log.len()))
            }
            DatabaseUrl::Postgres(_) => self.with(postgres_size),
        }
    }
}

/// Only Postgres can be asked for this by a query.
fn postgres_size(connection: &mut Connection) -> Result<u64, StoreError> {
    let size: i64 = on_backend!(connection, |c| {
        diesel::select(sql::<BigInt>("pg_database_size(current_database())")).get_result(c)
    })?;
    Ok(size.max(0).cast_unsigned())
}

/// The sums of the latest gaps by router and cause.
fn losses(connection: &mut Connection) -> Result<HashMap<i64, Vec<LossRow>>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        router_id: i64,
        #[diesel(sql_type = SmallInt)]
        cause: i16,
        #[diesel(sql_type = BigInt)]
        upper: i64,
        #[diesel(sql_type = BigInt)]
        lower: i64,
        #[diesel(sql_type = BigInt)]
        last: i64,
    }
    let [upper, lower] = totals::halves("count");
    let query = format!(
        "SELECT router_id, cause, {upper} AS upper, {lower} AS lower, MAX(to_us) AS last FROM \
         (SELECT router_id, cause, count, to_us FROM gaps ORDER BY id DESC LIMIT {MOST_GAPS}) AS latest \
         GROUP BY router_id, cause ORDER BY router_id, cause"
    );
    let rows: Vec<Row> = on_backend!(connection, |c| diesel::sql_query(query).load(c))?;
    let mut losses: HashMap<i64, Vec<LossRow>> = HashMap::new();
    for row in rows {
        let loss = LossRow { cause: row.cause, count: totals::whole((row.upper, row.lower)), last: row.last };
        losses.entry(row.router_id).or_default().push(loss);
    }
    Ok(losses)
}
