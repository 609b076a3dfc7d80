//! The log in a file: read when it changes, through its rotations.

use std::{cell::RefCell, future::pending, os::fd::AsFd, path::Path, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    follow::{Follower, Kind, Trouble},
    mounts, pipe,
    state::DnsLogState,
    watch::Watch,
};
use crate::parts::Outlet;

/// A log under load is read so often, not at every line.
const PAUSE: Duration = Duration::from_millis(20);
/// How often we look though nothing tells of a change: a directory that is not there, say.
const RECHECK: Duration = Duration::from_secs(10);

/// Follows the file until the agent stops.
pub(super) async fn run(path: &Path, outlet: &Outlet, state: &RefCell<DnsLogState>) -> anyhow::Result<()> {
    let explain = |error| anyhow::anyhow!("the log of dnsmasq cannot be watched: {error}");
    let mut watch = Watch::new(path).map_err(explain)?;
    loop {
        let names_watched = watch.watch_names();
        let (kind, more) = look(path, outlet, state).await;
        if kind == Kind::Pipe {
            if pipe::run(path, &mut watch, outlet, state).await? {
                return Ok(());
            }
            continue;
        }
        let before = watch.files();
        if let Some(follower) = &state.borrow().follower {
            let files = follower.files().map(|file| (file.number, file.file.as_fd()));
            watch.watch_files(files).map_err(explain)?;
        }
        if more || watch.files() > before {
            // What was written before we watched is told by nobody.
            tokio::task::yield_now().await;
            continue;
        }
        let recheck = !names_watched || state.borrow().trouble.is_some();
        tokio::select! {
            changed = watch.changed() => {
                changed.map_err(explain)?;
                sleep(PAUSE).await;
            }
            () = due(state, recheck) => {}
            () = outlet.stopping() => {
                while look(path, outlet, state).await.1 {}
                finish(outlet, state).await;
                return Ok(());
            }
        }
    }
}

/// Reads what there is, and hands over what it tells.
async fn look(path: &Path, outlet: &Outlet, state: &RefCell<DnsLogState>) -> (Kind, bool) {
    let mut responses = Vec::new();
    let looked = {
        let mut state = state.borrow_mut();
        let now_ms = state.now_ms();
        let mut follower = state.follower.take().unwrap_or_else(|| Follower::new(path.to_owned()));
        let looked = follower.look(now_ms, &mut |found| state.take(found, now_ms, &mut responses));
        state.trouble = match &follower.trouble {
            Some(trouble) => Some(sentence(path, trouble)),
            None => mounts::warning(path),
        };
        state.follower = Some(follower);
        state.pairing.tick(now_ms, &mut responses);
        looked
    };
    let events = state.borrow_mut().events(responses);
    outlet.send(events).await;
    looked
}

/// Tells what no line can change any more.
pub(super) async fn tick(outlet: &Outlet, state: &RefCell<DnsLogState>) {
    let mut responses = Vec::new();
    {
        let mut state = state.borrow_mut();
        let now_ms = state.now_ms();
        state.pairing.tick(now_ms, &mut responses);
    }
    let events = state.borrow_mut().events(responses);
    outlet.send(events).await;
}

/// Tells what is still open.
pub(super) async fn finish(outlet: &Outlet, state: &RefCell<DnsLogState>) {
    let mut responses = Vec::new();
    state.borrow_mut().pairing.finish(&mut responses);
    let events = state.borrow_mut().events(responses);
    outlet.send(events).await;
}

/// Resolves when there is something to do though nothing has changed.
async fn due(state: &RefCell<DnsLogState>, recheck: bool) {
    let follower = state.borrow().follower.as_ref().and_then(Follower::deadline_ms);
    due_with(follower, state, recheck).await;
}

/// The same where no file is looked at.
pub(super) async fn due_without_files(state: &RefCell<DnsLogState>, recheck: bool) {
    due_with(None, state, recheck).await;
}

async fn due_with(follower_ms: Option<u64>, state: &RefCell<DnsLogState>, recheck: bool) {
    let (started, deadline_ms) = {
        let state = state.borrow();
        (state.started, state.pairing.deadline_ms().into_iter().chain(follower_ms).min())
    };
    let deadline = deadline_ms.map(|ms| started + Duration::from_millis(ms));
    let recheck = recheck.then(|| Instant::now() + RECHECK);
    match deadline.into_iter().chain(recheck).min() {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

fn sentence(path: &Path, trouble: &Trouble) -> String {
    let path = path.display();
    match trouble {
        Trouble::Missing => format!(
            "the log of dnsmasq {path} is not there: set log-facility={path} for dnsmasq, or dns_log: logread"
        ),
        Trouble::Directory => format!("{path} is a directory: set dnsmasq_log_path to the log of dnsmasq"),
        Trouble::NotAFile => format!("{path} is neither a file nor a named pipe: set dnsmasq_log_path"),
        Trouble::Unreadable(why) => {
            format!("the log of dnsmasq {path} cannot be read ({why}): give the agent the right to read it")
        }
        Trouble::Unused => format!(
            "dnsmasq goes on writing to the log that was renamed, and {path} stays empty: rotate with copytruncate, or send dnsmasq SIGUSR2"
        ),
    }
}
