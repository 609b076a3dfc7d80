//! The rows of the live table: chosen, sorted, and written as a person reads them.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Direction, Micros},
    engine::{LiveFlow, LiveSnapshot},
    web::format,
};

/// The most rows that the table shows.
pub(super) const MAX_ROWS: usize = 200;

/// What the viewer asked for.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::web) struct LiveQuery {
    /// Text that must be in the device, the destination, the port, the protocol or the state.
    #[serde(default)]
    pub(super) q: String,
    /// Only this router's.
    #[serde(default)]
    pub(super) router: String,
    /// Only this direction.
    #[serde(default)]
    pub(super) direction: String,
    /// What comes first.
    #[serde(default)]
    pub(super) sort: Sort,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    /// What began last.
    #[default]
    Newest,
    /// What moves most now.
    Rate,
    /// What moved most.
    Bytes,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Rate => "rate",
            Self::Bytes => "bytes",
        }
    }
}

/// One row, ready to print. The script fills its cells from the same fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LiveRow {
    pub(super) id: i64,
    pub(super) router: String,
    pub(super) device: String,
    pub(super) direction: &'static str,
    pub(super) destination: String,
    pub(super) port: String,
    pub(super) protocol: String,
    pub(super) state: &'static str,
    pub(super) flags: String,
    pub(super) up_rate: String,
    pub(super) down_rate: String,
    pub(super) up: String,
    pub(super) down: String,
    /// RFC 3339; the age is counted from it.
    pub(super) first_seen: String,
    /// Age when printed without the script.
    #[serde(skip)]
    pub(super) age: String,
    pub(super) ended: bool,
}

/// What a table shows.
pub(super) struct LiveTable {
    pub(super) rows: Vec<LiveRow>,
    /// How many match, shown or not.
    pub(super) matching: usize,
    /// How many are open in all.
    pub(super) open: usize,
}

/// Chooses and writes the rows.
pub(super) fn table(snapshot: &LiveSnapshot, query: &LiveQuery, now: Micros) -> LiveTable {
    let open = snapshot.flows.iter().filter(|flow| flow.ended_at.is_none()).count();
    let wanted = query.q.trim().to_lowercase();
    let mut chosen: Vec<&LiveFlow> = snapshot
        .flows
        .iter()
        .filter(|flow| query.router.is_empty() || *flow.router == *query.router)
        .filter(|flow| query.direction.is_empty() || flow.record.direction.name() == query.direction)
        .filter(|flow| wanted.is_empty() || row(flow, now).contains(&wanted))
        .collect();
    let newest = |flow: &&LiveFlow| (Reverse(flow.record.first_seen), Reverse(flow.record.id));
    match query.sort {
        Sort::Newest => chosen.sort_unstable_by_key(newest),
        Sort::Rate => chosen
            .sort_unstable_by_key(|flow| (Reverse((flow.rate.orig + flow.rate.reply) as i64), newest(flow))),
        Sort::Bytes => chosen.sort_unstable_by_key(|flow| {
            let counters = flow.record.counters;
            (Reverse(counters.bytes_orig.saturating_add(counters.bytes_reply)), newest(flow))
        }),
    }
    let rows = chosen.iter().take(MAX_ROWS).map(|flow| row(flow, now)).collect();
    LiveTable { rows, matching: chosen.len(), open }
}

fn row(flow: &LiveFlow, now: Micros) -> LiveRow {
    let record = &flow.record;
    let tuple = record.key.tuple;
    let responder = record.reply.map_or(tuple.dst, |reply| reply.src);
    // "Up" is what leaves the device; a flow from outside has its device at the far end.
    let (device, destination, up, down, up_rate, down_rate) = if record.direction == Direction::In {
        let counters = record.counters;
        (responder, tuple.src, counters.bytes_reply, counters.bytes_orig, flow.rate.reply, flow.rate.orig)
    } else {
        let counters = record.counters;
        (tuple.src, responder, counters.bytes_orig, counters.bytes_reply, flow.rate.orig, flow.rate.reply)
    };
    let port = match record.icmp {
        Some(icmp) => format!("type {}", icmp.kind),
        None if record.service_port() == 0 => String::new(),
        None => record.service_port().to_string(),
    };
    LiveRow {
        id: record.id.0,
        router: flow.router.to_string(),
        device: device.to_string(),
        direction: record.direction.name(),
        destination: destination.to_string(),
        port,
        protocol: format::protocol(record.key.protocol),
        state: if flow.ended_at.is_some() { "ENDED" } else { format::state(record) },
        flags: format::flags(record.status),
        up_rate: format::rate(up_rate),
        down_rate: format::rate(down_rate),
        up: format::bytes(up),
        down: format::bytes(down),
        first_seen: format::rfc3339(record.first_seen),
        age: format::duration(now - record.first_seen),
        ended: flow.ended_at.is_some(),
    }
}

impl LiveRow {
    fn contains(&self, wanted: &str) -> bool {
        let ports = [&self.device, &self.destination, &self.port, &self.protocol];
        ports.into_iter().any(|text| text.contains(wanted)) || self.state.to_lowercase().contains(wanted)
    }
}
