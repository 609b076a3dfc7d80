//! Turns what came over the wire into what the engine may trust, or says why not.
//!
//! Pure: no clock (`received` is given), no I/O. Every rule here stands in the comments of `events.proto` and `health.proto`.

use std::{net::IpAddr, ops::RangeInclusive};

use netmon_proto::v1;

use super::check_others::{check_bucket, check_dns, check_drop, check_health, check_identity};
use super::{Checked, FlowReport, GapReport, Observation, Phase};
use crate::domain::{Counters, Direction, FlowKey, Icmp, Micros, Tuple};

/// Times longer ago than this are taken for those of a clock that was wrong: never set, or begun where the firmware was
/// built. No spool holds 400 days and hardly a flow stays open for so long, and of what is kept for a time nothing is
/// kept longer by default; but when devices and hosts were first seen is kept for ever, and would never heal.
const MAX_AGE_US: Micros = 400 * 24 * 3_600 * 1_000_000;
/// How far ahead of the server's clock a time may be.
const MAX_AHEAD_US: Micros = 600_000_000;

pub(super) const MAX_DETAIL_BYTES: usize = 200;
pub(super) const MAX_WARNINGS: usize = 16;

/// Why an event was refused. The text goes back to the sender and into the log.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The oneof is empty: an event of a newer protocol, or no event.
    #[error("the event has no kind this server knows")]
    NoKind,
    /// An enum field has no value, or an unknown one.
    #[error("{field} is {value}, which is not one of its values")]
    Enum {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: i32,
    },
    /// An address of a wrong length.
    #[error("{field} has {length} bytes, expected 4 or 16")]
    Address {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
    },
    /// Addresses of different families in one tuple.
    #[error("the addresses of one tuple must be of one family")]
    MixedFamilies,
    /// A number above its limit.
    #[error("{field} is {value}, expected at most {limit}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A hardware address of a wrong length.
    #[error("{field} has {length} bytes, expected 6 or none")]
    Mac {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
    },
    /// A name that cannot be one.
    #[error("{field} has {length} bytes, expected at most {limit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The id is zero.
    #[error("flow_id is 0, expected a unique id")]
    NoFlowId,
}

/// Checks one event that was received at `received`.
///
/// # Errors
/// Says which field is wrong and what was expected.
pub fn check_event(event: v1::Event, received: Micros) -> Result<Checked, Refusal> {
    use v1::event::Kind;

    let mut clamped = 0;
    let mut time = event.time_us;
    let earliest = received - MAX_AGE_US;
    if !(earliest..=received + MAX_AHEAD_US).contains(&time) {
        time = received;
        clamped += 1;
    }
    let what = match event.kind {
        None => return Err(Refusal::NoKind),
        Some(Kind::Flow(flow)) => {
            Observation::Flow(Box::new(check_flow(&flow, earliest..=time, &mut clamped)?))
        }
        Some(Kind::TableSync(sync)) => match v1::table_sync::Step::try_from(sync.step) {
            Ok(v1::table_sync::Step::Begin) => Observation::SyncBegin(sync.sync_id),
            Ok(v1::table_sync::Step::End) => Observation::SyncEnd(sync.sync_id),
            _ => return Err(Refusal::Enum { field: "table_sync.step", value: sync.step }),
        },
        Some(Kind::Heartbeat(mut heartbeat)) => {
            heartbeat.warnings.truncate(MAX_WARNINGS);
            for warning in &mut heartbeat.warnings {
                *warning = printable(warning, MAX_DETAIL_BYTES);
            }
            Observation::Heartbeat(heartbeat)
        }
        Some(Kind::Gap(gap)) => Observation::Gap(check_gap(&gap, earliest..=time)?),
        Some(Kind::FirewallDrop(drop)) => Observation::Drop(Box::new(check_drop(&drop, &mut clamped)?)),
        Some(Kind::DnsResponse(response)) => Observation::Dns(Box::new(check_dns(response, &mut clamped)?)),
        Some(Kind::DnsBucket(bucket)) => {
            Observation::Bucket(Box::new(check_bucket(&bucket, earliest..=time, &mut clamped)?))
        }
        Some(Kind::HostIdentity(identity)) if identity.is_router => {
            Observation::Own(check_identity(&identity, earliest..=time, &mut clamped)?.addresses)
        }
        Some(Kind::HostIdentity(identity)) => {
            Observation::Identity(Box::new(check_identity(&identity, earliest..=time, &mut clamped)?))
        }
        Some(Kind::RouterHealth(health)) => {
            Observation::Health(Box::new(check_health(&health, &mut clamped)?))
        }
    };
    Ok(Checked { time, clamped, what })
}

/// `times`: those that what happened before the observation may have; it ends with the observation's own.
fn check_flow(
    flow: &v1::Flow,
    times: RangeInclusive<Micros>,
    clamped: &mut u32,
) -> Result<FlowReport, Refusal> {
    let time = *times.end();
    let phase = match v1::FlowPhase::try_from(flow.phase) {
        Ok(v1::FlowPhase::New) => Phase::New,
        Ok(v1::FlowPhase::Found) => Phase::Found,
        Ok(v1::FlowPhase::Progress) => Phase::Progress,
        Ok(v1::FlowPhase::End) => Phase::End { seen: !flow.end_unseen },
        _ => return Err(Refusal::Enum { field: "flow.phase", value: flow.phase }),
    };
    if flow.flow_id == 0 {
        return Err(Refusal::NoFlowId);
    }
    let protocol = narrow("flow.protocol", flow.protocol)?;
    let tuple = Tuple {
        src: address("flow.src_ip", &flow.src_ip)?,
        dst: address("flow.dst_ip", &flow.dst_ip)?,
        src_port: narrow("flow.src_port", flow.src_port)?,
        dst_port: narrow("flow.dst_port", flow.dst_port)?,
    };
    let reply = if flow.reply_src_ip.is_empty() && flow.reply_dst_ip.is_empty() {
        None
    } else {
        Some(Tuple {
            src: address("flow.reply_src_ip", &flow.reply_src_ip)?,
            dst: address("flow.reply_dst_ip", &flow.reply_dst_ip)?,
            src_port: narrow("flow.reply_src_port", flow.reply_src_port)?,
            dst_port: narrow("flow.reply_dst_port", flow.reply_dst_port)?,
        })
    };
    let v4 = tuple.src.is_ipv4();
    let reply_agrees = reply.is_none_or(|reply| reply.src.is_ipv4() == v4 && reply.dst.is_ipv4() == v4);
    if tuple.dst.is_ipv4() != v4 || !reply_agrees {
        return Err(Refusal::MixedFamilies);
    }
    let icmp = match protocol {
        1 | 58 => Some(Icmp {
            kind: narrow("flow.icmp_type", flow.icmp_type)?,
            code: narrow("flow.icmp_code", flow.icmp_code)?,
            id: narrow("flow.icmp_id", flow.icmp_id)?,
        }),
        _ => None,
    };
    let direction = match v1::Direction::try_from(flow.direction) {
        Ok(v1::Direction::Out) => Direction::Out,
        Ok(v1::Direction::In) => Direction::In,
        Ok(v1::Direction::Lan) => Direction::Lan,
        Ok(v1::Direction::Local) => Direction::Local,
        Ok(v1::Direction::Forward) => Direction::Forward,
        _ => return Err(Refusal::Enum { field: "flow.direction", value: flow.direction }),
    };
    let responder = reply.map_or(tuple.dst, |reply| reply.src);
    let end = |field, value| match v1::End::try_from(value) {
        Ok(v1::End::None) => Ok(None),
        Ok(v1::End::Initiator) => Ok(Some(tuple.src)),
        Ok(v1::End::Responder) => Ok(Some(responder)),
        Err(_) => Err(Refusal::Enum { field, value }),
    };
    if flow.tcp_state < 0 || flow.tcp_state > v1::TcpState::SynSent2 as i32 {
        return Err(Refusal::Enum { field: "flow.tcp_state", value: flow.tcp_state });
    }
    let counters = Counters {
        bytes_orig: counter("flow.bytes_orig", flow.bytes_orig)?,
        bytes_reply: counter("flow.bytes_reply", flow.bytes_reply)?,
        packets_orig: counter("flow.packets_orig", flow.packets_orig)?,
        packets_reply: counter("flow.packets_reply", flow.packets_reply)?,
    };
    let before = Counters {
        bytes_orig: counter("flow.bytes_orig_before", flow.bytes_orig_before)?,
        bytes_reply: counter("flow.bytes_reply_before", flow.bytes_reply_before)?,
        packets_orig: counter("flow.packets_orig_before", flow.packets_orig_before)?,
        packets_reply: counter("flow.packets_reply_before", flow.packets_reply_before)?,
    };
    if before.min(counters) != before {
        *clamped += 1;
    }
    let mut first_seen = flow.first_seen_us;
    if !times.contains(&first_seen) {
        first_seen = time;
        *clamped += 1;
    }
    let last_seen = flow.last_seen_us.clamp(first_seen, time);
    if last_seen != flow.last_seen_us {
        *clamped += 1;
    }
    Ok(FlowReport {
        phase,
        flow_id: flow.flow_id,
        key: FlowKey {
            zone: narrow("flow.zone", flow.zone)?,
            conntrack_id: flow.conntrack_id,
            protocol,
            tuple,
        },
        reply,
        icmp,
        direction,
        device: end("flow.device", flow.device)?,
        remote: end("flow.remote", flow.remote)?,
        counters,
        before: before.min(counters),
        first_seen,
        last_seen,
        kernel_start: (flow.kernel_start_us > 0).then_some(flow.kernel_start_us),
        tcp_state: u8::try_from(flow.tcp_state).unwrap_or(0),
        status: flow.status,
        mark: flow.mark,
        no_counters: flow.no_counters,
    })
}

fn check_gap(gap: &v1::Gap, times: RangeInclusive<Micros>) -> Result<GapReport, Refusal> {
    let cause = match v1::GapCause::try_from(gap.cause) {
        Ok(v1::GapCause::Unspecified) | Err(_) => {
            return Err(Refusal::Enum { field: "gap.cause", value: gap.cause });
        }
        Ok(cause) => narrow("gap.cause", cause as u32)?,
    };
    let to = if times.contains(&gap.to_us) { gap.to_us } else { *times.end() };
    let from = if (*times.start()..=to).contains(&gap.from_us) { gap.from_us } else { to };
    Ok(GapReport {
        cause,
        count: counter("gap.count", gap.count)?,
        from,
        to,
        detail: printable(&gap.detail, MAX_DETAIL_BYTES),
    })
}

/// Cuts a stranger's text to `limit` bytes at a character boundary and takes control characters out.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    let cut = text.floor_char_boundary(limit);
    text[..cut].chars().filter(|c| !c.is_control()).collect()
}

/// A router's name: 1 to 64 of `A-Z a-z 0-9 . _ : -`.
#[must_use]
pub fn is_router_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
}

pub(super) fn address(field: &'static str, bytes: &[u8]) -> Result<IpAddr, Refusal> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(v6))
    } else {
        Err(Refusal::Address { field, length: bytes.len() })
    }
}

pub(super) fn narrow<T: TryFrom<u32> + Limit>(field: &'static str, value: u32) -> Result<T, Refusal> {
    T::try_from(value).map_err(|_| Refusal::TooLarge { field, value: value.into(), limit: T::LIMIT })
}

pub(super) fn counter(field: &'static str, value: u64) -> Result<i64, Refusal> {
    i64::try_from(value).map_err(|_| Refusal::TooLarge { field, value, limit: i64::MAX as u64 })
}

/// The largest value of a narrower integer, for the message.
pub(super) trait Limit {
    const LIMIT: u64;
}

impl Limit for u8 {
    const LIMIT: u64 = 255;
}

impl Limit for u16 {
    const LIMIT: u64 = 65_535;
}

impl Limit for i16 {
    const LIMIT: u64 = 32_767;
}
