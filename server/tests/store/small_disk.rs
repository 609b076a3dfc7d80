//! A disk that fills up under SQLite and gets room again.
//!
//! The test runs itself once more in a mount namespace of its own, on a file system of a few megabytes.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Completion, Failed};
use netmon_server::domain::{Changes, FlowRecord};
use netmon_server::store::{DatabaseUrl, StoreError};

use crate::opened;
use crate::sample::{cursor, ended, tcp};

/// In the environment of the inner run: where the small file system is.
pub(crate) const DIRECTORY: &str = "NETMON_STORE_SMALL_DISK";

/// Mounts the file system, and says by its exit code that this was not permitted.
const MOUNT: &str = r#"mount -t tmpfs -o size=6m tmpfs "$1" || exit 77; exec "$0""#;

pub(crate) fn a_full_disk_heals() -> Result<Completion, Failed> {
    let directory = tempfile::tempdir()?;
    let run = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", MOUNT])
        .arg(std::env::current_exe()?)
        .arg(directory.path())
        .env(DIRECTORY, directory.path())
        .output();
    let Ok(run) = run else { return Ok(Completion::ignored_with("there is no unshare")) };
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    match run.status.code() {
        Some(0) => Ok(Completion::Completed),
        Some(77) => Ok(Completion::ignored_with(format!("mount is not permitted: {said}"))),
        Some(1) if said.contains("unshare") => {
            Ok(Completion::ignored_with(format!("namespaces are not permitted: {said}")))
        }
        _ => Err(Failed::from(said)),
    }
}

/// What runs on the small disk.
pub(crate) fn inside(directory: &Path) {
    let filler = directory.join("filler");
    std::fs::write(&filler, vec![1; 4_000_000]).unwrap();
    let (store, mut writer, router) = opened(&DatabaseUrl::Sqlite(directory.join("netmon.db")));
    let mut written = 0;
    let batch = |sequence: u64| {
        let flows: Vec<FlowRecord> =
            (0..200).map(|place| tcp(router, sequence.cast_signed() * 200 + place)).collect();
        let from = sequence.checked_sub(1).filter(|before| *before > 0);
        Changes { cursors: vec![cursor(router, 1, from, sequence)], ..ended(&flows) }
    };
    let error = loop {
        match writer.commit(&batch(written + 1)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "the disk does not fill up");
    };
    assert!(written > 0);
    assert!(matches!(error, StoreError::Full), "{error}");
    // It stays full, pages go on, and nothing of the failed commit is there.
    assert!(matches!(writer.commit(&batch(written + 1)), Err(StoreError::Full)));
    assert_eq!(store.reader().totals().unwrap().flows.flows, written.cast_signed() * 200);
    assert_eq!(store.reader().cursor(router, 1).unwrap(), Some(written));

    std::fs::remove_file(&filler).unwrap();
    writer.commit(&batch(written + 1)).unwrap();
    let totals = store.reader().totals().unwrap();
    assert_eq!(totals.flows.flows, (written + 1).cast_signed() * 200);
    assert_eq!(totals.flows, totals.device_minutes);
}
