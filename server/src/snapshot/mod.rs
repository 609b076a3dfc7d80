//! Snapshots of a table of connections, for where no agent runs: what is new in one, what moved on, what is gone.
//!
//! [`listing`] reads the text of `conntrack -L`; [`source`] gets it from a file or a command, or asks the kernel
//! through the agent's library. [`Table`] compares with the snapshot before and gives events, which go the way of all
//! events. Flows of a snapshot are told apart by their five-tuple alone, and belong to a router of their own, so that
//! nothing an agent tells of is ever touched. [`Snapshots`] runs all of it. [`Table`] and [`listing`] never do I/O and never read a clock.

pub mod listing;
mod round;
pub mod source;
mod words;

pub use round::Snapshots;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use netmon_proto::v1::{self, event::Kind};

use crate::domain::{Direction, FlowRecord, Micros};
use crate::ingest::octets;

/// IANA numbers.
const ICMP: u32 = 1;
const ICMPV6: u32 = 58;

/// What tells flows apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    zone: u32,
    conntrack_id: u32,
    protocol: u32,
    src: Vec<u8>,
    dst: Vec<u8>,
    ports: (u32, u32),
}

impl Key {
    fn of(flow: &v1::Flow) -> Self {
        Self {
            zone: flow.zone,
            conntrack_id: flow.conntrack_id,
            protocol: flow.protocol,
            src: flow.src_ip.to_vec(),
            dst: flow.dst_ip.to_vec(),
            ports: (flow.src_port, flow.dst_port),
        }
    }
}

/// What came of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Flows that are there, of which so many are new.
    pub there: usize,
    /// Flows that were not there before.
    pub began: usize,
    /// Flows that moved bytes, or whose state is another.
    pub changed: usize,
    /// Flows that are no longer there.
    pub ended: usize,
}

/// Bytes and packets, both ways.
type Counts = [u64; 4];

/// The entries that are one flow here, by ICMP type, code and identifier: several pings between two hosts are.
type Entries = HashMap<[u32; 3], Counts>;

/// The flows of the last snapshot.
#[derive(Debug, Default)]
pub struct Table {
    open: HashMap<Key, v1::Flow>,
    /// Of flows that were several entries or may become that; empty after a restart.
    entries: HashMap<Key, Entries>,
    /// Whether there was a snapshot before: what is new then began after it, and all of its bytes were watched.
    compares: bool,
}

impl Table {
    /// What is stored of earlier snapshots. `compares`: there was one.
    #[must_use]
    pub fn restored(open: &[FlowRecord], compares: bool) -> Self {
        let open = open.iter().map(stored).map(|flow| (Key::of(&flow), flow)).collect();
        Self { open, compares, ..Self::default() }
    }

    /// Compares with the flows that are there now. If not all of them may be among `flows`, absence ends none.
    pub fn take(&mut self, flows: Vec<v1::Flow>, complete: bool, now: Micros) -> (Vec<v1::Event>, Compared) {
        let (mut flows, entries) = merged(flows);
        let before = std::mem::replace(&mut self.entries, entries);
        self.go_on(&mut flows, &before);
        let mut compared = Compared { there: flows.len(), ..Compared::default() };
        let mut events = Vec::new();
        let mut tell = |flow: &v1::Flow| {
            events.push(v1::Event { time_us: now, kind: Some(Kind::Flow(flow.clone())) });
        };
        if complete {
            self.open.retain(|key, flow| {
                let stays = flows.contains_key(key);
                if !stays {
                    compared.ended += 1;
                    end(flow);
                    tell(flow);
                }
                stays
            });
        }
        for (key, mut flow) in flows {
            flow.last_seen_us = now;
            if let Some(before) = self.open.get_mut(&key) {
                if counters(before).iter().zip(counters(&flow)).all(|(before, now)| *before <= now) {
                    if !same(before, &flow) {
                        compared.changed += 1;
                        flow.phase = v1::FlowPhase::Progress.into();
                        flow.first_seen_us = before.first_seen_us;
                        if counters(before) == counters(&flow) {
                            flow.last_seen_us = before.last_seen_us;
                        }
                        tell(&flow);
                        *before = flow;
                    }
                    continue;
                }
                // The tuple was used again meanwhile.
                compared.ended += 1;
                end(before);
                tell(before);
            }
            compared.began += 1;
            if flow.first_seen_us == 0 {
                flow.first_seen_us = now;
            }
            if self.compares {
                flow.phase = v1::FlowPhase::New.into();
            } else {
                flow.phase = v1::FlowPhase::Found.into();
                flow.bytes_orig_before = flow.bytes_orig;
                flow.bytes_reply_before = flow.bytes_reply;
                flow.packets_orig_before = flow.packets_orig;
                flow.packets_reply_before = flow.packets_reply;
            }
            tell(&flow);
            self.open.insert(key, flow);
        }
        self.compares = true;
        (events, compared)
    }

    /// Counts on from the last snapshot what several entries moved: some of them are over, some new.
    fn go_on(&self, flows: &mut HashMap<Key, v1::Flow>, before: &HashMap<Key, Entries>) {
        for (key, entries) in &self.entries {
            let (Some(known), Some(open)) = (before.get(key), self.open.get(key)) else { continue };
            let mut sum = counters(open);
            for (entry, now) in entries {
                let was = known.get(entry).filter(|was| was.iter().zip(now).all(|(was, now)| was <= now));
                let was = was.copied().unwrap_or_default();
                for place in 0..sum.len() {
                    sum[place] = sum[place].saturating_add(now[place] - was[place]);
                }
            }
            if let Some(flow) = flows.get_mut(key) {
                [flow.bytes_orig, flow.bytes_reply, flow.packets_orig, flow.packets_reply] = sum;
            }
        }
    }
}

/// By their keys. What has one key (pings between two hosts, whose tuples differ by an identifier) is added up; the
/// second part has what was added.
fn merged(flows: Vec<v1::Flow>) -> (HashMap<Key, v1::Flow>, HashMap<Key, Entries>) {
    let mut merged: HashMap<Key, v1::Flow> = HashMap::with_capacity(flows.len());
    let mut entries: HashMap<Key, Entries> = HashMap::new();
    for mut flow in flows {
        // The kernel's own number tells them apart, where it is given.
        if flow.conntrack_id == 0 && matches!(flow.protocol, ICMP | ICMPV6) {
            let entry = [flow.icmp_type, flow.icmp_code, flow.icmp_id];
            entries.entry(Key::of(&flow)).or_default().insert(entry, counters(&flow));
        }
        // The engine finds out which flow it is; what was counted before is decided here.
        flow.flow_id = u64::MAX;
        match merged.entry(Key::of(&flow)) {
            Entry::Vacant(place) => {
                place.insert(flow);
            }
            Entry::Occupied(mut place) => {
                let sum = place.get_mut();
                sum.bytes_orig = sum.bytes_orig.saturating_add(flow.bytes_orig);
                sum.bytes_reply = sum.bytes_reply.saturating_add(flow.bytes_reply);
                sum.packets_orig = sum.packets_orig.saturating_add(flow.packets_orig);
                sum.packets_reply = sum.packets_reply.saturating_add(flow.packets_reply);
                sum.status |= flow.status;
                sum.no_counters &= flow.no_counters;
            }
        }
    }
    (merged, entries)
}

fn counters(flow: &v1::Flow) -> Counts {
    [flow.bytes_orig, flow.bytes_reply, flow.packets_orig, flow.packets_reply]
}

/// Whether a snapshot tells nothing new of a flow.
fn same(before: &v1::Flow, now: &v1::Flow) -> bool {
    let what = |flow: &v1::Flow| (counters(flow), flow.tcp_state, flow.status, flow.mark);
    // The status of what is stored has gathered all bits that were ever seen.
    let status = before.status | now.status;
    what(before) == what(&v1::Flow { status, ..now.clone() })
}

/// It ended while nobody watched.
fn end(flow: &mut v1::Flow) {
    flow.phase = v1::FlowPhase::End.into();
    flow.end_unseen = true;
}

/// A stored flow as a snapshot tells of it.
fn stored(record: &FlowRecord) -> v1::Flow {
    let end_of = |address: Option<std::net::IpAddr>| match address {
        Some(address) if address == record.key.tuple.src => v1::End::Initiator,
        Some(address) if address == record.responder() => v1::End::Responder,
        _ => v1::End::None,
    };
    let bytes = |address| octets(address).into();
    let tuple = record.key.tuple;
    let mut flow = v1::Flow {
        flow_id: u64::MAX,
        zone: record.key.zone.into(),
        conntrack_id: record.key.conntrack_id,
        protocol: record.key.protocol.into(),
        src_ip: bytes(tuple.src),
        dst_ip: bytes(tuple.dst),
        src_port: tuple.src_port.into(),
        dst_port: tuple.dst_port.into(),
        direction: match record.direction {
            Direction::Out => v1::Direction::Out,
            Direction::In => v1::Direction::In,
            Direction::Lan => v1::Direction::Lan,
            Direction::Local => v1::Direction::Local,
            Direction::Forward => v1::Direction::Forward,
        }
        .into(),
        bytes_orig: record.counters.bytes_orig.cast_unsigned(),
        bytes_reply: record.counters.bytes_reply.cast_unsigned(),
        packets_orig: record.counters.packets_orig.cast_unsigned(),
        packets_reply: record.counters.packets_reply.cast_unsigned(),
        first_seen_us: record.first_seen,
        last_seen_us: record.last_seen,
        kernel_start_us: record.kernel_start.unwrap_or(0),
        tcp_state: record.tcp_state.into(),
        status: record.status,
        mark: record.mark,
        no_counters: record.no_counters,
        device: end_of(record.device).into(),
        remote: end_of(record.remote).into(),
        ..v1::Flow::default()
    };
    if let Some(reply) = record.reply {
        flow.reply_src_ip = bytes(reply.src);
        flow.reply_dst_ip = bytes(reply.dst);
        flow.reply_src_port = reply.src_port.into();
        flow.reply_dst_port = reply.dst_port.into();
    }
    flow
}
