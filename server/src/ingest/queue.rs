//! The bounded queue in front of the writer.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};
use tracing::warn;

use super::Health;
use crate::{
    domain::{Micros, RouterId},
    engine::LiveSnapshot,
    store::{StoreError, Writer},
};
use netmon_proto::v1;

/// How many events may wait for the writer. Agents wait on their streams beyond it, with the events in
/// their spools.
pub(super) const QUEUE_EVENTS: usize = 32_768;

/// How many committed events a slow reader of [`Ingest::tail`] may lag behind.
const TAIL_EVENTS: usize = 4096;

/// Why work was not taken.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IngestError {
    /// The batch leaves a hole.
    #[error("sequence {got} leaves a hole: expected {expected}, or lost_before that covers the difference")]
    Hole {
        /// What came.
        got: u64,
        /// What was due.
        expected: u64,
    },
    /// The writer's state was dropped under this stream, or another server took the router over.
    #[error("the stream's state is gone, connect again: nothing that was not acknowledged is stored")]
    Detached,
    /// The server is stopping.
    #[error("the server is stopping, connect again later")]
    Stopping,
    /// The database refuses to write.
    #[error("the database cannot be written now ({0}), try again later")]
    Unavailable(String),
}

/// What an agent says first.
#[derive(Debug)]
pub struct HelloWork {
    /// As it came; the router's name has been checked.
    pub hello: v1::Hello,
    /// Server's clock at its receipt.
    pub received: Micros,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Welcome, IngestError>>,
}

/// The writer's answer to a Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The router's row id.
    pub router: RouterId,
    /// The last committed sequence of the epoch.
    pub last_sequence: u64,
}

/// One batch on its way.
#[derive(Debug)]
pub struct BatchWork {
    /// The router, where a Hello made it known; else it is found by name.
    pub router: Option<RouterId>,
    /// The router's name.
    pub router_name: Arc<str>,
    /// As in the protocol.
    pub epoch: u64,
    /// As in the protocol.
    pub sequence: u64,
    /// As in the protocol.
    pub lost_before: u64,
    /// As in the protocol.
    pub lost_events: u64,
    /// As in the protocol.
    pub lost_cause: i16,
    /// SHA-256 of the router's name and its events, if it came over HTTP.
    pub digest: Option<[u8; 32]>,
    /// The events that passed.
    pub events: Vec<super::Checked>,
    /// How many events passed: one may have been kept in two ways.
    pub accepted: u64,
    /// The events as they came, for those who tail them; empty when nobody does.
    pub originals: Vec<v1::Event>,
    /// Why the others did not.
    pub rejections: Vec<v1::Rejection>,
    /// How many did not.
    pub rejected: u64,
    /// Room in the queue, given back when the batch is done.
    pub permit: OwnedSemaphorePermit,
    /// Who waits for the ack.
    pub reply: Reply,
}

/// A batch is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack {
    /// Its sequence.
    pub sequence: u64,
    /// Events taken.
    pub accepted: u64,
    /// Events refused.
    pub rejected: u64,
    /// Why.
    pub rejections: Vec<v1::Rejection>,
    /// It had been committed before.
    pub duplicate: bool,
}

/// Who waits for an ack.
#[derive(Debug)]
pub enum Reply {
    /// A stream, which may have many batches on the way.
    Stream(mpsc::UnboundedSender<Result<Ack, IngestError>>),
    /// One call.
    Call(oneshot::Sender<Result<Ack, IngestError>>),
}

pub(super) enum Work {
    Hello(HelloWork),
    Batch(Box<BatchWork>),
    Live(oneshot::Sender<Arc<LiveSnapshot>>),
    Chore(Chore),
    Stop,
}

/// Something that is written beside what agents report.
pub(super) type Chore = Box<dyn FnOnce(&mut Writer) + Send>;

/// How many rejections an ack tells of.
pub(super) const MAX_REJECTIONS: usize = 10;

impl Ack {
    /// Covers a later batch of the same stream too.
    pub(super) fn add(&mut self, later: Self) {
        self.sequence = self.sequence.max(later.sequence);
        self.accepted += later.accepted;
        self.rejected += later.rejected;
        self.rejections.extend(later.rejections);
        self.rejections.truncate(MAX_REJECTIONS);
    }
}

impl Reply {
    pub(super) fn is_same_stream(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Stream(a), Self::Stream(b)) if a.same_channel(b))
    }
}

/// The way in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingest {
    pub(super) sender: mpsc::UnboundedSender<Work>,
    pub(super) room: Arc<Semaphore>,
    pub(super) tail: broadcast::Sender<(Arc<str>, v1::Event)>,
    pub(super) health: Arc<Health>,
}

impl Ingest {
    pub(super) fn new(health: Arc<Health>) -> (Self, mpsc::UnboundedReceiver<Work>) {
        // The channel itself is unbounded; the semaphore bounds what is in it.
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(QUEUE_EVENTS));
        let (tail, _) = broadcast::channel(TAIL_EVENTS);
        (Self { sender, room, tail, health }, receiver)
    }

    /// Waits for room for so many events.
    ///
    /// # Errors
    /// The server is stopping.
    pub async fn room_for(&self, events: usize) -> Result<OwnedSemaphorePermit, IngestError> {
        let permits = u32::try_from(events.clamp(1, QUEUE_EVENTS)).unwrap_or(1);
        self.room.clone().acquire_many_owned(permits).await.map_err(|_| IngestError::Stopping)
    }

    /// Waits for room for so many events, but not longer than this; `None`: there was none.
    ///
    /// # Errors
    /// The server is stopping.
    pub async fn room_soon(
        &self,
        events: usize,
        patience: std::time::Duration,
    ) -> Result<Option<OwnedSemaphorePermit>, IngestError> {
        tokio::time::timeout(patience, self.room_for(events)).await.ok().transpose()
    }

    /// How many events wait for the writer.
    #[must_use]
    pub fn queued(&self) -> usize {
        QUEUE_EVENTS.saturating_sub(self.room.available_permits())
    }

    /// Introduces an agent.
    ///
    /// # Errors
    /// The database cannot be asked, or the server is stopping.
    pub async fn hello(&self, hello: v1::Hello, received: Micros) -> Result<Welcome, IngestError> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Hello(HelloWork { hello, received, reply }))?;
        answer.await.map_err(|_| IngestError::Stopping)?
    }

    /// Hands a batch over.
    ///
    /// # Errors
    /// The server is stopping.
    pub fn submit(&self, batch: BatchWork) -> Result<(), IngestError> {
        let router = &*batch.router_name;
        for v1::Rejection { index, reason } in &batch.rejections {
            warn!(router, index, reason, "an event was refused");
        }
        let others = batch.rejected.saturating_sub(batch.rejections.len() as u64);
        if others > 0 {
            warn!(router, others, "more events of the same batch were refused");
        }
        self.send(Work::Batch(Box::new(batch)))
    }

    /// Everything that is open now.
    ///
    /// # Errors
    /// The server is stopping.
    pub async fn live(&self) -> Result<Arc<LiveSnapshot>, IngestError> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Live(reply))?;
        answer.await.map_err(|_| IngestError::Stopping)
    }

    /// Has the writer do something between two transactions of its own, and gives what came of it. Agents
    /// wait meanwhile, so it has to be short: a step, not a job.
    ///
    /// # Errors
    /// What it says itself, or the server is stopping.
    pub async fn chore<T: Send + 'static>(
        &self,
        chore: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopping = || StoreError::Unavailable(IngestError::Stopping.to_string());
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone meanwhile.
        let chore: Chore = Box::new(|writer| drop(reply.send(chore(writer))));
        self.send(Work::Chore(chore)).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Events after their commit.
    #[must_use]
    pub fn tail(&self) -> broadcast::Receiver<(Arc<str>, v1::Event)> {
        self.tail.subscribe()
    }

    /// Whether anybody tails events.
    #[must_use]
    pub fn is_tailed(&self) -> bool {
        self.tail.receiver_count() > 0
    }

    /// How the writer is.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Lets nothing more in; the writer ends when what is queued is done.
    pub fn close(&self) {
        self.room.close();
        // The writer may have ended already.
        drop(self.sender.send(Work::Stop));
    }

    fn send(&self, work: Work) -> Result<(), IngestError> {
        self.sender.send(work).map_err(|_| IngestError::Stopping)
    }
}
