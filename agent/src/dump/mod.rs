//! `--dump`: what the agent hears, as JSON lines for a person, without a server.

mod event;

use std::{
    future::Future,
    io::{self, Write},
};

use anyhow::anyhow;
use netmon_proto::v1::Event;
use tokio::{task::LocalSet, time::Instant};

use crate::{
    config::Config,
    conntrack::Monitor,
    parts::{FINISH, Parts},
    pipeline::listen,
};

pub use event::json;

/// Writes events to `out` until `shutdown` resolves or nobody reads any more.
///
/// # Errors
/// When the kernel's connection tracking cannot be read.
pub async fn dump(config: &Config, out: impl Write, shutdown: impl Future) -> anyhow::Result<()> {
    LocalSet::new().run_until(print(config, out, shutdown)).await
}

async fn print(config: &Config, mut out: impl Write, shutdown: impl Future) -> anyhow::Result<()> {
    let unreadable = |error| anyhow!("cannot watch this host's connections: {error}");
    let mut monitor = Monitor::open(config.monitor(), rand::random()).map_err(unreadable)?;
    let mut parts = Parts::new();
    listen::start(config, &mut parts);
    let mut events = Vec::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let shown = loop {
        tokio::select! {
            result = monitor.step(&mut events) => result.map_err(unreadable)?,
            heard = parts.next() => events.extend(heard),
            _ = &mut shutdown => {
                parts.finish(Instant::now() + FINISH, |heard| events.extend(heard)).await;
                monitor.finish(&mut events);
                break write_lines(&mut out, &events);
            }
        }
        let shown = write_lines(&mut out, &events);
        if shown.is_err() {
            break shown;
        }
        events.clear();
    };
    match shown {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Writes events that are there already.
///
/// # Errors
/// Those of writing to `out`; nobody reading any more is none.
pub fn print_all(events: &[Event], mut out: impl Write) -> io::Result<()> {
    match write_lines(&mut out, events) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn write_lines(out: &mut impl Write, events: &[Event]) -> io::Result<()> {
    for event in events {
        serde_json::to_writer(&mut *out, &json(event))?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests;
