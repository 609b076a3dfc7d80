//! From a stream to JSON batches and back: what one server has does not go to the next.

use netmon_proto::v1::FirewallDrop;

use super::{
    batches::{BatchServer, Behaviour, Kept as KeptPosts},
    *,
};
use crate::config::TransportKind::{self, Grpc, Http};

/// Its source port is its name.
fn drop_of(id: u32) -> Event {
    let drop = FirewallDrop { protocol: 6, src_port: id, ..FirewallDrop::default() };
    Event { time_us: 1_700_000_000_000_000, kind: Some(Kind::FirewallDrop(drop)) }
}

fn streamed(kept: &Kept) -> Vec<u64> {
    let port = |event: &Event| match &event.kind {
        Some(Kind::FirewallDrop(drop)) => Some(u64::from(drop.src_port)),
        _ => None,
    };
    kept.events.iter().filter_map(port).collect()
}

fn posted(kept: &KeptPosts) -> Vec<u64> {
    let drops = kept.events.iter().filter(|event| event["type"] == "firewall_drop");
    drops.map(|event| event["data"]["src_port"].as_u64().expect("a number")).collect()
}

/// Both servers, and a configuration for each.
struct Roads {
    dir: tempfile::TempDir,
    streams: TestServer,
    posts: BatchServer,
    urls: [String; 2],
    _running: (collector::Running, batches::Running),
}

impl Roads {
    async fn build() -> Self {
        let (streams, posts) = (TestServer::default(), BatchServer::default());
        let running = (streams.start().await, posts.start());
        let urls = [running.0.url(), running.1.url()];
        Self { dir: tempfile::tempdir().expect("a directory"), streams, posts, urls, _running: running }
    }

    fn config(&self, kind: TransportKind) -> Config {
        let mut config = config(self.dir.path(), &self.urls[usize::from(kind == Http)]);
        config.transport = kind;
        config.batch_max_wait = Duration::from_millis(1);
        config
    }

    fn got(&self, kind: TransportKind) -> Vec<u64> {
        if kind == Grpc { streamed(&self.streams.kept()) } else { posted(&self.posts.kept()) }
    }

    async fn until_got(&self, kind: TransportKind, count: usize) {
        while self.got(kind).len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How often the agent has begun to speak to this server, or has told it that it lives.
    fn signs(&self, kind: TransportKind) -> usize {
        if kind == Grpc { self.streams.kept().hellos.len() } else { self.posts.kept().heartbeats }
    }

    fn segments(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path().join("spool")).expect("a spool").flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "seg")).count()
    }
}

/// Says drops one by one, a batch each, as far as `to`, and waits until the server has them.
async fn tell(roads: &Roads, stage: &Stage, kind: TransportKind, ids: std::ops::RangeInclusive<u32>) {
    let before = roads.got(kind).len();
    let count = ids.clone().count();
    for id in ids {
        stage.say(Ok(vec![drop_of(id)]));
    }
    roads.until_got(kind, before + count).await;
}

#[tokio::test]
async fn a_restart_on_another_road_repeats_nothing() {
    let roads = Roads::build().await;
    for (run, kind) in [Grpc, Http, Grpc, Http].into_iter().enumerate() {
        let first = 10 * u32::try_from(run).expect("few") + 1;
        let stage = Stage::default();
        play(&roads.config(kind), &stage, tell(&roads, &stage, kind, first..=first + 4)).await;
        assert_eq!(roads.segments(), 0, "all of it is delivered");
    }
    assert_eq!(roads.got(Grpc), (1..=5).chain(21..=25).collect::<Vec<_>>());
    assert_eq!(roads.got(Http), (11..=15).chain(31..=35).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_new_configuration_with_another_road_repeats_nothing() {
    let roads = Roads::build().await;
    let stage = Stage::default();
    let (reload, reloads) = tokio::sync::mpsc::channel(1);
    play_service(&roads.config(Grpc), Service::new(reloads), &stage, async {
        tell(&roads, &stage, Grpc, 1..=5).await;
        for (first, kind) in [(11, Http), (21, Grpc), (31, Http)] {
            let before = roads.signs(kind);
            reload.send(roads.config(kind)).await.expect("running");
            while roads.signs(kind) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tell(&roads, &stage, kind, first..=first + 4).await;
        }
    })
    .await;
    assert_eq!(roads.got(Grpc), (1..=5).chain(21..=25).collect::<Vec<_>>());
    assert_eq!(roads.got(Http), (11..=15).chain(31..=35).collect::<Vec<_>>());
    assert_eq!(roads.streams.kept().explained, [], "nothing looks lost");
}

#[tokio::test]
async fn an_answer_that_is_due_is_waited_for_before_the_road_changes() {
    let roads = Roads::build().await;
    let stage = Stage::default();
    let (reload, reloads) = tokio::sync::mpsc::channel(1);
    let mut posting = roads.config(Http);
    posting.http_timeout = Duration::from_millis(500);
    play_service(&posting, Service::new(reloads), &stage, async {
        while roads.signs(Http) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The server takes it, and is slow to say so.
        roads.posts.behave(Behaviour::Stall);
        tell(&roads, &stage, Http, 1..=1).await;
        reload.send(roads.config(Grpc)).await.expect("running");
        while roads.signs(Grpc) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tell(&roads, &stage, Grpc, 2..=2).await;
    })
    .await;
    assert_eq!((roads.got(Http), roads.got(Grpc)), (vec![1], vec![2]));
}

/// A kill leaves the segment as it is; how far it is delivered is noted beside it.
#[tokio::test]
async fn a_killed_agent_that_takes_another_road_repeats_nothing() {
    for (before, after) in [(Http, Grpc), (Grpc, Http)] {
        let roads = Roads::build().await;
        let spool = || {
            let dir = roads.dir.path().join("spool");
            Spool::open(
                SpoolConfig { dir, max_bytes: 1 << 20, fsync: false, memory_events: 10 },
                rand::random(),
            )
        };
        let mut killed = (spool().expect("a spool"), transport(&roads.config(before)));
        let drain = async |spool: &mut Spool, transport: &mut Transport| {
            let limit = Instant::now() + LIMIT;
            deliver(transport, spool, limit).await;
            assert!(spool.drained());
        };
        for id in 1..=5 {
            killed.0.append(&[drop_of(id)]);
        }
        drain(&mut killed.0, &mut killed.1).await;
        if before == Grpc {
            killed.0.stamp(1);
        }
        // Not delivered yet.
        killed.0.append(&[drop_of(6)]);
        drop(killed);
        assert_eq!(roads.segments(), 1);

        let mut next = (spool().expect("a spool"), transport(&roads.config(after)));
        next.0.append(&[drop_of(7)]);
        drain(&mut next.0, &mut next.1).await;
        assert_eq!((roads.got(before), roads.got(after)), ((1..=5).collect(), vec![6, 7]), "{after:?}");
    }
}

fn transport(config: &Config) -> Transport {
    let mut transport = TransportConfig::new(config).expect("a good token");
    (transport.backoff_least, transport.backoff_most) = (Duration::from_millis(1), Duration::from_millis(10));
    Transport::new(transport)
}
