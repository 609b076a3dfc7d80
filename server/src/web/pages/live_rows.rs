//! The rows of the live table: chosen, sorted, and written as a person reads them.

use std::{cmp::Reverse, fmt::Write as _, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Direction, FlowRecord, Micros},
    engine::{LiveFlow, LiveSnapshot},
    enrich,
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

/// Chooses and writes the rows. It looks at every flow, which is work for a thread of its own.
pub(super) fn table(snapshot: &LiveSnapshot, query: &LiveQuery, now: Micros) -> LiveTable {
    let open = snapshot.flows.iter().filter(|flow| flow.ended_at.is_none()).count();
    let wanted = query.q.trim().to_lowercase();
    let mut cell = String::new();
    let mut chosen: Vec<&LiveFlow> = snapshot
        .flows
        .iter()
        .filter(|flow| query.router.is_empty() || *flow.router == *query.router)
        .filter(|flow| query.direction.is_empty() || flow.record.direction.name() == query.direction)
        .filter(|flow| wanted.is_empty() || contains(flow, &wanted, &mut cell))
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
    let (device, destination) = ends(record);
    let counters = record.counters;
    // "Up" is what leaves the device.
    let (up, down, up_rate, down_rate) = if record.direction == Direction::In {
        (counters.bytes_reply, counters.bytes_orig, flow.rate.reply, flow.rate.orig)
    } else {
        (counters.bytes_orig, counters.bytes_reply, flow.rate.orig, flow.rate.reply)
    };
    let mut port = String::new();
    put_port(record, &mut port);
    LiveRow {
        id: record.id.0,
        router: flow.router.to_string(),
        device: device.to_string(),
        direction: record.direction.name(),
        destination: destination.to_string(),
        port,
        protocol: format::protocol(record.key.protocol),
        state: state(flow),
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

/// Device and destination: a flow from outside has its device at the far end.
fn ends(record: &FlowRecord) -> (IpAddr, IpAddr) {
    let (sender, responder) = (record.key.tuple.src, record.responder());
    if record.direction == Direction::In { (responder, sender) } else { (sender, responder) }
}

fn put_port(record: &FlowRecord, cell: &mut String) {
    let port = record.service_port();
    let written = match record.icmp {
        Some(icmp) => write!(cell, "type {}", icmp.kind),
        None if port == 0 => Ok(()),
        None => match enrich::service(record.key.protocol, port) {
            Some(name) => write!(cell, "{port} {name}"),
            None => write!(cell, "{port}"),
        },
    };
    debug_assert!(written.is_ok(), "a String takes everything");
}

fn state(flow: &LiveFlow) -> &'static str {
    if flow.ended_at.is_some() { "ENDED" } else { format::state(&flow.record) }
}

/// Whether the text is in one of the cells that are searched, which are written one after the other into `cell`: a whole
/// row for each flow would be five times the work.
fn contains(flow: &LiveFlow, wanted: &str, cell: &mut String) -> bool {
    let record = &flow.record;
    let (device, destination) = ends(record);
    let mut holds = |write: &dyn Fn(&mut String)| {
        cell.clear();
        write(cell);
        cell.contains(wanted)
    };
    holds(&|cell| put_address(device, cell))
        || holds(&|cell| put_address(destination, cell))
        || holds(&|cell| put_port(record, cell))
        || format::protocol(record.key.protocol).contains(wanted)
        || holds(&|cell| cell.extend(state(flow).chars().map(|c| c.to_ascii_lowercase())))
}

fn put_address(address: IpAddr, cell: &mut String) {
    let written = write!(cell, "{address}");
    debug_assert!(written.is_ok(), "a String takes everything");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        domain::{Counters, FlowId, FlowKey, Icmp, RouterId, Tuple},
        engine::Rate,
    };

    fn flow(id: i64, src: &str, dst: &str, port: u16) -> LiveFlow {
        let tuple =
            Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), src_port: 50_000, dst_port: port };
        let record = FlowRecord {
            id: FlowId(id),
            router: RouterId(1),
            flow_id: 1,
            key: FlowKey { zone: 0, conntrack_id: 1, protocol: 6, tuple },
            reply: None,
            icmp: None,
            direction: Direction::Out,
            device: None,
            remote: None,
            counters: Counters { bytes_orig: 1000, ..Counters::default() },
            before: Counters::default(),
            first_seen: id,
            last_seen: id,
            kernel_start: None,
            tcp_state: 4,
            status: 0,
            mark: 0,
            no_counters: false,
            end: None,
            name: None,
        };
        LiveFlow { router: "attic".into(), record, rate: Rate::default(), ended_at: None }
    }

    #[test]
    fn a_search_finds_what_a_cell_shows() {
        let mut ping = flow(2, "192.168.1.21", "203.0.113.7", 0);
        ping.record.key.protocol = 1;
        ping.record.icmp = Some(Icmp { kind: 8, code: 0, id: 7 });
        ping.record.tcp_state = 0;
        let mut inward = flow(3, "2001:db8::9", "2001:db8::20", 80);
        inward.record.direction = Direction::In;
        inward.record.reply = Some(Tuple {
            src: "fd00::20".parse().unwrap(),
            dst: "2001:db8::9".parse().unwrap(),
            src_port: 8080,
            dst_port: 50_000,
        });
        inward.ended_at = Some(9);
        let flows = vec![flow(1, "192.168.1.20", "203.0.113.9", 443), ping, inward];
        let snapshot = Arc::new(LiveSnapshot { taken_at: 9, flows });
        for (q, expected) in [
            ("", &[3, 2, 1][..]),
            ("192.168.1.2", &[2, 1]),
            ("113.9", &[1]),
            (" 443 ", &[1]),
            ("443 HTTPS", &[1]),
            ("tcp", &[3, 1]),
            ("ICMP", &[2]),
            ("type 8", &[2]),
            ("Established", &[1]),
            ("ended", &[3]),
            ("fd00::20", &[3]),
            ("2001:db8::9", &[3]),
            // Before the translation: no cell shows it.
            ("2001:db8::20", &[]),
            ("50000", &[]),
            ("attic", &[]),
        ] {
            let query = LiveQuery { q: q.to_owned(), ..LiveQuery::default() };
            let table = table(&snapshot, &query, 9);
            assert_eq!(table.rows.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{q}");
            assert_eq!((table.matching, table.open), (expected.len(), 2), "{q}");
        }
    }

    #[test]
    fn a_row_tells_what_the_device_sends_and_gets() {
        const SECOND: Micros = 1_000_000;
        for (direction, device, destination) in [
            (Direction::Out, "192.168.1.20", "203.0.113.9"),
            (Direction::Lan, "192.168.1.20", "203.0.113.9"),
            // The one that began it is outside.
            (Direction::In, "203.0.113.9", "192.168.1.20"),
        ] {
            let mut flow = flow(1, "192.168.1.20", "203.0.113.9", 443);
            flow.record.direction = direction;
            flow.record.first_seen = 0;
            flow.record.counters = Counters { bytes_orig: 1_000, bytes_reply: 2_000, ..Counters::default() };
            flow.rate = Rate { orig: 3_000.0, reply: 4_000.0 };
            let row = row(&flow, 90 * SECOND);
            let (sent, got) = if direction == Direction::In { (2, 1) } else { (1, 2) };
            let shown = (row.device.as_str(), row.destination.as_str(), row.up, row.down);
            assert_eq!(shown, (device, destination, format!("{sent}.0 kB"), format!("{got}.0 kB")));
            assert_eq!(
                (row.up_rate, row.down_rate),
                (format::rate(f64::from(sent + 2) * 1e3), format::rate(f64::from(got + 2) * 1e3))
            );
            assert_eq!((row.state, row.age.as_str(), row.ended), ("ESTABLISHED", "1 min", false));
        }
    }
}
