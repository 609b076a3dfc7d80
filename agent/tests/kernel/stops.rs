//! The program stopped by SIGTERM: in the middle of a storm, and started again, ten times; and while it waits for the
//! address of its server.

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, UdpSocket},
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
    support::{
        dump::await_groups,
        inject::{Injector, Source, source},
        must,
    },
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("ten_stops_in_a_storm_lose_nothing", ten_stops),
    ("a_stop_does_not_wait_for_a_name_that_nobody_resolves", stop_in_a_lookup),
];

const STOPS: usize = 10;
/// What service managers of routers grant.
const STOP_LIMIT: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);
/// Entries made, and removed a hundred later, in a second: twice as many events. A build without optimisation
/// is a tenth as fast; `cargo test --profile release -p netmon-agent --test kernel ten_stops` tells.
const RATE: u32 = if cfg!(debug_assertions) { 3_000 } else { 12_000 };
/// In a turn of a millisecond, where the clock is ahead.
const MOST_PER_TURN: u32 = 200;
const OPEN: u32 = 100;
/// Removed in each storm before the agent is stopped.
const LEAST: u32 = RATE;
/// Packets dropped in a second.
const DROP_RATE: u32 = 500;
const GROUP: u16 = 7;

/// Makes and removes entries, each from a source of its own, and has the firewall drop packets, each to an
/// address of its own, until it is told to stop.
struct Storm {
    stop: Arc<AtomicBool>,
    /// Entries with lower numbers are gone, and the kernel has said so to whoever listened.
    removed: Arc<AtomicU32>,
    /// Packets with lower numbers were dropped.
    dropped: Arc<AtomicU32>,
    flows: thread::JoinHandle<u32>,
    drops: thread::JoinHandle<u32>,
}

impl Storm {
    fn start(first: u32, first_drop: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (removed, dropped) = (Arc::new(AtomicU32::new(first)), Arc::new(AtomicU32::new(first_drop)));
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&removed));
        let flows = thread::spawn(move || make_flows(first, &stopped, &done));
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&dropped));
        let drops = thread::spawn(move || send_into_the_void(first_drop, &stopped, &done));
        Self { stop, removed, dropped, flows, drops }
    }

    /// Ends it, and gives the numbers that come next.
    fn end(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        (self.flows.join().expect("no panic"), self.drops.join().expect("no panic"))
    }
}

/// How many should have been made by now, and were not.
fn behind(started: Instant, rate: u32, made: u32) -> u32 {
    let wanted = started.elapsed().as_millis() as u64 * u64::from(rate) / 1000;
    u32::try_from(wanted).expect("a short test").saturating_sub(made)
}

fn make_flows(first: u32, stop: &AtomicBool, removed: &AtomicU32) -> u32 {
    let mut injector = Injector::open().expect("an injector");
    let (started, mut next) = (Instant::now(), first);
    while !stop.load(Ordering::Relaxed) {
        let count = behind(started, RATE, next - first).min(MOST_PER_TURN);
        for number in next..next + count {
            injector.create(source(number), 600);
            if let Some(old) = number.checked_sub(OPEN).filter(|old| *old >= first) {
                injector.delete(source(old));
            }
        }
        injector.send();
        next += count;
        removed.store(next.saturating_sub(OPEN).max(first), Ordering::Release);
        thread::sleep(Duration::from_millis(1));
    }
    eprintln!(
        "{:.0} events of conntrack a second",
        f64::from(2 * (next - first)) / started.elapsed().as_secs_f64()
    );
    next
}

/// Loopback is large: the number is the address.
fn void(number: u32) -> [u8; 4] {
    let [_, a, b, c] = number.to_be_bytes();
    [127, a, b, c]
}

fn send_into_the_void(first: u32, stop: &AtomicBool, dropped: &AtomicU32) -> u32 {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let (started, mut next) = (Instant::now(), first);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..behind(started, DROP_RATE, next - first) {
            let to = (Ipv4Addr::from(void(next)), 9);
            let error = socket.send_to(b"x", to).expect_err("dropped on its way out");
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
            next += 1;
            dropped.store(next, Ordering::Release);
        }
        thread::sleep(Duration::from_millis(2));
    }
    next
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

fn is_end_of_sync(event: &Event) -> bool {
    matches!(&event.kind, Some(Kind::TableSync(sync)) if sync.step == 2)
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

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < limit, "{what} did not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

fn ten_stops() {
    must(&format!("nft add rule inet watch output udp dport 9 log prefix \"void\" group {GROUP} drop"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = TestServer::default();
    let mut running = Some(runtime.block_on(server.start()));
    let address = running.as_ref().expect("running").address;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.yaml");
    let text = format!(
        "router_id: stops\nserver_url: http://{address}\nauth_token: {TOKEN}\nspool_dir: {}\nmetrics_bind: ''\n\
         nflog_groups: [{GROUP}]\nnflog_source_rate: 1000000\n",
        dir.path().join("spool").display()
    );
    fs::write(&path, text).expect("written");
    let config = path.to_str().expect("UTF-8");

    let (mut next, mut must_end) = (0, Vec::new());
    let (mut next_drop, mut must_drop) = (1, Vec::new());
    let mut slowest = Duration::ZERO;
    for turn in 0..STOPS {
        // Only what is new is looked at: there will be hundreds of thousands of events.
        let known = server.kept().events.len();
        let started = agent(config);
        await_server(&runtime, "the sync of a new run", &server, |events| {
            events[known..].iter().any(is_end_of_sync)
        });
        await_groups(&[GROUP]);
        let (first, first_drop) = (next, next_drop);
        let storm = Storm::start(first, first_drop);
        await_server(&runtime, "news of the storm", &server, |events| {
            events[known..].iter().filter_map(ended).any(|flow| source_of(flow) == source(first + 500))
        });
        // Every other time the server is gone, so that the spool has to keep it all.
        if turn % 2 == 1 {
            runtime.block_on(running.take().expect("running").stop());
        }
        let heard = storm.removed.load(Ordering::Acquire);
        until("the storm", || storm.removed.load(Ordering::Acquire) >= heard + LEAST);
        let removed = storm.removed.load(Ordering::Acquire);
        let dropped = storm.dropped.load(Ordering::Acquire);
        let took = terminate(started);
        (next, next_drop) = storm.end();
        must_end.extend(first..removed);
        must_drop.extend(first_drop..dropped);
        assert!(took < STOP_LIMIT, "stopping took {took:?}");
        slowest = slowest.max(took);
        if running.is_none() {
            running = Some(runtime.block_on(server.start_at(address)));
        }
    }
    let known = server.kept().events.len();
    let last = agent(config);
    await_server(&runtime, "the last sync", &server, |events| events[known..].iter().any(is_end_of_sync));
    assert!(terminate(last) < STOP_LIMIT);

    let kept = server.kept();
    eprintln!(
        "{} ends and {} drops before {STOPS} stops, the slowest of which took {slowest:?}; {} events",
        must_end.len(),
        must_drop.len(),
        kept.events.len()
    );
    let (mut ends, mut ids) = (HashMap::new(), std::collections::HashSet::new());
    for flow in kept.events.iter().filter_map(ended) {
        assert!(ids.insert(flow.flow_id), "ended twice: {flow:?}");
        *ends.entry(source_of(flow)).or_insert(0) += u32::from(!flow.end_unseen);
    }
    let wrong: Vec<u32> =
        must_end.iter().copied().filter(|number| ends.get(&source(*number)) != Some(&1)).collect();
    assert!(wrong.is_empty(), "of {} ends {} were not reported once: {wrong:?}", must_end.len(), wrong.len());

    let mut drops = HashMap::new();
    for event in &kept.events {
        if let Some(Kind::FirewallDrop(drop)) = &event.kind {
            assert_eq!((drop.left_out, drop.prefix.as_str(), drop.dst_port), (0, "void", 9), "{drop:?}");
            *drops.entry(drop.dst_ip.to_vec()).or_insert(0) += 1;
        }
    }
    let wrong: Vec<u32> =
        must_drop.iter().copied().filter(|number| drops.get(&void(*number)[..]) != Some(&1)).collect();
    assert!(
        wrong.is_empty(),
        "of {} drops {} were not reported once: {wrong:?}",
        must_drop.len(),
        wrong.len()
    );
    assert_eq!(kept.explained, [], "the spool lost nothing");
}

/// The C library waits for an answer, on a thread that cannot be stopped.
fn stop_in_a_lookup() {
    let silent = UdpSocket::bind("127.0.0.1:53").expect("the port of names");
    silent.set_read_timeout(Some(LIMIT)).expect("a limit");
    let dir = tempfile::tempdir().expect("a directory");
    let (path, resolver) = (dir.path().join("agent.yaml"), dir.path().join("resolv.conf"));
    fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:20 attempts:2\n").expect("written");
    let text = format!(
        "router_id: stops\nserver_url: http://server.example:3000\nauth_token: {TOKEN}\nspool_dir: {}\n\
         metrics_bind: ''\n",
        dir.path().join("spool").display()
    );
    fs::write(&path, text).expect("written");
    let script = "mount --bind \"$1\" /etc/resolv.conf && exec \"$2\" --config \"$3\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "--", "sh", "-c", script, "sh"]).arg(&resolver);
    command.arg(env!("CARGO_BIN_EXE_netmon-agent")).arg(&path).env("NETMON_LOG", "warn");
    let agent = command.spawn().expect("the agent");
    silent.recv(&mut [0; 512]).expect("a question");
    let took = terminate(agent);
    assert!(took < STOP_LIMIT, "{took:?}");
}
