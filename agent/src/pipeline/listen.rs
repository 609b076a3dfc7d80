//! Which parts run beside conntrack, by the configuration.

use crate::{
    config::Config,
    health::{self, HealthConfig},
    parts::Parts,
};

/// Starts them. To be called within a `LocalSet`.
pub(crate) fn start(config: &Config, parts: &mut Parts) {
    let health = HealthConfig { interval: config.health_interval, spool_dir: config.spool_dir.clone() };
    parts.start("health", move |outlet, state| health::run(health.clone(), outlet, state));
}
