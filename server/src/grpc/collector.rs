//! `netmon.v1.Collector`: agents report.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use netmon_proto::v1::{self, agent_frame::Frame, collector_server::Collector, server_frame};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};

use crate::{
    clock::Clock,
    ingest::{Ack, BatchWork, Ingest, IngestError, Reply, check_events, is_router_name},
};

/// How long an agent may take to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How many events an agent may have on the way without an ack.
const MAX_EVENTS_IN_FLIGHT: u32 = 16_384;

/// See the module.
pub(super) struct CollectorService {
    ingest: Ingest,
    clock: Arc<dyn Clock>,
}

impl CollectorService {
    pub(super) fn new(ingest: Ingest, clock: Arc<dyn Clock>) -> Self {
        Self { ingest, clock }
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<v1::ServerFrame, Status>> + Send>>;

#[tonic::async_trait]
impl Collector for CollectorService {
    type StreamStream = Frames;

    async fn stream(&self, request: Request<Streaming<v1::AgentFrame>>) -> Result<Response<Frames>, Status> {
        let mut frames = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, frames.message())
            .await
            .map_err(|_| Status::deadline_exceeded("expected Hello within 10 s"))??;
        let Some(v1::AgentFrame { frame: Some(Frame::Hello(hello)) }) = first else {
            return Err(Status::failed_precondition("expected Hello as the first frame"));
        };
        if !is_router_name(&hello.router_id) {
            return Err(bad_router_name());
        }
        if hello.epoch == 0 {
            return Err(Status::invalid_argument("hello.epoch is 0, expected a random number"));
        }
        let (router_name, epoch): (Arc<str>, u64) = (hello.router_id.as_str().into(), hello.epoch);
        let welcome = self.ingest.hello(hello, self.clock.now()).await.map_err(status)?;
        info!(router = &*router_name, last_sequence = welcome.last_sequence, "agent connected");

        let (acks, committed) = mpsc::unbounded_channel();
        let (last_word, ended) = oneshot::channel();
        let stream = AgentStream {
            ingest: self.ingest.clone(),
            clock: self.clock.clone(),
            router: welcome.router,
            router_name,
            epoch,
            acks,
        };
        tokio::spawn(stream.read(frames, last_word));

        let hello_back = server_frame::Frame::Welcome(v1::Welcome {
            last_sequence: welcome.last_sequence,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            server_time_us: self.clock.now(),
            max_events_in_flight: MAX_EVENTS_IN_FLIGHT,
        });
        let acks = UnboundedReceiverStream::new(committed).map(|ack| ack.map(ack_frame).map_err(status));
        // The acks end when the reader is gone and the last batch is answered; then its last word, if it
        // had one, ends the stream.
        let last = futures_util::stream::once(ended).filter_map(|word| word.ok().map(Err));
        let all = tokio_stream::once(Ok(v1::ServerFrame { frame: Some(hello_back) })).chain(acks).chain(last);
        Ok(Response::new(Box::pin(all)))
    }

    async fn report(&self, request: Request<v1::Batch>) -> Result<Response<v1::Ack>, Status> {
        let batch = request.into_inner();
        if !is_router_name(&batch.router_id) {
            return Err(bad_router_name());
        }
        if (batch.epoch == 0) != (batch.sequence == 0) {
            return Err(Status::invalid_argument("expected epoch and sequence, or neither"));
        }
        let (reply, answer) = oneshot::channel();
        let name: Arc<str> = batch.router_id.as_str().into();
        let epoch = batch.epoch;
        submit(&self.ingest, &*self.clock, None, name, epoch, batch, Reply::Call(reply)).await?;
        let ack = answer.await.map_err(|_| status(IngestError::Stopping))?.map_err(status)?;
        Ok(Response::new(ack_message(ack)))
    }
}

/// The reading half of one agent's stream.
struct AgentStream {
    ingest: Ingest,
    clock: Arc<dyn Clock>,
    router: crate::domain::RouterId,
    router_name: Arc<str>,
    epoch: u64,
    acks: mpsc::UnboundedSender<Result<Ack, IngestError>>,
}

impl AgentStream {
    async fn read(self, mut frames: Streaming<v1::AgentFrame>, last_word: oneshot::Sender<Status>) {
        let ended = loop {
            let batch = match frames.message().await {
                Ok(Some(v1::AgentFrame { frame: Some(Frame::Batch(batch)) })) => batch,
                Ok(Some(_)) => break Some(Status::failed_precondition("expected a Batch after Hello")),
                Ok(None) => break None,
                Err(error) => break Some(error),
            };
            if batch.sequence == 0 {
                break Some(Status::invalid_argument("batch.sequence is 0, expected a number from 1"));
            }
            let reply = Reply::Stream(self.acks.clone());
            let name = self.router_name.clone();
            let router = Some(self.router);
            if let Err(error) =
                submit(&self.ingest, &*self.clock, router, name, self.epoch, batch, reply).await
            {
                break Some(error);
            }
            if self.acks.is_closed() {
                break None;
            }
        };
        debug!(router = &*self.router_name, ?ended, "agent's stream ended");
        if let Some(status) = ended {
            // The agent may have gone already.
            drop(last_word.send(status));
        }
    }
}

/// Checks a batch, waits for room, and hands it to the writer.
async fn submit(
    ingest: &Ingest,
    clock: &dyn Clock,
    router: Option<crate::domain::RouterId>,
    router_name: Arc<str>,
    epoch: u64,
    batch: v1::Batch,
    reply: Reply,
) -> Result<(), Status> {
    if batch.events.len() > netmon_proto::MAX_BATCH_EVENTS {
        return Err(Status::invalid_argument(format!(
            "the batch has {} events, expected at most {}",
            batch.events.len(),
            netmon_proto::MAX_BATCH_EVENTS
        )));
    }
    let permit = ingest.room_for(batch.events.len()).await.map_err(status)?;
    let lost_cause = match v1::GapCause::try_from(batch.lost_cause) {
        Ok(v1::GapCause::Unspecified) | Err(_) => v1::GapCause::SpoolCorrupt,
        Ok(cause) => cause,
    };
    let checked = check_events(batch.events, clock.now(), ingest.is_tailed());
    ingest
        .submit(BatchWork {
            router,
            router_name,
            epoch,
            sequence: batch.sequence,
            lost_before: batch.lost_before,
            lost_events: batch.lost_events,
            lost_cause: lost_cause as i16,
            digest: None,
            accepted: checked.events.len() as u64,
            events: checked.events,
            originals: checked.originals,
            rejections: checked.rejections,
            rejected: checked.rejected,
            permit,
            reply,
        })
        .map_err(status)
}

fn ack_frame(ack: Ack) -> v1::ServerFrame {
    v1::ServerFrame { frame: Some(server_frame::Frame::Ack(ack_message(ack))) }
}

fn ack_message(ack: Ack) -> v1::Ack {
    v1::Ack {
        sequence: ack.sequence,
        accepted: ack.accepted,
        rejected: ack.rejected,
        rejections: ack.rejections,
    }
}

fn bad_router_name() -> Status {
    Status::invalid_argument("router_id: expected 1 to 64 of A-Z a-z 0-9 . _ : -")
}

fn status(error: IngestError) -> Status {
    let text = error.to_string();
    match error {
        IngestError::Hole { .. } => Status::out_of_range(text),
        IngestError::Detached => Status::aborted(text),
        IngestError::Stopping | IngestError::Unavailable(_) => Status::unavailable(text),
    }
}
