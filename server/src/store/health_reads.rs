//! How routers are.

use diesel::prelude::*;

use super::connection::on_backend;
use super::schema::router_minutes;
use super::{Reader, StoreError};
use crate::domain::{MINUTE_US, Micros, RouterId};

/// A router's latest figures are at most so many minutes older than what was last heard of it.
const MOST_MINUTES: i64 = 15;

/// What a router said of itself last. Zero: it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = router_minutes)]
pub struct RouterHealth {
    /// Processes that want to run, in thousandths, over one minute.
    pub load1_milli: i64,
    /// Over five.
    pub load5_milli: i64,
    /// Over fifteen.
    pub load15_milli: i64,
    /// Memory of the machine.
    pub memory_total_bytes: i64,
    /// That programs could still get.
    pub memory_available_bytes: i64,
    /// Where the agent keeps its spool.
    pub disk_total_bytes: i64,
    /// Free there.
    pub disk_free_bytes: i64,
    /// Since the machine started.
    pub uptime_s: i64,
    /// Entries of the kernel's connection table.
    pub conntrack_count: i64,
    /// How many it may have.
    pub conntrack_max: i64,
    /// Of the hottest sensor, in thousandths of a degree Celsius.
    pub temperature_milli_c: Option<i32>,
}

impl Reader {
    /// How a router was when it was last heard; `None`: it said nothing about that.
    pub fn router_health(
        &self,
        router: RouterId,
        last_heard: Micros,
    ) -> Result<Option<RouterHealth>, StoreError> {
        self.with(|connection| {
            Ok(on_backend!(connection, |c| router_minutes::table
                .filter(router_minutes::minute.gt(last_heard / MINUTE_US - MOST_MINUTES))
                .filter(router_minutes::router_id.eq(router.0))
                .order(router_minutes::minute.desc())
                .select(RouterHealth::as_select())
                .first(c)
                .optional())?)
        })
    }
}
