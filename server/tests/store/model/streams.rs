//! Agents that give every flow an id, and number their batches.

use netmon_server::domain::{Counters, End, FlowKey, Icmp, Micros};
use netmon_server::engine::{Applied, CheckedBatch};
use netmon_server::ingest::{Checked, FlowReport, Observation, Phase};
use netmon_server::store::DatabaseUrl;
use proptest::prelude::*;

use super::ledger::{Ledger, PLACES, ends};
use super::server::Server;
use super::{Told, tell_histories};
use crate::rollups::roll_up;
use crate::sample::ip;

const MINUTE_US: Micros = 60_000_000;
const STEP_US: Micros = 97_000_003;
/// How much later than its event the kernel dates the start of a flow.
const START_US: Micros = 2_600;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A flow begins on a five-tuple, of which the kernel may still have one open. The agent tells it so late.
    Begin { place: u8, late: u8 },
    /// The agent finds one that had moved this much before.
    Found { place: u8, before: u32, bytes: u32 },
    /// The flow at this place among those that are open moves bytes, and reports it so many minutes late.
    Move { which: u8, bytes: u32, late: u8 },
    /// It ends.
    End { which: u8, bytes: u32, late: u8 },
    /// An end is told of which nobody had heard; of a flow before the one that has the tuple now, if that can be told.
    Whole { place: u8, bytes: u32, earlier: bool },
    /// What the agent has told becomes a batch, and is sent.
    Send,
    /// The agent sends its last batch again.
    Repeat,
    /// The agent is started again. Some flows are gone by then, and of some the tuples are in use again.
    AgentRestart { gone: u8, again: u8 },
    /// What was sent is committed.
    Commit,
    /// The server is killed: what is not committed is gone, and the agent sends it again.
    Crash,
    /// Minutes go into their hours and days as if it were so many minutes later.
    RollUp { later: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let late = || prop_oneof![3 => Just(0_u8), 1 => 1..200_u8];
    let (place, which, bytes) = (|| 0..PLACES, any::<u8>, any::<u32>);
    prop_oneof![
        4 => (place(), late()).prop_map(|(place, late)| Step::Begin { place, late }),
        2 => (place(), bytes(), bytes()).prop_map(|(place, before, bytes)| Step::Found { place, before, bytes }),
        7 => (which(), bytes(), late()).prop_map(|(which, bytes, late)| Step::Move { which, bytes, late }),
        3 => (which(), bytes(), late()).prop_map(|(which, bytes, late)| Step::End { which, bytes, late }),
        2 => (place(), bytes(), any::<bool>())
            .prop_map(|(place, bytes, earlier)| Step::Whole { place, bytes, earlier }),
        5 => Just(Step::Send),
        2 => Just(Step::Repeat),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(gone, again)| Step::AgentRestart { gone, again }),
        3 => Just(Step::Commit),
        2 => Just(Step::Crash),
        2 => (0..4_u8).prop_map(|later| Step::RollUp { later }),
    ]
}

/// An open flow as its agent knows it.
#[derive(Clone, Debug)]
struct Sent {
    number: usize,
    id: u64,
    place: u8,
    start: Micros,
    /// The server has heard of the kernel's start.
    start_told: bool,
    counters: Counters,
    before: Counters,
}

#[derive(Clone)]
struct Batch {
    epoch: u64,
    sequence: u64,
    events: Vec<Checked>,
}

struct History<'a, 'b> {
    server: &'a mut Server<'b>,
    ledger: Ledger,
    now: Micros,
    /// The agent's run: its epoch, and the tag of its ids.
    run: u64,
    open: Vec<Sent>,
    numbers: usize,
    buffer: Vec<Checked>,
    batches: Vec<Batch>,
    committed: usize,
}

fn count(bytes: u32) -> Counters {
    let (bytes, packets) = (i64::from(bytes), i64::from(bytes % 97));
    Counters { bytes_orig: bytes, bytes_reply: bytes / 3, packets_orig: packets, packets_reply: 1 }
}

impl History<'_, '_> {
    /// How far a run is among these batches.
    fn last_of(batches: &[Batch], epoch: u64) -> u64 {
        batches.iter().filter(|batch| batch.epoch == epoch).count() as u64
    }

    fn load_cursors(&mut self) {
        for epoch in 1..=self.run {
            let stored = self.server.writer.cursor(self.server.router, epoch).unwrap();
            assert_eq!(stored.unwrap_or(0), Self::last_of(&self.batches[..self.committed], epoch));
            let last = stored.unwrap_or(0);
            self.server.engine.load_cursor(self.server.router, epoch, stored.is_some(), last);
        }
    }

    fn crash(&mut self) {
        self.server.restart(self.now);
        self.load_cursors();
        for place in self.committed..self.batches.len() {
            assert_eq!(self.apply(place), Applied::Taken);
        }
    }

    fn apply(&mut self, place: usize) -> Applied {
        let Batch { epoch, sequence, events } = self.batches[place].clone();
        let batch = CheckedBatch {
            router: self.server.router,
            epoch,
            sequence,
            lost_before: 0,
            lost_events: 0,
            lost_cause: 2,
            events,
            refused: 0,
            http: None,
        };
        self.server.apply(batch, self.now)
    }

    fn send(&mut self) {
        if !self.buffer.is_empty() {
            let sequence = Self::last_of(&self.batches, self.run) + 1;
            let events = std::mem::take(&mut self.buffer);
            self.batches.push(Batch { epoch: self.run, sequence, events });
            assert_eq!(self.apply(self.batches.len() - 1), Applied::Taken);
        }
    }

    fn commit(&mut self) {
        self.server.commit();
        self.committed = self.batches.len();
    }

    fn say(&mut self, time: Micros, what: Observation) {
        self.buffer.push(Checked { time, clamped: 0, what });
    }

    fn report(&mut self, phase: Phase, flow: &Sent, time: Micros) {
        let ends = ends(flow.place);
        let kernel_start = (phase != Phase::New).then_some(flow.start);
        let report = FlowReport {
            phase,
            flow_id: flow.id,
            key: FlowKey {
                zone: 0,
                // The entry that comes after another one has its place in memory.
                conntrack_id: flow.place.into(),
                protocol: ends.protocol,
                tuple: ends.tuple,
            },
            reply: ends.reply,
            icmp: (ends.protocol == 58).then_some(Icmp { kind: 128, code: 0, id: 9 }),
            direction: ends.direction,
            device: Some(ip(ends.device)),
            remote: ends.remote.map(ip),
            counters: flow.counters,
            before: flow.before,
            first_seen: kernel_start.unwrap_or(time),
            last_seen: time,
            kernel_start,
            tcp_state: 4,
            status: 0,
            mark: 0,
            no_counters: false,
        };
        if kernel_start.is_some() {
            self.ledger.flows.get_mut(&flow.number).unwrap().first_seen = flow.start;
        }
        self.ledger.moved(flow.number, flow.counters, time);
        self.say(time, Observation::Flow(Box::new(report)));
    }

    /// A flow that the agent has not told of yet. What the kernel had open on the tuple is over: its end was lost.
    fn born(&mut self, place: u8, start: Micros) -> Sent {
        self.numbers += 1;
        let (number, zero) = (self.numbers, Counters::default());
        let id = self.run << 32 | number as u64;
        Sent { number, id, place, start, start_told: false, counters: zero, before: zero }
    }

    fn displace(&mut self, place: u8) -> bool {
        let Some(at) = self.open.iter().position(|flow| flow.place == place) else { return false };
        self.ledger.ended(self.open.remove(at).number, End::Unseen);
        true
    }

    /// The agent finds a flow that it had not seen begin.
    fn found(&mut self, place: u8, before: Counters, more: Counters) {
        // What begins after another one began later.
        let start = if self.displace(place) { self.now } else { self.now - 90 * MINUTE_US };
        let flow = self.born(place, start);
        let flow = Sent { before, counters: before.plus(more), start_told: true, ..flow };
        self.ledger.began(flow.number, place, start, before, self.now);
        self.report(Phase::Found, &flow, self.now);
        self.open.push(flow);
    }

    /// An open flow moves bytes. When that is told.
    fn moved(&mut self, which: u8, bytes: u32, late: u8) -> Option<(Sent, Micros)> {
        let at = usize::from(which).checked_rem(self.open.len())?;
        let flow = &mut self.open[at];
        flow.counters = flow.counters.plus(count(bytes));
        flow.start_told = true;
        Some((flow.clone(), flow.start.max(self.now - Micros::from(late) * MINUTE_US)))
    }

    fn agent_restart(&mut self, gone: u8, again: u8) {
        self.send();
        self.run += 1;
        self.server.engine.load_cursor(self.server.router, self.run, false, 0);
        let sync = self.run << 32 | 0xffff_ffff;
        self.say(self.now, Observation::SyncBegin(sync));
        for (at, flow) in std::mem::take(&mut self.open).into_iter().enumerate() {
            if at < 8 && gone >> at & 1 == 1 {
                self.ledger.ended(flow.number, End::Unseen);
            } else if at < 8 && again >> at & 1 == 1 {
                self.open.push(flow.clone());
                self.found(flow.place, count(1_000_003), count(gone.into()));
            } else {
                let counters = flow.counters.plus(count(u32::from(gone) * 1_000));
                // For the agent it was there before it looked; the server knows better.
                let id = self.run << 32 | flow.number as u64;
                let flow = Sent { id, counters, before: counters, start_told: true, ..flow };
                self.report(Phase::Found, &flow, self.now);
                self.open.push(flow);
            }
        }
        self.say(self.now, Observation::SyncEnd(sync));
    }

    fn step(&mut self, step: &Step) {
        self.now += STEP_US;
        match *step {
            Step::Begin { place, late } => {
                self.displace(place);
                let time = self.now - Micros::from(late) * MINUTE_US;
                let flow = self.born(place, time + START_US);
                self.ledger.began(flow.number, place, time, Counters::default(), time);
                self.report(Phase::New, &flow, time);
                self.open.push(flow);
            }
            Step::Found { place, before, bytes } => self.found(place, count(before), count(bytes)),
            Step::Move { which, bytes, late } => {
                if let Some((flow, time)) = self.moved(which, bytes, late) {
                    self.report(Phase::Progress, &flow, time);
                }
            }
            Step::End { which, bytes, late } => {
                if let Some((flow, time)) = self.moved(which, bytes, late) {
                    self.report(Phase::End { seen: true }, &flow, time);
                    self.ledger.ended(flow.number, End::Seen);
                    self.open.retain(|other| other.number != flow.number);
                }
            }
            Step::Whole { place, bytes, earlier } => {
                let open = self.open.iter().find(|flow| flow.place == place && flow.start_told && earlier);
                let start = open.map(|flow| flow.start - 5_000_000);
                if start.is_none() {
                    self.displace(place);
                }
                let flow = self.born(place, start.unwrap_or(self.now));
                let flow = Sent { counters: count(bytes), ..flow };
                self.ledger.began(flow.number, place, flow.start, Counters::default(), flow.start);
                self.report(Phase::End { seen: true }, &flow, flow.start);
                self.ledger.ended(flow.number, End::Seen);
            }
            Step::Send => self.send(),
            Step::Repeat => {
                if let Some(last) = self.batches.len().checked_sub(1) {
                    assert_eq!(self.apply(last), Applied::Duplicate);
                }
            }
            Step::AgentRestart { gone, again } => self.agent_restart(gone, again),
            Step::Commit => self.commit(),
            Step::Crash => self.crash(),
            Step::RollUp { later } => {
                roll_up(&mut self.server.writer, self.now + Micros::from(later) * MINUTE_US);
            }
        }
    }
}

pub(crate) fn streams_are_counted_to_the_byte(url: &DatabaseUrl) {
    tell_histories(url, 24, step(), |server, steps, now| {
        let mut history = History {
            server,
            ledger: Ledger::default(),
            now,
            run: 1,
            open: Vec::new(),
            numbers: 0,
            buffer: Vec::new(),
            batches: Vec::new(),
            committed: 0,
        };
        history.load_cursors();
        for step in steps {
            history.step(step);
        }
        history.send();
        history.commit();
        Told { ledger: history.ledger, stopped: history.now }
    });
}
