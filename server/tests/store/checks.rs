//! Backup and check.

use netmon_server::store::{DatabaseUrl, Store};

use crate::sample::{ended, ping6, tcp};
use crate::schema::execute;
use crate::{all_flows, opened};

pub(crate) fn a_sound_database_has_no_findings(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1), ping6(router, 2)])).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

pub(crate) fn what_is_wrong_is_found(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1), ping6(router, 2)])).unwrap();
    execute(
        url,
        "UPDATE flows SET host_id = 77 WHERE id = 1; UPDATE host_hours SET bytes_orig = bytes_orig + 1;
         DELETE FROM service_days; UPDATE device_minutes SET device_id = 99 WHERE device_id = 1;",
    );
    let findings = store.check().unwrap();
    let found = |text: &str| findings.iter().any(|finding| finding.starts_with(text));
    assert!(found("1 rows of flows have a host_id that is not in remote_hosts"), "{findings:?}");
    assert!(found("1 rows of device_minutes have a device_id that is not in devices"), "{findings:?}");
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
