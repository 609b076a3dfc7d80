//! The read side.

use std::collections::BTreeSet;

use netmon_server::domain::{Changes, Direction, FlowRecord, Tuple};
use netmon_server::store::{
    Count, DatabaseUrl, DeviceFilter, DeviceSort, FlowFilter, FlowSort, FlowText, GapFilter, HostFilter,
    HostSort, LossRow, Page, Position, Store,
};

use crate::opened;
use crate::sample::{NOON, ended, gap, ip, open, ping6, tcp};

/// Open and ended flows take turns, so a page boundary falls between the tables.
pub(crate) fn pages_join_without_holes(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let (odd, even): (Vec<i64>, Vec<i64>) = (1..=11).partition(|id| id % 2 == 1);
    let finished: Vec<FlowRecord> = odd.iter().map(|id| tcp(router, *id)).collect();
    let alive = even.iter().map(|id| open(&tcp(router, *id))).collect();
    writer.commit(&Changes { open: alive, ..ended(&finished) }).unwrap();

    let reader = store.reader();
    let mut page = Page { before: None, limit: 4 };
    let mut pages = Vec::new();
    loop {
        let part = reader.flows(&FlowFilter::default(), page).unwrap();
        pages.push(part.items.iter().map(|row| row.flow.id.0).collect::<Vec<_>>());
        // What comes in while someone reads on must not move what was read.
        let id = 100 + pages.len() as i64;
        writer.commit(&ended(&[tcp(router, id)])).unwrap();
        match part.next {
            Some(_) => page.before = part.next,
            None => break,
        }
    }
    assert_eq!(pages, [vec![11, 10, 9, 8], vec![7, 6, 5, 4], vec![3, 2, 1]]);
    let all = reader
        .flows(&FlowFilter::default(), Page { before: Some(Position::after_id(12)), limit: 11 })
        .unwrap();
    assert_eq!((all.items.len(), all.next), (11, None));
}

pub(crate) fn filters_narrow(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let other = writer.attach_router("other", NOON).unwrap().id;
    let mut third = open(&tcp(other, 3));
    third.direction = Direction::In;
    third.remote = Some(ip("203.0.113.6"));
    writer.commit(&Changes { open: vec![third], ..ended(&[tcp(router, 1), ping6(router, 2)]) }).unwrap();
    let check = |filter: FlowFilter, expected: &[i64]| {
        let page = store.reader().flows(&filter, Page { before: None, limit: 10 }).unwrap();
        let ids: Vec<i64> = page.items.iter().map(|row| row.flow.id.0).collect();
        assert_eq!(ids, expected, "{filter:?}");
        let count = store.reader().count_flows(&filter, 10).unwrap();
        assert_eq!(count, Count { total: expected.len() as u64, capped: false });
    };
    let text = |text| FlowFilter { text: Some(text), ..FlowFilter::default() };
    let any = || FlowFilter::default();
    check(any(), &[3, 2, 1]);
    check(FlowFilter { router: Some(router), ..any() }, &[2, 1]);
    check(FlowFilter { device: Some(ip("192.168.1.20")), ..any() }, &[3, 1]);
    check(FlowFilter { device: Some(ip("192.168.1.20")), router: Some(other), ..any() }, &[3]);
    check(FlowFilter { device: Some(ip("2001:db8::20")), ..any() }, &[2]);
    check(FlowFilter { device: Some(ip("192.168.1.21")), ..any() }, &[]);
    check(FlowFilter { host: Some(ip("203.0.113.6")), ..any() }, &[3]);
    check(FlowFilter { host: Some(ip("203.0.113.7")), ..any() }, &[]);
    check(FlowFilter { direction: Some(Direction::In), ..any() }, &[3]);
    check(FlowFilter { protocol: Some(58), ..any() }, &[2]);
    // The responder's port after destination NAT, not the one that was dialled.
    check(FlowFilter { port: Some(8_443), ..any() }, &[3, 1]);
    check(FlowFilter { port: Some(443), ..any() }, &[]);
    check(FlowFilter { ended: Some(true), ..any() }, &[2, 1]);
    check(FlowFilter { ended: Some(false), ..any() }, &[3]);
    check(FlowFilter { ended: Some(false), protocol: Some(58), ..any() }, &[]);
    check(FlowFilter { from: Some(NOON + 2), ..any() }, &[3, 1]);
    // What has ended is alive no more, what is open is alive although nothing has moved for a day.
    let day_after = Some(NOON + 24 * 3_600_000_000);
    check(FlowFilter { from: day_after, ..any() }, &[3]);
    check(
        FlowFilter { from: day_after, ended: Some(false), device: Some(ip("192.168.1.20")), ..any() },
        &[3],
    );
    check(FlowFilter { from: day_after, ended: Some(true), ..any() }, &[]);
    check(FlowFilter { to: Some(NOON), ..any() }, &[3, 1]);
    check(FlowFilter { from: Some(NOON + 1), to: Some(NOON + 1), ..any() }, &[3, 2, 1]);
    check(FlowFilter { host: Some(ip("203.0.113.5")), device: Some(ip("192.168.1.20")), ..any() }, &[1]);
    check(text(FlowText::Address(ip("203.0.113.6"))), &[3]);
    check(text(FlowText::Address(ip("192.168.1.20"))), &[3, 1]);
    check(text(FlowText::Address(ip("192.168.1.99"))), &[]);
    check(text(FlowText::Port(8_443)), &[3, 1]);
    check(text(FlowText::Protocol(58)), &[2]);
    check(FlowFilter { port: Some(443), ..text(FlowText::Port(8_443)) }, &[]);
    // The names of the two that have one, one of them with a flow that is open.
    let name = |part: &str| text(FlowText::Name(part.to_owned()));
    check(name("w.exam"), &[3, 1]);
    check(FlowFilter { router: Some(other), ..name("example") }, &[3]);
    // Asked for before that time, and connected since.
    check(FlowFilter { from: Some(NOON + 2), ..name("example") }, &[3, 1]);
    // What is open is alive at any time.
    check(FlowFilter { from: Some(NOON + 10 * 3_600_000_000), ..name("example") }, &[3]);
    check(name("exampel"), &[]);
    check(name("%"), &[]);
    assert_eq!(store.reader().count_flows(&any(), 2).unwrap(), Count { total: 2, capped: true });
}

/// Of a flow in the LAN only the initiator is the device.
pub(crate) fn an_address_is_found_at_either_end(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let forwarded = |id: i64, to: &str| {
        let mut flow = tcp(router, id);
        (flow.device, flow.remote) = (None, None);
        flow.key.tuple.dst = ip("198.51.100.1");
        flow.reply = flow.reply.map(|reply| Tuple { src: ip(to), ..reply });
        flow
    };
    let changes = Changes {
        open: vec![open(&forwarded(4, "192.168.1.77"))],
        ..ended(&[
            tcp(router, 1),
            ping6(router, 2),
            forwarded(3, "192.168.1.77"),
            forwarded(5, "192.168.1.78"),
        ])
    };
    writer.commit(&changes).unwrap();
    for (address, expected) in [
        ("2001:db8::20", &[2][..]),
        ("2001:db8::21", &[2]),
        ("192.168.1.20", &[5, 4, 3, 1]),
        ("192.168.1.77", &[4, 3]),
        ("198.51.100.1", &[5, 4, 3]),
        ("203.0.113.5", &[1]),
        ("192.168.1.79", &[]),
    ] {
        let filter = FlowFilter { text: Some(FlowText::Address(ip(address))), ..FlowFilter::default() };
        let page = store.reader().flows(&filter, Page { before: None, limit: 10 }).unwrap();
        let ids: Vec<i64> = page.items.iter().map(|row| row.flow.id.0).collect();
        assert_eq!(ids, expected, "{address}");
        let count = store.reader().count_flows(&filter, 10).unwrap();
        assert_eq!(count, Count { total: expected.len() as u64, capped: false }, "{address}");
    }
}

/// Each order, page by page, with what counts the same in between.
pub(crate) fn flows_are_sorted_within_a_window(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let flow = |id: i64, bytes: i64, last: i64| {
        let mut flow = tcp(router, id);
        flow.counters.bytes_orig = bytes;
        flow.last_seen = flow.first_seen + last;
        flow
    };
    let alive = vec![open(&flow(5, 700, 1)), open(&flow(6, i64::MAX, 2))];
    let finished = [flow(1, 700, 9), flow(2, 900, 3), flow(3, 700, 3), flow(4, i64::MAX - 1, 3)];
    writer.commit(&Changes { open: alive, finished: finished.to_vec(), ..Changes::default() }).unwrap();
    for (sort, expected) in [
        (FlowSort::Newest, [6, 5, 4, 3, 2, 1]),
        // What is as much as can be counted, or more, is equal.
        (FlowSort::Bytes, [6, 4, 2, 5, 3, 1]),
        (FlowSort::LastSeen, [1, 4, 3, 2, 6, 5]),
        (FlowSort::Duration, [1, 4, 3, 2, 6, 5]),
    ] {
        for limit in [1, 2, 4, 6] {
            let filter = FlowFilter { sort, ..FlowFilter::default() };
            let mut page = Page { before: None, limit };
            let mut ids = Vec::new();
            loop {
                let part = store.reader().flows(&filter, page).unwrap();
                ids.extend(part.items.iter().map(|row| row.flow.id.0));
                page.before = part.next;
                if part.next.is_none() {
                    break;
                }
            }
            assert_eq!(ids, expected, "{sort:?} by {limit}");
        }
    }
}

pub(crate) fn lists_show_gaps_devices_and_losses(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let other = writer.attach_router("an other", NOON).unwrap().id;
    let gaps = vec![
        gap(router, 6, 2, NOON + 9),
        gap(router, 1, 1, NOON + 3),
        gap(router, 6, 3, NOON + 5),
        gap(other, 6, i64::MAX, NOON),
    ];
    writer.commit(&Changes { gaps, ..ended(&[tcp(router, 1), ping6(router, 2)]) }).unwrap();
    let reader = store.reader();

    let rows = reader.routers().unwrap();
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["an other", "gw"]);
    assert_eq!(rows[0].losses, [LossRow { cause: 6, count: i64::MAX, last: NOON }]);
    assert_eq!(
        rows[1].losses,
        [LossRow { cause: 1, count: 1, last: NOON + 3 }, LossRow { cause: 6, count: 5, last: NOON + 9 }]
    );

    let first = reader.gaps(&GapFilter::default(), Page { before: None, limit: 3 }).unwrap();
    assert_eq!(first.items.len(), 3);
    assert_eq!(first.items[0].router_name, "an other");
    assert_eq!(first.items[1].gap.detail, "3 of 6");
    assert_eq!(
        (first.items[1].gap.router, first.items[1].gap.cause, first.items[1].gap.count),
        (router, 6, 3)
    );
    assert_eq!((first.items[1].gap.from, first.items[1].gap.to), (NOON, NOON + 5));
    let rest = reader.gaps(&GapFilter::default(), Page { before: first.next, limit: 3 }).unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));

    let first = reader.devices(&DeviceFilter::default(), Page { before: None, limit: 1 }).unwrap();
    let rest = reader.devices(&DeviceFilter::default(), Page { before: first.next, limit: 1 }).unwrap();
    let addresses: BTreeSet<_> = first.items.iter().chain(&rest.items).map(|device| device.address).collect();
    assert_eq!(addresses, BTreeSet::from([ip("192.168.1.20"), ip("2001:db8::20")]));
    assert_eq!((first.items[0].router, first.items[0].router_name.as_str()), (router, "gw"));
    assert_eq!(
        reader.hosts(&HostFilter::default(), Page { before: None, limit: 10 }).unwrap().items[0].address,
        ip("203.0.113.5")
    );
    assert!(reader.size_bytes().unwrap() > 10_000);
}

pub(crate) fn short_lists_are_filtered_and_sorted(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let other = writer.attach_router("other", NOON).unwrap().id;
    let mut late = tcp(other, 1);
    late.last_seen = NOON + 900_000_000;
    late.remote = Some(ip("203.0.113.77"));
    writer.commit(&ended(&[late])).unwrap();
    let gaps = vec![gap(router, 1, 1, NOON + 3), gap(other, 6, 1, NOON + 9)];
    writer.commit(&Changes { gaps, ..ended(&[ping6(router, 2), tcp(router, 3)]) }).unwrap();
    let reader = store.reader();
    let all = Page { before: None, limit: 10 };

    let devices = |filter: &DeviceFilter| -> Vec<(String, String)> {
        let page = reader.devices(filter, all).unwrap();
        assert_eq!(reader.count_devices(filter, 10).unwrap().total, page.items.len() as u64);
        page.items.into_iter().map(|row| (row.router_name, row.address.to_string())).collect()
    };
    let row = |router: &str, address: &str| (router.to_owned(), address.to_owned());
    let any = || DeviceFilter::default();
    let behind = DeviceFilter { router: Some(other), ..any() };
    assert_eq!(devices(&behind), [row("other", "192.168.1.20")]);
    let text = DeviceFilter { text: Some("db8".to_owned()), ..any() };
    assert_eq!(devices(&text), [row("gw", "2001:db8::20")]);
    let address = DeviceFilter { address: Some(ip("192.168.1.2")), ..any() };
    assert_eq!(devices(&address), []);
    let sorted = devices(&DeviceFilter { sort: DeviceSort::LastSeen, ..any() });
    assert_eq!(sorted[0], row("other", "192.168.1.20"));
    assert_eq!(sorted[2], row("gw", "2001:db8::20"));

    let hosts = |filter: &HostFilter| -> Vec<String> {
        let page = reader.hosts(filter, all).unwrap();
        assert_eq!(reader.count_hosts(filter, 10).unwrap().total, page.items.len() as u64);
        page.items.into_iter().map(|row| row.address.to_string()).collect()
    };
    let any = || HostFilter::default();
    assert_eq!(hosts(&any()), ["203.0.113.5", "203.0.113.77"]);
    assert_eq!(hosts(&HostFilter { sort: HostSort::LastSeen, ..any() }), ["203.0.113.77", "203.0.113.5"]);
    assert_eq!(hosts(&HostFilter { text: Some("113.7".to_owned()), ..any() }), ["203.0.113.77"]);
    assert_eq!(hosts(&HostFilter { address: Some(ip("203.0.113.5")), ..any() }), ["203.0.113.5"]);
    let first =
        reader.hosts(&HostFilter { sort: HostSort::LastSeen, ..any() }, Page { limit: 1, ..all }).unwrap();
    let second = Page { before: first.next, ..all };
    let rest = reader.hosts(&HostFilter { sort: HostSort::LastSeen, ..any() }, second).unwrap();
    assert_eq!(rest.items[0].address, ip("203.0.113.5"));

    let gaps = |filter: &GapFilter| -> Vec<i16> {
        let page = reader.gaps(filter, all).unwrap();
        assert_eq!(reader.count_gaps(filter, 10).unwrap().total, page.items.len() as u64);
        page.items.into_iter().map(|row| row.gap.cause).collect()
    };
    let any = || GapFilter::default();
    assert_eq!(gaps(&any()), [6, 1]);
    assert_eq!(gaps(&GapFilter { router: Some(router), ..any() }), [1]);
    assert_eq!(gaps(&GapFilter { cause: Some(6), ..any() }), [6]);
    assert_eq!(gaps(&GapFilter { from: Some(NOON + 4), ..any() }), [6]);
    assert!(gaps(&GapFilter { to: Some(NOON - 1), ..any() }).is_empty());
    assert_eq!(reader.router_names().unwrap(), ["gw", "other"]);
    assert_eq!(reader.router_id("other").unwrap(), Some(other));
    assert_eq!(reader.router_id("none").unwrap(), None);
}

/// A page must not wait for the writer, nor see half of a commit.
pub(crate) fn reading_goes_on_beside_an_open_write(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let rounds = 50;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let reader = store.reader();
            let mut last = 0;
            while last < 2 * rounds {
                let totals = reader.totals().unwrap();
                assert_eq!(totals.flows, totals.device_minutes);
                assert_eq!(totals.flows.flows % 2, 0);
                assert!(totals.flows.flows >= last);
                last = totals.flows.flows;
            }
        });
        for round in 0..rounds {
            writer.commit(&ended(&[tcp(router, 2 * round + 1), ping6(router, 2 * round + 2)])).unwrap();
        }
        reading.join().unwrap();
    });
}

pub(crate) fn a_setting_is_set_once(url: &DatabaseUrl) {
    let store = Store::open(url).unwrap();
    let mut writer = store.writer().unwrap();
    assert_eq!(writer.setting("token").unwrap(), None);
    assert_eq!(writer.setting_or_insert("token", "first").unwrap(), "first");
    assert_eq!(store.writer().unwrap().setting_or_insert("token", "second").unwrap(), "first");
    assert_eq!(store.reader().setting("token").unwrap().as_deref(), Some("first"));
}
