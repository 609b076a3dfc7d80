use std::{fs, path::Path};

use netmon_proto::v1::{Batch, Event, Gap, event::Kind};
use prost::Message;

use super::*;

pub(super) fn event(id: i64, size: usize) -> Event {
    let gap = Gap { detail: "x".repeat(size), ..Default::default() };
    Event { time_us: id, kind: Some(Kind::Gap(gap)) }
}

pub(super) fn config(dir: &Path, max_bytes: u64) -> SpoolConfig {
    SpoolConfig { dir: dir.join("spool"), max_bytes, fsync: false, memory_events: 10 }
}

pub(super) fn open(dir: &Path, epoch: u64) -> Spool {
    Spool::open(config(dir, SMALLEST_CAP_BYTES), epoch).expect("a spool")
}

/// Appends one batch per id.
fn append(spool: &mut Spool, ids: std::ops::RangeInclusive<i64>, size: usize) {
    for id in ids {
        assert_eq!(spool.append(&[event(id, size)]), 1, "event {id}");
    }
}

/// What a server that had `last` of `epoch` would get: sequences, ids and explanations.
fn frames(spool: &mut Spool, epoch: u64, last: u64) -> Vec<(u64, i64, Option<Explanation>)> {
    spool.start_stream(epoch, last).expect("a possible sequence");
    std::iter::from_fn(|| spool.next_frame(usize::MAX, usize::MAX))
        .map(|frame| {
            let batch = Batch::decode(frame.payload).expect("a batch");
            assert_eq!(batch.sequence, frame.sequence);
            (frame.sequence, batch.events[0].time_us, frame.lost)
        })
        .collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("spool")).expect("a directory");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

#[test]
fn what_is_not_acknowledged_comes_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=3, 10);
    assert_eq!(frames(&mut spool, 7, 0), [(1, 1, None), (2, 2, None), (3, 3, None)]);
    spool.ack(2).expect("was sent");
    assert_eq!((spool.waiting_batches(), spool.in_flight()), (1, true));
    assert!(spool.waiting_bytes() < 60, "only the third: {}", spool.waiting_bytes());
    assert_eq!(frames(&mut spool, 7, 2), [(3, 3, None)]);
    append(&mut spool, 4..=4, 10);
    assert_eq!(spool.next_frame(usize::MAX, usize::MAX).map(|frame| frame.sequence), Some(4));
    assert_eq!(spool.ack(5), Err(NeverSent { said: 5 }));
    spool.ack(4).expect("was sent");
    assert!(spool.drained());
}

#[test]
fn no_more_than_the_window_is_on_its_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    for first in [1, 11, 21] {
        let events: Vec<Event> = (first..first + 10).map(|id| event(id, 1000)).collect();
        assert_eq!(spool.append(&events), 10);
    }
    spool.start_stream(7, 0).expect("possible");
    let mut sent = |events: usize, bytes: usize| spool.next_frame(events, bytes).map(|frame| frame.events);
    let first = sent(1, 1).expect("one batch always");
    assert_eq!(sent(2 * first as usize - 1, usize::MAX), None);
    assert_eq!(sent(usize::MAX, 7000), None);
    assert_eq!(sent(2 * first as usize, usize::MAX), Some(first), "what was held back");
    spool.ack(2).expect("was sent");
    let rest: u32 =
        std::iter::from_fn(|| spool.next_frame(usize::MAX, usize::MAX)).map(|frame| frame.events).sum();
    assert_eq!(rest, 30 - 2 * first);
}

#[test]
fn what_was_held_back_when_its_segment_was_dropped_is_not_forgotten() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=3, 1000);
    spool.start_stream(7, 0).expect("possible");
    assert!(spool.next_frame(1, 1).is_some() && spool.next_frame(1, 1).is_none());
    append(&mut spool, 4..=100, 1000);
    let (first, _, lost) = frames(&mut spool, 7, 0)[0];
    assert_eq!(lost, Some(Explanation { batches: first - 1, events: first - 1, cause: GapCause::SpoolFull }));
}

#[test]
fn earlier_epochs_come_first_and_are_deleted_when_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    append(&mut open(dir.path(), 7), 1..=2, 10);
    append(&mut open(dir.path(), 8), 3..=3, 10);
    let mut spool = open(dir.path(), 9);
    append(&mut spool, 4..=4, 10);

    for (epoch, expected) in [(7, vec![(1, 1, None), (2, 2, None)]), (8, vec![(1, 3, None)])] {
        assert_eq!(spool.next_epoch(), epoch);
        assert_eq!(frames(&mut spool, epoch, 0), expected);
        assert!(!spool.finish_epoch(), "not acknowledged yet");
        spool.ack(expected.len() as u64).expect("was sent");
        assert!(spool.finish_epoch());
    }
    assert_eq!(spool.next_epoch(), 9);
    assert_eq!(frames(&mut spool, 9, 0), [(1, 4, None)]);
    assert!(!spool.finish_epoch(), "the present epoch does not end");
    assert_eq!(files(dir.path()).len(), 1);
    assert_eq!(spool.take_losses(), []);
}

#[test]
fn a_full_spool_drops_the_oldest_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=40, 1000);
    assert!(!spool.pressure() && spool.relieved() == (spool.file_bytes() <= 32 * 1024));
    append(&mut spool, 41..=50, 1000);
    assert!(spool.pressure());
    append(&mut spool, 51..=100, 1000);
    assert!(spool.file_bytes() <= SMALLEST_CAP_BYTES);
    assert!(spool.take_sync_wanted());

    let got = frames(&mut spool, 7, 0);
    let (first, _, lost) = got[0];
    assert_eq!(lost, Some(Explanation { batches: first - 1, events: first - 1, cause: GapCause::SpoolFull }));
    assert_eq!(spool.oldest_sequence(7), 1, "what is explained counts as there");
    assert!(got[1..].iter().all(|(_, _, lost)| lost.is_none()));
    assert_eq!(got.last().map(|last| last.0), Some(100));
    assert_eq!(spool.stats().dropped_events, first - 1);

    // The next run knows it too, and tells only what the server does not have.
    drop(spool);
    let mut spool = open(dir.path(), 8);
    let lost = frames(&mut spool, 7, first - 3)[0].2;
    assert_eq!(lost, Some(Explanation { batches: 2, events: 2, cause: GapCause::SpoolFull }));
}

#[test]
fn an_ack_that_arrives_after_its_batch_was_dropped_closes_the_hole() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=3, 1000);
    frames(&mut spool, 7, 0);
    append(&mut spool, 4..=100, 1000);
    spool.ack(3).expect("was sent");
    let next = spool.next_frame(usize::MAX, usize::MAX).expect("a frame");
    let lost = next.sequence - 4;
    assert_eq!(next.lost, Some(Explanation { batches: lost, events: lost, cause: GapCause::SpoolFull }));
}

#[test]
fn an_epoch_that_is_dropped_as_a_whole_becomes_a_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    append(&mut open(dir.path(), 7), 1..=2, 1000);
    let mut spool = open(dir.path(), 8);
    append(&mut spool, 3..=80, 1000);
    let losses = spool.take_losses();
    assert_eq!(
        losses.iter().map(|loss| (loss.cause, loss.count)).collect::<Vec<_>>(),
        [(GapCause::SpoolFull, 2)]
    );
}

#[test]
fn a_server_that_forgot_is_told_what_it_forgot() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=30, 1000);
    frames(&mut spool, 7, 0);
    spool.ack(25).expect("was sent");
    let oldest = spool.oldest_sequence(7);
    assert!(oldest > 8, "whole segments were deleted: {oldest}");
    let lost = frames(&mut spool, 7, 5)[0].2;
    assert_eq!(lost, Some(Explanation { batches: oldest - 6, events: 0, cause: GapCause::ServerState }));
}

#[test]
fn a_server_that_is_ahead_moves_the_sequence() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=2, 10);
    assert_eq!(frames(&mut spool, 7, 9), []);
    append(&mut spool, 3..=3, 10);
    assert_eq!(
        spool.next_frame(usize::MAX, usize::MAX).map(|frame| (frame.sequence, frame.lost)),
        Some((10, None))
    );
    assert!(spool.start_stream(7, u64::MAX).is_err());
}

#[test]
fn a_flipped_bit_costs_one_record() {
    let dir = tempfile::tempdir().expect("a directory");
    append(&mut open(dir.path(), 7), 1..=5, 100);
    let path = &files(dir.path())[0];
    let good = fs::read(path).expect("a file");
    let record_bytes = (good.len() - 32) / 5;
    for (at, name) in
        [(0, "length"), (3, "length's high byte"), (5, "checksum"), (8, "payload"), (60, "payload")]
    {
        let mut bad = good.clone();
        bad[32 + 2 * record_bytes + at] ^= 0x10;
        fs::write(path, &bad).expect("written");
        let mut spool = open(dir.path(), 8);
        let hole = Explanation { batches: 1, events: 0, cause: GapCause::SpoolCorrupt };
        let expected = [(1, 1, None), (2, 2, None), (4, 4, Some(hole)), (5, 5, None)];
        assert_eq!(frames(&mut spool, 7, 0), expected, "{name}");
        assert_eq!(spool.stats().damaged, 2, "{name}: once when opened, once when read");
    }
    let mut bad = good.clone();
    bad[9] ^= 1;
    fs::write(path, &bad).expect("written");
    assert_eq!(frames(&mut open(dir.path(), 8), 7, 0).len(), 5, "the name says what the header says");
}

#[test]
fn a_torn_tail_is_cut_and_counted_once() {
    let dir = tempfile::tempdir().expect("a directory");
    append(&mut open(dir.path(), 7), 1..=3, 100);
    let path = &files(dir.path())[0];
    let good = fs::read(path).expect("a file");
    fs::write(path, &good[..good.len() - 20]).expect("written");
    let mut spool = open(dir.path(), 8);
    assert_eq!(spool.take_losses().iter().map(|loss| loss.count).sum::<u64>(), 1);
    assert_eq!(frames(&mut spool, 7, 0).len(), 2);
    drop(spool);
    assert_eq!(open(dir.path(), 9).take_losses(), []);

    fs::write(path, &good[..10]).expect("written");
    let mut spool = open(dir.path(), 9);
    assert_eq!(spool.take_losses().iter().map(|loss| loss.count).sum::<u64>(), 1);
    assert_eq!(spool.next_epoch(), 9, "nothing of the earlier run is left");
}

#[test]
fn without_a_directory_events_wait_in_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=2, 10);
    fs::remove_dir_all(dir.path().join("spool")).expect("removed");
    fs::write(dir.path().join("spool"), "in the way").expect("written");

    append(&mut spool, 3..=12, 10);
    assert!(spool.failing());
    assert_eq!(spool.append(&[event(13, 10)]), 0, "memory holds ten events");
    let sequences = |got: &[(u64, i64, Option<Explanation>)]| got.iter().map(|got| got.0).collect::<Vec<_>>();
    let got = frames(&mut spool, 7, 0);
    assert_eq!(sequences(&got), (1..=12).collect::<Vec<_>>(), "the open file can still be read");

    spool.ack(12).expect("was sent");
    let events: Vec<Event> = (13..=40).map(|id| event(id, 10)).collect();
    assert_eq!(spool.append(&events), 10, "a part of a batch is better than none");
    assert_eq!(spool.next_frame(usize::MAX, usize::MAX).map(|frame| frame.events), Some(10));
    spool.ack(13).expect("was sent");
    fs::remove_file(dir.path().join("spool")).expect("removed");
    append(&mut spool, 41..=41, 10);
    assert!(!spool.failing() && spool.take_sync_wanted());
    assert_eq!(
        spool.next_frame(usize::MAX, usize::MAX).map(|frame| (frame.sequence, frame.lost)),
        Some((14, None))
    );
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn segments_that_disappear_are_a_hole() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=30, 1000);
    fs::remove_file(&files(dir.path())[0]).expect("removed");
    let got = frames(&mut spool, 7, 0);
    let (first, _, lost) = got[0];
    assert_eq!(
        lost,
        Some(Explanation { batches: first - 1, events: first - 1, cause: GapCause::SpoolWrite })
    );
}

#[test]
fn one_directory_serves_one_agent() {
    let dir = tempfile::tempdir().expect("a directory");
    let _first = open(dir.path(), 7);
    let second = Spool::open(config(dir.path(), SMALLEST_CAP_BYTES), 8);
    assert!(second.is_err_and(|error| error.to_string().contains("in use by another netmon-agent")));
}

#[test]
fn the_next_run_knows_when_this_one_was_alive() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    assert_eq!(spool.previous_run_us(), None);
    spool.stamp(1_700_000_000_000_000);
    drop(spool);
    assert_eq!(open(dir.path(), 8).previous_run_us(), Some(1_700_000_000_000_000));
}

#[test]
fn the_old_stamp_is_whole_until_the_new_one_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    spool.stamp(1_700_000_000_000_000);
    // Who opened the old one reads all of it, however far the new one is.
    let mut old = File::open(dir.path().join("spool/last-run")).expect("stamped");
    spool.stamp(1_800_000_000_000_000);
    assert_eq!(io::read_to_string(&mut old).expect("read"), "1700000000000000\n");
    drop(spool);
    assert_eq!(open(dir.path(), 8).previous_run_us(), Some(1_800_000_000_000_000));
}

#[test]
fn arbitrary_bytes_are_read_without_harm() {
    let (records, damaged) = read_segment(vec![0x08; 100_000]);
    assert_eq!((records.len(), damaged), (0, 1));
    assert_eq!(read_segment(Vec::new()), (vec![], 1));
}

#[test]
fn what_went_another_road_does_not_come_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=5, 10);
    frames(&mut spool, 7, 0);
    spool.ack(3).expect("was sent");
    spool.forget_acked();
    // A server that knows nothing of it.
    assert_eq!((spool.oldest_sequence(7), spool.waiting_batches()), (4, 2));
    assert_eq!(frames(&mut spool, 7, 0), [(4, 4, None), (5, 5, None)]);
    assert_eq!(spool.waiting_batches(), 2);
    spool.stamp(1);
    drop(spool);
    let mut spool = open(dir.path(), 8);
    assert_eq!(frames(&mut spool, 7, 0), [(4, 4, None), (5, 5, None)]);
    assert_eq!(frames(&mut spool, 7, 4), [(5, 5, None)], "what the server says counts for more");
    spool.ack(5).expect("was sent");
    spool.stamp(2);
    drop(spool);
    assert_eq!((files(dir.path()).len(), open(dir.path(), 9).next_epoch()), (0, 9));
}

#[test]
fn another_epoch_in_the_middle_of_a_run_comes_after_the_rest_of_the_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spool = open(dir.path(), 7);
    append(&mut spool, 1..=3, 10);
    frames(&mut spool, 7, 0);
    spool.ack(2).expect("was sent");
    spool.forget_acked();
    spool.begin_epoch(8);
    spool.end_stream();
    append(&mut spool, 4..=4, 10);
    assert_eq!((spool.next_epoch(), frames(&mut spool, 7, 0)), (7, vec![(3, 3, None)]));
    spool.ack(3).expect("was sent");
    assert!(spool.finish_epoch());
    assert_eq!((spool.next_epoch(), frames(&mut spool, 8, 0)), (8, vec![(1, 4, None)]));
    assert_eq!(spool.take_losses(), []);
}
