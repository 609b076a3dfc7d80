//! The transport and the spool against a real gRPC server on loopback.

#[allow(dead_code, reason = "shared with the pipeline's tests, which use other parts")]
mod collector;

use std::{collections::BTreeMap, path::Path, time::Duration};

use collector::{Behaviour, Kept, Running, TOKEN, TestServer};
use netmon_agent::{
    spool::{Spool, SpoolConfig},
    transport::{Tls, Transport, TransportConfig},
};
use netmon_proto::v1::{Event, Gap, GapCause, HostFacts, event::Kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

/// Far more than any of this takes; a test that needs it has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn config(urls: Vec<String>) -> TransportConfig {
    TransportConfig {
        urls,
        tls: Tls::default(),
        authorization: format!("Bearer {TOKEN}").parse().expect("ASCII"),
        router_id: "test".to_owned(),
        host: HostFacts::default(),
        connect_timeout: Duration::from_secs(10),
        hello_timeout: Duration::from_secs(10),
        ack_timeout: Duration::from_secs(10),
        backoff_least: Duration::from_millis(1),
        backoff_most: Duration::from_millis(10),
        http: None,
    }
}

struct Agent {
    spool: Spool,
    transport: Transport,
}

impl Agent {
    fn new(dir: &Path, epoch: u64, config: TransportConfig) -> Self {
        Self { spool: open(dir, epoch), transport: Transport::new(config) }
    }

    fn append(&mut self, ids: std::ops::RangeInclusive<i64>) {
        append(&mut self.spool, ids);
    }

    /// Turns until it is so.
    async fn until(&mut self, is_so: impl Fn(&Transport, &Spool) -> bool) {
        let turning = async {
            loop {
                self.transport.pump(&mut self.spool);
                if is_so(&self.transport, &self.spool) {
                    return;
                }
                let wake = self.transport.wait().await;
                self.transport.advance(wake, &mut self.spool);
            }
        };
        timeout(LIMIT, turning).await.expect("in time");
    }

    async fn until_drained(&mut self) {
        self.until(|_, spool| spool.drained()).await;
    }

    fn failures(&self) -> BTreeMap<&'static str, u64> {
        self.transport.stats().failures.clone()
    }
}

fn open(dir: &Path, epoch: u64) -> Spool {
    let dir = dir.join("spool");
    Spool::open(SpoolConfig { dir, max_bytes: 64 * 1024, fsync: false, memory_events: 10 }, epoch)
        .expect("a spool")
}

/// One batch per id.
fn append(spool: &mut Spool, ids: std::ops::RangeInclusive<i64>) {
    for id in ids {
        let gap = Gap { detail: "x".repeat(500), ..Gap::default() };
        assert_eq!(spool.append(&[Event { time_us: id, kind: Some(Kind::Gap(gap)) }]), 1);
    }
}

async fn start() -> (tempfile::TempDir, TestServer, Running) {
    let server = TestServer::default();
    let running = server.start().await;
    (tempfile::tempdir().expect("a directory"), server, running)
}

fn sequences(kept: &Kept) -> Vec<(u64, u64)> {
    kept.hellos.iter().map(|hello| (hello.epoch, hello.oldest_sequence)).collect()
}

#[tokio::test]
async fn batches_arrive_in_order_and_the_stream_stays_open() {
    let (dir, server, running) = start().await;
    server.kept().window = 3;
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=50);
    agent.until_drained().await;
    agent.append(51..=60);
    agent.until_drained().await;
    assert_eq!(server.ids(), (1..=60).collect::<Vec<_>>());
    let stats = agent.transport.stats();
    assert_eq!((stats.streams, stats.batches_sent, stats.accepted, stats.connected), (1, 60, 60, true));
    assert_eq!(agent.failures(), BTreeMap::new());
}

#[tokio::test]
async fn a_server_that_comes_back_gets_the_rest() {
    let (dir, server, running) = start().await;
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=5);
    agent.until_drained().await;

    server.behave(Behaviour::LoseAcks(1));
    let address = running.stop().await;
    agent.append(6..=10);
    agent.transport.pump(&mut agent.spool);
    let _again = server.start_at(address).await;
    agent.until_drained().await;
    assert_eq!(server.ids(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_committed_without_an_ack_is_not_counted_again() {
    let (dir, server, running) = start().await;
    server.behave(Behaviour::LoseAcks(3));
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=8);
    agent.until_drained().await;
    assert_eq!(server.ids(), (1..=8).collect::<Vec<_>>());
    assert_eq!(server.kept().repeated, 0, "Welcome said what it had");
    assert_eq!(agent.failures(), BTreeMap::from([("status", 1)]));
}

#[tokio::test]
async fn a_stream_that_is_sent_twice_counts_once() {
    let (dir, server, running) = start().await;
    server.behave(Behaviour::LoseAcks(5));
    server.behave(Behaviour::StaleWelcome);
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=8);
    agent.until_drained().await;
    assert_eq!(server.ids(), (1..=8).collect::<Vec<_>>());
    assert_eq!(server.kept().repeated, 5);
}

#[tokio::test]
async fn a_server_that_never_answers_is_left() {
    let (dir, server, running) = start().await;
    server.behave(Behaviour::Hang);
    let mut config = config(vec![running.url()]);
    config.hello_timeout = Duration::from_millis(300);
    let mut agent = Agent::new(dir.path(), 7, config);
    agent.append(1..=2);
    agent.until_drained().await;
    assert_eq!(server.ids(), [1, 2]);
    assert!(agent.failures()["timeout"] >= 1);
}

#[tokio::test]
async fn a_server_that_never_acknowledges_is_left() {
    let (dir, server, running) = start().await;
    server.behave(Behaviour::HangAfterWelcome);
    let mut config = config(vec![running.url()]);
    config.ack_timeout = Duration::from_millis(300);
    let mut agent = Agent::new(dir.path(), 7, config);
    agent.append(1..=2);
    agent.until_drained().await;
    assert_eq!(server.ids(), [1, 2]);
    assert!(agent.failures()["timeout"] >= 1);
}

#[tokio::test]
async fn a_server_that_never_acknowledges_is_left_for_the_next() {
    let (dir, server, running) = start().await;
    let (_, bad, bad_running) = start().await;
    for _ in 0..1000 {
        bad.behave(Behaviour::HangAfterWelcome);
    }
    let mut config = config(vec![bad_running.url(), running.url()]);
    config.ack_timeout = Duration::from_millis(300);
    let mut agent = Agent::new(dir.path(), 7, config);
    agent.append(1..=2);
    agent.until_drained().await;
    assert_eq!((server.ids(), bad.ids()), (vec![1, 2], vec![]));
    assert_eq!(agent.failures(), BTreeMap::from([("timeout", 1)]));
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing_is_left() {
    let (dir, server, running) = start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let mut config = config(vec![url, running.url()]);
    config.hello_timeout = Duration::from_millis(300);
    let mut agent = Agent::new(dir.path(), 7, config);
    agent.append(1..=2);
    agent.until_drained().await;
    assert_eq!((server.ids(), agent.failures()), (vec![1, 2], BTreeMap::from([("timeout", 1)])));
}

#[tokio::test]
async fn a_wrong_token_loses_nothing() {
    let (dir, server, running) = start().await;
    let mut wrong = config(vec![running.url()]);
    wrong.authorization = "Bearer guess".parse().expect("ASCII");
    let mut agent = Agent::new(dir.path(), 7, wrong);
    agent.append(1..=2);
    agent.until(|transport, _| transport.stats().failures.contains_key("unauthenticated")).await;
    assert_eq!((server.ids(), agent.spool.waiting_batches()), (vec![], 2));

    agent.transport = Transport::new(config(vec![running.url()]));
    agent.until_drained().await;
    assert_eq!(server.ids(), [1, 2]);
}

#[tokio::test]
async fn something_else_on_the_port_is_a_failure() {
    let (dir, server, running) = start().await;
    let web = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", web.local_addr().expect("bound"));
    let web = tokio::spawn(async move {
        let (mut stream, _) = web.accept().await.expect("accepted");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.expect("sent");
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let mut agent = Agent::new(dir.path(), 7, config(vec![url, running.url()]));
    agent.append(1..=2);
    agent.until_drained().await;
    web.await.expect("asked");
    assert_eq!(server.ids(), [1, 2]);
    assert_eq!(agent.failures().values().sum::<u64>(), 1);
}

#[tokio::test]
async fn rubbish_is_a_failure() {
    let (dir, server, running) = start().await;
    let rubbish = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", rubbish.local_addr().expect("bound"));
    let babble = tokio::spawn(async move {
        let (mut stream, _) = rubbish.accept().await.expect("accepted");
        // Every byte there is, again and again, frames of HTTP/2 that claim 16 MB among them.
        let bytes: Vec<u8> = (0..64 * 1024_u32).map(|number| (number.wrapping_mul(167) >> 3) as u8).collect();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let mut config = config(vec![url, running.url()]);
    config.hello_timeout = Duration::from_secs(2);
    let mut agent = Agent::new(dir.path(), 7, config);
    agent.append(1..=2);
    agent.until_drained().await;
    babble.await.expect("asked");
    assert_eq!(server.ids(), [1, 2]);
    assert_eq!(agent.failures().values().sum::<u64>(), 1);
}

#[tokio::test]
async fn the_next_server_is_tried_when_one_is_gone() {
    let (dir, server, running) = start().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound");
    let mut agent = Agent::new(dir.path(), 7, config(vec![format!("http://{gone}"), running.url()]));
    agent.append(1..=2);
    agent.until_drained().await;
    assert_eq!((server.ids(), agent.failures()), (vec![1, 2], BTreeMap::from([("connect", 1)])));
}

#[tokio::test]
async fn a_hole_is_explained_once() {
    let (dir, server, running) = start().await;
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=3);
    agent.until_drained().await;
    let address = running.stop().await;
    agent.until(|transport, _| !transport.stats().connected).await;
    agent.append(4..=300);

    server.behave(Behaviour::LoseAcks(2));
    let _again = server.start_at(address).await;
    agent.until_drained().await;
    let kept = server.kept();
    let [explained] = &kept.explained[..] else { panic!("one explanation: {:?}", kept.explained) };
    assert_eq!(explained.lost_cause(), GapCause::SpoolFull);
    assert_eq!(explained.lost_before, explained.lost_events, "one event a batch");
    assert_eq!(kept.events.len() as u64 + explained.lost_events, 300);
    assert_eq!(kept.events.last().map(|event| event.time_us), Some(300));
}

#[tokio::test]
async fn earlier_runs_are_delivered_first_each_on_its_own_stream() {
    let (dir, server, running) = start().await;
    append(&mut open(dir.path(), 7), 1..=3);
    append(&mut open(dir.path(), 8), 4..=6);
    let mut agent = Agent::new(dir.path(), 9, config(vec![running.url()]));
    agent.append(7..=9);
    server.behave(Behaviour::LoseAcks(2));
    agent.until_drained().await;
    assert_eq!(server.ids(), (1..=9).collect::<Vec<_>>());
    assert_eq!(sequences(&server.kept()), [(7, 1), (7, 1), (8, 1), (9, 1)]);

    // What the server has of a run, a later one need not send.
    drop(agent);
    let mut agent = Agent::new(dir.path(), 10, config(vec![running.url()]));
    agent.append(10..=10);
    agent.until_drained().await;
    assert_eq!((server.ids().len(), server.kept().repeated), (10, 0));
}
