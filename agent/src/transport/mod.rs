//! Carries the spool to the server, oldest batch first: over a gRPC stream, or as JSON batches that the
//! original agent posted.
//!
//! The transport owns no task of its own and no batch. The pipeline calls [`Transport::pump`] whenever there
//! may be something to send, waits on [`Transport::wait`] among its other sources, and hands what came of it
//! to [`Transport::advance`]. A server that refuses, hangs or vanishes costs a `Failure` and a delay, never a
//! batch: whatever was on its way is sent again.

mod backoff;
mod codec;
mod connect;
mod connection;
mod failure;
pub(crate) mod http;
mod probe;
mod route;
mod stream;
mod tls;
mod trust;

use std::{collections::BTreeMap, fmt, time::Duration};

use netmon_proto::v1::HostFacts;
use tonic::metadata::AsciiMetadataValue;

use crate::{
    config::{Config, TransportKind},
    host,
    spool::Spool,
};
use http::Posts;
pub use probe::Unanswered;
use stream::Streams;
pub use tls::Tls;
pub use trust::Fingerprint;

/// How to reach the server, and how patient to be.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportConfig {
    /// Tried in order.
    pub urls: Vec<String>,
    /// Which of them to believe.
    pub tls: Tls,
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
    /// Set: JSON batches are posted. Not set: a gRPC stream is opened.
    pub http: Option<HttpConfig>,
}

/// How JSON batches are made up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The most events of one post.
    pub batch_events: usize,
    /// How long an event may wait for others to be posted with.
    pub batch_wait: Duration,
    /// For a post, from connecting to the answer.
    pub timeout: Duration,
    /// Whether connections are told of before their end.
    pub beginnings: bool,
}

impl TransportConfig {
    /// From the agent's configuration. The error says what is wrong with the token or the file of `tls_ca`.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {}", config.auth_token.reveal());
        let mut authorization = AsciiMetadataValue::try_from(bearer)
            .map_err(|_| anyhow::anyhow!("auth_token must be printable ASCII: it travels in a header"))?;
        authorization.set_sensitive(true);
        let http = (config.transport == TransportKind::Http).then_some(HttpConfig {
            batch_events: config.batch_max_events,
            batch_wait: config.batch_max_wait,
            timeout: config.http_timeout,
            beginnings: config.emit_conntrack_new,
        });
        let backoff_least = if http.is_some() { config.http_retry_base } else { Duration::from_millis(500) };
        Ok(Self {
            urls: config.server_urls.clone(),
            tls: Tls::new(config)?,
            authorization,
            router_id: config.router_id.clone(),
            host: host::facts(),
            connect_timeout: config.http_timeout,
            hello_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(30),
            backoff_least,
            backoff_most: Duration::from_secs(30).max(backoff_least),
            http,
        })
    }
}

/// Counters and times since the start.
#[derive(Debug, Default, Clone)]
pub struct TransportStats {
    /// Whether a stream is open; of posts: whether the last one arrived.
    pub connected: bool,
    /// Streams that the server welcomed; of posts: connections.
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
    /// What it was, while nothing works.
    pub failing: Option<String>,
}

/// The road to the server.
pub struct Transport {
    config: TransportConfig,
    road: Road,
}

enum Road {
    Streams(Box<Streams>),
    Posts(Box<Posts>),
}

/// What [`Transport::wait`] waited for.
pub struct Wake(Woken);

enum Woken {
    Streams(stream::Wake),
    Posts(http::Wake),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("config", &self.config)
            .field("stats", self.stats())
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Not connected yet; [`Self::pump`] begins.
    pub fn new(config: TransportConfig) -> Self {
        Self::with_stats(config, TransportStats::default())
    }

    fn with_stats(config: TransportConfig, stats: TransportStats) -> Self {
        let road = match config.http.clone() {
            None => Road::Streams(Box::new(Streams::new(config.clone(), stats))),
            Some(http) => Road::Posts(Box::new(Posts::new(config.clone(), http, stats))),
        };
        Self { config, road }
    }

    /// Goes on with another server, another token, another road. What is on its way is sent again there.
    pub fn reconfigure(&mut self, config: TransportConfig, spool: &mut Spool) {
        if self.config == config {
            return;
        }
        if self.goes_elsewhere(&config) {
            spool.forget_acked();
            spool.begin_epoch(rand::random_range(1..=u64::MAX));
        }
        spool.end_stream();
        *self = Self::with_stats(config, TransportStats { connected: false, ..self.stats().clone() });
    }

    /// Counters.
    pub fn stats(&self) -> &TransportStats {
        match &self.road {
            Road::Streams(streams) => streams.stats(),
            Road::Posts(posts) => posts.stats(),
        }
    }

    /// Does what can be done at once: begins to connect, or sends as much as may be on its way.
    pub fn pump(&mut self, spool: &mut Spool) {
        match &mut self.road {
            Road::Streams(streams) => streams.pump(spool),
            Road::Posts(posts) => posts.pump(spool),
        }
    }

    /// Waits for the server, or for the time to try it again. Cancel safe.
    pub async fn wait(&mut self) -> Wake {
        Wake(match &mut self.road {
            Road::Streams(streams) => Woken::Streams(streams.wait().await),
            Road::Posts(posts) => Woken::Posts(posts.wait().await),
        })
    }

    /// Takes note of what happened. Call [`Self::pump`] afterwards.
    pub fn advance(&mut self, wake: Wake, spool: &mut Spool) {
        match (&mut self.road, wake.0) {
            (Road::Streams(streams), Woken::Streams(wake)) => streams.advance(wake, spool),
            (Road::Posts(posts), Woken::Posts(wake)) => posts.advance(wake, spool),
            // Of a road that was left meanwhile.
            _ => {}
        }
    }

    /// Whether the server may be taking something at this moment.
    pub fn under_way(&self, spool: &Spool) -> bool {
        match &self.road {
            Road::Streams(streams) => streams.is_open() && spool.in_flight(),
            Road::Posts(posts) => posts.is_posting(),
        }
    }

    /// Whether `other` goes another road.
    pub fn goes_elsewhere(&self, other: &TransportConfig) -> bool {
        self.config.http.is_some() != other.http.is_some()
    }

    /// The agent is alive, as of `now_us`. A stream tells it with the spool's own heartbeats; JSON batches
    /// tell it ahead of what waits.
    pub fn beat(&mut self, now_us: i64) {
        if let Road::Posts(posts) = &mut self.road {
            posts.beat(now_us);
        }
    }

    /// The agent is stopping: nothing waits for company any more.
    pub fn hurry(&mut self) {
        if let Road::Posts(posts) = &mut self.road {
            posts.hurry();
        }
    }
}
