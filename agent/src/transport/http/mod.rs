//! Posts the spool as JSON batches, as the original agent did: `POST /api/v1/netmon/events/batch`, one at a
//! time, and 2xx means delivered.
//!
//! The old protocol knows no sequence. What makes a repeated batch recognisable is that its events are the
//! same bytes: a post that failed is made again with the same events and a new `sent_at`, in this run and,
//! by the journal, in the next. A batch that the server refuses for good is halved until the event is found
//! that it does not like; that one is dropped, and counted as a gap.

mod journal;
mod json;
mod parcel;
mod post;
mod sending;
mod words;

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use hyper::{StatusCode, header::HeaderValue};
use tokio::time::{Sleep, sleep, sleep_until};
use tracing::{info, warn};

use super::{HttpConfig, TransportConfig, TransportStats, failure::Failure, route::Route};
use crate::{host, spool::Spool};
use post::{Answer, Connection, Post};
use sending::Sending;

pub(crate) use journal::take_over;
pub(crate) use json::is_posted;

type Posting = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

enum State {
    Idle,
    Waiting(Pin<Box<Sleep>>),
    Posting { what: What, post: Posting },
}

/// What a post carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Heartbeat,
    /// So many events of the parcel's front.
    Front(usize),
}

/// What [`Posts::wait`] waited for.
pub(super) struct Wake(Happened);

enum Happened {
    /// The parcel has waited long enough.
    Due,
    TimeToTry,
    Answered {
        what: What,
        result: Box<Result<Answer, Failure>>,
    },
}

/// The posts to the server, one at a time.
pub(super) struct Posts {
    config: TransportConfig,
    http: HttpConfig,
    route: Route,
    state: State,
    connection: Option<Connection>,
    /// What is being sent; begun at the first pump.
    sending: Option<Sending>,
    /// A sign of life is owed, as of then.
    heartbeat_us: Option<i64>,
    /// The last answer told of refused events: it was said.
    rejecting: bool,
    /// Nothing waits for company.
    hurry: bool,
}

impl Posts {
    pub(super) fn new(config: TransportConfig, http: HttpConfig, stats: TransportStats) -> Self {
        Self {
            route: Route::new(&config, stats),
            config,
            http,
            state: State::Idle,
            connection: None,
            sending: None,
            heartbeat_us: None,
            rejecting: false,
            hurry: false,
        }
    }

    pub(super) fn stats(&self) -> &TransportStats {
        &self.route.stats
    }

    pub(super) fn beat(&mut self, now_us: i64) {
        self.heartbeat_us = Some(now_us);
    }

    pub(super) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Whether events are being posted.
    pub(super) fn is_posting(&self) -> bool {
        matches!(self.state, State::Posting { what: What::Front(_), .. })
    }

    /// Begins a post, where there is something to post and nothing on its way.
    pub(super) fn pump(&mut self, spool: &mut Spool) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        if let Some(now_us) = self.heartbeat_us {
            self.post(What::Heartbeat, &json::heartbeat(&self.config.router_id, now_us));
            return;
        }
        loop {
            let sending = self.sending.get_or_insert_with(|| Sending::begin(spool));
            if sending.fill(spool, &self.http) {
                break;
            }
            if !sending.finish(spool) {
                return;
            }
            self.sending = None;
        }
        if let Some(sending) = &mut self.sending
            && (self.hurry || sending.is_due(spool, &self.http))
        {
            let (count, events) = sending.seal();
            self.post(What::Front(count), &events);
        }
    }

    /// The events of a batch as they are, in an envelope of this moment.
    fn post(&mut self, what: What, events: &[u8]) {
        let sent_at = words::Time(host::now_us());
        let router_id = &self.config.router_id;
        // A router's name needs no escaping (see `router_id` of the configuration).
        let head = format!("{{\"router_id\":\"{router_id}\",\"sent_at\":\"{sent_at}\",\"events\":[");
        let body = [head.as_bytes(), events, b"]}"].concat();
        // The token is printable ASCII (see `token` of the configuration).
        let authorization = HeaderValue::from_bytes(self.config.authorization.as_encoded_bytes());
        let mut authorization = authorization.unwrap_or_else(|_| HeaderValue::from_static(""));
        authorization.set_sensitive(true);
        let post = Post {
            url: self.route.url().to_owned(),
            tls: self.config.tls.clone(),
            connection: self.connection.take(),
            authorization,
            body: Bytes::from(body),
            limit: self.http.timeout,
        };
        self.route.stats.batches_sent += 1;
        self.state = State::Posting { what, post: Box::pin(post.run()) };
    }

    /// Waits for the answer, for the time to try again, or for the parcel's time. Cancel safe.
    pub(super) async fn wait(&mut self) -> Wake {
        Wake(match &mut self.state {
            State::Idle => match self.sending.as_ref().and_then(Sending::due) {
                Some(due) => {
                    sleep_until(due).await;
                    Happened::Due
                }
                None => std::future::pending().await,
            },
            State::Waiting(sleep) => {
                sleep.as_mut().await;
                Happened::TimeToTry
            }
            State::Posting { what, post } => {
                Happened::Answered { what: *what, result: Box::new(post.as_mut().await) }
            }
        })
    }

    /// Takes note of what happened.
    pub(super) fn advance(&mut self, wake: Wake, spool: &mut Spool) {
        match wake.0 {
            // The next pump looks at the clock.
            Happened::Due => {}
            Happened::TimeToTry => self.state = State::Idle,
            Happened::Answered { what, result } => {
                self.state = State::Idle;
                match *result {
                    Ok(answer) => self.answered(what, answer, spool),
                    Err(failure) => self.fail(&failure, None),
                }
            }
        }
    }

    fn answered(&mut self, what: What, answer: Answer, spool: &mut Spool) {
        let Answer { status, retry_after, counts, connection, connected } = answer;
        self.connection = connection;
        self.route.stats.streams += u64::from(connected);
        let failure = match status {
            _ if status.is_success() => {
                let took = what.events() as u64;
                let (accepted, rejected) = counts.of(took);
                self.took(rejected);
                self.route.stats.accepted += accepted;
                match what {
                    What::Heartbeat => self.heartbeat_us = None,
                    What::Front(count) => {
                        if let Some(sending) = &mut self.sending {
                            sending.delivered(count, spool);
                        }
                    }
                }
                return;
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                let failure = Failure::Refused(status.as_u16());
                if self.refused(what, status, spool) {
                    *self.route.stats.failures.entry(failure.code()).or_default() += 1;
                    return;
                }
                failure
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Token,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Failure::NoSuchPath(status.as_u16()),
            _ => Failure::Answer(status.as_u16()),
        };
        self.fail(&failure, retry_after);
    }

    fn took(&mut self, rejected: u64) {
        let stats = &mut self.route.stats;
        if !std::mem::replace(&mut stats.connected, true) {
            info!(url = self.route.url(), "connected: batches are posted");
        }
        self.route.works();
        self.route.stats.failing = None;
        self.route.stats.acks += 1;
        self.route.stats.rejected += rejected;
        if rejected > 0 && !self.rejecting {
            warn!(rejected, "the server took a batch, but refused events of it");
        }
        self.rejecting = rejected > 0;
    }

    /// True: go on at once.
    fn refused(&mut self, what: What, status: StatusCode, spool: &mut Spool) -> bool {
        match what {
            What::Heartbeat => {
                // The next one may fare better, and what waits behind it, too.
                self.heartbeat_us = None;
                false
            }
            What::Front(count) => {
                let too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
                let Some(sending) = &mut self.sending else { return true };
                match sending.refused(count, too_large, spool) {
                    sending::Next::Later => false,
                    sending::Next::AtOnce => true,
                    sending::Next::Dropped => {
                        warn!(
                            status = status.as_u16(),
                            "the server refused an event for good; it is dropped"
                        );
                        self.route.stats.rejected += 1;
                        true
                    }
                }
            }
        }
    }

    fn fail(&mut self, failure: &Failure, retry_after: Option<Duration>) {
        self.connection = None;
        self.state = match self.route.failed(failure) {
            None => State::Idle,
            Some(delay) => {
                let wished = retry_after.unwrap_or_default().min(self.config.backoff_most);
                State::Waiting(Box::pin(sleep(delay.max(wished))))
            }
        };
    }
}

impl What {
    fn events(self) -> usize {
        match self {
            Self::Heartbeat => 1,
            Self::Front(count) => count,
        }
    }
}
