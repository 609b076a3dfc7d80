//! One gRPC stream at a time, one epoch a stream, oldest batch first.

use std::{future::Future, pin::Pin, time::Duration};

use netmon_proto::v1::{Ack, Hello, ServerFrame, server_frame};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, Sleep, sleep, timeout_at},
};
use tonic::{Status, Streaming, transport::Channel};
use tracing::{debug, info, warn};

use super::{
    TransportConfig, TransportStats,
    codec::Outgoing,
    connect::{Attempt, Opened},
    failure::Failure,
    http,
    route::Route,
};
use crate::{host, spool::Spool};

/// The window when the server names none, and the most that is believed of one that does.
const WINDOW_EVENTS: usize = 10_000;
/// The same in bytes, whatever the server says: a router's memory is small.
const WINDOW_BYTES: usize = 512 * 1024;

type Opening = Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send>>;

enum State {
    Idle,
    Waiting(Pin<Box<Sleep>>),
    Opening { epoch: u64, attempt: Opening },
    Open(Box<Session>),
}

struct Session {
    epoch: u64,
    sender: UnboundedSender<Outgoing>,
    frames: Streaming<ServerFrame>,
    window_events: usize,
    /// When the next Ack is due. `None`: nothing is on its way.
    ack_due: Option<Instant>,
}

/// What [`Streams::wait`] waited for.
pub(super) enum Wake {
    TimeToTry,
    Attempted { epoch: u64, result: Box<Result<Opened, Failure>> },
    Frame(Result<Option<ServerFrame>, Status>),
    AckOverdue,
}

/// The connection to the server, in whatever state it is.
pub(super) struct Streams {
    config: TransportConfig,
    state: State,
    channel: Option<Channel>,
    route: Route,
    /// What an earlier run or configuration posted was not asked for yet.
    inherits: bool,
}

impl Streams {
    pub(super) fn new(config: TransportConfig, stats: TransportStats) -> Self {
        let route = Route::new(&config, stats);
        Self { route, config, state: State::Idle, channel: None, inherits: true }
    }

    pub(super) fn stats(&self) -> &TransportStats {
        &self.route.stats
    }

    /// Does what can be done at once: begins to connect, or sends as much as the window permits.
    pub(super) fn pump(&mut self, spool: &mut Spool) {
        if let State::Open(session) = &mut self.state {
            let sent = session.send(spool, self.config.ack_timeout);
            self.route.stats.batches_sent += sent;
            if session.epoch != spool.epoch() && spool.finish_epoch() {
                debug!(epoch = session.epoch, "an earlier run is delivered");
                self.close();
            }
        }
        if matches!(self.state, State::Idle) {
            self.open(spool);
        }
    }

    /// Waits for the server, or for the time to try it again. Cancel safe.
    pub(super) async fn wait(&mut self) -> Wake {
        match &mut self.state {
            State::Idle => std::future::pending().await,
            State::Waiting(sleep) => {
                sleep.as_mut().await;
                Wake::TimeToTry
            }
            State::Opening { epoch, attempt } => {
                Wake::Attempted { epoch: *epoch, result: Box::new(attempt.as_mut().await) }
            }
            State::Open(session) => match session.ack_due {
                None => Wake::Frame(session.frames.message().await),
                Some(due) => match timeout_at(due, session.frames.message()).await {
                    Ok(frame) => Wake::Frame(frame),
                    Err(_) => Wake::AckOverdue,
                },
            },
        }
    }

    /// Takes note of what happened.
    pub(super) fn advance(&mut self, wake: Wake, spool: &mut Spool) {
        let result = match wake {
            Wake::TimeToTry => {
                self.state = State::Idle;
                Ok(())
            }
            Wake::Attempted { epoch, result } => {
                (*result).and_then(|opened| self.welcomed(epoch, opened, spool))
            }
            Wake::Frame(Ok(Some(ServerFrame { frame: Some(server_frame::Frame::Ack(ack)) }))) => {
                self.acked(&ack, spool)
            }
            Wake::Frame(Ok(Some(_))) => Err(Failure::Protocol("a frame that is no Ack")),
            Wake::Frame(Ok(None)) => Err(Failure::Ended),
            Wake::Frame(Err(status)) => Err(Failure::from(status)),
            Wake::AckOverdue => Err(Failure::AckTimeout(self.config.ack_timeout)),
        };
        if let Err(failure) = result {
            self.fail(&failure, spool);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn open(&mut self, spool: &mut Spool) {
        if std::mem::take(&mut self.inherits) {
            http::take_over(spool);
        }
        let epoch = spool.next_epoch();
        let attempt = Attempt {
            url: self.route.url().to_owned(),
            tls: self.config.tls.clone(),
            channel: self.channel.take(),
            authorization: self.config.authorization.clone(),
            hello: Hello {
                router_id: self.config.router_id.clone(),
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                epoch,
                oldest_sequence: spool.oldest_sequence(epoch),
                sent_at_us: host::now_us(),
                host: Some(self.config.host.clone()),
            },
            connect_timeout: self.config.connect_timeout,
            hello_timeout: self.config.hello_timeout,
        };
        self.state = State::Opening { epoch, attempt: Box::pin(attempt.run()) };
    }

    fn welcomed(&mut self, epoch: u64, opened: Opened, spool: &mut Spool) -> Result<(), Failure> {
        let Opened { channel, sender, frames, welcome } = opened;
        spool.start_stream(epoch, welcome.last_sequence)?;
        if !self.route.stats.connected {
            let behind = spool.waiting_batches();
            info!(url = self.route.url(), server_version = %welcome.server_version.escape_debug(), behind, "connected");
        }
        let window = usize::try_from(welcome.max_events_in_flight).unwrap_or(WINDOW_EVENTS);
        let window_events = if window == 0 { WINDOW_EVENTS } else { window.min(WINDOW_EVENTS) };
        self.channel = Some(channel);
        self.state = State::Open(Box::new(Session { epoch, sender, frames, window_events, ack_due: None }));
        self.route.stats.connected = true;
        self.route.stats.failing = None;
        self.route.stats.streams += 1;
        Ok(())
    }

    fn acked(&mut self, ack: &Ack, spool: &mut Spool) -> Result<(), Failure> {
        spool.ack(ack.sequence)?;
        if let State::Open(session) = &mut self.state {
            session.ack_due = None;
        }
        self.route.works();
        self.route.stats.acks += 1;
        self.route.stats.accepted += ack.accepted;
        self.route.stats.rejected += ack.rejected;
        for rejection in &ack.rejections {
            let reason: String = rejection.reason.chars().take(200).flat_map(char::escape_debug).collect();
            warn!(index = rejection.index, reason, "the server refused an event");
        }
        Ok(())
    }

    fn close(&mut self) {
        self.state = State::Idle;
    }

    fn fail(&mut self, failure: &Failure, spool: &mut Spool) {
        spool.end_stream();
        self.channel = None;
        self.state = match self.route.failed(failure) {
            None => State::Idle,
            Some(delay) => State::Waiting(Box::pin(sleep(delay))),
        };
    }
}

impl Session {
    /// Sends what the window permits; returns how many batches.
    fn send(&mut self, spool: &mut Spool, ack_timeout: Duration) -> u64 {
        let mut sent = 0;
        while let Some(frame) = spool.next_frame(self.window_events, WINDOW_BYTES) {
            sent += 1;
            // A closed channel shows as the stream's end, with its reason, at the next wait.
            let _ = self.sender.send(Outgoing::Batch(frame));
        }
        if spool.in_flight() {
            self.ack_due.get_or_insert_with(|| Instant::now() + ack_timeout);
        }
        sent
    }
}
