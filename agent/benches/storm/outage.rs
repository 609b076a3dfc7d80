//! A server that hangs for a minute while events go on: nothing is lost, and it is caught up with soon.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    Agent, ROLE, collector, is_end, is_synced,
    support::inject::{Injector, source},
};

/// Connections made and ended per second: two events each.
const RATE: u32 = 2_500;
const TICK: Duration = Duration::from_millis(10);
const HANGS: Duration = Duration::from_secs(60);
/// Before and after it.
const CALM: Duration = Duration::from_secs(5);
/// Catching up took too long.
const LIMIT: Duration = Duration::from_secs(120);

/// The server, a program of its own so that it can be stopped: prints its address, and then, as they come,
/// how many ends it has (after a line "synced").
pub(crate) fn collect() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = collector::TestServer::default();
    let running = runtime.block_on(server.start());
    println!("{}", running.url());
    runtime.block_on(server.until(|kept| kept.events.iter().any(is_synced)));
    println!("synced");
    let (mut ends, mut looked_at) = (0, 0);
    loop {
        let kept = server.kept();
        let fresh = kept.events[looked_at..].iter().filter(|event| is_end(event)).count();
        looked_at = kept.events.len();
        drop(kept);
        if fresh > 0 {
            ends += fresh;
            println!("{ends}");
        }
        thread::sleep(TICK);
    }
}

struct Server {
    process: Child,
    url: String,
    ends: Arc<AtomicU32>,
    synced: Arc<AtomicBool>,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        let mut process = command.env(ROLE, "collector").stdout(Stdio::piped()).spawn().expect("a server");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let url = lines.next().expect("a line").expect("a line");
        let (ends, synced) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, known) = (Arc::clone(&ends), Arc::clone(&synced));
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                match line.parse() {
                    Ok(number) => counted.store(number, Ordering::Relaxed),
                    Err(_) => known.store(true, Ordering::Relaxed),
                }
            }
        });
        Self { process, url, ends, synced }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    fn until(&self, limit: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let limit = Instant::now() + limit;
        while !is_so(self) {
            if Instant::now() > limit {
                return false;
            }
            thread::sleep(TICK);
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn measure() {
    let server = Server::start();
    let agent = Agent::start(&server.url, "");
    assert!(server.until(LIMIT, |server| server.synced.load(Ordering::Relaxed)), "the agent does not watch");
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (stopped, ended) = (Arc::clone(&stop), Arc::clone(&made));
    let storm = thread::spawn(move || storm(&stopped, &ended));
    thread::sleep(CALM);
    let before = agent.memory("VmRSS");
    server.signal("STOP");
    thread::sleep(HANGS);
    let during = agent.memory("VmRSS");
    server.signal("CONT");
    let returned = Instant::now();
    // Caught up: it has what ended half a second ago.
    let caught_up = || {
        let must = made.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(500));
        server.ends.load(Ordering::Relaxed) >= must
    };
    while !caught_up() && returned.elapsed() < LIMIT {}
    let took = returned.elapsed();
    thread::sleep(CALM);
    stop.store(true, Ordering::Relaxed);
    storm.join().expect("no panic");
    let must = made.load(Ordering::Relaxed);
    server.until(LIMIT, |server| server.ends.load(Ordering::Relaxed) >= must);
    println!(
        "outage agent   {} of {must} ends acknowledged at {} events/s; caught up {:.1} s after the server's {} s; \
         memory before {before}, in the end of it {during}, at most {}",
        server.ends.load(Ordering::Relaxed),
        2 * RATE,
        took.as_secs_f64(),
        HANGS.as_secs(),
        agent.memory("VmHWM")
    );
}

fn storm(stop: &AtomicBool, made: &AtomicU32) {
    let mut injector = Injector::open().expect("an injector");
    let started = Instant::now();
    let per_tick = RATE / 100;
    let mut next = 0;
    for tick in 1.. {
        for number in next..next + per_tick {
            injector.create(source(number % 200_000), 600);
            injector.delete(source(number % 200_000));
        }
        injector.send();
        next += per_tick;
        made.store(next, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep((started + TICK * tick).saturating_duration_since(Instant::now()));
    }
}
