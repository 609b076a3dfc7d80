//! JSON under `/api/v1`: the same lists that pages show, for scripts.

mod items;
mod whois;

use std::net::IpAddr;

use axum::{
    Json, Router,
    extract::{FromRequestParts, Query, State},
    http::request::Parts,
    routing::get,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use items::{DeviceItem, FlowItem, GapItem, HostItem, RouterItem, TotalsItem};

use super::{App, WebError, format};
use crate::{
    domain::Direction,
    store::{Count, FlowFilter, Page, PageOf, Reader, StoreError},
};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;
/// Counting rows stops here: nobody reads further, and it must not cost more than the list.
const COUNT_LIMIT: u32 = 10_000;

/// A part of a list.
#[derive(Serialize)]
struct List<T> {
    items: Vec<T>,
    /// `cursor` of the next page; null: this is the last.
    next: Option<i64>,
    /// How many rows match, counted up to a limit.
    total: u64,
    /// The counting stopped at `total`.
    total_capped: bool,
}

/// Which part of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paging {
    cursor: Option<i64>,
    limit: Option<usize>,
}

/// Which flows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowQuery {
    cursor: Option<i64>,
    limit: Option<usize>,
    router: Option<String>,
    device: Option<IpAddr>,
    host: Option<IpAddr>,
    direction: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
    ended: Option<bool>,
}

/// A query string whose mistakes are answered in JSON.
struct Params<T>(T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = WebError;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, WebError> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|error| WebError::BadRequest(error.body_text()))
    }
}

/// All of `/api/v1`.
pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/routers", get(routers))
        .route("/devices", get(devices))
        .route("/hosts", get(hosts))
        .route("/hosts/{address}/whois", get(whois::show).post(whois::ask))
        .route("/flows", get(flows))
        .route("/live", get(live))
        .route("/gaps", get(gaps))
        .route("/totals", get(totals))
}

async fn routers(State(app): State<App>) -> Result<Json<List<RouterItem>>, WebError> {
    let rows = read(&app, |reader| reader.routers()).await?;
    let total = rows.len() as u64;
    let items = rows.into_iter().map(RouterItem::from).collect();
    Ok(Json(List { items, next: None, total, total_capped: false }))
}

async fn devices(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<DeviceItem>>, WebError> {
    let page = page(paging.cursor, paging.limit)?;
    let (rows, count) =
        read(&app, move |reader| Ok((reader.devices(page)?, reader.count_devices(COUNT_LIMIT)?))).await?;
    Ok(list(rows, count))
}

async fn hosts(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<HostItem>>, WebError> {
    let page = page(paging.cursor, paging.limit)?;
    let (rows, count) =
        read(&app, move |reader| Ok((reader.hosts(page)?, reader.count_hosts(COUNT_LIMIT)?))).await?;
    Ok(list(rows, count))
}

async fn gaps(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<GapItem>>, WebError> {
    let page = page(paging.cursor, paging.limit)?;
    let (rows, count) =
        read(&app, move |reader| Ok((reader.gaps(page)?, reader.count_gaps(COUNT_LIMIT)?))).await?;
    Ok(list(rows, count))
}

async fn flows(
    State(app): State<App>,
    Params(query): Params<FlowQuery>,
) -> Result<Json<List<FlowItem>>, WebError> {
    let page = page(query.cursor, query.limit)?;
    let router = match &query.router {
        None => None,
        Some(name) => {
            let rows = read(&app, |reader| reader.routers()).await?;
            let known = rows.into_iter().find(|row| row.name == *name);
            Some(
                known.ok_or_else(|| WebError::BadRequest(format!("router: {name:?} has never reported")))?.id,
            )
        }
    };
    let filter = FlowFilter {
        router,
        device: query.device,
        host: query.host,
        direction: query.direction.as_deref().map(direction).transpose()?,
        protocol: query.protocol.as_deref().map(protocol).transpose()?,
        port: query.port,
        ended: query.ended,
    };
    let (rows, count) = read(&app, move |reader| {
        Ok((reader.flows(&filter, page)?, reader.count_flows(&filter, COUNT_LIMIT)?))
    })
    .await?;
    let items = rows.items.into_iter().map(|row| FlowItem::new(row.router_name, &row.flow)).collect();
    Ok(Json(List { items, next: rows.next, total: count.total, total_capped: count.capped }))
}

/// What is open, the newest first.
async fn live(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<FlowItem>>, WebError> {
    let page = page(paging.cursor, paging.limit)?;
    let snapshot = app.live.snapshot().await;
    let mut open: Vec<_> = snapshot.flows.iter().filter(|flow| flow.ended_at.is_none()).collect();
    let total = open.len() as u64;
    open.sort_unstable_by_key(|flow| std::cmp::Reverse(flow.record.id));
    open.retain(|flow| page.before.is_none_or(|before| flow.record.id.0 < before));
    let more = open.len() > page.limit;
    open.truncate(page.limit);
    let next = if more { open.last().map(|flow| flow.record.id.0) } else { None };
    let items = open.into_iter().map(|flow| FlowItem::new(flow.router.to_string(), &flow.record)).collect();
    Ok(Json(List { items, next, total, total_capped: false }))
}

/// The sums over the flows and over each rollup: anyone can check that they agree.
async fn totals(State(app): State<App>) -> Result<Json<TotalsItem>, WebError> {
    let totals = read(&app, |reader| reader.totals()).await?;
    Ok(Json(totals.into()))
}

/// Reads from the database off the runtime's workers.
async fn read<T: Send + 'static>(
    app: &App,
    body: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, WebError> {
    let reader = app.reader.clone();
    let result = tokio::task::spawn_blocking(move || body(&reader)).await;
    Ok(result.map_err(|error| WebError::Internal(error.to_string()))??)
}

fn list<R, T: From<R>>(rows: PageOf<R>, count: Count) -> Json<List<T>> {
    let items = rows.items.into_iter().map(T::from).collect();
    Json(List { items, next: rows.next, total: count.total, total_capped: count.capped })
}

fn page(cursor: Option<i64>, limit: Option<usize>) -> Result<Page, WebError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(WebError::BadRequest(format!("limit: {limit} is not within 1 to {MAX_LIMIT}")));
    }
    Ok(Page { before: cursor, limit })
}

fn direction(name: &str) -> Result<Direction, WebError> {
    const ALL: [Direction; 5] =
        [Direction::Out, Direction::In, Direction::Lan, Direction::Local, Direction::Forward];
    ALL.into_iter().find(|direction| direction.name() == name).ok_or_else(|| {
        let names = ALL.map(Direction::name).join(", ");
        WebError::BadRequest(format!("direction: {name:?} is not one of {names}"))
    })
}

/// By name or by number.
fn protocol(name: &str) -> Result<u8, WebError> {
    (0..=u8::MAX).find(|&number| format::protocol(number) == name).or_else(|| name.parse().ok()).ok_or_else(
        || WebError::BadRequest(format!("protocol: {name:?} is neither a known name nor 0 to 255")),
    )
}
