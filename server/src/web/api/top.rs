//! `GET /api/v1/top`: who moved most.

use axum::{Json, extract::State, response::Response};

use crate::web::{
    App, WebError,
    lists::{Asked, TopItem, TopItems, TopParams, file, top},
};

/// Who moved most bytes in a span, both directions together. Read from rollups: a month costs no more than an hour.
#[utoipa::path(
    get, path = "/api/v1/top", operation_id = "top", tag = "lists", params(TopParams),
    responses((status = 200, description = "The ranking", body = TopItems)),
)]
pub(super) async fn json(
    State(app): State<App>,
    asked: Asked<TopParams>,
) -> Result<Json<TopItems>, WebError> {
    Ok(Json(top(&app, asked.params).await?))
}

/// Who moved most bytes in a span, both directions together.
///
/// CSV with a line of names first.
#[utoipa::path(
    get, path = "/api/v1/top.csv", operation_id = "top_csv", tag = "exports", params(TopParams),
    responses((status = 200, description = "The ranking", body = String, content_type = "text/csv")),
)]
pub(super) async fn csv(State(app): State<App>, asked: Asked<TopParams>) -> Result<Response, WebError> {
    let ranking = top(&app, asked.params).await?;
    file("top", TopItem::COLUMNS, &ranking.items)
}
