//! What is usual for a device, and how long findings are kept.

use netmon_server::domain::{Changes, MINUTE_US};
use netmon_server::store::{DatabaseUrl, Retention};

use crate::events::lines;
use crate::opened;
use crate::retention::{DAY, sweep};
use crate::sample::{NOON, NOON_MINUTE, delta, ended, ip, open, ping6, tcp};
use crate::schema::execute;

fn baselines(url: &DatabaseUrl) -> Vec<String> {
    let columns = [
        "a.address",
        "b.minutes",
        "b.bytes_orig_per_minute",
        "b.flows_per_minute",
        "b.ten_minutes",
        "b.new_hosts_per_ten_minutes",
        "b.ports_per_ten_minutes",
    ];
    lines(url, &columns, "FROM baselines b JOIN devices a ON a.id = b.device_id ORDER BY b.device_id")
}

pub(crate) fn what_is_usual_is_computed(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    // The device talks to a host that it knew yesterday, and in one minute to three new ones on four ports.
    let mut flows = vec![tcp(router, 1), tcp(router, 2)];
    flows[0].first_seen = NOON - 30 * 60 * MINUTE_US;
    flows[1].first_seen = NOON - 8 * 60 * MINUTE_US;
    for (id, (host, port)) in (3..).zip([(1, 80), (2, 81), (3, 82), (3, 83)]) {
        let mut flow = tcp(router, id);
        flow.first_seen = NOON - 60 * MINUTE_US;
        flow.key.tuple.dst = ip(&format!("203.0.113.{host}"));
        flow.key.tuple.dst_port = port;
        flow.reply = None;
        flow.remote = Some(flow.key.tuple.dst);
        flows.push(flow);
    }
    // Nothing that the device began.
    let mut incoming = tcp(router, 20);
    incoming.key.tuple.src = ip("198.51.100.99");
    incoming.key.tuple.dst = ip("192.168.1.20");
    incoming.reply = None;
    incoming.remote = Some(incoming.key.tuple.src);
    incoming.first_seen = NOON - 5 * 60 * MINUTE_US;
    flows.push(incoming);
    let mut changes = ended(&flows);
    let last = changes.minutes.len() - 1;
    for (delta, ago) in changes.minutes.iter_mut().zip([1_800, 480, 60, 60, 60, 60, 300]) {
        delta.minute = NOON_MINUTE - ago;
        delta.counters.bytes_orig = ago;
    }
    assert_eq!(last, 6);
    // Another device, which has one open flow and nothing else.
    let mut other = open(&ping6(router, 30));
    other.first_seen = NOON - MINUTE_US;
    let touch = ended(&[ping6(router, 31)]);
    changes.devices.extend(touch.devices);
    changes.open = vec![other.clone()];
    changes.minutes.push(delta(&other, NOON_MINUTE - 1, 1, other.watched()));
    writer.commit(&changes).unwrap();

    assert_eq!(writer.recompute_baselines(NOON).unwrap(), 2);
    // Minutes: 480 bytes, 4 times 60, 300. Tens of minutes: one with no new host, one with three.
    let expected = ["c0a80114 3 480 4 2 3 4", "20010db8000000000000000000000020 1 0 1 1 0 1"];
    assert_eq!(baselines(url), expected);
    // A device that sleeps keeps what it had; what is new takes the place of the old.
    assert_eq!(writer.recompute_baselines(NOON + 20 * 60 * MINUTE_US).unwrap(), 2);
    assert_eq!(baselines(url)[0], "c0a80114 1 240 4 1 3 4");
    assert_eq!(writer.recompute_baselines(NOON + 9 * DAY).unwrap(), 0);
    assert_eq!(baselines(url)[0], "c0a80114 1 240 4 1 3 4");

    // As part of another device its figures are that one's.
    let ids = lines(url, &["id"], "FROM devices ORDER BY id");
    let id = |place: usize| ids[place].parse::<i64>().unwrap();
    writer.merge_devices(id(0), id(1), NOON).unwrap();
    assert_eq!(writer.recompute_baselines(NOON).unwrap(), 1);
    assert_eq!(baselines(url)[1], "20010db8000000000000000000000020 4 480 4 3 3 4");
}

pub(crate) fn findings_go_when_their_time_is_over(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&Changes { ..ended(&[tcp(router, 1)]) }).unwrap();
    let bytes = match url {
        DatabaseUrl::Sqlite(_) => "x'aa'",
        DatabaseUrl::Postgres(_) => "'\\xaa'",
    };
    for (incident, ago) in [(1, 500), (2, 401), (3, 399)] {
        let at = NOON - ago * DAY;
        // The second one was still growing lately.
        let last = if incident == 2 { NOON - DAY } else { at };
        execute(
            url,
            &format!(
                "INSERT INTO incidents (id, router_id, device_id, fingerprint, codes, hits, max_score, first_seen_us, last_seen_us)
                 VALUES ({incident}, 1, 1, {bytes}, 'NEW_DST', 1, 70, {at}, {last});
                 INSERT INTO anomaly_hits (router_id, device_id, incident_id, time_us, fingerprint, score, codes, evidence)
                 VALUES (1, 1, {incident}, {at}, {bytes}, 70, 'NEW_DST', '[]');"
            ),
        );
    }
    execute(
        url,
        "INSERT INTO saved_queries (list, name, query, created_us) VALUES ('flows', 'big', 'sort=bytes', 1);
         INSERT INTO rules (kind, device_id, note, created_us) VALUES (1, 1, 'the backup', 1);",
    );
    sweep(&mut writer, &Retention::default(), NOON);
    assert_eq!(lines(url, &["id"], "FROM incidents ORDER BY id"), ["2", "3"]);
    assert_eq!(lines(url, &["incident_id"], "FROM anomaly_hits ORDER BY id"), ["3"]);
    sweep(&mut writer, &Retention { incidents_days: 0, ..Retention::default() }, NOON + 1_000 * DAY);
    assert_eq!(lines(url, &["id"], "FROM incidents ORDER BY id"), ["2", "3"]);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}
