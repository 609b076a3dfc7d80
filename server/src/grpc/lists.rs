//! The console's lists: requests to filters, rows to messages.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use netmon_proto::v1;
use tonic::Status;

use super::values::{self, address, direction, failed, name, number, router, text, time, wrong};
use crate::{
    cursor,
    domain::{End, Hook},
    enrich::Enrichment,
    store::{
        Count, DeviceFilter, DeviceRow, DnsFilter, DnsRow, DropFilter, DropRow, FlowFilter, FlowRow,
        FlowText, Page, PageOf, Reader, StoreError,
    },
};

const DEFAULT_SIZE: u32 = 50;
/// The most rows of one answer.
pub(super) const MAX_SIZE: u32 = 1_000;
/// Counting rows stops here: nobody reads further, and it must not cost more than the list.
const COUNT_LIMIT: u32 = 10_000;

/// A list of the console: its request knows its filter and how rows are told.
pub(super) trait List: Debug + Clone {
    type Filter;
    type Row;
    type Entry;

    const NAME: &'static str;

    /// Which part is wanted; what remains is what a token belongs to.
    fn take_page(&mut self) -> Option<v1::PageRequest>;
    fn filter(&self, reader: &Reader) -> Result<Self::Filter, Status>;
    /// The same filter, which looks at what is known from elsewhere, too.
    fn with_known(filter: Self::Filter, _known: &Arc<Enrichment>) -> Self::Filter {
        filter
    }
    fn page(reader: &Reader, filter: &Self::Filter, page: Page) -> Result<PageOf<Self::Row>, StoreError>;
    fn count(reader: &Reader, filter: &Self::Filter, limit: u32) -> Result<Count, StoreError>;
    fn entry(row: Self::Row, known: &Enrichment) -> Self::Entry;
}

/// Reads a page and counts. Blocks.
pub(super) fn answer<L: List>(
    reader: &Reader,
    known: &Arc<Enrichment>,
    mut request: L,
) -> Result<(Vec<L::Entry>, v1::PageInfo), Status> {
    let asked = request.take_page().unwrap_or_default();
    let size = if asked.size == 0 { DEFAULT_SIZE } else { asked.size };
    if size > MAX_SIZE {
        return Err(wrong("page.size", size, &format!("at most {MAX_SIZE}")));
    }
    let before = if asked.token.is_empty() {
        None
    } else {
        let place = cursor::decode(L::NAME, &request, &asked.token);
        Some(place.ok_or_else(|| {
            Status::invalid_argument(
                "page.token: expected next_token of a page of this list with the same filters",
            )
        })?)
    };
    let filter = L::with_known(request.filter(reader)?, known);
    let limit = usize::try_from(size).unwrap_or(usize::MAX);
    let page = L::page(reader, &filter, Page { before, limit }).map_err(failed)?;
    let count = L::count(reader, &filter, COUNT_LIMIT).map_err(failed)?;
    let next = page.next.map(|place| cursor::encode(L::NAME, &request, place));
    let info =
        v1::PageInfo { next_token: next.unwrap_or_default(), total: count.total, total_capped: count.capped };
    Ok((page.items.into_iter().map(|row| L::entry(row, known)).collect(), info))
}

impl List for v1::ListDevicesRequest {
    type Filter = DeviceFilter;
    type Row = DeviceRow;
    type Entry = v1::Device;

    const NAME: &'static str = "console devices";

    fn take_page(&mut self) -> Option<v1::PageRequest> {
        self.page.take()
    }

    fn filter(&self, reader: &Reader) -> Result<DeviceFilter, Status> {
        Ok(DeviceFilter {
            router: router(reader, &self.router_id)?,
            address: address("address", &self.address)?,
            text: text("text", &self.text)?,
            sort: values::device_order(self.order)?,
        })
    }

    fn page(reader: &Reader, filter: &DeviceFilter, page: Page) -> Result<PageOf<DeviceRow>, StoreError> {
        reader.devices(filter, page)
    }

    fn count(reader: &Reader, filter: &DeviceFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_devices(filter, limit)
    }

    fn entry(row: DeviceRow, known: &Enrichment) -> v1::Device {
        v1::Device {
            id: row.id,
            router_id: row.router_name,
            address: row.address.to_string(),
            first_seen_us: row.first_seen,
            last_seen_us: row.last_seen,
            name: row.name.unwrap_or_default(),
            mac: row.mac.map(|mac| hardware_address(&mac)).unwrap_or_default(),
            vendor: row.mac.and_then(|mac| known.vendors.find(mac)).unwrap_or_default(),
        }
    }
}

impl List for v1::ListFlowsRequest {
    type Filter = FlowFilter;
    type Row = FlowRow;
    type Entry = v1::FlowEntry;

    const NAME: &'static str = "console flows";

    fn take_page(&mut self) -> Option<v1::PageRequest> {
        self.page.take()
    }

    fn filter(&self, reader: &Reader) -> Result<FlowFilter, Status> {
        Ok(FlowFilter {
            router: router(reader, &self.router_id)?,
            device: address("device", &self.device)?,
            host: address("host", &self.host)?,
            domain: text("domain", &self.domain)?,
            direction: direction(self.direction)?,
            protocol: number("protocol", Some(self.protocol).filter(|protocol| *protocol != 0))?,
            port: number("port", self.port)?,
            ended: self.ended,
            from: time(self.from_us),
            to: time(self.to_us),
            text: text("domain_part", &self.domain_part)?.map(FlowText::Name),
            sort: values::flow_order(self.order)?,
        })
    }

    fn page(reader: &Reader, filter: &FlowFilter, page: Page) -> Result<PageOf<FlowRow>, StoreError> {
        reader.flows(filter, page)
    }

    fn count(reader: &Reader, filter: &FlowFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_flows(filter, limit)
    }

    fn entry(row: FlowRow, _known: &Enrichment) -> v1::FlowEntry {
        let flow = row.flow;
        let (tuple, counters, before) = (flow.key.tuple, flow.counters, flow.before);
        let name = flow.name.as_ref();
        v1::FlowEntry {
            id: flow.id.0,
            router_id: row.router_name,
            device: shown(flow.device),
            remote: shown(flow.remote),
            direction: flow.direction as i32,
            protocol: flow.key.protocol.into(),
            src_ip: tuple.src.to_string(),
            src_port: tuple.src_port.into(),
            dst_ip: tuple.dst.to_string(),
            dst_port: tuple.dst_port.into(),
            service_port: flow.service_port().into(),
            tcp_state: flow.tcp_state.into(),
            status: flow.status,
            first_seen_us: flow.first_seen,
            last_seen_us: flow.last_seen,
            bytes_orig: figure(counters.bytes_orig),
            bytes_reply: figure(counters.bytes_reply),
            packets_orig: figure(counters.packets_orig),
            packets_reply: figure(counters.packets_reply),
            bytes_orig_before: figure(before.bytes_orig),
            bytes_reply_before: figure(before.bytes_reply),
            packets_orig_before: figure(before.packets_orig),
            packets_reply_before: figure(before.packets_reply),
            no_counters: flow.no_counters,
            ended: flow.end.is_some(),
            end_unseen: flow.end == Some(End::Unseen),
            domain: name.and_then(|name| name.domain.as_deref()).unwrap_or_default().to_owned(),
            domain_confidence: name.map_or(0, |name| name.confidence.into()),
        }
    }
}

impl List for v1::ListDnsRequest {
    type Filter = DnsFilter;
    type Row = DnsRow;
    type Entry = v1::DnsEntry;

    const NAME: &'static str = "console dns";

    fn take_page(&mut self) -> Option<v1::PageRequest> {
        self.page.take()
    }

    fn filter(&self, reader: &Reader) -> Result<DnsFilter, Status> {
        Ok(DnsFilter {
            router: router(reader, &self.router_id)?,
            device: address("device", &self.device)?,
            domain: text("domain", &self.domain)?,
            text: text("text", &self.text)?,
            kind: number("type", Some(self.r#type).filter(|kind| *kind != 0))?,
            rcode: number("rcode", self.rcode)?,
            from: time(self.from_us),
            to: time(self.to_us),
            sort: values::dns_order(self.order)?,
        })
    }

    fn page(reader: &Reader, filter: &DnsFilter, page: Page) -> Result<PageOf<DnsRow>, StoreError> {
        reader.dns(filter, page)
    }

    fn count(reader: &Reader, filter: &DnsFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_dns(filter, limit)
    }

    fn entry(row: DnsRow, _known: &Enrichment) -> v1::DnsEntry {
        let records = row.answers.into_iter().map(|answer| v1::DnsEntryRecord {
            name: answer.name,
            r#type: answer.kind.unsigned_abs(),
            data: answer.data,
            ttl_s: answer.ttl_s.map(figure),
        });
        v1::DnsEntry {
            id: row.id,
            router_id: row.router_name,
            time_us: row.time,
            client_ip: row.client.to_string(),
            name: row.name,
            r#type: row.kind.unsigned_abs(),
            rcode: row.rcode.unsigned_abs().into(),
            resolver_ip: shown(row.resolver),
            cached: row.cached,
            records: records.collect(),
        }
    }
}

impl List for v1::ListDropsRequest {
    type Filter = DropFilter;
    type Row = DropRow;
    type Entry = v1::DropEntry;

    const NAME: &'static str = "console drops";

    fn take_page(&mut self) -> Option<v1::PageRequest> {
        self.page.take()
    }

    fn filter(&self, reader: &Reader) -> Result<DropFilter, Status> {
        let hook = Hook::named(&self.hook);
        if hook == Hook::Unknown && !self.hook.is_empty() {
            return Err(wrong(
                "hook",
                &self.hook,
                "PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING or INGRESS",
            ));
        }
        Ok(DropFilter {
            router: router(reader, &self.router_id)?,
            device: address("device", &self.device)?,
            host: address("host", &self.host)?,
            source: address("source", &self.source)?,
            hook: (hook != Hook::Unknown).then_some(hook),
            interface: name("interface", &self.interface)?,
            protocol: number("protocol", Some(self.protocol).filter(|protocol| *protocol != 0))?,
            port: number("port", self.port)?,
            text: text("text", &self.text)?,
            from: time(self.from_us),
            to: time(self.to_us),
            sort: values::drop_order(self.order)?,
        })
    }

    fn page(reader: &Reader, filter: &DropFilter, page: Page) -> Result<PageOf<DropRow>, StoreError> {
        reader.drops(filter, page)
    }

    fn count(reader: &Reader, filter: &DropFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_drops(filter, limit)
    }

    fn entry(row: DropRow, _known: &Enrichment) -> v1::DropEntry {
        v1::DropEntry {
            id: row.id,
            router_id: row.router_name,
            time_us: row.time,
            hook: row.hook.name().to_owned(),
            prefix: row.prefix,
            in_interface: row.in_interface,
            out_interface: row.out_interface,
            src_ip: row.src.to_string(),
            dst_ip: row.dst.to_string(),
            src_port: row.src_port.unsigned_abs(),
            dst_port: row.dst_port.unsigned_abs(),
            protocol: row.protocol.unsigned_abs().into(),
            length: figure(row.length),
            left_out: figure(row.left_out),
            tcp_flags: row.tcp_flags.map(|flags| flags.unsigned_abs().into()),
            icmp_type: row.icmp_type.map(|kind| kind.unsigned_abs().into()),
            icmp_code: row.icmp_code.map(|code| code.unsigned_abs().into()),
            src_mac: row.src_mac.as_deref().map(hardware_address).unwrap_or_default(),
            nflog_group: row.nflog_group.unsigned_abs(),
        }
    }
}

/// What is stored is never negative.
pub(super) fn figure(figure: i64) -> u64 {
    u64::try_from(figure).unwrap_or_default()
}

fn shown(address: Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}

fn hardware_address(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
