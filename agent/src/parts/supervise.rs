//! Starts a part again when it has failed.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{debug, error, warn};

use super::Outlet;

const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

/// How a part fares.
#[derive(Debug)]
pub(super) struct Health {
    name: &'static str,
    restarts: u64,
    /// Why it does not run now.
    failed: Option<String>,
}

impl Health {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, restarts: 0, failed: None }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }

    pub(super) fn warning(&self) -> Option<String> {
        self.failed.as_ref().map(|why| format!("{} does not run: {why}", self.name))
    }
}

/// Runs a part until the agent stops.
pub(super) async fn supervise<F>(
    health: Rc<RefCell<Health>>,
    outlet: Outlet,
    mut start: impl FnMut(&Outlet) -> F,
) where
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    let name = health.borrow().name;
    let mut delay = LEAST;
    let mut told = None;
    loop {
        let started = Instant::now();
        // A task of its own, so that a panic ends it alone (where panics unwind).
        let why = match tokio::task::spawn_local(start(&outlet)).await {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => format!("{failure:#}"),
            Err(panic) => {
                error!(part = name, %panic, "a defect of netmon-agent: please report it");
                "it failed by a defect of netmon-agent".to_owned()
            }
        };
        if started.elapsed() > MOST {
            delay = LEAST;
            told = None;
        }
        // The same words every minute would bury the rest of the log.
        if told.as_ref() != Some(&why) {
            warn!(part = name, "{why}; trying again");
        }
        told = Some(why.clone());
        health.borrow_mut().failed = Some(why);
        tokio::select! {
            () = outlet.stopping() => return,
            () = sleep(delay) => {}
        }
        delay = (delay * 2).min(MOST);
        let mut health = health.borrow_mut();
        health.restarts += 1;
        health.failed = None;
        debug!(part = name, "started again");
    }
}
