//! Which server is next, how long to wait before it is tried, and what was said of it.

use std::time::Duration;

use tracing::warn;

use super::{TransportConfig, TransportStats, backoff::Backoff, failure::Failure};
use crate::host;

/// The servers in their order, and how they fared.
#[derive(Debug)]
pub(super) struct Route {
    urls: Vec<String>,
    at: usize,
    backoff: Backoff,
    /// This server has taken something since it was turned to.
    worked: bool,
    /// What was last logged about each URL, so that it is logged once.
    logged: Vec<Option<String>>,
    pub(super) stats: TransportStats,
}

impl Route {
    pub(super) fn new(config: &TransportConfig, stats: TransportStats) -> Self {
        Self {
            urls: config.urls.clone(),
            at: 0,
            backoff: Backoff::new(config.backoff_least, config.backoff_most),
            worked: false,
            logged: vec![None; config.urls.len()],
            stats,
        }
    }

    /// The server whose turn it is.
    pub(super) fn url(&self) -> &str {
        self.urls.get(self.at).map_or("", String::as_str)
    }

    /// The server has taken something.
    pub(super) fn works(&mut self) {
        self.backoff.reset();
        self.worked = true;
        self.logged.fill(None);
        self.stats.last_success_us = host::now_us();
    }

    /// The next URL at once (`None`), and after the last one, or one that worked, the first again, later.
    pub(super) fn failed(&mut self, failure: &Failure) -> Option<Duration> {
        self.stats.connected = false;
        let worked = std::mem::take(&mut self.worked);
        *self.stats.failures.entry(failure.code()).or_default() += 1;
        self.stats.last_failure_us = host::now_us();

        let message = failure.to_string();
        self.stats.failing = Some(message.clone());
        if let Some(logged) = self.logged.get_mut(self.at)
            && logged.as_ref() != Some(&message)
        {
            let url = self.urls.get(self.at).map_or("", String::as_str);
            warn!(url, "{message}; events wait in the spool");
            *logged = Some(message);
        }
        let next = self.at + 1;
        if !worked && next < self.urls.len() {
            self.at = next;
            return None;
        }
        self.at = 0;
        Some(self.backoff.delay(rand::random()))
    }
}
