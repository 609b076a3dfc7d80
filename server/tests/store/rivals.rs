//! One router told to two servers on one database, now to the one and now to the other.

use std::sync::Arc;
use std::thread::JoinHandle;

use netmon_proto::v1::{self, event::Kind};
use netmon_server::clock::SystemClock;
use netmon_server::ingest::{
    self, Ack, BatchWork, Ingest, IngestError, Observation, Reply, Welcome, check_events,
};
use netmon_server::store::{DatabaseUrl, Store};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::all_flows;

const FIRST_RUN: u64 = 0xa;
const SECOND_RUN: u64 = 0xb;

/// A server as far as its writer.
struct Server {
    ingest: Ingest,
    writer: JoinHandle<()>,
    runtime: Runtime,
}

impl Server {
    fn start(store: &Store) -> Self {
        let (ingest, writer) = ingest::start(store.writer().unwrap(), Arc::new(SystemClock)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { ingest, writer, runtime }
    }

    fn hello(&self, epoch: u64) -> Welcome {
        let hello =
            v1::Hello { router_id: "gw".to_owned(), epoch, oldest_sequence: 1, ..v1::Hello::default() };
        self.runtime.block_on(self.ingest.hello(hello, now())).unwrap()
    }

    /// A batch of a stream.
    fn stream(
        &self,
        welcome: Welcome,
        epoch: u64,
        sequence: u64,
        flow: v1::Flow,
    ) -> Result<Ack, IngestError> {
        self.take(|work| BatchWork { router: Some(welcome.router), epoch, sequence, ..work }, flow)
    }

    /// A batch without a stream and without a sequence, of an agent that gives flows no ids.
    fn post(&self, flow: v1::Flow) -> Result<Ack, IngestError> {
        let digest = [u8::try_from(flow.bytes_orig / 100).unwrap(); 32];
        self.take(|work| BatchWork { digest: Some(digest), ..by_tuple(work) }, flow)
    }

    fn take(&self, to: impl FnOnce(BatchWork) -> BatchWork, flow: v1::Flow) -> Result<Ack, IngestError> {
        let event = v1::Event { time_us: flow.last_seen_us, kind: Some(Kind::Flow(flow)) };
        let checked = check_events(vec![event], now(), false);
        assert_eq!(checked.rejected, 0);
        let (reply, answer) = oneshot::channel();
        let work = to(BatchWork {
            router: None,
            router_name: "gw".into(),
            epoch: 0,
            sequence: 0,
            lost_before: 0,
            lost_events: 0,
            lost_cause: 0,
            digest: None,
            accepted: 1,
            events: checked.events,
            originals: Vec::new(),
            rejections: Vec::new(),
            rejected: 0,
            permit: self.runtime.block_on(self.ingest.room_for(1)).unwrap(),
            reply: Reply::Call(reply),
        });
        self.ingest.submit(work).unwrap();
        self.runtime.block_on(answer).unwrap()
    }

    fn stop(self) {
        self.ingest.close();
        self.writer.join().unwrap();
    }
}

fn now() -> i64 {
    netmon_server::clock::Clock::now(&SystemClock)
}

fn by_tuple(mut work: BatchWork) -> BatchWork {
    for event in &mut work.events {
        if let Observation::Flow(report) = &mut event.what {
            report.flow_id = 0;
        }
    }
    work
}

/// The one flow, in the words of this run of the agent.
fn flow(run: u64, phase: v1::FlowPhase, began: i64, bytes: u64) -> v1::Flow {
    v1::Flow {
        phase: phase.into(),
        flow_id: run << 32 | 1,
        protocol: 6,
        src_ip: vec![192, 168, 1, 20].into(),
        dst_ip: vec![203, 0, 113, 5].into(),
        src_port: 50_000,
        dst_port: 443,
        direction: v1::Direction::Out.into(),
        bytes_orig: bytes,
        first_seen_us: began,
        last_seen_us: now(),
        conntrack_id: 7,
        device: v1::End::Initiator.into(),
        remote: v1::End::Responder.into(),
        ..v1::Flow::default()
    }
}

/// What the minutes hold, and that every sum of the database agrees with it.
fn counted(store: &Store) -> (i64, i64) {
    let totals = store.reader().totals().unwrap();
    assert!(totals.agree(), "{totals:?}");
    assert_eq!(all_flows(store).len(), 1);
    (totals.device_minutes.flows, totals.device_minutes.counters.bytes_orig)
}

pub(crate) fn an_agent_comes_back_with_a_new_run(url: &DatabaseUrl) {
    use v1::FlowPhase::{Found, New, Progress};
    let (store, began) = (Store::open(url).unwrap(), now() - 1_000_000);
    let (here, there) = (Server::start(&store), Server::start(&store));

    let first = here.hello(FIRST_RUN);
    here.stream(first, FIRST_RUN, 1, flow(FIRST_RUN, New, began, 100)).unwrap();
    let moved = there.hello(FIRST_RUN);
    assert_eq!(moved.last_sequence, 1);
    there.stream(moved, FIRST_RUN, 2, flow(FIRST_RUN, Progress, began, 1_000)).unwrap();

    // Restarted, it finds the flow as it is, and this server held it as it was.
    let second = here.hello(SECOND_RUN);
    here.stream(second, SECOND_RUN, 1, flow(SECOND_RUN, Found, began, 1_000)).unwrap();
    assert_eq!(counted(&store), (1, 1_000));
    here.stream(second, SECOND_RUN, 2, flow(SECOND_RUN, Progress, began, 1_200)).unwrap();
    assert_eq!(counted(&store), (1, 1_200));
    here.stop();
    there.stop();
}

pub(crate) fn an_agent_comes_back_with_the_same_run(url: &DatabaseUrl) {
    use v1::FlowPhase::{New, Progress};
    let (store, began) = (Store::open(url).unwrap(), now() - 1_000_000);
    let (here, there) = (Server::start(&store), Server::start(&store));
    let first = here.hello(FIRST_RUN);
    here.stream(first, FIRST_RUN, 1, flow(FIRST_RUN, New, began, 100)).unwrap();
    let moved = there.hello(FIRST_RUN);
    there.stream(moved, FIRST_RUN, 2, flow(FIRST_RUN, Progress, began, 500)).unwrap();
    let back = here.hello(FIRST_RUN);
    assert_eq!(back.last_sequence, 2, "it is told how far the other server is");
    here.stream(back, FIRST_RUN, 3, flow(FIRST_RUN, Progress, began, 700)).unwrap();
    assert_eq!(counted(&store), (1, 700));
    here.stop();
    there.stop();
}

/// What the first run has on its way to the other server arrives after the second run began here.
pub(crate) fn the_last_words_of_a_run_come_late(url: &DatabaseUrl) {
    use v1::FlowPhase::{Found, New, Progress};
    let (store, began) = (Store::open(url).unwrap(), now() - 1_000_000);
    let (here, there) = (Server::start(&store), Server::start(&store));
    let first = there.hello(FIRST_RUN);
    there.stream(first, FIRST_RUN, 1, flow(FIRST_RUN, New, began, 100)).unwrap();
    let second = here.hello(SECOND_RUN);
    there.stream(first, FIRST_RUN, 2, flow(FIRST_RUN, Progress, began, 900)).unwrap();

    // Nothing conflicts but the flow itself: this server must not go on from what it read.
    let found = || flow(SECOND_RUN, Found, began, 1_000);
    assert_eq!(here.stream(second, SECOND_RUN, 1, found()), Err(IngestError::Detached));
    let second = here.hello(SECOND_RUN);
    here.stream(second, SECOND_RUN, 1, found()).unwrap();
    assert_eq!(counted(&store), (1, 1_000));
    let late = flow(FIRST_RUN, Progress, began, 950);
    assert_eq!(there.stream(first, FIRST_RUN, 3, late), Err(IngestError::Detached));
    assert_eq!(counted(&store), (1, 1_000));
    here.stop();
    there.stop();
}

pub(crate) fn posts_may_go_to_any_server(url: &DatabaseUrl) {
    use v1::FlowPhase::{End, New, Progress};
    let (store, began) = (Store::open(url).unwrap(), now() - 1_000_000);
    let servers = [Server::start(&store), Server::start(&store)];
    servers[0].post(flow(0, New, began, 100)).unwrap();
    for hundreds in 2..=9 {
        servers[hundreds as usize % 2].post(flow(0, Progress, began, hundreds * 100)).unwrap();
        assert_eq!(counted(&store), (1, hundreds.cast_signed() * 100));
    }
    servers[0].post(flow(0, End, began, 1_000)).unwrap();
    assert_eq!(counted(&store), (1, 1_000));
    // A repeated one is known, and one that is about the ended flow too.
    assert!(servers[1].post(flow(0, End, began, 1_000)).unwrap().duplicate);
    assert_eq!(counted(&store), (1, 1_000));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    for server in servers {
        server.stop();
    }
}
