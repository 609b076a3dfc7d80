//! The log as OpenWrt's `logread` tells it.

use std::{cell::RefCell, path::Path, process::Stdio, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::Instant,
};

use super::{
    follow::Found,
    lines::{Lines, Piece},
    state::DnsLogState,
    tail::{due_without_files, finish},
};
use crate::parts::Outlet;

const READ_BYTES: usize = 64 * 1024;
/// A program that ends so soon did not like its options.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Runs the program until the agent stops. Ends when the program ends; the supervisor starts it again.
pub(super) async fn run(program: &Path, outlet: &Outlet, state: &RefCell<DnsLogState>) -> anyhow::Result<()> {
    loop {
        let plain = state.borrow().logread_is_plain;
        let started = Instant::now();
        let mut child = start(program, plain)?;
        let Some(heard) = listen(&mut child, outlet, state).await? else { return Ok(()) };
        let status = child.wait().await.context("logread has gone")?;
        let mut state = state.borrow_mut();
        if !plain && !heard && !status.success() && started.elapsed() < AT_ONCE {
            // BusyBox's has no such option.
            state.logread_is_plain = true;
            continue;
        }
        // Lines may be missing until it runs again.
        state.pairing.cut();
        anyhow::bail!(
            "logread ended ({status}): is the log service running? without it set dns_log to file or off"
        );
    }
}

/// Hears it to its end. Whether anything was heard; `None`: the agent stops.
async fn listen(
    child: &mut Child,
    outlet: &Outlet,
    state: &RefCell<DnsLogState>,
) -> anyhow::Result<Option<bool>> {
    let mut output = child.stdout.take().context("logread has no output")?;
    let mut lines = Lines::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut heard = false;
    loop {
        let read = tokio::select! {
            read = output.read(&mut buffer) => Some(read.context("the output of logread cannot be read")?),
            () = due_without_files(state, false) => None,
            () = outlet.stopping() => {
                // It is killed when it is dropped, too, should this fail.
                let _ = child.kill().await;
                finish(outlet, state).await;
                return Ok(None);
            }
        };
        let mut responses = Vec::new();
        {
            let mut state = state.borrow_mut();
            let now_ms = state.now_ms();
            let mut each = |piece: Piece<'_>| state.take(Found::Piece(piece), now_ms, &mut responses);
            match read {
                Some(0) => lines.end(&mut each),
                Some(len) => lines.feed(&buffer[..len], &mut each),
                None => {}
            }
            heard |= read.is_some_and(|len| len > 0);
            state.pairing.tick(now_ms, &mut responses);
        }
        let events = state.borrow_mut().events(responses);
        outlet.send(events).await;
        if read == Some(0) {
            return Ok(Some(heard));
        }
    }
}

fn start(program: &Path, plain: bool) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command.arg("-f");
    if !plain {
        command.args(["-e", "dnsmasq"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("logread cannot be started; without it set dns_log to file")
}
