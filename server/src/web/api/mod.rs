//! JSON under `/api/v1`: the same lists that pages show, for scripts.

mod description;
mod lists;
mod top;
mod totals;
pub(super) mod whois;

use axum::{Router, routing::get};

pub(super) use totals::lasts as totals_last;

use super::App;

/// All of `/api/v1`.
pub(super) fn router() -> Router<App> {
    lists::router()
        .route("/top", get(top::json))
        .route("/top.csv", get(top::csv))
        .route("/totals", get(totals::totals))
        .route("/hosts/{address}/whois", get(whois::show).post(whois::ask))
        .route("/openapi.json", get(description::serve))
}
