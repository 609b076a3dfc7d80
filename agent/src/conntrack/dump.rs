//! Dumps of the conntrack table, each read piece by piece.
//!
//! Each dump has a socket of its own: a dump that failed half-way leaves its socket busy for ever, and a
//! new one costs three system calls. The kernel fills in the next piece while the one before is read, so
//! the socket is readable until the dump is done, and reading it never waits.

use std::{io, sync::Arc, time::Duration};

use netlink_sys::protocols::NETLINK_NETFILTER;
use tokio::{io::unix::AsyncFd, time::Instant};

use netmon_proto::v1::Event;

use super::{
    FINISH, Monitor, RETRY, request, schedule,
    socket::{NetlinkSocket, thread_cpu_time, watch},
};
use crate::decode::{CtMessage, Envelopes, Frame, Kind, decode_conntrack};

/// The kernel sends pieces of 32 KiB at most, once it has seen a buffer of that size.
pub(super) const PIECE_BYTES: usize = 32 * 1024;
/// Pieces read in one step, also where nothing changed.
const STEP_PIECES: usize = 8;
/// A dump that takes longer than this is given up.
const LIMIT: Duration = Duration::from_secs(30);

/// A dump under way.
#[derive(Debug)]
pub(super) struct Dump {
    socket: AsyncFd<Arc<NetlinkSocket>>,
    pub(super) started: Instant,
    /// What it cost so far.
    pub(super) cpu: Duration,
    /// Something was missed, so that absence from this dump proves nothing.
    pub(super) incomplete: bool,
    pub(super) rows: u64,
    pub(super) parse_errors: u64,
}

/// What a piece said about the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// There is more.
    More,
    /// Nothing there yet.
    Waiting,
    /// The dump is over.
    Done,
}

impl Dump {
    pub(super) fn start() -> io::Result<Self> {
        Self::of(&request::dump_conntrack())
    }

    /// Of the entries whose end the kernel could not tell for want of room; it keeps them to tell it again.
    pub(super) fn start_untold() -> io::Result<Self> {
        Self::of(&request::dump_untold())
    }

    fn of(request: &[u8]) -> io::Result<Self> {
        let socket = NetlinkSocket::open(NETLINK_NETFILTER)?;
        socket.request(request)?;
        Ok(Dump {
            socket: watch(Arc::new(socket))?,
            started: Instant::now(),
            cpu: Duration::ZERO,
            incomplete: false,
            rows: 0,
            parse_errors: 0,
        })
    }

    pub(super) async fn readable(&self) {
        // An error of epoll would show at the next read, too.
        let _ = self.socket.readable().await;
    }

    /// Reads one piece and hands its rows to `each`.
    pub(super) fn read(&mut self, buffer: &mut [u8], mut each: impl FnMut(&CtMessage)) -> io::Result<Piece> {
        let cpu = thread_cpu_time();
        let datagram = match self.socket.get_ref().receive(buffer) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => return Ok(Piece::More),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Piece::More),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Clears tokio's notion of readiness as well; what came in between makes it ready again.
                let _ = self.socket.try_io(tokio::io::Interest::READABLE, |_| {
                    Err::<(), _>(io::ErrorKind::WouldBlock.into())
                });
                return Ok(Piece::Waiting);
            }
            Err(error) => return Err(error),
        };
        let mut piece = Piece::More;
        for frame in Envelopes::new(datagram) {
            match frame {
                Ok(Frame::Message { message_type, flags, payload, interrupted }) => {
                    self.incomplete |= interrupted;
                    match decode_conntrack(message_type, flags, payload) {
                        Ok(row) => {
                            self.rows += 1;
                            each(&row);
                        }
                        Err(_) => self.parse_errors += 1,
                    }
                }
                Ok(Frame::Done { errno, interrupted }) => {
                    self.incomplete |= interrupted || errno != 0;
                    piece = Piece::Done;
                }
                Ok(Frame::Error(errno)) => {
                    if errno != 0 {
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                }
                Err(_) => {
                    self.parse_errors += 1;
                    self.incomplete = true;
                }
            }
        }
        self.cpu += thread_cpu_time().saturating_sub(cpu);
        Ok(piece)
    }
}

impl Monitor {
    /// Starts the dump that is due or goes on with the one that runs. True when there is more of it.
    pub(super) fn run_dump(&mut self, full: usize, out: &mut Vec<Event>) -> bool {
        if self.dump.is_none() {
            if Instant::now() < self.next_dump {
                return false;
            }
            let now = self.now();
            self.table.begin_dump(now, out);
            match Dump::start() {
                Ok(dump) => self.dump = Some(dump),
                Err(error) => {
                    self.fail_dump(&error, out);
                    return false;
                }
            }
        }
        for _ in 0..STEP_PIECES {
            if out.len() >= full {
                break;
            }
            let now = self.now();
            let Monitor { dump, table, buffer, .. } = self;
            let Some(running) = dump else { break };
            match running.read(buffer, |row| table.on_row(row, now, out)) {
                Ok(Piece::More) => {}
                Ok(Piece::Waiting) if running.started.elapsed() < LIMIT => return false,
                Ok(Piece::Waiting) => {
                    self.fail_dump(&io::ErrorKind::TimedOut.into(), out);
                    return false;
                }
                Ok(Piece::Done) => {
                    if self.table.in_first_sync() {
                        // The kernel ends overdue entries as it walks past them. Their ends must be told
                        // before the sync says that what it did not name is gone.
                        self.drain(Instant::now() + FINISH, out);
                    }
                    self.end_dump(out);
                    return false;
                }
                Err(error) => {
                    self.fail_dump(&error, out);
                    return false;
                }
            }
        }
        true
    }

    /// Before the end nobody will be there to hear them told again: reads the ends that the kernel keeps.
    pub(super) fn read_untold(&mut self, limit: Instant, out: &mut Vec<Event>) {
        // Without reliable delivery nothing is kept.
        if self.watchdog.is_none() {
            return;
        }
        let mut read = || -> io::Result<()> {
            let mut dump = Dump::start_untold()?;
            while Instant::now() < limit {
                let now = self.now();
                let Monitor { table, buffer, .. } = self;
                let each = |row: &CtMessage| {
                    table.on_destroy(&CtMessage { kind: Kind::Destroy, ..*row }, now, out);
                };
                if dump.read(buffer, each)? != Piece::More {
                    break;
                }
            }
            Ok(())
        };
        // Kernels before 5.19 keep them elsewhere and may refuse; they are found gone by the next run.
        if let Err(error) = read() {
            tracing::debug!(%error, "cannot read the ends that the kernel keeps");
        }
    }

    pub(super) fn end_dump(&mut self, out: &mut Vec<Event>) {
        let Some(dump) = self.dump.take() else { return };
        self.last_dump = Instant::now();
        let now = self.now();
        self.table.end_dump(!dump.incomplete, now, out);
        self.decode_errors += dump.parse_errors;
        self.stats.dumps += 1;
        self.stats.dumps_incomplete += u64::from(dump.incomplete);
        self.stats.last_dump_rows = dump.rows;
        self.stats.last_dump_cpu_us = u64::try_from(dump.cpu.as_micros()).unwrap_or(u64::MAX);
        let pause = schedule::interval(dump.rows, dump.cpu, self.report_interval);
        self.next_dump = self.last_dump + if dump.incomplete { RETRY.max(dump.cpu * 10) } else { pause };
    }

    pub(super) fn fail_dump(&mut self, error: &io::Error, out: &mut Vec<Event>) {
        tracing::warn!(%error, "conntrack dump failed; it is tried again in a second");
        self.dump = None;
        let now = self.now();
        self.table.end_dump(false, now, out);
        self.stats.dumps_failed += 1;
        self.last_dump = Instant::now();
        self.next_dump = self.last_dump + RETRY;
    }
}
