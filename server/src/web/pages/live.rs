//! The first page: what is open now, kept up to date by server-sent events.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::Stream;
use serde::Serialize;

use super::{
    App, Frame, WebError,
    live_rows::{LiveQuery, LiveRow, LiveTable, MAX_ROWS, table},
    render,
};
use crate::web::live_feed::TICK;

#[derive(Template)]
#[template(path = "live/page.html")]
struct LivePage {
    frame: Frame,
    query: LiveQuery,
    routers: Vec<String>,
    table: LiveTable,
    max_rows: usize,
}

/// `GET /`.
pub(in crate::web) async fn page(
    State(app): State<App>,
    query: Result<Query<LiveQuery>, QueryRejection>,
) -> Result<Response, WebError> {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return Ok(WebError::BadRequest(error.body_text()).into_page()),
    };
    let routers = app.read(|reader| Ok(reader.router_names()?)).await?;
    let now = app.clock.now();
    let asked = query.clone();
    let table = app.look(move |snapshot| table(snapshot, &asked, now)).await?;
    render(&LivePage { frame: Frame::new(&app, "live"), query, routers, table, max_rows: MAX_ROWS })
}

/// What has changed in a viewer's table since the message before.
#[derive(Serialize)]
struct Update<'a> {
    /// New and changed rows.
    rows: Vec<&'a LiveRow>,
    /// All rows in their order; absent while it is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Vec<i64>>,
    matching: usize,
    open: usize,
    /// Why nothing is stored now.
    failing: Option<&'a str>,
}

/// `GET /live/events`: event `flows` with an [`Update`] whenever something changed.
pub(in crate::web) async fn events(
    State(app): State<App>,
    query: Result<Query<LiveQuery>, QueryRejection>,
) -> Result<Response, WebError> {
    let Query(query) = query.map_err(|error| WebError::BadRequest(error.body_text()))?;
    Ok(Sse::new(updates(app, query)).keep_alive(KeepAlive::default()).into_response())
}

fn updates(app: App, query: LiveQuery) -> impl Stream<Item = Result<Event, Infallible>> {
    let query = Arc::new(query);
    async_stream::stream! {
        let mut known: HashMap<i64, LiveRow> = HashMap::new();
        let mut order: Option<Vec<i64>> = None;
        let mut counts = None;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (query, now) = (query.clone(), app.clock.now());
            // It failed, as standard error tells; the browser connects again.
            let Ok(table) = app.look(move |snapshot| table(snapshot, &query, now)).await else { break };
            let failing = app.ingest.health().failing();

            let ids: Vec<i64> = table.rows.iter().map(|row| row.id).collect();
            let changed: Vec<&LiveRow> =
                table.rows.iter().filter(|row| known.get(&row.id).is_none_or(|known| *known != without_age(row))).collect();
            let new_order = (order.as_ref() != Some(&ids)).then(|| ids.clone());
            let new_counts = Some((table.matching, table.open, failing.clone()));
            if !changed.is_empty() || new_order.is_some() || new_counts != counts {
                let update = Update {
                    rows: changed,
                    order: new_order,
                    matching: table.matching,
                    open: table.open,
                    failing: failing.as_deref(),
                };
                if let Ok(event) = Event::default().event("flows").json_data(&update) {
                    yield Ok(event);
                }
            }
            known = table.rows.iter().map(|row| (row.id, without_age(row))).collect();
            order = Some(ids);
            counts = new_counts;
        }
    }
}

/// The age changes by itself, also in the browser: it is no change to tell.
fn without_age(row: &LiveRow) -> LiveRow {
    LiveRow { age: String::new(), ..row.clone() }
}
