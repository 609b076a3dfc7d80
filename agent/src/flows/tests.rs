//! Single rules of the flow table, one test each; their interplay is checked in `model`.

use std::fmt::Write;

use netmon_proto::v1::{Event, event::Kind as EventKind};

use super::{FlowTable, MAX_FLOWS, Moment};
use crate::{
    addresses::AddressBook,
    decode::{Counters, CtMessage, Kind, Tuple},
};

/// The agent began to watch then.
const WATCH_US: i64 = 1_700_000_000_000_000;

/// A table with a clock and what it reported.
struct Story {
    table: FlowTable,
    now: Moment,
    out: Vec<Event>,
}

impl Story {
    fn new(limit: usize) -> Self {
        let now = Moment { unix_us: WATCH_US, uptime_ms: 0 };
        Story { table: FlowTable::new(0, WATCH_US, limit, AddressBook::default()), now, out: Vec::new() }
    }

    /// After a first dump that held nothing.
    fn synced() -> Self {
        let mut story = Story::new(MAX_FLOWS);
        story.dump(&[], true);
        story.out.clear();
        story
    }

    fn hear(&mut self, message: CtMessage) {
        self.pass(1);
        match message.kind {
            Kind::New => self.table.on_new(&message, self.now, &mut self.out),
            Kind::Destroy => self.table.on_destroy(&message, self.now, &mut self.out),
            Kind::Row | Kind::Update => self.table.on_row(&message, self.now, &mut self.out),
        }
    }

    fn dump(&mut self, rows: &[CtMessage], complete: bool) {
        self.table.begin_dump(self.now, &mut self.out);
        for row in rows {
            self.hear(*row);
        }
        self.table.end_dump(complete, self.now, &mut self.out);
    }

    fn pass(&mut self, seconds: u64) {
        self.now.unix_us += seconds as i64 * 1_000_000;
        self.now.uptime_ms += seconds * 1000;
    }

    /// One line per event since the last call; times in seconds since the watch began.
    fn told(&mut self) -> String {
        let mut text = String::new();
        for event in self.out.drain(..) {
            let at = (event.time_us - WATCH_US) / 1_000_000;
            let _ = match event.kind {
                Some(EventKind::Flow(flow)) => writeln!(
                    text,
                    "{at} {:?}{} #{} {} bytes, {} before, seen {}..{}",
                    flow.phase(),
                    if flow.end_unseen { " unseen" } else { "" },
                    flow.flow_id,
                    flow.bytes_orig,
                    flow.bytes_orig_before,
                    (flow.first_seen_us - WATCH_US) / 1_000_000,
                    (flow.last_seen_us - WATCH_US) / 1_000_000,
                ),
                Some(EventKind::Gap(gap)) => writeln!(text, "{at} gap {:?} {}", gap.cause(), gap.count),
                Some(EventKind::TableSync(sync)) => writeln!(text, "{at} sync {:?}", sync.step()),
                other => writeln!(text, "{at} {other:?}"),
            };
        }
        text
    }
}

/// A message about the flow of this port.
fn message(kind: Kind, port: u16, bytes: u64) -> CtMessage {
    let tuple = |src_port, dst_port| Tuple { src: [1; 16], dst: [1; 16], src_port, dst_port };
    let counters = Counters { bytes_orig: bytes, packets_orig: bytes / 100, ..Counters::default() };
    CtMessage {
        kind,
        v6: true,
        protocol: 17,
        original: tuple(port, 53),
        reply: tuple(53, port),
        zone: 0,
        id: u32::from(port),
        status: Some(8),
        mark: None,
        timeout_s: None,
        counters: (kind != Kind::New).then_some(counters),
        tcp_state: None,
        start_us: 0,
        stop_us: 0,
        event_us: 0,
    }
}

/// With a kernel start, in seconds since the watch began.
fn started(kind: Kind, port: u16, bytes: u64, seconds: i64) -> CtMessage {
    CtMessage { start_us: WATCH_US + seconds * 1_000_000, ..message(kind, port, bytes) }
}

#[test]
fn the_first_dump_tells_the_old_from_the_new() {
    let mut story = Story::new(MAX_FLOWS);
    let rows = [message(Kind::Row, 1, 500), started(Kind::Row, 2, 600, -9), started(Kind::Row, 3, 700, 0)];
    story.dump(&rows, false);
    story.dump(&rows, true);
    insta::assert_snapshot!(story.told(), @r"
    0 sync Begin
    1 Found #1 500 bytes, 500 before, seen 1..1
    2 Found #2 600 bytes, 600 before, seen -9..2
    3 New #3 700 bytes, 0 before, seen 0..3
    6 sync End
    ");
}

#[test]
fn a_flow_found_later_was_watched_all_along() {
    let mut story = Story::synced();
    story.dump(&[message(Kind::Row, 1, 500)], true);
    story.hear(message(Kind::New, 1, 0));
    story.hear(message(Kind::Destroy, 1, 800));
    insta::assert_snapshot!(story.told(), @r"
    1 New #1 500 bytes, 0 before, seen 1..1
    3 End #1 800 bytes, 0 before, seen 1..3
    ");
}

#[test]
fn the_end_of_an_unknown_flow_stands_alone() {
    let mut story = Story::new(MAX_FLOWS);
    story.hear(message(Kind::Destroy, 1, 500));
    story.hear(started(Kind::Destroy, 2, 600, 0));
    story.dump(&[], true);
    story.hear(message(Kind::Destroy, 3, 700));
    story.hear(started(Kind::Destroy, 4, 800, -1));
    insta::assert_snapshot!(story.told(), @r"
    1 Found #1 500 bytes, 500 before, seen 1..1
    1 End #1 500 bytes, 500 before, seen 1..1
    2 End #2 600 bytes, 0 before, seen 0..2
    2 sync Begin
    2 sync End
    3 End #3 700 bytes, 0 before, seen 3..3
    4 Found #4 800 bytes, 800 before, seen -1..4
    4 End #4 800 bytes, 800 before, seen -1..4
    ");
}

#[test]
fn progress_is_told_when_something_changed() {
    let mut story = Story::synced();
    story.hear(message(Kind::New, 1, 0));
    story.dump(&[message(Kind::Row, 1, 100)], true);
    story.dump(&[message(Kind::Row, 1, 100)], true);
    story.dump(&[CtMessage { status: Some(14), ..message(Kind::Row, 1, 100) }], true);
    story.dump(&[CtMessage { mark: Some(1), ..message(Kind::Row, 1, 100) }], true);
    story.table.set_progress(false);
    story.dump(&[message(Kind::Row, 1, 200)], true);
    story.table.set_progress(true);
    story.dump(&[message(Kind::Row, 1, 200)], true);
    insta::assert_snapshot!(story.told(), @r"
    1 New #1 0 bytes, 0 before, seen 1..1
    2 Progress #1 100 bytes, 0 before, seen 1..2
    4 Progress #1 100 bytes, 0 before, seen 1..2
    5 Progress #1 100 bytes, 0 before, seen 1..2
    6 gap ProgressSkipped 1
    7 Progress #1 200 bytes, 0 before, seen 1..6
    ");
}

/// What is not named between BEGIN and END is gone, to the server.
#[test]
fn the_first_sync_names_what_was_heard_before_it_whatever_else_is_left_out() {
    for (reports, bytes, seen) in [(false, 5, 2), (true, 0, 1)] {
        let mut story = Story::new(MAX_FLOWS);
        story.table.set_progress(reports);
        story.hear(message(Kind::New, 1, 0));
        story.dump(&[message(Kind::Row, 1, bytes)], true);
        assert_eq!(
            story.told(),
            format!(
                "1 New #1 0 bytes, 0 before, seen 1..1\n1 sync Begin\n\
                 2 Progress #1 {bytes} bytes, 0 before, seen 1..{seen}\n2 sync End\n"
            )
        );
        // Once is enough.
        story.dump(&[message(Kind::Row, 1, bytes)], true);
        assert_eq!(story.told(), "");
    }
}

#[test]
fn only_two_complete_dumps_ten_seconds_apart_end_a_flow() {
    let mut story = Story::synced();
    story.hear(message(Kind::New, 1, 0));
    story.hear(message(Kind::New, 2, 0));
    story.dump(&[], false);
    story.pass(20);
    story.dump(&[], true);
    story.pass(8);
    story.dump(&[message(Kind::Row, 2, 0)], true);
    assert_eq!(story.table.len(), 2);
    story.pass(1);
    story.dump(&[], true);
    assert_eq!(story.table.len(), 1);
    // Its end comes after all: it was counted.
    story.hear(message(Kind::Destroy, 1, 500));
    insta::assert_snapshot!(story.told(), @r"
    1 New #1 0 bytes, 0 before, seen 1..1
    2 New #2 0 bytes, 0 before, seen 2..2
    32 End unseen #1 0 bytes, 0 before, seen 1..1
    32 gap FlowEndUnseen 1
    ");
    assert_eq!(story.table.stats().repeated, 1);
}

#[test]
fn counters_set_to_zero_go_on_from_where_they_were() {
    let mut story = Story::synced();
    story.dump(&[message(Kind::Row, 1, 500)], true);
    story.dump(&[message(Kind::Row, 1, 100)], true);
    story.dump(&[message(Kind::Row, 1, 300)], true);
    story.hear(message(Kind::Destroy, 1, 0));
    insta::assert_snapshot!(story.told(), @r"
    1 New #1 500 bytes, 0 before, seen 1..1
    2 Progress #1 600 bytes, 0 before, seen 1..2
    3 Progress #1 800 bytes, 0 before, seen 1..3
    4 End #1 800 bytes, 0 before, seen 1..4
    ");
    assert_eq!(story.table.stats().zeroed, 2);
}

#[test]
fn a_dying_row_makes_no_flow() {
    let mut story = Story::synced();
    story.dump(&[CtMessage { status: Some(0x208), ..message(Kind::Row, 1, 500) }], true);
    assert_eq!(story.told(), "");
}

#[test]
fn the_id_used_again_is_told_apart_by_the_start() {
    let mut story = Story::synced();
    story.dump(&[started(Kind::Row, 1, 500, 1)], true);
    // The first one's end was lost; of the second only the end is heard, then the first one's after all.
    story.hear(started(Kind::Destroy, 1, 200, 2));
    story.hear(started(Kind::Destroy, 1, 900, 1));
    insta::assert_snapshot!(story.told(), @r"
    1 New #1 500 bytes, 0 before, seen 1..1
    2 End unseen #1 500 bytes, 0 before, seen 1..1
    2 gap FlowEndUnseen 1
    2 End #2 200 bytes, 0 before, seen 2..2
    ");
}

#[test]
fn what_finds_no_room_is_told_at_its_end() {
    let mut story = Story::new(1);
    story.dump(&[], true);
    story.hear(message(Kind::New, 1, 0));
    story.hear(message(Kind::New, 2, 0));
    story.dump(&[message(Kind::Row, 1, 0), message(Kind::Row, 2, 100)], true);
    story.hear(message(Kind::Destroy, 2, 300));
    insta::assert_snapshot!(story.told(), @r"
    0 sync Begin
    0 sync End
    1 New #1 0 bytes, 0 before, seen 1..1
    4 gap ProgressSkipped 2
    5 End #2 300 bytes, 0 before, seen 5..5
    ");
}

#[test]
fn an_entry_without_counters_says_so() {
    let mut story = Story::synced();
    story.dump(&[CtMessage { counters: None, ..message(Kind::Row, 1, 0) }], true);
    story.hear(CtMessage { counters: None, ..message(Kind::Destroy, 1, 0) });
    let without = story.out.iter().filter(|event| match &event.kind {
        Some(EventKind::Flow(flow)) => flow.no_counters,
        _ => false,
    });
    assert_eq!(without.count(), 2);
}

#[test]
fn a_sync_reports_every_flow_in_pieces() {
    let mut story = Story::new(MAX_FLOWS);
    story.dump(&[started(Kind::Row, 1, 500, -9)], true);
    story.hear(message(Kind::New, 2, 0));
    story.hear(message(Kind::New, 3, 0));
    story.told();
    story.table.request_sync();
    assert!(story.table.wants_sync());
    assert!(story.table.sync(2, story.now, &mut story.out));
    assert_eq!(story.out.len(), 2);
    assert!(!story.table.sync(100, story.now, &mut story.out));
    assert!(!story.table.wants_sync());
    insta::assert_snapshot!(story.told(), @r"
    3 sync Begin
    3 Found #1 500 bytes, 500 before, seen -9..1
    3 New #2 0 bytes, 0 before, seen 2..2
    3 New #3 0 bytes, 0 before, seen 3..3
    3 sync End
    ");
}

#[test]
fn a_storm_leaves_no_memory_behind() {
    let mut story = Story::synced();
    for port in 0..20_000 {
        story.table.on_new(&message(Kind::New, port, 0), story.now, &mut story.out);
        story.out.clear();
    }
    for port in 1..20_000 {
        story.table.on_destroy(&message(Kind::Destroy, port, 0), story.now, &mut story.out);
        story.out.clear();
    }
    story.dump(&[message(Kind::Row, 0, 100)], true);
    assert_eq!(story.table.len(), 1);
    assert!(story.table.store.capacity() < 2048, "{} slots", story.table.store.capacity());
    story.hear(message(Kind::Destroy, 0, 100));
    assert!(story.table.is_empty());
}
