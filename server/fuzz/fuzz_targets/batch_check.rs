//! Any bytes that decode to a Batch go through validation and the engine: nothing panics, and what a flow
//! is counted for never exceeds its counters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netmon_proto::v1;
use netmon_server::{
    domain::RouterId,
    engine::{CheckedBatch, Engine, Known},
    ingest::check_events,
};
use prost::Message as _;

const NOW: i64 = 1_763_800_000_000_000;

fuzz_target!(|data: &[u8]| {
    let Ok(batch) = v1::Batch::decode(data) else { return };
    let count = batch.events.len() as u64;
    let checked = check_events(batch.events, NOW, false);
    assert_eq!(checked.events.len() as u64 + checked.rejected, count);

    let router = RouterId(1);
    let mut engine = Engine::default();
    engine.give_ids(1, 1 << 20);
    engine.attach(router, "fuzz", Known::default());
    engine.apply(
        CheckedBatch {
            router,
            epoch: 0,
            sequence: 0,
            lost_before: 0,
            lost_events: 0,
            lost_cause: 2,
            events: checked.events,
            refused: checked.rejected,
            http: None,
        },
        NOW,
    );
    let changes = engine.take_changes();
    for flow in changes.finished.iter().chain(&changes.open) {
        assert!(flow.before.min(flow.counters) == flow.before);
        assert!(flow.first_seen <= flow.last_seen);
    }
});
