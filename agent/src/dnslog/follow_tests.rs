//! Against real files: whatever is done to them, every line is delivered once.

use std::{fs::OpenOptions, io::Write};

use proptest::prelude::*;

use super::*;

struct Scene {
    dir: tempfile::TempDir,
    path: PathBuf,
    follower: Follower,
    heard: Vec<String>,
    cuts: usize,
    now_ms: u64,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("dnsmasq.log");
        let follower = Follower::new(path.clone());
        Self { dir, path, follower, heard: Vec::new(), cuts: 0, now_ms: 0 }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn writer(&self) -> File {
        OpenOptions::new().create(true).append(true).open(&self.path).expect("a file")
    }

    fn look(&mut self) -> Kind {
        loop {
            let (heard, cuts) = (&mut self.heard, &mut self.cuts);
            let (kind, more) = self.follower.look(self.now_ms, &mut |found| match found {
                Found::Piece(Piece::Line(line)) => heard.push(String::from_utf8_lossy(line).into_owned()),
                Found::Piece(Piece::TooLong) => heard.push("TOO LONG".to_owned()),
                Found::Cut => *cuts += 1,
            });
            if !more {
                let deadline_ms = self.follower.deadline_ms();
                assert!(deadline_ms.is_none_or(|due_ms| due_ms > self.now_ms), "{deadline_ms:?}");
                return kind;
            }
        }
    }

    fn heard(&mut self) -> Vec<String> {
        self.look();
        std::mem::take(&mut self.heard)
    }
}

fn write(mut file: &File, text: &str) {
    file.write_all(text.as_bytes()).expect("written");
}

#[test]
fn it_begins_at_the_end_and_with_whole_lines() {
    let mut scene = Scene::new();
    let log = scene.writer();
    write(&log, "before\nhalf a");
    assert_eq!(scene.heard(), [""; 0]);
    write(&log, " line\nafter\nbegun");
    assert_eq!(scene.heard(), ["after"]);
    write(&log, "\n");
    assert_eq!(scene.heard(), ["begun"]);
}

#[test]
fn a_file_that_appears_later_is_read_from_its_beginning() {
    let mut scene = Scene::new();
    scene.look();
    assert_eq!(scene.follower.trouble, Some(Trouble::Missing));
    let log = scene.writer();
    write(&log, "first\n");
    assert_eq!(scene.heard(), ["first"]);
    assert_eq!(scene.follower.trouble, None);
}

#[test]
fn after_a_rename_the_old_file_is_read_until_its_writer_has_changed_over() {
    let mut scene = Scene::new();
    let old = scene.writer();
    scene.look();
    write(&old, "1\n");
    fs::rename(&scene.path, scene.beside("dnsmasq.log.1")).expect("renamed");
    assert_eq!(scene.heard(), ["1"]);
    // As logrotate's "create" makes it, before dnsmasq is told.
    let new = scene.writer();
    write(&old, "2\n");
    assert_eq!(scene.heard(), ["2"]);
    assert_eq!(scene.follower.stats.rotations, 0);
    write(&old, "3\n");
    write(&new, "4\n");
    assert_eq!(scene.heard(), ["3", "4"]);
    // A child that still has the old file open.
    write(&old, "5\n");
    assert_eq!(scene.heard(), ["5"]);
    scene.now_ms = RETIRED_MS + 1;
    write(&new, "6\n");
    assert_eq!(scene.heard(), ["6"]);
    assert_eq!((scene.follower.files().count(), scene.follower.stats.rotations, scene.cuts), (1, 1, 0));
}

#[test]
fn a_new_file_that_nobody_writes_to_is_told_of() {
    let mut scene = Scene::new();
    let old = scene.writer();
    write(&old, "1\n");
    scene.look();
    fs::rename(&scene.path, scene.beside("dnsmasq.log.1")).expect("renamed");
    let _new = scene.writer();
    scene.look();
    scene.now_ms = UNUSED_MS - 1;
    write(&old, "2\n");
    assert_eq!((scene.heard(), &scene.follower.trouble), (vec!["2".to_owned()], &None));
    assert_eq!(scene.follower.deadline_ms(), Some(UNUSED_MS));
    scene.now_ms = UNUSED_MS;
    assert_eq!((scene.look(), &scene.follower.trouble), (Kind::File, &Some(Trouble::Unused)));
}

#[test]
fn a_new_file_that_nobody_writes_to_is_looked_at_from_time_to_time() {
    let mut scene = Scene::new();
    let old = scene.writer();
    write(&old, "1\n");
    scene.look();
    fs::rename(&scene.path, scene.beside("dnsmasq.log.1")).expect("renamed");
    let _new = scene.writer();
    scene.look();
    // Nobody asks anything for three hours.
    for minute in 1..=180 {
        assert_eq!(scene.follower.deadline_ms(), Some(minute * UNUSED_MS));
        scene.now_ms = minute * UNUSED_MS;
        scene.look();
        assert_eq!(scene.follower.trouble, None);
    }
    write(&old, "2\n");
    scene.look();
    assert_eq!(scene.follower.trouble, None, "its writer may change over yet");
    scene.now_ms += UNUSED_MS;
    scene.look();
    assert_eq!(scene.follower.trouble, Some(Trouble::Unused));
}

#[test]
fn what_was_not_read_before_a_truncation_is_read_from_the_copy() {
    let mut scene = Scene::new();
    let log = scene.writer();
    write(&log, "0\n");
    scene.look();
    write(&log, "1\n");
    assert_eq!(scene.heard(), ["1"]);
    write(&log, "2\n3\n");
    fs::copy(&scene.path, scene.beside("dnsmasq.log.1")).expect("copied");
    // Neither of these is the copy.
    fs::write(scene.beside("dnsmasq.log.2"), "x\ny\nz\nzz\n").expect("written");
    fs::create_dir(scene.beside("dnsmasq.log.d")).expect("made");
    log.set_len(0).expect("truncated");
    write(&log, "4\n");
    assert_eq!(scene.heard(), ["2", "3", "4"]);
    assert_eq!((scene.cuts, scene.follower.stats.recovered_bytes), (1, 4));
}

#[test]
fn a_file_that_has_grown_again_is_known_to_be_truncated() {
    let mut scene = Scene::new();
    let log = scene.writer();
    write(&log, "0\n");
    scene.look();
    write(&log, "1\n");
    assert_eq!(scene.heard(), ["1"]);
    log.set_len(0).expect("truncated");
    write(&log, "2\n");
    write(&log, "3\n");
    assert_eq!(scene.heard(), ["2", "3"]);
    assert_eq!((scene.cuts, scene.follower.stats.truncations), (1, 1));
}

#[test]
fn what_is_in_the_way_is_named() {
    let mut scene = Scene::new();
    let old = scene.writer();
    scene.look();
    fs::rename(&scene.path, scene.beside("gone")).expect("renamed");
    fs::create_dir(&scene.path).expect("made");
    write(&old, "1\n");
    assert_eq!(scene.heard(), ["1"], "the old one is still written to");
    assert_eq!(scene.follower.trouble, Some(Trouble::Directory));
    fs::remove_dir(&scene.path).expect("removed");
    std::os::unix::net::UnixListener::bind(&scene.path).expect("bound");
    scene.look();
    assert_eq!(scene.follower.trouble, Some(Trouble::NotAFile));
    fs::remove_file(&scene.path).expect("removed");
    rustix::fs::mkfifoat(rustix::fs::CWD, &scene.path, 0o600.into()).expect("made");
    assert_eq!((scene.look(), &scene.follower.trouble), (Kind::Pipe, &None));
}

#[test]
fn binary_rubbish_and_a_line_without_an_end_do_no_harm() {
    let mut scene = Scene::new();
    let log = scene.writer();
    scene.look();
    write(&log, "1\n");
    write(&log, &"x".repeat(1 << 20));
    assert_eq!(scene.heard(), ["1", "TOO LONG"]);
    write(&log, "\n\0\u{1}\n2\n");
    assert_eq!(scene.heard(), ["\0\u{1}", "2"]);
}

/// What can happen to a log.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Lines, the last of them perhaps without its end for now.
    Write(u8, bool),
    Look,
    /// With a new file made at once, as "create" does, or by the writer.
    Rename(bool),
    /// The writer opens the path anew.
    Reopen,
    /// A copy, then nothing more than the truncation, as far as we can tell.
    CopyTruncate,
    /// Time for retired files to be left.
    Later,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1..20_u8, any::<bool>()).prop_map(|(lines, whole)| Act::Write(lines, whole)),
        3 => Just(Act::Look),
        1 => any::<bool>().prop_map(Act::Rename),
        1 => Just(Act::Reopen),
        1 => Just(Act::CopyTruncate),
        1 => Just(Act::Later),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_line_that_was_written_is_delivered_once(acts in acts()) {
        let mut scene = Scene::new();
        let mut log = scene.writer();
        scene.look();
        let (mut written, mut copies) = (0, 0);
        let (mut begun, mut truncated) = (false, false);
        // dnsmasq writes whole lines; only where it stops in the middle of one for us does one wait for its end.
        let end = |log: &File, begun: &mut bool| {
            if std::mem::take(begun) {
                write(log, " end\n");
            }
        };
        for act in acts {
            match act {
                Act::Write(lines, whole) => {
                    end(&log, &mut begun);
                    for line in 0..lines {
                        begun = !whole && line + 1 == lines;
                        // Some longer than what is compared at a truncation.
                        let pad = format!("{written}=").repeat(usize::from(line) * 15);
                        write(&log, &format!("line {written} {pad}{}", if begun { "" } else { " end\n" }));
                        written += 1;
                    }
                }
                Act::Look => {
                    scene.look();
                }
                Act::Rename(create) => {
                    // A file that comes and goes between two looks is not known of.
                    end(&log, &mut begun);
                    scene.look();
                    copies += 1;
                    if scene.path.exists() {
                        fs::rename(&scene.path, scene.beside(&format!("dnsmasq.log.{copies}"))).expect("renamed");
                    }
                    if create {
                        scene.writer();
                    }
                }
                Act::Reopen => {
                    end(&log, &mut begun);
                    log = scene.writer();
                }
                Act::CopyTruncate => {
                    end(&log, &mut begun);
                    // Of a file that was not begun, nothing tells that it was truncated; and what came and went
                    // between two truncations was never there for us. We look every 20 ms.
                    let begun = |file: &Followed| {
                        let at_path = fs::metadata(&scene.path).map(|about| (about.dev(), about.ino()));
                        !file.seen.is_empty() && at_path.is_ok_and(|id| id == file.id)
                    };
                    if truncated || !scene.follower.files.iter().any(begun) {
                        scene.look();
                    }
                    copies += 1;
                    if let Ok(current) = OpenOptions::new().write(true).open(&scene.path) {
                        fs::copy(&scene.path, scene.beside(&format!("dnsmasq.log.{copies}"))).expect("copied");
                        current.set_len(0).expect("truncated");
                        truncated = true;
                    }
                }
                Act::Later => {
                    scene.look();
                    scene.now_ms += RETIRED_MS + 1;
                }
            }
        }
        end(&log, &mut begun);
        scene.look();
        scene.now_ms += RETIRED_MS + 1;
        let numbers: Vec<usize> = scene
            .heard()
            .iter()
            .map(|line| {
                assert!(line.ends_with(" end"), "{line}");
                line.split(' ').nth(1).expect("a number").parse().expect("a number")
            })
            .collect();
        let expected: Vec<usize> = (0..written).collect();
        prop_assert_eq!(numbers, expected);
    }
}
