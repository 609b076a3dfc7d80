//! Text from strangers on its way into the database.

use std::borrow::Cow;

/// Postgres refuses NUL in text, and one refused row would hold up a router's whole stream.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// The same where there may be none.
pub(super) fn clean_optional(text: Option<&str>) -> Option<String> {
    text.map(|text| clean(text).into_owned())
}
