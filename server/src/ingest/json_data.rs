//! The data of the original agent's events, and what they are in the protocol.

use std::borrow::Cow;
use std::net::IpAddr;

use netmon_proto::v1;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::domain::Micros;

/// RFC 3339 with up to nine digits of a second.
pub(super) fn time(text: &str) -> Result<Micros, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).map_err(|error| error.to_string())
}

pub(super) fn time_or(field: &str, text: Option<&str>, otherwise: Micros) -> Result<Micros, String> {
    match text {
        None | Some("") => Ok(otherwise),
        Some(text) => time(text).map_err(|error| format!("{field}: {error}")),
    }
}

/// An address in any spelling that RFC 4291 allows; one of IPv4 in IPv6's clothes is IPv4.
pub(super) fn address(field: &str, text: &str) -> Result<IpAddr, String> {
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| format!("{field} is {:?}, expected an IP address", super::printable(text, 60)))
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A value of a field that is known and not wanted. serde's own `IgnoredAny` would count as a field that is unknown.
pub(super) struct Unused;

impl<'de> Deserialize<'de> for Unused {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(serde::de::IgnoredAny).map(|_| Self)
    }
}

#[derive(Deserialize)]
pub(super) struct Drop<'a> {
    #[serde(borrow, default)]
    hook: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    rule_tag: Option<Cow<'a, str>>,
    #[serde(default)]
    nflog_group: u32,
    #[serde(borrow, default)]
    if_in: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    if_out: Option<Cow<'a, str>>,
    #[serde(borrow)]
    src_ip: Cow<'a, str>,
    #[serde(borrow)]
    dst_ip: Cow<'a, str>,
    #[serde(default)]
    src_port: Option<u32>,
    #[serde(default)]
    dst_port: Option<u32>,
    l4proto: u32,
    #[serde(default)]
    tcp_syn: Option<bool>,
}

impl Drop<'_> {
    pub(super) fn translate(self) -> Result<v1::FirewallDrop, String> {
        const SYN: u32 = 2;
        let text = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned).unwrap_or_default();
        Ok(v1::FirewallDrop {
            hook: text(self.hook),
            prefix: text(self.rule_tag),
            nflog_group: self.nflog_group,
            in_interface: text(self.if_in),
            out_interface: text(self.if_out),
            src_ip: octets(address("src_ip", &self.src_ip)?).into(),
            dst_ip: octets(address("dst_ip", &self.dst_ip)?).into(),
            src_port: self.src_port.unwrap_or(0),
            dst_port: self.dst_port.unwrap_or(0),
            protocol: self.l4proto,
            tcp_flags: if self.tcp_syn == Some(true) { SYN } else { 0 },
            ..v1::FirewallDrop::default()
        })
    }
}

#[derive(Deserialize)]
pub(super) struct Bucket<'a> {
    #[serde(borrow)]
    bucket_start: Cow<'a, str>,
    #[serde(borrow)]
    client_ip: Cow<'a, str>,
    #[serde(borrow)]
    qtype: Cow<'a, str>,
    #[serde(borrow)]
    qname_hash: Cow<'a, str>,
    count: u64,
    #[serde(default)]
    nxdomain: u64,
}

impl Bucket<'_> {
    pub(super) fn translate(self) -> Result<v1::DnsBucket, String> {
        Ok(v1::DnsBucket {
            bucket_start_us: time_or("bucket_start", Some(&self.bucket_start), 0)?,
            client_ip: octets(address("client_ip", &self.client_ip)?).into(),
            r#type: self.qtype.into_owned(),
            name_hash: self.qname_hash.into_owned(),
            count: self.count,
            nxdomain: self.nxdomain,
        })
    }
}

/// A number, or its name.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a name or a number")]
enum Code<'a> {
    Number(u32),
    #[serde(borrow)]
    Name(Cow<'a, str>),
}

impl Code<'_> {
    fn number(&self, field: &str, names: &[(&str, u32)]) -> Result<u32, String> {
        let name = match self {
            Self::Number(number) => return Ok(*number),
            Self::Name(name) => name,
        };
        let known = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let numbered = || name.strip_prefix("TYPE").unwrap_or(name).parse().ok();
        known.map(|(_, number)| *number).or_else(numbered).ok_or_else(|| {
            format!("{field} is {:?}, expected a name or a number", super::printable(name, 40))
        })
    }
}

/// RFC 1035, 3596, 2782, 4034, 9460 and others.
const TYPES: [(&str, u32); 19] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DS", 43),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("TLSA", 52),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("ANY", 255),
    ("CAA", 257),
];

const RCODES: [(&str, u32); 7] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("NODATA", 0),
];

#[derive(Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    client_ip: Cow<'a, str>,
    #[serde(borrow)]
    qname: Cow<'a, str>,
    #[serde(borrow)]
    qtype: Code<'a>,
    #[serde(borrow, default)]
    rcode: Option<Code<'a>>,
    #[serde(borrow, default)]
    answers: Option<Vec<Answer<'a>>>,
    #[serde(borrow, default)]
    resolver: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Code<'a>,
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(default)]
    ttl: Option<u32>,
}

impl Response<'_> {
    pub(super) fn translate(self) -> Result<v1::DnsResponse, String> {
        const ADDRESSES: [u32; 2] = [1, 28];
        let mut answers = Vec::new();
        for answer in self.answers.unwrap_or_default() {
            let kind = answer.kind.number("answers.type", &TYPES)?;
            let (address, text) = if ADDRESSES.contains(&kind) {
                // Which of the two it is stands in the address: one of IPv4 is no AAAA's.
                (
                    octets(answer.data.parse::<IpAddr>().map_err(|error| format!("answers.data: {error}"))?),
                    String::new(),
                )
            } else {
                (Vec::new(), answer.data.into_owned())
            };
            answers.push(v1::DnsAnswer {
                name: answer.name.as_deref().unwrap_or(&self.qname).to_owned(),
                r#type: kind,
                address: address.into(),
                text,
                ttl_s: answer.ttl,
            });
        }
        let resolver = self.resolver.filter(|resolver| !resolver.is_empty());
        Ok(v1::DnsResponse {
            client_ip: octets(address("client_ip", &self.client_ip)?).into(),
            name: self.qname.into_owned(),
            r#type: self.qtype.number("qtype", &TYPES)?,
            rcode: self.rcode.map_or(Ok(0), |code| code.number("rcode", &RCODES))?,
            answers,
            resolver_ip: match resolver {
                None => Vec::new().into(),
                Some(resolver) => octets(address("resolver", &resolver)?).into(),
            },
            cached: false,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct Identity<'a> {
    #[serde(borrow)]
    ip: Cow<'a, str>,
    #[serde(borrow, default)]
    last_seen: Option<Cow<'a, str>>,
    #[serde(default)]
    recent_qname_hashes: Option<Vec<String>>,
}

impl Identity<'_> {
    pub(super) fn translate(self) -> Result<v1::HostIdentity, String> {
        Ok(v1::HostIdentity {
            addresses: vec![octets(address("ip", &self.ip)?).into()],
            last_seen_us: time_or("last_seen", self.last_seen.as_deref(), 0)?,
            recent_name_hashes: self.recent_qname_hashes.unwrap_or_default(),
            ..v1::HostIdentity::default()
        })
    }
}

#[derive(Deserialize)]
pub(super) struct Heartbeat {
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "the batch says it; here it is known, so that it does not count as unknown"
    )]
    router_id: Option<Unused>,
}
