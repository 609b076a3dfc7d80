//! What a service manager tells the agent, and hears of it: reload, readiness, the watchdog (sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::debug;

use crate::config::Config;

/// The agent's side of it. [`Service::default`] is for an agent that no manager knows.
#[derive(Debug, Default)]
pub struct Service {
    reloads: Option<mpsc::Receiver<Config>>,
    notify: bool,
    watchdog: Option<tokio::time::Interval>,
}

impl Service {
    /// Takes new configurations from `reloads`, and talks to systemd where NOTIFY_SOCKET is set. To be made
    /// within a tokio runtime.
    pub fn new(reloads: mpsc::Receiver<Config>) -> Self {
        let watchdog = sd_notify::watchdog_enabled().map(|limit| {
            // As sd_watchdog_enabled(3) recommends: twice within the limit.
            let period = (limit / 2).max(Duration::from_millis(1));
            let mut interval = interval_at(Instant::now(), period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self { reloads: Some(reloads), notify: true, watchdog }
    }

    /// A new configuration. Feeds the watchdog while it waits, and so tells that whoever polls it lives.
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Config {
        loop {
            let notify = self.notify;
            tokio::select! {
                config = async {
                    match &mut self.reloads {
                        Some(reloads) => reloads.recv().await,
                        None => std::future::pending().await,
                    }
                } => match config {
                    Some(config) => return config,
                    None => self.reloads = None,
                },
                () = async {
                    match &mut self.watchdog {
                        Some(watchdog) => drop(watchdog.tick().await),
                        None => std::future::pending().await,
                    }
                } => tell(notify, &[NotifyState::Watchdog]),
            }
        }
    }

    pub(crate) fn ready(&self) {
        tell(self.notify, &[NotifyState::Ready]);
    }

    pub(crate) fn stopping(&self) {
        tell(self.notify, &[NotifyState::Stopping]);
    }
}

fn tell(notify: bool, state: &[NotifyState<'_>]) {
    if notify && let Err(error) = sd_notify::notify(state) {
        // A manager that has gone is no reason to stop; one that waits will act by itself.
        debug!(%error, "cannot tell the service manager");
    }
}
