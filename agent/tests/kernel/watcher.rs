//! A monitor, a ledger beside it, and all that the monitor reported.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use netmon_agent::conntrack::{Monitor, MonitorConfig};
use netmon_proto::v1::{Event, Flow, FlowPhase, Gap, GapCause, event::Kind};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::support::ledger::{Ledger, Totals};

/// No condition takes longer to come true, unless something is broken.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Watcher {
    runtime: Runtime,
    pub(crate) monitor: Monitor,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) events: Vec<Event>,
}

impl Watcher {
    pub(crate) fn open(config: MonitorConfig) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let inside = runtime.enter();
        let monitor = Monitor::open(config, 7).expect("a monitor");
        drop(inside);
        Watcher { runtime, monitor, ledger: Some(Ledger::open()), events: Vec::new() }
    }

    /// Lets the monitor run until `done` says so.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Watcher) -> bool) {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(ledger) = &mut self.ledger {
                ledger.drain();
            }
            if done(self) {
                return;
            }
            assert!(Instant::now() < limit, "{what} did not happen; stats {:?}", self.monitor.stats());
            self.runtime.block_on(async {
                // The condition may become true without an event.
                let step = timeout(Duration::from_millis(50), self.monitor.step(&mut self.events)).await;
                step.unwrap_or(Ok(())).expect("a step");
            });
        }
    }

    pub(crate) fn until_synced(&mut self) {
        self.until("the end of the first sync", |watcher| watcher.monitor.stats().dumps > 0);
    }

    pub(crate) fn flows(&self, phase: FlowPhase) -> impl Iterator<Item = &Flow> {
        self.events.iter().filter_map(move |event| match &event.kind {
            Some(Kind::Flow(flow)) if flow.phase() == phase => Some(flow),
            _ => None,
        })
    }

    pub(crate) fn ends(&self) -> usize {
        self.flows(FlowPhase::End).count()
    }

    /// How many ends the ledger has.
    pub(crate) fn told(&self) -> usize {
        self.ledger.as_ref().map_or(0, |ledger| ledger.count)
    }

    pub(crate) fn gaps(&self, cause: GapCause) -> impl Iterator<Item = &Gap> {
        self.events.iter().filter_map(move |event| match &event.kind {
            Some(Kind::Gap(gap)) if gap.cause() == cause => Some(gap),
            _ => None,
        })
    }

    /// Stops it as SIGTERM does.
    pub(crate) fn finish(&mut self) {
        let _inside = self.runtime.enter();
        self.monitor.finish(&mut self.events);
    }

    /// Every end was reported once, with the counters that the ledger has.
    pub(crate) fn agrees_with_ledger(&self) {
        let mut ends: BTreeMap<u32, Vec<Totals>> = BTreeMap::new();
        let mut ids = std::collections::BTreeSet::new();
        for flow in self.flows(FlowPhase::End) {
            assert!(!flow.end_unseen, "{flow:?}");
            assert!(ids.insert(flow.flow_id), "flow {:x} ended twice", flow.flow_id);
            ends.entry(flow.conntrack_id).or_default().push(totals(flow));
        }
        assert_eq!(Some(&ends), self.ledger.as_ref().map(|ledger| &ledger.ends));
    }
}

pub(crate) fn totals(flow: &Flow) -> Totals {
    [flow.packets_orig, flow.bytes_orig, flow.packets_reply, flow.bytes_reply]
}
