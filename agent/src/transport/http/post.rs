//! One post over HTTP/1.1: connect where there is no connection, send, and read the answer, all within one
//! time limit.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::transport::{
    connection::{Objection, Spoken},
    failure::{Failure, innermost},
    tls::Tls,
};

const PATH: &str = "/api/v1/netmon/events/batch";
const AGENT: &str = concat!("netmon-agent/", env!("CARGO_PKG_VERSION"));
/// An answer is a line or two; of more than this the rest is not read.
const ANSWER_BYTES: usize = 64 * 1024;

/// A connection that may carry another post. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    objection: Objection,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Everything one post needs; it owns it, so that it can be polled from anywhere.
pub(super) struct Post {
    /// `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    pub(super) url: String,
    pub(super) tls: Tls,
    /// One that was used before.
    pub(super) connection: Option<Connection>,
    pub(super) authorization: HeaderValue,
    pub(super) body: Bytes,
    pub(super) limit: Duration,
}

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// When it wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    pub(super) counts: Counts,
    /// Good for another post.
    pub(super) connection: Option<Connection>,
    /// It was made for this post.
    pub(super) connected: bool,
}

/// The body of a good answer, as far as it is one.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Counts {
    accepted: Option<u64>,
    rejected: Option<u64>,
}

impl Counts {
    /// What became of `sent` events: taken, and refused. A server that does not tell has taken them.
    pub(super) fn of(&self, sent: u64) -> (u64, u64) {
        let rejected = self.rejected.unwrap_or(0).min(sent);
        (self.accepted.unwrap_or(sent).min(sent - rejected), rejected)
    }
}

impl Post {
    pub(super) async fn run(mut self) -> Result<Answer, Failure> {
        let limit = Instant::now() + self.limit;
        let mut known = self.connection.take().filter(|connection| !connection.sender.is_closed());
        loop {
            let connected = known.is_none();
            let mut connection = match known.take() {
                Some(connection) => connection,
                None => timeout_at(limit, connect(&self.url, &self.tls))
                    .await
                    .map_err(|_| Failure::ConnectTimeout(self.limit))??,
            };
            let sending = self.send(&mut connection);
            match timeout_at(limit, sending).await.map_err(|_| Failure::AnswerTimeout(self.limit))? {
                Ok(response) => return Ok(receive(response, connection, connected, limit).await),
                // The server had closed the old connection before this post began.
                Err(error) if !connected && error.is_canceled() => {}
                Err(error) => {
                    let broke = || Failure::Broke(innermost(&error));
                    return Err(connection.objection.get().map_or_else(broke, Failure::OtherProtocol));
                }
            }
        }
    }

    async fn send(&self, connection: &mut Connection) -> hyper::Result<Response<Incoming>> {
        let uri: Uri = self.url.parse().unwrap_or_default();
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::post(PATH).body(Full::new(self.body.clone())).unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(HOST, host);
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.authorization.clone());
        connection.sender.ready().await?;
        connection.sender.send_request(request).await
    }
}

async fn connect(url: &str, tls: &Tls) -> Result<Connection, Failure> {
    let stream = tls.connect(url, Spoken::Http1).await?;
    let objection = stream.objection();
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| Failure::Connect(innermost(&error)))?;
    // What breaks the connection shows at the post.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok(Connection { sender, driver, objection })
}

/// The status is the answer; where the rest of it does not come, the connection is given up, no more.
async fn receive(
    response: Response<Incoming>,
    connection: Connection,
    connected: bool,
    limit: Instant,
) -> Answer {
    let status = response.status();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect();
    let (counts, connection) = match timeout_at(limit, body).await {
        Ok(Ok(body)) => {
            let counts = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            (counts, Some(connection).filter(|connection| !connection.sender.is_closed()))
        }
        _ => (Counts::default(), None),
    };
    Answer { status, retry_after, counts, connection, connected }
}
