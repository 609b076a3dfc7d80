//! The store by itself.

use super::*;

fn store(dir: &Path, max_bytes: u64, memory_events: usize) -> Store {
    let config = SpoolConfig { dir: dir.to_owned(), max_bytes, fsync: false, memory_events };
    Store::new(Spool::open(config, 1).expect("a spool"))
}

#[test]
fn a_sync_with_lost_reports_never_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("spool");
    std::fs::write(&path, "in the way").expect("written");
    let mut store = store(&path, 1 << 20, 3);
    let sync = |step: Step, sync_id| {
        let sync = netmon_proto::v1::TableSync { step: step.into(), sync_id };
        Event { time_us: 1, kind: Some(Kind::TableSync(sync)) }
    };
    store.append(&mut vec![sync(Step::Begin, 1), event(1, 1), event(2, 1), event(3, 1)]);
    assert_eq!(store.unwritten, 1);
    std::fs::remove_file(&path).expect("removed");
    store.append(&mut vec![event(4, 1), sync(Step::End, 1), event(5, 1)]);
    store.append(&mut vec![sync(Step::End, 1), sync(Step::Begin, 2), event(6, 1), sync(Step::End, 2)]);

    store.spool.start_stream(1, 0).expect("possible");
    let told: Vec<(i32, u64)> = std::iter::from_fn(|| store.spool.next_frame(usize::MAX, usize::MAX))
        .flat_map(|frame| netmon_proto::v1::Batch::decode(frame.payload).expect("a batch").events)
        .filter_map(|event| match event.kind {
            Some(Kind::TableSync(sync)) => Some((sync.step, sync.sync_id)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(1, 1), (1, 2), (2, 2)]);
}

/// What is left out is measured by a clock that nobody sets, and told in the time that holds at the end.
#[tokio::test]
async fn a_clock_that_is_set_does_not_stretch_what_was_left_out() {
    const NOW_US: i64 = 1_790_000_000_000_000;
    let (round, began) = (Duration::from_secs(10), Instant::now());
    for begun_us in [5_000_000, NOW_US - 35_000_000, NOW_US + 3_600_000_000] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = store(dir.path(), 64 * 1024, 10);
        let stage = Stage::default();
        let mut feed =
            Feed::open(|_: &MonitorConfig| Ok::<_, String>(stage.clone()), MonitorConfig::default());
        while !store.spool.pressure() {
            store.append(&mut vec![event(1, 1000)]);
        }
        store.regulate(&mut feed, round, began, begun_us);
        assert_eq!(stage.script.borrow().progress, [false]);
        // The server takes all of it.
        store.spool.start_stream(1, 0).expect("possible");
        let sent = std::iter::from_fn(|| store.spool.next_frame(usize::MAX, usize::MAX)).last();
        store.spool.ack(sent.expect("a frame").sequence).expect("it was sent");
        store.regulate(&mut feed, round, began + Duration::from_secs(35), NOW_US);
        assert_eq!(stage.script.borrow().progress, [false, true]);
        let mut gaps = Vec::new();
        store.losses.report(&mut gaps, NOW_US);
        let gap = gaps.into_iter().find_map(|event| match event.kind {
            Some(Kind::Gap(gap)) if gap.cause() == GapCause::ProgressSkipped => Some(gap),
            _ => None,
        });
        let gap = gap.expect("what was left out is told");
        assert_eq!((gap.count, gap.from_us, gap.to_us), (3, NOW_US - 35_000_000, NOW_US), "{begun_us}");
    }
}
