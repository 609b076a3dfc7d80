//! What watching a real kernel costs: a loop that receives and discards, a monitor, and the whole agent with
//! its spool and a gRPC stream to a collector, each in the same storm of connections.
//!
//! `cargo bench -p netmon-agent --bench storm`. Works in a network namespace of its own. The storm makes
//! and removes conntrack entries through ctnetlink; each listener is a process of its own and subscribes
//! to NEW and DESTROY with a buffer of 4 MiB and reliable delivery.
//! - burst: 100,000 entries are made, then all are removed by one flush.
//! - steady: 50,000 entries are made and 50,000 removed per second, for ten seconds.
//! - mixed: steady, and 2,000 logged packets and 1,000 DNS answers per second, with full tables (16,384 open
//!   flows, 100 clients).
//!
//! Where `ulogd` (Debian: ulogd2, ulogd2-json) is installed it runs in the same storms, writing JSON to a file.
//! After that: the agent idle for 30 s, and a server that is stopped (SIGSTOP) for 60 s at 5,000 events/s.
//! `NETMON_STORM_ONLY=burst,steady,mixed,idle,outage` runs some of it.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]

#[path = "../tests/collector/mod.rs"]
#[allow(dead_code, reason = "written for the transport's tests; a part of it serves here")]
mod collector;
#[path = "storm/idle.rs"]
mod idle;
#[path = "storm/outage.rs"]
mod outage;
#[path = "storm/packets.rs"]
mod packets;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "storm/ulogd.rs"]
mod ulogd;

use std::{
    env, fs,
    io::{self, BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netmon_agent::conntrack::{
    Monitor, MonitorConfig,
    socket::{Datagrams, NetlinkSocket, thread_cpu_time},
};
use netmon_proto::v1::{Event, FlowPhase, event::Kind};
use support::inject::{Injector, source};

const ROLE: &str = "NETMON_STORM_ROLE";
const BURST: u32 = 100_000;
const RATE: u32 = 50_000;
const SECONDS: u32 = 10;
/// Of the steady storm.
const TICK: Duration = Duration::from_millis(10);
/// A listener that hears nothing for so long gives up.
const SILENCE: Duration = Duration::from_secs(10);

fn main() {
    match env::var(ROLE).as_deref() {
        Ok("storm") => storms(),
        Ok("collector") => outage::collect(),
        Ok(role) => listen(role),
        Err(_) => match support::run_in_namespace(ROLE, "storm").expect("unshare") {
            Some(status) => assert!(status.success(), "the storm ended with {status}"),
            None => println!("not measured: network namespaces are not permitted here"),
        },
    }
}

fn storms() {
    support::set_up_namespace();
    for setting in ["acct", "timestamp", "events"] {
        fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{setting}"), "1").expect("a setting");
    }
    println!(
        "CPU-seconds are those of the listener's thread, in the kernel and outside, for NEW and DESTROY together"
    );
    println!("load before: {}", fs::read_to_string("/proc/loadavg").expect("/proc").trim());
    for (name, ends, storm) in [("burst", BURST, burst as fn()), ("steady", RATE * SECONDS, steady)] {
        if !wanted(name) {
            continue;
        }
        let bare = measure(name, "discard", ends, storm);
        let monitor = measure(name, "monitor", ends, storm);
        let agent = measure_agent(name, ends, "", storm);
        let ulogd = ulogd::measure(name, ends, 0, storm);
        println!(
            "{name}: the monitor costs {:.1} x the bare loop, the whole agent {:.1} x, ulogd {}",
            monitor / bare,
            agent / bare,
            ulogd.map_or_else(|| "was not measured".to_owned(), |cpu| format!("{:.1} x", cpu / bare))
        );
    }
    if wanted("mixed") {
        packets::set_up();
        packets::fill_table();
        let agent = measure_agent("mixed", RATE * SECONDS, packets::SETTINGS, mixed);
        let ulogd = ulogd::measure("mixed", RATE * SECONDS, packets::SENT, mixed);
        if let Some(ulogd) = ulogd {
            println!("mixed: the whole agent costs {:.2} x ulogd", agent / ulogd);
        }
        Injector::open().expect("an injector").flush_table();
    }
    if wanted("idle") {
        idle::measure();
    }
    if wanted("outage") {
        outage::measure();
    }
    println!("load after: {}", fs::read_to_string("/proc/loadavg").expect("/proc").trim());
}

fn wanted(name: &str) -> bool {
    env::var("NETMON_STORM_ONLY").map_or(true, |only| only.split(',').any(|wanted| wanted == name))
}

/// Connections and packets at once.
fn mixed() {
    thread::scope(|scope| {
        scope.spawn(packets::send);
        steady();
    });
}

/// Runs a listener through a storm, and gives its CPU time.
fn measure(name: &str, role: &str, ends: u32, storm: fn()) -> f64 {
    let mut listener = start(role, ends);
    let mut lines = BufReader::new(listener.stdout.take().expect("its output")).lines();
    let mut line = move || lines.next().expect("a line").expect("a line");
    assert_eq!(line(), "ready");
    let started = Instant::now();
    storm();
    let stormed = started.elapsed();
    let result = line();
    assert!(listener.wait().expect("its end").success());
    let cpu: f64 = result.split(' ').next().expect("a number").parse().expect("a number");
    let rest = result.split_once(' ').expect("more").1;
    println!(
        "{name:6} {role:7} {cpu:6.3} CPU-s = {:5.3} per 100,000 ends; {rest}; the storm took {:.1} s",
        cpu * 100_000.0 / f64::from(ends),
        stormed.as_secs_f64()
    );
    cpu
}

fn start(role: &str, ends: u32) -> Child {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.env(ROLE, format!("{role} {ends}")).stdout(Stdio::piped());
    command.spawn().expect("a listener")
}

/// The program itself, with the configuration that the text completes.
struct Agent {
    process: Child,
    _directory: tempfile::TempDir,
}

impl Agent {
    fn start(url: &str, settings: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("config.yaml");
        let text = format!(
            "router_id: bench\nserver_url: {url}\nauth_token: {}\nspool_dir: {}\nmetrics_bind: \"127.0.0.1:0\"\n\
             dns_log: off\n{settings}",
            collector::TOKEN,
            directory.path().join("spool").display()
        );
        fs::write(&config, text).expect("a configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_netmon-agent"));
        command.arg("--config").arg(&config).env("NETMON_LOG", "warn");
        Self { process: command.spawn().expect("the agent"), _directory: directory }
    }

    fn cpu(&self) -> f64 {
        process_cpu(self.process.id())
    }

    fn memory(&self, field: &str) -> String {
        process_memory(self.process.id(), field)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().expect("its end");
        self.process.wait().expect("its end");
    }
}

/// Runs the program itself through a storm, with the collector of the transport's tests at the far end, and
/// gives its CPU time.
fn measure_agent(name: &str, ends: u32, settings: &str, storm: fn()) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = collector::TestServer::default();
    let running = runtime.block_on(server.start());
    let agent = Agent::start(&running.url(), settings);
    // The end of its first sync shows that it watches.
    runtime.block_on(server.until(|kept| kept.events.iter().any(is_synced)));
    let (idle, before) = (agent.memory("VmRSS"), agent.cpu());
    let started = Instant::now();
    storm();
    let stormed = started.elapsed();
    let limit = Instant::now() + Duration::from_secs(60);
    let (mut heard, mut looked_at) = (0, 0);
    while heard < ends && Instant::now() < limit {
        let kept = server.kept();
        heard += kept.events[looked_at..].iter().filter(|event| is_end(event)).count() as u32;
        looked_at = kept.events.len();
        drop(kept);
        thread::sleep(TICK);
    }
    let cpu = agent.cpu() - before;
    println!(
        "{name:6} agent   {cpu:6.3} CPU-s = {:5.3} per 100,000 ends; {heard} of {ends} ends acknowledged; memory \
         before {idle}, now {} and at most {}; the storm took {:.1} s",
        cpu * 100_000.0 / f64::from(ends),
        agent.memory("VmRSS"),
        agent.memory("VmHWM"),
        stormed.as_secs_f64()
    );
    if !settings.is_empty() {
        packets::report(&server.kept().events);
    }
    cpu
}

fn is_synced(event: &Event) -> bool {
    matches!(&event.kind, Some(Kind::TableSync(sync)) if sync.step == 2)
}

fn process_cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    // utime and stime of proc_pid_stat(5), in hundredths of a second.
    let ticks = |place: usize| fields[place].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn process_memory(pid: u32, field: &str) -> String {
    memory_of(&format!("/proc/{pid}/status"), field)
}

fn burst() {
    let mut injector = Injector::open().expect("an injector");
    for number in 0..BURST {
        injector.create(source(number), 600);
    }
    injector.send();
    injector.flush_table();
}

fn steady() {
    let mut injector = Injector::open().expect("an injector");
    let started = Instant::now();
    let per_tick = RATE / (1000 / TICK.as_millis() as u32);
    for tick in 0..=100 * SECONDS {
        for number in tick * per_tick..(tick + 1) * per_tick {
            if tick < 100 * SECONDS {
                injector.create(source(number % 200_000), 600);
            }
            if let Some(earlier) = number.checked_sub(per_tick) {
                injector.delete(source(earlier % 200_000));
            }
        }
        injector.send();
        thread::sleep((started + TICK * (tick + 1)).saturating_duration_since(Instant::now()));
    }
}

fn listen(role: &str) {
    let (role, ends) = role.split_once(' ').expect("role and number");
    let ends: u64 = ends.parse().expect("a number");
    let (heard, overruns) = if role == "monitor" { monitor(ends) } else { discard(ends) };
    println!(
        "{:.3} {heard} of {ends} ends heard, {overruns} overruns, memory now {} and at most {}",
        thread_cpu_time().as_secs_f64(),
        memory("VmRSS"),
        memory("VmHWM")
    );
}

/// A monitor whose events are dropped as soon as they are counted.
fn monitor(ends: u64) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut monitor = Monitor::open(MonitorConfig::default(), 1).expect("a monitor");
        let mut events = Vec::new();
        while monitor.stats().dumps == 0 {
            monitor.step(&mut events).await.expect("a step");
        }
        println!("ready");
        let mut heard = 0;
        while heard < ends {
            events.clear();
            match tokio::time::timeout(SILENCE, monitor.step(&mut events)).await {
                Ok(step) => step.expect("a step"),
                Err(_) => break,
            }
            heard += events.iter().filter(|event| is_end(event)).count() as u64;
        }
        (heard, monitor.stats().overruns)
    })
}

fn is_end(event: &Event) -> bool {
    matches!(&event.kind, Some(Kind::Flow(flow)) if flow.phase() == FlowPhase::End && !flow.end_unseen)
}

/// The least that a listener can do.
fn discard(ends: u64) -> (u64, u64) {
    let socket = NetlinkSocket::open(NETLINK_NETFILTER).expect("a socket");
    socket.set_receive_buffer(4 << 20).expect("a buffer");
    socket.set_reliable(true).expect("reliable delivery");
    socket.join(1).expect("NEW");
    socket.join(3).expect("DESTROY");
    println!("ready");
    let mut datagrams = Datagrams::default();
    let (mut heard, mut overruns, mut last) = (0, 0, Instant::now());
    while heard < ends && last.elapsed() < SILENCE {
        match socket.receive_many(&mut datagrams) {
            Ok(()) => {
                last = Instant::now();
                // The low byte of the type tells a DESTROY.
                heard += datagrams.iter().flatten().filter(|bytes| bytes.get(4) == Some(&2)).count() as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(TICK),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => overruns += 1,
            Err(error) => panic!("{error}"),
        }
    }
    (heard, overruns)
}

fn memory(field: &str) -> String {
    memory_of("/proc/self/status", field)
}

fn memory_of(path: &str, field: &str) -> String {
    let status = fs::read_to_string(path).expect("/proc");
    let line = status.lines().find(|line| line.starts_with(field)).expect("a field");
    let kilobytes: f64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    format!("{:.1} MB", kilobytes / 1024.0)
}
