//! From a YAML value to a checked one. Every function says what it expected when it refuses; what it found
//! is shown, shortened, unless it is a secret.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde_yaml::Value;

use crate::transport::Fingerprint;

pub(super) type Checked<T> = Result<T, String>;

/// How a value looks to a person, on one line.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let mut short: String = text.chars().take(40).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("{short:?}")
        }
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a section".to_owned(),
        Value::Tagged(_) => "a tagged value".to_owned(),
    }
}

fn expected<T>(what: &str, value: &Value) -> Checked<T> {
    Err(format!("expected {what}, found {}", shown(value)))
}

pub(super) fn text(value: &Value) -> Checked<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => expected("text (put it in quotes)", value),
        _ => expected("text", value),
    }
}

/// The words of YAML 1.1 count as well: the original agent's parser took them.
pub(super) fn flag(value: &Value) -> Checked<bool> {
    let word = value.as_str().map(str::to_ascii_lowercase);
    match (value, word.as_deref()) {
        (Value::Bool(flag), _) => Ok(*flag),
        (_, Some("yes" | "on")) => Ok(true),
        (_, Some("no" | "off")) => Ok(false),
        _ => expected("true or false", value),
    }
}

pub(super) fn number(value: &Value, least: u64, most: u64) -> Checked<u64> {
    let number = value.as_u64().filter(|number| (least..=most).contains(number));
    number.map_or_else(|| expected(&format!("a whole number from {least} to {most}"), value), Ok)
}

pub(super) fn list<T>(value: &Value, one: impl Fn(&Value) -> Checked<T>) -> Checked<Vec<T>> {
    match value {
        Value::Sequence(items) => items.iter().map(one).collect(),
        _ => expected("a list", value),
    }
}

/// One of some words.
pub(super) fn choice<T: Copy>(value: &Value, words: &[(&str, T)]) -> Checked<T> {
    // `off` is a flag to some YAML parsers, a word to others.
    let word = if value.as_bool() == Some(false) { Some("off") } else { value.as_str() };
    match words.iter().find(|(known, _)| word == Some(known)) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            expected(&known.join(" or "), value)
        }
    }
}

/// A secret: what was found is never shown.
pub(super) fn token(value: &Value) -> Checked<String> {
    let Value::String(text) = value else {
        return Err("expected the server's token as text (put it in quotes)".to_owned());
    };
    if text.trim().is_empty() {
        return Err("expected the server's token, found an empty text".to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected printable ASCII without spaces; it travels in a header".to_owned());
    }
    Ok(text.clone())
}

/// A secret of any form, possibly empty.
pub(super) fn secret(value: &Value) -> Checked<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "expected text (put it in quotes)".to_owned())
}

pub(super) fn router_id(value: &Value) -> Checked<String> {
    let id = text(value)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if (1..=64).contains(&id.len()) && id.bytes().all(allowed) {
        return Ok(id);
    }
    expected("1 to 64 of the characters A-Z a-z 0-9 . _ : -", value)
}

pub(super) fn interface(value: &Value) -> Checked<String> {
    let name = text(value)?;
    // IFNAMSIZ of linux/if.h, less the final zero.
    let fits = (1..=15).contains(&name.len()) && !name.contains(|c: char| c == '/' || c.is_whitespace());
    if fits { Ok(name) } else { expected("an interface name such as br-lan", value) }
}

/// `http://HOST[:PORT]` or `https://HOST[:PORT]`, without a path.
pub(super) fn url(value: &Value) -> Checked<String> {
    let what = "a URL such as http://192.168.1.2:3000";
    let text = text(value)?;
    if text.contains('@') {
        return Err(format!("expected {what}, without a user name"));
    }
    let trimmed = text.trim_end_matches('/');
    let Ok(uri) = trimmed.parse::<tonic::codegen::http::Uri>() else { return expected(what, value) };
    let plain_path = matches!(uri.path(), "" | "/") && uri.query().is_none();
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if plain_path && !authority.host().is_empty() => {
            Ok(trimmed.to_owned())
        }
        _ => expected(what, value),
    }
}

/// One fingerprint or a list of them.
pub(super) fn fingerprints(value: &Value) -> Checked<Vec<Fingerprint>> {
    let one = |value: &Value| match value.as_str().and_then(Fingerprint::parse) {
        Some(fingerprint) => Ok(fingerprint),
        None => expected("the SHA-256 of a certificate: 64 hexadecimal digits in quotes", value),
    };
    if value.is_sequence() { list(value, one) } else { one(value).map(|one| vec![one]) }
}

/// `ADDRESS:PORT`, also `:PORT` and `localhost:PORT` as Go takes them. Empty: off.
pub(super) fn bind(value: &Value) -> Checked<Option<SocketAddr>> {
    let text = text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = match text.split_once(':') {
        Some(("", port)) => port.parse().ok().map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        Some(("localhost", port)) => {
            port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        }
        _ => text.parse().ok(),
    };
    parsed
        .map_or_else(|| expected("an address and port such as 127.0.0.1:9109", value), |addr| Ok(Some(addr)))
}

pub(super) fn cidr(value: &Value) -> Checked<(IpAddr, u8)> {
    let what = "a network such as 192.168.1.0/24 or fd00::/64";
    let text = text(value)?;
    let Some((address, bits)) = text.split_once('/') else { return expected(what, value) };
    match (address.parse(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(v4)), Ok(bits @ 0..=32)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ok((IpAddr::V4((u32::from(v4) & mask).into()), bits))
        }
        (Ok(IpAddr::V6(v6)), Ok(bits @ 0..=128)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ok((IpAddr::V6((u128::from(v6) & mask).into()), bits))
        }
        _ => expected(what, value),
    }
}

/// A duration as Go writes it, not shorter than `least`.
pub(super) fn duration(value: &Value, least: Duration) -> Checked<Duration> {
    let what = "a duration such as 500ms, 1s or 1m30s";
    let Value::String(text) = value else { return expected(what, value) };
    match go_duration(text) {
        Some(duration) if duration >= least => Ok(duration),
        Some(_) => expected(&format!("a duration of at least {least:?}"), value),
        None => expected(what, value),
    }
}

/// The grammar of Go's `time.ParseDuration`, without signs: `0`, or one or more of number and unit.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits =
            |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok().map(u128::from) };
        if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
            return None;
        }
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        nanos = nanos.checked_add(digits(whole)?.checked_mul(unit_nanos)?)?;
        nanos = nanos.checked_add(digits(fraction)?.checked_mul(unit_nanos)? / scale)?;
        rest = tail;
    }
    // Go's durations are an int64 of nanoseconds, some 292 years.
    let nanos = i64::try_from(nanos).ok().filter(|_| !text.is_empty())?;
    Some(Duration::from_nanos(nanos.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        let check = |text: &str, millis: u64| {
            assert_eq!(go_duration(text), Some(Duration::from_millis(millis)), "{text}")
        };
        check("500ms", 500);
        check("1s", 1_000);
        check("1m30s", 90_000);
        check("1.5h", 5_400_000);
        check(".5s", 500);
        check("2h45m", 9_900_000);
        check("0", 0);
        assert_eq!(go_duration("3µs"), Some(Duration::from_micros(3)));
        for bad in ["", "1", "s", "1 s", "-1s", "1x", "1s1", "1..s", ".s", "9999999999h", "1.s.", "１s"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_are_masked() {
        let check = |text: &str, expected: &str| {
            let (address, bits) = cidr(&Value::String(text.to_owned())).expect(text);
            assert_eq!(format!("{address}/{bits}"), expected);
        };
        check("192.168.1.77/24", "192.168.1.0/24");
        check("10.0.0.1/32", "10.0.0.1/32");
        check("1.2.3.4/0", "0.0.0.0/0");
        check("fd00:1:2:3:4::1/64", "fd00:1:2:3::/64");
        check("fd00::1/128", "fd00::1/128");
        check("::1/0", "::/0");
    }

    #[test]
    fn addresses_to_bind_are_taken_as_in_go() {
        let check =
            |text: &str| bind(&Value::String(text.to_owned())).map(|addr| addr.map(|addr| addr.to_string()));
        assert_eq!(check("127.0.0.1:9109"), Ok(Some("127.0.0.1:9109".to_owned())));
        assert_eq!(check(":9109"), Ok(Some("[::]:9109".to_owned())));
        assert_eq!(check("[::1]:1"), Ok(Some("[::1]:1".to_owned())));
        assert_eq!(check("localhost:80"), Ok(Some("127.0.0.1:80".to_owned())));
        assert_eq!(check(""), Ok(None));
        assert!(check("router:80").is_err() && check("1.2.3.4").is_err() && check(":x").is_err());
    }
}
