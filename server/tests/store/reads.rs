//! The read side.

use std::collections::BTreeSet;

use netmon_server::domain::{Changes, Direction, FlowRecord};
use netmon_server::store::{Count, DatabaseUrl, FlowFilter, LossRow, Page, Store};

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
    let all = reader.flows(&FlowFilter::default(), Page { before: Some(12), limit: 11 }).unwrap();
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
    let any = FlowFilter::default();
    check(any, &[3, 2, 1]);
    check(FlowFilter { router: Some(router), ..any }, &[2, 1]);
    check(FlowFilter { device: Some(ip("192.168.1.20")), ..any }, &[3, 1]);
    check(FlowFilter { device: Some(ip("192.168.1.20")), router: Some(other), ..any }, &[3]);
    check(FlowFilter { device: Some(ip("2001:db8::20")), ..any }, &[2]);
    check(FlowFilter { device: Some(ip("192.168.1.21")), ..any }, &[]);
    check(FlowFilter { host: Some(ip("203.0.113.6")), ..any }, &[3]);
    check(FlowFilter { host: Some(ip("203.0.113.7")), ..any }, &[]);
    check(FlowFilter { direction: Some(Direction::In), ..any }, &[3]);
    check(FlowFilter { protocol: Some(58), ..any }, &[2]);
    // The responder's port after destination NAT, not the one that was dialled.
    check(FlowFilter { port: Some(8_443), ..any }, &[3, 1]);
    check(FlowFilter { port: Some(443), ..any }, &[]);
    check(FlowFilter { ended: Some(true), ..any }, &[2, 1]);
    check(FlowFilter { ended: Some(false), ..any }, &[3]);
    check(FlowFilter { ended: Some(false), protocol: Some(58), ..any }, &[]);
    assert_eq!(store.reader().count_flows(&any, 2).unwrap(), Count { total: 2, capped: true });
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

    let first = reader.gaps(Page { before: None, limit: 3 }).unwrap();
    assert_eq!(first.items.len(), 3);
    assert_eq!(first.items[0].router_name, "an other");
    assert_eq!(first.items[1].gap.detail, "3 of 6");
    assert_eq!(
        (first.items[1].gap.router, first.items[1].gap.cause, first.items[1].gap.count),
        (router, 6, 3)
    );
    assert_eq!((first.items[1].gap.from, first.items[1].gap.to), (NOON, NOON + 5));
    let rest = reader.gaps(Page { before: first.next, limit: 3 }).unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));

    let first = reader.devices(Page { before: None, limit: 1 }).unwrap();
    let rest = reader.devices(Page { before: first.next, limit: 1 }).unwrap();
    let addresses: BTreeSet<_> = first.items.iter().chain(&rest.items).map(|device| device.address).collect();
    assert_eq!(addresses, BTreeSet::from([ip("192.168.1.20"), ip("2001:db8::20")]));
    assert_eq!((first.items[0].router, first.items[0].router_name.as_str()), (router, "gw"));
    assert_eq!(reader.hosts(Page { before: None, limit: 10 }).unwrap().items[0].address, ip("203.0.113.5"));
    assert!(reader.size_bytes().unwrap() > 10_000);
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
