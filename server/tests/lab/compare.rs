//! The kernel's account against the server's, flow by flow.
//!
//! A flow is known by its original tuple and its place among the flows that used the same tuple one after
//! another: none begins before the one before it has ended.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};

use crate::api::{self, Flow};
use crate::ctnetlink::{Counters, Detail, Entry, FlowKey};
use crate::ledger::Ended;
use crate::namespaces::{FORWARDED_PORT, ROUTER_LAN, ROUTER_MGMT, ROUTER_WAN};

/// How many differences a failure names.
const NAMED: usize = 20;
/// The kernel dates a NEW event when it makes the entry, and the start when the first packet has passed all
/// rules: what lies between is a few microseconds, or as long as a busy machine lets the packet wait.
const EARLIER_NS: u64 = 500_000_000;

/// When no agent was watching.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unwatched(Vec<(SystemTime, SystemTime)>);

impl Unwatched {
    /// Adds a span.
    pub(crate) fn add(&mut self, from: SystemTime, to: SystemTime) {
        self.0.push((from, to));
    }

    /// Whether this moment is in one of them.
    pub(crate) fn contains(&self, at: SystemTime) -> bool {
        self.0.iter().any(|&(from, to)| (from..=to).contains(&at))
    }
}

/// What tells kinds of flows apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// IANA number.
    pub(crate) protocol: u8,
    /// 4 or 6.
    pub(crate) version: u8,
    /// As the server has it.
    pub(crate) direction: String,
    /// Whether it was addressed to the port that leads into the lan.
    pub(crate) forwarded: bool,
}

impl Kind {
    fn of(key: &FlowKey, direction: &str) -> Self {
        let version = if key.dst.is_ipv4() { 4 } else { 6 };
        let forwarded = matches!(key.detail, Detail::Ports(_, port) if port == FORWARDED_PORT);
        Self { protocol: key.protocol, version, direction: direction.to_owned(), forwarded }
    }
}

/// What a comparison that found no difference has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agreement {
    /// Ended while watched; equal in every figure.
    pub(crate) equal: BTreeMap<Kind, usize>,
    /// Ended unwatched, and still equal.
    pub(crate) equal_by_luck: usize,
    /// Ended unwatched, and shown as such.
    pub(crate) unseen: usize,
    /// Began and ended unwatched, or lost with the agent: not shown at all.
    pub(crate) absent: usize,
    /// When those ended that are unseen or absent.
    pub(crate) inexact_ends: Vec<SystemTime>,
    /// Open, and equal in every figure.
    pub(crate) open: usize,
}

impl Agreement {
    /// Flows that ended while watched.
    pub(crate) fn watched(&self) -> usize {
        self.equal.values().sum()
    }
}

/// Compares every flow that has ended, and every one that is open: those must be silent, but for those that
/// `moves` names. The error names what differs.
pub(crate) fn flows(
    ended: &[Ended],
    table: &[Entry],
    flows: &[Flow],
    unwatched: &Unwatched,
    moves: impl Fn(FlowKey) -> bool,
) -> anyhow::Result<Agreement> {
    let mut kernel: BTreeMap<(FlowKey, u64), (&Entry, Option<SystemTime>)> = BTreeMap::new();
    kernel.extend(table.iter().map(|entry| ((entry.key, entry.start_ns), (entry, None))));
    // Second, so that what ended since the table was read counts as ended.
    kernel.extend(ended.iter().map(|Ended { entry, at }| ((entry.key, entry.start_ns), (entry, Some(*at)))));

    let mut differences = Vec::new();
    let mut rows: HashMap<(FlowKey, u64), &Flow> = HashMap::new();
    for flow in flows {
        let began_ns = flow.first_seen_us as u64 * 1000;
        let before = kernel.range(..=(flow.key, began_ns)).next_back().map(|(identity, _)| *identity);
        let after = kernel.range((flow.key, began_ns)..).next().map(|(identity, _)| *identity);
        match nearest(flow.key, began_ns, before, after) {
            None => differences.push(format!("not in the kernel's account: {flow:?}")),
            Some(identity) => {
                if let Some(other) = rows.insert(identity, flow) {
                    differences.push(format!("twice: {flow:?} and {other:?}"));
                }
            }
        }
    }

    let mut agreement = Agreement::default();
    for (identity, (entry, ended_at)) in &kernel {
        let excused = ended_at.is_some_and(|at| unwatched.contains(at));
        let born_unwatched = unwatched.contains(UNIX_EPOCH + Duration::from_nanos(entry.start_ns));
        match (rows.get(identity), ended_at) {
            (None, Some(at)) if excused => {
                agreement.absent += 1;
                agreement.inexact_ends.push(*at);
            }
            (Some(flow), Some(at)) if excused && flow.end_unseen => {
                agreement.unseen += 1;
                agreement.inexact_ends.push(*at);
                if !is_at_most(flow.counters, entry.counters) {
                    differences.push(format!("more than the kernel counted: {entry:?} as {flow:?}"));
                }
            }
            (None, _) => differences.push(format!("missing: {entry:?}, ended at {ended_at:?}")),
            (Some(flow), _) if flow.ended != ended_at.is_some() || flow.end_unseen => {
                differences.push(format!("{entry:?} ended at {ended_at:?}, shown as {flow:?}"));
            }
            (Some(_), None) if moves(entry.key) => agreement.open += 1,
            (Some(flow), _) => match difference(entry, flow, born_unwatched) {
                Some(difference) => differences.push(difference),
                None if ended_at.is_none() => agreement.open += 1,
                None if excused => agreement.equal_by_luck += 1,
                None => *agreement.equal.entry(Kind::of(&entry.key, &flow.direction)).or_default() += 1,
            },
        }
    }
    if differences.is_empty() {
        return Ok(agreement);
    }
    let named: Vec<&str> = differences.iter().take(NAMED).map(String::as_str).collect();
    bail!(
        "{} differences between {} flows of the kernel and {} of the server:\n{}",
        differences.len(),
        kernel.len(),
        flows.len(),
        named.join("\n")
    )
}

/// Which of two flows began at this time: the earlier one, unless the later one began right after it.
fn nearest(
    key: FlowKey,
    began_ns: u64,
    before: Option<(FlowKey, u64)>,
    after: Option<(FlowKey, u64)>,
) -> Option<(FlowKey, u64)> {
    let before = before.filter(|(other, _)| *other == key);
    let after = after.filter(|(other, start_ns)| *other == key && start_ns - began_ns <= EARLIER_NS);
    match (before, after) {
        (Some((_, earlier_ns)), Some((_, later_ns))) if later_ns - began_ns > began_ns - earlier_ns => before,
        (_, Some(_)) => after,
        (_, None) => before,
    }
}

/// The sums over all flows, which the caller has read between two equal answers of `totals`, against the
/// server's own sums.
pub(crate) fn totals(flows: &[Flow], totals: api::Totals) -> anyhow::Result<()> {
    let mut sums = api::Sums { flows: flows.len() as u64, counters: Counters::default() };
    for flow in flows {
        ensure!(is_at_most(flow.before, flow.counters), "more unwatched than counted: {flow:?}");
        sums.counters.bytes_orig += flow.counters.bytes_orig - flow.before.bytes_orig;
        sums.counters.bytes_reply += flow.counters.bytes_reply - flow.before.bytes_reply;
        sums.counters.packets_orig += flow.counters.packets_orig - flow.before.packets_orig;
        sums.counters.packets_reply += flow.counters.packets_reply - flow.before.packets_reply;
    }
    for (name, shown) in [
        ("flows", totals.flows),
        ("device_minutes", totals.device_minutes),
        ("device_hours", totals.device_hours),
        ("device_days", totals.device_days),
        ("service_minutes", totals.service_minutes),
        ("service_hours", totals.service_hours),
        ("service_days", totals.service_days),
        ("host_minutes", totals.host_minutes),
        ("host_hours", totals.host_hours),
        ("host_days", totals.host_days),
    ] {
        ensure!(shown == sums, "the sums of {name} are {shown:?}, those of the listed flows {sums:?}");
    }
    ensure!(totals.agree, "the sums are equal, and the server says they are not");
    Ok(())
}

/// Direction and device of a flow, by the definition in the protocol.
pub(crate) fn expected_ends(entry: &Entry) -> (&'static str, Option<IpAddr>) {
    let (initiator, responder) = (entry.key.src, entry.responder);
    let device = [initiator, responder].into_iter().find(|&ip| is_lan_device(ip));
    let direction = match (is_lan_device(initiator), is_lan_device(responder)) {
        _ if is_router(initiator) || is_router(responder) => "local",
        (true, true) => "lan",
        (true, false) => "out",
        (false, true) => "in",
        (false, false) => "forward",
    };
    (direction, device)
}

fn is_router(ip: IpAddr) -> bool {
    ip == ROUTER_MGMT || ROUTER_LAN.contains(&ip) || ROUTER_WAN.contains(&ip)
}

fn is_lan_device(ip: IpAddr) -> bool {
    let in_lan = match ip {
        IpAddr::V4(ip) => ip.octets().starts_with(&[192, 168, 77]),
        IpAddr::V6(ip) => ip.segments().starts_with(&[0xfd77, 0, 0, 0]),
    };
    in_lan && !is_router(ip)
}

/// What is wrong with this account of a flow.
fn difference(entry: &Entry, flow: &Flow, born_unwatched: bool) -> Option<String> {
    let (direction, device) = expected_ends(entry);
    if flow.counters != entry.counters {
        Some(format!("counters: {entry:?} against {flow:?}"))
    } else if flow.direction != direction || flow.device != device {
        Some(format!("expected {direction} of {device:?}: {flow:?}"))
    } else if flow.before != Counters::default() && !born_unwatched {
        Some(format!("an unwatched part, though it began while watched: {flow:?}"))
    } else {
        None
    }
}

fn is_at_most(a: Counters, b: Counters) -> bool {
    a.bytes_orig <= b.bytes_orig
        && a.bytes_reply <= b.bytes_reply
        && a.packets_orig <= b.packets_orig
        && a.packets_reply <= b.packets_reply
}
