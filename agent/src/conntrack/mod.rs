//! The conntrack source: sockets on one side, events on the other.
//!
//! Three kinds of sockets, none of which waits for another:
//! - one for events, in the multicast groups NEW and DESTROY. It is subscribed before the first dump is
//!   asked for, so that no flow can fall between the two. UPDATE is left out: dumps bring progress at a
//!   price that is known.
//! - one per dump: a dump that failed half-way leaves its socket busy for ever.
//! - one for news of the host's addresses.
//!
//! A [`Monitor`] is driven by [`Monitor::step`] on a current-thread runtime. Every step reads what there
//! is, up to a bound, and hands it to the pure [`FlowTable`]. After a read that emptied the event socket
//! the next one waits ten milliseconds where the socket's buffer has room for that: at 50,000 events per
//! second this makes a hundred wake-ups of the whole road behind, not tens of thousands.
//!
//! Losses: ENOBUFS on the event socket means that something was left out. It becomes a gap, and a new dump
//! finds what is missing. With reliable delivery (NETLINK_BROADCAST_ERROR) ends are not lost even then,
//! because the kernel tells them again. Its price, and who guards it, is told in `watchdog.rs`.

mod config;
mod dump;
mod events;
mod open;
mod request;
mod route;
mod schedule;
#[expect(unsafe_code, reason = "recvmmsg, SO_RCVBUFFORCE and the thread's CPU clock have no safe wrapper")]
pub mod socket;
mod stats;
pub(crate) mod sysctl;
mod watchdog;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use netmon_proto::v1::Event;
use tokio::{
    io::unix::AsyncFd,
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::{
    addresses::LanConfig,
    flows::{FlowTable, MAX_FLOWS, Moment},
};

pub use config::{MonitorConfig, MonitorError};
use dump::Dump;
use events::By;
pub(crate) use route::{AddressWatch, dump_links, dump_neighbours};
use socket::{Datagrams, NetlinkSocket};
pub use stats::MonitorStats;
use watchdog::Watchdog;

/// Events of one step, give or take those of one batch of datagrams or one piece of a dump.
const STEP_EVENTS: usize = 2048;
/// The longest wait within a step, so that the watchdog sees a beat.
const BEAT: Duration = Duration::from_secs(1);
/// After a dump that failed, or between dumps that overruns ask for.
const RETRY: Duration = Duration::from_secs(1);
/// What `finish` may take for the ends that the kernel keeps; less for the rest.
const FINISH: Duration = Duration::from_millis(1300);

/// Watches the kernel's connection tracking.
#[derive(Debug)]
pub struct Monitor {
    events: AsyncFd<Arc<NetlinkSocket>>,
    datagrams: Datagrams,
    addresses: AddressWatch,
    buffer: Vec<u8>,
    table: FlowTable,
    dump: Option<Dump>,
    next_dump: Instant,
    /// When the last dump ended.
    last_dump: Instant,
    /// When addresses are to be read again.
    addresses_due: Option<Instant>,
    /// The event socket is not read before.
    linger_until: Instant,
    linger: Duration,
    /// Something is left to be done at once.
    busy: bool,
    watchdog: Option<Watchdog>,
    /// Not yet reported.
    overruns: u64,
    decode_errors: u64,
    /// When the event socket was last seen empty.
    drained_us: i64,
    lan: LanConfig,
    no_lan: bool,
    report_interval: Duration,
    started: Instant,
    stats: MonitorStats,
    warnings: Vec<String>,
}

impl Monitor {
    /// Waits until something is to be done, does it, and appends what comes of it to `out`: a few thousand
    /// events at most. May be dropped at any time without loss: it never waits with events in hand.
    ///
    /// # Errors
    /// When a socket is broken. A monitor that failed is to be dropped and opened anew.
    pub async fn step(&mut self, out: &mut Vec<Event>) -> Result<(), MonitorError> {
        let held = out.len();
        loop {
            if self.busy {
                // Whoever runs on the same thread gets a turn between two full steps.
                yield_now().await;
            } else {
                self.wait().await;
            }
            self.turn(out)?;
            if out.len() > held {
                return Ok(());
            }
        }
    }

    /// How many flows are open.
    pub fn open_flows(&self) -> usize {
        self.table.len()
    }

    /// Leaves PROGRESS reports out, or takes them up again. Counters are cumulative: nothing is lost but
    /// the minute in which bytes moved.
    pub fn set_progress(&mut self, on: bool) {
        self.table.set_progress(on);
    }

    /// Has the whole table reported again, between a TableSync BEGIN and its END.
    pub fn request_sync(&mut self) {
        self.table.request_sync();
        self.busy = true;
    }

    /// The last thing before the end: reads the ends that the kernel keeps because they found no room, drains
    /// the event socket, dumps once more, and reports every flow that changed. Takes three seconds at the very
    /// most, usually a few milliseconds. To be called within a tokio runtime.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        self.table.set_progress(true);
        // First, because in a storm more are kept all the time: a dump holds those that were there when it
        // began. What leaves the kernel's list meanwhile is in the socket then.
        self.read_untold(Instant::now() + FINISH, out);
        self.drain(Instant::now() + FINISH / 2, out);
        self.dump = None;
        self.next_dump = Instant::now();
        let limit = Instant::now() + FINISH / 2;
        loop {
            self.run_dump(usize::MAX, out);
            if self.dump.is_none() || Instant::now() >= limit {
                break;
            }
        }
        self.drain(Instant::now() + FINISH / 4, out);
        let now = self.now();
        self.table.flush_progress(now, out);
        self.report_losses(out);
        self.stats.take(self.table.stats());
    }

    /// What happened so far.
    pub fn stats(&self) -> &MonitorStats {
        &self.stats
    }

    /// What keeps this host from being watched well, one sentence each with the remedy.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = sysctl::apply(Path::new(sysctl::DIRECTORY), false);
        warnings.extend(self.own_warnings());
        warnings
    }

    /// Those that are not about the kernel's settings.
    pub(crate) fn own_warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        if self.watchdog.as_ref().is_some_and(|watchdog| !watchdog.is_reliable()) {
            warnings.push("reliable delivery is off until the agent has caught up".into());
        }
        if self.no_lan {
            warnings.push("no subnet counts as LAN: set lan_subnets or lan_interfaces".into());
        }
        if self.stats.flows.zeroed > 0 {
            warnings.push(
                "another program sets conntrack counters to zero: what moves right before that is not counted; stop it or its zeroing".into(),
            );
        }
        if self.stats.flows.untracked > 0 {
            warnings.push(format!(
                "more than {MAX_FLOWS} connections were open: some were reported only when they ended"
            ));
        }
        warnings
    }

    async fn wait(&self) {
        let now = Instant::now();
        let lingers = now < self.linger_until;
        let mut until = now + BEAT;
        if lingers {
            until = until.min(self.linger_until);
        }
        if self.dump.is_none() {
            until = until.min(self.next_dump);
        }
        if let Some(due) = self.addresses_due {
            until = until.min(due);
        }
        tokio::select! {
            // An error of epoll would show at the next read, too.
            _ = self.events.readable(), if !lingers => {}
            () = self.addresses.readable() => {}
            () = async { match &self.dump { Some(dump) => dump.readable().await, None => std::future::pending().await } } => {}
            () = sleep_until(until) => {}
        }
    }

    /// Does what can be done without waiting.
    fn turn(&mut self, out: &mut Vec<Event>) -> Result<(), MonitorError> {
        if let Some(watchdog) = &self.watchdog {
            watchdog.beat();
        }
        let full = out.len().saturating_add(STEP_EVENTS);
        self.busy = false;
        let now = Instant::now();
        // What was told before a dump is asked for must not be heard after its rows.
        let dumps = self.dump.is_some() || now >= self.next_dump;
        if dumps || now >= self.linger_until {
            self.busy |= self.read_events(By::Readiness, full, out)?;
        }
        self.follow_addresses()?;
        if self.table.wants_sync() {
            let now = self.now();
            self.busy |= self.table.sync(full, now, out);
        }
        self.busy |= self.run_dump(full, out);
        self.report_losses(out);
        self.stats.take(self.table.stats());
        Ok(())
    }

    fn now(&self) -> Moment {
        let uptime_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { unix_us: unix_us(), uptime_ms }
    }
}

/// Microseconds since 1970; zero for a clock before that.
fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
