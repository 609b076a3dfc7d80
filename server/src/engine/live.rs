//! What the live views show.

use std::{collections::VecDeque, sync::Arc};

use super::Engine;
use crate::domain::{FlowRecord, Micros};

/// How many ended flows the live view keeps showing, and for how long.
const RECENT_MAX: usize = 500;
pub(super) const RECENT_US: Micros = 10_000_000;

/// Bytes per second, both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// In the direction of the first packet.
    pub orig: f64,
    /// In the other direction.
    pub reply: f64,
}

/// One row of the live view.
#[derive(Clone, Debug)]
pub struct LiveFlow {
    /// The router's name.
    pub router: Arc<str>,
    /// The flow.
    pub record: FlowRecord,
    /// What it moves now.
    pub rate: Rate,
    /// When it ended; `None` while it is open.
    pub ended_at: Option<Micros>,
}

/// All of them at one moment.
#[derive(Clone, Debug, Default)]
pub struct LiveSnapshot {
    /// Server's clock.
    pub taken_at: Micros,
    /// In no order.
    pub flows: Vec<LiveFlow>,
}

/// What ended just now, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<LiveFlow>);

impl Recent {
    pub(super) fn push(&mut self, router: &Arc<str>, record: FlowRecord, ended_at: Micros) {
        if self.0.len() == RECENT_MAX {
            self.0.pop_front();
        }
        let (router, ended_at) = (router.clone(), Some(ended_at));
        self.0.push_back(LiveFlow { router, record, rate: Rate::default(), ended_at });
    }
}

impl Engine {
    /// Everything that is open, and what ended just now.
    pub fn live(&mut self, now: Micros) -> LiveSnapshot {
        let recent = &mut self.recent.0;
        while recent.front().is_some_and(|flow| flow.ended_at.is_none_or(|at| at < now - RECENT_US)) {
            recent.pop_front();
        }
        let open = self.routers.values().map(|state| state.open.len()).sum::<usize>();
        let mut flows = Vec::with_capacity(open + recent.len());
        for state in self.routers.values() {
            flows.extend(state.open.values().map(|entry| LiveFlow {
                router: state.name.clone(),
                rate: entry.rate(now),
                ended_at: None,
                record: entry.record.clone(),
            }));
        }
        flows.extend(recent.iter().cloned());
        LiveSnapshot { taken_at: now, flows }
    }
}
