//! `netmon-agent --dump`, and everything that it printed.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// No condition takes longer to come true, unless something is broken.
const LIMIT: Duration = Duration::from_secs(30);

/// A running agent, killed when dropped.
pub(crate) struct Dump {
    agent: Child,
    lines: Receiver<String>,
    /// What was read so far.
    pub(crate) events: Vec<Value>,
    _dir: tempfile::TempDir,
}

impl Dump {
    /// Starts `program` with these lines in its configuration.
    pub(crate) fn start(program: &str, settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path: PathBuf = dir.path().join("agent.yaml");
        let text = format!(
            "router_id: a\nserver_url: http://127.0.0.1:1\nauth_token: x\nspool_dir: {}\n{settings}\n",
            dir.path().display()
        );
        fs::write(&path, text).expect("written");
        let mut command = Command::new(program);
        command.arg("--dump").arg("--config").arg(&path).stdout(Stdio::piped());
        let mut agent = command.spawn().expect("the agent");
        let output = BufReader::new(agent.stdout.take().expect("its output"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { agent, lines, events: Vec::new(), _dir: dir }
    }

    /// The same, and waits until it has bound these NFLOG groups.
    pub(crate) fn start_with_groups(program: &str, settings: &str, groups: &[u16]) -> Self {
        let dump = Self::start(program, settings);
        await_groups(groups);
        dump
    }

    /// Reads on until the events satisfy a condition.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&[Value]) -> bool) {
        assert!(self.within(LIMIT, done), "{what} did not happen: {:#?}", self.events);
    }

    /// The same, for a shorter time: whether they do.
    pub(crate) fn within(&mut self, limit: Duration, done: impl Fn(&[Value]) -> bool) -> bool {
        let limit = Instant::now() + limit;
        while !done(&self.events) {
            let left = limit.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.events.push(serde_json::from_str(&line).expect("JSON")),
                Err(_) => return false,
            }
        }
        true
    }

    /// Sends it a signal: STOP, CONT.
    pub(crate) fn signal(&self, signal: &str) {
        super::must(&format!("kill -s {signal} {}", self.agent.id()));
    }

    /// Stops it as SIGTERM does, and gives all events but those that every host has.
    pub(crate) fn finish(mut self) -> Vec<Value> {
        let status = Command::new("kill").arg(self.agent.id().to_string()).status().expect("kill");
        assert!(status.success());
        let rest = self.lines.iter().map(|line| serde_json::from_str(&line).expect("JSON"));
        let mut events: Vec<Value> = self.events.drain(..).chain(rest).collect();
        assert!(self.agent.wait().expect("its end").success());
        events.retain(|event| {
            let kind = event["type"].as_str().expect("a type");
            !matches!(kind, "flow" | "table_sync" | "router_health" | "host_identity")
        });
        events
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// Waits until exactly these groups are bound in this namespace, by whomever.
pub(crate) fn await_groups(groups: &[u16]) {
    let wanted: BTreeSet<u16> = groups.iter().copied().collect();
    let limit = Instant::now() + LIMIT;
    loop {
        let listing = fs::read_to_string("/proc/net/netfilter/nfnetlink_log").expect("the list of groups");
        let bound = listing.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
        if bound.collect::<BTreeSet<u16>>() == wanted {
            return;
        }
        assert!(Instant::now() < limit, "groups {groups:?} were not bound:\n{listing}");
        thread::sleep(Duration::from_millis(20));
    }
}
