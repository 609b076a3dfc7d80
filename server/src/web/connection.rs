//! What the listener and the pages tell each other of connections.

use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a request came over TLS: an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverTls(pub bool);

/// Connections that were closed before their first request, since the start of the server.
#[derive(Debug, Default)]
pub struct RefusedConnections {
    silent: AtomicU64,
    crowded: AtomicU64,
}

/// Why one was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No whole request came in time.
    Silent,
    /// Its address has as many as it may.
    Crowded,
}

impl RefusedConnections {
    /// Counts one.
    pub fn count(&self, why: Refusal) {
        let counter = match why {
            Refusal::Silent => &self.silent,
            Refusal::Crowded => &self.crowded,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many, under the name of the cause.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        [
            ("no_request", self.silent.load(Ordering::Relaxed)),
            ("too_many_of_one_address", self.crowded.load(Ordering::Relaxed)),
        ]
    }
}
