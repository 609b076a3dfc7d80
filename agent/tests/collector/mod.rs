//! A collector for tests: keeps the protocol as the .proto files state it, and misbehaves on request.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use netmon_proto::v1::{
    Ack, AgentFrame, Batch, Event, Hello, ServerFrame, Welcome, agent_frame,
    collector_server::{Collector, CollectorServer},
    server_frame,
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

/// The token that the server accepts.
pub(crate) const TOKEN: &str = "s3cret";

/// What the server does with one stream. Without instructions it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Takes the call and never answers.
    Hang,
    /// Says Welcome and never acknowledges.
    HangAfterWelcome,
    /// Commits that many batches, acknowledges none, and breaks the stream.
    LoseAcks(usize),
    /// Says in Welcome that it has nothing, although it has.
    StaleWelcome,
}

/// What a server keeps.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) behaviours: VecDeque<Behaviour>,
    pub(crate) last: HashMap<u64, u64>,
    /// Counted once.
    pub(crate) events: Vec<Event>,
    /// Batches with an explanation of a hole.
    pub(crate) explained: Vec<Batch>,
    pub(crate) hellos: Vec<Hello>,
    /// Batches that came although they were committed already.
    pub(crate) repeated: usize,
    pub(crate) window: u32,
}

/// The service and what it keeps, shared with the test.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestServer {
    kept: Arc<Mutex<Kept>>,
    changed: Arc<Notify>,
}

/// A server that listens, in a runtime of its own, so that its end is the end of all its connections.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Kills it and waits until its port is free again.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        let runtime = self.runtime.take().expect("stops once");
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)));
        ended.await.expect("ended");
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl TestServer {
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no test panics while it holds this")
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.kept().behaviours.push_back(behaviour);
    }

    /// The `time_us` of all events, which the tests use as their names.
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.kept().events.iter().map(|event| event.time_us).collect()
    }

    /// Waits until the server has something.
    pub(crate) async fn until(&self, is_so: impl Fn(&Kept) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(&self.kept()) {
                return;
            }
            changed.await;
        }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(&self, address: SocketAddr) -> Running {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let service = CollectorServer::new(self.clone());
        let serving = runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let server = Server::builder().add_service(service);
            tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
            address
        });
        Running { address: serving.await.expect("serving"), runtime: Some(runtime) }
    }

    fn commit(&self, epoch: u64, batch: Batch) -> Result<Ack, Status> {
        let mut kept = self.kept();
        let last = kept.last.get(&epoch).copied().unwrap_or(0);
        let sequence = batch.sequence;
        if sequence <= last {
            kept.repeated += 1;
            return Ok(Ack { sequence: last, ..Ack::default() });
        }
        if sequence - last > batch.lost_before + 1 {
            return Err(Status::out_of_range(format!("expected {}, got {sequence}", last + 1)));
        }
        kept.last.insert(epoch, sequence);
        let accepted = batch.events.len() as u64;
        kept.events.extend(batch.events.clone());
        if batch.lost_before > 0 {
            kept.explained.push(batch);
        }
        self.changed.notify_waiters();
        Ok(Ack { sequence, accepted, ..Ack::default() })
    }

    async fn serve(
        &self,
        mut frames: Streaming<AgentFrame>,
        out: &mpsc::UnboundedSender<Result<ServerFrame, Status>>,
        behaviour: Option<Behaviour>,
    ) -> Result<(), Status> {
        let first = frames.message().await?.and_then(|frame| frame.frame);
        let Some(agent_frame::Frame::Hello(hello)) = first else {
            return Err(Status::failed_precondition("the first frame must be Hello"));
        };
        let epoch = hello.epoch;
        let last_sequence = {
            let mut kept = self.kept();
            let known = kept.last.get(&epoch).copied();
            kept.last.entry(epoch).or_insert(hello.oldest_sequence - 1);
            kept.hellos.push(hello);
            known.unwrap_or(0)
        };
        self.changed.notify_waiters();
        let last_sequence = if behaviour == Some(Behaviour::StaleWelcome) { 0 } else { last_sequence };
        let window = self.kept().window;
        let welcome = Welcome { last_sequence, max_events_in_flight: window, ..Welcome::default() };
        let send =
            |frame| out.send(Ok(ServerFrame { frame: Some(frame) })).map_err(|_| Status::cancelled("gone"));
        send(server_frame::Frame::Welcome(welcome))?;

        let mut batches = 0;
        while let Some(frame) = frames.message().await? {
            let Some(agent_frame::Frame::Batch(batch)) = frame.frame else {
                return Err(Status::failed_precondition("expected a batch"));
            };
            match behaviour {
                Some(Behaviour::HangAfterWelcome) => continue,
                Some(Behaviour::LoseAcks(most)) => {
                    self.commit(epoch, batch)?;
                    batches += 1;
                    if batches == most {
                        return Err(Status::unavailable("the test breaks this stream"));
                    }
                }
                _ => send(server_frame::Frame::Ack(self.commit(epoch, batch)?))?,
            }
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Collector for TestServer {
    type StreamStream = UnboundedReceiverStream<Result<ServerFrame, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<AgentFrame>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if token != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("no"));
        }
        let behaviour = self.kept().behaviours.pop_front();
        if behaviour == Some(Behaviour::Hang) {
            return std::future::pending().await;
        }
        let (out, receiver) = mpsc::unbounded_channel();
        let server = self.clone();
        tokio::spawn(async move {
            if let Err(status) = server.serve(request.into_inner(), &out, behaviour).await {
                let _ = out.send(Err(status));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }

    async fn report(&self, _: Request<Batch>) -> Result<Response<Ack>, Status> {
        Err(Status::unimplemented("the agent streams"))
    }
}
