//! What a service manager tells the agent, and hears of it: reload, readiness, the watchdog (sd_notify(3)).

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

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
        Self { reloads: Some(reloads), notify: true, watchdog: watchdog() }
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
                } => tell(notify, Word::Watchdog),
            }
        }
    }

    pub(crate) fn ready(&self) {
        tell(self.notify, Word::Ready);
    }

    pub(crate) fn stopping(&self) {
        tell(self.notify, Word::Stopping);
    }
}

fn tell(notify: bool, word: Word) {
    if notify {
        word.tell();
    }
}

/// What a manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It may start what waits for us.
    Ready,
    /// We live.
    Watchdog,
    /// We end by ourselves.
    Stopping,
}

impl Word {
    /// Tells it to the manager that NOTIFY_SOCKET names, if there is one. A manager that has gone is no reason to
    /// stop, and one that waits will act by itself: a failure is logged at debug.
    pub fn tell(self) {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
        let text: &[u8] = match self {
            Self::Ready => b"READY=1",
            Self::Watchdog => b"WATCHDOG=1",
            Self::Stopping => b"STOPPING=1",
        };
        if let Err(error) = send(name.as_bytes(), text) {
            debug!(%error, "cannot tell the service manager");
        }
    }
}

fn send(name: &[u8], text: &[u8]) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        // For the zero byte with which the name of an abstract socket begins (unix(7)).
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up who tells it.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text, &address)?;
    Ok(())
}

/// When to say [`Word::Watchdog`]: twice within the manager's limit, as sd_watchdog_enabled(3) recommends; `None`
/// if there is no watchdog. To be made within a tokio runtime.
#[must_use]
pub fn watchdog() -> Option<tokio::time::Interval> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    let limit = Duration::from_micros(number("WATCHDOG_USEC").filter(|limit| *limit > 0)?);
    let mut interval = interval_at(Instant::now(), (limit / 2).max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}
