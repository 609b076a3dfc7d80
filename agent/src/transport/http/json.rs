//! Events as the original agent wrote them. What it had no word for is not posted, but for gaps: a server
//! keeps types that it does not know as they are, so that a loss is at least on record there.

use netmon_proto::v1::{
    Direction, DnsAnswer, DnsBucket, DnsResponse, End, Event, FirewallDrop, Flow, FlowPhase, Gap,
    HostIdentity, TcpState, event::Kind,
};
use serde::Serialize;

use super::words::{Address, Flags, RcodeName, Time, TypeName};

const TCP_SYN: u32 = 2;
const TCP_ACK: u32 = 16;

/// Whether the format has a word for an event. Heartbeats have one, but they are made when they are posted.
/// `beginnings`: whether connections are told of before their end.
pub(crate) fn is_posted(event: &Event, beginnings: bool) -> bool {
    match &event.kind {
        Some(Kind::Flow(flow)) => beginnings || flow.phase() == FlowPhase::End,
        Some(Kind::HostIdentity(host)) => !host.recent_name_hashes.is_empty(),
        Some(Kind::FirewallDrop(_) | Kind::DnsResponse(_) | Kind::DnsBucket(_) | Kind::Gap(_)) => true,
        Some(Kind::RouterHealth(_) | Kind::Heartbeat(_) | Kind::TableSync(_)) | None => false,
    }
}

/// Appends the lines of one event, each as a JSON object: one, or one per address where the format knows
/// single addresses only. `after` is called behind each.
pub(super) fn write(event: &Event, out: &mut Vec<u8>, mut after: impl FnMut(&mut Vec<u8>)) {
    let ts = Time(event.time_us);
    match &event.kind {
        Some(Kind::Flow(flow)) => line(out, "flow", ts, FlowData::new(flow)),
        Some(Kind::FirewallDrop(drop)) => line(out, "firewall_drop", ts, DropData::new(drop)),
        Some(Kind::DnsResponse(response)) => line(out, "dns_response", ts, ResponseData::new(response)),
        Some(Kind::DnsBucket(bucket)) => line(out, "dns_bucket", ts, BucketData::new(bucket)),
        Some(Kind::Gap(gap)) => line(out, "gap", ts, GapData::new(gap)),
        Some(Kind::HostIdentity(host)) => {
            for address in &host.addresses {
                line(out, "host_identity", ts, HostData::new(host, address));
                after(out);
            }
            return;
        }
        Some(Kind::RouterHealth(_) | Kind::Heartbeat(_) | Kind::TableSync(_)) | None => return,
    }
    after(out);
}

/// A sign of life, as of `now_us`.
pub(super) fn heartbeat(router_id: &str, now_us: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    line(&mut out, "heartbeat", Time(now_us), HeartbeatData { router_id });
    out
}

fn line(out: &mut Vec<u8>, kind: &'static str, ts: Time, data: impl Serialize) {
    // Writing numbers and texts to memory does not fail.
    let _ = serde_json::to_writer(out, &Line { kind, ts, data });
}

#[derive(Serialize)]
struct Line<D> {
    #[serde(rename = "type")]
    kind: &'static str,
    ts: Time,
    data: D,
}

#[derive(Serialize)]
struct HeartbeatData<'a> {
    router_id: &'a str,
}

#[derive(Serialize)]
struct FlowData<'a> {
    event: &'static str,
    state: &'static str,
    flags: Flags,
    src_ip: Address<'a>,
    dst_ip: Address<'a>,
    src_port: u32,
    dst_port: u32,
    l4proto: u32,
    dir: &'static str,
    bytes_orig: u64,
    bytes_reply: u64,
    packets_orig: u64,
    packets_reply: u64,
    first_seen: Time,
    last_seen: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_context: Option<ContextData<'a>>,
}

#[derive(Serialize)]
struct ContextData<'a> {
    recent_qname_hashes: &'a [String],
    last_seen: Time,
}

impl<'a> FlowData<'a> {
    fn new(flow: &'a Flow) -> Self {
        let event = match flow.phase() {
            FlowPhase::New => "NEW",
            FlowPhase::End => "DESTROY",
            FlowPhase::Found | FlowPhase::Progress | FlowPhase::Unspecified => "UPDATE",
        };
        let name = flow.tcp_state().as_str_name();
        let state = match flow.tcp_state() {
            TcpState::Unspecified => event,
            _ => name.strip_prefix("TCP_STATE_").unwrap_or(name),
        };
        let dns_context = flow.dns_context.as_ref().map(|context| ContextData {
            recent_qname_hashes: &context.recent_name_hashes,
            last_seen: Time(context.last_seen_us),
        });
        Self {
            event,
            state,
            flags: Flags(flow.status),
            src_ip: Address(&flow.src_ip),
            dst_ip: Address(&flow.dst_ip),
            src_port: flow.src_port,
            dst_port: flow.dst_port,
            l4proto: flow.protocol,
            dir: direction(flow),
            bytes_orig: flow.bytes_orig,
            bytes_reply: flow.bytes_reply,
            packets_orig: flow.packets_orig,
            packets_reply: flow.packets_reply,
            first_seen: Time(flow.first_seen_us),
            last_seen: Time(flow.last_seen_us),
            dns_context,
        }
    }
}

/// Three words for six directions. What the router itself begins goes out; what is begun with it comes in.
fn direction(flow: &Flow) -> &'static str {
    match flow.direction() {
        Direction::Out => "OUT",
        Direction::In => "IN",
        // The far end, where there is one, is outside or in the LAN; the router is the other one.
        Direction::Local if is_responder(flow.device) || is_responder(flow.remote) => "OUT",
        Direction::Local if is_initiator(flow.device) || is_initiator(flow.remote) => "IN",
        Direction::Local => "OUT",
        Direction::Lan | Direction::Forward | Direction::Unspecified => "FWD",
    }
}

fn is_initiator(end: i32) -> bool {
    end == End::Initiator as i32
}

fn is_responder(end: i32) -> bool {
    end == End::Responder as i32
}

#[derive(Serialize)]
struct DropData<'a> {
    hook: &'a str,
    rule_tag: &'a str,
    nflog_group: u32,
    if_in: Option<&'a str>,
    if_out: Option<&'a str>,
    src_ip: Address<'a>,
    dst_ip: Address<'a>,
    src_port: u32,
    dst_port: u32,
    l4proto: u32,
    tcp_syn: bool,
}

impl<'a> DropData<'a> {
    fn new(drop: &'a FirewallDrop) -> Self {
        let name = |name: &'a str| Some(name).filter(|name| !name.is_empty());
        Self {
            hook: &drop.hook,
            rule_tag: &drop.prefix,
            nflog_group: drop.nflog_group,
            if_in: name(&drop.in_interface),
            if_out: name(&drop.out_interface),
            src_ip: Address(&drop.src_ip),
            dst_ip: Address(&drop.dst_ip),
            src_port: drop.src_port,
            dst_port: drop.dst_port,
            l4proto: drop.protocol,
            tcp_syn: drop.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN,
        }
    }
}

#[derive(Serialize)]
struct ResponseData<'a> {
    client_ip: Address<'a>,
    qname: &'a str,
    qtype: TypeName,
    rcode: RcodeName,
    answers: Vec<AnswerData<'a>>,
    resolver: Option<Address<'a>>,
}

#[derive(Serialize)]
struct AnswerData<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: TypeName,
    data: AnswerText<'a>,
    ttl: Option<u32>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnswerText<'a> {
    Address(Address<'a>),
    Text(&'a str),
}

impl<'a> ResponseData<'a> {
    fn new(response: &'a DnsResponse) -> Self {
        let answer = |answer: &'a DnsAnswer| AnswerData {
            name: &answer.name,
            kind: TypeName(answer.r#type),
            data: if answer.address.is_empty() {
                AnswerText::Text(&answer.text)
            } else {
                AnswerText::Address(Address(&answer.address))
            },
            ttl: answer.ttl_s,
        };
        Self {
            client_ip: Address(&response.client_ip),
            qname: &response.name,
            qtype: TypeName(response.r#type),
            rcode: RcodeName(response.rcode),
            answers: response.answers.iter().map(answer).collect(),
            resolver: Some(Address(&response.resolver_ip)).filter(|_| !response.resolver_ip.is_empty()),
        }
    }
}

#[derive(Serialize)]
struct BucketData<'a> {
    bucket_start: Time,
    client_ip: Address<'a>,
    qtype: &'a str,
    qname_hash: &'a str,
    count: u64,
    nxdomain: u64,
}

impl<'a> BucketData<'a> {
    fn new(bucket: &'a DnsBucket) -> Self {
        Self {
            bucket_start: Time(bucket.bucket_start_us),
            client_ip: Address(&bucket.client_ip),
            qtype: &bucket.r#type,
            qname_hash: &bucket.name_hash,
            count: bucket.count,
            nxdomain: bucket.nxdomain,
        }
    }
}

#[derive(Serialize)]
struct HostData<'a> {
    ip: Address<'a>,
    last_seen: Time,
    recent_qname_hashes: &'a [String],
}

impl<'a> HostData<'a> {
    fn new(host: &'a HostIdentity, address: &'a [u8]) -> Self {
        Self {
            ip: Address(address),
            last_seen: Time(host.last_seen_us),
            recent_qname_hashes: &host.recent_name_hashes,
        }
    }
}

#[derive(Serialize)]
struct GapData<'a> {
    cause: &'static str,
    count: u64,
    from: Time,
    to: Time,
    detail: &'a str,
}

impl<'a> GapData<'a> {
    fn new(gap: &'a Gap) -> Self {
        let name = gap.cause().as_str_name();
        let cause = name.strip_prefix("GAP_CAUSE_").unwrap_or(name);
        Self { cause, count: gap.count, from: Time(gap.from_us), to: Time(gap.to_us), detail: &gap.detail }
    }
}

#[cfg(test)]
mod tests;
