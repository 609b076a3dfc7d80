//! Takes NETLINK_BROADCAST_ERROR back when the agent stalls.
//!
//! With that option conntrack keeps an entry whose DESTROY found no room in our socket, and tries again.
//! That is why no end is lost, and also why an agent that stopped reading would fill the kernel's table
//! with dead entries until new connections are refused. So a thread of its own, with nothing to do but
//! this, turns the option off when no step was made for five seconds; the step that has caught up turns
//! it on again. A stopped process (SIGSTOP) stops this thread as well: then, and only then, dead entries
//! pile up until it is continued or killed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::socket::NetlinkSocket;

const LOOK: Duration = Duration::from_secs(1);
/// Looks without a beat in between after which the agent counts as stalled.
const LOOKS: u32 = 5;
/// The thread does next to nothing.
const STACK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Shared {
    socket: Arc<NetlinkSocket>,
    beats: AtomicU32,
    stop: AtomicBool,
    /// Whether the option is on. Held over the system call, so that it always tells the truth.
    reliable: Mutex<bool>,
}

impl Shared {
    fn reliable(&self) -> MutexGuard<'_, bool> {
        self.reliable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, on: bool) {
        let mut reliable = self.reliable();
        if *reliable != on && self.socket.set_reliable(on).is_ok() {
            *reliable = on;
        }
    }
}

/// Reliable delivery with its guard.
#[derive(Debug)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Turns reliable delivery on, unless its guard cannot be started.
    pub(super) fn start(socket: Arc<NetlinkSocket>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            socket,
            beats: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            reliable: Mutex::new(false),
        });
        let guard = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("watchdog".into())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&guard))?;
        shared.set(true);
        Ok(Watchdog { shared, thread: Some(thread) })
    }

    /// The agent is alive.
    pub(super) fn beat(&self) {
        self.shared.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// True while the kernel tells every end.
    pub(super) fn is_reliable(&self) -> bool {
        *self.shared.reliable()
    }

    /// Turns reliable delivery on again, after the agent has caught up.
    pub(super) fn restore(&self) {
        self.shared.set(true);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say; a panic of it was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut pulse = Pulse::default();
    while !shared.stop.load(Ordering::Relaxed) {
        if pulse.is_stalled(shared.beats.load(Ordering::Relaxed)) {
            shared.set(false);
        }
        thread::park_timeout(LOOK);
    }
}

/// Counts looks at a number that should change.
#[derive(Debug, Default)]
struct Pulse {
    last: Option<u32>,
    looks: u32,
}

impl Pulse {
    fn is_stalled(&mut self, beats: u32) -> bool {
        if self.last == Some(beats) {
            self.looks += 1;
        } else {
            self.last = Some(beats);
            self.looks = 0;
        }
        self.looks >= LOOKS
    }
}

#[cfg(test)]
#[test]
fn five_looks_at_the_same_number_are_a_stall() {
    let mut pulse = Pulse::default();
    let looks = [7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 9];
    let stalled: Vec<bool> = looks.iter().map(|beats| pulse.is_stalled(*beats)).collect();
    let first = stalled.iter().position(|stalled| *stalled);
    assert_eq!(first, Some(10));
    assert_eq!(stalled.last(), Some(&false));
}
