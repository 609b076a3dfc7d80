//! One line of a log: whose it is, and what dnsmasq says in it. Pure, without allocation.
//!
//! The words are those of `log_query()` in dnsmasq's cache.c (2.90 and before).

use std::net::IpAddr;

use super::rr_type;

/// What dnsmasq said about a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The process: a child of its own serves each TCP connection. Zero: not told.
    pub pid: u32,
    /// With `log-queries=extra`: the number of the question.
    pub serial: Option<u32>,
    /// With `log-queries=extra`: who asked, and from which port.
    pub client: Option<Client>,
    /// What happened.
    pub what: What<'a>,
}

/// Who asked, and from which port.
pub type Client = (IpAddr, u16);

/// What happened to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// It was asked.
    Query {
        /// The RR type.
        rr_type: u16,
        /// As the client wrote it.
        name: &'a [u8],
        /// Who asked.
        client: IpAddr,
    },
    /// It was passed on.
    Forwarded {
        /// What was asked.
        name: &'a [u8],
        /// To whom, where the log gives an address.
        server: Option<IpAddr>,
    },
    /// One record of the answer, or that there is none.
    Answer {
        /// Where dnsmasq had it from.
        source: Source,
        /// Whose record. In answers to PTR questions the address.
        name: &'a [u8],
        /// The record.
        data: Data<'a>,
    },
    /// The answer is an error; which question it was for is not told.
    Failed {
        /// Where dnsmasq had it from.
        source: Source,
        /// 2 SERVFAIL, 5 REFUSED, ...
        rcode: u16,
    },
    /// The answer did not fit; the client asks again over TCP.
    Truncated,
    /// The answer before was sent for this question, too.
    Duplicate,
    /// DNSSEC: what was answered is not genuine, or was not found out; the client is told SERVFAIL.
    Bogus {
        /// What was asked.
        name: &'a [u8],
    },
    /// dnsmasq could not write so many lines.
    Lost(u64),
}

/// Where dnsmasq had an answer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From a resolver, just now.
    Reply,
    /// From a resolver, some time ago.
    Cached,
    /// The same, and it is asking again.
    Stale,
    /// It knows itself: configuration, hosts files, DHCP.
    Local,
}

/// A record, as far as the log tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<'a> {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME; the next line's name is its target.
    Cname,
    /// A record of this type.
    Type(u16),
    /// The text of a TXT or PTR record.
    Text(&'a [u8]),
    /// The name does not exist.
    NxDomain,
    /// The name has no record of this type (zero: the log does not tell which).
    NoData(u16),
}

/// What a line turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// It is about a question.
    Question(Line<'a>),
    /// dnsmasq's, about something else.
    Remark,
    /// Another program's.
    Foreign,
}

/// A line of dnsmasq about a question that makes no sense, or bytes that are no text at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a line of a log, or one that dnsmasq does not write")]
pub struct Unreadable;

/// Words of a log line before the program's tag: at most `<30>`, five of a date, one of a time stamp, host
/// and facility.
const HEADER_WORDS: usize = 9;

/// Reads one line, without its newline.
///
/// # Errors
/// [`Unreadable`].
pub fn parse_line(line: &[u8]) -> Result<Parsed<'_>, Unreadable> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some((tag, message)) = split_tag(line) else {
        let text = line.iter().all(|byte| *byte >= b' ' || *byte == b'\t');
        return if text { Ok(Parsed::Foreign) } else { Err(Unreadable) };
    };
    let Some(pid) = pid_of(tag) else { return Ok(Parsed::Foreign) };
    let Some(pid) = pid else { return Ok(Parsed::Remark) };
    parse_message(message, pid)
}

/// The first word that ends in a colon is the program's tag: what a stranger can have written comes after it.
fn split_tag(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    for _ in 0..HEADER_WORDS {
        let rest = line.get(at..)?;
        let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
        let word = rest.get(blanks..)?;
        let len = word.iter().position(|byte| *byte == b' ').unwrap_or(word.len());
        if len == 0 {
            return None;
        }
        let end = at + blanks + len;
        if let Some(tag) = word[..len].strip_suffix(b":") {
            return Some((tag, line.get(end + 1..).unwrap_or_default()));
        }
        at = end;
    }
    None
}

/// `dnsmasq[12]`: its pid. `dnsmasq-dhcp[12]`: nothing for us. Another program: `None`.
fn pid_of(tag: &[u8]) -> Option<Option<u32>> {
    let rest = tag.strip_prefix(b"dnsmasq")?;
    match rest {
        [] => Some(Some(0)),
        [b'[', digits @ .., b']'] => Some(Some(number(digits)?)),
        [b'-', ..] => Some(None),
        _ => None,
    }
}

fn parse_message(message: &[u8], pid: u32) -> Result<Parsed<'_>, Unreadable> {
    // rsyslog's way to leave out what it has just written.
    if let Some(rest) = message.strip_prefix(b"message repeated ") {
        let inner = split(rest, b": [ ").and_then(|(_, inner)| inner.strip_suffix(b"]"));
        return inner.map_or(Ok(Parsed::Remark), |inner| parse_message(inner, pid));
    }
    let (serial, client, text) = match split_extra(message) {
        Some((serial, client, text)) => (Some(serial), client, text),
        None => (None, None, message),
    };
    let Some(what) = parse_words(text)? else { return Ok(Parsed::Remark) };
    if serial.is_some() && client.is_none() {
        // dnsmasq's own questions for DNSSEC.
        return Ok(Parsed::Remark);
    }
    Ok(Parsed::Question(Line { pid, serial, client, what }))
}

/// `17 192.168.1.20/51234 query[A] ...`; what dnsmasq asks for itself has no client: `18 dnssec-query...`.
fn split_extra(message: &[u8]) -> Option<(u32, Option<Client>, &[u8])> {
    let (serial, rest) = split(message, b" ")?;
    let serial = number(serial)?;
    let with_client = || {
        let (client, text) = split(rest, b" ")?;
        let (client, port) = split(client, b"/")?;
        let port = u16::try_from(number(port)?).ok()?;
        Some((serial, Some((address(client)?, port)), text))
    };
    Some(with_client().unwrap_or((serial, None, rest)))
}

fn parse_words(text: &[u8]) -> Result<Option<What<'_>>, Unreadable> {
    let (word, rest) = split(text, b" ").unwrap_or((text, b""));
    let asked = word.strip_prefix(b"query[").or_else(|| word.strip_prefix(b"auth["));
    if let Some(rr_type) = asked.and_then(|word| word.strip_suffix(b"]")) {
        let (name, client) = split_last(rest, b" from ").ok_or(Unreadable)?;
        let rr_type = rr_type::number(rr_type).ok_or(Unreadable)?;
        let client = address(client).ok_or(Unreadable)?;
        return Ok(Some(What::Query { rr_type, name, client }));
    }
    let source = match word {
        b"forwarded" => {
            let (name, server) = split_last(rest, b" to ").ok_or(Unreadable)?;
            let server = split(server, b"#").map_or(server, |(server, _port)| server);
            return Ok(Some(What::Forwarded { name, server: address(server) }));
        }
        b"validation" => {
            let (name, verdict) = split_last(rest, b" is ").unwrap_or_default();
            let verdict = split(verdict, b" ").map_or(verdict, |(verdict, _ede)| verdict);
            return Ok(matches!(verdict, b"BOGUS" | b"ABANDONED").then_some(What::Bogus { name }));
        }
        b"overflow:" => return Ok(split(rest, b" ").and_then(|(count, _)| number(count)).map(lost)),
        b"reply" => Source::Reply,
        b"cached" => Source::Cached,
        b"cached-stale" => Source::Stale,
        b"config" | b"DHCP" | b"auth" => Source::Local,
        // A hosts file, by its path.
        [b'/', ..] | b"<unknown>" => Source::Local,
        _ => return Ok(None),
    };
    match rest {
        b"is truncated" => Ok(Some(What::Truncated)),
        b"query is duplicate" => Ok(Some(What::Duplicate)),
        _ if word.first() == Some(&b'/') => {
            // The path may hold blanks, and a remark may begin with one.
            let Some((name, data)) = split(rest, b" is ") else { return Ok(None) };
            let name = split_last(name, b" ").map_or(name, |(_, name)| name);
            Ok(data_of(data).map(|data| What::Answer { source, name, data }))
        }
        _ => parse_answer(source, rest).map(Some),
    }
}

fn lost(count: u32) -> What<'static> {
    What::Lost(count.into())
}

fn parse_answer(source: Source, rest: &[u8]) -> Result<What<'_>, Unreadable> {
    // A name may hold blanks, so " is " too; what follows it tells which of them is ours.
    let (name, data) = split_last(rest, b" is ").ok_or(Unreadable)?;
    let first = split(rest, b" is ").unwrap_or((name, data));
    if first.0 == b"error" {
        return Ok(What::Failed { source, rcode: rcode_of(first.1).ok_or(Unreadable)? });
    }
    let (name, data) = match data_of(data) {
        Some(Data::Text(_)) | None => (first.0, data_of(first.1).ok_or(Unreadable)?),
        Some(data) => (name, data),
    };
    if name.is_empty() {
        return Err(Unreadable);
    }
    Ok(What::Answer { source, name, data })
}

fn rcode_of(text: &[u8]) -> Option<u16> {
    let text = split(text, b" (EDE").map_or(text, |(text, _)| text);
    match text {
        b"SERVFAIL" => Some(2),
        b"not implemented" => Some(4),
        b"REFUSED" => Some(5),
        digits => u16::try_from(number(digits)?).ok().filter(|rcode| *rcode < 4096),
    }
}

fn data_of(text: &[u8]) -> Option<Data<'_>> {
    let text = text.strip_suffix(b" (DNSSEC signed)").unwrap_or(text);
    Some(match text {
        b"" => return None,
        b"NXDOMAIN" => Data::NxDomain,
        b"NODATA" => Data::NoData(0),
        b"NODATA-IPv4" => Data::NoData(rr_type::A),
        b"NODATA-IPv6" => Data::NoData(rr_type::AAAA),
        b"<CNAME>" => Data::Cname,
        [b'<', name @ .., b'>'] => match rr_type::number(name) {
            Some(rr_type) => Data::Type(rr_type),
            None => Data::Text(text),
        },
        _ => match address(text) {
            Some(address) => Data::Address(address),
            None => Data::Text(text),
        },
    })
}

/// An address, perhaps with an interface: `fe80::1%br-lan`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = split(text, b"%").map_or(text, |(address, _interface)| address);
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// At the first place of `by`.
fn split<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(by.len()).position(|window| window == by)?;
    Some((&text[..at], &text[at + by.len()..]))
}

/// At the last place of `by`.
fn split_last<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(by.len()).rposition(|window| window == by)?;
    Some((&text[..at], &text[at + by.len()..]))
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
