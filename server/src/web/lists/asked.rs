//! A query string, read and written again.

use std::fmt::Write as _;

use axum::{
    extract::{FromRequestParts, Query},
    http::{Uri, request::Parts},
};
use serde::de::DeserializeOwned;

use super::super::{App, WebError};

/// What a request asks for, read and as it came.
pub(in crate::web) struct Asked<L> {
    pub(in crate::web) params: L,
    pub(in crate::web) pairs: Pairs,
}

/// Names and values as they came.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(in crate::web) fn of(uri: &Uri) -> Self {
        // What does not decode is told by the parameters themselves.
        Query::try_from_uri(uri).map_or_else(|_| Self::default(), |Query(pairs)| Self(pairs))
    }

    /// The value of this name; empty if there is none.
    pub(in crate::web) fn value(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// The same query at this path, with some values changed or, with an empty one, taken out.
    pub(in crate::web) fn link(&self, path: &str, changes: &[(&str, &str)]) -> String {
        let kept = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let kept = kept.filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        let mut link = path.to_owned();
        let mut separator = '?';
        for (name, value) in kept.chain(changes.iter().copied()) {
            if value.is_empty() {
                continue;
            }
            link.push(separator);
            separator = '&';
            escape(&mut link, name);
            link.push('=');
            escape(&mut link, value);
        }
        link
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986 and the colon, which addresses and times hold
/// and a query may.
fn escape(into: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                into.push(char::from(byte));
            }
            // Writing to a String does not fail.
            _ => drop(write!(into, "%{byte:02X}")),
        }
    }
}

impl<L: DeserializeOwned> Asked<L> {
    /// Reads a query string; the error says what was expected.
    pub(in crate::web) fn read(uri: &Uri) -> Result<Self, WebError> {
        let Query(params) =
            Query::try_from_uri(uri).map_err(|error| WebError::BadRequest(reason(&error.body_text())))?;
        Ok(Self { params, pairs: Pairs::of(uri) })
    }
}

impl<L: DeserializeOwned> FromRequestParts<App> for Asked<L> {
    type Rejection = WebError;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, WebError> {
        Self::read(&parts.uri)
    }
}

/// The message without what axum puts before it.
fn reason(text: &str) -> String {
    text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_what_is_not_changed() {
        let pairs = Pairs::of(&Uri::from_static("/flows?port=443&q=a%26b&cursor=1&device="));
        assert_eq!(pairs.link("/flows", &[]), "/flows?port=443&q=a%26b&cursor=1");
        assert_eq!(pairs.link("/flows", &[("cursor", ""), ("port", "53")]), "/flows?q=a%26b&port=53");
        assert_eq!(pairs.link("/x", &[("q", "<\"'é &=")]), "/x?port=443&cursor=1&q=%3C%22%27%C3%A9%20%26%3D");
        assert_eq!(pairs.value("q"), "a&b");
    }
}
