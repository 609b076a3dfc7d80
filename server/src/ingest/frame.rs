//! A batch's events, checked one by one: a bad one never harms its neighbours.

use netmon_proto::v1;

use super::{Checked, check_event, queue::MAX_REJECTIONS};
use crate::domain::Micros;

/// What passed and what did not.
#[derive(Debug, Default)]
pub struct CheckedEvents {
    /// What passed.
    pub events: Vec<Checked>,
    /// The same as it came, if asked for.
    pub originals: Vec<v1::Event>,
    /// Why the others did not, for the first ten.
    pub rejections: Vec<v1::Rejection>,
    /// How many did not.
    pub rejected: u64,
}

/// Checks events that were received at `received`.
#[must_use]
pub fn check_events(events: Vec<v1::Event>, received: Micros, keep_originals: bool) -> CheckedEvents {
    let mut result = CheckedEvents { events: Vec::with_capacity(events.len()), ..CheckedEvents::default() };
    for (index, event) in events.into_iter().enumerate() {
        let original = keep_originals.then(|| event.clone());
        match check_event(event, received) {
            Ok(checked) => {
                result.events.push(checked);
                result.originals.extend(original);
            }
            Err(refusal) => {
                result.rejected += 1;
                if result.rejections.len() < MAX_REJECTIONS {
                    let index = u32::try_from(index).unwrap_or(u32::MAX);
                    result.rejections.push(v1::Rejection { index, reason: refusal.to_string() });
                }
            }
        }
    }
    result
}
