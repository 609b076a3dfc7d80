//! What the live views show.

use std::sync::Arc;

use crate::domain::{FlowRecord, Micros};

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
