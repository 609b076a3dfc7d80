//! Flows without ids on one five-tuple, whose reports are lost or come late.

use super::tests::{Lab, NOW, bytes, report};
use super::*;
use crate::{domain::Counters, ingest::Phase};

/// What was told of the tuple: second, phase, the second in which the flow began, bytes.
type Told = (i64, Phase, i64, i64);

/// The flows that come of it, by their beginnings: how many bytes, whether they ended.
fn check(told: &[Told], expected: &[(i64, i64, bool)]) {
    let second = |second: i64| NOW + second * 1_000_000;
    let mut lab = Lab::new();
    let mut all: Vec<Changes> = Vec::new();
    for &(time, phase, began, orig) in told {
        let mut report = report(phase, 0, 1, bytes(orig, 0));
        (report.first_seen, report.last_seen) = (second(began), second(time));
        all.push(lab.told(second(time), report));
    }
    let open = lab.engine.live(second(0)).flows.into_iter().map(|flow| flow.record);
    let mut flows: Vec<(i64, i64, bool)> = open
        .filter(|record| record.end.is_none())
        .chain(all.iter().flat_map(|changes| changes.finished.clone()))
        .map(|record| {
            ((record.first_seen - NOW) / 1_000_000, record.counters.bytes_orig, record.end.is_some())
        })
        .collect();
    flows.sort_unstable();
    assert_eq!(flows, expected);
    let minutes = all.iter().flat_map(|changes| &changes.minutes);
    let rolled_up = minutes.fold((0, Counters::default()), |(flows, sum), delta| {
        (flows + delta.flows, sum.plus(delta.counters))
    });
    let sum = expected.iter().map(|(_, bytes, _)| bytes).sum();
    assert_eq!((rolled_up.0, rolled_up.1.bytes_orig), (expected.len() as i64, sum));
}

const END: Phase = Phase::End { seen: true };

#[test]
fn a_lost_end_does_not_swallow_the_flows_that_follow() {
    let told = [
        (1, Phase::New, 1, 0),
        (2, Phase::New, 2, 0),
        (3, END, 2, 200),
        (4, Phase::New, 4, 0),
        (5, END, 4, 400),
        // Late words, of the one that is open and of one that is not.
        (1, Phase::Progress, 1, 100),
        (3, Phase::Progress, 2, 150),
    ];
    check(&told, &[(1, 100, false), (2, 200, true), (4, 400, true)]);
}

#[test]
fn a_flow_that_is_told_of_after_the_next_one_is_one_flow() {
    let told = [
        (9, Phase::New, 9, 0),
        (1, Phase::New, 1, 0),
        (2, Phase::Progress, 1, 500),
        (10, Phase::Progress, 9, 70),
        (3, END, 1, 800),
        (11, END, 9, 90),
    ];
    check(&told, &[(1, 800, true), (9, 90, true)]);
}
