//! The way in for a browser.

use std::time::Duration;

use askama::Template;
use axum::{
    Form, RequestExt as _,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
    routing::{MethodRouter, get},
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{App, WebError, render};
use crate::web::{OverTls, session};

/// A wrong token costs its sender so long.
const WRONG_TOKEN_DELAY: Duration = Duration::from_millis(500);
/// The largest form: a token, and room for how a browser writes it.
const MAX_FORM_BYTES: usize = 4096;
/// How long a form may take.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Template)]
#[template(path = "login/page.html")]
struct LoginPage {
    wrong: bool,
}

/// What the form sends.
#[derive(Deserialize)]
struct Login {
    token: String,
}

/// `/login`, for everyone: what is sent there is small and comes soon.
pub(in crate::web) fn route() -> MethodRouter<App> {
    get(page).post(submit).layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
}

/// `GET /login`.
async fn page() -> Result<Response, WebError> {
    render(&LoginPage { wrong: false })
}

/// `POST /login`.
async fn submit(State(app): State<App>, request: Request) -> Result<Response, WebError> {
    let over_tls = request.extensions().get().copied().unwrap_or(OverTls(false));
    let login = match read(request).await {
        Ok(login) => login,
        Err(refusal) => return Ok(refusal),
    };
    if app.token.accepts(login.token.trim()) {
        let cookie = session::new_cookie(&app.token, app.clock.now(), over_tls);
        return Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response());
    }
    tokio::time::sleep(WRONG_TOKEN_DELAY).await;
    Ok((StatusCode::UNAUTHORIZED, render(&LoginPage { wrong: true })?).into_response())
}

async fn read(request: Request) -> Result<Login, Response> {
    match timeout(FORM_TIMEOUT, request.extract::<Form<Login>, _>()).await {
        Ok(Ok(Form(login))) => Ok(login),
        Ok(Err(refusal)) => Err(refusal.into_response()),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the form did not come whole in time\n").into_response()),
    }
}

/// `POST /logout`.
pub(in crate::web) async fn logout() -> Response {
    let cookies = session::end_cookies().map(|cookie| (header::SET_COOKIE, cookie));
    (AppendHeaders(cookies), Redirect::to("/login")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_form_that_does_not_come_is_given_up() {
        let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let request = Request::post("/login").header("Content-Type", "application/x-www-form-urlencoded");
        let reading = timeout(FORM_TIMEOUT * 2, read(request.body(body).unwrap()));
        let refusal = reading.await.expect("an answer").map(|login| login.token).unwrap_err();
        assert_eq!(refusal.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
