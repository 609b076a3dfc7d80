//! JSON batches and the spool against a strict HTTP server on loopback.

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
mod batches;

use std::{collections::BTreeMap, path::Path, time::Duration};

use batches::{BatchServer, Behaviour, Running, TOKEN};
use netmon_agent::{
    spool::{Spool, SpoolConfig},
    transport::{HttpConfig, Transport, TransportConfig},
};
use netmon_proto::v1::{Event, FirewallDrop, Flow, FlowPhase, GapCause, Heartbeat, HostFacts, event::Kind};
use serde_json::Value;
use tokio::time::timeout;

/// Far more than any of this takes; a test that needs it has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn config(urls: Vec<String>) -> TransportConfig {
    TransportConfig {
        urls,
        tls: netmon_agent::transport::Tls::default(),
        authorization: format!("Bearer {TOKEN}").parse().expect("ASCII"),
        router_id: "test".to_owned(),
        host: HostFacts::default(),
        connect_timeout: LIMIT,
        hello_timeout: LIMIT,
        ack_timeout: LIMIT,
        backoff_least: Duration::from_millis(1),
        backoff_most: Duration::from_millis(10),
        http: Some(HttpConfig {
            batch_events: 10,
            batch_wait: Duration::ZERO,
            timeout: LIMIT,
            beginnings: false,
        }),
    }
}

fn with(urls: Vec<String>, change: impl FnOnce(&mut HttpConfig)) -> TransportConfig {
    let mut config = config(urls);
    change(config.http.as_mut().expect("HTTP"));
    config
}

struct Agent {
    spool: Spool,
    transport: Transport,
}

impl Agent {
    fn new(dir: &Path, epoch: u64, config: TransportConfig) -> Self {
        Self { spool: open(dir, epoch), transport: Transport::new(config) }
    }

    /// One batch of the spool with these events.
    fn append(&mut self, ids: std::ops::RangeInclusive<i64>) {
        let events: Vec<Event> = ids.map(drop_of).collect();
        assert_eq!(self.spool.append(&events), events.len());
    }

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
    Spool::open(SpoolConfig { dir, max_bytes: 1 << 20, fsync: false, memory_events: 10 }, epoch)
        .expect("a spool")
}

/// A drop whose source port is its name.
fn drop_of(id: i64) -> Event {
    let drop = FirewallDrop {
        hook: "INPUT".to_owned(),
        prefix: format!("drop-{id}-"),
        in_interface: "wan0".to_owned(),
        src_ip: vec![192, 0, 2, 1].into(),
        dst_ip: vec![198, 51, 100, 1].into(),
        src_port: u32::try_from(id).expect("a port"),
        protocol: 6,
        tcp_flags: 2,
        ..FirewallDrop::default()
    };
    Event { time_us: 1_700_000_000_000_000 + id, kind: Some(Kind::FirewallDrop(drop)) }
}

fn start() -> (tempfile::TempDir, BatchServer, Running) {
    let server = BatchServer::default();
    let running = server.start();
    (tempfile::tempdir().expect("a directory"), server, running)
}

/// The names of all drops that the server has, in order.
fn ids(server: &BatchServer) -> Vec<i64> {
    let kept = server.kept();
    assert_eq!(kept.faults, [""; 0]);
    let drops = kept.events.iter().filter(|event| event["type"] == "firewall_drop");
    drops.map(|event| event["data"]["src_port"].as_i64().expect("a number")).collect()
}

fn sizes(server: &BatchServer) -> Vec<usize> {
    server.kept().posts.iter().map(|(_, post)| post.events.len()).collect()
}

#[tokio::test]
async fn posts_hold_so_many_events_and_heartbeats_go_first() {
    let (dir, server, running) = start();
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=3);
    agent.append(4..=29);
    // One in the spool is not posted: when it is its turn, it is old.
    let old = Event { time_us: 5, kind: Some(Kind::Heartbeat(Heartbeat::default())) };
    assert_eq!(agent.spool.append(&[old]), 1);
    agent.transport.beat(1_700_000_000_500_000);
    agent.until_drained().await;
    assert_eq!(ids(&server), (1..=29).collect::<Vec<_>>());
    assert_eq!(sizes(&server), [1, 10, 10, 9]);
    let kept = server.kept();
    assert_eq!(
        kept.posts[0].1.raw,
        r#"{"type":"heartbeat","ts":"2023-11-14T22:13:20.5Z","data":{"router_id":"test"}}"#
    );
    assert_eq!(
        kept.posts[1].1.raw.split("},{").next(),
        Some(
            r#"{"type":"firewall_drop","ts":"2023-11-14T22:13:20.000001Z","data":{"hook":"INPUT","rule_tag":"drop-1-","nflog_group":0,"if_in":"wan0","if_out":null,"src_ip":"192.0.2.1","dst_ip":"198.51.100.1","src_port":1,"dst_port":0,"l4proto":6,"tcp_syn":true}"#
        )
    );
    let stats = agent.transport.stats();
    assert_eq!((kept.heartbeats, kept.connections), (1, 1));
    assert_eq!((stats.batches_sent, stats.acks, stats.streams, stats.accepted), (4, 4, 1, 30));
    assert!(stats.connected && agent.failures().is_empty());
}

#[tokio::test]
async fn whatever_goes_wrong_the_same_events_come_again() {
    for behaviour in [
        Behaviour::Answer(503),
        Behaviour::Answer(500),
        Behaviour::Answer(302),
        Behaviour::Answer(404),
        Behaviour::Answer(401),
        Behaviour::Busy(0),
        Behaviour::Hang,
        Behaviour::Reset,
        Behaviour::TakeAndReset,
        Behaviour::Rubbish,
        Behaviour::Stall,
    ] {
        let (dir, server, running) = start();
        let config = with(vec![running.url()], |http| http.timeout = Duration::from_millis(200));
        let mut agent = Agent::new(dir.path(), 7, config);
        agent.append(1..=4);
        agent.until_drained().await;
        server.behave(behaviour);
        agent.append(5..=17);
        agent.until_drained().await;
        assert_eq!(ids(&server), (1..=17).collect::<Vec<_>>(), "{behaviour:?}");
        let kept = server.kept();
        let taken_before = matches!(behaviour, Behaviour::TakeAndReset | Behaviour::Rubbish);
        assert_eq!(kept.repeated, usize::from(taken_before), "{behaviour:?}: {:?}", kept.posts);
        let failures = agent.failures().values().sum::<u64>();
        // A body that stalls behind a 200 is no failure, the status says it all.
        assert_eq!(failures, u64::from(behaviour != Behaviour::Stall), "{behaviour:?}");
        if let [_, (_, first), (_, second), ..] = &kept.posts[..]
            && taken_before
        {
            assert!(first.raw == second.raw && first.sent_at < second.sent_at, "{first:?} {second:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_for_the_next() {
    let (dir, server, running) = start();
    let (_, hanging, hanging_running) = start();
    hanging.behave(Behaviour::Hang);
    let urls = vec![hanging_running.url(), running.url()];
    let mut agent = Agent::new(dir.path(), 7, with(urls, |http| http.timeout = Duration::from_millis(200)));
    agent.append(1..=2);
    agent.until_drained().await;
    agent.append(3..=3);
    agent.until_drained().await;
    assert_eq!((ids(&server), ids(&hanging)), (vec![1, 2, 3], vec![]));
    assert_eq!(agent.failures(), BTreeMap::from([("timeout", 1)]));
}

#[tokio::test]
async fn a_wrong_token_loses_nothing() {
    let (dir, server, running) = start();
    let mut wrong = config(vec![running.url()]);
    wrong.authorization = "Bearer guess".parse().expect("ASCII");
    let mut agent = Agent::new(dir.path(), 7, wrong);
    agent.append(1..=2);
    agent.until(|transport, _| transport.stats().failures.contains_key("unauthenticated")).await;
    assert_eq!((ids(&server), agent.spool.waiting_batches()), (vec![], 1));
    agent.transport.reconfigure(config(vec![running.url()]), &mut agent.spool);
    agent.until_drained().await;
    assert_eq!(ids(&server), [1, 2]);
}

#[tokio::test]
async fn the_server_is_given_the_peace_that_it_asks_for() {
    let (dir, server, running) = start();
    let mut config = config(vec![running.url()]);
    config.backoff_most = Duration::from_millis(700);
    server.behave(Behaviour::Busy(60));
    let mut agent = Agent::new(dir.path(), 7, config);
    agent.append(1..=1);
    let started = std::time::Instant::now();
    agent.until_drained().await;
    assert!(started.elapsed() >= Duration::from_millis(700), "up to the longest pause of our own");
}

#[tokio::test]
async fn an_event_that_is_refused_is_found_dropped_and_counted() {
    let (dir, server, running) = start();
    server.kept().poison = Some("drop-17-".to_owned());
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=40);
    agent.until_drained().await;
    let expected: Vec<i64> = (1..=40).filter(|id| *id != 17).collect();
    assert_eq!(ids(&server), expected);
    let losses = agent.spool.take_losses();
    assert_eq!(
        losses.iter().map(|loss| (loss.cause, loss.count)).collect::<Vec<_>>(),
        [(GapCause::Refused, 1)]
    );
    assert_eq!((agent.transport.stats().rejected, server.kept().repeated), (1, 0));
    // Three times as a whole, then each half once.
    let refused = server.kept().posts.iter().filter(|(status, _)| *status == 422).count();
    assert!((4..=9).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_server_that_refuses_everything_does_not_block_the_spool_for_ever() {
    let (dir, server, running) = start();
    server.kept().poison = Some("drop".to_owned());
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=12);
    agent.until_drained().await;
    assert_eq!(ids(&server), [0_i64; 0]);
    assert_eq!(agent.spool.take_losses().iter().map(|loss| loss.count).sum::<u64>(), 12);
    // Nothing shows that it works, so each event is given three chances.
    let alone = server.kept().posts.iter().filter(|(_, post)| post.events.len() == 1).count();
    assert_eq!(alone, 36);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved() {
    let (dir, server, running) = start();
    server.kept().largest = 1000;
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    agent.append(1..=20);
    agent.until_drained().await;
    assert_eq!(ids(&server), (1..=20).collect::<Vec<_>>());
    assert_eq!((agent.spool.take_losses(), server.kept().repeated), (vec![], 0));
}

#[tokio::test]
async fn a_killed_agent_posts_the_very_same_events_again() {
    for behaviour in [Behaviour::TakeAndReset, Behaviour::Answer(503)] {
        let (dir, server, running) = start();
        let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
        // Some batches of one event, and one that takes several posts.
        for id in 1..=5 {
            agent.append(id..=id);
        }
        agent.append(6..=37);
        agent.until(|transport, _| transport.stats().acks == 2).await;
        server.behave(behaviour);
        agent.until(|transport, _| !transport.stats().failures.is_empty()).await;
        drop(agent);
        let mut agent = Agent::new(dir.path(), 8, config(vec![running.url()]));
        agent.append(38..=39);
        agent.until_drained().await;
        assert_eq!(ids(&server), (1..=39).collect::<Vec<_>>(), "{behaviour:?}");
        assert_eq!(server.kept().repeated, usize::from(behaviour == Behaviour::TakeAndReset));
        // And the next run knows that nothing is left.
        drop(agent);
        let mut agent = Agent::new(dir.path(), 9, config(vec![running.url()]));
        agent.append(40..=40);
        agent.until_drained().await;
        assert_eq!(ids(&server), (1..=40).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn events_wait_for_each_other_but_not_when_the_agent_stops() {
    let (dir, server, running) = start();
    let wait = Duration::from_millis(300);
    let mut agent = Agent::new(dir.path(), 7, with(vec![running.url()], |http| http.batch_wait = wait));
    agent.append(1..=1);
    agent.transport.pump(&mut agent.spool);
    agent.append(2..=2);
    agent.until_drained().await;
    assert_eq!(sizes(&server), [2]);
    agent.transport.reconfigure(
        with(vec![running.url()], |http| http.batch_wait = Duration::from_secs(3600)),
        &mut agent.spool,
    );
    agent.append(3..=3);
    agent.transport.pump(&mut agent.spool);
    agent.transport.hurry();
    agent.until_drained().await;
    assert_eq!(ids(&server), [1, 2, 3]);
}

#[tokio::test]
async fn a_hole_in_the_spool_is_posted_as_a_gap() {
    let (dir, server, running) = start();
    let mut agent = Agent::new(dir.path(), 7, config(vec![running.url()]));
    for id in 1..=20_000 {
        agent.append(id..=id);
    }
    let first = agent.spool.oldest_sequence(7);
    assert_eq!(first, 1, "what is explained counts as there");
    agent.until_drained().await;
    let got = ids(&server);
    let kept = server.kept();
    let gaps: Vec<&Value> = kept.events.iter().filter(|event| event["type"] == "gap").collect();
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (&gaps[0]["data"]["cause"], &gaps[0]["data"]["count"]),
        (&"SPOOL_FULL".into(), &(got[0] - 1).into())
    );
    assert_eq!(got, (got[0]..=20_000).collect::<Vec<_>>());
    assert!(got[0] > 1);
}

#[tokio::test]
async fn beginnings_are_posted_where_they_are_asked_for() {
    let flow = |phase: FlowPhase, id: i64| {
        let flow = Flow { phase: phase.into(), protocol: 17, direction: 2, ..Flow::default() };
        Event { time_us: id, kind: Some(Kind::Flow(flow)) }
    };
    for (beginnings, expected) in
        [(false, vec!["DESTROY"]), (true, vec!["NEW", "UPDATE", "UPDATE", "DESTROY"])]
    {
        let (dir, server, running) = start();
        let config = with(vec![running.url()], |http| http.beginnings = beginnings);
        let mut agent = Agent::new(dir.path(), 7, config);
        let phases = [FlowPhase::New, FlowPhase::Found, FlowPhase::Progress, FlowPhase::End];
        assert_eq!(agent.spool.append(&phases.map(|phase| flow(phase, 5))), 4);
        agent.until_drained().await;
        let kept = server.kept();
        let words: Vec<&str> =
            kept.events.iter().map(|event| event["data"]["event"].as_str().expect("a word")).collect();
        assert_eq!(words, expected);
        assert!(kept.events.iter().all(|event| event["data"]["dir"] == "IN"), "{:?}", kept.events);
    }
}
