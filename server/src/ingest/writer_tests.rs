//! The writer where its clients have given up.

use std::sync::atomic::AtomicI64;

use futures_util::FutureExt as _;

use super::*;
use crate::store::{DatabaseUrl, Store};

/// Tells how often it was asked.
struct CountingClock(AtomicI64);

impl Clock for CountingClock {
    fn now(&self) -> Micros {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[tokio::test]
async fn nothing_is_told_to_those_who_have_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&DatabaseUrl::Sqlite(dir.path().join("netmon.db"))).unwrap();
    let clock = Arc::new(CountingClock(AtomicI64::new(0)));
    let (ingest, thread) = start(store.writer().unwrap(), clock.clone()).unwrap();
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let chore = ingest.chore(move |_| Ok(held.recv().is_err()));
    let mut chore = std::pin::pin!(chore);
    assert!(chore.as_mut().now_or_never().is_none());
    for _ in 0..50 {
        assert!(ingest.live().now_or_never().is_none());
    }
    drop(go_on);
    chore.await.unwrap();
    ingest.live().await.unwrap();
    // A snapshot is of a time.
    assert_eq!(clock.now(), 1);
    ingest.close();
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
}
