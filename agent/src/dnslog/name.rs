//! Names as the protocol wants them.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// As long as a name may be, RFC 1035 2.3.4, in text form.
const MOST: usize = 253;
/// A TXT record's string has at most 255 bytes; a longer text is not from DNS.
const MOST_TEXT: usize = 255;

/// Lower case, without the final dot, bytes that are not printable as `\DDD`. `None`: too long to be a name.
/// The root is a dot, because an empty name means "not known".
pub(super) fn name_text(name: &[u8]) -> Option<String> {
    let end = name.iter().rposition(|byte| *byte != b'.').map_or(name.len().min(1), |last| last + 1);
    let name = &name[..end];
    let text = escaped(name, u8::is_ascii_graphic);
    (!text.is_empty() && text.len() <= MOST).then(|| text.to_ascii_lowercase())
}

/// The text of a record. Blanks are part of it.
pub(super) fn record_text(text: &[u8]) -> String {
    let text = &text[..text.len().min(MOST_TEXT)];
    escaped(text, |byte| byte.is_ascii_graphic() || *byte == b' ')
}

fn escaped(bytes: &[u8], plain: impl Fn(&u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if plain(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(text, "\\{byte:03}");
        }
    }
    text
}

/// The address that a name under in-addr.arpa or ip6.arpa stands for.
pub(super) fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = labels.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let mut labels = name.strip_suffix(".ip6.arpa")?.split('.');
    let mut address = 0_u128;
    for place in 0..32 {
        let label = labels.next().filter(|label| label.len() == 1)?;
        address |= u128::from(u8::from_str_radix(label, 16).ok()?) << (4 * place);
    }
    labels.next().is_none().then(|| Ipv6Addr::from(address).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_the_protocol_says() {
        let check = |name: &[u8], expected: Option<&str>| {
            assert_eq!(name_text(name).as_deref(), expected);
        };
        check(b"Www.Example.COM.", Some("www.example.com"));
        check(b"a is\tb", Some("a\\032is\\009b"));
        check(b".", Some("."));
        check(b"...", Some("."));
        check(b"", None);
        check(&[b'a'; 254], None);
        check(&[0xff; 64], None);
        assert_eq!(record_text(b"v=spf1 -all\0"), "v=spf1 -all\\000");
        assert_eq!(record_text(&[b'a'; 999]).len(), 255);
    }

    #[test]
    fn reverse_names_are_addresses() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(reversed(name).map(|address| address.to_string()).as_deref(), expected, "{name}");
        };
        check("9.100.51.198.in-addr.arpa", Some("198.51.100.9"));
        check("1.9.100.51.198.in-addr.arpa", None);
        check("100.51.198.in-addr.arpa", None);
        let v6 = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        check(v6, Some("2001:db8::9"));
        check(&v6[2..], None);
        check("x.ip6.arpa", None);
    }
}
