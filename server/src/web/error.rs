//! One error for all handlers: JSON for scripts, a page with a way back for people.

use askama::Template;
use axum::{
    Json,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
};
use tracing::error;

use crate::store::StoreError;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// No or wrong token, no session.
    #[error("expected `Authorization: Bearer TOKEN` with this server's token, or a login")]
    Unauthorized,
    /// A browser sends what another site's page says.
    #[error("this came from a page of another site, expected one of this server")]
    Foreign,
    /// There is nothing here.
    #[error("there is nothing at this address")]
    NotFound,
    /// A parameter is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The server cannot do its work now.
    #[error("{0}")]
    Unavailable(String),
    /// The database failed.
    #[error("the database could not be read: {0}")]
    Store(#[from] StoreError),
    /// A bug.
    #[error("the server failed at this request")]
    Internal(String),
}

/// The page of an error.
#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    title: &'static str,
    text: String,
}

impl WebError {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Not logged in"),
            Self::Foreign => (StatusCode::FORBIDDEN, "Not from there"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not found"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "This request does not work"),
            Self::Unavailable(_) | Self::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "The server failed"),
        }
    }

    /// As a page.
    pub(super) fn into_page(self) -> Response {
        let (status, title) = self.log_and_status();
        let text = self.to_string();
        let page = ErrorPage { title, text: text.clone() }.render();
        match page {
            Ok(page) => (status, Html(page)).into_response(),
            Err(_) => (status, text).into_response(),
        }
    }

    fn log_and_status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Internal(why) => error!(why, "a request failed"),
            Self::Store(why) => error!(%why, "a request failed"),
            _ => {}
        }
        self.status()
    }
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        let (status, _) = self.log_and_status();
        let body = Json(serde_json::json!({ "error": self.to_string() }));
        let mut response = (status, body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A gRPC call to an unknown service gets UNIMPLEMENTED, a browser a page, a script JSON.
pub(super) async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let holds = |name, text: &str| {
        headers
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
            .is_some_and(|v| v.contains(text))
    };
    if holds(header::CONTENT_TYPE, "application/grpc") {
        let status = tonic::Status::unimplemented(format!("{} is not a method of this server", uri.path()));
        return status.into_http::<axum::body::Body>();
    }
    if holds(header::ACCEPT, "text/html") {
        return WebError::NotFound.into_page();
    }
    WebError::NotFound.into_response()
}
