//! DNS by the log of dnsmasq: every question of every client, and its answer.
//!
//! Bytes come from a file (`follow`, woken by `watch`), from a named pipe (`pipe`) or from `logread`
//! (`logread`). `lines` cuts them, [`mod@line`] reads a line, and [`pairing`] finds out which answer belongs
//! to which question. The three that understand the log never do I/O and never read a clock.

mod follow;
pub mod line;
mod lines;
mod logread;
mod mounts;
mod name;
pub mod pairing;
mod pipe;
pub(crate) mod rr_type;
mod state;
mod tail;
mod watch;

use std::{cell::RefCell, path::PathBuf, rc::Rc};

use crate::parts::Outlet;
pub(crate) use state::DnsLogState;

/// What this part is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DnsLogConfig {
    /// A file or a named pipe.
    File(PathBuf),
    /// The system log, by this program.
    Logread(PathBuf),
}

/// Follows the log until the agent stops.
pub(crate) async fn run(
    config: DnsLogConfig,
    outlet: Outlet,
    state: Rc<RefCell<DnsLogState>>,
) -> anyhow::Result<()> {
    match config {
        DnsLogConfig::File(path) => tail::run(&path, &outlet, &state).await,
        DnsLogConfig::Logread(program) => logread::run(&program, &outlet, &state).await,
    }
}

#[cfg(test)]
mod tests;
