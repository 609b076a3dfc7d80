//! How the writer is, as it tells it to everybody else.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// How the writer is, for `/up`, the metrics and the page's banner.
#[derive(Debug, Default)]
pub struct Health {
    failing: Mutex<Option<String>>,
    notice: Mutex<Option<String>>,
    pub(super) stopped: AtomicBool,
    pub(super) commits: AtomicU64,
    pub(super) commit_us: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) clamped: AtomicU64,
    pub(super) failures: AtomicU64,
}

/// The writer's counters since the start of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Transactions committed.
    pub commits: u64,
    /// Time spent in them, microseconds.
    pub commit_us: u64,
    /// Events committed.
    pub events: u64,
    /// Events refused as invalid.
    pub rejected: u64,
    /// Batches that were committed before.
    pub duplicates: u64,
    /// Fields that were clamped.
    pub clamped: u64,
    /// Transactions that failed.
    pub failures: u64,
}

impl Health {
    /// Why nothing can be written now; `None`: all is well.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        if self.stopped() {
            return Some("the writer has stopped".to_owned());
        }
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the writer's thread has ended: nothing will be written until the server is started again.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// What a person has to know of the database, until it is acknowledged.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or takes back what a person has to know.
    pub fn set_notice(&self, notice: Option<String>) {
        *self.notice.lock().unwrap_or_else(PoisonError::into_inner) = notice;
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            commits: get(&self.commits),
            commit_us: get(&self.commit_us),
            events: get(&self.events),
            rejected: get(&self.rejected),
            duplicates: get(&self.duplicates),
            clamped: get(&self.clamped),
            failures: get(&self.failures),
        }
    }

    pub(crate) fn set_failing(&self, why: Option<String>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}
