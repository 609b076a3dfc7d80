//! When minutes go into their hours and days.

use netmon_server::domain::{Changes, Counters, MINUTE_US, Micros, RouterId};
use netmon_server::store::{DatabaseUrl, Step, Store, Sweep, TopBy, TopFilter, Writer};

use crate::events::lines;
use crate::opened;
use crate::sample::{NOON, NOON_MINUTE, delta, ended, host_delta, tcp};
use crate::schema::execute;

/// Adds all minutes that are over at this time.
pub(crate) fn roll_up(writer: &mut Writer, now: Micros) {
    let mut sweep = Sweep::of_rollups(now);
    while sweep.step(writer).unwrap() == Step::More {}
}

/// A flow that ended in this minute, and what it moved.
fn moved(router: RouterId, id: i64, minute: i64) -> Changes {
    let mut flow = tcp(router, id);
    flow.counters = Counters { bytes_orig: 7, bytes_reply: 70, packets_orig: 1, packets_reply: 2 };
    flow.before = Counters::default();
    let mut changes = ended(&[flow.clone()]);
    changes.minutes = vec![delta(&flow, minute, 1, flow.counters)];
    changes.host_minutes = vec![host_delta(&flow, minute, 1, flow.counters)];
    changes
}

/// The flows in each row of an hour's or a day's table.
fn flows_in(url: &DatabaseUrl, table: &str) -> Vec<String> {
    lines(url, &["flows"], &format!("FROM {table} ORDER BY flows"))
}

const COARSE: [&str; 6] =
    ["device_hours", "device_days", "service_hours", "service_days", "host_hours", "host_days"];

pub(crate) fn a_minute_goes_into_its_hour_once(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let flows_of_the_day = || {
        let filter = TopFilter {
            by: TopBy::Host,
            router: None,
            from: NOON - 12 * 60 * MINUTE_US,
            to: NOON + 12 * 60 * MINUTE_US,
            limit: 9,
        };
        let rows = store.reader().top(&filter).unwrap().rows;
        rows.iter().map(|row| row.sums.flows).sum::<i64>()
    };
    let sound = |flows: i64| {
        assert_eq!(flows_of_the_day(), flows);
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        assert_eq!(store.reader().totals().unwrap().flows.flows, flows);
    };
    writer.commit(&moved(router, 1, NOON_MINUTE)).unwrap();
    writer.commit(&moved(router, 2, NOON_MINUTE + 1)).unwrap();
    for table in COARSE {
        assert_eq!(flows_in(url, table), [""; 0], "{table}");
    }
    sound(2);

    // The first of the two minutes, when the one after it is over.
    roll_up(&mut writer, NOON + 2 * MINUTE_US - 1);
    assert_eq!(flows_in(url, "host_hours"), [""; 0]);
    roll_up(&mut writer, NOON + 2 * MINUTE_US);
    for table in COARSE {
        assert_eq!(flows_in(url, table), ["1"], "{table}");
    }
    sound(2);
    // A second time changes nothing.
    roll_up(&mut writer, NOON + 2 * MINUTE_US);
    sound(2);

    // What comes late for the first goes into all three at once; the second waits for its time.
    writer.commit(&moved(router, 3, NOON_MINUTE)).unwrap();
    writer.commit(&moved(router, 4, NOON_MINUTE + 1)).unwrap();
    for table in COARSE {
        assert_eq!(flows_in(url, table), ["2"], "{table}");
    }
    sound(4);
    roll_up(&mut writer, NOON + 9 * MINUTE_US);
    for table in COARSE {
        assert_eq!(flows_in(url, table), ["4"], "{table}");
    }
    sound(4);
}

/// A database that lost its mark counts nothing twice.
pub(crate) fn without_a_mark_nothing_waits(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    execute(url, "DELETE FROM settings WHERE key = 'rolled_minute'");
    writer.commit(&moved(router, 1, NOON_MINUTE)).unwrap();
    roll_up(&mut writer, NOON + 9 * MINUTE_US);
    for table in COARSE {
        assert_eq!(flows_in(url, table), ["1"], "{table}");
    }
    assert!(store.reader().totals().unwrap().agree());
}

/// Commits of two writers, on time and late, while a third moves the mark through the same minutes.
pub(crate) fn the_mark_moves_beside_commits(url: &DatabaseUrl) {
    let (store, _, router) = opened(url);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let mut writer = store.writer().unwrap();
            scope.spawn(move || {
                for place in 0..150 {
                    let changes = moved(router, 1 + 2 * place + half, NOON_MINUTE + place / 10 - place % 3);
                    while writer.commit(&changes).is_err() {}
                }
            });
        }
        let mut writer = store.writer().unwrap();
        scope.spawn(move || {
            for step in 0..60 {
                roll_up(&mut writer, NOON + step / 3 * MINUTE_US);
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
    });
    let totals = store.reader().totals().unwrap();
    assert_eq!(totals.flows.flows, 300);
    assert!(totals.agree(), "{totals:?}");
    finished(&store, url);
}

/// When all is rolled up nothing but hours and days is read of them.
fn finished(store: &Store, url: &DatabaseUrl) {
    let mut writer = store.writer().unwrap();
    roll_up(&mut writer, NOON + 60 * MINUTE_US);
    assert!(store.reader().totals().unwrap().agree());
    let sum: i64 = flows_in(url, "device_days").iter().map(|flows| flows.parse::<i64>().unwrap()).sum();
    assert_eq!(sum, 300);
}
