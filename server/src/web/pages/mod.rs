//! One file a page: what it shows, ready to print, and its handlers.

pub(super) mod device;
pub(super) mod devices;
pub(super) mod dns;
pub(super) mod domains;
pub(super) mod drops;
pub(super) mod flows;
pub(super) mod gaps;
pub(super) mod host;
pub(super) mod hosts;
mod list;
pub(super) mod live;
mod live_rows;
pub(super) mod login;
pub(super) mod notice;
pub(super) mod routers;
pub(super) mod top;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use super::{App, WebError};

/// What every page's frame shows.
pub(super) struct Frame {
    /// Which entry of the navigation is here.
    pub(super) here: &'static str,
    /// Why nothing is stored now; `None`: all is well.
    pub(super) failing: Option<String>,
    /// What has to be known of the database; `None`: nothing, or it was acknowledged.
    pub(super) notice: Option<String>,
    pub(super) version: &'static str,
}

impl Frame {
    pub(super) fn new(app: &App, here: &'static str) -> Self {
        let health = app.ingest.health();
        Self { here, failing: health.failing(), notice: health.notice(), version: env!("CARGO_PKG_VERSION") }
    }
}

pub(super) fn render(page: &impl Template) -> Result<Response, WebError> {
    let html = page.render().map_err(|error| WebError::Internal(error.to_string()))?;
    Ok(Html(html).into_response())
}
