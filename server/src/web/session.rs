//! Who may read: a bearer token, or a browser that has logged in with it.
//!
//! A session is a signed expiry time and nothing else, so the server keeps no table of them: a new token
//! ends them all.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use hmac::{Hmac, KeyInit as _, Mac};
use sha2::Sha256;

use super::{App, OverTls, WebError};
use crate::{auth::Token, domain::Micros};

const COOKIE: &str = "netmon_session";
/// Over TLS. The prefix makes browsers insist on `Secure` (RFC 6265bis, 4.1.3.2); and were the name the same, they would
/// refuse the cookie of a login without TLS, on the same host, for the sake of this one.
const SECURE_COOKIE: &str = "__Host-netmon_session";
/// How long a login lasts, in seconds.
const LIFE_S: i64 = 30 * 24 * 3600;

/// Lets only those through who may read. A browser is sent to the login page, anything else gets a 401.
pub(super) async fn require(State(app): State<App>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if app.token.accepts_header(bearer) || has_session(&app.token, headers, app.clock.now()) {
        return next.run(request).await;
    }
    let wants_html = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if wants_html && request.method() == Method::GET {
        return Redirect::to("/login").into_response();
    }
    WebError::Unauthorized.into_response()
}

/// Refuses what a browser posts for a page of another origin. The cookie does not come along from another site, but from
/// another port of this host it does: to a cookie that is the same site. Programs send no such header.
pub(super) async fn refuse_foreign(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site");
    let own = site.is_none_or(|site| site == "same-origin" || site == "none");
    if own || request.method().is_safe() { next.run(request).await } else { WebError::Foreign.into_page() }
}

/// The `Set-Cookie` value of a fresh login.
pub(super) fn new_cookie(token: &Token, now: Micros, over_tls: OverTls) -> String {
    let expires = now / 1_000_000 + LIFE_S;
    let signature = sign(token, expires);
    cookie(over_tls, &format!("{expires}.{signature}"), LIFE_S)
}

/// The `Set-Cookie` values of a logout: over TLS a browser sends both.
pub(super) fn end_cookies() -> [String; 2] {
    [false, true].map(|over_tls| cookie(OverTls(over_tls), "", 0))
}

fn cookie(over_tls: OverTls, value: &str, life_s: i64) -> String {
    let (name, secure) = if over_tls.0 { (SECURE_COOKIE, "; Secure") } else { (COOKIE, "") };
    format!("{name}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}")
}

fn has_session(token: &Token, headers: &HeaderMap, now: Micros) -> bool {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .any(|(name, value)| [COOKIE, SECURE_COOKIE].contains(&name) && is_valid(token, value, now))
}

fn is_valid(token: &Token, value: &str, now: Micros) -> bool {
    use subtle::ConstantTimeEq as _;
    let Some((expires, signature)) = value.split_once('.') else { return false };
    let Ok(expires) = expires.parse::<i64>() else { return false };
    let expected = sign(token, expires);
    !token.reveal().is_empty()
        && expires > now / 1_000_000
        && bool::from(expected.as_bytes().ct_eq(signature.as_bytes()))
}

fn sign(token: &Token, expires: i64) -> String {
    use std::fmt::Write as _;
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(token.reveal().as_bytes()) else {
        unreachable!("HMAC takes a key of any length")
    };
    mac.update(format!("netmon session {expires}").as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(token: &Token, now: Micros) -> String {
        let cookie = new_cookie(token, now, OverTls(false));
        cookie.strip_prefix("netmon_session=").unwrap().split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_session_ends_with_its_time_and_with_its_token() {
        let now = 1_700_000_000_000_000;
        let token = Token::new("one".to_owned());
        let session = value(&token, now);
        assert!(is_valid(&token, &session, now));
        assert!(is_valid(&token, &session, now + (LIFE_S - 1) * 1_000_000));
        assert!(!is_valid(&token, &session, now + LIFE_S * 1_000_000));
        assert!(!is_valid(&Token::new("two".to_owned()), &session, now));
    }

    #[test]
    fn a_changed_expiry_breaks_the_signature() {
        let now = 1_700_000_000_000_000;
        let token = Token::new("one".to_owned());
        let session = value(&token, now);
        let (_, signature) = session.split_once('.').unwrap();
        assert!(!is_valid(&token, &format!("{}.{signature}", now / 1_000_000 + LIFE_S + 1), now));
        assert!(!is_valid(&token, "", now));
        assert!(!is_valid(&token, "9999999999.", now));
    }

    #[test]
    fn without_a_token_nobody_has_a_session() {
        let now = 1_700_000_000_000_000;
        let none = Token::new(String::new());
        assert!(!is_valid(&none, &value(&none, now), now));
    }
}
