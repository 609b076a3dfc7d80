//! What one commit does.

use netmon_server::domain::{Changes, Counters, DeviceTouch, HostTouch, RouterUpdate};
use netmon_server::store::{DatabaseUrl, DeviceFilter, GapFilter, HostFilter, Page, Store, StoreError, Sums};

use crate::sample::{
    NOON, NOON_MINUTE, cursor, delta, ended, gap, heard, host_delta, ip, kept, open, ping6, raw, tcp,
};
use crate::{all_flows, opened};

const EVERYTHING: Page = Page { before: None, limit: 1_000 };

pub(crate) fn a_cursor_moves_only_from_where_it_is(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let epoch = 0xffee_ddcc_bbaa_9988;
    assert_eq!(writer.cursor(router, epoch).unwrap(), None);
    let first = Changes { cursors: vec![cursor(router, epoch, None, 3)], ..ended(&[tcp(router, 1)]) };
    writer.commit(&first).unwrap();
    assert_eq!(writer.cursor(router, epoch).unwrap(), Some(3));

    // The same again, as another server with the same batch would.
    let error = store.writer().unwrap().commit(&first).unwrap_err();
    assert!(
        matches!(error, StoreError::CursorMoved { expected: None, found: Some(3), epoch: e, router: r } if e == epoch && r == router),
        "{error}"
    );
    let error = writer
        .commit(&Changes { cursors: vec![cursor(router, epoch, Some(2), 4)], ..Changes::default() })
        .unwrap_err();
    assert!(matches!(error, StoreError::CursorMoved { expected: Some(2), found: Some(3), .. }), "{error}");
    assert_eq!(all_flows(&store).len(), 1);

    let last = u64::MAX;
    writer
        .commit(&Changes { cursors: vec![cursor(router, epoch, Some(3), last)], ..Changes::default() })
        .unwrap();
    assert_eq!(store.reader().cursor(router, epoch).unwrap(), Some(last));
    assert_eq!(writer.cursor(router, epoch + 1).unwrap(), None);
}

pub(crate) fn a_failed_commit_leaves_nothing(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut changes = ended(&[tcp(router, 1)]);
    changes.open = vec![open(&ping6(router, 2))];
    changes.gaps = vec![gap(router, 1, 1, NOON)];
    changes.raw = vec![raw(router, 4)];
    changes.routers = vec![heard(router, NOON)];
    // The second of these fails, so the first must be undone.
    changes.cursors = vec![cursor(router, 1, None, 1), cursor(router, 2, Some(9), 10)];
    assert!(matches!(writer.commit(&changes), Err(StoreError::CursorMoved { found: None, .. })));

    let reader = store.reader();
    assert_eq!(all_flows(&store), []);
    assert_eq!(reader.devices(&DeviceFilter::default(), EVERYTHING).unwrap().items, []);
    assert_eq!(reader.hosts(&HostFilter::default(), EVERYTHING).unwrap().items, []);
    assert!(reader.gaps(&GapFilter::default(), EVERYTHING).unwrap().items.is_empty());
    assert_eq!(reader.totals().unwrap(), Default::default());
    assert_eq!(reader.routers().unwrap()[0].last_heard, None);
    assert_eq!(reader.cursor(router, 1).unwrap(), None);
}

/// Fails late, after devices and hosts were made: their ids must not be remembered.
pub(crate) fn a_commit_can_be_tried_again_after_a_failure(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut changes = ended(&[tcp(router, 3), tcp(router, 4)]);
    changes.cursors = vec![cursor(router, 1, None, 1)];
    changes.finished[1].remote = Some(ip("203.0.113.77"));
    changes.finished[1].reply.as_mut().unwrap().src = ip("203.0.113.77");
    // A flow that has not ended is no row of the ended ones.
    let end = changes.finished[1].end.take();
    for _ in 0..2 {
        let error = writer.commit(&changes).unwrap_err();
        assert!(matches!(error, StoreError::Database(_)), "{error}");
        assert!(!error.is_temporary());
    }
    assert_eq!(all_flows(&store).len(), 0);
    // Other addresses take the numbers that the failed commits had used, where the database gives them again.
    store
        .writer()
        .unwrap()
        .commit(&ended(&[{
            let mut other = ping6(router, 2);
            other.remote = Some(ip("203.0.113.99"));
            other
        }]))
        .unwrap();

    changes.finished[1].end = end;
    writer.commit(&changes).unwrap();
    let flows = all_flows(&store);
    assert_eq!(flows.len(), 3);
    assert_eq!(flows[0].flow, kept(&changes.finished[1]));
    assert_eq!(flows[1].flow, kept(&tcp(router, 3)));
    assert_eq!(store.reader().totals().unwrap().device_minutes.flows, 3);
}

pub(crate) fn rollups_add_up(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let flow = tcp(router, 1);
    let moved = Counters { bytes_orig: 1, bytes_reply: 20, packets_orig: 300, packets_reply: 4_000 };
    let mut elsewhere = delta(&flow, NOON_MINUTE, 0, moved);
    elsewhere.device = None;
    let mut other_port = delta(&flow, NOON_MINUTE, 0, moved);
    other_port.port = 53;
    // Two deltas of one device and minute that differ in the service alone, and one that has no device.
    let mut nowhere = host_delta(&flow, NOON_MINUTE, 0, moved);
    nowhere.remote = None;
    let mut next_day = host_delta(&flow, NOON_MINUTE + 24 * 60, 0, moved);
    next_day.remote = Some(ip("203.0.113.77"));
    let changes = Changes {
        minutes: vec![
            delta(&flow, NOON_MINUTE, 1, moved),
            other_port,
            elsewhere,
            delta(&flow, NOON_MINUTE + 1, 0, moved),
        ],
        host_minutes: vec![
            host_delta(&flow, NOON_MINUTE, 1, moved),
            host_delta(&flow, NOON_MINUTE + 59, 0, moved),
            nowhere,
            next_day,
        ],
        ..Changes::default()
    };
    writer.commit(&changes).unwrap();
    writer.commit(&changes).unwrap();
    let totals = store.reader().totals().unwrap();
    let expected = Sums {
        flows: 2,
        counters: Counters { bytes_orig: 8, bytes_reply: 160, packets_orig: 2_400, packets_reply: 32_000 },
    };
    for (name, sums) in totals.rollups() {
        assert_eq!(sums, expected, "{name}");
    }
    assert_eq!(totals.flows, Sums::default());
    assert!(!totals.agree());
}

/// Counters of strangers can be as large as 63 bits. That must neither fail nor go astray.
pub(crate) fn a_rollup_stops_at_the_largest_number(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut huge = tcp(router, 1);
    huge.counters.bytes_orig = i64::MAX;
    huge.before = Counters::default();
    writer.commit(&ended(&[huge.clone()])).unwrap();
    huge.id.0 = 2;
    writer.commit(&ended(&[huge])).unwrap();
    writer.commit(&ended(&[tcp(router, 3)])).unwrap();
    let totals = store.reader().totals().unwrap();
    assert!(totals.agree());
    for (_, sums) in totals.rollups() {
        assert_eq!(sums.flows, 3);
        assert_eq!(sums.counters.bytes_orig, i64::MAX);
        assert_eq!(sums.counters.bytes_reply, 20_000 + 20_000 + 19_800);
    }
}

pub(crate) fn totals_agree(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1), ping6(router, 2)])).unwrap();
    let alive = open(&tcp(router, 3));
    let mut changes = ended(std::slice::from_ref(&alive));
    changes.open = std::mem::take(&mut changes.finished);
    writer.commit(&changes).unwrap();
    let totals = store.reader().totals().unwrap();
    let expected = Sums {
        flows: 3,
        counters: Counters { bytes_orig: 1_800, bytes_reply: 39_600, packets_orig: 18, packets_reply: 56 },
    };
    assert_eq!(totals.flows, expected);
    for (name, sums) in totals.rollups() {
        assert_eq!(sums, expected, "{name}");
    }
}

pub(crate) fn routers_keep_what_is_not_new(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let named = RouterUpdate {
        lag_us: Some(1),
        clock_skew_us: Some(-2),
        agent_version: Some("0.1.0".into()),
        hostname: Some("gw".into()),
        kernel: Some("Linux 6.6".into()),
        os: Some("OpenWrt".into()),
        architecture: Some("mips".into()),
        open_flows: Some(3),
        spool_bytes: Some(4),
        memory_bytes: Some(5),
        warnings: Some("nf_conntrack_acct is off\nand so on".into()),
        ..heard(router, NOON)
    };
    writer.commit(&Changes { routers: vec![named], ..Changes::default() }).unwrap();
    let later = RouterUpdate { open_flows: Some(7), ..heard(router, NOON + 1) };
    writer.commit(&Changes { routers: vec![later], ..Changes::default() }).unwrap();

    let rows = store.reader().routers().unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.id, row.name.as_str(), row.first_seen), (router, "gw", NOON));
    assert_eq!((row.last_heard, row.lag_us, row.clock_skew_us), (Some(NOON + 1), Some(1), Some(-2)));
    assert_eq!((row.open_flows, row.spool_bytes, row.memory_bytes), (Some(7), Some(4), Some(5)));
    assert_eq!((row.agent_version.as_deref(), row.hostname.as_deref()), (Some("0.1.0"), Some("gw")));
    assert_eq!((row.kernel.as_deref(), row.os.as_deref()), (Some("Linux 6.6"), Some("OpenWrt")));
    assert_eq!(row.architecture.as_deref(), Some("mips"));
    assert_eq!(row.warnings.as_deref(), Some("nf_conntrack_acct is off\nand so on"));
    assert_eq!(writer.attach_router("gw", NOON + 5).unwrap().id, router);
    assert_ne!(writer.attach_router("other", NOON + 5).unwrap().id, router);
}

pub(crate) fn devices_and_hosts_widen(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let device = ip("192.168.1.20");
    let host = ip("203.0.113.5");
    let mut seen = |first_seen, last_seen| {
        let changes = Changes {
            devices: vec![DeviceTouch { router, address: device, first_seen, last_seen }],
            hosts: vec![HostTouch { address: host, first_seen, last_seen }],
            ..Changes::default()
        };
        writer.commit(&changes).unwrap();
        let reader = store.reader();
        let devices = reader.devices(&DeviceFilter::default(), EVERYTHING).unwrap().items;
        let hosts = reader.hosts(&HostFilter::default(), EVERYTHING).unwrap().items;
        assert_eq!((devices.len(), hosts.len()), (1, 1));
        assert_eq!((devices[0].address, hosts[0].address), (device, host));
        assert_eq!((devices[0].first_seen, devices[0].last_seen), (hosts[0].first_seen, hosts[0].last_seen));
        (devices[0].first_seen - NOON, devices[0].last_seen - NOON)
    };
    assert_eq!(seen(NOON, NOON + 1), (0, 1));
    // Not worth a write yet, then worth it, then older than what is known: neither end moves back.
    assert_eq!(seen(NOON + 2, NOON + 60_000_000), (0, 1));
    assert_eq!(seen(NOON + 3, NOON + 60_000_001), (0, 60_000_001));
    assert_eq!(seen(NOON - 5, NOON - 5), (-5, 60_000_001));
}

pub(crate) fn one_address_behind_two_routers_is_two_devices(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let other = writer.attach_router("other", NOON).unwrap().id;
    writer.commit(&ended(&[tcp(router, 1), tcp(other, 2)])).unwrap();
    let devices = store.reader().devices(&DeviceFilter::default(), EVERYTHING).unwrap().items;
    assert_eq!(devices.len(), 2);
    assert_ne!(devices[0].router, devices[1].router);
    assert_eq!(store.reader().hosts(&HostFilter::default(), EVERYTHING).unwrap().items.len(), 1);
    assert_eq!(all_flows(&store)[0].router_name, "other");
    assert_eq!(all_flows(&store)[1].router_name, "gw");
}

pub(crate) fn text_with_nul_does_not_stop_a_commit(url: &DatabaseUrl) {
    let store = Store::open(url).unwrap();
    let mut writer = store.writer().unwrap();
    let router = writer.attach_router("a\0b", NOON).unwrap().id;
    assert_eq!(writer.attach_router("a\0b", NOON).unwrap().id, router);
    let mut bad = gap(router, 1, 1, NOON);
    bad.detail = "c\0d".into();
    let update = RouterUpdate { hostname: Some("e\0f".into()), ..heard(router, NOON) };
    writer.commit(&Changes { routers: vec![update], gaps: vec![bad], ..Changes::default() }).unwrap();
    let row = &store.reader().routers().unwrap()[0];
    assert_eq!((row.name.as_str(), row.hostname.as_deref()), ("a\u{fffd}b", Some("e\u{fffd}f")));
    assert_eq!(
        store.reader().gaps(&GapFilter::default(), EVERYTHING).unwrap().items[0].gap.detail,
        "c\u{fffd}d"
    );
}
