//! The live view's state, asked of the writer at most once per tick however many look at it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::{engine::LiveSnapshot, ingest::Ingest};

/// How old a snapshot may be before a new one is asked for.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// How long to wait for the writer before what is known must do.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct LiveFeed {
    ingest: Ingest,
    last: Mutex<Option<(Instant, Arc<LiveSnapshot>)>>,
}

impl LiveFeed {
    pub(super) fn new(ingest: Ingest) -> Self {
        Self { ingest, last: Mutex::new(None) }
    }

    /// What is open now, or was at most a tick ago. While the writer is held up, what was open before.
    pub async fn snapshot(&self) -> Arc<LiveSnapshot> {
        let mut last = self.last.lock().await;
        if let Some((taken, snapshot)) = &*last
            && taken.elapsed() < TICK * 9 / 10
        {
            return snapshot.clone();
        }
        match tokio::time::timeout(PATIENCE, self.ingest.live()).await {
            Ok(Ok(snapshot)) => {
                *last = Some((Instant::now(), snapshot.clone()));
                snapshot
            }
            Ok(Err(_)) | Err(_) => last.as_ref().map(|(_, known)| known.clone()).unwrap_or_default(),
        }
    }
}
