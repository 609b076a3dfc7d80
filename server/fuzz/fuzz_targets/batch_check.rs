//! Any bytes that decode to a Batch go through validation, the rules of sequences and the engine: nothing panics, a batch
//! that is taken counts once, and what a flow is counted for never exceeds its counters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netmon_proto::v1;
use netmon_server::{
    domain::{Counters, RouterId},
    engine::{Applied, CheckedBatch, Engine, Known},
    ingest::check_events,
};
use prost::Message as _;

const NOW: i64 = 1_796_000_000_000_000;
const ROUTER: RouterId = RouterId(1);
const EPOCH: u64 = 7;

fuzz_target!(|data: &[u8]| {
    let Ok(batch) = v1::Batch::decode(data) else { return };
    let mut engine = Engine::default();
    engine.give_ids(1, 1 << 20);
    engine.attach(ROUTER, "fuzz", Known::default());
    engine.load_cursor(ROUTER, EPOCH, true, 0);
    match engine.apply(checked(&batch), NOW) {
        Applied::Taken => sums(&mut engine),
        Applied::Hole { expected } => {
            assert!(expected == 1 && batch.sequence - 1 > batch.lost_before);
            return;
        }
        other => panic!("{other:?}"),
    }
    // A sequence of zero is none: such a batch counts each time.
    if batch.sequence > 0 {
        assert_eq!(engine.apply(checked(&batch), NOW + 1), Applied::Duplicate);
        let changes = engine.take_changes();
        assert!(changes.minutes.is_empty() && changes.open.is_empty() && changes.finished.is_empty());
    }
});

fn checked(batch: &v1::Batch) -> CheckedBatch {
    let checked = check_events(batch.events.clone(), NOW, false);
    assert_eq!(checked.events.len() as u64 + checked.rejected, batch.events.len() as u64);
    CheckedBatch {
        router: ROUTER,
        epoch: EPOCH,
        sequence: batch.sequence,
        lost_before: batch.lost_before,
        lost_events: batch.lost_events,
        lost_cause: 2,
        events: checked.events,
        refused: checked.rejected,
        http: None,
    }
}

/// What the first changes of an engine put into the minutes is what their flows moved.
fn sums(engine: &mut Engine) {
    let changes = engine.take_changes();
    let (mut flows, mut moved, mut before) = (0, Counters::default(), Counters::default());
    for flow in changes.finished.iter().chain(&changes.open) {
        assert!(flow.before.min(flow.counters) == flow.before);
        assert!(flow.first_seen <= flow.last_seen);
        flows += 1;
        moved = moved.plus(flow.counters);
        before = before.plus(flow.before);
    }
    let (mut counted, mut rolled_up) = (0, Counters::default());
    for delta in &changes.minutes {
        counted += delta.flows;
        rolled_up = rolled_up.plus(delta.counters);
    }
    // Sums stop at the largest number.
    let largest =
        [moved.bytes_orig, moved.bytes_reply, moved.packets_orig, moved.packets_reply].into_iter().max();
    assert_eq!(counted, flows);
    assert!(
        rolled_up.plus(before) == moved || largest == Some(i64::MAX),
        "{rolled_up:?} {before:?} {moved:?}"
    );
}
