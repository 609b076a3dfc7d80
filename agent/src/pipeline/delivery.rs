//! The last steps of what is on its way: before the agent stops, and before another road is taken.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::{spool::Spool, transport::Transport};

/// How long a change of the road waits for answers. The kernel is not listened to meanwhile.
const LAND_LIMIT: Duration = Duration::from_secs(1);

/// Waits for the answer to what is on its way, for a moment, so that it does not go another road as well.
pub(super) async fn land(transport: &mut Transport, spool: &mut Spool) {
    let limit = Instant::now() + LAND_LIMIT;
    while transport.under_way(spool) {
        let Ok(wake) = timeout_at(limit, transport.wait()).await else { return };
        transport.advance(wake, spool);
    }
}

/// Waits until the server has everything, or for the time limit.
pub(super) async fn deliver(transport: &mut Transport, spool: &mut Spool, limit: Instant) {
    loop {
        transport.pump(spool);
        if spool.drained() {
            return;
        }
        let Ok(wake) = timeout_at(limit, transport.wait()).await else { break };
        transport.advance(wake, spool);
    }
    let waiting = spool.waiting_batches();
    info!(waiting, "stopped before the server had everything; the rest is in the spool");
}
