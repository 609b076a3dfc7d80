//! Carries the spool to the server: one gRPC stream at a time, one epoch a stream, oldest batch first.
//!
//! The transport owns no task and no batch. The pipeline calls [`Transport::pump`] whenever there may be
//! something to send, waits on [`Transport::wait`] among its other sources, and hands what came of it to
//! [`Transport::advance`]. A server that refuses, hangs or vanishes costs a `Failure` and a delay, never a
//! batch: whatever was on its way is sent again on the next stream.

mod backoff;
mod codec;
mod connect;
mod failure;
mod probe;

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use netmon_proto::v1::{Ack, Hello, HostFacts, ServerFrame, server_frame};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, Sleep, sleep, timeout_at},
};
use tonic::{Status, Streaming, metadata::AsciiMetadataValue, transport::Channel};
use tracing::{debug, info, warn};

use crate::{config::Config, host, spool::Spool};
use backoff::Backoff;
use codec::Outgoing;
use connect::{Attempt, Opened};
use failure::Failure;
pub use probe::Unanswered;

/// The window when the server names none, and the most that is believed of one that does.
const WINDOW_EVENTS: usize = 10_000;
/// The same in bytes, whatever the server says: a router's memory is small.
const WINDOW_BYTES: usize = 512 * 1024;

/// How to reach the server, and how patient to be.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportConfig {
    /// Tried in order.
    pub urls: Vec<String>,
    /// Value of the `authorization` header.
    pub authorization: AsciiMetadataValue,
    /// Said in Hello.
    pub router_id: String,
    /// Said in Hello.
    pub host: HostFacts,
    /// For the connection.
    pub connect_timeout: Duration,
    /// From the connection to Welcome.
    pub hello_timeout: Duration,
    /// The longest time without an Ack while something is on its way.
    pub ack_timeout: Duration,
    /// The first delay between attempts.
    pub backoff_least: Duration,
    /// The longest.
    pub backoff_most: Duration,
}

impl TransportConfig {
    /// From the agent's configuration. The error says what is wrong with the token.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {}", config.auth_token.reveal());
        let mut authorization = AsciiMetadataValue::try_from(bearer)
            .map_err(|_| anyhow::anyhow!("auth_token must be printable ASCII: it travels in a header"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            urls: config.server_urls.clone(),
            authorization,
            router_id: config.router_id.clone(),
            host: host::facts(),
            connect_timeout: config.http_timeout,
            hello_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(30),
            backoff_least: Duration::from_millis(500),
            backoff_most: Duration::from_secs(30),
        })
    }
}

/// Counters and times since the start.
#[derive(Debug, Default, Clone)]
pub struct TransportStats {
    /// Whether a stream is open.
    pub connected: bool,
    /// Streams that the server welcomed.
    pub streams: u64,
    /// Batches sent, those sent again included.
    pub batches_sent: u64,
    /// Acks received.
    pub acks: u64,
    /// Events that the server took.
    pub accepted: u64,
    /// Events that it refused as invalid.
    pub rejected: u64,
    /// Failures by kind.
    pub failures: BTreeMap<&'static str, u64>,
    /// Time of the last Ack; zero: none yet.
    pub last_success_us: i64,
    /// Time of the last failure; zero: none yet.
    pub last_failure_us: i64,
    /// What it was, while no stream is open.
    pub failing: Option<String>,
}

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

/// What [`Transport::wait`] waited for.
pub struct Wake(Happened);

enum Happened {
    TimeToTry,
    Attempted { epoch: u64, result: Box<Result<Opened, Failure>> },
    Frame(Result<Option<ServerFrame>, Status>),
    AckOverdue,
}

/// The connection to the server, in whatever state it is.
pub struct Transport {
    config: TransportConfig,
    state: State,
    channel: Option<Channel>,
    url: usize,
    backoff: Backoff,
    /// What was last logged about each URL, so that it is logged once.
    logged: Vec<Option<String>>,
    stats: TransportStats,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("config", &self.config)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Not connected yet; [`Self::pump`] begins.
    pub fn new(config: TransportConfig) -> Self {
        Self {
            backoff: Backoff::new(config.backoff_least, config.backoff_most),
            logged: vec![None; config.urls.len()],
            config,
            state: State::Idle,
            channel: None,
            url: 0,
            stats: TransportStats::default(),
        }
    }

    /// Goes on with another server, another token. What is on its way is sent again there.
    pub fn reconfigure(&mut self, config: TransportConfig, spool: &mut Spool) {
        if self.config == config {
            return;
        }
        spool.end_stream();
        let stats = TransportStats { connected: false, ..std::mem::take(&mut self.stats) };
        *self = Self { stats, ..Self::new(config) };
    }

    /// Counters.
    pub fn stats(&self) -> &TransportStats {
        &self.stats
    }

    /// Does what can be done at once: begins to connect, or sends as much as the window permits.
    pub fn pump(&mut self, spool: &mut Spool) {
        if let State::Open(session) = &mut self.state {
            let sent = session.send(spool, self.config.ack_timeout);
            self.stats.batches_sent += sent;
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
    pub async fn wait(&mut self) -> Wake {
        Wake(match &mut self.state {
            State::Idle => std::future::pending().await,
            State::Waiting(sleep) => {
                sleep.as_mut().await;
                Happened::TimeToTry
            }
            State::Opening { epoch, attempt } => {
                Happened::Attempted { epoch: *epoch, result: Box::new(attempt.as_mut().await) }
            }
            State::Open(session) => match session.ack_due {
                None => Happened::Frame(session.frames.message().await),
                Some(due) => match timeout_at(due, session.frames.message()).await {
                    Ok(frame) => Happened::Frame(frame),
                    Err(_) => Happened::AckOverdue,
                },
            },
        })
    }

    /// Takes note of what happened. Call [`Self::pump`] afterwards.
    pub fn advance(&mut self, wake: Wake, spool: &mut Spool) {
        let result = match wake.0 {
            Happened::TimeToTry => {
                self.state = State::Idle;
                Ok(())
            }
            Happened::Attempted { epoch, result } => {
                (*result).and_then(|opened| self.welcomed(epoch, opened, spool))
            }
            Happened::Frame(Ok(Some(ServerFrame { frame: Some(server_frame::Frame::Ack(ack)) }))) => {
                self.acked(&ack, spool)
            }
            Happened::Frame(Ok(Some(_))) => Err(Failure::Protocol("a frame that is no Ack")),
            Happened::Frame(Ok(None)) => Err(Failure::Ended),
            Happened::Frame(Err(status)) => Err(Failure::from(status)),
            Happened::AckOverdue => Err(Failure::AckTimeout(self.config.ack_timeout)),
        };
        if let Err(failure) = result {
            self.fail(&failure, spool);
        }
    }

    fn open(&mut self, spool: &Spool) {
        let epoch = spool.next_epoch();
        let attempt = Attempt {
            url: self.config.urls.get(self.url).cloned().unwrap_or_default(),
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
        if !self.stats.connected {
            let url = self.config.urls.get(self.url).map_or("", String::as_str);
            let behind = spool.waiting_batches();
            info!(url, server_version = %welcome.server_version.escape_debug(), behind, "connected");
        }
        let window = usize::try_from(welcome.max_events_in_flight).unwrap_or(WINDOW_EVENTS);
        let window_events = if window == 0 { WINDOW_EVENTS } else { window.min(WINDOW_EVENTS) };
        self.channel = Some(channel);
        self.state = State::Open(Box::new(Session { epoch, sender, frames, window_events, ack_due: None }));
        self.stats.connected = true;
        self.stats.failing = None;
        self.stats.streams += 1;
        Ok(())
    }

    fn acked(&mut self, ack: &Ack, spool: &mut Spool) -> Result<(), Failure> {
        spool.ack(ack.sequence)?;
        if let State::Open(session) = &mut self.state {
            session.ack_due = None;
        }
        self.backoff.reset();
        self.logged.fill(None);
        self.stats.acks += 1;
        self.stats.accepted += ack.accepted;
        self.stats.rejected += ack.rejected;
        self.stats.last_success_us = host::now_us();
        for rejection in &ack.rejections {
            let reason: String = rejection.reason.chars().take(200).flat_map(char::escape_debug).collect();
            warn!(index = rejection.index, reason, "the server refused an event");
        }
        Ok(())
    }

    fn close(&mut self) {
        self.state = State::Idle;
    }

    /// The next URL at once, and after the last one the first again, later.
    fn fail(&mut self, failure: &Failure, spool: &mut Spool) {
        spool.end_stream();
        self.channel = None;
        let worked = std::mem::take(&mut self.stats.connected);
        *self.stats.failures.entry(failure.code()).or_default() += 1;
        self.stats.last_failure_us = host::now_us();

        let message = failure.to_string();
        self.stats.failing = Some(message.clone());
        if let Some(logged) = self.logged.get_mut(self.url)
            && logged.as_ref() != Some(&message)
        {
            let url = self.config.urls.get(self.url).map_or("", String::as_str);
            warn!(url, "{message}; events wait in the spool");
            *logged = Some(message);
        }
        let next = self.url + 1;
        if !worked && next < self.config.urls.len() {
            self.url = next;
            self.state = State::Idle;
        } else {
            self.url = 0;
            self.state = State::Waiting(Box::pin(sleep(self.backoff.delay(rand::random()))));
        }
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
