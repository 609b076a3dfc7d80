//! The sums over the flows and over each rollup: anyone can check that they agree.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::{App, WebError, lists::CountersItem};
use crate::store::{Sums, Totals};

/// Sums over a table.
#[derive(Serialize, ToSchema)]
struct SumsItem {
    flows: i64,
    #[serde(flatten)]
    counters: CountersItem,
}

/// The same sums over all tables that hold them.
#[derive(Serialize, ToSchema)]
pub(super) struct TotalsItem {
    flows: SumsItem,
    /// The part of `flows` that retention took away.
    removed: SumsItem,
    device_minutes: SumsItem,
    device_hours: SumsItem,
    device_days: SumsItem,
    service_minutes: SumsItem,
    service_hours: SumsItem,
    service_days: SumsItem,
    host_minutes: SumsItem,
    host_hours: SumsItem,
    host_days: SumsItem,
    /// Whether all of them are the same.
    agree: bool,
}

impl From<Sums> for SumsItem {
    fn from(sums: Sums) -> Self {
        Self { flows: sums.flows, counters: sums.counters.into() }
    }
}

impl From<Totals> for TotalsItem {
    fn from(totals: Totals) -> Self {
        Self {
            agree: totals.agree(),
            flows: totals.flows.into(),
            removed: totals.removed.into(),
            device_minutes: totals.device_minutes.into(),
            device_hours: totals.device_hours.into(),
            device_days: totals.device_days.into(),
            service_minutes: totals.service_minutes.into(),
            service_hours: totals.service_hours.into(),
            service_days: totals.service_days.into(),
            host_minutes: totals.host_minutes.into(),
            host_hours: totals.host_hours.into(),
            host_days: totals.host_days.into(),
        }
    }
}

/// What takes no longer than this is read each time that somebody asks.
const SHORT: Duration = Duration::from_secs(1);

/// For how long the sums are told again: every flow is read for them, so that a large table shall not be read more than a
/// fifth of the time, whoever asks.
pub(in crate::web) fn lasts(took: Duration) -> Duration {
    if took <= SHORT { Duration::ZERO } else { 4 * took }
}

/// The sums of what was watched, over the flows and over each rollup: of a moment ago, where they take more than a second.
#[utoipa::path(get, path = "/api/v1/totals", tag = "lists", responses((status = 200, description = "The sums", body = TotalsItem)))]
pub(super) async fn totals(State(app): State<App>) -> Result<Json<TotalsItem>, WebError> {
    let asking = app.clone();
    let reading = async move {
        let totals = asking.read(|reader| Ok(reader.totals()?)).await;
        totals.map_err(|error| error.to_string())
    };
    let totals = app.totals.get(reading).await;
    let totals = totals.ok_or_else(|| WebError::Internal("reading the sums panicked".to_owned()))?;
    Ok(Json(totals.map_err(WebError::Unavailable)?.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        task::JoinSet,
        time::{Instant, sleep},
    };

    use super::*;
    use crate::web::kept::Kept;

    async fn read(takes: Duration) {
        // From when it is asked for, not from when it is mentioned.
        sleep(takes).await;
    }

    /// So many at once ask for what takes so long: how long until all have it, and how long until one more has.
    async fn ask(takes: Duration) -> [u128; 2] {
        let kept = Arc::new(Kept::new(lasts));
        let began = Instant::now();
        let mut asking = JoinSet::new();
        for _ in 0..9 {
            let kept = Arc::clone(&kept);
            asking.spawn(async move { kept.get(read(takes)).await });
        }
        asking.join_all().await;
        let all = began.elapsed();
        sleep(3 * takes).await;
        let later = Instant::now();
        kept.get(read(takes)).await;
        [all, later.elapsed()].map(|took| took.as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn large_tables_are_read_once_for_all_who_ask() {
        assert_eq!(ask(Duration::from_secs(2)).await, [2_000, 0]);
        // What is small is always told as it is.
        assert_eq!(ask(Duration::from_millis(10)).await, [90, 10]);
    }
}
