//! The values that parameters take. Each says what it expected; an empty one, as a form sends it, is none.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    domain::{Direction, Micros},
    web::{WebError, format},
};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;
/// The most rows of a file.
pub(in crate::web) const MOST_ROWS: usize = 5_000_000;
/// Counting rows stops here: nobody reads further, and it must not cost more than the list.
pub(in crate::web) const COUNT_LIMIT: u32 = 10_000;
/// Longer than any name in the DNS.
const MAX_TEXT: usize = 300;

/// Reads a value that may be missing or empty.
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

/// The parameters of a list: its own, and those of every list.
macro_rules! list_params {
    ($(#[$docs:meta])* $name:ident { $($(#[$field_docs:meta])* $field:ident: $kind:ty as $shown:ty,)* }) => {
        $(#[$docs])*
        #[derive(Clone, Debug, Default, serde::Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        pub(in crate::web) struct $name {
            $($(#[$field_docs])*
            #[serde(default, deserialize_with = "crate::web::lists::params::optional")]
            #[param(value_type = Option<$shown>)]
            pub(in crate::web) $field: Option<$kind>,)*
            /// `next` of the page before, with all other parameters the same.
            #[serde(default, deserialize_with = "crate::web::lists::params::optional")]
            #[param(value_type = Option<String>)]
            pub(in crate::web) cursor: Option<String>,
            /// The most items to give.
            #[serde(default, deserialize_with = "crate::web::lists::params::optional")]
            #[param(value_type = Option<i32>, minimum = 1, maximum = 1000)]
            pub(in crate::web) limit: Option<crate::web::lists::params::Limit>,
        }

        impl $name {
            fn own_paging(&self) -> (Option<&str>, Option<usize>) {
                (self.cursor.as_deref(), self.limit.map(|limit| limit.0))
            }

            fn own_without_paging(&self) -> Self {
                let mut asked = self.clone();
                (asked.cursor, asked.limit) = (None, None);
                asked
            }
        }
    };
}
pub(super) use list_params;

/// The number of items of a page or a file.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Limit(pub(in crate::web) usize);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(limit) if (1..=MOST_ROWS).contains(&limit) => Ok(Self(limit)),
            _ => Err(not_a_limit(text)),
        }
    }
}

fn not_a_limit(text: &str) -> String {
    format!("{text:?} is not within 1 to {MAX_LIMIT}, of a file within 1 to {MOST_ROWS}")
}

/// The number of items of a page, for which a file's can be too large.
pub(super) fn page_size(limit: Option<usize>) -> Result<usize, WebError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAX_LIMIT {
        return Err(WebError::BadRequest(format!("limit: {}", not_a_limit(&limit.to_string()))));
    }
    Ok(limit)
}

/// An address.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Address(pub(super) IpAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.trim().parse().map_err(|_| format!("{text:?} is not an IPv4 or IPv6 address"))?;
        Ok(Self(address))
    }
}

/// A port.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Port(pub(super) u16);

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.trim().parse().map(Self).map_err(|_| format!("{text:?} is not within 0 to 65535"))
    }
}

/// An IP protocol, by name or by number.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Protocol(pub(super) u8);

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase();
        let by_name = (0..=u8::MAX).find(|&number| format::protocol(number) == name);
        by_name
            .or_else(|| name.parse().ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is neither a known name nor 0 to 255"))
    }
}

/// A direction's name.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct DirectionName(pub(super) Direction);

impl DirectionName {
    pub(in crate::web) const ALL: [Direction; 5] =
        [Direction::Out, Direction::In, Direction::Lan, Direction::Local, Direction::Forward];
}

impl FromStr for DirectionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, Self::ALL, Direction::name).map(Self)
    }
}

/// The value whose name this is.
pub(super) fn one_of<T: Copy, const N: usize>(
    text: &str,
    all: [T; N],
    name: impl Fn(T) -> &'static str,
) -> Result<T, String> {
    all.into_iter()
        .find(|value| name(*value) == text)
        .ok_or_else(|| format!("{text:?} is not one of {}", all.map(name).join(", ")))
}

/// Yes or no.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Switch(pub(super) bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("{text:?} is neither true nor false"))
    }
}

/// A point in time: RFC 3339, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Moment {
    At(Micros),
    Ago(Micros),
}

impl Moment {
    pub(super) fn at(self, now: Micros) -> Micros {
        match self {
            Self::At(time) => time,
            Self::Ago(time) => now.saturating_sub(time),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("{text:?} is neither a time like 2026-01-31T12:00:00Z nor a time ago like 90m, 24h, 7d")
        };
        let unit_s: i64 = match text.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            Some(b'd') => 86_400,
            _ => return format::parse_rfc3339(text).map(Self::At).ok_or_else(expected),
        };
        let count: u32 = text[..text.len() - 1].parse().map_err(|_| expected())?;
        Ok(Self::Ago(i64::from(count) * unit_s * 1_000_000))
    }
}

/// The name of something, or a part of it.
#[derive(Clone, Debug)]
pub(in crate::web) struct Name(pub(super) String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(format!("expected at most {MAX_TEXT} bytes without control characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_time_ago() {
        for (text, expected) in [
            ("90m", Ok(Moment::Ago(5_400_000_000))),
            ("7d", Ok(Moment::Ago(604_800_000_000))),
            ("1970-01-01T00:00:01Z", Ok(Moment::At(1_000_000))),
            ("1970-01-01T01:00:00.000001+01:00", Ok(Moment::At(1))),
            ("-1d", Err(())),
            ("99999999999d", Err(())),
            ("d", Err(())),
            ("éd", Err(())),
            ("é", Err(())),
            ("yesterday", Err(())),
        ] {
            assert_eq!(text.parse::<Moment>().map_err(|_| ()), expected, "{text}");
        }
        assert_eq!(Moment::Ago(5).at(i64::MIN), i64::MIN);
    }

    #[test]
    fn a_name_holds_nothing_that_a_database_refuses() {
        assert!("a\0b".parse::<Name>().is_err());
        assert!("x".repeat(MAX_TEXT + 1).parse::<Name>().is_err());
        assert_eq!(" x ".parse::<Name>().unwrap().0, "x");
    }
}
