//! One `Lab` drives an engine with reports and checks what it would write.

use std::net::Ipv4Addr;

use super::live::RECENT_US;
use super::*;
use crate::{
    domain::{Counters, Direction, End, FlowKey, Tuple},
    ingest::{FlowReport, Phase},
};

pub(super) const ROUTER: RouterId = RouterId(1);
const EPOCH: u64 = 77;
pub(super) const NOW: Micros = 1_763_800_000_000_000;
pub(super) const RUN_A: u64 = 0xa << 32;
const RUN_B: u64 = 0xb << 32;

pub(super) struct Lab {
    pub(super) engine: Engine,
    pub(super) sequence: u64,
}

pub(super) fn bytes(orig: i64, reply: i64) -> Counters {
    Counters { bytes_orig: orig, bytes_reply: reply, packets_orig: orig / 100, packets_reply: reply / 100 }
}

pub(super) fn report(phase: Phase, flow_id: u64, port: u16, counters: Counters) -> FlowReport {
    let src = Ipv4Addr::new(192, 168, 1, 20).into();
    let dst = Ipv4Addr::new(203, 0, 113, 9).into();
    FlowReport {
        phase,
        flow_id,
        key: FlowKey {
            zone: 0,
            conntrack_id: u32::from(port),
            protocol: 6,
            tuple: Tuple { src, dst, src_port: port, dst_port: 443 },
        },
        reply: None,
        icmp: None,
        direction: Direction::Out,
        device: Some(src),
        remote: Some(dst),
        counters,
        before: Counters::default(),
        first_seen: NOW,
        last_seen: NOW,
        kernel_start: None,
        tcp_state: 4,
        status: 8,
        mark: 0,
        no_counters: false,
    }
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::restarted(Vec::new(), false, 0)
    }

    fn restarted(open: Vec<FlowRecord>, stored: bool, sequence: u64) -> Self {
        let mut engine = Engine::default();
        engine.give_ids(1000, 1000);
        engine.attach(ROUTER, "r", Known { open, ..Known::default() });
        engine.load_cursor(ROUTER, EPOCH, stored, sequence);
        Self { engine, sequence }
    }

    pub(super) fn send(&mut self, what: Vec<Observation>) -> Changes {
        self.sequence += 1;
        let sequence = self.sequence;
        assert_eq!(self.engine.apply(batch(sequence, what), NOW), Applied::Taken);
        self.engine.take_changes()
    }

    /// One report, observed at this time.
    pub(super) fn told(&mut self, time: Micros, report: FlowReport) -> Changes {
        self.sequence += 1;
        let mut batch = batch(self.sequence, vec![Observation::Flow(Box::new(report))]);
        batch.events[0].time = time;
        assert_eq!(self.engine.apply(batch, NOW), Applied::Taken);
        self.engine.take_changes()
    }

    pub(super) fn flows(&mut self, reports: Vec<FlowReport>) -> Changes {
        self.send(reports.into_iter().map(|report| Observation::Flow(Box::new(report))).collect())
    }
}

pub(super) fn batch(sequence: u64, what: Vec<Observation>) -> CheckedBatch {
    let events = what.into_iter().map(|what| Checked { time: NOW, clamped: 0, what }).collect();
    CheckedBatch {
        router: ROUTER,
        epoch: EPOCH,
        sequence,
        lost_before: 0,
        lost_events: 0,
        lost_cause: GapCause::SpoolFull as i16,
        events,
        refused: 0,
        http: None,
    }
}

pub(super) fn rolled_up(changes: &[Changes]) -> (i64, Counters) {
    changes
        .iter()
        .flat_map(|changes| &changes.minutes)
        .fold((0, Counters::default()), |(flows, sum), delta| (flows + delta.flows, sum.plus(delta.counters)))
}

#[test]
fn a_flow_is_counted_as_it_grows_and_written_once_when_it_ends() {
    let mut lab = Lab::new();
    let first = lab.flows(vec![report(Phase::New, RUN_A | 1, 5000, bytes(0, 0))]);
    let second = lab.flows(vec![report(Phase::Progress, RUN_A | 1, 5000, bytes(100, 900))]);
    let third = lab.flows(vec![report(Phase::End { seen: true }, RUN_A | 1, 5000, bytes(300, 1000))]);

    assert_eq!((first.open.len(), first.finished.len()), (1, 0));
    assert_eq!(second.open[0].counters, bytes(100, 900));
    assert_eq!((third.open.len(), third.finished.len()), (0, 1));
    assert_eq!(third.closed, vec![first.open[0].id.0]);
    assert_eq!(third.finished[0].id, first.open[0].id);
    assert_eq!(third.finished[0].end, Some(End::Seen));
    assert_eq!(rolled_up(&[first, second, third]), (1, bytes(300, 1000)));
}

#[test]
fn a_flow_that_begins_and_ends_in_one_commit_never_enters_the_open_table() {
    let mut lab = Lab::new();
    let changes = lab.flows(vec![
        report(Phase::New, RUN_A | 1, 5000, bytes(0, 0)),
        report(Phase::End { seen: true }, RUN_A | 1, 5000, bytes(300, 1000)),
    ]);
    assert_eq!((changes.open.len(), changes.closed.len(), changes.finished.len()), (0, 0, 1));
}

#[test]
fn an_end_stands_alone() {
    let changes =
        Lab::new().flows(vec![report(Phase::End { seen: true }, RUN_A | 1, 5000, bytes(300, 1000))]);
    assert_eq!(changes.finished.len(), 1);
    assert_eq!(rolled_up(&[changes]), (1, bytes(300, 1000)));
}

#[test]
fn a_batch_that_comes_again_changes_nothing() {
    let mut lab = Lab::new();
    let end = || {
        vec![Observation::Flow(Box::new(report(Phase::End { seen: true }, RUN_A | 1, 5000, bytes(300, 1))))]
    };
    lab.send(end());
    assert_eq!(lab.engine.apply(batch(1, end()), NOW), Applied::Duplicate);
    assert!(lab.engine.take_changes().is_empty());
}

#[test]
fn a_hole_is_refused_unless_it_is_explained() {
    let mut lab = Lab::new();
    assert_eq!(lab.engine.apply(batch(3, vec![]), NOW), Applied::Hole { expected: 1 });
    let explained = CheckedBatch { lost_before: 2, lost_events: 40, ..batch(3, vec![]) };
    assert_eq!(lab.engine.apply(explained, NOW), Applied::Taken);
    let changes = lab.engine.take_changes();
    assert_eq!((changes.gaps[0].cause, changes.gaps[0].count), (GapCause::SpoolFull as i16, 40));
    assert_eq!(changes.cursors[0].to, 3);
}

#[test]
fn the_unwatched_part_is_in_no_minute() {
    let mut lab = Lab::new();
    let found =
        FlowReport { before: bytes(500, 500), ..report(Phase::Found, RUN_A | 1, 5000, bytes(500, 500)) };
    let end = FlowReport {
        before: bytes(500, 500),
        ..report(Phase::End { seen: true }, RUN_A | 1, 5000, bytes(800, 600))
    };
    let first = lab.flows(vec![found]);
    let second = lab.flows(vec![end]);
    assert_eq!(second.finished[0].watched(), bytes(300, 100));
    assert_eq!(rolled_up(&[first, second]), (1, bytes(300, 100)));
}

#[test]
fn an_open_flow_stays_one_flow_over_a_restart_of_the_agent() {
    let mut lab = Lab::new();
    let first = lab.flows(vec![report(Phase::New, RUN_A | 1, 5000, bytes(100, 100))]);
    let found =
        FlowReport { before: bytes(700, 700), ..report(Phase::Found, RUN_B | 1, 5000, bytes(700, 700)) };
    let second = lab.send(vec![
        Observation::SyncBegin(RUN_B),
        Observation::Flow(Box::new(found)),
        Observation::SyncEnd(RUN_B),
    ]);
    assert_eq!(second.open[0].id, first.open[0].id);
    assert_eq!(second.open[0].flow_id, RUN_B | 1);
    assert_eq!(second.open[0].before, Counters::default());
    assert!(second.gaps.is_empty());
    assert_eq!(rolled_up(&[first, second]), (1, bytes(700, 700)));
}

#[test]
fn what_an_earlier_run_left_open_and_nobody_found_again_has_ended_unseen() {
    let mut lab = Lab::new();
    lab.flows(vec![report(Phase::New, RUN_A | 1, 5000, bytes(100, 100))]);
    // The server restarts in between and does not hear the BEGIN.
    let open: Vec<FlowRecord> = lab.engine.live(NOW).flows.into_iter().map(|flow| flow.record).collect();
    let mut lab = Lab::restarted(open, true, 1);
    let changes = lab.send(vec![Observation::SyncEnd(RUN_B)]);
    assert_eq!(changes.finished[0].end, Some(End::Unseen));
    assert_eq!((changes.gaps[0].cause, changes.gaps[0].count), (GapCause::FlowEndUnseen as i16, 1));
}

#[test]
fn a_sync_within_a_run_ends_only_what_it_did_not_mention() {
    let mut lab = Lab::new();
    lab.flows(vec![
        report(Phase::New, RUN_A | 1, 5001, bytes(0, 0)),
        report(Phase::New, RUN_A | 2, 5002, bytes(0, 0)),
    ]);
    let unheard = lab.send(vec![Observation::SyncEnd(RUN_A | 9)]);
    assert!(unheard.finished.is_empty());
    let changes = lab.send(vec![
        Observation::SyncBegin(RUN_A | 9),
        Observation::Flow(Box::new(report(Phase::Progress, RUN_A | 2, 5002, bytes(1, 1)))),
        Observation::SyncEnd(RUN_A | 9),
    ]);
    assert_eq!(changes.finished.len(), 1);
    assert_eq!(changes.finished[0].flow_id, RUN_A | 1);
}

#[test]
fn a_sync_with_a_hole_in_it_ends_nothing() {
    let mut lab = Lab::new();
    lab.flows(vec![report(Phase::New, RUN_A | 1, 5001, bytes(0, 0))]);
    lab.send(vec![Observation::SyncBegin(RUN_B)]);
    let end = CheckedBatch { lost_before: 1, ..batch(4, vec![Observation::SyncEnd(RUN_B)]) };
    assert_eq!(lab.engine.apply(end, NOW), Applied::Taken);
    assert!(lab.engine.take_changes().finished.is_empty());
    lab.sequence = 4;
    let again = lab.send(vec![Observation::SyncBegin(RUN_B | 1), Observation::SyncEnd(RUN_B | 1)]);
    assert_eq!(again.finished.len(), 1);
}

#[test]
fn a_tuple_in_use_again_is_another_flow() {
    let started = |flow: FlowReport, at| FlowReport { kernel_start: Some(at), ..flow };
    for (what, second) in [
        ("the kernel says NEW", report(Phase::New, RUN_B | 2, 5000, bytes(900, 900))),
        ("counters went down", report(Phase::Found, RUN_B | 2, 5000, bytes(50, 900))),
        ("another start", started(report(Phase::Found, RUN_B | 2, 5000, bytes(900, 900)), NOW + 5)),
        ("the same run", report(Phase::Progress, RUN_A | 2, 5000, bytes(900, 900))),
    ] {
        let mut lab = Lab::new();
        lab.flows(vec![started(report(Phase::New, RUN_A | 1, 5000, bytes(100, 100)), NOW)]);
        let changes = lab.flows(vec![second]);
        assert_eq!(changes.finished.len(), 1, "{what}");
        assert_eq!(changes.finished[0].counters, bytes(100, 100), "{what}");
        assert_eq!(changes.open.len(), 1, "{what}");
        assert_eq!(changes.gaps.len(), 1, "{what}");
    }
}

#[test]
fn the_kernels_start_replaces_the_time_of_the_event() {
    let mut lab = Lab::new();
    lab.flows(vec![report(Phase::New, RUN_A | 1, 5000, bytes(1, 1))]);
    let start = NOW + 2600;
    let end = FlowReport {
        kernel_start: Some(start),
        first_seen: start,
        last_seen: start,
        ..report(Phase::End { seen: true }, RUN_A | 1, 5000, bytes(2, 2))
    };
    let changes = lab.flows(vec![end]);
    assert_eq!(changes.finished[0].first_seen, start);
}

#[test]
fn a_start_by_a_wrong_clock_does_not_move_the_beginning_on() {
    let mut lab = Lab::new();
    for second in 0..3 {
        let seen = NOW + second * 1_000_000;
        let told = FlowReport {
            kernel_start: Some(1_000_000),
            first_seen: seen,
            last_seen: seen,
            ..report(Phase::Progress, RUN_A | 1, 5000, bytes(second + 1, 1))
        };
        assert_eq!(lab.flows(vec![told]).open[0].first_seen, NOW);
    }
}

#[test]
fn counters_that_go_down_are_clamped_and_counted() {
    let mut lab = Lab::new();
    lab.flows(vec![report(Phase::New, RUN_A | 1, 5000, bytes(400, 400))]);
    let changes = lab.flows(vec![report(Phase::Progress, RUN_A | 1, 5000, bytes(100, 500))]);
    assert_eq!((changes.open[0].counters.bytes_orig, changes.open[0].counters.bytes_reply), (400, 500));
    assert_eq!(lab.engine.clamped(), 1);
}

#[test]
fn bytes_land_in_the_minute_in_which_they_moved() {
    let mut lab = Lab::new();
    lab.flows(vec![report(Phase::New, RUN_A | 1, 5000, bytes(0, 0))]);
    let late = NOW + 3 * 60_000_000;
    let later = FlowReport { last_seen: late, ..report(Phase::Progress, RUN_A | 1, 5000, bytes(10, 10)) };
    let changes = lab.flows(vec![later]);
    assert_eq!(changes.minutes.len(), 1);
    assert_eq!(changes.minutes[0].minute, late / 60_000_000);
}

#[test]
fn what_ended_just_now_is_shown_for_a_while() {
    let mut lab = Lab::new();
    lab.flows(vec![report(Phase::End { seen: true }, RUN_A | 1, 5000, bytes(1, 1))]);
    assert_eq!(lab.engine.live(NOW + RECENT_US).flows.len(), 1);
    assert_eq!(lab.engine.live(NOW + RECENT_US + 1).flows.len(), 0);
}

#[test]
fn a_routers_own_addresses_take_a_bounded_room() {
    let mut state = RouterState::new("home", Known::default());
    for third in 0..=255 {
        state.own_addresses((0..=255).map(|last| [10, 0, third, last].into()).collect());
    }
    assert!(state.own.len() <= 1024, "{} addresses", state.own.len());
    assert!(state.own.contains(&IpAddr::from([10, 0, 255, 255])), "the latest are known");
}

/// The agent took the row of the second flow for the first, whose end comes late and thus under an id of its own.
#[test]
fn the_late_end_of_an_earlier_flow_does_not_end_the_one_that_uses_its_tuple() {
    let at = |start: Micros, report| FlowReport {
        kernel_start: Some(NOW + start),
        first_seen: NOW + start,
        ..report
    };
    let mut lab = Lab::new();
    let begun = lab.flows(vec![report(Phase::New, RUN_A | 1, 5000, bytes(0, 0))]);
    let row = lab.flows(vec![at(20, report(Phase::Progress, RUN_A | 1, 5000, bytes(200, 0)))]);
    let first = lab.flows(vec![at(5, report(Phase::End { seen: true }, RUN_A | 2, 5000, bytes(100, 0)))]);
    let second = lab.flows(vec![at(20, report(Phase::End { seen: true }, RUN_A | 1, 5000, bytes(300, 0)))]);

    let ends = |changes: &Changes| -> Vec<(u64, Micros, Option<End>)> {
        changes.finished.iter().map(|flow| (flow.flow_id, flow.first_seen - NOW, flow.end)).collect()
    };
    assert_eq!(ends(&first), [(RUN_A | 2, 5, Some(End::Seen))]);
    assert_eq!(ends(&second), [(RUN_A | 1, 20, Some(End::Seen))]);
    assert!(first.gaps.is_empty(), "{:?}", first.gaps);
    assert_eq!(rolled_up(&[begun, row, first, second]), (2, bytes(400, 0)));
}

/// The same, and the agent is started again before the second flow ends: its tuple must still be found.
#[test]
fn a_flow_beside_which_an_earlier_one_ended_late_is_joined_by_the_next_run() {
    let at = |start: Micros, report| FlowReport {
        kernel_start: Some(NOW + start),
        first_seen: NOW + start,
        ..report
    };
    let mut lab = Lab::new();
    let mut told = vec![lab.flows(vec![at(20, report(Phase::New, RUN_A | 1, 5000, bytes(200, 0)))])];
    told.push(lab.flows(vec![at(5, report(Phase::End { seen: true }, RUN_A | 2, 5000, bytes(100, 0)))]));
    told.push(lab.flows(vec![at(20, report(Phase::Found, RUN_B | 1, 5000, bytes(200, 0)))]));
    told.push(lab.flows(vec![at(20, report(Phase::End { seen: true }, RUN_B | 1, 5000, bytes(300, 0)))]));
    assert_eq!(rolled_up(&told), (2, bytes(400, 0)));
}

#[test]
fn a_rate_is_what_moved_between_two_reports_and_holds_for_a_while() {
    const SECOND: Micros = 1_000_000;
    let mut lab = Lab::new();
    lab.told(NOW, report(Phase::New, RUN_A | 1, 5000, bytes(500, 0)));
    lab.told(NOW + 10 * SECOND, report(Phase::Progress, RUN_A | 1, 5000, bytes(1_500, 4_000)));
    let mut rate = |second: Micros| {
        let rate = lab.engine.live(NOW + second * SECOND).flows[0].rate;
        (rate.orig, rate.reply)
    };
    assert_eq!(rate(10), (100.0, 400.0));
    // A flow that stands still is not reported.
    assert_eq!(rate(30), (100.0, 400.0));
    assert_eq!(rate(31), (0.0, 0.0));
}
