//! Any body goes through the JSON reader and the engine: nothing panics, every event is accounted for, and what is kept
//! raw is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netmon_server::{
    domain::{HttpBatch, RouterId},
    engine::{Applied, CheckedBatch, Engine, Known},
    ingest::{Observation, read_batch},
};

const NOW: i64 = 1_763_800_000_000_000;

fuzz_target!(|data: &[u8]| {
    let Ok(batch) = read_batch(data, NOW, true) else { return };
    assert!(batch.accepted as usize <= batch.events.len());
    assert!(batch.rejections.len() <= 10 && batch.rejections.len() as u64 <= batch.rejected);
    for event in &batch.events {
        if let Observation::Raw(text) = &event.what {
            serde_json::from_slice::<serde_json::Value>(text).unwrap();
        }
    }
    let again = read_batch(data, NOW + 1, false).unwrap();
    assert_eq!((again.digest, again.accepted, again.rejected), (batch.digest, batch.accepted, batch.rejected));

    let router = RouterId(1);
    let mut engine = Engine::default();
    engine.give_ids(1, 1 << 20);
    engine.attach(router, "fuzz", Known::default());
    let mut apply = |events, accepted| {
        let http = HttpBatch { router, digest: batch.digest, time: NOW, accepted, rejected: batch.rejected };
        let batch = CheckedBatch {
            router,
            epoch: 0,
            sequence: 0,
            lost_before: 0,
            lost_events: 0,
            lost_cause: 2,
            events,
            refused: batch.rejected,
            http: Some(http),
        };
        engine.apply(batch, NOW)
    };
    assert_eq!(apply(batch.events, batch.accepted), Applied::Taken);
    assert_eq!(apply(again.events, again.accepted), Applied::Duplicate);
    let changes = engine.take_changes();
    for flow in changes.finished.iter().chain(&changes.open) {
        assert!(flow.first_seen <= flow.last_seen);
    }
});
