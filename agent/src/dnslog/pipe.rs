//! The log through a named pipe.

use std::{cell::RefCell, fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use tokio::{net::unix::pipe, time::sleep};

use super::{
    follow::Found,
    lines::{Lines, Piece},
    state::DnsLogState,
    tail::{due_without_files, finish, tick},
    watch::Watch,
};
use crate::parts::Outlet;

const READ_BYTES: usize = 64 * 1024;
/// Without the right to write, the pipe is at its end while nobody writes to it.
const NO_WRITER: Duration = Duration::from_secs(1);

/// Reads the pipe. `true`: the agent is stopping. `false`: there is something else at the path now.
pub(super) async fn run(
    path: &Path,
    watch: &mut Watch,
    outlet: &Outlet,
    state: &RefCell<DnsLogState>,
) -> anyhow::Result<bool> {
    let identity = || fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
    let own = identity();
    let mut lines = Lines::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let receiver = match open(path) {
            Ok(receiver) => receiver,
            Err(error) => {
                let path = path.display();
                state.borrow_mut().trouble = Some(format!(
                    "the named pipe {path} cannot be read ({error}): give the agent the right to read it"
                ));
                tokio::select! {
                    changed = watch.changed() => changed?,
                    () = due_without_files(state, true) => {}
                    () = outlet.stopping() => return Ok(true),
                }
                if identity() != own {
                    return Ok(false);
                }
                tick(outlet, state).await;
                continue;
            }
        };
        state.borrow_mut().trouble = None;
        loop {
            tokio::select! {
                ready = receiver.readable() => ready?,
                changed = watch.changed() => {
                    changed?;
                    if identity() != own {
                        return Ok(false);
                    }
                    continue;
                }
                () = due_without_files(state, false) => {}
                () = outlet.stopping() => {
                    finish(outlet, state).await;
                    return Ok(true);
                }
            }
            let read = receiver.try_read(&mut buffer);
            let mut responses = Vec::new();
            {
                let mut state = state.borrow_mut();
                let now_ms = state.now_ms();
                let mut each = |piece: Piece<'_>| state.take(Found::Piece(piece), now_ms, &mut responses);
                match &read {
                    Ok(0) => lines.end(&mut each),
                    Ok(len) => lines.feed(&buffer[..*len], &mut each),
                    Err(_) => {}
                }
                state.pairing.tick(now_ms, &mut responses);
            }
            let events = state.borrow_mut().events(responses);
            outlet.send(events).await;
            match read {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
                _ => {}
            }
        }
        sleep(NO_WRITER).await;
    }
}

/// Opened for writing as well where that is permitted: then it is never at its end.
fn open(path: &Path) -> io::Result<pipe::Receiver> {
    let open = |write| pipe::OpenOptions::new().read_write(write).open_receiver(path);
    open(true).or_else(|_| open(false))
}
