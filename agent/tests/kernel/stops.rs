//! The program stopped by SIGTERM in the middle of a storm, and started again, ten times.

use std::{
    collections::HashMap,
    fs,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netmon_proto::v1::{Event, Flow, FlowPhase, event::Kind};
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    collector::{TOKEN, TestServer},
    support::inject::{Injector, Source, source},
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[("ten_stops_in_a_storm_lose_nothing", ten_stops)];

const STOPS: usize = 10;
/// What service managers of routers grant.
const STOP_LIMIT: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(30);
/// Entries made, and removed a hundred later, per turn of a millisecond.
const PER_TURN: u32 = 10;
const OPEN: u32 = 100;

/// Makes and removes entries, each from a source of its own, until it is told to stop.
struct Storm {
    stop: Arc<AtomicBool>,
    /// Entries with lower numbers are gone, and the kernel has said so to whoever listened.
    removed: Arc<AtomicU32>,
    thread: thread::JoinHandle<u32>,
}

impl Storm {
    fn start(first: u32) -> Self {
        let (stop, removed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(first)));
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&removed));
        let thread = thread::spawn(move || {
            let mut injector = Injector::open().expect("an injector");
            let mut next = first;
            while !stopped.load(Ordering::Relaxed) {
                for number in next..next + PER_TURN {
                    injector.create(source(number), 600);
                    if let Some(old) = number.checked_sub(OPEN).filter(|old| *old >= first) {
                        injector.delete(source(old));
                    }
                }
                injector.send();
                next += PER_TURN;
                done.store(next.saturating_sub(OPEN).max(first), Ordering::Release);
                thread::sleep(Duration::from_millis(1));
            }
            next
        });
        Self { stop, removed, thread }
    }

    /// Ends it, and gives the number that comes next.
    fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

fn agent(config: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netmon-agent"));
    command.args(["--config", config]).env("NETMON_LOG", "warn").spawn().expect("the agent")
}

/// Sends SIGTERM, and gives how long it took to end.
fn terminate(mut agent: Child) -> Duration {
    let started = Instant::now();
    let status = Command::new("kill").arg(agent.id().to_string()).status().expect("kill");
    assert!(status.success());
    assert!(agent.wait().expect("its end").success());
    started.elapsed()
}

fn await_server(runtime: &Runtime, what: &str, server: &TestServer, is_so: impl Fn(&[Event]) -> bool) {
    let waited = runtime.block_on(timeout_of(server, is_so));
    assert!(waited, "{what} did not happen");
}

async fn timeout_of(server: &TestServer, is_so: impl Fn(&[Event]) -> bool) -> bool {
    timeout(LIMIT, server.until(|kept| is_so(&kept.events))).await.is_ok()
}

fn syncs(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(&event.kind, Some(Kind::TableSync(sync)) if sync.step == 2)).count()
}

fn ended(event: &Event) -> Option<&Flow> {
    match &event.kind {
        Some(Kind::Flow(flow)) if flow.phase() == FlowPhase::End => Some(flow),
        _ => None,
    }
}

fn source_of(flow: &Flow) -> Source {
    let address = <[u8; 4]>::try_from(&flow.src_ip[..]).expect("IPv4");
    (address, u16::try_from(flow.src_port).expect("a port"))
}

fn ten_stops() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = TestServer::default();
    let mut running = Some(runtime.block_on(server.start()));
    let address = running.as_ref().expect("running").address;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.yaml");
    let text = format!(
        "router_id: stops\nserver_url: http://{address}\nauth_token: {TOKEN}\nspool_dir: {}\nmetrics_bind: ''\n",
        dir.path().join("spool").display()
    );
    fs::write(&path, text).expect("written");
    let config = path.to_str().expect("UTF-8");

    let (mut next, mut must) = (0, Vec::new());
    for turn in 0..STOPS {
        let known = syncs(&server.kept().events);
        let started = agent(config);
        await_server(&runtime, "the sync of a new run", &server, |events| syncs(events) > known);
        let storm = Storm::start(next);
        let first = next;
        await_server(&runtime, "news of the storm", &server, |events| {
            events.iter().filter_map(ended).any(|flow| source_of(flow) == source(first + 500))
        });
        // Every other time the server is gone, so that the spool has to keep it all.
        if turn % 2 == 1 {
            runtime.block_on(running.take().expect("running").stop());
            let heard = storm.removed.load(Ordering::Acquire);
            while storm.removed.load(Ordering::Acquire) < heard + 1000 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let removed = storm.removed.load(Ordering::Acquire);
        let took = terminate(started);
        next = storm.end();
        must.extend(first..removed);
        assert!(took < STOP_LIMIT, "stopping took {took:?}");
        if running.is_none() {
            running = Some(runtime.block_on(server.start_at(address)));
        }
    }
    let last = agent(config);
    let known = syncs(&server.kept().events);
    await_server(&runtime, "the last sync", &server, |events| syncs(events) > known);
    assert!(terminate(last) < STOP_LIMIT);

    let kept = server.kept();
    let (mut ends, mut ids) = (HashMap::new(), std::collections::HashSet::new());
    for flow in kept.events.iter().filter_map(ended) {
        assert!(ids.insert(flow.flow_id), "ended twice: {flow:?}");
        *ends.entry(source_of(flow)).or_insert(0) += u32::from(!flow.end_unseen);
    }
    assert!(must.len() > STOPS * 500, "{} ends are too few to tell", must.len());
    let wrong: Vec<u32> =
        must.iter().copied().filter(|number| ends.get(&source(*number)) != Some(&1)).collect();
    assert!(wrong.is_empty(), "of {} ends {} were not reported once: {wrong:?}", must.len(), wrong.len());
    assert_eq!(kept.explained, [], "the spool lost nothing");
}
