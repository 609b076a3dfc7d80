//! Where the server's time comes from.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::Micros;

/// Gives the time. Tests bring their own.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970.
    fn now(&self) -> Micros;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Micros {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX))
    }
}
