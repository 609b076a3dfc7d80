//! A real dnsmasq, real questions, and what the agent makes of its log: every answer that a client got, once.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use super::dnslog_lab::{Lab, Numbers};
use crate::support::{
    dns::{A, AAAA},
    dnsmasq::Dnsmasq,
    dump::Dump,
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("answers_are_known_from_the_plain_log", plain),
    ("answers_are_known_from_the_log_with_numbers", numbered),
    ("answers_are_known_from_a_syslog_file", syslog_file),
    ("answers_are_known_from_logread", logread),
    ("answers_are_known_from_a_named_pipe", named_pipe),
    ("a_plain_log_renamed_under_load_loses_and_repeats_nothing", || renamed("log-queries")),
    ("a_numbered_log_renamed_under_load_loses_and_repeats_nothing", || renamed("log-queries=extra")),
    ("a_plain_log_truncated_under_load_loses_and_repeats_nothing", || truncated("log-queries")),
    ("a_numbered_log_truncated_under_load_loses_and_repeats_nothing", || truncated("log-queries=extra")),
];

/// Questions of one client under load.
const LOAD: usize = 500;
/// At most, while too little has been done to the log.
const MOST_LOAD: usize = 10 * LOAD;

/// Rotations in one run.
const MOST_ACTS: u32 = 20;
/// Less says too little.
const LEAST_ACTS: u32 = 3;

fn agent() -> &'static str {
    env!("CARGO_BIN_EXE_netmon-agent")
}

fn follow(log: &Path) -> String {
    format!("dns_log: file\ndnsmasq_log_path: {}", log.display())
}

fn by_file(option: &str, numbers: Numbers) {
    let lab = Lab::new();
    let dnsmasq = Dnsmasq::start(None, &lab.settings(option));
    let mut dump = Dump::start(agent(), &follow(&dnsmasq.log));
    lab.await_agent(&mut dump);
    let asked = lab.ask_all(numbers);
    lab.compare(dump, asked);
}

fn plain() {
    by_file("log-queries", Numbers::None);
}

fn numbered() {
    by_file("log-queries=extra", Numbers::All);
}

fn named_pipe() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("made");
    let mut dump = Dump::start(agent(), &follow(&pipe));
    let settings = lab.settings(&format!("log-queries=extra\nlog-facility={}", pipe.display()));
    let _dnsmasq = Dnsmasq::start(None, &settings);
    lab.await_agent(&mut dump);
    let asked = lab.ask_all(Numbers::All);
    lab.compare(dump, asked);
}

/// BusyBox's syslogd and a dnsmasq that logs to it, with a `/dev` and a shared memory of their own. The agent
/// is started among them, and the only one to hold its standard output.
struct Syslog {
    lab: Lab,
}

impl Syslog {
    fn set_up(syslogd: &str, log_queries: &str) -> Self {
        let lab = Lab::new();
        let dir = lab.dir.path();
        std::os::unix::fs::symlink("/bin/busybox", dir.join("logread")).expect("linked");
        let settings =
            lab.settings(&format!("no-resolv\nno-hosts\npid-file\nlog-facility=daemon\n{log_queries}"));
        fs::write(dir.join("dnsmasq.conf"), settings).expect("written");
        let script = format!(
            "#!/bin/sh\nset -e\ncd {dir}\n\
             if [ -z \"$AMONG_THEM\" ]; then AMONG_THEM=1 exec unshare -mi -- \"$0\" \"$@\"; fi\n\
             mkdir old; mount --rbind /dev old; mount -t tmpfs dev /dev\n\
             for file in null urandom; do : >/dev/$file; mount --bind old/$file /dev/$file; done\n\
             busybox syslogd -n {syslogd} >/dev/null & echo $! >>pids\n\
             until [ -S /dev/log ]; do sleep 0.05; done\n\
             dnsmasq --no-daemon --conf-file=dnsmasq.conf >/dev/null 2>&1 & echo $! >>pids\n\
             PATH={dir}:$PATH exec {agent} \"$@\"\n",
            dir = dir.display(),
            agent = agent(),
        );
        let own = Self { lab };
        fs::write(own.script(), script).expect("written");
        fs::set_permissions(own.script(), fs::Permissions::from_mode(0o755)).expect("set");
        own
    }

    fn script(&self) -> PathBuf {
        self.lab.dir.path().join("agent.sh")
    }

    fn check(&self, settings: &str, numbers: Numbers) {
        let mut dump = Dump::start(self.script().to_str().expect("text"), settings);
        self.lab.await_agent(&mut dump);
        let asked = self.lab.ask_all(numbers);
        self.lab.compare(dump, asked);
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        let pids = fs::read_to_string(self.lab.dir.path().join("pids")).unwrap_or_default();
        for pid in pids.split_whitespace() {
            // It may have gone already.
            let _ = Command::new("kill").args(["-s", "KILL", pid]).status();
        }
    }
}

fn syslog_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("messages");
    Syslog::set_up(&format!("-O {}", log.display()), "log-queries").check(&follow(&log), Numbers::None);
}

fn logread() {
    Syslog::set_up("-C256", "log-queries=extra").check("dns_log: logread", Numbers::All);
}

/// Every client asks what nobody has asked, while something is done to the log.
fn under_load(option: &str, act: impl Fn(&Dnsmasq, usize) + Sync) {
    let lab = Lab::new();
    let dnsmasq = Dnsmasq::start(None, &lab.settings(option));
    let mut dump = Dump::start(agent(), &follow(&dnsmasq.log));
    lab.await_agent(&mut dump);
    let (done, acts) = (AtomicBool::new(false), AtomicU32::new(0));
    let asked = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && acts.load(Ordering::Relaxed) < MOST_ACTS {
                act(&dnsmasq, acts.fetch_add(1, Ordering::Relaxed) as usize);
                thread::sleep(Duration::from_millis(100));
            }
        });
        let asked = lab.at_once(|client| {
            // On a fast machine all is asked before anything was done to the log: go on until it was.
            let enough = |number| number >= LOAD && acts.load(Ordering::Relaxed) >= LEAST_ACTS;
            let asked = (0..MOST_LOAD).take_while(|number| !enough(*number)).map(|number| {
                let name = format!("load-{number}-{}.test", client.label());
                client.ask(&lab.network.lan, &name, if number % 2 == 0 { A } else { AAAA })
            });
            asked.collect()
        });
        done.store(true, Ordering::Relaxed);
        asked
    });
    let acts = acts.load(Ordering::Relaxed);
    assert!(acts >= LEAST_ACTS, "the load was over after {acts} rotations");
    lab.compare(dump, asked);
}

fn renamed(option: &str) {
    under_load(option, |dnsmasq, number| {
        let log = dnsmasq.log.as_path();
        fs::rename(log, log.with_extension(number.to_string())).expect("renamed");
        if number % 2 == 0 {
            // As logrotate's "create" does.
            fs::write(log, "").expect("made");
            thread::sleep(Duration::from_millis(30));
        }
        dnsmasq.signal("USR2");
        // dnsmasq opens it when it gets to it.
        while !log.exists() {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

fn truncated(option: &str) {
    under_load(option, |dnsmasq, number| {
        let log = dnsmasq.log.as_path();
        // What is written between copy and truncation is lost to everyone, so nothing is.
        dnsmasq.signal("STOP");
        await_stop(dnsmasq);
        fs::copy(log, log.with_extension(format!("log.{number}"))).expect("copied");
        fs::OpenOptions::new().write(true).open(log).expect("open").set_len(0).expect("truncated");
        dnsmasq.signal("CONT");
    });
}

/// A signal is delivered a little later.
fn await_stop(dnsmasq: &Dnsmasq) {
    let stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", dnsmasq.id())).expect("its state");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    while !stopped() {
        thread::sleep(Duration::from_millis(1));
    }
}
