//! Backup, check, damage, and moving from one database to the other.

use netmon_server::domain::MINUTE_US;
use netmon_server::store::{DatabaseUrl, SET_ASIDE, Store, salvage};

use crate::rollups::roll_up;
use crate::sample::{NOON, NOON_MINUTE, cursor, delta, ended, host_delta, ip, open, ping6, raw, tcp};
use crate::schema::{execute, revert};
use crate::{all_flows, opened};

pub(crate) fn a_sound_database_has_no_findings(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1), ping6(router, 2)])).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

pub(crate) fn what_is_wrong_is_found(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1), ping6(router, 2)])).unwrap();
    roll_up(&mut writer, NOON + 60 * MINUTE_US);
    execute(
        url,
        "UPDATE flows SET host_id = 77 WHERE id = 1; UPDATE host_hours SET bytes_orig = bytes_orig + 1;
         DELETE FROM service_days; UPDATE device_minutes SET device_id = 99 WHERE device_id = 1;",
    );
    let findings = store.check().unwrap();
    let found = |text: &str| findings.iter().any(|finding| finding.starts_with(text));
    assert!(found("flows: host_id of 1 row is not in remote_hosts"), "{findings:?}");
    assert!(found("device_minutes: device_id of 1 row is not in devices"), "{findings:?}");
    assert!(found("the sums of host_hours are"), "{findings:?}");
    assert!(found("the sums of service_days are"), "{findings:?}");
    assert_eq!(findings.len(), 4, "{findings:?}");
}

/// Told on SQLite.
pub(crate) fn a_backup_is_one_state_beside_a_writer(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let directory = tempfile::tempdir().unwrap();
    writer.commit(&ended(&[tcp(router, 1_000_000)])).unwrap();
    std::thread::scope(|scope| {
        let backing = scope.spawn(|| {
            for number in 0..5 {
                store.backup_into(&directory.path().join(number.to_string())).unwrap();
            }
        });
        let mut id = 1;
        while !backing.is_finished() {
            writer.commit(&ended(&[tcp(router, id), ping6(router, id + 1)])).unwrap();
            id += 2;
        }
        backing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    for number in 0..5 {
        let copy = Store::open(&DatabaseUrl::Sqlite(directory.path().join(number.to_string()))).unwrap();
        assert_eq!(copy.check().unwrap(), Vec::<String>::new());
        // Whole commits only: one flow, and then two by two.
        assert_eq!(all_flows(&copy).len() % 2, 1);
        let mut writer = copy.writer().unwrap();
        assert_eq!(writer.attach_router("gw", 0).unwrap().id, router);
        writer.commit(&ended(&[tcp(router, 2_000_000)])).unwrap();
    }
    assert!(store.backup_into(&directory.path().join("0")).is_err());
}

/// Told on SQLite: damage at the start.
pub(crate) fn a_damaged_file_is_set_aside(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1), ping6(router, 2)])).unwrap();
    writer.checkpoint().unwrap();
    drop((store, writer));
    let DatabaseUrl::Sqlite(path) = url else { panic!("told on SQLite") };
    // Sound: nothing happens.
    let store = Store::open_or_set_aside(url, NOON).unwrap();
    assert_eq!(store.reader().setting(SET_ASIDE).unwrap(), None);
    drop(store);

    let whole = std::fs::read(path).unwrap();
    let mut damaged = whole.clone();
    // All but the first page, which holds the list of tables.
    damaged[4096..].fill(0xa5);
    for content in [damaged, b"not a database at all, for sure".repeat(200)] {
        std::fs::write(path, &content).unwrap();
        let store = Store::open_or_set_aside(url, NOON).unwrap();
        let told = store.reader().setting(SET_ASIDE).unwrap().unwrap();
        let aside = path.with_file_name("netmon.db.damaged-20250601T120000Z");
        assert!(told.contains(aside.to_str().unwrap()), "{told}");
        assert_eq!(std::fs::read(&aside).unwrap(), content);
        // The new one works.
        let mut writer = store.writer().unwrap();
        let router = writer.attach_router("gw", NOON).unwrap().id;
        writer.commit(&ended(&[tcp(router, 1)])).unwrap();
        assert_eq!(all_flows(&store).len(), 1);
        // It is said until it is acknowledged.
        assert_eq!(
            Store::open_or_set_aside(url, NOON).unwrap().reader().setting(SET_ASIDE).unwrap(),
            Some(told)
        );
        writer.forget_setting(SET_ASIDE).unwrap();
        assert_eq!(store.reader().setting(SET_ASIDE).unwrap(), None);
        std::fs::remove_file(&aside).unwrap();
    }

    // A file of somebody else's is left alone.
    let other = path.with_file_name("letter.txt");
    std::fs::write(&other, "Dear Sir or Madam").unwrap();
    assert!(Store::open_or_set_aside(&DatabaseUrl::Sqlite(other.clone()), NOON).is_err());
    assert_eq!(std::fs::read(&other).unwrap(), b"Dear Sir or Madam");
}

/// Told on SQLite: what is not damaged is read.
pub(crate) fn what_can_be_read_is_salvaged(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    for commit in 0..20 {
        let flows: Vec<_> = (0..200).map(|place| tcp(router, 1 + commit * 200 + place)).collect();
        let mut changes = ended(&flows);
        if commit > 10 {
            changes.minutes.iter_mut().for_each(|delta| delta.minute += 1);
            changes.host_minutes.iter_mut().for_each(|delta| delta.minute += 1);
        }
        writer.commit(&changes).unwrap();
    }
    // The first minute is in its hour, the second not yet.
    roll_up(&mut writer, NOON + 2 * MINUTE_US);
    writer.checkpoint().unwrap();
    let expected = all_flows(&store);
    drop((store, writer));
    let DatabaseUrl::Sqlite(path) = url else { panic!("told on SQLite") };

    let salvaged = |name: &str| {
        let to = path.with_file_name(name);
        let tables = salvage(path, &to).unwrap();
        let flows = tables.into_iter().find(|table| table.table == "flows").unwrap();
        (Store::open(&DatabaseUrl::Sqlite(to)).unwrap(), flows)
    };
    let (whole, flows) = salvaged("whole.db");
    assert_eq!((flows.rows, flows.unreadable), (4_000, 0));
    assert_eq!(all_flows(&whole), expected);
    assert_eq!(whole.check().unwrap(), Vec::<String>::new());
    // The ids were given by the test, so that the old file knows nothing of them.
    assert_eq!(whole.writer().unwrap().reserve_flow_ids(1).unwrap(), 4_001);
    roll_up(&mut whole.writer().unwrap(), NOON + 60 * MINUTE_US);
    assert_eq!(whole.check().unwrap(), Vec::<String>::new());

    // What an earlier program wrote, which had other columns.
    revert(url, "0011");
    let (earlier, _) = salvaged("earlier.db");
    assert_eq!(all_flows(&earlier), expected);
    assert_eq!(earlier.check().unwrap(), Vec::<String>::new());
    drop(Store::open(url).unwrap());

    // Without its host's row a flow is shown all the same.
    execute(&DatabaseUrl::Sqlite(path.with_file_name("whole.db")), "DELETE FROM remote_hosts");
    let hostless = all_flows(&whole);
    assert_eq!(hostless.len(), expected.len());
    let mut lost = expected[0].flow.clone();
    lost.key.tuple.dst = ip("0.0.0.0");
    lost.reply.as_mut().unwrap().src = ip("0.0.0.0");
    lost.remote = Some(ip("0.0.0.0"));
    assert_eq!(hostless[0].flow, lost);

    // Somewhere in the middle, where the flows are most of what there is.
    let mut content = std::fs::read(path).unwrap();
    let middle = content.len() / 2 / 4096 * 4096;
    content[middle..middle + 4096].fill(0xa5);
    std::fs::write(path, &content).unwrap();
    let (rest, flows) = salvaged("rest.db");
    let found = all_flows(&rest);
    assert_eq!(found.len() as u64, flows.rows);
    assert!(found.len() > 3_000, "{flows:?}");
    assert!(found.iter().all(|row| expected.contains(row)));
}

/// Told on Postgres: a SQLite database moves in.
pub(crate) fn a_sqlite_database_is_imported(url: &DatabaseUrl) {
    let directory = tempfile::tempdir().unwrap();
    let from = DatabaseUrl::Sqlite(directory.path().join("netmon.db"));
    let (source, mut writer, router) = opened(&from);
    let flows: Vec<_> = (0..5_000).map(|place| tcp(router, 1 + place)).collect();
    writer.commit(&ended(&flows)).unwrap();
    let mut changes = ended(&[ping6(router, 6_000)]);
    changes.open = vec![open(&tcp(router, 6_001))];
    changes.raw = vec![raw(router, 3)];
    changes.cursors = vec![cursor(router, u64::MAX - 1, None, 7)];
    changes.minutes.push(delta(&tcp(router, 6_001), NOON_MINUTE, 1, tcp(router, 6_001).watched()));
    changes.host_minutes.push(host_delta(&tcp(router, 6_001), NOON_MINUTE, 1, tcp(router, 6_001).watched()));
    writer.commit(&changes).unwrap();
    writer.reserve_flow_ids(10_000).unwrap();

    let store = Store::open(url).unwrap();
    let mut told = Vec::new();
    store.import(&from, |at| told.push((at.table.to_owned(), at.rows, at.of))).unwrap();
    assert!(told.contains(&("flows".to_owned(), 5_001, 5_001)), "{told:?}");
    assert!(told.contains(&("flows".to_owned(), 2_000, 5_001)), "{told:?}");
    assert_eq!(all_flows(&store), all_flows(&source));
    assert_eq!(store.reader().totals().unwrap(), source.reader().totals().unwrap());
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    // It goes on where the other one was.
    let mut writer = store.writer().unwrap();
    assert_eq!(writer.attach_router("gw", NOON).unwrap().open.len(), 1);
    assert_eq!(writer.cursor(router, u64::MAX - 1).unwrap(), Some(7));
    assert_eq!(writer.reserve_flow_ids(1).unwrap(), 10_001);
    assert_ne!(writer.attach_router("other", NOON).unwrap().id, router);
    // Not twice.
    let again = store.import(&from, |_| ()).unwrap_err();
    assert!(again.to_string().contains("expected an empty one"), "{again}");
    assert_eq!(all_flows(&store).len(), all_flows(&source).len());
}
