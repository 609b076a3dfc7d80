//! Flows.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Listing,
    params::{Address, DirectionName, Moment, Name, Port, Protocol, Switch, list_params, one_of},
    router_id,
};
use crate::{
    domain::{Counters, FlowRecord, Micros},
    enrich::{self, Enrichment},
    store::{Count, FlowFilter, FlowRow, FlowSort, FlowText, Page, PageOf, Reader, StoreError},
    web::{WebError, format},
};

list_params! {
    /// Which flows, and in which order.
    FlowParams {
        /// Seen by this router.
        router: Name as String,
        /// With this address of a device.
        device: Address as String,
        /// With this address of a remote host.
        host: Address as String,
        /// Whose responder was called by this name.
        domain: Name as String,
        /// `out`, `in`, `lan`, `local` or `forward`.
        direction: DirectionName as String,
        /// A name like `tcp`, or a number from 0 to 255.
        protocol: Protocol as String,
        /// The responder's port, after destination NAT.
        port: Port as u16,
        /// Alive at this time or later: RFC 3339, or so long ago (`90m`, `24h`, `7d`).
        from: Moment as String,
        /// Begun at this time or before: RFC 3339, or so long ago.
        to: Moment as String,
        /// `true`: only ended ones; `false`: only open ones.
        ended: Switch as bool,
        /// An address of either end, a port, the name of a protocol, or a part of the responder's name.
        q: Text as String,
        /// `newest`; or, among the newest 20,000 of those searched, `bytes`, `last_seen` or `duration`, which files
        /// cannot have.
        sort: Sort as String,
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Sort(FlowSort);

fn sort_name(sort: FlowSort) -> &'static str {
    match sort {
        FlowSort::Newest => "newest",
        FlowSort::Bytes => "bytes",
        FlowSort::LastSeen => "last_seen",
        FlowSort::Duration => "duration",
    }
}

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [FlowSort::Newest, FlowSort::Bytes, FlowSort::LastSeen, FlowSort::Duration];
        one_of(text, all, sort_name).map(Self)
    }
}

/// Characters of a part of a name that can be searched for: fewer are in most names.
const SHORTEST_NAME: usize = 3;

/// What was typed into the search field.
#[derive(Clone, Debug)]
pub(in crate::web) struct Text(FlowText);

impl std::str::FromStr for Text {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse().map(|Address(address)| FlowText::Address(address));
        let port = || text.parse().map(|Port(port)| FlowText::Port(port));
        let protocol = || text.parse().map(|Protocol(protocol)| FlowText::Protocol(protocol));
        let found = address.or_else(|_| port()).or_else(|_| protocol());
        let name = || {
            let name = text.trim().trim_end_matches('.').to_lowercase();
            (name.chars().count() >= SHORTEST_NAME && text.parse::<Name>().is_ok())
                .then_some(FlowText::Name(name))
        };
        found.ok().or_else(name).map(Self).ok_or_else(|| {
            format!("{text:?} is not an address, a port, the name of a protocol, or three letters or more of a name")
        })
    }
}

impl Listing for FlowParams {
    type Filter = FlowFilter;
    type Row = FlowRow;
    type Item = FlowItem;

    const NAME: &'static str = "flows";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "router",
        "device",
        "remote",
        "direction",
        "protocol",
        "src_ip",
        "src_port",
        "dst_ip",
        "dst_port",
        "nat/reply_src_ip",
        "nat/reply_src_port",
        "nat/reply_dst_ip",
        "nat/reply_dst_port",
        "icmp_type",
        "icmp_code",
        "icmp_id",
        "state",
        "flags",
        "first_seen",
        "last_seen",
        "bytes_orig",
        "bytes_reply",
        "packets_orig",
        "packets_reply",
        "bytes_orig_before",
        "bytes_reply_before",
        "packets_orig_before",
        "packets_reply_before",
        "no_counters",
        "ended",
        "end_unseen",
        "domain",
        "domain_confidence",
        "score",
        "reasons",
        "service",
    ];

    fn paging(&self) -> (Option<&str>, Option<usize>) {
        self.own_paging()
    }

    fn without_paging(&self) -> Self {
        self.own_without_paging()
    }

    fn is_of_a_window(&self) -> bool {
        self.sort.is_some_and(|Sort(sort)| sort != FlowSort::Newest)
    }

    fn filter(&self, reader: &Reader, now: Micros) -> Result<FlowFilter, WebError> {
        Ok(FlowFilter {
            router: router_id(reader, self.router.as_ref())?,
            device: self.device.map(|address| address.0),
            host: self.host.map(|address| address.0),
            domain: self.domain.as_ref().map(super::dns::stored_name),
            direction: self.direction.map(|direction| direction.0),
            protocol: self.protocol.map(|protocol| protocol.0),
            port: self.port.map(|port| port.0),
            ended: self.ended.map(|ended| ended.0),
            from: self.from.map(|from| from.at(now)),
            to: self.to.map(|to| to.at(now)),
            text: self.q.clone().map(|text| text.0),
            sort: self.sort.map(|sort| sort.0).unwrap_or_default(),
        })
    }

    fn page(reader: &Reader, filter: &FlowFilter, page: Page) -> Result<PageOf<FlowRow>, StoreError> {
        reader.flows(filter, page)
    }

    fn count(reader: &Reader, filter: &FlowFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_flows(filter, limit)
    }

    fn item(row: FlowRow, _known: &Enrichment) -> FlowItem {
        FlowItem::new(row.router_name, &row.flow)
    }
}

/// A flow, open or ended. `orig` is the direction of its first packet, `reply` the other one.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct FlowItem {
    id: i64,
    router: String,
    /// The address of the LAN device that takes part.
    #[schema(value_type = Option<String>)]
    device: Option<std::net::IpAddr>,
    /// The outside address that takes part.
    #[schema(value_type = Option<String>)]
    remote: Option<std::net::IpAddr>,
    /// `out`, `in`, `lan`, `local` or `forward`.
    direction: &'static str,
    /// The IANA keyword in lower case, or the number.
    protocol: String,
    #[schema(value_type = String)]
    src_ip: std::net::IpAddr,
    src_port: u16,
    #[schema(value_type = String)]
    dst_ip: std::net::IpAddr,
    dst_port: u16,
    /// The reply tuple of a translated flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    nat: Option<Nat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_id: Option<u16>,
    /// A TCP flow's state, or what is known of another's.
    state: &'static str,
    /// The kernel's status bits by name, joined with `|`.
    flags: String,
    /// RFC 3339.
    first_seen: String,
    /// RFC 3339.
    last_seen: String,
    #[serde(flatten)]
    counters: CountersItem,
    /// What had moved before the flow was watched.
    bytes_orig_before: i64,
    bytes_reply_before: i64,
    packets_orig_before: i64,
    packets_reply_before: i64,
    /// The kernel kept no counters for it.
    no_counters: bool,
    ended: bool,
    /// Its last bytes are not known.
    end_unseen: bool,
    // Names, scores and reasons have their columns from the start, so that scripts need not change.
    /// The name that its device had asked for.
    domain: Option<String>,
    /// From 0 to 1.
    domain_confidence: Option<f64>,
    /// From 0 to 100.
    score: i64,
    reasons: Vec<String>,
    /// IANA's name of the responder's port, after destination NAT; null: not a well-known one.
    service: Option<&'static str>,
}

/// The reply tuple of a translated flow.
#[derive(Serialize, ToSchema)]
struct Nat {
    #[schema(value_type = String)]
    reply_src_ip: std::net::IpAddr,
    reply_src_port: u16,
    #[schema(value_type = String)]
    reply_dst_ip: std::net::IpAddr,
    reply_dst_port: u16,
}

/// What moved.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct CountersItem {
    bytes_orig: i64,
    bytes_reply: i64,
    packets_orig: i64,
    packets_reply: i64,
}

impl FlowItem {
    pub(in crate::web) fn new(router: String, flow: &FlowRecord) -> Self {
        let tuple = flow.key.tuple;
        Self {
            id: flow.id.0,
            router,
            device: flow.device,
            remote: flow.remote,
            direction: flow.direction.name(),
            protocol: format::protocol(flow.key.protocol),
            src_ip: tuple.src,
            src_port: tuple.src_port,
            dst_ip: tuple.dst,
            dst_port: tuple.dst_port,
            nat: flow.reply.map(|reply| Nat {
                reply_src_ip: reply.src,
                reply_src_port: reply.src_port,
                reply_dst_ip: reply.dst,
                reply_dst_port: reply.dst_port,
            }),
            icmp_type: flow.icmp.map(|icmp| icmp.kind),
            icmp_code: flow.icmp.map(|icmp| icmp.code),
            icmp_id: flow.icmp.map(|icmp| icmp.id),
            state: format::state(flow),
            flags: format::flags(flow.status),
            first_seen: format::rfc3339(flow.first_seen),
            last_seen: format::rfc3339(flow.last_seen),
            counters: flow.counters.into(),
            bytes_orig_before: flow.before.bytes_orig,
            bytes_reply_before: flow.before.bytes_reply,
            packets_orig_before: flow.before.packets_orig,
            packets_reply_before: flow.before.packets_reply,
            no_counters: flow.no_counters,
            ended: flow.end.is_some(),
            end_unseen: flow.end == Some(crate::domain::End::Unseen),
            domain: flow.name.as_ref().and_then(|name| name.domain.as_deref().map(str::to_owned)),
            domain_confidence: flow.name.as_ref().map(|name| f64::from(name.confidence) / 100.0),
            score: 0,
            reasons: Vec::new(),
            service: enrich::service(flow.key.protocol, flow.service_port()),
        }
    }
}

impl From<Counters> for CountersItem {
    fn from(counters: Counters) -> Self {
        Self {
            bytes_orig: counters.bytes_orig,
            bytes_reply: counters.bytes_reply,
            packets_orig: counters.packets_orig,
            packets_reply: counters.packets_reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_an_address_a_port_a_protocol_or_a_name() {
        for (text, expected) in [
            ("192.0.2.1", Ok(FlowText::Address([192, 0, 2, 1].into()))),
            ("443", Ok(FlowText::Port(443))),
            ("UDP", Ok(FlowText::Protocol(17))),
            ("65536", Ok(FlowText::Name("65536".to_owned()))),
            ("Example.", Ok(FlowText::Name("example".to_owned()))),
            (
                "ex",
                Err("\"ex\" is not an address, a port, the name of a protocol, or three letters or more of a name"
                    .to_owned()),
            ),
        ] {
            assert_eq!(text.parse().map(|Text(text)| text), expected, "{text}");
        }
    }
}
