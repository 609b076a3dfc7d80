//! An agent made of nothing but the protocol.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netmon_proto::v1::{
    self, agent_frame::Frame, collector_client::CollectorClient, console_client::ConsoleClient, event::Kind,
    server_frame,
};
use tokio::runtime::Runtime;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::server::{Server, TOKEN};

pub(crate) struct Agent {
    runtime: Runtime,
    url: String,
    token: String,
}

/// What a stream answered.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) welcome: v1::Welcome,
    pub(crate) last: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
}

impl Agent {
    pub(crate) fn new(server: &Server) -> Self {
        Self::with_token(server, TOKEN)
    }

    pub(crate) fn with_token(server: &Server, token: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, url: server.url.clone(), token: token.to_owned() }
    }

    /// One call of Report, without a sequence.
    pub(crate) fn report(&self, router: &str, events: Vec<v1::Event>) -> Result<v1::Ack, Status> {
        let batch = v1::Batch { router_id: router.to_owned(), events, ..v1::Batch::default() };
        self.runtime
            .block_on(async { Ok(self.client().await.report(self.authorized(batch)).await?.into_inner()) })
    }

    /// Sends frames, closes its side, and reads to the end.
    pub(crate) fn stream(&self, frames: Vec<v1::AgentFrame>) -> Result<Answers, Status> {
        let all = async {
            let request = self.authorized(tokio_stream::iter(frames));
            let mut stream = self.client().await.stream(request).await?.into_inner();
            let mut answers = Answers { welcome: v1::Welcome::default(), last: 0, accepted: 0, rejected: 0 };
            while let Some(frame) = stream.message().await? {
                match frame.frame {
                    Some(server_frame::Frame::Welcome(welcome)) => answers.welcome = welcome,
                    Some(server_frame::Frame::Ack(ack)) => {
                        answers.last = answers.last.max(ack.sequence);
                        answers.accepted += ack.accepted;
                        answers.rejected += ack.rejected;
                    }
                    None => panic!("a frame with nothing in it"),
                }
            }
            Ok(answers)
        };
        self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(30), all).await.expect("the stream ends")
        })
    }

    /// Calls the console, and gives what it answers.
    pub(crate) fn console<R, F>(&self, call: impl FnOnce(ConsoleClient<Channel>) -> F) -> Result<R, Status>
    where
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        self.runtime.block_on(async {
            let client = ConsoleClient::connect(self.url.clone()).await.unwrap();
            Ok(call(client).await?.into_inner())
        })
    }

    /// What a stream of the console says next.
    pub(crate) fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
        self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(30), stream.message()).await.expect("it says something")
        })
    }

    /// Runs a call of some other service.
    pub(crate) fn call<T, F: Future<Output = T>>(&self, call: impl FnOnce(Channel) -> F) -> T {
        self.runtime.block_on(async {
            let channel = tonic::transport::Endpoint::new(self.url.clone()).unwrap().connect().await.unwrap();
            call(channel).await
        })
    }

    async fn client(&self) -> CollectorClient<Channel> {
        CollectorClient::connect(self.url.clone()).await.unwrap()
    }

    pub(crate) fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request
    }
}

pub(crate) fn hello(router: &str, epoch: u64, oldest_sequence: u64) -> v1::AgentFrame {
    let hello = v1::Hello { router_id: router.to_owned(), epoch, oldest_sequence, ..v1::Hello::default() };
    v1::AgentFrame { frame: Some(Frame::Hello(hello)) }
}

pub(crate) fn batch(sequence: u64, events: Vec<v1::Event>) -> v1::AgentFrame {
    v1::AgentFrame { frame: Some(Frame::Batch(v1::Batch { sequence, events, ..v1::Batch::default() })) }
}

/// Says that so many sequences before it no longer exist.
pub(crate) fn explained(mut frame: v1::AgentFrame, lost_before: u64) -> v1::AgentFrame {
    if let Some(Frame::Batch(batch)) = &mut frame.frame {
        batch.lost_before = lost_before;
    }
    frame
}

pub(crate) fn event(kind: Kind) -> v1::Event {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    v1::Event { time_us: since.as_micros() as i64, kind: Some(kind) }
}

pub(crate) fn event_without_kind() -> v1::Event {
    v1::Event { time_us: 0, kind: None }
}

pub(crate) fn large_event(bytes: usize) -> v1::Event {
    event(Kind::Gap(v1::Gap { cause: 1, detail: "x".repeat(bytes), ..v1::Gap::default() }))
}

/// A whole flow in one report.
pub(crate) fn ended(id: u64) -> v1::Event {
    flow(id, v1::FlowPhase::End, 100)
}

pub(crate) fn flow(id: u64, phase: v1::FlowPhase, bytes_orig: u64) -> v1::Event {
    event(Kind::Flow(v1::Flow {
        phase: phase.into(),
        flow_id: 1 << 32 | id,
        protocol: 6,
        src_ip: vec![192, 168, 1, 20].into(),
        dst_ip: vec![203, 0, 113, 9].into(),
        src_port: 50_000,
        dst_port: 443,
        direction: v1::Direction::Out.into(),
        device: v1::End::Initiator.into(),
        remote: v1::End::Responder.into(),
        bytes_orig,
        ..v1::Flow::default()
    }))
}
