//! Rows of `flows` and `open_flows`, to and from a [`FlowRecord`].
//!
//! What follows from other columns takes no room, for there are millions of rows. A reply tuple has its destination
//! always; of it null stands for what it would be without NAT: the source is `dst_ip`, the ports are those of the
//! original the other way round. `dst_port` null is `service_port`, `dst_ip` null the address of the remote host,
//! `kernel_start_us` null is `first_seen_us`, and what is zero for nearly all flows is null; so are the ends of nearly all
//! ([`USUAL_ENDS`]), a seen end of an ended flow, and why it is called by its name ([`USUAL_NAME`]). SQLite has these
//! columns at the end of a row, where a null takes no byte (its NULL_TRIM; see `.cargo/config.toml`). Earlier versions
//! wrote most of them out, which reads the same.
//!
//! The numbers that the kernel and the agent had for a flow are not kept after its end: see [`FlowRecord::flow_id`].

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use diesel::prelude::*;

use super::address::Address;
use super::schema::{flows, open_flows};
use crate::domain::{
    Counters, Direction, End, FlowId, FlowKey, FlowName, FlowRecord, Icmp, NameReason, RouterId, Tuple,
    is_by_tuple,
};

/// `kernel_start_us` of a flow of which the kernel told no start.
const NO_KERNEL_START: i64 = 0;

/// Null in `ends`: the device began, and the remote host answers.
const USUAL_ENDS: i16 = 1 + 4 * 2;

/// Null in `domain_reason` and `domain_confidence` of a flow that has a name.
const USUAL_NAME: (NameReason, u8) = (NameReason::OnlyCandidate, 95);

/// A number that is zero for nearly all flows.
fn unless_zero<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}

/// The row ids of what a flow is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlowIds {
    pub(super) device: Option<i64>,
    pub(super) host: Option<i64>,
    pub(super) domain: Option<i64>,
}

/// Whether the device of a flow began it, by its column `ends`.
pub(super) fn device_began(ends: Option<i16>) -> bool {
    ends.unwrap_or(USUAL_ENDS) & 3 == 1
}

/// `domain_confidence` and `domain_reason` of a name, whose domain has this id.
pub(super) fn sureness(name: Option<&FlowName>, domain: Option<i64>) -> (Option<i16>, Option<i16>) {
    match name {
        None => (None, None),
        Some(name) if domain.is_some() && (name.reason, name.confidence) == USUAL_NAME => (None, None),
        Some(name) => (Some(i16::from(name.confidence)), Some(name.reason as i16)),
    }
}

/// A number in the database that this program never writes there.
#[derive(Debug, thiserror::Error)]
#[error("flow {id} has {column} {value}")]
pub(super) struct BadFlow {
    id: i64,
    column: &'static str,
    value: i64,
}

/// The row of one of the two tables. A macro, because a diesel struct belongs to one table, and two
/// hand-written copies of 41 columns would drift apart.
macro_rules! flow_row {
    ($row:ident, $table:ident, $usual_end:expr) => {
        #[derive(Clone, Debug, Insertable, Queryable)]
        #[diesel(table_name = $table, treat_none_as_default_value = false)]
        pub(super) struct $row {
            pub(super) id: i64,
            pub(super) router_id: i64,
            pub(super) device_id: Option<i64>,
            pub(super) host_id: Option<i64>,
            pub(super) flow_id: Option<i64>,
            pub(super) zone: Option<i32>,
            pub(super) conntrack_id: Option<i32>,
            pub(super) protocol: i16,
            pub(super) src_ip: Address,
            pub(super) src_port: i32,
            pub(super) dst_ip: Option<Address>,
            pub(super) dst_port: Option<i32>,
            pub(super) reply_src_ip: Option<Address>,
            pub(super) reply_src_port: Option<i32>,
            pub(super) reply_dst_ip: Option<Address>,
            pub(super) reply_dst_port: Option<i32>,
            pub(super) service_port: i32,
            pub(super) icmp_type: Option<i16>,
            pub(super) icmp_code: Option<i16>,
            pub(super) icmp_id: Option<i32>,
            pub(super) direction: i16,
            pub(super) bytes_orig: i64,
            pub(super) bytes_reply: i64,
            pub(super) packets_orig: i64,
            pub(super) packets_reply: i64,
            pub(super) bytes_orig_before: Option<i64>,
            pub(super) bytes_reply_before: Option<i64>,
            pub(super) packets_orig_before: Option<i64>,
            pub(super) packets_reply_before: Option<i64>,
            pub(super) first_seen_us: i64,
            pub(super) lasted_us: i64,
            pub(super) kernel_start_us: Option<i64>,
            pub(super) tcp_state: i16,
            pub(super) status: i32,
            pub(super) mark: Option<i32>,
            pub(super) no_counters: Option<bool>,
            pub(super) end_kind: Option<i16>,
            pub(super) ends: Option<i16>,
            pub(super) domain_id: Option<i64>,
            pub(super) domain_confidence: Option<i16>,
            pub(super) domain_reason: Option<i16>,
        }

        impl $row {
            /// The row of `flow`, whose device, remote host and domain have these ids.
            pub(super) fn new(flow: &FlowRecord, ids: FlowIds) -> Self {
                let FlowIds { device: device_id, host: host_id, domain: domain_id } = ids;
                let FlowKey { zone, conntrack_id, protocol, tuple } = flow.key;
                let is_numbered = flow.end.is_none() || is_by_tuple(flow.flow_id);
                let ends = end_number(flow, flow.device) + 4 * end_number(flow, flow.remote);
                let (domain_confidence, domain_reason) = sureness(flow.name.as_ref(), domain_id);
                Self {
                    id: flow.id.0,
                    router_id: flow.router.0,
                    device_id,
                    host_id,
                    flow_id: is_numbered.then_some(flow.flow_id.cast_signed()),
                    zone: unless_zero(i32::from(zone)),
                    conntrack_id: unless_zero(conntrack_id.cast_signed()).filter(|_| is_numbered),
                    protocol: i16::from(protocol),
                    src_ip: tuple.src.into(),
                    src_port: i32::from(tuple.src_port),
                    dst_ip: (host_id.is_none() || flow.remote != Some(tuple.dst)).then(|| tuple.dst.into()),
                    dst_port: (tuple.dst_port != flow.service_port()).then(|| i32::from(tuple.dst_port)),
                    reply_src_ip: flow
                        .reply
                        .filter(|reply| reply.src != tuple.dst)
                        .map(|reply| reply.src.into()),
                    reply_src_port: flow
                        .reply
                        .filter(|reply| reply.src_port != tuple.dst_port)
                        .map(|reply| i32::from(reply.src_port)),
                    reply_dst_ip: flow.reply.map(|reply| reply.dst.into()),
                    reply_dst_port: flow
                        .reply
                        .filter(|reply| reply.dst_port != tuple.src_port)
                        .map(|reply| i32::from(reply.dst_port)),
                    service_port: i32::from(flow.service_port()),
                    icmp_type: flow.icmp.map(|icmp| i16::from(icmp.kind)),
                    icmp_code: flow.icmp.map(|icmp| i16::from(icmp.code)),
                    icmp_id: flow.icmp.map(|icmp| i32::from(icmp.id)),
                    direction: flow.direction as i16,
                    bytes_orig: flow.counters.bytes_orig,
                    bytes_reply: flow.counters.bytes_reply,
                    packets_orig: flow.counters.packets_orig,
                    packets_reply: flow.counters.packets_reply,
                    bytes_orig_before: unless_zero(flow.before.bytes_orig),
                    bytes_reply_before: unless_zero(flow.before.bytes_reply),
                    packets_orig_before: unless_zero(flow.before.packets_orig),
                    packets_reply_before: unless_zero(flow.before.packets_reply),
                    first_seen_us: flow.first_seen,
                    lasted_us: flow.last_seen - flow.first_seen,
                    kernel_start_us: Some(flow.kernel_start.unwrap_or(NO_KERNEL_START))
                        .filter(|start| *start != flow.first_seen),
                    tcp_state: i16::from(flow.tcp_state),
                    status: flow.status.cast_signed(),
                    mark: unless_zero(flow.mark.cast_signed()),
                    no_counters: flow.no_counters.then_some(true),
                    end_kind: flow.end.filter(|end| Some(*end) != $usual_end).map(|end| end as i16),
                    ends: (ends != USUAL_ENDS).then_some(ends),
                    domain_id,
                    domain_confidence,
                    domain_reason,
                }
            }

            /// The flow in this row, whose domain has this name and whose remote host this address.
            pub(super) fn into_flow(
                self,
                domain: Option<String>,
                host: Option<Address>,
            ) -> Result<FlowRecord, BadFlow> {
                let bad = |column, value| BadFlow { id: self.id, column, value };
                let byte =
                    |column, value: i16| u8::try_from(value).map_err(|_| bad(column, i64::from(value)));
                let short =
                    |column, value: i32| u16::try_from(value).map_err(|_| bad(column, i64::from(value)));
                // Without its host's row, which a damaged file may have lost, there is no address left to tell.
                let dst_ip = self.dst_ip.or(host).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::from);
                let dst_port = self.dst_port.unwrap_or(self.service_port);
                let reply = match self.reply_dst_ip {
                    Some(dst) => Some(Tuple {
                        src: self.reply_src_ip.map_or(dst_ip, IpAddr::from),
                        dst: dst.into(),
                        src_port: short("reply_src_port", self.reply_src_port.unwrap_or(dst_port))?,
                        dst_port: short("reply_dst_port", self.reply_dst_port.unwrap_or(self.src_port))?,
                    }),
                    None => None,
                };
                let icmp = match (self.icmp_type, self.icmp_code, self.icmp_id) {
                    (Some(kind), Some(code), Some(id)) => Some(Icmp {
                        kind: byte("icmp_type", kind)?,
                        code: byte("icmp_code", code)?,
                        id: short("icmp_id", id)?,
                    }),
                    _ => None,
                };
                let responder = reply.map_or(dst_ip, |reply| reply.src);
                let ends = self.ends.unwrap_or(USUAL_ENDS);
                let end_address = |number: i16| match number {
                    0 => Ok(None),
                    1 => Ok(Some(IpAddr::from(self.src_ip))),
                    2 => Ok(Some(responder)),
                    _ => Err(bad("ends", i64::from(ends))),
                };
                Ok(FlowRecord {
                    id: FlowId(self.id),
                    router: RouterId(self.router_id),
                    flow_id: self.flow_id.map_or(FlowRecord::NO_FLOW_ID, i64::cast_unsigned),
                    key: FlowKey {
                        zone: short("zone", self.zone.unwrap_or(0))?,
                        conntrack_id: self.conntrack_id.unwrap_or(0).cast_unsigned(),
                        protocol: byte("protocol", self.protocol)?,
                        tuple: Tuple {
                            src: self.src_ip.into(),
                            dst: dst_ip,
                            src_port: short("src_port", self.src_port)?,
                            dst_port: short("dst_port", dst_port)?,
                        },
                    },
                    reply,
                    icmp,
                    direction: direction(self.direction)
                        .ok_or_else(|| bad("direction", i64::from(self.direction)))?,
                    device: end_address(ends & 3)?,
                    remote: end_address(ends >> 2)?,
                    counters: Counters {
                        bytes_orig: self.bytes_orig,
                        bytes_reply: self.bytes_reply,
                        packets_orig: self.packets_orig,
                        packets_reply: self.packets_reply,
                    },
                    before: Counters {
                        bytes_orig: self.bytes_orig_before.unwrap_or(0),
                        bytes_reply: self.bytes_reply_before.unwrap_or(0),
                        packets_orig: self.packets_orig_before.unwrap_or(0),
                        packets_reply: self.packets_reply_before.unwrap_or(0),
                    },
                    first_seen: self.first_seen_us,
                    last_seen: self.first_seen_us.saturating_add(self.lasted_us),
                    kernel_start: Some(self.kernel_start_us.unwrap_or(self.first_seen_us))
                        .filter(|start| *start != NO_KERNEL_START),
                    tcp_state: byte("tcp_state", self.tcp_state)?,
                    status: self.status.cast_unsigned(),
                    mark: self.mark.unwrap_or(0).cast_unsigned(),
                    no_counters: self.no_counters.unwrap_or(false),
                    end: match self.end_kind {
                        None => $usual_end,
                        Some(kind) => Some(end(kind).ok_or_else(|| bad("end_kind", i64::from(kind)))?),
                    },
                    name: match self.domain_reason {
                        None => self.domain_id.map(|_| FlowName {
                            domain: domain.map(Arc::from),
                            confidence: USUAL_NAME.1,
                            reason: USUAL_NAME.0,
                        }),
                        Some(reason) => Some(FlowName {
                            domain: domain.map(Arc::from),
                            confidence: byte("domain_confidence", self.domain_confidence.unwrap_or(0))?,
                            reason: NameReason::numbered(reason)
                                .ok_or_else(|| bad("domain_reason", i64::from(reason)))?,
                        }),
                    },
                })
            }
        }
    };
}

// And what no `end_kind` means.
flow_row!(EndedRow, flows, Some(End::Seen));
flow_row!(OpenRow, open_flows, None);

/// `netmon.v1.End` of the end that has this address.
fn end_number(flow: &FlowRecord, address: Option<IpAddr>) -> i16 {
    match address {
        Some(address) if address == flow.key.tuple.src => 1,
        Some(address) if address == flow.responder() => 2,
        _ => 0,
    }
}

fn direction(number: i16) -> Option<Direction> {
    [Direction::Out, Direction::In, Direction::Lan, Direction::Local, Direction::Forward]
        .into_iter()
        .find(|direction| *direction as i16 == number)
}

fn end(number: i16) -> Option<End> {
    [End::Seen, End::Unseen].into_iter().find(|end| *end as i16 == number)
}
