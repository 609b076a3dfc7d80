//! Two servers on one Postgres that is stopped under load.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netmon_proto::v1::{
    self, agent_frame::Frame, collector_client::CollectorClient, event::Kind, server_frame,
};
use netmon_server::store::{DatabaseUrl, Store};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::postgres::Cluster;

pub(crate) const TOKEN: &str = "token-of-the-test";
const EPOCH: u64 = 0xfeed_0000_0000_0001;
const BATCHES: u64 = 600;
const FLOWS: u64 = 10;
const BYTES: u64 = 100;

/// How long Postgres is away.
const AWAY: Duration = Duration::from_secs(10);

/// How long a list may take to be refused meanwhile: as long as a reader waits for a connection, and some.
const REFUSED_WITHIN: Duration = Duration::from_secs(8);

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) struct Server {
    child: Child,
    _data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn start(database: &str) -> Server {
    let data = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_netmon-server"))
        .args(["serve", "--listen", "127.0.0.1:0", "--database-url", database, "--data"])
        .arg(data.path())
        .env("NETMON_API_TOKEN", TOKEN)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Server { child, _data: data }
}

/// Waits for the line that says where it listens.
pub(crate) fn url_of(server: &mut Server) -> String {
    let mut line = String::new();
    BufReader::new(server.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim()
        .strip_prefix("netmon-server listening on ")
        .expect("the line that scripts wait for")
        .to_owned()
}

/// A batch of flows that are heard of when they end, each once.
fn batch(sequence: u64) -> v1::Batch {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(since.as_micros()).unwrap();
    let events = (0..FLOWS).map(|place| v1::Event {
        time_us: now,
        kind: Some(Kind::Flow(v1::Flow {
            phase: v1::FlowPhase::End.into(),
            flow_id: (7 << 32) | (sequence * FLOWS + place),
            protocol: 6,
            src_ip: vec![192, 168, 1, 20].into(),
            dst_ip: vec![203, 0, 113, place as u8].into(),
            src_port: 1_024 + (sequence * FLOWS + place) as u32 % 60_000,
            dst_port: 443,
            direction: v1::Direction::Out.into(),
            bytes_orig: BYTES,
            packets_orig: 1,
            first_seen_us: now - 1_000,
            last_seen_us: now,
            conntrack_id: (sequence * FLOWS + place) as u32,
            device: v1::End::Initiator.into(),
            remote: v1::End::Responder.into(),
            ..v1::Flow::default()
        })),
    });
    v1::Batch { sequence, events: events.collect(), ..v1::Batch::default() }
}

/// One stream, until everything is acknowledged or it breaks. Gives how far the server is.
async fn stream(url: String, router: String) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let (frames, receiver) = mpsc::channel(8);
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse()?);
    let hello = v1::Hello { router_id: router, epoch: EPOCH, oldest_sequence: 1, ..v1::Hello::default() };
    frames.send(v1::AgentFrame { frame: Some(Frame::Hello(hello)) }).await?;
    let mut answers = CollectorClient::connect(url).await?.stream(request).await?.into_inner();
    let Some(server_frame::Frame::Welcome(welcome)) = answers.message().await?.and_then(|frame| frame.frame)
    else {
        return Err("expected a Welcome".into());
    };
    let mut last = welcome.last_sequence;
    tokio::spawn(async move {
        for sequence in last + 1..=BATCHES {
            let frame = v1::AgentFrame { frame: Some(Frame::Batch(batch(sequence))) };
            if frames.send(frame).await.is_err() {
                return;
            }
            // Load that lasts beyond the moment at which Postgres stops.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    while last < BATCHES {
        match answers.message().await?.and_then(|frame| frame.frame) {
            Some(server_frame::Frame::Ack(ack)) => last = last.max(ack.sequence),
            _ => return Err("the stream ended".into()),
        }
    }
    Ok(last)
}

/// An agent: connects again until everything is acknowledged.
async fn agent(url: String, router: &str) {
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        match tokio::time::timeout(LIMIT, stream(url.clone(), router.to_owned())).await {
            Ok(Ok(BATCHES)) => return,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    panic!("{router} is not acknowledged after {LIMIT:?}");
}

/// What a server answers, and when.
fn get(url: &str) -> (u16, Duration) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT));
    let begin = Instant::now();
    let request = ureq::Agent::from(config.build()).get(url);
    let response = request.header("Authorization", format!("Bearer {TOKEN}")).call().unwrap();
    (response.status().as_u16(), begin.elapsed())
}

fn wait_for_status(url: &str, status: u16) {
    let begin = Instant::now();
    while get(url).0 != status {
        assert!(begin.elapsed() < LIMIT, "{url} does not answer {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn two_servers_outlive_their_postgres(mut cluster: Cluster) {
    let database = cluster.url(&cluster.new_database());
    // Both on the empty database, at once.
    let mut servers = [start(&database), start(&database)];
    let urls = servers.each_mut().map(url_of);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let agents: Vec<_> = urls
        .clone()
        .into_iter()
        .zip(["gw", "attic"])
        .map(|(url, router)| runtime.spawn(async move { agent(url, router).await }))
        .collect();

    let store = Store::open(&DatabaseUrl::Postgres(database)).unwrap();
    let flows = || store.reader().totals().map_or(0, |totals| totals.flows.flows);
    let sent = (2 * BATCHES * FLOWS).cast_signed();
    let begin = Instant::now();
    while flows() < sent / 10 {
        assert!(begin.elapsed() < LIMIT, "nothing arrives");
        std::thread::sleep(Duration::from_millis(10));
    }
    for url in &urls {
        assert_eq!(get(&format!("{url}/up")).0, 200);
    }
    cluster.crash();
    let gone = Instant::now();
    std::thread::scope(|scope| {
        for url in &urls {
            scope.spawn(move || {
                // As long as the writer has not noticed, it is said to be up.
                wait_for_status(&format!("{url}/up"), 503);
                let (status, took) = get(&format!("{url}/api/v1/flows"));
                assert_eq!(status, 503);
                assert!(took < REFUSED_WITHIN, "a list was refused after {took:?}");
                assert_eq!(get(&format!("{url}/up")).0, 503);
            });
        }
    });
    std::thread::sleep(AWAY.saturating_sub(gone.elapsed()));
    cluster.run().unwrap();
    for url in &urls {
        wait_for_status(&format!("{url}/up"), 200);
    }
    let at_restart = flows();
    assert!(at_restart < sent, "all had arrived before Postgres stopped");
    for agent in agents {
        runtime.block_on(agent).unwrap();
    }

    // Nothing is lost, nothing is there twice.
    let totals = store.reader().totals().unwrap();
    assert_eq!(totals.flows.flows, sent);
    assert_eq!(totals.flows.counters.bytes_orig, sent * BYTES.cast_signed());
    assert!(totals.agree(), "{totals:?}");
    for router in store.reader().routers().unwrap() {
        assert_eq!(store.reader().cursor(router.id, EPOCH).unwrap(), Some(BATCHES));
        assert_eq!(router.losses, []);
    }
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}
