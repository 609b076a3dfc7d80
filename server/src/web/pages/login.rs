//! The way in for a browser.

use std::time::Duration;

use askama::Template;
use axum::{
    Form,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{App, WebError, render};
use crate::web::session;

/// A wrong token costs its sender so long.
const WRONG_TOKEN_DELAY: Duration = Duration::from_millis(500);

#[derive(Template)]
#[template(path = "login/page.html")]
struct LoginPage {
    wrong: bool,
}

/// What the form sends.
#[derive(Deserialize)]
pub(in crate::web) struct Login {
    token: String,
}

/// `GET /login`.
pub(in crate::web) async fn page() -> Result<Response, WebError> {
    render(&LoginPage { wrong: false })
}

/// `POST /login`.
pub(in crate::web) async fn submit(
    State(app): State<App>,
    Form(login): Form<Login>,
) -> Result<Response, WebError> {
    if app.token.accepts(login.token.trim()) {
        let cookie = session::new_cookie(&app.token, app.clock.now());
        return Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response());
    }
    tokio::time::sleep(WRONG_TOKEN_DELAY).await;
    Ok((StatusCode::UNAUTHORIZED, render(&LoginPage { wrong: true })?).into_response())
}

/// `POST /logout`.
pub(in crate::web) async fn logout() -> Response {
    ([(header::SET_COOKIE, session::end_cookie())], Redirect::to("/login")).into_response()
}
