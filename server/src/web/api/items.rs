//! What `/api/v1` gives, one struct a list.

use std::net::IpAddr;

use serde::Serialize;

use crate::{
    domain::{Counters, FlowRecord},
    store::{DeviceRow, GapEntry, HostRow, RouterRow, Sums, Totals},
    web::format,
};

#[derive(Serialize)]
pub(super) struct FlowItem {
    id: i64,
    router: String,
    device: Option<IpAddr>,
    remote: Option<IpAddr>,
    direction: &'static str,
    protocol: String,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat: Option<Nat>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    icmp: Option<IcmpItem>,
    state: &'static str,
    flags: String,
    first_seen: String,
    last_seen: String,
    #[serde(flatten)]
    counters: CountersItem,
    bytes_orig_before: i64,
    bytes_reply_before: i64,
    packets_orig_before: i64,
    packets_reply_before: i64,
    no_counters: bool,
    ended: bool,
    end_unseen: bool,
    // Names, scores and reasons have their columns from the start, so that scripts need not change.
    domain: Option<String>,
    domain_confidence: Option<f64>,
    score: i64,
    reasons: Vec<String>,
}

/// The reply tuple of a translated flow.
#[derive(Serialize)]
struct Nat {
    reply_src_ip: IpAddr,
    reply_src_port: u16,
    reply_dst_ip: IpAddr,
    reply_dst_port: u16,
}

#[derive(Serialize)]
struct IcmpItem {
    icmp_type: u8,
    icmp_code: u8,
    icmp_id: u16,
}

#[derive(Serialize)]
struct CountersItem {
    bytes_orig: i64,
    bytes_reply: i64,
    packets_orig: i64,
    packets_reply: i64,
}

#[derive(Serialize)]
struct SumsItem {
    flows: i64,
    #[serde(flatten)]
    counters: CountersItem,
}

#[derive(Serialize)]
pub(super) struct TotalsItem {
    flows: SumsItem,
    /// The part of `flows` that retention took away.
    removed: SumsItem,
    device_minutes: SumsItem,
    device_hours: SumsItem,
    device_days: SumsItem,
    service_minutes: SumsItem,
    service_hours: SumsItem,
    service_days: SumsItem,
    host_minutes: SumsItem,
    host_hours: SumsItem,
    host_days: SumsItem,
    /// Whether all of them are the same.
    agree: bool,
}

#[derive(Serialize)]
pub(super) struct RouterItem {
    router: String,
    first_seen: String,
    last_heard: Option<String>,
    lag_us: Option<i64>,
    clock_skew_us: Option<i64>,
    agent_version: Option<String>,
    hostname: Option<String>,
    kernel: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    open_flows: Option<i64>,
    spool_bytes: Option<i64>,
    memory_bytes: Option<i64>,
    warnings: Vec<String>,
    losses: Vec<LossItem>,
}

#[derive(Serialize)]
struct LossItem {
    cause: String,
    count: i64,
    last: String,
}

#[derive(Serialize)]
pub(super) struct DeviceItem {
    id: i64,
    router: String,
    address: IpAddr,
    first_seen: String,
    last_seen: String,
}

#[derive(Serialize)]
pub(super) struct HostItem {
    id: i64,
    address: IpAddr,
    first_seen: String,
    last_seen: String,
}

#[derive(Serialize)]
pub(super) struct GapItem {
    id: i64,
    router: String,
    cause: String,
    count: i64,
    from: String,
    to: String,
    detail: String,
}

impl FlowItem {
    pub(super) fn new(router: String, flow: &FlowRecord) -> Self {
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
            icmp: flow.icmp.map(|icmp| IcmpItem {
                icmp_type: icmp.kind,
                icmp_code: icmp.code,
                icmp_id: icmp.id,
            }),
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
            domain: None,
            domain_confidence: None,
            score: 0,
            reasons: Vec::new(),
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

impl From<Sums> for SumsItem {
    fn from(sums: Sums) -> Self {
        Self { flows: sums.flows, counters: sums.counters.into() }
    }
}

impl From<RouterRow> for RouterItem {
    fn from(row: RouterRow) -> Self {
        Self {
            router: row.name,
            first_seen: format::rfc3339(row.first_seen),
            last_heard: row.last_heard.map(format::rfc3339),
            lag_us: row.lag_us,
            clock_skew_us: row.clock_skew_us,
            agent_version: row.agent_version,
            hostname: row.hostname,
            kernel: row.kernel,
            os: row.os,
            architecture: row.architecture,
            open_flows: row.open_flows,
            spool_bytes: row.spool_bytes,
            memory_bytes: row.memory_bytes,
            warnings: row.warnings.unwrap_or_default().lines().map(str::to_owned).collect(),
            losses: row
                .losses
                .into_iter()
                .map(|loss| LossItem {
                    cause: format::gap_cause(loss.cause),
                    count: loss.count,
                    last: format::rfc3339(loss.last),
                })
                .collect(),
        }
    }
}

impl From<DeviceRow> for DeviceItem {
    fn from(row: DeviceRow) -> Self {
        Self {
            id: row.id,
            router: row.router_name,
            address: row.address,
            first_seen: format::rfc3339(row.first_seen),
            last_seen: format::rfc3339(row.last_seen),
        }
    }
}

impl From<HostRow> for HostItem {
    fn from(row: HostRow) -> Self {
        Self {
            id: row.id,
            address: row.address,
            first_seen: format::rfc3339(row.first_seen),
            last_seen: format::rfc3339(row.last_seen),
        }
    }
}

impl From<GapEntry> for GapItem {
    fn from(row: GapEntry) -> Self {
        Self {
            id: row.id,
            router: row.router_name,
            cause: format::gap_cause(row.gap.cause),
            count: row.gap.count,
            from: format::rfc3339(row.gap.from),
            to: format::rfc3339(row.gap.to),
            detail: row.gap.detail,
        }
    }
}

impl From<Totals> for TotalsItem {
    fn from(totals: Totals) -> Self {
        Self {
            agree: totals.agree(),
            flows: totals.flows.into(),
            removed: totals.removed.into(),
            device_minutes: totals.device_minutes.into(),
            device_hours: totals.device_hours.into(),
            device_days: totals.device_days.into(),
            service_minutes: totals.service_minutes.into(),
            service_hours: totals.service_hours.into(),
            service_days: totals.service_days.into(),
            host_minutes: totals.host_minutes.into(),
            host_hours: totals.host_hours.into(),
            host_days: totals.host_days.into(),
        }
    }
}
