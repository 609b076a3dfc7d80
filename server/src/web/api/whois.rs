//! `POST /api/v1/hosts/{address}/whois`: asks now, because a person wants to know; `GET` shows what was said.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::Micros,
    enrich::whois,
    web::{App, WebError, format},
};

/// What whois said.
#[derive(Serialize, ToSchema)]
pub(super) struct WhoisItem {
    address: String,
    /// RFC 3339, UTC.
    asked: String,
    answer: String,
}

/// What whois said of an address when last asked.
#[utoipa::path(
    get, path = "/api/v1/hosts/{address}/whois", operation_id = "whois", tag = "hosts",
    params(("address" = String, Path, description = "An IPv4 or IPv6 address")),
    responses((status = 200, description = "What was said", body = WhoisItem), (status = 404, description = "Nobody asked yet")),
)]
pub(super) async fn show(
    State(app): State<App>,
    Path(address): Path<String>,
) -> Result<Json<WhoisItem>, WebError> {
    let address = parse(&address)?;
    let (answer, asked) =
        app.read(move |reader| Ok(reader.whois(address)?)).await?.ok_or(WebError::NotFound)?;
    Ok(Json(WhoisItem { address: address.to_string(), asked: format::rfc3339(asked), answer }))
}

/// Asks whois, and keeps what is said.
#[utoipa::path(
    post, path = "/api/v1/hosts/{address}/whois", operation_id = "ask_whois", tag = "hosts",
    params(("address" = String, Path, description = "A public IPv4 or IPv6 address")),
    responses((status = 200, description = "What was said", body = WhoisItem)),
)]
pub(super) async fn ask(
    State(app): State<App>,
    Path(address): Path<String>,
) -> Result<Json<WhoisItem>, WebError> {
    let address = parse(&address)?;
    let (answer, asked) = asked(&app, address).await?;
    Ok(Json(WhoisItem { address: address.to_string(), asked: format::rfc3339(asked), answer }))
}

/// Asks whois, keeps what is said, and gives it with the time.
pub(in crate::web) async fn asked(app: &App, address: IpAddr) -> Result<(String, Micros), WebError> {
    let Some(server) = app.whois_server.clone() else {
        return Err(WebError::Unavailable("whois is switched off: whois_server is empty".to_owned()));
    };
    let answer = whois::ask(&server, address).await.map_err(|error| match error {
        whois::WhoisError::NotPublic(_) => WebError::BadRequest(error.to_string()),
        _ => WebError::Unavailable(error.to_string()),
    })?;
    let (kept, now) = (answer.clone(), app.clock.now());
    // Where no flow ever went there is nothing to keep it with.
    app.ingest.chore(move |writer| writer.put_whois(address, &kept, now)).await?;
    Ok((answer, now))
}

pub(in crate::web) fn parse(address: &str) -> Result<IpAddr, WebError> {
    address.parse().map_err(|_| WebError::BadRequest(format!("{address:?}: expected an IP address")))
}
