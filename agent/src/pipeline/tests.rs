//! The main loop with a scripted source, against the test server.

use std::{cell::RefCell, collections::VecDeque, path::Path, rc::Rc, time::Duration};

use netmon_proto::v1::{Event, Gap, GapCause, event::Kind};
use prost::Message;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::*;
use crate::conntrack::MonitorStats;

mod roads;
mod store;

#[allow(dead_code, reason = "shared with the transport's tests, which use other parts")]
#[path = "../../tests/batches/mod.rs"]
pub(super) mod batches;
#[allow(dead_code, reason = "shared with the transport's tests, which use other parts")]
#[path = "../../tests/collector/mod.rs"]
mod collector;

use collector::{Kept, TOKEN, TestServer};

const LIMIT: Duration = Duration::from_secs(20);

/// What the test tells the source to say, and what the pipeline told the source.
#[derive(Default)]
struct Script {
    says: VecDeque<Result<Vec<Event>, String>>,
    last_words: Vec<Event>,
    opened: usize,
    progress: Vec<bool>,
    syncs: usize,
}

#[derive(Clone, Default)]
pub(super) struct Stage {
    script: Rc<RefCell<Script>>,
    more: Rc<Notify>,
}

impl Stage {
    pub(super) fn say(&self, what: Result<Vec<Event>, String>) {
        self.script.borrow_mut().says.push_back(what);
        self.more.notify_one();
    }

    fn say_events(&self, ids: std::ops::RangeInclusive<i64>, size: usize) {
        self.say(Ok(ids.map(|id| event(id, size)).collect()));
    }
}

impl Source for Stage {
    type Error = String;

    async fn step(&mut self, out: &mut Vec<Event>) -> Result<(), String> {
        loop {
            let said = self.script.borrow_mut().says.pop_front();
            match said {
                Some(Ok(events)) => {
                    out.extend(events);
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
                None => self.more.notified().await,
            }
        }
    }

    fn open_flows(&self) -> usize {
        12
    }

    fn set_progress(&mut self, on: bool) {
        self.script.borrow_mut().progress.push(on);
    }

    fn request_sync(&mut self) {
        self.script.borrow_mut().syncs += 1;
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.script.borrow_mut().last_words);
    }

    fn stats(&self) -> MonitorStats {
        MonitorStats::default()
    }

    fn warnings(&self) -> Vec<String> {
        vec!["a warning".to_owned()]
    }
}

/// A flow report, so that gaps and heartbeats can be told from it.
fn event(id: i64, size: usize) -> Event {
    let sighting = netmon_proto::v1::HostIdentity { host_name: "x".repeat(size), ..Default::default() };
    Event { time_us: id, kind: Some(Kind::HostIdentity(sighting)) }
}

fn ids(kept: &Kept) -> Vec<i64> {
    let is_reported = |event: &&Event| matches!(event.kind, Some(Kind::HostIdentity(_)));
    kept.events.iter().filter(is_reported).map(|event| event.time_us).collect()
}

fn gaps(kept: &Kept) -> Vec<(GapCause, u64)> {
    let gap = |event: &Event| match &event.kind {
        Some(Kind::Gap(gap)) => Some((gap.cause(), gap.count)),
        _ => None,
    };
    kept.events.iter().filter_map(gap).collect()
}

fn config(dir: &Path, url: &str) -> Config {
    let mut config = Config::new("test", url, TOKEN);
    config.spool_dir = dir.join("spool");
    config.spool_max_bytes = 64 * 1024;
    config.queue_depth = 10;
    config.metrics_bind = None;
    config
}

/// Runs the agent while `story` is told, then stops it.
pub(super) async fn play(config: &Config, stage: &Stage, story: impl Future<Output = ()>) {
    play_service(config, Service::default(), stage, story).await;
}

async fn play_service(config: &Config, service: Service, stage: &Stage, story: impl Future<Output = ()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let mut transport = TransportConfig::new(config).expect("a good token");
    (transport.backoff_least, transport.backoff_most) = (Duration::from_millis(1), Duration::from_millis(10));
    let open = |_: &MonitorConfig| {
        stage.script.borrow_mut().opened += 1;
        Ok(stage.clone())
    };
    let agent = LocalSet::new();
    let agent = agent.run_until(run_with(config.clone(), transport, open, |_, _| {}, service, stopped));
    let story = async {
        story.await;
        let _ = stop.send(());
    };
    let (result, ()) = timeout(LIMIT, async { tokio::join!(agent, story) }).await.expect("in time");
    result.expect("a clean end");
}

#[tokio::test]
async fn what_the_source_says_reaches_the_server() {
    let (dir, server) = (tempfile::tempdir().expect("a directory"), TestServer::default());
    let running = server.start().await;
    let stage = Stage::default();
    stage.script.borrow_mut().last_words = vec![event(9, 1)];
    let config = config(dir.path(), &running.url());
    play(&config, &stage, async {
        stage.say_events(1..=2, 1);
        stage.say_events(3..=3, 1);
        server.until(|kept| ids(kept).len() == 3).await;
    })
    .await;
    let kept = server.kept();
    assert_eq!(ids(&kept), [1, 2, 3, 9], "the last words are delivered before the end");
    assert_eq!(gaps(&kept), [], "a first run has missed nothing");
    let heartbeat = kept.events.iter().find_map(|event| match &event.kind {
        Some(Kind::Heartbeat(heartbeat)) => Some(heartbeat.clone()),
        _ => None,
    });
    let heartbeat = heartbeat.expect("one at the start");
    assert_eq!((heartbeat.open_flows, heartbeat.warnings), (12, vec!["a warning".to_owned()]));
    assert_eq!(kept.hellos[0].router_id, "test");
}

#[tokio::test]
async fn the_time_between_two_runs_is_a_gap() {
    let (dir, server) = (tempfile::tempdir().expect("a directory"), TestServer::default());
    let running = server.start().await;
    let config = config(dir.path(), &running.url());
    for run in 1..=3 {
        let stage = Stage::default();
        play(&config, &stage, async {
            stage.say_events(run..=run, 1);
            server.until(|kept| ids(kept).len() as i64 == run).await;
        })
        .await;
    }
    let kept = server.kept();
    assert_eq!(gaps(&kept), [(GapCause::AgentDown, 1); 2]);
    let spans: Vec<(i64, i64)> = kept
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            Some(Kind::Gap(Gap { from_us, to_us, .. })) => Some((*from_us, *to_us)),
            _ => None,
        })
        .collect();
    assert!(spans.iter().all(|(from, to)| 0 < *from && from <= to), "{spans:?}");
    assert_eq!(kept.last.len(), 3, "each run has an epoch of its own");
}

#[tokio::test]
async fn without_a_server_events_wait_for_the_next_run() {
    let (dir, server) = (tempfile::tempdir().expect("a directory"), TestServer::default());
    let running = server.start().await;
    let url = running.url();
    let address = running.stop().await;
    let stage = Stage::default();
    // Nothing can be delivered: stopping gives up after its limit.
    play(&config(dir.path(), &url), &stage, async {
        stage.say_events(1..=2, 1);
        while !stage.script.borrow().says.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let _again = server.start_at(address).await;
    let stage = Stage::default();
    play(&config(dir.path(), &url), &stage, async {
        stage.say_events(3..=3, 1);
        server.until(|kept| ids(kept).len() == 3).await;
    })
    .await;
    assert_eq!(ids(&server.kept()), [1, 2, 3]);
}

#[tokio::test]
async fn what_neither_disk_nor_memory_took_is_a_gap_once() {
    let (dir, server) = (tempfile::tempdir().expect("a directory"), TestServer::default());
    let running = server.start().await;
    let url = running.url();
    let address = running.stop().await;
    let spool = dir.path().join("spool");
    std::fs::write(&spool, "in the way").expect("written");
    let stage = Stage::default();
    let mut again = None;
    play(&config(dir.path(), &url), &stage, async {
        // Memory holds ten events; the heartbeat of the start is one of them.
        for id in 1..=30 {
            stage.say_events(id..=id, 1);
        }
        while !stage.script.borrow().says.is_empty() {
            tokio::task::yield_now().await;
        }
        std::fs::remove_file(&spool).expect("removed");
        stage.say_events(31..=31, 1);
        again = Some(server.start_at(address).await);
        server.until(|kept| ids(kept).contains(&31)).await;
        stage.say_events(32..=32, 1);
        server.until(|kept| ids(kept).contains(&32)).await;
    })
    .await;
    let kept = server.kept();
    let lost: u64 = gaps(&kept).iter().map(|(_, count)| count).sum();
    assert_eq!(gaps(&kept), [(GapCause::SpoolWrite, lost)]);
    let beats =
        kept.events.iter().filter(|event| matches!(event.kind, Some(Kind::Heartbeat(_)))).count() as u64;
    assert_eq!(
        ids(&kept).len() as u64 + beats + lost,
        33,
        "32 reports and a heartbeat, each kept or counted"
    );
    assert!(stage.script.borrow().syncs >= 1, "the server's picture is put right");
}

#[tokio::test]
async fn progress_is_left_out_while_the_spool_is_nearly_full() {
    let (dir, server) = (tempfile::tempdir().expect("a directory"), TestServer::default());
    let running = server.start().await;
    let url = running.url();
    let address = running.stop().await;
    let stage = Stage::default();
    let mut again = None;
    play(&config(dir.path(), &url), &stage, async {
        for id in 1..=100 {
            stage.say_events(id..=id, 1000);
        }
        while stage.script.borrow().progress.is_empty() || !stage.script.borrow().says.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!((stage.script.borrow().syncs, &stage.script.borrow().progress[..]), (0, &[false][..]));
        again = Some(server.start_at(address).await);
        server.until(|kept| ids(kept).contains(&100)).await;
        while stage.script.borrow().syncs == 0 {
            tokio::task::yield_now().await;
        }
        stage.say_events(101..=101, 1);
        server.until(|kept| ids(kept).contains(&101)).await;
    })
    .await;
    let kept = server.kept();
    assert_eq!(stage.script.borrow().progress, [false, true]);
    assert_eq!(stage.script.borrow().syncs, 1, "batches were dropped");
    assert_eq!(
        gaps(&kept),
        [(GapCause::ProgressSkipped, 1)],
        "the dropped ones are explained in their batch"
    );
    let lost: u64 = kept.explained.iter().map(|batch| batch.lost_events).sum();
    let beats =
        kept.events.iter().filter(|event| matches!(event.kind, Some(Kind::Heartbeat(_)))).count() as u64;
    assert_eq!(ids(&kept).len() as u64 + beats + lost, 102, "101 reports and a heartbeat");
}

#[tokio::test]
async fn a_source_that_breaks_is_opened_again() {
    let (dir, server) = (tempfile::tempdir().expect("a directory"), TestServer::default());
    let running = server.start().await;
    let stage = Stage::default();
    play(&config(dir.path(), &running.url()), &stage, async {
        stage.say_events(1..=1, 1);
        stage.say(Err("broken".to_owned()));
        stage.say_events(2..=2, 1);
        server.until(|kept| ids(kept).len() == 2).await;
    })
    .await;
    assert_eq!((ids(&server.kept()), stage.script.borrow().opened), (vec![1, 2], 2));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_be_opened_is_told_of_and_tried_again() {
    let mut tries = 0;
    let open = |_: &MonitorConfig| {
        tries += 1;
        if tries < 3 { Err("run as root".to_owned()) } else { Ok(Stage::default()) }
    };
    let mut feed = Feed::open(open, MonitorConfig::default());
    assert!(!feed.works());
    assert_eq!(feed.warnings(), ["connections are not watched: run as root"]);
    let mut events = Vec::new();
    feed.step(&mut events).await;
    assert!(!feed.works());
    feed.step(&mut events).await;
    assert!(feed.works());
    assert_eq!(feed.restarts(), 2);
    drop(feed);
    assert_eq!(tries, 3);
}

#[tokio::test]
async fn a_new_configuration_takes_effect_without_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, second) = (TestServer::default(), TestServer::default());
    let (one, two) = (first.start().await, second.start().await);
    let stage = Stage::default();
    let (reload, reloads) = tokio::sync::mpsc::channel(1);
    let old = config(dir.path(), &one.url());
    play_service(&old, Service::new(reloads), &stage, async {
        stage.say_events(1..=1, 1);
        first.until(|kept| ids(kept).len() == 1).await;
        let mut refused = config(dir.path(), &two.url());
        refused.router_id = "another".to_owned();
        reload.send(refused).await.expect("running");
        let mut new = config(dir.path(), &two.url());
        new.lan_interfaces = vec!["br-lan".to_owned()];
        new.spool_dir = dir.path().join("elsewhere");
        reload.send(new).await.expect("running");
        second.until(|kept| !kept.hellos.is_empty()).await;
        stage.say_events(2..=2, 1);
        // A server of its own may be told again what the spool still holds.
        second.until(|kept| ids(kept).contains(&2)).await;
    })
    .await;
    assert_eq!(ids(&first.kept()), [1]);
    assert_eq!(second.kept().hellos[0].router_id, "test", "another name takes a restart");
    assert_eq!(stage.script.borrow().opened, 2, "another LAN, another monitor");
    assert!(!dir.path().join("elsewhere").exists());
}
