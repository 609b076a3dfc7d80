//! The program that posts JSON batches, against a server that fails in every way: the kernel's ends arrive,
//! each once.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    batches::{BatchServer, Behaviour, Kept, TOKEN},
    support::inject::{Injector, Source, source},
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[("posts_to_a_server_that_fails_lose_nothing", posts)];

const LIMIT: Duration = Duration::from_secs(30);
/// Entries made and removed at a time: more than one post takes.
const ROUND: u32 = 300;

struct Story {
    server: BatchServer,
    config: PathBuf,
    injector: Injector,
    next: u32,
}

impl Story {
    fn new(dir: &Path, server: BatchServer, address: SocketAddr) -> Self {
        let config = dir.join("agent.yaml");
        let text = format!(
            "router_id: test\nserver_url: http://{address}\nauth_token: {TOKEN}\ntransport: http\nmetrics_bind: ''\n\
             spool_dir: {}\nhttp_timeout: 500ms\nhttp_retry_base: 100ms\nbatch_max_wait: 50ms\ndns_log: off\n",
            dir.join("spool").display()
        );
        fs::write(&config, text).expect("written");
        Self { server, config, injector: Injector::open().expect("an injector"), next: 0 }
    }

    /// Starts the agent, and waits until it hears the kernel.
    fn start(&mut self) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netmon-agent"));
        let agent = command.arg("--config").arg(&self.config).env("NETMON_LOG", "warn").spawn();
        let agent = Agent(agent.expect("the agent"));
        let limit = Instant::now() + LIMIT;
        loop {
            let first = self.next;
            self.round(1);
            if self.server.until(Duration::from_millis(500), |kept| ends(kept).contains_key(&source(first))) {
                return agent;
            }
            assert!(Instant::now() < limit, "the agent hears nothing");
        }
    }

    /// Makes entries and removes them. Gives their numbers.
    fn round(&mut self, count: u32) -> std::ops::Range<u32> {
        let first = self.next;
        for number in self.next..self.next + count {
            self.injector.create(source(number), 600);
        }
        for number in self.next..self.next + count {
            self.injector.delete(source(number));
        }
        self.injector.send();
        self.next += count;
        first..self.next
    }

    /// Waits until the server has these ends.
    fn until_told(&self, numbers: std::ops::Range<u32>, what: &str) {
        let told = |kept: &Kept| {
            let ends = ends(kept);
            numbers.clone().all(|number| ends.contains_key(&source(number)))
        };
        assert!(self.server.until(LIMIT, told), "{what}: the server does not have all of it");
    }
}

/// How often each end was told.
fn ends(kept: &Kept) -> HashMap<Source, u32> {
    let mut ends = HashMap::new();
    for event in kept.events.iter().filter(|event| event["type"] == "flow") {
        let data = &event["data"];
        if data["dst_ip"] != "198.51.100.1" {
            continue;
        }
        assert_eq!((&data["event"], &data["l4proto"]), (&Value::from("DESTROY"), &Value::from(17)));
        let address: std::net::Ipv4Addr = data["src_ip"].as_str().expect("text").parse().expect("an address");
        let port = u16::try_from(data["src_port"].as_u64().expect("a number")).expect("a port");
        *ends.entry((address.octets(), port)).or_insert(0) += 1;
    }
    ends
}

/// The program, killed when it is dropped.
struct Agent(Child);

impl Agent {
    /// As a service manager ends it.
    fn terminate(mut self) {
        let started = Instant::now();
        let status = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill");
        assert!(status.success() && self.0.wait().expect("its end").success());
        assert!(started.elapsed() < Duration::from_secs(5), "stopping took {:?}", started.elapsed());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn posts() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = BatchServer::default();
    let running = server.start();
    let mut story = Story::new(dir.path(), server.clone(), running.address);
    let mut agent = story.start();
    let mut must = Vec::new();
    for behaviour in [
        Behaviour::Answer(503),
        Behaviour::Answer(401),
        Behaviour::Hang,
        Behaviour::Reset,
        Behaviour::TakeAndReset,
        Behaviour::Rubbish,
        Behaviour::Stall,
        Behaviour::Busy(1),
    ] {
        server.behave(behaviour);
        let round = story.round(ROUND);
        story.until_told(round.clone(), &format!("{behaviour:?}"));
        must.extend(round);
    }

    // Gone, and still gone when the agent is stopped: the spool keeps it for the next run.
    let address = running.stop();
    let round = story.round(ROUND);
    agent.terminate();
    let running = server.start_at(address);
    agent = story.start();
    story.until_told(round.clone(), "a server that came back");
    must.extend(round);

    // Killed while it does not know whether its post arrived. What the kernel had not told it by then is
    // nobody's; what was posted counts once.
    let before = server.kept().posts.len();
    server.behave(Behaviour::TakeAndReset);
    story.round(ROUND);
    assert!(server.until(LIMIT, |kept| kept.posts.len() > before));
    drop(agent);
    story.start().terminate();

    let kept = server.kept();
    assert_eq!(kept.faults, [""; 0]);
    let ends = ends(&kept);
    let twice: Vec<_> = ends.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "told more than once: {twice:?}");
    let missing: Vec<_> = must.iter().filter(|number| !ends.contains_key(&source(**number))).collect();
    assert!(missing.is_empty(), "of {} ends these were not told: {missing:?}", must.len());
    assert!(kept.repeated >= 3, "the server recognised what came twice: {}", kept.repeated);
    drop(running);
}
