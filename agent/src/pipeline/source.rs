//! Where flow events come from: the kernel's connection tracking, or a script in tests.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use netmon_proto::v1::Event;
use tokio::time::{Sleep, sleep};
use tracing::{info, warn};

use crate::conntrack::{Monitor, MonitorConfig, MonitorError, MonitorStats};

const REOPEN_LEAST: Duration = Duration::from_secs(1);
const REOPEN_MOST: Duration = Duration::from_secs(30);

/// What the pipeline needs of a source.
pub(super) trait Source {
    type Error: fmt::Display;

    /// Waits for events and appends them. Cancel safe. After an error the source has to be opened again.
    fn step(&mut self, out: &mut Vec<Event>) -> impl Future<Output = Result<(), Self::Error>>;
    fn open_flows(&self) -> usize;
    fn set_progress(&mut self, on: bool);
    fn request_sync(&mut self);
    fn finish(&mut self, out: &mut Vec<Event>);
    fn stats(&self) -> MonitorStats;
    fn warnings(&self) -> Vec<String>;
}

impl Source for Monitor {
    type Error = MonitorError;

    fn step(&mut self, out: &mut Vec<Event>) -> impl Future<Output = Result<(), MonitorError>> {
        Self::step(self, out)
    }

    fn open_flows(&self) -> usize {
        Self::open_flows(self)
    }

    fn set_progress(&mut self, on: bool) {
        Self::set_progress(self, on);
    }

    fn request_sync(&mut self) {
        Self::request_sync(self);
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        Self::finish(self, out);
    }

    fn stats(&self) -> MonitorStats {
        *Self::stats(self)
    }

    fn warnings(&self) -> Vec<String> {
        Self::warnings(self)
    }
}

/// A source that is opened again when it breaks.
pub(super) struct Feed<S, O> {
    open: O,
    config: MonitorConfig,
    state: State<S>,
    /// Kept from the last working source.
    stats: MonitorStats,
    delay: Duration,
    progress: bool,
    restarts: u64,
}

enum State<S> {
    Running(S),
    Broken { why: String, retry: Pin<Box<Sleep>> },
}

impl<S: Source, O: FnMut(&MonitorConfig) -> Result<S, S::Error>> Feed<S, O> {
    /// Opens the source for the first time. One that cannot be opened is tried again, like one that breaks.
    pub(super) fn open(mut open: O, config: MonitorConfig) -> Self {
        let opened = open(&config);
        let mut feed = Self {
            open,
            config,
            state: State::Broken { why: String::new(), retry: Box::pin(sleep(REOPEN_LEAST)) },
            stats: MonitorStats::default(),
            delay: REOPEN_LEAST,
            progress: true,
            restarts: 0,
        };
        match opened {
            Ok(source) => feed.state = State::Running(source),
            Err(error) => {
                warn!("cannot watch this host's connections: {error}; trying again");
                feed.break_down(error.to_string());
            }
        }
        feed
    }

    /// Waits for events and appends them, and for a broken source to work again. Cancel safe.
    pub(super) async fn step(&mut self, out: &mut Vec<Event>) {
        match &mut self.state {
            State::Running(source) => match source.step(out).await {
                Ok(()) => {
                    self.delay = REOPEN_LEAST;
                    self.stats = source.stats();
                }
                Err(error) => {
                    let why = error.to_string();
                    self.stats = source.stats();
                    warn!(%error, "the connection source broke; it will be opened again");
                    self.break_down(why);
                }
            },
            State::Broken { retry, why } => {
                retry.as_mut().await;
                // A new configuration is no failure.
                self.restarts += u64::from(!why.is_empty());
                match (self.open)(&self.config) {
                    Ok(mut source) => {
                        info!("the connection source works again");
                        source.set_progress(self.progress);
                        self.state = State::Running(source);
                    }
                    Err(error) => self.break_down(error.to_string()),
                }
            }
        }
    }

    /// Goes on with another configuration. What the source still has is appended first.
    pub(super) fn reconfigure(&mut self, config: MonitorConfig, out: &mut Vec<Event>) {
        if self.config == config {
            return;
        }
        self.config = config;
        self.finish(out);
        self.state = State::Broken { why: String::new(), retry: Box::pin(sleep(Duration::ZERO)) };
        self.delay = REOPEN_LEAST;
    }

    fn break_down(&mut self, why: String) {
        self.state = State::Broken { why, retry: Box::pin(sleep(self.delay)) };
        self.delay = (self.delay * 2).min(REOPEN_MOST);
    }

    fn source(&mut self) -> Option<&mut S> {
        match &mut self.state {
            State::Running(source) => Some(source),
            State::Broken { .. } => None,
        }
    }

    pub(super) fn open_flows(&mut self) -> usize {
        self.source().map_or(0, |source| source.open_flows())
    }

    pub(super) fn set_progress(&mut self, on: bool) {
        self.progress = on;
        if let Some(source) = self.source() {
            source.set_progress(on);
        }
    }

    /// A source that is opened again reports everything anyway.
    pub(super) fn request_sync(&mut self) {
        if let Some(source) = self.source() {
            source.request_sync();
        }
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Event>) {
        if let Some(source) = self.source() {
            source.finish(out);
        }
    }

    pub(super) fn stats(&self) -> MonitorStats {
        self.stats
    }

    /// Times it was opened again, or that was tried.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Whether connections are watched.
    pub(super) fn works(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        match &self.state {
            State::Running(source) => source.warnings(),
            State::Broken { why, .. } => vec![format!("connections are not watched: {why}")],
        }
    }
}
