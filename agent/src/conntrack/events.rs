//! Reading the event socket, and telling what was lost on it.

use std::io;

use netmon_proto::v1::{Event, GapCause};
use tokio::{io::Interest, time::Instant};

use super::{Monitor, MonitorError, RETRY, STEP_EVENTS, config::failed, unix_us, watchdog::Watchdog};
use crate::{
    decode::{Envelopes, Frame, Kind, decode_conntrack},
    flows::gap,
};

/// How to find out whether the event socket has something to read.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// tokio knows, and forgets once the socket is empty.
    Readiness,
    /// The system call tells: where the runtime has no chance to find out.
    Asking,
}

impl Monitor {
    /// Reads events until there are none or `out` is full. True when some may be left.
    pub(super) fn read_events(
        &mut self,
        by: By,
        full: usize,
        out: &mut Vec<Event>,
    ) -> Result<bool, MonitorError> {
        let mut datagrams = 0;
        while out.len() < full && datagrams < STEP_EVENTS {
            let Monitor { events, datagrams: batch, .. } = self;
            let read = match by {
                By::Readiness => events.try_io(Interest::READABLE, |socket| socket.receive_many(batch)),
                By::Asking => events.get_ref().receive_many(batch),
            };
            match read {
                Ok(()) => {
                    datagrams += self.datagrams.len();
                    self.take_batch(out);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.drained_us = unix_us();
                    if datagrams > 0 {
                        self.linger_until = Instant::now() + self.linger;
                    }
                    if let Some(watchdog) = &self.watchdog {
                        watchdog.restore();
                    }
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.overrun(),
                Err(error) => return Err(failed("cannot read conntrack events")(error)),
            }
        }
        Ok(true)
    }

    fn take_batch(&mut self, out: &mut Vec<Event>) {
        let now = self.now();
        for datagram in self.datagrams.iter() {
            let Some(datagram) = datagram else {
                self.decode_errors += 1;
                continue;
            };
            for frame in Envelopes::new(datagram) {
                let Ok(Frame::Message { message_type, flags, payload, .. }) = frame else {
                    self.decode_errors += 1;
                    continue;
                };
                match decode_conntrack(message_type, flags, payload) {
                    Ok(message) => match message.kind {
                        Kind::New => self.table.on_new(&message, now, out),
                        Kind::Destroy => self.table.on_destroy(&message, now, out),
                        Kind::Row | Kind::Update => {}
                    },
                    Err(error) => {
                        tracing::debug!(%error, message_type, "conntrack message not understood");
                        self.decode_errors += 1;
                    }
                }
            }
        }
        self.stats.datagrams += self.datagrams.len() as u64;
    }

    pub(super) fn overrun(&mut self) {
        self.overruns += 1;
        if let Some(dump) = &mut self.dump {
            dump.incomplete = true;
        }
        // At once, unless the one before was just now: dumping all the time would not help a reader who
        // is too slow already.
        self.next_dump = self.next_dump.min((self.last_dump + RETRY).max(Instant::now()));
    }

    pub(super) fn drain(&mut self, limit: Instant, out: &mut Vec<Event>) {
        while Instant::now() < limit {
            match self.read_events(By::Asking, usize::MAX, out) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "what the kernel told last could not be read");
                    break;
                }
            }
        }
    }

    pub(super) fn report_losses(&mut self, out: &mut Vec<Event>) {
        let now_us = unix_us();
        let overruns = std::mem::take(&mut self.overruns);
        if overruns > 0 {
            self.stats.overruns += overruns;
            let detail = if self.watchdog.as_ref().is_some_and(Watchdog::is_reliable) {
                "socket buffer full; ends of connections are told again, beginnings found by a dump"
            } else {
                "socket buffer full; what is missing is found by dumps, without its last counters"
            };
            out.push(gap(GapCause::KernelOverrun, overruns, self.drained_us.min(now_us), now_us, detail));
        }
        let errors = std::mem::take(&mut self.decode_errors);
        if errors > 0 {
            self.stats.parse_errors += errors;
            out.push(gap(GapCause::Decode, errors, 0, now_us, "conntrack messages not understood"));
        }
    }
}
