//! The whole part, with real files, pipes and programs.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use netmon_proto::v1::event::Kind;
use tokio::{
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{
    metrics::render,
    parts::{FINISH, Parts},
};

const QUESTION: &str = "Nov 24 21:00:00 dnsmasq[1]: query[A] router.lan from 192.168.1.20\n\
                        Nov 24 21:00:00 dnsmasq[1]: config router.lan is 192.168.1.1\n";

fn start(config: DnsLogConfig) -> Parts {
    let mut parts = Parts::new();
    parts.start("dnslog", move |outlet, state| run(config.clone(), outlet, state));
    parts
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.expect("open").write_all(text.as_bytes()).expect("written");
}

async fn answer(parts: &mut Parts) -> String {
    let events = timeout(Duration::from_secs(20), parts.next()).await.expect("in time");
    match &events[0].kind {
        Some(Kind::DnsResponse(response)) => response.name.clone(),
        other => panic!("{other:?}"),
    }
}

fn warnings(parts: &Parts) -> String {
    let mut warnings = Vec::new();
    parts.warnings(&mut warnings);
    warnings.join("\n")
}

fn figure(parts: &Parts, name: &str) -> u64 {
    let mut figures = Vec::new();
    parts.figures(&[], &mut figures);
    let page = render(figures);
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is not in\n{page}")).parse().expect("a number")
}

async fn in_local_set(story: impl Future<Output = ()>) {
    LocalSet::new().run_until(story).await;
}

/// Gives the part time to look around.
async fn a_while() {
    sleep(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_log_is_followed_and_counted() {
    in_local_set(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        append(&path, QUESTION);
        let mut parts = start(DnsLogConfig::File(path.clone()));
        a_while().await;
        append(&path, "\u{1}\nNov 24 21:00:00 router sshd[2]: hello\n");
        append(&path, QUESTION);
        assert_eq!(answer(&mut parts).await, "router.lan");
        for (name, value) in [
            ("dns_lines_total", 4),
            ("dns_parse_errors_total", 1),
            ("dns_log_lines_foreign_total", 1),
            ("dns_log_questions_total", 1),
            ("dns_log_answers_total", 1),
        ] {
            assert_eq!(figure(&parts, name), value, "{name}");
        }
        assert_eq!(warnings(&parts), "");
        // What is begun is told at the end.
        append(&path, QUESTION);
        let mut last = Vec::new();
        parts.finish(Instant::now() + FINISH, |events| last.extend(events)).await;
        assert_eq!(last.len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_log_in_which_nothing_happens_costs_nothing() {
    in_local_set(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        append(&path, QUESTION);
        let parts = start(DnsLogConfig::File(path.clone()));
        a_while().await;
        let before = figure(&parts, "dns_log_looks_total");
        sleep(Duration::from_secs(86_400)).await;
        assert_eq!(figure(&parts, "dns_log_looks_total"), before);
        assert!(warnings(&parts).starts_with("no DNS question was heard for ten minutes"));
    })
    .await;
}

#[tokio::test]
async fn what_is_in_the_way_is_told_and_does_not_stay_told() {
    in_local_set(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let mut parts = start(DnsLogConfig::File(path.clone()));
        a_while().await;
        assert!(warnings(&parts).contains("log is not there: set log-facility="), "{}", warnings(&parts));
        fs::create_dir(&path).expect("made");
        a_while().await;
        assert!(warnings(&parts).contains("is a directory"), "{}", warnings(&parts));
        fs::remove_dir(&path).expect("removed");
        std::os::unix::fs::symlink(&path, &path).expect("linked");
        a_while().await;
        assert!(warnings(&parts).contains("cannot be read (Too many levels"), "{}", warnings(&parts));
        fs::remove_file(&path).expect("removed");
        append(&path, QUESTION);
        assert_eq!(answer(&mut parts).await, "router.lan");
        assert_eq!(warnings(&parts), "");
    })
    .await;
}

#[tokio::test]
async fn a_pipe_is_read_whoever_writes_to_it_and_a_file_in_its_place_too() {
    in_local_set(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).expect("made");
        let mut parts = start(DnsLogConfig::File(path.clone()));
        a_while().await;
        for _ in 0..3 {
            // Each time another writer.
            let (path, text) = (path.clone(), QUESTION);
            tokio::task::spawn_blocking(move || append(&path, text)).await.expect("no panic");
            assert_eq!(answer(&mut parts).await, "router.lan");
        }
        fs::remove_file(&path).expect("removed");
        append(&path, QUESTION);
        assert_eq!(answer(&mut parts).await, "router.lan");
    })
    .await;
}

/// With a program of our own for `logread`, in a directory of its own.
fn program(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("logread");
    fs::write(&path, format!("#!/bin/sh\n{text}")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    path
}

#[tokio::test]
async fn logread_is_run_as_it_can_be_and_again_when_it_ends() {
    in_local_set(async {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        fs::write(&log, QUESTION).expect("written");
        let calls = dir.path().join("calls");
        let text = format!(
            "echo \"$*\" >>{calls}\n[ \"$2\" = -e ] && exit 1\ncat {log}\n",
            calls = calls.display(),
            log = log.display()
        );
        let mut parts = start(DnsLogConfig::Logread(program(dir.path(), &text)));
        assert_eq!(answer(&mut parts).await, "router.lan");
        // It has ended, and is started again after a pause.
        assert_eq!(answer(&mut parts).await, "router.lan");
        let calls = fs::read_to_string(calls).expect("calls");
        assert!(calls.starts_with("-f -e dnsmasq\n-f\n-f\n"), "{calls}");
        assert!(figure(&parts, "part_restarts_total{part=\"dnslog\"}") >= 1);
    })
    .await;
}

#[tokio::test]
async fn logread_is_killed_when_the_agent_stops() {
    in_local_set(async {
        let dir = tempfile::tempdir().expect("a directory");
        let pid = dir.path().join("pid");
        let text = format!("echo $$ >{}\nexec sleep 1000\n", pid.display());
        let parts = start(DnsLogConfig::Logread(program(dir.path(), &text)));
        let read = || fs::read_to_string(&pid).unwrap_or_default();
        while !read().ends_with('\n') {
            sleep(Duration::from_millis(10)).await;
        }
        let process = PathBuf::from(format!("/proc/{}", read().trim()));
        assert!(process.exists());
        parts.finish(Instant::now() + FINISH, |_| {}).await;
        assert!(!process.exists());
    })
    .await;
}

/// How much of the processor this thread takes in a second.
async fn cpu() -> Duration {
    let read = || fs::read_to_string("/proc/thread-self/schedstat").expect("a kernel that counts");
    let used = || Duration::from_nanos(read().split(' ').next().and_then(|ns| ns.parse().ok()).expect("ns"));
    let before = used();
    sleep(Duration::from_secs(1)).await;
    used() - before
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_after_a_rotation_is_no_reason_to_look_on_and_on() {
    in_local_set(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        append(&path, QUESTION);
        let parts = start(DnsLogConfig::File(path.clone()));
        a_while().await;
        fs::rename(&path, dir.path().join("log.1")).expect("renamed");
        append(&path, "");
        a_while().await;
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        let taken = cpu().await;
        assert!(taken < Duration::from_millis(100), "{taken:?}");
        let looks = figure(&parts, "dns_log_looks_total");
        assert!(looks < 20, "{looks}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pipe_after_a_rotation_is_waited_for_in_peace() {
    in_local_set(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        append(&path, QUESTION);
        let _parts = start(DnsLogConfig::File(path.clone()));
        a_while().await;
        fs::rename(&path, dir.path().join("log.1")).expect("renamed");
        append(&path, QUESTION);
        a_while().await;
        // Before the old file is left.
        fs::remove_file(&path).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).expect("made");
        a_while().await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        tokio::time::resume();
        let taken = cpu().await;
        assert!(taken < Duration::from_millis(100), "{taken:?}");
    })
    .await;
}
