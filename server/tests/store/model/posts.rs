//! The original agent, which posts JSON and gives neither ids nor numbers: what a report is about is told by its times.
//!
//! A batch that failed is posted again after newer ones, so that batches come in any order, within what can be told
//! apart. An UPDATE or an end that overtakes the beginning of its flow is taken for one of an earlier flow that is
//! still open; and of a flow that was never heard of before a later one of its tuple had ended nothing but its end
//! is taken, which tells all of it.

use netmon_server::domain::{Counters, Direction, End, HttpBatch, Micros};
use netmon_server::engine::{Applied, CheckedBatch};
use netmon_server::ingest::read_batch;
use netmon_server::store::DatabaseUrl;
use proptest::prelude::*;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ledger::{Ledger, PLAIN_PLACES, ends};
use super::server::Server;
use super::{Told, tell_histories};
use crate::rollups::roll_up;

/// So short that no flow is taken for gone, for want of reports, before the history is over.
const STEP_US: Micros = 17_000_003;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A flow begins on a five-tuple; the end of one that was open there is lost. Stamped ones are told as the original
    /// agent does, which knows no other time than the report's.
    Begin { place: u8, stamped: bool },
    /// The flow at this place among those that are open moves bytes, and was silent for so many seconds before.
    Move { which: u8, bytes: u32, silent: u8 },
    /// It ends.
    End { which: u8, bytes: u32, silent: u8 },
    /// What the agent has told becomes a batch.
    Batch,
    /// The oldest batch comes.
    Post,
    /// Another one comes first, if it can be told what it is about.
    PostLate { which: u8 },
    /// A batch comes again whose answer was lost.
    Again { which: u8 },
    /// What came is committed, and answered.
    Commit,
    /// The server is killed: what is not committed is gone, and will be posted again.
    Crash,
    /// Minutes go into their hours and days as if it were so many minutes later.
    RollUp { later: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (which, bytes, silent) = (any::<u8>, any::<u32>, || 0..40_u8);
    prop_oneof![
        // Few tuples, so that they are used again.
        5 => (prop_oneof![3 => 0..2_u8, 1 => 0..PLAIN_PLACES], any::<bool>())
            .prop_map(|(place, stamped)| Step::Begin { place, stamped }),
        6 => (which(), bytes(), silent()).prop_map(|(which, bytes, silent)| Step::Move { which, bytes, silent }),
        4 => (which(), bytes(), silent()).prop_map(|(which, bytes, silent)| Step::End { which, bytes, silent }),
        7 => Just(Step::Batch),
        3 => Just(Step::Post),
        6 => any::<u8>().prop_map(|which| Step::PostLate { which }),
        2 => any::<u8>().prop_map(|which| Step::Again { which }),
        4 => Just(Step::Commit),
        3 => Just(Step::Crash),
        1 => (0..4_u8).prop_map(|later| Step::RollUp { later }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    New,
    Update,
    Destroy,
}

/// A flow of the agent's, by its number.
#[derive(Clone, Debug)]
struct Flow {
    place: u8,
    first: Micros,
    last: Micros,
    counters: Counters,
    stamped: bool,
    over: bool,
    end_lost: bool,
}

/// One report.
#[derive(Clone, Debug)]
struct Event {
    flow: usize,
    word: Word,
    time: Micros,
    first: Micros,
    last: Micros,
    counters: Counters,
}

/// What the server knows, and what is yet to come.
#[derive(Clone, Default)]
struct Heard {
    ledger: Ledger,
    ended: Vec<usize>,
    /// Places of batches.
    came: Vec<usize>,
}

struct History<'a, 'b> {
    server: &'a mut Server<'b>,
    now: Micros,
    flows: Vec<Flow>,
    buffer: Vec<Event>,
    batches: Vec<Vec<Event>>,
    heard: Heard,
    committed: Heard,
}

fn rfc3339(time: Micros) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time) * 1_000).unwrap().format(&Rfc3339).unwrap()
}

impl Heard {
    fn knows(&self, flow: usize) -> bool {
        self.ledger.flows.contains_key(&flow)
    }

    /// Whether the server can tell what this report is about.
    fn can_tell(&self, flows: &[Flow], event: &Event) -> bool {
        let place = flows[event.flow].place;
        let earlier: Vec<usize> = (0..event.flow).filter(|flow| flows[*flow].place == place).collect();
        let later_ended = self.ended.iter().any(|flow| *flow > event.flow && flows[*flow].place == place);
        let earlier_open = earlier.iter().any(|flow| self.knows(*flow) && !self.ended.contains(flow));
        // It is taken for one of the flow that is open.
        let overtakes = event.word != Word::New && earlier_open;
        // The beginning that comes then is another flow's.
        let stamped = event.word == Word::Update && flows[event.flow].stamped && !later_ended;
        // It hides those before it, of which one has no end that would tell all.
        let lost = earlier.iter().position(|flow| flows[*flow].end_lost);
        let hidden = lost.is_some_and(|lost| earlier[lost..].iter().any(|flow| !self.knows(*flow)));
        (self.knows(event.flow) || !(overtakes || stamped)) && !(event.word == Word::Destroy && hidden)
    }

    /// What must come of it.
    fn hear(&mut self, flows: &[Flow], event: &Event) {
        let Flow { place, .. } = flows[event.flow];
        let later_ended = self.ended.iter().any(|flow| *flow > event.flow && flows[*flow].place == place);
        let waits = !self.knows(event.flow) && event.word != Word::Destroy && later_ended;
        if self.ended.contains(&event.flow) || waits {
            return;
        }
        if !self.knows(event.flow) {
            self.ledger.began(event.flow, place, event.first, Counters::default(), event.first);
        }
        self.ledger.moved(event.flow, event.counters, event.last);
        let flow = self.ledger.flows.get_mut(&event.flow).unwrap();
        flow.first_seen = flow.first_seen.min(event.first);
        if event.word == Word::Destroy {
            self.ledger.ended(event.flow, End::Seen);
            self.ended.push(event.flow);
        }
    }
}

impl History<'_, '_> {
    fn say(&mut self, flow: usize, word: Word) {
        let Flow { first, last, counters, stamped, .. } = self.flows[flow];
        let (first, last) = if stamped { (self.now, self.now) } else { (first, last) };
        self.buffer.push(Event { flow, word, time: self.now, first, last, counters });
    }

    /// An open flow moves bytes.
    fn moved(&mut self, which: u8, bytes: u32, silent: u8) -> Option<usize> {
        let open: Vec<usize> = (0..self.flows.len()).filter(|flow| !self.flows[*flow].over).collect();
        let number = open[usize::from(which).checked_rem(open.len())?];
        let flow = &mut self.flows[number];
        let (bytes, packets) = (i64::from(bytes), i64::from(bytes % 97));
        let more =
            Counters { bytes_orig: bytes, bytes_reply: bytes / 3, packets_orig: packets, packets_reply: 1 };
        flow.counters = flow.counters.plus(more);
        flow.last = flow.last.max(self.now - Micros::from(silent) * 1_000_000);
        Some(number)
    }

    fn body(&self, place: usize) -> Vec<u8> {
        let event = |event: &Event| {
            let ends = ends(self.flows[event.flow].place);
            let (word, of_original) = match event.word {
                Word::New => ("NEW", "EventNew"),
                Word::Update => ("UPDATE", "EventUpdate"),
                Word::Destroy => ("DESTROY", "EventDestroy"),
            };
            json!({ "type": "flow", "ts": rfc3339(event.time), "data": {
                "event": if self.flows[event.flow].stamped { of_original } else { word },
                "state": word, "flags": "SEEN_REPLY|ASSURED ",
                "src_ip": ends.tuple.src, "dst_ip": ends.tuple.dst,
                "src_port": ends.tuple.src_port, "dst_port": ends.tuple.dst_port, "l4proto": ends.protocol,
                "dir": if ends.direction == Direction::In { "IN" } else { "OUT" },
                "bytes_orig": event.counters.bytes_orig, "bytes_reply": event.counters.bytes_reply,
                "packets_orig": event.counters.packets_orig, "packets_reply": event.counters.packets_reply,
                "first_seen": rfc3339(event.first), "last_seen": rfc3339(event.last) } })
        };
        let events: Vec<_> = self.batches[place].iter().map(event).collect();
        // The same events at another time are the same batch.
        json!({ "router_id": self.server.name, "sent_at": rfc3339(self.now), "events": events })
            .to_string()
            .into_bytes()
    }

    /// Whether it was new.
    fn post(&mut self, place: usize) -> bool {
        let batch = read_batch(&self.body(place), self.now, false).unwrap();
        assert_eq!((batch.accepted, batch.rejected), (self.batches[place].len() as u64, 0));
        let (router, digest, time) = (self.server.router, batch.digest, self.now);
        if self.server.engine.pending_http_batch(router, &digest).is_some()
            || self.server.writer.http_batch(router, &digest).unwrap().is_some()
        {
            return false;
        }
        let http = HttpBatch { router, digest, time, accepted: batch.accepted, rejected: 0 };
        let batch = CheckedBatch {
            router,
            epoch: 0,
            sequence: 0,
            lost_before: 0,
            lost_events: 0,
            lost_cause: 0,
            events: batch.events,
            refused: 0,
            http: Some(http),
        };
        assert_eq!(self.server.apply(batch, self.now), Applied::Taken);
        true
    }

    /// Batches that have not come, the oldest first.
    fn waiting(&self) -> Vec<usize> {
        (0..self.batches.len()).filter(|place| !self.heard.came.contains(place)).collect()
    }

    /// The batch of this place comes, if the server can tell what it is about.
    fn deliver(&mut self, place: usize) -> bool {
        let mut heard = self.heard.clone();
        for event in &self.batches[place] {
            if !heard.can_tell(&self.flows, event) {
                return false;
            }
            heard.hear(&self.flows, event);
        }
        heard.came.push(place);
        self.heard = heard;
        assert!(self.post(place), "a new batch is taken");
        true
    }

    fn batch(&mut self) {
        if !self.buffer.is_empty() {
            self.batches.push(std::mem::take(&mut self.buffer));
        }
    }

    fn commit(&mut self) {
        self.server.commit();
        self.committed = self.heard.clone();
    }

    fn step(&mut self, step: &Step) {
        self.now += STEP_US;
        match *step {
            Step::Begin { place, stamped } => {
                for flow in self.flows.iter_mut().filter(|flow| flow.place == place && !flow.over) {
                    (flow.over, flow.end_lost) = (true, true);
                }
                let (first, last, counters) = (self.now, self.now, Counters::default());
                self.flows.push(Flow { place, first, last, counters, stamped, over: false, end_lost: false });
                self.say(self.flows.len() - 1, Word::New);
            }
            Step::Move { which, bytes, silent } => {
                if let Some(flow) = self.moved(which, bytes, silent) {
                    self.say(flow, Word::Update);
                }
            }
            Step::End { which, bytes, silent } => {
                if let Some(flow) = self.moved(which, bytes, silent) {
                    self.flows[flow].over = true;
                    self.say(flow, Word::Destroy);
                }
            }
            Step::Batch => self.batch(),
            Step::Post => {
                if let Some(oldest) = self.waiting().first() {
                    assert!(self.deliver(*oldest), "in their order all can be told apart");
                }
            }
            Step::PostLate { which } => {
                let waiting = self.waiting();
                if let Some(at) = usize::from(which).checked_rem(waiting.len()) {
                    self.deliver(waiting[at]);
                }
            }
            Step::Again { which } => {
                let came = &self.heard.came;
                if let Some(at) = usize::from(which).checked_rem(came.len()) {
                    assert!(!self.post(came[at]), "a batch that came before is known");
                }
            }
            Step::Commit => self.commit(),
            Step::Crash => {
                self.server.restart(self.now);
                self.heard = self.committed.clone();
            }
            Step::RollUp { later } => {
                roll_up(&mut self.server.writer, self.now + Micros::from(later) * 60_000_000);
            }
        }
    }
}

pub(crate) fn posts_are_counted_to_the_byte(url: &DatabaseUrl) {
    tell_histories(url, 64, step(), |server, steps, now| {
        let mut history = History {
            server,
            now,
            flows: Vec::new(),
            buffer: Vec::new(),
            batches: Vec::new(),
            heard: Heard::default(),
            committed: Heard::default(),
        };
        for step in steps {
            history.step(step);
        }
        history.batch();
        while let Some(oldest) = history.waiting().first() {
            assert!(history.deliver(*oldest), "in their order all can be told apart");
        }
        history.commit();
        Told { ledger: history.heard.ledger, stopped: history.now }
    });
}
