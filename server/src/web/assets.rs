//! Style and script, embedded in the binary.

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};

use super::WebError;

const STYLE: &str = include_str!("../../assets/style.css");
const LIVE: &str = include_str!("../../assets/live.js");
const LOCAL_TIME: &str = include_str!("../../assets/local-time.js");
const ICON: &str = include_str!("../../assets/icon.svg");

/// `GET /assets/NAME`. Small enough to be asked for anew whenever the server may have been replaced.
pub(super) async fn serve(Path(name): Path<String>) -> Result<Response, WebError> {
    let (kind, body) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "live.js" => ("text/javascript; charset=utf-8", LIVE),
        "local-time.js" => ("text/javascript; charset=utf-8", LOCAL_TIME),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(WebError::NotFound),
    };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=60")], body).into_response())
}
