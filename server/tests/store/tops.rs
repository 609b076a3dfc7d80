//! Rankings.

use std::net::IpAddr;

use netmon_server::domain::{Changes, Counters, FlowRecord, HostName, MINUTE_US, RouterId};
use netmon_server::store::{DatabaseUrl, Retention, TopBy, TopFilter, TopKey, TopList};

use crate::opened;
use crate::retention::{flows_at, sweep_to_the_end};
use crate::rollups::roll_up;
use crate::sample::{NOON, NOON_MINUTE, delta, host_delta, ip, ping6, tcp};

const HOUR: i64 = 60 * MINUTE_US;
const DAY: i64 = 24 * HOUR;

fn bytes(bytes_orig: i64) -> Counters {
    Counters { bytes_orig, ..Counters::default() }
}

fn addresses(list: &TopList) -> Vec<(IpAddr, i64)> {
    list.rows
        .iter()
        .filter_map(|row| match row.key {
            TopKey::Address { address, .. } => Some((address, row.sums.counters.bytes_orig)),
            _ => None,
        })
        .collect()
}

/// One host moves ten a minute all the time, another moved a lot half a day ago, a third one ten days ago.
pub(crate) fn a_ranking_covers_its_span(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let other = writer.attach_router("other", NOON).unwrap().id;
    let (steady, burst, old) = (ip("203.0.113.1"), ip("203.0.113.2"), ip("203.0.113.3"));
    let moved = |router: RouterId, remote: IpAddr, minute: i64, counters: Counters| {
        let mut flow = tcp(router, 1);
        flow.remote = Some(remote);
        (delta(&flow, minute, 1, counters), host_delta(&flow, minute, 1, counters))
    };
    let mut changes = Changes::default();
    for minute in 0..60 {
        let (service, host) = moved(router, steady, NOON_MINUTE - 1 - minute, bytes(10));
        changes.minutes.push(service);
        changes.host_minutes.push(host);
    }
    for (router, remote, minutes_ago, counters) in [
        (other, burst, 12 * 60, bytes(50_000)),
        // Two that nearly reach the largest number together must not stop the ranking of others.
        (router, old, 10 * 24 * 60, bytes(i64::MAX - 1)),
        (router, old, 9 * 24 * 60, bytes(i64::MAX - 1)),
    ] {
        let (service, host) = moved(router, remote, NOON_MINUTE - minutes_ago, counters);
        changes.minutes.push(service);
        changes.host_minutes.push(host);
    }
    writer.commit(&changes).unwrap();

    let top = |by, router, span, limit| {
        let filter = TopFilter { by, router, from: NOON - span, to: NOON, limit };
        store.reader().top(&filter).unwrap()
    };
    let hour = top(TopBy::Host, None, HOUR, 10);
    assert_eq!((hour.from, hour.to), (NOON - HOUR, NOON));
    assert_eq!(addresses(&hour), [(steady, 600)]);
    assert_eq!(hour.rows[0].sums.flows, 60);
    let day = top(TopBy::Host, None, DAY, 10);
    assert_eq!((day.from, day.to), (NOON - DAY, NOON));
    assert_eq!(addresses(&day), [(burst, 50_000), (steady, 600)]);
    // Whole days: from the midnight before to the midnight after.
    let month = top(TopBy::Host, None, 30 * DAY, 10);
    assert_eq!((month.from, month.to), (NOON - 30 * DAY - 12 * HOUR, NOON + 12 * HOUR));
    assert_eq!(addresses(&month), [(old, i64::MAX), (burst, 50_000), (steady, 600)]);
    assert_eq!(addresses(&top(TopBy::Host, None, 30 * DAY, 1)), [(old, i64::MAX)]);
    assert_eq!(addresses(&top(TopBy::Host, Some(other), 30 * DAY, 10)), [(burst, 50_000)]);

    // The same device behind two routers is two; the service is one.
    let devices = top(TopBy::Device, None, DAY, 10);
    assert_eq!(addresses(&devices), [(ip("192.168.1.20"), 50_000), (ip("192.168.1.20"), 600)]);
    let routers: Vec<Option<&str>> = devices.rows.iter().map(|row| row.router_name.as_deref()).collect();
    assert_eq!(routers, [Some("other"), Some("gw")]);
    let TopKey::Address { id, .. } = day.rows[1].key else { panic!("{:?} is no host", day.rows[1]) };
    let name =
        HostName { host: id, name: Some("one.example".to_owned()), failed: false, asked: NOON, due: NOON };
    writer.put_host_names(&[name]).unwrap();
    let hosts = top(TopBy::Host, None, DAY, 10);
    let names: Vec<Option<&str>> = hosts.rows.iter().map(|row| row.name.as_deref()).collect();
    assert_eq!(names, [None, Some("one.example")]);
    let services = top(TopBy::Service, None, DAY, 10);
    assert_eq!(services.rows.len(), 1);
    assert_eq!(services.rows[0].key, TopKey::Service { protocol: 6, port: 8_443 });
    assert_eq!(services.rows[0].sums.counters.bytes_orig, 50_600);
    assert_eq!(top(TopBy::Service, None, MINUTE_US, 10).rows[0].sums.counters.bytes_orig, 10);
}

pub(crate) fn a_day_of_a_device_has_its_minutes(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let (flow, other) = (tcp(router, 1), ping6(router, 2));
    let minutes = [(0, 1), (1, 2), (1_439, 4), (1_440, 8)]
        .map(|(minute, moved)| delta(&flow, NOON_MINUTE + minute, 1, bytes(moved)));
    let mut changes = Changes { minutes: minutes.to_vec(), ..Changes::default() };
    changes.minutes.push(delta(&other, NOON_MINUTE, 1, bytes(100)));
    // Another device of the same address.
    let elsewhere = writer.attach_router("elsewhere", NOON).unwrap().id;
    changes.minutes.push(delta(&tcp(elsewhere, 3), NOON_MINUTE, 1, bytes(1_000)));
    writer.commit(&changes).unwrap();
    let read = |device, from| -> Vec<(i64, i64)> {
        let rows = store.reader().device_minutes(device, from, NOON + DAY).unwrap();
        rows.iter().map(|row| ((row.at - NOON) / MINUTE_US, row.sums.counters.bytes_orig)).collect()
    };
    let id = |router, flow: &FlowRecord| {
        store.reader().device_at(router, flow.device.unwrap()).unwrap().expect("its device")
    };
    let device = id(router, &flow);
    assert_eq!(read(device, NOON), [(0, 1), (1, 2), (1_439, 4)]);
    assert_eq!(read(device, NOON + 2 * MINUTE_US), [(1_439, 4)]);
    assert_eq!(read(device, i64::MIN), [(0, 1), (1, 2), (1_439, 4)]);
    assert_eq!(read(id(elsewhere, &flow), NOON), [(0, 1_000)]);
    assert_eq!(read(9_999, NOON), []);
    // A part's are those of the whole, and its own.
    let part = id(router, &other);
    assert!(writer.merge_devices(part, device, NOON).unwrap());
    assert_eq!(read(device, NOON), [(0, 101), (1, 2), (1_439, 4)]);
    assert_eq!(read(part, NOON), [(0, 100)]);
}

/// Minutes of hosts are kept for two days, of devices for fourteen, hours for longer.
pub(crate) fn what_is_gone_from_the_minutes_is_in_the_hours(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    for ago in [20 * DAY, 3 * DAY, DAY, 0] {
        writer.commit(&flows_at(router, 1 + ago / DAY, 1, NOON - ago)).unwrap();
    }
    roll_up(&mut writer, NOON + HOUR);
    let moved = tcp(router, 1).watched().bytes_orig;
    let top = |by, ago: i64| {
        let (from, to) = (NOON - ago, NOON - ago + 2 * MINUTE_US);
        let list = store.reader().top(&TopFilter { by, router: None, from, to, limit: 10 }).unwrap();
        let sums: Vec<i64> = list.rows.iter().map(|row| row.sums.counters.bytes_orig).collect();
        assert_eq!(sums, [moved], "{by:?} {ago}");
        list.to - list.from
    };
    let spans = |by| [20 * DAY, 3 * DAY, 0].map(|ago| top(by, ago) / MINUTE_US);
    assert_eq!(spans(TopBy::Host), [2, 2, 2]);
    sweep_to_the_end(&mut writer, &Retention::default(), NOON + HOUR);
    assert_eq!(spans(TopBy::Host), [60, 60, 2]);
    assert_eq!(spans(TopBy::Device), [60, 2, 2]);
    sweep_to_the_end(&mut writer, &Retention { hours_days: 4, ..Retention::default() }, NOON + HOUR);
    assert_eq!(spans(TopBy::Service), [1_440, 2, 2]);
}

/// Traffic without a device and without an outside address is told as such.
pub(crate) fn nobody_has_a_row(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut flow = tcp(router, 1);
    flow.remote = None;
    flow.device = None;
    let changes = Changes {
        minutes: vec![delta(&flow, NOON_MINUTE, 1, bytes(7))],
        host_minutes: vec![host_delta(&flow, NOON_MINUTE, 1, bytes(7))],
        ..Changes::default()
    };
    writer.commit(&changes).unwrap();
    for by in [TopBy::Device, TopBy::Host] {
        let filter = TopFilter { by, router: Some(router), from: NOON, to: NOON + HOUR, limit: 5 };
        let rows = store.reader().top(&filter).unwrap().rows;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].key, rows[0].sums.counters), (TopKey::Nobody, bytes(7)));
    }
}
