//! Random histories, told to the engine and the store, with restarts between any two commits: the flows, their rollups
//! and what was sent must be the same sums.

use std::collections::HashMap;

use netmon_server::domain::{Counters, Direction, FlowKey, Micros, RouterId, Tuple};
use netmon_server::engine::{Applied, CheckedBatch, Engine, Known};
use netmon_server::ingest::{Checked, FlowReport, Observation, Phase};
use netmon_server::store::{AttachedRouter, DatabaseUrl, Store, Sums, Totals, Writer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::rollups::roll_up;
use crate::sample::{NOON, ip};

const EPOCH: u64 = 5;
const MINUTE_US: Micros = 60_000_000;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A flow begins on one of few five-tuples, of which the kernel may still have one open.
    Begin { tuple: u8 },
    /// The flow of this place among those that are open moves bytes, and reports it so many minutes late.
    Move { place: u8, bytes: u32, late: u8 },
    /// It ends.
    End { place: u8, bytes: u32, late: u8 },
    /// An end is told of which nobody had heard.
    Whole { tuple: u8, bytes: u32 },
    /// The agent sends its last batch again.
    Repeat,
    /// What was sent is committed.
    Commit,
    /// The server is killed: what is not committed is gone, and the agent sends it again.
    Crash,
    /// Minutes go into their hours and days as if it were so many minutes later.
    RollUp { later: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let late = prop_oneof![3 => Just(0_u8), 1 => 1..200_u8];
    prop_oneof![
        4 => (0..4_u8).prop_map(|tuple| Step::Begin { tuple }),
        6 => (any::<u8>(), any::<u32>(), late.clone()).prop_map(|(place, bytes, late)| Step::Move { place, bytes, late }),
        3 => (any::<u8>(), any::<u32>(), late).prop_map(|(place, bytes, late)| Step::End { place, bytes, late }),
        1 => (0..4_u8, any::<u32>()).prop_map(|(tuple, bytes)| Step::Whole { tuple, bytes }),
        2 => Just(Step::Repeat),
        3 => Just(Step::Commit),
        2 => Just(Step::Crash),
        2 => (0..4_u8).prop_map(|later| Step::RollUp { later }),
    ]
}

/// A flow as its agent knows it.
#[derive(Clone, Debug)]
struct Sent {
    id: u64,
    tuple: u8,
    counters: Counters,
}

struct History<'a> {
    store: &'a Store,
    writer: Writer,
    name: String,
    router: RouterId,
    engine: Engine,
    now: Micros,
    open: Vec<Sent>,
    /// The last counters of every flow that was ever told.
    told: HashMap<u64, Counters>,
    batches: Vec<Vec<Checked>>,
    committed: usize,
    applied: usize,
}

impl<'a> History<'a> {
    fn begin(store: &'a Store, name: String) -> Self {
        let mut history = Self {
            store,
            writer: store.writer().unwrap(),
            name,
            router: RouterId(0),
            engine: Engine::default(),
            now: NOON,
            open: Vec::new(),
            told: HashMap::new(),
            batches: Vec::new(),
            committed: 0,
            applied: 0,
        };
        history.restart();
        history
    }

    /// The server begins anew from the database, and the agent goes on after what is committed.
    fn restart(&mut self) {
        self.writer = self.store.writer().unwrap();
        self.engine = Engine::default();
        let AttachedRouter { id, writes: _, open, ended, holders, answers } =
            self.writer.attach_router(&self.name, self.now).unwrap();
        self.router = id;
        self.engine.attach(id, &self.name, Known { open, ended, holders, answers });
        let stored = self.writer.cursor(id, EPOCH).unwrap();
        assert_eq!(stored.unwrap_or(0), self.committed as u64);
        self.engine.load_cursor(id, EPOCH, stored.is_some(), stored.unwrap_or(0));
        self.applied = self.committed;
        while self.applied < self.batches.len() {
            self.applied += 1;
            assert_eq!(self.apply(self.applied), Applied::Taken);
        }
    }

    fn apply(&mut self, sequence: usize) -> Applied {
        let needed = i64::try_from(self.batches[sequence - 1].len()).unwrap();
        if self.engine.ids_left() < needed {
            let first = self.writer.reserve_flow_ids(1_000).unwrap();
            self.engine.give_ids(first, 1_000);
        }
        let batch = CheckedBatch {
            router: self.router,
            epoch: EPOCH,
            sequence: sequence as u64,
            lost_before: 0,
            lost_events: 0,
            lost_cause: 2,
            events: self.batches[sequence - 1].clone(),
            refused: 0,
            http: None,
        };
        self.engine.apply(batch, self.now)
    }

    fn send(&mut self, phase: Phase, flow: &Sent, late: u8) {
        self.told.insert(flow.id, flow.counters);
        let time = self.now - Micros::from(late) * MINUTE_US;
        let device = ip("192.168.1.20");
        let remote = ip("203.0.113.5");
        let tuple = Tuple { src: device, dst: remote, src_port: flow.tuple.into(), dst_port: 443 };
        let report = FlowReport {
            phase,
            flow_id: flow.id,
            key: FlowKey { zone: 0, conntrack_id: flow.tuple.into(), protocol: 6, tuple },
            reply: None,
            icmp: None,
            direction: Direction::Out,
            device: Some(device),
            remote: Some(remote),
            counters: flow.counters,
            before: Counters::default(),
            first_seen: time,
            last_seen: time,
            kernel_start: None,
            tcp_state: 4,
            status: 0,
            mark: 0,
            no_counters: false,
        };
        self.batches.push(vec![Checked { time, clamped: 0, what: Observation::Flow(Box::new(report)) }]);
        self.applied += 1;
        assert_eq!(self.apply(self.applied), Applied::Taken);
    }

    fn moved(&mut self, place: u8, bytes: u32) -> Option<Sent> {
        let place = usize::from(place).checked_rem(self.open.len())?;
        let flow = &mut self.open[place];
        let (bytes, packets) = (i64::from(bytes), i64::from(bytes % 97));
        let more =
            Counters { bytes_orig: bytes, bytes_reply: bytes / 3, packets_orig: packets, packets_reply: 1 };
        flow.counters = flow.counters.plus(more);
        Some(flow.clone())
    }

    fn born(&mut self, tuple: u8) -> Sent {
        // What the kernel had open on the tuple is over: its end was lost.
        self.open.retain(|flow| flow.tuple != tuple);
        let id = 7 << 32 | (self.told.len() as u64 + 1);
        Sent { id, tuple, counters: Counters::default() }
    }

    fn step(&mut self, step: &Step) {
        self.now += 7_000_001;
        match *step {
            Step::Begin { tuple } => {
                let flow = self.born(tuple);
                self.send(Phase::New, &flow, 0);
                self.open.push(flow);
            }
            Step::Move { place, bytes, late } => {
                if let Some(flow) = self.moved(place, bytes) {
                    self.send(Phase::Progress, &flow, late);
                }
            }
            Step::End { place, bytes, late } => {
                if let Some(flow) = self.moved(place, bytes) {
                    self.send(Phase::End { seen: true }, &flow, late);
                    self.open.retain(|other| other.id != flow.id);
                }
            }
            Step::Whole { tuple, bytes } => {
                let mut flow = self.born(tuple);
                flow.counters.bytes_reply = i64::from(bytes);
                self.send(Phase::End { seen: true }, &flow, 0);
            }
            Step::Repeat => {
                if self.applied > 0 {
                    assert_eq!(self.apply(self.applied), Applied::Duplicate);
                }
            }
            Step::Commit => self.commit(),
            Step::Crash => self.restart(),
            Step::RollUp { later } => roll_up(&mut self.writer, self.now + Micros::from(later) * MINUTE_US),
        }
    }

    fn commit(&mut self) {
        let changes = self.engine.take_changes();
        self.writer.commit(&changes).unwrap();
        self.committed = self.applied;
    }

    fn sent(&self) -> Sums {
        let counters = self.told.values().fold(Counters::default(), |sum, counters| sum.plus(*counters));
        Sums { flows: self.told.len() as i64, counters }
    }
}

fn less(a: Sums, b: Sums) -> Sums {
    Sums { flows: a.flows - b.flows, counters: a.counters.minus(b.counters) }
}

pub(crate) fn sums_agree_whatever_happens(url: &DatabaseUrl) {
    let store = Store::open(url).unwrap();
    let number = std::cell::Cell::new(0);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let told = TestRunner::new(config).run(&vec(step(), 1..60), |steps| {
        // Each history has a router of its own; the sums are what it adds.
        number.set(number.get() + 1);
        let before = store.reader().totals().unwrap();
        let mut history = History::begin(&store, format!("history-{}", number.get()));
        for step in &steps {
            history.step(step);
        }
        history.commit();
        let after = store.reader().totals().unwrap();
        let sent = history.sent();
        let all = |totals: &Totals| {
            [
                ("flows", totals.flows),
                ("minutes of devices", totals.device_minutes),
                ("hours of devices", totals.device_hours),
                ("days of devices", totals.device_days),
                ("minutes of services", totals.service_minutes),
                ("hours of services", totals.service_hours),
                ("days of services", totals.service_days),
                ("minutes of hosts", totals.host_minutes),
                ("hours of hosts", totals.host_hours),
                ("days of hosts", totals.host_days),
            ]
        };
        for ((what, after), (_, before)) in all(&after).into_iter().zip(all(&before)) {
            prop_assert_eq!(less(after, before), sent, "{}", what);
        }
        Ok(())
    });
    if let Err(error) = told {
        panic!("{error}");
    }
}
