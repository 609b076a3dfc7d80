//! What is different where JSON batches are posted: names are digested, and what the format has no word for
//! takes no room in the spool.

use netmon_proto::v1::Event;

use crate::{
    config::{Config, TransportKind},
    names::{Digest, DigestStats},
    transport::http::is_posted,
};

/// Stands between the sources and the spool.
#[derive(Debug)]
pub(super) struct OldFormat {
    digest: Digest,
    beginnings: bool,
    /// Of events before this one the digest was told.
    digested: usize,
}

impl OldFormat {
    /// `None`: nothing is different.
    pub(super) fn new(config: &Config, now_us: i64) -> Option<Self> {
        let digest = || Digest::new(config.qname_hash_salt.reveal(), config.qname_hash_cap, now_us);
        (config.transport == TransportKind::Http).then(|| Self {
            digest: digest(),
            beginnings: config.emit_conntrack_new,
            digested: 0,
        })
    }

    /// Looks at events on their way to the spool, adds to them, and takes out what is not posted.
    pub(super) fn apply(&mut self, events: &mut Vec<Event>, now_us: i64) {
        let digested = self.digested.min(events.len());
        self.digest.observe(events.get_mut(digested..).unwrap_or_default());
        self.digested = 0;
        self.digest.tick(now_us, events);
        events.retain(|event| is_posted(event, self.beginnings));
    }

    /// Ends the minute that is being counted.
    pub(super) fn end(&mut self, events: &mut Vec<Event>, now_us: i64) {
        self.digest.observe(events);
        self.digest.flush(now_us, events);
        self.digested = events.len();
    }

    pub(super) fn stats(&self) -> DigestStats {
        self.digest.stats()
    }
}

#[cfg(test)]
mod tests;
