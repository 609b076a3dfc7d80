//! Adds minutes that are over to their hours and days.

use std::{sync::Arc, time::Duration};

use tracing::warn;

use super::retention::sweep;
use crate::{clock::Clock, ingest::Ingest, store::Sweep};

/// Between two passes.
const EVERY: Duration = Duration::from_secs(60);

/// Goes on until it is aborted. Each minute is a step between two of the writer's commits.
pub async fn rollups(ingest: Ingest, clock: Arc<dyn Clock>) {
    loop {
        if let Err(error) = sweep(&ingest, &mut None, Sweep::of_rollups(clock.now())).await {
            warn!(%error, "hours and days wait for the next pass, minutes hold what is missing there");
        }
        tokio::time::sleep(EVERY).await;
    }
}
