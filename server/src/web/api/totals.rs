//! The sums over the flows and over each rollup: anyone can check that they agree.

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

/// The sums of what was watched, over the flows and over each rollup.
#[utoipa::path(get, path = "/api/v1/totals", tag = "lists", responses((status = 200, description = "The sums", body = TotalsItem)))]
pub(super) async fn totals(State(app): State<App>) -> Result<Json<TotalsItem>, WebError> {
    let totals = app.read(|reader| Ok(reader.totals()?)).await?;
    Ok(Json(totals.into()))
}
