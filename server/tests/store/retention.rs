//! What is taken away, what stays, and that the sums know of both.

use netmon_server::domain::{Changes, Counters, FlowRecord, MINUTE_US, Micros, Observed, RouterId};
use netmon_server::store::{
    DatabaseUrl, GapFilter, Page, Retention, Step, Store, StoreError, Swept, TopBy, TopFilter, TopKey,
    Totals, Writer,
};

use crate::events::{dns_response, firewall_drop, lines};
use crate::rollups::roll_up;
use crate::sample::{NOON, delta, ended, gap, host_delta, ip, kept, open, raw, tcp};
use crate::schema::free_pages;
use crate::{all_flows, opened};

pub(crate) const DAY: Micros = 24 * 60 * MINUTE_US;

/// Sweeps to the end, and gives how many rows went and in how many steps.
pub(crate) fn sweep(writer: &mut Writer, retention: &Retention, now: Micros) -> (u64, u32) {
    let (swept, steps) = sweep_to_the_end(writer, retention, now);
    (swept.removed, steps)
}

/// The same, and whether it was enough.
pub(crate) fn sweep_to_the_end(writer: &mut Writer, retention: &Retention, now: Micros) -> (Swept, u32) {
    let mut sweep = retention.sweep(now);
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 100_000, "the sweep does not end");
        if let Step::Done(swept) = sweep.step(writer).unwrap() {
            return (swept, steps);
        }
    }
}

/// Flows that ended at this time, with the minutes to it.
pub(crate) fn flows_at(router: RouterId, first: i64, count: i64, at: Micros) -> Changes {
    let flows: Vec<FlowRecord> = (first..first + count)
        .map(|id| {
            let mut flow = tcp(router, id);
            flow.first_seen = at - 1_000_000;
            flow.last_seen = at;
            flow.remote = Some(ip(&format!("203.0.{}.{}", id / 250 % 250, id % 250)));
            flow
        })
        .collect();
    let mut changes = ended(&flows);
    let minute = at / MINUTE_US;
    changes.minutes = flows.iter().map(|flow| delta(flow, minute, 1, flow.watched())).collect();
    changes.host_minutes = flows.iter().map(|flow| host_delta(flow, minute, 1, flow.watched())).collect();
    changes
}

pub(crate) fn totals(store: &Store) -> Totals {
    store.reader().totals().unwrap()
}

pub(crate) fn rows_go_when_their_time_is_over(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    // One that began long ago and ended just now stays, though its id is the smallest; one is still open.
    let mut long = tcp(router, 1);
    long.first_seen = NOON - 90 * DAY;
    writer.commit(&ended(&[long.clone()])).unwrap();
    writer.commit(&flows_at(router, 10, 700, NOON - 31 * DAY)).unwrap();
    writer.commit(&flows_at(router, 1_000, 300, NOON - 29 * DAY)).unwrap();
    let mut alive = flows_at(router, 2_000, 1, NOON);
    alive.open = alive.finished.drain(..).map(|flow| open(&flow)).collect();
    writer.commit(&alive).unwrap();
    let mut rest = Changes {
        raw: vec![raw(router, 1), raw(router, 2), raw(router, 3)],
        gaps: vec![gap(router, 1, 1, NOON - 401 * DAY), gap(router, 1, 1, NOON)],
        ..Changes::default()
    };
    rest.raw[0].time = NOON - 4 * DAY;
    let drop = || firewall_drop("203.0.113.9", "192.168.1.20");
    rest.drops = [91, 89].map(|ago| Observed { router, time: NOON - ago * DAY, what: drop() }).into();
    rest.dns = [31, 29].map(|ago| Observed { router, time: NOON - ago * DAY, what: dns_response() }).into();
    writer.commit(&rest).unwrap();
    let before = totals(&store);
    assert!(before.agree());
    assert_eq!(before.flows.flows, 1_002);

    let (removed, steps) = sweep(&mut writer, &Retention::default(), NOON);
    assert!(removed > 700 && steps > 20, "{removed} rows in {steps} steps");
    let left = all_flows(&store);
    assert_eq!(left.len(), 302);
    assert_eq!(left.last().unwrap().flow, kept(&long));
    assert_eq!(
        store.reader().gaps(&GapFilter::default(), Page { before: None, limit: 9 }).unwrap().items.len(),
        1
    );
    for table in ["dns_queries", "dns_answers", "firewall_drops"] {
        assert_eq!(lines(url, &["count(*)"], &format!("FROM {table}")), ["1"], "{table}");
    }
    // The sums are what they were, and say how much of them is gone.
    let after = totals(&store);
    assert_eq!(after.removed.flows, 700);
    assert_eq!(Totals { removed: before.removed, ..after }, before);
    // Again there is nothing to do.
    assert_eq!(sweep(&mut writer, &Retention::default(), NOON).0, 0);
    // The day of what is gone still knows it.
    let filter =
        TopFilter { by: TopBy::Device, router: None, from: NOON - 32 * DAY, to: NOON - 30 * DAY, limit: 9 };
    assert_eq!(store.reader().top(&filter).unwrap().rows[0].sums.flows, 700);

    // Days stay, unless they are bounded, too.
    let days = || lines(url, &["count(*)"], "FROM device_days").remove(0);
    let two = days();
    sweep(&mut writer, &Retention { days_days: 30, ..Retention::default() }, NOON);
    assert_eq!((two.as_str(), days().as_str()), ("2", "1"));
    assert!(totals(&store).agree());

    // Zero days are for ever.
    for flows_days in [0, u32::MAX] {
        let for_ever = Retention { flows_days, ..Retention::default() };
        sweep(&mut writer, &for_ever, NOON + 1_000 * DAY);
        assert_eq!(all_flows(&store).len(), 302);
    }
    assert!(totals(&store).agree());
}

/// The rollups of an old event are made and taken away again; the flow itself is young.
pub(crate) fn a_late_event_changes_no_sum(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&flows_at(router, 1, 5, NOON - 20 * DAY)).unwrap();
    sweep(&mut writer, &Retention::default(), NOON);
    let filter = |minutes| TopFilter {
        by: TopBy::Device,
        router: None,
        from: NOON - 20 * DAY,
        to: NOON - 20 * DAY + minutes * MINUTE_US,
        limit: 9,
    };
    let minutes = || lines(url, &["count(*)"], "FROM device_minutes").remove(0);
    let top = |span| store.reader().top(&filter(span)).unwrap().rows[0].sums.flows;
    // The minute is gone, its hour is not.
    assert_eq!((minutes().as_str(), top(1)), ("0", 5));
    writer.commit(&flows_at(router, 10, 2, NOON - 20 * DAY)).unwrap();
    assert_eq!((minutes().as_str(), top(24 * 60)), ("1", 7));
    assert!(totals(&store).agree());
    sweep(&mut writer, &Retention::default(), NOON);
    assert_eq!((minutes().as_str(), top(1), top(24 * 60)), ("0", 7, 7));
    assert!(totals(&store).agree());
}

/// A backlog that comes while a sweep goes on: minutes go only when their hours and days have them.
pub(crate) fn no_minute_goes_before_it_is_in_its_hour(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&flows_at(router, 1, 5, NOON - 20 * DAY)).unwrap();
    let mut sweep = Retention::default().sweep(NOON);
    // The day is begun, and the minutes that are there are in their hours and days.
    let rolled = || lines(url, &["value"], "FROM settings WHERE key = 'rolled_minute'").remove(0);
    let before = rolled();
    while rolled() == before {
        assert_eq!(sweep.step(&mut writer).unwrap(), Step::More);
    }
    assert_eq!(sweep.step(&mut writer).unwrap(), Step::More);
    writer.commit(&flows_at(router, 10, 3, NOON - 19 * DAY)).unwrap();
    while sweep.step(&mut writer).unwrap() == Step::More {}
    assert!(totals(&store).agree(), "{:?}", totals(&store));
    // The next sweep finds them.
    self::sweep(&mut writer, &Retention::default(), NOON);
    assert!(totals(&store).agree());
    assert_eq!(lines(url, &["count(*)"], "FROM device_minutes"), ["0"]);
    assert_eq!(lines(url, &["sum(flows)"], "FROM host_days"), ["8"]);
}

/// Two servers on one Postgres sweep at once, or `cleanup` beside a server, while late flows come.
pub(crate) fn sweeps_at_once_take_nothing_twice(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    for batch in 0..6 {
        writer.commit(&flows_at(router, 1 + batch * 900, 900, NOON - (20 - batch) * DAY)).unwrap();
        writer.commit(&flows_at(router, 10_001 + batch * 900, 900, NOON - (40 - batch) * DAY)).unwrap();
    }
    let start = &std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut writer = store.writer().unwrap();
            scope.spawn(move || {
                start.wait();
                let mut sweep = Retention::default().sweep(NOON);
                loop {
                    match sweep.step(&mut writer) {
                        Ok(Step::Done(_)) => return,
                        Ok(Step::More) | Err(StoreError::Busy) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        start.wait();
        for id in 0..60 {
            // Each to a host and an hour that the others are taking away.
            let (batch, place) = (id % 6, id / 6);
            let late = flows_at(router, 62_501 + batch * 900 + place, 1, NOON - (20 - batch) * DAY);
            while let Err(error) = writer.commit(&late) {
                assert!(error.is_temporary(), "{error}");
            }
        }
    });
    let totals = totals(&store);
    assert_eq!(totals.flows.flows, 12 * 900 + 60);
    assert!(totals.agree(), "{totals:?}");
}

/// An hour keeps its first hundred hosts, a day its first five hundred; the others are one row.
pub(crate) fn what_moved_little_is_added_up(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let at = NOON - 5 * DAY;
    let mut changes = flows_at(router, 1, 900, at);
    for (place, delta) in changes.host_minutes.iter_mut().enumerate() {
        delta.counters = Counters { bytes_orig: 1_000_000 - place as i64, ..Counters::default() };
    }
    writer.commit(&changes).unwrap();
    let before = totals(&store);
    sweep(&mut writer, &Retention::default(), NOON);
    assert_eq!(totals(&store), before);
    for (span, kept) in [(4 * 60, 100), (5 * 24 * 60, 500)] {
        let filter =
            TopFilter { by: TopBy::Host, router: None, from: at, to: at + span * MINUTE_US, limit: 10_000 };
        let rows = store.reader().top(&filter).unwrap().rows;
        assert_eq!(rows.len(), kept + 1);
        assert_eq!((rows[0].key, rows[0].sums.flows), (TopKey::Others, 900 - kept as i64));
        assert_eq!(rows[1].sums.counters.bytes_orig, 1_000_000);
        assert_eq!(rows[kept].sums.counters.bytes_orig, 1_000_001 - kept as i64);
    }
    // Not yet over: nothing is added up.
    writer.commit(&flows_at(router, 2_000, 300, NOON)).unwrap();
    sweep(&mut writer, &Retention::default(), NOON);
    let filter =
        TopFilter { by: TopBy::Host, router: None, from: NOON, to: NOON + 4 * 60 * MINUTE_US, limit: 1_000 };
    assert_eq!(store.reader().top(&filter).unwrap().rows.len(), 300);
}

/// Told on SQLite: what a cap takes first is the oldest, although a flow that ended just now has the smallest id.
pub(crate) fn a_cap_takes_the_oldest_first(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut long = tcp(router, 1);
    (long.first_seen, long.last_seen) = (NOON - 60 * DAY, NOON);
    writer.commit(&ended(&[long])).unwrap();
    for batch in 0..5 {
        writer.commit(&flows_at(router, 2 + batch * 2_000, 2_000, NOON - 20 * DAY)).unwrap();
    }
    let drop = || firewall_drop("203.0.113.9", "192.168.1.20");
    let drops = (0..500).map(|_| Observed { router, time: NOON - 2 * DAY, what: drop() }).collect();
    writer.commit(&Changes { drops, ..Changes::default() }).unwrap();
    writer.checkpoint().unwrap();
    let cap = store.reader().size_bytes().unwrap() * 8 / 10;
    sweep(&mut writer, &Retention { max_size_bytes: cap, ..Retention::default() }, NOON);
    let left = all_flows(&store).len();
    assert!((1_000..9_000).contains(&left), "{left} flows");
    assert_eq!(lines(url, &["count(*)"], "FROM firewall_drops"), ["500"]);
}

/// Told on SQLite: the file becomes smaller, and a cap holds.
pub(crate) fn the_space_comes_back(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    for batch in 0..20 {
        writer.commit(&flows_at(router, 1 + batch * 2_000, 2_000, NOON - (40 - batch) * DAY)).unwrap();
    }
    // Hours and days are kept, so they count before and after.
    roll_up(&mut writer, NOON);
    writer.checkpoint().unwrap();
    let size = || store.reader().size_bytes().unwrap();
    let full = size();
    // Of twenty days ten are older than thirty.
    sweep(&mut writer, &Retention { hours_days: 1, ..Retention::default() }, NOON);
    writer.checkpoint().unwrap();
    let half = size();
    assert!(half < full * 7 / 10, "{full} bytes before, {half} after");
    // A mebibyte is kept free for what comes next.
    let free = free_pages(url);
    assert!(free <= 256, "{free} pages of the file are free");
    assert_eq!(all_flows(&store).len(), 20_000);

    let cap = half / 2;
    let retention = Retention { max_size_bytes: cap, hours_days: 1, ..Retention::default() };
    sweep(&mut writer, &retention, NOON);
    writer.checkpoint().unwrap();
    assert!(size() <= cap, "{} bytes with a cap of {cap}", size());
    let left = all_flows(&store);
    assert!(left.len() > 1_000 && left.len() < 20_000, "{} flows", left.len());
    // The oldest went.
    assert_eq!(left[0].flow.id.0, 40_000);
    assert!(totals(&store).agree());
    assert_eq!(totals(&store).flows.flows, 40_000);

    // More than there is to take.
    assert_eq!(sweep_to_the_end(&mut writer, &retention, NOON).0.beyond, 0);
    let retention = Retention { max_size_bytes: 10_000, ..retention };
    let swept = sweep_to_the_end(&mut writer, &retention, NOON).0;
    assert_eq!((swept.removed, all_flows(&store).len()), (left.len() as u64, 0));
    assert!(swept.beyond > 50_000 && swept.beyond < size(), "{swept:?}");
}
