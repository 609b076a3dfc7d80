//! Told on Postgres: the largest tables are in one part a day.

use netmon_server::domain::{Changes, Micros, Observed, RouterId};
use netmon_server::store::{DatabaseUrl, Retention, Store, StoreError, Writer};

use crate::events::{dns_response, firewall_drop, lines};
use crate::retention::{DAY, flows_at, sweep, sweep_to_the_end, totals};
use crate::sample::{NOON, open, raw};
use crate::schema::execute;
use crate::{all_flows, opened};

/// The days that a table has parts for.
fn days(url: &DatabaseUrl, table: &str) -> Vec<i64> {
    let rest = format!("FROM pg_inherits WHERE inhparent = '{table}'::regclass ORDER BY inhrelid");
    let names = lines(url, &["inhrelid::regclass"], &rest);
    let mut days: Vec<i64> =
        names.iter().filter_map(|name| name.split("_day_").nth(1)?.parse().ok()).collect();
    days.sort_unstable();
    days
}

fn count(url: &DatabaseUrl, table: &str) -> String {
    lines(url, &["count(*)"], &format!("FROM {table}")).remove(0)
}

/// Everything that has parts, a thousand flows of it, as it comes on this day. Gives the first flow's id.
fn a_day(writer: &mut Writer, router: RouterId, now: Micros) -> i64 {
    writer.begin_day(now).unwrap();
    let first = writer.reserve_flow_ids(1_000).unwrap();
    let mut changes = flows_at(router, first, 1_000, now);
    changes.dns = vec![Observed { router, time: now, what: dns_response() }];
    changes.drops = vec![Observed { router, time: now, what: firewall_drop("203.0.113.9", "192.168.1.20") }];
    changes.raw = vec![raw(router, 1)];
    changes.raw[0].time = now;
    writer.commit(&changes).unwrap();
    first
}

pub(crate) fn a_day_goes_at_once(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let first = a_day(&mut writer, router, NOON - 40 * DAY);
    // One that began on that day and ended yesterday.
    let long = writer.reserve_flow_ids(1).unwrap();
    writer.commit(&flows_at(router, long, 1, NOON - DAY)).unwrap();
    let day = |ago: Micros| (NOON - ago * DAY).div_euclid(DAY);
    assert_eq!((first >> 32, long >> 32), (day(40), day(40)));
    a_day(&mut writer, router, NOON - 39 * DAY);
    a_day(&mut writer, router, NOON - 29 * DAY);
    a_day(&mut writer, router, NOON);
    assert_eq!(days(url, "flows"), [day(40), day(39), day(38), day(29), day(28), day(0), day(-1)]);
    let before = totals(&store);

    let retention =
        Retention { minutes_days: 0, host_minutes_days: 0, hours_days: 0, ..Retention::default() };
    let removed = sweep(&mut writer, &retention, NOON).0;
    // 2,000 flows, two DNS answers, three raw events; and hosts that moved little were added up.
    assert!(removed >= 2_005, "{removed}");
    assert_eq!(days(url, "flows"), [day(40), day(29), day(28), day(0), day(-1)]);
    assert_eq!(days(url, "dns_queries"), [day(29), day(28), day(0), day(-1)]);
    assert_eq!(days(url, "dns_answers"), days(url, "dns_queries"));
    assert_eq!(days(url, "firewall_drops").len(), 7);
    assert_eq!(days(url, "raw_events"), [day(0), day(-1)]);
    let counts =
        ["dns_queries", "dns_answers", "firewall_drops", "raw_events"].map(|table| count(url, table));
    assert_eq!(counts, ["2", "2", "4", "1"]);
    let left = all_flows(&store);
    assert_eq!((left.len(), left.last().unwrap().flow.id.0), (2_001, long));
    let after = totals(&store);
    assert!(after.agree());
    assert_eq!(after.removed.flows, 2_000);
    assert_eq!(after.flows, before.flows);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());

    // Again there is nothing to do; later the long one goes too, and with it the rest of its day.
    sweep(&mut writer, &Retention::default(), NOON);
    assert_eq!(all_flows(&store).len(), 2_001);
    sweep(&mut writer, &Retention::default(), NOON + 31 * DAY);
    assert_eq!(all_flows(&store).len(), 0);
    assert_eq!(days(url, "flows"), [day(-1), day(-31), day(-32)]);
    assert!(totals(&store).agree());
}

/// A flow may be open for longer than flows are kept, or than a cap leaves room for.
pub(crate) fn a_day_waits_for_its_open_flows(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut open_since = |ago: Micros| {
        let first = a_day(&mut writer, router, NOON - ago * DAY);
        let id = writer.reserve_flow_ids(1).unwrap();
        let mut changes = flows_at(router, id, 1, NOON - ago * DAY);
        changes.open = changes.finished.drain(..).map(|flow| open(&flow)).collect();
        writer.commit(&changes).unwrap();
        assert_eq!(first >> 32, id >> 32);
        id
    };
    let (long, younger) = (open_since(40), open_since(5));
    a_day(&mut writer, router, NOON - DAY);
    // Its id is of yesterday, and it is nowhere yet.
    let coming = writer.reserve_flow_ids(1).unwrap();
    a_day(&mut writer, router, NOON);
    let kept = Retention { minutes_days: 0, host_minutes_days: 0, hours_days: 0, ..Retention::default() };
    let ended = |writer: &mut Writer, id: i64| {
        let changes = Changes { closed: vec![id], ..flows_at(router, id, 1, NOON) };
        let minutes = if id == coming { changes.minutes } else { Vec::new() };
        let host_minutes = if id == coming { changes.host_minutes } else { Vec::new() };
        writer.commit(&Changes { minutes, host_minutes, ..changes }).unwrap();
    };

    // Twice: what waits is not taken for something to do.
    assert!(sweep(&mut writer, &kept, NOON).0 >= 1_000);
    assert_eq!(sweep(&mut writer, &kept, NOON).0, 0);
    ended(&mut writer, long);
    let capped = Retention { max_size_bytes: 1, ..kept };
    sweep(&mut writer, &capped, NOON);
    assert_eq!(all_flows(&store).len(), 1_001);
    ended(&mut writer, younger);
    ended(&mut writer, coming);
    assert_eq!(all_flows(&store).len(), 1_002);
    assert!(totals(&store).agree());

    // Where an earlier version dropped a day under an open flow, its part is made again.
    let lost = writer.reserve_flow_ids(1).unwrap();
    let mut changes = flows_at(router, lost, 1, NOON);
    changes.open = changes.finished.drain(..).map(|flow| open(&flow)).collect();
    writer.commit(&changes).unwrap();
    a_day(&mut writer, router, NOON + DAY);
    execute(url, &format!("DROP TABLE flows_day_{}", NOON.div_euclid(DAY)));
    writer.begin_day(NOON + DAY).unwrap();
    ended(&mut writer, lost);

    // When the last of them is gone, so is the day.
    sweep(&mut writer, &kept, NOON + 40 * DAY);
    assert_eq!(all_flows(&store).len(), 0);
    let days: Vec<i64> = days(url, "flows");
    assert!(days.iter().all(|day| *day >= (NOON + 39 * DAY).div_euclid(DAY)), "{days:?}");
}

pub(crate) fn there_is_a_part_for_every_row(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    // Nobody began a day: what is here has ids of no day.
    let first = writer.reserve_flow_ids(10).unwrap();
    writer.commit(&flows_at(router, first, 10, NOON)).unwrap();
    // Two servers that begin a day at once.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| store.writer().unwrap().begin_day(NOON).unwrap());
        }
    });
    // Whatever its times, and although nobody began the days after.
    for ago in [9_000, 300, 0, -1, -2, -300] {
        let first = writer.reserve_flow_ids(10).unwrap();
        assert_eq!(first >> 32, NOON.div_euclid(DAY));
        writer.commit(&flows_at(router, first, 10, NOON - ago * DAY)).unwrap();
    }
    // A clock that goes back does not take ids back.
    writer.begin_day(NOON + 3 * DAY).unwrap();
    let ahead = writer.reserve_flow_ids(1).unwrap();
    writer.begin_day(NOON).unwrap();
    let next = writer.reserve_flow_ids(1).unwrap();
    assert_eq!(next, ahead + 1);
    assert_eq!(all_flows(&store).len(), 70);
    assert!(totals(&store).agree());

    // An id is there once over all parts, for the part of an id is always the same.
    let error = writer.commit(&flows_at(router, first, 1, NOON - 77 * DAY)).unwrap_err();
    assert!(
        matches!(&error, StoreError::Database(_)) && error.to_string().contains("duplicate key"),
        "{error}"
    );
    // What has no day goes row by row.
    sweep(&mut writer, &Retention::default(), NOON + 40 * DAY);
    let left = all_flows(&store);
    assert!(left.iter().all(|row| row.flow.last_seen >= NOON + 10 * DAY), "{}", left.len());
}

pub(crate) fn a_cap_takes_whole_days(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    for ago in (0..6).rev() {
        for _ in 0..4 {
            a_day(&mut writer, router, NOON - ago * DAY);
        }
    }
    let size = |store: &Store| store.reader().size_bytes().unwrap();
    let full = size(&store);
    let cap = full - full / 20;
    let retention = Retention { max_size_bytes: cap, minutes_days: 0, hours_days: 0, ..Retention::default() };
    sweep(&mut writer, &retention, NOON);
    assert!(size(&store) <= cap, "{} bytes with a cap of {cap}", size(&store));
    let left = all_flows(&store);
    assert!(left.len() >= 4_000 && left.len() < 24_000, "{}", left.len());
    // The oldest went; the present day stays whatever the cap.
    assert_eq!(left.last().unwrap().flow.last_seen % DAY, NOON % DAY);
    let swept = sweep_to_the_end(&mut writer, &Retention { max_size_bytes: 1, ..retention }, NOON).0;
    assert_eq!(swept.beyond, size(&store) - 1);
    assert_eq!(all_flows(&store).len(), 4_000);
    // Yesterday's part is empty: what began before midnight may not be written yet.
    assert_eq!(days(url, "flows").len(), 3);
    assert!(totals(&store).agree());
}
