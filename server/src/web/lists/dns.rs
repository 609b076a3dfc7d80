//! Answers to questions for names.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Listing,
    params::{Address, Moment, Name, list_params, one_of},
    router_id,
};
use crate::{
    domain::Micros,
    enrich::Enrichment,
    store::{Count, DnsFilter, DnsRow, DnsSort, Page, PageOf, Reader, StoreError},
    web::{WebError, format},
};

list_params! {
    /// Which answers, and in which order.
    DnsParams {
        /// Through this router.
        router: Name as String,
        /// Asked for by the device with this address, or by the router itself at this one.
        device: Address as String,
        /// For this name.
        domain: Name as String,
        /// For a name with this text in it.
        q: Name as String,
        /// A name like `AAAA`, or a number from 0 to 65535.
        r#type: Kind as String,
        /// A name like `NXDOMAIN`, or a number from 0 to 65535.
        rcode: Rcode as String,
        /// At this time or later: RFC 3339, or so long ago (`90m`, `24h`, `7d`).
        from: Moment as String,
        /// At this time or before: RFC 3339, or so long ago.
        to: Moment as String,
        /// `newest` or `oldest`; or, among the newest 20,000 of those searched, `name` or `client`, and `oldest`
        /// if there is a `from`; files cannot have those.
        sort: Sort as String,
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Sort(DnsSort);

fn sort_name(sort: DnsSort) -> &'static str {
    match sort {
        DnsSort::Newest => "newest",
        DnsSort::Oldest => "oldest",
        DnsSort::Name => "name",
        DnsSort::Client => "client",
    }
}

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [DnsSort::Newest, DnsSort::Oldest, DnsSort::Name, DnsSort::Client];
        one_of(text, all, sort_name).map(Self)
    }
}

/// RR types that are seen in a LAN, by number (IANA).
const KINDS: [(i32, &str); 14] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (43, "DS"),
    (48, "DNSKEY"),
    (64, "SVCB"),
    (65, "HTTPS"),
];

/// Response codes by number (IANA).
pub(in crate::web) const RCODES: [(i32, &str); 6] =
    [(0, "NOERROR"), (1, "FORMERR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (4, "NOTIMP"), (5, "REFUSED")];

fn named(number: i32, names: &[(i32, &str)]) -> String {
    let known = names.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

fn numbered(text: &str, names: &[(i32, &str)]) -> Result<u16, String> {
    let known = names.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
    let number = known.and_then(|(number, _)| u16::try_from(*number).ok()).or_else(|| text.parse().ok());
    number.ok_or_else(|| format!("{text:?} is neither a known name nor 0 to 65535"))
}

/// The name of an RR type, or its number.
pub(in crate::web) fn kind_name(kind: i32) -> String {
    named(kind, &KINDS)
}

/// The name of a response code, or its number.
pub(in crate::web) fn rcode_name(rcode: i16) -> String {
    named(rcode.into(), &RCODES)
}

/// An RR type.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Kind(u16);

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        numbered(text, &KINDS).map(Self)
    }
}

/// A response code.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Rcode(u16);

impl std::str::FromStr for Rcode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        numbered(text, &RCODES).map(Self)
    }
}

/// A domain as the database keeps it.
pub(super) fn stored_name(name: &Name) -> String {
    name.0.trim_end_matches('.').to_lowercase()
}

impl Listing for DnsParams {
    type Filter = DnsFilter;
    type Row = DnsRow;
    type Item = DnsItem;

    const NAME: &'static str = "dns";
    const COLUMNS: &'static [&'static str] =
        &["id", "router", "time", "client", "name", "type", "rcode", "resolver", "cached", "answers"];

    fn paging(&self) -> (Option<&str>, Option<usize>) {
        self.own_paging()
    }

    fn without_paging(&self) -> Self {
        self.own_without_paging()
    }

    fn is_of_a_window(&self) -> bool {
        match self.sort {
            None | Some(Sort(DnsSort::Newest)) => false,
            Some(Sort(DnsSort::Oldest)) => self.from.is_some(),
            Some(Sort(DnsSort::Name | DnsSort::Client)) => true,
        }
    }

    fn filter(&self, reader: &Reader, now: Micros) -> Result<DnsFilter, WebError> {
        Ok(DnsFilter {
            router: router_id(reader, self.router.as_ref())?,
            device: self.device.map(|address| address.0),
            domain: self.domain.as_ref().map(stored_name),
            text: self.q.as_ref().map(|text| text.0.to_lowercase()),
            kind: self.r#type.map(|kind| kind.0),
            rcode: self.rcode.map(|rcode| rcode.0),
            from: self.from.map(|from| from.at(now)),
            to: self.to.map(|to| to.at(now)),
            sort: self.sort.map(|sort| sort.0).unwrap_or_default(),
        })
    }

    fn page(reader: &Reader, filter: &DnsFilter, page: Page) -> Result<PageOf<DnsRow>, StoreError> {
        reader.dns(filter, page)
    }

    fn count(reader: &Reader, filter: &DnsFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_dns(filter, limit)
    }

    fn item(row: DnsRow, _known: &Enrichment) -> DnsItem {
        DnsItem {
            id: row.id,
            router: row.router_name,
            time: format::rfc3339(row.time),
            client: row.client,
            name: row.name,
            kind: kind_name(row.kind),
            rcode: rcode_name(row.rcode),
            resolver: row.resolver,
            cached: row.cached,
            answers: row
                .answers
                .into_iter()
                .map(|answer| AnswerItem {
                    name: answer.name,
                    kind: kind_name(answer.kind),
                    data: answer.data,
                    ttl: answer.ttl_s,
                })
                .collect(),
        }
    }
}

/// An answer to a question for a name.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct DnsItem {
    id: i64,
    router: String,
    /// RFC 3339.
    time: String,
    /// Who asked.
    #[schema(value_type = String)]
    client: std::net::IpAddr,
    /// Lower case, without the final dot.
    name: String,
    /// The RR type's name, or its number.
    #[serde(rename = "type")]
    kind: String,
    /// The response code's name, or its number.
    rcode: String,
    /// Who answered; null: the router itself.
    #[schema(value_type = Option<String>)]
    resolver: Option<std::net::IpAddr>,
    /// The router answered without asking anyone.
    cached: bool,
    answers: Vec<AnswerItem>,
}

/// A record of an answer.
#[derive(Serialize, ToSchema)]
struct AnswerItem {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    data: String,
    /// Seconds; null: not known.
    ttl: Option<i64>,
}
