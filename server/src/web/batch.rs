//! `POST /api/v1/netmon/events/batch`: what the original agent speaks.
//!
//! The agent looks at the status alone. 200 means committed, now or before; anything else makes it keep the batch and
//! post it again. So nothing is answered before the commit, and what cannot be taken now is refused before it is looked at.
//! What becomes of which event stands in the README.

use std::{io::Read as _, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::debug;
use utoipa::ToSchema;

use super::App;
use crate::ingest::{Ack, BatchWork, IngestError, JsonBatch, Reply, read_batch};

/// The largest body, packed or unpacked.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// How much of a larger one is read for its sender's sake.
const MAX_DROPPED_BYTES: usize = 4 * MAX_BODY_BYTES;
/// How many bodies are in memory at once.
pub(super) const BODIES: usize = 8;
/// How long a request waits for its turn, and then for room in front of the writer. The agent waits 5 s in all.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What a refused agent is told to wait.
const RETRY_AFTER_S: &str = "2";
/// From this size on a body is read on a thread of its own.
const LARGE_BODY_BYTES: usize = 128 * 1024;

/// A batch as the description shows it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "batches are read by `read_batch`, which takes one event at a time")]
struct EventBatch {
    /// 1 to 64 of A-Z a-z 0-9 . _ : -
    #[schema(example = "router-01")]
    router_id: String,
    /// RFC 3339. Not part of what a batch is known by when it comes again.
    #[schema(format = DateTime)]
    sent_at: Option<String>,
    events: Vec<BatchEvent>,
}

/// An event of a batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct BatchEvent {
    /// `flow`, `firewall_drop`, `dns_response`, `dns_bucket`, `host_identity` or `heartbeat`; others are kept as they
    /// are.
    #[schema(example = "heartbeat")]
    r#type: String,
    /// RFC 3339, up to nanoseconds.
    #[schema(format = DateTime)]
    ts: String,
    /// What the type has to tell.
    data: std::collections::BTreeMap<String, serde_json::Value>,
}

/// The answer to a batch that is committed.
#[derive(Serialize, ToSchema)]
pub(super) struct Taken {
    accepted: u64,
    rejected: u64,
    /// Why, for the first ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Rejected>,
    /// It was committed before; the figures are those of then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

#[derive(Serialize, ToSchema)]
struct Rejected {
    /// The event's place in the batch, from 0.
    index: u32,
    reason: String,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("expected `Authorization: Bearer TOKEN` with this server's token")]
    Token,
    #[error("the body is larger than 8 MiB, expected smaller batches")]
    TooLarge,
    #[error("the body is packed with something else than gzip")]
    Encoding,
    #[error("the body did not come whole within 30 s")]
    Slow,
    #[error("{0}")]
    Bad(String),
    #[error("{0}, try again later")]
    Later(String),
}

impl IntoResponse for NotTaken {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Later(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = (status, Json(serde_json::json!({ "error": self.to_string() }))).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Token => {
                headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            Self::Later(_) => {
                headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER_S));
            }
            _ => {}
        }
        response
    }
}

impl From<IngestError> for NotTaken {
    fn from(error: IngestError) -> Self {
        Self::Later(error.to_string())
    }
}

/// Takes a batch of events in the original agent's words.
#[utoipa::path(
    post, path = "/api/v1/netmon/events/batch", operation_id = "post_batch", tag = "agents",
    request_body = EventBatch,
    responses(
        (status = 200, description = "What could be taken is committed, now or before", body = Taken),
        (status = 400, description = "The body is no batch"),
        (status = 408, description = "The body did not come whole within 30 s"),
        (status = 413, description = "The body is larger than 8 MiB"),
        (status = 415, description = "The body is packed with something else than gzip"),
        (status = 503, description = "It cannot be taken now; `Retry-After` says how many seconds to wait"),
    ),
)]
pub(super) async fn post(State(app): State<App>, request: Request) -> Response {
    match take(&app, request).await {
        Ok(taken) => Json(taken).into_response(),
        Err(refusal) => {
            debug!(%refusal, "a batch was not taken");
            refusal.into_response()
        }
    }
}

async fn take(app: &App, request: Request) -> Result<Taken, NotTaken> {
    let (parts, body) = request.into_parts();
    let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !app.token.accepts_header(given) {
        return Err(NotTaken::Token);
    }
    if let Some(why) = app.ingest.health().failing() {
        drop_body(body).await;
        return Err(NotTaken::Later(why));
    }
    let turn = tokio::time::timeout(PATIENCE, app.bodies.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        drop_body(body).await;
        return Err(NotTaken::Later("too many batches come at once".to_owned()));
    };
    let packed = is_gzip(&parts.headers)?;
    let body = tokio::time::timeout(BODY_TIMEOUT, whole(&parts.headers, body))
        .await
        .map_err(|_| NotTaken::Slow)??;

    let received = app.clock.now();
    let keep_originals = app.ingest.is_tailed();
    let read = move || {
        let body = if packed { unpacked(&body)? } else { body };
        read_batch(&body, received, keep_originals).map_err(|error| NotTaken::Bad(error.to_string()))
    };
    let batch = if packed || body_is_large(&parts.headers) {
        tokio::task::spawn_blocking(read).await.map_err(|error| NotTaken::Bad(error.to_string()))??
    } else {
        read()?
    };
    let Some(permit) = app.ingest.room_soon(batch.events.len(), PATIENCE).await? else {
        return Err(NotTaken::Later("the writer is behind".to_owned()));
    };
    let (reply, answer) = oneshot::channel();
    app.ingest.submit(work(batch, permit, Reply::Call(reply)))?;
    drop(turn);
    let ack = answer.await.map_err(|_| IngestError::Stopping)??;
    Ok(taken(ack))
}

fn work(batch: JsonBatch, permit: tokio::sync::OwnedSemaphorePermit, reply: Reply) -> BatchWork {
    let JsonBatch { router, digest, events, accepted, originals, rejections, rejected } = batch;
    BatchWork {
        router: None,
        router_name: Arc::from(router),
        epoch: 0,
        sequence: 0,
        lost_before: 0,
        lost_events: 0,
        lost_cause: 0,
        digest: Some(digest),
        events,
        accepted,
        originals,
        rejections,
        rejected,
        permit,
        reply,
    }
}

fn taken(ack: Ack) -> Taken {
    Taken {
        accepted: ack.accepted,
        rejected: ack.rejected,
        errors: ack
            .rejections
            .into_iter()
            .map(|rejection| Rejected { index: rejection.index, reason: rejection.reason })
            .collect(),
        duplicate: ack.duplicate,
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, NotTaken> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"" | b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => Err(NotTaken::Encoding),
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn body_is_large(headers: &HeaderMap) -> bool {
    announced_bytes(headers).is_none_or(|bytes| bytes >= LARGE_BODY_BYTES)
}

/// The body as it comes. One that is too large is read and dropped up to a point, so that its sender is still there to
/// hear why.
async fn whole(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, NotTaken> {
    let announced = announced_bytes(headers).unwrap_or(0);
    let mut bytes = Vec::with_capacity(if announced > MAX_BODY_BYTES { 0 } else { announced });
    let mut length = 0_usize;
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| NotTaken::Bad(error.to_string()))?;
        length += part.len();
        if announced.max(length) <= MAX_BODY_BYTES {
            bytes.extend_from_slice(&part);
        } else if length > MAX_DROPPED_BYTES {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if announced.max(length) > MAX_BODY_BYTES { Err(NotTaken::TooLarge) } else { Ok(bytes) }
}

/// Reads what comes at once of a body that is not wanted: a sender that is cut off while it writes does not hear why.
async fn drop_body(body: Body) {
    let mut length = 0;
    let parts = body.into_data_stream().take_while(move |part| {
        length += part.as_ref().map_or(MAX_DROPPED_BYTES, |part| part.len());
        std::future::ready(length < MAX_DROPPED_BYTES)
    });
    // One that is slower than that is cut off all the same.
    tokio::time::timeout(PATIENCE, parts.for_each(|_| std::future::ready(()))).await.ok();
}

/// What is in a gzip, as far as it is not too large.
fn unpacked(packed: &[u8]) -> Result<Vec<u8>, NotTaken> {
    let mut bytes = Vec::new();
    let limit = MAX_BODY_BYTES as u64 + 1;
    flate2::read::MultiGzDecoder::new(packed)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| NotTaken::Bad(format!("the body is not gzip: {error}")))?;
    if bytes.len() > MAX_BODY_BYTES { Err(NotTaken::TooLarge) } else { Ok(bytes) }
}
