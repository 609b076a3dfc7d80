//! The router's own figures, as `--dump` prints them, from a real kernel's interfaces.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::support::must;

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("an_interface_made_anew_makes_no_huge_difference", made_anew),
    ("a_full_table_is_told_of", full_table),
];

struct Dump {
    agent: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _dir: tempfile::TempDir,
}

impl Dump {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("agent.yaml");
        let text = format!(
            "router_id: a\nserver_url: http://127.0.0.1:1\nauth_token: x\nhealth_interval: 1s\nspool_dir: {}\n",
            dir.path().display()
        );
        fs::write(&path, text).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_netmon-agent"));
        command.arg("--dump").arg("--config").arg(&path).stdout(Stdio::piped());
        let mut agent = command.spawn().expect("the agent");
        let lines = BufReader::new(agent.stdout.take().expect("its output")).lines();
        Self { agent, lines, _dir: dir }
    }

    /// The next report of the router's health.
    fn next(&mut self) -> Value {
        loop {
            let line = self.lines.next().expect("a line").expect("text");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["type"] == "router_health" {
                return event;
            }
        }
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn received(health: &Value, name: &str) -> Option<u64> {
    let interfaces = health["interfaces"].as_array().expect("a list");
    interfaces.iter().find(|interface| interface["name"] == name)?["rx_packets"].as_u64()
}

fn pair_up() {
    must("ip link add here type veth peer name there");
    must("ip link set here up");
    must("ip link set there up");
}

fn made_anew() {
    pair_up();
    must("ping -c 50 -i 0.002 -q 127.0.0.1");
    let mut dump = Dump::start();
    let first = dump.next();
    assert_eq!(first["interval_ms"], Value::Null, "the first report has no interval: {first}");
    assert_eq!(received(&first, "lo"), Some(0), "what was before the first look is not told");
    must("ping -c 5 -i 0.002 -q 127.0.0.1");
    // Requests and answers, perhaps in two reports.
    let mut heard = 0;
    while heard < 10 {
        let health = dump.next();
        assert!((500..5000).contains(&health["interval_ms"].as_u64().expect("an interval")), "{health}");
        heard += received(&health, "lo").expect("lo");
    }
    assert_eq!(heard, 10);

    must("ip link delete here");
    while received(&dump.next(), "here").is_some() {}
    pair_up();
    loop {
        let health = dump.next();
        if let Some(packets) = received(&health, "here") {
            assert!(packets < 1000, "{health}");
            break;
        }
    }
}

fn full_table() {
    fs::write("/proc/sys/net/netfilter/nf_conntrack_acct", "1").expect("a setting");
    let mut injector = crate::support::inject::Injector::open().expect("an injector");
    let most: u64 = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")
        .expect("the limit")
        .trim()
        .parse()
        .expect("a number");
    let mut dump = Dump::start();
    assert_eq!(dump.next()["warnings"], Value::Null);
    let count = u32::try_from(most - most / 20).expect("a table of usual size");
    for number in 0..count {
        injector.create(crate::support::inject::source(number), 600);
    }
    injector.send();
    loop {
        let health = dump.next();
        if let Some(warnings) = health["warnings"].as_array() {
            let warning = warnings[0].as_str().expect("text");
            assert!(warning.starts_with("the conntrack table is nearly full ("), "{health}");
            break;
        }
    }
}
