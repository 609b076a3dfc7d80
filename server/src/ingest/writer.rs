//! The one writer: a thread that owns the engine and the write connection.
//!
//! It takes what is queued, without lingering, applies it to the engine, writes one transaction, and only
//! then answers. When a transaction fails for want of room or of a database, it is tried again as it is,
//! and nothing is answered meanwhile: agents keep what has no ack. When it fails for another reason,
//! everything that is not committed is dropped, the streams concerned are ended, and their agents send
//! it again.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use netmon_proto::v1::{self, GapCause};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{Ack, BatchWork, Health, HelloWork, Ingest, IngestError, Reply, Welcome, printable, queue::Work};
use crate::{
    clock::Clock,
    domain::{Changes, GapRow, HttpBatch, MINUTE_US, Micros, RouterId, RouterUpdate, WRITES},
    engine::{Applied, CheckedBatch, Engine, Known},
    store::{AttachedRouter, StoreError, Writer},
};

/// The most events in one transaction. More would not be faster, and would make acks wait.
const COMMIT_EVENTS: usize = 8192;
/// Row ids are reserved in blocks of so many: one small transaction a block.
const ID_BLOCK: i64 = 1_000_000;
const DAY_US: Micros = 24 * 60 * MINUTE_US;
/// A failing transaction is tried again after so long, doubling up to the maximum.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
const FACT_BYTES: usize = 100;
/// How often it looks for flows that are over without a word.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Starts the writer's thread. It ends when every [`Ingest`] is gone or closed.
///
/// # Errors
/// The thread cannot be started.
pub fn start(writer: Writer, clock: Arc<dyn Clock>) -> std::io::Result<(Ingest, JoinHandle<()>)> {
    let health = Arc::new(Health::default());
    let (ingest, receiver) = Ingest::new(health.clone());
    let tail = ingest.tail.clone();
    let room = ingest.room.clone();
    let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
        let mut task = Task {
            writer,
            clock,
            health: health.clone(),
            engine: Engine::default(),
            ids_day: 0,
            tail,
            room,
            looked: Instant::now(),
        };
        // A panic must be seen by /up rather than end in a server that takes nothing and says nothing.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.run(receiver)));
        health.stopped.store(true, Ordering::Relaxed);
        if ended.is_err() {
            error!("the writer has failed: nothing is stored until the server is started again");
        }
    })?;
    Ok((ingest, thread))
}

struct Task {
    writer: Writer,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    engine: Engine,
    /// When its row ids were taken, in days since 1970.
    ids_day: i64,
    tail: tokio::sync::broadcast::Sender<(Arc<str>, v1::Event)>,
    room: Arc<tokio::sync::Semaphore>,
    /// When it last looked for flows that are over without a word.
    looked: Instant,
}

/// Who is answered once the next transaction is committed.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are batches: a box each would only cost")]
enum Waiting {
    /// A batch that was taken, or that was there before.
    Batch { batch: BatchWork, accepted: u64, duplicate: bool },
    /// A Hello: its answer may rest on batches of this very transaction.
    Hello { reply: tokio::sync::oneshot::Sender<Result<Welcome, IngestError>>, welcome: Welcome },
}

impl Task {
    fn run(&mut self, mut receiver: mpsc::UnboundedReceiver<Work>) {
        let mut waiting = Vec::new();
        let mut stopping = false;
        while !stopping && let Some(first) = receiver.blocking_recv() {
            let mut events = 0;
            let mut next = Some(first);
            while let Some(work) = next {
                match work {
                    Work::Hello(hello) => self.hello(hello, &mut waiting),
                    Work::Batch(batch) => {
                        events += batch.events.len();
                        self.batch(*batch, &mut waiting);
                    }
                    // Whoever asked may have given up meanwhile, most likely all who did while the disk was full.
                    Work::Live(reply) if reply.is_closed() => {}
                    Work::Live(reply) => drop(reply.send(Arc::new(self.engine.live(self.clock.now())))),
                    Work::Chore(chore) => chore(&mut self.writer),
                    Work::Stop => stopping = true,
                }
                next = if events < COMMIT_EVENTS { receiver.try_recv().ok() } else { None };
            }
            self.commit(&mut waiting);
        }
    }

    fn hello(&mut self, work: HelloWork, waiting: &mut Vec<Waiting>) {
        match self.welcome(&work) {
            Ok(welcome) => waiting.push(Waiting::Hello { reply: work.reply, welcome }),
            Err(error) => drop(work.reply.send(Err(unavailable(&error)))),
        }
    }

    fn welcome(&mut self, work: &HelloWork) -> Result<Welcome, StoreError> {
        let hello = &work.hello;
        let router = self.attach(&hello.router_id, work.received)?;
        let last_sequence = match self.engine.cursor(router, hello.epoch) {
            Some(last) => last,
            None => {
                let stored = self.writer.cursor(router, hello.epoch)?;
                let last = stored.unwrap_or_else(|| hello.oldest_sequence.saturating_sub(1));
                self.engine.load_cursor(router, hello.epoch, stored.is_some(), last);
                if stored.is_none() && last > 0 {
                    self.engine.gap(GapRow {
                        router,
                        cause: GapCause::ServerState as i16,
                        count: i64::try_from(last).unwrap_or(i64::MAX),
                        from: work.received,
                        to: work.received,
                        detail: "batches that were acknowledged to the agent are not in this database"
                            .to_owned(),
                    });
                }
                last
            }
        };
        let host = hello.host.clone().unwrap_or_default();
        let fact = |text: &str| Some(printable(text, FACT_BYTES));
        self.engine.update_router(RouterUpdate {
            clock_skew_us: (hello.sent_at_us != 0).then(|| hello.sent_at_us.saturating_sub(work.received)),
            agent_version: fact(&hello.agent_version),
            hostname: fact(&host.hostname),
            kernel: fact(&host.kernel),
            os: fact(&host.os),
            architecture: fact(&host.architecture),
            ..RouterUpdate::heard(router, work.received)
        });
        Ok(Welcome { router, last_sequence })
    }

    /// Has the router in memory as it is stored.
    fn attach(&mut self, name: &str, now: Micros) -> Result<RouterId, StoreError> {
        if let Some(router) = self.engine.router_named(name)
            && self.is_as_stored(router)?
        {
            return Ok(router);
        }
        let attached = self.writer.attach_router(name, now)?;
        info!(router = name, open_flows = attached.open.len(), "router attached");
        let AttachedRouter { id, writes, open, ended, holders, answers } = attached;
        self.engine.attach(id, name, Known { open, ended, holders, answers });
        if self.writer.is_shared() {
            self.engine.load_cursor(id, WRITES, writes.is_some(), writes.unwrap_or(0));
        }
        Ok(id)
    }

    /// Whether no other server has written of a router since this one attached it. An agent that went to another
    /// server and came back, or whose batches are spread over several, would else be compared with flows of long ago.
    fn is_as_stored(&mut self, router: RouterId) -> Result<bool, StoreError> {
        // What is about to be written was compared when it was taken, and is again in its transaction.
        Ok(!self.writer.is_shared()
            || self.engine.is_written(router)
            || self.engine.cursor(router, WRITES) == self.writer.cursor(router, WRITES)?)
    }

    fn batch(&mut self, mut batch: BatchWork, waiting: &mut Vec<Waiting>) {
        let now = self.clock.now();
        let mut accepted = batch.accepted;
        let outcome = self.prepare(&batch, now).and_then(|router| {
            let http = batch.digest.map(|digest| HttpBatch {
                router,
                digest,
                time: now,
                accepted,
                rejected: batch.rejected,
            });
            if let Some(digest) = &batch.digest {
                let known = match self.engine.pending_http_batch(router, digest) {
                    Some(pending) => Some((pending.accepted, pending.rejected)),
                    None => self.writer.http_batch(router, digest)?,
                };
                if let Some(known) = known {
                    (accepted, batch.rejected) = known;
                    return Ok(Applied::Duplicate);
                }
            }
            Ok(self.engine.apply(
                CheckedBatch {
                    router,
                    epoch: batch.epoch,
                    sequence: batch.sequence,
                    lost_before: batch.lost_before,
                    lost_events: batch.lost_events,
                    lost_cause: batch.lost_cause,
                    events: std::mem::take(&mut batch.events),
                    refused: batch.rejected,
                    http,
                },
                now,
            ))
        });
        match outcome {
            Ok(Applied::Taken) => {
                waiting.push(Waiting::Batch { batch, accepted, duplicate: false });
            }
            Ok(Applied::Duplicate) => {
                self.health.duplicates.fetch_add(1, Ordering::Relaxed);
                batch.originals.clear();
                // Whoever posts a batch again is told what became of it; a stream counts what is new.
                if batch.digest.is_none() {
                    batch.rejections.clear();
                    (accepted, batch.rejected) = (0, 0);
                }
                waiting.push(Waiting::Batch { batch, accepted, duplicate: true });
            }
            Ok(Applied::Hole { expected }) => {
                let got = batch.sequence;
                warn!(router = &*batch.router_name, got, expected, "a batch leaves a hole: its stream ends");
                answer(batch.reply, Err(IngestError::Hole { got, expected }));
            }
            Ok(Applied::Detached) => answer(batch.reply, Err(IngestError::Detached)),
            Err(error) => answer(batch.reply, Err(unavailable(&error))),
        }
    }

    /// Makes sure of the row ids that a batch may need, and of the router of a batch without a stream.
    fn prepare(&mut self, batch: &BatchWork, now: Micros) -> Result<RouterId, StoreError> {
        let needed = i64::try_from(batch.events.len()).unwrap_or(i64::MAX);
        let day = now.div_euclid(DAY_US);
        if self.engine.ids_left() < needed || (day != self.ids_day && self.writer.ids_tell_the_day()) {
            self.writer.begin_day(now)?;
            self.ids_day = day;
            let first = self.writer.reserve_flow_ids(ID_BLOCK)?;
            self.engine.give_ids(first, ID_BLOCK);
        }
        let router = match batch.router {
            Some(router) => router,
            None => self.attach(&batch.router_name, now)?,
        };
        let unknown = batch.epoch != 0
            && batch.sequence != 0
            && batch.router.is_none()
            && self.engine.cursor(router, batch.epoch).is_none();
        if unknown {
            let stored = self.writer.cursor(router, batch.epoch)?;
            let last = stored.unwrap_or(0);
            self.engine.load_cursor(router, batch.epoch, stored.is_some(), last);
        }
        Ok(router)
    }

    /// Ends what is over of routers that say nothing any more.
    fn end_gone(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let now = self.clock.now();
        for (router, flows) in self.engine.gone(now) {
            // Another server may have heard of them; then they are its own.
            if matches!(self.is_as_stored(router), Ok(true)) {
                self.engine.end_gone(router, flows, now);
            }
        }
    }

    fn commit(&mut self, waiting: &mut Vec<Waiting>) {
        self.end_gone();
        let changes = self.engine.take_changes();
        self.health.clamped.store(self.engine.clamped(), Ordering::Relaxed);
        if !changes.is_empty() && !self.write(&changes) {
            self.engine.forget_all();
            for waiting in waiting.drain(..) {
                match waiting {
                    Waiting::Batch { batch, .. } => answer(batch.reply, Err(IngestError::Detached)),
                    Waiting::Hello { reply, .. } => drop(reply.send(Err(IngestError::Detached))),
                }
            }
            return;
        }
        self.acknowledge(waiting);
    }

    /// Writes until it is written. False: it cannot be, and must be dropped.
    fn write(&mut self, changes: &Changes) -> bool {
        let mut pause = RETRY_FIRST;
        let mut tries = 0;
        loop {
            let began = Instant::now();
            let error = match self.writer.commit(changes) {
                Ok(()) => {
                    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.health.commits.fetch_add(1, Ordering::Relaxed);
                    self.health.commit_us.fetch_add(took, Ordering::Relaxed);
                    if tries > 0 {
                        info!(tries, "the database can be written again");
                        self.health.set_failing(None);
                    }
                    return true;
                }
                Err(error) => error,
            };
            tries += 1;
            self.health.failures.fetch_add(1, Ordering::Relaxed);
            if !error.is_temporary() {
                error!(%error, "a transaction was given up: its agents will send it again");
                self.health.set_failing(None);
                return false;
            }
            if tries == 1 {
                error!(%error, "the database cannot be written: nothing is acknowledged until it can");
            }
            self.health.set_failing(Some(error.to_string()));
            if self.room.is_closed() {
                // The server is stopping: agents keep what has no ack.
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Answers everything that is committed: one ack per stream, for its last batch.
    fn acknowledge(&self, waiting: &mut Vec<Waiting>) {
        let mut acks: Vec<(Reply, Ack)> = Vec::new();
        for waiting in waiting.drain(..) {
            let (batch, accepted, duplicate) = match waiting {
                Waiting::Batch { batch, accepted, duplicate } => (batch, accepted, duplicate),
                Waiting::Hello { reply, welcome } => {
                    drop(reply.send(Ok(welcome)));
                    continue;
                }
            };
            if !duplicate {
                self.health.events.fetch_add(accepted, Ordering::Relaxed);
                self.health.rejected.fetch_add(batch.rejected, Ordering::Relaxed);
            }
            for event in batch.originals {
                // Nobody may be listening any more.
                drop(self.tail.send((batch.router_name.clone(), event)));
            }
            let ack = Ack {
                sequence: batch.sequence,
                accepted,
                rejected: batch.rejected,
                rejections: batch.rejections,
                duplicate,
            };
            match acks.iter_mut().find(|(reply, _)| reply.is_same_stream(&batch.reply)) {
                Some((_, known)) => known.add(ack),
                None => acks.push((batch.reply, ack)),
            }
        }
        for (reply, ack) in acks {
            answer(reply, Ok(ack));
        }
    }
}

fn answer(reply: Reply, answer: Result<Ack, IngestError>) {
    // Whoever waited may have gone; its agent asks again on the next stream.
    match reply {
        Reply::Stream(sender) => drop(sender.send(answer)),
        Reply::Call(sender) => drop(sender.send(answer)),
    }
}

fn unavailable(error: &StoreError) -> IngestError {
    IngestError::Unavailable(error.to_string())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
