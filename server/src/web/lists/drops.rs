//! Packets that firewalls dropped.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Listing,
    params::{Address, Moment, Name, Port, Protocol, list_params, one_of},
    router_id,
};
use crate::{
    domain::{Hook, Micros},
    enrich::{self, Enrichment},
    store::{Count, DropFilter, DropRow, DropSort, Page, PageOf, Reader, StoreError},
    web::{WebError, format},
};

list_params! {
    /// Which drops, and in which order.
    DropParams {
        /// By this router.
        router: Name as String,
        /// From or to the device with this address.
        device: Address as String,
        /// From or to the remote host with this address.
        host: Address as String,
        /// Sent by this address.
        source: Address as String,
        /// `PREROUTING`, `INPUT`, `FORWARD`, `OUTPUT`, `POSTROUTING` or `INGRESS`.
        hook: HookName as String,
        /// In or out by the interface of this name.
        interface: Name as String,
        /// A name like `tcp`, or a number from 0 to 255.
        protocol: Protocol as String,
        /// To this port.
        port: Port as u16,
        /// With this text in the rule's prefix.
        q: Name as String,
        /// At this time or later: RFC 3339, or so long ago (`90m`, `24h`, `7d`).
        from: Moment as String,
        /// At this time or before: RFC 3339, or so long ago.
        to: Moment as String,
        /// `newest` or `oldest`; or, among the newest 20,000 of those searched, `source`, `port` or `left_out`, and
        /// `oldest` if there is a `from`; files cannot have those.
        sort: Sort as String,
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct Sort(DropSort);

fn sort_name(sort: DropSort) -> &'static str {
    match sort {
        DropSort::Newest => "newest",
        DropSort::Oldest => "oldest",
        DropSort::Source => "source",
        DropSort::Port => "port",
        DropSort::LeftOut => "left_out",
    }
}

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use DropSort::{LeftOut, Newest, Oldest, Port, Source};
        one_of(text, [Newest, Oldest, Source, Port, LeftOut], sort_name).map(Self)
    }
}

/// A hook's name.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct HookName(Hook);

impl HookName {
    /// Those that have a name.
    pub(in crate::web) const ALL: [Hook; 6] =
        [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting, Hook::Ingress];
}

impl std::str::FromStr for HookName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, Self::ALL, Hook::name).map(Self)
    }
}

impl Listing for DropParams {
    type Filter = DropFilter;
    type Row = DropRow;
    type Item = DropItem;

    const NAME: &'static str = "drops";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "router",
        "time",
        "hook",
        "prefix",
        "nflog_group",
        "in_interface",
        "out_interface",
        "protocol",
        "src_ip",
        "src_port",
        "dst_ip",
        "dst_port",
        "tcp_flags",
        "icmp_type",
        "icmp_code",
        "src_mac",
        "length",
        "left_out",
        "service",
    ];

    fn paging(&self) -> (Option<&str>, Option<usize>) {
        self.own_paging()
    }

    fn without_paging(&self) -> Self {
        self.own_without_paging()
    }

    fn is_of_a_window(&self) -> bool {
        match self.sort {
            None | Some(Sort(DropSort::Newest)) => false,
            Some(Sort(DropSort::Oldest)) => self.from.is_some(),
            Some(Sort(DropSort::Source | DropSort::Port | DropSort::LeftOut)) => true,
        }
    }

    fn filter(&self, reader: &Reader, now: Micros) -> Result<DropFilter, WebError> {
        Ok(DropFilter {
            router: router_id(reader, self.router.as_ref())?,
            device: self.device.map(|address| address.0),
            host: self.host.map(|address| address.0),
            source: self.source.map(|address| address.0),
            hook: self.hook.map(|hook| hook.0),
            interface: self.interface.as_ref().map(|name| name.0.clone()),
            protocol: self.protocol.map(|protocol| protocol.0),
            port: self.port.map(|port| port.0),
            text: self.q.as_ref().map(|text| text.0.to_lowercase()),
            from: self.from.map(|from| from.at(now)),
            to: self.to.map(|to| to.at(now)),
            sort: self.sort.map(|sort| sort.0).unwrap_or_default(),
        })
    }

    fn page(reader: &Reader, filter: &DropFilter, page: Page) -> Result<PageOf<DropRow>, StoreError> {
        reader.drops(filter, page)
    }

    fn count(reader: &Reader, filter: &DropFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_drops(filter, limit)
    }

    fn item(row: DropRow, _known: &Enrichment) -> DropItem {
        let port = u8::try_from(row.protocol).ok().zip(u16::try_from(row.dst_port).ok());
        let service = port.and_then(|(protocol, port)| enrich::service(protocol, port));
        DropItem {
            id: row.id,
            router: row.router_name,
            time: format::rfc3339(row.time),
            hook: row.hook.name(),
            prefix: row.prefix,
            nflog_group: row.nflog_group,
            in_interface: row.in_interface,
            out_interface: row.out_interface,
            protocol: u8::try_from(row.protocol).map_or_else(|_| row.protocol.to_string(), format::protocol),
            src_ip: row.src,
            src_port: row.src_port,
            dst_ip: row.dst,
            dst_port: row.dst_port,
            tcp_flags: row.tcp_flags.map(tcp_flags),
            icmp_type: row.icmp_type,
            icmp_code: row.icmp_code,
            src_mac: row.src_mac.as_deref().map(mac),
            length: row.length,
            left_out: row.left_out,
            service,
        }
    }
}

/// The flags that are set, joined with `|`.
pub(in crate::web) fn tcp_flags(bits: i16) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = names.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// A packet that a firewall dropped.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct DropItem {
    id: i64,
    router: String,
    /// RFC 3339.
    time: String,
    hook: &'static str,
    /// The rule's log prefix.
    prefix: String,
    nflog_group: i32,
    /// Empty: none.
    in_interface: String,
    /// Empty: none.
    out_interface: String,
    protocol: String,
    #[schema(value_type = String)]
    src_ip: std::net::IpAddr,
    src_port: i32,
    #[schema(value_type = String)]
    dst_ip: std::net::IpAddr,
    dst_port: i32,
    /// The flags that are set, joined with `|`.
    tcp_flags: Option<String>,
    icmp_type: Option<i16>,
    icmp_code: Option<i16>,
    /// The sender's hardware address.
    src_mac: Option<String>,
    /// Of the packet, in bytes.
    length: i64,
    /// How many like packets of this source were left out before it.
    left_out: i64,
    /// IANA's name of the port that it was for; null: not a well-known one.
    service: Option<&'static str>,
}
