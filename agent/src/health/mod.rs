//! The router's own state: load, memory, disk, interfaces, temperature, and what is wrong with the host.
//!
//! [`sample`] reads the kernel's figures, [`difference`] makes of two samples what happened between them,
//! and [`environment`] says what keeps this host from being watched well.

mod difference;
mod environment;
mod sample;

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use netmon_proto::v1::{Event, event::Kind};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    host,
    metrics::Figure,
    parts::{Outlet, State},
};
use environment::Environment;
use sample::Sample;

/// What this part is told.
#[derive(Debug, Clone)]
pub(crate) struct HealthConfig {
    pub(crate) interval: Duration,
    pub(crate) spool_dir: PathBuf,
}

/// What it shows of itself.
#[derive(Debug, Default)]
pub(crate) struct HealthState {
    samples: u64,
    clock_jumps: u64,
    warnings: Vec<String>,
}

impl State for HealthState {
    fn figures(&self, out: &mut Vec<Figure>) {
        out.push(Figure::counter("health_samples", "Looks at the router's own state", self.samples));
        out.push(Figure::counter(
            "clock_jumps",
            "Times the wall clock was set while we ran",
            self.clock_jumps,
        ));
    }

    fn warnings(&self, out: &mut Vec<String>) {
        out.extend(self.warnings.iter().cloned());
    }
}

/// Samples until the agent stops.
pub(crate) async fn run(
    config: HealthConfig,
    outlet: Outlet,
    state: Rc<RefCell<HealthState>>,
) -> anyhow::Result<()> {
    let mut ticks = interval(config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut environment = Environment::default();
    let mut previous: Option<Sample> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = outlet.stopping() => return Ok(()),
        }
        let sample = Sample::read(&config.spool_dir)?;
        let warnings = environment.look(&sample, &config.spool_dir);
        let mut health = difference::between(previous.as_ref(), &sample);
        health.warnings.clone_from(&warnings);
        let event = Event { time_us: host::now_us(), kind: Some(Kind::RouterHealth(health)) };
        {
            let mut state = state.borrow_mut();
            state.samples += 1;
            state.clock_jumps = environment.jumps();
            state.warnings = warnings;
        }
        previous = Some(sample);
        outlet.send(vec![event]).await;
    }
}
