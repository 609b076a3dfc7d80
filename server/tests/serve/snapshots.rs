//! `ingest-once` and `ingest-loop` as they are called.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use netmon_server::store::{DatabaseUrl, Store};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conntrack_extended.txt")
}

fn program(data: &Path, command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_netmon-server"));
    program.arg(command).arg("--data").arg(data).env("NETMON_LOG", "warn");
    for name in ["CONNTRACK_INPUT_FILE", "CONNTRACK_COMMAND", "DATABASE_URL"] {
        program.env_remove(name);
    }
    program
}

fn said(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_snapshot_comes_from_a_file_or_a_command() {
    let data = tempfile::tempdir().unwrap();
    let once = |set: &[(&str, &str)]| {
        said(&program(data.path(), "ingest-once").envs(set.iter().copied()).output().unwrap())
    };
    let file = fixture().display().to_string();
    let cat = format!("cat '{file}'");
    let (ok, out, err) = once(&[("CONNTRACK_INPUT_FILE", &file)]);
    assert!(ok && out.starts_with("110 flows: 110 new, 0 moved on; 0 ended"), "{out}{err}");
    let (ok, out, err) = once(&[("CONNTRACK_COMMAND", &cat)]);
    assert!(ok && out.starts_with("110 flows: 0 new, 0 moved on; 0 ended"), "{out}{err}");

    let store = Store::open(&DatabaseUrl::Sqlite(data.path().join("netmon.db"))).unwrap();
    let totals = store.reader().totals().unwrap();
    assert_eq!(totals.flows.flows, 110);
    assert!(totals.agree());

    for (set, expected) in [
        (&[("CONNTRACK_INPUT_FILE", file.as_str()), ("CONNTRACK_COMMAND", "true")][..], "not both"),
        (&[("CONNTRACK_INPUT_FILE", "/nowhere")], "/nowhere: cannot be read"),
        (&[("CONNTRACK_INPUT_FILE", "/dev/null")], "/dev/null: there is nothing in it"),
        (&[("CONNTRACK_COMMAND", "no-such-program-here -L")], "no-such-program-here: cannot be started"),
        (&[("CONNTRACK_COMMAND", "false")], "false: it failed (exit status: 1)"),
        (&[("CONNTRACK_COMMAND", "cat x | sort")], "| is for a shell"),
        (&[("CONNTRACK_COMMAND", "echo hello")], "echo hello: expected what conntrack -L prints: line 1: "),
    ] {
        let (ok, out, err) = once(set);
        assert!(!ok && out.is_empty() && err.contains(expected), "{out}{err}");
    }
    // Nothing ended for it; a command that has nothing to print ends all.
    assert_eq!(store.reader().totals().unwrap(), totals);
    let (ok, out, err) = once(&[("CONNTRACK_COMMAND", "true")]);
    assert!(ok && out.starts_with("0 flows: 0 new, 0 moved on; 110 ended"), "{out}{err}");
}

#[test]
fn a_loop_goes_on_until_it_is_stopped() {
    let data = tempfile::tempdir().unwrap();
    let listing = data.path().join("listing");
    std::fs::write(&listing, "").unwrap();
    let mut child = program(data.path(), "ingest-loop")
        .args(["--interval", "1", "--router", "attic"])
        .env("CONNTRACK_INPUT_FILE", &listing)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let store = || Store::open(&DatabaseUrl::Sqlite(data.path().join("netmon.db"))).unwrap();
    let wait = |flows: i64| {
        let begin = Instant::now();
        while store().reader().totals().unwrap().flows.flows != flows {
            assert!(begin.elapsed() < Duration::from_secs(60), "{flows} flows do not come");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // It outlives a file with nothing in it, and sees each that comes.
    let lines = std::fs::read_to_string(fixture()).unwrap();
    let some: Vec<&str> = lines.lines().filter(|line| line.contains("src=")).collect();
    for count in [3, 5] {
        let part = data.path().join("part");
        std::fs::write(&part, some[..count].join("\n")).unwrap();
        std::fs::rename(&part, &listing).unwrap();
        wait(count as i64);
    }
    // Another one for the same router would count everything twice.
    let second = program(data.path(), "ingest-once")
        .args(["--router", "attic"])
        .env("CONNTRACK_INPUT_FILE", &listing)
        .output()
        .unwrap();
    assert!(said(&second).2.contains("another netmon-server uses this data directory"), "{second:?}");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let rows = store().reader().routers().unwrap();
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["attic"]);
}
