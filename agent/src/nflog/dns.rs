//! One DNS message, as the protocol's [`DnsResponse`].
//!
//! The wire format is read by the `domain` library: lazily, in place, and safe against loops of compression
//! pointers. What is made of it here is bounded, because a message of 64 KiB may hold thousands of records.

use std::fmt::Write as _;

use bytes::Bytes;
use domain::{
    base::{
        Message, ParsedName, Rtype,
        iana::{Class, Opcode},
        record::ParsedRecord,
        wire::ParseError,
    },
    rdata::{A, Aaaa, AllRecordData},
};
use netmon_proto::v1::{DnsAnswer, DnsResponse};

/// As long as a name may be in text form.
const MOST_NAME_BYTES: usize = 253;
/// The text of a record of another type.
const MOST_TEXT_BYTES: usize = 255;
/// Records of one answer that the server takes.
const MOST_ANSWERS: usize = 64;

/// What was read. Who asked whom is for the caller to fill in.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The response.
    pub response: DnsResponse,
    /// How many records were left out, because there were too many.
    pub records_left_out: u32,
}

/// Why there is nothing to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreported {
    /// A query, or neither query nor response of the internet's DNS: an update, say, or a question for the
    /// server's version.
    NotAResponse,
    /// TC: the answer did not fit, and the client asks again over TCP.
    Truncated,
    /// It contradicts itself.
    Malformed,
}

impl From<ParseError> for Unreported {
    fn from(_: ParseError) -> Self {
        Self::Malformed
    }
}

/// Reads a message, without the length that precedes it over TCP.
///
/// # Errors
/// When there is no response in it.
pub fn read_message(bytes: &[u8]) -> Result<Reading, Unreported> {
    let message = Message::from_slice(bytes).map_err(|_| Unreported::Malformed)?;
    let header = message.header();
    if !header.qr() || header.opcode() != Opcode::QUERY {
        return Err(Unreported::NotAResponse);
    }
    let question = message.sole_question()?;
    if question.qclass() != Class::IN {
        return Err(Unreported::NotAResponse);
    }
    if header.tc() {
        return Err(Unreported::Truncated);
    }
    let mut response = DnsResponse {
        name: name_text(question.qname()),
        r#type: question.qtype().to_int().into(),
        rcode: message.opt_rcode().to_int().into(),
        ..DnsResponse::default()
    };
    let mut records_left_out = 0;
    for record in message.answer()? {
        let record = record?;
        if record.class() != Class::IN {
            continue;
        }
        if response.answers.len() < MOST_ANSWERS {
            response.answers.push(answer(&record)?);
        } else {
            records_left_out += 1;
        }
    }
    Ok(Reading { response, records_left_out })
}

fn answer(record: &ParsedRecord<'_, [u8]>) -> Result<DnsAnswer, ParseError> {
    let mut answer = DnsAnswer {
        name: name_text(&record.owner()),
        r#type: record.rtype().to_int().into(),
        ttl_s: Some(record.ttl().as_secs()),
        ..DnsAnswer::default()
    };
    if record.rtype() == Rtype::A {
        let data = record.to_record::<A>()?.ok_or(ParseError::ShortInput)?;
        answer.address = Bytes::copy_from_slice(&data.data().addr().octets());
    } else if record.rtype() == Rtype::AAAA {
        let data = record.to_record::<Aaaa>()?.ok_or(ParseError::ShortInput)?;
        answer.address = Bytes::copy_from_slice(&data.data().addr().octets());
    } else {
        answer.text = text(record.to_any_record::<AllRecordData<_, ParsedName<_>>>()?.data());
    }
    Ok(answer)
}

/// Names as names, texts as they are, everything else as in a zone file.
fn text(data: &AllRecordData<&[u8], ParsedName<&[u8]>>) -> String {
    let mut text = Bounded(String::new());
    // An error says that there is no more room.
    let _ = match data {
        AllRecordData::Cname(data) => text.write_str(&name_text(data.cname())),
        AllRecordData::Ns(data) => text.write_str(&name_text(data.nsdname())),
        AllRecordData::Ptr(data) => text.write_str(&name_text(data.ptrdname())),
        AllRecordData::Dname(data) => text.write_str(&name_text(data.dname())),
        AllRecordData::Mx(data) => {
            write!(text, "{} {}", data.preference(), name_text(data.exchange()))
        }
        AllRecordData::Srv(data) => {
            let target = name_text(data.target());
            write!(text, "{} {} {} {target}", data.priority(), data.weight(), data.port())
        }
        AllRecordData::Txt(data) => {
            data.iter().flatten().try_for_each(|byte| write_byte(&mut text, *byte, b' '..=b'~'))
        }
        other => write!(text, "{other}"),
    };
    text.0
}

/// A string that takes no more than [`MOST_TEXT_BYTES`].
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = MOST_TEXT_BYTES.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Err(std::fmt::Error)
    }
}

/// Bytes that are not `plain` as `\DDD`.
fn write_byte(
    out: &mut impl std::fmt::Write,
    byte: u8,
    plain: std::ops::RangeInclusive<u8>,
) -> std::fmt::Result {
    if plain.contains(&byte) { out.write_char(char::from(byte)) } else { write!(out, "\\{byte:03}") }
}

/// Lower case, without the final dot, with escapes as RFC 1035 has them; the root is a dot. Of a name that these
/// make too long the last labels are kept: they say whose it is.
fn name_text(name: &ParsedName<impl AsRef<[u8]>>) -> String {
    let mut text = String::with_capacity(64);
    let mut starts = Vec::new();
    for label in name.iter().filter(|label| !label.is_root()) {
        if !text.is_empty() {
            text.push('.');
        }
        starts.push(text.len());
        for byte in label.as_slice() {
            // Writing to a String does not fail.
            let _ = if let b'.' | b'\\' = byte {
                write!(text, "\\{byte:03}")
            } else {
                write_byte(&mut text, byte.to_ascii_lowercase(), b'!'..=b'~')
            };
        }
    }
    if text.len() > MOST_NAME_BYTES {
        let fits = starts.into_iter().find(|start| text.len() - start <= MOST_NAME_BYTES);
        text.drain(..fits.unwrap_or(text.len()));
    }
    if text.is_empty() { ".".to_owned() } else { text }
}
