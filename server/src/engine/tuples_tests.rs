//! Flows without ids on one five-tuple, whose reports are lost or come late.

use super::tests::{Lab, NOW, ROUTER, RUN_A, batch, bytes, report, rolled_up};
use super::*;
use crate::{
    domain::{Counters, End},
    ingest::Phase,
};

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

#[test]
fn flows_without_ids_of_the_agent_get_different_ones() {
    let mut lab = Lab::new();
    // Row ids of two days, whose low halves are the same.
    for (day, port) in [(5_i64, 1), (6, 2)] {
        lab.engine.give_ids((day << 32) + 1, 10);
        lab.flows(vec![report(Phase::New, 0, port, bytes(100, 0))]);
    }
    let changes = lab.flows(vec![
        report(Phase::Progress, 0, 1, bytes(300, 0)),
        report(Phase::Progress, 0, 2, bytes(500, 0)),
    ]);
    let mut open: Vec<_> =
        changes.open.iter().map(|flow| (flow.key.tuple.src_port, flow.counters.bytes_orig)).collect();
    open.sort_unstable();
    assert_eq!(open, [(1, 300), (2, 500)]);
}

#[test]
fn a_flow_without_an_id_that_was_taken_for_gone_goes_on_where_it_was() {
    const HOUR: Micros = 3_600_000_000;
    let mut lab = Lab::new();
    let mut digest = (0..).map(|number| [number; 32]);
    let mut tell = |after: Micros, phase: Phase, orig: i64| {
        let mut report = report(phase, 0, 1, bytes(orig, 0));
        report.key.protocol = 17;
        (report.first_seen, report.last_seen) = (NOW, NOW + after);
        let mut batch = batch(0, vec![Observation::Flow(Box::new(report))]);
        let time = NOW + after;
        batch.events[0].time = time;
        batch.http = Some(HttpBatch {
            router: ROUTER,
            digest: digest.next().unwrap(),
            time,
            accepted: 1,
            rejected: 0,
        });
        assert_eq!(lab.engine.apply(batch, time), Applied::Taken);
        lab.engine.take_changes()
    };
    let mut told = vec![tell(0, Phase::New, 0), tell(1_000_000, Phase::Progress, 1_000)];
    // Nothing for a night: it is closed when the next batch comes, which tells of it.
    told.push(tell(9 * HOUR, Phase::Progress, 1_500));
    assert_eq!(told[2].finished[0].end, Some(End::Unseen));
    assert_eq!((told[2].open[0].before, told[2].open[0].counters), (bytes(1_000, 0), bytes(1_500, 0)));
    told.push(tell(9 * HOUR + 1, Phase::Progress, 1_800));
    assert_eq!(rolled_up(&told), (2, bytes(1_800, 0)));
    // The same of an end that comes after a night.
    told.push(tell(18 * HOUR, Phase::End { seen: true }, 2_000));
    assert_eq!(told[4].finished.len(), 2);
    assert_eq!(rolled_up(&told), (3, bytes(2_000, 0)));
}

#[test]
fn flows_of_a_router_that_fell_silent_are_over_in_the_end() {
    const HOUR: Micros = 3_600_000_000;
    let mut lab = Lab::new();
    lab.flows(
        [(0, 1, 17), (0, 2, 6), (RUN_A | 3, 3, 17)]
            .map(|(id, port, protocol)| {
                let mut told = report(Phase::New, id, port, bytes(1, 1));
                told.key.protocol = protocol;
                told
            })
            .to_vec(),
    );
    // Nothing else is told. UDP is forgotten after six hours, TCP after five days; an agent with ids says it itself.
    let mut ended = |now: Micros| {
        for (router, flows) in lab.engine.gone(now) {
            lab.engine.end_gone(router, flows, now);
        }
        let changes = lab.engine.take_changes();
        assert_eq!(changes.gaps.len(), changes.finished.len());
        changes.finished.iter().map(|flow| flow.key.tuple.src_port).collect::<Vec<_>>()
    };
    assert_eq!(ended(NOW + 5 * HOUR), [0; 0]);
    assert_eq!(ended(NOW + 7 * HOUR), [1]);
    assert_eq!(ended(NOW + 150 * HOUR), [2]);
    assert_eq!(ended(NOW + 1_500 * HOUR), [0; 0]);
}

#[test]
fn a_late_word_about_a_flow_without_an_id_does_not_open_it_again() {
    let mut lab = Lab::new();
    let mut tell = |second: Micros, phase: Phase, (first, last): (Micros, Micros), orig: i64| {
        let mut report = report(phase, 0, 1, bytes(orig, 0));
        (report.first_seen, report.last_seen) = (NOW + first * 1_000_000, NOW + last * 1_000_000);
        let mut batch = batch(lab.sequence + 1, vec![Observation::Flow(Box::new(report))]);
        batch.events[0].time = NOW + second * 1_000_000;
        lab.sequence += 1;
        assert_eq!(lab.engine.apply(batch, NOW), Applied::Taken);
        lab.engine.take_changes()
    };
    let mut told = vec![
        tell(1, Phase::New, (1, 1), 0),
        // Silent since second 9.
        tell(20, Phase::End { seen: true }, (1, 9), 2_000),
        tell(15, Phase::Progress, (15, 9), 1_500),
        tell(20, Phase::Progress, (20, 20), 1_500),
    ];
    assert_eq!(told.iter().map(|changes| changes.open.len()).collect::<Vec<_>>(), [1, 0, 0, 0]);
    assert_eq!(rolled_up(&told), (1, bytes(2_000, 0)));
    // In the moment of the end its tuple may be in use again.
    told.push(tell(20, Phase::New, (20, 20), 0));
    assert_eq!(told[4].open.len(), 1);
    told.push(tell(30, Phase::Progress, (20, 30), 500));
    assert_eq!(rolled_up(&told), (2, bytes(2_500, 0)));
}
