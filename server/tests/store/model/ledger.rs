//! What a history sent, as the rows that must come of it.

use std::collections::BTreeMap;

use netmon_server::domain::{Counters, Direction, End, FlowRecord, MINUTE_US, Micros, RouterId, Tuple};
use netmon_server::store::{DatabaseUrl, Sums, Totals};

use super::server::Server;
use crate::events::lines;
use crate::rollups::roll_up;
use crate::sample::ip;

/// A five-tuple, and who is who.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) protocol: u8,
    pub(super) tuple: Tuple,
    pub(super) reply: Option<Tuple>,
    pub(super) direction: Direction,
    /// Which end of `tuple` or, where it was changed, of `reply` is a device's and which is outside.
    pub(super) device: &'static str,
    pub(super) remote: Option<&'static str>,
}

/// Two devices of IPv4, of which one has IPv6 too; three remote hosts; both directions. The last was changed by NAT.
pub(super) const PLACES: u8 = 8;
/// Those that the original agent can tell of.
pub(super) const PLAIN_PLACES: u8 = 7;

pub(super) fn ends(place: u8) -> Ends {
    use Direction::{In, Lan, Out};
    const DESK: &str = "192.168.1.20";
    const DESK_6: &str = "2001:db8::20";
    const PHONE: &str = "192.168.1.21";
    const NEAR: &str = "203.0.113.5";
    const FAR: &str = "198.51.100.7";
    const FAR_6: &str = "2001:db8:ffff::9";
    let plain = |protocol, direction, from: (&'static str, u16), to: (&'static str, u16)| {
        let (device, other) = if direction == In { (to.0, from.0) } else { (from.0, to.0) };
        Ends {
            protocol,
            tuple: Tuple { src: ip(from.0), dst: ip(to.0), src_port: from.1, dst_port: to.1 },
            reply: None,
            direction,
            device,
            remote: (direction != Lan).then_some(other),
        }
    };
    match place % PLACES {
        0 => plain(6, Out, (DESK, 50_000), (NEAR, 443)),
        1 => plain(17, Out, (PHONE, 50_000), (NEAR, 53)),
        2 => plain(6, In, (FAR, 40_000), (DESK, 22)),
        3 => plain(6, Out, (DESK_6, 50_000), (FAR_6, 443)),
        4 => plain(17, In, (FAR_6, 123), (DESK_6, 123)),
        5 => plain(6, Lan, (DESK, 50_000), (PHONE, 445)),
        6 => plain(58, Out, (DESK_6, 0), (FAR_6, 0)),
        _ => {
            let behind = plain(6, In, (FAR, 40_000), (PHONE, 2_222));
            let Tuple { src, dst, src_port, .. } = behind.tuple;
            let reply = Tuple { src: dst, dst: src, src_port: 22, dst_port: src_port };
            let tuple = Tuple { dst: ip("198.51.100.1"), ..behind.tuple };
            Ends { tuple, reply: Some(reply), ..behind }
        }
    }
}

/// A flow as it must stand in the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) place: u8,
    pub(super) first_seen: Micros,
    pub(super) last_seen: Micros,
    pub(super) counters: [i64; 4],
    pub(super) before: [i64; 4],
    /// 1: its end was told; 2: not told, but it is over; 0: open.
    pub(super) end: i16,
}

/// What was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Flows by numbers of the history's own.
    pub(super) flows: BTreeMap<usize, Flow>,
    /// By table, minute and key.
    minutes: BTreeMap<(&'static str, i64, String), Sums>,
}

pub(super) fn figures(counters: Counters) -> [i64; 4] {
    let Counters { bytes_orig, bytes_reply, packets_orig, packets_reply } = counters;
    [bytes_orig, bytes_reply, packets_orig, packets_reply]
}

fn counters([bytes_orig, bytes_reply, packets_orig, packets_reply]: [i64; 4]) -> Counters {
    Counters { bytes_orig, bytes_reply, packets_orig, packets_reply }
}

fn hex(address: Option<&str>) -> String {
    let octets = match address.map(ip) {
        None => return "-".to_owned(),
        Some(std::net::IpAddr::V4(v4)) => v4.octets().to_vec(),
        Some(std::net::IpAddr::V6(v6)) => v6.octets().to_vec(),
    };
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Ledger {
    /// A flow became known, and counts as begun then.
    pub(super) fn began(
        &mut self,
        number: usize,
        place: u8,
        first_seen: Micros,
        before: Counters,
        at: Micros,
    ) {
        let before = figures(before);
        let flow = Flow { place, first_seen, last_seen: first_seen, counters: before, before, end: 0 };
        assert!(self.flows.insert(number, flow).is_none());
        self.add(place, at, 1, Counters::default());
    }

    /// Its counters were told; they had last changed at `at`.
    pub(super) fn moved(&mut self, number: usize, now: Counters, at: Micros) {
        let flow = self.flows.get_mut(&number).unwrap();
        let known = counters(flow.counters);
        flow.counters = figures(known.max(now));
        flow.last_seen = flow.last_seen.max(at);
        let place = flow.place;
        self.add(place, at, 0, known.max(now).minus(known));
    }

    pub(super) fn ended(&mut self, number: usize, end: End) {
        self.flows.get_mut(&number).unwrap().end = end as i16;
    }

    fn add(&mut self, place: u8, at: Micros, flows: i64, moved: Counters) {
        if flows == 0 && moved == Counters::default() {
            return;
        }
        let ends = ends(place);
        let port = ends.reply.map_or(ends.tuple.dst_port, |reply| reply.src_port);
        for (table, key) in [
            ("device", hex(Some(ends.device))),
            ("service", format!("{} {port}", ends.protocol)),
            ("host", hex(ends.remote)),
        ] {
            let row = self.minutes.entry((table, at.div_euclid(MINUTE_US), key)).or_default();
            *row = row.plus(Sums { flows, counters: moved });
        }
    }

    /// The sums of all flows.
    pub(super) fn sums(&self) -> Sums {
        self.flows.values().fold(Sums::default(), |sum, flow| {
            sum.plus(Sums { flows: 1, counters: counters(flow.counters).minus(counters(flow.before)) })
        })
    }

    /// Compares flows and rollups row by row. Of hours and days when all minutes are in them.
    pub(super) fn check(&self, url: &DatabaseUrl, server: &mut Server<'_>, now: Micros) {
        let known = server.writer.attach_router(&server.name, now).unwrap();
        let mut stored: Vec<Flow> = known.open.iter().chain(&known.ended).map(flow_of).collect();
        let mut sent: Vec<Flow> = self.flows.values().cloned().collect();
        stored.sort();
        sent.sort();
        assert_eq!(stored, sent, "flows");
        for table in ["device", "service", "host"] {
            self.check_rows(url, server.router, (table, "minute", 1));
        }
        roll_up(&mut server.writer, now + 2 * MINUTE_US);
        for table in ["device", "service", "host"] {
            self.check_rows(url, server.router, (table, "hour", 60));
            self.check_rows(url, server.router, (table, "day", 24 * 60));
        }
    }

    fn check_rows(&self, url: &DatabaseUrl, router: RouterId, (table, unit, minutes): (&str, &str, i64)) {
        let mut sent: BTreeMap<(i64, &str), Sums> = BTreeMap::new();
        for ((_, minute, key), sums) in self.minutes.iter().filter(|((of, ..), _)| *of == table) {
            let row = sent.entry((minute.div_euclid(minutes), key)).or_default();
            *row = row.plus(*sums);
        }
        let mut sent: Vec<String> = sent
            .into_iter()
            .map(|((time, key), sums)| {
                let [a, b, c, d] = figures(sums.counters);
                format!("{time} {key} {} {a} {b} {c} {d}", sums.flows)
            })
            .collect();
        let (key, join): (&[&str], _) = match table {
            "device" => (&["k.address"], " LEFT JOIN devices k ON k.id = r.device_id"),
            "host" => (&["k.address"], " LEFT JOIN remote_hosts k ON k.id = r.host_id"),
            _ => (&["r.protocol", "r.port"], ""),
        };
        let time = format!("r.{unit}");
        let figures = ["r.flows", "r.bytes_orig", "r.bytes_reply", "r.packets_orig", "r.packets_reply"];
        let columns: Vec<&str> =
            [time.as_str()].into_iter().chain(key.iter().copied()).chain(figures).collect();
        let from = format!("FROM {table}_{unit}s r{join} WHERE r.router_id = {}", router.0);
        let mut stored = lines(url, &columns, &from);
        stored.sort();
        sent.sort();
        assert_eq!(stored, sent, "{table}_{unit}s");
    }
}

/// A stored flow. Its ends must be those of a place.
fn flow_of(record: &FlowRecord) -> Flow {
    let is_it = |place: &u8| {
        let ends = ends(*place);
        let of_record = (record.key.protocol, record.key.tuple, record.reply, record.direction);
        (ends.protocol, ends.tuple, ends.reply, ends.direction) == of_record
            && record.device == Some(ip(ends.device))
            && record.remote == ends.remote.map(ip)
    };
    Flow {
        place: (0..PLACES).find(is_it).unwrap_or_else(|| panic!("nobody sent {record:?}")),
        first_seen: record.first_seen,
        last_seen: record.last_seen,
        counters: figures(record.counters),
        before: figures(record.before),
        end: record.end.map_or(0, |end| end as i16),
    }
}

/// Every table's sums grew by the same.
pub(super) fn added(before: &Totals, after: &Totals, sent: Sums) {
    let all = |totals: &Totals| {
        [
            ("flows", totals.flows),
            ("minutes of devices", totals.device_minutes),
            ("hours of devices", totals.device_hours),
            ("days of devices", totals.device_days),
            ("minutes of services", totals.service_minutes),
            ("hours of services", totals.service_hours),
            ("days of services", totals.service_days),
            ("minutes of hosts", totals.host_minutes),
            ("hours of hosts", totals.host_hours),
            ("days of hosts", totals.host_days),
        ]
    };
    for ((what, after), (_, before)) in all(after).into_iter().zip(all(before)) {
        let grown =
            Sums { flows: after.flows - before.flows, counters: after.counters.minus(before.counters) };
        assert_eq!(grown, sent, "{what}");
    }
}
