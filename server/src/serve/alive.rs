//! That the server lives, for the watchdog of a service manager.

use netmon_agent::service::{Word, watchdog};

use crate::ingest::Ingest;

/// Feeds the watchdog, if there is one, as long as the runtime turns and the writer's thread lives. A server whose
/// writer has failed takes nothing any more: then only a new start helps.
pub(super) async fn feed_watchdog(ingest: Ingest) {
    let Some(mut interval) = watchdog() else { return };
    loop {
        interval.tick().await;
        if ingest.health().stopped() {
            return;
        }
        Word::Watchdog.tell();
    }
}
