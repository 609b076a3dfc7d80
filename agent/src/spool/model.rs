//! A model of agent, crashes and server: whatever happens, what comes out is what was appended, in order
//! and once, less what was counted as lost.

use std::{collections::HashMap, fs, path::PathBuf};

use netmon_proto::v1::{Batch, Event};
use proptest::prelude::*;
use prost::Message;

use super::{
    tests::{event, open},
    *,
};

#[derive(Debug, Clone)]
enum Step {
    /// One wake-up with that many events of that size.
    Append { events: usize, size: usize },
    /// The server takes that many batches; its acknowledgements may get lost.
    Send { most: usize, acks: bool },
    /// The agent is killed, and that much of the last segment never reached the disk.
    Crash { cut: u64 },
    /// A bit of some segment flips.
    Flip { file: usize, bit: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20_usize, 1..1500_usize).prop_map(|(events, size)| Step::Append { events, size }),
        3 => (0..30_usize, any::<bool>()).prop_map(|(most, acks)| Step::Send { most, acks }),
        1 => prop_oneof![Just(0), 1..3000_u64].prop_map(|cut| Step::Crash { cut }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(file, bit)| Step::Flip { file, bit }),
    ]
}

/// What a server keeps.
#[derive(Default)]
struct Server {
    last: HashMap<u64, u64>,
    received: Vec<Event>,
    lost_batches: u64,
    lost_events: u64,
}

impl Server {
    fn take(&mut self, spool: &mut Spool, mut most: usize, acks: bool) {
        loop {
            let epoch = spool.next_epoch();
            let expected = self.last.get(&epoch).copied().unwrap_or(spool.oldest_sequence(epoch) - 1);
            spool.start_stream(epoch, self.last.get(&epoch).copied().unwrap_or(0)).expect("possible");
            self.last.insert(epoch, expected);
            while most > 0 {
                let Some(frame) = spool.next_frame(usize::MAX, usize::MAX) else { break };
                most -= 1;
                let last = self.last.entry(epoch).or_default();
                let explained = frame.lost.map_or(0, |lost| lost.batches);
                assert_eq!(frame.sequence, *last + 1 + explained, "a hole is explained exactly");
                *last = frame.sequence;
                self.lost_batches += explained;
                self.lost_events += frame.lost.map_or(0, |lost| lost.events);
                self.received.extend(Batch::decode(frame.payload).expect("a batch").events);
                if acks {
                    spool.ack(frame.sequence).expect("was sent");
                }
            }
            if most == 0 || !acks || !spool.finish_epoch() {
                return;
            }
        }
    }
}

struct World {
    dir: tempfile::TempDir,
    spool: Option<Spool>,
    epoch: u64,
    appended: Vec<Event>,
    server: Server,
    losses: u64,
    damaged: bool,
    /// The agent does not know everything that the server has: an ack was lost, or forgotten in a crash.
    acks_lost: bool,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = Some(open(dir.path(), 1));
        let (appended, server) = (Vec::new(), Server::default());
        Self { dir, spool, epoch: 1, appended, server, losses: 0, damaged: false, acks_lost: false }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("spool")).expect("a directory");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        paths.sort();
        paths
    }

    fn run(&mut self, step: &Step) {
        let Some(spool) = &mut self.spool else { return };
        match *step {
            Step::Append { events, size } => {
                let first = self.appended.len() as i64 + 1;
                let events: Vec<Event> = (first..first + events as i64).map(|id| event(id, size)).collect();
                assert_eq!(spool.append(&events), events.len());
                assert!(spool.file_bytes() <= SMALLEST_CAP_BYTES);
                self.appended.extend(events);
            }
            Step::Send { most, acks } => {
                self.acks_lost |= !acks;
                self.server.take(spool, most, acks);
            }
            Step::Crash { cut } => {
                self.losses += spool.take_losses().iter().map(|loss| loss.count).sum::<u64>();
                self.acks_lost = true;
                self.spool = None;
                if let Some(last) = self.files().last() {
                    let file = fs::OpenOptions::new().write(true).open(last).expect("a file");
                    let len = file.metadata().expect("metadata").len();
                    file.set_len(len.saturating_sub(cut)).expect("cut");
                    self.damaged |= cut > 0;
                }
                self.epoch += 1;
                self.spool = Some(open(self.dir.path(), self.epoch));
            }
            Step::Flip { file, bit } => {
                let files = self.files();
                let Some(path) = files.get(file % files.len().max(1)) else { return };
                let mut bytes = fs::read(path).expect("a file");
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                // In place: the file that is being written must stay the same one.
                let file = fs::OpenOptions::new().write(true).open(path).expect("a file");
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("written");
                self.damaged = true;
            }
        }
    }

    fn check(mut self) {
        let mut spool = self.spool.take().expect("a spool");
        self.server.take(&mut spool, usize::MAX, true);
        let losses: u64 = spool.take_losses().iter().map(|loss| loss.count).sum::<u64>() + self.losses;

        let ids: Vec<i64> = self.server.received.iter().map(|event| event.time_us).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "in order and once: {ids:?}");
        for event in &self.server.received {
            assert_eq!(Some(event), self.appended.get(event.time_us as usize - 1), "as it was appended");
        }
        let missing = (self.appended.len() - ids.len()) as u64;
        let counted = self.server.lost_events + losses;
        if !self.damaged && !self.acks_lost {
            assert_eq!(missing, counted, "every lost event is counted, and no other");
        } else if !self.damaged {
            // Of a segment that the server had in part, the share that was lost is an estimate.
            assert!(missing == 0 || counted + self.server.lost_batches > 0, "{missing} lost in silence");
        }
        if !self.damaged {
            assert!(spool.drained(), "nothing is left behind");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_in_silence(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.check();
    }

    #[test]
    fn without_damage_nothing_is_left_behind(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            match step {
                Step::Flip { .. } => {}
                Step::Crash { .. } => world.run(&Step::Crash { cut: 0 }),
                _ => world.run(step),
            }
        }
        world.check();
    }

    #[test]
    fn without_damage_every_event_is_accounted_for(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            match step {
                Step::Flip { .. } | Step::Crash { .. } => {}
                Step::Send { most, .. } => world.run(&Step::Send { most: *most, acks: true }),
                Step::Append { .. } => world.run(step),
            }
        }
        world.check();
    }
}
