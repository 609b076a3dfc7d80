//! The live view's state, asked of the writer at most once per tick however many look at it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::{engine::LiveSnapshot, ingest::Ingest};

/// How old a snapshot may be before a new one is asked for.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// How long to wait for the writer before what is known must do, and how long it does then without asking again.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct LiveFeed {
    ingest: Ingest,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    taken: Option<Instant>,
    /// When the writer did not answer.
    missed: Option<Instant>,
    snapshot: Arc<LiveSnapshot>,
}

impl LiveFeed {
    pub(super) fn new(ingest: Ingest) -> Self {
        Self { ingest, last: Mutex::default() }
    }

    /// What is open now, or was at most a tick ago. While the writer is held up, what was open before.
    pub async fn snapshot(&self) -> Arc<LiveSnapshot> {
        let mut last = self.last.lock().await;
        let is_within = |at: Option<Instant>, limit: Duration| at.is_some_and(|at| at.elapsed() < limit);
        // All viewers wait for one another here, so nobody waits for a writer that does not answer.
        if is_within(last.taken, TICK * 9 / 10)
            || is_within(last.missed, PATIENCE)
            || self.ingest.health().failing().is_some()
        {
            return last.snapshot.clone();
        }
        match tokio::time::timeout(PATIENCE, self.ingest.live()).await {
            Ok(Ok(snapshot)) => {
                *last = Last { taken: Some(Instant::now()), missed: None, snapshot };
            }
            Ok(Err(_)) | Err(_) => last.missed = Some(Instant::now()),
        }
        last.snapshot.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future};

    use super::*;
    use crate::{
        clock::SystemClock,
        ingest,
        store::{DatabaseUrl, Store},
    };

    #[tokio::test]
    async fn viewers_do_not_wait_for_a_writer_that_is_held_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DatabaseUrl::Sqlite(dir.path().join("netmon.db"))).unwrap();
        let (ingest, thread) = ingest::start(store.writer().unwrap(), Arc::new(SystemClock)).unwrap();
        let feed = LiveFeed::new(ingest.clone());
        let known = feed.snapshot().await;
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let chore = ingest.chore(move |_| Ok(held.recv().is_err()));
        let mut chore = std::pin::pin!(chore);
        assert!(chore.as_mut().now_or_never().is_none());

        // From here on time passes as soon as nothing else is to do.
        tokio::time::pause();
        tokio::time::advance(TICK).await;
        let begin = Instant::now();
        let seen = future::join_all((0..9).map(|_| feed.snapshot())).await;
        assert!(seen.iter().all(|snapshot| Arc::ptr_eq(snapshot, &known)));
        assert!((PATIENCE..PATIENCE * 2).contains(&begin.elapsed()), "{:?}", begin.elapsed());

        // While the writer says itself that it fails, it is not even asked.
        tokio::time::advance(PATIENCE).await;
        ingest.health().set_failing(Some("the disk is full".to_owned()));
        let begin = Instant::now();
        assert!(Arc::ptr_eq(&feed.snapshot().await, &known));
        assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
        ingest.health().set_failing(None);

        tokio::time::resume();
        drop(go_on);
        chore.await.unwrap();
        assert!(!Arc::ptr_eq(&feed.snapshot().await, &known), "it is asked again");
        ingest.close();
        tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
    }
}
